// Processes of the program's own that share its memory, and the threads that they stop.
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <climits>

#include "km/process/process.h"

namespace km {
namespace {

// Of those that nobody waits for something must remain: so many, then EAGAIN.
constexpr size_t kMaxCompanions = 64;

void Wake(std::atomic<uint32_t>& word) {
  syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, INT_MAX, nullptr, nullptr, 0);
}

void Set(Trace& trace, Trace::State state) {
  trace.state.store(state);
  Wake(trace.state);
}

}  // namespace

absl::StatusOr<Thread*> Process::NewCompanion(SignalSet mask) {
  absl::MutexLock lock(&mutex_);
  if (companions_.size() >= kMaxCompanions) {
    return absl::ResourceExhaustedError("too many processes that share the program's memory");
  }
  auto companion = std::make_shared<Companion>();
  absl::StatusOr<Thread*> thread = NewThreadLocked(0, mask, VcpuFrom::kStart, companion);
  if (thread.ok()) companions_[(*thread)->tid] = std::move(companion);
  return thread;
}

std::shared_ptr<Companion> Process::FindCompanion(uint32_t pid) const {
  absl::MutexLock lock(&mutex_);
  auto it = companions_.find(pid);
  return it != companions_.end() ? it->second : nullptr;
}

bool Process::ForgetCompanion(uint32_t pid) {
  absl::MutexLock lock(&mutex_);
  return companions_.erase(pid) != 0;
}

std::vector<uint32_t> Process::CompanionPids() const {
  absl::MutexLock lock(&mutex_);
  std::vector<uint32_t> pids;
  for (const auto& [pid, companion] : companions_) pids.push_back(pid);
  return pids;
}

uint32_t Process::ProcessOf(uint32_t tid) const {
  absl::MutexLock lock(&mutex_);
  if (companions_.contains(tid)) return tid;
  return threads_.contains(tid) ? identity_.pid : 0;
}

int Process::Attach(const Thread& tracer, uint32_t tid) {
  absl::MutexLock lock(&mutex_);
  auto it = threads_.find(tid);
  if (it == threads_.end()) return -ESRCH;
  if (it->second->companion != nullptr || traces_.contains(tid)) return -EPERM;
  traces_[tid] = std::make_shared<Trace>(tracer.tid);
  InterruptLocked(*it->second);
  return 0;
}

std::shared_ptr<Trace> Process::FindTrace(const Thread& tracer, uint32_t tid) const {
  absl::MutexLock lock(&mutex_);
  return TraceLocked(tracer, tid);
}

std::shared_ptr<Trace> Process::TraceLocked(const Thread& tracer, uint32_t tid) const {
  auto it = traces_.find(tid);
  return it != traces_.end() && it->second->tracer == tracer.tid ? it->second : nullptr;
}

void Process::Detach(uint32_t tid) {
  absl::MutexLock lock(&mutex_);
  traces_.erase(tid);
  changed_.SignalAll();
}

// A copy, made while it cannot go on: a signal that kills may release it at any time.
std::optional<StoppedState> Process::Stopped(const Thread& tracer, uint32_t tid) const {
  absl::MutexLock lock(&mutex_);
  const std::shared_ptr<Trace> trace = TraceLocked(tracer, tid);
  if (trace == nullptr || trace->state.load() != Trace::kStopped) return std::nullopt;
  const Thread& thread = *threads_.at(tid);
  return StoppedState{thread.registers, thread.xsave};
}

bool Process::MustPark(const Thread& thread) const {
  return pauses_ > 0 || traces_.contains(thread.tid);
}

void Process::StopIfTraced(const Thread& thread) {
  auto it = traces_.find(thread.tid);
  if (it != traces_.end() && it->second->state.load() == Trace::kAsked) {
    Set(*it->second, Trace::kStopped);
  }
}

// Nothing holds a thread back from being killed.
void Process::ReleaseTraced() {
  for (const auto& [tid, trace] : traces_) Set(*trace, Trace::kEnded);
  traces_.clear();
  changed_.SignalAll();
}

// A tracer that ends lets its threads go; of a thread that ends its tracer hears.
void Process::EndTraces(const Thread& thread, int wait_status) {
  if (thread.companion != nullptr) {
    absl::erase_if(traces_, [&thread](const auto& it) { return it.second->tracer == thread.tid; });
    getrusage(RUSAGE_THREAD, &thread.companion->usage);
    thread.companion->status = wait_status;
    thread.companion->ended.store(1);
    Wake(thread.companion->ended);
    return;
  }
  auto it = traces_.find(thread.tid);
  if (it == traces_.end()) return;
  it->second->exit_status = wait_status;
  Set(*it->second, Trace::kEnded);
}

}  // namespace km
