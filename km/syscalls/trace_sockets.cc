// Socket addresses, messages and options as text. All reads are bounded: the program may change
// what is shown at any time.
#include <arpa/inet.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <iterator>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/types/span.h"
#include "km/syscalls/socket_control.h"
#include "km/syscalls/trace_format.h"

namespace km {
namespace {

constexpr size_t kShownBytes = 32;
constexpr size_t kShownControl = 4096;
constexpr uint64_t kShownMessages = 8;
constexpr size_t kShownFds = 32;

std::string Names(absl::string_view kind, uint64_t value) {
  return FormatScalar(kind, value).value_or("");
}

std::string Bytes(absl::string_view bytes) {
  return absl::StrCat(QuoteBytes(bytes.substr(0, kShownBytes)),
                      bytes.size() > kShownBytes ? "..." : "");
}

// Names of options and of control messages, which mostly are options' names.
struct OptionName {
  int level, name;
  absl::string_view text;
};
#define KM_OPTION(level, name) \
  { level, name, #name }
constexpr OptionName kOptions[] = {
    KM_OPTION(SOL_SOCKET, SO_DEBUG),
    KM_OPTION(SOL_SOCKET, SO_REUSEADDR),
    KM_OPTION(SOL_SOCKET, SO_TYPE),
    KM_OPTION(SOL_SOCKET, SO_ERROR),
    KM_OPTION(SOL_SOCKET, SO_DONTROUTE),
    KM_OPTION(SOL_SOCKET, SO_BROADCAST),
    KM_OPTION(SOL_SOCKET, SO_SNDBUF),
    KM_OPTION(SOL_SOCKET, SO_RCVBUF),
    KM_OPTION(SOL_SOCKET, SO_KEEPALIVE),
    KM_OPTION(SOL_SOCKET, SO_OOBINLINE),
    KM_OPTION(SOL_SOCKET, SO_PRIORITY),
    KM_OPTION(SOL_SOCKET, SO_LINGER),
    KM_OPTION(SOL_SOCKET, SO_REUSEPORT),
    KM_OPTION(SOL_SOCKET, SO_PASSCRED),
    KM_OPTION(SOL_SOCKET, SO_PEERCRED),
    KM_OPTION(SOL_SOCKET, SO_RCVLOWAT),
    KM_OPTION(SOL_SOCKET, SO_SNDLOWAT),
    KM_OPTION(SOL_SOCKET, SO_RCVTIMEO),
    KM_OPTION(SOL_SOCKET, SO_SNDTIMEO),
    KM_OPTION(SOL_SOCKET, SO_BINDTODEVICE),
    KM_OPTION(SOL_SOCKET, SO_ATTACH_FILTER),
    KM_OPTION(SOL_SOCKET, SO_DETACH_FILTER),
    KM_OPTION(SOL_SOCKET, SO_PEERNAME),
    KM_OPTION(SOL_SOCKET, SO_TIMESTAMP),
    KM_OPTION(SOL_SOCKET, SO_ACCEPTCONN),
    KM_OPTION(SOL_SOCKET, SO_PEERSEC),
    KM_OPTION(SOL_SOCKET, SO_SNDBUFFORCE),
    KM_OPTION(SOL_SOCKET, SO_RCVBUFFORCE),
    KM_OPTION(SOL_SOCKET, SO_PASSSEC),
    KM_OPTION(SOL_SOCKET, SO_TIMESTAMPNS),
    KM_OPTION(SOL_SOCKET, SO_MARK),
    KM_OPTION(SOL_SOCKET, SO_TIMESTAMPING),
    KM_OPTION(SOL_SOCKET, SO_PROTOCOL),
    KM_OPTION(SOL_SOCKET, SO_DOMAIN),
    KM_OPTION(SOL_SOCKET, SO_RXQ_OVFL),
    KM_OPTION(SOL_SOCKET, SO_PEEK_OFF),
    KM_OPTION(SOL_SOCKET, SO_BUSY_POLL),
    KM_OPTION(SOL_SOCKET, SO_INCOMING_CPU),
    KM_OPTION(SOL_SOCKET, SO_COOKIE),
    KM_OPTION(SOL_SOCKET, SO_PEERGROUPS),
    KM_OPTION(SOL_SOCKET, SO_ZEROCOPY),
    KM_OPTION(IPPROTO_IP, IP_TOS),
    KM_OPTION(IPPROTO_IP, IP_TTL),
    KM_OPTION(IPPROTO_IP, IP_HDRINCL),
    KM_OPTION(IPPROTO_IP, IP_OPTIONS),
    KM_OPTION(IPPROTO_IP, IP_PKTINFO),
    KM_OPTION(IPPROTO_IP, IP_MTU_DISCOVER),
    KM_OPTION(IPPROTO_IP, IP_RECVERR),
    KM_OPTION(IPPROTO_IP, IP_RECVTTL),
    KM_OPTION(IPPROTO_IP, IP_RECVTOS),
    KM_OPTION(IPPROTO_IP, IP_MTU),
    KM_OPTION(IPPROTO_IP, IP_FREEBIND),
    KM_OPTION(IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT),
    KM_OPTION(IPPROTO_IP, IP_MULTICAST_IF),
    KM_OPTION(IPPROTO_IP, IP_MULTICAST_TTL),
    KM_OPTION(IPPROTO_IP, IP_MULTICAST_LOOP),
    KM_OPTION(IPPROTO_IP, IP_ADD_MEMBERSHIP),
    KM_OPTION(IPPROTO_IP, IP_DROP_MEMBERSHIP),
    KM_OPTION(IPPROTO_IPV6, IPV6_UNICAST_HOPS),
    KM_OPTION(IPPROTO_IPV6, IPV6_MULTICAST_IF),
    KM_OPTION(IPPROTO_IPV6, IPV6_MULTICAST_HOPS),
    KM_OPTION(IPPROTO_IPV6, IPV6_MULTICAST_LOOP),
    KM_OPTION(IPPROTO_IPV6, IPV6_MTU_DISCOVER),
    KM_OPTION(IPPROTO_IPV6, IPV6_RECVERR),
    KM_OPTION(IPPROTO_IPV6, IPV6_V6ONLY),
    KM_OPTION(IPPROTO_IPV6, IPV6_RECVPKTINFO),
    KM_OPTION(IPPROTO_IPV6, IPV6_PKTINFO),
    KM_OPTION(IPPROTO_IPV6, IPV6_RECVHOPLIMIT),
    KM_OPTION(IPPROTO_IPV6, IPV6_HOPLIMIT),
    KM_OPTION(IPPROTO_IPV6, IPV6_RECVTCLASS),
    KM_OPTION(IPPROTO_IPV6, IPV6_TCLASS),
    KM_OPTION(IPPROTO_TCP, TCP_NODELAY),
    KM_OPTION(IPPROTO_TCP, TCP_MAXSEG),
    KM_OPTION(IPPROTO_TCP, TCP_CORK),
    KM_OPTION(IPPROTO_TCP, TCP_KEEPIDLE),
    KM_OPTION(IPPROTO_TCP, TCP_KEEPINTVL),
    KM_OPTION(IPPROTO_TCP, TCP_KEEPCNT),
    KM_OPTION(IPPROTO_TCP, TCP_SYNCNT),
    KM_OPTION(IPPROTO_TCP, TCP_LINGER2),
    KM_OPTION(IPPROTO_TCP, TCP_DEFER_ACCEPT),
    KM_OPTION(IPPROTO_TCP, TCP_INFO),
    KM_OPTION(IPPROTO_TCP, TCP_QUICKACK),
    KM_OPTION(IPPROTO_TCP, TCP_CONGESTION),
    KM_OPTION(IPPROTO_TCP, TCP_USER_TIMEOUT),
    KM_OPTION(IPPROTO_TCP, TCP_FASTOPEN),
    KM_OPTION(IPPROTO_TCP, TCP_FASTOPEN_CONNECT),
    KM_OPTION(IPPROTO_TCP, TCP_ULP),
    KM_OPTION(IPPROTO_UDP, UDP_CORK),
    KM_OPTION(IPPROTO_UDP, UDP_SEGMENT),
    KM_OPTION(IPPROTO_UDP, UDP_GRO),
    KM_OPTION(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP),
    KM_OPTION(SOL_NETLINK, NETLINK_DROP_MEMBERSHIP),
    KM_OPTION(SOL_NETLINK, NETLINK_PKTINFO),
    KM_OPTION(SOL_NETLINK, NETLINK_EXT_ACK),
    KM_OPTION(SOL_NETLINK, NETLINK_GET_STRICT_CHK),
};
#undef KM_OPTION

std::string NameOfOption(int level, int name) {
  auto known = std::find_if(std::begin(kOptions), std::end(kOptions), [&](const OptionName& o) {
    return o.level == level && o.name == name;
  });
  return known != std::end(kOptions) ? std::string(known->text) : absl::StrFormat("%#x", name);
}

std::string ControlTypeName(int level, int type) {
  if (level == SOL_SOCKET && type == SCM_RIGHTS) return "SCM_RIGHTS";
  if (level == SOL_SOCKET && type == SCM_CREDENTIALS) return "SCM_CREDENTIALS";
  return NameOfOption(level, type);
}

template <typename T>
T Read(absl::string_view bytes) {
  T value = {};
  std::memcpy(&value, bytes.data(), std::min(bytes.size(), sizeof(value)));
  return value;
}

std::string InetText(in_addr address) {
  char text[INET_ADDRSTRLEN];
  return inet_ntop(AF_INET, &address, text, sizeof(text));
}

std::string UnixText(absl::string_view bytes) {
  absl::string_view path = bytes.substr(offsetof(sockaddr_un, sun_path));
  if (path.empty()) return "{sa_family=AF_UNIX}";
  if (path[0] == '\0') {
    return absl::StrCat("{sa_family=AF_UNIX, sun_path=@", QuoteBytes(path.substr(1)), "}");
  }
  return absl::StrCat("{sa_family=AF_UNIX, sun_path=", QuoteBytes(path.substr(0, path.find('\0'))),
                      "}");
}

std::string AddressText(absl::string_view bytes) {
  if (bytes.size() < sizeof(sa_family_t)) return Bytes(bytes);
  auto family = Read<sa_family_t>(bytes);
  if (family == AF_UNIX) return UnixText(bytes);
  if (family == AF_INET && bytes.size() >= sizeof(sockaddr_in)) {
    auto in = Read<sockaddr_in>(bytes);
    return absl::StrFormat("{sa_family=AF_INET, sin_port=htons(%d), sin_addr=inet_addr(\"%s\")}",
                           ntohs(in.sin_port), InetText(in.sin_addr));
  }
  if (family == AF_INET6 && bytes.size() >= sizeof(sockaddr_in6)) {
    auto in = Read<sockaddr_in6>(bytes);
    char host[INET6_ADDRSTRLEN];
    return absl::StrFormat(
        "{sa_family=AF_INET6, sin6_port=htons(%d), sin6_flowinfo=htonl(%u), inet_pton(AF_INET6, "
        "\"%s\", &sin6_addr), sin6_scope_id=%u}",
        ntohs(in.sin6_port), ntohl(in.sin6_flowinfo),
        inet_ntop(AF_INET6, &in.sin6_addr, host, sizeof(host)), in.sin6_scope_id);
  }
  if (family == AF_NETLINK && bytes.size() >= sizeof(sockaddr_nl)) {
    auto nl = Read<sockaddr_nl>(bytes);
    return absl::StrFormat("{sa_family=AF_NETLINK, nl_pid=%d, nl_groups=%08x}", nl.nl_pid,
                           nl.nl_groups);
  }
  return absl::StrCat("{sa_family=", Names("domain", family),
                      ", sa_data=", Bytes(bytes.substr(sizeof(family))), "}");
}

std::string AddressAt(uint64_t address, uint64_t length, GuestReader read) {
  std::string bytes(std::min<uint64_t>(length, sizeof(sockaddr_storage)), '\0');
  if (address == 0 || bytes.empty() || !read(bytes.data(), address, bytes.size())) {
    return FormatAddress(address);
  }
  return AddressText(bytes);
}

// The length is the argument behind the address, or lies where that points to.
std::string SocketAddress(const TraceValue& value, bool length_in_memory) {
  uint64_t length = static_cast<uint32_t>(value.arguments[value.index + 1]);
  if (length_in_memory) {
    uint32_t written = 0;
    if (!value.read(&written, value.arguments[value.index + 1], sizeof(written))) written = 0;
    length = written;
  }
  return AddressAt(value.address(), length, value.read);
}

std::string Ints(absl::string_view bytes) {
  std::vector<std::string> shown;
  for (size_t at = 0; at + sizeof(int) <= bytes.size(); at += sizeof(int)) {
    if (shown.size() == kShownFds) {
      shown.push_back("...");
      break;
    }
    shown.push_back(absl::StrCat(Read<int>(bytes.substr(at))));
  }
  return absl::StrCat("[", absl::StrJoin(shown, ", "), "]");
}

std::string CredentialsText(absl::string_view bytes) {
  auto who = Read<ucred>(bytes);
  return absl::StrCat("{pid=", who.pid, ", uid=", who.uid, ", gid=", who.gid, "}");
}

std::string TimevalText(absl::string_view bytes) {
  auto time = Read<timeval>(bytes);
  return absl::StrCat("{tv_sec=", time.tv_sec, ", tv_usec=", time.tv_usec, "}");
}

std::string ControlData(int level, int type, absl::string_view data) {
  constexpr int kNanoseconds = 35, kMicroseconds = 29;  // SO_TIMESTAMPNS_OLD, SO_TIMESTAMP_OLD
  if (level == SOL_SOCKET && type == SCM_RIGHTS) return Ints(data);
  if (level == SOL_SOCKET && type == SCM_CREDENTIALS && data.size() == sizeof(ucred)) {
    return CredentialsText(data);
  }
  if (level == SOL_SOCKET && type == kMicroseconds && data.size() == sizeof(timeval)) {
    return TimevalText(data);
  }
  if (level == SOL_SOCKET && type == kNanoseconds && data.size() == sizeof(timespec)) {
    auto time = Read<timespec>(data);
    return absl::StrCat("{tv_sec=", time.tv_sec, ", tv_nsec=", time.tv_nsec, "}");
  }
  if (level == IPPROTO_IP && type == IP_PKTINFO && data.size() == sizeof(in_pktinfo)) {
    auto info = Read<in_pktinfo>(data);
    return absl::StrFormat(
        "{ipi_ifindex=%d, ipi_spec_dst=inet_addr(\"%s\"), ipi_addr=inet_addr(\"%s\")}",
        info.ipi_ifindex, InetText(info.ipi_spec_dst), InetText(info.ipi_addr));
  }
  return data.size() == sizeof(int) ? Ints(data) : Bytes(data);
}

std::string ControlText(absl::Span<char> control) {
  std::vector<std::string> shown;
  ControlMessage message;
  while (NextControl(&control, &message)) {
    absl::string_view data(message.data.data(), message.data.size());
    shown.push_back(
        absl::StrCat("{cmsg_len=", CMSG_LEN(data.size()),
                     ", cmsg_level=", Names("sockopt_level", static_cast<uint32_t>(message.level)),
                     ", cmsg_type=", ControlTypeName(message.level, message.type),
                     data.empty() ? "" : ", cmsg_data=",
                     data.empty() ? "" : ControlData(message.level, message.type, data), "}"));
  }
  return absl::StrCat("[", absl::StrJoin(shown, ", "), "]");
}

// ", msg_control=[...]", or nothing when there is none.
std::string ControlAt(uint64_t address, uint64_t length, GuestReader read) {
  if (length == 0) return "";
  std::vector<char> bytes(std::min<uint64_t>(length, kShownControl));
  if (address == 0 || !read(bytes.data(), address, bytes.size())) {
    return absl::StrCat(", msg_control=", FormatAddress(address));
  }
  return absl::StrCat(", msg_control=", ControlText(absl::MakeSpan(bytes)));
}

std::string MessageText(const msghdr& header, std::optional<uint64_t> written, GuestReader read) {
  return absl::StrCat(
      "{msg_name=",
      AddressAt(reinterpret_cast<uint64_t>(header.msg_name), header.msg_namelen, read),
      ", msg_namelen=", header.msg_namelen, ", msg_iov=",
      FormatIovecs(reinterpret_cast<uint64_t>(header.msg_iov), header.msg_iovlen, written, read),
      ", msg_iovlen=", header.msg_iovlen,
      ControlAt(reinterpret_cast<uint64_t>(header.msg_control), header.msg_controllen, read),
      ", msg_controllen=", header.msg_controllen,
      ", msg_flags=", Names("message_flags", static_cast<uint32_t>(header.msg_flags)), "}");
}

std::string Message(const TraceValue& value) {
  msghdr header;
  if (!value.Get(&header)) return FormatAddress(value.address());
  std::optional<uint64_t> written;
  if (value.result.has_value())
    written = static_cast<uint64_t>(std::max<int64_t>(*value.result, 0));
  return MessageText(header, written, value.read);
}

std::string Messages(const TraceValue& value, uint64_t count) {
  std::string list = "[";
  for (uint64_t i = 0; i < std::min(count, kShownMessages); ++i) {
    mmsghdr message;
    if (!value.read(&message, value.address() + i * sizeof(message), sizeof(message))) {
      return i == 0 ? FormatAddress(value.address()) : list + ", ...]";
    }
    std::optional<uint64_t> written;
    if (value.result.has_value()) written = message.msg_len;
    absl::StrAppend(&list, i == 0 ? "" : ", ",
                    "{msg_hdr=", MessageText(message.msg_hdr, written, value.read));
    if (written.has_value()) absl::StrAppend(&list, ", msg_len=", message.msg_len);
    list += "}";
  }
  return list + (count > kShownMessages ? ", ...]" : "]");
}

// The value of an option: its level and name are arguments 1 and 2.
std::string OptionText(const TraceValue& value, uint64_t length) {
  std::string bytes(std::min<uint64_t>(length, kShownBytes + 1), '\0');
  if (!value.read(bytes.data(), value.address(), bytes.size())) {
    return FormatAddress(value.address());
  }
  int level = static_cast<int>(value.arguments[1]), name = static_cast<int>(value.arguments[2]);
  if (level == SOL_SOCKET) {
    if (name == SO_LINGER && length == sizeof(linger)) {
      auto l = Read<linger>(bytes);
      return absl::StrCat("{l_onoff=", l.l_onoff, ", l_linger=", l.l_linger, "}");
    }
    bool timeout = name == SO_RCVTIMEO || name == SO_SNDTIMEO;
    if (timeout && length == sizeof(timeval)) return TimevalText(bytes);
    if (name == SO_PEERCRED && length == sizeof(ucred)) return CredentialsText(bytes);
  }
  return length == sizeof(int) ? Ints(bytes) : Bytes(bytes);
}

}  // namespace

std::optional<std::string> FormatSocket(absl::string_view kind, uint64_t count,
                                        const TraceValue& value) {
  if (kind == "sockaddr_in") return SocketAddress(value, false);
  if (kind == "sockaddr_out") return SocketAddress(value, true);
  if (kind == "msghdr_in" || kind == "msghdr_out") return Message(value);
  if (kind == "mmsghdr_in" || kind == "mmsghdr_out") return Messages(value, count);
  if (kind == "sockopt_name") {
    return NameOfOption(static_cast<int>(value.arguments[1]), static_cast<int>(value.address()));
  }
  if (kind == "sockopt_in") return OptionText(value, static_cast<uint32_t>(value.arguments[4]));
  if (kind == "sockopt_out") {
    uint32_t length = 0;
    if (!value.read(&length, value.arguments[4], sizeof(length))) return std::nullopt;
    return OptionText(value, length);
  }
  return std::nullopt;
}

}  // namespace km
