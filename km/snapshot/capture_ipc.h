// The process's System V objects -> Image.
#ifndef KM_SNAPSHOT_CAPTURE_IPC_H_
#define KM_SNAPSHOT_CAPTURE_IPC_H_

#include <string>
#include <vector>

#include "km/files/file_saver.h"
#include "km/process/process.h"
#include "km/snapshot/image.h"

namespace km {

// All objects that the program made, asked for or has attached, and that are still there. For the
// main thread, while all others are parked; no object is changed. What cannot be carried is added
// to `obstacles`, a line each. The bytes of shared memory become memory objects of `files`.
void CaptureIpc(Process& process, FileSaver& files, Image& image,
                std::vector<std::string>* obstacles);

}  // namespace km

#endif  // KM_SNAPSHOT_CAPTURE_IPC_H_
