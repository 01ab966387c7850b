// --idle-exit: for how long nobody has been connected to the program.
#ifndef KM_MONITOR_IDLE_WATCH_H_
#define KM_MONITOR_IDLE_WATCH_H_

#include <cstdint>

#include "km/files/connections.h"

namespace km {

// Reckons with what it is shown from time to time; a connection that came and went in between is
// seen by the number of those that were ever accepted. So the time that is over is never shorter
// than the limit, and longer by two intervals at most. Times are nanoseconds of one clock. For one
// thread.
class IdleWatch {
 public:
  // What a look costs need not be paid more often than this.
  static constexpr int64_t kLeastInterval = 10'000'000;

  explicit IdleWatch(int64_t limit_ns);

  // The program rests: no time goes by until the next Look, which begins anew.
  void Rest() { running_ = false; }
  // Whether it is to be looked at; and until then poll(2)'s timeout, -1 while it rests.
  bool Due(int64_t now) const { return !running_ || now >= next_look_; }
  int timeout_ms(int64_t now) const;
  // What was found, and how many connections were accepted so far: whether the limit is over. A
  // program that listens nowhere is never idle: it is no service, or none yet.
  bool Look(const Connections& found, uint64_t accepted, int64_t now);

 private:
  const int64_t limit_;
  const int64_t interval_;
  bool running_ = false;
  bool was_busy_ = false;  // by the last look
  uint64_t accepted_ = 0;
  int64_t since_ = 0;  // nobody has been connected from then on
  int64_t next_look_ = 0;
};

}  // namespace km

#endif  // KM_MONITOR_IDLE_WATCH_H_
