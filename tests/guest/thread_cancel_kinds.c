// variants: dynamic static
// Cancellation of a thread that computes (asynchronous), of one that has it disabled for a while,
// at each of a set of calls, while a signal handler runs, and on the way through nested cleanups.
#include <poll.h>
#include <semaphore.h>
#include <sys/select.h>
#include <sys/socket.h>

#include "tests/guest/guest.h"

static atomic_int started;
static volatile long spins;
static int pair[2], pipe_fds[2];
static char order[64];

static void Note(void* letter) { strcat(order, letter); }

static void* Spin(void* unused) {
  CHECK_ZERO(pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL));
  pthread_cleanup_push(Note, "a");
  atomic_store(&started, 1);
  while (true) spins++;
  pthread_cleanup_pop(0);
  return unused;
}

static void* Disabled(void* unused) {
  int old;
  CHECK_ZERO(pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old));
  pthread_cleanup_push(Note, "b");
  pthread_cleanup_push(Note, "c");
  atomic_store(&started, 1);
  char byte;
  CHECK_EQ(read(pipe_fds[0], &byte, 1), 1);  // cancelled by now, and goes on
  pthread_testcancel();
  CHECK_ZERO(pthread_setcancelstate(old, NULL));
  pthread_testcancel();
  FAIL("still here");
  pthread_cleanup_pop(0);
  pthread_cleanup_pop(0);
  return unused;
}

static char byte;
static sem_t semaphore;
static void Read(void) { (void)!read(pair[0], &byte, 1); }
static void Recv(void) { recv(pair[0], &byte, 1, 0); }
static void Poll(void) { poll(&(struct pollfd){pair[0], POLLIN, 0}, 1, -1); }
static void Select(void) { select(0, NULL, NULL, NULL, NULL); }
static void Sleep(void) { sleep(100); }
static void Pause(void) { pause(); }
static void SemWait(void) { sem_wait(&semaphore); }
static void SigWait(void) {
  sigset_t set = SignalSet(SIGUSR2, 0);
  int number;
  sigwait(&set, &number);
}
static void Sigsuspend(void) {
  sigset_t none;
  sigemptyset(&none);
  sigsuspend(&none);
}

static void* Blocked(void* call) {
  pthread_cleanup_push(Note, "d");
  atomic_store(&started, 1);
  ((void (*)(void))call)();
  FAIL("the call returned");
  pthread_cleanup_pop(0);
  return NULL;
}

static void OnSignal1(int number, siginfo_t* info, void* context) {
  (void)number, (void)info, (void)context;
  atomic_store(&started, 2);
  pause();  // a point of its own
}

static void Cancelled(const char* what, pthread_t thread) {
  CHECK_ZERO(pthread_cancel(thread));
  CHECK(JoinThread(thread) == PTHREAD_CANCELED);
  Say("%s: %s", what, order);
  order[0] = '\0';
}

int main(void) {
  CHECK_OK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
  CHECK_OK(pipe(pipe_fds));
  sem_init(&semaphore, 0, 0);
  pthread_t thread = StartThread(Spin, NULL);
  AwaitAtLeast(&started, 1);
  while (spins < 1000) usleep(100);
  Cancelled("spinning", thread);

  atomic_store(&started, 0);
  thread = StartThread(Disabled, NULL);
  AwaitAtLeast(&started, 1);
  CHECK_ZERO(pthread_cancel(thread));
  CHECK_EQ(write(pipe_fds[1], "x", 1), 1);
  Cancelled("disabled for a while", thread);

  static void (*const kCalls[])(void) = {Read,  Recv,    Poll,    Select,    Sleep,
                                         Pause, SemWait, SigWait, Sigsuspend};
  for (size_t i = 0; i < sizeof kCalls / sizeof *kCalls; i++) {
    for (int late = 0; late < 2; late++) {
      atomic_store(&started, 0);
      thread = StartThread(Blocked, (void*)kCalls[i]);
      if (late) AwaitAtLeast(&started, 1);
      if (late) SleepMs(10);
      Cancelled(late ? "blocked" : "at once", thread);
    }
  }
  OnSignal(SIGUSR1, OnSignal1, SA_RESTART);
  atomic_store(&started, 0);
  thread = StartThread(Blocked, (void*)Read);
  AwaitAtLeast(&started, 1);
  CHECK_ZERO(pthread_kill(thread, SIGUSR1));
  AwaitAtLeast(&started, 2);
  Cancelled("in a handler", thread);
  return 0;
}
