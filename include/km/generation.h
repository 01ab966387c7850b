/* The generation id: random, another one after each resume. Where a program finds it under km; what
 * it is for is told in km.h and docs/asking-for-a-snapshot.md. The address is as fixed as those of
 * layout.h.
 */
#ifndef KM_GENERATION_H_
#define KM_GENERATION_H_

/* Read-only, KM_GENERATION_SIZE bytes, behind struct km_vdso_data. */
#define KM_GENERATION 0x7f0000001040
#define KM_GENERATION_SIZE 16

#endif /* KM_GENERATION_H_ */
