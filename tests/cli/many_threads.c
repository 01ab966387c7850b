// many_threads COUNT: that many threads, some of them busy, the others blocked in one way or
// another, until SIGTERM; then each is woken as it wants, and looked at whether it has done
// its part, once. Prints "ready", and in the end "right" or what is wrong.
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum kind { kCondition, kPipe, kSemaphore, kPoll, kSleep, kLock, kBusy, kKinds };

struct worker {
  pthread_t thread;
  enum kind kind;
  int number, ends[2];
  sem_t semaphore;
  uint64_t rounds, twin, woken;
};

static atomic_int stop, begun;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER, held = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
static __thread int own;

static void do_busily(struct worker *worker) {
  while (!stop) {
    ++worker->rounds;
    for (volatile int i = 0; i < 10000; ++i) continue;
    ++worker->twin;
  }
  worker->woken = worker->rounds == worker->twin;
}

static void *work(void *argument) {
  struct worker *worker = argument;
  uint64_t value = 0;
  own = worker->number;
  ++begun;
  switch (worker->kind) {
    case kBusy:
      do_busily(worker);
      break;
    case kCondition:
      pthread_mutex_lock(&mutex);
      while (!stop) pthread_cond_wait(&condition, &mutex);
      ++worker->woken;
      pthread_mutex_unlock(&mutex);
      break;
    case kPipe:
      worker->woken = read(worker->ends[0], &value, sizeof(value)) == 1;
      break;
    case kSemaphore:
      while (sem_wait(&worker->semaphore) != 0) continue;
      ++worker->woken;
      break;
    case kPoll: {
      struct pollfd wanted = {.fd = worker->ends[0], .events = POLLIN};
      while (poll(&wanted, 1, -1) != 1) continue;
      worker->woken = read(worker->ends[0], &value, sizeof(value)) == sizeof(value) && value == 1;
      break;
    }
    case kSleep:
      while (!stop) usleep(20000);
      ++worker->woken;
      break;
    default:
      pthread_mutex_lock(&held);
      ++worker->woken;
      pthread_mutex_unlock(&held);
  }
  if (own != worker->number) worker->woken = 0;
  return NULL;
}

// The busy ones are the last seventh: they would keep the processors from those that are to begin.
static void begin(struct worker *worker, int number, int count, const pthread_attr_t *attributes) {
  worker->number = number;
  worker->kind = number < count - count / kKinds ? (enum kind)(number % kBusy) : kBusy;
  sem_init(&worker->semaphore, 0, 0);
  if (worker->kind == kPipe && pipe(worker->ends) != 0) exit(2);
  if (worker->kind == kPoll) worker->ends[0] = worker->ends[1] = eventfd(0, 0);
  if (pthread_create(&worker->thread, attributes, work, worker) != 0) exit(2);
}

static void wake(struct worker *worker) {
  uint64_t one = 1;
  if (worker->kind == kPipe && write(worker->ends[1], &one, 1) != 1) exit(2);
  if (worker->kind == kPoll && write(worker->ends[1], &one, sizeof(one)) != sizeof(one)) exit(2);
  if (worker->kind == kSemaphore) sem_post(&worker->semaphore);
}

int main(int argc, char **argv) {
  int count = argc > 1 ? atoi(argv[1]) : 500, sig, wrong = 0;
  sigset_t term;
  sigemptyset(&term);
  sigaddset(&term, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &term, NULL);
  pthread_mutex_lock(&held);
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, 64 << 10);
  struct worker *workers = calloc((size_t)count, sizeof(*workers));
  for (int i = 0; i < count; ++i) begin(&workers[i], i, count, &attributes);
  while (begun < count) usleep(1000);
  puts("ready");
  fflush(stdout);
  sigwait(&term, &sig);
  pthread_mutex_lock(&mutex);
  stop = 1;
  pthread_cond_broadcast(&condition);
  pthread_mutex_unlock(&mutex);
  pthread_mutex_unlock(&held);
  for (int i = 0; i < count; ++i) wake(&workers[i]);
  for (int i = 0; i < count; ++i) {
    pthread_join(workers[i].thread, NULL);
    if (workers[i].woken == 1) continue;
    printf("thread %d, of kind %d\n", i, (int)workers[i].kind);
    wrong = 1;
  }
  printf("%s\n", wrong ? "wrong" : "right");
  return wrong;
}
