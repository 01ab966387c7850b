// A snapshot that is refused (a deleted directory is open) while threads are blocked in accept,
// read, poll and recv: each goes on waiting, and gets its data once.
// When it is closed, it works.
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "tests/guest/guest.h"

enum { kAccept, kRead, kPoll, kRecv, kKinds };

static int listener, pipe_ends[2], polled[2], received[2];
static atomic_int ready, finished;

static void Expect(int fd, const char* text, bool is_socket) {
  char bytes[16] = {0};
  long count = is_socket ? recv(fd, bytes, sizeof bytes, 0) : read(fd, bytes, sizeof bytes);
  CHECK_EQ(count, strlen(text));
  CHECK(strcmp(bytes, text) == 0);
}

static void* Body(void* argument) {
  int kind = (int)(long)argument;
  struct pollfd wait = {.fd = polled[0], .events = POLLIN};
  atomic_fetch_add(&ready, 1);
  switch (kind) {
    case kAccept: {
      int fd = accept(listener, NULL, NULL);
      CHECK_OK(fd);
      Expect(fd, "accept", true);
      CHECK_OK(close(fd));
      break;
    }
    case kRead:
      Expect(pipe_ends[0], "read", false);
      break;
    case kPoll:
      CHECK_EQ(poll(&wait, 1, 60000), 1);
      CHECK_EQ(wait.revents, POLLIN);
      Expect(polled[0], "poll", true);
      break;
    default:
      Expect(received[0], "recv", true);
  }
  atomic_fetch_add(&finished, 1);
  return NULL;
}

static void TryToSnapshot(void) {
  for (int i = 0; i < 3; i++) {
    long result = GuestTrySnapshot("blocked", KM_SNAPSHOT_CONTINUE);
    if (result >= 0) FAIL("a snapshot with an open deleted directory returned %ld", result);
  }
  SleepMs(60);
}

static void NothingLeft(int fd) {
  struct pollfd wait = {.fd = fd, .events = POLLIN};
  CHECK_EQ(poll(&wait, 1, 0), 0);
}

int main(void) {
  struct sockaddr_un name = {.sun_family = AF_UNIX};
  socklen_t size = sizeof name;
  CHECK_OK(mkdir("gone", 0700));
  int directory = open("gone", O_RDONLY | O_DIRECTORY);
  CHECK_OK(directory);
  CHECK_OK(rmdir("gone"));
  listener = socket(AF_UNIX, SOCK_STREAM, 0);
  CHECK_OK(listener);
  CHECK_OK(bind(listener, (struct sockaddr*)&name, sizeof name.sun_family));  // a name of its own
  CHECK_OK(getsockname(listener, (struct sockaddr*)&name, &size));
  CHECK_OK(listen(listener, 5));
  CHECK_OK(pipe(pipe_ends));
  CHECK_OK(socketpair(AF_UNIX, SOCK_STREAM, 0, polled));
  CHECK_OK(socketpair(AF_UNIX, SOCK_STREAM, 0, received));
  for (int round = 0; round < 3; round++) {
    pthread_t threads[kKinds];
    atomic_store(&ready, 0);
    atomic_store(&finished, 0);
    for (long i = 0; i < kKinds; i++) threads[i] = StartThread(Body, (void*)i);
    AwaitBlocked(&ready, kKinds);
    TryToSnapshot();
    CHECK_EQ(atomic_load(&finished), 0);
    CHECK_EQ(send(polled[1], "poll", 4, 0), 4);
    CHECK_EQ(send(received[1], "recv", 4, 0), 4);
    CHECK_EQ(write(pipe_ends[1], "read", 4), 4);
    int client = socket(AF_UNIX, SOCK_STREAM, 0);
    CHECK_OK(connect(client, (struct sockaddr*)&name, size));
    CHECK_EQ(send(client, "accept", 6, 0), 6);
    TryToSnapshot();
    for (int i = 0; i < kKinds; i++) JoinThread(threads[i]);
    NothingLeft(listener);
    NothingLeft(pipe_ends[0]);
    NothingLeft(polled[0]);
    NothingLeft(received[0]);
    CHECK_OK(close(client));
    Say("round %d", round);
  }
  int fds[] = {directory, listener,  pipe_ends[0], pipe_ends[1],
               polled[0], polled[1], received[0],  received[1]};
  for (size_t i = 0; i < sizeof fds / sizeof fds[0]; i++) CHECK_OK(close(fds[i]));
  GuestSnapshot();
  Say("taken");
  return 0;
}
