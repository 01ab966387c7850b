#include "km/syscalls/socket_control.h"

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <cstring>
#include <random>
#include <string>
#include <vector>

namespace km {
namespace {

constexpr int kPidFd = 4;

// A control message with `data`, padded as `pad` says.
std::vector<char> Message(int level, int type, const std::vector<int32_t>& data, bool pad = true) {
  size_t bytes = data.size() * sizeof(int32_t);
  std::vector<char> out(pad ? CMSG_SPACE(bytes) : CMSG_LEN(bytes));
  cmsghdr header = {};
  header.cmsg_len = CMSG_LEN(bytes);
  header.cmsg_level = level;
  header.cmsg_type = type;
  std::memcpy(out.data(), &header, sizeof(header));
  if (bytes != 0) std::memcpy(out.data() + CMSG_LEN(0), data.data(), bytes);
  return out;
}

std::vector<char> operator+(std::vector<char> a, const std::vector<char>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

int Plus100(int fd) { return fd >= 0 && fd < 50 ? fd + 100 : -1; }

std::vector<char> ToHost(std::vector<char> control) {
  ControlToHost(absl::MakeSpan(control), {7, 70}, Plus100);
  return control;
}

TEST(SocketControl, DescriptorsAndIdsAreTranslated) {
  std::vector<char> both = Message(SOL_SOCKET, SCM_CREDENTIALS, {7, 7, 7}) +
                           Message(SOL_SOCKET, SCM_RIGHTS, {3, 60, -1}, false);
  EXPECT_EQ(ToHost(both), Message(SOL_SOCKET, SCM_CREDENTIALS, {70, 7, 7}) +
                              Message(SOL_SOCKET, SCM_RIGHTS, {103, -1, -1}, false));
}

TEST(SocketControl, OthersStayAsTheyAre) {
  std::vector<char> other = Message(SOL_SOCKET, SCM_CREDENTIALS, {8, 7, 7}) +
                            Message(0, SCM_RIGHTS, {3}) + Message(SOL_SOCKET, 99, {3, 7});
  EXPECT_EQ(ToHost(other), other);
  EXPECT_TRUE(ToHost({}).empty());
}

TEST(SocketControl, NothingBehindABadHeaderIsTouched) {
  for (uint64_t length : {uint64_t{0}, uint64_t{15}, uint64_t{21}, ~uint64_t{0}, ~uint64_t{7}}) {
    std::vector<char> bad = Message(SOL_SOCKET, SCM_RIGHTS, {3}, false);
    std::memcpy(bad.data(), &length, sizeof(length));
    EXPECT_EQ(ToHost(bad), bad) << length;
    std::vector<char> first = Message(SOL_SOCKET, SCM_RIGHTS, {4});
    EXPECT_EQ(ToHost(first + bad), Message(SOL_SOCKET, SCM_RIGHTS, {104}) + bad) << length;
  }
}

TEST(SocketControl, AnOddTailIsNoDescriptor) {
  std::vector<char> odd = Message(SOL_SOCKET, SCM_RIGHTS, {3, 4});
  uint64_t length = CMSG_LEN(7);
  std::memcpy(odd.data(), &length, sizeof(length));
  absl::Span<char> rest = absl::MakeSpan(odd);
  ControlMessage message;
  ASSERT_TRUE(NextControl(&rest, &message));
  EXPECT_EQ(message.Descriptors(), std::vector<int>{3});
}

TEST(SocketControl, WhatHandsOutDescriptors) {
  std::vector<char> all = Message(SOL_SOCKET, SCM_RIGHTS, {3, 4}) +
                          Message(SOL_SOCKET, kPidFd, {5}) +
                          Message(SOL_SOCKET, SCM_CREDENTIALS, {6, 6, 6});
  absl::Span<char> rest = absl::MakeSpan(all);
  ControlMessage message;
  ASSERT_TRUE(NextControl(&rest, &message));
  EXPECT_TRUE(message.IsRights() && message.HasDescriptors());
  EXPECT_EQ(message.Descriptors(), (std::vector<int>{3, 4}));
  ASSERT_TRUE(NextControl(&rest, &message));
  EXPECT_TRUE(!message.IsRights() && message.HasDescriptors());
  EXPECT_EQ(message.Descriptors(), std::vector<int>{5});
  ASSERT_TRUE(NextControl(&rest, &message));
  EXPECT_FALSE(message.HasDescriptors());
  EXPECT_FALSE(NextControl(&rest, &message));
}

TEST(SocketControl, HalfAnIdIsTranslatedToo) {
  std::vector<char> cut = Message(SOL_SOCKET, SCM_CREDENTIALS, {0x01020304});
  cut.resize(CMSG_LEN(2));
  uint64_t length = cut.size();
  std::memcpy(cut.data(), &length, sizeof(length));
  absl::Span<char> rest = absl::MakeSpan(cut);
  ControlMessage message;
  ASSERT_TRUE(NextControl(&rest, &message));
  message.TranslateIds({0x01020304, 0x0a0b0c0d});
  EXPECT_EQ(std::string(message.data.data(), 2), "\x0d\x0c");
}

TEST(SocketControl, AnyBytes) {
  std::mt19937 random(1);
  for (int i = 0; i < 20000; ++i) {
    std::vector<char> bytes(random() % 80);
    for (char& byte : bytes) byte = static_cast<char>(random() % 4 == 0 ? random() : random() % 2);
    for (size_t at = 0; at + 16 <= bytes.size() && random() % 2 != 0; at += 24) {
      uint64_t length = random() % 40;
      std::memcpy(bytes.data() + at, &length, sizeof(length));
    }
    size_t size = bytes.size();
    EXPECT_EQ(ToHost(std::move(bytes)).size(), size);
  }
}

}  // namespace
}  // namespace km
