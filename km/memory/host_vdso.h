// The host's own vDSO: where it lies in the monitor, and its functions.
#ifndef KM_MEMORY_HOST_VDSO_H_
#define KM_MEMORY_HOST_VDSO_H_

#include <cstdint>
#include <optional>

namespace km {

// [start, end) holds the data pages ([vvar], [vvar_vclock]) and the code ([vdso]), in that order.
struct HostVdso {
  uint64_t start = 0, code = 0, end = 0;
  // Addresses in the monitor; 0 where the host's vDSO lacks the function.
  uint64_t clock_gettime = 0, gettimeofday = 0, time = 0, getcpu = 0, clock_getres = 0;
};

// Nothing when the host has no vDSO (booted with vdso=0): the guest then makes system calls.
std::optional<HostVdso> FindHostVdso();

}  // namespace km

#endif  // KM_MEMORY_HOST_VDSO_H_
