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
#include "absl/strings/str_cat.h"
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

std::string EntryBytes(const std::string& name, uint64_t position, unsigned char type, bool wide) {
  size_t name_at = wide ? kNameAt + 1 : kNameAt;
  size_t used = wide ? name_at + name.size() + 1 : name_at + name.size() + 2;
  std::string bytes((used + 7) & ~size_t{7}, '\0');
  EntryHead head = {position + 1, position + 1, static_cast<uint16_t>(bytes.size())};
  memcpy(bytes.data(), &head, kNameAt);
  memcpy(bytes.data() + name_at, name.data(), name.size());
  bytes[wide ? kNameAt : bytes.size() - 1] = static_cast<char>(type);
  return bytes;
}

// The host's directory keeps the position: as in Linux that of an entry is its number, behind those
// of "." and "..", so that nothing is missed while others are opened and closed.
int64_t ListOwn(Call& call, const OpenFile& file, const std::vector<uint64_t>& numbers, bool wide) {
  const off_t start = lseek(file.host.get(), 0, SEEK_CUR);
  if (start < 0) return -errno;
  auto position = static_cast<uint64_t>(start);
  const std::string& path = file.description->path;
  unsigned char type = DT_REG;
  if (absl::EndsWith(path, "/task")) type = DT_DIR;
  if (absl::EndsWith(path, "/fd")) type = DT_LNK;
  std::string answer;
  bool room = true;
  auto add = [&](const std::string& name, uint64_t at, unsigned char entry_type) {
    if (at < position || !room) return;
    std::string entry = EntryBytes(name, at, entry_type, wide);
    room = answer.size() + entry.size() <= call.Uint(2);
    if (!room) return;
    answer += entry;
    position = at + 1;
  };
  add(".", 0, DT_DIR);
  add("..", 1, DT_DIR);
  for (uint64_t number : numbers) add(absl::StrCat(number), number + 2, type);
  if (answer.empty() && !room) return -EINVAL;
  int error = call.memory().CopyOut(call.Addr(1), answer.data(), answer.size());
  if (error != 0) return error;
  lseek(file.host.get(), static_cast<off_t>(position), SEEK_SET);
  return static_cast<int64_t>(answer.size());
}

int64_t List(Call& call, long number) {
  auto file = FileArg(call, 0);
  if (file == nullptr) return -EBADF;
  std::vector<uint64_t> numbers;
  if (file->description->kind == FileKind::kDirectory &&
      OwnDirectory(call.process, file->description->path, &numbers)) {
    return ListOwn(call, *file, numbers, number == SYS_getdents64);
  }
  return call.thread.Block(number, HostFd(file), call.HostArg(1, call.Uint(2)), call.Uint(2));
}

}  // namespace

SyscallResult Getdents(Call& call) { return List(call, SYS_getdents); }
SyscallResult Getdents64(Call& call) { return List(call, SYS_getdents64); }

}  // namespace km
