// What madvise, mseal and prctl say of a mapping stays with it: locks out, names, seals; and what
// a resumed process has of memory that is not to be copied.
#include <sys/prctl.h>

#include "tests/guest/fault.h"

enum { kDontneedLocked = 24, kDroppable = 8, kCollapse = 25 };

// The line of /proc/self/maps that holds `address` shows this name.
static void ExpectName(const void* address, const char* name) {
  FILE* maps = fopen("/proc/self/maps", "r");
  CHECK(maps != NULL);
  char line[512];
  bool found = false;
  while (!found && fgets(line, sizeof line, maps) != NULL) {
    unsigned long start, end;
    CHECK_EQ(sscanf(line, "%lx-%lx", &start, &end), 2);
    found = (uintptr_t)address >= start && (uintptr_t)address < end;
  }
  fclose(maps);
  CHECK(found);
  line[strcspn(line, "\n")] = 0;
  const char* shown = strlen(line) > 73 ? line + 73 : "";
  if (strcmp(shown, name) != 0) FAIL("named '%s', expected '%s'", shown, name);
}

static int SetName(void* address, size_t size, const char* name) {
  return prctl(0x53564d41 /* PR_SET_VMA */, 0, address, size, name);
}

static void Names(void) {
  uint8_t* memory = MapAnonymous(6 * kPage, PROT_READ | PROT_WRITE);
  CHECK_OK(mprotect(memory, kPage, PROT_READ));
  if (SetName(memory, 0, "probe") != 0) {  // a kernel without them
    CHECK_EQ(errno, EINVAL);
    Say("names");
    return;
  }
  CHECK_OK(SetName(memory + 2 * kPage, 2 * kPage, "two pages"));
  ExpectName(memory + kPage, "");
  ExpectName(memory + 2 * kPage, "[anon:two pages]");
  ExpectName(memory + 4 * kPage, "");
  GuestSnapshot();
  ExpectName(memory + 3 * kPage, "[anon:two pages]");
  CHECK_OK(SetName(memory + 3 * kPage, kPage, NULL));
  ExpectName(memory + 2 * kPage, "[anon:two pages]");
  ExpectName(memory + 3 * kPage, "");
  CHECK_ERRNO(SetName(memory + 1, kPage, "x"), EINVAL);
  CHECK_ERRNO(SetName(memory, kPage, "[x]"), EINVAL);
  CHECK_ERRNO(SetName(memory, kPage, (char*)8), EFAULT);
  char name[100];
  memset(name, 'n', sizeof name);
  name[80] = 0;
  CHECK_ERRNO(SetName(memory, kPage, name), EINVAL);
  name[79] = 0;
  CHECK_OK(SetName(memory, kPage, name));
  CHECK_OK(munmap(memory + 5 * kPage, kPage));
  CHECK_ERRNO(SetName(memory + 4 * kPage, 2 * kPage, "to the hole"), ENOMEM);
  ExpectName(memory + 4 * kPage, "[anon:to the hole]");
  int fd = PatternFile("named", kPage);
  void* file = mmap(NULL, kPage, PROT_READ, MAP_PRIVATE, fd, 0);
  CHECK_OK(file);
  CHECK_ERRNO(SetName(file, kPage, "x"), EBADF);
  CHECK_OK(munmap(file, kPage));
  CHECK_OK(munmap(memory, 5 * kPage));
  Say("names");
}

static void CheckWiped(uint8_t byte, bool copy, uint8_t value) {
  if (!GuestInjected() || byte != 0) CHECK_EQ(byte, copy ? 0 : value);
}

// Natively nothing forks here; a resumed process is a copy, in which such memory is wiped.
static void Wiped(void) {
  uint8_t* memory = MapAnonymous(4 * kPage, PROT_READ | PROT_WRITE);
  memset(memory, 0x19, 4 * kPage);
  CHECK_OK(madvise(memory + kPage, kPage, MADV_WIPEONFORK));
  CHECK_OK(madvise(memory + 2 * kPage, 2 * kPage, MADV_WIPEONFORK));
  CHECK_OK(madvise(memory + 3 * kPage, kPage, MADV_KEEPONFORK));
  bool copy = GuestSnapshot();
  CHECK_EQ(memory[0], 0x19);
  CheckWiped(memory[kPage], copy, 0x19);
  CheckWiped(memory[3 * kPage - 1], copy, 0x19);
  CHECK_EQ(memory[3 * kPage], 0x19);
  memory[kPage] = 0x1a;
  copy = GuestSnapshot();  // still so in the copy of the copy
  CheckWiped(memory[kPage], copy, 0x1a);
  CHECK_EQ(memory[3 * kPage], 0x19);
  int fd = PatternFile("wiped", kPage);
  uint8_t* file = mmap(NULL, kPage, PROT_READ, MAP_PRIVATE, fd, 0);
  CHECK_OK(file);
  CHECK_ERRNO(madvise(file, kPage, MADV_WIPEONFORK), EINVAL);
  uint8_t* shared = mmap(NULL, kPage, PROT_READ, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  CHECK_OK(shared);
  CHECK_ERRNO(madvise(shared, kPage, MADV_WIPEONFORK), EINVAL);
  CHECK_ERRNO(madvise(shared, kPage, MADV_FREE), EINVAL);
  CHECK_ERRNO(madvise(file, kPage, MADV_FREE), EINVAL);
  CHECK_OK(munmap(file, kPage));
  CHECK_OK(munmap(shared, kPage));
  CHECK_OK(munmap(memory, 4 * kPage));
  Say("wiped");
}

static void Droppable(void) {
  uint8_t* memory =
      mmap(NULL, 2 * kPage, PROT_READ | PROT_WRITE, kDroppable | MAP_ANONYMOUS, -1, 0);
  if (memory != MAP_FAILED) {  // else a kernel before 6.11
    memory[0] = 0x23;
    CHECK(memory[0] == 0x23 || memory[0] == 0);
    CHECK_ERRNO(madvise(memory, kPage, MADV_KEEPONFORK), EINVAL);
    CHECK_ERRNO(madvise(memory, kPage, MADV_DODUMP), EINVAL);
    bool copy = GuestSnapshot();
    if (copy) CHECK_EQ(memory[0], 0);
    CHECK_ERRNO(madvise(memory, kPage, MADV_KEEPONFORK), EINVAL);
    memory[kPage] = 0x24;
    CHECK_OK(munmap(memory, 2 * kPage));
    int fd = PatternFile("droppable", kPage);
    CHECK_ERRNO(mmap(NULL, kPage, PROT_READ, kDroppable, fd, 0), EINVAL);
    CHECK_OK(close(fd));
  } else {
    CHECK_EQ(errno, EINVAL);
  }
  Say("droppable");
}

static void NotDumped(void) {
  uint8_t* memory = MapAnonymous(2 * kPage, PROT_READ | PROT_WRITE);
  memset(memory, 0x29, 2 * kPage);
  CHECK_OK(madvise(memory, kPage, MADV_DONTDUMP));
  bool copy = GuestSnapshot();
  CHECK_EQ(memory[0], copy ? 0 : 0x29);
  CHECK_EQ(memory[kPage], 0x29);
  memory[0] = 0x2a;
  CHECK_OK(madvise(memory, kPage, MADV_DODUMP));
  GuestSnapshot();
  CHECK_EQ(memory[0], 0x2a);
  CHECK_OK(munmap(memory, 2 * kPage));
  Say("not dumped");
}

static void Sealed(void) {
  long probe = syscall(462, NULL, 0, 0);
  if (probe == 0) {  // else a kernel before 6.10
    uint8_t* memory = MapAnonymous(4 * kPage, PROT_READ | PROT_WRITE);
    memset(memory, 0x33, 4 * kPage);
    CHECK_ERRNO(syscall(462, memory, kPage, 1), EINVAL);
    CHECK_ERRNO(syscall(462, memory + 1, kPage, 0), EINVAL);
    CHECK_OK(syscall(462, memory + kPage, 2 * kPage, 0));
    for (int round = 0; round < 2; round++) {
      CHECK_ERRNO(munmap(memory, 4 * kPage), EPERM);
      CHECK_ERRNO(mprotect(memory + kPage, kPage, PROT_READ), EPERM);
      CHECK_ERRNO(mmap(memory + 2 * kPage, kPage, PROT_READ,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
                  EPERM);
      CHECK_ERRNO(mremap(memory + kPage, kPage, 3 * kPage, MREMAP_MAYMOVE), EPERM);
      CHECK_EQ(memory[kPage], 0x33);
      memory[kPage + 1] = 0x34;
      if (round == 0) GuestSnapshot();
    }
    CHECK_OK(madvise(memory + kPage, kPage, MADV_DONTNEED));  // it may be written, so emptied
    CHECK_EQ(memory[kPage], 0);
    CHECK_OK(munmap(memory, kPage));
    CHECK_ERRNO(syscall(462, memory, 2 * kPage, 0), ENOMEM);
  }
  Say("sealed");
}

static void Errors(void) {
  uint8_t* memory = MapAnonymous(2 * kPage, PROT_READ | PROT_WRITE);
  CHECK_ERRNO(madvise(memory, kPage, 77), EINVAL);
  CHECK_OK(mprotect(memory, kPage, PROT_READ));
  CHECK_ERRNO(madvise(memory, kPage, 23 /* MADV_POPULATE_WRITE */), EINVAL);
  CHECK_OK(madvise(memory, kPage, 22 /* MADV_POPULATE_READ */));
  CHECK_OK(mprotect(memory, kPage, PROT_WRITE));
  CHECK_ERRNO(madvise(memory, kPage, 22), EINVAL);
  CHECK_OK(munmap(memory + kPage, kPage));
  CHECK_ERRNO(madvise(memory, 2 * kPage, 23), ENOMEM);
  CHECK_ERRNO(madvise(memory + 1, kPage, MADV_NORMAL), EINVAL);
  CHECK_ERRNO(madvise(memory, -1ul, MADV_NORMAL), EINVAL);
  CHECK_OK(munmap(memory, kPage));
  Say("errors");
}

int main(void) {
  CatchFaults();
  Names();
  Wiped();
  Droppable();
  NotDumped();
  Sealed();
  Errors();
  return 0;
}
