// variants: dynamic static musl
// Thread-local storage: initial values, alignment, keys with destructors, FS base by arch_prctl.
#include "tests/guest/guest.h"

enum { kArchSetGs = 0x1001, kArchSetFs = 0x1002, kArchGetFs = 0x1003, kArchGetGs = 0x1004 };

static _Thread_local int first = 41;
static _Thread_local _Alignas(64) char aligned[64] = "sixty-four";
static _Thread_local const char* text = "text";
static pthread_key_t key;
static atomic_long destroyed;
static atomic_int ready;
static atomic_bool go;

static void Destroy(void* value) { atomic_fetch_add(&destroyed, (long)value); }

static uintptr_t GetBase(int which) {
  uintptr_t base;
  CHECK_OK(syscall(SYS_arch_prctl, which, &base));
  return base;
}

static void* Body(void* argument) {
  long index = (long)argument;
  CHECK_EQ(first, 41);
  CHECK_EQ((uintptr_t)aligned % 64, 0);
  CHECK(strcmp(aligned, "sixty-four") == 0);
  CHECK(strcmp(text, "text") == 0);
  first = (int)index;
  aligned[0] = (char)('a' + index);
  CHECK(pthread_getspecific(key) == NULL);
  CHECK_ZERO(pthread_setspecific(key, argument));
  uintptr_t fs = GetBase(kArchGetFs);
  uintptr_t self;
  __asm__("mov %%fs:0, %0" : "=r"(self));
  CHECK_EQ(self, fs);
  // GS is free for programs: each thread its own.
  uintptr_t words[2] = {(uintptr_t)index + 100, 0};
  CHECK_OK(syscall(SYS_arch_prctl, kArchSetGs, words));
  atomic_fetch_add(&ready, 1);
  while (!atomic_load(&go)) sched_yield();
  uintptr_t through_gs;
  __asm__ volatile("mov %%gs:0, %0" : "=r"(through_gs));
  CHECK_EQ(through_gs, index + 100);
  CHECK_EQ(GetBase(kArchGetGs), (uintptr_t)words);
  CHECK_EQ(GetBase(kArchGetFs), fs);
  CHECK_EQ(first, index);
  CHECK_EQ(aligned[0], 'a' + index);
  CHECK_EQ((long)pthread_getspecific(key), index);
  return NULL;
}

int main(void) {
  CHECK_ZERO(pthread_key_create(&key, Destroy));
  pthread_t threads[8];
  for (long i = 0; i < 8; i++) threads[i] = StartThread(Body, (void*)(i + 1));
  AwaitAtLeast(&ready, 8);
  GuestSnapshot();
  atomic_store(&go, true);
  for (int i = 0; i < 8; i++) JoinThread(threads[i]);
  CHECK_EQ(destroyed, 36);
  CHECK_EQ(first, 41);
  uintptr_t fs = GetBase(kArchGetFs);
  CHECK_OK(syscall(SYS_arch_prctl, kArchSetFs, fs));
  CHECK_EQ(GetBase(kArchGetFs), fs);
  CHECK_ERRNO(syscall(SYS_arch_prctl, kArchSetFs, 1ul << 63), EPERM);
  CHECK_ERRNO(syscall(SYS_arch_prctl, kArchGetFs, 8ul), EFAULT);
  CHECK_ERRNO(syscall(SYS_arch_prctl, 0x9999, 0ul), EINVAL);
  Say("tls");
  return 0;
}
