// What a host has of a process beside its files: objects with keys and names, settings, sessions.
// The first argument says which; each takes a snapshot and then tells what it finds.
#include <errno.h>
#include <fcntl.h>
#include <km/hypercall.h>
#include <mqueue.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/resource.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <unistd.h>

static void Must(const char* what, long result) {
  if (result >= 0) return;
  fprintf(stderr, "%s: %s\n", what, strerror(errno));
  exit(1);
}

static void Snapshot(void) {
  km_hc_args_t arguments = {.arg1 = (uint64_t)(uintptr_t) "state"};
  long result = km_hcall(HC_snapshot, &arguments);
  if (result == 1) return;
  fprintf(stderr, "snapshot: %ld\n", result);
  exit(2);
}

struct Message {
  long type;
  char text[16];
};

// KEY of all three, NAME of a queue.
static void Keyed(key_t key, const char* name) {
  int segment = shmget(key, 5000, IPC_CREAT | 0600);
  Must("shmget", segment);
  char* memory = shmat(segment, NULL, 0);
  if (memory == (void*)-1) Must("shmat", -1);
  strcpy(memory + 4990, "memory");
  int set = semget(key, 2, IPC_CREAT | 0600);
  Must("semget", set);
  Must("SETVAL", semctl(set, 0, SETVAL, 1));
  Must("SETVAL", semctl(set, 1, SETVAL, 7));
  struct sembuf take = {0, -1, SEM_UNDO};
  Must("semop", semop(set, &take, 1));
  int queue = msgget(key, IPC_CREAT | 0600);
  Must("msgget", queue);
  struct Message message = {3, "message"};
  Must("msgsnd", msgsnd(queue, &message, 8, 0));
  struct mq_attr attributes = {.mq_maxmsg = 3, .mq_msgsize = 16};
  mqd_t posix = mq_open(name, O_RDWR | O_CREAT, 0600, &attributes);
  Must("mq_open", posix);
  Must("mq_send", mq_send(posix, "posix", 6, 2));
  Snapshot();
  struct msqid_ds status;
  Must("IPC_STAT", msgctl(queue, IPC_STAT, &status));
  struct mq_attr now;
  Must("mq_getattr", mq_getattr(posix, &now));
  printf("%s %d %d %lu %ld\n", memory + 4990, semctl(set, 0, GETVAL), semctl(set, 1, GETVAL),
         status.msg_qnum, now.mq_curmsgs);
}

// Objects that nobody else can find, left as they are.
static void Private(void) {
  int segment = shmget(IPC_PRIVATE, 5000, IPC_CREAT | 0600);
  int set = semget(IPC_PRIVATE, 1, IPC_CREAT | 0600);
  int queue = msgget(IPC_PRIVATE, IPC_CREAT | 0600);
  Must("shmget", segment);
  Must("semget", set);
  Must("msgget", queue);
  char* memory = shmat(segment, NULL, 0);
  for (int i = 0; i < 2; i++) {
    memory[i] = (char)('a' + i);
    Snapshot();
    printf("%s\n", memory);
    fflush(stdout);
  }
  Must("IPC_RMID", shmctl(segment, IPC_RMID, NULL));
  Must("IPC_RMID", semctl(set, 0, IPC_RMID));
  Must("IPC_RMID", msgctl(queue, IPC_RMID, NULL));
}

int main(int count, char** arguments) {
  const char* what = count > 1 ? arguments[1] : "";
  if (strcmp(what, "keyed") == 0 && count == 4) {
    Keyed((key_t)strtol(arguments[2], NULL, 0), arguments[3]);
  } else if (strcmp(what, "private") == 0) {
    Private();
  } else if (strcmp(what, "nice") == 0 && count == 3) {
    Must("setpriority", setpriority(PRIO_PROCESS, 0, atoi(arguments[2])));
    Snapshot();
    printf("nice %d\n", getpriority(PRIO_PROCESS, 0));
  } else if (strcmp(what, "given-nice") == 0) {
    Snapshot();
    printf("nice %d\n", getpriority(PRIO_PROCESS, 0));
  } else if (strcmp(what, "session") == 0) {
    Must("setsid", setsid());
    Snapshot();
    printf("%s\n", getsid(0) == getpid() && getpgrp() == getpid() ? "leads" : "does not lead");
  } else {
    return 3;
  }
  return 0;
}
