/* The code that the monitor puts into every guest (runtime/), embedded in the monitor.
 *
 * Each is the bytes from NAME up to NAME_end, at a 4096-byte boundary. Where they go: layout.h.
 */
#ifndef KM_RUNTIME_BLOBS_H_
#define KM_RUNTIME_BLOBS_H_

#ifdef __cplusplus
extern "C" {
#endif

/* For KM_STUB_ADDRESS, user R-X: 4096 bytes, the system-call stub and the way back. */
extern const unsigned char km_runtime_stub[];
extern const unsigned char km_runtime_stub_end[];

/* For KM_GATES_ADDRESS, supervisor R-X: 4096 bytes, KM_GATE_COUNT gates of KM_GATE_SIZE bytes. */
extern const unsigned char km_runtime_gates[];
extern const unsigned char km_runtime_gates_end[];

/* For KM_VDSO_ADDRESS, user R-X: an ELF shared object, at most KM_VDSO_MAX_SIZE bytes. Position
 * independent, without relocations or data: copied as it is. Its size is no multiple of a page. */
extern const unsigned char km_runtime_vdso[];
extern const unsigned char km_runtime_vdso_end[];

#ifdef __cplusplus
}
#endif

#endif /* KM_RUNTIME_BLOBS_H_ */
