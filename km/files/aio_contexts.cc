#include "km/files/aio_contexts.h"

#include <algorithm>
#include <utility>

namespace km {

void AioContexts::Add(uint64_t name, aio_context_t host) {
  absl::MutexLock lock(&mutex_);
  contexts_[name] = {host, {}};
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

bool AioContexts::empty() const {
  absl::MutexLock lock(&mutex_);
  return contexts_.empty();
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
