#include "km/files/socket_state.h"

#include <gtest/gtest.h>
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
  EXPECT_TRUE(after->messages[1].bytes.empty());
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
