// ioctl on files: readiness, flags, clones, extents; requests that nobody has.
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <sys/ioctl.h>

#include "tests/guest/guest.h"

// File systems differ in what they can; errors must be the same everywhere.
static const char* Outcome(long result) { return result == 0 ? "ok" : strerrorname_np(errno); }

static void Simple(int file) {
  int number = 0, pipes[2];
  CHECK_OK(pipe(pipes));
  CHECK_EQ(write(pipes[1], "12345", 5), 5);
  CHECK_OK(ioctl(pipes[0], FIONREAD, &number));
  CHECK_EQ(number, 5);
  CHECK_OK(lseek(file, 1000, SEEK_SET));
  CHECK_OK(ioctl(file, FIONREAD, &number));
  CHECK_EQ(number, 100000 - 1000);
  CHECK_OK(ioctl(file, FIGETBSZ, &number));
  CHECK(number > 0);
  loff_t size = 0;
  CHECK_OK(ioctl(file, FIOQSIZE, &size));
  CHECK(size >= 0);
  number = 1;
  CHECK_OK(ioctl(pipes[0], FIONBIO, &number));
  CHECK_EQ(fcntl(pipes[0], F_GETFL), O_NONBLOCK);
  CHECK_OK(ioctl(pipes[0], FIOCLEX));
  CHECK_EQ(fcntl(pipes[0], F_GETFD), FD_CLOEXEC);
  CHECK_OK(ioctl(pipes[0], FIONCLEX));
  CHECK_EQ(fcntl(pipes[0], F_GETFD), 0);
  CHECK_ERRNO(ioctl(file, FIONREAD, 8), EFAULT);
  CHECK_ERRNO(ioctl(99, FIONREAD, &number), EBADF);
  CHECK_ERRNO(ioctl(file, 0x12345678, &number), ENOTTY);
  CHECK_ERRNO(ioctl(file, BLKGETSIZE64, &size), ENOTTY);
  int path = open("file", O_PATH);
  CHECK_ERRNO(ioctl(path, FIONREAD, &number), EBADF);
  int entropy = 0, random = open("/dev/urandom", O_RDONLY);
  CHECK_OK(ioctl(random, 0x80045200, &entropy));  // RNDGETENTCNT
  Say("simple ones");
}

static void FileSystem(int file) {
  long flags = 0;
  Say("flags %s", Outcome(ioctl(file, FS_IOC_GETFLAGS, &flags)));
  struct fsxattr extended;
  Say("extended flags %s", Outcome(ioctl(file, FS_IOC_FSGETXATTR, &extended)));
  char label[FSLABEL_MAX];
  Say("label %s", Outcome(ioctl(file, FS_IOC_GETFSLABEL, label)));
}

static void Clones(int file) {
  int to = open("to", O_RDWR | O_CREAT, 0644);
  Say("clone %s", Outcome(ioctl(to, FICLONE, file)));
  CHECK_ERRNO(ioctl(to, FICLONE, 99), EBADF);
  struct file_clone_range range = {.src_fd = file, .src_length = 4096};
  Say("clone range %s", Outcome(ioctl(to, FICLONERANGE, &range)));
  range.src_fd = 99;
  CHECK_ERRNO(ioctl(to, FICLONERANGE, &range), EBADF);
  CHECK_ERRNO(ioctl(to, FICLONERANGE, 8), EFAULT);
  struct {
    struct file_dedupe_range head;
    struct file_dedupe_range_info info[2];
  } same = {.head = {.src_length = 4096, .dest_count = 2}, .info = {{.dest_fd = to}, {99}}};
  long result = ioctl(file, FIDEDUPERANGE, &same);
  Say("dedupe %s, %d %d", Outcome(result), same.info[0].status, same.info[1].status);
  CHECK_EQ(same.info[0].dest_fd, to);
  CHECK_EQ(same.info[1].dest_fd, 99);
  same.head.dest_count = 2000;
  CHECK_ERRNO(ioctl(file, FIDEDUPERANGE, &same), ENOMEM);
  CHECK_ERRNO(ioctl(file, FIDEDUPERANGE, 8), EFAULT);
}

static void Extents(void) {
  enum { kPieces = 5 };
  int file = open("holes", O_RDWR | O_CREAT, 0644);
  for (int i = 0; i < kPieces; i++) CHECK_EQ(pwrite(file, "x", 1, i * 1000000), 1);
  struct {
    struct fiemap head;
    struct fiemap_extent extents[8];
  } map = {.head = {.fm_length = ~0ull, .fm_flags = FIEMAP_FLAG_SYNC, .fm_extent_count = 8}};
  long result = ioctl(file, FS_IOC_FIEMAP, &map);
  Say("extents %s", Outcome(result));
  if (result == 0) {
    CHECK(map.head.fm_mapped_extents >= 1 && map.head.fm_mapped_extents <= 8);
    CHECK_EQ(map.head.fm_extent_count, 8);
    CHECK_EQ(map.extents[0].fe_logical, 0);
    CHECK(map.extents[map.head.fm_mapped_extents - 1].fe_flags & FIEMAP_EXTENT_LAST);
    map.head.fm_extent_count = 0;
    CHECK_OK(ioctl(file, FS_IOC_FIEMAP, &map));
    CHECK(map.head.fm_mapped_extents >= 1);
    map.head.fm_flags = 0x80000000;
    CHECK_ERRNO(ioctl(file, FS_IOC_FIEMAP, &map), EBADR);
    CHECK_EQ(map.head.fm_flags, 0x80000000);
    map.head.fm_extent_count = 0xffffffff;
    CHECK_ERRNO(ioctl(file, FS_IOC_FIEMAP, &map), EINVAL);
  }
  CHECK_ERRNO(ioctl(file, FS_IOC_FIEMAP, 8), result == 0 ? EFAULT : errno);
  Say("extents");
}

int main(void) {
  int file = PatternFile("file", 100000);
  Simple(file);
  FileSystem(file);
  Clones(file);
  Extents();
  return 0;
}
