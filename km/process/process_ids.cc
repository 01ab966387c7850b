#include "km/process/process_ids.h"

#include <sys/syscall.h>
#include <unistd.h>

namespace km {
namespace {

bool IsMonitorThread(int host) { return host > 0 && syscall(SYS_tgkill, getpid(), host, 0) == 0; }

}  // namespace

void ProcessIds::Set(uint32_t pid, uint32_t group, uint32_t session) {
  absl::MutexLock lock(&mutex_);
  process_ = {static_cast<int>(pid), getpid()};
  group_ = {static_cast<int>(group), getpgrp()};
  session_ = {static_cast<int>(session), getsid(0)};
}

int ProcessIds::GuestOf(int host) const {
  if (host == group_.host) return group_.guest;
  if (host == session_.host) return session_.guest;
  return host == process_.host ? process_.guest : host;
}

// A process leads the group and session that bear its number.
void ProcessIds::Moved() {
  absl::MutexLock lock(&mutex_);
  int group = getpgrp(), session = getsid(0);
  group_ = {group == process_.host ? process_.guest : GuestOf(group), group};
  session_ = {session == process_.host ? process_.guest : GuestOf(session), session};
}

uint32_t ProcessIds::group() const {
  absl::MutexLock lock(&mutex_);
  return static_cast<uint32_t>(group_.guest);
}

uint32_t ProcessIds::session() const {
  absl::MutexLock lock(&mutex_);
  return static_cast<uint32_t>(session_.guest);
}

int ProcessIds::HostProcess(int guest) const {
  absl::MutexLock lock(&mutex_);
  if (guest == process_.guest) return process_.host;
  return IsMonitorThread(guest) ? kNobody : guest;
}

int ProcessIds::GuestProcess(int host) const {
  absl::MutexLock lock(&mutex_);
  return host == process_.host ? process_.guest : host;
}

int ProcessIds::HostGroup(int guest) const {
  absl::MutexLock lock(&mutex_);
  if (guest == group_.guest) return group_.host;
  if (guest == session_.guest) return session_.host;
  return guest == process_.guest ? process_.host : guest;
}

int ProcessIds::GuestGroup(int host) const {
  absl::MutexLock lock(&mutex_);
  return GuestOf(host);
}

}  // namespace km
