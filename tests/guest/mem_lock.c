// mlock, mlock2, mlockall, RLIMIT_MEMLOCK, mincore, msync over holes. As root the limit does not
// bind: the program gives the capability up first.
#include <linux/capability.h>
#include <sys/resource.h>

#include "tests/guest/fault.h"

// False where that cannot be done.
static bool DropLockCapability(void) {
  struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  struct __user_cap_data_struct data[2] = {{0}};
  CHECK_OK(syscall(SYS_capget, &header, data));
  data[0].effective &= ~(1u << CAP_IPC_LOCK);
  return syscall(SYS_capset, &header, data) == 0;
}

static void Limit(size_t bytes) {
  struct rlimit limit;
  CHECK_OK(getrlimit(RLIMIT_MEMLOCK, &limit));
  limit.rlim_cur = bytes;
  CHECK_OK(setrlimit(RLIMIT_MEMLOCK, &limit));
}

// Pages that mincore says are there.
static long Resident(uint8_t* memory, size_t pages) {
  uint8_t vector[64];
  CHECK(pages <= sizeof vector);
  CHECK_OK(mincore(memory, pages * kPage, vector));
  long count = 0;
  for (size_t i = 0; i < pages; i++) count += vector[i] & 1;
  return count;
}

static void Lock(void) {
  uint8_t* memory = MapAnonymous(16 * kPage, PROT_READ | PROT_WRITE);
  CHECK_OK(madvise(memory, 16 * kPage, MADV_NOHUGEPAGE));
  CHECK_OK(madvise(memory, 16 * kPage, MADV_DONTNEED));  // what was mapped ahead
  CHECK_EQ(Resident(memory, 16), 0);
  CHECK_OK(mlock(memory + 10, kPage));  // rounded to the page
  CHECK_EQ(Resident(memory, 16), 2);
  CHECK_OK(syscall(SYS_mlock2, memory + 4 * kPage, 4 * kPage, 1 /* MLOCK_ONFAULT */));
  CHECK_EQ(Resident(memory, 16), 2);
  memory[5 * kPage] = 1;
  CHECK_EQ(Resident(memory, 16), 3);
  CHECK_ERRNO(madvise(memory, kPage, MADV_DONTNEED), EINVAL);
  CHECK_ERRNO(madvise(memory, kPage, MADV_FREE), EINVAL);
  memory[0] = 0x17;
  GuestSnapshot();
  CHECK_EQ(memory[0], 0x17);
  CHECK_ERRNO(madvise(memory, kPage, MADV_DONTNEED), EINVAL);
  CHECK_ERRNO(madvise(memory + 4 * kPage, kPage, MADV_DONTNEED), EINVAL);
  CHECK_OK(madvise(memory, kPage, 24 /* MADV_DONTNEED_LOCKED */));
  CHECK_EQ(memory[0], 0);
  CHECK_OK(munlock(memory, 16 * kPage));
  CHECK_OK(madvise(memory, 16 * kPage, MADV_DONTNEED));
  CHECK_EQ(memory[5 * kPage], 0);

  CHECK_ERRNO(syscall(SYS_mlock2, memory, kPage, 2), EINVAL);
  CHECK_ZERO(mlock(memory, 0));
  CHECK_OK(munmap(memory + 3 * kPage, kPage));
  CHECK_ERRNO(mlock(memory, 6 * kPage), ENOMEM);
  CHECK_ERRNO(munlock(memory, 6 * kPage), ENOMEM);
  CHECK_ERRNO(mlock(memory + 3 * kPage, kPage), ENOMEM);
  CHECK_ERRNO(msync(memory, 6 * kPage, MS_SYNC), ENOMEM);
  CHECK_ERRNO(msync(memory, kPage, MS_SYNC | MS_ASYNC), EINVAL);
  CHECK_ERRNO(msync(memory + 1, kPage, MS_SYNC), EINVAL);
  CHECK_ERRNO(msync(memory, kPage, 64), EINVAL);
  CHECK_ZERO(msync(memory, 0, MS_SYNC));
  unsigned char vector[8];
  CHECK_ERRNO(mincore(memory, 6 * kPage, vector), ENOMEM);
  CHECK_ERRNO(mincore(memory + 1, kPage, vector), EINVAL);
  CHECK_ERRNO(mincore(memory, kPage, (void*)8), EFAULT);
  CHECK_OK(munmap(memory, 16 * kPage));
  // Nothing to lock without a right to it.
  memory = MapAnonymous(kPage, PROT_NONE);
  CHECK_ERRNO(mlock(memory, kPage), ENOMEM);
  CHECK_OK(munmap(memory, kPage));
  Say("lock");
}

static void Limits(void) {
  // Capabilities are those of whoever resumes: with one the limit does not bind any more.
  if (GuestInjected() || !DropLockCapability()) {
    Say("limits");
    return;
  }
  Limit(8 * kPage);
  uint8_t* memory = MapAnonymous(32 * kPage, PROT_READ | PROT_WRITE);
  CHECK_OK(mlock(memory, 8 * kPage));
  CHECK_ERRNO(mlock(memory + 8 * kPage, kPage), ENOMEM);
  CHECK_OK(mlock(memory, 8 * kPage));  // counted once
  CHECK_ERRNO(mmap(NULL, kPage, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_LOCKED, -1, 0),
              EAGAIN);
  GuestSnapshot();
  CHECK(DropLockCapability());  // capabilities are those of whoever resumes
  CHECK_ERRNO(mlock(memory + 8 * kPage, kPage), ENOMEM);
  CHECK_ERRNO(mremap(memory, 8 * kPage, 40 * kPage, MREMAP_MAYMOVE), EAGAIN);
  CHECK_OK(munlock(memory, 4 * kPage));
  CHECK_OK(mlock(memory + 8 * kPage, 4 * kPage));
  CHECK_ERRNO(mlockall(MCL_CURRENT), ENOMEM);
  CHECK_OK(munlock(memory, 32 * kPage));
  // Later mappings count.
  CHECK_OK(mlockall(MCL_FUTURE));
  uint8_t* later = MapAnonymous(4 * kPage, PROT_READ | PROT_WRITE);
  CHECK_EQ(Resident(later, 4), 4);
  CHECK_ERRNO(mmap(NULL, 5 * kPage, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), EAGAIN);
  GuestSnapshot();
  CHECK(DropLockCapability());
  CHECK_ERRNO(mmap(NULL, 5 * kPage, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), EAGAIN);
  CHECK_OK(munlockall());
  CHECK_OK(munmap(MapAnonymous(5 * kPage, PROT_READ), 5 * kPage));
  CHECK_OK(munmap(later, 4 * kPage));
  Limit(0);
  CHECK_ERRNO(mlock(memory, kPage), EPERM);
  CHECK_ERRNO(mlockall(MCL_CURRENT), EPERM);
  CHECK_ERRNO(mlockall(MCL_CURRENT | 64), EINVAL);
  CHECK_ERRNO(mlockall(0), EINVAL);
  CHECK_ERRNO(mlockall(4 /* MCL_ONFAULT */), EINVAL);
  CHECK_OK(munmap(memory, 32 * kPage));
  Say("limits");
}

int main(void) {
  CatchFaults();
  Lock();
  Limits();
  return 0;
}
