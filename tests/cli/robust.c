// A robust mutex in a file that two processes share. robust FILE take waits for it, says whose it
// was, and is the one that is waited for by robust FILE HOW, which has it until then and ends:
//   exit: by exit_group     other: while another thread has it     last: its last thread ends
//   signal: of SIGTERM      crash: of SIGSEGV
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

struct shared {
  atomic_int ready;
  pthread_mutex_t mutex;
};

static struct shared *shared;
static atomic_int held;

static void nap(void) { nanosleep(&(struct timespec){0, 5000000}, NULL); }

static int take(void) {
  while (!atomic_load(&shared->ready)) nap();
  struct timespec until;
  clock_gettime(CLOCK_REALTIME, &until);
  until.tv_sec += 20;
  int error = pthread_mutex_timedlock(&shared->mutex, &until);
  puts(error == EOWNERDEAD ? "the owner died" : strerror(error));
  return 0;
}

static void lock(void) {
  pthread_mutexattr_t attributes;
  pthread_mutexattr_init(&attributes);
  pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
  pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
  pthread_mutex_init(&shared->mutex, &attributes);
  pthread_mutex_lock(&shared->mutex);
  atomic_store(&held, 1);
}

static void *other(void *argument) {
  lock();
  for (;;) pause();
  return argument;
}

int main(int argc, char **argv) {
  if (argc != 3) return 2;
  const char *how = argv[2];
  int fd = open(argv[1], O_RDWR | O_CREAT, 0666);
  if (fd < 0 || ftruncate(fd, sizeof *shared) != 0) return 2;
  shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (shared == MAP_FAILED) return 2;
  if (strcmp(how, "take") == 0) return take();
  pthread_t thread;
  if (strcmp(how, "other") != 0) {
    lock();
  } else if (pthread_create(&thread, NULL, other, NULL) != 0) {
    return 2;
  }
  while (!atomic_load(&held)) nap();
  atomic_store(&shared->ready, 1);
  const atomic_uint *word = (const atomic_uint *)&shared->mutex.__data.__lock;
  while ((atomic_load(word) & 0x80000000u) == 0) nap();  // somebody waits (FUTEX_WAITERS)
  if (strcmp(how, "last") == 0) syscall(SYS_exit, 0);
  if (strcmp(how, "signal") == 0) kill(getpid(), SIGTERM);
  volatile uintptr_t nowhere = 0x1234000;
  if (strcmp(how, "crash") == 0) return *(volatile int *)nowhere;
  _exit(0);
}
