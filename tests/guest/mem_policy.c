// Memory policies of one node; a kernel without them answers ENOSYS to all.
#include "tests/guest/fault.h"

int main(void) {
  CatchFaults();
  uint8_t* memory = MapAnonymous(4 * kPage, PROT_READ | PROT_WRITE);
  memory[0] = memory[kPage] = 1;
  int mode = -1;
  long known = syscall(SYS_get_mempolicy, &mode, NULL, 0, NULL, 0);
  if (known == 0) {
    CHECK_EQ(mode, 0);
    unsigned long nodes = 1;
    CHECK_OK(syscall(SYS_set_mempolicy, 2 /* MPOL_BIND */, &nodes, 64));
    CHECK_OK(syscall(SYS_get_mempolicy, &mode, &nodes, 64, NULL, 0));
    CHECK_EQ(mode, 2);
    CHECK_EQ(nodes, 1);
    CHECK_OK(syscall(SYS_set_mempolicy, 0, NULL, 0));
    CHECK_ERRNO(syscall(SYS_set_mempolicy, 99, &nodes, 64), EINVAL);
    CHECK_OK(syscall(SYS_mbind, memory, 2 * kPage, 1 /* MPOL_PREFERRED */, &nodes, 64, 0));
    CHECK_OK(syscall(SYS_get_mempolicy, &mode, &nodes, 64, memory + kPage, 2 /* MPOL_F_ADDR */));
    CHECK_EQ(mode, 1);
    CHECK_OK(syscall(SYS_get_mempolicy, &mode, NULL, 0, memory + 3 * kPage, 2));
    CHECK_EQ(mode, 0);
    int where[3];
    void* pages[3] = {memory, memory + kPage, (void*)0x300000000000};
    CHECK_OK(syscall(SYS_move_pages, 0, 3, pages, NULL, where, 0));
    CHECK_EQ(where[0], 0);
    CHECK_EQ(where[1], 0);
    CHECK_EQ(where[2], -EFAULT);
    CHECK_OK(syscall(SYS_migrate_pages, 0, 64, &nodes, &nodes));
    CHECK_OK(munmap(memory + kPage, kPage));
    CHECK_ERRNO(syscall(SYS_mbind, memory, 4 * kPage, 1, &nodes, 64, 0), EFAULT);
    CHECK_ERRNO(syscall(SYS_get_mempolicy, &mode, NULL, 0, memory + kPage, 2), EFAULT);
    CHECK_ERRNO(syscall(SYS_mbind, memory + 1, kPage, 1, &nodes, 64, 0), EINVAL);
  } else {
    CHECK_EQ(errno, ENOSYS);
  }
  Say("policies");
  return 0;
}
