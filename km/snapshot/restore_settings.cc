#include "km/snapshot/restore_settings.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "km/base/status.h"

namespace km {
namespace {

// Those that bind what a resume itself does: scheduling, and making threads.
bool BindsSettings(size_t limit) {
  return limit == RLIMIT_NICE || limit == RLIMIT_RTPRIO || limit == RLIMIT_NPROC;
}

// And making memory, files and queues. The program may have lowered them below what it has.
bool BindsWhatIsMade(size_t limit) {
  return limit == RLIMIT_AS || limit == RLIMIT_DATA || limit == RLIMIT_MEMLOCK ||
         limit == RLIMIT_FSIZE || limit == RLIMIT_MSGQUEUE;
}

bool ComesLast(size_t limit) { return BindsSettings(limit) || BindsWhatIsMade(limit); }

// Who may not raise a hard limit gets as much as there is. Of processor time that is what may be
// spent from here on, and stays.
void SetLimit(int resource, rlimit wanted, Process& process) {
  rlimit present, old;
  if (process.Limit(resource, wanted, &present) != -EPERM || resource == RLIMIT_CPU) return;
  wanted.rlim_max = std::min(wanted.rlim_max, present.rlim_max);
  wanted.rlim_cur = std::min(wanted.rlim_cur, wanted.rlim_max);
  (void)process.Limit(resource, wanted, &old);
}

void SetLimits(const Image& image, bool last, Process& process) {
  const std::vector<std::array<uint64_t, 2>>& limits = image.process.limits;
  for (size_t i = 0; i < limits.size() && i < RLIM_NLIMITS; ++i) {
    if (ComesLast(i) == last) {
      SetLimit(static_cast<int>(i), {limits[i][0], limits[i][1]}, process);
    }
  }
}

// As far as whoever resumes may go: the program may have lowered its limits since it went there.
void RaiseLimits(Process& process) {
  for (int limit : {RLIMIT_NICE, RLIMIT_RTPRIO}) {
    rlimit most, old;
    if (process.Limit(limit, std::nullopt, &most) != 0) continue;
    most.rlim_cur = most.rlim_max;
    (void)process.Limit(limit, most, &old);
  }
}

absl::Status RestoreThread(const ImageThread& from, Thread* thread, Process& process) {
  if (from.settings.empty()) return absl::OkStatus();
  const std::string whose = absl::StrCat("thread ", from.tid);
  ChangedSettings* changed = &process.changed_settings();
  if (from.settings.credentials.has_value()) process.KeepPagemap();
  absl::Status status;
  pid_t host_tid = 0;
  process.OnHostThread(thread, [&] {
    host_tid = gettid();
    status = ApplyOwnSettings(from.settings, whose, changed);
  });
  KM_RETURN_IF_ERROR(status);
  process.HostThreadsDiffer();
  // From here, so that nothing waits for a thread that is only to run when the machine is idle.
  return ApplyScheduling(from.settings, host_tid, whose, changed);
}

}  // namespace

void RestoreLimits(const Image& image, Process& process) {
  SetLimits(image, false, process);
  const std::vector<std::array<uint64_t, 2>>& limits = image.process.limits;
  for (size_t i = 0; i < limits.size() && i < RLIM_NLIMITS; ++i) {
    rlimit present;
    const int resource = static_cast<int>(i);
    if (!BindsWhatIsMade(i) || process.Limit(resource, std::nullopt, &present) != 0) continue;
    const rlim_t most = std::max<rlim_t>(present.rlim_max, limits[i][1]);
    SetLimit(resource, {most, most}, process);
  }
}

// The main thread comes behind all others, whose host threads it has made.
absl::Status RestoreSettings(const Image& image, Process& process) {
  ChangedSettings& changed = process.changed_settings();
  KM_RETURN_IF_ERROR(ApplyMappingPolicies(image.policies, process.space(), &changed));
  RaiseLimits(process);
  std::vector<Thread*> threads = process.ParkedThreads();
  for (const ImageThread& from : image.threads) {
    auto thread = std::find_if(threads.begin(), threads.end(),
                               [&from](const Thread* t) { return t->tid == from.tid; });
    KM_RETURN_IF_ERROR(RestoreThread(from, *thread, process));
  }
  for (const ImageThread& from : image.threads) {
    if (from.tid == image.process.pid) KM_RETURN_IF_ERROR(FollowSettings(from.settings));
  }
  SetLimits(image, true, process);
  if (!image.process.oom_score.has_value()) return absl::OkStatus();
  return ApplyOomScore(*image.process.oom_score, &changed);
}

// Whether the process may be dumped, which decides who may read /proc/self, and which a change of
// credentials changes, comes at last.
absl::Status RestoreCredentials(const Image& image, Process& process) {
  for (const ImageThread& from : image.threads) {
    if (from.tid == image.process.pid) KM_RETURN_IF_ERROR(FollowCredentials(from.settings));
  }
  if (!image.process.prctl.empty()) process.KeepPagemap();
  return ApplyProcessSettings(image.process.prctl, &process.changed_settings());
}

}  // namespace km
