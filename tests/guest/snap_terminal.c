// variants: dynamic static musl
// Pseudo-terminals whose two ends the process holds, in a snapshot: settings, window, flags, and
// what waits to be read at both ends, by lines and by bytes; stopped, closed and hung-up ones.
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <termios.h>

#include "tests/guest/guest.h"

static int Master(void) {
  int master = open("/dev/ptmx", O_RDWR | O_NOCTTY);
  CHECK_OK(master);
  CHECK_OK(unlockpt(master));
  return master;
}

static int Slave(int master, int flags) {
  int slave = ioctl(master, TIOCGPTPEER, flags | O_NOCTTY);
  CHECK_OK(slave);
  return slave;
}

static void Put(int fd, const char* text) {
  CHECK_EQ(write(fd, text, strlen(text)), (long)strlen(text));
}

static void Expect(int fd, const char* wanted) {
  char text[4096] = "";
  struct pollfd one = {.fd = fd, .events = POLLIN};
  CHECK_EQ(poll(&one, 1, 5000), 1);
  CHECK_EQ(read(fd, text, sizeof text - 1), (long)strlen(wanted));
  if (strcmp(text, wanted) != 0) FAIL("read '%s', expected '%s'", text, wanted);
}

static void ExpectNothing(int fd) {
  struct pollfd one = {.fd = fd, .events = POLLIN};
  CHECK_EQ(poll(&one, 1, 0), 0);
}

// Until the line discipline has seen what was typed, which makes this echo.
static void AwaitEcho(int master, const char* wanted) {
  char text[4096] = "";
  size_t length = 0;
  while (length < strlen(wanted)) {
    ssize_t more = read(master, text + length, sizeof text - 1 - length);
    CHECK(more > 0);
    length += (size_t)more;
  }
  if (strcmp(text, wanted) != 0) FAIL("echoed '%s', expected '%s'", text, wanted);
}

static void SetRaw(int slave, int minimum) {
  struct termios settings;
  CHECK_OK(tcgetattr(slave, &settings));
  cfmakeraw(&settings);
  settings.c_cc[VMIN] = (cc_t)minimum;
  CHECK_OK(tcsetattr(slave, TCSANOW, &settings));
}

static atomic_int ready;
static int waited_for;

static void* Reader(void* unused) {
  (void)unused;
  char text[64] = "";
  atomic_store(&ready, 1);
  CHECK_EQ(read(waited_for, text, sizeof text), 5);
  CHECK(memcmp(text, "late\n", 5) == 0);
  return NULL;
}

static volatile sig_atomic_t signals;
static void OnIo(int number, siginfo_t* info, void* context) {
  (void)number, (void)info, (void)context;
  signals++;
}

// By lines: complete ones, an end of file, one that is being typed and is edited afterwards.
static int lines, lines_slave;
static void Lines(void) {
  lines = Master();
  lines_slave = Slave(lines, O_RDWR);
  Put(lines, "first\nsecond\n\004third\004begun");
  AwaitEcho(lines, "first\r\nsecond\r\nthirdbegun");
  char text[3];
  CHECK_EQ(read(lines_slave, text, 3), 3);  // a part of a line
  Put(lines_slave, "printed\n");
  struct winsize size = {.ws_row = 33, .ws_col = 77, .ws_xpixel = 5, .ws_ypixel = 6};
  CHECK_OK(ioctl(lines, TIOCSWINSZ, &size));
  struct termios settings;
  CHECK_OK(tcgetattr(lines_slave, &settings));
  settings.c_cc[VERASE] = '#';
  CHECK_OK(cfsetspeed(&settings, B19200));
  CHECK_OK(tcsetattr(lines_slave, TCSANOW, &settings));
}

static void CheckLines(void) {
  struct winsize size;
  CHECK_OK(ioctl(lines_slave, TIOCGWINSZ, &size));
  CHECK(size.ws_row == 33 && size.ws_col == 77 && size.ws_xpixel == 5 && size.ws_ypixel == 6);
  struct termios settings;
  CHECK_OK(tcgetattr(lines_slave, &settings));
  CHECK_EQ(settings.c_cc[VERASE], '#');
  CHECK_EQ(cfgetospeed(&settings), B19200);
  int waiting = -1;
  CHECK_OK(ioctl(lines_slave, FIONREAD, &waiting));
  CHECK_EQ(waiting, 3 + 7 + 5);
}

static void EndLines(void) {
  Put(lines, "#n\n");
  Expect(lines_slave, "st\n");
  Expect(lines_slave, "second\n");
  char byte;
  CHECK_EQ(read(lines_slave, &byte, 1), 0);
  Expect(lines_slave, "third");
  Expect(lines_slave, "begun\n");
  AwaitEcho(lines, "printed\r\n\b \bn\r\n");
  ExpectNothing(lines_slave);
  ExpectNothing(lines);
}

// By bytes, all of them, with flags; the slave is a descriptor for reading, one for writing and a
// copy.
static int raw, raw_read, raw_write, raw_copy;
static char all[256];
static void Raw(void) {
  raw = Master();
  CHECK_OK(fcntl(raw, F_SETFL, O_NONBLOCK));
  raw_read = Slave(raw, O_RDONLY | O_NONBLOCK);
  raw_write = Slave(raw, O_WRONLY);
  raw_copy = dup(raw_read);
  CHECK_OK(fcntl(raw_read, F_SETFD, FD_CLOEXEC));
  SetRaw(raw_read, 1);
  for (int i = 0; i < 256; i++) all[i] = (char)i;
  CHECK_EQ(write(raw, all, 256), 256);
  CHECK_EQ(write(raw_write, all, 256), 256);
  for (int waiting = 0; waiting < 256; SleepMs(1)) CHECK_OK(ioctl(raw_read, FIONREAD, &waiting));
  int on = 1;
  CHECK_OK(ioctl(raw, TIOCPKT, &on));
  CHECK_OK(ioctl(raw_read, TIOCEXCL));
  CHECK_OK(ioctl(raw, TIOCSPTLCK, &on));
  // Who wants a signal of what comes gets none of a snapshot.
  OnSignal(SIGIO, OnIo, 0);
  CHECK_OK(fcntl(raw_read, F_SETOWN, getpid()));
  CHECK_OK(fcntl(raw_read, F_SETFL, O_ASYNC | O_NONBLOCK));
}

static void CheckRaw(void) {
  int value = 0;
  CHECK_OK(ioctl(raw, TIOCGPKT, &value));
  CHECK_EQ(value, 1);
  CHECK_OK(ioctl(raw, TIOCGPTLCK, &value));
  CHECK_EQ(value, 1);
  CHECK_OK(ioctl(raw_write, TIOCGEXCL, &value));
  CHECK_EQ(value, 1);
  CHECK_EQ(fcntl(raw, F_GETFL) & (O_ACCMODE | O_NONBLOCK), O_RDWR | O_NONBLOCK);
  CHECK_EQ(fcntl(raw_copy, F_GETFL) & (O_ACCMODE | O_NONBLOCK), O_RDONLY | O_NONBLOCK);
  CHECK_EQ(fcntl(raw_read, F_GETFL) & O_ASYNC, O_ASYNC);
  CHECK_EQ(fcntl(raw_write, F_GETFL) & O_ACCMODE, O_WRONLY);
  CHECK_EQ(fcntl(raw_read, F_GETFD), FD_CLOEXEC);
  CHECK_EQ(signals, 0);
  // The name is one of a terminal, and both ends agree on it.
  char name[64], other[64];
  CHECK_ZERO(ptsname_r(raw, name, sizeof name));
  CHECK_ZERO(ttyname_r(raw_read, other, sizeof other));
  CHECK(strcmp(name, other) == 0);
}

static void EndRaw(void) {
  CHECK_OK(fcntl(raw_read, F_SETFL, O_NONBLOCK));
  char bytes[300];
  CHECK_EQ(read(raw_copy, bytes, sizeof bytes), 256);
  CHECK(memcmp(bytes, all, 256) == 0);
  CHECK_ERRNO(read(raw_read, bytes, sizeof bytes), EAGAIN);
  CHECK_EQ(read(raw, bytes, sizeof bytes), 257);
  CHECK_EQ(bytes[0], TIOCPKT_DATA);
  CHECK(memcmp(bytes + 1, all, 256) == 0);
  CHECK_ERRNO(read(raw, bytes, sizeof bytes), EAGAIN);
}

// More than the line discipline takes, in both directions.
static int full, full_slave;
static long put_in, put_out;
static void Full(void) {
  full = Master();
  full_slave = Slave(full, O_RDWR | O_NONBLOCK);
  CHECK_OK(fcntl(full, F_SETFL, O_NONBLOCK));
  SetRaw(full_slave, 1);
  char block[100];
  for (int i = 0; i < 60; i++) {
    memset(block, 'A' + i, sizeof block);
    CHECK_EQ(write(full, block, sizeof block), (long)sizeof block);
    CHECK_EQ(write(full_slave, block, sizeof block), (long)sizeof block);
    put_in += (long)sizeof block;
    put_out += (long)sizeof block;
  }
}

static void EndFull(int fd, long wanted) {
  for (long at = 0; at < wanted; at++) {
    char byte = 0;
    struct pollfd one = {.fd = fd, .events = POLLIN};
    CHECK_EQ(poll(&one, 1, 5000), 1);
    CHECK_EQ(read(fd, &byte, 1), 1);
    CHECK_EQ(byte, 'A' + at / 100);
  }
  ExpectNothing(fd);
}

// Stopped by a call; closed at the slave's end with something to read; hung up.
static int stopped, stopped_slave, closed, hung;
static void Ends(void) {
  stopped = Master();
  stopped_slave = Slave(stopped, O_RDWR | O_NONBLOCK);
  Put(stopped_slave, "before");
  CHECK_OK(tcflow(stopped_slave, TCOOFF));
  closed = Master();
  int slave = Slave(closed, O_RDWR);
  Put(slave, "last words");
  CHECK_OK(close(slave));
  int master = Master();
  hung = Slave(master, O_RDWR);
  CHECK_OK(close(master));
}

static void CheckEnds(void) {
  CHECK_ERRNO(write(stopped_slave, "x", 1), EAGAIN);
  struct pollfd one = {.fd = closed, .events = POLLIN};
  CHECK_EQ(poll(&one, 1, 0), 1);
  CHECK_EQ(one.revents, POLLIN | POLLHUP);
  char byte;
  CHECK_EQ(read(hung, &byte, 1), 0);
  CHECK_ERRNO(write(hung, "x", 1), EIO);
}

static void EndEnds(void) {
  CHECK_OK(tcflow(stopped_slave, TCOON));
  Put(stopped_slave, " and after");
  AwaitEcho(stopped, "before and after");
  Expect(closed, "last words");
  char byte;
  CHECK_ERRNO(read(closed, &byte, 1), EIO);
}

int main(void) {
  Lines();
  Raw();
  Full();
  Ends();
  int late = Master();
  waited_for = Slave(late, O_RDWR);
  pthread_t reader = StartThread(Reader, NULL);
  AwaitBlocked(&ready, 1);
  for (int round = 0; round < 3; round++) {
    CheckLines();
    CheckRaw();
    CheckEnds();
    // The first time a snapshot is taken and the process goes on.
    if (round == 0) {
      long result = GuestTrySnapshot("goes on", KM_SNAPSHOT_CONTINUE);
      if (result != -ENOSYS && result != 0) FAIL("a snapshot gave %ld", result);
    } else {
      GuestSnapshot();
    }
  }
  EndLines();
  EndRaw();
  EndFull(full_slave, put_in);
  EndFull(full, put_out);
  EndEnds();
  Put(late, "late\n");
  JoinThread(reader);
  // What cannot be carried is refused, and the rest not disturbed: nobody ever opened the other
  // end.
  int lonely = Master();
  if (GuestSnapshotWanted()) CHECK(GuestTrySnapshot("refused", KM_SNAPSHOT_CONTINUE) < 0);
  int slave = Slave(lonely, O_RDWR);
  Put(lonely, "x\n");
  Expect(slave, "x\n");
  Say("terminals are what they were");
  return 0;
}
