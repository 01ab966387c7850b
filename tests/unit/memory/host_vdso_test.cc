#include "km/memory/host_vdso.h"

#include <gtest/gtest.h>
#include <sys/auxv.h>
#include <time.h>

namespace km {
namespace {

TEST(HostVdso, FunctionsAreInsideAndWork) {
  if (getauxval(AT_SYSINFO_EHDR) == 0) GTEST_SKIP() << "this host has no vDSO";
  std::optional<HostVdso> vdso = FindHostVdso();
  ASSERT_TRUE(vdso.has_value());
  EXPECT_LT(vdso->start, vdso->code);
  EXPECT_LT(vdso->code, vdso->end);
  for (uint64_t function : {vdso->clock_gettime, vdso->gettimeofday, vdso->time, vdso->getcpu}) {
    EXPECT_GT(function, vdso->code);
    EXPECT_LT(function, vdso->end);
  }
  auto clock_gettime_of_vdso = reinterpret_cast<int (*)(clockid_t, timespec*)>(vdso->clock_gettime);
  timespec before = {}, between = {}, after = {};
  clock_gettime(CLOCK_MONOTONIC, &before);
  EXPECT_EQ(clock_gettime_of_vdso(CLOCK_MONOTONIC, &between), 0);
  clock_gettime(CLOCK_MONOTONIC, &after);
  auto nanoseconds = [](const timespec& t) { return t.tv_sec * 1000000000L + t.tv_nsec; };
  EXPECT_LE(nanoseconds(before), nanoseconds(between));
  EXPECT_LE(nanoseconds(between), nanoseconds(after));
}

}  // namespace
}  // namespace km
