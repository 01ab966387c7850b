// Walking over tag-length-value records whose bytes are hostile.
#ifndef KM_BASE_RECORDS_H_
#define KM_BASE_RECORDS_H_

#include <km/notes.h>

#include <cstdint>

#include "absl/status/status.h"
#include "absl/strings/str_format.h"
#include "km/base/bytes.h"

namespace km {

// Calls on_record(tag, &value) for each record; it returns false for a tag that it does not know.
// Fails for a record that is cut or shorter than what was read of it, and for an unknown tag with
// KM_TAG_REQUIRED. "it" of the messages is what holds the records.
template <typename F>
absl::Status ForEachRecord(ByteReader records, const F& on_record) {
  uint32_t tag = 0;
  ByteReader value;
  while (records.Record(&tag, &value)) {
    if (!on_record(tag, &value) && (tag & KM_TAG_REQUIRED) != 0) {
      return absl::FailedPreconditionError(
          absl::StrFormat("its record %#x is of a newer km, and necessary", tag));
    }
    if (!value.ok()) {
      return absl::DataLossError(absl::StrFormat("its record %#x is too short", tag));
    }
  }
  if (!records.ok()) return absl::DataLossError("a record does not fit into it");
  return absl::OkStatus();
}

}  // namespace km

#endif  // KM_BASE_RECORDS_H_
