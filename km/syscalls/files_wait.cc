// Waiting for descriptors.
#include <poll.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <optional>
#include <vector>

#include "km/base/host_call.h"
#include "km/process/clock.h"
#include "km/signals/signal_set.h"
#include "km/syscalls/handlers.h"
#include "km/syscalls/host.h"
#include "km/syscalls/paths.h"
#include "km/syscalls/signal_masks.h"

namespace km {
namespace {

constexpr int64_t kForever = -1;
constexpr size_t kWordBits = 64;
// What stands for a signalfd could be written to, but the signalfd cannot.
constexpr short kWriting = POLLOUT | POLLWRNORM | POLLWRBAND;

// As the kernel: a timeout beyond all clocks lasts for ever.
int64_t Timeout(int64_t seconds, int64_t nanoseconds) {
  constexpr int64_t kMostSeconds = INT64_MAX / kNanosecondsPerSecond / 2;
  if (seconds >= kMostSeconds) return kForever;
  return seconds * kNanosecondsPerSecond + nanoseconds;
}

// A timespec or, with `unit` 1000, a timeval argument in nanoseconds.
int TimeoutArg(const Call& call, size_t i, int64_t unit, int64_t* timeout) {
  *timeout = kForever;
  if (call.Addr(i).null()) return 0;
  timespec time;
  if (int error = call.memory().CopyIn(&time, call.Addr(i)); error != 0) return error;
  if (unit != 1) {  // select(2) carries what exceeds a second
    if (__builtin_add_overflow(time.tv_sec, time.tv_nsec / 1000000, &time.tv_sec)) return -EINVAL;
    time.tv_nsec = time.tv_nsec % 1000000 * unit;
  }
  if (time.tv_sec < 0 || time.tv_nsec < 0 || time.tv_nsec >= kNanosecondsPerSecond) return -EINVAL;
  *timeout = Timeout(time.tv_sec, time.tv_nsec);
  return 0;
}

// A wait that may be made again after an interruption, and then goes on with what remains.
class Wait {
 public:
  Wait(Call& call, int64_t timeout) : call_(call) {
    std::optional<int64_t>& deadline = call.thread.deadline_ns;
    if (timeout > 0 && !deadline.has_value()) deadline = Now() + timeout;
    at_once_ = timeout == 0;
    if (timeout > 0) deadline_ = deadline;
  }
  void DoNotBlock() { at_once_ = true; }

  // For the host call: null is for ever.
  const timespec* Remaining() {
    if (!at_once_ && !deadline_.has_value()) return nullptr;
    left_ = ToTimespec(at_once_ ? 0 : Left());
    return &left_;
  }

  // Linux writes back what is left, whatever the outcome, except of no time at all; that it cannot
  // is no error.
  void WriteBack(size_t i, int64_t unit) const {
    if (call_.Addr(i).null() || !deadline_.has_value()) return;
    timespec left = ToTimespec(Left());
    left.tv_nsec /= unit;
    call_.memory().CopyOut(call_.Addr(i), left);
  }

 private:
  int64_t Now() const { return call_.process.clock().Monotonic(); }
  int64_t Left() const { return std::max<int64_t>(*deadline_ - Now(), 0); }

  Call& call_;
  bool at_once_ = false;
  std::optional<int64_t> deadline_;
  timespec left_ = {};
};

}  // namespace

int UseMask(Call& call, GuestAddr address, uint64_t size) {
  if (address.null()) return 0;
  if (size != sizeof(SignalSet)) return -EINVAL;
  SignalSet mask = 0;
  if (int error = call.memory().CopyIn(&mask, address); error != 0) return error;
  SignalState& signals = call.process.signals();
  signals.SetTemporaryMask(call.thread.tid, mask & ~kUnblockable);
  // It may be pending already: then nothing will interrupt the wait.
  if (signals.HasDeliverable(call.thread.tid)) call.thread.attention.store(1);
  return 0;
}

namespace {

// Linux looks at the descriptors before the signals: what is ready counts even when a signal waits.
template <typename MakeCall>
int64_t WaitOnHost(Thread& thread, const timespec* timeout, MakeCall make) {
  if (thread.attention.load() != 0) {
    const std::atomic<uint32_t> calm = 0;
    const timespec none = {};
    if (int64_t ready = make(&calm, &none); ready != 0) return ready;
  }
  return make(&thread.attention, timeout);
}

// ---- poll ----

class PollSet {
 public:
  int CopyIn(const Call& call) {
    uint32_t count = call.Uint(1);
    if (count > call.process.files().limit()) return -EINVAL;
    // Beyond the program's addresses nothing may lie, not even no descriptors.
    if (call.HostArg(0, 0) >> 63 != 0) return -EFAULT;
    guest_.resize(count);
    int error = call.memory().CopyIn(guest_.data(), call.Addr(0), guest_.size() * sizeof(pollfd));
    if (error != 0) return error;
    host_ = guest_;
    for (pollfd& entry : host_) {
      entry.revents = 0;
      if (entry.fd < 0) continue;
      auto file = call.process.files().Get(static_cast<uint32_t>(entry.fd));
      entry.fd = file != nullptr ? file->host.get() : -1;
      if (file == nullptr) {
        ++not_open_;
      } else if (file->description->signal_fd != nullptr) {
        entry.events &= static_cast<short>(~kWriting);
      }
      files_.push_back(std::move(file));
    }
    return 0;
  }
  bool HasNotOpen() const { return not_open_ != 0; }

  int64_t Poll(Thread& thread, const timespec* timeout) {
    auto set = reinterpret_cast<uint64_t>(host_.data());
    int64_t ready = WaitOnHost(thread, timeout, [&](auto* flag, const timespec* time) {
      return HostCall(flag, SYS_ppoll, set, host_.size(), reinterpret_cast<uint64_t>(time), 0,
                      sizeof(SignalSet));
    });
    return ready < 0 ? ready : ready + not_open_;
  }

  // Only what Linux stores: another thread may be changing the rest for its next poll.
  int CopyOut(const Call& call) {
    for (size_t i = 0; i < guest_.size(); ++i) {
      const bool not_open = guest_[i].fd >= 0 && host_[i].fd < 0;
      const short revents = not_open ? POLLNVAL : host_[i].revents;
      const GuestAddr to = call.Addr(0) + (i * sizeof(pollfd) + offsetof(pollfd, revents));
      if (int error = call.memory().CopyOut(to, revents); error != 0) return error;
    }
    return 0;
  }

 private:
  std::vector<pollfd> guest_, host_;
  std::vector<std::shared_ptr<OpenFile>> files_;  // open as long as the call lasts
  int64_t not_open_ = 0;
};

int64_t PollFor(Call& call, Wait& wait) {
  PollSet set;
  if (int error = set.CopyIn(call); error != 0) return error;
  if (set.HasNotOpen()) wait.DoNotBlock();
  int64_t ready = set.Poll(call.thread, wait.Remaining());
  if (WasKicked(ready)) return kRestartNoHandler;
  if (ready < 0) return ready;
  if (int error = set.CopyOut(call); error != 0) return error;
  return ready;
}

// ---- select ----

bool Has(const std::vector<uint64_t>& set, size_t i) {
  return i / kWordBits < set.size() && (set[i / kWordBits] >> (i % kWordBits) & 1) != 0;
}
void Add(std::vector<uint64_t>& set, size_t i) {
  if (set.size() <= i / kWordBits) set.resize(i / kWordBits + 1);
  set[i / kWordBits] |= uint64_t{1} << (i % kWordBits);
}

class SelectSets {
 public:
  // Arguments 0 to 3 of the call.
  int CopyIn(const Call& call) {
    if (call.Int(0) < 0) return -EINVAL;
    // What the table has no room for is cut off silently: behind it the set may not go on.
    count_ = std::min<uint64_t>(call.Uint(0), call.process.files().capacity());
    for (size_t s = 0; s < kSets; ++s) {
      if (call.Addr(s + 1).null()) continue;
      guest_[s].resize((count_ + kWordBits - 1) / kWordBits);
      int error = call.memory().CopyIn(guest_[s].data(), call.Addr(s + 1), guest_[s].size() * 8);
      if (error != 0) return error;
    }
    return Translate(call);
  }

  int64_t Select(Thread& thread, const timespec* timeout) {
    uint64_t sets[kSets];
    size_t words = (highest_ + kWordBits) / kWordBits;
    for (size_t s = 0; s < kSets; ++s) {
      host_[s].resize(words);
      sets[s] = guest_[s].empty() ? 0 : reinterpret_cast<uint64_t>(host_[s].data());
    }
    uint64_t count = files_.empty() ? 0 : highest_ + 1;
    return WaitOnHost(thread, timeout, [&](auto* flag, const timespec* time) {
      return HostCall(flag, SYS_pselect6, count, sets[0], sets[1], sets[2],
                      reinterpret_cast<uint64_t>(time));
    });
  }

  int CopyOut(const Call& call) {
    for (size_t s = 0; s < kSets; ++s) {
      if (guest_[s].empty()) continue;
      std::fill(guest_[s].begin(), guest_[s].end(), 0);
      for (const Pair& pair : files_) {
        if (Has(host_[s], static_cast<size_t>(pair.file->host.get()))) Add(guest_[s], pair.number);
      }
      int error = call.memory().CopyOut(call.Addr(s + 1), guest_[s].data(), guest_[s].size() * 8);
      if (error != 0) return error;
    }
    return 0;
  }

 private:
  static constexpr size_t kSets = 3, kWriteSet = 1;
  struct Pair {
    size_t number;
    std::shared_ptr<OpenFile> file;
  };

  int Translate(const Call& call) {
    for (size_t i = 0; i < count_; ++i) {
      if (!Has(guest_[0], i) && !Has(guest_[1], i) && !Has(guest_[2], i)) continue;
      auto file = call.process.files().Get(i);
      if (file == nullptr) return -EBADF;
      auto host = static_cast<size_t>(file->host.get());
      highest_ = std::max(highest_, host);
      for (size_t s = 0; s < kSets; ++s) {
        bool never = s == kWriteSet && file->description->signal_fd != nullptr;
        if (Has(guest_[s], i) && !never) Add(host_[s], host);
      }
      files_.push_back({i, std::move(file)});
    }
    return 0;
  }

  uint64_t count_ = 0;
  size_t highest_ = 0;  // host descriptor
  std::vector<uint64_t> guest_[kSets], host_[kSets];
  std::vector<Pair> files_;
};

int64_t SelectFor(Call& call, Wait& wait) {
  SelectSets sets;
  if (int error = sets.CopyIn(call); error != 0) return error;
  int64_t ready = sets.Select(call.thread, wait.Remaining());
  if (WasKicked(ready)) return kRestartNoHandler;
  if (ready < 0) return ready;
  if (int error = sets.CopyOut(call); error != 0) return error;
  return ready;
}

// ---- epoll ----

int64_t EpollFor(Call& call, Wait& wait) {
  auto file = FileArg(call, 0);
  // Which of several errors comes first depends on the kernel: the host's decides.
  uint64_t epoll = file != nullptr ? HostFd(file) : ~uint64_t{0};
  uint64_t most = call.Uint(2);
  uint64_t events = call.HostArg(1, most * sizeof(epoll_event));
  int64_t ready = WaitOnHost(call.thread, wait.Remaining(), [&](auto* flag, const timespec* time) {
    return HostCall(flag, SYS_epoll_pwait2, epoll, events, most, reinterpret_cast<uint64_t>(time),
                    0, sizeof(SignalSet));
  });
  return WasKicked(ready) ? kRestartNoHandler : ready;
}

int64_t EpollMilliseconds(Call& call) {
  int milliseconds = call.Int(3);
  Wait wait(call, milliseconds < 0 ? kForever : int64_t{milliseconds} * 1000000);
  return EpollFor(call, wait);
}

}  // namespace

SyscallResult EpollCtl(Call& call) {
  auto epoll = FileArg(call, 0);
  auto file = FileArg(call, 2);
  if (epoll == nullptr || file == nullptr) return -EBADF;
  int operation = call.Int(1);
  if (file->description->signal_fd == nullptr || operation == EPOLL_CTL_DEL) {
    return HostResult(syscall(SYS_epoll_ctl, epoll->host.get(), operation, file->host.get(),
                              call.HostArg(3, sizeof(epoll_event))));
  }
  epoll_event event;
  if (int error = call.memory().CopyIn(&event, call.Addr(3)); error != 0) return error;
  event.events &= ~static_cast<uint32_t>(kWriting);
  return HostResult(syscall(SYS_epoll_ctl, epoll->host.get(), operation, file->host.get(), &event));
}

SyscallResult EpollWait(Call& call) { return EpollMilliseconds(call); }

SyscallResult EpollPwait(Call& call) {
  if (int error = UseMask(call, call.Addr(4), call.arguments[5]); error != 0) return error;
  return EpollMilliseconds(call);
}

SyscallResult EpollPwait2(Call& call) {
  int64_t timeout = 0;
  if (int error = TimeoutArg(call, 3, 1, &timeout); error != 0) return error;
  if (int error = UseMask(call, call.Addr(4), call.arguments[5]); error != 0) return error;
  Wait wait(call, timeout);
  return EpollFor(call, wait);
}

SyscallResult Poll(Call& call) {
  int milliseconds = call.Int(2);
  Wait wait(call, milliseconds < 0 ? kForever : int64_t{milliseconds} * 1000000);
  return PollFor(call, wait);
}

SyscallResult Ppoll(Call& call) {
  int64_t timeout = 0;
  if (int error = TimeoutArg(call, 2, 1, &timeout); error != 0) return error;
  if (int error = UseMask(call, call.Addr(3), call.arguments[4]); error != 0) return error;
  Wait wait(call, timeout);
  int64_t result = PollFor(call, wait);
  wait.WriteBack(2, 1);
  return result;
}

SyscallResult Select(Call& call) {
  int64_t timeout = 0;
  if (int error = TimeoutArg(call, 4, 1000, &timeout); error != 0) return error;
  Wait wait(call, timeout);
  int64_t result = SelectFor(call, wait);
  wait.WriteBack(4, 1000);
  return result;
}

SyscallResult Pselect6(Call& call) {
  struct MaskArgument {
    uint64_t address, size;
  } mask = {};
  if (!call.Addr(5).null()) {
    if (int error = call.memory().CopyIn(&mask, call.Addr(5)); error != 0) return error;
  }
  int64_t timeout = 0;
  if (int error = TimeoutArg(call, 4, 1, &timeout); error != 0) return error;
  if (int error = UseMask(call, GuestAddr(mask.address), mask.size); error != 0) return error;
  Wait wait(call, timeout);
  int64_t result = SelectFor(call, wait);
  wait.WriteBack(4, 1);
  return result;
}

}  // namespace km
