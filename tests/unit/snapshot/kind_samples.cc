#include "tests/unit/snapshot/kind_samples.h"

#include <km/notes.h>
#include <signal.h>
#include <sys/inotify.h>
#include <sys/sysmacros.h>
#include <time.h>

#include <cstring>

#include "km/base/bytes.h"

namespace km {

std::vector<uint8_t> Records(const std::vector<Part>& parts) {
  ByteWriter out;
  for (const Part& part : parts) {
    const size_t begin = out.BeginRecord(part.tag);
    for (const Field& field : part.fields) {
      if (field.width == 4) {
        out.U32(static_cast<uint32_t>(field.value));
      } else {
        out.U64(field.value);
      }
    }
    out.Bytes({reinterpret_cast<const uint8_t*>(part.rest.data()), part.rest.size()});
    out.EndRecord(begin);
  }
  return out.Take();
}

std::string Address(sa_family_t family, size_t size) {
  std::string bytes(size, '\0');
  std::memcpy(bytes.data(), &family, sizeof(family));
  return bytes;
}

Part Condition(uint32_t condition, uint32_t shut) {
  return {KM_SOCKET_CONDITION, {condition, 0u, 0u, shut}};
}

Part Watched(int number, uint32_t mask, const std::string& path) {
  return {KM_INOTIFY_WATCH, {number, mask, static_cast<uint32_t>(path.size())}, path};
}

Part Timer(int clock, int flags, int64_t seconds, int64_t nanoseconds) {
  return {KM_TIMERFD_STATE,
          {clock, flags, uint64_t{3}, seconds, nanoseconds, int64_t{1}, int64_t{0}}};
}

// One of each kind that can be in a file.
std::vector<FileRecord> KindSamples() {
  constexpr uint32_t kByLines = 2;  // ICANON
  const Part unix_stream = {KM_SOCKET_SPEC, {AF_UNIX, SOCK_STREAM, 0}};
  const Part identity = {KM_NAMED_IDENTITY,
                         {uint64_t{1}, uint64_t{2}, uint64_t{3}, int64_t{4}, int64_t{5}}};
  const Part object = {KM_UNNAMED_OBJECT, {uint64_t{KM_OBJECT_BASE}}};
  const Part attributes = {KM_UNNAMED_ATTRIBUTES, {0640u, 12u, 34u}};
  const Part message = {KM_SOCKET_MESSAGE, {0u, 2u, 1u, 2u}, "bytes"};
  return {
      {1, FileKind::kRegular, 0, 0, "/file", Records({identity})},
      {2, FileKind::kDirectory, 0, 0, "/directory", Records({identity})},
      {3, FileKind::kPipe, 0, 0, "",
       Records({{KM_PIPE_OBJECT, {1}}, {KM_PIPE_SIZE, {4096}}, {KM_PIPE_CONTENTS, {}, "held"}})},
      {4, FileKind::kSocket, 0, 0, "",
       Records({unix_stream,
                Condition(KM_SOCKET_PAIRED),
                {KM_SOCKET_PAIR, {7, 1}},
                {KM_SOCKET_NAME, {}, Address(AF_UNIX, 2) + std::string("/tmp/socket", 12)},
                message})},
      {5, FileKind::kCharacterDevice, 0, 0, "/dev/null",
       Records({{KM_DEVICE_NUMBER, {uint64_t{makedev(1, 3)}}}})},
      {6, FileKind::kEventFd, 0, 0, "", Records({{KM_EVENTFD_STATE, {uint64_t{5}, 1, 0}}})},
      {7, FileKind::kEpoll, 0, 0, "",
       Records({{KM_EPOLL_WATCH, {105, 1, uint64_t{9}, 1, 0}},
                {KM_EPOLL_WATCH, {106, 4, uint64_t{8}}}})},
      {8, FileKind::kTimerFd, 0, 0, "", Records({Timer(CLOCK_MONOTONIC, 1, 10, 500)})},
      {9, FileKind::kSignalFd, 0, 0, "", Records({{KM_SIGNALFD_MASK, {uint64_t{512}}}})},
      {10, FileKind::kInotify, 0, 0, "",
       Records({{KM_INOTIFY_NEXT, {3}}, Watched(1, IN_CREATE, "/tmp")})},
      {11, FileKind::kMemFd, 0, 0, "", Records({object, attributes})},
      {12, FileKind::kPath, 0, 0, "/place", Records({identity})},
      {13, FileKind::kGiven, 0, 0, "", Records({{KM_GIVEN_NUMBER, {2}}})},
      {14, FileKind::kProc, 0, 0, "/proc/self/maps", {}},
      {15, FileKind::kPidFd, 0, 0, "", {}},
      {16, FileKind::kMessageQueue, 0, 0, "/queue",
       Records(
           {{KM_QUEUE_OBJECT, {1, 0}},
            {KM_QUEUE_ATTRIBUTES, {uint64_t{10}, uint64_t{100}, 0600, 0, uint64_t{1}, uint64_t{2}}},
            {KM_QUEUE_MESSAGE, {5}, "hello"},
            {KM_QUEUE_NOTICE, {SIGEV_SIGNAL, 10, uint64_t{7}}}})},
      {17, FileKind::kTerminal, 0, 0, "",
       Records({{KM_TERMINAL_WHAT, {KM_TERMINAL_IS_MASTER, 0}},
                {KM_TERMINAL_SETTINGS, {0, 0, 0, kByLines, 0, 0, 0, 0, 0, 38400, 38400}},
                {KM_TERMINAL_WINDOW, {24, 80, 0, 0}},
                {KM_TERMINAL_STATE, {0, 0, 0620, 0}},
                {KM_TERMINAL_LINE, {}, "a line\n"},
                {KM_TERMINAL_OUTPUT, {}, "output"}})},
  };
}

}  // namespace km
