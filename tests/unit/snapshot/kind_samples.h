// Records of open files for tests: one of each kind, and what they are made of.
#ifndef TESTS_UNIT_SNAPSHOT_KIND_SAMPLES_H_
#define TESTS_UNIT_SNAPSHOT_KIND_SAMPLES_H_

#include <sys/socket.h>

#include <cstdint>
#include <string>
#include <vector>

#include "km/files/file_record.h"

namespace km {

// A record of whole numbers: 4 bytes each, or 8 for those that are given as uint64_t.
struct Field {
  Field(uint32_t number) : value(number), width(4) {}  // NOLINT(runtime/explicit)
  Field(int number) : value(static_cast<uint32_t>(number)), width(4) {}
  Field(uint64_t number) : value(number), width(8) {}
  Field(int64_t number) : value(static_cast<uint64_t>(number)), width(8) {}
  uint64_t value;
  int width;
};

struct Part {
  uint32_t tag;
  std::vector<Field> fields;
  std::string rest = {};
};

std::vector<uint8_t> Records(const std::vector<Part>& parts);

// A struct sockaddr_* of that many bytes.
std::string Address(sa_family_t family, size_t size);
Part Condition(uint32_t condition, uint32_t shut = 0);
Part Watched(int number, uint32_t mask, const std::string& path);
Part Timer(int clock, int flags, int64_t seconds, int64_t nanoseconds);

// One of each kind that can be in a file, with ids from 1 on. The memfd is of the object at
// KM_OBJECT_BASE.
std::vector<FileRecord> KindSamples();

}  // namespace km

#endif  // TESTS_UNIT_SNAPSHOT_KIND_SAMPLES_H_
