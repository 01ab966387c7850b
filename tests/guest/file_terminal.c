// A pseudo-terminal whose two ends one process holds: line editing, raw mode, window size, packet
// mode, locks; then as the controlling terminal of a session of its own.
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <termios.h>

#include "tests/guest/guest.h"

static volatile sig_atomic_t caught[65];
static void Handler(int number, siginfo_t* info, void* context) {
  (void)info;
  (void)context;
  caught[number]++;
}

static int master, slave;

static void Type(const char* text) { CHECK_EQ(write(master, text, strlen(text)), strlen(text)); }

static void Expect(int fd, const char* wanted) {
  char text[200] = {0};
  size_t length = strlen(wanted), got = 0;
  while (got < length) {
    ssize_t more = read(fd, text + got, sizeof text - 1 - got);
    CHECK(more > 0);
    got += (size_t)more;
  }
  if (strcmp(text, wanted) != 0) FAIL("read '%s', expected '%s'", text, wanted);
}

static void Open(void) {
  master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);
  CHECK_OK(master);
  int number = -1, locked = -1;
  CHECK_OK(ioctl(master, TIOCGPTN, &number));
  char name[64], other[64];
  CHECK_ZERO(ptsname_r(master, name, sizeof name));
  snprintf(other, sizeof other, "/dev/pts/%d", number);
  CHECK(strcmp(name, other) == 0);
  CHECK_OK(ioctl(master, TIOCGPTLCK, &locked));
  CHECK_EQ(locked, 1);
  CHECK_ERRNO(open(name, O_RDWR | O_NOCTTY), EIO);
  CHECK_OK(unlockpt(master));
  slave = open(name, O_RDWR | O_NOCTTY);
  CHECK_OK(slave);
  CHECK(isatty(slave) && isatty(master));
  CHECK_ZERO(ttyname_r(slave, other, sizeof other));
  CHECK(strcmp(name, other) == 0);
  int peer = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
  CHECK_OK(peer);
  CHECK_EQ(fcntl(peer, F_GETFD), FD_CLOEXEC);
  struct stat one, two;
  CHECK_OK(fstat(peer, &one));
  CHECK_OK(fstat(slave, &two));
  CHECK_EQ(one.st_rdev, two.st_rdev);
  CHECK_OK(close(peer));
  unsigned device = 0;
  CHECK_OK(ioctl(slave, TIOCGDEV, &device));
  Say("opened");
}

static void Modes(void) {
  struct termios cooked, raw, now;
  CHECK_OK(tcgetattr(slave, &cooked));
  CHECK(cooked.c_lflag & ICANON);
  Type("one\n");
  Expect(slave, "one\n");
  Expect(master, "one\r\n");
  // Line editing: erase and kill.
  Type("abc\177d\n");
  Expect(slave, "abd\n");
  Type("wrong\025right\n");
  Expect(slave, "right\n");
  CHECK_OK(tcflush(master, TCIOFLUSH));
  CHECK_EQ(write(slave, "two\n", 4), 4);
  int pending = -1;
  struct pollfd readable = {.fd = master, .events = POLLIN};
  CHECK_EQ(poll(&readable, 1, 5000), 1);
  CHECK_OK(ioctl(master, FIONREAD, &pending));
  CHECK(pending >= 1);
  CHECK_OK(tcflush(slave, TCIOFLUSH));
  raw = cooked;
  cfmakeraw(&raw);
  raw.c_cc[VMIN] = 0;
  raw.c_cc[VTIME] = 0;
  CHECK_OK(tcsetattr(slave, TCSANOW, &raw));
  CHECK_OK(tcgetattr(slave, &now));
  CHECK_EQ(now.c_lflag, raw.c_lflag);
  CHECK_EQ(now.c_cc[VMIN], 0);
  char byte;
  CHECK_EQ(read(slave, &byte, 1), 0);
  raw.c_cc[VTIME] = 1;
  CHECK_OK(tcsetattr(slave, TCSADRAIN, &raw));
  CHECK_EQ(read(slave, &byte, 1), 0);
  Type("\003x");
  CHECK_EQ(read(slave, &byte, 1), 1);
  CHECK_EQ(byte, 3);
  CHECK_OK(cfsetspeed(&cooked, B115200));
  CHECK_OK(tcsetattr(slave, TCSAFLUSH, &cooked));
  CHECK_OK(tcgetattr(slave, &now));
  CHECK_EQ(cfgetospeed(&now), B115200);
  CHECK_OK(tcdrain(slave));
  CHECK_OK(tcsendbreak(slave, 0));
  CHECK_OK(tcflow(slave, TCOOFF));
  CHECK_OK(tcflow(slave, TCOON));
  CHECK_ERRNO(ioctl(slave, TCGETS, (void*)8), EFAULT);
  CHECK_ERRNO(ioctl(slave, TCSETS, (void*)8), EFAULT);
  CHECK_ERRNO(ioctl(slave, TCFLSH, 9), EINVAL);
  Say("modes");
}

// The second kind of structure, with any speed.
static void Modes2(void) {
  struct {
    unsigned iflag, oflag, cflag, lflag;
    unsigned char line, cc[19];
    unsigned ispeed, ospeed;
  } two;
  const unsigned long get = 0x802c542a, set = 0x402c542b;
  CHECK_EQ(sizeof two, 44);
  CHECK_OK(ioctl(slave, get, &two));
  CHECK_EQ(two.ospeed, 115200);
  two.cflag = (two.cflag & ~(unsigned)CBAUD) | 010000;  // BOTHER
  two.ispeed = two.ospeed = 54321;
  CHECK_OK(ioctl(slave, set, &two));
  two.ospeed = 0;
  CHECK_OK(ioctl(slave, get, &two));
  CHECK_EQ(two.ospeed, 54321);
  struct {
    unsigned short iflag, oflag, cflag, lflag;
    unsigned char line, cc[8];
  } old;
  CHECK_OK(ioctl(slave, TCGETA, &old));
  CHECK_EQ(old.lflag, (unsigned short)two.lflag);
  CHECK_OK(ioctl(slave, TCSETA, &old));
  Say("second kind");
}

static void Window(void) {
  struct winsize size = {.ws_row = 33, .ws_col = 77, .ws_xpixel = 1, .ws_ypixel = 2}, now;
  CHECK_OK(ioctl(slave, TIOCSWINSZ, &size));
  CHECK_OK(ioctl(master, TIOCGWINSZ, &now));
  CHECK(memcmp(&size, &now, sizeof size) == 0);
  CHECK_ERRNO(ioctl(slave, TIOCGWINSZ, (void*)8), EFAULT);
  int fds[2];
  CHECK_OK(pipe(fds));
  CHECK_ERRNO(ioctl(fds[0], TIOCGWINSZ, &now), ENOTTY);
  CHECK_ERRNO(ioctl(fds[0], TCGETS, &now), ENOTTY);
  CHECK_ERRNO(ioctl(999, TCGETS, &now), EBADF);
  CHECK_OK(close(fds[0]));
  CHECK_OK(close(fds[1]));
  Say("window");
}

static void Details(void) {
  int value = 1;
  CHECK_OK(ioctl(master, TIOCPKT, &value));
  value = 0;
  CHECK_OK(ioctl(master, TIOCGPKT, &value));
  CHECK_EQ(value, 1);
  CHECK_OK(tcflush(slave, TCOFLUSH));
  char text[10] = {0};
  CHECK_EQ(read(master, text, sizeof text), 1);
  CHECK_EQ(text[0], TIOCPKT_FLUSHWRITE);
  value = 0;
  CHECK_OK(ioctl(master, TIOCPKT, &value));
  CHECK_OK(ioctl(slave, TIOCEXCL));
  CHECK_OK(ioctl(slave, TIOCGEXCL, &value));
  CHECK_EQ(value, 1);
  CHECK_OK(ioctl(slave, TIOCNXCL));
  CHECK_OK(ioctl(slave, TIOCGETD, &value));
  CHECK_EQ(value, 0);
  CHECK_OK(ioctl(slave, TIOCSETD, &value));
  CHECK_OK(ioctl(slave, TIOCOUTQ, &value));
  CHECK_EQ(value, 0);
  CHECK_ERRNO(ioctl(slave, 0x4b44, &value), ENOTTY);  // KDGKBMODE: no console
  CHECK_ERRNO(ioctl(slave, 0x5400 + 0xee, &value), ENOTTY);
  // Not our terminal yet.
  if (getsid(0) != getpid()) {
    pid_t group;
    CHECK_ERRNO(ioctl(slave, TIOCGPGRP, &group), ENOTTY);
    CHECK_ERRNO(ioctl(slave, TIOCGSID, &group), ENOTTY);
  }
  Say("details");
}

int main(void) {
  for (int sig = 1; sig < 32; sig++) {
    if (sig == SIGINT || sig == SIGQUIT || sig == SIGTSTP || sig == SIGWINCH || sig == SIGHUP) {
      OnSignal(sig, Handler, 0);
    }
  }
  Open();
  Modes();
  Modes2();
  Window();
  Details();
  // The other end goes away.
  CHECK_OK(close(master));
  char byte;
  CHECK_EQ(read(slave, &byte, 1), 0);
  CHECK_ERRNO(write(slave, "x", 1), EIO);
  struct pollfd hung = {.fd = slave, .events = POLLIN};
  CHECK_EQ(poll(&hung, 1, 0), 1);
  CHECK(hung.revents & POLLHUP);
  CHECK_OK(close(slave));
  // Who has no terminal has no /dev/tty; who has, opens it.
  int own = open("/dev/tty", O_RDWR);
  if (own < 0) CHECK_EQ(errno, ENXIO);
  for (int sig = 1; sig < 32; sig++) CHECK_EQ(caught[sig], 0);
  Say("hung up");
  return 0;
}
