// The program's mappings, with Linux's semantics: mmap(2), munmap(2), mprotect(2), mremap(2),
// brk(2), madvise(2), and what a page fault means.
#ifndef KM_MEMORY_ADDRESS_SPACE_H_
#define KM_MEMORY_ADDRESS_SPACE_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/btree_map.h"
#include "absl/container/btree_set.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "km/files/mapped_file.h"
#include "km/memory/guest_memory.h"

namespace km {

struct Mapping {
  uint64_t start = 0, end = 0;
  int protection = 0;  // PROT_*
  int flags = 0;       // MAP_SHARED or MAP_PRIVATE, MAP_ANONYMOUS, MAP_GROWSDOWN, MAP_NORESERVE
  std::shared_ptr<const MappedFile> file;  // null: anonymous
  uint64_t offset = 0;                     // in the file, of `start`
  std::string name;                        // "[heap]", "[stack]" or empty
  // Anonymous to the program, but the host maps it from the snapshot file: what the program
  // discards must come back as zeros, not as the file's bytes.
  bool from_snapshot = false;
  // With from_snapshot, where the file that the program mapped ended: beyond it is SIGBUS.
  uint64_t snapshot_file_end = 0;
  // With from_snapshot: the file that the host maps, of those that the process was resumed from (0:
  // the snapshot itself), and where `start` is in it. -1: none, or the program's own file.
  int source = -1;
  uint64_t source_offset = 0;
  uint32_t advice = 0;  // kAdvice*
};

// What madvise(2), mlock(2) and mseal(2) said of a mapping. The values are part of the snapshot
// format (KM_MAPPINGS_ADVICE). The first row is the monitor's to act upon, the second the host's.
inline constexpr uint32_t kAdviceDontFork = 1 << 0;
inline constexpr uint32_t kAdviceWipeOnFork = 1 << 1;
inline constexpr uint32_t kAdviceDontDump = 1 << 2;
inline constexpr uint32_t kAdviceSealed = 1 << 3;
inline constexpr uint32_t kAdviceDroppable = 1 << 4;  // MAP_DROPPABLE

inline constexpr uint32_t kAdviceSequential = 1 << 8;
inline constexpr uint32_t kAdviceRandom = 1 << 9;
inline constexpr uint32_t kAdviceHuge = 1 << 10;
inline constexpr uint32_t kAdviceNoHuge = 1 << 11;
inline constexpr uint32_t kAdviceMergeable = 1 << 12;
inline constexpr uint32_t kAdviceLocked = 1 << 13;
inline constexpr uint32_t kAdviceLockOnFault = 1 << 14;  // with kAdviceLocked

inline constexpr uint32_t kAdviceAll = 0x7f1f;

// Takes away what lies below `start`, which is within the mapping.
inline void CutBelow(uint64_t start, Mapping* mapping) {
  mapping->offset += start - mapping->start;
  mapping->source_offset += start - mapping->start;
  mapping->start = start;
}

// Private memory that no file is behind. Shared anonymous memory has a file without a name, as in
// the kernel.
inline bool Anonymous(const Mapping& mapping) {
  return (mapping.flags & MAP_ANONYMOUS) && mapping.file == nullptr;
}

// Memory of a System V segment: file->inode is the program's id of it.
inline bool IsSysv(const Mapping& mapping) {
  return mapping.file != nullptr && !mapping.file->fd.valid();
}

// What mmap(2) is asked for. `file` is needed unless MAP_ANONYMOUS; `host_fd` is what the host
// maps.
struct MapRequest {
  uint64_t address = 0;
  uint64_t length = 0;
  int protection = 0;
  int flags = 0;  // MAP_*, as the program gave them
  int host_fd = -1;
  uint64_t offset = 0;
  std::shared_ptr<const MappedFile> file;
  std::string name;
  uint32_t advice = 0;  // kAdvice*, of a mapping that is extended or put back
};

// The outcome of a page fault.
struct FaultOutcome {
  int signal = 0;  // 0: resolved, run on; else SIGSEGV or SIGBUS
  int code = 0;    // si_code
};

// Thread-safe. All addresses are the program's. Calls return a value or a negative errno.
//
// Order of every change (docs/memory.md): a downgrade changes the guest's entries first and the
// host's mapping second; an upgrade the other way round.
class AddressSpace {
 public:
  // Where things lie; chosen by the loader, or by the snapshot.
  struct Layout {
    uint64_t mmap_base = 0;  // mappings without an address go below it
    uint64_t brk_start = 0, brk_end = 0;
    uint64_t stack_end = 0;
    uint64_t arguments_start = 0, arguments_end = 0;
    uint64_t environment_start = 0, environment_end = 0;
    int lock_future = 0;  // MCL_FUTURE and MCL_ONFAULT, of mlockall(2)
  };

  // Of setrlimit(2), in bytes: RLIMIT_AS, RLIMIT_DATA, RLIMIT_STACK.
  struct Limits {
    uint64_t total = ~uint64_t{0}, data = ~uint64_t{0}, stack = ~uint64_t{0};
  };

  AddressSpace() = default;
  // Once, before all else.
  void SetMemory(GuestMemory* memory) { memory_ = memory; }

  Layout layout() const ABSL_LOCKS_EXCLUDED(mutex_);
  void SetLayout(const Layout& layout) ABSL_LOCKS_EXCLUDED(mutex_);

  void SetLimits(const Limits& limits) ABSL_LOCKS_EXCLUDED(mutex_);

  int64_t Map(const MapRequest& request) ABSL_LOCKS_EXCLUDED(mutex_);
  int64_t Unmap(uint64_t address, uint64_t length) ABSL_LOCKS_EXCLUDED(mutex_);
  int64_t Protect(uint64_t address, uint64_t length, int protection) ABSL_LOCKS_EXCLUDED(mutex_);
  int64_t Remap(uint64_t address, uint64_t old_length, uint64_t new_length, int flags,
                uint64_t new_address) ABSL_LOCKS_EXCLUDED(mutex_);
  // shmat(2) of the host's segment `id`, `length` bytes long: at `address`, 0 for anywhere; `file`
  // has a name and no descriptor. shmdt(2).
  int64_t Attach(int id, uint64_t length, uint64_t address, int flags,
                 std::shared_ptr<const MappedFile> file) ABSL_LOCKS_EXCLUDED(mutex_);
  // After a resume: the part of the segment, `length` bytes long, from mapping.offset on becomes
  // the mapping, which has a file as above. 0 or a negative errno.
  int64_t AttachPiece(int id, uint64_t length, Mapping mapping) ABSL_LOCKS_EXCLUDED(mutex_);
  int64_t Detach(uint64_t address) ABSL_LOCKS_EXCLUDED(mutex_);
  int64_t Brk(uint64_t end) ABSL_LOCKS_EXCLUDED(mutex_);
  int64_t Advise(uint64_t address, uint64_t length, int advice) ABSL_LOCKS_EXCLUDED(mutex_);
  // mlock2(2), munlock(2); mlockall(2) with MCL_* (`unlimited`: RLIMIT_MEMLOCK does not bind),
  // munlockall(2).
  int64_t Lock(uint64_t address, uint64_t length, bool on_fault) ABSL_LOCKS_EXCLUDED(mutex_);
  int64_t Unlock(uint64_t address, uint64_t length) ABSL_LOCKS_EXCLUDED(mutex_);
  int64_t LockAll(int flags, uint64_t limit) ABSL_LOCKS_EXCLUDED(mutex_);
  int64_t UnlockAll() ABSL_LOCKS_EXCLUDED(mutex_);
  int64_t RemapFilePages(uint64_t start, uint64_t length, uint64_t page_offset, int flags)
      ABSL_LOCKS_EXCLUDED(mutex_);
  int64_t Seal(uint64_t address, uint64_t length) ABSL_LOCKS_EXCLUDED(mutex_);  // mseal(2)
  // PR_SET_VMA_ANON_NAME of prctl(2); an empty name takes it away.
  int64_t SetName(uint64_t address, uint64_t length, const std::string& name)
      ABSL_LOCKS_EXCLUDED(mutex_);

  // A #PF at `address` with the processor's error code.
  FaultOutcome Fault(uint64_t address, uint64_t error_code) ABSL_LOCKS_EXCLUDED(mutex_);
  // Lets a mapping that grows down reach `address`, as it does when the kernel itself writes there.
  // False: there is none, or it may not.
  bool Reach(uint64_t address) ABSL_LOCKS_EXCLUDED(mutex_);
  // The host refused a page: takes back the entries beyond the ends of files, so that the fault
  // comes again with its address.
  void HostFault() ABSL_LOCKS_EXCLUDED(mutex_);

  // Whether every page of [address, address + length) is mapped. True for no pages at all.
  bool IsMapped(uint64_t address, uint64_t length) const ABSL_LOCKS_EXCLUDED(mutex_);

  // The mapped pieces of [start, end), ascending, neighbours joined: [first, second).
  std::vector<std::pair<uint64_t, uint64_t>> MappedPieces(uint64_t start, uint64_t end) const
      ABSL_LOCKS_EXCLUDED(mutex_);

  // Where the file behind the mapping ends, if before the mapping does: beyond it is SIGBUS.
  static uint64_t ReadableEnd(const Mapping& mapping);

  // A copy of all mappings, ascending.
  std::vector<Mapping> Mappings() const ABSL_LOCKS_EXCLUDED(mutex_);
  // Records a mapping that the host window already holds (a restore), and makes a small one
  // present. Not overlapping others. [room_start, room_end): all that is the program's of which it
  // is a piece.
  void Adopt(Mapping mapping, uint64_t room_start, uint64_t room_end) ABSL_LOCKS_EXCLUDED(mutex_);
  // The text of /proc/PID/maps.
  std::string MapsText() const ABSL_LOCKS_EXCLUDED(mutex_);

  // Replaces the `syscall` at `address` by an `out` to the exit port, which costs half as many
  // exits where `syscall` is one of its own; only in private code that the program cannot write to.
  // False: it cannot be done there.
  bool PatchSyscall(uint64_t address) ABSL_LOCKS_EXCLUDED(mutex_);
  // Whether an `out` at `address` stands for a `syscall`.
  bool IsPatched(uint64_t address) const ABSL_LOCKS_EXCLUDED(mutex_);
  // Whether a `syscall` stands there now: one that another thread had put back may have been an
  // `out` when it was executed.
  bool IsSyscall(uint64_t address) const;
  // Puts all of them back. While no thread of the program runs.
  void UnpatchAll() ABSL_LOCKS_EXCLUDED(mutex_);
  // After a protection fault at `address`: puts all back and replaces no more, where the fault was
  // the processor's refusal of such an `out`. Whether the instruction there is to be run again.
  bool TakeRefusedPatchesBack(uint64_t address) ABSL_LOCKS_EXCLUDED(mutex_);

  absl::StatusOr<VcpuPages> MakeVcpuPages(int index) ABSL_LOCKS_EXCLUDED(mutex_);

  GuestMemory& memory() { return *memory_; }

 private:
  using Tree = absl::btree_map<uint64_t, Mapping>;  // by start

  uint64_t FindGap(uint64_t length, uint64_t alignment, uint64_t below) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  uint64_t FindGapBelowBase(uint64_t length, uint64_t alignment)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  uint64_t ChooseAddress(const MapRequest& request) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  Tree::iterator FindMapping(uint64_t address) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool RangeFree(uint64_t start, uint64_t end) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool RangeMapped(uint64_t start, uint64_t end) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void SplitAt(uint64_t address) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Whether the host's limit on the number of mappings leaves room for the pieces that SplitAt
  // makes at both ends: for those that the host's kernel, which keeps count itself, does not see.
  bool MaySplit(uint64_t start, uint64_t end) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Insert(Mapping mapping) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Erase(uint64_t start, uint64_t end) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Adds to the sums that RLIMIT_AS and RLIMIT_DATA bound; `bytes` wraps to subtract.
  void Count(const Mapping& mapping, uint64_t bytes) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool MayGrow(uint64_t bytes, uint64_t data_bytes) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  uint64_t MappedBytes(uint64_t start, uint64_t end) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool AnySealed(uint64_t start, uint64_t end) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Takes and gives kAdvice* bits, in what is mapped of [start, end).
  void Mark(uint64_t start, uint64_t end, uint32_t take, uint32_t give)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // each(mapping, from, to) for the parts of [start, end) that are mapped, in order, until one
  // returns a negative errno. -ENOMEM in the end when something is not mapped.
  int64_t ForEachPiece(uint64_t start, uint64_t end, bool stop_at_hole,
                       absl::FunctionRef<int64_t(const Mapping&, uint64_t, uint64_t)> each)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  int64_t SetNameOfPiece(const Mapping& mapping, uint64_t start, uint64_t end,
                         const std::string& name) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  int64_t AdviseOne(const Mapping& mapping, uint64_t start, uint64_t end, int advice)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  uint32_t FutureAdvice() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void AdviseHost(uint64_t start, uint64_t end, uint32_t advice);
  void UnlockInHost(const Mapping& mapping, uint64_t start, uint64_t end);
  int64_t ValidMapping(const MapRequest& request, uint64_t* length) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  int64_t CheckRemap(uint64_t address, uint64_t old_length, uint64_t new_length, int flags,
                     uint64_t new_address) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  int64_t MapLocked(MapRequest request) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  int64_t PlaceLocked(const MapRequest& request, uint64_t start, uint64_t length)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void PrepareForWrites(const MapRequest& request, uint64_t start) ABSL_LOCKS_EXCLUDED(mutex_);
  // `grown`: what was mapped for it, if anything.
  int64_t BrkLocked(uint64_t end, MapRequest* grown) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  int64_t UnmapLocked(uint64_t start, uint64_t end) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  int64_t Grow(uint64_t start, uint64_t old_end, uint64_t new_end, bool moved)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  int64_t GrowInHost(const Mapping& mapping, uint64_t start, uint64_t new_end)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool OneMapping(uint64_t start, uint64_t end) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool Reserve(uint64_t start, uint64_t end);  // false, with errno, when the host cannot
  void ReserveAgain(uint64_t start, uint64_t end) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  int64_t Move(uint64_t from, uint64_t to, uint64_t length, bool keep)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  int64_t Alias(uint64_t from, uint64_t length, uint64_t to) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  int64_t Discard(uint64_t start, uint64_t end, int advice) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  int64_t ProtectOne(const Mapping& mapping, uint64_t start, uint64_t end, int protection)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void PutSyscallsBack(uint64_t start, uint64_t end) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool ReplaceCode(uint64_t address, uint16_t old_code, uint16_t new_code)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool ValidRange(uint64_t start, uint64_t length) const;
  static void Must(const absl::Status& status);
  bool HintFree(uint64_t start, uint64_t length) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  static void MakeShared(uint64_t length, MapRequest* request);
  // What extends the mapping: the same kind of memory.
  static MapRequest MoreOf(const Mapping& mapping);
  bool GrowDown(uint64_t address) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Makes [start, end) of the mapping present, as far as its file reaches. False (and a message)
  // when the machine has no more room.
  bool FillAround(const Mapping& mapping, uint64_t start, uint64_t end)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return FillWithin(mapping, start, end, mapping.start, mapping.end);
  }
  // The same; [room_start, room_end) is the program's, and may be given to the machine at once.
  bool FillWithin(const Mapping& mapping, uint64_t start, uint64_t end, uint64_t room_start,
                  uint64_t room_end) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  static constexpr uint64_t kLowestAddress = 0x10000;  // vm.mmap_min_addr
  // Mappings up to this size are made present at once: cheaper than one page fault.
  static constexpr uint64_t kEagerFill = uint64_t{16} << 20;

  mutable absl::Mutex mutex_;
  std::atomic<uint64_t> ahead_ = 0;  // bytes of small mappings; see PrepareForWrites
  GuestMemory* memory_ = nullptr;
  Tree mappings_ ABSL_GUARDED_BY(mutex_);
  Layout layout_ ABSL_GUARDED_BY(mutex_);
  absl::btree_set<uint64_t> patched_ ABSL_GUARDED_BY(mutex_);  // see PatchSyscall
  bool patches_are_refused_ ABSL_GUARDED_BY(mutex_) = false;
  Limits limits_ ABSL_GUARDED_BY(mutex_);
  uint64_t total_ ABSL_GUARDED_BY(mutex_) = 0, data_ ABSL_GUARDED_BY(mutex_) = 0;  // bytes
  // Between searched_above_ and mmap_base there is no gap of searched_length_ bytes or more: a
  // search need not look there again.
  uint64_t searched_above_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t searched_length_ ABSL_GUARDED_BY(mutex_) = ~uint64_t{0};
};

}  // namespace km

#endif  // KM_MEMORY_ADDRESS_SPACE_H_
