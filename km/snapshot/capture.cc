#include "km/snapshot/capture.h"

#include <fcntl.h>
#include <km/notes.h>
#include <limits.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "km/base/status.h"
#include "km/files/file_saver.h"
#include "km/files/named_file.h"
#include "km/kvm/cpu_features.h"
#include "km/snapshot/capture_ipc.h"
#include "km/snapshot/touched_pages.h"
#include "km/snapshot/working_set.h"

namespace km {
namespace {

constexpr uint64_t kPageMask = 4095;

SignalInfoBytes Bytes(const siginfo_t& info) {
  SignalInfoBytes bytes;
  static_assert(sizeof(info) == sizeof(bytes));
  memcpy(bytes.data(), &info, sizeof(info));
  return bytes;
}

std::vector<SignalInfoBytes> Bytes(const std::vector<siginfo_t>& all) {
  std::vector<SignalInfoBytes> bytes;
  for (const siginfo_t& info : all) bytes.push_back(Bytes(info));
  return bytes;
}

ImageCpuTime Sum(const CpuTime& spent, const CpuTime& offset) {
  return {spent.total_ns + offset.total_ns, spent.user_ns + offset.user_ns};
}

ImageProgram ProgramOf(const LoadedElf& elf) {
  return {elf.path, elf.load_bias, elf.entry, elf.elf_header, elf.program_headers};
}

// What of a mapping's flags means something elsewhere: pages from the machine's pool of huge ones
// come back as others, with the advice to make them huge.
constexpr int kCarriedFlags =
    MAP_SHARED | MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN | MAP_NORESERVE;

class Capturer {
 public:
  Capturer(Process& process, const CaptureOptions& options)
      : process_(process),
        options_(options),
        files_(process.files(), options.unnamed_limit, options.keep_tcp) {}

  absl::StatusOr<Captured> Run() {
    process_.space().UnpatchAll();  // the file holds the program as it is, not as it runs here
    KM_RETURN_IF_ERROR(CaptureHeader());
    CaptureProcess();
    KM_RETURN_IF_ERROR(CaptureDirectory());
    CaptureThreads();
    if (!options_.fatal_signal.has_value()) {
      CheckUncarried();
      CaptureTimers();
      files_.SaveAll(&obstacles_);
    }
    KM_RETURN_IF_ERROR(CaptureMemory());
    // Said by name, all of it, before anything is written.
    if (!obstacles_.empty()) return ErrnoStatus(EBUSY, absl::StrJoin(obstacles_, "; "));
    CaptureObjects();
    NameBases();
    image().descriptions = std::move(files_.descriptions);
    image().descriptors = std::move(files_.descriptors);
    image().locks = std::move(files_.locks);
    image().owners = std::move(files_.owners);
    image().given = files_.given;
    image().terminal = files_.terminal;
    captured_.connections = std::move(files_.connections);
    return std::move(captured_);
  }

 private:
  absl::Status CaptureHeader();
  void CaptureProcess();
  absl::Status CaptureDirectory();
  void CaptureThreads();
  void CheckUncarried();
  void CaptureTimers();
  absl::Status CaptureMemory();
  void AddMapping(ImageMapping mapping);
  void CaptureMemorySettings();
  absl::Status CaptureMapping(const Mapping& mapping, TouchedPages& pages);
  absl::Status CaptureChanged(const Mapping& mapping, uint64_t end, TouchedPages& pages);
  absl::Status CaptureRecent(const Mapping& mapping, uint64_t end, TouchedPages& pages);
  void AddBaseMemory(const Mapping& mapping, uint64_t start, uint64_t end);
  void NameBases();
  bool LeftOut(const Mapping& mapping);
  bool MayBeWritten(const Mapping& mapping) const;
  void CaptureSharedFile(const Mapping& mapping, ImageMapping* to);
  void CaptureObjects();
  Image& image() { return captured_.image; }

  Process& process_;
  const CaptureOptions& options_;
  Captured captured_;
  FileSaver files_;
  std::vector<std::string> obstacles_;  // what cannot be carried, a line each
  uint64_t not_dumped_ = 0;             // bytes left out
};

absl::Status Capturer::CaptureHeader() {
  ImageHeader& header = image().header;
  header.producer = options_.producer;
  if (getrandom(header.id.data(), header.id.size(), 0) != static_cast<ssize_t>(header.id.size())) {
    return ErrnoStatus(errno, "cannot draw a random id");
  }
  header.parent = process_.identity().snapshot_id;
  header.label = options_.label;
  header.description = options_.description;
  const GuestClock& clock = process_.clock();
  header.realtime_ns = HostClock(CLOCK_REALTIME);
  header.monotonic_ns = clock.Monotonic();
  header.boottime_ns = HostClock(CLOCK_BOOTTIME) + clock.Offset(CLOCK_BOOTTIME);
  files_.instant = {header.monotonic_ns - clock.Offset(CLOCK_MONOTONIC),
                    header.boottime_ns - clock.Offset(CLOCK_BOOTTIME)};
  header.xcr0 = process_.vm().xcr0();
  header.cpu_features = CpuFeatures(
      [this](uint32_t leaf, uint32_t subleaf) { return process_.vm().Cpuid(leaf, subleaf); });
  if (options_.fatal_signal.has_value()) image().fatal_signal = Bytes(*options_.fatal_signal);
  return absl::OkStatus();
}

void Capturer::CaptureProcess() {
  ImageProcess& to = image().process;
  const Identity& identity = process_.identity();
  to.pid = identity.pid;
  to.parent_pid = static_cast<uint32_t>(getppid());
  to.process_group = process_.ids().group();
  to.session = process_.ids().session();
  const bool group = process_.ids().made_group(), session = process_.ids().made_session();
  to.leads = (group ? KM_LEADS_GROUP : 0) | (session ? KM_LEADS_SESSION : 0) |
             (group && ProcessIds::InForeground() ? KM_LEADS_TERMINAL : 0);
  to.uid = getuid();
  to.euid = geteuid();
  to.gid = getgid();
  to.egid = getegid();
  to.next_tid = process_.next_tid();
  to.command_line = identity.command_line;
  to.umask = umask(0);
  umask(to.umask);
  constexpr unsigned long kQueryPersonality = 0xffffffff;
  to.personality = static_cast<uint32_t>(personality(kQueryPersonality));
  to.prctl = ReadProcessSettings(process_.changed_settings());
  to.oom_score = ReadOomScore(process_.changed_settings());
  for (int sig = 1; sig <= kMaxSignal; ++sig) {
    SignalAction action = process_.signals().Action(sig);
    to.actions[static_cast<size_t>(sig - 1)] = {action.handler, action.flags, action.restorer,
                                                action.mask};
  }
  to.pending = Bytes(process_.signals().ProcessPending());
  to.cpu_time = Sum(HostCpuTime(), process_.cpu_offset());
  for (const rlimit& limit : process_.Limits())
    to.limits.push_back({limit.rlim_cur, limit.rlim_max});
  AddressSpace::Layout layout = process_.space().layout();
  to.brk_start = layout.brk_start;
  to.brk_end = layout.brk_end;
  to.mmap_base = layout.mmap_base;
  to.stack_end = layout.stack_end;
  to.arguments_start = layout.arguments_start;
  to.arguments_end = layout.arguments_end;
  to.environment_start = layout.environment_start;
  to.environment_end = layout.environment_end;
  to.auxv = identity.auxv;
  image().program = ProgramOf(identity.program);
  if (identity.interpreter.has_value()) image().dynamic_linker = ProgramOf(*identity.interpreter);
  for (const ForeignNote& note : identity.foreign_notes) {
    image().unknown_notes.push_back({note.owner, note.type, note.descriptor});
  }
}

absl::Status Capturer::CaptureDirectory() {
  char path[PATH_MAX];
  if (getcwd(path, sizeof(path)) == nullptr) {
    return ErrnoStatus(errno, "the working directory has no path");
  }
  image().process.working_directory = path;
  return absl::OkStatus();
}

void Capturer::CaptureThreads() {
  SignalState& signals = process_.signals();
  for (Thread* thread : process_.ParkedThreads()) {
    if (thread->companion != nullptr) continue;
    ImageThread to;
    to.tid = thread->tid;
    to.comm = thread->comm;
    to.registers = thread->registers;
    to.xsave = thread->xsave;
    to.signal_mask = signals.Mask(thread->tid);
    if (std::optional<SignalSet> saved = signals.SavedMask(thread->tid)) {
      to.saved_mask_valid = true;
      to.saved_mask = *saved;
    }
    to.altstack_address = thread->alt_stack.sp;
    to.altstack_size = thread->alt_stack.size;
    to.altstack_flags = thread->alt_stack.flags;
    to.pending = Bytes(signals.ThreadPending(thread->tid));
    to.cpu_time = Sum(HostThreadCpuTime(thread->host_tid), thread->cpu_offset);
    to.settings = thread->settings;
    // Before it has run it is as it was restored.
    if (thread->host_tid != 0) {
      ReadScheduling(process_.changed_settings(), thread->host_tid, &to.settings);
    }
    to.clear_child_tid = thread->clear_child_tid.value();
    to.robust_list = thread->robust_list.value();
    to.robust_list_length = thread->robust_list_length;
    if (thread->in_call) {
      to.blocked_call.emplace();
      to.blocked_call->has_deadline = thread->deadline_ns.has_value();
      to.blocked_call->deadline_ns = thread->deadline_ns.value_or(0);
      to.blocked_call->restart = static_cast<uint32_t>(kRestart - thread->restart);
      to.blocked_call->done = thread->done;
    }
    if (thread->tid == image().process.pid) image().process.comm = to.comm;
    image().threads.push_back(std::move(to));
  }
  auto first =
      std::find_if(image().threads.begin(), image().threads.end(),
                   [this](const ImageThread& t) { return t.tid == options_.first_thread; });
  if (first != image().threads.end()) std::rotate(image().threads.begin(), first, first + 1);
  if (image().process.comm.empty()) image().process.comm = image().threads.front().comm;
}

void Capturer::CheckUncarried() {
  absl::StatusOr<std::vector<AioContextState>> aio = process_.aio_contexts().Save();
  if (aio.ok()) {
    image().process.aio = *std::move(aio);
  } else {
    obstacles_.emplace_back(aio.status().message());
  }
  for (const uint32_t pid : process_.CompanionPids()) {
    obstacles_.push_back(
        absl::StrCat("its child process ", pid,
                     ", which shares its memory (clone), is there or was not waited for"));
  }
  if (process_.changed_settings().Has(Setting::kHomeNode)) {
    obstacles_.push_back(
        "it chose home nodes for memory (set_mempolicy_home_node), which the host does not tell");
  }
  CaptureIpc(process_, files_, image(), &obstacles_);
}

void Capturer::CaptureTimers() {
  ImageProcess& to = image().process;
  for (const TimerState& timer : process_.timers().All()) {
    to.timers.push_back({timer.id, timer.clock, static_cast<uint32_t>(timer.notice.how),
                         static_cast<uint32_t>(timer.notice.sig), timer.notice.value,
                         timer.notice.tid, timer.armed, timer.waiting, timer.monotonic,
                         timer.expiry, timer.interval, timer.overrun});
  }
  to.next_timer_id = process_.timers().next_id();
}

absl::Status Capturer::CaptureMemory() {
  captured_.memory.window = process_.memory().window();
  KM_ASSIGN_OR_RETURN(TouchedPages pages,
                      TouchedPages::Open(captured_.memory.window, process_.OpenPagemap()));
  CaptureMemorySettings();
  for (const Mapping& mapping : process_.space().Mappings()) {
    ImageMapping to;
    to.start = mapping.start;
    to.end = mapping.end;
    to.protection = static_cast<uint32_t>(mapping.protection);
    to.flags = static_cast<uint32_t>(mapping.flags & kCarriedFlags);
    to.advice = mapping.advice | (mapping.flags & MAP_HUGETLB ? kAdviceHuge : 0);
    bool named = mapping.file != nullptr && !(mapping.flags & MAP_ANONYMOUS);
    to.name = named ? mapping.file->path : mapping.name;
    to.file_offset = Anonymous(mapping) ? 0 : mapping.offset;
    CaptureSharedFile(mapping, &to);
    AddMapping(std::move(to));
    KM_RETURN_IF_ERROR(CaptureMapping(mapping, pages));
  }
  image().policies = ReadMappingPolicies(process_.changed_settings(), process_.space());
  if (not_dumped_ != 0) {
    captured_.warnings.push_back(absl::StrCat(
        not_dumped_, " bytes of memory that the program advised not to dump (MADV_DONTDUMP) are ",
        "not in the snapshot: zeros after a resume; with --dontdump=keep they come back"));
  }
  return absl::OkStatus();
}

// What the kernel keeps of memory for the process as a whole.
void Capturer::CaptureMemorySettings() {
  image().process.lock_future = static_cast<uint32_t>(process_.space().layout().lock_future);
  image().process.membarrier = process_.membarrier();
}

// Memory that the program does not want in a dump, or that a copy of it shall not have.
bool Capturer::LeftOut(const Mapping& mapping) {
  bool anonymous = Anonymous(mapping) && (mapping.flags & MAP_PRIVATE);
  bool not_dumped = mapping.advice & kAdviceDontDump;
  if (options_.fatal_signal.has_value()) return not_dumped;
  if (!anonymous) return false;
  if (mapping.advice & kAdviceWipeOnFork) return true;
  if (options_.keep_dontdump) return false;
  if (not_dumped) not_dumped_ += mapping.end - mapping.start;
  return not_dumped;
}

// What only the monitor tells apart (from which snapshot, fresh) is one mapping in the file.
void Capturer::AddMapping(ImageMapping mapping) {
  if (!image().mappings.empty()) {
    ImageMapping& last = image().mappings.back();
    const bool follows = last.end == mapping.start &&
                         ((mapping.flags & MAP_ANONYMOUS) ||
                          last.file_offset + (last.end - last.start) == mapping.file_offset);
    if (follows && last.protection == mapping.protection && last.flags == mapping.flags &&
        last.name == mapping.name && last.advice == mapping.advice && (last.flags & MAP_PRIVATE)) {
      last.end = mapping.end;
      return;
    }
  }
  image().mappings.push_back(std::move(mapping));
}

absl::Status Capturer::CaptureMapping(const Mapping& mapping, TouchedPages& pages) {
  // The bytes of shared files stay in them, or are those of an object.
  bool dumped = options_.fatal_signal.has_value() && (mapping.flags & MAP_ANONYMOUS);
  if (mapping.file != nullptr && (mapping.flags & MAP_SHARED) && !dumped) return absl::OkStatus();
  uint64_t end = AddressSpace::ReadableEnd(mapping);
  if (end == mapping.start || LeftOut(mapping)) return absl::OkStatus();
  // What a shrinking file may take away is not touched directly either.
  if (mapping.protection == PROT_NONE || mapping.file != nullptr || mapping.from_snapshot) {
    captured_.memory.unreadable.push_back({mapping.start, mapping.end});
  }
  KM_RETURN_IF_ERROR(CaptureRecent(mapping, end, pages));
  if (options_.on_base && mapping.source >= 0) return CaptureChanged(mapping, end, pages);
  bool sparse =
      (mapping.flags & MAP_ANONYMOUS) && (mapping.flags & MAP_PRIVATE) && !mapping.from_snapshot;
  if (!sparse) {
    image().memory.push_back({mapping.start, end - mapping.start, 0});
    return absl::OkStatus();
  }
  std::vector<AddressRange> touched;
  KM_RETURN_IF_ERROR(pages.Find(mapping.start, end, TouchedPages::Which::kTouched, &touched));
  for (const AddressRange& range : touched) {
    image().memory.push_back({range.start, range.end - range.start, 0});
  }
  return absl::OkStatus();
}

// Of a mapping that the host has from a snapshot: the pages that were written since. More parts
// than a file has room for become fewer, with what lies between them.
absl::Status Capturer::CaptureChanged(const Mapping& mapping, uint64_t end, TouchedPages& pages) {
  constexpr size_t kMostParts = 10000;
  std::vector<AddressRange> changed;
  KM_RETURN_IF_ERROR(pages.Find(mapping.start, end, TouchedPages::Which::kChanged, &changed));
  for (uint64_t gap = uint64_t{1} << 20; changed.size() > kMostParts; gap *= 2) {
    size_t last = 0;
    for (const AddressRange& range : changed) {
      if (range.start - changed[last].end < gap) {
        changed[last].end = range.end;
      } else {
        changed[++last] = range;
      }
    }
    changed.resize(last + 1);
  }
  uint64_t at = mapping.start;
  for (const AddressRange& range : changed) {
    AddBaseMemory(mapping, at, range.start);
    image().memory.push_back({range.start, range.end - range.start, 0});
    at = range.end;
  }
  AddBaseMemory(mapping, at, end);
  return absl::OkStatus();
}

// What a process has written since it was resumed it will write again when it is resumed again.
absl::Status Capturer::CaptureRecent(const Mapping& mapping, uint64_t end, TouchedPages& pages) {
  const bool resumed = !process_.identity().sources.empty();
  if (!resumed || options_.fatal_signal.has_value() || (mapping.flags & MAP_SHARED) ||
      PagesIn(image().working_set) > kMaxWorkingSetPages) {
    return absl::OkStatus();
  }
  std::vector<AddressRange> written;
  KM_RETURN_IF_ERROR(pages.Find(mapping.start, end, TouchedPages::Which::kRecent, &written));
  image().working_set = Union(image().working_set, written);
  return absl::OkStatus();
}

void Capturer::AddBaseMemory(const Mapping& mapping, uint64_t start, uint64_t end) {
  if (start == end) return;
  image().base_memory.push_back({start, end - start,
                                 mapping.source_offset + (start - mapping.start),
                                 static_cast<uint32_t>(mapping.source)});
}

// Those of the sources that still have some of the memory.
void Capturer::NameBases() {
  const std::vector<SnapshotFile>& sources = process_.identity().sources;
  std::vector<std::optional<uint32_t>> numbers(sources.size());
  for (ImageBaseMemory& piece : image().base_memory) {
    std::optional<uint32_t>& number = numbers[piece.base];
    if (!number.has_value()) {
      number = static_cast<uint32_t>(image().bases.size());
      image().bases.push_back(sources[piece.base]);
    }
    piece.base = *number;
  }
}

// Whether the kernel lets it be made writable, which depends on how the file was open when it was
// mapped, and on its seals. Nothing tells, so one page is made so for a moment. The program's own
// tables keep it from that.
bool Capturer::MayBeWritten(const Mapping& mapping) const {
  if (mapping.protection & PROT_WRITE) return true;
  void* page = process_.memory().window() + mapping.start;
  if (mprotect(page, kPageSize, PROT_READ | PROT_WRITE) != 0) return errno != EACCES;
  (void)mprotect(page, kPageSize, HostProtection(mapping.protection));
  return true;
}

// A shared mapping of a file that can be opened again by its name is one of that file; otherwise
// of a memory object.
void Capturer::CaptureSharedFile(const Mapping& mapping, ImageMapping* to) {
  if (mapping.file == nullptr || !(mapping.flags & MAP_SHARED)) return;
  if (options_.fatal_signal.has_value()) return;
  if (IsSysv(mapping)) {
    to->segment = static_cast<int32_t>(mapping.file->inode);
    to->read_only = mapping.file->read_only;
    for (const ImageSegment& segment : image().segments) {
      if (segment.id == *to->segment) to->object = segment.object;
    }
    return;  // without an object there is an obstacle
  }
  bool anonymous = mapping.flags & MAP_ANONYMOUS;
  if (!anonymous && !MayBeWritten(mapping)) to->advice |= KM_ADVICE_READ_ONLY;
  if (!anonymous && HasName(mapping.file->fd.get(), mapping.file->path)) {
    to->identity = IdentityOf(mapping.file->fd.get());
    return;
  }
  absl::string_view name = absl::StripSuffix(mapping.file->path, " (deleted)");
  uint32_t kind = absl::ConsumePrefix(&name, "/memfd:") ? KM_OBJECT_MEMFD : KM_OBJECT_DELETED_FILE;
  if (anonymous) kind = KM_OBJECT_ANONYMOUS;
  absl::StatusOr<uint64_t> object = files_.Memory(mapping.file->fd.get(), kind, std::string(name));
  if (object.ok()) {
    to->object = *object;
    return;
  }
  obstacles_.push_back(absl::StrCat("the shared mapping at ", absl::Hex(mapping.start), " of '",
                                    mapping.file->path, "' ", object.status().message()));
}

void Capturer::CaptureObjects() {
  for (FileSaver::SavedObject& from : files_.TakeObjects()) {
    const MemoryObject& object = from.object;
    image().objects.push_back(object);
    for (const auto& [start, end] : from.data) {
      image().memory.push_back({object.address + start, end - start, 0});
    }
    if (!from.bytes.valid()) continue;
    captured_.memory.objects.emplace_back(object.address, from.bytes.data());
    // Another process may make the file shorter at any time.
    captured_.memory.unreadable.push_back(
        {object.address, object.address + ((object.size + kPageMask) & ~kPageMask)});
    captured_.objects.push_back(std::move(from.bytes));
  }
}

}  // namespace

absl::StatusOr<Captured> Capture(Process& process, const CaptureOptions& options) {
  return Capturer(process, options).Run();
}

}  // namespace km
