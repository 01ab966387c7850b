#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

#include "tests/unit/files/resumed_files.h"

namespace km {
namespace {

enum : int { kEpoll = 100, kWatched = 101, kWatchedEnd = 102, kOther = 103, kOtherEnd = 104 };

// An instance that watches a pipe by a descriptor that was closed since: a duplicate is open, and
// the number is another pipe's by now.
class EpollTest : public ::testing::Test {
 protected:
  EpollTest() { EXPECT_TRUE(pipe(watched_) == 0 && pipe(other_) == 0); }

  void Watch(int host, uint32_t events, uint64_t data) {
    epoll_event event = {};
    event.events = events;
    event.data.u64 = data;
    ASSERT_EQ(epoll_ctl(epoll_, EPOLL_CTL_ADD, host, &event), 0);
  }
  void CloseWatched() {
    files_.Put(kEpoll, epoll_);
    files_.Put(kWatched, fcntl(watched_[0], F_DUPFD_CLOEXEC, 0));
    files_.Put(kWatchedEnd, watched_[1]);
    ASSERT_EQ(dup2(other_[0], watched_[0]), watched_[0]);
    close(other_[0]);
    files_.Put(kOther, watched_[0]);
    files_.Put(kOtherEnd, other_[1]);
  }
  void Write(int number) { ASSERT_EQ(write(files_.Host(number), "x", 1), 1); }
  void Read(int number) {
    char byte;
    ASSERT_EQ(read(files_.Host(number), &byte, 1), 1);
  }
  std::vector<uint64_t> Reported() {
    epoll_event events[8];
    const int count = epoll_wait(files_.Host(kEpoll), events, 8, 0);
    std::vector<uint64_t> data;
    for (int i = 0; i < count; ++i) data.push_back(events[i].data.u64);
    return data;
  }

  int epoll_ = epoll_create1(EPOLL_CLOEXEC), watched_[2], other_[2];
  ResumedFiles files_;
};

using Data = std::vector<uint64_t>;

TEST_F(EpollTest, WatchesTheFileAndNotTheNumber) {
  Watch(watched_[0], EPOLLIN, 7);
  CloseWatched();
  for (int round = 0; round < 2; ++round) {
    Write(kOtherEnd);
    EXPECT_EQ(Reported(), Data());
    Write(kWatchedEnd);
    EXPECT_EQ(Reported(), Data({7}));
    Read(kWatched);
    EXPECT_EQ(Reported(), Data());
    ASSERT_EQ(files_.Resume(), absl::OkStatus());
  }
}

TEST_F(EpollTest, OneFileByTwoDescriptors) {
  Watch(watched_[0], EPOLLIN, 7);
  CloseWatched();
  epoll_ = files_.Host(kEpoll);
  Watch(files_.Host(kWatched), EPOLLIN, 8);
  Watch(files_.Host(kOther), EPOLLIN, 9);
  Write(kWatchedEnd);
  ASSERT_EQ(files_.Resume(), absl::OkStatus());
  Data reported = Reported();
  std::sort(reported.begin(), reported.end());
  EXPECT_EQ(reported, Data({7, 8}));
  Read(kWatched);
  Write(kOtherEnd);
  EXPECT_EQ(Reported(), Data({9}));
}

TEST_F(EpollTest, WhatIsRefusedIsNotTaken) {
  Watch(watched_[0], EPOLLIN | EPOLLET, 7);
  Watch(other_[1], EPOLLOUT | EPOLLET, 8);
  CloseWatched();
  Write(kWatchedEnd);
  const std::vector<std::string> obstacles = files_.Save();
  ASSERT_EQ(obstacles.size(), 1u);
  EXPECT_NE(obstacles[0].find("a descriptor that was closed"), std::string::npos) << obstacles[0];
  Data reported = Reported();
  std::sort(reported.begin(), reported.end());
  EXPECT_EQ(reported, Data({7, 8}));
}

TEST_F(EpollTest, AFileThatNoDescriptorIsLeftOf) {
  Watch(watched_[0], EPOLLIN, 7);
  const int elsewhere = fcntl(watched_[0], F_DUPFD_CLOEXEC, 0);
  close(watched_[0]);
  files_.Put(kEpoll, epoll_);
  EXPECT_EQ(files_.Save().size(), 1u);
  close(elsewhere);
  EXPECT_EQ(files_.Save().size(), 0u);
  for (int fd : {watched_[1], other_[0], other_[1]}) close(fd);
}

}  // namespace
}  // namespace km
