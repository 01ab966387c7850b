// The files that UNIX sockets are bound to: mode, owner and another name come back, a file that was
// removed does not; a queue's owner comes back too.
#include <mqueue.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "tests/guest/guest.h"

static int listener, inbox, gone, outbox, renamed;
static char gone_path[sizeof(((struct sockaddr_un*)0)->sun_path)];
static mqd_t queue;
static char queue_name[32];

static struct sockaddr_un Address(const char* path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
  return address;
}

static int Bound(int type, const char* path) {
  struct sockaddr_un address = Address(path);
  int fd = socket(AF_UNIX, type, 0);
  CHECK_OK(fd);
  CHECK_OK(bind(fd, (struct sockaddr*)&address, sizeof address));
  return fd;
}

static void CheckFile(const char* path, mode_t mode, uid_t uid, gid_t gid) {
  struct stat status;
  CHECK_OK(lstat(path, &status));
  CHECK_EQ(status.st_mode, S_IFSOCK | mode);
  if (geteuid() != 0) return;
  CHECK_EQ(status.st_uid, uid);
  CHECK_EQ(status.st_gid, gid);
}

static void CheckName(int fd, const char* path) {
  struct sockaddr_un address = {0};
  socklen_t size = sizeof address;
  CHECK_OK(getsockname(fd, (struct sockaddr*)&address, &size));
  CHECK(strcmp(address.sun_path, path) == 0);
}

static void Check(const char* when) {
  struct stat status;
  char text[8];
  CheckFile("listener", 0666, 12, 34);
  CheckFile("inbox", 0600, geteuid(), 56);
  CheckName(listener, "listener");
  CheckName(inbox, "inbox");
  CheckName(gone, gone_path);
  CHECK_ERRNO(lstat(gone_path, &status), ENOENT);
  CHECK_OK(fstat(listener, &status));
  CHECK_EQ(status.st_mode & 0777, 0777);
  // A connection and datagrams, also to the one without a file.
  struct sockaddr_un address = Address("listener");
  int client = socket(AF_UNIX, SOCK_STREAM, 0);
  CHECK_OK(connect(client, (struct sockaddr*)&address, sizeof address));
  int server = accept(listener, NULL, NULL);
  CHECK_EQ(write(client, "a", 1), 1);
  CHECK_EQ(read(server, text, sizeof text), 1);
  CHECK_OK(close(client));
  CHECK_OK(close(server));
  CHECK_EQ(send(outbox, "to it", 5, 0), 5);
  CHECK_EQ(recv(gone, text, sizeof text, 0), 5);
  address = Address("inbox");
  CHECK_EQ(sendto(outbox, "b", 1, 0, (struct sockaddr*)&address, sizeof address), 1);
  CHECK_EQ(recv(inbox, text, sizeof text, 0), 1);
  // It knows its first name, and is found under the second.
  CheckFile("renamed", 0640, geteuid(), getegid());
  CheckName(renamed, "first");
  CHECK_ERRNO(lstat("first", &status), ENOENT);
  address = Address("renamed");
  CHECK_EQ(sendto(outbox, "c", 1, 0, (struct sockaddr*)&address, sizeof address), 1);
  CHECK_EQ(recv(renamed, text, sizeof text, 0), 1);
  CHECK_OK(fstat(queue, &status));
  CHECK_EQ(status.st_mode & 0777, 0640);
  if (geteuid() == 0) {
    CHECK_EQ(status.st_uid, 78);
    CHECK_EQ(status.st_gid, 90);
  }
  CHECK_EQ(umask(027), 027);
  Say("%s", when);
}

// What waits in a socket is put back by its name, which may lead nowhere.
static void Leave(void) {
  struct sockaddr_un address = Address("renamed");
  CHECK_EQ(sendto(outbox, "wait", 4, 0, (struct sockaddr*)&address, sizeof address), 4);
  CHECK_EQ(send(outbox, "waits", 5, 0), 5);
}

static void Take(void) {
  char text[8];
  CHECK_EQ(recv(renamed, text, sizeof text, MSG_DONTWAIT), 4);
  CHECK_EQ(recv(gone, text, sizeof text, MSG_DONTWAIT), 5);
}

int main(void) {
  umask(027);
  char folder[256];
  CHECK(getcwd(folder, sizeof folder) != NULL);
  // A removed name is only known by an absolute path; a long folder leaves no room for one.
  snprintf(gone_path, sizeof gone_path, "/tmp/snap_socket_path.%d", getpid());
  listener = Bound(SOCK_STREAM, "listener");
  CHECK_OK(listen(listener, 5));
  CHECK_OK(chmod("listener", 0666));
  inbox = Bound(SOCK_DGRAM, "inbox");
  CHECK_OK(chmod("inbox", 0600));
  renamed = Bound(SOCK_DGRAM, "first");
  CHECK_OK(chmod("first", 0640));
  CHECK_OK(rename("first", "renamed"));
  gone = Bound(SOCK_DGRAM, gone_path);
  struct sockaddr_un address = Address(gone_path);
  outbox = socket(AF_UNIX, SOCK_DGRAM, 0);
  CHECK_OK(connect(outbox, (struct sockaddr*)&address, sizeof address));
  CHECK_OK(unlink(gone_path));
  snprintf(queue_name, sizeof queue_name, "/snap_socket_path.%d", getpid());
  queue = mq_open(queue_name, O_RDWR | O_CREAT | O_EXCL, 0640, NULL);
  CHECK_OK(queue);
  if (geteuid() == 0) {
    CHECK_OK(chown("listener", 12, 34));
    CHECK_OK(chown("inbox", (uid_t)-1, 56));
    CHECK_OK(fchown(queue, 78, 90));
  }
  CHECK_OK(mq_unlink(queue_name));
  Check("before");
  Leave();
  GuestSnapshot();
  Take();
  Check("once");
  Leave();
  GuestSnapshot();
  Take();
  Check("twice");
  // From another working directory a relative path does not lead there: the kernel tells root where
  // it does, and everybody else is refused.
  CHECK_OK(mkdir("elsewhere", 0755));
  CHECK_OK(chdir("elsewhere"));
  if (GuestTrySnapshot("moved", 0) != 1) CHECK(!GuestSnapshotWanted() || geteuid() != 0);
  CheckFile("../listener", 0666, 12, 34);
  CheckFile("../renamed", 0640, geteuid(), getegid());
  CheckName(listener, "listener");
  struct stat status;
  CHECK_ERRNO(lstat("listener", &status), ENOENT);
  Say("moved");
  return 0;
}
