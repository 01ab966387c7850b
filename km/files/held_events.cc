#include "km/files/held_events.h"

#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstring>
#include <string>
#include <utility>

#include "km/base/log.h"
#include "km/base/owned.h"

namespace km {
namespace {

// linux/inotify.h
constexpr unsigned long kSetNextWatch = _IOW('I', 0, int32_t);
// No program comes to these numbers: the kernel counts up.
constexpr int kFirstMark = INT_MAX - 1000, kLastMark = INT_MAX - 1;
constexpr size_t kMarkSize = sizeof(inotify_event);

// The event at the beginning of what is there. Its size; 0: none is whole.
size_t FirstEvent(const uint8_t* bytes, size_t size, inotify_event* head) {
  if (size < sizeof(*head)) return 0;
  std::memcpy(head, bytes, sizeof(*head));
  return head->len <= size - sizeof(*head) ? sizeof(*head) + head->len : 0;
}

size_t UnreadIn(int host_fd) {
  int unread = 0;
  return ioctl(host_fd, FIONREAD, &unread) == 0 ? static_cast<size_t>(std::max(unread, 0)) : 0;
}

}  // namespace

int SetNextWatch(int host_fd, int number) {
  return ioctl(host_fd, kSetNextWatch, number) == 0 ? 0 : errno;
}

bool AreEvents(const std::vector<uint8_t>& bytes) {
  inotify_event head;
  for (size_t at = 0; at < bytes.size();) {
    const size_t size = FirstEvent(bytes.data() + at, bytes.size() - at, &head);
    if (size == 0) return false;
    at += size;
  }
  return true;
}

// A watch that ends at once leaves one event behind: that it has ended (IN_IGNORED). Each has
// another number, so that only the newest counts, should the queue be too full for one.
int HeldEvents::Mark(int host_fd, int next) {
  const int number =
      last_mark_ < kFirstMark || last_mark_ == kLastMark ? kFirstMark : last_mark_ + 1;
  OwnedFd file(memfd_create("km", MFD_CLOEXEC));
  if (!file.valid()) return errno;
  if (int error = SetNextWatch(host_fd, number); error != 0) return error;
  const std::string path = "/proc/self/fd/" + std::to_string(file.get());
  const int made = inotify_add_watch(host_fd, path.c_str(), IN_MODIFY);
  const int error = made < 0 ? errno : 0;
  (void)SetNextWatch(host_fd, next);
  if (error != 0) return error;
  inotify_rm_watch(host_fd, made);
  mark_ = last_mark_ = made;
  return 0;
}

void HeldEvents::Update() { active_ = !events_.empty() || mark_ != 0; }

// As read(2), but for marks, which only count. Nobody else reads from the instance: see active().
int64_t HeldEvents::ReadInstance(int host_fd, size_t size, std::vector<uint8_t>* events) {
  if (UnreadIn(host_fd) == 0) {
    mark_ = 0;  // it found no room
    return 0;
  }
  std::vector<uint8_t> bytes(std::min<size_t>(size, 64 << 10));
  const ssize_t got = read(host_fd, bytes.data(), bytes.size());
  if (got < 0) return -errno;
  inotify_event head;
  for (size_t at = 0, length = 0;
       (length = FirstEvent(bytes.data() + at, static_cast<size_t>(got) - at, &head)) != 0;
       at += length) {
    if (head.wd >= kFirstMark) {
      if (head.wd == mark_) mark_ = 0;
      continue;
    }
    events->insert(events->end(), bytes.data() + at, bytes.data() + at + length);
  }
  return got;
}

// When nothing is held any more the mark would say that there is something. What comes before it
// and is as short is held instead; a longer event says so itself.
void HeldEvents::DropMark(int host_fd) {
  while (mark_ != 0 && events_.empty() && ReadInstance(host_fd, kMarkSize, &events_) > 0) continue;
  Update();
}

int HeldEvents::Hold(int host_fd, int next) {
  absl::MutexLock lock(&mutex_);
  const size_t unread = UnreadIn(host_fd);
  if (unread == 0 && !active_) return 0;
  // What comes from here on is behind the mark, or little before it: in the right order in any
  // case.
  if (int error = Mark(host_fd, next); error != 0) return error;
  for (size_t left = unread; left != 0;) {
    const int64_t got = ReadInstance(host_fd, left, &events_);
    if (got <= 0) break;
    left -= static_cast<size_t>(got);
  }
  // In a queue that was too full for the mark there is room now.
  if (!events_.empty() && UnreadIn(host_fd) == 0 && Mark(host_fd, next) != 0) {
    Log(LogLevel::kError, "poll and epoll will not tell of inotify events that are unread");
  }
  DropMark(host_fd);
  return 0;
}

int HeldEvents::Put(int host_fd, int next, std::vector<uint8_t> events) {
  if (events.empty()) return 0;
  absl::MutexLock lock(&mutex_);
  events_ = std::move(events);
  const int error = Mark(host_fd, next);
  Update();
  return error;
}

std::vector<uint8_t> HeldEvents::events() const {
  absl::MutexLock lock(&mutex_);
  return events_;
}

int HeldEvents::Read(int host_fd, size_t size, std::vector<uint8_t>* events) {
  absl::MutexLock lock(&mutex_);
  if (!active_) return 0;
  if (events_.empty()) {
    const int64_t got = ReadInstance(host_fd, size, events);
    DropMark(host_fd);
    return got < 0 ? static_cast<int>(-got) : 0;
  }
  inotify_event head;
  size_t end = 0;
  while (size_t length = FirstEvent(events_.data() + end, events_.size() - end, &head)) {
    if (length > size - end) break;
    end += length;
  }
  if (end == 0) return EINVAL;
  const auto stop = events_.begin() + static_cast<ptrdiff_t>(end);
  events->assign(events_.begin(), stop);
  events_.erase(events_.begin(), stop);
  DropMark(host_fd);
  return 0;
}

int64_t HeldEvents::AddWatch(int host_fd, const char* path, uint32_t mask) {
  absl::MutexLock lock(&mutex_);
  const int number = inotify_add_watch(host_fd, path, mask);
  return number >= 0 ? number : -errno;
}

size_t HeldEvents::Unread(int host_fd) const {
  absl::MutexLock lock(&mutex_);
  const size_t unread = UnreadIn(host_fd);
  return events_.size() + unread - (mark_ != 0 ? std::min(unread, kMarkSize) : 0);
}

}  // namespace km
