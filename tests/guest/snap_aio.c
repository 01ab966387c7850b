// Contexts of asynchronous I/O: empty, with events that nobody has taken, waited upon; and one with
// a request that never ends, of which a snapshot says so.
#include <linux/aio_abi.h>
#include <poll.h>
#include <sys/eventfd.h>

#include "tests/guest/guest.h"

static aio_context_t context, empty;
static atomic_int at;

static long Submit(struct iocb* request) { return syscall(SYS_io_submit, context, 1, &request); }
static long Events(long least, long most, struct io_event* to, struct timespec* timeout) {
  return syscall(SYS_io_getevents, context, least, most, to, timeout);
}

static struct iocb Write(int file, const char* text, int64_t offset, uint64_t data) {
  return (struct iocb){.aio_data = data,
                       .aio_lio_opcode = IOCB_CMD_PWRITE,
                       .aio_fildes = (uint32_t)file,
                       .aio_buf = (uintptr_t)text,
                       .aio_nbytes = strlen(text),
                       .aio_offset = offset};
}

static void* Waits(void* unused) {
  struct io_event event;
  atomic_store(&at, 1);
  CHECK_EQ(Events(1, 1, &event, NULL), 1);
  CHECK_EQ(event.data, 77);
  CHECK_EQ(event.res, 4);
  return unused;
}

static void Taken(int file) {
  static struct iocb requests[3];
  struct io_event events[4];
  struct timespec none = {0};
  for (int round = 0; round < 2; round++) {
    for (int i = 0; i < 3; i++) {
      requests[i] = Write(file, "abc", i * 10, (uint64_t)(100 + i));
      CHECK_EQ(Submit(&requests[i]), 1);
    }
    GuestSnapshot();
    // One before the next snapshot, the others behind it.
    CHECK_EQ(Events(1, 1, events, NULL), 1);
    bool seen[3] = {false};
    seen[events[0].data - 100] = true;
    GuestSnapshot();
    CHECK_EQ(Events(2, 4, events, NULL), 2);
    for (int i = 0; i < 2; i++) {
      uint64_t which = events[i].data - 100;
      CHECK(which < 3 && !seen[which]);
      seen[which] = true;
      CHECK_EQ(events[i].obj, (uintptr_t)&requests[which]);
      CHECK_EQ(events[i].res, 3);
    }
    CHECK_EQ(Events(0, 4, events, &none), 0);
    Say("events %d", round);
  }
}

static void Waited(int file) {
  pthread_t waiter = StartThread(Waits, NULL);
  AwaitBlocked(&at, 1);
  GuestSnapshot();
  static struct iocb request;
  request = Write(file, "wait", 0, 77);
  CHECK_EQ(Submit(&request), 1);
  JoinThread(waiter);
  Say("waited");
}

static void NeverEnds(void) {
  int told = eventfd(0, 0);
  CHECK_OK(told);
  static struct iocb poll;
  poll = (struct iocb){.aio_data = 5,
                       .aio_lio_opcode = IOCB_CMD_POLL,
                       .aio_fildes = (uint32_t)told,
                       .aio_buf = POLLIN};
  CHECK_EQ(Submit(&poll), 1);
  long result = GuestTrySnapshot("a request is under way", 0);
  CHECK_EQ(result, GuestSnapshotWanted() ? -EBUSY : -ENOSYS);
  uint64_t one = 1;
  CHECK_EQ(write(told, &one, sizeof one), sizeof one);
  struct io_event event;
  CHECK_EQ(Events(1, 1, &event, NULL), 1);
  CHECK_EQ(event.data, 5);
  CHECK_OK(close(told));
  Say("refused");
}

int main(void) {
  int file = open("file", O_RDWR | O_CREAT, 0644);
  CHECK_OK(file);
  CHECK_OK(syscall(SYS_io_setup, 10, &context));
  CHECK_OK(syscall(SYS_io_setup, 2, &empty));
  Taken(file);
  Waited(file);
  NeverEnds();
  GuestSnapshot();
  CHECK_OK(syscall(SYS_io_destroy, empty));
  CHECK_ERRNO(syscall(SYS_io_destroy, empty), EINVAL);
  CHECK_OK(syscall(SYS_io_destroy, context));
  return 0;
}
