// build: -Iinclude
// The program finds itself in /proc; under km it finds nothing of the monitor there.
#include <dirent.h>
#include <km/hypercall.h>
#include <sys/stat.h>

#include "tests/guest/guest.h"

static bool under_km;

static ssize_t ReadAll(const char* path, char* to, size_t size) {
  int fd = open(path, O_RDONLY);
  if (fd < 0) FAIL("cannot open %s: %s", path, strerror(errno));
  size_t got = 0;
  ssize_t more;
  while (got < size - 1 && (more = read(fd, to + got, size - 1 - got)) > 0) got += (size_t)more;
  to[got] = 0;
  CHECK_OK(close(fd));
  return (ssize_t)got;
}

static void Texts(const char* base) {
  static char text[1 << 16];
  char path[300];
  snprintf(path, sizeof(path), "%s/maps", base);
  ReadAll(path, text, sizeof(text));
  CHECK(strstr(text, "[stack]") && strstr(text, "file_proc"));
  CHECK(!strstr(text, "kvm"));
  snprintf(path, sizeof(path), "%s/cmdline", base);
  CHECK(ReadAll(path, text, sizeof(text)) > 0 && strstr(text, "file_proc"));
  snprintf(path, sizeof(path), "%s/comm", base);
  ReadAll(path, text, sizeof(text));
  CHECK_EQ(strncmp(text, "file_proc", 9), 0);
  snprintf(path, sizeof(path), "%s/stat", base);
  ReadAll(path, text, sizeof(text));
  CHECK_EQ(atoi(text), getpid());
  snprintf(path, sizeof(path), "%s/status", base);
  ReadAll(path, text, sizeof(text));
  CHECK(strstr(text, "Name:\tfile_proc") && strstr(text, "Threads:\t1\n"));
  snprintf(path, sizeof(path), "%s/environ", base);
  ReadAll(path, text, sizeof(text));
  snprintf(path, sizeof(path), "%s/exe", base);
  ssize_t length = readlink(path, text, sizeof(text));
  CHECK(length > 0 && memmem(text, (size_t)length, "file_proc", 9));
  struct stat own, named;
  CHECK_OK(stat(path, &own));
  text[length] = 0;
  CHECK_OK(stat(text, &named));
  CHECK(own.st_ino == named.st_ino && own.st_dev == named.st_dev);
}

// Every entry is a descriptor of ours, and each of ours is there.
static void Descriptors(const char* path, const char* file) {
  int fd = open(file, O_RDONLY);
  CHECK_OK(fd);
  DIR* directory = opendir(path);
  CHECK(directory != NULL);
  struct dirent* entry;
  int count = 0;
  bool seen = false;
  while ((entry = readdir(directory)) != NULL) {
    if (entry->d_name[0] == '.') continue;
    CHECK_OK(fcntl(atoi(entry->d_name), F_GETFD));
    seen |= atoi(entry->d_name) == fd;
    count++;
  }
  CHECK(seen && count >= 2);
  char name[100], text[PATH_MAX], want[PATH_MAX];
  snprintf(name, sizeof(name), "%s/%d", path, fd);
  ssize_t length = readlink(name, text, sizeof(text) - 1);
  CHECK(length > 0);
  text[length] = 0;
  CHECK(realpath(file, want) != NULL);
  CHECK_EQ(strcmp(text, want), 0);
  // Opened again, it has an offset of its own.
  char byte;
  CHECK_EQ(read(fd, &byte, 1), 1);
  int again = open(name, O_RDONLY);
  CHECK_OK(again);
  CHECK_EQ(lseek(again, 0, SEEK_CUR), 0);
  CHECK_OK(close(again));
  CHECK_OK(close(fd));
  CHECK_ERRNO(open(name, O_RDONLY), ENOENT);
  CHECK_OK(closedir(directory));
}

// What is closed while the directory is read hides nothing that is still open.
static void CloseWhileReading(void) {
  int directory = open("/proc/self/fd", O_RDONLY | O_DIRECTORY);
  CHECK_OK(directory);
  for (int fd = 40; fd < 80; fd++) CHECK_EQ(dup2(directory, fd), fd);
  _Alignas(8) char entries[200];
  long length;
  while ((length = syscall(SYS_getdents64, directory, entries, sizeof(entries))) > 0) {
    for (long at = 0; at < length;) {
      struct dirent64* entry = (struct dirent64*)(entries + at);
      at += entry->d_reclen;
      if (atoi(entry->d_name) >= 40) CHECK_OK(close(atoi(entry->d_name)));
    }
  }
  CHECK_EQ(length, 0);
  for (int fd = 40; fd < 80; fd++) CHECK_ERRNO(fcntl(fd, F_GETFD), EBADF);
  CHECK_OK(close(directory));
}

static void Refused(const char* path) {
  if (!under_km) return;
  CHECK_EQ(open(path, O_RDONLY), -1);
  CHECK_EQ(open(path, O_WRONLY), -1);
  CHECK_EQ(open(path, O_RDWR), -1);
}

// No descriptor number but our own leads anywhere, whatever the way to it. Ours end at 20.
static void Others(const char* directory) {
  char path[100];
  if (!under_km) return;
  for (int fd = 20; fd < 1100; fd++) {
    snprintf(path, sizeof(path), "%s/%d", directory, fd);
    CHECK_ERRNO(open(path, O_RDONLY | O_NONBLOCK), ENOENT);
    CHECK_ERRNO(truncate(path, 0), ENOENT);
    CHECK_ERRNO(chmod(path, 0600), ENOENT);
  }
}

// A link of the program's own leads to what it leads to by its name.
static void OwnLinks(void) {
  char direct[4096], linked[4096];
  ssize_t length = readlink("/proc/self/exe", direct, sizeof(direct));
  CHECK(length > 0);
  CHECK_OK(symlink("/proc/self", "self-link"));
  CHECK_EQ(readlink("self-link/exe", linked, sizeof(linked)), length);
  CHECK(memcmp(direct, linked, (size_t)length) == 0);
  int directory = open(".", O_RDONLY | O_DIRECTORY);
  CHECK_OK(directory);
  CHECK_EQ(readlinkat(directory, "self-link/exe", linked, sizeof(linked)), length);
  CHECK(memcmp(direct, linked, (size_t)length) == 0);
  CHECK_OK(close(directory));
  CHECK_OK(unlink("self-link"));
}

int main(void) {
  km_hc_args_t hypercall = {0};
  under_km = km_hcall(HC_present, &hypercall) > 0;
  // Whoever started the tests may have left us some of theirs, which are not to be changed.
  CHECK_OK(syscall(SYS_close_range, 3, ~0u, 0));
  OwnLinks();
  char pid[100], path[200];
  snprintf(pid, sizeof(pid), "/proc/%d", getpid());
  PatternFile("file", 100);
  CHECK_OK(symlink("/proc/self", "self"));
  CHECK_OK(symlink("/proc", "proc"));
  CHECK_OK(symlink("/proc/self/fd", "fd"));
  const char* bases[] = {"/proc/self", "/proc/thread-self", pid, "//proc/./self",
                         "/proc/self/root/proc/self"};
  for (size_t i = 0; i < sizeof(bases) / sizeof(*bases); i++) Texts(bases[i]);
  Say("texts");
  Descriptors("/proc/self/fd", "file");
  Descriptors("/dev/fd", "file");
  CloseWhileReading();
  Say("descriptors");
  const char* roots[] = {"/proc/self",
                         "/proc/thread-self",
                         pid,
                         "self",
                         "proc/self",
                         "/proc/self/root/proc/self",
                         "/proc/self/cwd/self",
                         "/dev/fd/.."};
  const char* names[] = {"map_files", "stack", "clear_refs"};
  for (size_t r = 0; r < sizeof(roots) / sizeof(*roots); r++) {
    for (size_t n = 0; n < sizeof(names) / sizeof(*names); n++) {
      snprintf(path, sizeof(path), "%s/%s", roots[r], names[n]);
      if (access(path, F_OK) == 0) Refused(path);
    }
  }
  Refused("/dev/kvm");
  Others("/proc/self/fd");
  Others("fd");
  Others("self/fd");
  Others("/dev/fd");
  if (under_km) {
    CHECK_ERRNO(chdir("/proc/self"), EACCES);
    CHECK_ERRNO(chdir("fd"), EACCES);
    int fd = open("self", O_RDONLY | O_DIRECTORY);
    CHECK_ERRNO(openat(fd, "map_files", O_RDONLY), EACCES);
    CHECK_ERRNO(fchdir(fd), EACCES);
  }
  Say("refused");
  return 0;
}
