// Decoding of the notes that are ours. Their bytes are hostile.
#include <elf.h>
#include <km/layout.h>
#include <km/notes.h>
#include <signal.h>
#include <sys/mman.h>

#include <algorithm>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_format.h"
#include "km/base/records.h"
#include "km/base/status.h"
#include "km/files/named_file.h"
#include "km/snapshot/layout.h"
#include "km/snapshot/notes.h"

namespace km {

absl::Status CheckText(absl::string_view what, absl::string_view text, size_t limit) {
  if (text.size() <= limit && text.find('\0') == text.npos) return absl::OkStatus();
  return absl::DataLossError(absl::StrFormat("the %s has a NUL or %u bytes", what, text.size()));
}

namespace {

constexpr size_t kMaxComm = 15;
constexpr size_t kMaxText = size_t{16} << 20;  // labels, descriptions, command lines
constexpr size_t kMaxLimits = 64;
constexpr int64_t kMostCpuTime = int64_t{1} << 61;  // ns: 73 years
constexpr int kItimers = 3;                         // with ids from -1 down
constexpr size_t kMaxCpuFeatures = 1024;

// A siginfo_t with a signal number that exists.
bool ReadSignal(ByteReader* value, std::vector<SignalInfoBytes>* signals, bool* valid) {
  SignalInfoBytes info = {};
  const uint32_t number = ByteReader(*value).U32();
  const absl::Span<const uint8_t> bytes = value->Bytes(info.size());
  std::copy(bytes.begin(), bytes.end(), info.begin());
  *valid = *valid && number >= 1 && number <= kSignalCount;
  signals->push_back(info);
  return true;
}

// Sums with other times must not overflow.
bool ReadCpuTime(ByteReader* value, ImageCpuTime* time) {
  time->total_ns = std::clamp<int64_t>(value->I64(), 0, kMostCpuTime);
  time->user_ns = std::clamp<int64_t>(value->I64(), 0, time->total_ns);
  return true;
}

constexpr char kBadSignal[] = "a signal's number is not 1 to 64";
constexpr char kBadSetting[] = "a setting is impossible or unknown";

// The heap is grown and shrunk from where these say that it is, and mappings are placed below
// them: what lies beyond the end of the program's addresses is the monitor's.
absl::Status CheckLandmarks(const ImageProcess& process) {
  const uint64_t highest =
      std::max({process.brk_start, process.brk_end, process.mmap_base, process.stack_end,
                process.arguments_start, process.arguments_end, process.environment_start,
                process.environment_end});
  if (highest <= KM_GUEST_END && process.brk_start <= process.brk_end) return absl::OkStatus();
  return absl::DataLossError(
      absl::StrFormat("brk %#x-%#x, the base of mmap %#x or another landmark, up to %#x, is "
                      "impossible",
                      process.brk_start, process.brk_end, process.mmap_base, highest));
}

std::vector<uint8_t> TakeBytes(ByteReader* value) {
  const absl::Span<const uint8_t> bytes = value->Bytes(value->rest().size());
  return {bytes.begin(), bytes.end()};
}

}  // namespace

absl::Status DecodeHeaderNote(ByteReader records, HeaderNote* note) {
  ImageHeader& header = note->header;
  uint32_t minimum_reader = 0;
  uint64_t required = 0;
  KM_RETURN_IF_ERROR(ForEachRecord(records, [&](uint32_t tag, ByteReader* value) {
    switch (tag) {
      case KM_HEADER_MAGIC:
      case KM_HEADER_HEAD_CHECKSUM:
        return true;  // checked before
      case KM_HEADER_FORMAT:
        header.format_version = value->U32();
        minimum_reader = value->U32();
        return true;
      case KM_HEADER_FEATURES:
        required = value->U64();
        value->U64();
        return true;
      case KM_HEADER_FILE_LENGTH:
        note->file_length = value->U64();
        return true;
      case KM_HEADER_PRODUCER:
        header.producer = std::string(value->Text());
        return true;
      case KM_HEADER_ID:
        for (uint8_t& byte : header.id) byte = value->U8();
        return true;
      case KM_HEADER_PARENT:
        for (uint8_t& byte : header.parent) byte = value->U8();
        return true;
      case KM_HEADER_CLOCKS:
        header.realtime_ns = value->I64();
        header.monotonic_ns = value->I64();
        header.boottime_ns = value->I64();
        return true;
      case KM_HEADER_XCR0:
        header.xcr0 = value->U64();
        return true;
      case KM_HEADER_CPU_FEATURES:
        header.cpu_features.clear();
        while (!value->empty()) header.cpu_features.push_back(value->U32());
        return true;
      case KM_HEADER_LABEL:
        header.label = std::string(value->Text());
        return true;
      case KM_HEADER_DESCRIPTION:
        header.description = std::string(value->Text());
        return true;
      default:
        return false;
    }
  }));
  if (minimum_reader > KM_FORMAT_VERSION || (required & ~KM_REQUIRED_FEATURES_KNOWN) != 0) {
    return absl::FailedPreconditionError(absl::StrFormat(
        "the snapshot was made by a newer km (%s): it needs a reader of format %u with features "
        "%#x, "
        "and this one reads format %u with features %#x",
        header.producer, minimum_reader, required, KM_FORMAT_VERSION, KM_REQUIRED_FEATURES_KNOWN));
  }
  if (header.cpu_features.size() > kMaxCpuFeatures) {
    return absl::DataLossError(absl::StrFormat("%u words of features", header.cpu_features.size()));
  }
  KM_RETURN_IF_ERROR(CheckText("producer", header.producer, kMaxText));
  KM_RETURN_IF_ERROR(CheckText("label", header.label, kMaxText));
  return CheckText("description", header.description, kMaxText);
}

absl::Status DecodeVcpu(ByteReader records, ImageThread* thread) {
  bool valid = true, settings_valid = true;
  KM_RETURN_IF_ERROR(ForEachRecord(records, [&](uint32_t tag, ByteReader* value) {
    switch (tag) {
      case KM_VCPU_TID:
        thread->tid = value->U32();
        return true;
      case KM_VCPU_COMM:
        thread->comm = std::string(value->Text());
        return true;
      case KM_VCPU_SIGNAL_MASK:
        thread->signal_mask = value->U64();
        return true;
      case KM_VCPU_ALTSTACK:
        thread->altstack_address = value->U64();
        thread->altstack_size = value->U64();
        thread->altstack_flags = value->U32();
        return true;
      case KM_VCPU_PENDING:
        return ReadSignal(value, &thread->pending, &valid);
      case KM_VCPU_CLEAR_CHILD_TID:
        thread->clear_child_tid = value->U64();
        return true;
      case KM_VCPU_ROBUST_LIST:
        thread->robust_list = value->U64();
        thread->robust_list_length = value->U64();
        return true;
      case KM_VCPU_BLOCKED_CALL:
        thread->blocked_call.emplace();
        thread->blocked_call->has_deadline = value->U32() != 0;
        thread->blocked_call->restart = value->U32();
        thread->blocked_call->deadline_ns = value->I64();
        return true;
      case KM_VCPU_DONE:
        if (!thread->blocked_call.has_value()) return false;
        thread->blocked_call->done = value->U64();
        return true;
      case KM_VCPU_CPU_TIME:
        return ReadCpuTime(value, &thread->cpu_time);
      case KM_VCPU_SAVED_MASK:
        thread->saved_mask_valid = true;
        thread->saved_mask = value->U64();
        return true;
      default:
        return DecodeThreadSetting(tag, value, &thread->settings, &settings_valid);
    }
  }));
  if (!settings_valid) return absl::DataLossError(kBadSetting);
  if (!valid) return absl::DataLossError(kBadSignal);
  return CheckText("thread's name", thread->comm, kMaxComm);
}

absl::Status DecodeProgram(ByteReader records, ImageProgram* program) {
  KM_RETURN_IF_ERROR(ForEachRecord(records, [&](uint32_t tag, ByteReader* value) {
    switch (tag) {
      case KM_PROGRAM_PATH:
        program->path = std::string(value->Text());
        return true;
      case KM_PROGRAM_LOAD_BIAS:
        program->load_bias = value->U64();
        return true;
      case KM_PROGRAM_ENTRY:
        program->entry = value->U64();
        return true;
      case KM_PROGRAM_ELF_HEADER:
        program->elf_header = TakeBytes(value);
        return true;
      case KM_PROGRAM_PROGRAM_HEADERS:
        program->program_headers = TakeBytes(value);
        return true;
      default:
        return false;
    }
  }));
  if (program->elf_header.size() != sizeof(Elf64_Ehdr) ||
      program->program_headers.size() % sizeof(Elf64_Phdr) != 0) {
    return absl::DataLossError(absl::StrFormat("an ELF header of %u bytes, program headers of %u",
                                               program->elf_header.size(),
                                               program->program_headers.size()));
  }
  return CheckText("path", program->path, kMaxPath);
}

absl::Status DecodeProcess(ByteReader records, ImageProcess* process) {
  bool settings_valid = true;
  KM_RETURN_IF_ERROR(ForEachRecord(records, [&](uint32_t tag, ByteReader* value) {
    switch (tag) {
      case KM_PROCESS_IDS:
        for (uint32_t* id :
             {&process->pid, &process->parent_pid, &process->process_group, &process->session,
              &process->uid, &process->euid, &process->gid, &process->egid, &process->next_tid}) {
          *id = value->U32();
        }
        return true;
      case KM_PROCESS_COMM:
        process->comm = std::string(value->Text());
        return true;
      case KM_PROCESS_COMMAND:
        process->command_line = std::string(value->Text());
        return true;
      case KM_PROCESS_DIRECTORY:
        process->working_directory = std::string(value->Text());
        return true;
      case KM_PROCESS_UMASK:
        process->umask = value->U32();
        return true;
      case KM_PROCESS_PERSONALITY:
        process->personality = value->U64();
        return true;
      case KM_PROCESS_CPU_TIME:
        return ReadCpuTime(value, &process->cpu_time);
      case KM_PROCESS_LIMITS:
        process->limits.clear();
        while (!value->empty() && process->limits.size() <= kMaxLimits) {
          const uint64_t current = value->U64();
          process->limits.push_back({current, value->U64()});
        }
        return true;
      case KM_PROCESS_LAYOUT:
        for (uint64_t* address :
             {&process->brk_start, &process->brk_end, &process->mmap_base, &process->stack_end,
              &process->arguments_start, &process->arguments_end, &process->environment_start,
              &process->environment_end}) {
          *address = value->U64();
        }
        return true;
      case KM_PROCESS_MEMORY:
        process->lock_future = value->U32();
        process->membarrier = value->U32();
        return true;
      default:
        return DecodeProcessSetting(tag, value, process, &settings_valid);
    }
  }));
  if (!settings_valid || !ValidAio(process->aio)) return absl::DataLossError(kBadSetting);
  if (process->limits.size() > kMaxLimits) return absl::DataLossError("too many limits");
  if (process->pid == 0 || process->pid > INT_MAX) {
    return absl::DataLossError(absl::StrFormat("the pid is %u", process->pid));
  }
  KM_RETURN_IF_ERROR(CheckLandmarks(*process));
  KM_RETURN_IF_ERROR(CheckText("process's name", process->comm, kMaxComm));
  KM_RETURN_IF_ERROR(CheckText("command line", process->command_line, kMaxText));
  return CheckText("working directory", process->working_directory, kMaxPath);
}

absl::Status DecodeSignals(ByteReader records, ImageProcess* process) {
  bool valid = true;
  KM_RETURN_IF_ERROR(ForEachRecord(records, [&](uint32_t tag, ByteReader* value) {
    if (tag == KM_SIGNALS_PENDING) return ReadSignal(value, &process->pending, &valid);
    if (tag != KM_SIGNALS_ACTION) return false;
    const uint32_t number = value->U32();
    value->U32();
    ImageAction action;
    action.handler = value->U64();
    action.flags = value->U64();
    action.restorer = value->U64();
    action.mask = value->U64();
    valid = valid && number >= 1 && number <= kSignalCount;
    if (valid) process->actions[number - 1] = action;
    return true;
  }));
  return valid ? absl::OkStatus() : absl::DataLossError(kBadSignal);
}

namespace {

absl::Status CheckObjects(const std::vector<MemoryObject>& objects) {
  uint64_t previous_end = KM_OBJECT_BASE;
  for (const MemoryObject& object : objects) {
    if (object.address < previous_end || object.address % kLargePageSize != 0 ||
        object.address >= KM_OBJECT_END || object.size > KM_OBJECT_END - object.address ||
        ((object.kind < KM_OBJECT_MEMFD || object.kind > KM_OBJECT_ANONYMOUS) &&
         object.kind != KM_OBJECT_SEGMENT)) {
      return absl::DataLossError(
          absl::StrFormat("memory object %#x (%u bytes, kind %u) is impossible or out of order",
                          object.address, object.size, object.kind));
    }
    previous_end = object.address + object.size + kPageSize;
    KM_RETURN_IF_ERROR(CheckText("memory object's name", object.name, kMaxPath));
  }
  return absl::OkStatus();
}

absl::Status CheckMappings(const std::vector<ImageMapping>& mappings,
                           const std::vector<MemoryObject>& objects) {
  absl::flat_hash_set<uint64_t> known;
  for (const MemoryObject& object : objects) known.insert(object.address);
  uint64_t previous_end = 0;
  for (const ImageMapping& mapping : mappings) {
    const uint32_t sharing = mapping.flags & (MAP_SHARED | MAP_PRIVATE);
    if (mapping.start < previous_end || mapping.end <= mapping.start ||
        mapping.end > KM_GUEST_END || (mapping.protection & ~7u) != 0 ||
        (sharing != MAP_SHARED && sharing != MAP_PRIVATE) ||
        (mapping.start | mapping.end | mapping.file_offset) % kPageSize != 0 ||
        mapping.file_offset > INT64_MAX - (mapping.end - mapping.start) ||
        (mapping.segment.has_value() && sharing != MAP_SHARED) ||
        (mapping.object != 0 && (sharing != MAP_SHARED || !known.contains(mapping.object)))) {
      return absl::DataLossError(absl::StrFormat(
          "mapping %#x-%#x (protection %#x, flags %#x, offset %#x, object %#x) is impossible or "
          "out of order",
          mapping.start, mapping.end, mapping.protection, mapping.flags, mapping.file_offset,
          mapping.object));
    }
    previous_end = mapping.end;
    KM_RETURN_IF_ERROR(CheckText("mapping's name", mapping.name, kMaxPath));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status DecodeTimers(ByteReader records, ImageProcess* process) {
  KM_RETURN_IF_ERROR(ForEachRecord(records, [&](uint32_t tag, ByteReader* value) {
    if (tag == KM_TIMERS_TIMER) {
      ImageTimer& timer = process->timers.emplace_back();
      timer.id = static_cast<int32_t>(value->U32());
      timer.clock = static_cast<int32_t>(value->U32());
      timer.notify = value->U32();
      timer.signal = value->U32();
      timer.value = value->U64();
      timer.tid = value->U32();
      const uint32_t flags = value->U32();
      timer.armed = (flags & KM_TIMERS_ARMED) != 0;
      timer.waiting = (flags & KM_TIMERS_WAITING) != 0;
      timer.monotonic = (flags & KM_TIMERS_MONOTONIC) != 0;
      timer.expiry_ns = value->I64();
      timer.interval_ns = value->I64();
      timer.overrun = value->I64();
    } else if (tag == KM_TIMERS_NEXT_ID) {
      process->next_timer_id = static_cast<int32_t>(value->U32());
    } else {
      return false;
    }
    return true;
  }));
  absl::flat_hash_set<int32_t> ids;
  for (const ImageTimer& timer : process->timers) {
    const bool notifies = timer.notify != SIGEV_NONE;
    if (timer.id < -kItimers || !ids.insert(timer.id).second || timer.expiry_ns < 0 ||
        timer.interval_ns < 0 || timer.overrun < 0 ||
        (notifies && timer.notify != SIGEV_SIGNAL && timer.notify != SIGEV_THREAD_ID) ||
        (notifies && (timer.signal < 1 || timer.signal > kSignalCount))) {
      return absl::DataLossError(
          absl::StrFormat("the timer %d is impossible or there twice", timer.id));
    }
  }
  if (process->next_timer_id >= 0) return absl::OkStatus();
  return absl::DataLossError("the next id of a timer is impossible");
}

absl::Status DecodeMappings(ByteReader records, Image* image) {
  bool policies_valid = true;
  KM_RETURN_IF_ERROR(ForEachRecord(records, [&](uint32_t tag, ByteReader* value) {
    if (tag == KM_MAPPINGS_OBJECT) {
      MemoryObject& object = image->objects.emplace_back();
      object.address = value->U64();
      object.size = value->U64();
      object.kind = value->U32();
      object.seals = value->U32();
      object.name = std::string(value->CountedText());
      return true;
    }
    if (tag == KM_MAPPINGS_ADVICE && !image->mappings.empty()) {
      image->mappings.back().advice = value->U32();
      return true;
    }
    if (tag == KM_MAPPINGS_IDENTITY && !image->mappings.empty()) {
      image->mappings.back().identity = ReadIdentity(value);
      return true;
    }
    if (DecodePolicy(tag, value, &image->policies, &policies_valid)) return true;
    if (tag != KM_MAPPINGS_MAPPING && tag != KM_MAPPINGS_OF_OBJECT &&
        tag != KM_MAPPINGS_OF_SEGMENT) {
      return false;
    }
    ImageMapping& mapping = image->mappings.emplace_back();
    mapping.start = value->U64();
    mapping.end = value->U64();
    mapping.protection = value->U32();
    mapping.flags = value->U32();
    mapping.file_offset = value->U64();
    if (tag != KM_MAPPINGS_MAPPING) mapping.object = value->U64();
    if (tag == KM_MAPPINGS_OF_SEGMENT) {
      mapping.segment = static_cast<int32_t>(value->U32());
      mapping.read_only = (value->U32() & KM_SEGMENT_READ_ONLY) != 0;
    }
    mapping.name = std::string(value->CountedText());
    return true;
  }));
  if (!policies_valid) return absl::DataLossError(kBadSetting);
  KM_RETURN_IF_ERROR(CheckObjects(image->objects));
  return CheckMappings(image->mappings, image->objects);
}

absl::Status DecodeChecksums(ByteReader records, std::vector<uint64_t>* checksums) {
  uint32_t algorithm = 0, shift = 0;
  KM_RETURN_IF_ERROR(ForEachRecord(records, [&](uint32_t tag, ByteReader* value) {
    if (tag == KM_CHECKSUMS_KIND) {
      algorithm = value->U32();
      shift = value->U32();
    } else if (tag == KM_CHECKSUMS_VALUES) {
      while (!value->empty()) checksums->push_back(value->U64());
    } else {
      return false;
    }
    return true;
  }));
  if (algorithm == KM_CHECKSUM_XXH3_64 && shift == KM_CHECKSUM_CHUNK_SHIFT) return absl::OkStatus();
  return absl::DataLossError(
      absl::StrFormat("checksums of kind %u over chunks of 2^%u bytes", algorithm, shift));
}

}  // namespace km
