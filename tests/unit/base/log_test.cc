#include "km/base/log.h"

#include <gtest/gtest.h>

namespace km {
namespace {

TEST(Log, WritesFromTheLevelOn) {
  testing::internal::CaptureStderr();
  Log(LogLevel::kError, "one");
  Log(LogLevel::kInfo, "two");
  SetLogLevel(LogLevel::kInfo);
  Log(LogLevel::kInfo, "three");
  EXPECT_TRUE(LogEnabled(LogLevel::kInfo));
  EXPECT_FALSE(LogEnabled(LogLevel::kDebug));
  SetLogLevel(LogLevel::kWarning);
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "km: one\nkm: three\n");
}

}  // namespace
}  // namespace km
