#include "km/files/timer_fd.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cinttypes>
#include <cstdio>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "km/base/records.h"
#include "km/base/status.h"
#include "km/files/host_path.h"
#include "km/files/kind.h"

#ifndef TFD_IOC_SET_TICKS  // linux/timerfd.h, which does not go with sys/timerfd.h
#define TFD_IOC_SET_TICKS _IOW('T', 0, uint64_t)
#endif

namespace km {
namespace {

constexpr int64_t kSecond = 1000000000;
constexpr int64_t kMostSeconds = int64_t{1} << 32;  // times beyond are all the same

bool Valid(const timespec& time) {
  return time.tv_sec >= 0 && time.tv_nsec >= 0 && time.tv_nsec < kSecond;
}

bool IsZero(const timespec& time) { return time.tv_sec == 0 && time.tv_nsec == 0; }

// A time of the wall's: what remains of it does not stand still while the process is a file.
bool OnTheWall(const TimerFdState& state) {
  return (state.flags & TFD_TIMER_ABSTIME) != 0 &&
         (state.clock == CLOCK_REALTIME || state.clock == CLOCK_REALTIME_ALARM);
}

bool IsClock(int clock) {
  return clock == CLOCK_REALTIME || clock == CLOCK_MONOTONIC || clock == CLOCK_BOOTTIME ||
         clock == CLOCK_REALTIME_ALARM || clock == CLOCK_BOOTTIME_ALARM;
}

timespec Sum(const timespec& a, const timespec& b) {
  timespec sum = {a.tv_sec + b.tv_sec, a.tv_nsec + b.tv_nsec};
  if (sum.tv_nsec >= kSecond) {
    sum.tv_nsec -= kSecond;
    ++sum.tv_sec;
  }
  return sum;
}

absl::StatusOr<TimerFdState> Decode(const FileRecord& record) {
  TimerFdState state;
  KM_RETURN_IF_ERROR(ForEachRecord(ByteReader(record.state), [&](uint32_t tag, ByteReader* value) {
    if (tag != KM_TIMERFD_STATE) return false;
    state.clock = static_cast<int>(value->U32());
    state.flags = static_cast<int>(value->U32());
    state.ticks = value->U64();
    for (timespec* time : {&state.setting.it_value, &state.setting.it_interval}) {
      time->tv_sec = value->I64();
      time->tv_nsec = value->I64();
    }
    return true;
  }));
  constexpr int kFlags = TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET;
  if (!IsClock(state.clock) || (state.flags & ~kFlags) != 0) {
    return absl::DataLossError(
        absl::StrCat("a timerfd of clock ", state.clock, " with flags ", state.flags));
  }
  if (!Valid(state.setting.it_value) || !Valid(state.setting.it_interval)) {
    return absl::DataLossError("a timerfd's time is impossible");
  }
  return state;
}

absl::StatusOr<std::string> Describe(const FileRecord& record) {
  KM_ASSIGN_OR_RETURN(TimerFdState state, Decode(record));
  const timespec& value = state.setting.it_value;
  const timespec& interval = state.setting.it_interval;
  return absl::StrFormat("clock %d, %u unread, %s %d.%09d s, every %d.%09d s", state.clock,
                         state.ticks, OnTheWall(state) ? "at" : "in", value.tv_sec, value.tv_nsec,
                         interval.tv_sec, interval.tv_nsec);
}

int64_t Nanoseconds(const timespec& time) {
  return std::min<int64_t>(time.tv_sec, kMostSeconds) * kSecond + time.tv_nsec;
}

timespec FromNanoseconds(int64_t time) { return {time / kSecond, time % kSecond}; }

int64_t Now(int clock) {
  timespec now = {};
  clock_gettime(clock, &now);
  return Nanoseconds(now);
}

// The clock that time passes on until the expiry: for a span of wall time that is not the wall's.
int CountingClock(const TimerFdState& state) {
  return state.clock == CLOCK_BOOTTIME || state.clock == CLOCK_BOOTTIME_ALARM ? CLOCK_BOOTTIME
                                                                              : CLOCK_MONOTONIC;
}

// The state of a timerfd that goes on counting meanwhile: `expiry_ns`, of the host's counting
// clock, is the first expiry that is not among the ticks.
struct Counted {
  TimerFdState state;
  int64_t expiry_ns = 0;  // 0: it is not armed
};

// One reading: asking for what is left counts what has expired and sets the timer to its next
// expiry; its ticks are told by another call. *took: how far the readings may be apart, and a
// second more when it expired in between. None: it does not tell of itself.
absl::StatusOr<std::optional<Counted>> ReadOnce(int host_fd, int clock, int64_t* took) {
  itimerspec left;
  const int64_t begin = Now(clock);
  if (timerfd_gettime(host_fd, &left) != 0) return ErrnoStatus(errno, "timerfd_gettime");
  *took = Now(clock) - begin;
  std::optional<TimerFdState> state = ReadTimerFd(host_fd);
  if (!state.has_value()) return std::nullopt;
  const bool expired = !IsZero(left.it_value) && IsZero(state->setting.it_value);
  Counted counted = {*state, 0};
  counted.state.setting = left;
  if (!IsZero(left.it_value)) {
    counted.expiry_ns = begin + *took / 2 + Nanoseconds(left.it_value);
  }
  if (expired) {
    const int64_t interval = Nanoseconds(left.it_interval);
    counted.expiry_ns = interval != 0 ? counted.expiry_ns + interval : 0;
    *took += kSecond;
  }
  return counted;
}

// The tightest reading. The host says that nothing is left of a timer that is due, until its
// processor comes to it, as of one that is not set: only that stays so.
absl::StatusOr<Counted> Count(int host_fd) {
  constexpr int kTries = 64, kUnset = 16;
  constexpr int64_t kTight = 5000;     // within which two readings of the clock are one
  constexpr int64_t kLate = 20000000;  // so long may a processor be away; few timers need the wait
  constexpr useconds_t kPause = 100;
  const absl::Status silent = absl::InternalError("does not tell of itself in /proc/self/fdinfo");
  std::optional<TimerFdState> first = ReadTimerFd(host_fd);
  if (!first.has_value()) return silent;
  Counted best = {*first, 0};
  int64_t best_took = INT64_MAX;
  const int64_t give_up = Now(CLOCK_MONOTONIC) + kLate;
  for (int tries = 0, unset = 0; tries < kTries && best_took >= kTight;) {
    int64_t took = 0;
    KM_ASSIGN_OR_RETURN(std::optional<Counted> counted,
                        ReadOnce(host_fd, CountingClock(*first), &took));
    if (!counted.has_value()) return silent;
    if (counted->expiry_ns == 0) {
      const bool repeats = !IsZero(counted->state.setting.it_interval);
      if (!repeats && (counted->state.ticks != 0 || ++unset == kUnset)) return *counted;
      if (repeats && Now(CLOCK_MONOTONIC) >= give_up) return *counted;
      if (repeats) usleep(kPause);
      continue;
    }
    ++tries;
    if (took >= best_took) continue;
    best = *counted;
    best_took = took;
  }
  return best;
}

// Moves expiries between those that are counted and those to come, until the next one is the first
// behind `now`.
void MoveTo(int64_t now, Counted* counted) {
  if (counted->expiry_ns == 0) return;
  const int64_t interval = Nanoseconds(counted->state.setting.it_interval);
  if (interval == 0) {
    if (counted->expiry_ns > now) return;
    counted->state.ticks += 1;
    counted->expiry_ns = 0;
    return;
  }
  // Rounded down: negative ones are expiries that were counted already.
  const int64_t distance = now - counted->expiry_ns;
  int64_t steps = distance >= 0 ? distance / interval + 1 : -((-distance - 1) / interval);
  steps =
      std::max(steps, -static_cast<int64_t>(std::min<uint64_t>(counted->state.ticks, INT64_MAX)));
  counted->state.ticks += static_cast<uint64_t>(steps);
  counted->expiry_ns += steps * interval;
}

absl::Status Save(const OpenFile& file, FileSaver& saver, FileRecord& record) {
  KM_ASSIGN_OR_RETURN(Counted counted, Count(file.host.get()));
  TimerFdState& state = counted.state;
  if (OnTheWall(state)) {
    if (!IsZero(state.setting.it_value)) {
      timespec now;
      clock_gettime(CLOCK_REALTIME, &now);
      state.setting.it_value = Sum(now, state.setting.it_value);
    }
  } else {
    const int64_t instant = saver.instant.Of(CountingClock(state));
    MoveTo(instant, &counted);
    state.setting.it_value =
        FromNanoseconds(counted.expiry_ns == 0 ? 0 : counted.expiry_ns - instant);
  }
  ByteWriter out;
  const size_t begin = out.BeginRecord(KM_TIMERFD_STATE);
  out.U32(static_cast<uint32_t>(state.clock));
  out.U32(static_cast<uint32_t>(state.flags));
  out.U64(state.ticks);
  for (const timespec& time : {state.setting.it_value, state.setting.it_interval}) {
    out.I64(time.tv_sec);
    out.I64(time.tv_nsec);
  }
  out.EndRecord(begin);
  record.state = out.Take();
  return absl::OkStatus();
}

// Ticks are lost that come between the two calls.
absl::Status Set(int host_fd, const TimerFdState& state) {
  if (timerfd_settime(host_fd, state.flags, &state.setting, nullptr) != 0) {
    return ErrnoStatus(errno, "cannot set a timerfd");
  }
  if (state.ticks != 0 && ioctl(host_fd, TFD_IOC_SET_TICKS, &state.ticks) != 0) {
    return ErrnoStatus(errno,
                       "cannot make a timerfd that has expired (the kernel lacks "
                       "CONFIG_CHECKPOINT_RESTORE)");
  }
  return absl::OkStatus();
}

// As it would be now had it been here since the instant of the snapshot: no expiry is lost to the
// time that a resume takes. It is set as the program has set it, until a time or for a span.
absl::Status SetSince(int host_fd, int64_t instant, Counted counted) {
  constexpr int64_t kMargin = 200000;  // what is about to expire is counted before
  constexpr int64_t kTight = 20000;    // so far may a span be behind
  constexpr int kTries = 32;
  const int clock = CountingClock(counted.state);
  const bool absolute = (counted.state.flags & TFD_TIMER_ABSTIME) != 0;
  counted.expiry_ns = instant + Nanoseconds(counted.state.setting.it_value);
  for (int i = 0; i < kTries; ++i) {
    const int64_t begin = Now(clock);
    // A timer that is set until a time counts by itself, where there is nothing to add to.
    if (counted.state.ticks != 0 || !absolute) MoveTo(begin + kMargin, &counted);
    const int64_t value = absolute ? counted.expiry_ns : counted.expiry_ns - begin;
    counted.state.setting.it_value =
        FromNanoseconds(counted.expiry_ns == 0 ? 0 : std::max<int64_t>(value, 1));
    KM_RETURN_IF_ERROR(Set(host_fd, counted.state));
    const int64_t now = Now(clock);
    const bool tight = absolute || now - begin < kTight;
    const bool whole = counted.state.ticks == 0 || now < counted.expiry_ns;
    if (counted.expiry_ns == 0 || (tight && whole)) break;
  }
  return absl::OkStatus();
}

absl::StatusOr<OwnedFd> Restore(const FileRecord& record, FileRestorer& restorer) {
  KM_ASSIGN_OR_RETURN(TimerFdState state, Decode(record));
  OwnedFd fd(
      timerfd_create(state.clock, TFD_CLOEXEC | (record.flags & O_NONBLOCK ? TFD_NONBLOCK : 0)));
  if (!fd.valid()) {
    return ErrnoStatus(errno, absl::StrCat("cannot make a timerfd of clock ", state.clock));
  }
  if (OnTheWall(state) || IsZero(state.setting.it_value)) {
    KM_RETURN_IF_ERROR(Set(fd.get(), state));
  } else {
    const int64_t instant = restorer.instant.Of(CountingClock(state));
    KM_RETURN_IF_ERROR(SetSince(fd.get(), instant, {state, 0}));
  }
  return fd;
}

}  // namespace

std::optional<TimerFdState> ReadTimerFd(int host_fd) {
  std::string text = FdInfoOf(host_fd);
  const char* begin = strstr(text.c_str(), "clockid:");
  TimerFdState state;
  unsigned flags = 0;
  timespec& value = state.setting.it_value;
  timespec& interval = state.setting.it_interval;
  if (begin == nullptr || sscanf(begin,
                                 "clockid: %d ticks: %" SCNu64
                                 " settime flags: %o it_value: (%ld, %ld) it_interval: (%ld, %ld)",
                                 &state.clock, &state.ticks, &flags, &value.tv_sec, &value.tv_nsec,
                                 &interval.tv_sec, &interval.tv_nsec) != 7) {
    return std::nullopt;
  }
  state.flags = static_cast<int>(flags);
  return state;
}

const FileKindRow kTimerFdKind = {FileKind::kTimerFd, "timerfd", Describe, Save, Restore, nullptr};

}  // namespace km
