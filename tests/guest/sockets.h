// What programs ask of sockets again and again.
#ifndef TESTS_GUEST_SOCKETS_H_
#define TESTS_GUEST_SOCKETS_H_

#include <netinet/in.h>
#include <sys/socket.h>

#include "tests/guest/guest.h"

static int Int(int fd, int level, int name) {
  int value = -1;
  socklen_t size = sizeof value;
  CHECK_OK(getsockopt(fd, level, name, &value, &size));
  return value;
}

static void SetInt(int fd, int level, int name, int value) {
  CHECK_OK(setsockopt(fd, level, name, &value, sizeof value));
}

static struct sockaddr_in Name(int fd) {
  struct sockaddr_in name;
  socklen_t size = sizeof name;
  CHECK_OK(getsockname(fd, (struct sockaddr*)&name, &size));
  return name;
}

#endif  // TESTS_GUEST_SOCKETS_H_
