// variants: dynamic static
// Files without a name in a snapshot: memfds with seals and holes, deleted files, O_TMPFILE; shared
// mappings of them stay shared with each other and with the descriptors. Directories keep their
// position, duplicates of 0 stay duplicates.
#include <dirent.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "tests/guest/guest.h"

#define kFar (64l << 20)
enum { kNoExecSeal = 0x8, kSealExec = 0x20 };  // MFD_NOEXEC_SEAL, F_SEAL_EXEC

// Kernels before 6.3 have no MFD_NOEXEC_SEAL: -1.
static int NotExecutable(void) {
  const int fd = memfd_create("data", kNoExecSeal);
  if (fd >= 0) CHECK_EQ(fcntl(fd, F_GET_SEALS), kSealExec);
  return fd;
}

// Sealed and then mapped: before 6.7 that takes a descriptor that is open for reading alone.
static const char* Still(int* fd) {
  *fd = memfd_create("still", MFD_ALLOW_SEALING);
  CHECK_EQ(write(*fd, "still", 5), 5);
  CHECK_OK(fcntl(*fd, F_ADD_SEALS, F_SEAL_WRITE));
  char path[32];
  snprintf(path, sizeof path, "/proc/self/fd/%d", *fd);
  const int reading = open(path, O_RDONLY);
  CHECK_OK(reading);
  const char* mapped = mmap(NULL, kPage, PROT_READ, MAP_SHARED, reading, 0);
  CHECK(mapped != MAP_FAILED);
  CHECK_OK(close(reading));
  return mapped;
}

static void* MapOpen(const char* path, int flags) {
  const int fd = open(path, flags);
  CHECK_OK(fd);
  void* mapped = mmap(NULL, kPage, PROT_READ, MAP_SHARED, fd, 0);
  CHECK(mapped != MAP_FAILED);
  CHECK_OK(close(fd));
  return mapped;
}

static void* read_only[3];  // of a file with a name, of a deleted one, of a sealed memfd
static void* writable;

// What is shared from a descriptor for reading alone stays so.
static void MapForReading(void) {
  CHECK_OK(close(PatternFile("readable", kPage)));
  CHECK_OK(close(PatternFile("unreachable", kPage)));
  read_only[0] = MapOpen("readable", O_RDONLY);
  read_only[1] = MapOpen("unreachable", O_RDONLY);
  writable = MapOpen("readable", O_RDWR);
  CHECK_OK(unlink("unreachable"));
  const int sealed = memfd_create("sealed", MFD_ALLOW_SEALING);
  CHECK_OK(ftruncate(sealed, kPage));
  CHECK_OK(fcntl(sealed, F_ADD_SEALS, F_SEAL_FUTURE_WRITE));
  read_only[2] = mmap(NULL, kPage, PROT_READ, MAP_SHARED, sealed, 0);
  CHECK(read_only[2] != MAP_FAILED);
  CHECK_OK(close(sealed));
}

static void CheckReading(void) {
  for (int i = 0; i < 3; i++) {
    CHECK_ERRNO(mprotect(read_only[i], kPage, PROT_READ | PROT_WRITE), EACCES);
    CHECK_EQ(*(uint8_t*)read_only[i], i < 2 ? PatternByte(0) : 0);
  }
  CHECK_OK(mprotect(writable, kPage, PROT_READ | PROT_WRITE));
  CHECK_OK(mprotect(writable, kPage, PROT_READ));
}

int main(void) {
  MapForReading();
  int memory = memfd_create("numbers", MFD_ALLOW_SEALING | MFD_CLOEXEC);
  CHECK_OK(memory);
  CHECK_OK(ftruncate(memory, kFar + 100));
  CHECK_EQ(pwrite(memory, "near", 4, 10), 4);
  CHECK_EQ(pwrite(memory, "far", 3, kFar + 97), 3);
  CHECK_OK(fcntl(memory, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW));
  char* first = mmap(NULL, 2 * kPage, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
  char* second = mmap(NULL, kPage, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
  CHECK(first != MAP_FAILED && second != MAP_FAILED);
  int only_mapped = memfd_create("mapped", 0);
  CHECK_OK(ftruncate(only_mapped, kPage));
  char* third = mmap(NULL, kPage, PROT_READ | PROT_WRITE, MAP_SHARED, only_mapped, 0);
  char* fourth = mmap(NULL, kPage, PROT_READ, MAP_SHARED, only_mapped, 0);
  CHECK(third != MAP_FAILED && fourth != MAP_FAILED);
  CHECK_OK(close(only_mapped));
  strcpy(third, "kept");

  int deleted = open("deleted", O_RDWR | O_CREAT | O_APPEND, 0600);
  CHECK_EQ(write(deleted, "no name", 7), 7);
  CHECK_OK(unlink("deleted"));
  int twin = dup(deleted);
  int temporary = open(".", O_TMPFILE | O_RDWR, 0600);
  if (temporary >= 0) CHECK_EQ(write(temporary, "temporary", 9), 9);
  // Their modes, and where that may be, an owner.
  const int unnamed[] = {memory, deleted, temporary};
  static const mode_t kModes[] = {0640, 0751, 0604};
  const bool chowned = fchown(deleted, 12, 34) == 0;
  for (int i = 0; i < 3; i++) {
    if (unnamed[i] >= 0) CHECK_OK(fchmod(unnamed[i], kModes[i]));
  }

  const int not_executable = NotExecutable();
  int still = -1;
  const char* still_bytes = Still(&still);

  CHECK_OK(mkdir("directory", 0700));
  for (int i = 0; i < 20; i++) {
    char name[32];
    snprintf(name, sizeof name, "directory/%d", i);
    CHECK_OK(close(open(name, O_CREAT | O_WRONLY, 0600)));
  }
  DIR* directory = opendir("directory");
  CHECK(directory != NULL);
  int entries = 0;
  char before[256] = "";
  for (; entries < 7; entries++) strcpy(before, readdir(directory)->d_name);
  int another_stdin = fcntl(0, F_DUPFD, 60);
  CHECK_EQ(another_stdin, 60);

  for (int round = 0; round < 2; round++) {
    GuestSnapshot();
    CheckReading();
    char bytes[16] = "";
    CHECK_EQ(pread(memory, bytes, 4, 10), 4);
    CHECK(memcmp(bytes, "near", 4) == 0);
    CHECK_EQ(pread(memory, bytes, 16, kFar + 97), 3);
    CHECK(memcmp(bytes, "far", 3) == 0);
    CHECK_EQ(fcntl(memory, F_GET_SEALS), F_SEAL_SHRINK | F_SEAL_GROW);
    CHECK_ERRNO(ftruncate(memory, 5), EPERM);
    struct stat status;
    CHECK_OK(fstat(memory, &status));
    CHECK_EQ(status.st_size, kFar + 100);
    CHECK(status.st_blocks < 100);  // holes are holes
    first[100 + round] = (char)('a' + round);
    CHECK_EQ(second[100 + round], 'a' + round);
    CHECK_EQ(pread(memory, bytes, 1, 100 + round), 1);
    CHECK_EQ(bytes[0], 'a' + round);
    CHECK(strcmp(fourth, "kept") == 0);
    third[10] = (char)('0' + round);
    CHECK_EQ(fourth[10], '0' + round);
    if (not_executable >= 0) {
      CHECK_EQ(fcntl(not_executable, F_GET_SEALS), kSealExec);
      CHECK_EQ(pwrite(not_executable, "x", 1, round), 1);
    }
    CHECK_EQ(fcntl(still, F_GET_SEALS), F_SEAL_WRITE);
    CHECK_ERRNO(write(still, "x", 1), EPERM);
    CHECK(strcmp(still_bytes, "still") == 0);
    CHECK_ERRNO(mprotect((void*)still_bytes, kPage, PROT_READ | PROT_WRITE), EACCES);
    CHECK_EQ(lseek(deleted, 0, SEEK_CUR), 7 + round);
    CHECK_EQ(write(twin, "!", 1), 1);
    CHECK_EQ(pread(deleted, bytes, 16, 0), 8 + round);
    CHECK(memcmp(bytes, "no name!", 8) == 0);
    CHECK_OK(fstat(deleted, &status));
    CHECK_EQ(status.st_nlink, 0);
    CHECK(!chowned || (status.st_uid == 12 && status.st_gid == 34));
    for (int i = 0; i < 3; i++) {
      if (unnamed[i] < 0) continue;
      CHECK_OK(fstat(unnamed[i], &status));
      CHECK_EQ(status.st_mode & 07777, kModes[i]);
    }
    if (temporary >= 0) {
      CHECK_EQ(pread(temporary, bytes, 16, 0), 9);
      CHECK(memcmp(bytes, "temporary", 9) == 0);
    }
    CHECK_EQ(fcntl(another_stdin, F_GETFL) & O_ACCMODE, fcntl(0, F_GETFL) & O_ACCMODE);
  }
  for (struct dirent* entry; (entry = readdir(directory)) != NULL; entries++) {
    CHECK(strcmp(entry->d_name, before) != 0);
  }
  CHECK_EQ(entries, 22);
  Say("files without a name are what they were");
  return 0;
}
