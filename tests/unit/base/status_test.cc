#include "km/base/status.h"

#include <gtest/gtest.h>

#include <cerrno>

namespace km {
namespace {

TEST(ErrnoStatus, SaysWhatAndWhy) {
  absl::Status status = ErrnoStatus(ENOENT, "cannot open x");
  EXPECT_EQ(status.message(), "cannot open x: No such file or directory");
  EXPECT_TRUE(absl::IsNotFound(status));
}

TEST(ErrnoStatus, KeepsEveryErrno) {
  for (int error = 1; error < 134; ++error) EXPECT_EQ(ErrnoOf(ErrnoStatus(error, "x")), error);
}

TEST(ErrnoOf, WithoutAnErrno) {
  EXPECT_EQ(ErrnoOf(absl::OkStatus()), 0);
  EXPECT_EQ(ErrnoOf(absl::InternalError("x")), EIO);
}

absl::StatusOr<int> Half(int value) {
  if (value % 2 != 0) return absl::InvalidArgumentError("odd");
  return value / 2;
}

absl::StatusOr<int> Quarter(int value) {
  KM_ASSIGN_OR_RETURN(int half, Half(value));
  KM_ASSIGN_OR_RETURN(half, Half(half));
  return half;
}

absl::Status Check(int value) {
  KM_RETURN_IF_ERROR(Half(value).status());
  return absl::OkStatus();
}

TEST(StatusMacros, PassOnValuesAndErrors) {
  EXPECT_EQ(*Quarter(12), 3);
  EXPECT_EQ(Quarter(6).status().message(), "odd");
  EXPECT_TRUE(Check(2).ok());
  EXPECT_FALSE(Check(3).ok());
}

}  // namespace
}  // namespace km
