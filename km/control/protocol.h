// The control protocol: frames of JSON over a UNIX stream socket (docs/control-protocol.md).
//
// A frame is a u32, little-endian, and as many bytes of JSON, an object. The client sends requests,
// each with "version", "id" (a number of its choice) and "verb"; the monitor answers each with the
// same "id", after any number of "event" frames that carry it too. Bytes of a peer are hostile.
#ifndef KM_CONTROL_PROTOCOL_H_
#define KM_CONTROL_PROTOCOL_H_

#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace km {

using Json = nlohmann::ordered_json;

inline constexpr int kControlVersion = 1;
inline constexpr size_t kMaxRequest = 64 << 10;  // bytes of JSON
inline constexpr size_t kMaxAnswer = 4 << 20;
// The "code" of an error that the client, with other rights than the monitor's, may get around.
inline constexpr char kNoPermission[] = "no-permission";

// What is on the wire for `message`. Text that is not UTF-8 has U+FFFD in its place.
std::string EncodeFrame(const Json& message);

// Cuts received bytes into frames.
class FrameReader {
 public:
  explicit FrameReader(size_t limit) : limit_(limit) {}

  void Append(absl::string_view bytes) { buffer_.append(bytes.data(), bytes.size()); }
  // Whether there is a whole frame, or one that is too long.
  bool Ready() const;
  // Whether nothing is left, not even a part of a frame.
  bool empty() const { return buffer_.empty(); }
  // The next frame's object. Errors: InvalidArgument for one that is none (the next frame can be
  // read), ResourceExhausted for one that is longer than the limit (nothing more can be).
  absl::StatusOr<Json> Next();

 private:
  size_t Length() const;

  const size_t limit_;
  std::string buffer_;
};

// A member of `object` that may be absent; InvalidArgument when it is of another type.
absl::StatusOr<std::string> TextOr(const Json& object, const char* name, absl::string_view other);
absl::StatusOr<bool> FlagOr(const Json& object, const char* name, bool other);
absl::StatusOr<int64_t> NumberOr(const Json& object, const char* name, int64_t other);

// The folder of the sockets of the calling user's monitors: km in $XDG_RUNTIME_DIR, else in
// /run/user/UID, else /tmp/km-UID.
std::string ControlFolder();

}  // namespace km

#endif  // KM_CONTROL_PROTOCOL_H_
