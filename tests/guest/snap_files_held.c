// What a snapshot keeps of open files beside their contents: locks and leases, watches of inotify,
// descriptors that are places only (O_PATH).
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/stat.h>

#include "tests/guest/guest.h"

static int one, two, flocked, shared, leased, instance, place, link_itself;
static int gone, gone_too;  // deleted; for writing alone, for both

static struct flock Lock(int type, long start, long length) {
  return (struct flock){.l_type = (short)type, .l_start = start, .l_len = length};
}

// What another description may not lock: from where to where, and how it is locked.
static void Held(long from, long length, int type, long start, long held) {
  struct flock lock = Lock(F_WRLCK, from, length);
  CHECK_OK(fcntl(two, F_OFD_GETLK, &lock));
  CHECK_EQ(lock.l_type, type);
  if (type == F_UNLCK) return;
  CHECK_EQ(lock.l_start, start);
  CHECK_EQ(lock.l_len, held);
}

// The locks that the kernel shows for a descriptor.
static int CountLocks(int fd) {
  char path[64], line[256];
  int count = 0;
  snprintf(path, sizeof path, "/proc/self/fdinfo/%d", fd);
  FILE* file = fopen(path, "r");
  CHECK(file != NULL);
  while (fgets(line, sizeof line, file) != NULL) count += strncmp(line, "lock:", 5) == 0;
  fclose(file);
  return count;
}

static void CheckLocks(void) {
  Held(0, 10, F_WRLCK, 0, 10);
  Held(10, 10, F_UNLCK, 0, 0);
  Held(20, 5, F_RDLCK, 20, 30);
  Held(50, 50, F_UNLCK, 0, 0);
  Held(100, 1000, F_WRLCK, 100, 0);
  CHECK_EQ(CountLocks(one), 3);
  CHECK_ERRNO(flock(two, LOCK_SH | LOCK_NB), EWOULDBLOCK);
  int other = open("shared", O_RDONLY);
  CHECK_OK(flock(other, LOCK_SH | LOCK_NB));
  CHECK_ERRNO(flock(other, LOCK_EX | LOCK_NB), EWOULDBLOCK);
  CHECK_OK(close(other));
  CHECK_EQ(fcntl(leased, F_GETLEASE), F_RDLCK);
  struct flock lock = Lock(F_WRLCK, 0, 0);
  CHECK_OK(fcntl(gone_too, F_OFD_GETLK, &lock));
  CHECK_EQ(lock.l_type, F_WRLCK);
  CHECK_EQ(lock.l_start, 3);
  CHECK_EQ(lock.l_len, 4);
  Say("locks");
}

static void Event(int watch, uint32_t mask, const char* name) {
  _Alignas(struct inotify_event) char bytes[512];
  struct inotify_event* event = (struct inotify_event*)bytes;
  // One at a time: a shorter buffer holds no second one with a name.
  ssize_t size = read(instance, bytes, sizeof *event + 16);
  CHECK_OK(size);
  CHECK_EQ(event->wd, watch);
  CHECK_EQ(event->mask, mask);
  CHECK(strcmp(event->len > 0 ? event->name : "", name) == 0);
}

static void CheckWatches(void) {
  char byte;
  CHECK_ERRNO(read(instance, &byte, 1), EAGAIN);
  CHECK_EQ(fcntl(instance, F_GETFL), O_NONBLOCK);
  CHECK_OK(close(open("dir/new", O_RDWR | O_CREAT, 0644)));
  Event(1, IN_CREATE, "new");
  CHECK_OK(unlink("dir/new"));
  Event(1, IN_DELETE, "new");
  CHECK_OK(chmod("watched", 0600));
  Event(4, IN_ATTRIB, "");
  int next = inotify_add_watch(instance, "shared", IN_OPEN);
  static int expected = 6;
  CHECK_EQ(next, expected++);
  CHECK_OK(inotify_rm_watch(instance, next));
  Event(next, IN_IGNORED, "");
  Say("watches");
}

static void CheckPlaces(void) {
  struct stat status;
  char text[16];
  CHECK_EQ(fcntl(place, F_GETFL) & O_PATH, O_PATH);
  CHECK_OK(faccessat(place, "inside", F_OK, 0));
  CHECK_OK(fstat(link_itself, &status));
  CHECK(S_ISLNK(status.st_mode));
  CHECK_EQ(readlinkat(link_itself, "", text, sizeof text), 3);
  Say("places");
}

static void Make(void) {
  CHECK_OK(close(PatternFile("file", 1000)));
  CHECK_OK(close(PatternFile("shared", 10)));
  CHECK_OK(close(PatternFile("leased", 10)));
  CHECK_OK(close(PatternFile("watched", 10)));
  CHECK_OK(mkdir("dir", 0755));
  CHECK_OK(close(PatternFile("dir/inside", 10)));
  CHECK_OK(symlink("dir", "link"));
  one = open("file", O_RDWR);
  two = open("file", O_RDWR);
  flocked = open("file", O_RDONLY);
  shared = open("shared", O_RDONLY);
  leased = open("leased", O_RDONLY);
  struct flock lock = Lock(F_WRLCK, 0, 10);
  CHECK_OK(fcntl(one, F_SETLK, &lock));
  lock = Lock(F_RDLCK, 20, 30);
  CHECK_OK(fcntl(one, F_OFD_SETLK, &lock));
  lock = Lock(F_WRLCK, 100, 0);
  CHECK_OK(fcntl(one, F_OFD_SETLK, &lock));
  CHECK_OK(flock(flocked, LOCK_EX));
  CHECK_OK(flock(shared, LOCK_SH));
  CHECK_OK(fcntl(leased, F_SETLEASE, F_RDLCK));
  gone = open("gone", O_WRONLY | O_CREAT, 0600);
  gone_too = open("gone", O_RDWR);
  CHECK_EQ(write(gone, "gone", 4), 4);
  CHECK_OK(unlink("gone"));
  lock = Lock(F_WRLCK, 3, 4);
  CHECK_OK(fcntl(gone, F_SETLK, &lock));
  instance = inotify_init1(IN_NONBLOCK);
  CHECK_EQ(inotify_add_watch(instance, "dir", IN_CREATE | IN_DELETE), 1);
  CHECK_EQ(inotify_add_watch(instance, "file", IN_DELETE_SELF), 2);
  CHECK_EQ(inotify_add_watch(instance, "shared", IN_ATTRIB), 3);
  CHECK_EQ(inotify_add_watch(instance, "watched", IN_ATTRIB), 4);
  CHECK_EQ(inotify_add_watch(instance, "link", IN_ATTRIB | IN_DONT_FOLLOW), 5);
  CHECK_OK(inotify_rm_watch(instance, 3));
  Event(3, IN_IGNORED, "");
  place = open("dir", O_PATH | O_DIRECTORY);
  link_itself = open("link", O_PATH | O_NOFOLLOW);
}

int main(void) {
  umask(022);
  Make();
  CheckLocks();
  CheckPlaces();
  CheckWatches();
  for (int i = 0; i < 2; i++) {
    GuestSnapshot();
    CheckLocks();
    CheckPlaces();
    CheckWatches();
  }
  return 0;
}
