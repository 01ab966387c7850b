// The kinds of open files: how each is saved and restored. One row a kind, in the file of the kind;
// docs/adding-a-descriptor.md says how to add one.
#ifndef KM_FILES_KIND_H_
#define KM_FILES_KIND_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "km/base/bytes.h"
#include "km/files/file_record.h"
#include "km/files/file_restorer.h"
#include "km/files/file_saver.h"

namespace km {

struct FileKindRow {
  FileKind kind;
  const char* name;  // "regular file", "pipe", ...: for messages

  // For people: what `record` says beyond path, flags and offset. It reads all of record.state,
  // whose bytes are hostile, and fails where Restore would not understand them. No side effects.
  absl::StatusOr<std::string> (*describe)(const FileRecord& record);

  // From an open file into `record`, whose id, kind and flags are set. The program must not see
  // that it was done. Null: a snapshot cannot carry this kind. Errors say why this one cannot be
  // carried, and start with a verb or "with ...": "descriptor 5, a pipe, " stands before them.
  absl::Status (*save)(const OpenFile& file, FileSaver& saver, FileRecord& record);

  // A host descriptor for what `record` says, which was described without an error. Never creates,
  // never truncates. Errors stand for themselves.
  absl::StatusOr<OwnedFd> (*restore)(const FileRecord& record, FileRestorer& restorer);

  // What needs all descriptors to be there (interest lists, descriptors in flight). May be null.
  absl::Status (*finish)(const FileRecord& record, const OpenFile& file, FileRestorer& restorer);
};

// The row of a kind; kOther's for a number that is none.
const FileKindRow& KindRow(FileKind kind);

// "a pipe", "an eventfd": for messages. `name` is not empty.
std::string WithArticle(absl::string_view name);

// A description without records.
absl::StatusOr<std::string> DescribeNothing(const FileRecord& record);

// Of a record of kGiven: 0, 1 or 2.
absl::StatusOr<int> GivenNumber(const FileRecord& record);

extern const FileKindRow kCharacterDeviceKind;
extern const FileKindRow kDirectoryKind;
extern const FileKindRow kEpollKind;
extern const FileKindRow kEventFdKind;
extern const FileKindRow kGivenKind;
extern const FileKindRow kInotifyKind;
extern const FileKindRow kMemFdKind;
extern const FileKindRow kMessageQueueKind;
extern const FileKindRow kPathKind;
extern const FileKindRow kPidFdKind;
extern const FileKindRow kPipeKind;
extern const FileKindRow kProcKind;
extern const FileKindRow kRegularKind;
extern const FileKindRow kSignalFdKind;
extern const FileKindRow kSocketKind;
extern const FileKindRow kTerminalKind;
extern const FileKindRow kTimerFdKind;

}  // namespace km

#endif  // KM_FILES_KIND_H_
