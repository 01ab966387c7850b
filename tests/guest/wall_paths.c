// Every way to the program's own directory in /proc, by every call that takes a path, leads to the
// same: the program's, never the monitor's.
#include <dirent.h>
#include <linux/limits.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/vfs.h>
#include <sys/xattr.h>

#include "tests/guest/guest.h"

static struct stat program;
static int fd_of_file, directory;

static void Exe(int at, const char* base) {
  char path[300];
  struct stat status;
  struct statx wide;
  snprintf(path, sizeof(path), "%s/exe", base);
#define SAME(call)                                                          \
  do {                                                                      \
    if ((call) != 0) FAIL("%s of %s: %s", #call, path, strerror(errno));    \
    if (status.st_ino != program.st_ino || status.st_dev != program.st_dev) \
      FAIL("%s of %s is another file", #call, path);                        \
  } while (0)
  SAME(fstatat(at, path, &status, 0));
  CHECK_OK(syscall(SYS_statx, at, path, 0, STATX_INO, &wide));
  CHECK_EQ(wide.stx_ino, program.st_ino);
  int fd = openat(at, path, O_RDONLY);
  CHECK_OK(fd);
  SAME(fstat(fd, &status));
  CHECK_OK(close(fd));
  fd = openat(at, path, O_PATH);
  CHECK_OK(fd);
  SAME(fstat(fd, &status));
  char again[64];
  snprintf(again, sizeof(again), "/proc/self/fd/%d", fd);
  SAME(stat(again, &status));
  CHECK_OK(close(fd));
  fd = openat(at, path, O_PATH | O_NOFOLLOW);
  CHECK_OK(fd);
  char text[PATH_MAX];
  ssize_t length = readlinkat(fd, "", text, sizeof(text));
  CHECK(length > 0 && memmem(text, (size_t)length, "wall_paths", 10) != NULL);
  CHECK_OK(fstat(fd, &status));
  CHECK(S_ISLNK(status.st_mode));
  CHECK_OK(close(fd));
  CHECK_ERRNO(openat(at, path, O_RDONLY | O_NOFOLLOW), ELOOP);
  CHECK_ERRNO(openat(at, path, O_RDWR), ETXTBSY);
  length = readlinkat(at, path, text, sizeof(text));
  CHECK(length > 0 && memmem(text, (size_t)length, "wall_paths", 10) != NULL);
  CHECK_OK(fstatat(at, path, &status, AT_SYMLINK_NOFOLLOW));
  CHECK(S_ISLNK(status.st_mode));
  CHECK_OK(faccessat(at, path, R_OK, 0));
  CHECK_ERRNO(unlinkat(at, path, 0), EPERM);
  CHECK_ERRNO(mkdirat(at, path, 0755), EEXIST);
}

// Descriptors by their number: the program's.
static void Descriptor(int at, const char* base) {
  char path[300], text[PATH_MAX], there[PATH_MAX];
  struct stat status, file;
  CHECK_OK(fstat(fd_of_file, &file));
  snprintf(path, sizeof(path), "%s/fd/%d", base, fd_of_file);
  CHECK_OK(fstatat(at, path, &status, 0));
  CHECK_EQ(status.st_ino, file.st_ino);
  CHECK_OK(fchmodat(at, path, 0640, 0));
  CHECK_OK(fstat(fd_of_file, &file));
  CHECK_EQ(file.st_mode & 0777, 0640);
  CHECK_OK(utimensat(at, path, (struct timespec[]){{5, 0}, {6, 0}}, 0));
  CHECK_OK(fstat(fd_of_file, &file));
  CHECK_EQ(file.st_mtime, 6);
  ssize_t length = readlinkat(at, path, text, sizeof(text) - 1);
  CHECK(length > 0);
  text[length] = 0;
  CHECK(realpath("file", there) != NULL && strcmp(text, there) == 0);
  CHECK_OK(linkat(at, path, AT_FDCWD, "linked", AT_SYMLINK_FOLLOW));
  CHECK_OK(unlink("linked"));
  snprintf(path, sizeof(path), "%s/fd/%d/inside", base, directory);
  CHECK_OK(mkdirat(at, path, 0755));
  CHECK_OK(fstatat(AT_FDCWD, "dir/inside", &status, 0));
  CHECK_OK(renameat(at, path, AT_FDCWD, "dir/moved"));
  CHECK_OK(rmdir("dir/moved"));
  CHECK_OK(symlinkat("x", at, path));
  CHECK_OK(unlinkat(at, path, 0));
  CHECK_OK(mknodat(at, path, S_IFIFO | 0600, 0));
  CHECK_OK(unlink("dir/inside"));
  // A number that is not ours leads nowhere.
  for (int fd = 200; fd < 1100; fd += 7) {
    snprintf(path, sizeof(path), "%s/fd/%d", base, fd);
    CHECK_ERRNO(faccessat(at, path, F_OK, 0), ENOENT);
  }
}

static void ByName(const char* base) {
  char path[300];
  struct stat status;
  struct statfs system;
  snprintf(path, sizeof(path), "%s/exe", base);
  SAME(stat(path, &status));
  CHECK_OK(statfs(path, &system));
  CHECK(system.f_type != 0x9fa0);
  CHECK_OK(access(path, X_OK));
  snprintf(path, sizeof(path), "%s/fd/%d", base, fd_of_file);
  CHECK_OK(truncate(path, 100));
  CHECK_OK(fstat(fd_of_file, &status));
  CHECK_EQ(status.st_size, 100);
  CHECK_OK(chmod(path, 0600));
  errno = 0;
  if (setxattr(path, "user.wall", "1", 1, 0) == 0) {
    char value[4];
    CHECK_EQ(fgetxattr(fd_of_file, "user.wall", value, sizeof(value)), 1);
    CHECK_EQ(getxattr(path, "user.wall", value, sizeof(value)), 1);
    CHECK_OK(removexattr(path, "user.wall"));
  }
  int watch = inotify_init1(IN_NONBLOCK);
  CHECK_OK(watch);
  CHECK_OK(inotify_add_watch(watch, path, IN_ATTRIB));
  CHECK_OK(fchmod(fd_of_file, 0644));
  char event[300];
  CHECK(read(watch, event, sizeof(event)) > 0);
  CHECK_OK(close(watch));
  snprintf(path, sizeof(path), "%s/fd/%d", base, directory);
  char before[PATH_MAX], inside[PATH_MAX];
  CHECK(getcwd(before, sizeof(before)) != NULL);
  CHECK_OK(chdir(path));
  CHECK(getcwd(inside, sizeof(inside)) != NULL);
  CHECK(strncmp(inside, before, strlen(before)) == 0 && strstr(inside, "/dir") != NULL);
  CHECK_OK(chdir(before));
}

int main(void) {
  CHECK_OK(stat("/proc/self/exe", &program));
  fd_of_file = PatternFile("file", 1000);
  CHECK_OK(mkdir("dir", 0755));
  directory = open("dir", O_RDONLY | O_DIRECTORY);
  CHECK_OK(directory);
  CHECK_OK(symlink("/proc/self", "self"));
  CHECK_OK(symlink("/proc", "proc"));
  CHECK_OK(symlink("proc/thread-self", "thread"));
  CHECK_OK(symlink("self/exe/../x", "dangling"));
  char pid[64], task[64], other[64];
  snprintf(pid, sizeof(pid), "/proc/%d", getpid());
  snprintf(task, sizeof(task), "/proc/self/task/%d", OwnTid());
  snprintf(other, sizeof(other), "self/task/../task/%d/../../", OwnTid());
  int root = open("/", O_PATH), proc = open("/proc", O_RDONLY | O_DIRECTORY);
  int self = open("/proc/self", O_PATH | O_DIRECTORY), self_fd = open("self/fd", O_RDONLY);
  CHECK(root >= 0 && proc >= 0 && self >= 0 && self_fd >= 0);
  char root_proc[64], descriptor[64];
  snprintf(root_proc, sizeof(root_proc), "/proc/self/fd/%d/proc/self", root);
  snprintf(descriptor, sizeof(descriptor), "/dev/fd/%d", self);
  const char* bases[] = {"/proc/self",
                         "/proc/thread-self",
                         pid,
                         task,
                         "self",
                         "proc/self",
                         "thread",
                         "//proc/./self/",
                         "/proc/self/root/proc/self",
                         "/proc/self/cwd/self",
                         "/dev/fd/..",
                         "dir/../self",
                         root_proc,
                         descriptor,
                         other,
                         "/proc/self/net/../../self"};
  for (size_t i = 0; i < sizeof(bases) / sizeof(*bases); i++) {
    Exe(AT_FDCWD, bases[i]);
    Descriptor(AT_FDCWD, bases[i]);
    ByName(bases[i]);
  }
  Say("paths");
  Exe(proc, "self");
  Exe(self, ".");
  Exe(root, "proc/self");
  Exe(self_fd, "..");
  Descriptor(proc, "thread-self");
  Descriptor(self, ".");
  CHECK_OK(fchdir(proc));
  Exe(AT_FDCWD, "self");
  Say("descriptors");
  return 0;
}
