#include "km/files/socket_filter.h"

#include <linux/filter.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>

namespace km {
namespace {

constexpr int kGetFilter = SO_ATTACH_FILTER;  // SO_GET_FILTER: the same number, to be got

}  // namespace

std::vector<uint8_t> SocketFilter(int fd) {
  socklen_t count = 0;  // of instructions
  if (getsockopt(fd, SOL_SOCKET, kGetFilter, nullptr, &count) != 0 || count == 0) return {};
  std::vector<uint8_t> instructions(count * sizeof(sock_filter));
  if (getsockopt(fd, SOL_SOCKET, kGetFilter, instructions.data(), &count) != 0) return {};
  return instructions;
}

bool SetSocketFilter(int fd, absl::Span<const uint8_t> instructions) {
  if (instructions.empty()) {
    const int none = 0;
    return setsockopt(fd, SOL_SOCKET, SO_DETACH_FILTER, &none, sizeof(none)) == 0 ||
           errno == ENOENT;
  }
  std::vector<sock_filter> code(instructions.size() / sizeof(sock_filter));
  std::memcpy(code.data(), instructions.data(), code.size() * sizeof(sock_filter));
  const sock_fprog program = {static_cast<uint16_t>(code.size()), code.data()};
  return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)) == 0;
}

bool IsSocketFilter(absl::Span<const uint8_t> instructions) {
  return instructions.size() % sizeof(sock_filter) == 0 &&
         instructions.size() / sizeof(sock_filter) <= BPF_MAXINSNS;
}

}  // namespace km
