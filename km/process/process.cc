#include "km/process/process.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/time/clock.h"
#include "km/base/log.h"
#include "km/base/status.h"
#include "km/process/host_signals.h"

namespace km {
namespace {

uint64_t HostLimit(int resource) {
  rlimit limit = {};
  getrlimit(static_cast<__rlimit_resource_t>(resource), &limit);
  return limit.rlim_cur;
}

// More descriptors than this a program cannot have (the usual fs.nr_open).
constexpr rlim_t kMaxDescriptors = 1 << 20;

// CAP_SYS_RESOURCE in effect for the calling thread.
bool MayRaiseLimits() {
  __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {};
  return syscall(SYS_capget, &header, data) == 0 &&
         (data[CAP_TO_INDEX(CAP_SYS_RESOURCE)].effective & CAP_TO_MASK(CAP_SYS_RESOURCE)) != 0;
}

// RLIMIT_NPROC binds the program when it makes a thread (StartHost). On the host it is never
// lowered: KVM makes a thread too, for the first KVM_RUN, and so does a snapshot's writer. 0 or an
// errno.
int RaiseHostProcesses(const rlimit& wanted) {
  rlimit host = {};
  getrlimit(RLIMIT_NPROC, &host);
  const rlimit most = {std::max(host.rlim_cur, wanted.rlim_cur),
                       std::max(host.rlim_max, wanted.rlim_max)};
  return setrlimit(RLIMIT_NPROC, &most) == 0 ? 0 : errno;
}

// The host counts only what was spent since a resume: it gets what is left, and at least the second
// that it takes for a limit. 0 or an errno.
int SetHostCpu(const rlimit& wanted, int64_t before_ns) {
  auto left = [before_ns](rlim_t limit) {
    if (limit == RLIM_INFINITY) return limit;
    const rlim_t before =
        static_cast<rlim_t>(std::max<int64_t>(before_ns, 0)) / kNanosecondsPerSecond;
    return limit > before ? limit - before : 1;
  };
  const rlimit host = {left(wanted.rlim_cur), left(wanted.rlim_max)};
  return setrlimit(RLIMIT_CPU, &host) == 0 ? 0 : errno;
}

// Each vCPU is one; the others are the VM, what the main thread waits for, files being opened.
constexpr rlim_t kOwnDescriptors = kMaxVcpus + 64;

}  // namespace

Process::Process(ThreadMain thread_main)
    : thread_main_(std::move(thread_main)), files_(HostLimit(RLIMIT_NOFILE)) {}

absl::StatusOr<std::unique_ptr<Process>> Process::Create(ThreadMain thread_main) {
  auto process = std::unique_ptr<Process>(new Process(std::move(thread_main)));
  KM_ASSIGN_OR_RETURN(process->vm_, Vm::Create());
  KM_ASSIGN_OR_RETURN(process->memory_, GuestMemory::Create(process->vm_.get()));
  process->space_.SetMemory(process->memory_.get());
  KM_RETURN_IF_ERROR(process->vm_->AwaitCpuid());
  const Vm& vm = *process->vm_;
  process->xsave_format_ = XsaveFormatOf(
      vm.xcr0(), [&vm](uint32_t leaf, uint32_t subleaf) { return vm.Cpuid(leaf, subleaf); });
  process->signals_.SetQueueLimit(HostLimit(RLIMIT_SIGPENDING));
  process->identity_.pid = static_cast<uint32_t>(getpid());
  process->SetNextTid(process->identity_.pid);
  process->ReadLimits();
  return process;
}

// The program starts with the host's limits. The monitor needs descriptors of its own besides all
// that the program may have; without the privilege to get them it takes what it may.
void Process::ReadLimits() {
  absl::MutexLock lock(&mutex_);
  for (int i = 0; i < RLIM_NLIMITS; ++i) {
    getrlimit(static_cast<__rlimit_resource_t>(i), &limits_[static_cast<size_t>(i)]);
  }
  rlimit& descriptors = limits_[RLIMIT_NOFILE];
  rlimit all = {descriptors.rlim_max, descriptors.rlim_max};
  rlimit more = {all.rlim_max + kOwnDescriptors, all.rlim_max + kOwnDescriptors};
  if (all.rlim_max >= kMaxDescriptors || setrlimit(RLIMIT_NOFILE, &more) != 0) {
    setrlimit(RLIMIT_NOFILE, &all);
  }
  descriptors.rlim_max = std::min(descriptors.rlim_max, kMaxDescriptors);
  descriptors.rlim_cur = std::min(descriptors.rlim_cur, kMaxDescriptors);
  files_.SetLimit(descriptors.rlim_cur);
  SetMemoryLimits();
}

uint32_t Process::next_tid() const {
  absl::MutexLock lock(&mutex_);
  return next_tid_;
}

void Process::SetNextTid(uint32_t tid) {
  absl::MutexLock lock(&mutex_);
  next_tid_ = tid;
}

bool Process::HasThread(uint32_t tid) const {
  absl::MutexLock lock(&mutex_);
  auto it = threads_.find(tid);
  return it != threads_.end() && it->second->companion == nullptr;
}

size_t Process::thread_count() const {
  absl::MutexLock lock(&mutex_);
  return ThreadCountLocked();
}

size_t Process::ThreadCountLocked() const {
  if (companions_.empty()) return threads_.size();
  return static_cast<size_t>(std::count_if(threads_.begin(), threads_.end(), [](const auto& it) {
    return it.second->companion == nullptr;
  }));
}

uint64_t Process::exit_count() const {
  absl::MutexLock lock(&mutex_);
  uint64_t count = 0;
  for (const auto& worker : workers_) count += worker->vcpu != nullptr ? worker->vcpu->exits() : 0;
  return count;
}

std::vector<uint32_t> Process::Tids() const {
  absl::MutexLock lock(&mutex_);
  std::vector<uint32_t> tids;
  for (const auto& [tid, thread] : threads_) {
    if (thread->companion == nullptr) tids.push_back(tid);
  }
  return tids;
}

std::string Process::Comm(uint32_t tid) const {
  absl::MutexLock lock(&mutex_);
  auto it = threads_.find(tid);
  return it != threads_.end() ? it->second->comm : "";
}

void Process::SetComm(uint32_t tid, std::string comm) {
  absl::MutexLock lock(&mutex_);
  if (auto it = threads_.find(tid); it != threads_.end()) it->second->comm = std::move(comm);
}

void Process::InterruptLocked(Thread& thread) {
  thread.attention.store(1);
  if (thread.host_tid != 0 && thread.host_tid != gettid()) Kick(thread.host_tid);
}

void Process::Interrupt(uint32_t tid) {
  absl::MutexLock lock(&mutex_);
  if (auto it = threads_.find(tid); it != threads_.end()) InterruptLocked(*it->second);
}

void Process::RedirectSignals() {
  for (uint32_t tid : signals_.Candidates()) Interrupt(tid);
}

int Process::Signal(const siginfo_t& info) {
  if (info.si_signo == SIGKILL) {
    absl::MutexLock lock(&mutex_);
    ReleaseTraced();
  }
  SignalState::SendResult result = signals_.SendToProcess(info);
  if (result.interrupt_tid != 0) Interrupt(result.interrupt_tid);
  return result.error;
}

int Process::SignalThread(uint32_t tid, const siginfo_t& info) {
  absl::MutexLock lock(&mutex_);
  auto it = threads_.find(tid);
  if (it == threads_.end()) return -ESRCH;
  if (info.si_signo == 0) return 0;
  if (info.si_signo == SIGKILL && it->second->companion == nullptr) ReleaseTraced();
  SignalState::SendResult result = signals_.SendToThread(tid, info);
  if (result.interrupt_tid != 0) InterruptLocked(*it->second);
  return result.error;
}

void Process::Pause() { (void)PauseWithin(absl::InfiniteDuration()); }

bool Process::PauseWithin(absl::Duration limit) {
  const absl::Time until = absl::Now() + limit;
  absl::MutexLock lock(&mutex_);
  ++pauses_;
  for (auto& [tid, thread] : threads_) InterruptLocked(*thread);
  while (running_ > 0) {
    if (changed_.WaitWithDeadline(&mutex_, until)) break;
  }
  return running_ == 0;
}

void Process::Resume() {
  absl::MutexLock lock(&mutex_);
  if (--pauses_ > 0) return;
  changed_.SignalAll();
}

void Process::ParkWhilePaused(Thread& thread) {
  {
    absl::MutexLock lock(&mutex_);
    if (!MustPark(thread)) return;
  }
  if (absl::Status status = SaveState(thread); !status.ok()) {
    Log(LogLevel::kError, status.message());
  }
  absl::MutexLock lock(&mutex_);
  --running_;
  changed_.SignalAll();
  while (MustPark(thread)) {
    StopIfTraced(thread);
    changed_.Wait(&mutex_);
  }
  ++running_;
}

void Process::BeginParked(Thread& thread) {
  if (absl::Status status = SaveState(thread); !status.ok()) {
    Log(LogLevel::kError, status.message());
  }
  absl::MutexLock lock(&mutex_);
  --running_;
  changed_.SignalAll();
}

void Process::EndParked() {
  absl::MutexLock lock(&mutex_);
  while (pauses_ > 0) changed_.Wait(&mutex_);
  ++running_;
}

std::vector<Thread*> Process::ParkedThreads() {
  absl::MutexLock lock(&mutex_);
  std::vector<Thread*> all;
  for (auto& [tid, thread] : threads_) all.push_back(thread.get());
  return all;
}

namespace {

constexpr char kPagemap[] = "/proc/self/pagemap";

}  // namespace

void Process::KeepPagemap() {
  absl::MutexLock lock(&mutex_);
  if (!pagemap_.valid()) pagemap_ = OwnedFd(open(kPagemap, O_RDONLY | O_CLOEXEC));
}

OwnedFd Process::OpenPagemap() const {
  OwnedFd anew(open(kPagemap, O_RDONLY | O_CLOEXEC));
  absl::MutexLock lock(&mutex_);
  if (anew.valid() || !pagemap_.valid()) return anew;
  return OwnedFd(fcntl(pagemap_.get(), F_DUPFD_CLOEXEC, 0));
}

absl::Status Process::SaveState(Thread& thread) {
  // Without a vCPU it is as it was restored.
  if (thread.vcpu != nullptr) {
    KM_RETURN_IF_ERROR(thread.vcpu->ReadBases(thread.registers));
    KM_ASSIGN_OR_RETURN(thread.xsave, thread.vcpu->ReadXsave());
  }
  if (changed_settings_.any()) ReadOwnSettings(changed_settings_, &thread.settings);
  return absl::OkStatus();
}

absl::Status Process::LoadState(Thread& thread) {
  KM_RETURN_IF_ERROR(thread.vcpu->WriteBases(thread.registers));
  return thread.vcpu->WriteXsave(thread.xsave);
}

int Process::HostTid(int tid) const {
  {
    absl::MutexLock lock(&mutex_);
    while (true) {
      auto it = threads_.find(static_cast<uint32_t>(tid));
      if (it == threads_.end()) break;
      const Thread* thread = it->second.get();
      // One that was started is there at once for all others; its host thread is on its way.
      const bool coming = std::any_of(workers_.begin(), workers_.end(), [&](const auto& worker) {
        return worker->thread == thread && worker->started;
      });
      if (thread->host_tid != 0 || !coming) return thread->host_tid;
      changed_.Wait(&mutex_);
    }
  }
  return ids_.HostProcess(tid);
}

void Process::SetRobustList(Thread& thread, GuestAddr list) {
  absl::MutexLock lock(&mutex_);
  thread.robust_list = list;
}

int Process::RobustList(uint32_t tid, GuestAddr* list) const {
  absl::MutexLock lock(&mutex_);
  auto it = threads_.find(tid);
  if (it == threads_.end()) return -ESRCH;
  *list = it->second->robust_list;
  return 0;
}

ClockRef Process::Clock(int clock, uint32_t caller) const {
  if (clock == CLOCK_PROCESS_CPUTIME_ID) return {clock, cpu_offset_.total_ns, 0};
  if (clock >= 0 && clock != CLOCK_THREAD_CPUTIME_ID) return {clock, clock_.Offset(clock), 0};
  absl::MutexLock lock(&mutex_);
  if (clock == CLOCK_THREAD_CPUTIME_ID) {
    return {clock, threads_.at(caller)->cpu_offset.total_ns, caller};
  }
  int kind = clock & kClockKind;
  // A clock of a descriptor: its number is one that the host would take for its own.
  if (kind == kClockOfFile) return {};
  auto id = ~static_cast<uint32_t>(clock >> 3);
  if (clock & kClockOfThread) {
    auto thread = threads_.find(id == 0 ? caller : id);
    if (thread == threads_.end()) return {};
    return ThreadCpuClock(kind | kClockOfThread, thread->first, thread->second->host_tid,
                          thread->second->cpu_offset);
  }
  // The kernel lets a thread name its process by the thread's own id.
  if (id == 0 || id == identity_.pid || id == caller) {
    return {CpuClockId(0, kind), kind == kClockUser ? cpu_offset_.user_ns : cpu_offset_.total_ns,
            0};
  }
  return threads_.contains(id) ? ClockRef{} : ClockRef{clock, 0, 0};
}

int Process::Limit(int resource, const std::optional<rlimit>& wanted, rlimit* old) {
  if (resource < 0 || resource >= RLIM_NLIMITS) return -EINVAL;
  absl::MutexLock lock(&mutex_);
  rlimit& limit = limits_[static_cast<size_t>(resource)];
  *old = limit;
  if (!wanted.has_value()) return 0;
  if (wanted->rlim_cur > wanted->rlim_max) return -EINVAL;
  if (wanted->rlim_max > limit.rlim_max && !MayRaiseLimits()) return -EPERM;
  if (resource == RLIMIT_NOFILE && wanted->rlim_max > kMaxDescriptors) return -EPERM;
  switch (resource) {
    case RLIMIT_CPU:
      if (int error = SetHostCpu(*wanted, cpu_offset_.total_ns); error != 0) return -error;
      break;
    case RLIMIT_FSIZE:
    case RLIMIT_MEMLOCK:
    case RLIMIT_MSGQUEUE:
    case RLIMIT_NICE:
    case RLIMIT_RTPRIO:
    case RLIMIT_RTTIME:
      if (setrlimit(static_cast<__rlimit_resource_t>(resource), &*wanted) != 0) return -errno;
      break;
    case RLIMIT_NPROC:
      if (int error = RaiseHostProcesses(*wanted); error != 0) return -error;
      // None that waits for work is to get around it.
      if (wanted->rlim_cur < limit.rlim_cur) HostThreadsDifferLocked();
      break;
    case RLIMIT_NOFILE:
      files_.SetLimit(wanted->rlim_cur);
      break;
    case RLIMIT_SIGPENDING:
      signals_.SetQueueLimit(wanted->rlim_cur);
      break;
    default:
      break;
  }
  limit = *wanted;
  SetMemoryLimits();
  return 0;
}

void Process::SetMemoryLimits() {
  space_.SetLimits(
      {limits_[RLIMIT_AS].rlim_cur, limits_[RLIMIT_DATA].rlim_cur, limits_[RLIMIT_STACK].rlim_cur});
}

std::array<rlimit, RLIM_NLIMITS> Process::Limits() const {
  absl::MutexLock lock(&mutex_);
  return limits_;
}

}  // namespace km
