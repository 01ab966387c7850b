#include "km/kvm/cpu_features.h"

#include <cpuid.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace km {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::IsEmpty;

CpuidRegisters HostCpuid(uint32_t leaf, uint32_t subleaf) {
  CpuidRegisters answer;
  __get_cpuid_count(leaf, subleaf, &answer.eax, &answer.ebx, &answer.ecx, &answer.edx);
  return answer;
}

TEST(CpuFeatures, TheHostHasItsOwn) {
  const std::vector<uint32_t> host = CpuFeatures(HostCpuid);
  EXPECT_THAT(CpuFeatureNames(host), Contains("sse2"));  // every x86-64
  EXPECT_THAT(CpuFeatureNames(MissingCpuFeatures(host, host)), IsEmpty());
}

TEST(CpuFeatures, MissingOnesAreNamed) {
  EXPECT_THAT(CpuFeatureNames(MissingCpuFeatures({1, 0, 0x10020}, {1, 0, 0x20})),
              ElementsAre("avx512f"));
  EXPECT_THAT(CpuFeatureNames(MissingCpuFeatures({1, 2}, {1})), ElementsAre("word 1 bit 1"));
  EXPECT_THAT(CpuFeatureNames(MissingCpuFeatures({1}, {1, 0xff})), IsEmpty());
  EXPECT_THAT(CpuFeatureNames(MissingCpuFeatures({}, {})), IsEmpty());
}

}  // namespace
}  // namespace km
