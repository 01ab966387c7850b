/* The guest's vDSO: entry points at fixed addresses, in front of the host's own vDSO.
 *
 * libc keeps pointers to these functions in memory that a snapshot saves, and the host's vDSO is
 * another one after a reboot. So the program only ever sees these entry points (layout.h, fixed for
 * ever); what they lead to is looked up in km_vdso_data, which each km fills for its own host.
 * This is also the place to make CLOCK_MONOTONIC go on from where a snapshot left it.
 *
 * Contracts of the functions: vdso(7), clock_gettime(2), gettimeofday(2), time(2), getcpu(2).
 */
#include <km/layout.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>

#define NANOSECONDS_PER_SECOND 1000000000

/* Each entry point is in a section of its own, which vdso.lds puts at its address. */
#define ENTRY(name) __attribute__((section(".entry." #name), used))
#define ALIAS(name) __attribute__((weak, alias(#name)))

static inline const volatile struct km_vdso_data* Data(void) {
  return (const volatile struct km_vdso_data*)KM_VDSO_DATA;
}

static inline long SystemCall(long number, long arg1, long arg2, long arg3) {
  long result;
  __asm__ volatile("syscall"
                   : "=a"(result)
                   : "a"(number), "D"(arg1), "S"(arg2), "d"(arg3)
                   : "rcx", "r11", "memory");
  return result;
}

typedef int ClockFunction(clockid_t, struct timespec*);
typedef int GetTimeOfDayFunction(struct timeval*, struct timezone*);
typedef time_t TimeFunction(time_t*);
typedef int GetCpuFunction(unsigned*, unsigned*, void*);

/* |time| has tv_nsec in [0, 1e9), so one step either way normalises the sum. */
static inline void AddNanoseconds(struct timespec* time, int64_t offset) {
  int64_t seconds = time->tv_sec + offset / NANOSECONDS_PER_SECOND;
  int64_t nanoseconds = time->tv_nsec + offset % NANOSECONDS_PER_SECOND;
  if (nanoseconds < 0) {
    nanoseconds += NANOSECONDS_PER_SECOND;
    --seconds;
  } else if (nanoseconds >= NANOSECONDS_PER_SECOND) {
    nanoseconds -= NANOSECONDS_PER_SECOND;
    ++seconds;
  }
  time->tv_sec = seconds;
  time->tv_nsec = nanoseconds;
}

/* Out of line, so that the common case below needs no stack and its place is never too small.
 *
 * When the host's function makes a system call of its own, for a clock it cannot serve, the monitor
 * answers with the host's time, and the offset is added here as always. */
__attribute__((noinline)) static int AdjustedClock(ClockFunction* host, clockid_t clock,
                                                   struct timespec* time) {
  int64_t offset = 0;
  switch (clock) {
    case CLOCK_MONOTONIC:
    case CLOCK_MONOTONIC_RAW:
    case CLOCK_MONOTONIC_COARSE:
      offset = Data()->monotonic_offset_ns;
      break;
    case CLOCK_BOOTTIME:
      offset = Data()->boottime_offset_ns;
      break;
  }
  int result = host(clock, time);
  if (result == 0 && offset != 0) AddNanoseconds(time, offset);
  return result;
}

/* The system call made here is answered as any other of the program's, offset included. */
ENTRY(clock_gettime) int __vdso_clock_gettime(clockid_t clock, struct timespec* time) {
  ClockFunction* host = (ClockFunction*)Data()->host_clock_gettime;
  if (host == NULL) return (int)SystemCall(SYS_clock_gettime, clock, (long)time, 0);
  if ((Data()->monotonic_offset_ns | Data()->boottime_offset_ns) == 0) return host(clock, time);
  return AdjustedClock(host, clock, time);
}

ENTRY(gettimeofday) int __vdso_gettimeofday(struct timeval* time, struct timezone* zone) {
  GetTimeOfDayFunction* host = (GetTimeOfDayFunction*)Data()->host_gettimeofday;
  if (host != NULL) return host(time, zone);
  return (int)SystemCall(SYS_gettimeofday, (long)time, (long)zone, 0);
}

ENTRY(time) time_t __vdso_time(time_t* result) {
  TimeFunction* host = (TimeFunction*)Data()->host_time;
  if (host != NULL) return host(result);
  return SystemCall(SYS_time, (long)result, 0, 0);
}

ENTRY(getcpu) int __vdso_getcpu(unsigned* cpu, unsigned* node, void* unused) {
  GetCpuFunction* host = (GetCpuFunction*)Data()->host_getcpu;
  if (host != NULL) return host(cpu, node, unused);
  return (int)SystemCall(SYS_getcpu, (long)cpu, (long)node, (long)unused);
}

ENTRY(clock_getres) int __vdso_clock_getres(clockid_t clock, struct timespec* resolution) {
  ClockFunction* host = (ClockFunction*)Data()->host_clock_getres;
  if (host != NULL) return host(clock, resolution);
  return (int)SystemCall(SYS_clock_getres, clock, (long)resolution, 0);
}

/* The names without a prefix, as in Linux's vDSO. */
int clock_gettime(clockid_t clock, struct timespec* time) ALIAS(__vdso_clock_gettime);
int gettimeofday(struct timeval* time, void* zone) ALIAS(__vdso_gettimeofday);
time_t time(time_t* result) ALIAS(__vdso_time);
int getcpu(unsigned* cpu, unsigned* node, void* unused) ALIAS(__vdso_getcpu);
int clock_getres(clockid_t clock, struct timespec* resolution) ALIAS(__vdso_clock_getres);
