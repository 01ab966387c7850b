// inotify: every kind of event, masks, a read that waits, an instance in poll and epoll.
#include <poll.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "tests/guest/guest.h"

static int instance, watch;

static const char* Names(uint32_t mask) {
  static char text[256];
  static const struct {
    uint32_t bit;
    const char* name;
  } names[] = {{IN_ACCESS, "ACCESS"},
               {IN_MODIFY, "MODIFY"},
               {IN_ATTRIB, "ATTRIB"},
               {IN_CLOSE_WRITE, "CLOSE_WRITE"},
               {IN_CLOSE_NOWRITE, "CLOSE_NOWRITE"},
               {IN_OPEN, "OPEN"},
               {IN_MOVED_FROM, "MOVED_FROM"},
               {IN_MOVED_TO, "MOVED_TO"},
               {IN_CREATE, "CREATE"},
               {IN_DELETE, "DELETE"},
               {IN_DELETE_SELF, "DELETE_SELF"},
               {IN_MOVE_SELF, "MOVE_SELF"},
               {IN_IGNORED, "IGNORED"},
               {IN_ISDIR, "ISDIR"}};
  text[0] = 0;
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    if (mask & names[i].bit) strcat(strcat(text, " "), names[i].name);
  }
  return text;
}

// Prints all events there are.
static void Show(const char* what) {
  _Alignas(struct inotify_event) char bytes[4096];
  Say("%s:", what);
  while (true) {
    ssize_t size = read(instance, bytes, sizeof bytes);
    if (size < 0) {
      CHECK_EQ(errno, EAGAIN);
      return;
    }
    uint32_t cookie = 0;
    for (char* at = bytes; at < bytes + size;) {
      struct inotify_event* event = (struct inotify_event*)at;
      if (event->mask & IN_MOVED_FROM) cookie = event->cookie;
      if (event->mask & IN_MOVED_TO) CHECK_EQ(event->cookie, cookie);
      Say("  wd %d%s '%s'", event->wd, Names(event->mask), event->len > 0 ? event->name : "");
      at += sizeof *event + event->len;
    }
  }
}

static void Events(void) {
  CHECK_OK(mkdir("dir", 0755));
  instance = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
  CHECK_OK(instance);
  CHECK_EQ(fcntl(instance, F_GETFD), FD_CLOEXEC);
  CHECK_EQ(fcntl(instance, F_GETFL), O_NONBLOCK);
  watch = inotify_add_watch(instance, "dir", IN_ALL_EVENTS);
  CHECK_EQ(watch, 1);
  Show("nothing");
  int fd = open("dir/a", O_RDWR | O_CREAT, 0644);
  CHECK_EQ(write(fd, "abc", 3), 3);
  CHECK_EQ(pread(fd, &(char){0}, 1, 0), 1);
  CHECK_OK(fchmod(fd, 0600));
  CHECK_OK(ftruncate(fd, 1));
  CHECK_OK(close(fd));
  fd = open("dir/a", O_RDONLY);
  CHECK_OK(close(fd));
  Show("a file");
  CHECK_OK(rename("dir/a", "dir/b"));
  CHECK_OK(mkdir("dir/sub", 0755));
  CHECK_OK(rmdir("dir/sub"));
  CHECK_OK(truncate("dir/b", 0));
  CHECK_OK(chmod("dir/b", 0644));
  struct stat status;
  CHECK_OK(stat("dir/b", &status));
  CHECK_OK(unlink("dir/b"));
  Show("names");
  CHECK_EQ(inotify_add_watch(instance, "./dir", IN_CREATE), 1);  // the same watch, less to see
  CHECK_OK(close(open("dir/c", O_RDWR | O_CREAT, 0644)));
  CHECK_ERRNO(inotify_add_watch(instance, "dir", IN_CREATE | IN_MASK_CREATE), EEXIST);
  Show("only creation");
  CHECK_EQ(inotify_add_watch(instance, "dir", IN_DELETE | IN_MASK_ADD), 1);
  CHECK_OK(unlink("dir/c"));
  Show("and deletion");
}

static void Masks(void) {
  CHECK_OK(symlink("dir", "link"));
  int link = inotify_add_watch(instance, "link", IN_ATTRIB | IN_DELETE_SELF | IN_DONT_FOLLOW);
  CHECK_EQ(link, 2);
  CHECK_OK(unlink("link"));
  Show("the link itself");
  int file = PatternFile("file", 10);
  CHECK_ERRNO(inotify_add_watch(instance, "file", IN_OPEN | IN_ONLYDIR), ENOTDIR);
  int once = inotify_add_watch(instance, "file", IN_MODIFY | IN_ONESHOT);
  CHECK_EQ(write(file, "x", 1), 1);
  CHECK_EQ(write(file, "y", 1), 1);
  CHECK_OK(close(file));
  Show("once");
  CHECK_ERRNO(inotify_rm_watch(instance, once), EINVAL);
  CHECK_OK(inotify_rm_watch(instance, watch));
  Show("removed");
  CHECK_ERRNO(inotify_rm_watch(instance, watch), EINVAL);
  CHECK_ERRNO(inotify_add_watch(instance, "none", IN_OPEN), ENOENT);
  CHECK_ERRNO(inotify_add_watch(instance, "", IN_OPEN), ENOENT);
  CHECK_ERRNO(inotify_add_watch(instance, "file", 0), EINVAL);
  CHECK_ERRNO(inotify_add_watch(instance, (char*)8, IN_OPEN), EFAULT);
  CHECK_ERRNO(inotify_add_watch(99, "file", IN_OPEN), EBADF);
  CHECK_ERRNO(inotify_rm_watch(99, 1), EBADF);
  int other = open("file", O_RDONLY);
  CHECK_ERRNO(inotify_add_watch(other, "file", IN_OPEN), EINVAL);
  CHECK_ERRNO(inotify_rm_watch(other, 1), EINVAL);
  CHECK_OK(close(other));
  CHECK_ERRNO(inotify_init1(1), EINVAL);
}

static void* WriteLater(void* argument) {
  SleepMs(30);
  CHECK_EQ(pwrite((int)(intptr_t)argument, "z", 1, 0), 1);
  return NULL;
}

static void Waiting(void) {
  int file = open("file", O_RDWR);
  CHECK_OK(inotify_add_watch(instance, "file", IN_MODIFY));
  struct pollfd ready = {.fd = instance, .events = POLLIN};
  CHECK_EQ(poll(&ready, 1, 0), 0);
  pthread_t thread = StartThread(WriteLater, (void*)(intptr_t)file);
  CHECK_EQ(poll(&ready, 1, -1), 1);
  JoinThread(thread);
  int size = 0;
  CHECK_OK(ioctl(instance, FIONREAD, &size));
  CHECK_EQ(size, sizeof(struct inotify_event));
  char small[8];
  CHECK_ERRNO(read(instance, small, sizeof small), EINVAL);
  CHECK_ERRNO(write(instance, small, sizeof small), EBADF);
  Show("poll");
  CHECK_OK(fcntl(instance, F_SETFL, 0));
  thread = StartThread(WriteLater, (void*)(intptr_t)file);
  struct inotify_event event;
  CHECK_EQ(read(instance, &event, sizeof event), sizeof event);
  CHECK_EQ(event.mask, IN_MODIFY);
  JoinThread(thread);
  CHECK_OK(fcntl(instance, F_SETFL, O_NONBLOCK));
  Show("read");
  int second = syscall(SYS_inotify_init);
  CHECK_OK(second);
  CHECK_EQ(fcntl(second, F_GETFD), 0);
}

int main(void) {
  Events();
  Masks();
  Waiting();
  return 0;
}
