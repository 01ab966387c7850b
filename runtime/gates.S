/* The page at KM_GATES_ADDRESS: one gate an exception vector, where the IDT leads.
 *
 * A gate only leaves the guest. Its number follows from RIP, which stands at the `out` or behind it,
 * but always within the gate; the frame the CPU pushed tells the rest. The monitor never comes back
 * here: it goes on at the stub's `iretq`. Running on is a bug of the monitor: `ud2` makes it loud.
 */
#include <km/layout.h>

  .text
  .globl _start
_start:
  .rept KM_GATE_COUNT
0:
  out %al, $KM_EXIT_PORT
  .fill (KM_GATE_SIZE - (. - 0b)) / 2, 2, 0x0b0f /* ud2 */
  .endr

  .fill (4096 - (. - _start)) / 2, 2, 0x0b0f
