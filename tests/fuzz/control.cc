// libFuzzer target: what comes over the control socket. The bytes come in pieces, as they do from a
// socket; each frame is read as the monitor reads a request and as kmctl reads an answer.
#include <cstdint>

#include "km/control/protocol.h"

namespace {

// Every member is asked for as each of the types.
void Look(const km::Json& message) {
  for (const auto& member : message.items()) {
    const char* name = member.key().c_str();
    km::TextOr(message, name, "").IgnoreError();
    km::FlagOr(message, name, false).IgnoreError();
    km::NumberOr(message, name, 0).IgnoreError();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const size_t piece = data[0] + 1;
  const absl::string_view bytes(reinterpret_cast<const char*>(data + 1), size - 1);
  km::FrameReader reader(km::kMaxRequest);
  for (size_t at = 0; at < bytes.size(); at += piece) {
    reader.Append(bytes.substr(at, piece));
    while (reader.Ready()) {
      const absl::StatusOr<km::Json> message = reader.Next();
      if (absl::IsResourceExhausted(message.status())) return 0;  // nothing more is heard
      if (!message.ok()) continue;
      Look(*message);
      // What was read can be sent, and is then read as it was.
      const std::string frame = km::EncodeFrame(*message);
      km::FrameReader again(km::kMaxAnswer);
      again.Append(frame);
      if (!again.Ready() || *again.Next() != *message) __builtin_trap();
    }
  }
  return 0;
}
