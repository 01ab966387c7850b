#include "km/files/signal_owner.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "absl/strings/str_cat.h"
#include "km/base/status.h"

namespace km {
namespace {

bool Set(const OpenFile& file, const OwnerRecord& owner) {
  const int host = file.host.get();
  FileDescription& description = *file.description;
  f_owner_ex to = {F_OWNER_PID, getpid()};
  if (owner.type == KM_OWNER_GROUP) to = {F_OWNER_PGRP, getpgrp()};
  if (owner.type != KM_OWNER_NONE && fcntl(host, F_SETOWN_EX, &to) != 0) return false;
  int sig = static_cast<int>(owner.signal);
  if (owner.type == KM_OWNER_THREAD) {
    description.owner_thread.store(owner.thread);
    description.owner_signal.store(sig);
    if (sig == 0) sig = SIGIO;
  }
  if (sig != 0 && fcntl(host, F_SETSIG, sig) != 0) return false;
  if (owner.notify != 0 && fcntl(host, F_NOTIFY, owner.notify) != 0) return false;
  description.notify.store(owner.notify);
  return !owner.async || fcntl(host, F_SETFL, fcntl(host, F_GETFL) | O_ASYNC) == 0;
}

}  // namespace

absl::Status SaveOwner(const OpenFile& file, uint32_t id, std::vector<OwnerRecord>* out) {
  const int host = file.host.get();
  const FileDescription& description = *file.description;
  f_owner_ex owner = {};
  if (fcntl(host, F_GETOWN_EX, &owner) != 0) return absl::OkStatus();  // with O_PATH: none
  OwnerRecord record;
  record.description = id;
  record.thread = description.owner_thread.load();
  record.signal = static_cast<uint32_t>(record.thread != 0 ? description.owner_signal.load()
                                                           : fcntl(host, F_GETSIG));
  record.notify = description.notify.load();
  record.async = (fcntl(host, F_GETFL) & O_ASYNC) != 0;
  if (record.thread != 0) {
    record.type = KM_OWNER_THREAD;
  } else if (owner.type == F_OWNER_PID && owner.pid == getpid()) {
    record.type = KM_OWNER_PROCESS;
  } else if (owner.type == F_OWNER_PGRP && owner.pid == getpgrp()) {
    record.type = KM_OWNER_GROUP;
  } else if (owner.pid != 0) {
    return absl::FailedPreconditionError("sends its signals to another process (F_SETOWN)");
  }
  if (record.type != KM_OWNER_NONE || record.signal != 0 || record.notify != 0 || record.async) {
    out->push_back(record);
  }
  return absl::OkStatus();
}

absl::Status RestoreOwners(FdTable& table, absl::Span<const OwnerRecord> owners,
                           absl::Span<const DescriptorRecord> descriptors) {
  for (const OwnerRecord& owner : owners) {
    const auto it = std::find_if(descriptors.begin(), descriptors.end(),
                                 [&](const auto& d) { return d.description == owner.description; });
    if (it == descriptors.end()) return absl::DataLossError("it has an owner of no descriptor");
    const std::shared_ptr<OpenFile> file = table.Get(it->number);
    if (file == nullptr || !Set(*file, owner)) {
      return ErrnoStatus(
          errno, absl::StrCat("cannot say again who gets the signals of descriptor ", it->number));
    }
  }
  return absl::OkStatus();
}

}  // namespace km
