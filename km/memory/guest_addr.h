// Addresses of the program, as a type that cannot be dereferenced.
#ifndef KM_MEMORY_GUEST_ADDR_H_
#define KM_MEMORY_GUEST_ADDR_H_

#include <sys/mman.h>

#include <compare>
#include <cstdint>

namespace km {

inline constexpr uint64_t kPageSize = 4096;
inline constexpr uint64_t kLargePageSize = uint64_t{2} << 20;

// TASK_SIZE of the kernel: numbers from here on are refused before anything is looked at. The
// window may end before (GuestMemory::end).
inline constexpr uint64_t kTaskSize = (uint64_t{1} << 47) - kPageSize;

constexpr uint64_t PageDown(uint64_t value) { return value & ~(kPageSize - 1); }
// Wraps to 0 above 2^64 - 4096: callers check the range first.
constexpr uint64_t PageUp(uint64_t value) { return PageDown(value + kPageSize - 1); }
constexpr bool PageAligned(uint64_t value) { return (value & (kPageSize - 1)) == 0; }

// What the host's mapping must allow for the program's rights: KVM reads a page before it maps it,
// and refuses one without PROT_READ. The processor itself knows no right to write or execute
// without it.
constexpr int HostProtection(int protection) {
  return protection == PROT_NONE ? PROT_NONE : protection | PROT_READ;
}

class GuestAddr {
 public:
  constexpr GuestAddr() = default;
  constexpr explicit GuestAddr(uint64_t value) : value_(value) {}
  constexpr uint64_t value() const { return value_; }
  constexpr bool null() const { return value_ == 0; }
  friend constexpr auto operator<=>(GuestAddr, GuestAddr) = default;
  friend constexpr GuestAddr operator+(GuestAddr a, uint64_t n) { return GuestAddr(a.value_ + n); }

 private:
  uint64_t value_ = 0;
};

}  // namespace km

#endif  // KM_MEMORY_GUEST_ADDR_H_
