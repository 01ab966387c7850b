// variants: dynamic static
// What calls on files fill in, field by field: stat, statx, statfs, directory entries, locks, poll
// and epoll events, terminals, socket addresses. Where a value differs from run to run, how it
// agrees with another. A call writes its structure and not a byte more.
#include <dirent.h>
#include <linux/stat.h>
#include <netinet/in.h>
#include <poll.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/un.h>
#include <termios.h>

#include "tests/guest/guest.h"

#define kMark 0xa5

// A buffer whose bytes behind `size` a call must leave alone.
static uint8_t buffer[1024];

static void* Marked(void) { return memset(buffer, kMark, sizeof buffer); }

static void CheckUntouched(size_t size, const char* what) {
  for (size_t i = size; i < sizeof buffer; i++) {
    if (buffer[i] != kMark) FAIL("%s wrote byte %zu of %zu", what, i, size);
  }
}

static bool Recent(int64_t seconds, int64_t nanoseconds) {
  int64_t now = NowNs(CLOCK_REALTIME), then = seconds * 1000000000 + nanoseconds;
  return nanoseconds >= 0 && nanoseconds < 1000000000 && then <= now && now - then < 3600000000000;
}

// Without the times, which `recent` is about; a device of the kernel's keeps its own.
static void SayStat(const char* what, const struct stat* s, bool recent) {
  Say("%s: mode %o links %lu uid %u gid %u rdev %lx size %ld block %ld blocks %ld pad %x reserved "
      "%lx %lx %lx",
      what, s->st_mode, (long)s->st_nlink, s->st_uid, s->st_gid, (long)s->st_rdev, (long)s->st_size,
      (long)s->st_blksize, (long)s->st_blocks, *(uint32_t*)((uint8_t*)s + 36),
      *(long*)((uint8_t*)s + 120), *(long*)((uint8_t*)s + 128), *(long*)((uint8_t*)s + 136));
  if (!recent) return;
  CHECK(Recent(s->st_atim.tv_sec, s->st_atim.tv_nsec));
  CHECK(Recent(s->st_mtim.tv_sec, s->st_mtim.tv_nsec));
  CHECK(Recent(s->st_ctim.tv_sec, s->st_ctim.tv_nsec));
}

static void SayStatx(const char* what, const struct stat* s) {
  struct statx* x = (struct statx*)buffer;
  Say("%s: mask %x block %u attributes %llx links %u uid %u gid %u mode %o size %llu blocks %llu "
      "attributes_mask %llx rdev %u:%u dio %u %u",
      what, x->stx_mask, x->stx_blksize, x->stx_attributes, x->stx_nlink, x->stx_uid, x->stx_gid,
      x->stx_mode, x->stx_size, x->stx_blocks, x->stx_attributes_mask, x->stx_rdev_major,
      x->stx_rdev_minor, ((uint32_t*)x)[38], ((uint32_t*)x)[39]);
  CHECK_EQ(x->stx_ino, s->st_ino);
  CHECK_EQ((uint64_t)x->stx_dev_major << 8 | x->stx_dev_minor, s->st_dev);
  CHECK_EQ(x->stx_mtime.tv_sec, s->st_mtim.tv_sec);
  CHECK_EQ(x->stx_mtime.tv_nsec, s->st_mtim.tv_nsec);
  CHECK_EQ(x->stx_ctime.tv_nsec, s->st_ctim.tv_nsec);
  CHECK_EQ(x->stx_mtime.__reserved, 0);
}

static void OneStat(const char* what, int directory, const char* path, int flags, bool recent) {
  struct stat s;
  CHECK_OK(syscall(SYS_newfstatat, directory, path, Marked(), flags));
  CheckUntouched(sizeof s, "newfstatat");
  memcpy(&s, buffer, sizeof s);
  SayStat(what, &s, recent);
  CHECK_OK(syscall(SYS_statx, directory, path, flags, STATX_BASIC_STATS | STATX_BTIME | 0x3000,
                   Marked()));
  CheckUntouched(sizeof(struct statx), "statx");
  SayStatx(what, &s);
}

static void Stats(void) {
  close(PatternFile("file", 5000));
  CHECK_OK(symlink("file", "link"));
  CHECK_OK(link("file", "second"));
  CHECK_OK(mkdir("directory", 0751));
  CHECK_OK(mkfifo("fifo", 0620));
  OneStat("file", AT_FDCWD, "file", 0, true);
  OneStat("through link", AT_FDCWD, "link", 0, true);
  OneStat("link", AT_FDCWD, "link", AT_SYMLINK_NOFOLLOW, true);
  OneStat("directory", AT_FDCWD, "directory", 0, true);
  OneStat("fifo", AT_FDCWD, "fifo", 0, true);
  OneStat("/dev/null", AT_FDCWD, "/dev/null", 0, false);
  int ends[2];
  CHECK_OK(pipe(ends));
  OneStat("pipe", ends[0], "", AT_EMPTY_PATH, true);
  close(ends[0]);
  close(ends[1]);
  int fd = eventfd(0, 0);
  OneStat("eventfd", fd, "", AT_EMPTY_PATH, false);
  close(fd);
  fd = socket(AF_UNIX, SOCK_STREAM, 0);
  OneStat("socket", fd, "", AT_EMPTY_PATH, false);
  close(fd);
}

static void FileSystem(void) {
  CHECK_OK(syscall(SYS_statfs, ".", Marked()));
  CheckUntouched(sizeof(struct statfs), "statfs");
  struct statfs first;
  memcpy(&first, buffer, sizeof first);
  Say("statfs: type %lx block %ld blocks %lu files %lu name %ld fragment %ld flags %lx spare %lx "
      "%lx",
      (long)first.f_type, (long)first.f_bsize, (long)first.f_blocks, (long)first.f_files,
      (long)first.f_namelen, (long)first.f_frsize, (long)first.f_flags, (long)first.f_spare[0],
      (long)first.f_spare[3]);
  int fd = open(".", O_RDONLY);
  struct statfs second;
  CHECK_OK(fstatfs(fd, &second));
  close(fd);
  CHECK(memcmp(&first.f_fsid, &second.f_fsid, sizeof first.f_fsid) == 0);
  CHECK_EQ(first.f_type, second.f_type);
}

// Names in the order of the alphabet: a directory has its own.
static int ByName(const void* a, const void* b) { return strcmp(a, b); }

static void Directory(void) {
  char lines[16][64];
  int count = 0;
  int fd = open(".", O_RDONLY);
  long size = syscall(SYS_getdents64, fd, Marked(), 600);
  CHECK(size > 0);
  CheckUntouched((size_t)size, "getdents64");
  for (long at = 0; at < size;) {
    struct dirent* entry = (struct dirent*)(buffer + at);
    struct stat s;
    CHECK_OK(lstat(entry->d_name, &s));
    if (strcmp(entry->d_name, "..") != 0) CHECK_EQ(entry->d_ino, s.st_ino);
    CHECK_EQ(entry->d_reclen % 8, 0);
    snprintf(lines[count++], sizeof *lines, "%.20s type %d length %d", entry->d_name, entry->d_type,
             entry->d_reclen);
    at += entry->d_reclen;
  }
  CHECK_EQ(syscall(SYS_getdents64, fd, buffer, 600), 0);
  CHECK_OK(lseek(fd, 0, SEEK_SET));
  CHECK_ERRNO(syscall(SYS_getdents64, fd, buffer, 20), EINVAL);
  long old = syscall(SYS_getdents, fd, Marked(), 600);
  CHECK_EQ(old, size);
  close(fd);
  qsort(lines, (size_t)count, sizeof *lines, ByName);
  for (int i = 0; i < count; i++) Say("entry %s", lines[i]);
  // The old form has its type in the last byte.
  struct {
    unsigned long inode, offset;
    unsigned short length;
    char name[];
  }* entry = (void*)buffer;
  uint8_t type = buffer[entry->length - 1];
  CHECK(type == DT_DIR || type == DT_REG || type == DT_LNK || type == DT_FIFO);
}

static void Locks(void) {
  int fd = open("file", O_RDWR), other = open("file", O_RDWR);
  struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 10, .l_len = 20};
  CHECK_OK(fcntl(fd, F_OFD_SETLK, &lock));
  lock = (struct flock){.l_type = F_RDLCK, .l_whence = SEEK_CUR, .l_start = 15, .l_len = 0};
  CHECK_OK(fcntl(other, F_OFD_GETLK, &lock));
  Say("lock: type %d whence %d start %ld length %ld pid %d", lock.l_type, lock.l_whence,
      (long)lock.l_start, (long)lock.l_len, lock.l_pid);
  lock = (struct flock){.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = 40, .l_len = 5};
  CHECK_OK(fcntl(other, F_GETLK, &lock));
  Say("no lock: type %d whence %d start %ld length %ld pid %d", lock.l_type, lock.l_whence,
      (long)lock.l_start, (long)lock.l_len, lock.l_pid);
  close(fd);
  close(other);
}

static void Events(void) {
  int ends[2], pair[2];
  CHECK_OK(pipe(ends));
  CHECK_OK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
  int epoll = epoll_create1(0);
  int fds[] = {ends[0], ends[1], pair[0]};
  for (int i = 0; i < 3; i++) {
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLPRI,
                                .data.u64 = 0x1122334455667700u + (unsigned)i};
    CHECK_OK(epoll_ctl(epoll, EPOLL_CTL_ADD, fds[i], &event));
  }
  for (int round = 0; round < 3; round++) {
    if (round == 1) {
      CHECK_EQ(write(ends[1], "x", 1), 1);
      CHECK_EQ(send(pair[1], "x", 1, 0), 1);
    } else if (round == 2) {
      close(ends[0]);
      close(pair[1]);
    }
    long count = syscall(SYS_epoll_wait, epoll, Marked(), 8, 0);
    CheckUntouched((size_t)count * sizeof(struct epoll_event), "epoll_wait");
    for (long i = 0; i < count; i++) {
      struct epoll_event event;
      memcpy(&event, buffer + i * (long)sizeof event, sizeof event);
      Say("epoll round %d: %x %llx", round, event.events, (unsigned long long)event.data.u64);
    }
    struct pollfd polled[] = {{ends[1], POLLIN | POLLOUT | POLLPRI, 0x7f7f},
                              {pair[0], POLLIN | POLLOUT | POLLRDHUP, 0x7f7f},
                              {-1, POLLIN, 0x7f7f},
                              {999, POLLIN, 0x7f7f}};
    int ready = poll(polled, 4, 0);
    Say("poll round %d: %d, %x %x %x %x", round, ready, polled[0].revents, polled[1].revents,
        polled[2].revents, polled[3].revents);
  }
  close(ends[1]);
  close(pair[0]);
  close(epoll);
}

static void Terminal(void) {
  int master = open("/dev/ptmx", O_RDWR | O_NOCTTY);
  CHECK_OK(master);
  CHECK_OK(ioctl(master, TCGETS, Marked()));
  CheckUntouched(36, "TCGETS");  // the kernel's struct termios
  uint32_t* flags = (uint32_t*)buffer;
  Say("termios: %x %x %x %x line %d", flags[0], flags[1], flags[2], flags[3], buffer[16]);
  for (int i = 0; i < 19; i++) printf("%s%d", i == 0 ? "control " : " ", buffer[17 + i]);
  Say("%s", "");
  struct winsize size = {12, 34, 56, 78};
  CHECK_OK(ioctl(master, TIOCSWINSZ, &size));
  CHECK_OK(ioctl(master, TIOCGWINSZ, Marked()));
  CheckUntouched(sizeof size, "TIOCGWINSZ");
  CHECK(memcmp(buffer, &size, sizeof size) == 0);
  close(master);
}

static void SayAddress(const char* what, socklen_t length, size_t room) {
  CheckUntouched(length < room ? length : room, what);
  printf("%s: length %u,", what, length);
  for (size_t i = 0; i < length && i < room; i++) printf(" %02x", buffer[i]);
  Say("%s", "");
}

static void Addresses(void) {
  int listener = socket(AF_UNIX, SOCK_STREAM, 0), client = socket(AF_UNIX, SOCK_STREAM, 0);
  struct sockaddr_un name = {AF_UNIX, "name"};
  CHECK_OK(bind(listener, (struct sockaddr*)&name, 2 + 5));
  CHECK_OK(listen(listener, 1));
  CHECK_OK(connect(client, (struct sockaddr*)&name, 2 + 5));
  socklen_t length = 110;
  CHECK_OK(getsockname(listener, Marked(), &length));
  SayAddress("unix name", length, 110);
  length = 4;
  CHECK_OK(getpeername(client, Marked(), &length));
  SayAddress("unix peer in 4 bytes", length, 4);
  length = 110;
  CHECK_OK(getsockname(client, Marked(), &length));
  SayAddress("unix without a name", length, 110);
  length = 110;
  int accepted = accept(listener, Marked(), &length);
  CHECK_OK(accepted);
  SayAddress("accepted", length, 110);
  int udp = socket(AF_INET, SOCK_DGRAM, 0), six = socket(AF_INET6, SOCK_DGRAM, 0);
  length = 20;
  CHECK_OK(getsockname(udp, Marked(), &length));
  SayAddress("inet", length, 20);
  if (six >= 0) {
    length = 40;
    CHECK_OK(getsockname(six, Marked(), &length));
    SayAddress("inet6", length, 40);
    close(six);
  }
  struct sockaddr_in loopback = {AF_INET, 0, {htonl(INADDR_LOOPBACK)}, {0}};
  CHECK_OK(bind(udp, (struct sockaddr*)&loopback, sizeof loopback));
  length = sizeof loopback;
  CHECK_OK(getsockname(udp, (struct sockaddr*)&loopback, &length));
  CHECK_EQ(sendto(udp, "to me", 5, 0, (struct sockaddr*)&loopback, sizeof loopback), 5);
  char text[8];
  length = sizeof loopback;
  CHECK_EQ(recvfrom(udp, text, sizeof text, 0, Marked(), &length), 5);
  CheckUntouched(sizeof loopback, "recvfrom");
  CHECK(memcmp(buffer, &loopback, sizeof loopback) == 0);
  Say("from itself, length %u", length);
  close(udp);
  close(listener);
  close(client);
  close(accepted);
}

int main(void) {
  umask(022);
  Stats();
  FileSystem();
  Directory();
  Locks();
  Events();
  Terminal();
  Addresses();
  return 0;
}
