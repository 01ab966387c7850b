// Runs a process: the loop of each vCPU, and the main thread that owns pause, snapshot and exit.
#ifndef KM_MONITOR_MONITOR_H_
#define KM_MONITOR_MONITOR_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "km/base/owned.h"
#include "km/loader/resolve.h"
#include "km/monitor/idle_watch.h"
#include "km/monitor/options.h"
#include "km/monitor/stats.h"
#include "km/process/process.h"
#include "km/syscalls/call.h"
#include "km/syscalls/trace.h"

namespace km {

inline constexpr uint64_t kSyscallInstructionSize = 2;  // of `syscall`, and of the `out` instead

// How the program ended.
struct ExitStatus {
  int status = 0;  // of exit_group, as the program gave it
  int signal = 0;  // or the signal that killed it
  bool core = false;
  uint32_t tid = 0;     // which thread did it
  siginfo_t info = {};  // of the signal
};

class ControlDesk;
class Restoration;

class Monitor {
 public:
  ~Monitor();
  static absl::StatusOr<std::unique_ptr<Monitor>> Create(const Options& options);

  // Loads options.program, or restores it if it is a snapshot. Errors carry km's exit code
  // (ExitCodeFor).
  absl::Status Load();
  // Runs until the program has ended; does not return: km ends as the program did.
  [[noreturn]] void Run();

 private:
  friend class ControlDesk;  // a part of the monitor of its own: what clients ask for

  // What a thread asks of the main thread and waits for.
  struct MainRequest {
    std::function<void()> work;
    bool done = false;
  };
  // What the loop does next.
  enum class Next { kRun, kLeave };
  struct WrittenSnapshot {
    std::string path;
    int64_t realtime_ns = 0;  // when it was there under its name
  };

  explicit Monitor(const Options& options);

  // thread_loop.cc: on the thread's own host thread.
  void ThreadMain(Thread& thread);
  Next Step(Thread& thread);
  Next Attend(Thread& thread);
  Next EnterGuest(Thread& thread);
  Next Dispatch(Thread& thread);
  Next Finish(Thread& thread, Call& call, const SyscallResult& result);
  void HostFault(Thread& thread);
  void CountSite(Thread& thread);
  Next UserOut(Thread& thread);
  void PageFault(Thread& thread, const VcpuExit& exit);
  void Exception(Thread& thread, const VcpuExit& exit);
  Next TakeSnapshotFor(Thread& thread, const SnapshotRequest& request);
  int64_t AwaitSnapshot(Thread& thread, const SnapshotRequest& request) ABSL_LOCKS_EXCLUDED(mutex_);
  bool TestSnapshotIsDue(const Thread& thread);
  // The thread counts as parked meanwhile: a snapshot may find its registers as they are now.
  void AskMain(Thread& thread, std::function<void()> work) ABSL_LOCKS_EXCLUDED(mutex_);
  Next EndOneThread(Thread& thread, int wait_status);
  [[noreturn]] void Stay(Thread& thread);
  [[noreturn]] void FailIn(Thread& thread, const absl::Status& status);

  // signal_delivery.cc: on the thread's own host thread.
  Next DeliverSignals(Thread& thread);
  void PrepareRestart(Thread& thread, const SignalAction& action);
  // False: there is no room on the stack.
  bool PutFrame(const SignalFrame& frame);
  bool PushFrame(Thread& thread, const SignalState::Delivery& delivery);
  Next DefaultSignal(Thread& thread, const SignalState::Delivery& delivery);
  void ForceSignal(Thread& thread, const siginfo_t& info);
  void ForwardSignals();  // on the main thread

  // Asks the main thread to end everything; the first one counts.
  void RequestEnd(const ExitStatus& status) ABSL_LOCKS_EXCLUDED(mutex_);
  void RequestFailure(const std::string& message) ABSL_LOCKS_EXCLUDED(mutex_);
  void WakeMain();

  // On the main thread.
  absl::Status LoadProgram(const ResolvedProgram& resolved);
  absl::Status LoadSnapshot(int fd);
  absl::Status OpenControl();
  absl::Status FindListeners();
  absl::Status FinishRestoration();
  absl::Status BeginHeld();
  [[noreturn]] void EndUnbegun(const absl::Status& why);
  void EndWaiting();
  int PollTimeout() const;
  void LookForIdleness();
  void EndIdle();
  void ServeRequests() ABSL_LOCKS_EXCLUDED(mutex_);
  [[noreturn]] void SnapshotAgain(uint32_t first_thread, const SnapshotRequest& request);
  int ServeSnapshot(const Thread& thread, const SnapshotRequest& request);
  // Notes it for those who ask; `path` is absolute.
  void SnapshotWritten(const std::string& path);
  CaptureOptions OptionsFor(uint32_t first_thread, const std::string& label,
                            const std::string& description) const;
  // `connections`: those that stand still for it.
  absl::Status WriteSnapshotFor(uint32_t tid, const SnapshotRequest& request,
                                HeldConnections* connections);
  [[noreturn]] void End(const ExitStatus& status);
  [[noreturn]] void Leave(const ExitStatus& status, bool dumped);
  // The process is in a snapshot now, with the objects of its own that nobody else can find.
  [[noreturn]] void EndInFile();
  bool DumpCore(const ExitStatus& status);

  const Options options_;
  std::string snapshot_path_;                     // absolute
  std::string control_path_;                      // of --control, absolute; empty: not asked for
  std::optional<WrittenSnapshot> last_snapshot_;  // of this run
  int64_t start_ns_ = 0;
  std::atomic<uint64_t> finished_calls_ = 0;  // counted for options_.test_snapshot_at only
  std::unique_ptr<Process> process_;
  std::unique_ptr<Restoration> restoration_;  // of a snapshot that --paused holds, until it runs
  std::unique_ptr<Tracer> tracer_;            // null unless asked for
  std::unique_ptr<Stats> stats_;              // null unless asked for
  OwnedFd wake_;                              // eventfd
  OwnedFd signals_;                           // signalfd of everything
  std::vector<int> listeners_;  // host descriptors; until one of them is connected to, all rests
  std::unique_ptr<ControlDesk> desk_;  // null: without a control socket
  std::optional<IdleWatch> idle_;      // with --idle-exit

  absl::Mutex mutex_;
  std::optional<ExitStatus> end_ ABSL_GUARDED_BY(mutex_);
  std::optional<std::string> failure_ ABSL_GUARDED_BY(mutex_);
  std::vector<MainRequest*> requests_ ABSL_GUARDED_BY(mutex_);  // the oldest first
};

}  // namespace km

#endif  // KM_MONITOR_MONITOR_H_
