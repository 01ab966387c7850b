#include <km/hypercall.h>
#include <sys/syscall.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <iterator>

#include "absl/strings/str_cat.h"
#include "km/syscalls/call.h"
#include "km/syscalls/handlers.h"

namespace km {
namespace {

using enum Support;

constexpr SyscallRow kRows[] = {
#define KM_SYSCALL(number, name, handler, support, arguments, caveat) \
  {number, #name, handler, support, arguments, caveat},
#include "km/syscalls/table.def"
#undef KM_SYSCALL
};

constexpr bool Ascending() {
  for (size_t i = 1; i < std::size(kRows); ++i) {
    if (kRows[i - 1].number >= kRows[i].number) return false;
  }
  return true;
}
static_assert(Ascending());

// Every row against the host's headers. Debian 12's end at 450 and lack what filled a gap since;
// the hypercalls are not Linux's.
#define SYS_uretprobe 335
#define SYS_cachestat 451
#define SYS_fchmodat2 452
#define SYS_map_shadow_stack 453
#define SYS_futex_wake 454
#define SYS_futex_wait 455
#define SYS_futex_requeue 456
#define SYS_statmount 457
#define SYS_listmount 458
#define SYS_lsm_get_self_attr 459
#define SYS_lsm_set_self_attr 460
#define SYS_lsm_list_modules 461
#define SYS_mseal 462
#define SYS_HC_snapshot HC_snapshot
#define SYS_HC_present HC_present
#define SYS_HC_generation HC_generation
#define SYS_HC_generation_fd HC_generation_fd
#define KM_SYSCALL(number, name, handler, support, arguments, caveat) \
  static_assert(SYS_##name == number);
#include "km/syscalls/table.def"
#undef KM_SYSCALL

// Linux numbers are dense up to here; then there is a gap up to the hypercalls.
constexpr size_t kDense = 512;

constexpr std::array<uint16_t, kDense> MakeIndex() {
  std::array<uint16_t, kDense> index = {};
  for (size_t i = 0; i < std::size(kRows); ++i) {
    if (kRows[i].number < kDense) index[kRows[i].number] = static_cast<uint16_t>(i + 1);
  }
  return index;
}
constexpr std::array<uint16_t, kDense> kIndex = MakeIndex();

const char* SupportName(Support support) {
  switch (support) {
    case kFull:
      return "full";
    case kPartial:
      return "partial";
    case kRefused:
      return "refused";
    case kLater:
      return "later";
  }
  return "";
}

}  // namespace

const SyscallRow* FindSyscall(uint64_t number) {
  if (number < kDense) return kIndex[number] != 0 ? &kRows[kIndex[number] - 1] : nullptr;
  auto row = std::find_if(std::begin(kRows), std::end(kRows),
                          [number](const SyscallRow& r) { return r.number == number; });
  return row != std::end(kRows) ? row : nullptr;
}

size_t SyscallCount() { return std::size(kRows); }
const SyscallRow& SyscallAt(size_t index) { return kRows[index]; }

std::string SyscallsDocument() {
  std::array<int, 4> counts = {};
  std::string rows;
  for (const SyscallRow& row : kRows) {
    ++counts[static_cast<size_t>(row.support)];
    absl::StrAppend(&rows, "| ", row.number, " | ", row.name, " | ", SupportName(row.support),
                    " | ", row.caveat, " |\n");
  }
  return absl::StrCat(
      "# System calls\n\nGenerated from `km/syscalls/table.def` by `make docs`; do not edit. A "
      "call "
      "without support returns\nENOSYS and is counted (`km --stats`).\n\n",
      counts[0], " full, ", counts[1], " partial, ", counts[2], " refused, ", counts[3],
      " later.\n\n| number | name | support | caveat |\n|---|---|---|---|\n", rows);
}

SyscallResult Unsupported(Call&) { return -ENOSYS; }
SyscallResult NotPermitted(Call&) { return -EPERM; }

uint64_t Call::Host(uint64_t address, uint64_t size) const {
  if (address == 0) return 0;
  if (std::byte* host = memory().Span(GuestAddr(address), size); host != nullptr) {
    return reinterpret_cast<uint64_t>(host);
  }
  // What natively reaches beyond all of the program's addresses is refused before anything else is
  // looked at; what merely is not mapped, when it is touched. The host tells these apart, too: by
  // an address of its own half, and by one behind the window, where nothing is mapped.
  constexpr uint64_t kKernelHalf = uint64_t{1} << 63;
  if (address >= kTaskSize) return address | kKernelHalf;
  uint64_t offset = address % kPageSize;
  if (size > kTaskSize - address) return kKernelHalf | offset;
  return reinterpret_cast<uint64_t>(memory().window() + memory().end() + offset);
}

}  // namespace km
