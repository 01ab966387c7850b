// Open files as hostile bytes, kind by kind. What a description says is read to its end before
// anything happens (FileKindRow::describe): it is refused, with the reason, or is such as the kind
// can have.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <km/notes.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <time.h>

#include <cstring>
#include <functional>

#include "absl/strings/str_cat.h"
#include "km/base/bytes.h"
#include "km/files/kind.h"
#include "tests/unit/snapshot/kind_samples.h"

namespace km {
namespace {

using testing::HasSubstr;

constexpr uint32_t kNumbers = 64;  // of kinds, more than there are

const Part kUnixStream = {KM_SOCKET_SPEC, {AF_UNIX, SOCK_STREAM, 0}};
const Part kUdp = {KM_SOCKET_SPEC, {AF_INET, SOCK_DGRAM, IPPROTO_UDP}};

const Part kMaster = {KM_TERMINAL_WHAT, {KM_TERMINAL_IS_MASTER, 0}};

Part Nameless() { return {KM_QUEUE_OBJECT, {1, 1}}; }
Part Room(uint64_t messages, uint64_t size) {
  return {KM_QUEUE_ATTRIBUTES, {messages, size, 0600, 0, uint64_t{1}, uint64_t{2}}};
}

FileRecord Sample(FileKind kind) {
  for (FileRecord& record : KindSamples()) {
    if (record.kind == kind) return record;
  }
  ADD_FAILURE() << "no sample of kind " << static_cast<uint32_t>(kind);
  return {};
}

absl::Status Verdict(const FileRecord& record) {
  const absl::StatusOr<std::string> text = KindRow(record.kind).describe(record);
  // It says what is there, whatever numbers claim.
  if (text.ok()) {
    EXPECT_LE(text->size(), 4096 + 64 * record.state.size()) << *text;
  }
  return text.status();
}

// Of each record of `state`: where it begins, and the length of its value.
std::vector<std::pair<size_t, uint32_t>> Bounds(const std::vector<uint8_t>& state) {
  std::vector<std::pair<size_t, uint32_t>> bounds;
  for (size_t at = 0; at + 8 <= state.size();) {
    uint32_t length = 0;
    std::memcpy(&length, &state[at + 4], sizeof(length));
    bounds.emplace_back(at, length);
    at += 8 + (length + 7) / 8 * 8;
  }
  return bounds;
}

TEST(KindDamage, EachKindHasASample) {
  for (uint32_t number = 1; number < kNumbers; ++number) {
    const FileKindRow& row = KindRow(static_cast<FileKind>(number));
    if (row.restore == nullptr) continue;
    SCOPED_TRACE(row.name);
    EXPECT_EQ(Verdict(Sample(static_cast<FileKind>(number))), absl::OkStatus());
  }
}

TEST(KindDamage, CutAnywhere) {
  for (const FileRecord& sample : KindSamples()) {
    SCOPED_TRACE(KindRow(sample.kind).name);
    for (size_t size = 0; size < sample.state.size(); ++size) {
      FileRecord cut = sample;
      cut.state.resize(size);
      // Padding may be missing at the end.
      bool whole = size == 0;
      for (const auto& [at, length] : Bounds(sample.state)) {
        whole |= size >= at + 8 + length && size <= at + 8 + (length + 7) / 8 * 8;
      }
      const absl::Status status = Verdict(cut);
      if (!whole) {
        EXPECT_NE(status, absl::OkStatus()) << size;
      }
    }
  }
}

TEST(KindDamage, LengthsThatClaimMore) {
  for (const FileRecord& sample : KindSamples()) {
    SCOPED_TRACE(KindRow(sample.kind).name);
    for (const auto& [at, length] : Bounds(sample.state)) {
      for (uint32_t claimed :
           {uint32_t{1} << 16, uint32_t{INT32_MAX}, UINT32_MAX - 7, UINT32_MAX}) {
        FileRecord record = sample;
        std::memcpy(&record.state[at + 4], &claimed, sizeof(claimed));
        EXPECT_THAT(Verdict(record).message(), HasSubstr("does not fit")) << at << " " << claimed;
      }
    }
  }
}

TEST(KindDamage, NumbersThatMeanNothing) {
  for (const FileRecord& sample : KindSamples()) {
    SCOPED_TRACE(KindRow(sample.kind).name);
    for (size_t at = 8; at + 4 <= sample.state.size(); at += 4) {
      for (uint32_t value : {0u, 1u, 255u, 0x7fffffffu, 0x80000000u, 0xffffffffu}) {
        FileRecord record = sample;
        std::memcpy(&record.state[at], &value, sizeof(value));
        const absl::Status status = Verdict(record);
        if (!status.ok()) {
          EXPECT_NE(status.message(), "");
        }
      }
    }
  }
}

TEST(KindDamage, RecordsOfTheFuture) {
  for (const FileRecord& sample : KindSamples()) {
    SCOPED_TRACE(KindRow(sample.kind).name);
    FileRecord record = sample;
    const auto append = [&](uint32_t tag) {
      record = sample;
      const std::vector<uint8_t> more = Records({{tag, {uint64_t{1}}}});
      record.state.insert(record.state.end(), more.begin(), more.end());
    };
    append(0x7777);
    EXPECT_EQ(Verdict(record), absl::OkStatus());
    append(KM_TAG_REQUIRED | 0x7777);
    EXPECT_THAT(Verdict(record).message(), HasSubstr("of a newer km"));
  }
}

struct Refused {
  const char* text;  // of the message
  FileKind kind;
  std::vector<Part> parts;
};

TEST(KindDamage, WhatNoSuchFileCanHave) {
  const std::string many(254 * 4, '\1');
  const Refused kRefused[] = {
      {"count is impossible", FileKind::kEventFd, {{KM_EVENTFD_STATE, {UINT64_MAX, 0, 0}}}},
      {"too short", FileKind::kEventFd, {{KM_EVENTFD_STATE, {7}}}},
      {"timerfd of clock 2", FileKind::kTimerFd, {Timer(CLOCK_PROCESS_CPUTIME_ID, 0, 1, 0)}},
      {"timerfd of clock -1", FileKind::kTimerFd, {Timer(-1, 0, 1, 0)}},
      {"with flags 4", FileKind::kTimerFd, {Timer(CLOCK_REALTIME, 4, 1, 0)}},
      {"time is impossible", FileKind::kTimerFd, {Timer(CLOCK_REALTIME, 0, -1, 0)}},
      {"time is impossible", FileKind::kTimerFd, {Timer(CLOCK_REALTIME, 0, 1, 1000000000)}},
      {"too short", FileKind::kSignalFd, {{KM_SIGNALFD_MASK, {1}}}},
      {"too short", FileKind::kEpoll, {{KM_EPOLL_WATCH, {1, 1}}}},
      {"too short", FileKind::kEpoll, {{KM_EPOLL_WATCH, {1, 1, uint64_t{1}, 1}}}},
      {"holds 4", FileKind::kPipe, {{KM_PIPE_SIZE, {3}}, {KM_PIPE_CONTENTS, {}, "four"}}},
      {"a pipe of 2147483648", FileKind::kPipe, {{KM_PIPE_SIZE, {0x80000000u}}}},
      {"none of the descriptors 0 to 2", FileKind::kGiven, {{KM_GIVEN_NUMBER, {3}}}},
      {"none of the descriptors 0 to 2", FileKind::kGiven, {{KM_GIVEN_NUMBER, {-1}}}},
      {"none of the descriptors 0 to 2", FileKind::kGiven, {}},
      {"memfd without its memory", FileKind::kMemFd, {}},
      {"device 10:130",
       FileKind::kCharacterDevice,
       {{KM_DEVICE_NUMBER, {uint64_t{makedev(10, 130)}}}}},
      {"device 0:0", FileKind::kCharacterDevice, {}},
      {"watch 0 is none", FileKind::kInotify, {{KM_INOTIFY_NEXT, {3}}, Watched(0, 1, "/")}},
      {"watch -5 is none", FileKind::kInotify, {{KM_INOTIFY_NEXT, {3}}, Watched(-5, 1, "/")}},
      {"watch 3 is none", FileKind::kInotify, {{KM_INOTIFY_NEXT, {3}}, Watched(3, 1, "/")}},
      {"watch 1 is none", FileKind::kInotify, {{KM_INOTIFY_NEXT, {3}}, Watched(1, IN_ISDIR, "/")}},
      {"watch 1 is none", FileKind::kInotify, {{KM_INOTIFY_NEXT, {3}}, Watched(1, 1, "tmp")}},
      {"too short", FileKind::kInotify, {{KM_INOTIFY_WATCH, {1, 1, UINT32_MAX}, "/"}}},
      {"next watch is none", FileKind::kInotify, {{KM_INOTIFY_NEXT, {0}}}},
      {"next watch is none", FileKind::kInotify, {{KM_INOTIFY_NEXT, {0x80000000u}}}},
      {"unread events are none", FileKind::kInotify, {{KM_INOTIFY_EVENTS, {1, 2, 3}}}},
      {"unread events are none", FileKind::kInotify, {{KM_INOTIFY_EVENTS, {1, 2, 3, 16}, "short"}}},
      {"unread events are none", FileKind::kInotify, {{KM_INOTIFY_EVENTS, {1, 2, 3, UINT32_MAX}}}},
      {"too short", FileKind::kSocket, {kUnixStream, {KM_SOCKET_FILE, {0777, 0, 0}}}},
      {"too short", FileKind::kSocket, {kUnixStream, {KM_SOCKET_FILE, {0777, 0, 0, 0, 9}, "path"}}},
      {"path of a socket's file is none",
       FileKind::kSocket,
       {kUnixStream, {KM_SOCKET_FILE, {0777, 0, 0, 0, 4096}, std::string(4096, 'a')}}},
      {"path of a socket's file is none",
       FileKind::kSocket,
       {kUnixStream, {KM_SOCKET_FILE, {0777, 0, 0, 0, 3}, std::string("a\0b", 3)}}},
      {"too short", FileKind::kMessageQueue, {{KM_QUEUE_OWNER, {0}}}},
      {"no such socket", FileKind::kSocket, {{KM_SOCKET_SPEC, {99, SOCK_STREAM, 0}}}},
      {"no such socket", FileKind::kSocket, {{KM_SOCKET_SPEC, {AF_UNIX, SOCK_PACKET, 0}}}},
      {"no such socket", FileKind::kSocket, {{KM_SOCKET_SPEC, {AF_UNIX, SOCK_STREAM, -1}}}},
      {"no such socket", FileKind::kSocket, {}},
      {"no such socket", FileKind::kSocket, {kUnixStream, Condition(4)}},
      {"no such socket", FileKind::kSocket, {kUnixStream, Condition(KM_SOCKET_IDLE, 4)}},
      {"no such socket",
       FileKind::kSocket,
       {kUnixStream, Condition(KM_SOCKET_PAIRED), {KM_SOCKET_PAIR, {1, 2}}}},
      {"no such socket", FileKind::kSocket, {kUdp, Condition(KM_SOCKET_PAIRED)}},
      {"no such socket", FileKind::kSocket, {kUdp, Condition(KM_SOCKET_LOST)}},
      {"address is none", FileKind::kSocket, {kUdp, {KM_SOCKET_NAME, {}, Address(AF_UNIX, 16)}}},
      {"address is none", FileKind::kSocket, {kUdp, {KM_SOCKET_PEER, {}, "x"}}},
      {"address is none",
       FileKind::kSocket,
       {kUdp, {KM_SOCKET_NAME, {}, Address(AF_INET, sizeof(sockaddr_storage) + 1)}}},
      {"sets option",
       FileKind::kSocket,
       {kUdp, {KM_SOCKET_OPTION, {SOL_SOCKET, SO_ATTACH_FILTER}, std::string(16, '\0')}}},
      {"sets option", FileKind::kSocket, {kUdp, {KM_SOCKET_OPTION, {SOL_SOCKET, SO_RCVBUF}, "x"}}},
      {"message is none", FileKind::kSocket, {kUdp, {KM_SOCKET_MESSAGE, {0u, 1u, 1u}}}},
      {"message is none", FileKind::kSocket, {kUnixStream, {KM_SOCKET_MESSAGE, {0u, 254u}, many}}},
      {"too short", FileKind::kSocket, {kUnixStream, {KM_SOCKET_MESSAGE, {0u, UINT32_MAX}}}},
      {"too short", FileKind::kSocket, {kUnixStream, {KM_SOCKET_MESSAGE, {UINT32_MAX}}}},
      {"below it", FileKind::kProc, {}},
      {"'/etc/passwd' with 0", FileKind::kMessageQueue, {}},
      {"1 messages of 0", FileKind::kMessageQueue, {Nameless(), {KM_QUEUE_MESSAGE, {1}, "x"}}},
      {"1 messages of 2",
       FileKind::kMessageQueue,
       {Nameless(), Room(uint64_t{1}, uint64_t{2}), {KM_QUEUE_MESSAGE, {1}, "three"}}},
      {"is impossible", FileKind::kMessageQueue, {Nameless(), Room(UINT64_MAX, uint64_t{1})}},
      {"is impossible", FileKind::kMessageQueue, {Nameless(), Room(uint64_t{1}, UINT64_MAX)}},
      {"is impossible",
       FileKind::kMessageQueue,
       {Nameless(), {KM_QUEUE_NOTICE, {SIGEV_SIGNAL, 65, uint64_t{0}}}}},
      {"is impossible",
       FileKind::kMessageQueue,
       {Nameless(), {KM_QUEUE_NOTICE, {SIGEV_THREAD, 10, uint64_t{0}}}}},
      {"neither a master nor a slave", FileKind::kTerminal, {}},
      {"neither a master nor a slave", FileKind::kTerminal, {{KM_TERMINAL_WHAT, {5, 0}}}},
      {"none of those there are",
       FileKind::kTerminal,
       {{KM_TERMINAL_WHAT, {KM_TERMINAL_IS_LAUNCHERS, 0}}}},
      {"none of those there are",
       FileKind::kTerminal,
       {{KM_TERMINAL_WHAT, {KM_TERMINAL_IS_LAUNCHERS, 16}}}},
      {"in an unknown way", FileKind::kTerminal, {kMaster, {KM_TERMINAL_STATE, {0, 3, 0620, 0}}}},
      {"not read by lines", FileKind::kTerminal, {kMaster, {KM_TERMINAL_LINE, {}, "a line\n"}}},
      {"a terminal holds 5000",
       FileKind::kTerminal,
       {kMaster, {KM_TERMINAL_REST, {}, std::string(5000, 'x')}}},
      {"too short", FileKind::kTerminal, {kMaster, {KM_TERMINAL_SETTINGS, {1, 2, 3}}}},
  };
  for (const Refused& refused : kRefused) {
    FileRecord record;
    record.kind = refused.kind;
    record.path = "/etc/passwd";
    record.state = Records(refused.parts);
    EXPECT_THAT(Verdict(record).message(), HasSubstr(refused.text)) << KindRow(refused.kind).name;
  }
}

}  // namespace
}  // namespace km
