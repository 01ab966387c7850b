#include "km/monitor/stats.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/syscall.h>

#include <cerrno>
#include <thread>

namespace km {
namespace {

using testing::AllOf;
using testing::ContainsRegex;
using testing::HasSubstr;
using testing::Not;

constexpr int64_t kMillisecond = 1000000;

TEST(Stats, CallsAreSortedByTime) {
  Stats stats(0);
  stats.CountCall(FindSyscall(SYS_read), 10, 1 * kMillisecond);
  stats.CountCall(FindSyscall(SYS_read), -EBADF, 1 * kMillisecond);
  stats.CountCall(FindSyscall(SYS_write), 1, 6 * kMillisecond);
  std::string table = stats.Table(20 * kMillisecond);
  EXPECT_THAT(table, ContainsRegex(" 75\\.00 +0\\.006000 +6000 +1 +write\n"));
  EXPECT_THAT(table, ContainsRegex(" 25\\.00 +0\\.002000 +1000 +2 +1 read\n"));
  EXPECT_THAT(table, ContainsRegex("100\\.00 +0\\.008000 +2666 +3 +1 total\n"));
  EXPECT_LT(table.find("write\n"), table.find("read\n"));
  EXPECT_THAT(table, HasSubstr("0.008000 in system calls"));
  EXPECT_THAT(table, HasSubstr("0.020000 from start to end"));
  EXPECT_THAT(table, Not(HasSubstr("ENOSYS")));
}

TEST(Stats, FiguresAreThoseOfTheTable) {
  Stats stats(5);
  stats.CountCall(FindSyscall(SYS_read), -EBADF, 1 * kMillisecond);
  stats.CountCall(nullptr, -ENOSYS, 6 * kMillisecond);
  stats.CountExit({.kind = VcpuExit::Kind::kSystemCall}, 7);
  stats.CountExit({.kind = VcpuExit::Kind::kSystemCall}, 8);
  stats.CountExit({.kind = VcpuExit::Kind::kException, .vector = 14}, 9);
  stats.CountSignal();
  stats.CountSnapshot(11);
  const Json wanted = Json::parse(R"json({
      "calls": [{"name": "(unknown numbers)", "calls": 1, "errors": 1, "unsupported": 1,
                 "ns": 6000000},
                {"name": "read", "calls": 1, "errors": 1, "unsupported": 0, "ns": 1000000}],
      "exits": [{"reason": "system call", "count": 2}, {"reason": "page fault", "count": 1}],
      "program_ns": 24, "calls_ns": 7000000, "elapsed_ns": 20, "signals": 1,
      "snapshots": 1, "snapshots_ns": 11})json");
  EXPECT_EQ(stats.Figures(25), wanted);
}

TEST(Stats, AddressesAreNoErrors) {
  Stats stats(0);
  stats.CountCall(FindSyscall(SYS_mmap), INT64_MIN, 0);
  EXPECT_THAT(stats.Table(0), ContainsRegex(" 1 +mmap\n"));
}

TEST(Stats, ACallMadeAgainIsOneCall) {
  Stats stats(0);
  stats.CountCall(FindSyscall(SYS_poll), kRestartNoHandler, 3 * kMillisecond);
  stats.CountCall(FindSyscall(SYS_poll), 0, 1 * kMillisecond);
  EXPECT_THAT(stats.Table(0), ContainsRegex("100\\.00 +0\\.004000 +4000 +1 +poll\n"));
}

TEST(Stats, UnsupportedCallsAreListed) {
  Stats stats(0);
  stats.CountCall(FindSyscall(SYS_socket), -ENOSYS, 0);
  stats.CountCall(nullptr, -ENOSYS, 0);
  stats.CountCall(nullptr, -ENOSYS, 0);
  EXPECT_THAT(stats.Table(0), HasSubstr("calls answered ENOSYS\n"
                                        "        2 (unknown numbers)\n"
                                        "        1 socket\n"));
}

TEST(Stats, ExitsByReason) {
  Stats stats(0);
  VcpuExit call = {.kind = VcpuExit::Kind::kSystemCall};
  for (int i = 0; i < 3; ++i) stats.CountExit(call, kMillisecond);
  VcpuExit fault = {.kind = VcpuExit::Kind::kException, .vector = 14};
  for (int i = 0; i < 2; ++i) stats.CountExit(fault, kMillisecond);
  stats.CountExit({.kind = VcpuExit::Kind::kException, .vector = 200}, kMillisecond);
  stats.CountExit({.kind = VcpuExit::Kind::kInterrupted}, kMillisecond);
  std::string table = stats.Table(0);
  EXPECT_THAT(table, AllOf(HasSubstr("        3 system call\n"),
                           HasSubstr("        2 page fault\n"), HasSubstr("        1 exception\n"),
                           HasSubstr("        1 kick\n"), HasSubstr("        7 total\n")));
  EXPECT_THAT(table, HasSubstr("0.007000 in the program"));
}

TEST(Stats, SignalsAndSnapshots) {
  Stats stats(0);
  EXPECT_THAT(stats.Table(0), Not(HasSubstr("snapshot")));
  stats.CountSignal();
  stats.CountSnapshot(2 * kMillisecond);
  EXPECT_THAT(stats.Table(0), AllOf(HasSubstr("1 signals\n"), HasSubstr("1 snapshots, 0.002000")));
}

TEST(Stats, ThreadsCountTogether) {
  Stats stats(0);
  auto count = [&stats] {
    for (int i = 0; i < 10000; ++i) stats.CountCall(FindSyscall(SYS_getppid), 1, 1);
  };
  std::thread other(count);
  count();
  other.join();
  EXPECT_THAT(stats.Table(0), ContainsRegex(" 20000 +getppid\n"));
}

TEST(Stats, WhatBeganLaterIsNotFromTheStart) {
  Stats stats(15 * kMillisecond);
  EXPECT_THAT(stats.Table(20 * kMillisecond), HasSubstr("0.005000 from start to end"));
}

}  // namespace
}  // namespace km
