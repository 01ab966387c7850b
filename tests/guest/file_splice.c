// Bytes between descriptors: splice, tee, vmsplice, sendfile, copy_file_range, sync_file_range,
// cachestat, preadv2 and pwritev2 with flags.
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/vfs.h>

#include "tests/guest/guest.h"

static void Splicing(void) {
  int file = PatternFile("from", 100000), to = open("to", O_RDWR | O_CREAT, 0644), pipes[2];
  CHECK_OK(to);
  CHECK_OK(pipe(pipes));
  loff_t at = 5000;
  CHECK_EQ(splice(file, &at, pipes[1], NULL, 10000, SPLICE_F_MOVE), 10000);
  CHECK_EQ(at, 15000);
  CHECK_EQ(lseek(file, 0, SEEK_CUR), 100000);
  loff_t into = 100;
  CHECK_EQ(splice(pipes[0], NULL, to, &into, 4000, 0), 4000);
  CHECK_EQ(into, 4100);
  CHECK_EQ(splice(pipes[0], NULL, to, &into, 100000, SPLICE_F_MORE), 6000);
  uint8_t bytes[10100];
  CHECK_EQ(pread(to, bytes, sizeof bytes, 0), 10100);
  for (size_t i = 0; i < 100; i++) CHECK_EQ(bytes[i], 0);
  for (size_t i = 0; i < 10000; i++) CHECK_EQ(bytes[100 + i], PatternByte(5000 + i));
  CHECK_EQ(splice(file, NULL, pipes[1], NULL, 10, 0), 0);  // the end of the file
  CHECK_ERRNO(splice(pipes[0], NULL, to, NULL, 10, SPLICE_F_NONBLOCK), EAGAIN);
  CHECK_ERRNO(splice(file, &at, to, &into, 10, 0), EINVAL);
  CHECK_ERRNO(splice(pipes[0], &at, to, NULL, 10, 0), ESPIPE);
  CHECK_ERRNO(splice(99, NULL, to, NULL, 10, 0), EBADF);
  CHECK_ERRNO(splice(pipes[0], NULL, 99, NULL, 10, 0), EBADF);
  CHECK_ERRNO(splice(pipes[0], NULL, to, NULL, 10, 0x100), EINVAL);
  CHECK_ERRNO(splice(file, (loff_t*)8, pipes[1], NULL, 10, 0), EFAULT);
  CHECK_ERRNO(splice(file, (loff_t*)-8ul, pipes[1], NULL, 10, 0), EFAULT);
  CHECK_OK(close(pipes[0]));
  signal(SIGPIPE, SIG_IGN);
  at = 0;
  CHECK_ERRNO(splice(file, &at, pipes[1], NULL, 10, 0), EPIPE);
  CHECK_OK(close(pipes[1]));
  CHECK_OK(close(file));
  CHECK_OK(close(to));
  Say("splice");
}

static void* SpliceIn(void* argument) {
  int* fds = argument;
  return (void*)splice(fds[0], NULL, fds[1], NULL, 100, 0);
}

static atomic_int pipe_signals;
static void OnPipe(int number, siginfo_t* info, void* context) {
  (void)number, (void)info, (void)context;
  atomic_fetch_add(&pipe_signals, 1);
}

static void Waiting(void) {
  int one[2], two[2];
  CHECK_OK(pipe(one));
  CHECK_OK(pipe(two));
  int fds[] = {one[0], two[1]};
  pthread_t thread = StartThread(SpliceIn, fds);
  SleepMs(30);
  CHECK_EQ(write(one[1], "hello", 5), 5);
  CHECK_EQ((long)JoinThread(thread), 5);
  char text[8];
  CHECK_EQ(read(two[0], text, sizeof text), 5);
  CHECK(memcmp(text, "hello", 5) == 0);
  OnSignal(SIGPIPE, OnPipe, 0);
  CHECK_OK(close(two[0]));
  CHECK_EQ(write(one[1], "x", 1), 1);
  CHECK_ERRNO(splice(one[0], NULL, two[1], NULL, 10, 0), EPIPE);
  CHECK_EQ(pipe_signals, 1);
  Say("waiting, SIGPIPE");
}

static void* ReadOnce(void* argument) {
  int end = *(int*)argument;
  static uint8_t bytes[1 << 16];
  SleepMs(60);
  CHECK(read(end, bytes, sizeof bytes) > 0);
  SleepMs(60);
  CHECK_OK(close(end));
  return NULL;
}

// The reader goes in the middle of a write: what went is told, and the signal comes.
static void Partial(void) {
  enum { kSize = 1 << 20 };
  int ends[2];
  uint8_t* bytes = MapAnonymous(kSize, PROT_READ | PROT_WRITE);
  struct iovec parts[2] = {{bytes, kSize / 2}, {bytes, kSize / 2}};
  for (int vector = 0; vector < 2 && !GuestInjected(); vector++) {
    CHECK_OK(pipe(ends));
    atomic_store(&pipe_signals, 0);
    pthread_t thread = StartThread(ReadOnce, &ends[0]);
    long wrote = vector ? writev(ends[1], parts, 2) : write(ends[1], bytes, kSize);
    CHECK_EQ(pipe_signals, 1);
    CHECK(wrote > 0 && wrote < kSize);
    JoinThread(thread);
    CHECK_OK(close(ends[1]));
  }
  CHECK_OK(munmap(bytes, kSize));
  Say("a partial write, SIGPIPE");
}

static void Teeing(void) {
  int one[2], two[2];
  char text[16];
  CHECK_OK(pipe(one));
  CHECK_OK(pipe(two));
  CHECK_EQ(write(one[1], "twice", 5), 5);
  CHECK_EQ(tee(one[0], two[1], 100, 0), 5);
  CHECK_EQ(read(two[0], text, sizeof text), 5);
  CHECK_EQ(read(one[0], text, sizeof text), 5);
  CHECK(memcmp(text, "twice", 5) == 0);
  CHECK_ERRNO(tee(one[0], two[1], 100, SPLICE_F_NONBLOCK), EAGAIN);
  CHECK_ERRNO(tee(one[0], one[1], 100, 0), EINVAL);
  int file = open("to", O_RDWR);
  CHECK_ERRNO(tee(one[0], file, 100, 0), EINVAL);
  CHECK_ERRNO(tee(one[0], 99, 100, 0), EBADF);
  struct iovec parts[2] = {{(void*)"user ", 5}, {(void*)"pages", 5}};
  CHECK_EQ(vmsplice(one[1], parts, 2, 0), 10);
  CHECK_EQ(read(one[0], text, sizeof text), 10);
  CHECK(memcmp(text, "user pages", 10) == 0);
  CHECK_EQ(write(one[1], "to memory", 9), 9);
  struct iovec back[2] = {{text, 3}, {text + 8, 6}};
  CHECK_EQ(vmsplice(one[0], back, 2, 0), 9);
  CHECK(memcmp(text, "to ", 3) == 0 && memcmp(text + 8, "memory", 6) == 0);
  CHECK_ERRNO(vmsplice(file, parts, 2, 0), EBADF);
  CHECK_ERRNO(vmsplice(one[1], parts, 1025, 0), EINVAL);
  CHECK_ERRNO(vmsplice(one[1], (struct iovec*)8, 1, 0), EFAULT);
  parts[0].iov_base = (void*)8;
  CHECK_ERRNO(vmsplice(one[1], parts, 1, 0), EFAULT);
  CHECK_OK(close(file));
  Say("tee, vmsplice");
}

static void Copying(void) {
  int from = open("from", O_RDONLY), to = open("to", O_RDWR | O_TRUNC);
  loff_t in = 1000, out = 10;
  CHECK_EQ(copy_file_range(from, &in, to, &out, 5000, 0), 5000);
  CHECK_EQ(in, 6000);
  CHECK_EQ(out, 5010);
  CHECK_EQ(copy_file_range(from, NULL, to, NULL, 10, 0), 10);
  CHECK_ERRNO(copy_file_range(from, NULL, to, NULL, 10, 1), EINVAL);
  CHECK_ERRNO(copy_file_range(to, NULL, from, NULL, 10, 0), EBADF);
  uint8_t bytes[5010];
  CHECK_EQ(pread(to, bytes, sizeof bytes, 0), 5010);
  for (size_t i = 0; i < 10; i++) CHECK_EQ(bytes[i], PatternByte(i));
  for (size_t i = 10; i < sizeof bytes; i++) CHECK_EQ(bytes[i], PatternByte(1000 + i - 10));
  CHECK_OK(sync_file_range(to, 0, 0, SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER));
  CHECK_ERRNO(sync_file_range(to, 0, 0, 0x100), EINVAL);
  CHECK_ERRNO(sync_file_range(to, -1, 0, SYNC_FILE_RANGE_WRITE), EINVAL);
  CHECK_ERRNO(sync_file_range(99, 0, 0, SYNC_FILE_RANGE_WRITE), EBADF);
  int pipes[2];
  CHECK_OK(pipe(pipes));
  CHECK_ERRNO(sync_file_range(pipes[0], 0, 0, SYNC_FILE_RANGE_WRITE), ESPIPE);
  off_t at = 50;
  CHECK_EQ(sendfile(pipes[1], from, &at, 100), 100);
  CHECK_EQ(at, 150);
  struct {
    uint64_t offset, length;
  } range = {0, 0};
  uint64_t pages[5] = {0};
  errno = 0;
  long known = syscall(451, to, &range, pages, 0);
  if (known == 0) CHECK(pages[0] <= 2);
  if (known != 0) CHECK(errno == ENOSYS || errno == EOPNOTSUPP);
  CHECK_ERRNO(syscall(451, 99, &range, pages, 0), errno == ENOSYS ? ENOSYS : EBADF);
  Say("copies");
}

static void WithFlags(void) {
  int file = open("to", O_RDWR | O_TRUNC), pipes[2];
  struct iovec part = {(void*)"0123456789", 10};
  CHECK_EQ(pwritev2(file, &part, 1, 0, RWF_DSYNC), 10);
  CHECK_EQ(pwritev2(file, &part, 1, 0, RWF_APPEND), 10);  // the offset does not count
  CHECK_EQ(lseek(file, 0, SEEK_END), 20);
  CHECK_OK(lseek(file, 4, SEEK_SET));
  char text[8];
  struct iovec into = {text, 3};
  CHECK_EQ(preadv2(file, &into, 1, -1, 0), 3);  // at the file's own offset
  CHECK(memcmp(text, "456", 3) == 0);
  CHECK_EQ(lseek(file, 0, SEEK_CUR), 7);
  CHECK_EQ(preadv2(file, &into, 1, 12, 0), 3);
  CHECK(memcmp(text, "234", 3) == 0);
  CHECK_ERRNO(preadv2(file, &into, 1, 0, 0x40000000), EOPNOTSUPP);
  CHECK_OK(pipe(pipes));
  CHECK(preadv2(pipes[0], &into, 1, -1, RWF_NOWAIT) == -1);
  CHECK(errno == EAGAIN || errno == EOPNOTSUPP);  // older kernels have no such pipes
  CHECK_ERRNO(preadv2(pipes[0], &into, 1, 0, 0), ESPIPE);
  Say("flags of vectored calls");
}

int main(void) {
  Splicing();
  Waiting();
  Partial();
  Teeing();
  Copying();
  WithFlags();
  return 0;
}
