#include "km/monitor/control_desk.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "km/base/host_files.h"
#include "km/base/status.h"
#include "km/base/version.h"
#include "km/monitor/timed_pause.h"
#include "km/process/clock.h"
#include "km/signals/siginfo.h"
#include "km/snapshot/restore.h"

namespace km {
namespace {

constexpr size_t kMaxWaiting = 1024;

// Of the monitor: the program's memory that is there, and its own.
uint64_t ResidentBytes() {
  unsigned long long total = 0, resident = 0;
  if (sscanf(HostText("/proc/self/statm").c_str(), "%llu %llu", &total, &resident) != 2) return 0;
  return resident * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
}

bool IsResumed(const Identity& identity) {
  return std::any_of(identity.snapshot_id.begin(), identity.snapshot_id.end(),
                     [](uint8_t byte) { return byte != 0; });
}

std::string HexId(const std::array<uint8_t, 16>& id) {
  return absl::BytesToHexString({reinterpret_cast<const char*>(id.data()), id.size()});
}

}  // namespace

const ControlDesk::Verb ControlDesk::kVerbs[] = {
    {"info", &ControlDesk::Info},         {"pause", &ControlDesk::Pause},
    {"resume", &ControlDesk::Resume},     {"check", &ControlDesk::Check},
    {"snapshot", &ControlDesk::Snapshot}, {"signal", &ControlDesk::Signal},
    {"trace", &ControlDesk::Trace},       {"stats", &ControlDesk::Statistics},
    {"supply", &ControlDesk::Supply},     {"wait", &ControlDesk::Wait},
    {"end", &ControlDesk::End},
};

int64_t ControlDesk::Now() { return HostClock(CLOCK_MONOTONIC); }

ControlDesk::ControlDesk(Monitor* monitor, std::unique_ptr<ControlServer> server)
    : monitor_(*monitor), server_(std::move(server)) {}

ControlDesk::~ControlDesk() = default;

void ControlDesk::ServeSocket() {
  server_->Serve([this](ControlServer::Client client, const Json& request) {
    Serve({client, request});
  });
  // Nobody is there any more who wants it.
  if (live_ != nullptr && !server_->Connected(orders_.front().by.client)) live_->Cancel();
  if (ending_.has_value() && !server_->Connected(ending_->by.client)) {
    GoOn(*std::exchange(ending_, std::nullopt));
    StartNextSnapshot();
  }
}

bool ControlDesk::Due() {
  const int timeout = timeout_ms();
  if (timeout < 0) {
    due_ns_ = 0;
    return false;
  }
  const int64_t now = Now();
  const bool due = due_ns_ != 0 && now >= due_ns_;
  if (due || due_ns_ == 0) due_ns_ = now + int64_t{timeout} * 1000000;
  return due;
}

void ControlDesk::Serve(const Asked& asked) {
  const std::string verb = asked.request["verb"];
  const auto* row = std::find_if(std::begin(kVerbs), std::end(kVerbs),
                                 [&verb](const Verb& known) { return verb == known.name; });
  if (row == std::end(kVerbs)) {
    return server_->Send(asked.client, ErrorAnswer(asked.request, "unknown-verb",
                                                   absl::StrCat("there is no '", verb, "'")));
  }
  absl::StatusOr<Json> result = (this->*row->serve)(asked);
  if (!result.ok()) {
    const char* code = absl::IsInvalidArgument(result.status())    ? "bad-request"
                       : absl::IsPermissionDenied(result.status()) ? kNoPermission
                                                                   : "failed";
    return server_->Send(asked.client, ErrorAnswer(asked.request, code, result.status().message()));
  }
  if (!result->is_null()) server_->Send(asked.client, Answer(asked.request, *std::move(result)));
}

absl::StatusOr<Json> ControlDesk::Info(const Asked& /*asked*/) {
  Process& process = *monitor_.process_;
  const Identity& identity = process.identity();
  uint64_t mapped = 0;
  for (const Mapping& mapping : process.space().Mappings()) mapped += mapping.end - mapping.start;
  Json info = {
      {"pid", getpid()},
      {"name", process.Comm(identity.pid)},
      {"program", identity.executable},
      {"command", identity.command_line},
      {"state", held_                          ? "paused"
                : !monitor_.listeners_.empty() ? "waiting"
                                               : "running"},
      {"threads", process.thread_count()},
      {"descriptors", monitor_.restoration_ != nullptr ? monitor_.restoration_->descriptor_count()
                                                       : process.files().Entries().size()},
      {"uptime_ns", Now() - monitor_.start_ns_},
      {"exits", process.exit_count()},
      {"mapped_bytes", mapped},
      {"resident_bytes", ResidentBytes()},
      {"snapshot_path", monitor_.snapshot_path_},
      {"writing_snapshot", live_ != nullptr},
      {"km", kKmVersion},
      {"socket", server_->path()}};
  if (IsResumed(identity)) {
    info["resumed_from"] = {{"id", HexId(identity.snapshot_id)},
                            {"path", monitor_.options_.program[0]}};
  }
  if (const auto& last = monitor_.last_snapshot_; last.has_value()) {
    info["last_snapshot"] = {{"path", last->path}, {"realtime_ns", last->realtime_ns}};
  }
  return info;
}

void ControlDesk::Hold() {
  held_ = true;
  monitor_.process_->Pause();
}

absl::StatusOr<Json> ControlDesk::Pause(const Asked& /*asked*/) {
  const int64_t begin = Now();
  const bool before = held_;
  if (!held_) {
    const TimedPause pause(monitor_.process_.get());
    KM_RETURN_IF_ERROR(pause.status());
    Hold();
  }
  return Json{{"state", "paused"}, {"was_paused", before}, {"pause_ns", Now() - begin}};
}

absl::StatusOr<Json> ControlDesk::Resume(const Asked& asked) {
  if (monitor_.restoration_ == nullptr) {
    monitor_.EndWaiting();
  } else if (absl::Status status = monitor_.BeginHeld(); !status.ok()) {
    server_->Send(asked.client, ErrorAnswer(asked.request, "failed", status.message()));
    monitor_.EndUnbegun(status);
  }
  const bool before = std::exchange(held_, false);
  if (before) monitor_.process_->Resume();
  return Json{{"state", monitor_.listeners_.empty() ? "running" : "waiting"},
              {"was_paused", before}};
}

// What was not opened yet can be in no snapshot.
absl::Status ControlDesk::HasBegun() const {
  if (monitor_.restoration_ == nullptr) return absl::OkStatus();
  return absl::FailedPreconditionError(
      "it is as its file has it, and has opened no descriptor yet: resume it first (kmctl resume)");
}

// A descriptor of a snapshot that is held, as with --fd.
absl::StatusOr<Json> ControlDesk::Supply(const Asked& asked) {
  const OwnedFd received = server_->TakeDescriptor(asked.client);
  SuppliedFile supplied;
  KM_ASSIGN_OR_RETURN(const int64_t number, NumberOr(asked.request, "fd", -1));
  KM_ASSIGN_OR_RETURN(supplied.path, TextOr(asked.request, "path", ""));
  if (number < 0 || number > INT32_MAX) {
    return absl::InvalidArgumentError("'fd' is to be the number of a descriptor of the snapshot");
  }
  if (received.valid() != supplied.path.empty()) {
    return absl::InvalidArgumentError("either one descriptor is to come with it, or a 'path'");
  }
  if (!supplied.path.empty() && supplied.path[0] != '/') {
    return absl::InvalidArgumentError("'path' is to be absolute");
  }
  if (monitor_.restoration_ == nullptr) {
    return absl::FailedPreconditionError(
        "descriptors can be supplied to a snapshot that km --paused holds, until it is resumed for "
        "the first time");
  }
  supplied.number = static_cast<uint32_t>(number);
  supplied.fd = received.get();
  supplied.received = true;
  const absl::Status status = monitor_.restoration_->Supply(supplied);
  if (!status.ok()) return absl::FailedPreconditionError(status.message());
  return Json{{"fd", number}};
}

absl::StatusOr<Json> ControlDesk::Check(const Asked& /*asked*/) {
  KM_RETURN_IF_ERROR(HasBegun());
  const int64_t begin = Now();
  const TimedPause pause(monitor_.process_.get());
  KM_RETURN_IF_ERROR(pause.status());
  Process& process = *monitor_.process_;
  const absl::StatusOr<Captured> captured =
      Capture(process, monitor_.OptionsFor(process.identity().pid, "", ""));
  if (!captured.ok()) {
    return Json{{"possible", false}, {"obstacles", captured.status().message()}};
  }
  uint64_t bytes = 0;
  for (const ImageMemory& piece : captured->image.memory) bytes += piece.size;
  return Json{{"possible", true},
              {"memory_bytes", bytes},
              {"warnings", captured->warnings},
              {"stopped_ns", Now() - begin}};
}

absl::StatusOr<Json> ControlDesk::Signal(const Asked& asked) {
  KM_ASSIGN_OR_RETURN(const int64_t sig, NumberOr(asked.request, "signal", -1));
  if (sig < 1 || sig > kMaxSignal) {
    return absl::InvalidArgumentError("'signal' is to be a number from 1 to 64");
  }
  const siginfo_t info =
      SenderSiginfo(static_cast<int>(sig), SI_USER,
                    static_cast<int32_t>(server_->PidOf(asked.client)), geteuid());
  if (int error = monitor_.process_->Signal(info); error != 0) {
    return ErrnoStatus(-error, "the program's signal queue");
  }
  if (!held_) monitor_.EndWaiting();  // as for a signal that comes otherwise
  return Json::object();
}

absl::StatusOr<Json> ControlDesk::Trace(const Asked& asked) {
  KM_ASSIGN_OR_RETURN(const bool on, FlagOr(asked.request, "on", true));
  KM_ASSIGN_OR_RETURN(const std::string filter, TextOr(asked.request, "filter", ""));
  std::unique_ptr<Tracer> tracer;
  if (on) {
    KM_ASSIGN_OR_RETURN(tracer, Tracer::Create(filter));
  }
  const TimedPause pause(monitor_.process_.get());
  KM_RETURN_IF_ERROR(pause.status());
  monitor_.tracer_ = std::move(tracer);
  return Json{{"tracing", on}};
}

// {"count": true} begins to count, {"count": false} ends it; the answer is what was counted so far.
absl::StatusOr<Json> ControlDesk::Statistics(const Asked& asked) {
  const bool counting = monitor_.stats_ != nullptr;
  KM_ASSIGN_OR_RETURN(const bool count, FlagOr(asked.request, "count", counting));
  Json result = {{"counting", count}, {"was_counting", counting}};
  if (counting) {
    const int64_t now = Now();
    result.update(monitor_.stats_->Figures(now));
    result["table"] = monitor_.stats_->Table(now);
  }
  if (count != counting) {
    const TimedPause pause(monitor_.process_.get());
    KM_RETURN_IF_ERROR(pause.status());
    monitor_.stats_ = count ? std::make_unique<Stats>(Now()) : nullptr;
  }
  return result;
}

absl::StatusOr<Json> ControlDesk::Wait(const Asked& asked) {
  if (waiting_.size() >= kMaxWaiting) {
    std::erase_if(waiting_, [this](const Asked& one) { return !server_->Connected(one.client); });
    if (waiting_.size() >= kMaxWaiting)
      return absl::ResourceExhaustedError("too many wait already");
  }
  waiting_.push_back(asked);
  return Json();
}

void ControlDesk::ProgramEnded(const ExitStatus& status) {
  ended_ = true;
  ServeSocket();  // who has asked already gets an answer
  if (live_ != nullptr) {
    // Natively nothing of the program runs any more.
    monitor_.process_->Pause();
    const absl::Status written = live_->Finish();
    orders_.front().stop = false;
    SnapshotEnded(written);
  }
  for (const SnapshotOrder& order : orders_) {
    server_->Send(order.by.client,
                  ErrorAnswer(order.by.request, "no-snapshot", "the program has ended"));
  }
  for (const Asked& one : waiting_) {
    Json how = status.signal != 0 ? Json{{"signal", status.signal}}
                                  : Json{{"exit_status", status.status & 0xff}};
    server_->Send(one.client, Answer(one.request, std::move(how)));
  }
}

}  // namespace km
