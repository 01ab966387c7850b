#include "km/files/socket_state.h"

#include <gtest/gtest.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

#include <random>

#include "km/files/kind.h"

namespace km {
namespace {

SocketState Rich() {
  SocketState state;
  state.family = AF_UNIX;
  state.type = SOCK_DGRAM;
  state.condition = KM_SOCKET_PAIRED;
  state.pair = 7;
  state.end = 1;
  state.shut = 1;
  state.name = {AF_UNIX, 0, 'n', 'a', 'm', 'e'};
  state.options = {{SOL_SOCKET, SO_PASSCRED, {1, 0, 0, 0}}};
  state.messages = {{{AF_UNIX, 0, 's'}, {3, 4}, {'b', 'y', 't', 'e', 's'}}, {{}, {}, {}}};
  state.messages[1].credentials = {{12, 34, 56}};
  state.file = {.mode = 0640, .owner = {12, 34}, .removed = false, .path = "renamed"};
  return state;
}

FileRecord Encoded(const SocketState& state) {
  ByteWriter out;
  EncodeSocket(state, &out);
  FileRecord record;
  record.kind = FileKind::kSocket;
  record.state = out.Take();
  return record;
}

TEST(SocketState, ComesBack) {
  const SocketState before = Rich();
  absl::StatusOr<SocketState> after = DecodeSocket(Encoded(before));
  ASSERT_TRUE(after.ok()) << after.status();
  EXPECT_EQ(after->family, AF_UNIX);
  EXPECT_EQ(after->type, SOCK_DGRAM);
  EXPECT_EQ(after->condition, KM_SOCKET_PAIRED);
  EXPECT_EQ(after->pair, 7u);
  EXPECT_EQ(after->end, 1u);
  EXPECT_EQ(after->shut, 1u);
  EXPECT_EQ(after->name, before.name);
  ASSERT_EQ(after->options.size(), 1u);
  EXPECT_EQ(after->options[0].value, before.options[0].value);
  ASSERT_EQ(after->messages.size(), 2u);
  EXPECT_EQ(after->messages[0].sender, before.messages[0].sender);
  EXPECT_EQ(after->messages[0].descriptions, before.messages[0].descriptions);
  EXPECT_EQ(after->messages[0].bytes, before.messages[0].bytes);
  EXPECT_FALSE(after->messages[0].credentials.has_value());
  EXPECT_TRUE(after->messages[1].bytes.empty());
  ASSERT_TRUE(after->messages[1].credentials.has_value());
  EXPECT_EQ(after->messages[1].credentials->pid, 12);
  EXPECT_EQ(after->messages[1].credentials->uid, 34u);
  EXPECT_EQ(after->messages[1].credentials->gid, 56u);
  ASSERT_TRUE(after->file.has_value());
  EXPECT_EQ(after->file->mode, 0640u);
  EXPECT_EQ(after->file->owner, (Owner{12, 34}));
  EXPECT_FALSE(after->file->removed);
  EXPECT_EQ(after->file->path, "renamed");
  EXPECT_EQ(SocketPlaceText(*after), "renamed");
}

TEST(SocketState, WhatNoSocketHasIsRefused) {
  auto refused = [](void (*change)(SocketState*)) {
    SocketState state = Rich();
    change(&state);
    return !DecodeSocket(Encoded(state)).ok();
  };
  EXPECT_TRUE(refused([](SocketState* s) { s->family = AF_PACKET; }));
  EXPECT_TRUE(refused([](SocketState* s) { s->type = SOCK_PACKET; }));
  EXPECT_TRUE(refused([](SocketState* s) { s->type = SOCK_STREAM | SOCK_NONBLOCK; }));
  EXPECT_TRUE(refused([](SocketState* s) { s->condition = 4; }));
  EXPECT_TRUE(refused([](SocketState* s) { s->end = 2; }));
  EXPECT_TRUE(refused([](SocketState* s) { s->name = {AF_INET, 0, 1}; }));
  EXPECT_TRUE(refused([](SocketState* s) { s->name.resize(129); }));
  EXPECT_TRUE(refused([](SocketState* s) { s->name.resize(1); }));
  EXPECT_TRUE(refused([](SocketState* s) { s->messages[0].descriptions.resize(254); }));
  EXPECT_TRUE(refused([](SocketState* s) { s->options[0].value.resize(5); }));
  EXPECT_TRUE(refused([](SocketState* s) { s->options[0].name = SO_ATTACH_FILTER; }));
  EXPECT_TRUE(refused([](SocketState* s) { s->options[0].level = IPPROTO_UDP; }));
}

SocketAddress Whole(uint8_t family, size_t size) {
  SocketAddress address(size);
  address[0] = family;
  return address;
}

// A resume reads and writes them as what the family has, and connects to some of them.
TEST(SocketState, AddressesAreWholeAndWhereTheyBelong) {
  const SocketAddress in = Whole(AF_INET, sizeof(sockaddr_in));
  const SocketAddress in6 = Whole(AF_INET6, sizeof(sockaddr_in6));
  const SocketAddress netlink = Whole(AF_NETLINK, sizeof(sockaddr_nl));
  for (const SocketAddress& whole : {in, in6, netlink}) {
    SocketState state;
    state.family = whole[0];
    state.type = SOCK_DGRAM;
    state.name = whole;
    EXPECT_TRUE(DecodeSocket(Encoded(state)).ok());
    state.name.pop_back();
    EXPECT_FALSE(DecodeSocket(Encoded(state)).ok());
    state.name.resize(2);
    EXPECT_FALSE(DecodeSocket(Encoded(state)).ok());
    state.name = whole;
    state.peer = whole;
    EXPECT_EQ(DecodeSocket(Encoded(state)).ok(), state.family != AF_NETLINK);
  }
  SocketState listener;
  listener.family = AF_INET;
  listener.type = SOCK_STREAM;
  listener.protocol = IPPROTO_TCP;
  listener.condition = KM_SOCKET_LISTENING;
  EXPECT_FALSE(DecodeSocket(Encoded(listener)).ok());
  listener.name = in;
  EXPECT_TRUE(DecodeSocket(Encoded(listener)).ok());
  listener.peer = in;
  EXPECT_FALSE(DecodeSocket(Encoded(listener)).ok());
  for (const uint32_t condition : {KM_SOCKET_IDLE, KM_SOCKET_LOST}) {
    listener.condition = condition;
    EXPECT_FALSE(DecodeSocket(Encoded(listener)).ok());
  }
  SocketState pair;
  pair.family = AF_UNIX;
  pair.type = SOCK_STREAM;
  pair.peer = {AF_UNIX, 0, 'p'};
  EXPECT_FALSE(DecodeSocket(Encoded(pair)).ok());
  pair.condition = KM_SOCKET_PAIRED;
  EXPECT_TRUE(DecodeSocket(Encoded(pair)).ok());
  pair.condition = KM_SOCKET_LOST;
  EXPECT_TRUE(DecodeSocket(Encoded(pair)).ok());
}

TEST(SocketState, AnyBytes) {
  std::mt19937 random(1);
  const FileRecord good = Encoded(Rich());
  for (int i = 0; i < 20000; ++i) {
    FileRecord record = good;
    for (unsigned changes = random() % 4 + 1; changes > 0; --changes) {
      record.state[random() % record.state.size()] = static_cast<uint8_t>(random());
    }
    record.state.resize(record.state.size() - random() % 3 * 8);
    if (KindRow(FileKind::kSocket).describe(record).ok()) {
      EXPECT_TRUE(DecodeSocket(record).ok());
    }
  }
}

}  // namespace
}  // namespace km
