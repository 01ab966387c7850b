#include "km/files/socket_state.h"

#include <linux/limits.h>
#include <linux/netlink.h>
#include <netinet/in.h>

#include "absl/strings/str_cat.h"
#include "km/base/records.h"
#include "km/base/status.h"
#include "km/files/socket_filter.h"

namespace km {
namespace {

void WriteBytes(ByteWriter* out, absl::Span<const uint8_t> bytes) {
  out->U32(static_cast<uint32_t>(bytes.size()));
  out->Bytes(bytes);
}

std::vector<uint8_t> ReadBytes(ByteReader* in, uint64_t size) {
  absl::Span<const uint8_t> bytes = in->Bytes(size);
  return {bytes.begin(), bytes.end()};
}

void AddressRecord(ByteWriter* out, uint32_t tag, const SocketAddress& address) {
  if (address.empty()) return;
  size_t begin = out->BeginRecord(tag);
  out->Bytes(address);
  out->EndRecord(begin);
}

SocketMessage ReadMessage(ByteReader* in) {
  SocketMessage message;
  message.sender = ReadBytes(in, in->U32());
  uint32_t count = in->U32();
  for (uint32_t i = 0; i < count && in->ok(); ++i) message.descriptions.push_back(in->U32());
  message.bytes = ReadBytes(in, in->rest().size());
  return message;
}

bool ReadField(uint32_t tag, ByteReader* value, SocketState* state) {
  switch (tag) {
    case KM_SOCKET_SPEC:
      state->family = static_cast<int>(value->U32());
      state->type = static_cast<int>(value->U32());
      state->protocol = static_cast<int>(value->U32());
      return true;
    case KM_SOCKET_CONDITION:
      state->condition = value->U32();
      state->backlog = value->U32();
      state->waiting = value->U32();
      state->shut = value->U32();
      state->port_chosen = value->rest().size() >= sizeof(uint32_t) && value->U32() != 0;
      return true;
    case KM_SOCKET_PAIR:
      state->pair = value->U32();
      state->end = value->U32();
      return true;
    case KM_SOCKET_NAME:
      state->name = ReadBytes(value, value->rest().size());
      return true;
    case KM_SOCKET_PEER:
      state->peer = ReadBytes(value, value->rest().size());
      return true;
    case KM_SOCKET_OPTION: {
      SocketOption option;
      option.level = static_cast<int>(value->U32());
      option.name = static_cast<int>(value->U32());
      option.value = ReadBytes(value, value->rest().size());
      state->options.push_back(std::move(option));
      return true;
    }
    case KM_SOCKET_MESSAGE:
      state->messages.push_back(ReadMessage(value));
      return true;
    case KM_SOCKET_CREDENTIALS: {
      const ucred credentials = {static_cast<pid_t>(value->U32()), value->U32(), value->U32()};
      if (!state->messages.empty()) state->messages.back().credentials = credentials;
      return true;
    }
    case KM_SOCKET_FILTER:
      state->filter = ReadBytes(value, value->rest().size());
      return true;
    case KM_SOCKET_TCP:
      state->tcp = ReadTcpConnection(value);
      return true;
    case KM_SOCKET_FILE: {
      SocketFile& file = state->file.emplace();
      file.mode = value->U32() & 07777;
      file.owner.uid = value->U32();
      file.owner.gid = value->U32();
      file.removed = value->U32() != 0;
      file.path = std::string(value->CountedText());
      return true;
    }
    default:
      return false;
  }
}

// The shortest address, as the kernel gives them. Only those of UNIX sockets differ in length.
size_t LeastAddress(int family) {
  switch (family) {
    case AF_INET:
      return sizeof(sockaddr_in);
    case AF_INET6:
      return sizeof(sockaddr_in6);
    case AF_NETLINK:
      return sizeof(sockaddr_nl);
    default:
      return sizeof(sa_family_t);
  }
}

bool ValidAddress(const SocketAddress& address, int family) {
  if (address.empty()) return true;
  return address.size() >= LeastAddress(family) && address.size() <= sizeof(sockaddr_storage) &&
         (address[0] | address[1] << 8) == family;
}

// What has a peer is a datagram or a raw socket, an end of a pair or a TCP connection: another one
// would be connected by a resume. A listener has a name.
bool NamesFit(const SocketState& state) {
  if (state.condition == KM_SOCKET_LISTENING) return !state.name.empty() && state.peer.empty();
  const bool datagrams =
      (state.type == SOCK_DGRAM || state.type == SOCK_RAW) && state.family != AF_NETLINK;
  const bool pair = state.family == AF_UNIX && state.condition != KM_SOCKET_IDLE;
  return state.peer.empty() || datagrams || pair || state.tcp.has_value();
}

absl::Status Check(const SocketState& state) {
  const bool tcp_fits =
      !state.tcp.has_value() ||
      (state.condition == KM_SOCKET_LOST && state.protocol == IPPROTO_TCP && !state.name.empty() &&
       !state.peer.empty() && state.messages.size() <= 1 && IsTcpConnection(*state.tcp));
  bool known = state.family == AF_UNIX || state.family == AF_INET || state.family == AF_INET6 ||
               state.family == AF_NETLINK;
  bool pairs = state.family == AF_UNIX;
  bool loses = (state.family == AF_INET || state.family == AF_INET6) && state.type == SOCK_STREAM;
  if (!known || state.type < SOCK_STREAM || state.type > SOCK_SEQPACKET || state.protocol < 0 ||
      state.condition > KM_SOCKET_LOST || state.end > 1 || state.shut > 3 ||
      (state.condition == KM_SOCKET_PAIRED && !pairs) ||
      (state.condition == KM_SOCKET_LOST && !loses && !pairs) || !tcp_fits ||
      !IsSocketFilter(state.filter)) {
    return absl::DataLossError("there is no such socket");
  }
  if (!ValidAddress(state.name, state.family) || !ValidAddress(state.peer, state.family) ||
      !NamesFit(state)) {
    return absl::DataLossError("a socket's address is none");
  }
  const std::string path = state.file.has_value() ? state.file->path : "";
  if (path.size() >= PATH_MAX || path.find('\0') != path.npos) {
    return absl::DataLossError("the path of a socket's file is none");
  }
  for (const SocketOption& option : state.options) {
    if (!IsSavedOption(option.level, option.name, option.value.size())) {
      return absl::DataLossError(
          absl::StrCat("it sets option ", option.name, " of level ", option.level));
    }
  }
  for (const SocketMessage& message : state.messages) {
    if (!ValidAddress(message.sender, state.family) ||
        message.descriptions.size() > kMostDescriptors ||
        (!message.descriptions.empty() && state.family != AF_UNIX)) {
      return absl::DataLossError("a socket's message is none");
    }
  }
  return absl::OkStatus();
}

}  // namespace

void EncodeSocket(const SocketState& state, ByteWriter* out) {
  size_t begin = out->BeginRecord(KM_SOCKET_SPEC);
  for (int field : {state.family, state.type, state.protocol}) {
    out->U32(static_cast<uint32_t>(field));
  }
  out->EndRecord(begin);
  begin = out->BeginRecord(KM_SOCKET_CONDITION);
  for (uint32_t field :
       {state.condition, state.backlog, state.waiting, state.shut, state.port_chosen ? 1u : 0u}) {
    out->U32(field);
  }
  out->EndRecord(begin);
  if (state.condition == KM_SOCKET_PAIRED) {
    begin = out->BeginRecord(KM_SOCKET_PAIR);
    out->U32(state.pair);
    out->U32(state.end);
    out->EndRecord(begin);
  }
  AddressRecord(out, KM_SOCKET_NAME, state.name);
  AddressRecord(out, KM_SOCKET_PEER, state.peer);
  for (const SocketOption& option : state.options) {
    begin = out->BeginRecord(KM_SOCKET_OPTION);
    out->U32(static_cast<uint32_t>(option.level));
    out->U32(static_cast<uint32_t>(option.name));
    out->Bytes(option.value);
    out->EndRecord(begin);
  }
  for (const SocketMessage& message : state.messages) {
    begin = out->BeginRecord(KM_SOCKET_MESSAGE);
    WriteBytes(out, message.sender);
    out->U32(static_cast<uint32_t>(message.descriptions.size()));
    for (uint32_t id : message.descriptions) out->U32(id);
    out->Bytes(message.bytes);
    out->EndRecord(begin);
    if (!message.credentials.has_value()) continue;
    begin = out->BeginRecord(KM_SOCKET_CREDENTIALS);
    out->U32(static_cast<uint32_t>(message.credentials->pid));
    out->U32(message.credentials->uid);
    out->U32(message.credentials->gid);
    out->EndRecord(begin);
  }
  if (!state.filter.empty()) {
    begin = out->BeginRecord(KM_SOCKET_FILTER);
    out->Bytes(state.filter);
    out->EndRecord(begin);
  }
  if (state.file.has_value()) {
    begin = out->BeginRecord(KM_SOCKET_FILE);
    for (uint32_t field : {state.file->mode, state.file->owner.uid, state.file->owner.gid,
                           state.file->removed ? 1u : 0u}) {
      out->U32(field);
    }
    out->CountedText(state.file->path);
    out->EndRecord(begin);
  }
  if (state.tcp.has_value()) {
    begin = out->BeginRecord(KM_SOCKET_TCP);
    EncodeTcpConnection(*state.tcp, out);
    out->EndRecord(begin);
  }
}

bool IsInet(const SocketState& state) {
  return state.family == AF_INET || state.family == AF_INET6;
}
bool IsTcp(const SocketState& state) {
  return IsInet(state) && state.type == SOCK_STREAM && state.protocol == IPPROTO_TCP;
}

std::string SocketPlaceText(const SocketState& state) {
  const bool renamed = state.file.has_value() && !state.file->path.empty();
  return renamed ? state.file->path : SocketAddressText(state.name);
}

absl::StatusOr<SocketState> DecodeSocket(const FileRecord& record) {
  SocketState state;
  KM_RETURN_IF_ERROR(ForEachRecord(ByteReader(record.state), [&](uint32_t tag, ByteReader* value) {
    return ReadField(tag, value, &state);
  }));
  KM_RETURN_IF_ERROR(Check(state));
  return state;
}

}  // namespace km
