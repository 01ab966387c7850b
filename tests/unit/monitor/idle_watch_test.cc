#include "km/monitor/idle_watch.h"

#include <gtest/gtest.h>

namespace km {
namespace {

constexpr int64_t kSecond = 1'000'000'000;
constexpr Connections kNobody = {true, false}, kSomebody = {true, true}, kNoListener = {};

TEST(IdleWatch, TheTimeBeginsWithTheFirstLook) {
  IdleWatch watch(10 * kSecond);
  EXPECT_TRUE(watch.Due(0));
  EXPECT_EQ(watch.timeout_ms(0), -1);
  EXPECT_FALSE(watch.Look(kNobody, 0, 100 * kSecond));
  EXPECT_FALSE(watch.Look(kNobody, 0, 110 * kSecond - 1));
  EXPECT_TRUE(watch.Look(kNobody, 0, 110 * kSecond));
}

TEST(IdleWatch, AConnectionThatIsOpenBeginsItAnew) {
  IdleWatch watch(10 * kSecond);
  EXPECT_FALSE(watch.Look(kNobody, 0, 0));
  EXPECT_FALSE(watch.Look(kSomebody, 0, 9 * kSecond));
  // It may have ended only now.
  EXPECT_FALSE(watch.Look(kNobody, 0, 18 * kSecond));
  EXPECT_FALSE(watch.Look(kNobody, 0, 19 * kSecond));
  EXPECT_TRUE(watch.Look(kNobody, 0, 28 * kSecond));
}

TEST(IdleWatch, SoDoesOneThatCameAndWent) {
  IdleWatch watch(10 * kSecond);
  EXPECT_FALSE(watch.Look(kNobody, 7, 0));
  EXPECT_FALSE(watch.Look(kNobody, 8, 10 * kSecond));
  EXPECT_TRUE(watch.Look(kNobody, 8, 20 * kSecond));
}

TEST(IdleWatch, WhoListensNowhereIsNeverIdle) {
  IdleWatch watch(kSecond);
  for (int i = 0; i < 100; ++i) EXPECT_FALSE(watch.Look(kNoListener, 0, i * kSecond));
  EXPECT_FALSE(watch.Look(kNobody, 0, 99 * kSecond + 1));
  EXPECT_FALSE(watch.Look(kNobody, 0, 100 * kSecond));
  EXPECT_TRUE(watch.Look(kNobody, 0, 100 * kSecond + 1));
}

TEST(IdleWatch, RestIsNoTime) {
  IdleWatch watch(10 * kSecond);
  EXPECT_FALSE(watch.Look(kNobody, 0, 0));
  watch.Rest();
  EXPECT_EQ(watch.timeout_ms(5 * kSecond), -1);
  EXPECT_FALSE(watch.Look(kNobody, 0, 50 * kSecond));
  EXPECT_TRUE(watch.Look(kNobody, 0, 60 * kSecond));
}

TEST(IdleWatch, LooksNowAndThenAndInTime) {
  IdleWatch watch(10 * kSecond);
  watch.Look(kNobody, 0, 0);
  EXPECT_FALSE(watch.Due(kSecond - 1));
  EXPECT_EQ(watch.timeout_ms(kSecond - 1), 1);
  EXPECT_TRUE(watch.Due(kSecond));
  EXPECT_EQ(watch.timeout_ms(3 * kSecond), 0);
  // The last one is when the time is over.
  watch.Look(kNobody, 0, 9'500'000'000);
  EXPECT_EQ(watch.timeout_ms(9'500'000'000), 500);
  // And none is at once again where the program stays.
  EXPECT_TRUE(watch.Look(kNobody, 0, 10 * kSecond));
  EXPECT_EQ(watch.timeout_ms(10 * kSecond), 1000);
}

}  // namespace
}  // namespace km
