// Times programs from outside, in turns, so that what disturbs the machine disturbs all of them.
//
//   spawn_time [-n ROUNDS] [-o] COMMAND... [:: COMMAND...]...
//
// Prints a line for each command: median, smallest and largest microseconds from its start to its
// exit, or with -o to the first byte of its standard output (it may then end by itself). A command
// that fails ends the whole with status 1.
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { kMaxCommands = 16, kMaxRounds = 1000 };

static double times[kMaxCommands][kMaxRounds];

static double Now(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

static void Fail(const char* what) {
  fprintf(stderr, "spawn_time: %s failed\n", what);
  exit(1);
}

// vfork: starting a large parent must not count.
static pid_t Spawn(char** command, int output) {
  pid_t child = vfork();
  if (child == 0) {
    dup2(output, STDOUT_FILENO);
    execvp(command[0], command);
    _exit(127);
  }
  if (child < 0) Fail("vfork");
  return child;
}

static double TimeOne(char** command, int first_output, int null) {
  int ends[2] = {-1, null};
  if (first_output && pipe2(ends, O_CLOEXEC) != 0) Fail("pipe");
  double begin = Now(), seen = 0;
  pid_t child = Spawn(command, ends[1]);
  if (first_output) {
    char text[4096];
    close(ends[1]);
    if (read(ends[0], text, sizeof(text)) <= 0) Fail(command[0]);
    seen = Now();
    while (read(ends[0], text, sizeof(text)) > 0) {
    }
    close(ends[0]);
  }
  int status;
  if (waitpid(child, &status, 0) != child || status != 0) Fail(command[0]);
  return (first_output ? seen : Now()) - begin;
}

static int Ascending(const void* a, const void* b) {
  double x = *(const double*)a, y = *(const double*)b;
  return (x > y) - (x < y);
}

int main(int argc, char** argv) {
  int rounds = 21, first_output = 0, option;
  while ((option = getopt(argc, argv, "+n:o")) != -1) {
    if (option == 'n')
      rounds = atoi(optarg);
    else if (option == 'o')
      first_output = 1;
    else
      return 2;
  }
  char** commands[kMaxCommands];
  int count = 0, fresh = 1;
  for (int i = optind; i < argc; ++i) {
    if (strcmp(argv[i], "::") == 0) {
      argv[i] = NULL;
      fresh = 1;
    } else if (fresh) {
      if (count == kMaxCommands) return 2;
      commands[count++] = argv + i;
      fresh = 0;
    }
  }
  if (count == 0 || rounds < 1 || rounds > kMaxRounds) return 2;
  int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
  // The first round warms caches and does not count.
  for (int round = -1; round < rounds; ++round) {
    for (int i = 0; i < count; ++i) {
      double time = TimeOne(commands[i], first_output, null);
      if (round >= 0) times[i][round] = time;
    }
  }
  for (int i = 0; i < count; ++i) {
    qsort(times[i], (size_t)rounds, sizeof(double), Ascending);
    printf("%.1f %.1f %.1f\n", times[i][rounds / 2], times[i][0], times[i][rounds - 1]);
  }
  return 0;
}
