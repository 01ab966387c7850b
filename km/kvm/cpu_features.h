// The processor features that a program can use and may have chosen code for.
#ifndef KM_KVM_CPU_FEATURES_H_
#define KM_KVM_CPU_FEATURES_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"

namespace km {

struct CpuidRegisters {
  uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
};

// Answers CPUID for (leaf, subleaf): zeros for a leaf that is not there. Usually Vm::Cpuid: the
// instruction itself is an exit of 6 us where this machine is virtual too.
using CpuidSource = absl::FunctionRef<CpuidRegisters(uint32_t, uint32_t)>;

// One word a CPUID register, in an order that is part of the snapshot format; words are only ever
// added behind (docs/snapshot-format.md). Only bits of instructions that user mode can execute.
std::vector<uint32_t> CpuFeatures(CpuidSource cpuid);

// Names, as in /proc/cpuinfo, of the features in `words`; a bit without a name as "word N bit M".
std::vector<std::string> CpuFeatureNames(const std::vector<uint32_t>& words);

// The features in `needed` that `present` lacks. A word that one has and the other has not counts
// as 0.
std::vector<uint32_t> MissingCpuFeatures(const std::vector<uint32_t>& needed,
                                         const std::vector<uint32_t>& present);

}  // namespace km

#endif  // KM_KVM_CPU_FEATURES_H_
