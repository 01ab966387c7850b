#include "km/monitor/monitor.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/time.h"
#include "km/base/host_files.h"
#include "km/base/log.h"
#include "km/base/status.h"
#include "km/control/server.h"
#include "km/files/connections.h"
#include "km/loader/load.h"
#include "km/loader/program_path.h"
#include "km/loader/resolve.h"
#include "km/monitor/control_desk.h"
#include "km/monitor/timed_pause.h"
#include "km/process/generation.h"
#include "km/process/host_signals.h"
#include "km/signals/siginfo.h"
#include "km/snapshot/capture.h"
#include "km/snapshot/parser.h"
#include "km/snapshot/restore.h"
#include "km/snapshot/writer.h"
#include "km/syscalls/foreign_files.h"
#include "km/syscalls/thread_exit.h"

namespace km {
namespace {

// The file at `path` if it claims to be a snapshot.
OwnedFd OpenSnapshot(const std::string& path) {
  uint8_t first[kSnapshotMagicEnd];
  OwnedFd file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  bool snapshot = file.valid() && pread(file.get(), first, sizeof(first), 0) == sizeof(first) &&
                  LooksLikeSnapshot(first);
  return snapshot ? std::move(file) : OwnedFd();
}

// The name that a program gets from its path: its last part, 15 bytes of it.
std::string CommOf(absl::string_view path) {
  return std::string(path.substr(path.rfind('/') + 1).substr(0, 15));
}

}  // namespace

Monitor::Monitor(const Options& options) : options_(options) {}

Monitor::~Monitor() = default;

absl::StatusOr<std::unique_ptr<Monitor>> Monitor::Create(const Options& options) {
  auto monitor = std::unique_ptr<Monitor>(new Monitor(options));
  if (options.trace.has_value()) {
    KM_ASSIGN_OR_RETURN(monitor->tracer_, Tracer::Create(*options.trace));
  }
  monitor->start_ns_ = HostClock(CLOCK_MONOTONIC);
  if (options.stats) monitor->stats_ = std::make_unique<Stats>(monitor->start_ns_);
  if (options.idle_exit_ns != 0) monitor->idle_.emplace(options.idle_exit_ns);
  // The program may change its directory; what the user named stays where it was.
  KM_ASSIGN_OR_RETURN(monitor->snapshot_path_, AbsolutePath(options.snapshot_path));
  if (!options.control.empty() && options.control != "none") {
    KM_ASSIGN_OR_RETURN(monitor->control_path_, AbsolutePath(options.control));
  }
  return monitor;
}

absl::Status Monitor::Load() {
  const std::string& name = options_.program[0];
  absl::StatusOr<std::string> path = FindProgram(name, getenv("PATH"));
  // A snapshot need not be executable, nor in a directory of PATH.
  OwnedFd snapshot = OpenSnapshot(path.ok() ? *path : name);
  absl::StatusOr<ResolvedProgram> resolved = absl::UnknownError("");
  // What cannot be run is told before a machine is made.
  if (!snapshot.valid()) {
    KM_RETURN_IF_ERROR(path.status());
    if (!options_.files.supplied.empty() || !options_.files.moved.empty()) {
      return absl::InvalidArgumentError(
          absl::StrCat("--fd and --listen are for snapshots, and '", name, "' is none"));
    }
    resolved = ResolveProgram(*path, options_.program);
    KM_RETURN_IF_ERROR(resolved.status());
  }
  InstallHostSignals();
  wake_ = OwnedFd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  sigset_t all;
  sigfillset(&all);
  signals_ = OwnedFd(signalfd(-1, &all, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!wake_.valid() || !signals_.valid()) return ErrnoStatus(errno, "cannot make descriptors");
  KM_ASSIGN_OR_RETURN(process_, Process::Create([this](Thread& thread) { ThreadMain(thread); }));
  KM_RETURN_IF_ERROR(snapshot.valid() ? LoadSnapshot(snapshot.get()) : LoadProgram(*resolved));
  if (options_.on_connection && restoration_ == nullptr) KM_RETURN_IF_ERROR(FindListeners());
  // Otherwise the program need not wait for it.
  return options_.paused || !options_.control.empty() ? OpenControl() : absl::OkStatus();
}

// Where nobody asked for a socket it is no failure that there cannot be one.
absl::Status Monitor::OpenControl() {
  if (options_.control == "none") return absl::OkStatus();
  const bool asked = !options_.control.empty();
  absl::StatusOr<std::unique_ptr<ControlServer>> server =
      asked ? ControlServer::Listen(control_path_) : ControlServer::ListenInFolder();
  if (server.ok()) {
    desk_ = std::make_unique<ControlDesk>(this, *std::move(server));
    return absl::OkStatus();
  }
  if (asked || options_.paused) return server.status();
  Log(LogLevel::kInfo, absl::StrCat("kmctl cannot reach this km: ", server.status().message()));
  return absl::OkStatus();
}

absl::Status Monitor::LoadProgram(const ResolvedProgram& resolved) {
  LoadOptions load_options;
  load_options.environment = options_.environment;
  PlaceGenerationVariable(&load_options.environment);
  load_options.aslr = options_.aslr;
  KM_ASSIGN_OR_RETURN(LoadedProgram loaded, km::Load(resolved, load_options, process_->space()));
  WriteGenerationVariable(process_->memory(), process_->space().layout().environment_start);
  process_->files().AdoptStandard();
  process_->files().AdoptInherited();
  Identity& identity = process_->identity();
  identity.executable = loaded.exec_path;
  identity.auxv = loaded.auxv;
  identity.program = loaded.program;
  identity.interpreter = loaded.interpreter;
  process_->ids().Set(identity.pid, static_cast<uint32_t>(getpgrp()),
                      static_cast<uint32_t>(getsid(0)));
  identity.command_line = absl::StrJoin(loaded.arguments, " ");
  // As execve leaves it: what was ignored stays ignored, nothing is pending, the mask is kept.
  KM_ASSIGN_OR_RETURN(Thread * thread,
                      process_->NewThread(0, InheritedMask(), Process::VcpuFrom::kStart));
  for (int sig = 1; sig <= kMaxSignal; ++sig) {
    if (!InheritedIgnore(sig)) continue;
    SignalAction ignore;
    ignore.handler = reinterpret_cast<uint64_t>(SIG_IGN);
    (void)process_->signals().SetAction(sig, ignore);
  }
  thread->comm = CommOf(loaded.exec_fn);
  thread->registers.rip = loaded.entry;
  thread->registers.rsp = loaded.stack_pointer;
  thread->xsave = InitialXsave(process_->xsave_format());
  AdmitInherited(*process_);
  return absl::OkStatus();
}

absl::Status Monitor::LoadSnapshot(int fd) {
  auto prefix = [this](const absl::Status& status) {
    return CannotRun(ErrnoOf(status), options_.program[0], status.message());
  };
  if (options_.program.size() > 1) {
    return absl::InvalidArgumentError(absl::StrCat("'", options_.program[0],
                                                   "' is a snapshot and takes no arguments: its "
                                                   "program goes on where it stopped"));
  }
  absl::StatusOr<Image> image = ParseSnapshot(fd);
  if (!image.ok()) return prefix(image.status());
  const uint32_t first_thread = image->threads.front().tid;
  const SnapshotRequest again = {image->header.label, image->header.description, false};
  absl::StatusOr<std::unique_ptr<Restoration>> restoration =
      Restoration::Begin(*std::move(image), fd, options_.files, *process_);
  if (!restoration.ok()) return prefix(restoration.status());
  restoration_ = *std::move(restoration);
  // Its descriptors may be supplied until it is resumed.
  if (options_.paused && !options_.test_snapshot_again) return absl::OkStatus();
  KM_RETURN_IF_ERROR(FinishRestoration());
  if (options_.test_snapshot_again) SnapshotAgain(first_thread, again);
  return absl::OkStatus();
}

absl::Status Monitor::FinishRestoration() {
  const absl::Status status = restoration_->Finish();
  restoration_.reset();
  if (!status.ok()) return CannotRun(ErrnoOf(status), options_.program[0], status.message());
  WriteGenerationVariable(process_->memory(), process_->space().layout().environment_start);
  AdmitInherited(*process_);
  return absl::OkStatus();
}

// The first resume of a snapshot that was held. With --on-connection it waits from now on.
absl::Status Monitor::BeginHeld() {
  KM_RETURN_IF_ERROR(FinishRestoration());
  if (options_.on_connection) {
    KM_RETURN_IF_ERROR(FindListeners());
    process_->Pause();
  }
  process_->StartAll();
  return absl::OkStatus();
}

void Monitor::Run() {
  if (options_.paused) desk_->Hold();
  if (!listeners_.empty()) process_->Pause();
  if (restoration_ == nullptr) process_->StartAll();
  if (options_.control.empty() && desk_ == nullptr) (void)OpenControl();
  while (true) {
    if (idle_.has_value()) LookForIdleness();
    std::vector<pollfd> fds = {{wake_.get(), POLLIN, 0},
                               {signals_.get(), POLLIN, 0},
                               {desk_ != nullptr ? desk_->writer() : -1, POLLIN, 0}};
    const size_t listeners = fds.size();
    for (int listener : listeners_) fds.push_back({listener, POLLIN, 0});
    const size_t clients = fds.size();
    if (desk_ != nullptr) desk_->AddTo(&fds);
    if (poll(fds.data(), fds.size(), PollTimeout()) < 0) continue;
    auto ready = [&fds](size_t first, size_t end) {
      return std::any_of(fds.begin() + static_cast<ptrdiff_t>(first),
                         fds.begin() + static_cast<ptrdiff_t>(end),
                         [](const pollfd& one) { return one.revents != 0; });
    };
    if (ready(listeners, clients)) EndWaiting();
    if (ready(1, 2)) ForwardSignals();
    if (ready(0, 1)) ServeRequests();
    if (desk_ == nullptr) continue;
    const bool due = desk_->Due();
    if (due || ready(clients, fds.size())) desk_->ServeSocket();
    if (due || ready(2, 3)) desk_->ServeWriter(ready(2, 3));
  }
}

// --on-connection: the listening sockets of the program, which is to rest until one is connected
// to.
absl::Status Monitor::FindListeners() {
  for (const FdTable::Entry& entry : process_->files().Entries()) {
    const int host = entry.file->host.get();
    if (IsListening(host)) listeners_.push_back(host);
  }
  if (!listeners_.empty()) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("--on-connection: '", options_.program[0], "' has no listening socket"));
}

void Monitor::EndWaiting() {
  if (listeners_.empty()) return;
  listeners_.clear();
  process_->Resume();
}

// The earlier one of those that are waited for.
int Monitor::PollTimeout() const {
  const int desk = desk_ != nullptr ? desk_->timeout_ms() : -1;
  const int idle = idle_.has_value() ? idle_->timeout_ms(HostClock(CLOCK_MONOTONIC)) : -1;
  return desk < 0 || idle < 0 ? std::max(desk, idle) : std::min(desk, idle);
}

// --idle-exit.
void Monitor::LookForIdleness() {
  if (!listeners_.empty() || (desk_ != nullptr && desk_->StandsStill())) return idle_->Rest();
  if (!idle_->Due(HostClock(CLOCK_MONOTONIC))) return;
  auto look = [this] {
    FdTable& files = process_->files();
    // In this order: what is accepted meanwhile is seen by one of them.
    const uint64_t accepted = files.accepted();
    return idle_->Look(LookForConnections(files), accepted, HostClock(CLOCK_MONOTONIC));
  };
  if (!look()) return;
  // It may have accepted one since. While it stands still those that come wait in the listener's
  // queue, where another process that has the listener finds them.
  PauseGuard pause(process_.get());
  if (look()) EndIdle();
}

// While paused. As a service manager ends it: by SIGTERM, which the program may catch to clean up.
void Monitor::EndIdle() {
  Log(LogLevel::kInfo, "nobody was connected for the time of --idle-exit: SIGTERM");
  const siginfo_t info = KernelSiginfo(SIGTERM);
  SignalState& signals = process_->signals();
  const std::vector<uint32_t> tids = process_->Tids();
  const bool taken = std::any_of(tids.begin(), tids.end(), [&signals](uint32_t tid) {
    return !Contains(signals.Mask(tid), SIGTERM);
  });
  // Where it would end at once nothing of it runs any more, that could accept a connection.
  if (taken && signals.Action(SIGTERM).is_default()) {
    ExitStatus status;
    status.signal = SIGTERM;
    status.info = info;
    End(status);
  }
  (void)process_->Signal(info);
  idle_->Rest();  // one that stays gets another when the time is over again
}

void Monitor::WakeMain() {
  uint64_t one = 1;
  [[maybe_unused]] ssize_t written = write(wake_.get(), &one, sizeof(one));
}

void Monitor::RequestEnd(const ExitStatus& status) {
  {
    absl::MutexLock lock(&mutex_);
    if (!end_.has_value()) end_ = status;
  }
  WakeMain();
}

void Monitor::RequestFailure(const std::string& message) {
  {
    absl::MutexLock lock(&mutex_);
    if (!failure_.has_value()) failure_ = message;
  }
  WakeMain();
}

void Monitor::ServeRequests() {
  uint64_t count;
  [[maybe_unused]] ssize_t taken = read(wake_.get(), &count, sizeof(count));
  std::optional<ExitStatus> end;
  std::vector<MainRequest*> requests;
  {
    absl::MutexLock lock(&mutex_);
    if (failure_.has_value()) {
      Log(LogLevel::kError, *failure_);
      _exit(kExitOwnFailure);
    }
    end = end_;
    requests.swap(requests_);
  }
  if (end.has_value()) End(*end);
  if (!requests.empty()) ForwardSignals();
  for (MainRequest* request : requests) {
    if (request->work) request->work();
    absl::MutexLock lock(&mutex_);
    request->done = true;
  }
}

void Monitor::SnapshotAgain(uint32_t first_thread, const SnapshotRequest& request) {
  HeldConnections none;
  absl::Status status = WriteSnapshotFor(first_thread, request, &none);
  if (!status.ok()) Log(LogLevel::kError, absl::StrCat("no snapshot again: ", status.message()));
  process_->sysv().RemoveMade(false);  // those of a process that never ran
  _exit(status.ok() ? 0 : kExitOwnFailure);
}

// 0 when the process shall go on, or a negative errno.
int Monitor::ServeSnapshot(const Thread& thread, const SnapshotRequest& request) {
  if (desk_ != nullptr) desk_->AwaitWriterOf(snapshot_path_);
  int64_t begin = HostClock(CLOCK_MONOTONIC);
  const TimedPause pause(process_.get());
  ForwardSignals();             // what came before all stood still is in no other queue
  HeldConnections connections;  // which never go on here where the process ends
  absl::Status status = pause.status();
  if (status.ok()) status = WriteSnapshotFor(thread.tid, request, &connections);
  if (stats_ != nullptr) stats_->CountSnapshot(HostClock(CLOCK_MONOTONIC) - begin);
  if (status.ok() && !request.go_on) EndInFile();
  if (status.ok()) {
    SnapshotWritten(snapshot_path_);
  } else {
    Log(LogLevel::kWarning, absl::StrCat("no snapshot was taken: ", status.message()));
  }
  return -ErrnoOf(status);
}

void Monitor::SnapshotWritten(const std::string& path) {
  last_snapshot_ = WrittenSnapshot{path, HostClock(CLOCK_REALTIME)};
}

CaptureOptions Monitor::OptionsFor(uint32_t first_thread, const std::string& label,
                                   const std::string& description) const {
  CaptureOptions options;
  options.label = label;
  options.description = description;
  options.producer = absl::StrCat("km ", kKmVersion);
  options.first_thread = first_thread;
  options.unnamed_limit = options_.unnamed_limit;
  options.keep_dontdump = options_.keep_dontdump;
  return options;
}

absl::Status Monitor::WriteSnapshotFor(uint32_t tid, const SnapshotRequest& request,
                                       HeldConnections* connections) {
  CaptureOptions capture_options = OptionsFor(tid, request.label, request.description);
  capture_options.keep_tcp = options_.files.keep_tcp && !request.go_on;
  absl::StatusOr<Captured> captured = Capture(*process_, capture_options);
  KM_RETURN_IF_ERROR(captured.status());
  for (const std::string& warning : captured->warnings) Log(LogLevel::kWarning, warning);
  *connections = std::move(captured->connections);
  WriteOptions write_options;
  write_options.sync = options_.sync;
  return WriteSnapshot(captured->image, captured->memory, snapshot_path_, write_options);
}

bool Monitor::DumpCore(const ExitStatus& status) {
  rlimit limit = process_->Limits()[RLIMIT_CORE];
  // 2 is what a change of users makes of it: the kernel then wants an absolute path of the core.
  if (limit.rlim_cur == 0 || prctl(PR_GET_DUMPABLE) != 1) return false;
  process_->Pause();
  CaptureOptions capture_options;
  capture_options.first_thread = status.tid;
  capture_options.fatal_signal = status.info;
  absl::StatusOr<Captured> captured = Capture(*process_, capture_options);
  absl::Status written = captured.status();
  if (written.ok()) {
    WriteOptions write_options;
    write_options.sync = false;
    write_options.size_limit = limit.rlim_cur;
    written = WriteSnapshot(captured->image, captured->memory, "core", write_options);
  }
  if (!written.ok()) {
    Log(LogLevel::kWarning, absl::StrCat("no core dump was written: ", written.message()));
  }
  return written.ok();
}

void Monitor::EndInFile() {
  process_->sysv().RemoveMade(false);
  Leave({}, false);
}

// As when it cannot be loaded.
void Monitor::EndUnbegun(const absl::Status& why) {
  Log(LogLevel::kError, why.message());
  desk_.reset();
  _exit(ExitCodeFor(why));
}

void Monitor::End(const ExitStatus& status) {
  const bool dumped = status.signal != 0 && status.core && DumpCore(status);
  // Those outside who share memory with the program may wait for a lock that it holds. Behind the
  // dump, which shows what it held; in a snapshot it goes on holding it. A thread in a call that
  // the host does not interrupt (of a dead file server) may come too late.
  if (process_->PauseWithin(absl::Seconds(1))) ReleaseThreads(*process_);
  Leave(status, dumped);
}

void Monitor::Leave(const ExitStatus& status, bool dumped) {
  if (desk_ != nullptr) desk_->ProgramEnded(status);
  if (tracer_ != nullptr) {
    if (status.signal != 0) {
      tracer_->Killed(status.signal, dumped);
    } else {
      tracer_->Exited(status.status & 0xff);
    }
  }
  if (stats_ != nullptr) {
    stats_->Print(HostClock(CLOCK_MONOTONIC));
  }
  desk_.reset();  // the socket goes
  if (status.signal != 0) DieOfSignal(status.signal);
  // Other threads may still be in the middle of things: no destructors.
  _exit(status.status & 0xff);
}

}  // namespace km
