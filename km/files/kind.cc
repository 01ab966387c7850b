#include "km/files/kind.h"

#include "absl/strings/str_cat.h"
#include "km/base/records.h"
#include "km/base/status.h"

namespace km {
namespace {

constexpr FileKindRow NotCarried(FileKind kind, const char* name) {
  return {kind, name, nullptr, nullptr, nullptr, nullptr};
}

constexpr FileKindRow kBlockDeviceKind = NotCarried(FileKind::kBlockDevice, "block device");
constexpr FileKindRow kOtherKind = NotCarried(FileKind::kOther, "file of another kind");

}  // namespace

const FileKindRow& KindRow(FileKind kind) {
  static constexpr const FileKindRow* kRows[] = {
      &kRegularKind,     &kDirectoryKind,    &kPipeKind,  &kSocketKind,  &kTerminalKind,
      &kBlockDeviceKind, &kEventFdKind,      &kEpollKind, &kTimerFdKind, &kSignalFdKind,
      &kInotifyKind,     &kMemFdKind,        &kPathKind,  &kGivenKind,   &kCharacterDeviceKind,
      &kProcKind,        &kMessageQueueKind, &kPidFdKind,
  };
  for (const FileKindRow* row : kRows) {
    if (row->kind == kind) return *row;
  }
  return kOtherKind;
}

std::string WithArticle(absl::string_view name) {
  const bool vowel = absl::string_view("aeiouO").find(name.front()) != absl::string_view::npos;
  return absl::StrCat(vowel ? "an " : "a ", name);
}

absl::StatusOr<std::string> DescribeNothing(const FileRecord& record) {
  KM_RETURN_IF_ERROR(
      ForEachRecord(ByteReader(record.state), [](uint32_t, ByteReader*) { return false; }));
  return std::string();
}

}  // namespace km
