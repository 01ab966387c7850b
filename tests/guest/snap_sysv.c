// System V shared memory, semaphores and queues over snapshots: ids, contents, attachments, what
// semop(2) undoes, calls that are blocked on them.
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>

#include "tests/guest/guest.h"

static int segment, keyed_segment, removed, semaphores, keyed_semaphores, queue, keyed_queue;
static uint8_t *memory, *view, *gone;
static atomic_int at;

static key_t Key(int which) { return 0x4b4e0000 | which << 12 | (getpid() & 0xfff); }

static struct shmid_ds Status(int id) {
  struct shmid_ds status;
  CHECK_OK(shmctl(id, IPC_STAT, &status));
  return status;
}

static int Operate(int id, int number, int by, int flags) {
  struct sembuf operation = {(unsigned short)number, (short)by, (short)flags};
  return semop(id, &operation, 1);
}

static int Value(int id, int number) {
  int value = semctl(id, number, GETVAL);
  CHECK_OK(value);
  return value;
}

static void MakeMemory(void) {
  segment = shmget(IPC_PRIVATE, 6 * kPage + 1, IPC_CREAT | 0640);
  CHECK_OK(segment);
  memory = shmat(segment, NULL, 0);
  view = shmat(segment, NULL, SHM_RDONLY);
  CHECK_OK(memory);
  CHECK_OK(view);
  strcpy((char*)memory, "first page");
  memory[6 * kPage + 7] = 0x77;
  // In pieces, with a hole, of which one has other rights.
  CHECK_OK(mprotect(memory + kPage, kPage, PROT_READ));
  CHECK_OK(munmap(memory + 3 * kPage, kPage));
  keyed_segment = shmget(Key(1), kPage, IPC_CREAT | IPC_EXCL | 0600);
  CHECK_OK(keyed_segment);
  uint8_t* keyed = shmat(keyed_segment, NULL, 0);
  CHECK_OK(keyed);
  strcpy((char*)keyed, "by key");
  CHECK_OK(shmdt(keyed));
  // Goes with its last attachment.
  removed = shmget(IPC_PRIVATE, kPage, IPC_CREAT | 0600);
  CHECK_OK(removed);
  gone = shmat(removed, NULL, 0);
  CHECK_OK(gone);
  CHECK_OK(shmctl(removed, IPC_RMID, NULL));
  gone[9] = 9;
}

static void CheckMemory(int round) {
  CHECK(strcmp((char*)memory, "first page") == 0);
  CHECK_EQ(view[6 * kPage + 7], 0x77);
  memory[2 * kPage] = (uint8_t)(round + 1);
  CHECK_EQ(view[2 * kPage], round + 1);
  CHECK_EQ(view[3 * kPage], 0);
  CHECK_ERRNO(mprotect(view, kPage, PROT_READ | PROT_WRITE), EACCES);
  CHECK_OK(mprotect(memory + kPage, kPage, PROT_READ | PROT_WRITE));
  memory[kPage] = (uint8_t)round;
  CHECK_EQ(view[kPage], round);
  CHECK_OK(mprotect(memory + kPage, kPage, PROT_READ));
  CHECK_EQ(Status(segment).shm_segsz, 6 * kPage + 1);
  CHECK_EQ(Status(segment).shm_perm.mode & 0777, 0640);
  CHECK_EQ(Status(segment).shm_cpid, getpid());
  CHECK_EQ(shmget(Key(1), kPage, 0600), keyed_segment);
  uint8_t* keyed = shmat(keyed_segment, NULL, 0);
  CHECK_OK(keyed);
  CHECK(strcmp((char*)keyed, "by key") == 0);
  CHECK_OK(shmdt(keyed));
  CHECK_EQ(gone[9], 9);
  CHECK_EQ(Status(removed).shm_perm.mode & SHM_DEST, SHM_DEST);
  CHECK_EQ(Status(removed).shm_nattch, 1);
}

static void EndMemory(void) {
  CHECK_OK(shmdt(memory));  // all of its pieces
  CHECK_ERRNO(shmdt(memory), EINVAL);
  CHECK_OK(shmdt(view));
  CHECK_EQ(Status(segment).shm_nattch, 0);
  CHECK_OK(shmctl(segment, IPC_RMID, NULL));
  CHECK_OK(shmctl(keyed_segment, IPC_RMID, NULL));
  CHECK_OK(shmdt(gone));
  struct shmid_ds status;
  CHECK_ERRNO(shmctl(removed, IPC_STAT, &status), EINVAL);
  CHECK_ERRNO(shmget(Key(1), kPage, 0600), ENOENT);
}

static void MakeSemaphores(void) {
  semaphores = semget(IPC_PRIVATE, 6, IPC_CREAT | 0600);
  CHECK_OK(semaphores);
  unsigned short values[6] = {0, 5, 32767, 3, 0, 1};
  CHECK_OK(semctl(semaphores, 0, SETALL, values));
  CHECK_OK(Operate(semaphores, 3, -3, SEM_UNDO));  // taken: given back at the end
  CHECK_OK(Operate(semaphores, 4, 4, SEM_UNDO));
  CHECK_OK(Operate(semaphores, 4, -4, 0));
  keyed_semaphores = semget(Key(2), 2, IPC_CREAT | IPC_EXCL | 0600);
  CHECK_OK(keyed_semaphores);
  CHECK_OK(semctl(keyed_semaphores, 0, SETVAL, 1));
  CHECK_OK(Operate(keyed_semaphores, 0, -1, SEM_UNDO));  // as a lock that is held
}

static void CheckSemaphores(void) {
  static const int kWanted[] = {0, 5, 32767, 0, 0, 1};
  for (int i = 0; i < 6; i++) CHECK_EQ(Value(semaphores, i), kWanted[i]);
  CHECK_EQ(semctl(semaphores, 1, GETPID), getpid());
  struct semid_ds set;
  CHECK_OK(semctl(semaphores, 0, IPC_STAT, &set));
  CHECK(set.sem_otime != 0);
  CHECK_EQ(set.sem_nsems, 6);
  CHECK_EQ(Value(keyed_semaphores, 0), 0);
  CHECK_EQ(semget(Key(2), 2, 0600), keyed_semaphores);
  CHECK_ERRNO(Operate(keyed_semaphores, 0, -1, IPC_NOWAIT), EAGAIN);
}

struct Message {
  long type;
  char text[6000];
};

static void MakeQueues(void) {
  static struct Message message = {.type = 3, .text = "three"};
  queue = msgget(IPC_PRIVATE, IPC_CREAT | 0600);
  CHECK_OK(queue);
  CHECK_OK(msgsnd(queue, &message, 6, 0));
  memset(message.text, 'x', sizeof message.text);
  message.type = 1l << 40;
  CHECK_OK(msgsnd(queue, &message, sizeof message.text, 0));
  message.type = 1;
  CHECK_OK(msgsnd(queue, &message, 0, 0));
  struct msqid_ds status;
  CHECK_OK(msgctl(queue, IPC_STAT, &status));
  status.msg_qbytes = 7000;
  CHECK_OK(msgctl(queue, IPC_SET, &status));
  keyed_queue = msgget(Key(3), IPC_CREAT | IPC_EXCL | 0600);
  CHECK_OK(keyed_queue);
}

static void CheckQueues(void) {
  static struct Message message;
  struct msqid_ds status;
  CHECK_OK(msgctl(queue, IPC_STAT, &status));
  CHECK_EQ(status.msg_qnum, 3);
  CHECK_EQ(status.msg_qbytes, 7000);
  CHECK_EQ(status.msg_lspid, getpid());
  CHECK_ERRNO(msgrcv(queue, &message, 5, 0, IPC_NOWAIT), E2BIG);  // the first is still there
  CHECK_EQ(msgget(Key(3), 0600), keyed_queue);
}

static void EndQueues(void) {
  static struct Message message;
  CHECK_EQ(msgrcv(queue, &message, sizeof message.text, 0, 0), 6);
  CHECK(message.type == 3 && strcmp(message.text, "three") == 0);
  CHECK_EQ(msgrcv(queue, &message, sizeof message.text, 0, 0), sizeof message.text);
  CHECK(message.type == 1l << 40 && message.text[5999] == 'x');
  CHECK_EQ(msgrcv(queue, &message, sizeof message.text, 0, 0), 0);
  CHECK_EQ(message.type, 1);
  CHECK_OK(msgctl(queue, IPC_RMID, NULL));
  CHECK_OK(msgctl(keyed_queue, IPC_RMID, NULL));
}

static void* WaitsForSemaphore(void* unused) {
  atomic_fetch_add(&at, 1);
  CHECK_OK(Operate(semaphores, 0, -1, 0));
  return unused;
}

static void* WaitsForMessage(void* unused) {
  struct Message message;
  atomic_fetch_add(&at, 1);
  CHECK_EQ(msgrcv(keyed_queue, &message, sizeof message.text, 5, 0), 4);
  CHECK(memcmp(message.text, "five", 4) == 0);
  return unused;
}

int main(void) {
  MakeMemory();
  MakeSemaphores();
  MakeQueues();
  pthread_t first = StartThread(WaitsForSemaphore, NULL);
  pthread_t second = StartThread(WaitsForMessage, NULL);
  AwaitBlocked(&at, 2);
  for (int round = 0; round < 3; round++) {
    CheckMemory(round);
    CheckSemaphores();
    CheckQueues();
    GuestSnapshot();
    Say("round %d", round);
  }
  CheckMemory(3);
  CheckSemaphores();
  CheckQueues();
  struct Message five = {.type = 5, .text = "five"};
  CHECK_OK(msgsnd(keyed_queue, &five, 4, 0));
  CHECK_OK(Operate(semaphores, 0, 1, 0));
  JoinThread(first);
  JoinThread(second);
  EndMemory();
  EndQueues();
  CHECK_OK(semctl(semaphores, 0, IPC_RMID));
  CHECK_OK(semctl(keyed_semaphores, 0, IPC_RMID));
  Say("all of it");
  return 0;
}
