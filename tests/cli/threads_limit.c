// Threads until no more can be made, and once more when these have ended. Prints how many, why
// there was no other, and "again".
#define _GNU_SOURCE
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <string.h>

enum { kMost = 20000, kStack = 1 << 16 };

static sem_t go;
static pthread_t threads[kMost];

static void *wait_for_go(void *argument) {
  while (sem_wait(&go) != 0) continue;
  return argument;
}

// At most `most`; *error: why not.
static int make(int most, int *error) {
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, kStack);
  int made = 0;
  *error = 0;
  while (made < most) {
    *error = pthread_create(&threads[made], &attributes, wait_for_go, &go);
    if (*error != 0) break;
    ++made;
  }
  pthread_attr_destroy(&attributes);
  return made;
}

static int end(int made) {
  for (int i = 0; i < made; ++i) sem_post(&go);
  int right = 0;
  for (int i = 0; i < made; ++i) {
    void *result = NULL;
    right += pthread_join(threads[i], &result) == 0 && result == &go;
  }
  return right;
}

int main(void) {
  int error = 0, none = 0;
  sem_init(&go, 0, 0);
  const int made = make(kMost, &error), ended = end(made);
  const int again = make(made, &none);
  const int all = ended == made && end(again) == again && again == made;
  printf("%d %s %s\n", made, error == 0 ? "no limit" : strerrorname_np(error),
         all ? "again" : "not as many again");
  return 0;
}
