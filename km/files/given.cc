// Another descriptor of what the monitor was given as 0, 1 or 2: whoever resumes has its own.
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "absl/strings/str_cat.h"
#include "km/base/records.h"
#include "km/base/status.h"
#include "km/files/kind.h"

namespace km {

absl::StatusOr<int> GivenNumber(const FileRecord& record) {
  uint32_t number = STDERR_FILENO + 1;
  KM_RETURN_IF_ERROR(ForEachRecord(ByteReader(record.state), [&](uint32_t tag, ByteReader* value) {
    if (tag != KM_GIVEN_NUMBER) return false;
    number = value->U32();
    return true;
  }));
  if (number > STDERR_FILENO) return absl::DataLossError("it names none of the descriptors 0 to 2");
  return static_cast<int>(number);
}

namespace {

absl::StatusOr<std::string> Describe(const FileRecord& record) {
  KM_ASSIGN_OR_RETURN(int number, GivenNumber(record));
  return absl::StrCat("what whoever resumes has as descriptor ", number);
}

absl::Status Save(const OpenFile& file, FileSaver& /*saver*/, FileRecord& record) {
  ByteWriter out;
  const size_t begin = out.BeginRecord(KM_GIVEN_NUMBER);
  out.U32(static_cast<uint32_t>(file.description->given));
  out.EndRecord(begin);
  record.state = out.Take();
  return absl::OkStatus();
}

absl::StatusOr<OwnedFd> Restore(const FileRecord& record, FileRestorer& restorer) {
  KM_ASSIGN_OR_RETURN(int number, GivenNumber(record));
  OwnedFd host(fcntl(restorer.Given(number), F_DUPFD_CLOEXEC, STDERR_FILENO + 1));
  if (!host.valid())
    return ErrnoStatus(errno, absl::StrCat("cannot duplicate descriptor ", number));
  return host;
}

}  // namespace

const FileKindRow kGivenKind = {FileKind::kGiven, "given descriptor", Describe, Save, Restore,
                                nullptr};

}  // namespace km
