// Who gets the signals of a file is part of a snapshot: F_SETOWN, F_SETSIG, O_ASYNC, F_NOTIFY, and
// a lease's.
#include <sys/stat.h>

#include "tests/guest/guest.h"

static atomic_int told;
static siginfo_t last;

static void OnTold(int number, siginfo_t* info, void* context) {
  (void)number, (void)context;
  last = *info;
  atomic_fetch_add(&told, 1);
}

static void Expect(int number, int code, int fd) {
  AwaitAtLeast(&told, 1);
  CHECK_EQ(last.si_signo, number);
  CHECK_EQ(last.si_code, code);
  if (code != SI_KERNEL) CHECK_EQ(last.si_fd, fd);
  atomic_store(&told, 0);
}

static int plain[2], threaded[2], dir, leased;

static void Check(void) {
  char byte;
  struct f_owner_ex owner;
  CHECK_EQ(fcntl(plain[0], F_GETFL) & O_ASYNC, O_ASYNC);
  CHECK_EQ(fcntl(plain[0], F_GETOWN), getpid());
  CHECK_EQ(fcntl(plain[0], F_GETSIG), SIGRTMIN);
  CHECK_EQ(write(plain[1], "x", 1), 1);
  Expect(SIGRTMIN, POLL_IN, plain[0]);
  CHECK_EQ(read(plain[0], &byte, 1), 1);
  CHECK_OK(fcntl(threaded[0], F_GETOWN_EX, &owner));
  CHECK_EQ(owner.type, F_OWNER_TID);
  CHECK_EQ(owner.pid, OwnTid());
  CHECK_EQ(fcntl(threaded[0], F_GETSIG), 0);
  CHECK_EQ(write(threaded[1], "x", 1), 1);
  Expect(SIGIO, SI_KERNEL, 0);
  CHECK_EQ(read(threaded[0], &byte, 1), 1);
  CHECK_OK(close(open("dir/a", O_RDWR | O_CREAT, 0644)));
  Expect(SIGRTMIN, POLL_MSG, dir);
  CHECK_OK(unlink("dir/a"));
  CHECK_ERRNO(open("leased", O_WRONLY | O_NONBLOCK), EWOULDBLOCK);
  Expect(SIGRTMIN, POLL_MSG, leased);
  CHECK_OK(fcntl(leased, F_SETLEASE, F_UNLCK));
  CHECK_EQ(fcntl(leased, F_GETSIG), 0);  // gone with the lease
  CHECK_EQ(fcntl(leased, F_GETOWN), 0);
  CHECK_OK(fcntl(leased, F_SETSIG, SIGRTMIN));
  CHECK_OK(fcntl(leased, F_SETLEASE, F_RDLCK));
  CHECK_EQ(fcntl(leased, F_GETOWN), getpid());
  Say("signals of files");
}

int main(void) {
  CHECK_OK(close(PatternFile("leased", 10)));
  CHECK_OK(mkdir("dir", 0755));
  OnSignal(SIGIO, OnTold, 0);
  OnSignal(SIGRTMIN, OnTold, 0);
  CHECK_OK(pipe(plain));
  CHECK_OK(pipe(threaded));
  CHECK_OK(fcntl(plain[0], F_SETOWN, getpid()));
  CHECK_OK(fcntl(plain[0], F_SETSIG, SIGRTMIN));
  CHECK_OK(fcntl(plain[0], F_SETFL, O_ASYNC));
  struct f_owner_ex owner = {F_OWNER_TID, OwnTid()};
  CHECK_OK(fcntl(threaded[0], F_SETOWN_EX, &owner));
  CHECK_OK(fcntl(threaded[0], F_SETFL, O_ASYNC));
  dir = open("dir", O_RDONLY);
  CHECK_OK(fcntl(dir, F_SETSIG, SIGRTMIN));
  CHECK_OK(fcntl(dir, F_NOTIFY, DN_CREATE | DN_MULTISHOT));
  leased = open("leased", O_RDONLY);
  CHECK_OK(fcntl(leased, F_SETSIG, SIGRTMIN));
  CHECK_OK(fcntl(leased, F_SETLEASE, F_RDLCK));
  Check();
  GuestSnapshot();
  Check();
  GuestSnapshot();
  Check();
  return 0;
}
