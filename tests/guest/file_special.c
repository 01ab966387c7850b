// Locks of three kinds, seals of a memfd, the size of a pipe, files without a
// name, file handles, extended attributes.
#include <linux/close_range.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "tests/guest/guest.h"

static struct flock Lock(int type, long start, long length) {
  return (struct flock){.l_type = (short)type, .l_start = start, .l_len = length};
}

static void *WaitForLock(void *argument) {
  struct flock lock = Lock(F_WRLCK, 0, 100);
  CHECK_OK(fcntl(*(int *)argument, F_OFD_SETLKW, &lock));
  return NULL;
}

static void Locks(void) {
  int one = open("file", O_RDWR), two = open("file", O_RDWR), copy = dup(one);
  struct flock lock = Lock(F_WRLCK, 10, 20);
  CHECK_OK(fcntl(one, F_OFD_SETLK, &lock));
  CHECK_OK(fcntl(copy, F_OFD_SETLK, &lock));  // the same description
  CHECK_ERRNO(fcntl(two, F_OFD_SETLK, &lock), EAGAIN);
  lock = Lock(F_RDLCK, 0, 100);
  CHECK_OK(fcntl(two, F_OFD_GETLK, &lock));
  CHECK_EQ(lock.l_type, F_WRLCK);
  CHECK_EQ(lock.l_start, 10);
  CHECK_EQ(lock.l_len, 20);
  CHECK_EQ(lock.l_pid, -1);
  lock.l_pid = 5;
  CHECK_ERRNO(fcntl(two, F_OFD_SETLK, &lock), EINVAL);
  CHECK_OK(close(copy));  // not the last one: the lock stays
  pthread_t thread = StartThread(WaitForLock, &two);
  SleepMs(30);
  lock = Lock(F_UNLCK, 0, 0);
  CHECK_OK(fcntl(one, F_OFD_SETLK, &lock));
  JoinThread(thread);
  lock = Lock(F_WRLCK, 0, 5);
  CHECK_ERRNO(fcntl(one, F_OFD_SETLK, &lock), EAGAIN);
  CHECK_OK(close(two));
  CHECK_OK(fcntl(one, F_OFD_SETLK, &lock));
  lock = Lock(F_UNLCK, 0, 0);
  CHECK_OK(fcntl(one, F_OFD_SETLK, &lock));
  two = open("file", O_RDWR);
  lock = Lock(F_WRLCK, 0, 10);
  CHECK_OK(fcntl(one, F_SETLK, &lock));
  CHECK_OK(fcntl(two, F_SETLK, &lock));  // of the process
  CHECK_OK(flock(one, LOCK_EX));
  CHECK_ERRNO(flock(two, LOCK_SH | LOCK_NB), EWOULDBLOCK);
  CHECK_OK(flock(one, LOCK_UN));
  CHECK_ERRNO(fcntl(one, F_SETLK, 8), EFAULT);
  CHECK_OK(close(one));
  CHECK_OK(close(two));
  Say("locks");
}

static void Seals(void) {
  int fd = memfd_create("sealed", MFD_ALLOW_SEALING);
  CHECK_OK(ftruncate(fd, 4096));
  CHECK_EQ(fcntl(fd, F_GET_SEALS), 0);
  CHECK_OK(fcntl(fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK));
  CHECK_ERRNO(ftruncate(fd, 8192), EPERM);
  CHECK_ERRNO(ftruncate(fd, 0), EPERM);
  char *map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  CHECK_OK(map);
  CHECK_ERRNO(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), EBUSY);
  CHECK_OK(fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE));
  map[0] = 'x';
  CHECK_ERRNO(write(fd, "y", 1), EPERM);
  CHECK_ERRNO(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), EPERM);
  char byte = 0;
  CHECK_EQ(pread(fd, &byte, 1, 0), 1);
  CHECK_EQ(byte, 'x');
  CHECK_OK(munmap(map, 4096));
  CHECK_OK(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SEAL));
  CHECK_ERRNO(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), EPERM);
  CHECK_EQ(fcntl(fd, F_GET_SEALS),
           F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_FUTURE_WRITE | F_SEAL_WRITE | F_SEAL_SEAL);
  int plain = memfd_create("plain", 0);
  CHECK_EQ(fcntl(plain, F_GET_SEALS), F_SEAL_SEAL);
  int file = open("/proc/self/exe", O_RDONLY);  // may be on tmpfs, whose files have seals
  int seals = fcntl(file, F_GET_SEALS);
  CHECK(seals < 0 ? errno == EINVAL : seals == F_SEAL_SEAL);
  Say("seals");
}

static void Pipes(void) {
  int pipes[2], file = open("file", O_RDWR);
  CHECK_OK(pipe(pipes));
  CHECK_EQ(fcntl(pipes[0], F_GETPIPE_SZ), 65536);
  CHECK_EQ(fcntl(pipes[1], F_SETPIPE_SZ, 5000), 8192);
  CHECK_EQ(fcntl(pipes[0], F_GETPIPE_SZ), 8192);
  CHECK_OK(fcntl(pipes[1], F_SETFL, O_NONBLOCK));
  char bytes[10000] = "";
  CHECK_EQ(write(pipes[1], bytes, sizeof bytes), 8192);
  CHECK_ERRNO(fcntl(pipes[1], F_SETPIPE_SZ, 4096), EBUSY);
  CHECK_ERRNO(fcntl(file, F_GETPIPE_SZ), EBADF);
  Say("pipes");
}

static void Unnamed(void) {
  char path[64], text[8];
  int fd = open(".", O_TMPFILE | O_RDWR, 0640);
  CHECK_OK(fd);
  struct stat status;
  CHECK_OK(fstat(fd, &status));
  CHECK_EQ(status.st_nlink, 0);
  CHECK_EQ(status.st_mode, S_IFREG | 0640);
  CHECK_EQ(write(fd, "unnamed", 7), 7);
  snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  CHECK_OK(linkat(AT_FDCWD, path, AT_FDCWD, "named", AT_SYMLINK_FOLLOW));
  int again = open("named", O_RDONLY);
  CHECK_EQ(read(again, text, 8), 7);
  CHECK(memcmp(text, "unnamed", 7) == 0);
  int never = open(".", O_TMPFILE | O_RDWR | O_EXCL, 0600);
  CHECK_OK(never);
  snprintf(path, sizeof path, "/proc/self/fd/%d", never);
  CHECK_ERRNO(linkat(AT_FDCWD, path, AT_FDCWD, "never", AT_SYMLINK_FOLLOW), ENOENT);
  CHECK_ERRNO(open(".", O_TMPFILE | O_RDONLY, 0600), EINVAL);
  CHECK_ERRNO(open("file", O_TMPFILE | O_RDWR, 0600), ENOTDIR);
  Say("without a name");
}

static void Handles(void) {
  struct {
    struct file_handle head;
    unsigned char bytes[MAX_HANDLE_SZ];
  } one = {.head.handle_bytes = MAX_HANDLE_SZ}, two = one;
  int mount_one = 0, mount_two = 0, file = open("file", O_RDONLY);
  CHECK_OK(symlink("file", "link"));
  CHECK_OK(name_to_handle_at(AT_FDCWD, "file", &one.head, &mount_one, 0));
  CHECK_OK(name_to_handle_at(file, "", &two.head, &mount_two, AT_EMPTY_PATH));
  CHECK_EQ(mount_one, mount_two);
  CHECK_EQ(one.head.handle_bytes, two.head.handle_bytes);
  CHECK(memcmp(&one, &two, sizeof(struct file_handle) + one.head.handle_bytes) == 0);
  two.head.handle_bytes = MAX_HANDLE_SZ;
  CHECK_OK(name_to_handle_at(AT_FDCWD, "link", &two.head, &mount_two, AT_SYMLINK_FOLLOW));
  CHECK(memcmp(&one, &two, sizeof(struct file_handle) + one.head.handle_bytes) == 0);
  two.head.handle_bytes = MAX_HANDLE_SZ;
  CHECK_OK(name_to_handle_at(AT_FDCWD, "link", &two.head, &mount_two, 0));
  CHECK(memcmp(&one, &two, sizeof(struct file_handle) + one.head.handle_bytes) != 0);
  two.head.handle_bytes = 0;
  CHECK_ERRNO(name_to_handle_at(AT_FDCWD, "file", &two.head, &mount_two, 0), EOVERFLOW);
  CHECK_EQ(two.head.handle_bytes, one.head.handle_bytes);
  two.head.handle_bytes = MAX_HANDLE_SZ + 1;
  CHECK_ERRNO(name_to_handle_at(AT_FDCWD, "file", &two.head, &mount_two, 0), EINVAL);
  two.head.handle_bytes = MAX_HANDLE_SZ;
  CHECK_ERRNO(name_to_handle_at(AT_FDCWD, "none", &two.head, &mount_two, 0), ENOENT);
  CHECK_ERRNO(name_to_handle_at(99, "file", &two.head, &mount_two, 0), EBADF);
  CHECK_ERRNO(name_to_handle_at(AT_FDCWD, "file", (void *)8, &mount_two, 0), EFAULT);
  CHECK_ERRNO(name_to_handle_at(AT_FDCWD, "file", &two.head, &mount_two, 0x10), EINVAL);
  Say("handles");
}

static void Attributes(void) {
  char value[16];
  int made = setxattr("file", "user.colour", "green", 5, XATTR_CREATE);
  if (made != 0 && errno == EOPNOTSUPP) {  // the file system has none
    Say("attributes");
    return;
  }
  CHECK_OK(made);
  CHECK_ERRNO(setxattr("file", "user.colour", "green", 5, XATTR_CREATE), EEXIST);
  CHECK_ERRNO(setxattr("file", "user.size", "green", 5, XATTR_REPLACE), ENODATA);
  CHECK_EQ(getxattr("file", "user.colour", NULL, 0), 5);
  CHECK_EQ(getxattr("link", "user.colour", value, sizeof value), 5);
  CHECK(memcmp(value, "green", 5) == 0);
  CHECK_ERRNO(getxattr("file", "user.colour", value, 4), ERANGE);
  CHECK_ERRNO(getxattr("file", "user.none", value, sizeof value), ENODATA);
  CHECK(listxattr("file", NULL, 0) >= 12);
  CHECK_OK(removexattr("file", "user.colour"));
  CHECK_ERRNO(removexattr("file", "user.colour"), ENODATA);
  Say("attributes");
}

static void FileSystems(void) {
  struct stat status;
  char bytes[4096];
  CHECK_OK(stat("file", &status));
  CHECK_ERRNO(syscall(SYS_ustat, makedev(200, 200), bytes), EINVAL);
  long index = syscall(SYS_sysfs, 1, "tmpfs");
  if (index == -1) CHECK(errno == ENOSYS || errno == EINVAL);
  if (index >= 0) {
    CHECK_OK(syscall(SYS_sysfs, 2, index, bytes));
    CHECK(strcmp(bytes, "tmpfs") == 0);
    CHECK(syscall(SYS_sysfs, 3) > index);
    CHECK_ERRNO(syscall(SYS_sysfs, 1, 8), EFAULT);
    CHECK_ERRNO(syscall(SYS_sysfs, 4), EINVAL);
  }
  Say("file systems");
}

static void Alone(void) {
  CHECK_OK(unshare(0));
  CHECK_OK(unshare(CLONE_FS | CLONE_FILES));
  CHECK_ERRNO(unshare(1), EINVAL);
  CHECK_OK(close_range(1000, 2000, CLOSE_RANGE_UNSHARE));
  Say("nothing shared");
}

int main(void) {
  umask(022);
  CHECK_OK(close(PatternFile("file", 100)));
  Alone();
  Locks();
  Seals();
  Pipes();
  Unnamed();
  Handles();
  Attributes();
  FileSystems();
  return 0;
}
