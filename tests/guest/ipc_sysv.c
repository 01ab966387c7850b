// System V shared memory, semaphores and message queues.
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>

#include "tests/guest/fault.h"

static int Stat(int id, struct shmid_ds* segment) { return shmctl(id, IPC_STAT, segment); }

static unsigned long Attached(int id) {
  struct shmid_ds segment;
  CHECK_OK(Stat(id, &segment));
  return segment.shm_nattch;
}

static void SharedMemory(void) {
  int id = shmget(IPC_PRIVATE, 3 * kPage + 1, IPC_CREAT | 0600);
  CHECK_OK(id);
  struct shmid_ds segment;
  CHECK_OK(Stat(id, &segment));
  CHECK_EQ(segment.shm_segsz, 3 * kPage + 1);
  CHECK_EQ(segment.shm_cpid, getpid());
  CHECK_EQ(segment.shm_nattch, 0);
  CHECK_EQ(segment.shm_perm.mode & 0777, 0600);
  uint8_t* one = shmat(id, NULL, 0);
  CHECK_OK(one);
  uint8_t* two = shmat(id, NULL, SHM_RDONLY);
  CHECK_OK(two);
  CHECK_EQ(Attached(id), 2);
  one[3 * kPage + 5] = 0x41;
  CHECK_EQ(two[3 * kPage + 5], 0x41);
  CHECK_FAULT(TryWrite(two, 1), SIGSEGV, SEGV_ACCERR, two);
  CHECK_ERRNO(mprotect(two, kPage, PROT_READ | PROT_WRITE), EACCES);
  // At an address: rounded down if asked for, over others only if asked for.
  uint8_t* area = MapAnonymous(8 * kPage, PROT_READ | PROT_WRITE);
  CHECK_ERRNO(shmat(id, area, 0), EINVAL);
  CHECK_ERRNO(shmat(id, area + 5, 0), EINVAL);
  CHECK_ERRNO(shmat(id, NULL, SHM_REMAP), EINVAL);
  CHECK_EQ((uintptr_t)shmat(id, area + 5, SHM_RND | SHM_REMAP), (uintptr_t)area);
  CHECK_EQ(area[3 * kPage + 5], 0x41);
  CHECK_EQ(Attached(id), 3);
  CHECK_OK(munmap(area + 2 * kPage, 2 * kPage));  // a part: still attached
  CHECK_EQ(Attached(id), 3);
  CHECK_OK(mprotect(area, kPage, PROT_READ));  // two pieces of one attachment
  CHECK_EQ(Attached(id), 4);
  CHECK_OK(shmdt(area));
  CHECK_EQ(Attached(id), 2);
  CHECK_FAULT(TryRead(area + kPage), SIGSEGV, SEGV_MAPERR, area + kPage);
  CHECK_ERRNO(shmdt(area), EINVAL);
  CHECK_ERRNO(shmdt(one + 1), EINVAL);
  CHECK_ERRNO(shmdt(one + kPage), EINVAL);
  CHECK_OK(munmap(area + 4 * kPage, 4 * kPage));
  // It goes when the last attachment does.
  CHECK_OK(shmctl(id, IPC_RMID, NULL));
  CHECK_OK(Stat(id, &segment));
  CHECK_EQ(segment.shm_perm.mode & SHM_DEST, SHM_DEST);
  CHECK_OK(shmdt(two));
  CHECK_EQ(one[3 * kPage + 5], 0x41);
  CHECK_OK(shmdt(one));
  CHECK_ERRNO(Stat(id, &segment), EINVAL);
  CHECK_ERRNO(shmat(id, NULL, 0), EINVAL);
  CHECK_ERRNO(shmget(IPC_PRIVATE, 0, IPC_CREAT | 0600), EINVAL);
  CHECK_ERRNO(shmat(-1, NULL, 0), EINVAL);
  Say("shared memory");
}

static int semaphores;
static atomic_int at;

static int Operate(int number, int by, int flags) {
  struct sembuf operation = {
      .sem_num = (unsigned short)number, .sem_op = (short)by, .sem_flg = (short)flags};
  return semop(semaphores, &operation, 1);
}

static void* WaitForZero(void* unused) {
  atomic_store(&at, 1);
  CHECK_OK(Operate(1, 0, 0));
  return unused;
}

static void Nothing(int number, siginfo_t* info, void* context) {
  (void)number, (void)info, (void)context;
}

static void* Interrupted(void* unused) {
  atomic_store(&at, 2);
  CHECK_ERRNO(Operate(0, -100, 0), EINTR);
  return unused;
}

static void Semaphores(void) {
  semaphores = semget(IPC_PRIVATE, 3, IPC_CREAT | 0600);
  CHECK_OK(semaphores);
  unsigned short values[3] = {2, 1, 7};
  CHECK_OK(semctl(semaphores, 0, SETALL, values));
  CHECK_OK(Operate(0, -2, 0));
  CHECK_EQ(semctl(semaphores, 0, GETVAL), 0);
  CHECK_EQ(semctl(semaphores, 0, GETPID), getpid());
  CHECK_ERRNO(Operate(0, -1, IPC_NOWAIT), EAGAIN);
  CHECK_OK(Operate(2, 3, SEM_UNDO));
  CHECK_EQ(semctl(semaphores, 2, GETVAL), 10);
  struct sembuf impossible[2] = {{2, -4, 0}, {0, -1, IPC_NOWAIT}};  // all or nothing
  CHECK_ERRNO(semop(semaphores, impossible, 2), EAGAIN);
  CHECK_EQ(semctl(semaphores, 2, GETVAL), 10);
  struct timespec timeout = TimespecMs(30);
  struct sembuf wait = {0, -1, 0};
  int64_t begin = NowNs(CLOCK_MONOTONIC);
  CHECK_ERRNO(semtimedop(semaphores, &wait, 1, &timeout), EAGAIN);
  CHECK(NowNs(CLOCK_MONOTONIC) - begin >= 29000000);
  pthread_t waiter = StartThread(WaitForZero, NULL);
  AwaitBlocked(&at, 1);
  CHECK_OK(Operate(1, -1, 0));
  JoinThread(waiter);
  OnSignal(SIGUSR1, Nothing, SA_RESTART);  // never restarted, whatever the handler says
  waiter = StartThread(Interrupted, NULL);
  AwaitBlocked(&at, 2);
  while (semctl(semaphores, 0, GETNCNT) == 0) SleepMs(1);
  CHECK_ZERO(pthread_kill(waiter, SIGUSR1));
  JoinThread(waiter);
  struct semid_ds set;
  CHECK_OK(semctl(semaphores, 0, IPC_STAT, &set));
  CHECK_EQ(set.sem_nsems, 3);
  CHECK_ERRNO(semctl(semaphores, 3, GETVAL), EINVAL);
  CHECK_ERRNO(semop(semaphores, impossible, 0), EINVAL);
  CHECK_ERRNO(semop(semaphores, impossible, 1u << 20), E2BIG);
  CHECK_ERRNO(semop(semaphores, (void*)8, 1), EFAULT);
  CHECK_OK(semctl(semaphores, 0, GETALL, values));
  CHECK_EQ(values[2], 10);
  CHECK_ERRNO(semctl(semaphores, 0, GETALL, (void*)8), EFAULT);
  CHECK_OK(semctl(semaphores, 0, IPC_RMID));
  CHECK_ERRNO(Operate(0, 1, 0), EINVAL);
  Say("semaphores");
}

struct Message {
  long type;
  char text[64];
};

static int queue;

static void* Receive(void* unused) {
  struct Message message;
  atomic_store(&at, 3);
  CHECK_EQ(msgrcv(queue, &message, sizeof message.text, 9, 0), 5);
  CHECK(memcmp(message.text, "later", 5) == 0);
  return unused;
}

static void Queues(void) {
  queue = msgget(IPC_PRIVATE, IPC_CREAT | 0600);
  CHECK_OK(queue);
  struct Message message = {.type = 3, .text = "three"};
  CHECK_OK(msgsnd(queue, &message, 6, 0));
  message = (struct Message){.type = 1, .text = "one"};
  CHECK_OK(msgsnd(queue, &message, 4, 0));
  struct msqid_ds status;
  CHECK_OK(msgctl(queue, IPC_STAT, &status));
  CHECK_EQ(status.msg_qnum, 2);
  CHECK_EQ(status.msg_lspid, getpid());
  CHECK_ERRNO(msgrcv(queue, &message, 2, 0, 0), E2BIG);
  CHECK_EQ(msgrcv(queue, &message, sizeof message.text, -2, 0), 4);  // the lowest up to 2
  CHECK_EQ(message.type, 1);
  CHECK_EQ(msgrcv(queue, &message, 2, 0, MSG_NOERROR), 2);
  CHECK_EQ(message.type, 3);
  CHECK_ERRNO(msgrcv(queue, &message, sizeof message.text, 0, IPC_NOWAIT), ENOMSG);
  message.type = 0;
  CHECK_ERRNO(msgsnd(queue, &message, 1, 0), EINVAL);
  CHECK_ERRNO(msgsnd(queue, (void*)8, 1, 0), EFAULT);
  pthread_t receiver = StartThread(Receive, NULL);
  AwaitBlocked(&at, 3);
  message = (struct Message){.type = 9, .text = "later"};
  CHECK_OK(msgsnd(queue, &message, 5, 0));
  JoinThread(receiver);
  CHECK_OK(msgctl(queue, IPC_RMID, NULL));
  CHECK_ERRNO(msgctl(queue, IPC_STAT, &status), EINVAL);
  Say("queues");
}

static void Keys(void) {
  key_t key = 0x4b4d0000 | (getpid() & 0xffff);
  int id = shmget(key, kPage, IPC_CREAT | IPC_EXCL | 0600);
  CHECK_OK(id);
  CHECK_EQ(shmget(key, kPage, 0600), id);
  CHECK_ERRNO(shmget(key, kPage, IPC_CREAT | IPC_EXCL | 0600), EEXIST);
  CHECK_ERRNO(shmget(key, 2 * kPage, 0600), EINVAL);
  CHECK_OK(shmctl(id, IPC_RMID, NULL));
  CHECK_ERRNO(shmget(key, kPage, 0600), ENOENT);
  Say("keys");
}

int main(void) {
  CatchFaults();
  SharedMemory();
  Semaphores();
  Queues();
  Keys();
  return 0;
}
