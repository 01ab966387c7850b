// Snapshots that the kernel starts by itself, as it does programs (binfmt_misc).
#ifndef TOOLS_KMCTL_BINFMT_H_
#define TOOLS_KMCTL_BINFMT_H_

#include "absl/status/status.h"

namespace km {

// Tells the kernel to run snapshots with the km beside this kmctl, or to do so no more. Until the
// next boot, and for the whole machine: needs root. Source: the kernel's
// Documentation/admin-guide/binfmt-misc.rst.
absl::Status RegisterBinfmt();
absl::Status UnregisterBinfmt();

}  // namespace km

#endif  // TOOLS_KMCTL_BINFMT_H_
