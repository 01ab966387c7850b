#include "km/files/aio_contexts.h"

#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/strings/str_format.h"
#include "km/base/status.h"

namespace km {
namespace {

constexpr int64_t kSecond = 1'000'000'000;
// A disk that takes longer than this for a request is in trouble.
constexpr int64_t kPatience = 2 * kSecond;

int64_t Now() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * kSecond + now.tv_nsec;
}

}  // namespace

void AioContexts::Add(uint64_t name, aio_context_t host, uint32_t room) {
  absl::MutexLock lock(&mutex_);
  contexts_[name] = {host, room, {}};
}

aio_context_t AioContexts::Host(uint64_t name) const {
  absl::MutexLock lock(&mutex_);
  auto it = contexts_.find(name);
  return it != contexts_.end() ? it->second.host : 0;
}

void AioContexts::Remove(uint64_t name) {
  absl::MutexLock lock(&mutex_);
  contexts_.erase(name);
  absl::erase_if(requests_, [name](const auto& r) { return r.second->context == name; });
}

std::vector<std::pair<uint64_t, aio_context_t>> AioContexts::Names() const {
  absl::MutexLock lock(&mutex_);
  std::vector<std::pair<uint64_t, aio_context_t>> names;
  for (const auto& [name, context] : contexts_) names.emplace_back(name, context.host);
  return names;
}

AioContexts::UnderWay AioContexts::Count(uint64_t name) const {
  absl::MutexLock lock(&mutex_);
  UnderWay count;
  for (const auto& [number, request] : requests_) {
    if (request->context != name) continue;
    ++count.all;
    if (request->host.aio_lio_opcode == IOCB_CMD_POLL) ++count.polls;
  }
  return count;
}

// The host's events become ready ones. Waits that long for the first, if there is none.
void AioContexts::TakeOver(uint64_t name, aio_context_t host, int64_t wait_ns) {
  constexpr size_t kSome = 64;
  io_event events[kSome];
  timespec wait = {wait_ns / kSecond, wait_ns % kSecond};
  while (true) {
    const long got = syscall(SYS_io_getevents, host, wait_ns > 0 ? 1 : 0, kSome, events, &wait);
    if (got <= 0) return;
    Complete(events, static_cast<size_t>(got));
    absl::MutexLock lock(&mutex_);
    std::vector<io_event>& ready = contexts_[name].ready;
    ready.insert(ready.end(), events, events + got);
    if (got < static_cast<long>(kSome)) return;
    wait_ns = 0;
    wait = {};
  }
}

absl::StatusOr<std::vector<AioContextState>> AioContexts::Save() {
  const int64_t end = Now() + kPatience;
  for (const auto& [name, host] : Names()) {
    TakeOver(name, host, 0);
    UnderWay count = Count(name);
    // One that waits for a descriptor may wait for ever.
    while (count.all > count.polls && Now() < end) {
      TakeOver(name, host, end - Now());
      count = Count(name);
    }
    if (count.all == 0) continue;
    return absl::FailedPreconditionError(absl::StrFormat(
        "it has asynchronous I/O under way (io_submit): %u requests in the context %#x, of which "
        "%u wait until a descriptor is ready; take their events, or io_cancel them, before",
        count.all, name, count.polls));
  }
  absl::MutexLock lock(&mutex_);
  std::vector<AioContextState> states;
  for (const auto& [name, context] : contexts_) {
    states.push_back({name, context.room, context.ready});
  }
  return states;
}

absl::Status AioContexts::Restore(const std::vector<AioContextState>& states) {
  for (const AioContextState& state : states) {
    aio_context_t host = 0;
    if (syscall(SYS_io_setup, state.room, &host) != 0) {
      return ErrnoStatus(errno, absl::StrFormat("cannot make its context of asynchronous I/O for "
                                                "%u requests anew (see fs.aio-max-nr)",
                                                state.room));
    }
    Add(state.name, host, state.room);
    PutBack(state.name, state.ready);
  }
  return absl::OkStatus();
}

void AioContexts::Begin(const std::shared_ptr<AioRequest>& request) {
  absl::MutexLock lock(&mutex_);
  request->host.aio_data = ++last_number_;
  requests_.emplace(last_number_, request);
}

void AioContexts::Forget(const AioRequest& request) {
  absl::MutexLock lock(&mutex_);
  requests_.erase(request.host.aio_data);
}

std::shared_ptr<AioRequest> AioContexts::Find(uint64_t name, uint64_t address) const {
  absl::MutexLock lock(&mutex_);
  auto it = std::find_if(requests_.begin(), requests_.end(), [&](const auto& r) {
    return r.second->context == name && r.second->address == address;
  });
  return it != requests_.end() ? it->second : nullptr;
}

void AioContexts::Complete(io_event* events, size_t count) {
  absl::MutexLock lock(&mutex_);
  for (size_t i = 0; i < count; ++i) {
    auto it = requests_.find(events[i].data);
    // Gone with its context, which another thread destroyed meanwhile.
    const AioRequest none;
    const AioRequest& request = it != requests_.end() ? *it->second : none;
    events[i].data = request.data;
    events[i].obj = request.address;
    if (it != requests_.end()) requests_.erase(it);
  }
}

std::vector<io_event> AioContexts::TakeReady(uint64_t name, size_t most) {
  absl::MutexLock lock(&mutex_);
  auto it = contexts_.find(name);
  if (it == contexts_.end()) return {};
  std::vector<io_event>& ready = it->second.ready;
  auto end = ready.begin() + static_cast<ptrdiff_t>(std::min(most, ready.size()));
  std::vector<io_event> taken(ready.begin(), end);
  ready.erase(ready.begin(), end);
  return taken;
}

void AioContexts::PutBack(uint64_t name, const std::vector<io_event>& events) {
  absl::MutexLock lock(&mutex_);
  auto it = contexts_.find(name);
  if (it == contexts_.end()) return;
  it->second.ready.insert(it->second.ready.begin(), events.begin(), events.end());
}

}  // namespace km
