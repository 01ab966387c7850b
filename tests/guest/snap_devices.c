// Devices without a state of their own, and a pidfd of the process itself, in a snapshot.
#include <sys/stat.h>

#include "tests/guest/guest.h"

static void Devices(void) {
  static const char* const names[] = {"/dev/null", "/dev/zero", "/dev/full", "/dev/random",
                                      "/dev/urandom"};
  enum { kCount = sizeof names / sizeof names[0] };
  int fds[kCount];
  struct stat before[kCount], now;
  for (int i = 0; i < kCount; i++) {
    fds[i] = open(names[i], i == 0 ? O_WRONLY | O_APPEND : O_RDONLY);
    CHECK_OK(fds[i]);
    CHECK_OK(fstat(fds[i], &before[i]));
  }
  int self = (int)syscall(SYS_pidfd_open, getpid(), 0);
  CHECK_OK(self);
  for (int round = 0; round < 2; round++) {
    GuestSnapshot();
    for (int i = 0; i < kCount; i++) {
      CHECK_OK(fstat(fds[i], &now));
      CHECK_EQ(now.st_rdev, before[i].st_rdev);
    }
    CHECK_EQ(fcntl(fds[0], F_GETFL) & (O_ACCMODE | O_APPEND), O_WRONLY | O_APPEND);
    char bytes[8] = "xxxxxxxx";
    CHECK_EQ(read(fds[1], bytes, 8), 8);
    CHECK_EQ(bytes[7], 0);
    CHECK_EQ(read(fds[4], bytes, 8), 8);
    CHECK_EQ(write(fds[0], bytes, 8), 8);
    CHECK_EQ(fcntl(self, F_GETFD), FD_CLOEXEC);
    CHECK_OK(syscall(SYS_pidfd_send_signal, self, 0, NULL, 0));
    CHECK_EQ(syscall(SYS_pidfd_send_signal, self, SIGURG, NULL, 0), 0);
  }
  Say("devices");
}

int main(void) {
  Devices();
  return 0;
}
