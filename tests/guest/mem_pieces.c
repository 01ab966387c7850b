// Memory cut into more pieces than vm.max_map_count allows, by what changes nothing but what is
// known of each: EAGAIN by madvise(2), ENOMEM by mseal(2). What makes no more pieces still works.
#include "tests/guest/guest.h"

static long MostPieces(void) {
  char text[32] = {0};
  int fd = open("/proc/sys/vm/max_map_count", O_RDONLY);
  CHECK_OK(fd);
  CHECK(read(fd, text, sizeof text - 1) > 0);
  CHECK_OK(close(fd));
  return atol(text);
}

static long Seal(char* at, size_t size) { return syscall(462 /* mseal */, at, size, 0); }

int main(void) {
  long pages = MostPieces() + 100;
  if (pages > 1 << 20) pages = 1 << 20;  // as some distributions have it: too many to try
  size_t size = (size_t)pages * kPage;
  char* at = mmap(NULL, size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  CHECK_OK(at);
  static const int advices[][2] = {{MADV_DONTFORK, MADV_DOFORK}, {MADV_DONTDUMP, MADV_DODUMP}};
  for (int i = 0; i < 2; i++) {
    long done = 0;
    while (done < pages && madvise(at + done * (long)kPage, kPage, advices[i][0]) == 0) done += 2;
    CHECK_EQ(errno, EAGAIN);
    CHECK(done > 1000 && done < pages);
    CHECK_OK(madvise(at, kPage, advices[i][0]));
    CHECK_OK(madvise(at, size, advices[i][1]));
    Say("advice %d: EAGAIN", advices[i][0]);
  }
  long done = 0;
  while (done < pages && Seal(at + done * (long)kPage, kPage) == 0) done += 2;
  CHECK(errno == ENOMEM || errno == ENOSYS);
  CHECK(done < pages);
  Say("mseal: ENOMEM");
  return 0;
}
