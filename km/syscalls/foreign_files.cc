#include "km/syscalls/foreign_files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "km/syscalls/proc_files.h"
#include "km/syscalls/proc_path.h"

namespace km {
namespace {

// The program's number for a host thread; 0: it is the monitor's alone.
uint32_t GuestTid(Process& process, int host_tid) {
  if (host_tid == getpid()) return process.identity().pid;
  for (uint32_t tid : process.Tids()) {
    if (process.HostTid(static_cast<int>(tid)) == host_tid) return tid;
  }
  return 0;
}

// What stands below the program's own directory where the host has `path` below /proc/ID of the
// monitor's. None: it is not for the program.
std::optional<std::string> OwnNameOf(Process& process, const std::string& path) {
  std::vector<std::string> parts = absl::StrSplit(path, '/');  // "", "proc", ID, ...
  size_t next = 3;
  int id = 0;
  if (!absl::SimpleAtoi(parts[2], &id)) return std::nullopt;
  bool thread = id != getpid();
  if (!thread && parts.size() > 4 && parts[3] == "task") {
    if (!absl::SimpleAtoi(parts[4], &id)) return std::nullopt;
    thread = true;
    next = 5;
  }
  // These are numbers of the host's descriptors.
  if (parts.size() > next + 1 && (parts[next] == "fd" || parts[next] == "fdinfo")) {
    return std::nullopt;
  }
  std::string name;
  if (thread) {
    uint32_t tid = GuestTid(process, id);
    if (tid == 0) return std::nullopt;
    name = absl::StrCat("task/", tid);
  }
  for (; next < parts.size(); ++next) absl::StrAppend(&name, name.empty() ? "" : "/", parts[next]);
  return name;
}

std::shared_ptr<OpenFile> Exchange(Process& process, const OpenFile& file) {
  std::optional<std::string> name = OwnNameOf(process, file.description->path);
  if (!name.has_value()) return nullptr;
  constexpr int kKept = O_ACCMODE | O_APPEND | O_NONBLOCK | O_DIRECTORY | O_PATH | O_NOFOLLOW;
  int flags = fcntl(file.host.get(), F_GETFL) & kKept;
  auto description = std::make_shared<FileDescription>();
  OwnedFd fd(OpenOwnFile(process, *name, flags, &description->path));
  if (fd.get() < 0) return nullptr;
  description->kind = flags & O_PATH ? FileKind::kPath : KindOfHostFd(fd.get());
  if (description->kind == FileKind::kMemFd) description->kind = FileKind::kProc;
  description->given = file.description->given;
  return std::make_shared<OpenFile>(std::move(fd), std::move(description));
}

// /dev/kvm, a machine or a vCPU.
bool IsOfKvm(const OpenFile& file) {
  if (file.description->kind == FileKind::kOther) {
    return absl::StartsWith(file.description->path, "anon_inode:kvm-");
  }
  struct stat status;
  return fstat(file.host.get(), &status) == 0 && S_ISCHR(status.st_mode) &&
         status.st_rdev == makedev(10, 232);
}

}  // namespace

std::shared_ptr<OpenFile> AdmitFile(Process& process, std::shared_ptr<OpenFile> file) {
  const FileDescription& description = *file->description;
  switch (description.kind) {
    case FileKind::kOther:
    case FileKind::kCharacterDevice:
      return IsOfKvm(*file) ? nullptr : file;
    case FileKind::kPath:
      if (IsOfKvm(*file)) return nullptr;
      break;
    case FileKind::kRegular:
    case FileKind::kDirectory:
      break;
    default:
      return file;
  }
  // What the program itself has opened has another name than the host's.
  if (IsOwnPath(description.path)) return file;
  const int verdict = JudgeProcFile(file->host.get());
  if (verdict == -ELOOP) return Exchange(process, *file);
  return verdict == 0 ? file : nullptr;
}

void AdmitInherited(Process& process) {
  for (const FdTable::Entry& entry : process.files().Entries()) {
    if (!entry.file->description->foreign) continue;
    std::shared_ptr<OpenFile> admitted = AdmitFile(process, entry.file);
    if (admitted == entry.file) continue;
    if (admitted == nullptr) {
      auto null = std::make_shared<FileDescription>();
      null->kind = FileKind::kCharacterDevice;
      null->path = "/dev/null";
      null->given = entry.file->description->given;
      admitted = std::make_shared<OpenFile>(OwnedFd(open("/dev/null", O_RDWR | O_CLOEXEC)),
                                            std::move(null));
    }
    process.files().InstallAt(static_cast<uint64_t>(entry.number), std::move(admitted),
                              entry.close_on_exec);
  }
}

}  // namespace km
