// Snapshots that have some of the memory of another one, which was built on them.
#ifndef KM_SNAPSHOT_BASES_H_
#define KM_SNAPSHOT_BASES_H_

#include <cstddef>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "km/base/owned.h"
#include "km/snapshot/image.h"
#include "km/snapshot/writer.h"

namespace km {

// That one snapshot can have. Each that is built on another adds one.
inline constexpr size_t kMaxBases = 256;

// Opens `base` at its path or, where it is not there, under its name in `directory`: a snapshot
// with its id and length. kNotFound when there is none, kFailedPrecondition for another file; the
// message names it. Its memory is not looked at. Thread-safe.
absl::StatusOr<OwnedFd> OpenBase(const SnapshotFile& base, const std::string& directory);

// All of image.bases, in order, for the snapshot that is open in `snapshot`.
absl::StatusOr<std::vector<OwnedFd>> OpenBases(const Image& image, int snapshot);

// Whether the file `path`, if there is one, is one of the snapshots open in `files`.
bool IsOneOf(const std::string& path, const std::vector<OwnedFd>& files);

// Writes the snapshot `image`, open in `snapshot`, to the file `path` (absolute), with all of its
// memory: it then needs no other. It is a snapshot of its own, with an id of its own.
absl::Status MergeSnapshot(Image image, int snapshot, const std::string& path,
                           WriteProgress* progress = nullptr);

}  // namespace km

#endif  // KM_SNAPSHOT_BASES_H_
