// variants: dynamic static
// Names: rename, link, symlink, unlink, mkdir, rmdir, directories listed, *at calls, cwd, umask,
// access.
#include <dirent.h>
#include <sys/stat.h>

#include "tests/guest/guest.h"

static void Touch(const char* path) {
  int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0666);
  CHECK_OK(fd);
  CHECK_EQ(write(fd, path, strlen(path)), strlen(path));
  CHECK_OK(close(fd));
}

static void Renaming(void) {
  Touch("a");
  CHECK_OK(rename("a", "b"));
  CHECK_ERRNO(access("a", F_OK), ENOENT);
  CHECK_OK(access("b", R_OK | W_OK));
  Touch("c");
  CHECK_OK(rename("c", "b"));  // replaces
  struct stat one, two;
  CHECK_OK(link("b", "d"));
  CHECK_OK(stat("b", &one));
  CHECK_OK(stat("d", &two));
  CHECK_EQ(one.st_ino, two.st_ino);
  CHECK_EQ(one.st_nlink, 2);
  CHECK_ERRNO(link("b", "d"), EEXIST);
  CHECK_OK(unlink("b"));
  CHECK_OK(stat("d", &one));
  CHECK_EQ(one.st_nlink, 1);
  CHECK_OK(symlink("d", "s"));
  CHECK_OK(lstat("s", &one));
  CHECK(S_ISLNK(one.st_mode));
  CHECK_OK(stat("s", &one));
  CHECK(S_ISREG(one.st_mode));
  char target[16];
  CHECK_EQ(readlink("s", target, sizeof target), 1);
  CHECK_EQ(target[0], 'd');
  CHECK_ERRNO(readlink("d", target, sizeof target), EINVAL);
  CHECK_ERRNO(open("s", O_RDONLY | O_NOFOLLOW), ELOOP);
  CHECK_ERRNO(unlink("nothing"), ENOENT);
  CHECK_OK(unlink("s"));
  Say("renaming");
}

static void Directories(void) {
  CHECK_OK(mkdir("dir", 0755));
  CHECK_ERRNO(mkdir("dir", 0755), EEXIST);
  char name[32];
  for (int i = 0; i < 500; i++) {
    snprintf(name, sizeof name, "dir/entry-%03d", i);
    Touch(name);
  }
  CHECK_ERRNO(rmdir("dir"), ENOTEMPTY);
  bool seen[500] = {false};
  DIR* directory = opendir("dir");
  CHECK(directory != NULL);
  int dots = 0, index;
  for (struct dirent* entry; (entry = readdir(directory)) != NULL;) {
    if (entry->d_name[0] == '.') {
      dots++;
      continue;
    }
    CHECK_EQ(sscanf(entry->d_name, "entry-%d", &index), 1);
    CHECK(index >= 0 && index < 500 && !seen[index]);
    seen[index] = true;
    CHECK(entry->d_type == DT_REG || entry->d_type == DT_UNKNOWN);
  }
  CHECK_EQ(dots, 2);
  for (int i = 0; i < 500; i++) CHECK(seen[i]);
  rewinddir(directory);
  CHECK(readdir(directory) != NULL);
  int at = dirfd(directory);
  int fd = openat(at, "entry-007", O_RDONLY);
  CHECK_OK(fd);
  CHECK_EQ(read(fd, name, sizeof name), 13);
  CHECK_OK(close(fd));
  struct stat status;
  CHECK_OK(fstatat(at, "entry-100", &status, 0));
  CHECK_EQ(status.st_size, 13);
  CHECK_OK(fstatat(at, "", &status, AT_EMPTY_PATH));
  CHECK(S_ISDIR(status.st_mode));
  CHECK_OK(renameat(at, "entry-007", AT_FDCWD, "moved"));
  CHECK_ERRNO(faccessat(at, "entry-007", F_OK, 0), ENOENT);
  CHECK_OK(mkdirat(at, "sub", 0700));
  CHECK_OK(unlinkat(at, "sub", AT_REMOVEDIR));
  CHECK_ERRNO(openat(-5, "x", O_RDONLY), EBADF);
  for (int i = 0; i < 500; i++) {
    snprintf(name, sizeof name, "entry-%03d", i);
    if (i != 7) CHECK_OK(unlinkat(at, name, 0));
  }
  CHECK_OK(closedir(directory));
  Say("directories");
}

static void WorkingDirectory(void) {
  char start[4096], now[4200], expected[4200];
  CHECK(getcwd(start, sizeof start) != NULL);
  errno = 0;
  CHECK(getcwd(now, 2) == NULL && errno == ERANGE);
  CHECK_OK(chdir("dir"));
  snprintf(expected, sizeof expected, "%s/dir", start);
  CHECK(getcwd(now, sizeof now) != NULL);
  if (strcmp(now, expected) != 0) FAIL("getcwd is %s, expected %s", now, expected);
  Touch("here");
  GuestSnapshot();
  CHECK(getcwd(now, sizeof now) != NULL);
  if (strcmp(now, expected) != 0) FAIL("getcwd is %s, expected %s", now, expected);
  CHECK_OK(access("here", F_OK));
  CHECK_OK(access("../dir/here", F_OK));
  CHECK_OK(unlink("here"));
  int up = open("..", O_RDONLY | O_DIRECTORY);
  CHECK_OK(up);
  CHECK_OK(fchdir(up));
  CHECK_OK(close(up));
  CHECK(getcwd(now, sizeof now) != NULL);
  CHECK(strcmp(now, start) == 0);
  CHECK_OK(rmdir("dir"));
  CHECK_ERRNO(chdir("dir"), ENOENT);
  CHECK_ERRNO(chdir("moved"), ENOTDIR);
  Say("working directory");
}

static void Modes(void) {
  struct stat status;
  mode_t before = umask(027);
  Touch("masked");
  CHECK_OK(stat("masked", &status));
  CHECK_EQ(status.st_mode & 0777, 0640);
  GuestSnapshot();
  Touch("masked2");
  CHECK_OK(stat("masked2", &status));
  CHECK_EQ(status.st_mode & 0777, 0640);
  CHECK_EQ(umask(before), 027);
  CHECK_OK(chmod("masked", 0604));
  CHECK_OK(stat("masked", &status));
  CHECK_EQ(status.st_mode, S_IFREG | 0604);
  CHECK_EQ(status.st_uid, getuid());
  CHECK_EQ(status.st_size, 6);
  CHECK_EQ(status.st_blksize > 0, 1);
  struct statx extended;
  memset(&extended, 0, sizeof extended);
  CHECK_OK(syscall(SYS_statx, AT_FDCWD, "masked", 0, 0x7ff, &extended));
  CHECK_EQ(extended.stx_size, 6);
  CHECK_EQ(extended.stx_ino, status.st_ino);
  CHECK_EQ(extended.stx_mode, status.st_mode);
  CHECK_EQ(extended.stx_mtime.tv_sec, status.st_mtim.tv_sec);
  struct timespec times[2] = {{.tv_sec = 1000000000, .tv_nsec = 5},
                              {.tv_sec = 1100000000, .tv_nsec = 7}};
  CHECK_OK(utimensat(AT_FDCWD, "masked", times, 0));
  CHECK_OK(stat("masked", &status));
  CHECK_EQ(status.st_mtim.tv_sec, 1100000000);
  CHECK_EQ(status.st_mtim.tv_nsec, 7);
  CHECK_ERRNO(stat("", &status), ENOENT);
  char long_name[300];
  memset(long_name, 'x', sizeof long_name - 1);
  long_name[299] = 0;
  CHECK_ERRNO(stat(long_name, &status), ENAMETOOLONG);
  Say("modes");
}

int main(void) {
  umask(022);
  Renaming();
  Directories();
  WorkingDirectory();
  Modes();
  return 0;
}
