/* Where things lie in a guest's address space. Part of the snapshot format: libc keeps pointers to
 * vDSO functions in memory that a snapshot saves, so what is fixed here is fixed for ever.
 *
 * Usable from C, C++, the assembler and linker scripts (no suffixes, no casts).
 */
#ifndef KM_LAYOUT_H_
#define KM_LAYOUT_H_

/* The program's own addresses are [0, KM_GUEST_END): 101 TiB, so that the address sanitizer's heap,
 * which is at 0x600000000000 always, has a place. What the program leaves to the monitor to place
 * lies below KM_PLACED_END: every machine and build of the monitor can resume that. */
#define KM_GUEST_END 0x650000000000
#define KM_PLACED_END 0x400000000000

/* User-accessible pages that the monitor supplies; never in a snapshot. */
#define KM_RUNTIME_BASE 0x7f0000000000
#define KM_STUB_ADDRESS 0x7f0000000000 /* R-X: system-call stub, then iretq */
#define KM_VDSO_DATA 0x7f0000001000    /* R--: struct km_vdso_data */
#define KM_VDSO_ADDRESS 0x7f0000002000 /* R-X: the vDSO image (AT_SYSINFO_EHDR) */
#define KM_VDSO_MAX_SIZE 0x4000
#define KM_FRAME_BASE 0x7f0001000000     /* R--: one page a vCPU, the frame that iretq takes */
#define KM_HOST_VDSO_BASE 0x7f0002000000 /* R-X: the host's own [vvar] and [vdso] */
#define KM_RUNTIME_END 0x7f0003000000

/* The stub: `out %al, $KM_EXIT_PORT` and then, at KM_STUB_IRET, `iretq`. */
#define KM_EXIT_PORT 0x7e
#define KM_STUB_IRET 0x7f0000000002

/* Supervisor-only pages. */
#define KM_KERNEL_BASE 0xffffff8000000000
#define KM_GATES_ADDRESS 0xffffff8000000000 /* R-X: one gate a vector, KM_GATE_SIZE bytes each */
#define KM_GATE_SIZE 16
#define KM_GATE_COUNT 32
#define KM_IDT_ADDRESS 0xffffff8000001000
#define KM_GDT_ADDRESS 0xffffff8000002000
#define KM_VCPU_PAGES_BASE 0xffffff8000100000 /* RW-: one page a vCPU: TSS, then the IST stack */

/* Entry points of the vDSO, as offsets from KM_VDSO_ADDRESS. Never moved. */
#define KM_VDSO_CLOCK_GETTIME 0x1000
#define KM_VDSO_GETTIMEOFDAY 0x1100
#define KM_VDSO_TIME 0x1180
#define KM_VDSO_GETCPU 0x1200
#define KM_VDSO_CLOCK_GETRES 0x1280

#ifndef __ASSEMBLER__
#ifndef KM_LINKER_SCRIPT
#include <stdint.h>

/* At KM_VDSO_DATA; written by the monitor. Addresses are guest addresses of the host vDSO's
 * functions, 0 where the host has none (the entry point then makes the system call). */
struct km_vdso_data {
  uint64_t host_clock_gettime;
  uint64_t host_gettimeofday;
  uint64_t host_time;
  uint64_t host_getcpu;
  uint64_t host_clock_getres;
  int64_t monotonic_offset_ns; /* added to CLOCK_MONOTONIC, _RAW and _COARSE; may be negative */
  int64_t boottime_offset_ns;  /* added to CLOCK_BOOTTIME */
};
#endif
#endif

#endif /* KM_LAYOUT_H_ */
