// Users, groups and capabilities of a thread. Source: credentials(7), capabilities(7).
#ifndef KM_PROCESS_CREDENTIALS_H_
#define KM_PROCESS_CREDENTIALS_H_

#include <sys/types.h>

#include <array>
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace km {

struct Credentials {
  // Real, effective, saved, and that of the file system.
  std::array<uid_t, 4> users{};
  std::array<gid_t, 4> groups{};
  std::vector<gid_t> supplementary;  // ascending
  // Bits by CAP_* number.
  uint64_t permitted = 0, effective = 0, inheritable = 0, bounding = 0, ambient = 0;

  friend bool operator==(const Credentials&, const Credentials&) = default;
};

// Of the calling host thread.
Credentials ReadCredentials();

// Makes them those of the calling host thread. Nothing is asked of the host that is so already, so
// whoever has the same credentials needs no privilege. Capabilities that the bounding set lacks
// here stay out of it: it is a limit. Everything else must be as wanted; an error names what the
// host refuses, and what helps. On an error some of it may have been set.
absl::Status ApplyCredentials(const Credentials& wanted, absl::string_view whose);

}  // namespace km

#endif  // KM_PROCESS_CREDENTIALS_H_
