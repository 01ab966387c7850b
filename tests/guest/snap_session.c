// A session, or a process group, that the program made for itself: it leads one after a resume,
// too, and a signal to the group reaches nobody else. One that is sent while all comes to a stop
// for the snapshot is not lost.
#include <sys/wait.h>

#include "tests/guest/guest.h"

static volatile sig_atomic_t caught;

static void Handler(int number, siginfo_t* info, void* context) {
  (void)number, (void)info, (void)context;
  caught++;
}

// A number of /proc/self/stat: 5 is the process group, 6 the session.
static int StatField(int wanted) {
  char text[1024] = "";
  FILE* file = fopen("/proc/self/stat", "r");
  CHECK(file != NULL && fgets(text, sizeof text, file) != NULL);
  fclose(file);
  char* at = strrchr(text, ')') + 2;
  for (int field = 3; field < wanted; field++) at = strchr(at, ' ') + 1;
  return atoi(at);
}

static void Leads(bool session) {
  CHECK_EQ(getpgrp(), getpid());
  CHECK_EQ(getpgid(0), getpid());
  CHECK_EQ(StatField(5), getpid());
  CHECK_EQ(StatField(6), getsid(0));
  CHECK_EQ(getpgid(getpid()), getpid());
  if (session) CHECK_EQ(getsid(0), getpid());
  CHECK_EQ(getsid(getpid()), getsid(0));
  CHECK_ERRNO(setsid(), EPERM);
  if (session) CHECK_ERRNO(setpgid(0, 0), EPERM);
  int before = caught;
  CHECK_OK(kill(-getpgrp(), SIGUSR1));
  CHECK_EQ(caught, before + 1);
  CHECK_ERRNO(waitpid(-getpid(), NULL, 0), ECHILD);
}

static atomic_int sent, received, stop;

static void Receive(int number, siginfo_t* info, void* context) {
  (void)number, (void)info, (void)context;
  atomic_fetch_add(&received, 1);
}

static void* Sender(void* unused) {
  UnblockSignals(SIGRTMIN, 0);
  while (!atomic_load(&stop)) {
    CHECK_OK(kill(0, SIGRTMIN));
    atomic_fetch_add(&sent, 1);
  }
  return unused;
}

static void WhileSending(void) {
  pthread_t senders[2];
  BlockSignals(SIGRTMIN, 0);
  OnSignal(SIGRTMIN, Receive, SA_RESTART);
  for (int i = 0; i < 2; i++) senders[i] = StartThread(Sender, NULL);
  for (int i = 0; i < 6; i++) {
    int before = atomic_load(&sent);
    AwaitAtLeast(&sent, before + 5);
    GuestSnapshot();
  }
  atomic_store(&stop, 1);
  for (int i = 0; i < 2; i++) JoinThread(senders[i]);
  UnblockSignals(SIGRTMIN, 0);
  for (int i = 0; i < 1000 && atomic_load(&received) < sent; i++) SleepMs(5);
  CHECK_EQ(received, sent);
  Say("none is lost");
}

int main(void) {
  OnSignal(SIGUSR1, Handler, 0);
  // The driver's shell may have made it a leader of a group, which cannot make a session.
  bool session = getpgrp() != getpid() && setsid() == getpid();
  if (!session && getsid(0) != getpid()) CHECK_OK(setpgid(0, 0));
  int made = getsid(0);
  for (int round = 0; round < 3; round++) {
    Leads(session);
    CHECK_EQ(getsid(0), made);
    GuestSnapshot();
    Say("round %d", round);
  }
  Leads(session);
  WhileSending();
  return 0;
}
