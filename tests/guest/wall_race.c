// One thread swaps what a link leads to while another follows it: whatever comes out, it is never
// the monitor.
#include <km/hypercall.h>
#include <linux/limits.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "tests/guest/guest.h"

static atomic_int stop;

// Swaps the links "a" and "b" by way of "c".
static void* Swap(void* unused) {
  while (!atomic_load(&stop)) {
    renameat2(AT_FDCWD, "a", AT_FDCWD, "b", 1 << 1);  // RENAME_EXCHANGE
  }
  return unused;
}

static struct stat program, own_status;

static void NotTheMonitor(const struct stat* status, const char* how) {
  // "exe" of the program, or of nothing: the other link leads to a directory with a file "exe".
  if (status->st_dev == program.st_dev && status->st_ino == program.st_ino) return;
  if (status->st_dev == own_status.st_dev && status->st_ino == own_status.st_ino) return;
  FAIL("%s led to inode %lu", how, (unsigned long)status->st_ino);
}

static void CheckPid(int fd) {
  char text[200] = {0};
  if (read(fd, text, sizeof(text) - 1) <= 0 || strncmp(text, "other", 5) == 0) return;
  if (strncmp(text, "Name:\twall_race", 15) != 0) FAIL("read: %s", text);
}

int main(void) {
  CHECK_OK(stat("/proc/self/exe", &program));
  CHECK_OK(mkdir("dir", 0755));
  int fd = open("dir/exe", O_CREAT | O_WRONLY, 0644);
  CHECK_OK(fd);
  CHECK_OK(fstat(fd, &own_status));
  CHECK_OK(close(fd));
  fd = open("dir/status", O_CREAT | O_WRONLY, 0644);
  CHECK_EQ(write(fd, "other", 5), 5);
  CHECK_OK(close(fd));
  CHECK_OK(symlink("dir", "a"));
  CHECK_OK(symlink("/proc/self", "b"));
  pthread_t thread = StartThread(Swap, NULL);
  int64_t end = NowNs(CLOCK_MONOTONIC) + 700 * 1000000ll;
  while (NowNs(CLOCK_MONOTONIC) < end) {
    struct stat status;
    if (stat("a/exe", &status) == 0) NotTheMonitor(&status, "stat");
    char text[PATH_MAX];
    ssize_t length = readlink("a/exe", text, sizeof(text));
    if (length > 0 && memmem(text, (size_t)length, "wall_race", 9) == NULL) {
      FAIL("readlink: %.*s", (int)length, text);
    }
    fd = open("a/exe", O_RDONLY);
    if (fd >= 0) {
      CHECK_OK(fstat(fd, &status));
      NotTheMonitor(&status, "open");
      CHECK_OK(close(fd));
    }
    fd = open("a/status", O_RDONLY);
    if (fd >= 0) CheckPid(fd);
    if (fd >= 0) CHECK_OK(close(fd));
    int directory = open("a", O_PATH | O_DIRECTORY);
    if (directory >= 0) {
      if (fstatat(directory, "exe", &status, 0) == 0) NotTheMonitor(&status, "fstatat");
      fd = openat(directory, "status", O_RDONLY);
      if (fd >= 0) CheckPid(fd);
      if (fd >= 0) CHECK_OK(close(fd));
      CHECK_OK(close(directory));
    }
  }
  atomic_store(&stop, 1);
  JoinThread(thread);
  Say("never the monitor");
  return 0;
}
