// The snapshots that clients ask for: one after the other, each written by a process of its own.
#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "km/base/status.h"
#include "km/monitor/control_desk.h"
#include "km/monitor/timed_pause.h"
#include "km/snapshot/bases.h"
#include "km/snapshot/new_file.h"

namespace km {
namespace {

constexpr size_t kMaxOrders = 64;

// A file that a client sent, for a snapshot. The monitor writes at offsets of its choice.
absl::Status IsForWriting(int fd) {
  struct stat status = {};
  const int flags = fcntl(fd, F_GETFL);
  if (fstat(fd, &status) == 0 && S_ISREG(status.st_mode) && status.st_size == 0 && flags >= 0 &&
      (flags & O_ACCMODE) != O_RDONLY && (flags & (O_APPEND | O_PATH)) == 0) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      "the descriptor is to be an empty regular file, open for writing, without O_APPEND");
}

// A program that gave up rights gave up the monitor's.
absl::Status MayWrite(const std::string& path) {
  const absl::Status status = NewFile::MayCreate(path);
  if (!absl::IsPermissionDenied(status)) return absl::OkStatus();  // the writer says what is wrong
  return absl::PermissionDeniedError(
      absl::StrCat("no snapshot was taken: writing ", path, ": ", status.message(),
                   ", with the rights that the program has (kmctl snapshot -o FILE uses yours)"));
}

}  // namespace

absl::StatusOr<Json> ControlDesk::Snapshot(const Asked& asked) {
  SnapshotOrder order;
  order.by = asked;
  order.file = server_->TakeDescriptor(asked.client);
  KM_ASSIGN_OR_RETURN(order.path, TextOr(asked.request, "path", monitor_.snapshot_path_));
  KM_ASSIGN_OR_RETURN(order.label, TextOr(asked.request, "label", ""));
  KM_ASSIGN_OR_RETURN(order.description, TextOr(asked.request, "description", ""));
  KM_ASSIGN_OR_RETURN(order.stop, FlagOr(asked.request, "stop", false));
  KM_ASSIGN_OR_RETURN(order.keep_tcp, FlagOr(asked.request, "keep_tcp",
                                             order.stop && monitor_.options_.files.keep_tcp));
  KM_ASSIGN_OR_RETURN(order.keep_dontdump,
                      FlagOr(asked.request, "keep_dontdump", monitor_.options_.keep_dontdump));
  if (order.keep_tcp && !order.stop) {
    return absl::InvalidArgumentError(
        "TCP connections can only be kept where the program ends (stop)");
  }
  if (asked.request.contains("base")) {
    KM_ASSIGN_OR_RETURN(order.base, FlagOr(asked.request, "base", false));
  }
  if (order.path.empty() || order.path[0] != '/') {
    return absl::InvalidArgumentError("'path' is to be absolute");
  }
  KM_RETURN_IF_ERROR(order.file.valid() ? IsForWriting(order.file.get()) : MayWrite(order.path));
  if (orders_.size() >= kMaxOrders) {
    return absl::ResourceExhaustedError("too many snapshots are waited for already");
  }
  if (ended_) return absl::FailedPreconditionError("the program has ended");
  KM_RETURN_IF_ERROR(HasBegun());
  order.asked_ns = Now();
  orders_.push_back(std::move(order));
  if (live_ == nullptr) StartNextSnapshot();
  return Json();
}

void ControlDesk::StartNextSnapshot() {
  while (live_ == nullptr && !ending_.has_value() && !orders_.empty()) {
    // Nobody is there any more who wants it.
    if (!server_->Connected(orders_.front().by.client)) {
      orders_.pop_front();
      continue;
    }
    if (absl::Status status = StartSnapshot(orders_.front()); !status.ok()) SnapshotEnded(status);
  }
}

absl::StatusOr<bool> ControlDesk::OnBase(const SnapshotOrder& order) const {
  const std::vector<SnapshotFile>& sources = monitor_.process_->identity().sources;
  const bool asked = order.base.value_or(false);
  if (!order.base.value_or(true)) return false;
  absl::Status problem;
  if (sources.empty()) {
    problem = absl::FailedPreconditionError(
        "there is nothing to build on: the process was not resumed from a snapshot");
  }
  if (sources.size() > kMaxBases) {
    problem = absl::FailedPreconditionError(
        absl::StrCat("it would be built on more than ", kMaxBases, " snapshots (kmctl merge)"));
  }
  std::vector<OwnedFd> files;
  for (const SnapshotFile& source : sources) {
    absl::StatusOr<OwnedFd> file = OpenBase(source, "/");
    problem.Update(file.status());
    if (file.ok()) files.push_back(*std::move(file));
  }
  if (problem.ok() && IsOneOf(order.path, files)) {
    problem = absl::FailedPreconditionError(
        absl::StrCat("'", order.path, "' is what the snapshot would be built on"));
  }
  if (asked) KM_RETURN_IF_ERROR(problem);
  return problem.ok();
}

absl::Status ControlDesk::StartSnapshot(SnapshotOrder& order) {
  Process& process = *monitor_.process_;
  CaptureOptions capture =
      monitor_.OptionsFor(process.identity().pid, order.label, order.description);
  KM_ASSIGN_OR_RETURN(capture.on_base, OnBase(order));
  capture.keep_tcp = order.keep_tcp;
  capture.keep_dontdump = order.keep_dontdump;
  WriteOptions write_options;
  write_options.sync = monitor_.options_.sync;
  write_options.file = order.file.get();
  std::optional<TouchedPages> running;
  if (!order.stop) {
    KM_ASSIGN_OR_RETURN(running,
                        TouchedPages::Open(process.memory().window(), process.OpenPagemap()));
    write_options.running = &*running;
  }
  const int64_t begin = Now();
  const TimedPause pause(&process);
  KM_RETURN_IF_ERROR(pause.status());
  monitor_.ForwardSignals();  // what came before all stood still is in no other queue
  KM_ASSIGN_OR_RETURN(Captured captured, Capture(process, capture));
  order.bases = captured.image.bases.size();
  order.warnings = std::move(captured.warnings);
  // Where it fails they go on before the program does, which would read and write what is held.
  HeldConnections connections = std::move(captured.connections);
  KM_ASSIGN_OR_RETURN(live_, LiveWriter::Start(std::move(captured), order.path, write_options));
  order.connections = std::move(connections);
  // The program does not go on behind what the file says of it.
  if (order.stop) process.Pause();
  order.stopped_ns = Now() - begin;
  return absl::OkStatus();
}

void ControlDesk::AwaitWriterOf(const std::string& path) {
  if (live_ != nullptr && orders_.front().path == path) ServeWriter(true);
}

void ControlDesk::ServeWriter(bool finished) {
  if (live_ == nullptr) return;
  if (finished) {
    const absl::Status status = live_->Finish();
    SnapshotEnded(status);
    return StartNextSnapshot();
  }
  const SnapshotOrder& order = orders_.front();
  server_->Send(order.by.client, {{"version", kControlVersion},
                                  {"id", order.by.request.value("id", Json())},
                                  {"event", "progress"},
                                  {"done_bytes", std::min(live_->done(), live_->total())},
                                  {"total_bytes", live_->total()},
                                  {"elapsed_ns", Now() - order.asked_ns}});
}

void ControlDesk::SnapshotEnded(const absl::Status& status) {
  SnapshotOrder order = std::move(orders_.front());
  orders_.pop_front();
  const bool was_paused = order.stop && live_ != nullptr;
  live_.reset();
  if (monitor_.stats_ != nullptr && status.ok()) monitor_.stats_->CountSnapshot(order.stopped_ns);
  if (!status.ok()) {
    const Asked by = order.by;
    if (was_paused) GoOn(std::move(order));
    return server_->Send(by.client,
                         ErrorAnswer(by.request, "no-snapshot",
                                     absl::StrCat("no snapshot was taken: ", status.message())));
  }
  monitor_.SnapshotWritten(order.path);
  server_->Send(order.by.client, Answer(order.by.request, AnswerOf(order)));
  if (order.stop && order.file.valid()) {
    // Who went away meanwhile will give it no name.
    if (!server_->Connected(order.by.client)) return GoOn(std::move(order));
    ending_ = std::move(order);
  } else if (order.stop) {
    monitor_.EndInFile();
  }
}

Json ControlDesk::AnswerOf(const SnapshotOrder& order) const {
  struct stat written = {};
  (void)(order.file.valid() ? fstat(order.file.get(), &written)
                            : stat(order.path.c_str(), &written));
  return {{"path", order.path},
          {"file_bytes", written.st_size},
          {"stopped_ns", order.stopped_ns},
          {"elapsed_ns", Now() - order.asked_ns},
          {"bases", order.bases},
          {"warnings", order.warnings},
          {"ended", order.stop && !order.file.valid()}};
}

void ControlDesk::GoOn(SnapshotOrder order) {
  order.connections = {};
  monitor_.process_->Resume();
}

absl::StatusOr<Json> ControlDesk::End(const Asked& asked) {
  if (!ending_.has_value() || ending_->by.client != asked.client) {
    return absl::FailedPreconditionError(
        "this is for the client that has a snapshot with 'stop' in a file of its own");
  }
  // Nothing goes on any more, wherever its client is by now: this order is never destroyed.
  const SnapshotOrder order = *std::exchange(ending_, std::nullopt);
  server_->Send(asked.client, Answer(asked.request, {{"ended", true}}));
  monitor_.EndInFile();
}

}  // namespace km
