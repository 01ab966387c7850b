#include "km/snapshot/restore.h"

#include <fcntl.h>
#include <km/notes.h>
#include <mqueue.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <functional>
#include <optional>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "km/base/status.h"
#include "km/files/file_locks.h"
#include "km/files/host_path.h"
#include "km/files/launchers_terminal.h"
#include "km/files/message_queue.h"
#include "km/files/signal_owner.h"
#include "km/files/unnamed_file.h"
#include "km/kvm/cpu_features.h"
#include "km/process/host_signals.h"
#include "km/signals/siginfo.h"
#include "km/snapshot/bases.h"
#include "km/snapshot/restore_ipc.h"
#include "km/snapshot/restore_memory.h"
#include "km/snapshot/restore_settings.h"

namespace km {
namespace {

siginfo_t Siginfo(const SignalInfoBytes& bytes) {
  siginfo_t info;
  memcpy(&info, bytes.data(), sizeof(info));
  return info;
}

// Queues hold valid signals only; a file may say anything.
absl::StatusOr<std::vector<siginfo_t>> Siginfos(const std::vector<SignalInfoBytes>& all) {
  std::vector<siginfo_t> infos;
  for (const SignalInfoBytes& bytes : all) {
    siginfo_t info = Siginfo(bytes);
    if (!ValidSignal(info.si_signo)) {
      return absl::InvalidArgumentError(
          absl::StrCat("its pending signals have an invalid number, ", info.si_signo));
    }
    infos.push_back(info);
  }
  return infos;
}

uint32_t Mxcsr(const ImageThread& thread) {
  constexpr size_t kOffset = 24;  // Intel SDM vol. 1, table 10-2
  uint32_t value;
  std::memcpy(&value, thread.xsave.data() + kOffset, sizeof(value));
  return value;
}

absl::Status CheckProcessor(const Image& image, Process& process) {
  std::vector<uint32_t> present = CpuFeatures(
      [&process](uint32_t leaf, uint32_t subleaf) { return process.vm().Cpuid(leaf, subleaf); });
  std::vector<std::string> missing =
      CpuFeatureNames(MissingCpuFeatures(image.header.cpu_features, present));
  if (!missing.empty()) {
    return absl::FailedPreconditionError(
        absl::StrCat("this processor lacks what the snapshot's had: ", absl::StrJoin(missing, ", "),
                     "; resume it on a machine that has them"));
  }
  if (uint64_t lacking = image.header.xcr0 & ~process.xcr0(); lacking != 0) {
    return absl::FailedPreconditionError(absl::StrFormat(
        "this machine lacks processor state that the snapshot holds (XCR0 bits %#x)", lacking));
  }
  for (const ImageThread& thread : image.threads) {
    const uint32_t unknown = Mxcsr(thread) & ~process.xsave_format().mxcsr_mask;
    if (unknown == 0) continue;
    return absl::FailedPreconditionError(
        absl::StrFormat("this processor does not have what MXCSR of thread %u has set (bits %#x)",
                        thread.tid, unknown));
  }
  return absl::OkStatus();
}

class Restorer : public Restoration {
 public:
  Restorer(Image image, int fd, const FileOptions& files, Process& process)
      : image_(std::move(image)),
        fd_(fd),
        process_(process),
        ipc_(image_, fd, files.policy, process) {
    files_.emplace(process.files(), files, image_.descriptions, objects_);
  }
  ~Restorer() override {
    for (const std::string& name : made_queues_) mq_unlink(name.c_str());
  }
  Restorer(const Restorer&) = delete;
  Restorer& operator=(const Restorer&) = delete;

  absl::Status Begin() {
    KM_RETURN_IF_ERROR(CheckProcessor(image_, process_));
    KM_ASSIGN_OR_RETURN(const std::vector<OwnedFd> bases, OpenBases(image_, fd_));
    KM_RETURN_IF_ERROR(files_->Supply(image_.descriptors, image_.given));
    KM_RETURN_IF_ERROR(
        process_.ids().Make((image_.process.leads & (KM_LEADS_GROUP | KM_LEADS_SESSION)) != 0,
                            (image_.process.leads & KM_LEADS_SESSION) != 0,
                            (image_.process.leads & KM_LEADS_TERMINAL) != 0));
    // Paths of UNIX sockets may be relative.
    KM_RETURN_IF_ERROR(RestoreDirectory());
    KM_RETURN_IF_ERROR(RestoreIdentity());
    KM_RETURN_IF_ERROR(RestoreObjects());
    KM_RETURN_IF_ERROR(RestoreIpc());
    KM_RETURN_IF_ERROR(RestoreMemory(image_, fd_, bases, objects_, *files_, ipc_, process_));
    KM_RETURN_IF_ERROR(ipc_.RemoveSegments());
    KM_RETURN_IF_ERROR(RestoreSignals());
    for (const ImageThread& thread : image_.threads) KM_RETURN_IF_ERROR(RestoreThread(thread));
    return absl::OkStatus();
  }

  size_t descriptor_count() const override {
    return image_.descriptors.size() + static_cast<size_t>(std::popcount(image_.given & 7u));
  }

  absl::Status Supply(const SuppliedFile& supplied) override {
    return files_->SupplyOne(supplied, image_.descriptors, image_.given);
  }

  absl::Status Finish() override {
    KM_RETURN_IF_ERROR(RestoreFiles());
    KM_RETURN_IF_ERROR(SealObjects());
    // Closing a descriptor of a file drops the process's locks on it.
    objects_.clear();
    KM_RETURN_IF_ERROR(RestoreLocks(process_.files(), image_.locks, image_.descriptors));
    KM_RETURN_IF_ERROR(RestoreOwners(process_.files(), image_.owners, image_.descriptors));
    KM_RETURN_IF_ERROR(RestoreNotices(process_.files(), image_.descriptions, image_.descriptors));
    KM_RETURN_IF_ERROR(process_.aio_contexts().Restore(image_.process.aio));
    KM_RETURN_IF_ERROR(RestoreSettings(image_, process_));
    KM_RETURN_IF_ERROR(RestoreTimers());
    for (const std::function<absl::Status()>& work : last_) KM_RETURN_IF_ERROR(work());
    KM_RETURN_IF_ERROR(RestoreCredentials(image_, process_));
    process_.SetNextTid(std::max(image_.process.next_tid, LargestTid() + 1));
    ipc_.Keep();
    made_queues_.clear();
    RestoreTerminal();
    return absl::OkStatus();
  }

 private:
  absl::Status RestoreIdentity();
  void RestoreClock();
  absl::Status RestoreObjects();
  absl::Status RestoreIpc();
  absl::Status CopyToObject(const ImageMemory& piece, const MemoryObject& object, int to);
  absl::Status SealObjects();
  absl::Status RestoreFiles();
  void RestoreTerminal();
  absl::Status RestoreSignals();
  absl::Status RestoreThread(const ImageThread& from);
  absl::Status RestoreTimers();
  absl::Status RestoreDirectory();
  uint32_t LargestTid() const;

  const Image image_;
  const int fd_;  // for Begin
  Process& process_;
  IpcRestorer ipc_;
  OwnedFd turns_;                         // for TurnOfMaking
  std::vector<std::string> made_queues_;  // names of POSIX queues, gone again when a resume fails
  absl::flat_hash_map<uint64_t, OwnedFd> objects_;  // by their addresses
  std::optional<FileRestorer> files_;
  std::vector<std::function<absl::Status()>> last_;  // see FileRestorer::TakeLast
};

LoadedElf ElfOf(const ImageProgram& program) {
  return {program.path, program.load_bias, program.entry, program.elf_header,
          program.program_headers};
}

absl::Status Restorer::RestoreIdentity() {
  const ImageProcess& from = image_.process;
  if (std::max(from.mmap_base, from.brk_end) > process_.memory().end()) {
    return absl::FailedPreconditionError(
        absl::StrFormat("its heap ends at %#x and its mappings lie below %#x, but this build of km "
                        "has addresses up to %#x only",
                        from.brk_end, from.mmap_base, process_.memory().end()));
  }
  Identity& identity = process_.identity();
  identity.pid = from.pid;
  process_.ids().Set(from.pid, from.process_group, from.session);
  identity.executable = image_.program.path;
  identity.command_line = from.command_line;
  identity.auxv = from.auxv;
  identity.program = ElfOf(image_.program);
  identity.program.file = MappedFile::Open(identity.executable, O_PATH);
  if (image_.dynamic_linker.has_value()) identity.interpreter = ElfOf(*image_.dynamic_linker);
  identity.snapshot_id = image_.header.id;
  struct stat file = {};
  (void)fstat(fd_, &file);
  identity.sources.push_back(
      {image_.header.id, static_cast<uint64_t>(file.st_size), HostPathOf(fd_)});
  identity.sources.insert(identity.sources.end(), image_.bases.begin(), image_.bases.end());
  for (const ImageNote& note : image_.unknown_notes) {
    identity.foreign_notes.push_back({note.owner, note.type, note.descriptor});
  }
  AddressSpace::Layout layout;
  layout.mmap_base = from.mmap_base;
  layout.brk_start = from.brk_start;
  layout.brk_end = from.brk_end;
  layout.stack_end = from.stack_end;
  layout.arguments_start = from.arguments_start;
  layout.arguments_end = from.arguments_end;
  layout.environment_start = from.environment_start;
  layout.environment_end = from.environment_end;
  layout.lock_future = static_cast<int>(from.lock_future & (MCL_FUTURE | MCL_ONFAULT));
  process_.space().SetLayout(layout);
  umask(from.umask & 0777);
  RestoreClock();
  CpuTime spent = HostCpuTime();
  process_.cpu_offset() = {from.cpu_time.total_ns - spent.total_ns,
                           from.cpu_time.user_ns - spent.user_ns};
  RestoreLimits(image_, process_);
  return absl::OkStatus();
}

// CLOCK_MONOTONIC goes on from the snapshot's value, CLOCK_REALTIME is the host's. Reckoned from
// the coarse clock, which is up to a tick behind: it must not go back either.
void Restorer::RestoreClock() {
  constexpr int64_t kLatest = int64_t{1} << 61;  // 73 years; a file may say anything
  const Instant now = {HostClock(CLOCK_MONOTONIC_COARSE), HostClock(CLOCK_BOOTTIME)};
  int64_t monotonic =
      std::clamp<int64_t>(image_.header.monotonic_ns, 0, kLatest) - now.monotonic_ns;
  int64_t boottime = std::clamp<int64_t>(image_.header.boottime_ns, 0, kLatest) - now.boottime_ns;
  files_->instant = now;
  process_.clock().SetOffsets(monotonic, boottime);
  process_.memory().vdso_data()->monotonic_offset_ns = monotonic;
  process_.memory().vdso_data()->boottime_offset_ns = boottime;
}

absl::Status Restorer::RestoreFiles() {
  files_->program = OwnerOfMade(image_);
  {
    const TurnOfMaking turn(turns_.get());
    KM_RETURN_IF_ERROR(files_->RestoreAll(image_.descriptors, image_.given));
  }
  turns_ = OwnedFd();
  made_queues_ = files_->TakeMadeQueues();
  last_ = files_->TakeLast();
  files_.reset();  // what it holds open is not to be closed under locks
  for (const FdTable::Entry& entry : process_.files().Entries()) {
    const std::shared_ptr<SignalFd>& signals = entry.file->description->signal_fd;
    if (signals != nullptr) process_.signals().AddSignalFd(signals, signals->mask);
  }
  return absl::OkStatus();
}

// At last, so that a terminal is not set for a process that does not run.
void Restorer::RestoreTerminal() {
  if (!image_.terminal.has_value()) return;
  // From the background the host's job control stops who sets a terminal, as natively.
  std::function<void()> stop = [] { StopBySignal(SIGTTOU); };
  if (process_.signals().Action(SIGTTOU).is_ignore() ||
      Contains(image_.threads.front().signal_mask, SIGTTOU)) {
    stop = nullptr;
  }
  if (RestoreLaunchersTerminal(*image_.terminal, process_.files(), stop)) {
    (void)process_.Signal(KernelSiginfo(SIGWINCH));
  }
}

// Made before the memory that is mapped of them, and read at once: they may be changed through
// descriptors.
absl::Status Restorer::RestoreObjects() {
  if (image_.objects.empty()) return absl::OkStatus();
  const absl::flat_hash_map<uint64_t, uint32_t> modes = ModesOf(image_.descriptions);
  for (const MemoryObject& object : image_.objects) {
    if (object.kind == KM_OBJECT_SEGMENT) continue;  // the IpcRestorer's
    const auto mode = modes.find(object.address);
    KM_ASSIGN_OR_RETURN(
        OwnedFd file,
        MakeMemoryObject(object, mode != modes.end() ? std::optional(mode->second) : std::nullopt));
    for (const ImageMemory& piece : image_.memory) {
      if (piece.address < object.address || piece.address - object.address >= object.size) continue;
      KM_RETURN_IF_ERROR(CopyToObject(piece, object, file.get()));
    }
    if (SealedBeforeMapped(object)) KM_RETURN_IF_ERROR(SealMemoryObject(object, file.get()));
    objects_[object.address] = std::move(file);
  }
  return absl::OkStatus();
}

absl::Status Restorer::RestoreIpc() {
  if (HasNamedObjects(image_)) {
    turns_ = OwnedFd(open(absl::StrCat("/proc/self/fd/", fd_).c_str(), O_RDONLY | O_CLOEXEC));
  }
  const TurnOfMaking turn(turns_.get());
  return ipc_.Restore();
}

// Holes stay holes.
absl::Status Restorer::CopyToObject(const ImageMemory& piece, const MemoryObject& object, int to) {
  auto failed = [&object](int error) {
    return ErrnoStatus(error, absl::StrCat("cannot restore what '", object.name, "' held"));
  };
  const uint64_t offset = piece.address - object.address;
  // The last page of an object whose size is not a multiple of one is zeros behind it.
  const uint64_t end = piece.file_offset + std::min(piece.size, object.size - offset);
  for (uint64_t from = piece.file_offset; from < end;) {
    const off_t data = lseek(fd_, static_cast<off_t>(from), SEEK_DATA);
    if (data < 0 && errno == ENXIO) break;
    if (data < 0) return failed(errno);
    from = std::max(from, static_cast<uint64_t>(data));
    const off_t hole = lseek(fd_, static_cast<off_t>(from), SEEK_HOLE);
    if (hole < 0) return failed(errno);
    const uint64_t stop = std::min(end, static_cast<uint64_t>(hole));
    if (from < stop &&
        lseek(to, static_cast<off_t>(offset + (from - piece.file_offset)), SEEK_SET) < 0) {
      return failed(errno);
    }
    while (from < stop) {
      auto at = static_cast<off_t>(from);
      const ssize_t bytes = sendfile(to, fd_, &at, stop - from);
      if (bytes <= 0) return failed(bytes < 0 ? errno : EIO);
      from += static_cast<uint64_t>(bytes);
    }
  }
  return absl::OkStatus();
}

// At last: what seals forbid has been done by now.
absl::Status Restorer::SealObjects() {
  for (const MemoryObject& object : image_.objects) {
    KM_RETURN_IF_ERROR(SealMemoryObject(object, objects_[object.address].get()));
  }
  return absl::OkStatus();
}

absl::Status Restorer::RestoreSignals() {
  for (int sig = 1; sig <= kMaxSignal; ++sig) {
    const ImageAction& from = image_.process.actions[static_cast<size_t>(sig - 1)];
    // SIGKILL's and SIGSTOP's cannot be set and are the default.
    (void)process_.signals().SetAction(sig, {from.handler, from.flags, from.restorer, from.mask});
  }
  KM_ASSIGN_OR_RETURN(std::vector<siginfo_t> pending, Siginfos(image_.process.pending));
  process_.signals().RestoreProcessPending(pending);
  return absl::OkStatus();
}

absl::Status Restorer::RestoreThread(const ImageThread& from) {
  KM_ASSIGN_OR_RETURN(std::vector<siginfo_t> pending, Siginfos(from.pending));
  // A server's threads mostly wait for work; its first one is most likely the one that gets it.
  const bool waits = from.blocked_call.has_value() && from.tid != image_.process.pid;
  KM_ASSIGN_OR_RETURN(Thread * thread, process_.NewThread(from.tid, from.signal_mask,
                                                          waits ? Process::VcpuFrom::kFirstNeed
                                                                : Process::VcpuFrom::kHostThread));
  thread->comm = from.comm;
  thread->registers = from.registers;
  thread->settings = from.settings;
  thread->xsave = from.xsave;
  thread->alt_stack.sp = from.altstack_address;
  thread->alt_stack.size = from.altstack_size;
  thread->alt_stack.flags = from.altstack_flags;
  thread->cpu_offset = {from.cpu_time.total_ns, from.cpu_time.user_ns};
  thread->clear_child_tid = GuestAddr(from.clear_child_tid);
  thread->robust_list = GuestAddr(from.robust_list);
  thread->robust_list_length = from.robust_list_length;
  if (from.blocked_call.has_value()) {
    thread->in_call = true;
    thread->restart = kRestart - std::min<int64_t>(from.blocked_call->restart, 2);
    thread->done = from.blocked_call->done;
    if (from.blocked_call->has_deadline) thread->deadline_ns = from.blocked_call->deadline_ns;
  }
  if (from.saved_mask_valid) process_.signals().SetSavedMask(from.tid, from.saved_mask);
  process_.signals().RestoreThreadPending(from.tid, pending);
  thread->attention.store(1);
  return absl::OkStatus();
}

absl::Status Restorer::RestoreTimers() {
  Timers& timers = process_.timers();
  timers.RestoreNextId(image_.process.next_timer_id);
  for (const ImageTimer& from : image_.process.timers) {
    TimerState state;
    state.id = from.id;
    state.clock = from.clock;
    state.notice = {static_cast<int>(from.notify), static_cast<int>(from.signal), from.value,
                    from.tid};
    state.armed = from.armed;
    state.waiting = from.waiting;
    state.monotonic = from.monotonic;
    state.expiry = from.expiry_ns;
    state.interval = from.interval_ns;
    state.overrun = from.overrun;
    int error = timers.Restore(state, process_.Clock(from.clock, image_.threads.front().tid));
    if (error != 0) return ErrnoStatus(-error, absl::StrCat("cannot have its timer ", from.id));
  }
  return absl::OkStatus();
}

absl::Status Restorer::RestoreDirectory() {
  const std::string& path = image_.process.working_directory;
  if (chdir(path.c_str()) == 0) return absl::OkStatus();
  return ErrnoStatus(errno, absl::StrCat("cannot enter its working directory '", path, "'"));
}

uint32_t Restorer::LargestTid() const {
  uint32_t largest = image_.process.pid;
  for (const ImageThread& thread : image_.threads) largest = std::max(largest, thread.tid);
  return largest;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Restoration>> Restoration::Begin(Image image, int fd,
                                                                const FileOptions& files,
                                                                Process& process) {
  auto restorer = std::make_unique<Restorer>(std::move(image), fd, files, process);
  KM_RETURN_IF_ERROR(restorer->Begin());
  return restorer;
}

}  // namespace km
