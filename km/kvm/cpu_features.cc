#include "km/kvm/cpu_features.h"

#include <algorithm>
#include <bit>

#include "absl/strings/str_cat.h"

namespace km {
namespace {

struct Word {
  uint32_t leaf, subleaf;
  uint32_t CpuidRegisters::*reg;
};

// Never reordered: the index is what a snapshot stores.
constexpr Word kWords[] = {
    {1, 0, &CpuidRegisters::ecx},          {1, 0, &CpuidRegisters::edx},
    {7, 0, &CpuidRegisters::ebx},          {7, 0, &CpuidRegisters::ecx},
    {7, 0, &CpuidRegisters::edx},          {7, 1, &CpuidRegisters::eax},
    {0x80000001, 0, &CpuidRegisters::ecx},
};

struct Feature {
  uint8_t word, bit;
  const char* name;
};

// Intel SDM vol. 2, CPUID; names as in the kernel's cpufeatures.h.
constexpr Feature kFeatures[] = {
    {0, 0, "pni"},
    {0, 1, "pclmulqdq"},
    {0, 9, "ssse3"},
    {0, 12, "fma"},
    {0, 13, "cx16"},
    {0, 19, "sse4_1"},
    {0, 20, "sse4_2"},
    {0, 22, "movbe"},
    {0, 23, "popcnt"},
    {0, 25, "aes"},
    {0, 26, "xsave"},
    {0, 28, "avx"},
    {0, 29, "f16c"},
    {0, 30, "rdrand"},
    {1, 0, "fpu"},
    {1, 4, "tsc"},
    {1, 8, "cx8"},
    {1, 15, "cmov"},
    {1, 19, "clflush"},
    {1, 23, "mmx"},
    {1, 24, "fxsr"},
    {1, 25, "sse"},
    {1, 26, "sse2"},
    {2, 0, "fsgsbase"},
    {2, 3, "bmi1"},
    {2, 5, "avx2"},
    {2, 8, "bmi2"},
    {2, 9, "erms"},
    {2, 16, "avx512f"},
    {2, 17, "avx512dq"},
    {2, 18, "rdseed"},
    {2, 19, "adx"},
    {2, 21, "avx512ifma"},
    {2, 23, "clflushopt"},
    {2, 24, "clwb"},
    {2, 28, "avx512cd"},
    {2, 29, "sha_ni"},
    {2, 30, "avx512bw"},
    {2, 31, "avx512vl"},
    {3, 1, "avx512vbmi"},
    {3, 6, "avx512_vbmi2"},
    {3, 8, "gfni"},
    {3, 9, "vaes"},
    {3, 10, "vpclmulqdq"},
    {3, 11, "avx512_vnni"},
    {3, 12, "avx512_bitalg"},
    {3, 14, "avx512_vpopcntdq"},
    {3, 22, "rdpid"},
    {3, 25, "cldemote"},
    {3, 27, "movdiri"},
    {3, 28, "movdir64b"},
    {4, 2, "avx512_4vnniw"},
    {4, 3, "avx512_4fmaps"},
    {4, 4, "fsrm"},
    {4, 8, "avx512_vp2intersect"},
    {4, 14, "serialize"},
    {4, 23, "avx512_fp16"},
    {5, 4, "avx_vnni"},
    {5, 5, "avx512_bf16"},
    {6, 0, "lahf_lm"},
    {6, 5, "abm"},
    {6, 6, "sse4a"},
    {6, 8, "3dnowprefetch"},
    {6, 11, "xop"},
    {6, 16, "fma4"},
    {6, 21, "tbm"},
};

}  // namespace

std::vector<uint32_t> CpuFeatures(CpuidSource cpuid) {
  std::vector<uint32_t> words;
  for (const Word& word : kWords) {
    uint32_t usable = 0;
    for (const Feature& feature : kFeatures) {
      if (feature.word == words.size()) usable |= uint32_t{1} << feature.bit;
    }
    words.push_back(cpuid(word.leaf, word.subleaf).*word.reg & usable);
  }
  return words;
}

std::vector<std::string> CpuFeatureNames(const std::vector<uint32_t>& words) {
  std::vector<std::string> names;
  for (size_t word = 0; word < words.size(); ++word) {
    for (uint32_t rest = words[word]; rest != 0; rest &= rest - 1) {
      auto bit = static_cast<unsigned>(std::countr_zero(rest));
      const Feature* known =
          std::find_if(std::begin(kFeatures), std::end(kFeatures),
                       [&](const Feature& f) { return f.word == word && f.bit == bit; });
      names.push_back(known != std::end(kFeatures) ? std::string(known->name)
                                                   : absl::StrCat("word ", word, " bit ", bit));
    }
  }
  return names;
}

std::vector<uint32_t> MissingCpuFeatures(const std::vector<uint32_t>& needed,
                                         const std::vector<uint32_t>& present) {
  std::vector<uint32_t> missing(needed.size());
  for (size_t i = 0; i < needed.size(); ++i) {
    missing[i] = needed[i] & ~(i < present.size() ? present[i] : 0);
  }
  return missing;
}

}  // namespace km
