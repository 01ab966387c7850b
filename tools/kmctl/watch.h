// Looks at the running monitors again and again, and measures what they use.
#ifndef TOOLS_KMCTL_WATCH_H_
#define TOOLS_KMCTL_WATCH_H_

#include <poll.h>
#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/btree_map.h"
#include "km/control/client.h"

namespace km {

// What is known of one monitor. What cannot be known is nullopt: of the rates at the first look, of
// memory where /proc may not be read.
struct MonitorFigures {
  pid_t pid = 0;
  std::string name, state;
  uint64_t threads = 0;
  std::optional<double> cpu_percent;  // of one processor, since the look before
  std::optional<uint64_t> shared_bytes,
      own_bytes;  // pages that others map too, and those of its own
  std::optional<double> exits_per_second;
  Json last_snapshot;  // as in the answer to "info", or null
};

// For one thread. Nothing here waits for a monitor: a look is Ask, then poll(2) and Receive until
// complete() or for as long as one likes, then Measure. A monitor that has not answered by then is
// silent, which the next looks do not wait for.
class MonitorWatch {
 public:
  // Finds the monitors that came, and asks those that have answered what they were asked before.
  void Ask();
  void AddTo(std::vector<pollfd>* fds) const;
  // Takes the answers that are there, and forgets the monitors that went.
  void Receive();
  bool complete() const;
  // By pid.
  std::vector<MonitorFigures> Measure();

 private:
  // What the rates are computed from.
  struct Sample {
    int64_t at_ns = 0, cpu_ns = 0;  // CLOCK_MONOTONIC here, and the process's processor time
  };
  struct Count {
    uint64_t at_ns = 0, exits = 0;  // the monitor's uptime, and its exits
  };
  struct Watched {
    ControlClient client;
    pid_t pid = 0;        // as this process sees it
    Json info;            // its last answer, or null
    bool asked = false;   // and has not answered yet
    bool silent = false;  // for a whole look
    std::optional<Sample> sample = {};
    std::optional<Count> count = {}, count_before = {};
  };

  static MonitorFigures MeasureOne(Watched& monitor);

  absl::btree_map<std::string, Watched> watched_;  // by socket
};

}  // namespace km

#endif  // TOOLS_KMCTL_WATCH_H_
