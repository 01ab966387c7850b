// Image -> Process.
#ifndef KM_SNAPSHOT_RESTORE_H_
#define KM_SNAPSHOT_RESTORE_H_

#include "absl/status/status.h"
#include "km/files/file_restorer.h"
#include "km/process/process.h"
#include "km/snapshot/image.h"

namespace km {

// Makes a fresh `process` what `image` says, as ParseSnapshot gave it; `fd` is the snapshot's file,
// which memory is mapped from; `files`: what whoever resumes wants of the open files.
// Threads are made but do not run yet. Errors say what of the image is not to be had on this
// machine; the process is then of no more use.
absl::Status Restore(const Image& image, int fd, const FileOptions& files, Process& process);

}  // namespace km

#endif  // KM_SNAPSHOT_RESTORE_H_
