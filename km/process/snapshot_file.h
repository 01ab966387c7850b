// A snapshot file that a process has memory from.
#ifndef KM_PROCESS_SNAPSHOT_FILE_H_
#define KM_PROCESS_SNAPSHOT_FILE_H_

#include <array>
#include <cstdint>
#include <string>

namespace km {

struct SnapshotFile {
  std::array<uint8_t, 16> id{};  // of its header
  uint64_t length = 0;           // bytes
  std::string path;              // absolute
};

}  // namespace km

#endif  // KM_PROCESS_SNAPSHOT_FILE_H_
