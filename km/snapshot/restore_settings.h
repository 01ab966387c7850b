// Image -> what a program set for its threads, itself and its memory (km/process/settings.h).
#ifndef KM_SNAPSHOT_RESTORE_SETTINGS_H_
#define KM_SNAPSHOT_RESTORE_SETTINGS_H_

#include "absl/status/status.h"
#include "km/process/process.h"
#include "km/snapshot/image.h"

namespace km {

// Limits, but for those that bind scheduling. What this machine does not allow stays as it is here:
// authority is the resuming user's.
void RestoreLimits(const Image& image, Process& process);

// Settings, and the limits that bind scheduling. On the main thread, when all threads and all
// memory are there and none of the threads runs. Errors name what the host refuses.
absl::Status RestoreSettings(const Image& image, Process& process);

// What of them takes the privileges away that restoring the rest may need. Behind all else.
absl::Status RestoreCredentials(const Image& image, Process& process);

}  // namespace km

#endif  // KM_SNAPSHOT_RESTORE_SETTINGS_H_
