// Reading directories.
#include <dirent.h>
#include <linux/limits.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "km/syscalls/handlers.h"
#include "km/syscalls/host.h"
#include "km/syscalls/paths.h"
#include "km/syscalls/proc_files.h"

namespace km {
namespace {

// struct linux_dirent64 and struct linux_dirent, getdents(2): the type stands before the name or in
// the record's last byte.
struct EntryHead {
  uint64_t inode;
  uint64_t next;
  uint16_t length;
};
constexpr size_t kNameAt = 18;

std::string EntryBytes(const std::string& name, uint64_t index, unsigned char type, bool wide) {
  size_t name_at = wide ? kNameAt + 1 : kNameAt;
  size_t used = wide ? name_at + name.size() + 1 : name_at + name.size() + 2;
  std::string bytes((used + 7) & ~size_t{7}, '\0');
  EntryHead head = {index + 1, index + 1, static_cast<uint16_t>(bytes.size())};
  memcpy(bytes.data(), &head, kNameAt);
  memcpy(bytes.data() + name_at, name.data(), name.size());
  bytes[wide ? kNameAt : bytes.size() - 1] = static_cast<char>(type);
  return bytes;
}

// The position is the index of the next entry; the host's directory keeps it.
int64_t ListOwn(Call& call, const OpenFile& file, const std::vector<std::string>& names,
                bool wide) {
  int64_t position = lseek(file.host.get(), 0, SEEK_CUR);
  if (position < 0) return -errno;
  auto index = static_cast<uint64_t>(position);
  const std::string& path = file.description->path;
  unsigned char entry_type = DT_REG;
  if (absl::EndsWith(path, "/task")) entry_type = DT_DIR;
  if (absl::EndsWith(path, "/fd")) entry_type = DT_LNK;
  std::string answer;
  for (; index < names.size(); ++index) {
    const std::string& name = names[index];
    unsigned char type = entry_type;
    if (name[0] == '.') type = DT_DIR;
    std::string entry = EntryBytes(name, index, type, wide);
    if (answer.size() + entry.size() > call.Uint(2)) break;
    answer += entry;
  }
  if (answer.empty() && index < names.size()) return -EINVAL;
  int error = call.memory().CopyOut(call.Addr(1), answer.data(), answer.size());
  if (error != 0) return error;
  lseek(file.host.get(), static_cast<off_t>(index), SEEK_SET);
  return static_cast<int64_t>(answer.size());
}

int64_t List(Call& call, long number) {
  auto file = FileArg(call, 0);
  if (file == nullptr) return -EBADF;
  std::vector<std::string> names;
  if (file->description->kind == FileKind::kDirectory &&
      OwnDirectory(call.process, file->description->path, &names)) {
    return ListOwn(call, *file, names, number == SYS_getdents64);
  }
  return call.thread.Block(number, HostFd(file), call.HostArg(1, call.Uint(2)), call.Uint(2));
}

}  // namespace

SyscallResult Getdents(Call& call) { return List(call, SYS_getdents); }
SyscallResult Getdents64(Call& call) { return List(call, SYS_getdents64); }

}  // namespace km
