// A signal never ends a call that had no need to wait: bytes that are there are read, whatever the
// handler's flags, and what does not block never says EINTR.
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>

#include "tests/guest/guest.h"

static atomic_int handled;

static void Handler(int number, siginfo_t* info, void* context) {
  (void)number;
  (void)info;
  (void)context;
  atomic_fetch_add(&handled, 1);
}

static void* Pester(void* argument) {
  pthread_t target = *(pthread_t*)argument;
  int sent = 0;
  // One at a time, so that the other thread makes progress.
  while (atomic_load(&handled) >= 0 && sent < 400) {
    CHECK_ZERO(pthread_kill(target, SIGUSR1));
    AwaitAtLeast(&handled, ++sent);
    for (volatile int spin = 0; spin < sent % 37 * 50; spin++) continue;
  }
  return NULL;
}

int main(void) {
  int pair[2], pipes[2], file = PatternFile("bytes", 4096);
  CHECK_OK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
  CHECK_OK(pipe(pipes));
  OnSignal(SIGUSR1, Handler, 0);
  pthread_t self = pthread_self(), thread = StartThread(Pester, &self);
  char bytes[16];
  while (atomic_load(&handled) < 400) {
    CHECK_EQ(pread(file, bytes, 16, 100), 16);
    CHECK_EQ(write(pair[0], "hello", 5), 5);
    CHECK_EQ(recv(pair[1], bytes, 16, 0), 5);
    CHECK_ERRNO(recv(pair[1], bytes, 16, MSG_DONTWAIT), EAGAIN);
    CHECK_EQ(send(pair[0], "again", 5, MSG_DONTWAIT), 5);
    struct iovec part = {bytes, 16};
    CHECK_EQ(readv(pair[1], &part, 1), 5);
    CHECK_EQ(write(pipes[1], "pipe", 4), 4);
    CHECK_EQ(read(pipes[0], bytes, 16), 4);
  }
  JoinThread(thread);
  Say("done");
  return 0;
}
