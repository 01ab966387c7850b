// variants: dynamic musl
// A signal in the middle of a transfer: what has been moved is the result, SA_RESTART or not; then
// SIGPIPE, to the thread that wrote, and how to do without it.
#include <sys/socket.h>
#include <sys/uio.h>

#include "tests/guest/guest.h"

static atomic_int handled, stop;
static pthread_t main_thread;
static char bytes[1 << 20];
static int handler_tid;

static void Handler(int number, siginfo_t* info, void* context) {
  (void)number, (void)info, (void)context;
  handler_tid = OwnTid();
  atomic_fetch_add(&handled, 1);
}

// Signals all the time, but only while what can be moved at once has been moved.
static void* Disturb(void* ready) {
  while (!atomic_load(&stop)) {
    if (((bool (*)(void))ready)()) CHECK_ZERO(pthread_kill(main_thread, SIGUSR1));
    usleep(1000);
  }
  return NULL;
}

static int pipe_fds[2], pair[2];

static bool PipeIsFull(void) {
  char probe = 0;
  int flags = fcntl(pipe_fds[1], F_GETFL);
  (void)probe;
  (void)flags;
  int held = 0;
  return syscall(SYS_ioctl, pipe_fds[0], 0x541b /* FIONREAD */, &held) == 0 && held == 65536;
}
static bool SocketIsEmpty(void) {
  int held = 0;
  return syscall(SYS_ioctl, pair[0], 0x541b, &held) == 0 && held == 0;
}

static long Moved(const char* what, long (*call)(void), bool (*ready)(void), int flags) {
  OnSignal(SIGUSR1, Handler, flags);
  atomic_store(&stop, 0);
  pthread_t thread = StartThread(Disturb, ready);
  long result = call();
  int error = errno;
  atomic_store(&stop, 1);
  JoinThread(thread);
  Say("%s%s: %ld%s%s", what, flags != 0 ? ", SA_RESTART" : "", result, result < 0 ? " " : "",
      result < 0 ? strerror(error) : "");
  return result;
}

static long Write(void) { return write(pipe_fds[1], bytes, 200000); }
static long Writev(void) {
  struct iovec parts[] = {{bytes, 30000}, {bytes, 30000}, {bytes, 30000}};
  return writev(pipe_fds[1], parts, 3);
}
static long RecvAll(void) { return recv(pair[0], bytes, 1000, MSG_WAITALL); }

static void Empty(int fd) {
  CHECK_OK(fcntl(fd, F_SETFL, O_NONBLOCK));
  while (read(fd, bytes, sizeof bytes) > 0) continue;
  CHECK_OK(fcntl(fd, F_SETFL, 0));
}

static void Partial(void) {
  for (int flags = 0; flags <= SA_RESTART; flags += SA_RESTART) {
    Moved("write", Write, PipeIsFull, flags);
    Empty(pipe_fds[0]);
    Moved("writev", Writev, PipeIsFull, flags);
    Empty(pipe_fds[0]);
    CHECK_EQ(send(pair[1], bytes, 300, 0), 300);
    Moved("recv of all", RecvAll, SocketIsEmpty, flags);
  }
}

// ---- SIGPIPE ----

static void* WriteToNobody(void* fd) {
  handler_tid = 0;
  CHECK_ERRNO(write((int)(long)fd, "x", 1), EPIPE);
  CHECK_EQ(handler_tid, OwnTid());
  return NULL;
}

static void Broken(void) {
  OnSignal(SIGPIPE, Handler, 0);
  close(pipe_fds[0]);
  close(pair[1]);
  atomic_store(&handled, 0);
  JoinThread(StartThread(WriteToNobody, (void*)(long)pipe_fds[1]));
  JoinThread(StartThread(WriteToNobody, (void*)(long)pair[0]));
  Say("in the thread that wrote: %d", atomic_load(&handled));
  CHECK_ERRNO(send(pair[0], "x", 1, MSG_NOSIGNAL), EPIPE);
  CHECK_EQ(write(pipe_fds[1], "", 0), 0);
  struct iovec part = {bytes, 5};
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
  CHECK_ERRNO(sendmsg(pair[0], &message, MSG_NOSIGNAL), EPIPE);
  Say("with MSG_NOSIGNAL: %d", atomic_load(&handled));
  CHECK_ERRNO(writev(pipe_fds[1], &part, 1), EPIPE);
  CHECK_ERRNO(sendmsg(pair[0], &message, 0), EPIPE);
  Say("writev, sendmsg: %d", atomic_load(&handled));
  BlockSignals(SIGPIPE, 0);
  CHECK_ERRNO(write(pipe_fds[1], "x", 1), EPIPE);
  sigset_t pending;
  CHECK_OK(sigpending(&pending));
  CHECK(sigismember(&pending, SIGPIPE));
  signal(SIGPIPE, SIG_IGN);
  CHECK_OK(sigpending(&pending));
  CHECK(!sigismember(&pending, SIGPIPE));
  UnblockSignals(SIGPIPE, 0);
  CHECK_ERRNO(write(pipe_fds[1], "x", 1), EPIPE);
  Say("blocked, then ignored: %d", atomic_load(&handled));
}

int main(void) {
  main_thread = pthread_self();
  CHECK_OK(pipe(pipe_fds));
  CHECK_OK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
  Partial();
  Broken();
  return 0;
}
