// variants: dynamic static
// Pipes and FIFOs in a snapshot: contents in order, room, ends and what they share; packets stay
// packets; a pipe without writers ends, one without readers breaks.
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "tests/guest/guest.h"

static int Waiting(int fd) {
  int count = -1;
  CHECK_OK(ioctl(fd, FIONREAD, &count));
  return count;
}

static void Expect(int fd, const char* text) {
  char bytes[64] = "";
  CHECK_EQ(read(fd, bytes, sizeof bytes - 1), (long)strlen(text));
  if (strcmp(bytes, text) != 0) FAIL("read '%s', not '%s'", bytes, text);
}

static volatile sig_atomic_t broken_pipes;

static void OnPipe(int number) { broken_pipes += number == SIGPIPE; }

int main(void) {
  signal(SIGPIPE, SIG_IGN);
  int plain[2], ended[2], broken[2], packets[2], single[2], full[2];
  CHECK_OK(pipe(plain));
  CHECK_EQ(write(plain[1], "first,", 6), 6);
  CHECK_EQ(write(plain[1], "second", 6), 6);
  int same = dup(plain[0]);
  CHECK_OK(fcntl(plain[0], F_SETFL, O_NONBLOCK));
  CHECK_OK(pipe(ended));
  CHECK_EQ(write(ended[1], "last", 4), 4);
  CHECK_OK(close(ended[1]));
  CHECK_OK(pipe(broken));
  CHECK_OK(close(broken[0]));
  CHECK_OK(pipe2(packets, O_DIRECT | O_CLOEXEC));
  CHECK_EQ(write(packets[1], "one", 3), 3);
  CHECK_EQ(write(packets[1], "two", 3), 3);
  CHECK_OK(pipe2(single, O_DIRECT));
  CHECK_EQ(write(single[1], "1", 1), 1);
  CHECK_OK(pipe2(full, O_NONBLOCK));
  CHECK_OK(fcntl(full[1], F_SETPIPE_SZ, 8192));
  char block[4096];
  memset(block, 'f', sizeof block);
  CHECK_EQ(write(full[1], block, sizeof block), (long)sizeof block);
  CHECK_EQ(write(full[1], block, sizeof block), (long)sizeof block);
  CHECK_ERRNO(write(full[1], block, 1), EAGAIN);
  CHECK_OK(mkfifo("fifo", 0600));
  int fifo = open("fifo", O_RDWR);
  CHECK_OK(fifo);
  CHECK_EQ(write(fifo, "in the fifo", 11), 11);
  CHECK_OK(mkfifo("lonely", 0600));
  int lonely = open("lonely", O_RDONLY | O_NONBLOCK);  // nobody writes
  CHECK_OK(lonely);

  CHECK_OK(mkfifo("deserted", 0600));
  int leaving = open("deserted", O_RDONLY | O_NONBLOCK);
  int deserted = open("deserted", O_WRONLY | O_NONBLOCK);  // nobody reads what is in it
  CHECK_OK(deserted);
  CHECK_EQ(write(deserted, "left", 4), 4);
  CHECK_OK(close(leaving));

  // What the ends show of how they were opened: open(2) adds O_LARGEFILE, pipe(2) does not.
  char path[32];
  snprintf(path, sizeof path, "/proc/self/fd/%d", plain[0]);
  int opened = open(path, O_RDONLY | O_NONBLOCK);
  CHECK_OK(opened);
  const int shown[] = {plain[0], plain[1], packets[0], packets[1], full[1],
                       fifo,     lonely,   deserted,   opened};
  enum { kShown = sizeof shown / sizeof *shown };
  int flags[kShown];
  for (int i = 0; i < kShown; i++) flags[i] = fcntl(shown[i], F_GETFL);

  for (int round = 0; round < 2; round++) {
    GuestSnapshot();
    for (int i = 0; i < kShown; i++) CHECK_EQ(fcntl(shown[i], F_GETFL), flags[i]);
    CHECK_EQ(Waiting(plain[0]), 12);
    CHECK_EQ(Waiting(full[0]), 8192);
    CHECK_EQ(Waiting(packets[0]), 6);
    CHECK_EQ(Waiting(fifo), 11);
    CHECK_EQ(fcntl(same, F_GETFL) & O_NONBLOCK, O_NONBLOCK);  // one description
    CHECK_EQ(fcntl(full[0], F_GETPIPE_SZ), 8192);
    CHECK_EQ(fcntl(packets[1], F_GETFD), FD_CLOEXEC);
    char byte;
    CHECK_EQ(read(lonely, &byte, 1), 0);
    CHECK_ERRNO(write(broken[1], "x", 1), EPIPE);
    CHECK_ERRNO(write(deserted, "x", 1), EPIPE);
    CHECK_ERRNO(open("deserted", O_WRONLY | O_NONBLOCK), ENXIO);
    CHECK_ERRNO(write(full[1], block, 1), EAGAIN);
  }
  Expect(plain[0], "first,second");
  CHECK_ERRNO(read(same, block, 1), EAGAIN);
  CHECK_EQ(write(plain[1], "third", 5), 5);
  Expect(same, "third");
  Expect(ended[0], "last");
  CHECK_EQ(read(ended[0], block, 1), 0);
  Expect(packets[0], "one");
  Expect(packets[0], "two");
  CHECK_EQ(write(single[1], "another", 7), 7);
  Expect(single[0], "1");
  Expect(single[0], "another");
  CHECK_EQ(read(full[0], block, sizeof block), (long)sizeof block);
  CHECK_EQ(write(full[1], block, 1), 1);
  Expect(fifo, "in the fifo");
  int reader = open("deserted", O_RDONLY | O_NONBLOCK);
  CHECK_OK(reader);
  CHECK_EQ(write(deserted, " alone", 6), 6);
  Expect(reader, "left alone");
  CHECK_OK(close(reader));
  signal(SIGPIPE, OnPipe);
  CHECK_ERRNO(write(deserted, "x", 1), EPIPE);
  CHECK_EQ(broken_pipes, 1);
  int writer = open("lonely", O_WRONLY | O_NONBLOCK);
  CHECK_OK(writer);
  CHECK_EQ(write(writer, "hello", 5), 5);
  Expect(lonely, "hello");
  Say("pipes are what they were");
  return 0;
}
