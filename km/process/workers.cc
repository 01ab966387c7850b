// Host threads and vCPUs, and the guest threads that they run one after another.
#include <linux/futex.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "km/base/log.h"
#include "km/base/status.h"
#include "km/process/host_signals.h"
#include "km/process/process.h"

namespace km {
namespace {

constexpr size_t kHostStackSize = 256 << 10;
constexpr pid_t kStarting = -1;  // a host thread was made and has not told its id yet
// Where ids begin again, as in the kernel (RESERVED_PIDS).
constexpr uint32_t kFirstTidAgain = 300;

// The program's limit of its user's processes, as long as this is there: the host counts them.
class ProcessesLimit {
 public:
  explicit ProcessesLimit(rlim_t most) {
    if (getrlimit(RLIMIT_NPROC, &before_) != 0 || most >= before_.rlim_cur) return;
    const rlimit lower = {most, before_.rlim_max};
    lowered_ = setrlimit(RLIMIT_NPROC, &lower) == 0;
  }
  ~ProcessesLimit() {
    if (lowered_) setrlimit(RLIMIT_NPROC, &before_);
  }
  ProcessesLimit(const ProcessesLimit&) = delete;
  ProcessesLimit& operator=(const ProcessesLimit&) = delete;

 private:
  rlimit before_ = {};
  bool lowered_ = false;
};

}  // namespace

// Pages are never given back, nor can a vCPU be destroyed: a worker that cannot be used now waits
// among the idle for the next try.
absl::StatusOr<Process::Worker*> Process::IdleWorker() {
  if (!idle_.empty()) {
    Worker* worker = idle_.back();
    idle_.pop_back();
    return worker;
  }
  int index = static_cast<int>(workers_.size());
  if (index >= std::min(vm_->max_vcpus(), kMaxVcpus)) {
    return absl::ResourceExhaustedError("KVM allows no more vCPUs");
  }
  auto worker = std::make_unique<Worker>();
  worker->process = this;
  KM_ASSIGN_OR_RETURN(worker->pages, space_.MakeVcpuPages(index));
  workers_.push_back(std::move(worker));
  return workers_.back().get();
}

Process::Worker& Process::WorkerOf(const Thread* thread) {
  return **std::find_if(workers_.begin(), workers_.end(),
                        [thread](const auto& worker) { return worker->thread == thread; });
}

absl::Status Process::MakeVcpu(Worker& worker) {
  if (worker.vcpu != nullptr) return absl::OkStatus();
  worker.place = OwnedFd();
  KM_ASSIGN_OR_RETURN(std::unique_ptr<Vcpu> vcpu, Vcpu::Create(*vm_, worker.pages));
  KeepVcpu(worker, std::move(vcpu));
  return absl::OkStatus();
}

void Process::KeepVcpu(Worker& worker, std::unique_ptr<Vcpu> vcpu) {
  worker.vcpu = std::move(vcpu);
  worker.place = OwnedFd();
  // The host's getcpu, run in the guest, would tell the number of a processor that is not there.
  if (worker.vcpu->hides_processor()) memory_->vdso_data()->host_getcpu = 0;
}

// Beside whatever else is done meanwhile. Without a vCPU the thread asks for it again when it
// needs it, and then it is a failure.
void Process::MakeWantedVcpu(Worker& worker) {
  worker.wants_vcpu = false;
  mutex_.Unlock();
  absl::StatusOr<std::unique_ptr<Vcpu>> vcpu = Vcpu::Create(*vm_, worker.pages);
  mutex_.Lock();
  if (!vcpu.ok()) return Log(LogLevel::kInfo, vcpu.status().message());
  KeepVcpu(worker, *std::move(vcpu));
  worker.thread->vcpu = worker.vcpu.get();
}

absl::Status Process::HoldPlace(Worker& worker) {
  if (worker.vcpu != nullptr || worker.place.valid()) return absl::OkStatus();
  worker.place = OwnedFd(eventfd(0, EFD_CLOEXEC));
  if (!worker.place.valid()) return ErrnoStatus(errno, "cannot hold a descriptor for a vCPU");
  return absl::OkStatus();
}

absl::Status Process::GiveVcpu(Thread& thread) {
  {
    absl::MutexLock lock(&mutex_);
    Worker& worker = WorkerOf(&thread);
    KM_RETURN_IF_ERROR(MakeVcpu(worker));
    thread.vcpu = worker.vcpu.get();
  }
  return LoadState(thread);
}

absl::Status Process::StartHost(Worker* worker) {
  auto main = [](void* argument) -> void* {
    auto* self = static_cast<Worker*>(argument);
    self->process->WorkerMain(self);
    return nullptr;
  };
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  pthread_attr_setstacksize(&attributes, kHostStackSize);
  pthread_t host;
  const ProcessesLimit limit(limits_[RLIMIT_NPROC].rlim_cur);
  int error = pthread_create(&host, &attributes, main, worker);
  pthread_attr_destroy(&attributes);
  if (error != 0) return ErrnoStatus(error, "cannot make a host thread");
  worker->host_tid = kStarting;
  return absl::OkStatus();
}

// The next id that no thread has. As in the kernel they stay below what a futex word can hold.
uint32_t Process::FreeTid() {
  while (true) {
    uint32_t tid = next_tid_;
    next_tid_ = next_tid_ >= FUTEX_TID_MASK ? kFirstTidAgain : next_tid_ + 1;
    const bool taken = threads_.contains(tid) || companions_.contains(tid) || traces_.contains(tid);
    if (tid != 0 && tid <= FUTEX_TID_MASK && !taken) return tid;
  }
}

absl::StatusOr<Thread*> Process::NewThread(uint32_t tid, SignalSet mask, VcpuFrom from) {
  absl::MutexLock lock(&mutex_);
  return NewThreadLocked(tid, mask, from, nullptr);
}

absl::StatusOr<Thread*> Process::NewThreadLocked(uint32_t tid, SignalSet mask, VcpuFrom from,
                                                 std::shared_ptr<Companion> companion) {
  if (tid == 0) tid = FreeTid();
  if (threads_.contains(tid)) return absl::AlreadyExistsError("two threads have the same id");
  KM_ASSIGN_OR_RETURN(Worker * worker, IdleWorker());
  absl::Status status = from == VcpuFrom::kStart ? MakeVcpu(*worker) : HoldPlace(*worker);
  worker->wants_vcpu = from == VcpuFrom::kHostThread && worker->vcpu == nullptr;
  if (status.ok() && worker->host_tid == 0) status = StartHost(worker);
  if (!status.ok()) {
    worker->wants_vcpu = false;
    idle_.push_back(worker);
    return status;
  }
  signals_.AddThread(
      tid, mask,
      companion == nullptr ? SignalState::Owner::kProgram : SignalState::Owner::kProcess);
  auto thread = std::make_unique<Thread>(tid, std::move(companion));
  thread->vcpu = worker->vcpu.get();
  worker->thread = thread.get();
  changed_.SignalAll();
  Thread* result = thread.get();
  threads_[tid] = std::move(thread);
  return result;
}

void Process::Start(Thread* thread) {
  absl::MutexLock lock(&mutex_);
  StartLocked(thread);
}

void Process::StartLocked(Thread* thread) {
  ++running_;
  if (pauses_ > 0) thread->attention.store(1);
  Worker& worker = WorkerOf(thread);
  worker.started = true;
  if (worker.host_tid > 0) SetHostTid(thread, worker.host_tid);
  changed_.SignalAll();
}

void Process::SetHostTid(Thread* thread, pid_t host_tid) {
  thread->host_tid = host_tid;
  pi_futexes_.ThreadStarted(thread->tid, host_tid);
}

void Process::OnHostThread(Thread* thread, std::function<void()> work) {
  absl::MutexLock lock(&mutex_);
  Worker& worker = WorkerOf(thread);
  worker.work = std::move(work);
  changed_.SignalAll();
  while (worker.work) changed_.Wait(&mutex_);
}

void Process::StartAll() {
  absl::MutexLock lock(&mutex_);
  for (auto& [tid, thread] : threads_) StartLocked(thread.get());
}

// A host thread lives as long as its vCPU, which cannot be destroyed: it runs one guest thread
// after another.
void Process::WorkerMain(Worker* worker) {
  UnblockHostSignals();
  pid_t self = gettid();
  mutex_.Lock();
  worker->host_tid = self;
  // Another host thread may have taken its place (HostThreadsDiffer).
  while (worker->host_tid == self) {
    if (worker->wants_vcpu) {
      MakeWantedVcpu(*worker);
      continue;
    }
    if (worker->work) {
      mutex_.Unlock();
      worker->work();
      mutex_.Lock();
      worker->work = nullptr;
      changed_.SignalAll();
      continue;
    }
    if (worker->thread == nullptr || !worker->started) {
      changed_.Wait(&mutex_);
      continue;
    }
    Thread* thread = worker->thread;
    SetHostTid(thread, self);
    changed_.SignalAll();
    CpuTime before = HostThreadCpuTime(0);
    thread->cpu_offset.total_ns -= before.total_ns;
    thread->cpu_offset.user_ns -= before.user_ns;
    mutex_.Unlock();
    timers_.ThreadStarted(thread->tid, thread->host_tid, thread->cpu_offset);
    SetCurrentThread(thread);
    thread_main_(*thread);
    mutex_.Lock();
  }
  mutex_.Unlock();
}

void Process::HostThreadsDiffer() {
  absl::MutexLock lock(&mutex_);
  HostThreadsDifferLocked();
}

void Process::HostThreadsDifferLocked() {
  if (host_threads_differ_) return;
  host_threads_differ_ = true;
  for (Worker* worker : idle_) worker->host_tid = 0;
  changed_.SignalAll();
}

bool Process::EndThread(Thread* thread, int wait_status) {
  SetCurrentThread(nullptr);
  timers_.ThreadEnded(thread->tid);
  bool others = ForgetThread(thread, wait_status);
  RedirectSignals();
  return others;
}

bool Process::ForgetThread(Thread* thread, int wait_status) {
  absl::MutexLock lock(&mutex_);
  EndTraces(*thread, wait_status);
  signals_.RemoveThread(thread->tid);
  Worker& worker = WorkerOf(thread);
  worker.thread = nullptr;
  worker.started = false;
  if (host_threads_differ_) worker.host_tid = 0;
  idle_.push_back(&worker);
  threads_.erase(thread->tid);
  --running_;
  changed_.SignalAll();
  return ThreadCountLocked() > 0;
}

}  // namespace km
