// One thread of the program: its guest state, and the vCPU that runs it.
#ifndef KM_PROCESS_THREAD_H_
#define KM_PROCESS_THREAD_H_

#include <sys/types.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "km/base/host_call.h"
#include "km/kvm/vcpu.h"
#include "km/memory/guest_addr.h"
#include "km/process/clock.h"
#include "km/process/companion.h"
#include "km/process/settings.h"
#include "km/signals/alt_stack.h"
#include "km/signals/frame.h"

namespace km {

// Results by which a blocked call that was interrupted says how it goes on, as in the kernel
// (include/linux/errno.h). They never reach the program.
inline constexpr int64_t kRestart = -512;        // again, or EINTR for a handler without SA_RESTART
inline constexpr int64_t kRestartAlways = -513;  // again
inline constexpr int64_t kRestartNoHandler = -514;  // again, or EINTR when a handler runs

// How often a thread came to each of the program's `syscall` instructions: a cache of one entry a
// slot.
class SyscallSites {
 public:
  // Exactly here it pays to make the instruction cheaper; before, it may never come again.
  static constexpr uint32_t kHot = 16;

  // Counts one more time at `address` by a `syscall`: how many that makes.
  uint32_t Count(uint64_t address) {
    Site& site = At(address);
    if (site.address != address || site.patched) site = {address, 0, false};
    return ++site.count;
  }
  void SetPatched(uint64_t address) { At(address) = {address, 0, true}; }
  bool IsPatched(uint64_t address) {
    const Site& site = At(address);
    return site.address == address && site.patched;
  }

 private:
  struct Site {
    uint64_t address = 0;
    uint32_t count = 0;
    bool patched = false;
  };
  Site& At(uint64_t address) { return sites_[(address ^ address >> 7) % sites_.size()]; }

  std::array<Site, 64> sites_;
};

// Belongs to its host thread while that runs; to the main thread while it is parked (see Process).
// Its signals are in SignalState.
struct Thread {
  explicit Thread(uint32_t thread_id, std::shared_ptr<Companion> process = nullptr)
      : tid(thread_id), companion(std::move(process)) {}
  Thread(const Thread&) = delete;
  Thread& operator=(const Thread&) = delete;

  // A host system call that may block: kRestart when this thread is wanted elsewhere.
  int64_t Block(long number, uint64_t a0 = 0, uint64_t a1 = 0, uint64_t a2 = 0, uint64_t a3 = 0,
                uint64_t a4 = 0, uint64_t a5 = 0) {
    int64_t result = HostCall(&attention, number, a0, a1, a2, a3, a4, a5);
    if (result != kKickedBefore) {
      kicked_before = false;
      return result;
    }
    kicked_before = !WouldWait(number, a0, a2, a3);
    return kRestart;
  }

  const uint32_t tid;
  // Set: it is no thread of the program's but a process of its own, `tid` its id.
  const std::shared_ptr<Companion> companion;
  std::string comm;            // see Process::Comm
  Registers registers;         // fs_base and gs_base only after SaveState
  std::vector<uint8_t> xsave;  // after SaveState
  ThreadSettings settings;     // after SaveState: those that ReadOwnSettings reads
  Vcpu* vcpu = nullptr;        // null until it needs one: see Process::GiveVcpu

  // Nonzero: something waits for this thread (a signal, a pause, the end). Set before a kick.
  std::atomic<uint32_t> attention = 0;
  pid_t host_tid = 0;
  // What is added to the processor time of the host thread, which may have run other threads
  // before. Process's lock covers it.
  CpuTime cpu_offset;
  // The host's job control has sent SIGTTIN or SIGTTOU for the terminal call that is being made.
  int terminal_signal = 0;

  // In a system call that was interrupted and will be made again; orig_rax is its number.
  bool in_call = false;
  int64_t restart = kRestart;
  bool kicked_before = false;  // of the last Block: its call was not begun, nor had it to wait
  // When the call's timeout ends, on the guest's CLOCK_MONOTONIC: a call made again waits only for
  // what remains.
  std::optional<int64_t> deadline_ns;
  // What the call has done before it was interrupted, in the unit of its result: made again, it
  // goes on behind that. It is the result when a handler runs first.
  uint64_t done = 0;

  GuestAddr clear_child_tid;
  GuestAddr robust_list;
  uint64_t robust_list_length = 0;
  AltStack alt_stack;
  FaultInfo fault;
  int forced = 0;       // the signal of a fault that is due, wherever rip stands
  int host_faults = 0;  // since the program last ran
  SyscallSites sites;
  bool stepping = false;  // TF is set to leave the runtime's pages
};

}  // namespace km

#endif  // KM_PROCESS_THREAD_H_
