// variants: dynamic musl
// Snapshots while threads wait in the middle of transfers of which natively nothing but a handler
// sees a part: write, writev, send, sendmsg, sendfile, recv and recvmsg with MSG_WAITALL, recvmmsg.
// Each goes on behind what has been moved, also over several snapshots, and a handler then finds
// the sum. truncate waits on for a lease.
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "tests/guest/guest.h"

enum { kSize = 1 << 20, kPipe = 65536, kPiece = 24 * 4096 };

static unsigned char pattern[kSize], taken[kSize], received[4096];
static int pipe_ends[2], pair[2];
static long result;
static atomic_int done, handled;

static void Handler(int number) {
  (void)number;
  atomic_fetch_add(&handled, 1);
}

static int Held(int fd) {
  int held = 0;
  CHECK_OK(syscall(SYS_ioctl, fd, 0x541b /* FIONREAD */, &held));
  return held;
}

static long Take(int fd, long count) {
  long got = 0;
  while (got < count) {
    long more = read(fd, taken + got, (size_t)(count - got));
    CHECK(more > 0);
    got += more;
  }
  return got;
}

// ---- What threads wait in ----

static long Write(void) { return write(pipe_ends[1], pattern, kSize); }

static struct iovec parts[] = {{pattern, 100}, {pattern + 100, 500000}, {pattern + 500100, 548476}};
static long Writev(void) { return writev(pipe_ends[1], parts, 3); }

static long Send(void) { return send(pair[1], pattern, kSize, 0); }
static long Sendmsg(void) {
  struct msghdr message = {.msg_iov = parts, .msg_iovlen = 3};
  return sendmsg(pair[1], &message, 0);
}
static long Sendfile(void) {
  int file = open("whole", O_RDWR | O_CREAT | O_TRUNC, 0600);
  off_t offset = 0;
  CHECK_EQ(write(file, pattern, kSize), kSize);
  long moved = sendfile(pair[1], file, &offset, kSize);
  CHECK_EQ(offset, moved);
  CHECK_OK(close(file));
  return moved;
}
static long RecvAll(void) { return recv(pair[0], received, 1000, MSG_WAITALL); }
static long RecvmsgAll(void) {
  struct iovec pieces[] = {{received, 10}, {received + 10, 600}, {received + 610, 390}};
  struct msghdr message = {.msg_iov = pieces, .msg_iovlen = 3};
  return recvmsg(pair[0], &message, MSG_WAITALL);
}
static long RecvSome(void) { return recv(pair[0], received, 1000, 0); }

static struct iovec messages[] = {{received, 10}, {received + 10, 10}, {received + 20, 10}};
static long Messages(long number, int fd) {
  struct mmsghdr all[3] = {0};
  for (int i = 0; i < 3; i++)
    all[i].msg_hdr = (struct msghdr){.msg_iov = &messages[i], .msg_iovlen = 1};
  long moved = syscall(number, fd, all, 3, 0, NULL);
  for (int i = 0; i < moved; i++) CHECK_EQ(all[i].msg_len, 10);
  return moved;
}
static long Recvmmsg(void) { return Messages(SYS_recvmmsg, pair[0]); }

// ---- Snapshots meanwhile ----

static void* Body(void* call) {
  result = ((long (*)(void))call)();
  atomic_store(&done, 1);
  return NULL;
}

static pthread_t Begin(long (*call)(void)) {
  atomic_store(&done, 0);
  return StartThread(Body, call);
}

// Behind it the thread waits, for longer than a kick takes.
static void Await(int fd, int held) {
  while (Held(fd) != held) usleep(1000);
  usleep(20000);
}

// The thread waits on behind it.
static void Snapshot(void) {
  GuestSnapshot();
  usleep(20000);
  CHECK(!atomic_load(&done));
}

static void End(pthread_t thread, const char* what) {
  JoinThread(thread);
  Say("%s: %ld", what, result);
}

static void IntoPipe(const char* what, long (*call)(void)) {
  pthread_t thread = Begin(call);
  Await(pipe_ends[0], kPipe);
  Snapshot();
  Take(pipe_ends[0], kPiece);
  CHECK(memcmp(taken, pattern, kPiece) == 0);
  Await(pipe_ends[0], kPipe);
  Snapshot();
  Take(pipe_ends[0], kSize - kPiece);
  CHECK(memcmp(taken, pattern + kPiece, kSize - kPiece) == 0);
  End(thread, what);
  CHECK_EQ(Held(pipe_ends[0]), 0);
}

// What has been moved before a snapshot counts when a handler ends the call, SA_RESTART or not.
static void Handled(int flags) {
  struct sigaction action = {.sa_handler = Handler, .sa_flags = flags};
  CHECK_OK(sigaction(SIGUSR1, &action, NULL));
  pthread_t thread = Begin(Write);
  Await(pipe_ends[0], kPipe);
  Snapshot();
  Take(pipe_ends[0], kPiece);
  Await(pipe_ends[0], kPipe);
  CHECK_ZERO(pthread_kill(thread, SIGUSR1));
  End(thread, flags != 0 ? "write, a handler with SA_RESTART" : "write, a handler");
  Take(pipe_ends[0], kPipe);
  CHECK(memcmp(taken, pattern + kPiece, kPipe) == 0);
}

// A reader that goes ends it as natively.
static void Closed(void) {
  pthread_t thread = Begin(Write);
  Await(pipe_ends[0], kPipe);
  Snapshot();
  CHECK_OK(close(pipe_ends[0]));
  End(thread, "write, no reader");
  Say("SIGPIPE: %d", atomic_load(&handled));
}

static void OverSocket(const char* what, long (*call)(void)) {
  pthread_t thread = Begin(call);
  int held = 0;
  do {
    held = Held(pair[0]);
    usleep(20000);
  } while (held == 0 || Held(pair[0]) != held);
  Snapshot();
  Take(pair[0], kSize);
  CHECK(memcmp(taken, pattern, kSize) == 0);
  End(thread, what);
}

static void FromSocket(const char* what, long (*call)(void)) {
  memset(received, 0, sizeof received);
  pthread_t thread = Begin(call);
  for (int at = 0; at < 900; at += 300) {
    CHECK_EQ(send(pair[1], pattern + at, 300, 0), 300);
    Await(pair[0], 0);
    Snapshot();
  }
  CHECK_EQ(send(pair[1], pattern + 900, 100, 0), 100);
  End(thread, what);
  CHECK(memcmp(received, pattern, 1000) == 0);
}

// Without MSG_WAITALL what there is is all.
static void Short(void) {
  pthread_t thread = Begin(RecvSome);
  usleep(20000);
  Snapshot();
  CHECK_EQ(send(pair[1], pattern, 300, 0), 300);
  End(thread, "recv of what there is");
  thread = Begin(RecvAll);
  CHECK_EQ(send(pair[1], pattern, 300, 0), 300);
  Await(pair[0], 0);
  Snapshot();
  CHECK_OK(shutdown(pair[1], SHUT_WR));
  End(thread, "recv of all until the end");
}

static void ManyMessages(void) {
  CHECK_OK(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair));
  pthread_t thread = Begin(Recvmmsg);
  for (int i = 0; i < 2; i++) {
    CHECK_EQ(send(pair[1], pattern + 10 * i, 10, 0), 10);
    Await(pair[0], 0);
    Snapshot();
  }
  CHECK_EQ(send(pair[1], pattern + 20, 10, 0), 10);
  End(thread, "recvmmsg");
  CHECK(memcmp(received, pattern, 30) == 0);
}

static long Truncate(void) { return truncate("whole", 10); }

// It waits for whoever has a lease on the file, and has moved nothing.
static void Lease(void) {
  CHECK(signal(SIGIO, SIG_IGN) != SIG_ERR);
  int file = open("whole", O_RDONLY);
  CHECK_OK(fcntl(file, F_SETLEASE, F_RDLCK));
  pthread_t thread = Begin(Truncate);
  while (fcntl(file, F_GETLEASE) == F_RDLCK) usleep(1000);
  usleep(20000);
  // No snapshot carries a lease that is being broken; but it has interrupted the thread.
  CHECK(GuestTrySnapshot("refused", 0) < 0);
  usleep(20000);
  CHECK(!atomic_load(&done));
  CHECK_OK(fcntl(file, F_SETLEASE, F_UNLCK));
  End(thread, "truncate");
}

int main(void) {
  for (unsigned i = 0; i < kSize; i++)
    pattern[i] = (unsigned char)(i * 31 + (i >> 8) * 7 + (i >> 16));
  struct sigaction action = {.sa_handler = Handler};
  CHECK_OK(sigaction(SIGPIPE, &action, NULL));
  CHECK_OK(pipe(pipe_ends));
  CHECK_OK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
  IntoPipe("write", Write);
  IntoPipe("writev", Writev);
  Handled(0);
  Handled(SA_RESTART);
  atomic_store(&handled, 0);
  Closed();
  OverSocket("send", Send);
  OverSocket("sendmsg", Sendmsg);
  OverSocket("sendfile", Sendfile);
  FromSocket("recv of all", RecvAll);
  FromSocket("recvmsg of all", RecvmsgAll);
  Short();
  ManyMessages();
  Lease();
  return 0;
}
