#include "km/loader/program_path.h"

#include <elf.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "absl/strings/cord.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "km/base/owned.h"
#include "km/base/status.h"

namespace km {
namespace {

constexpr absl::string_view kExitPayload = "km/exit-code";
constexpr char kDefaultPath[] = "/bin:/usr/bin";

absl::Status Refusal(int error, int exit_code, absl::string_view path, absl::string_view why) {
  absl::Status status(absl::ErrnoToStatusCode(error),
                      absl::StrCat("cannot run '", path, "': ", why));
  // ErrnoStatus would add strerror to the text, which `why` says better.
  ErrnoStatus(error, "").ForEachPayload([&status](absl::string_view type, const absl::Cord& value) {
    status.SetPayload(type, value);
  });
  status.SetPayload(kExitPayload, absl::Cord(absl::StrCat(exit_code)));
  return status;
}

bool IsCoreDump(const std::string& path) {
  OwnedFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK));
  Elf64_Ehdr header;
  return fd.valid() && pread(fd.get(), &header, sizeof(header), 0) == sizeof(header) &&
         memcmp(header.e_ident, ELFMAG, SELFMAG) == 0 && header.e_type == ET_CORE;
}

absl::Status NotExecutable(const std::string& path) {
  struct stat info;
  if (stat(path.c_str(), &info) == 0 && (info.st_mode & 0111) == 0) {
    if (IsCoreDump(path)) {
      return CannotRun(ENOEXEC, path, "it is a core dump, but not a snapshot that km wrote");
    }
    return CannotRun(EACCES, path, "it is not marked as executable (see chmod +x)");
  }
  return CannotRun(EACCES, path, "you have no right to execute it");
}

absl::Status CheckExecutable(const std::string& path) {
  struct stat info;
  if (stat(path.c_str(), &info) != 0) {
    if (errno == EACCES) {
      return CannotRun(EACCES, path, "a directory on the way to it may not be searched");
    }
    if (errno == ENOENT) return Refusal(ENOENT, kExitNotFound, path, "there is no such file");
    return CannotRun(errno, path, strerror(errno));
  }
  if (S_ISDIR(info.st_mode)) return CannotRun(EACCES, path, "it is a directory");
  if (!S_ISREG(info.st_mode)) return CannotRun(EACCES, path, "it is not a regular file");
  if (faccessat(AT_FDCWD, path.c_str(), X_OK, AT_EACCESS) != 0) return NotExecutable(path);
  return absl::OkStatus();
}

}  // namespace

absl::Status CannotRun(int error, absl::string_view path, absl::string_view why) {
  return Refusal(error, kExitCannotRun, path, why);
}

int ExitCodeFor(const absl::Status& status) {
  int code = 0;
  auto payload = status.GetPayload(kExitPayload);
  if (payload.has_value() && absl::SimpleAtoi(std::string(*payload), &code)) return code;
  return kExitOwnFailure;
}

absl::StatusOr<std::string> FindProgram(const std::string& name, const char* search_path) {
  if (name.empty()) return Refusal(ENOENT, kExitNotFound, name, "its name is empty");
  if (name.find('/') != std::string::npos) {
    KM_RETURN_IF_ERROR(CheckExecutable(name));
    return name;
  }
  absl::Status denied;
  absl::string_view directories = search_path == nullptr ? kDefaultPath : search_path;
  for (absl::string_view directory : absl::StrSplit(directories, ':')) {
    std::string path = directory.empty() ? name : absl::StrCat(directory, "/", name);
    absl::Status status = CheckExecutable(path);
    if (status.ok()) return path;
    int error = ErrnoOf(status);
    if (denied.ok() && error != ENOENT && error != ENOTDIR) denied = status;
  }
  if (!denied.ok()) return denied;
  bool here = access(name.c_str(), F_OK) == 0;
  return Refusal(
      ENOENT, kExitNotFound, name,
      here ? absl::StrCat("it is in no directory of PATH (for the file here: ./", name, ")")
           : "it is in no directory of PATH");
}

}  // namespace km
