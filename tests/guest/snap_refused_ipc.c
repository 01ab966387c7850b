// What a snapshot does not carry of System V and POSIX objects refuses it, by name, while it is
// there; removed, it does not.
#include <mqueue.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>

#include "tests/guest/guest.h"

static void ExpectRefused(const char* what) {
  long result = GuestTrySnapshot("refused", 0);
  if (GuestSnapshotWanted() ? result != -EBUSY : result != -ENOSYS) {
    FAIL("a snapshot with %s returned %ld", what, result);
  }
  Say("%s", what);
}

int main(void) {
  int id = shmget(IPC_PRIVATE, kPage, IPC_CREAT | 0600);
  CHECK_OK(id);
  ExpectRefused("shared memory");
  uint8_t* memory = shmat(id, NULL, 0);
  CHECK_OK(memory);
  CHECK_OK(shmctl(id, IPC_RMID, NULL));
  memory[5] = 7;
  ExpectRefused("attached memory");
  CHECK_EQ(memory[5], 7);
  CHECK_OK(shmdt(memory));

  id = semget(IPC_PRIVATE, 1, IPC_CREAT | 0600);
  CHECK_OK(id);
  ExpectRefused("semaphores");
  CHECK_OK(semctl(id, 0, IPC_RMID));

  id = msgget(IPC_PRIVATE, IPC_CREAT | 0600);
  CHECK_OK(id);
  ExpectRefused("message queue");
  CHECK_OK(msgctl(id, IPC_RMID, NULL));

  char name[64];
  snprintf(name, sizeof name, "/km-refused-%d", getpid());
  mqd_t queue = mq_open(name, O_RDWR | O_CREAT | O_EXCL, 0600, NULL);
  CHECK_OK(queue);
  CHECK_OK(mq_unlink(name));
  ExpectRefused("POSIX message queue");
  CHECK_OK(mq_close(queue));
  GuestSnapshot();
  Say("taken");
  return 0;
}
