#include "km/files/signal_fd.h"

#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>

#include "absl/strings/str_format.h"
#include "km/base/records.h"
#include "km/base/status.h"
#include "km/files/kind.h"

namespace km {
namespace {

absl::StatusOr<uint64_t> Decode(const FileRecord& record) {
  uint64_t mask = 0;
  KM_RETURN_IF_ERROR(ForEachRecord(ByteReader(record.state), [&](uint32_t tag, ByteReader* value) {
    if (tag != KM_SIGNALFD_MASK) return false;
    mask = value->U64();
    return true;
  }));
  return mask;
}

absl::StatusOr<std::string> Describe(const FileRecord& record) {
  KM_ASSIGN_OR_RETURN(uint64_t mask, Decode(record));
  return absl::StrFormat("mask %#x", mask);
}

// No thread runs that could change the mask.
absl::Status Save(const OpenFile& file, FileSaver&, FileRecord& record) {
  if (file.description->signal_fd == nullptr) {
    return absl::FailedPreconditionError("was inherited: it takes signals of another process");
  }
  ByteWriter out;
  out.U64Record(KM_SIGNALFD_MASK, file.description->signal_fd->mask);
  record.state = out.Take();
  return absl::OkStatus();
}

absl::StatusOr<OwnedFd> Restore(const FileRecord& record, FileRestorer&) {
  OwnedFd carrier(eventfd(0, EFD_CLOEXEC | (record.flags & O_NONBLOCK ? EFD_NONBLOCK : 0)));
  if (!carrier.valid()) return ErrnoStatus(errno, "cannot make a signalfd");
  return carrier;
}

absl::Status Finish(const FileRecord& record, const OpenFile& file, FileRestorer&) {
  KM_ASSIGN_OR_RETURN(uint64_t mask, Decode(record));
  OwnedFd own(fcntl(file.host.get(), F_DUPFD_CLOEXEC, 0));
  if (!own.valid()) return ErrnoStatus(errno, "cannot make a signalfd");
  file.description->signal_fd = std::make_shared<SignalFd>(std::move(own));
  file.description->signal_fd->mask = mask;
  return absl::OkStatus();
}

}  // namespace

void SignalFd::Raise() {
  const uint64_t one = 1;
  [[maybe_unused]] ssize_t written = write(carrier_.get(), &one, sizeof(one));
  readable_ = true;
}

void SignalFd::Lower() {
  if (!readable_) return;
  readable_ = false;
  uint64_t count = 0;
  iovec part = {&count, sizeof(count)};
  // Never waits, whatever the program has made of O_NONBLOCK.
  [[maybe_unused]] ssize_t taken = preadv2(carrier_.get(), &part, 1, -1, RWF_NOWAIT);
}

const FileKindRow kSignalFdKind = {
    FileKind::kSignalFd, "signalfd", Describe, Save, Restore, Finish};

}  // namespace km
