// Everything a snapshot holds, as plain data. State flows Process -> Image -> file and back.
#ifndef KM_SNAPSHOT_IMAGE_H_
#define KM_SNAPSHOT_IMAGE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "km/files/aio_contexts.h"
#include "km/files/file_record.h"
#include "km/kvm/registers.h"
#include "km/process/settings.h"
#include "km/process/snapshot_file.h"

namespace km {

inline constexpr int kSignalCount = 64;

// A siginfo_t as the kernel lays it out (128 bytes), kept as bytes: its union is the kernel's.
using SignalInfoBytes = std::array<uint8_t, 128>;

struct ImageAction {  // struct kernel_sigaction of signal (index + 1)
  uint64_t handler = 0;
  uint64_t flags = 0;
  uint64_t restorer = 0;
  uint64_t mask = 0;
};

// A system call that the thread was blocked in. It is made again after a resume: the arguments are
// in the registers (orig_rax, rdi, ...), what remained of a relative timeout is here.
struct ImageBlockedCall {
  bool has_deadline = false;
  int64_t deadline_ns = 0;  // on the guest's CLOCK_MONOTONIC, or the clock that the call names
  // When a handler runs first: 0 EINTR unless it has SA_RESTART, 1 made again, 2 EINTR.
  uint32_t restart = 0;
  uint64_t done = 0;  // before it was interrupted, in the unit of its result: it goes on behind it
};

struct ImageCpuTime {  // spent so far
  int64_t total_ns = 0, user_ns = 0;
};

struct ImageThread {
  uint32_t tid = 0;
  std::string comm;  // at most 15 bytes
  Registers registers;
  std::vector<uint8_t> xsave;  // standard (not compacted) XSAVE format
  uint64_t signal_mask = 0;
  uint64_t altstack_address = 0, altstack_size = 0;
  uint32_t altstack_flags = 0;
  std::vector<SignalInfoBytes> pending;  // thread-directed, in order of delivery
  uint64_t clear_child_tid = 0;
  uint64_t robust_list = 0, robust_list_length = 0;
  std::optional<ImageBlockedCall> blocked_call;
  ImageCpuTime cpu_time;
  bool saved_mask_valid = false;  // a mask to put back after the call (sigsuspend, ppoll, ...)
  uint64_t saved_mask = 0;
  ThreadSettings settings;
};

// A timer of timer_create(2), or with ids from -1 down one of setitimer(2).
struct ImageTimer {
  int32_t id = 0;
  int32_t clock = 0;    // CLOCK_*, or of processor time by the process's or a thread's id
  uint32_t notify = 0;  // SIGEV_SIGNAL, SIGEV_NONE or SIGEV_THREAD_ID
  uint32_t signal = 0;  // 1 to 64, unless SIGEV_NONE
  uint64_t value = 0;   // of the sigevent
  uint32_t tid = 0;     // for SIGEV_THREAD_ID
  bool armed = false;
  bool waiting = false;    // its signal is pending; when that is taken, it goes on
  bool monotonic = false;  // expiry is on CLOCK_MONOTONIC, whatever `clock` is
  int64_t expiry_ns = 0;   // on the guest's clock
  int64_t interval_ns = 0;
  int64_t overrun = 0;  // of the signal that was taken last
};

struct ImageMapping {
  uint64_t start = 0, end = 0;  // page aligned, start < end <= KM_GUEST_END
  uint32_t protection = 0;      // PROT_*
  uint32_t flags = 0;  // MAP_SHARED or MAP_PRIVATE, MAP_ANONYMOUS, MAP_GROWSDOWN, MAP_NORESERVE
  std::string name;    // the file's path, or [heap], [stack], or empty
  uint64_t file_offset = 0;  // bytes, of `start`, when it maps a file
  // The address of the memory object that it is of, with file_offset in it, or 0. It then has no
  // bytes of its own in Image::memory.
  uint64_t object = 0;
  uint32_t advice = 0;  // kAdvice* of km/memory/address_space.h
  // Of a System V segment, with file_offset in it: the program's id. Its bytes are a memory
  // object's.
  std::optional<int32_t> segment = std::nullopt;
  bool read_only = false;  // attached with SHM_RDONLY
  // Of the file that it shares, where it has a name. Older files do not say.
  std::optional<FileIdentity> identity = std::nullopt;
};

struct ImageProgram {  // NT_KM_GUEST and NT_KM_DYNLINKER
  std::string path;
  uint64_t load_bias = 0;
  uint64_t entry = 0;                    // biased
  std::vector<uint8_t> elf_header;       // Elf64_Ehdr, 64 bytes
  std::vector<uint8_t> program_headers;  // Elf64_Phdr, 56 bytes each
};

struct ImageProcess {
  uint32_t pid = 0, parent_pid = 0, process_group = 0, session = 0;
  uint32_t uid = 0, euid = 0, gid = 0, egid = 0;
  uint32_t next_tid = 0;
  std::string comm;          // at most 15 bytes
  std::string command_line;  // for NT_PRPSINFO's pr_psargs
  std::string working_directory;
  uint32_t umask = 022;
  uint64_t personality = 0;
  std::array<ImageAction, kSignalCount> actions;
  std::vector<SignalInfoBytes> pending;         // process-directed, in order
  std::vector<std::array<uint64_t, 2>> limits;  // rlim_cur, rlim_max by RLIMIT_* number
  uint64_t brk_start = 0, brk_end = 0;
  uint64_t mmap_base = 0, stack_end = 0;
  uint64_t arguments_start = 0, arguments_end = 0, environment_start = 0, environment_end = 0;
  std::vector<uint64_t> auxv;  // pairs, AT_NULL last
  uint32_t lock_future = 0;    // MCL_FUTURE and MCL_ONFAULT, of mlockall(2)
  uint32_t membarrier = 0;     // MEMBARRIER_CMD_REGISTER_* made
  std::vector<ImageTimer> timers;
  int32_t next_timer_id = 0;
  ImageCpuTime cpu_time;
  std::vector<PrctlSetting> prctl;
  std::optional<int32_t> oom_score;
  uint32_t leads = 0;  // KM_LEADS_*
  std::vector<AioContextState> aio;
};

// What System V objects have in common.
struct ImageIpc {
  int32_t id = 0;   // the program's
  int32_t key = 0;  // IPC_PRIVATE: none
  uint32_t mode = 0, uid = 0, gid = 0;
  int32_t host_id = 0;  // where it was
  int64_t changed = 0;  // its ..._ctime there, in seconds
};

struct ImageSegment : ImageIpc {
  uint64_t size = 0;    // bytes
  uint64_t object = 0;  // the address of the memory object
  uint32_t flags = 0;   // KM_SEGMENT_*
};

struct ImageSemaphore {
  uint32_t value = 0;     // at most 32767
  bool operated = false;  // somebody has, at some time
  int32_t undo = 0;       // the sum of the process's operations with SEM_UNDO
};

struct ImageSemaphores : ImageIpc {
  int64_t operated = 0;  // when, in seconds; 0 never
  std::vector<ImageSemaphore> values;
};

struct ImageMessage {
  int64_t type = 0;  // above 0
  std::vector<uint8_t> text;
};

struct ImageQueue : ImageIpc {
  uint64_t room = 0;  // bytes
  std::vector<ImageMessage> messages;
};

struct ImageHeader {
  uint32_t format_version = 0;       // set by the parser, ignored by the writer
  std::string producer;              // "km 0.1.0"
  std::array<uint8_t, 16> id{};      // random
  std::array<uint8_t, 16> parent{};  // id of the snapshot this process was resumed from, or zero
  std::string label, description;
  int64_t realtime_ns = 0, monotonic_ns = 0, boottime_ns = 0;  // clock readings, the guest's
  uint64_t xcr0 = 0;
  std::vector<uint32_t> cpu_features;  // CpuFeatures() in km/kvm/cpu_features.h
};

// Bytes of memory in the file. What no piece covers reads as zeros (or comes from a shared file).
struct ImageMemory {
  uint64_t address = 0;
  uint64_t size = 0;         // bytes, a multiple of the page size
  uint64_t file_offset = 0;  // where in the file; set by the layout or by the parser
};

// Private memory whose bytes are in a base.
struct ImageBaseMemory {
  uint64_t address = 0;
  uint64_t size = 0;         // bytes, a multiple of the page size
  uint64_t file_offset = 0;  // in the base
  uint32_t base = 0;         // which, in Image::bases
};

struct AddressRange {
  uint64_t start = 0, end = 0;  // guest addresses, end excluded
};

// A note that this km does not know and may ignore. It is kept when the process is written again.
struct ImageNote {
  std::string owner;
  uint32_t type = 0;
  std::vector<uint8_t> descriptor;
};

struct Image {
  ImageHeader header;
  ImageProcess process;
  std::vector<ImageThread> threads;    // the thread that asked first
  std::vector<ImageMapping> mappings;  // ascending, not overlapping
  std::vector<MappingPolicy> policies;
  std::vector<ImageMemory> memory;  // ascending, not overlapping, each within one mapping or object
  // Snapshots that have some of the memory: what the process was resumed from, and what that was
  // built on.
  std::vector<SnapshotFile> bases;
  std::vector<ImageBaseMemory> base_memory;  // like `memory`, which it does not overlap; no objects
  // Pages of private memory that the process was writing: see working_set.h. Ascending.
  std::vector<AddressRange> working_set;
  std::vector<MemoryObject> objects;  // ascending, not overlapping; their bytes are in `memory`
  std::vector<ImageSegment> segments;
  std::vector<ImageSemaphores> semaphores;
  std::vector<ImageQueue> queues;
  std::vector<FileRecord> descriptions;
  std::vector<DescriptorRecord> descriptors;
  std::vector<LockRecord> locks;
  std::vector<OwnerRecord> owners;
  std::optional<TerminalRecord> terminal;
  uint32_t given = 7;  // bit N: descriptor N comes from whoever resumes
  ImageProgram program;
  std::optional<ImageProgram> dynamic_linker;
  std::vector<ImageNote> unknown_notes;

  // Set to write the core dump of a process that this signal killed: not a snapshot, no notes of
  // ours.
  std::optional<SignalInfoBytes> fatal_signal;

  // Set by the parser, ignored by the writer: XXH3 64 of each chunk of `memory` (see checksum.h).
  std::vector<uint64_t> memory_checksums;
};

}  // namespace km

#endif  // KM_SNAPSHOT_IMAGE_H_
