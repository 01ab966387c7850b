// Users, groups and capabilities. Linux keeps them for each thread; libc makes the threads agree.
// Source: credentials(7), capabilities(7), setresuid(2), capget(2).
#include <linux/capability.h>
#include <linux/limits.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <optional>
#include <utility>

#include "km/process/credentials.h"
#include "km/syscalls/handlers.h"
#include "km/syscalls/host.h"
#include "km/syscalls/self_call.h"

namespace km {
namespace {

SyscallResult SetIds(Call& call) {
  return SelfCall(call, static_cast<long>(call.number),
                  {call.arguments[0], call.arguments[1], call.arguments[2], 0, 0},
                  Follow::kFirstThread);
}

int64_t GetThreeIds(Call& call, long number) {
  return HostResult(syscall(number, call.HostArg(0, sizeof(uid_t)), call.HostArg(1, sizeof(uid_t)),
                            call.HostArg(2, sizeof(uid_t))));
}

constexpr size_t kMaxCapabilityData =
    _LINUX_CAPABILITY_U32S_3 * sizeof(struct __user_cap_data_struct);

// The header names a thread, and the kernel writes to it the version that it likes when it does not
// know the given one.
// Without a version that it knows, the kernel reads no further (cap_validate_magic).
int ReadHeader(Call& call, __user_cap_header_struct* header) {
  if (int error = call.memory().CopyIn(&header->version, call.Addr(0)); error != 0) return error;
  uint32_t version = header->version;
  if (version != _LINUX_CAPABILITY_VERSION_1 && version != _LINUX_CAPABILITY_VERSION_2 &&
      version != _LINUX_CAPABILITY_VERSION_3) {
    header->pid = 0;
    return 0;
  }
  return call.memory().CopyIn(header, call.Addr(0));
}

int64_t AfterHeader(Call& call, uint32_t wanted, const __user_cap_header_struct& header,
                    int64_t result) {
  if (header.version == wanted) return result;
  int error = call.memory().CopyOut(call.Addr(0), header.version);
  return error != 0 ? error : result;
}

}  // namespace

SyscallResult SelfCall(Call& call, long number, const std::array<uint64_t, 5>& arguments,
                       Follow follow, std::shared_ptr<std::vector<uint8_t>> data) {
  auto make = [number, arguments, data = std::move(data)] {
    return HostResult(
        syscall(number, arguments[0], arguments[1], arguments[2], arguments[3], arguments[4]));
  };
  // From the first change on a snapshot carries them; what changes nothing is none, as libraries
  // that make sure of what they have.
  ChangedSettings& changed = call.process.changed_settings();
  const bool watch = follow == Follow::kFirstThread && !changed.Has(Setting::kCredentials);
  std::optional<Credentials> before;
  if (watch) {
    before = ReadCredentials();
    call.process.KeepPagemap();
  }
  int64_t result = make();
  if (result < 0) return result;
  if (watch && ReadCredentials() != *before) {
    changed.Note(Setting::kCredentials);
    changed.Note(Setting::kDumpable);  // a change of users takes it away
  }
  call.process.HostThreadsDiffer();
  if (follow == Follow::kNot || call.thread.tid != call.process.identity().pid) return result;
  call.on_main = make;
  return {result, NextAction::kMainThread};
}

SyscallResult Getuid(Call&) { return getuid(); }
SyscallResult Geteuid(Call&) { return geteuid(); }
SyscallResult Getgid(Call&) { return getgid(); }
SyscallResult Getegid(Call&) { return getegid(); }
SyscallResult Getresuid(Call& call) { return GetThreeIds(call, SYS_getresuid); }
SyscallResult Getresgid(Call& call) { return GetThreeIds(call, SYS_getresgid); }

SyscallResult Setuid(Call& call) { return SetIds(call); }
SyscallResult Setgid(Call& call) { return SetIds(call); }
SyscallResult Setreuid(Call& call) { return SetIds(call); }
SyscallResult Setregid(Call& call) { return SetIds(call); }
SyscallResult Setresuid(Call& call) { return SetIds(call); }
SyscallResult Setresgid(Call& call) { return SetIds(call); }
SyscallResult Setfsuid(Call& call) { return SetIds(call); }
SyscallResult Setfsgid(Call& call) { return SetIds(call); }

SyscallResult Getgroups(Call& call) {
  uint64_t count = call.Int(0) > 0 ? call.Uint(0) : 0;
  return HostResult(syscall(SYS_getgroups, call.Int(0), call.HostArg(1, count * sizeof(gid_t))));
}

SyscallResult Setgroups(Call& call) {
  uint64_t count = call.Uint(0);
  // Both threads get the same list. Without one the host finds out which error comes first.
  auto list = std::make_shared<std::vector<uint8_t>>();
  if (count <= NGROUPS_MAX) {
    list->resize(count * sizeof(gid_t));
    if (call.memory().CopyIn(list->data(), call.Addr(1), list->size()) != 0) list->clear();
  }
  auto address = list->empty() ? 0 : reinterpret_cast<uint64_t>(list->data());
  return SelfCall(call, SYS_setgroups, {count, address, 0, 0, 0}, Follow::kFirstThread,
                  std::move(list));
}

SyscallResult Capget(Call& call) {
  __user_cap_header_struct header;
  if (int error = ReadHeader(call, &header); error != 0) return error;
  uint32_t wanted = header.version;
  header.pid = call.process.HostTid(header.pid);
  int64_t result = HostResult(syscall(SYS_capget, &header, call.HostArg(1, kMaxCapabilityData)));
  return AfterHeader(call, wanted, header, result);
}

SyscallResult Capset(Call& call) {
  struct Arguments {
    __user_cap_header_struct header;
    __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];
  };
  auto bytes = std::make_shared<std::vector<uint8_t>>(sizeof(Arguments));
  auto* arguments = reinterpret_cast<Arguments*>(bytes->data());
  if (int error = ReadHeader(call, &arguments->header); error != 0) return error;
  uint32_t wanted = arguments->header.version;
  size_t words =
      wanted == _LINUX_CAPABILITY_VERSION_1 ? _LINUX_CAPABILITY_U32S_1 : _LINUX_CAPABILITY_U32S_3;
  // Only the calling thread itself may be named.
  pid_t named = arguments->header.pid;
  bool itself = named == 0 || named == static_cast<pid_t>(call.thread.tid);
  arguments->header.pid = itself ? 0 : ProcessIds::kNobody;
  bool readable = call.memory().CopyIn(arguments->data, call.Addr(1),
                                       words * sizeof(__user_cap_data_struct)) == 0;
  auto data = readable ? reinterpret_cast<uint64_t>(arguments->data) : 0;
  auto header = reinterpret_cast<uint64_t>(&arguments->header);
  SyscallResult result =
      SelfCall(call, SYS_capset, {header, data, 0, 0, 0}, Follow::kFirstThread, bytes);
  if (result.value == -EINVAL) return AfterHeader(call, wanted, arguments->header, result.value);
  return result;
}

}  // namespace km
