#include "km/signals/alt_stack.h"

#include <gtest/gtest.h>

#include <cerrno>

namespace km {
namespace {

constexpr uint64_t kBase = 0x10000, kSize = 8192;

stack_t Stack(uint64_t sp, uint64_t size, uint32_t flags) {
  stack_t stack = {};
  stack.ss_sp = reinterpret_cast<void*>(sp);
  stack.ss_size = size;
  stack.ss_flags = static_cast<int>(flags);
  return stack;
}

AltStack Made(uint32_t flags = 0) {
  AltStack stack;
  EXPECT_EQ(SetAltStack(stack, 0, Stack(kBase, kSize, flags)), 0);
  return stack;
}

TEST(AltStack, StartsDisabled) {
  stack_t old = GetAltStack(AltStack{}, 0x5000);
  EXPECT_EQ(old.ss_flags, SS_DISABLE);
  EXPECT_EQ(old.ss_size, 0u);
  EXPECT_EQ(old.ss_sp, nullptr);
}

TEST(AltStack, Boundaries) {
  AltStack stack = Made();
  EXPECT_FALSE(stack.InUse(kBase));
  EXPECT_TRUE(stack.InUse(kBase + 1));
  EXPECT_TRUE(stack.InUse(kBase + kSize));
  EXPECT_FALSE(stack.InUse(kBase + kSize + 1));
}

TEST(AltStack, CannotChangeWhileInUse) {
  AltStack stack = Made();
  EXPECT_EQ(GetAltStack(stack, kBase + 64).ss_flags, SS_ONSTACK);
  EXPECT_EQ(SetAltStack(stack, kBase + 64, Stack(0, 0, SS_DISABLE)), -EPERM);
  EXPECT_EQ(stack.size, kSize);
  EXPECT_EQ(SetAltStack(stack, kBase, Stack(0, 0, SS_DISABLE)), 0);
  EXPECT_EQ(stack.size, 0u);
}

TEST(AltStack, RefusesSmallAndStrange) {
  AltStack stack = Made();
  EXPECT_EQ(SetAltStack(stack, 0, Stack(1, 2047, 0)), -ENOMEM);
  EXPECT_EQ(SetAltStack(stack, 0, Stack(1, kSize, 4)), -EINVAL);
  EXPECT_EQ(SetAltStack(stack, 0, Stack(1, kSize, SS_DISABLE | SS_ONSTACK)), -EINVAL);
  EXPECT_EQ(stack.sp, kBase);
  EXPECT_EQ(SetAltStack(stack, 0, Stack(2, 2048, SS_ONSTACK)), 0);
  EXPECT_EQ(stack.sp, 2u);
}

TEST(AltStack, AutodisarmIsNeverInUse) {
  AltStack stack = Made(kSsAutodisarm);
  EXPECT_FALSE(stack.InUse(kBase + 64));
  EXPECT_EQ(static_cast<uint32_t>(GetAltStack(stack, kBase + 64).ss_flags), kSsAutodisarm);
}

TEST(AltStack, StackAtTheEndOfTheAddressSpace) {
  AltStack stack;
  EXPECT_EQ(SetAltStack(stack, 0, Stack(~uint64_t{0} - 10, ~uint64_t{0}, 0)), 0);
  EXPECT_TRUE(stack.Holds(~uint64_t{0}));
  EXPECT_FALSE(stack.Holds(100));
}

}  // namespace
}  // namespace km
