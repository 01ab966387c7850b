// What a snapshot holds, for people and for programs.
#ifndef TOOLS_KMCTL_INSPECT_H_
#define TOOLS_KMCTL_INSPECT_H_

#include <nlohmann/json.hpp>
#include <string>

#include "km/snapshot/image.h"

namespace km {

// All that there is to say of the snapshot open in `fd`, whose image is `image`. docs/man/kmctl.1
// names the members. Addresses and masks are hexadecimal strings, sizes are bytes.
nlohmann::ordered_json Describe(const Image& image, int fd, const std::string& path);

// The same as text of several lines.
std::string DescriptionText(const nlohmann::ordered_json& description);

}  // namespace km

#endif  // TOOLS_KMCTL_INSPECT_H_
