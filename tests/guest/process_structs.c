// variants: dynamic static
// What calls about the process and the machine fill in, field by field. Where a value differs from
// run to run, how it agrees with another.
#include <linux/capability.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>
#include <sys/time.h>
#include <sys/times.h>
#include <sys/utsname.h>

#include "tests/guest/guest.h"

#define kMark 0xa5
static uint8_t buffer[1024];

static void* Marked(void) { return memset(buffer, kMark, sizeof buffer); }

static void CheckUntouched(size_t size, const char* what) {
  for (size_t i = size; i < sizeof buffer; i++) {
    if (buffer[i] != kMark) FAIL("%s wrote byte %zu of %zu", what, i, size);
  }
}

static void Machine(void) {
  CHECK_OK(syscall(SYS_uname, Marked()));
  CheckUntouched(sizeof(struct utsname), "uname");
  struct utsname* names = (struct utsname*)buffer;
  Say("uname: %s %s %s %s %s %s", names->sysname, names->nodename, names->release, names->version,
      names->machine, names->domainname);
  CHECK_OK(syscall(SYS_sysinfo, Marked()));
  CheckUntouched(sizeof(struct sysinfo), "sysinfo");
  struct sysinfo* info = (struct sysinfo*)buffer;
  Say("sysinfo: total %lu swap %lu high %lu %lu unit %u pad %d", info->totalram, info->totalswap,
      info->totalhigh, info->freehigh, info->mem_unit, info->pad);
  CHECK(info->freeram <= info->totalram && info->procs > 0);
  long up = NowNs(CLOCK_BOOTTIME) / 1000000000;
  CHECK(info->uptime >= up - 1 && info->uptime <= up + 1);
  for (int clock = 0; clock <= 11; clock++) {
    struct timespec resolution = {-1, -1};
    int result = clock_getres(clock, &resolution);
    Say("clock %d: %d, %ld.%09ld", clock, result, (long)resolution.tv_sec, resolution.tv_nsec);
  }
}

static void Limits(void) {
  for (int resource = 0; resource < 16; resource++) {
    CHECK_OK(syscall(SYS_getrlimit, resource, Marked()));
    CheckUntouched(sizeof(struct rlimit), "getrlimit");
    struct rlimit* limit = (struct rlimit*)buffer;
    struct rlimit again;
    Say("limit %d: %lx %lx", resource, (long)limit->rlim_cur, (long)limit->rlim_max);
    CHECK_OK(syscall(SYS_prlimit64, 0, resource, NULL, &again));
    CHECK(memcmp(limit, &again, sizeof again) == 0);
  }
}

static void Usage(void) {
  for (int who = -1; who <= 1; who++) {
    CHECK_OK(syscall(SYS_getrusage, who, Marked()));
    CheckUntouched(sizeof(struct rusage), "getrusage");
    struct rusage* usage = (struct rusage*)buffer;
    CHECK(usage->ru_utime.tv_usec >= 0 && usage->ru_utime.tv_usec < 1000000);
    CHECK(usage->ru_stime.tv_usec >= 0 && usage->ru_stime.tv_usec < 1000000);
    CHECK((usage->ru_maxrss > 0) == (who != -1));
    Say("rusage %d: %ld %ld %ld, swaps %ld, messages %ld %ld, signals %ld", who, usage->ru_ixrss,
        usage->ru_idrss, usage->ru_isrss, usage->ru_nswap, usage->ru_msgsnd, usage->ru_msgrcv,
        usage->ru_nsignals);
  }
  long ticks = syscall(SYS_times, Marked());
  CHECK(ticks > 0);
  CheckUntouched(sizeof(struct tms), "times");
  struct tms* used = (struct tms*)buffer;
  CHECK(used->tms_utime >= 0 && used->tms_stime >= 0);
  Say("times: children %ld %ld", (long)used->tms_cutime, (long)used->tms_cstime);
}

static void Scheduling(void) {
  long size = syscall(SYS_sched_getaffinity, 0, 512, Marked());
  CHECK(size > 0);
  CheckUntouched((size_t)size, "sched_getaffinity");
  printf("affinity: %ld bytes", size);
  for (long i = 0; i < size; i++) {
    if (buffer[i] != 0) printf(" %ld:%02x", i, buffer[i]);
  }
  Say("%s", "");
  CHECK_OK(syscall(SYS_sched_getparam, 0, Marked()));
  CheckUntouched(4, "sched_getparam");
  Say("priority %d, policy %ld, nice %ld", *(int*)buffer, syscall(SYS_sched_getscheduler, 0),
      syscall(SYS_getpriority, 0, 0));
  uint32_t cpu, node;
  CHECK_OK(syscall(SYS_getcpu, &cpu, &node, NULL));
  CHECK(cpu < 8192 && node < 1024);
}

static void Who(void) {
  uint32_t ids[6];
  CHECK_OK(syscall(SYS_getresuid, &ids[0], &ids[1], &ids[2]));
  CHECK_OK(syscall(SYS_getresgid, &ids[3], &ids[4], &ids[5]));
  Say("ids: %u %u %u %u %u %u", ids[0], ids[1], ids[2], ids[3], ids[4], ids[5]);
  long count = syscall(SYS_getgroups, 0, NULL);
  CHECK(count >= 0 && count <= 200);
  CHECK_EQ(syscall(SYS_getgroups, count, Marked()), count);
  CheckUntouched((size_t)count * 4, "getgroups");
  for (long i = 0; i < count; i++) Say("group %u", ((uint32_t*)buffer)[i]);
  struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  CHECK_OK(syscall(SYS_capget, &header, Marked()));
  CheckUntouched(2 * sizeof(struct __user_cap_data_struct), "capget");
  for (int i = 0; i < 6; i++)
    printf("%s%x", i == 0 ? "capabilities: " : " ", ((uint32_t*)buffer)[i]);
  Say("%s", "");
  header.version = 1;
  CHECK_ERRNO(syscall(SYS_capget, &header, buffer), EINVAL);
  Say("preferred version %x", header.version);
  char name[17];
  memset(name, 'x', sizeof name);
  CHECK_OK(syscall(SYS_prctl, 15, "a name longer than fits", 0, 0, 0));
  CHECK_OK(syscall(SYS_prctl, 16, name, 0, 0, 0));
  Say("name '%s', behind it %c", name, name[16]);
}

static void Timers(void) {
  struct itimerval set = {{5, 250000}, {1000, 999999}}, old;
  CHECK_OK(syscall(SYS_setitimer, ITIMER_REAL, &set, Marked()));
  CheckUntouched(sizeof old, "setitimer");
  memcpy(&old, buffer, sizeof old);
  Say("itimer: %ld.%06ld %ld.%06ld", (long)old.it_interval.tv_sec, (long)old.it_interval.tv_usec,
      (long)old.it_value.tv_sec, (long)old.it_value.tv_usec);
  CHECK_OK(syscall(SYS_getitimer, ITIMER_REAL, Marked()));
  CheckUntouched(sizeof old, "getitimer");
  memcpy(&old, buffer, sizeof old);
  Say("interval %ld.%06ld", (long)old.it_interval.tv_sec, (long)old.it_interval.tv_usec);
  CHECK(old.it_value.tv_sec > 900 && old.it_value.tv_sec <= 1000);
  long left = syscall(SYS_alarm, 0);
  CHECK(left > 900 && left <= 1001);
  struct timespec request = {0, 1}, remaining = {7, 7};
  CHECK_OK(nanosleep(&request, &remaining));
  Say("remaining %ld %ld", (long)remaining.tv_sec, remaining.tv_nsec);
}

int main(void) {
  Machine();
  Limits();
  Usage();
  Scheduling();
  Who();
  Timers();
  return 0;
}
