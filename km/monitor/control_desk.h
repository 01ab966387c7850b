// What kmctl asks of a running monitor, over its control socket (docs/control-protocol.md).
#ifndef KM_MONITOR_CONTROL_DESK_H_
#define KM_MONITOR_CONTROL_DESK_H_

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "km/control/server.h"
#include "km/monitor/monitor.h"
#include "km/snapshot/live_writer.h"

namespace km {

// For the main thread.
class ControlDesk {
 public:
  // Serves `server`'s clients for `monitor`, which outlives it.
  ControlDesk(Monitor* monitor, std::unique_ptr<ControlServer> server);
  ~ControlDesk();
  ControlDesk(const ControlDesk&) = delete;
  ControlDesk& operator=(const ControlDesk&) = delete;

  // What the main loop waits for: readable descriptors, or -1; and for so long (poll's timeout).
  void AddTo(std::vector<pollfd>* fds) const { server_->AddTo(fds); }
  int writer() const { return live_ != nullptr ? live_->fd() : -1; }
  int timeout_ms() const { return live_ != nullptr ? kProgressMs : server_->timeout_ms(); }
  // Whether that time is over since it last was, however often the main loop came round meanwhile.
  bool Due();

  void ServeSocket();
  // The writer of a live snapshot has finished (`finished`), or some time has gone by.
  void ServeWriter(bool finished);
  // Waits for a writer whose file is to be `path`: one that is written later is not to be replaced
  // by it.
  void AwaitWriterOf(const std::string& path);
  // The program has ended: waits for the writer, and tells those who wait.
  void ProgramEnded(const ExitStatus& status);
  // Stops the program before it has begun (--paused).
  void Hold();
  // Whether the program stands still for a client: until that lets it go on, or until its last
  // snapshot is written and has a name.
  bool StandsStill() const {
    return held_ || ending_.has_value() || (live_ != nullptr && orders_.front().stop);
  }

 private:
  static constexpr int kProgressMs = 200;

  struct Asked {
    ControlServer::Client client = 0;
    Json request;
  };
  struct SnapshotOrder {
    Asked by;
    std::string path, label, description;
    OwnedFd file;  // the client's, who gives it the name `path`; none: the monitor makes it
    bool stop = false;
    bool keep_tcp = false, keep_dontdump = false;
    HeldConnections connections;  // with keep_tcp; they never go on here where the process ends
    // Whether memory that a snapshot has which the process was resumed from stays there; nothing:
    // where that can be.
    std::optional<bool> base;
    size_t bases = 0;  // how many snapshots it is built on
    std::vector<std::string> warnings;
    int64_t asked_ns = 0, stopped_ns = 0;
  };
  struct Verb {
    const char* name;
    absl::StatusOr<Json> (ControlDesk::*serve)(const Asked&);
  };
  static const Verb kVerbs[];

  static int64_t Now();
  absl::Status HasBegun() const;
  void Serve(const Asked& asked);
  absl::StatusOr<Json> Info(const Asked& asked);
  absl::StatusOr<Json> Pause(const Asked& asked);
  absl::StatusOr<Json> Resume(const Asked& asked);
  absl::StatusOr<Json> Check(const Asked& asked);
  absl::StatusOr<Json> Signal(const Asked& asked);
  absl::StatusOr<Json> Trace(const Asked& asked);
  absl::StatusOr<Json> Statistics(const Asked& asked);
  absl::StatusOr<Json> Supply(const Asked& asked);
  // These two answer later; then the result is null.
  absl::StatusOr<Json> Snapshot(const Asked& asked);
  absl::StatusOr<Json> Wait(const Asked& asked);
  absl::StatusOr<Json> End(const Asked& asked);

  // control_snapshots.cc
  void StartNextSnapshot();
  absl::Status StartSnapshot(SnapshotOrder& order);
  absl::StatusOr<bool> OnBase(const SnapshotOrder& order) const;
  void SnapshotEnded(const absl::Status& status);
  Json AnswerOf(const SnapshotOrder& order) const;
  // The program that stands still behind its file goes on after all.
  void GoOn(SnapshotOrder order);

  Monitor& monitor_;
  const std::unique_ptr<ControlServer> server_;
  bool held_ = false;   // by a client's pause
  bool ended_ = false;  // the program has
  int64_t due_ns_ = 0;  // 0: nothing is waited for
  std::vector<Asked> waiting_;
  std::deque<SnapshotOrder> orders_;  // the first is the one that live_ writes
  std::unique_ptr<LiveWriter> live_;
  // Its client has a file and is to give it its name; then the program ends. It stands still.
  std::optional<SnapshotOrder> ending_;
};

}  // namespace km

#endif  // KM_MONITOR_CONTROL_DESK_H_
