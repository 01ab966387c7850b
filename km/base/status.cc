#include "km/base/status.h"

#include <cerrno>
#include <cstring>

#include "absl/strings/cord.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace km {
namespace {
constexpr absl::string_view kErrnoPayload = "km/errno";
}

absl::Status ErrnoStatus(int error, absl::string_view what) {
  absl::Status status(absl::ErrnoToStatusCode(error), absl::StrCat(what, ": ", strerror(error)));
  status.SetPayload(kErrnoPayload, absl::Cord(absl::StrCat(error)));
  return status;
}

int ErrnoOf(const absl::Status& status) {
  if (status.ok()) return 0;
  int error = 0;
  if (auto payload = status.GetPayload(kErrnoPayload);
      payload.has_value() && absl::SimpleAtoi(std::string(*payload), &error)) {
    return error;
  }
  return EIO;
}

}  // namespace km
