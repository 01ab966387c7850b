// Everything the program has.
#ifndef KM_PROCESS_PROCESS_H_
#define KM_PROCESS_PROCESS_H_

#include <km/layout.h>
#include <sys/resource.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/btree_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "km/base/owned.h"
#include "km/files/aio_contexts.h"
#include "km/files/fd_table.h"
#include "km/kvm/vm.h"
#include "km/loader/load.h"
#include "km/memory/address_space.h"
#include "km/memory/guest_memory.h"
#include "km/process/clock.h"
#include "km/process/companion.h"
#include "km/process/pi_futex.h"
#include "km/process/process_ids.h"
#include "km/process/settings.h"
#include "km/process/signal_state.h"
#include "km/process/snapshot_file.h"
#include "km/process/sysv_objects.h"
#include "km/process/thread.h"
#include "km/process/timers.h"

namespace km {

// A note of a snapshot that this km does not know and may ignore: kept for the next snapshot.
struct ForeignNote {
  std::string owner;
  uint32_t type = 0;
  std::vector<uint8_t> descriptor;
};

// What the program sees of itself. Changed by the main thread before the first vCPU runs.
struct Identity {
  // True of the file that the program runs from, which Linux lets nobody write to (ETXTBSY).
  bool RunsFrom(uint64_t device, uint64_t inode) const {
    return program.file != nullptr && program.file->device == device &&
           program.file->inode == inode;
  }

  uint32_t pid = 0;
  std::string executable;    // what /proc/self/exe shows
  std::string command_line;  // arguments, separated by spaces: for people
  std::vector<uint64_t> auxv;
  LoadedElf program;
  std::optional<LoadedElf> interpreter;
  std::array<uint8_t, 16> snapshot_id{};  // of the snapshot it was resumed from, or zero
  std::vector<SnapshotFile> sources;      // that snapshot, and those that it is built on
  std::vector<ForeignNote> foreign_notes;
};

// So many have room for their pages.
inline constexpr int kMaxVcpus = (KM_HOST_VDSO_BASE - KM_FRAME_BASE) / 4096;

// Lock order: mutex_ before the locks of Timers, SignalState, AddressSpace, FdTable, AioContexts
// and PiFutexes, which are leaves, but that Timers takes SignalState's. No lock is held across a
// blocking host call.
class Process {
 public:
  // What a host thread does with a guest thread, until it has ended.
  using ThreadMain = std::function<void(Thread&)>;

  static absl::StatusOr<std::unique_ptr<Process>> Create(ThreadMain thread_main);

  Vm& vm() { return *vm_; }
  GuestMemory& memory() { return *memory_; }
  AddressSpace& space() { return space_; }
  FdTable& files() { return files_; }
  AioContexts& aio_contexts() { return aio_contexts_; }
  SignalState& signals() { return signals_; }
  PiFutexes& pi_futexes() { return pi_futexes_; }
  GuestClock& clock() { return clock_; }
  Timers& timers() { return timers_; }
  SysvObjects& sysv() { return sysv_; }
  ChangedSettings& changed_settings() { return changed_settings_; }
  // The MEMBARRIER_CMD_REGISTER_* that the program has made; a host before Linux 6.3 does not tell.
  std::atomic<uint32_t>& membarrier() { return membarrier_; }
  ProcessIds& ids() { return ids_; }
  const ProcessIds& ids() const { return ids_; }
  Identity& identity() { return identity_; }
  const Identity& identity() const { return identity_; }
  const XsaveFormat& xsave_format() const { return xsave_format_; }
  uint64_t xcr0() const { return vm_->xcr0(); }

  // When a new thread gets its vCPU, whose making takes longer than that of the host thread: before
  // it is there; from its host thread, while the caller goes on; when it first enters the machine.
  enum class VcpuFrom { kStart, kHostThread, kFirstNeed };
  // A new thread, not yet running. `tid` 0: the next free one. Errors mean EAGAIN.
  absl::StatusOr<Thread*> NewThread(uint32_t tid, SignalSet mask, VcpuFrom from)
      ABSL_LOCKS_EXCLUDED(mutex_);
  // The same for a process that shares the program's memory. It is not counted among the threads.
  absl::StatusOr<Thread*> NewCompanion(SignalSet mask) ABSL_LOCKS_EXCLUDED(mutex_);
  // Null: no such, or somebody has waited for its end.
  std::shared_ptr<Companion> FindCompanion(uint32_t pid) const ABSL_LOCKS_EXCLUDED(mutex_);
  // Of those who waited the first one has it: true.
  bool ForgetCompanion(uint32_t pid) ABSL_LOCKS_EXCLUDED(mutex_);
  std::vector<uint32_t> CompanionPids() const ABSL_LOCKS_EXCLUDED(mutex_);
  // The process, the program or a companion, that a thread or process of that id is of; 0: neither.
  uint32_t ProcessOf(uint32_t tid) const ABSL_LOCKS_EXCLUDED(mutex_);

  // ptrace(2) by a companion: makes a thread of the program stop where it is next interrupted. 0,
  // -ESRCH or -EPERM (it is traced).
  int Attach(const Thread& tracer, uint32_t tid) ABSL_LOCKS_EXCLUDED(mutex_);
  // Null: `tracer` does not trace it.
  std::shared_ptr<Trace> FindTrace(const Thread& tracer, uint32_t tid) const
      ABSL_LOCKS_EXCLUDED(mutex_);
  // The thread goes on; of one that has ended nothing is known any more.
  void Detach(uint32_t tid) ABSL_LOCKS_EXCLUDED(mutex_);
  // Of a thread that `tracer` has stopped.
  std::optional<StoppedState> Stopped(const Thread& tracer, uint32_t tid) const
      ABSL_LOCKS_EXCLUDED(mutex_);
  // For a thread without a vCPU, called by itself: gives it one, with its state. Look at
  // `attention` behind it: a kick before it did not reach the vCPU.
  absl::Status GiveVcpu(Thread& thread) ABSL_LOCKS_EXCLUDED(mutex_);
  void Start(Thread* thread) ABSL_LOCKS_EXCLUDED(mutex_);
  // Has the host thread of a thread that was not started do `work`; waits until it has. A host
  // thread can ask some things for itself alone.
  void OnHostThread(Thread* thread, std::function<void()> work) ABSL_LOCKS_EXCLUDED(mutex_);
  // Every thread there is, of which none runs yet: all at once, so that HostTid waits for each.
  void StartAll() ABSL_LOCKS_EXCLUDED(mutex_);
  // The end of the calling guest thread; `thread` is gone afterwards. `wait_status`: as wait(2)
  // tells it, whom it concerns. False: it was the last one.
  bool EndThread(Thread* thread, int wait_status) ABSL_LOCKS_EXCLUDED(mutex_);
  uint32_t next_tid() const ABSL_LOCKS_EXCLUDED(mutex_);
  void SetNextTid(uint32_t tid) ABSL_LOCKS_EXCLUDED(mutex_);
  bool HasThread(uint32_t tid) const ABSL_LOCKS_EXCLUDED(mutex_);
  size_t thread_count() const ABSL_LOCKS_EXCLUDED(mutex_);
  // How often the vCPUs came out, those of threads that have ended included; about, while they run.
  uint64_t exit_count() const ABSL_LOCKS_EXCLUDED(mutex_);
  std::vector<uint32_t> Tids() const ABSL_LOCKS_EXCLUDED(mutex_);
  // A thread's name, which others may read and change while it runs; empty when there is no such.
  std::string Comm(uint32_t tid) const ABSL_LOCKS_EXCLUDED(mutex_);
  void SetComm(uint32_t tid, std::string comm) ABSL_LOCKS_EXCLUDED(mutex_);

  // Sends a signal: 0, -ESRCH (no such thread) or -EAGAIN.
  int Signal(const siginfo_t& info) ABSL_LOCKS_EXCLUDED(mutex_);
  int SignalThread(uint32_t tid, const siginfo_t& info) ABSL_LOCKS_EXCLUDED(mutex_);

  // Makes a thread look at what is asked of it.
  void Interrupt(uint32_t tid) ABSL_LOCKS_EXCLUDED(mutex_);
  // After a thread blocked signals or ended: who can take what is pending for the process is told.
  void RedirectSignals() ABSL_LOCKS_EXCLUDED(mutex_);

  // Parks every thread, each with SaveState; waits until all are. They go on after as many Resumes
  // as there were Pauses. For the main thread.
  void Pause() ABSL_LOCKS_EXCLUDED(mutex_);
  // The same, but false where not all are in time; it is paused all the same.
  bool PauseWithin(absl::Duration limit) ABSL_LOCKS_EXCLUDED(mutex_);
  void Resume() ABSL_LOCKS_EXCLUDED(mutex_);
  // For a guest thread that was interrupted: stays here while a pause lasts, or a trace's stop.
  void ParkWhilePaused(Thread& thread) ABSL_LOCKS_EXCLUDED(mutex_);
  // A guest thread waits until the main thread has done what it asked for: counted as parked.
  void BeginParked(Thread& thread) ABSL_LOCKS_EXCLUDED(mutex_);
  void EndParked() ABSL_LOCKS_EXCLUDED(mutex_);
  // All threads, in order of their ids. While paused.
  std::vector<Thread*> ParkedThreads() ABSL_LOCKS_EXCLUDED(mutex_);

  // Reads what only the vCPU and the calling host thread, which is the thread's, know into
  // `thread`.
  absl::Status SaveState(Thread& thread);
  absl::Status LoadState(Thread& thread);

  // The host's id of a thread or process: the number itself where it is none of the program's.
  int HostTid(int tid) const ABSL_LOCKS_EXCLUDED(mutex_);
  // Something that the host keeps for each thread (credentials, scheduling, ...) is no longer the
  // same for all. From now on a new thread gets a host thread of its own, made by its parent's, so
  // that it inherits as natively; those that wait for work end.
  void HostThreadsDiffer() ABSL_LOCKS_EXCLUDED(mutex_);
  // Before credentials change, or whether it can be dumped: behind that the host may refuse to open
  // what tells of the process.
  void KeepPagemap() ABSL_LOCKS_EXCLUDED(mutex_);
  // /proc/self/pagemap, opened anew or then; invalid, with errno, when the host refuses.
  OwnedFd OpenPagemap() const ABSL_LOCKS_EXCLUDED(mutex_);

  // set_robust_list(2), and of any thread: 0 or -ESRCH.
  void SetRobustList(Thread& thread, GuestAddr list) ABSL_LOCKS_EXCLUDED(mutex_);
  int RobustList(uint32_t tid, GuestAddr* list) const ABSL_LOCKS_EXCLUDED(mutex_);

  // The clock that `caller` means by `clock` (CLOCK_* or pthread_getcpuclockid(3)).
  ClockRef Clock(int clock, uint32_t caller) const ABSL_LOCKS_EXCLUDED(mutex_);
  // What is added to the processor time of the monitor: what the process spent before it was
  // resumed. Changed before the first vCPU runs.
  CpuTime& cpu_offset() { return cpu_offset_; }

  // Limits as the program sees and sets them (getrlimit(2)): 0, -EINVAL or -EPERM. Those that would
  // bind the monitor (address space, descriptors, core dumps, ...) are kept here only.
  int Limit(int resource, const std::optional<rlimit>& wanted, rlimit* old)
      ABSL_LOCKS_EXCLUDED(mutex_);
  std::array<rlimit, RLIM_NLIMITS> Limits() const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  struct Worker {
    Process* process = nullptr;
    VcpuPages pages;
    std::unique_ptr<Vcpu> vcpu;  // null until a thread needs it; then `place` holds a descriptor
    OwnedFd place;               // for it, which the program could take
    Thread* thread = nullptr;
    bool started = false;
    bool wants_vcpu = false;     // its host thread is to make it
    std::function<void()> work;  // for OnHostThread
    pid_t host_tid = 0;          // 0: none
  };

  explicit Process(ThreadMain thread_main);
  void WorkerMain(Worker* worker) ABSL_LOCKS_EXCLUDED(mutex_);
  void StartLocked(Thread* thread) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void SetHostTid(Thread* thread, pid_t host_tid) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  uint32_t FreeTid() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<Thread*> NewThreadLocked(uint32_t tid, SignalSet mask, VcpuFrom from,
                                          std::shared_ptr<Companion> companion)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool ForgetThread(Thread* thread, int wait_status) ABSL_LOCKS_EXCLUDED(mutex_);
  std::shared_ptr<Trace> TraceLocked(const Thread& tracer, uint32_t tid) const
      ABSL_SHARED_LOCKS_REQUIRED(mutex_);
  size_t ThreadCountLocked() const ABSL_SHARED_LOCKS_REQUIRED(mutex_);
  void EndTraces(const Thread& thread, int wait_status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool MustPark(const Thread& thread) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void StopIfTraced(const Thread& thread) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ReleaseTraced() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ReadLimits() ABSL_LOCKS_EXCLUDED(mutex_);
  void SetMemoryLimits() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status StartHost(Worker* worker) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void HostThreadsDifferLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<Worker*> IdleWorker() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The one that runs `thread`, which is among threads_.
  Worker& WorkerOf(const Thread* thread) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status MakeVcpu(Worker& worker) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void KeepVcpu(Worker& worker, std::unique_ptr<Vcpu> vcpu) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void MakeWantedVcpu(Worker& worker) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status HoldPlace(Worker& worker) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void InterruptLocked(Thread& thread) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const ThreadMain thread_main_;
  std::unique_ptr<Vm> vm_;
  std::unique_ptr<GuestMemory> memory_;
  AddressSpace space_;
  FdTable files_;
  AioContexts aio_contexts_;
  SignalState signals_;
  PiFutexes pi_futexes_;
  GuestClock clock_;
  Timers timers_{&signals_, &clock_};
  CpuTime cpu_offset_;
  SysvObjects sysv_;
  ChangedSettings changed_settings_;
  OwnedFd pagemap_ ABSL_GUARDED_BY(mutex_);  // see KeepPagemap
  std::atomic<uint32_t> membarrier_ = 0;
  ProcessIds ids_;
  Identity identity_;
  XsaveFormat xsave_format_;

  mutable absl::Mutex mutex_;
  mutable absl::CondVar changed_;  // threads parked or resumed, a worker got a thread
  absl::btree_map<uint32_t, std::unique_ptr<Thread>> threads_ ABSL_GUARDED_BY(mutex_);
  // Also those that have ended and were not waited for.
  absl::btree_map<uint32_t, std::shared_ptr<Companion>> companions_ ABSL_GUARDED_BY(mutex_);
  absl::btree_map<uint32_t, std::shared_ptr<Trace>> traces_ ABSL_GUARDED_BY(mutex_);  // by thread
  std::vector<std::unique_ptr<Worker>> workers_ ABSL_GUARDED_BY(mutex_);
  std::vector<Worker*> idle_ ABSL_GUARDED_BY(mutex_);
  uint32_t next_tid_ ABSL_GUARDED_BY(mutex_) = 0;
  size_t running_ ABSL_GUARDED_BY(mutex_) = 0;  // threads that are not parked
  int pauses_ ABSL_GUARDED_BY(mutex_) = 0;
  bool host_threads_differ_ ABSL_GUARDED_BY(mutex_) = false;
  std::array<rlimit, RLIM_NLIMITS> limits_ ABSL_GUARDED_BY(mutex_) = {};
};

// Pauses the process for as long as it lives.
class PauseGuard {
 public:
  explicit PauseGuard(Process* process) : process_(process) { process_->Pause(); }
  ~PauseGuard() { process_->Resume(); }
  PauseGuard(const PauseGuard&) = delete;
  PauseGuard& operator=(const PauseGuard&) = delete;

 private:
  Process* const process_;
};

}  // namespace km

#endif  // KM_PROCESS_PROCESS_H_
