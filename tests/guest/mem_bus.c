// SIGBUS past the end of a mapped file, with the file truncated and grown while it is mapped.
#include "tests/guest/fault.h"

static void Check(uint8_t* map, size_t file_size, size_t map_size) {
  size_t valid = (file_size + kPage - 1) & -kPage;
  for (size_t offset = 0; offset < map_size; offset += kPage) {
    uint8_t* at = map + offset + 123;
    if (offset < valid) {
      if (TryRead(at) == -1)
        FAIL("offset %zu of a file of %zu bytes faults", offset + 123, file_size);
    } else {
      CHECK_FAULT(TryRead(at), SIGBUS, BUS_ADRERR, at);
      CHECK_FAULT(TryWrite(at + 1, 1), SIGBUS, BUS_ADRERR, at + 1);
    }
  }
}

static void Run(int sharing, const char* name) {
  enum { kPages = 8 };
  size_t size = kPages * kPage;
  int fd = PatternFile(name, 5 * kPage + 10);
  uint8_t* map = mmap(NULL, size, PROT_READ | PROT_WRITE, sharing, fd, 0);
  CHECK_OK(map);
  Check(map, 5 * kPage + 10, size);
  CHECK_EQ(map[5 * kPage + 9], PatternByte(5 * kPage + 9));
  CHECK_EQ(map[5 * kPage + 10], 0);
  // A resumed process has its private mappings from the snapshot, whatever becomes of the file.
  if (GuestInjected() && sharing == MAP_PRIVATE) {
    Say("%s", name);
    return;
  }
  CHECK_OK(ftruncate(fd, 2 * kPage + 1));
  Check(map, 2 * kPage + 1, size);
  if (GuestSnapshot() && sharing == MAP_PRIVATE) {
    Check(map, 2 * kPage + 1, size);
    Say("%s", name);
    return;
  }
  Check(map, 2 * kPage + 1, size);
  CHECK_OK(ftruncate(fd, 0));
  Check(map, 0, size);
  CHECK_OK(ftruncate(fd, 4 * kPage));
  Check(map, 4 * kPage, size);
  CHECK_EQ(map[0], 0);
  CHECK_EQ(map[kPage + 9], 0);
  CHECK_EQ(pwrite(fd, "x", 1, 6 * kPage), 1);  // grown by a write
  Check(map, 6 * kPage + 1, size);
  CHECK_EQ(map[6 * kPage], 'x');
  // System calls: EFAULT, or as many bytes as there are.
  CHECK_EQ(pwrite(fd, "y", 1, 6 * kPage + 1), 1);
  CHECK_ERRNO(write(fd, map + 7 * kPage, 1), EFAULT);
  CHECK_ERRNO(pread(fd, map + 7 * kPage, 1, 0), EFAULT);
  CHECK_OK(munmap(map, size));
  CHECK_OK(close(fd));
  Say("%s", name);
}

int main(void) {
  CatchFaults();
  Run(MAP_SHARED, "shared");
  Run(MAP_PRIVATE, "private");
  return 0;
}
