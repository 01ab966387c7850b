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
constexpr time_t kMostSeconds = time_t{1} << 40;  // longer than the kernel counts

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

absl::Status Save(const OpenFile& file, FileSaver&, FileRecord& record) {
  itimerspec left;
  // This also counts what has expired, and sets the timer to the next expiry.
  if (timerfd_gettime(file.host.get(), &left) != 0) return ErrnoStatus(errno, "timerfd_gettime");
  std::optional<TimerFdState> state = ReadTimerFd(file.host.get());
  if (!state.has_value())
    return absl::InternalError("does not tell of itself in /proc/self/fdinfo");
  state->setting = left;
  if (OnTheWall(*state) && !IsZero(left.it_value)) {
    timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    state->setting.it_value = Sum(now, left.it_value);
  }
  ByteWriter out;
  const size_t begin = out.BeginRecord(KM_TIMERFD_STATE);
  out.U32(static_cast<uint32_t>(state->clock));
  out.U32(static_cast<uint32_t>(state->flags));
  out.U64(state->ticks);
  for (const timespec& time : {state->setting.it_value, state->setting.it_interval}) {
    out.I64(time.tv_sec);
    out.I64(time.tv_nsec);
  }
  out.EndRecord(begin);
  record.state = out.Take();
  return absl::OkStatus();
}

absl::StatusOr<OwnedFd> Restore(const FileRecord& record, FileRestorer&) {
  KM_ASSIGN_OR_RETURN(TimerFdState state, Decode(record));
  OwnedFd fd(
      timerfd_create(state.clock, TFD_CLOEXEC | (record.flags & O_NONBLOCK ? TFD_NONBLOCK : 0)));
  if (!fd.valid()) {
    return ErrnoStatus(errno, absl::StrCat("cannot make a timerfd of clock ", state.clock));
  }
  const int flags = state.flags & (TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET);
  timespec& value = state.setting.it_value;
  if ((flags & TFD_TIMER_ABSTIME) != 0 && !OnTheWall(state) && !IsZero(value)) {
    timespec now = {};
    clock_gettime(state.clock == CLOCK_MONOTONIC ? CLOCK_MONOTONIC : CLOCK_BOOTTIME, &now);
    value.tv_sec = std::min(value.tv_sec, kMostSeconds);
    value = Sum(now, value);
  }
  if (timerfd_settime(fd.get(), flags, &state.setting, nullptr) != 0) {
    return ErrnoStatus(errno, "cannot set a timerfd");
  }
  if (state.ticks != 0 && ioctl(fd.get(), TFD_IOC_SET_TICKS, &state.ticks) != 0) {
    return ErrnoStatus(errno,
                       "cannot make a timerfd that has expired (the kernel lacks "
                       "CONFIG_CHECKPOINT_RESTORE)");
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
