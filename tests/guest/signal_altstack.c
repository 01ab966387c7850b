// sigaltstack: where handlers run, what it reports, nesting on it, AUTODISARM, errors, one a
// thread.
#include "tests/guest/guest.h"

enum { kSize = 64 << 10, kAutodisarm = 1u << 31 };

static uint8_t* stack;
static volatile uintptr_t frames[4];
static volatile int calls, flags_in_handler;

static bool OnStack(uintptr_t address) { return address - (uintptr_t)stack < kSize; }

static void Handler(int number, siginfo_t* info, void* context) {
  (void)info;
  (void)context;
  stack_t now;
  CHECK_OK(sigaltstack(NULL, &now));
  flags_in_handler = now.ss_flags;
  if (calls < 4) frames[calls] = (uintptr_t)__builtin_frame_address(0);
  calls++;
  if (number == SIGUSR2) {
    raise(SIGUSR1);  // nested: below the first frame
    if (OnStack((uintptr_t)__builtin_frame_address(0)) && !(flags_in_handler & SS_DISABLE)) {
      CHECK_ERRNO(sigaltstack(&(stack_t){.ss_flags = SS_DISABLE}, NULL), EPERM);
    }
  }
}

static void SnapshotHandler(int number, siginfo_t* info, void* context) {
  (void)number;
  (void)info;
  (void)context;
  volatile int local = 77;
  CHECK(OnStack((uintptr_t)__builtin_frame_address(0)));
  GuestSnapshot();
  CHECK(OnStack((uintptr_t)__builtin_frame_address(0)));
  CHECK_EQ(local, 77);
  stack_t now;
  CHECK_OK(sigaltstack(NULL, &now));
  CHECK_EQ(now.ss_flags, SS_ONSTACK);
  calls++;
}

static void* Thread(void* unused) {
  (void)unused;
  stack_t now;
  CHECK_OK(sigaltstack(NULL, &now));
  CHECK_EQ(now.ss_flags, SS_DISABLE);  // not inherited
  calls = 0;
  raise(SIGUSR1);
  CHECK(!OnStack(frames[0]));
  return NULL;
}

int main(void) {
  stack = MapAnonymous(kSize, PROT_READ | PROT_WRITE);
  stack_t now, mine = {.ss_sp = stack, .ss_size = kSize};
  CHECK_OK(sigaltstack(NULL, &now));
  CHECK_EQ(now.ss_flags, SS_DISABLE);
  CHECK_ERRNO(sigaltstack(&(stack_t){.ss_sp = stack, .ss_size = 100}, NULL), ENOMEM);
  CHECK_ERRNO(sigaltstack(&(stack_t){.ss_sp = stack, .ss_size = kSize, .ss_flags = 0x40}, NULL),
              EINVAL);
  OnSignal(SIGUSR1, Handler, SA_ONSTACK);
  OnSignal(SIGUSR2, Handler, SA_ONSTACK);
  raise(SIGUSR1);
  CHECK(!OnStack(frames[0]));  // none set yet
  CHECK_OK(sigaltstack(&mine, NULL));
  CHECK_OK(sigaltstack(NULL, &now));
  CHECK_EQ((uintptr_t)now.ss_sp, (uintptr_t)stack);
  CHECK_EQ(now.ss_size, kSize);
  CHECK_EQ(now.ss_flags, 0);
  GuestSnapshot();
  CHECK_OK(sigaltstack(NULL, &now));
  CHECK_EQ((uintptr_t)now.ss_sp, (uintptr_t)stack);
  calls = 0;
  raise(SIGUSR1);
  CHECK(OnStack(frames[0]));
  CHECK_EQ(flags_in_handler, SS_ONSTACK);
  calls = 0;
  raise(SIGUSR2);
  CHECK_EQ(calls, 2);
  CHECK(OnStack(frames[0]) && OnStack(frames[1]));
  CHECK(frames[1] < frames[0]);
  CHECK_OK(sigaltstack(NULL, &now));
  CHECK_EQ(now.ss_flags, 0);
  Say("on stack");

  calls = 0;
  OnSignal(SIGHUP, SnapshotHandler, SA_ONSTACK);
  raise(SIGHUP);
  CHECK_EQ(calls, 1);
  CHECK_OK(sigaltstack(NULL, &now));
  CHECK_EQ(now.ss_flags, 0);
  Say("snapshot in a handler");

  OnSignal(SIGUSR1, Handler, 0);  // not asked for: the ordinary stack
  calls = 0;
  raise(SIGUSR1);
  CHECK(!OnStack(frames[0]));
  OnSignal(SIGUSR1, Handler, SA_ONSTACK);
  JoinThread(StartThread(Thread, NULL));

  mine.ss_flags = (int)kAutodisarm;
  CHECK_OK(sigaltstack(&mine, NULL));
  calls = 0;
  raise(SIGUSR1);
  CHECK(OnStack(frames[0]));
  CHECK_EQ(flags_in_handler, SS_DISABLE);  // disarmed while the handler runs
  CHECK_OK(sigaltstack(NULL, &now));
  CHECK_EQ((unsigned)now.ss_flags, kAutodisarm);
  CHECK_EQ((uintptr_t)now.ss_sp, (uintptr_t)stack);
  Say("autodisarm");

  CHECK_OK(sigaltstack(&(stack_t){.ss_flags = SS_DISABLE}, NULL));
  CHECK_OK(sigaltstack(NULL, &now));
  CHECK_EQ(now.ss_flags, SS_DISABLE);
  calls = 0;
  raise(SIGUSR1);
  CHECK(!OnStack(frames[0]));
  Say("disabled");
  return 0;
}
