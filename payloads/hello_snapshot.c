/* A snapshot with callbacks: work before it is in the file, work behind it runs in every resume.
 *
 *   km-cc hello_snapshot.c -o hello_snapshot
 *   km --snapshot=hello.kmsnap hello_snapshot
 *   km hello.kmsnap
 */
#include <errno.h>
#include <km/km.h>
#include <stdio.h>
#include <string.h>

struct state {
  int prepared;
  int resumed;
};

static void Prepare(void* arg) {
  struct state* state = arg;
  ++state->prepared;
  puts("before the snapshot: callback");
  fflush(stdout);
}

static void Resumed(void* arg) {
  struct state* state = arg;
  ++state->resumed;
  puts("after the resume: callback");
}

int main(void) {
  struct state state = {0, 0};
  if (km_before_snapshot(Prepare, &state) != 0 || km_after_resume(Resumed, &state) != 0) {
    fputs("hello_snapshot: too many callbacks\n", stderr);
    return 1;
  }
  puts("before the snapshot: main");
  /* What stdio holds back would be printed by every process that comes from the snapshot. */
  fflush(stdout);

  int result = km_snapshot("hello", "shows km_snapshot() and its callbacks", KM_SNAPSHOT_CONTINUE);
  if (result == -ENOSYS) {
    puts("there is no km: nothing to snapshot");
    return 0;
  }
  if (result < 0) {
    fprintf(stderr, "hello_snapshot: no snapshot: %s\n", strerror(-result));
    return 1;
  }
  printf("%s: prepared %d, resumed %d\n",
         result == 1 ? "resumed from the snapshot" : "going on after the snapshot", state.prepared,
         state.resumed);
  return 0;
}
