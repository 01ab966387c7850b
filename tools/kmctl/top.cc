#include "tools/kmctl/top.h"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "km/base/status.h"
#include "km/process/clock.h"
#include "km/process/host_signals.h"
#include "tools/kmctl/answers.h"
#include "tools/kmctl/names.h"
#include "tools/kmctl/screen.h"
#include "tools/kmctl/watch.h"

namespace km {
namespace {

constexpr size_t kNameColumns = 15;
constexpr int64_t kAnswerPatience = 1000000000;  // nanoseconds
constexpr char kNone[] = "no km is running";

std::string DecimalOr(const std::optional<double>& number) {
  return number.has_value() ? absl::StrFormat("%.1f", *number) : "-";
}

std::string CountOr(const std::optional<double>& number) {
  return number.has_value() ? absl::StrFormat("%.0f", *number) : "-";
}

std::string SizeOr(const std::optional<uint64_t>& bytes) {
  return bytes.has_value() ? SizeText(*bytes) : "-";
}

std::vector<std::string> Table(const std::vector<MonitorFigures>& all) {
  if (all.empty()) return {kNone};
  std::vector<std::string> lines = {
      "    PID  NAME             STATE    THREADS    CPU%      SHARED         OWN   EXITS/S  "
      "SNAPSHOT"};
  for (const MonitorFigures& one : all) {
    lines.push_back(absl::StrFormat(
        "%7d  %s  %-7s  %7s  %6s  %10s  %10s  %8s  %8s", one.pid,
        Fit(one.name.empty() ? "-" : one.name, kNameColumns, true), one.state,
        one.threads != 0 ? absl::StrCat(one.threads) : "-", DecimalOr(one.cpu_percent),
        SizeOr(one.shared_bytes), SizeOr(one.own_bytes), CountOr(one.exits_per_second),
        one.last_snapshot.is_object() ? AgeText(one.last_snapshot) : "-"));
  }
  return lines;
}

template <typename T>
Json NumberOrNull(const std::optional<T>& number) {
  return number.has_value() ? Json(*number) : Json();
}

Json Objects(const std::vector<MonitorFigures>& all) {
  Json objects = Json::array();
  for (const MonitorFigures& one : all) {
    objects.push_back({{"pid", one.pid},
                       {"name", one.name},
                       {"state", one.state},
                       {"threads", one.threads != 0 ? Json(one.threads) : Json()},
                       {"cpu_percent", NumberOrNull(one.cpu_percent)},
                       {"shared_bytes", NumberOrNull(one.shared_bytes)},
                       {"own_bytes", NumberOrNull(one.own_bytes)},
                       {"exits_per_second", NumberOrNull(one.exits_per_second)},
                       {"last_snapshot", one.last_snapshot}});
  }
  return objects;
}

// What --once and the screen have in common: looks, and what is waited for between them.
class View {
 public:
  View(double interval, std::unique_ptr<Screen> screen)
      : interval_(static_cast<int64_t>(interval * 1e9)), screen_(std::move(screen)) {}

  // One look, then nothing until the interval is over. False: the user or an error ends it.
  bool Look() {
    const int64_t begin = Now();
    watch_.Ask();
    if (!Wait(begin + kAnswerPatience, true)) return false;
    figures_ = watch_.Measure();
    return Draw() && Wait(begin + interval_, false);
  }
  // One look that ends with the last answer.
  std::vector<MonitorFigures> LastLook() {
    watch_.Ask();
    Wait(Now() + kAnswerPatience, true);
    return watch_.Measure();
  }

  const absl::Status& status() const { return status_; }
  int end_signal() const { return screen_->end_signal(); }

 private:
  bool Draw() {
    if (screen_ == nullptr) return true;
    std::vector<std::string> lines = {
        absl::StrFormat("kmctl top: %d running, every %g s; q ends it", figures_.size(),
                        static_cast<double>(interval_) / 1e9),
        ""};
    for (std::string& line : Table(figures_)) lines.push_back(std::move(line));
    status_ = screen_->Show(lines);
    return status_.ok();
  }

  static int64_t Now() { return HostClock(CLOCK_MONOTONIC); }

  // Until then, or until all answers are there.
  bool Wait(int64_t until, bool for_answers) {
    while (!for_answers || !watch_.complete()) {
      const int64_t left = until - Now();
      if (left <= 0) return true;
      std::vector<pollfd> fds;
      if (screen_ != nullptr) screen_->AddTo(&fds);
      watch_.AddTo(&fds);
      constexpr int64_t kMilli = 1000000, kMostAtOnce = 1000000;
      poll(fds.data(), fds.size(), static_cast<int>(std::min(left / kMilli + 1, kMostAtOnce)));
      watch_.Receive();
      const Screen::Event event = screen_ != nullptr ? screen_->Serve() : Screen::Event::kNone;
      if (event == Screen::Event::kEnd || (event == Screen::Event::kRedraw && !Draw()))
        return false;
    }
    return true;
  }

  const int64_t interval_;                // nanoseconds
  const std::unique_ptr<Screen> screen_;  // null: nothing is drawn
  MonitorWatch watch_;
  std::vector<MonitorFigures> figures_;
  absl::Status status_;
};

std::string Once(const RemoteCommand& command) {
  View view(command.interval, nullptr);
  view.Look();
  const std::vector<MonitorFigures> figures = view.LastLook();
  if (command.json) return Dump(Objects(figures));
  return absl::StrCat(absl::StrJoin(Table(figures), "\n"), "\n");
}

}  // namespace

absl::StatusOr<std::string> Top(const RemoteCommand& command) {
  if (command.once || command.json || isatty(STDOUT_FILENO) == 0) return Once(command);
  auto screen = Screen::Open();
  KM_RETURN_IF_ERROR(screen.status());
  std::optional<View> view(std::in_place, command.interval, *std::move(screen));
  while (view->Look()) {
  }
  const int sig = view->end_signal();
  const absl::Status status = view->status();
  view.reset();  // the terminal is as it was
  if (sig != 0) DieOfSignal(sig);
  KM_RETURN_IF_ERROR(status);
  return std::string();
}

}  // namespace km
