// The generation id: another one after each resume, the same while the process goes on; a
// descriptor to wait for it with. Natively there is none.
// again: no, descriptors count the resumes
#include <km/km.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>

#include "guest.h"

static long Id(unsigned char* id) {
  km_hc_args_t arguments = {.arg1 = (uint64_t)(uintptr_t)id};
  return km_hcall(HC_generation, &arguments);
}

static long Descriptor(int flags) {
  km_hc_args_t arguments = {.arg1 = (uint64_t)flags};
  return km_hcall(HC_generation_fd, &arguments);
}

static bool Ready(int fd) {
  struct pollfd look = {.fd = fd, .events = POLLIN};
  CHECK(poll(&look, 1, 0) >= 0);
  return look.revents == POLLIN;
}

static void Present(void) {
  unsigned char first[KM_GENERATION_SIZE], again[KM_GENERATION_SIZE];
  unsigned char zeros[KM_GENERATION_SIZE] = {0};
  CHECK_EQ(Id(first), 0);
  CHECK_EQ(Id(again), 0);
  CHECK(memcmp(first, again, sizeof(first)) == 0 && memcmp(first, zeros, sizeof(first)) != 0);
  CHECK_EQ(Id((unsigned char*)8), -EFAULT);
  CHECK_EQ(Descriptor(1), -EINVAL);
  int fd = (int)Descriptor(EFD_NONBLOCK), kept = (int)Descriptor(EFD_NONBLOCK | EFD_CLOEXEC);
  CHECK(fd >= 0 && kept >= 0);
  CHECK_EQ(fcntl(fd, F_GETFD), 0);
  CHECK_EQ(fcntl(kept, F_GETFD), FD_CLOEXEC);
  int watch = epoll_create1(0), other = dup(fd);
  struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.u32 = 7};
  CHECK_OK(epoll_ctl(watch, EPOLL_CTL_ADD, fd, &event));
  CHECK(!Ready(fd) && !Ready(kept));
  for (uint64_t resumes = 1; resumes <= 2; ++resumes) {
    uint64_t count = 0;
    if (GuestSnapshot() == 0) return;
    CHECK_EQ(Id(again), 0);
    CHECK(memcmp(first, again, sizeof(first)) != 0);
    memcpy(first, again, sizeof(first));
    CHECK(Ready(fd) && Ready(other));
    CHECK_EQ(epoll_wait(watch, &event, 1, 0), 1);
    CHECK_EQ(event.data.u32, 7);
    CHECK_EQ(read(other, &count, sizeof(count)), 8);
    CHECK_EQ(count, 1);
    CHECK(!Ready(fd));
    // Nobody reads this one: it counts on.
    CHECK(Ready(kept));
    if (resumes < 2) continue;
    CHECK_EQ(read(kept, &count, sizeof(count)), 8);
    CHECK_EQ(count, 2);
  }
  // A process that goes on has not changed; its clone has.
  long result = GuestTrySnapshot("goes on", KM_SNAPSHOT_CONTINUE);
  CHECK(result == 0 || result == 1);
  CHECK_EQ(Id(again), 0);
  CHECK_EQ(memcmp(first, again, sizeof(first)) != 0, result == 1);
  CHECK_EQ(Ready(fd), result == 1);
  if (result == 1) exit(0);  // it would print the same once more
}

int main(void) {
  unsigned char id[KM_GENERATION_SIZE];
  if (Id(id) == -ENOSYS) {
    CHECK_EQ(Descriptor(0), -ENOSYS);
  } else {
    Present();
  }
  puts("generation ok");
  return 0;
}
