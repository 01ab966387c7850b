#include "km/control/protocol.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace km {
namespace {

constexpr size_t kPrefix = sizeof(uint32_t);
// Whoever copies or prints a message uses stack for each.
constexpr int kMaxDepth = 32;

absl::Status WrongType(const char* name, const char* wanted) {
  return absl::InvalidArgumentError(absl::StrFormat("'%s' is to be %s", name, wanted));
}

}  // namespace

std::string EncodeFrame(const Json& message) {
  const std::string text = message.dump(-1, ' ', false, Json::error_handler_t::replace);
  const auto length = static_cast<uint32_t>(text.size());
  std::string frame(kPrefix, '\0');
  for (size_t i = 0; i < kPrefix; ++i) frame[i] = static_cast<char>(length >> (8 * i));
  return frame + text;
}

size_t FrameReader::Length() const {
  size_t length = 0;
  for (size_t i = 0; i < kPrefix; ++i)
    length |= size_t{static_cast<uint8_t>(buffer_[i])} << (8 * i);
  return length;
}

bool FrameReader::Ready() const {
  if (buffer_.size() < kPrefix) return false;
  const size_t length = Length();
  return length > limit_ || buffer_.size() - kPrefix >= length;
}

absl::StatusOr<Json> FrameReader::Next() {
  const size_t length = Length();
  if (length > limit_) {
    return absl::ResourceExhaustedError(
        absl::StrCat("a message of ", length, " bytes; the limit is ", limit_));
  }
  bool deep = false;
  const auto keep = [&deep](int around, Json::parse_event_t event, const Json&) {
    const bool begins =
        event == Json::parse_event_t::object_start || event == Json::parse_event_t::array_start;
    deep = deep || (begins && around >= kMaxDepth);
    return !deep;
  };
  Json message = Json::parse(buffer_.begin() + kPrefix,
                             buffer_.begin() + static_cast<ptrdiff_t>(kPrefix + length), keep,
                             /*allow_exceptions=*/false);
  buffer_.erase(0, kPrefix + length);
  if (deep) {
    return absl::InvalidArgumentError(
        absl::StrCat("the message is nested more than ", kMaxDepth, " deep"));
  }
  if (!message.is_object()) return absl::InvalidArgumentError("the message is no JSON object");
  return message;
}

absl::StatusOr<std::string> TextOr(const Json& object, const char* name, absl::string_view other) {
  const auto member = object.find(name);
  if (member == object.end()) return std::string(other);
  if (!member->is_string()) return WrongType(name, "a text");
  std::string text = *member;
  // These become paths and notes.
  if (text.find('\0') != text.npos) return WrongType(name, "a text without NUL");
  return text;
}

absl::StatusOr<bool> FlagOr(const Json& object, const char* name, bool other) {
  const auto member = object.find(name);
  if (member == object.end()) return other;
  if (!member->is_boolean()) return WrongType(name, "true or false");
  return member->get<bool>();
}

absl::StatusOr<int64_t> NumberOr(const Json& object, const char* name, int64_t other) {
  const auto member = object.find(name);
  if (member == object.end()) return other;
  if (!member->is_number_integer()) return WrongType(name, "a whole number");
  return member->get<int64_t>();
}

std::string ControlFolder() {
  const char* runtime = getenv("XDG_RUNTIME_DIR");
  if (runtime != nullptr && runtime[0] == '/') return absl::StrCat(runtime, "/km");
  const std::string own = absl::StrCat("/run/user/", geteuid());
  struct stat status;
  if (stat(own.c_str(), &status) == 0 && S_ISDIR(status.st_mode)) return own + "/km";
  return absl::StrCat("/tmp/km-", geteuid());
}

}  // namespace km
