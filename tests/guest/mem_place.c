// variants: dynamic
// Where mmap puts memory: hints, MAP_32BIT, kinds and flags that do not go together,
// remap_file_pages, protection keys refused or real, membarrier.
#include <linux/membarrier.h>

#include "tests/guest/fault.h"

static void Hints(void) {
  uint8_t* low = mmap((void*)0x1000, kPage, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK_OK(low);
  CHECK((uintptr_t)low >= 0x10000);
  CHECK_OK(munmap(low, kPage));
  uint8_t* odd = mmap((void*)0x123456789, kPage, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK_EQ((uintptr_t)odd, 0x123456000);
  uint8_t* taken = mmap(odd, kPage, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK_OK(taken);
  CHECK(taken != odd);
  CHECK_OK(munmap(odd, kPage));
  CHECK_OK(munmap(taken, kPage));
  // The sanitizers' allocators live here, whatever else is in memory.
  uint8_t* high = mmap((void*)0x600000000000, kPage, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
  CHECK_EQ((uintptr_t)high, 0x600000000000);
  high[9] = 0x11;
  uint8_t* two[2];
  for (int i = 0; i < 2; i++) {
    two[i] = mmap(NULL, kPage, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    CHECK_OK(two[i]);
    CHECK((uintptr_t)two[i] >= 1ul << 30 && (uintptr_t)two[i] < 1ul << 31);
  }
  CHECK_ERRNO(mmap(NULL, 2ul << 30, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0),
              ENOMEM);
  GuestSnapshot();
  CHECK_EQ(high[9], 0x11);
  CHECK_OK(munmap(high, kPage));
  // Nothing is there to unmap, and it may be asked for.
  CHECK_OK(munmap((void*)0x7f0000000000 - kPage, kPage));
  Say("hints");
}

static void Kinds(void) {
  int fd = PatternFile("file", 4 * kPage);
  CHECK_ERRNO(mmap(NULL, kPage, PROT_READ, MAP_ANONYMOUS, -1, 0), EINVAL);
  CHECK_ERRNO(mmap(NULL, kPage, PROT_READ, MAP_ANONYMOUS | MAP_SHARED_VALIDATE, -1, 0), EINVAL);
  CHECK_ERRNO(mmap(NULL, kPage, PROT_READ, MAP_SHARED | MAP_ANONYMOUS | MAP_GROWSDOWN, -1, 0),
              EINVAL);
  CHECK_ERRNO(mmap(NULL, kPage, PROT_READ, MAP_PRIVATE | MAP_GROWSDOWN, fd, 0), EINVAL);
  CHECK_ERRNO(mmap(NULL, kPage, PROT_READ, MAP_SHARED_VALIDATE | MAP_SYNC, fd, 0), EOPNOTSUPP);
  CHECK_OK(mmap(NULL, kPage, PROT_READ, MAP_SHARED_VALIDATE, fd, 0));
  CHECK_ERRNO(mmap(NULL, kPage, PROT_READ, MAP_PRIVATE | MAP_HUGETLB, fd, 0), EINVAL);
  CHECK_ERRNO(mmap(NULL, 0, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), EINVAL);
  CHECK_ERRNO(mmap((void*)5, kPage, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
              EINVAL);
  CHECK_ERRNO(mmap(NULL, 1ul << 60, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), ENOMEM);
  // A pool of huge pages may be empty; if it is not, they are huge and zero.
  uint8_t* huge = mmap(NULL, kHugePage, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
  if (huge == MAP_FAILED) {
    CHECK_EQ(errno, ENOMEM);
  } else {
    CHECK_EQ((uintptr_t)huge % kHugePage, 0);
    huge[kHugePage - 1] = 1;
    CHECK_OK(munmap(huge, kHugePage));
  }
  uint8_t* wanted = MapAnonymous(4 * kHugePage, PROT_READ | PROT_WRITE);
  if (madvise(wanted, 4 * kHugePage, MADV_HUGEPAGE) != 0) CHECK_EQ(errno, EINVAL);
  memset(wanted, 0x66, 4 * kHugePage);
  CHECK_OK(mprotect(wanted + kHugePage + kPage, kPage, PROT_READ));  // a huge page is split
  CHECK_FAULT(TryWrite(wanted + kHugePage + kPage, 1), SIGSEGV, SEGV_ACCERR,
              wanted + kHugePage + kPage);
  CHECK_EQ(TryWrite(wanted + kHugePage, 1), 0);
  CHECK_OK(munmap(wanted + 2 * kHugePage + kPage, kPage));
  CHECK_FAULT(TryRead(wanted + 2 * kHugePage + kPage), SIGSEGV, SEGV_MAPERR,
              wanted + 2 * kHugePage + kPage);
  CHECK_EQ(wanted[2 * kHugePage], 0x66);
  CHECK_OK(munmap(wanted, 4 * kHugePage));
  Say("kinds");
}

static void RemapFilePages(void) {
  int fd = PatternFile("pages", 4 * kPage);
  uint8_t* file = mmap(NULL, 4 * kPage, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  CHECK_OK(file);
  CHECK_OK(syscall(SYS_remap_file_pages, file, kPage, 0, 3, 0));
  CHECK_EQ(file[5], PatternByte(3 * kPage + 5));
  CHECK_EQ(file[kPage], PatternByte(kPage));
  file[6] = 0x5e;
  CHECK_EQ(file[3 * kPage + 6], 0x5e);
  GuestSnapshot();
  CHECK_EQ(file[5], PatternByte(3 * kPage + 5));
  file[3 * kPage + 7] = 0x5f;
  CHECK_EQ(file[7], 0x5f);
  CHECK_ERRNO(syscall(SYS_remap_file_pages, file, kPage, PROT_READ, 3, 0), EINVAL);
  CHECK_ERRNO(syscall(SYS_remap_file_pages, file, 0, 0, 3, 0), EINVAL);
  CHECK_OK(munmap(file, 4 * kPage));
  uint8_t* memory = MapAnonymous(kPage, PROT_READ);
  CHECK_ERRNO(syscall(SYS_remap_file_pages, memory, kPage, 0, 0, 0), EINVAL);
  Say("remap_file_pages");
}

// Either there are keys, with key 0 everybody's, or there is none.
static void Keys(void) {
  uint8_t* memory = MapAnonymous(kPage, PROT_READ | PROT_WRITE);
  CHECK_ERRNO(syscall(SYS_pkey_alloc, 1, 0), EINVAL);
  CHECK_ERRNO(syscall(SYS_pkey_alloc, 0, 8), EINVAL);
  long key = syscall(SYS_pkey_alloc, 0, 0);
  // Without keys in the processor Linux gives out key 0, cannot set its rights, and takes it back
  // for good: EINVAL once, then ENOSPC.
  if (key < 0 && errno != EINVAL) CHECK_EQ(errno, ENOSPC);
  if (key >= 0) CHECK_OK(syscall(SYS_pkey_free, key));
  CHECK_ERRNO(syscall(SYS_pkey_free, 15), EINVAL);
  CHECK_ERRNO(syscall(SYS_pkey_mprotect, memory, kPage, PROT_READ, 15), EINVAL);
  CHECK_OK(syscall(SYS_pkey_mprotect, memory, kPage, PROT_READ, -1));
  CHECK_FAULT(TryWrite(memory, 1), SIGSEGV, SEGV_ACCERR, memory);
  CHECK_ERRNO(syscall(SYS_pkey_mprotect, memory, ~0ul, PROT_READ, 15), ENOMEM);
  CHECK_OK(syscall(SYS_pkey_mprotect, memory, 0, PROT_READ, 15));
  if (key < 0) {
    CHECK_ERRNO(syscall(SYS_pkey_free, 0), EINVAL);
    CHECK_ERRNO(syscall(SYS_pkey_mprotect, memory, kPage, PROT_READ, 0), EINVAL);
  }
  CHECK_OK(syscall(SYS_pkey_mprotect, memory, kPage, PROT_READ | PROT_WRITE, key < 0 ? -1 : 0));
  memory[0] = 1;
  Say("keys");
}

static void Barriers(void) {
  long known = syscall(SYS_membarrier, MEMBARRIER_CMD_QUERY, 0, 0);
  CHECK(known > 0);
  CHECK_ERRNO(syscall(SYS_membarrier, 1 << 20, 0, 0), EINVAL);
  CHECK_ERRNO(syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0), EPERM);
  CHECK_OK(syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0));
  CHECK_OK(syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0));
  CHECK_OK(syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0));
  GuestSnapshot();
  CHECK_OK(syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0));  // still registered
  Say("barriers, %lx", known & 0xff);
}

int main(void) {
  CatchFaults();
  Hints();
  Kinds();
  RemapFilePages();
  Keys();
  Barriers();
  return 0;
}
