#include "km/files/held_events.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>

#include "km/base/owned.h"

namespace km {
namespace {

// An instance that watches a folder of its own; the next watch would be number 2.
class HeldEventsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/held_events.XXXXXX";
    folder_ = mkdtemp(name);
    ASSERT_EQ(inotify_add_watch(fd(), folder_.c_str(), IN_CREATE), 1);
    if (SetNextWatch(fd(), 2) != 0) GTEST_SKIP() << "the kernel cannot number watches";
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  int fd() const { return instance_.get(); }
  void Create(const std::string& name) { std::ofstream(folder_ + "/" + name) << name; }
  bool Readable() const {
    pollfd look = {fd(), POLLIN, 0};
    return poll(&look, 1, 0) == 1;
  }
  // The names in what a read of so many bytes gives, or the errno.
  std::string Read(size_t size) {
    std::vector<uint8_t> bytes;
    if (int error = held_.Read(fd(), size, &bytes); error != 0) return strerror(error);
    std::string names;
    for (size_t at = 0; at < bytes.size();) {
      inotify_event head;
      std::memcpy(&head, &bytes[at], sizeof(head));
      names += (names.empty() ? "" : " ") + std::to_string(head.wd) + ":";
      if (head.len != 0) names += reinterpret_cast<const char*>(&bytes[at + sizeof(head)]);
      at += sizeof(head) + head.len;
    }
    return names;
  }

  OwnedFd instance_{inotify_init1(IN_NONBLOCK | IN_CLOEXEC)};
  std::string folder_;
  HeldEvents held_;
};

TEST_F(HeldEventsTest, HeldEventsComeFirstAndInOrder) {
  Create("a");
  Create("b");
  ASSERT_EQ(held_.Hold(fd(), 2), 0);
  EXPECT_TRUE(held_.active());
  EXPECT_TRUE(Readable());
  EXPECT_EQ(held_.Unread(fd()), 64u);
  Create("c");
  EXPECT_EQ(held_.Unread(fd()), 96u);
  EXPECT_EQ(Read(10), strerror(EINVAL));
  EXPECT_EQ(Read(40), "1:a");
  EXPECT_TRUE(Readable());
  EXPECT_EQ(Read(1000), "1:b");
  // The mark is gone with the last of them; what is left is the instance's.
  EXPECT_TRUE(Readable());
  EXPECT_EQ(held_.Unread(fd()), 32u);
  while (held_.active()) EXPECT_EQ(Read(1000), "1:c");
  EXPECT_EQ(Read(1000), "");
}

TEST_F(HeldEventsTest, NothingIsLeftBehind) {
  Create("a");
  ASSERT_EQ(held_.Hold(fd(), 2), 0);
  EXPECT_EQ(Read(1000), "1:a");
  EXPECT_FALSE(held_.active());
  EXPECT_FALSE(Readable());
  EXPECT_EQ(inotify_add_watch(fd(), "/", IN_CREATE), 2);
}

TEST_F(HeldEventsTest, HoldingNothingIsNothing) {
  ASSERT_EQ(held_.Hold(fd(), 2), 0);
  EXPECT_FALSE(held_.active());
  EXPECT_FALSE(Readable());
}

TEST_F(HeldEventsTest, TheyAreHeldAgain) {
  Create("a");
  Create("b");
  ASSERT_EQ(held_.Hold(fd(), 2), 0);
  EXPECT_EQ(Read(32), "1:a");
  Create("c");
  ASSERT_EQ(held_.Hold(fd(), 2), 0);
  EXPECT_EQ(held_.events().size(), 64u);
  EXPECT_EQ(held_.Unread(fd()), 64u);
  EXPECT_EQ(Read(1000), "1:b 1:c");
  EXPECT_FALSE(held_.active());
  EXPECT_FALSE(Readable());
}

TEST_F(HeldEventsTest, ThoseOfASnapshot) {
  Create("a");
  ASSERT_EQ(held_.Hold(fd(), 2), 0);
  OwnedFd other(inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
  std::swap(instance_, other);
  const std::vector<uint8_t> events = held_.events();
  EXPECT_TRUE(AreEvents(events));
  HeldEvents resumed;
  ASSERT_EQ(resumed.Put(fd(), 2, events), 0);
  EXPECT_TRUE(Readable());
  std::vector<uint8_t> read;
  EXPECT_EQ(resumed.Read(fd(), 1000, &read), 0);
  EXPECT_EQ(read, events);
  EXPECT_FALSE(resumed.active());
  EXPECT_FALSE(Readable());
}

// A queue that is full has no room for the mark.
TEST_F(HeldEventsTest, AQueueThatOverflowed) {
  int limit = 0;
  std::ifstream("/proc/sys/fs/inotify/max_queued_events") >> limit;
  if (limit == 0 || limit > 20000) GTEST_SKIP() << "its queue is too long";
  for (int i = 0; i < limit + 10; ++i) Create(std::to_string(i));
  ASSERT_EQ(held_.Hold(fd(), 2), 0);
  EXPECT_TRUE(Readable());
  std::string last;
  int count = 0;
  while (held_.active()) {
    const std::string name = Read(32);
    if (name.empty()) continue;
    last = name;
    ++count;
  }
  EXPECT_EQ(last, "-1:");
  EXPECT_EQ(count, limit + 1);
  EXPECT_FALSE(Readable());
}

TEST(HeldEvents, BytesThatAreNoEvents) {
  inotify_event head = {1, IN_CREATE, 0, 8};
  std::vector<uint8_t> bytes(sizeof(head) + 8);
  std::memcpy(bytes.data(), &head, sizeof(head));
  EXPECT_TRUE(AreEvents({}));
  EXPECT_TRUE(AreEvents(bytes));
  bytes.pop_back();
  EXPECT_FALSE(AreEvents(bytes));
  head.len = ~uint32_t{0};
  std::memcpy(bytes.data(), &head, sizeof(head));
  EXPECT_FALSE(AreEvents(bytes));
  EXPECT_FALSE(AreEvents({1, 2, 3}));
}

}  // namespace
}  // namespace km
