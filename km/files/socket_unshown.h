// What a program told a socket that the host does not show: multicast groups that it joined, the
// interface that it sends to others by, and what nothing can ask for at all.
#ifndef KM_FILES_SOCKET_UNSHOWN_H_
#define KM_FILES_SOCKET_UNSHOWN_H_

#include <cstdint>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/span.h"

namespace km {

struct SocketOption;

// Whether setsockopt(2) with it joins or leaves a group, or chooses the interface
// (IP_MULTICAST_IF).
bool IsGroupOption(int level, int name);
// Whether a snapshot may have it: it joins a group, blocks a source of one, or chooses the
// interface by its index.
bool IsMembership(int level, int name, size_t size);

// An option's bit in FileDescription::socket_options; all of them for one that is not told from
// others there.
uint64_t SocketOptionBit(int level, int name);

// Of one socket. The host says of a group that is named to it whether the socket is a member, and
// of which sources: only what to ask for is kept here, as many groups as the host lets it join.
// Thread-safe; the lock is a leaf.
class SocketUnshown {
 public:
  // The host has taken this option. `value`: of IsGroupOption; others may do without.
  void Note(int host_fd, int level, int name, absl::Span<const uint8_t> value)
      ABSL_LOCKS_EXCLUDED(mutex_);
  // Whether Note does anything with this one.
  static bool Notes(int level, int name);

  // Where connect(2) has led it, of datagrams and raw packets: getpeername(2) does not say so of a
  // port of 0, which those without ports have. struct sockaddr_*; empty: nowhere.
  void NotePeer(absl::Span<const uint8_t> peer) ABSL_LOCKS_EXCLUDED(mutex_);
  std::vector<uint8_t> peer() const ABSL_LOCKS_EXCLUDED(mutex_);

  // Whether a message without a byte waits behind others that no look finds again: see
  // SaveSocketQueue.
  void set_hides_empty(bool hides) ABSL_LOCKS_EXCLUDED(mutex_);
  bool hides_empty() const ABSL_LOCKS_EXCLUDED(mutex_);

  // What makes a new socket a member again, and chooses its interface, in order; the interfaces as
  // the program named them.
  std::vector<SocketOption> Memberships(int host_fd) const ABSL_LOCKS_EXCLUDED(mutex_);
  // FailedPrecondition for what a snapshot cannot carry.
  absl::Status Carried() const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  struct Group {
    int level = 0;
    std::vector<uint8_t> address;  // struct sockaddr_in or sockaddr_in6
    uint32_t interface = 0;        // its index on the host
    uint32_t given_index = 0;      // as the program named it; with both 0 the kernel chose it
    uint32_t given_address = 0;    // IPv4, in network order
  };
  static bool Parse(int level, int name, absl::Span<const uint8_t> value, Group* group);
  bool Has(const Group& group) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Join(int host_fd, Group group) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  mutable absl::Mutex mutex_;
  std::vector<Group> groups_ ABSL_GUARDED_BY(mutex_);
  std::vector<uint8_t> sends_by_ ABSL_GUARDED_BY(mutex_);  // struct ip_mreqn; empty: it is shown
  std::vector<uint8_t> peer_ ABSL_GUARDED_BY(mutex_);
  bool hides_empty_ ABSL_GUARDED_BY(mutex_) = false;
  bool selector_ ABSL_GUARDED_BY(mutex_) = false;           // SO_ATTACH_REUSEPORT_CBPF
  const char* obstacle_ ABSL_GUARDED_BY(mutex_) = nullptr;  // why a snapshot cannot carry it
};

}  // namespace km

#endif  // KM_FILES_SOCKET_UNSHOWN_H_
