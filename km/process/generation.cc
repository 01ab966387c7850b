#include "km/process/generation.h"

#include <km/generation.h>

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace km {
namespace {

constexpr absl::string_view kName = "KM_GENERATION=";
constexpr size_t kDigits = size_t{2} * KM_GENERATION_SIZE;

bool IsVariable(absl::string_view text) { return absl::StartsWith(text, kName); }

}  // namespace

absl::Span<const uint8_t> GenerationId(const GuestMemory& memory) {
  const auto* page = reinterpret_cast<const uint8_t*>(memory.vdso_data());
  return {page + (KM_GENERATION - KM_VDSO_DATA), KM_GENERATION_SIZE};
}

void PlaceGenerationVariable(std::vector<std::string>* environment) {
  const auto end = std::remove_if(environment->begin(), environment->end(), IsVariable);
  if (end == environment->end()) return;
  environment->erase(end, environment->end());
  environment->insert(environment->begin(), absl::StrCat(kName, std::string(kDigits, '0')));
}

void WriteGenerationVariable(const GuestMemory& memory, uint64_t environment_start) {
  std::string there(kName.size() + kDigits + 1, '\0');
  if (memory.CopyIn(there.data(), GuestAddr(environment_start), there.size()) != 0) return;
  const auto digits = there.begin() + kName.size();
  if (!IsVariable(there) || there.back() != '\0' ||
      !std::all_of(digits, there.end() - 1, [](char c) { return absl::ascii_isxdigit(c); })) {
    return;
  }
  const absl::Span<const uint8_t> id = GenerationId(memory);
  const std::string text =
      absl::BytesToHexString({reinterpret_cast<const char*>(id.data()), id.size()});
  (void)memory.CopyOut(GuestAddr(environment_start + kName.size()), text.data(), text.size());
}

}  // namespace km
