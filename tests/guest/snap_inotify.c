// Events of inotify that nobody has read when a snapshot is taken: they come first afterwards, in
// order, with whole names, and poll, epoll and FIONREAD tell of them.
#include <poll.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include "tests/guest/guest.h"

static int instance, waits, level, edge;
static _Alignas(struct inotify_event) char bytes[4096];

static int Unread(int fd) {
  int count = -1;
  CHECK_OK(ioctl(fd, FIONREAD, &count));
  return count;
}

static void CheckReady(bool ready) {
  struct pollfd look = {.fd = instance, .events = POLLIN};
  struct epoll_event event;
  CHECK_EQ(poll(&look, 1, 0), ready);
  CHECK_EQ(epoll_wait(level, &event, 1, 0), ready);
}

// Reads as much as `room` holds; the events as text.
static const char* Events(size_t room) {
  static char text[1024];
  ssize_t size = read(instance, bytes, room);
  CHECK_OK(size);
  text[0] = 0;
  for (char* at = bytes; at < bytes + size;) {
    struct inotify_event* event = (struct inotify_event*)at;
    size_t used = strlen(text);
    snprintf(text + used, sizeof text - used, "%s%d:%x:%d:%s", used > 0 ? " " : "", event->wd,
             event->mask, event->cookie != 0, event->len > 0 ? event->name : "");
    at += sizeof *event + event->len;
  }
  return text;
}

static void CheckEvents(size_t room, const char* expected) {
  const char* found = Events(room);
  if (strcmp(found, expected) != 0) {
    Say("found '%s', expected '%s'", found, expected);
    CHECK(false);
  }
}

static void Touch(const char* path) { CHECK_OK(close(open(path, O_RDWR | O_CREAT, 0644))); }

static void Happen(void) {
  Touch("dir/a");
  Touch("dir/a name of more than sixteen bytes");
  CHECK_OK(rename("dir/a", "dir/b"));
  CHECK_OK(unlink("dir/b"));
  CHECK_OK(unlink("dir/a name of more than sixteen bytes"));
}

static const char first[] = "1:100:0:a", second[] = "1:100:0:a name of more than sixteen bytes";
static const char rest[] = "1:40:1:a 1:80:1:b 1:200:0:b 1:200:0:a name of more than sixteen bytes";

static void CheckQuiet(void) {
  CHECK_ERRNO(read(instance, bytes, sizeof bytes), EAGAIN);
  CHECK_EQ(Unread(instance), 0);
  CheckReady(false);
}

// Held events, some of them read, and others that happened since.
static void Mixed(void) {
  Happen();
  const int unread = Unread(instance);
  GuestSnapshot();
  CHECK_EQ(Unread(instance), unread);
  CheckReady(true);
  CHECK_ERRNO(read(instance, bytes, 20), EINVAL);
  CheckReady(true);
  CheckEvents(32, first);
  CHECK_EQ(Unread(instance), unread - 32);
  CheckReady(true);
  Touch("dir/later");
  GuestSnapshot();
  CheckReady(true);
  CHECK_EQ(Unread(instance), unread);
  CheckEvents(64, second);
  CheckReady(true);
  char expected[256];
  snprintf(expected, sizeof expected, "%s 1:100:0:later", rest);
  CheckEvents(sizeof bytes, expected);
  CheckQuiet();
  CHECK_OK(unlink("dir/later"));
  CheckEvents(sizeof bytes, "1:200:0:later");
  CheckQuiet();
  Say("events that were not read");
}

// Watches that end and begin meanwhile have the numbers that they would have.
static void Numbers(int round) {
  static int next = 2;
  const int watch = inotify_add_watch(instance, "file", IN_ATTRIB);
  CHECK_EQ(watch, next++);
  CHECK_OK(chmod("file", 0600));
  CHECK_OK(inotify_rm_watch(instance, watch));
  GuestSnapshot();
  const int other = inotify_add_watch(instance, "file", IN_ATTRIB);
  CHECK_EQ(other, next++);
  char expected[64];
  snprintf(expected, sizeof expected, "%d:4:0: %d:8000:0:", watch, watch);
  CheckEvents(sizeof bytes, expected);
  CHECK_OK(inotify_rm_watch(instance, other));
  snprintf(expected, sizeof expected, "%d:8000:0:", other);
  CheckEvents(sizeof bytes, expected);
  CheckQuiet();
  Say("numbers of watches %d", round);
}

static void Vectors(void) {
  Happen();
  GuestSnapshot();
  char one[32], two[16];
  struct iovec parts[2] = {{one, sizeof one}, {two, sizeof two}};
  CHECK_EQ(readv(instance, parts, 2), 32);
  CHECK(strcmp(((struct inotify_event*)one)->name, "a") == 0);
  CHECK_ERRNO(syscall(SYS_read, instance, 8, sizeof bytes), EFAULT);
  while (read(instance, bytes, sizeof bytes) > 0) continue;
  CheckQuiet();
  struct epoll_event event;
  (void)epoll_wait(edge, &event, 1, 0);
  CHECK_EQ(epoll_wait(edge, &event, 1, 0), 0);
  Touch("dir/a");
  CHECK_EQ(epoll_wait(edge, &event, 1, 0), 1);
  CHECK_OK(unlink("dir/a"));
  while (read(instance, bytes, sizeof bytes) > 0) continue;
  Say("vectors, bad addresses, edges");
}

static void* Wait(void* unused) {
  _Alignas(struct inotify_event) char own[256];
  CHECK_EQ(read(waits, own, sizeof own), 16);
  CHECK_EQ(((struct inotify_event*)own)->mask, IN_ATTRIB);
  return unused;
}

// Who waits for events finds those that came while the snapshot was taken, or later ones.
static void Waiting(void) {
  pthread_t thread;
  CHECK_EQ(inotify_add_watch(waits, "file", IN_ATTRIB), 1);
  CHECK_EQ(pthread_create(&thread, NULL, Wait, NULL), 0);
  usleep(20000);
  GuestSnapshot();
  CHECK_OK(chmod("file", 0644));
  CHECK_EQ(pthread_join(thread, NULL), 0);
  CHECK_EQ(Unread(waits), 0);
  Say("a thread that waits");
}

int main(void) {
  umask(022);
  CHECK_OK(mkdir("dir", 0755));
  Touch("file");
  instance = inotify_init1(IN_NONBLOCK);
  waits = inotify_init1(0);
  CHECK_EQ(inotify_add_watch(instance, "dir", IN_CREATE | IN_DELETE | IN_MOVE), 1);
  level = epoll_create1(0);
  edge = epoll_create1(0);
  struct epoll_event wanted = {.events = EPOLLIN};
  CHECK_OK(epoll_ctl(level, EPOLL_CTL_ADD, instance, &wanted));
  wanted.events |= EPOLLET;
  CHECK_OK(epoll_ctl(edge, EPOLL_CTL_ADD, instance, &wanted));
  Mixed();
  Numbers(1);
  Vectors();
  Waiting();
  Mixed();
  Numbers(2);
  return 0;
}
