/* The page at KM_STUB_ADDRESS: where `syscall` leads (LSTAR), and the way back.
 *
 * `out` leaves the guest with every register in place; the value of %al does not matter. The monitor
 * comes back at the `iretq`, with RSP at the frame it wrote. Which ring this runs in differs between
 * hosts; both instructions work in ring 3 and in ring 0.
 */
#include <km/layout.h>

  .text
  .globl _start
_start:
  out %al, $KM_EXIT_PORT
  iretq

  /* A stray jump here is #GP in ring 3, thus SIGSEGV for the program, as in an unmapped page. */
  .fill 4096 - (. - _start), 1, 0xf4

  .if KM_STUB_IRET - KM_STUB_ADDRESS - 2
  .error "KM_STUB_IRET is not behind the out instruction"
  .endif
