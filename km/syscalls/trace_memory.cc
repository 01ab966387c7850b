// Strings, bytes and arrays of the program as text. All reads are bounded.
#include <linux/aio_abi.h>
#include <linux/limits.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/uio.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "km/syscalls/trace_format.h"

namespace km {
namespace {

constexpr size_t kShownBytes = 32;           // of a buffer, as strace does
constexpr uint64_t kShownElements = 32;      // of an array
constexpr uint64_t kCountedBytes = 1 << 20;  // of directory entries
// Aligned pieces of this size lie in one page.
constexpr size_t kPiece = 64;

std::string QuoteSome(absl::string_view bytes, bool more) {
  return QuoteBytes(bytes) + (more ? "..." : "");
}

// A NUL-terminated string, of which at most `limit` bytes are shown.
std::string FormatString(uint64_t address, size_t limit, GuestReader read) {
  std::string text;
  while (text.size() <= limit) {
    char piece[kPiece];
    uint64_t from = address + text.size();
    size_t size = kPiece - from % kPiece;
    if (!read(piece, from, size)) return FormatAddress(address);
    size_t length = strnlen(piece, size);
    text.append(piece, length);
    if (length < size) break;
  }
  return QuoteSome(absl::string_view(text).substr(0, limit), text.size() > limit);
}

std::string FormatBytes(uint64_t address, uint64_t size, size_t limit, GuestReader read) {
  std::string bytes(std::min<uint64_t>(size, limit), '\0');
  if (!read(bytes.data(), address, bytes.size())) return FormatAddress(address);
  return QuoteSome(bytes, size > limit);
}

// "[a, b, ...]": `element` makes the text of one, and says false when it cannot be read.
std::string FormatList(uint64_t address, uint64_t count, size_t element_size,
                       absl::FunctionRef<bool(uint64_t address, std::string* text)> element) {
  std::string list = "[";
  for (uint64_t i = 0; i < std::min(count, kShownElements); ++i) {
    std::string text;
    uint64_t at = address + i * element_size;
    if (!element(at, &text)) {
      if (i == 0) return FormatAddress(address);
      text = absl::StrCat("... /* ", FormatAddress(at), " */");
      return absl::StrCat(list, ", ", text, "]");
    }
    absl::StrAppend(&list, i == 0 ? "" : ", ", text);
  }
  return absl::StrCat(list, count > kShownElements ? ", ..." : "", "]");
}

std::string FormatPollfds(const TraceValue& value, uint64_t count) {
  return FormatList(value.address(), count, sizeof(pollfd), [&](uint64_t at, std::string* text) {
    pollfd poll;
    if (!value.read(&poll, at, sizeof(poll))) return false;
    *text = absl::StrCat(
        "{fd=", poll.fd,
        ", events=", FormatScalar("poll_events", static_cast<uint16_t>(poll.events)).value_or(""),
        "}");
    return true;
  });
}

std::string FormatEpollEvents(const TraceValue& value, uint64_t count) {
  return FormatList(
      value.address(), count, sizeof(epoll_event), [&](uint64_t at, std::string* text) {
        epoll_event event;
        if (!value.read(&event, at, sizeof(event))) return false;
        uint64_t data = event.data.u64;
        *text = absl::StrFormat("{events=%s, data={u32=%u, u64=%u}}",
                                FormatScalar("epoll_events", event.events).value_or(""),
                                static_cast<uint32_t>(data), data);
        return true;
      });
}

// The iocbs that io_submit(2) is given the addresses of.
std::string FormatIocbs(const TraceValue& value, uint64_t count) {
  return FormatList(value.address(), count, sizeof(uint64_t), [&](uint64_t at, std::string* text) {
    CallArguments one = {};
    if (!value.read(&one[0], at, sizeof(one[0]))) return false;
    *text =
        FormatStruct("iocb_in", {one, 0, std::nullopt, value.read}).value_or(FormatAddress(one[0]));
    return true;
  });
}

std::string FormatIoEvents(const TraceValue& value, uint64_t count) {
  return FormatList(value.address(), count, sizeof(io_event), [&](uint64_t at, std::string* text) {
    io_event event;
    if (!value.read(&event, at, sizeof(event))) return false;
    *text = absl::StrFormat("{data=%#x, obj=%#x, res=%d, res2=%d}", event.data, event.obj,
                            event.res, event.res2);
    return true;
  });
}

// Numbers of the bits set, of a bit map of `bits` bits.
std::string FormatBits(uint64_t address, uint64_t bits, GuestReader read) {
  bits = std::min<uint64_t>(bits, FD_SETSIZE * 8);
  std::vector<uint8_t> map((bits + 7) / 8);
  if (map.empty()) return "[]";
  if (!read(map.data(), address, map.size())) return FormatAddress(address);
  std::vector<std::string> set;
  for (size_t bit = 0; bit < bits; ++bit) {
    if ((map[bit / 8] >> (bit % 8) & 1) == 0) continue;
    if (set.size() == kShownElements) {
      set.push_back("...");
      break;
    }
    set.push_back(absl::StrCat(bit));
  }
  return absl::StrCat("[", absl::StrJoin(set, " "), "]");
}

// A null-terminated array of strings: execve(2).
std::string FormatStrings(const TraceValue& value) {
  std::string list = "[";
  for (uint64_t i = 0; i < kShownElements; ++i) {
    uint64_t string = 0;
    if (!value.read(&string, value.address() + i * sizeof(string), sizeof(string))) {
      return FormatAddress(value.address());
    }
    if (string == 0) return list + "]";
    absl::StrAppend(&list, i == 0 ? "" : ", ", FormatString(string, kShownBytes, value.read));
  }
  return list + ", ...]";
}

std::string FormatDirents(const TraceValue& value, uint64_t size) {
  // struct linux_dirent64 and linux_dirent both have the record's length there.
  constexpr uint64_t kLengthAt = 16;
  constexpr uint64_t kSmallest = kLengthAt + sizeof(uint16_t);
  uint64_t entries = 0;
  for (uint64_t at = 0; at + kSmallest <= std::min(size, kCountedBytes); ++entries) {
    uint16_t length = 0;
    if (!value.read(&length, value.address() + at + kLengthAt, sizeof(length))) break;
    if (length < kSmallest) break;
    at += length;
  }
  return absl::StrFormat("%s /* %d entries */", FormatAddress(value.address()), entries);
}

// What the suffix of a kind stands for.
uint64_t CountOf(absl::string_view count, const TraceValue& value) {
  if (count == "ret") return static_cast<uint64_t>(std::max<int64_t>(value.result.value_or(0), 0));
  uint64_t place = 0;
  return absl::SimpleAtoi(count, &place) && place < value.arguments.size() ? value.arguments[place]
                                                                           : 0;
}

}  // namespace

std::optional<std::string> FormatArray(absl::string_view kind, absl::string_view suffix,
                                       const TraceValue& value) {
  uint64_t address = value.address();
  uint64_t count = CountOf(suffix, value);
  if (kind == "path") return FormatString(address, PATH_MAX, value.read);
  if (kind == "path_out") {
    return suffix.empty() ? FormatString(address, PATH_MAX, value.read)
                          : FormatBytes(address, count, PATH_MAX, value.read);
  }
  if (kind == "str" || kind == "str_out") return FormatString(address, kShownBytes, value.read);
  if (kind == "strings") return FormatStrings(value);
  if (kind == "in" || kind == "out") return FormatBytes(address, count, kShownBytes, value.read);
  if (kind == "iovec_in") return FormatIovecs(address, count, std::nullopt, value.read);
  if (kind == "iovec_out") {
    return FormatIovecs(address, count,
                        static_cast<uint64_t>(std::max<int64_t>(value.result.value_or(0), 0)),
                        value.read);
  }
  if (kind == "pollfds") return FormatPollfds(value, static_cast<uint32_t>(count));
  if (kind == "epoll_events_out") return FormatEpollEvents(value, count);
  if (kind == "iocbs") return FormatIocbs(value, count);
  if (kind == "io_events_out") return FormatIoEvents(value, count);
  if (kind == "fdset") return FormatBits(address, count, value.read);
  if (kind == "cpuset_in" || kind == "cpuset_out") {
    return FormatBits(address, std::min<uint64_t>(count, FD_SETSIZE) * 8, value.read);
  }
  if (kind == "dirents_out") return FormatDirents(value, count);
  return FormatSocket(kind, count, value);
}

std::string FormatIovecs(uint64_t address, uint64_t count, std::optional<uint64_t> written,
                         GuestReader read) {
  uint64_t left = written.value_or(~uint64_t{0});
  return FormatList(address, count, sizeof(iovec), [&](uint64_t at, std::string* text) {
    iovec vector;
    if (!read(&vector, at, sizeof(vector))) return false;
    uint64_t size = std::min<uint64_t>(vector.iov_len, left);
    left -= size;
    *text = absl::StrCat(
        "{iov_base=",
        FormatBytes(reinterpret_cast<uint64_t>(vector.iov_base), size, kShownBytes, read),
        ", iov_len=", vector.iov_len, "}");
    return true;
  });
}

std::string FormatAddress(uint64_t address) {
  return address == 0 ? "NULL" : absl::StrFormat("%#x", address);
}

std::string QuoteBytes(absl::string_view bytes) {
  std::string text = "\"";
  for (size_t i = 0; i < bytes.size(); ++i) {
    unsigned char c = static_cast<unsigned char>(bytes[i]);
    constexpr absl::string_view kNamed = "\t\n\v\f\r\"\\";
    if (size_t named = kNamed.find(bytes[i]); named != kNamed.npos) {
      text += '\\';
      text += "tnvfr\"\\"[named];
    } else if (c >= 0x20 && c < 0x7f) {
      text += bytes[i];
    } else {
      // A digit that follows must not become part of it.
      bool digit = i + 1 < bytes.size() && bytes[i + 1] >= '0' && bytes[i + 1] <= '9';
      text += digit ? absl::StrFormat("\\%03o", c) : absl::StrFormat("\\%o", c);
    }
  }
  return text + "\"";
}

std::string FormatPollResult(const CallArguments& arguments, int64_t ready, GuestReader read) {
  std::vector<std::string> shown;
  uint64_t count = std::min<uint64_t>(static_cast<uint32_t>(arguments[1]), FD_SETSIZE);
  for (uint64_t i = 0; i < count && ready > 0 && shown.size() < kShownElements; ++i) {
    pollfd poll;
    if (!read(&poll, arguments[0] + i * sizeof(poll), sizeof(poll))) break;
    if (poll.revents == 0) continue;
    --ready;
    shown.push_back(absl::StrCat(
        "{fd=", poll.fd, ", revents=",
        FormatScalar("poll_events", static_cast<uint16_t>(poll.revents)).value_or(""), "}"));
  }
  return absl::StrCat("([", absl::StrJoin(shown, ", "), ready > 0 ? ", ..." : "", "])");
}

std::string FormatSelectResult(const CallArguments& arguments, GuestReader read) {
  constexpr const char* kNames[] = {"in", "out", "except"};
  std::vector<std::string> shown;
  for (size_t i = 0; i < 3; ++i) {
    if (arguments[i + 1] == 0) continue;
    std::string bits = FormatBits(arguments[i + 1], static_cast<uint32_t>(arguments[0]), read);
    if (bits != "[]") shown.push_back(absl::StrCat(kNames[i], " ", bits));
  }
  return absl::StrCat("(", absl::StrJoin(shown, ", "), ")");
}

}  // namespace km
