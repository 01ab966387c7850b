/* Asking km for a snapshot, from C and C++. Link with libkm.a (km-cc does).
 *
 * A program that uses this runs natively too: it is then told that there is no km. Nothing here
 * needs a particular libc. docs/asking-for-a-snapshot.md shows it in use.
 */
#ifndef KM_KM_H_
#define KM_KM_H_

#include <km/hypercall.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Callbacks of each kind that a program may register. */
#define KM_CALLBACKS_MAX 64

typedef void (*km_callback)(void* arg);

/* The version of the hypercalls when the program runs under km, otherwise 0. Thread-safe. */
int km_present(void);

/* Writes a snapshot of the whole process, all threads.
 *
 * |label| (at most KM_SNAPSHOT_LABEL_MAX bytes with its NUL) and |description| (at most
 * KM_SNAPSHOT_DESCRIPTION_MAX) are stored in the file; either may be NULL. With
 * KM_SNAPSHOT_CONTINUE in |flags| the program goes on after it, otherwise it ends there.
 *
 * Returns 0 in the process that goes on, 1 in each process resumed from the file, and a negative
 * errno when no snapshot was taken: -ENOSYS without km, -EINVAL for an argument, else what kept km
 * from it (km says on stderr what it was). The process is then as before.
 *
 * Runs the callbacks below, unless there is no km. Thread-safe; two threads that ask at once get
 * two snapshots, one after the other, and the callbacks of the two may overlap. */
int km_snapshot(const char* label, const char* description, unsigned flags);

/* Registers |callback| to run at the start of each km_snapshot(), on the calling thread: the last
 * registered first, as atexit does. A place to close what a snapshot cannot keep. It may register
 * others, which run from the next snapshot on, but must not call km_snapshot(). When the snapshot
 * fails or the program goes on, nothing is undone: the result of km_snapshot() tells.
 *
 * Returns 0, or -ENOMEM after KM_CALLBACKS_MAX. Thread-safe and async-signal-safe. */
int km_before_snapshot(km_callback callback, void* arg);

/* Registers |callback| to run in each resumed process before km_snapshot() returns 1 there, on the
 * same thread, in order of registration; other threads are running already. A place to open
 * connections again and to reseed. After a snapshot that was not asked for with
 * km_snapshot() they run when km_run_after_resume() is called.
 *
 * Returns and is thread-safe as km_before_snapshot(). */
int km_after_resume(km_callback callback, void* arg);

/* The generation id: KM_GENERATION_SIZE random bytes, others in each process that was resumed, from
 * whatever snapshot. It stays the same in a process that goes on. Costs no system call, so a random
 * generator may compare it at each draw and reseed (getrandom(2) is fresh always) when it changed.
 * Zeros without km. Thread-safe and async-signal-safe. */
void km_generation(unsigned char id[KM_GENERATION_SIZE]);

/* A descriptor to wait for a resume with: poll(2), epoll. It is an eventfd that each resume adds 1
 * to. |flags|: EFD_CLOEXEC, EFD_NONBLOCK. Returns the descriptor or a negative errno; -ENOSYS
 * without km, or with one that is older than this. Thread-safe. */
int km_generation_fd(int flags);

/* For snapshots that were not asked for with km_snapshot(), as `kmctl snapshot` takes them: runs
 * the callbacks of km_after_resume() if this process was resumed and nobody ran them yet, and
 * returns 1 then, otherwise 0. A place to call it is where km_generation_fd() turned readable. The
 * first call of all returns 0: it, or km_after_resume(), begins the watch. Thread-safe. */
int km_run_after_resume(void);

#ifdef __cplusplus
}
#endif

#endif /* KM_KM_H_ */
