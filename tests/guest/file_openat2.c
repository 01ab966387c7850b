// openat2: its structure, its flags, and each of its restrictions.
#include <linux/openat2.h>
#include <sys/stat.h>

#include "tests/guest/guest.h"

static long Open2(int at, const char* path, uint64_t flags, uint64_t mode, uint64_t resolve) {
  struct open_how how = {.flags = flags, .mode = mode, .resolve = resolve};
  return syscall(SYS_openat2, at, path, &how, sizeof how);
}

#define OPENS(...)                 \
  do {                             \
    long fd_ = Open2(__VA_ARGS__); \
    CHECK_OK(fd_);                 \
    CHECK_OK(close((int)fd_));     \
  } while (0)

static void Structure(void) {
  struct {
    struct open_how how;
    uint64_t more[600];
  } large = {.how = {.flags = O_RDONLY}};
  CHECK_ERRNO(syscall(SYS_openat2, AT_FDCWD, "file", &large, 23), EINVAL);
  CHECK_ERRNO(syscall(SYS_openat2, AT_FDCWD, "file", &large, 4097), E2BIG);
  CHECK_ERRNO(syscall(SYS_openat2, AT_FDCWD, "file", (void*)8, 24), EFAULT);
  long fd = syscall(SYS_openat2, AT_FDCWD, "file", &large, 4096);
  CHECK_OK(fd);
  CHECK_OK(close((int)fd));
  large.more[500] = 1;
  CHECK_ERRNO(syscall(SYS_openat2, AT_FDCWD, "file", &large, 4096), E2BIG);
  CHECK_ERRNO(syscall(SYS_openat2, AT_FDCWD, (char*)8, &large, 24), EFAULT);
  large.how.flags = 1ull << 40;  // before the path is looked at
  CHECK_ERRNO(syscall(SYS_openat2, AT_FDCWD, (char*)8, &large, 24), EINVAL);
  Say("structure");
}

static void Flags(void) {
  CHECK_ERRNO(Open2(AT_FDCWD, "file", 040, 0, 0), EINVAL);  // open ignores it
  CHECK_ERRNO(Open2(AT_FDCWD, "file", O_RDONLY, 0644, 0), EINVAL);
  CHECK_ERRNO(Open2(AT_FDCWD, "new", O_CREAT | O_WRONLY, 0100000, 0), EINVAL);
  CHECK_ERRNO(Open2(AT_FDCWD, "file", O_PATH | O_RDWR, 0, 0), EINVAL);
  CHECK_ERRNO(Open2(AT_FDCWD, "file", O_RDONLY, 0, 0x1000), EINVAL);
  CHECK_ERRNO(Open2(AT_FDCWD, "file", O_RDONLY, 0, RESOLVE_BENEATH | RESOLVE_IN_ROOT), EINVAL);
  CHECK_ERRNO(Open2(AT_FDCWD, "file", O_RDWR | O_TRUNC, 0, RESOLVE_CACHED), EAGAIN);
  long fd = Open2(AT_FDCWD, "new", O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0640, 0);
  CHECK_OK(fd);
  CHECK_EQ(fcntl((int)fd, F_GETFD), FD_CLOEXEC);
  CHECK_EQ(fcntl((int)fd, F_GETFL) & O_ACCMODE, O_WRONLY);
  struct stat status;
  CHECK_OK(fstat((int)fd, &status));
  CHECK_EQ(status.st_mode, S_IFREG | 0640);
  CHECK_OK(close((int)fd));
  CHECK_ERRNO(Open2(AT_FDCWD, "new", O_CREAT | O_EXCL | O_WRONLY, 0640, 0), EEXIST);
  fd = Open2(AT_FDCWD, "file", O_PATH, 0, 0);
  CHECK_ERRNO(read((int)fd, &status, 1), EBADF);
  CHECK_OK(close((int)fd));
  CHECK_ERRNO(Open2(99, "file", O_RDONLY, 0, 0), EBADF);
  // A cached one may be opened, or not.
  fd = Open2(AT_FDCWD, "file", O_RDONLY, 0, RESOLVE_CACHED);
  CHECK(fd >= 0 || errno == EAGAIN);
  Say("flags");
}

static void Restrictions(void) {
  int dir = open("dir", O_RDONLY | O_DIRECTORY);
  char absolute[4096];
  CHECK(realpath("file", absolute) != NULL);
  OPENS(dir, "inside", O_RDONLY, 0, RESOLVE_BENEATH);
  OPENS(dir, "sub/../inside", O_RDONLY, 0, RESOLVE_BENEATH);
  OPENS(dir, "near", O_RDONLY, 0, RESOLVE_BENEATH);
  CHECK_ERRNO(Open2(dir, "../file", O_RDONLY, 0, RESOLVE_BENEATH), EXDEV);
  CHECK_ERRNO(Open2(dir, "up", O_RDONLY, 0, RESOLVE_BENEATH), EXDEV);
  CHECK_ERRNO(Open2(dir, absolute, O_RDONLY, 0, RESOLVE_BENEATH), EXDEV);
  CHECK_ERRNO(Open2(dir, "/proc/self/status", O_RDONLY, 0, RESOLVE_BENEATH), EXDEV);
  CHECK_ERRNO(Open2(dir, "loop", O_RDONLY, 0, RESOLVE_BENEATH), ELOOP);
  CHECK_ERRNO(Open2(dir, "none", O_RDONLY, 0, RESOLVE_BENEATH), ENOENT);
  OPENS(dir, "/inside", O_RDONLY, 0, RESOLVE_IN_ROOT);
  OPENS(dir, "../../inside", O_RDONLY, 0, RESOLVE_IN_ROOT);
  CHECK_ERRNO(Open2(dir, "../file", O_RDONLY, 0, RESOLVE_IN_ROOT), ENOENT);
  CHECK_ERRNO(Open2(dir, "/proc/self/status", O_RDONLY, 0, RESOLVE_IN_ROOT), ENOENT);
  CHECK_ERRNO(Open2(99, "/inside", O_RDONLY, 0, RESOLVE_IN_ROOT), EBADF);
  OPENS(AT_FDCWD, "/file", O_RDONLY, 0, RESOLVE_IN_ROOT);
  CHECK_ERRNO(Open2(dir, "near", O_RDONLY, 0, RESOLVE_NO_SYMLINKS), ELOOP);
  OPENS(dir, "near", O_PATH | O_NOFOLLOW, 0, RESOLVE_NO_SYMLINKS);
  OPENS(dir, "inside", O_RDONLY, 0, RESOLVE_NO_SYMLINKS);
  OPENS(dir, "near", O_RDONLY, 0, RESOLVE_NO_MAGICLINKS);
  OPENS(dir, "inside", O_RDONLY, 0, RESOLVE_NO_XDEV);
  long fd = Open2(dir, "made", O_CREAT | O_RDWR, 0600, RESOLVE_BENEATH);
  CHECK_EQ(write((int)fd, "x", 1), 1);
  CHECK_OK(close((int)fd));
  CHECK_OK(faccessat(dir, "made", F_OK, 0));
  Say("restrictions");
}

// What the kernel shows of the program itself.
static void Proc(void) {
  char path[64], self[64], line[16];
  int file = open("file", O_RDONLY), root = open("/", O_PATH), proc = open("/proc", O_PATH);
  snprintf(path, sizeof path, "/proc/self/fd/%d", file);
  OPENS(AT_FDCWD, path, O_RDONLY, 0, 0);
  CHECK_ERRNO(Open2(AT_FDCWD, path, O_RDONLY, 0, RESOLVE_NO_MAGICLINKS), ELOOP);
  CHECK_ERRNO(Open2(AT_FDCWD, path, O_RDONLY, 0, RESOLVE_NO_SYMLINKS), ELOOP);
  CHECK_ERRNO(Open2(AT_FDCWD, path, O_RDONLY, 0, RESOLVE_NO_XDEV), EXDEV);
  CHECK_ERRNO(Open2(root, path + 1, O_RDONLY, 0, RESOLVE_BENEATH), EXDEV);
  CHECK_ERRNO(Open2(root, path, O_RDONLY, 0, RESOLVE_IN_ROOT), EXDEV);
  CHECK_ERRNO(Open2(AT_FDCWD, "/proc/self/exe", O_RDONLY, 0, RESOLVE_NO_MAGICLINKS), ELOOP);
  CHECK_ERRNO(Open2(root, "proc/self/exe", O_RDONLY, 0, RESOLVE_BENEATH), EXDEV);
  OPENS(AT_FDCWD, "/proc/self/exe", O_RDONLY, 0, 0);
  CHECK_ERRNO(Open2(AT_FDCWD, "/proc/self/status", O_RDONLY, 0, RESOLVE_NO_SYMLINKS), ELOOP);
  CHECK_ERRNO(Open2(AT_FDCWD, "/proc/self/status", O_RDONLY, 0, RESOLVE_NO_XDEV), EXDEV);
  int own = open("/proc/self/fd", O_RDONLY);
  snprintf(self, sizeof self, "%d", file);
  CHECK_ERRNO(Open2(own, self, O_RDONLY, 0, RESOLVE_BENEATH), EXDEV);
  CHECK_ERRNO(Open2(own, "57", O_RDONLY, 0, RESOLVE_BENEATH), ENOENT);
  CHECK_ERRNO(Open2(root, "/proc/self/fd/57", O_RDONLY, 0, RESOLVE_IN_ROOT), ENOENT);
  snprintf(self, sizeof self, "/proc/%d/comm", getpid());
  CHECK_ERRNO(Open2(AT_FDCWD, self, O_RDONLY, 0, RESOLVE_NO_XDEV), EXDEV);
  const struct {
    int at;
    const char* path;
    uint64_t resolve;
  } ways[] = {{AT_FDCWD, "/proc/self/comm", 0},
              {AT_FDCWD, "/proc/self/comm", RESOLVE_NO_MAGICLINKS},
              {AT_FDCWD, self, RESOLVE_NO_SYMLINKS},
              {proc, "self/comm", RESOLVE_BENEATH},
              {proc, "/self/comm", RESOLVE_IN_ROOT},
              {proc, "self/comm", RESOLVE_NO_XDEV},
              {root, "proc/self/comm", RESOLVE_BENEATH},
              {root, "/proc/self/comm", RESOLVE_IN_ROOT},
              {root, "/proc/./self/../self/comm", RESOLVE_IN_ROOT}};
  for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
    long fd = Open2(ways[i].at, ways[i].path, O_RDONLY, 0, ways[i].resolve);
    if (fd < 0) FAIL("%s with %#lx: %s", ways[i].path, ways[i].resolve, strerror(errno));
    memset(line, 0, sizeof line);
    CHECK(read((int)fd, line, sizeof line - 1) > 0);
    if (strncmp(line, "file_openat2", 12) != 0) FAIL("%s says %s", ways[i].path, line);
    CHECK_OK(close((int)fd));
  }
  Say("proc");
}

int main(void) {
  CHECK_OK(close(PatternFile("file", 100)));
  CHECK_OK(mkdir("dir", 0755));
  CHECK_OK(mkdir("dir/sub", 0755));
  CHECK_OK(close(PatternFile("dir/inside", 100)));
  CHECK_OK(symlink("inside", "dir/near"));
  CHECK_OK(symlink("../file", "dir/up"));
  CHECK_OK(symlink("loop", "dir/loop"));
  Structure();
  Flags();
  Restrictions();
  Proc();
  return 0;
}
