// Addresses of a snapshot as function names, from the ELF files that were mapped there.
#ifndef TOOLS_KMCTL_SYMBOLS_H_
#define TOOLS_KMCTL_SYMBOLS_H_

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "km/snapshot/image.h"

namespace km {

struct Location {
  std::string symbol;   // "main+0x12", or empty
  std::string object;   // the mapping's name, or empty
  uint64_t offset = 0;  // of the address in that file, when it is one
};

// Not thread-safe.
class Symbolizer {
 public:
  // Reads the snapshot's memory from `fd`; both outlive this.
  Symbolizer(const Image& image, int fd) : image_(image), fd_(fd) {}

  // A name is given only when the file is there and has, around the address, the bytes that the
  // snapshot has: it may have been replaced since.
  Location Find(uint64_t address);

 private:
  struct Function {
    uint64_t offset, size;  // in the file
    std::string name;
  };
  struct Object {
    std::vector<uint8_t> bytes;
    std::vector<Function> functions;  // by offset
  };

  const Object& Load(const std::string& path);
  bool SameBytes(const Object& object, uint64_t address, uint64_t offset) const;

  const Image& image_;
  const int fd_;
  std::map<std::pair<dev_t, ino_t>, Object> objects_;
  uint64_t bytes_ = 0;  // of all objects
};

}  // namespace km

#endif  // TOOLS_KMCTL_SYMBOLS_H_
