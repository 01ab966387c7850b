#include "km/memory/guest_memory.h"

#include <km/generation.h>
#include <km/runtime_blobs.h>
#include <sys/mman.h>
#include <sys/random.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <optional>

#include "km/base/status.h"
#include "km/memory/guarded_copy.h"
#include "km/memory/host_vdso.h"

namespace km {
namespace {

constexpr uint64_t kWindowAlignment = uint64_t{1} << 30;
constexpr uint64_t kMaxChunk = uint64_t{64} << 20;

// Descriptors of a 64-bit Linux GDT, so that selectors loaded from it are what is already in place.
// But for the user's 32-bit code: from there AMD's `syscall` goes to ring 0 at MSR_CSTAR, where
// nothing is.
constexpr uint64_t kGdt[] = {
    0, 0, 0x00af9b000000ffff, 0x00cf93000000ffff, 0, 0x00cff3000000ffff, 0x00affb000000ffff};
constexpr uint64_t kKernelCode = 0x10;

struct IdtGate {
  uint16_t offset_low, selector, attributes, offset_middle;
  uint32_t offset_high, reserved;
};
static_assert(sizeof(IdtGate) == 16);

// Interrupt gates on IST 1; the program itself may raise #BP and #OF.
IdtGate Gate(int vector) {
  uint64_t offset = KM_GATES_ADDRESS + static_cast<uint64_t>(vector) * KM_GATE_SIZE;
  uint16_t dpl = vector == 3 || vector == 4 ? 3 : 0;
  IdtGate gate = {};
  gate.offset_low = static_cast<uint16_t>(offset);
  gate.selector = kKernelCode;
  gate.attributes = static_cast<uint16_t>(0x8e01 | (dpl << 13));
  gate.offset_middle = static_cast<uint16_t>(offset >> 16);
  gate.offset_high = static_cast<uint32_t>(offset >> 32);
  return gate;
}

}  // namespace

absl::StatusOr<std::unique_ptr<GuestMemory>> GuestMemory::Create(Vm* vm) {
  auto memory = std::unique_ptr<GuestMemory>(new GuestMemory);
  memory->vm_ = vm;
  KM_RETURN_IF_ERROR(memory->ReserveWindow());
  KM_RETURN_IF_ERROR(memory->arena_.Initialize(vm, 0));
  KM_RETURN_IF_ERROR(memory->tables_.Initialize(&memory->arena_));
  KM_RETURN_IF_ERROR(memory->MapRuntime());
  KM_RETURN_IF_ERROR(memory->MapHostVdso());
  return memory;
}

absl::Status GuestMemory::ReserveWindow() {
  for (uint64_t end : {uint64_t{KM_GUEST_END}, uint64_t{KM_PLACED_END}}) {
    uint64_t size = end + kWindowAlignment;
    reservation_ = OwnedMapping(
        mmap(nullptr, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0), size);
    if (!reservation_.valid()) continue;
    auto base = reinterpret_cast<uint64_t>(reservation_.data());
    window_ = reservation_.data() + (-base & (kWindowAlignment - 1));
    end_ = end;
    return absl::OkStatus();
  }
  return ErrnoStatus(errno,
                     "cannot reserve 64 TiB of addresses for the program (is a limit on virtual "
                     "memory set? see ulimit -v)");
}

absl::StatusOr<std::byte*> GuestMemory::MapNewPage(uint64_t va, int rights,
                                                   PageTables::Owner owner) {
  KM_ASSIGN_OR_RETURN(uint64_t gpa, arena_.Allocate());
  KM_RETURN_IF_ERROR(tables_.MapPage(va, gpa, rights, owner));
  return arena_.Host(gpa);
}

absl::Status GuestMemory::MapBlob(uint64_t va, const unsigned char* bytes, size_t size,
                                  PageTables::Owner owner) {
  for (size_t done = 0; done < size; done += kPageSize) {
    KM_ASSIGN_OR_RETURN(std::byte * page, MapNewPage(va + done, PROT_READ | PROT_EXEC, owner));
    memcpy(page, bytes + done, std::min<size_t>(kPageSize, size - done));
  }
  return absl::OkStatus();
}

absl::Status GuestMemory::MapRuntime() {
  using Owner = PageTables::Owner;
  KM_RETURN_IF_ERROR(MapBlob(KM_STUB_ADDRESS, km_runtime_stub, kPageSize, Owner::kUserRuntime));
  KM_RETURN_IF_ERROR(MapBlob(KM_VDSO_ADDRESS, km_runtime_vdso,
                             static_cast<size_t>(km_runtime_vdso_end - km_runtime_vdso),
                             Owner::kUserRuntime));
  KM_RETURN_IF_ERROR(MapBlob(KM_GATES_ADDRESS, km_runtime_gates, kPageSize, Owner::kKernel));
  KM_ASSIGN_OR_RETURN(std::byte * data, MapNewPage(KM_VDSO_DATA, PROT_READ, Owner::kUserRuntime));
  vdso_data_ = reinterpret_cast<km_vdso_data*>(data);
  static_assert(sizeof(km_vdso_data) <= KM_GENERATION - KM_VDSO_DATA);
  // Each monitor has another one, so each resume.
  if (getrandom(data + (KM_GENERATION - KM_VDSO_DATA), KM_GENERATION_SIZE, 0) !=
      KM_GENERATION_SIZE) {
    return ErrnoStatus(errno, "cannot draw random numbers");
  }
  KM_ASSIGN_OR_RETURN(std::byte * idt,
                      MapNewPage(KM_IDT_ADDRESS, PROT_READ | PROT_WRITE, Owner::kKernel));
  for (int vector = 0; vector < KM_GATE_COUNT; ++vector) {
    reinterpret_cast<IdtGate*>(idt)[vector] = Gate(vector);
  }
  KM_ASSIGN_OR_RETURN(std::byte * gdt,
                      MapNewPage(KM_GDT_ADDRESS, PROT_READ | PROT_WRITE, Owner::kKernel));
  memcpy(gdt, kGdt, sizeof(kGdt));
  return absl::OkStatus();
}

// The host's data and code pages, in place: the guest's clock is then exactly the host's.
absl::Status GuestMemory::MapHostVdso() {
  std::optional<HostVdso> vdso = FindHostVdso();
  if (!vdso.has_value()) return absl::OkStatus();
  uint64_t size = vdso->end - vdso->start;
  uint64_t gpa = next_gpa_;
  KM_RETURN_IF_ERROR(
      vm_->SetSlot(next_slot_++, gpa, size, reinterpret_cast<void*>(vdso->start), true));
  next_gpa_ += kLargePageSize;
  for (uint64_t offset = 0; offset < size; offset += kPageSize) {
    int rights = vdso->start + offset >= vdso->code ? PROT_READ | PROT_EXEC : PROT_READ;
    KM_RETURN_IF_ERROR(tables_.MapPage(KM_HOST_VDSO_BASE + offset, gpa + offset, rights,
                                       PageTables::Owner::kUserRuntime));
  }
  auto guest = [&](uint64_t address) {
    return address == 0 ? 0 : KM_HOST_VDSO_BASE + (address - vdso->start);
  };
  vdso_data_->host_clock_gettime = guest(vdso->clock_gettime);
  vdso_data_->host_gettimeofday = guest(vdso->gettimeofday);
  vdso_data_->host_time = guest(vdso->time);
  vdso_data_->host_getcpu = guest(vdso->getcpu);
  vdso_data_->host_clock_getres = guest(vdso->clock_getres);
  return absl::OkStatus();
}

absl::StatusOr<VcpuPages> GuestMemory::MakeVcpuPages(int index) {
  VcpuPages pages;
  pages.index = index;
  pages.cr3 = tables_.root();
  uint64_t offset = kPageSize * static_cast<uint64_t>(index);
  KM_ASSIGN_OR_RETURN(
      pages.kernel_page,
      MapNewPage(KM_VCPU_PAGES_BASE + offset, PROT_READ | PROT_WRITE, PageTables::Owner::kKernel));
  KM_ASSIGN_OR_RETURN(pages.frame_page, MapNewPage(KM_FRAME_BASE + offset, PROT_READ,
                                                   PageTables::Owner::kUserRuntime));
  return pages;
}

bool GuestMemory::RangeFree(uint64_t start, uint64_t end) const {
  auto it = chunks_.lower_bound(start);
  return it == chunks_.end() || it->first >= end;
}

absl::StatusOr<uint64_t> GuestMemory::MakeChunk(uint64_t va, uint64_t size, uint64_t* end) {
  while (size > kLargePageSize && !RangeFree(va & ~(size - 1), (va & ~(size - 1)) + size)) {
    size /= 2;
  }
  uint64_t start = va & ~(size - 1);
  if (next_slot_ >= vm_->max_slots()) {
    return absl::ResourceExhaustedError("the machine's memory slots are used up");
  }
  uint64_t gpa = next_gpa_;
  KM_RETURN_IF_ERROR(vm_->SetSlot(next_slot_, gpa, size, window_ + start, false));
  ++next_slot_;
  next_gpa_ += size;
  chunk_bytes_ += size;
  chunks_[start] = {start + size, gpa};
  *end = start + size;
  return gpa + (va - start);
}

absl::StatusOr<uint64_t> GuestMemory::PhysicalAddress(uint64_t va, uint64_t room_start,
                                                      uint64_t room_end, uint64_t* end) {
  auto it = chunks_.upper_bound(va);
  if (it != chunks_.begin() && va < std::prev(it)->second.end) {
    --it;
    *end = it->second.end;
    return it->second.gpa + (va - it->first);
  }
  // As much as was handed out so far, so that slots stay few however the program grows; at once
  // more where a large mapping has room for it.
  uint64_t size = std::clamp(std::bit_floor(chunk_bytes_ | 1), kLargePageSize, kMaxChunk);
  while (size < kMaxChunk && (va & ~(2 * size - 1)) >= room_start &&
         (va & ~(2 * size - 1)) + 2 * size <= room_end) {
    size *= 2;
  }
  return MakeChunk(va, size, end);
}

// No bytes at all can be copied from anywhere, as in the kernel.
int GuestMemory::CopyIn(void* to, GuestAddr from, uint64_t size) const {
  if (size == 0) return 0;
  const std::byte* source = Span(from, size);
  return source != nullptr && GuardedCopy(to, source, size) ? 0 : -EFAULT;
}

int GuestMemory::CopyOut(GuestAddr to, const void* from, uint64_t size) const {
  if (size == 0) return 0;
  std::byte* target = Span(to, size);
  return target != nullptr && GuardedCopy(target, from, size) ? 0 : -EFAULT;
}

int GuestMemory::CopyInString(std::string* to, GuestAddr from, size_t limit) const {
  to->clear();
  char piece[256];
  while (to->size() < limit) {
    // Up to a 256-byte boundary: never over the end of a page that the string ends in.
    uint64_t at = from.value() + to->size();
    size_t size = std::min<size_t>(sizeof(piece) - (at & (sizeof(piece) - 1)), limit - to->size());
    if (int error = CopyIn(piece, GuestAddr(at), size); error != 0) return error;
    size_t length = strnlen(piece, size);
    to->append(piece, length);
    if (length < size) return 0;
  }
  return -ENAMETOOLONG;
}

}  // namespace km
