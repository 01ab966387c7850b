/* Hypercalls: what a guest program can ask of the monitor that Linux has no system call for.
 *
 * A hypercall is a `syscall` instruction with a number outside Linux's table, so the same binary
 * run natively gets -ENOSYS and not a crash. Plain C and C++; includes nothing of the monitor's.
 */
#ifndef KM_HYPERCALL_H_
#define KM_HYPERCALL_H_

#include <km/generation.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* "KM" followed by the hypercall's own number. Bit 30 stays clear: it is x32's. */
#define KM_HC_BASE 0x4b4d00

/* Numbers are never reused. */
enum km_hypercall {
  HC_snapshot = KM_HC_BASE + 0, /* arg1 label, arg2 description (strings or NULL), arg3 flags */
  HC_present = KM_HC_BASE + 1,  /* returns KM_ABI_VERSION */
  /* Since version 2. The generation id, to the KM_GENERATION_SIZE bytes at arg1: random, another
   * one in each process that was resumed from a snapshot. */
  HC_generation = KM_HC_BASE + 2,
  /* Since version 2. A descriptor that is readable once this process was resumed: an eventfd that
   * each resume adds 1 to. arg1: flags, EFD_CLOEXEC and EFD_NONBLOCK. */
  HC_generation_fd = KM_HC_BASE + 3,
};

#define KM_ABI_VERSION 2

/* Flags of HC_snapshot. Without KM_SNAPSHOT_CONTINUE the program ends, as in KM. */
#define KM_SNAPSHOT_CONTINUE 1u

/* Longest label and description, with their NUL; longer ones get -EINVAL. */
#define KM_SNAPSHOT_LABEL_MAX 256
#define KM_SNAPSHOT_DESCRIPTION_MAX 4096

typedef struct km_hc_args {
  uint64_t hc_ret; /* OUT: the result, a negative errno on failure */
  uint64_t arg1;   /* IN */
  uint64_t arg2;   /* IN */
  uint64_t arg3;   /* IN */
  uint64_t arg4;   /* IN, 0 */
  uint64_t arg5;   /* IN, 0 */
  uint64_t arg6;   /* IN, 0 */
} km_hc_args_t;

/* Makes the hypercall; the result is returned and stored in args->hc_ret.
 *
 * HC_snapshot returns 0 in the process that goes on, 1 in one resumed from the file, and a negative
 * errno when no snapshot was taken (-ENOSYS when this is not km); the program is then unharmed.
 */
static inline long km_hcall(int number, km_hc_args_t* args) {
  register uint64_t arg4 __asm__("r10") = args->arg4;
  register uint64_t arg5 __asm__("r8") = args->arg5;
  register uint64_t arg6 __asm__("r9") = args->arg6;
  long result;
  __asm__ volatile("syscall"
                   : "=a"(result)
                   : "a"((long)number), "D"(args->arg1), "S"(args->arg2), "d"(args->arg3),
                     "r"(arg4), "r"(arg5), "r"(arg6)
                   : "rcx", "r11", "memory");
  args->hc_ret = (uint64_t)result;
  return result;
}

#ifdef __cplusplus
}
#endif

#endif /* KM_HYPERCALL_H_ */
