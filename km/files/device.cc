// Character devices that keep nothing for whoever has them open: another opening is as good.
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <cerrno>
#include <iterator>

#include "absl/strings/str_cat.h"
#include "km/base/records.h"
#include "km/base/status.h"
#include "km/files/host_path.h"
#include "km/files/kind.h"
#include "km/files/named_file.h"

namespace km {
namespace {

// Linux's Documentation/admin-guide/devices.txt: null, zero, full, random, urandom.
constexpr unsigned kMemoryDevices = 1;
constexpr unsigned kStateless[] = {3, 5, 7, 8, 9};

bool IsStateless(dev_t number) {
  return major(number) == kMemoryDevices && std::find(std::begin(kStateless), std::end(kStateless),
                                                      minor(number)) != std::end(kStateless);
}

absl::StatusOr<uint64_t> Number(const FileRecord& record) {
  uint64_t number = 0;
  KM_RETURN_IF_ERROR(ForEachRecord(ByteReader(record.state), [&](uint32_t tag, ByteReader* value) {
    if (tag != KM_DEVICE_NUMBER) return false;
    number = value->U64();
    return true;
  }));
  // Opening another device may do something to it.
  if (!IsStateless(number)) {
    return absl::DataLossError(absl::StrCat("it is device ", major(number), ":", minor(number),
                                            ", which snapshots do not carry"));
  }
  return number;
}

absl::StatusOr<std::string> Describe(const FileRecord& record) {
  KM_ASSIGN_OR_RETURN(uint64_t number, Number(record));
  return absl::StrCat("device ", major(number), ":", minor(number));
}

absl::Status Save(const OpenFile& file, FileSaver& /*saver*/, FileRecord& record) {
  struct stat status;
  if (fstat(file.host.get(), &status) != 0) return ErrnoStatus(errno, "fstat");
  if (!IsStateless(status.st_rdev)) {
    return absl::FailedPreconditionError(
        absl::StrCat("with a driver (", major(status.st_rdev), ":", minor(status.st_rdev),
                     ") that may keep something for it: close it before"));
  }
  record.path = HostPathOf(file.host.get());
  if (!HasName(file.host.get(), record.path)) {
    return absl::FailedPreconditionError("is a device whose name was deleted: close it before");
  }
  ByteWriter out;
  const size_t begin = out.BeginRecord(KM_DEVICE_NUMBER);
  out.U64(status.st_rdev);
  out.EndRecord(begin);
  record.state = out.Take();
  return absl::OkStatus();
}

absl::StatusOr<OwnedFd> Restore(const FileRecord& record, FileRestorer& restorer) {
  KM_ASSIGN_OR_RETURN(uint64_t number, Number(record));
  // What it is now is known before it is opened.
  KM_ASSIGN_OR_RETURN(const OwnedFd place, OpenPlace(record.path, 0));
  struct stat status;
  if (fstat(place.get(), &status) != 0 || !S_ISCHR(status.st_mode) || status.st_rdev != number) {
    return absl::FailedPreconditionError(
        absl::StrCat("'", record.path, "', which it had open, is another device now"));
  }
  return OpenNamed(record, S_IFCHR, 0, restorer);
}

}  // namespace

const FileKindRow kCharacterDeviceKind = {
    FileKind::kCharacterDevice, "character device", Describe, Save, Restore, nullptr};

}  // namespace km
