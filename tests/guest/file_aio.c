// Asynchronous I/O of the kernel's own: io_setup, io_submit, io_getevents, io_pgetevents,
// io_cancel, io_destroy, as libaio uses them.
#include <linux/aio_abi.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/uio.h>

#include "tests/guest/guest.h"

static aio_context_t context;

static long Setup(unsigned count, aio_context_t* to) { return syscall(SYS_io_setup, count, to); }
static long Destroy(aio_context_t which) { return syscall(SYS_io_destroy, which); }
static long Submit(long count, struct iocb** list) {
  return syscall(SYS_io_submit, context, count, list);
}
static long Events(long least, long most, struct io_event* to, struct timespec* timeout) {
  return syscall(SYS_io_getevents, context, least, most, to, timeout);
}

// As libaio does before it asks the kernel for events.
struct Ring {
  unsigned id, nr, head, tail, magic, compat, incompat, length;
};
static bool RingIsEmpty(void) {
  const volatile struct Ring* ring = (void*)context;
  return ring->magic == 0xa10a10a1 && ring->head == ring->tail;
}

static struct iocb Request(int opcode, int fd, void* buffer, size_t size, long long offset) {
  static uint64_t data = 1000;
  return (struct iocb){.aio_data = ++data,
                       .aio_key = 77,
                       .aio_lio_opcode = (uint16_t)opcode,
                       .aio_fildes = (uint32_t)fd,
                       .aio_buf = (uintptr_t)buffer,
                       .aio_nbytes = size,
                       .aio_offset = offset};
}

// Submits one and waits for its event.
static long long Run(struct iocb* request) {
  struct io_event event;
  CHECK_EQ(Submit(1, &request), 1);
  CHECK_EQ(request->aio_key, 0);
  CHECK_EQ(Events(1, 1, &event, NULL), 1);
  CHECK_EQ(event.data, request->aio_data);
  CHECK_EQ(event.obj, (uintptr_t)request);
  CHECK_EQ(event.res2, 0);
  return event.res;
}

static void Contexts(void) {
  aio_context_t other = 0;
  CHECK_ERRNO(Setup(0, &other), EINVAL);
  CHECK_ERRNO(Setup(10, (void*)8), EFAULT);
  CHECK_ERRNO(Setup(0x20000000, &other), EINVAL);
  CHECK_OK(Setup(10, &other));
  CHECK(other != 0 && other != context);
  CHECK_ERRNO(Setup(10, &other), EINVAL);
  CHECK_OK(Destroy(other));
  CHECK_ERRNO(Destroy(other), EINVAL);
  CHECK_ERRNO(Destroy(0), EINVAL);
  struct io_event event;
  CHECK_ERRNO(syscall(SYS_io_getevents, other, 0, 1, &event, NULL), EINVAL);
  CHECK_ERRNO(syscall(SYS_io_submit, other, 0, NULL), EINVAL);
  Say("contexts");
}

static void Transfers(int file) {
  char bytes[64] = "", part[8];
  struct iocb write = Request(IOCB_CMD_PWRITE, file, "asynchronous", 12, 100);
  CHECK_EQ(Run(&write), 12);
  struct iocb read = Request(IOCB_CMD_PREAD, file, bytes, 20, 100);
  CHECK_EQ(Run(&read), 12);
  CHECK(strcmp(bytes, "asynchronous") == 0);
  struct iovec parts[] = {{part, 5}, {bytes, 7}};
  struct iocb readv = Request(IOCB_CMD_PREADV, file, parts, 2, 100);
  CHECK_EQ(Run(&readv), 12);
  CHECK(memcmp(part, "async", 5) == 0 && memcmp(bytes, "hronous", 7) == 0);
  struct iocb writev = Request(IOCB_CMD_PWRITEV, file, parts, 2, 0);
  CHECK_EQ(Run(&writev), 12);
  struct iocb sync = Request(IOCB_CMD_FDSYNC, file, NULL, 0, 0);
  CHECK_EQ(Run(&sync), 0);
  struct iocb bad = Request(IOCB_CMD_PREAD, file, (void*)8, 20, 0);
  CHECK_EQ(Run(&bad), -EFAULT);
  struct iocb* list[] = {&bad};
  bad = Request(IOCB_CMD_PREAD, 99, bytes, 20, 0);
  CHECK_ERRNO(Submit(1, list), EBADF);
  bad = Request(77, file, bytes, 20, 0);
  CHECK_ERRNO(Submit(1, list), EINVAL);
  bad = Request(IOCB_CMD_PREADV, file, parts, 1025, 0);
  CHECK_ERRNO(Submit(1, list), EINVAL);
  bad = Request(IOCB_CMD_PREADV, file, (void*)8, 1, 0);
  CHECK_ERRNO(Submit(1, list), EFAULT);
  bad = Request(IOCB_CMD_PREAD, file, bytes, 20, 0);
  bad.aio_reserved2 = 1;
  CHECK_ERRNO(Submit(1, list), EINVAL);
  bad.aio_reserved2 = 0;
  bad.aio_flags = IOCB_FLAG_RESFD;
  bad.aio_resfd = 99;
  CHECK_ERRNO(Submit(1, list), EBADF);
  bad.aio_resfd = (uint32_t)file;
  CHECK_ERRNO(Submit(1, list), EINVAL);
  list[0] = (void*)8;
  CHECK_ERRNO(Submit(1, list), EFAULT);
  CHECK_ERRNO(Submit(1, (void*)8), EFAULT);
  CHECK_ERRNO(Submit(-1, list), EINVAL);
  CHECK_EQ(Submit(0, list), 0);
  Say("transfers");
}

// Many at once, of which the last is bad; their events in any order.
static void Batches(int file) {
  enum { kCount = 150 };
  static struct iocb requests[kCount];
  static char bytes[kCount];
  struct iocb* list[kCount];
  for (int i = 0; i < kCount; i++) {
    requests[i] = Request(IOCB_CMD_PWRITE, file, memset(&bytes[i], 'a' + i % 26, 1), 1, i);
    list[i] = &requests[i];
  }
  requests[kCount - 1].aio_fildes = 99;
  CHECK_EQ(Submit(kCount, list), kCount - 1);
  struct io_event events[kCount];
  bool seen[kCount] = {false};
  for (int got = 0; got < kCount - 1;) {
    CHECK(!RingIsEmpty());
    long now = Events(1, 100, events, NULL);
    CHECK(now > 0 && now <= 100);
    for (long i = 0; i < now; i++) {
      long which = (struct iocb*)(uintptr_t)events[i].obj - requests;
      CHECK(which >= 0 && which < kCount - 1 && !seen[which]);
      seen[which] = true;
      CHECK_EQ(events[i].data, requests[which].aio_data);
      CHECK_EQ(events[i].res, 1);
    }
    got += (int)now;
  }
  char back[kCount];
  CHECK_EQ(pread(file, back, kCount - 1, 0), kCount - 1);
  CHECK(memcmp(back, bytes, kCount - 1) == 0);
  Say("batches");
}

static void OnAlarm(int number, siginfo_t* info, void* uncaught) {
  (void)number, (void)info, (void)uncaught;
}

static void* SignalLater(void* argument) {
  SleepMs(50);
  pthread_kill((pthread_t)argument, SIGUSR1);
  return NULL;
}

static void Waiting(int file) {
  struct io_event events[4];
  struct timespec none = {0}, some = TimespecMs(40);
  CHECK_EQ(Events(1, 4, events, &none), 0);
  CHECK_EQ(Events(0, 4, events, NULL), 0);
  CHECK_EQ(Events(0, 0, events, NULL), 0);
  CHECK_ERRNO(Events(2, 1, events, NULL), EINVAL);
  CHECK_ERRNO(Events(-1, 1, events, NULL), EINVAL);
  CHECK_ERRNO(Events(1, 1, events, (void*)8), EFAULT);
  int64_t start = NowNs(CLOCK_MONOTONIC);
  CHECK_EQ(Events(1, 4, events, &some), 0);
  CHECK(NowNs(CLOCK_MONOTONIC) - start >= 40000000);
  // An event that cannot be stored is not lost.
  struct iocb sync = Request(IOCB_CMD_PWRITE, file, "x", 1, 0), *list[] = {&sync};
  CHECK_EQ(Submit(1, list), 1);
  CHECK_ERRNO(Events(1, 4, (void*)8, NULL), EFAULT);
  CHECK_EQ(Events(1, 4, events, NULL), 1);
  CHECK_EQ(events[0].data, sync.aio_data);
  // Never restarted behind a handler.
  OnSignal(SIGUSR1, OnAlarm, SA_RESTART);
  pthread_t thread = StartThread(SignalLater, (void*)pthread_self());
  CHECK_ERRNO(Events(1, 4, events, NULL), EINTR);
  JoinThread(thread);
  // io_pgetevents blocks the signal meanwhile, or unblocks it.
  sigset_t empty = SignalSet(0, 0);
  struct {
    sigset_t* set;
    size_t size;
  } mask = {&empty, 8};
  BlockSignals(SIGUSR1, 0);
  pthread_kill(pthread_self(), SIGUSR1);
  CHECK_EQ(syscall(SYS_io_pgetevents, context, 1, 4, events, &some, NULL), 0);
  CHECK_ERRNO(syscall(SYS_io_pgetevents, context, 1, 4, events, NULL, &mask), EINTR);
  mask.size = 7;
  CHECK_ERRNO(syscall(SYS_io_pgetevents, context, 1, 4, events, NULL, &mask), EINVAL);
  CHECK_ERRNO(syscall(SYS_io_pgetevents, context, 1, 4, events, NULL, (void*)8), EFAULT);
  UnblockSignals(SIGUSR1, 0);
  Say("waiting");
}

static void* WriteLater(void* argument) {
  SleepMs(50);
  CHECK_EQ(write(*(int*)argument, "x", 1), 1);
  return NULL;
}

// Requests that stay under way: the readiness of a descriptor.
static void Polls(void) {
  int pipes[2], told = eventfd(0, EFD_NONBLOCK);
  CHECK_OK(pipe(pipes));
  struct iocb poll = Request(IOCB_CMD_POLL, pipes[0], (void*)POLLIN, 0, 0), *list[] = {&poll};
  poll.aio_flags = IOCB_FLAG_RESFD;
  poll.aio_resfd = (uint32_t)told;
  struct io_event event;
  struct timespec none = {0};
  CHECK_EQ(Submit(1, list), 1);
  CHECK_EQ(Events(0, 1, &event, &none), 0);
  pthread_t thread = StartThread(WriteLater, &pipes[1]);
  CHECK_EQ(Events(1, 1, &event, NULL), 1);
  JoinThread(thread);
  CHECK_EQ(event.data, poll.aio_data);
  CHECK_EQ(event.res & POLLIN, POLLIN);
  uint64_t count = 0;
  CHECK_EQ(read(told, &count, 8), 8);
  CHECK_EQ(count, 1);
  CHECK_EQ(read(pipes[0], &count, 8), 1);
  poll.aio_flags = 0;
  CHECK_EQ(Submit(1, list), 1);
  struct iocb other = poll;
  CHECK_ERRNO(syscall(SYS_io_cancel, context, &other, &event), EINVAL);
  CHECK_ERRNO(syscall(SYS_io_cancel, context, (void*)8, &event), EFAULT);
  CHECK_ERRNO(syscall(SYS_io_cancel, 0, &poll, &event), EINVAL);
  CHECK_ERRNO(syscall(SYS_io_cancel, context, &poll, &event), EINPROGRESS);
  CHECK_EQ(Events(1, 1, &event, NULL), 1);
  CHECK_EQ(event.obj, (uintptr_t)&poll);
  CHECK_ERRNO(syscall(SYS_io_cancel, context, &poll, &event), EINVAL);
  CHECK_EQ(Submit(1, list), 1);  // io_destroy ends it
  Say("polls");
}

// ---- Signals of what a request comes to ----

static atomic_int told_number;
static void OnSignalOf(int number) { atomic_store(&told_number, number); }

static void Signals(int file) {
  int pipes[2];
  CHECK_OK(pipe(pipes));
  CHECK_OK(close(pipes[0]));
  CHECK(signal(SIGPIPE, OnSignalOf) != SIG_ERR);
  CHECK(signal(SIGXFSZ, OnSignalOf) != SIG_ERR);
  struct iocb request = Request(IOCB_CMD_PWRITE, pipes[1], "x", 1, 0), *list = &request;
  struct io_event event;
  CHECK_EQ(Submit(1, &list), 1);
  CHECK_EQ(atomic_load(&told_number), SIGPIPE);
  CHECK_EQ(Events(1, 1, &event, NULL), 1);
  CHECK_EQ(event.res, -EPIPE);
  struct rlimit old, low;
  CHECK_OK(getrlimit(RLIMIT_FSIZE, &old));
  low = (struct rlimit){4096, old.rlim_max};
  CHECK_OK(setrlimit(RLIMIT_FSIZE, &low));
  request = Request(IOCB_CMD_PWRITE, file, "x", 1, 8192);
  CHECK_EQ(Submit(1, &list), 1);
  CHECK_EQ(atomic_load(&told_number), SIGXFSZ);
  CHECK_EQ(Events(1, 1, &event, NULL), 1);
  CHECK_EQ(event.res, -EFBIG);
  atomic_store(&told_number, 0);
  // No limit but that of all files.
  CHECK_ERRNO(fallocate(file, 0, INT64_MAX - 1, 100), EFBIG);
  CHECK_EQ(atomic_load(&told_number), 0);
  CHECK_ERRNO(fallocate(file, 0, 8192, 1), EFBIG);
  CHECK_EQ(atomic_load(&told_number), SIGXFSZ);
  CHECK_OK(setrlimit(RLIMIT_FSIZE, &old));
  CHECK_OK(close(pipes[1]));
  Say("signals");
}

int main(void) {
  int file = open("file", O_RDWR | O_CREAT, 0644);
  CHECK_OK(file);
  CHECK_OK(Setup(200, &context));
  Contexts();
  Transfers(file);
  Batches(file);
  Waiting(file);
  Polls();
  Signals(file);
  CHECK_OK(Destroy(context));
  CHECK_ERRNO(Destroy(context), EINVAL);
  return 0;
}
