/* The code km puts into every guest, as bytes in the monitor (include/km/runtime_blobs.h). */
#include <km/layout.h>

  .macro blob name, file
  .globl km_runtime_\name, km_runtime_\name\()_end
  .balign 4096
km_runtime_\name:
  .incbin "\file"
km_runtime_\name\()_end:
  .type km_runtime_\name, @object
  .size km_runtime_\name, km_runtime_\name\()_end - km_runtime_\name
  .endm

  .section .rodata
  blob stub, stub.bin
  blob gates, gates.bin
  blob vdso, vdso.so

  .if (km_runtime_stub_end - km_runtime_stub) - 4096
  .error "the stub is not one page"
  .endif
  .if (km_runtime_gates_end - km_runtime_gates) - 4096
  .error "the gates are not one page"
  .endif
  .if (km_runtime_vdso_end - km_runtime_vdso) > KM_VDSO_MAX_SIZE
  .error "the vDSO does not fit KM_VDSO_MAX_SIZE"
  .endif

  .section .note.GNU-stack, "", @progbits
