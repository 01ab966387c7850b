#include "km/process/credentials.h"

#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "km/base/status.h"

namespace km {
namespace {

constexpr uint64_t Bit(int capability) { return uint64_t{1} << capability; }

// The raw calls are made throughout: libc's act on all threads of the monitor.
long Prctl(int option, uint64_t argument, uint64_t second = 0) {
  return syscall(SYS_prctl, option, argument, second, 0, 0);
}

std::vector<gid_t> ReadSupplementary() {
  std::vector<gid_t> groups;
  long count = syscall(SYS_getgroups, 0, nullptr);
  if (count > 0) {
    groups.resize(static_cast<size_t>(count));
    count = syscall(SYS_getgroups, count, groups.data());
    groups.resize(static_cast<size_t>(std::max<long>(count, 0)));
  }
  std::sort(groups.begin(), groups.end());
  return groups;
}

struct CapabilitySets {
  __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct words[_LINUX_CAPABILITY_U32S_3] = {};
};

uint64_t Joined(uint32_t low, uint32_t high) { return low | uint64_t{high} << 32; }

bool SetCapabilities(uint64_t permitted, uint64_t effective, uint64_t inheritable) {
  CapabilitySets sets;
  for (int i = 0; i < 2; ++i) {
    sets.words[i] = {static_cast<uint32_t>(effective >> (32 * i)),
                     static_cast<uint32_t>(permitted >> (32 * i)),
                     static_cast<uint32_t>(inheritable >> (32 * i))};
  }
  return syscall(SYS_capset, &sets.header, sets.words) == 0;
}

absl::Status Refused(absl::string_view whose, const std::string& what) {
  const int error = errno;
  return ErrnoStatus(error, absl::StrCat("the host refuses ", what, " to ", whose,
                                         " (resume it as root, or as who it had become)"));
}

absl::Status ApplyGroups(const Credentials& wanted, const Credentials& now,
                         absl::string_view whose) {
  if (wanted.supplementary != now.supplementary &&
      syscall(SYS_setgroups, wanted.supplementary.size(), wanted.supplementary.data()) != 0) {
    const std::string list = absl::StrJoin(wanted.supplementary, ", ");
    return Refused(whose, list.empty() ? "an empty list of groups"
                                       : absl::StrCat("the supplementary groups ", list));
  }
  if (wanted.groups == now.groups) return absl::OkStatus();
  if (syscall(SYS_setresgid, wanted.groups[0], wanted.groups[1], wanted.groups[2]) != 0) {
    return Refused(whose, absl::StrCat("the groups ", absl::StrJoin(wanted.groups, ", ")));
  }
  (void)syscall(SYS_setfsgid, wanted.groups[3]);
  return absl::OkStatus();
}

// With its capabilities kept over the change: which of them it is to have is set behind it.
absl::Status ApplyUsers(const Credentials& wanted, const Credentials& now,
                        absl::string_view whose) {
  if (wanted.users == now.users) return absl::OkStatus();
  const long kept = Prctl(PR_GET_KEEPCAPS, 0);
  (void)Prctl(PR_SET_KEEPCAPS, 1);  // refused where secure bits do not let it matter
  if (syscall(SYS_setresuid, wanted.users[0], wanted.users[1], wanted.users[2]) != 0) {
    return Refused(whose, absl::StrCat("the users ", absl::StrJoin(wanted.users, ", ")));
  }
  (void)SetCapabilities(now.permitted, now.permitted, now.inheritable);
  (void)syscall(SYS_setfsuid, wanted.users[3]);
  (void)Prctl(PR_SET_KEEPCAPS, static_cast<uint64_t>(std::max<long>(kept, 0)));
  return absl::OkStatus();
}

absl::Status ApplyBoundingSet(const Credentials& wanted, const Credentials& now,
                              absl::string_view whose) {
  // A capability that is to be inheritable has to become it before that.
  const uint64_t inheritable = now.inheritable | wanted.inheritable;
  if (inheritable != now.inheritable) {
    (void)SetCapabilities(now.permitted, now.effective, inheritable);
  }
  for (int capability = 0; capability < 64; ++capability) {
    if ((now.bounding & ~wanted.bounding & Bit(capability)) == 0) continue;
    if (Prctl(PR_CAPBSET_DROP, static_cast<uint64_t>(capability)) != 0) {
      return Refused(whose, absl::StrFormat("the bounding set %#x", wanted.bounding));
    }
  }
  return absl::OkStatus();
}

absl::Status ApplyCapabilities(const Credentials& wanted, absl::string_view whose) {
  Credentials now = ReadCredentials();
  if ((wanted.permitted != now.permitted || wanted.effective != now.effective ||
       wanted.inheritable != now.inheritable) &&
      !SetCapabilities(wanted.permitted, wanted.effective, wanted.inheritable)) {
    return Refused(whose, absl::StrFormat("the capabilities %#x (permitted), %#x (effective), %#x "
                                          "(inheritable)",
                                          wanted.permitted, wanted.effective, wanted.inheritable));
  }
  // What is no longer permitted left this set by itself.
  now = ReadCredentials();
  for (int capability = 0; capability < 64; ++capability) {
    if (((now.ambient ^ wanted.ambient) & Bit(capability)) == 0) continue;
    const bool raise = (wanted.ambient & Bit(capability)) != 0;
    if (Prctl(PR_CAP_AMBIENT, raise ? PR_CAP_AMBIENT_RAISE : PR_CAP_AMBIENT_LOWER,
              static_cast<uint64_t>(capability)) != 0) {
      return Refused(whose, absl::StrFormat("the ambient capabilities %#x", wanted.ambient));
    }
  }
  return absl::OkStatus();
}

}  // namespace

Credentials ReadCredentials() {
  Credentials now;
  syscall(SYS_getresuid, &now.users[0], &now.users[1], &now.users[2]);
  syscall(SYS_getresgid, &now.groups[0], &now.groups[1], &now.groups[2]);
  // With an impossible one these only tell.
  now.users[3] = static_cast<uid_t>(syscall(SYS_setfsuid, -1));
  now.groups[3] = static_cast<gid_t>(syscall(SYS_setfsgid, -1));
  now.supplementary = ReadSupplementary();
  CapabilitySets sets;
  if (syscall(SYS_capget, &sets.header, sets.words) == 0) {
    now.permitted = Joined(sets.words[0].permitted, sets.words[1].permitted);
    now.effective = Joined(sets.words[0].effective, sets.words[1].effective);
    now.inheritable = Joined(sets.words[0].inheritable, sets.words[1].inheritable);
  }
  for (int capability = 0; capability < 64; ++capability) {
    const long bound = Prctl(PR_CAPBSET_READ, static_cast<uint64_t>(capability));
    if (bound < 0) break;  // the kernel knows no more
    if (bound == 1) now.bounding |= Bit(capability);
    if (Prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, static_cast<uint64_t>(capability)) == 1) {
      now.ambient |= Bit(capability);
    }
  }
  return now;
}

// In the order in which each step still has the privilege that it takes.
absl::Status ApplyCredentials(const Credentials& wanted, absl::string_view whose) {
  const Credentials now = ReadCredentials();
  KM_RETURN_IF_ERROR(ApplyGroups(wanted, now, whose));
  KM_RETURN_IF_ERROR(ApplyBoundingSet(wanted, now, whose));
  KM_RETURN_IF_ERROR(ApplyUsers(wanted, ReadCredentials(), whose));
  return ApplyCapabilities(wanted, whose);
}

}  // namespace km
