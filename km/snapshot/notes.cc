// Encoding of the notes that are ours.
#include "km/snapshot/notes.h"

#include <km/notes.h>

#include "absl/strings/str_format.h"
#include "km/files/named_file.h"
#include "km/snapshot/checksum.h"

namespace km {
namespace {

constexpr size_t kNoteAlignment = 4;
constexpr size_t kKmDescriptorOffset = kNoteHeaderSize + kNoteAlignment;  // behind "KM" and padding

size_t AlignNote(size_t size) {
  return (size + kNoteAlignment - 1) / kNoteAlignment * kNoteAlignment;
}

void BytesRecord(uint32_t tag, absl::Span<const uint8_t> bytes, ByteWriter* out) {
  const size_t record = out->BeginRecord(tag);
  out->Bytes(bytes);
  out->EndRecord(record);
}

void U32Record(uint32_t tag, uint32_t value, ByteWriter* out) {
  const size_t record = out->BeginRecord(tag);
  out->U32(value);
  out->EndRecord(record);
}

void U64sRecord(uint32_t tag, absl::Span<const uint64_t> values, ByteWriter* out) {
  const size_t record = out->BeginRecord(tag);
  for (const uint64_t value : values) out->U64(value);
  out->EndRecord(record);
}

void CpuTimeRecord(uint32_t tag, const ImageCpuTime& time, ByteWriter* out) {
  if (time.total_ns == 0 && time.user_ns == 0) return;
  const size_t record = out->BeginRecord(tag);
  out->I64(time.total_ns);
  out->I64(time.user_ns);
  out->EndRecord(record);
}

void EncodeVcpu(const ImageThread& thread, ByteWriter* out) {
  const size_t note = BeginKmNote(NT_KM_VCPU, true, out);
  U32Record(KM_VCPU_TID, thread.tid, out);
  out->TextRecord(KM_VCPU_COMM, thread.comm);
  out->U64Record(KM_VCPU_SIGNAL_MASK, thread.signal_mask);
  size_t record = out->BeginRecord(KM_VCPU_ALTSTACK);
  out->U64(thread.altstack_address);
  out->U64(thread.altstack_size);
  out->U32(thread.altstack_flags);
  out->U32(0);
  out->EndRecord(record);
  for (const SignalInfoBytes& info : thread.pending) BytesRecord(KM_VCPU_PENDING, info, out);
  out->U64Record(KM_VCPU_CLEAR_CHILD_TID, thread.clear_child_tid);
  U64sRecord(KM_VCPU_ROBUST_LIST, {thread.robust_list, thread.robust_list_length}, out);
  if (thread.blocked_call.has_value()) {
    record = out->BeginRecord(KM_VCPU_BLOCKED_CALL);
    out->U32(thread.blocked_call->has_deadline ? 1 : 0);
    out->U32(thread.blocked_call->restart);
    out->I64(thread.blocked_call->deadline_ns);
    out->EndRecord(record);
    if (thread.blocked_call->done != 0) out->U64Record(KM_VCPU_DONE, thread.blocked_call->done);
  }
  CpuTimeRecord(KM_VCPU_CPU_TIME, thread.cpu_time, out);
  if (thread.saved_mask_valid) out->U64Record(KM_VCPU_SAVED_MASK, thread.saved_mask);
  EncodeThreadSettings(thread.settings, out);
  EndKmNote(note, out);
}

void EncodeProgram(uint32_t type, const ImageProgram& program, ByteWriter* out) {
  const size_t note = BeginKmNote(type, true, out);
  out->TextRecord(KM_PROGRAM_PATH, program.path);
  out->U64Record(KM_PROGRAM_LOAD_BIAS, program.load_bias);
  out->U64Record(KM_PROGRAM_ENTRY, program.entry);
  BytesRecord(KM_PROGRAM_ELF_HEADER, program.elf_header, out);
  BytesRecord(KM_PROGRAM_PROGRAM_HEADERS, program.program_headers, out);
  EndKmNote(note, out);
}

void EncodeProcess(const ImageProcess& process, ByteWriter* out) {
  const size_t note = BeginKmNote(NT_KM_PROCESS, true, out);
  size_t record = out->BeginRecord(KM_PROCESS_IDS);
  for (const uint32_t id :
       {process.pid, process.parent_pid, process.process_group, process.session, process.uid,
        process.euid, process.gid, process.egid, process.next_tid, uint32_t{0}}) {
    out->U32(id);
  }
  out->EndRecord(record);
  out->TextRecord(KM_PROCESS_COMM, process.comm);
  out->TextRecord(KM_PROCESS_COMMAND, process.command_line);
  out->TextRecord(KM_PROCESS_DIRECTORY, process.working_directory);
  U32Record(KM_PROCESS_UMASK, process.umask, out);
  out->U64Record(KM_PROCESS_PERSONALITY, process.personality);
  record = out->BeginRecord(KM_PROCESS_LIMITS);
  for (const auto& [current, maximum] : process.limits) {
    out->U64(current);
    out->U64(maximum);
  }
  out->EndRecord(record);
  U64sRecord(KM_PROCESS_LAYOUT,
             {process.brk_start, process.brk_end, process.mmap_base, process.stack_end,
              process.arguments_start, process.arguments_end, process.environment_start,
              process.environment_end},
             out);
  if (process.lock_future != 0 || process.membarrier != 0) {
    record = out->BeginRecord(KM_PROCESS_MEMORY);
    out->U32(process.lock_future);
    out->U32(process.membarrier);
    out->EndRecord(record);
  }
  CpuTimeRecord(KM_PROCESS_CPU_TIME, process.cpu_time, out);
  EncodePrctl(KM_PROCESS_PRCTL, process.prctl, out);
  if (process.oom_score.has_value()) {
    record = out->BeginRecord(KM_PROCESS_OOM_SCORE);
    out->U32(static_cast<uint32_t>(*process.oom_score));
    out->U32(0);
    out->EndRecord(record);
  }
  EncodeAio(process.aio, out);
  if (process.leads != 0) {
    record = out->BeginRecord(KM_PROCESS_LEADS);
    out->U32(process.leads);
    out->U32(0);
    out->EndRecord(record);
  }
  EndKmNote(note, out);
}

void EncodeSignals(const ImageProcess& process, ByteWriter* out) {
  const size_t note = BeginKmNote(NT_KM_SIGNALS, true, out);
  for (uint32_t i = 0; i < process.actions.size(); ++i) {
    const ImageAction& action = process.actions[i];
    if ((action.handler | action.flags | action.restorer | action.mask) == 0) continue;
    const size_t record = out->BeginRecord(KM_SIGNALS_ACTION);
    out->U32(i + 1);
    out->U32(0);
    out->U64(action.handler);
    out->U64(action.flags);
    out->U64(action.restorer);
    out->U64(action.mask);
    out->EndRecord(record);
  }
  for (const SignalInfoBytes& info : process.pending) BytesRecord(KM_SIGNALS_PENDING, info, out);
  EndKmNote(note, out);
}

void EncodeTimers(const ImageProcess& process, ByteWriter* out) {
  if (process.timers.empty() && process.next_timer_id == 0) return;
  const size_t note = BeginKmNote(NT_KM_TIMERS, true, out);
  for (const ImageTimer& timer : process.timers) {
    const size_t record = out->BeginRecord(KM_TIMERS_TIMER);
    out->U32(static_cast<uint32_t>(timer.id));
    out->U32(static_cast<uint32_t>(timer.clock));
    out->U32(timer.notify);
    out->U32(timer.signal);
    out->U64(timer.value);
    out->U32(timer.tid);
    out->U32((timer.armed ? KM_TIMERS_ARMED : 0) | (timer.waiting ? KM_TIMERS_WAITING : 0) |
             (timer.monotonic ? KM_TIMERS_MONOTONIC : 0));
    out->I64(timer.expiry_ns);
    out->I64(timer.interval_ns);
    out->I64(timer.overrun);
    out->EndRecord(record);
  }
  U32Record(KM_TIMERS_NEXT_ID, static_cast<uint32_t>(process.next_timer_id), out);
  EndKmNote(note, out);
}

void EncodeMappings(const Image& image, ByteWriter* out) {
  const size_t note = BeginKmNote(NT_KM_MAPPINGS, true, out);
  for (const MemoryObject& object : image.objects) {
    const size_t record = out->BeginRecord(KM_MAPPINGS_OBJECT);
    out->U64(object.address);
    out->U64(object.size);
    out->U32(object.kind);
    out->U32(object.seals);
    out->CountedText(object.name);
    out->EndRecord(record);
  }
  for (const ImageMapping& mapping : image.mappings) {
    const size_t record = out->BeginRecord(mapping.segment.has_value() ? KM_MAPPINGS_OF_SEGMENT
                                           : mapping.object != 0       ? KM_MAPPINGS_OF_OBJECT
                                                                       : KM_MAPPINGS_MAPPING);
    out->U64(mapping.start);
    out->U64(mapping.end);
    out->U32(mapping.protection);
    out->U32(mapping.flags);
    out->U64(mapping.file_offset);
    if (mapping.object != 0) out->U64(mapping.object);
    if (mapping.segment.has_value()) {
      out->U32(static_cast<uint32_t>(*mapping.segment));
      out->U32(mapping.read_only ? KM_SEGMENT_READ_ONLY : 0);
    }
    out->CountedText(mapping.name);
    out->EndRecord(record);
    if (mapping.advice != 0) {
      const size_t advice = out->BeginRecord(KM_MAPPINGS_ADVICE);
      out->U32(mapping.advice);
      out->U32(0);
      out->EndRecord(advice);
    }
    if (mapping.identity.has_value()) {
      const size_t identity = out->BeginRecord(KM_MAPPINGS_IDENTITY);
      WriteIdentity(*mapping.identity, out);
      out->EndRecord(identity);
    }
  }
  EncodePolicies(image.policies, out);
  EndKmNote(note, out);
}

// Regular files with a name and nothing more to say of them are as the first version wrote them.
void EncodeDescription(const FileRecord& description, ByteWriter* out) {
  const bool plain = description.kind == FileKind::kRegular && description.state.empty();
  const size_t record = out->BeginRecord(plain ? KM_FILES_DESCRIPTION : KM_FILES_OBJECT);
  out->U32(description.id);
  if (!plain) out->U32(static_cast<uint32_t>(description.kind));
  out->U32(description.flags);
  if (!plain) out->U32(0);
  out->I64(description.offset);
  out->CountedText(description.path);
  if (!plain) {
    out->CountedText(
        {reinterpret_cast<const char*>(description.state.data()), description.state.size()});
  }
  out->EndRecord(record);
}

void EncodeFiles(const Image& image, ByteWriter* out) {
  const size_t note = BeginKmNote(NT_KM_FILES, true, out);
  U32Record(KM_FILES_GIVEN, image.given, out);
  if (image.terminal.has_value()) {
    const size_t record = out->BeginRecord(KM_FILES_TERMINAL);
    WriteSettings(image.terminal->launched, out);
    WriteSettings(image.terminal->now, out);
    WriteWindow(image.terminal->window, out);
    out->EndRecord(record);
  }
  for (const FileRecord& description : image.descriptions) EncodeDescription(description, out);
  for (const DescriptorRecord& descriptor : image.descriptors) {
    const size_t record = out->BeginRecord(KM_FILES_DESCRIPTOR);
    out->U32(descriptor.number);
    out->U32(descriptor.description);
    out->U32(descriptor.close_on_exec ? KM_FILES_CLOSE_ON_EXEC : 0);
    out->U32(0);
    out->EndRecord(record);
  }
  for (const OwnerRecord& owner : image.owners) {
    const size_t record = out->BeginRecord(KM_FILES_OWNER);
    out->U32(owner.description);
    out->U32(owner.type);
    out->U32(owner.thread);
    out->U32(owner.signal);
    out->U32(owner.notify);
    out->U32(owner.async ? 1 : 0);
    out->EndRecord(record);
  }
  for (const LockRecord& lock : image.locks) {
    const size_t record = out->BeginRecord(KM_FILES_LOCK);
    out->U32(lock.description);
    out->U32(lock.kind);
    out->U32(lock.exclusive ? 1 : 0);
    out->U32(0);
    out->I64(lock.start);
    out->I64(lock.length);
    out->EndRecord(record);
  }
  EndKmNote(note, out);
}

void EncodeChecksums(absl::Span<const uint64_t> checksums, ByteWriter* out) {
  const size_t note = BeginKmNote(NT_KM_CHECKSUMS, true, out);
  const size_t record = out->BeginRecord(KM_CHECKSUMS_KIND);
  out->U32(KM_CHECKSUM_XXH3_64);
  out->U32(KM_CHECKSUM_CHUNK_SHIFT);
  out->EndRecord(record);
  U64sRecord(KM_CHECKSUMS_VALUES, checksums, out);
  EndKmNote(note, out);
}

void EncodeWorkingSet(absl::Span<const uint64_t> entries, ByteWriter* out) {
  if (entries.empty()) return;
  const size_t note = BeginKmNote(NT_KM_WORKING_SET, false, out);
  U64sRecord(KM_WORKING_SET_PAGES, entries, out);
  EndKmNote(note, out);
}

}  // namespace

size_t BeginNote(absl::string_view owner, uint32_t type, ByteWriter* out) {
  const size_t note = out->size();
  out->U32(static_cast<uint32_t>(owner.size() + 1));
  out->U32(0);
  out->U32(type);
  out->Text(owner);
  out->Zeros(1);
  out->Align(kNoteAlignment);
  return note;
}

void EndNote(size_t note, ByteWriter* out) {
  const uint32_t name_size = ByteReader(out->span().subspan(note)).U32();
  const size_t descriptor = note + kNoteHeaderSize + AlignNote(name_size);
  out->PatchU32(note + 4, static_cast<uint32_t>(out->size() - descriptor));
  out->Align(kNoteAlignment);
}

size_t BeginKmNote(uint32_t type, bool required, ByteWriter* out) {
  const size_t note = BeginNote(KM_NOTE_OWNER, type, out);
  out->U64(0);
  out->U32(KM_NOTE_VERSION);
  out->U32(KM_NOTE_VERSION);
  out->U32(required ? KM_NOTE_REQUIRED : 0);
  out->U32(0);
  return note;
}

void EndKmNote(size_t note, ByteWriter* out) {
  const size_t descriptor = note + kKmDescriptorOffset;
  out->PatchU64(descriptor, Checksum(out->span().subspan(descriptor + sizeof(uint64_t))));
  EndNote(note, out);
}

void EncodeHeaderNote(const ImageHeader& header, uint64_t file_length, ByteWriter* out) {
  const size_t note = BeginKmNote(NT_KM_HEADER, true, out);
  out->TextRecord(KM_HEADER_MAGIC, KM_SNAPSHOT_MAGIC);
  out->U64Record(KM_HEADER_HEAD_CHECKSUM, 0);
  const size_t record = out->BeginRecord(KM_HEADER_FORMAT);
  out->U32(KM_FORMAT_VERSION);
  out->U32(KM_FORMAT_VERSION);
  out->EndRecord(record);
  U64sRecord(KM_HEADER_FEATURES, {0, 0}, out);
  out->U64Record(KM_HEADER_FILE_LENGTH, file_length);
  out->TextRecord(KM_HEADER_PRODUCER, header.producer);
  BytesRecord(KM_HEADER_ID, header.id, out);
  BytesRecord(KM_HEADER_PARENT, header.parent, out);
  U64sRecord(KM_HEADER_CLOCKS,
             {static_cast<uint64_t>(header.realtime_ns), static_cast<uint64_t>(header.monotonic_ns),
              static_cast<uint64_t>(header.boottime_ns)},
             out);
  out->U64Record(KM_HEADER_XCR0, header.xcr0);
  const size_t features = out->BeginRecord(KM_HEADER_CPU_FEATURES);
  for (const uint32_t word : header.cpu_features) out->U32(word);
  out->EndRecord(features);
  out->TextRecord(KM_HEADER_LABEL, header.label);
  out->TextRecord(KM_HEADER_DESCRIPTION, header.description);
  EndKmNote(note, out);
}

void EncodeKmNotes(const Image& image, absl::Span<const uint64_t> checksums,
                   absl::Span<const uint64_t> working_set, ByteWriter* out) {
  for (const ImageThread& thread : image.threads) EncodeVcpu(thread, out);
  EncodeProgram(NT_KM_GUEST, image.program, out);
  if (image.dynamic_linker.has_value()) {
    EncodeProgram(NT_KM_DYNLINKER, *image.dynamic_linker, out);
  }
  EncodeProcess(image.process, out);
  EncodeSignals(image.process, out);
  EncodeTimers(image.process, out);
  EncodeMappings(image, out);
  EncodeIpc(image, out);
  EncodeBases(image, out);
  EncodeFiles(image, out);
  EncodeChecksums(checksums, out);
  EncodeWorkingSet(working_set, out);
  for (const ImageNote& unknown : image.unknown_notes) {
    const size_t note = BeginNote(unknown.owner, unknown.type, out);
    out->Bytes(unknown.descriptor);
    EndNote(note, out);
  }
}

std::string NoteName(uint32_t type) {
  switch (type) {
    case NT_KM_HEADER:
      return "NT_KM_HEADER";
    case NT_KM_VCPU:
      return "NT_KM_VCPU";
    case NT_KM_GUEST:
      return "NT_KM_GUEST";
    case NT_KM_DYNLINKER:
      return "NT_KM_DYNLINKER";
    case NT_KM_PROCESS:
      return "NT_KM_PROCESS";
    case NT_KM_SIGNALS:
      return "NT_KM_SIGNALS";
    case NT_KM_MAPPINGS:
      return "NT_KM_MAPPINGS";
    case NT_KM_FILES:
      return "NT_KM_FILES";
    case NT_KM_CHECKSUMS:
      return "NT_KM_CHECKSUMS";
    case NT_KM_TIMERS:
      return "NT_KM_TIMERS";
    case NT_KM_IPC:
      return "NT_KM_IPC";
    case NT_KM_BASES:
      return "NT_KM_BASES";
    case NT_KM_WORKING_SET:
      return "NT_KM_WORKING_SET";
    default:
      return absl::StrFormat("type %#x", type);
  }
}

}  // namespace km
