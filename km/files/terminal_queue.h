// What waits in a pseudo-terminal to be read, at both of its ends: out, and back in.
#ifndef KM_FILES_TERMINAL_QUEUE_H_
#define KM_FILES_TERMINAL_QUEUE_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "km/files/terminal_settings.h"

namespace km {

// What stopped the output of the slave, which its writers wait for.
enum class OutputStop : uint32_t {
  kNone = 0,
  kCall = 1,       // tcflow(TCOOFF); tcflow(TCOON) lets it go on
  kCharacter = 2,  // VSTOP was typed; VSTART, and more, lets it go on
};

struct TerminalQueues {
  using Bytes = std::vector<uint8_t>;

  // For the slave. Lines that are complete, where it reads by lines: one that does not end in LF
  // (or VEOL) was ended by VEOF; then the line that is being typed, which can still be edited.
  // Where it does not, all that waits.
  std::vector<Bytes> lines;
  Bytes rest;
  // And what the line discipline had no room for and has not looked at yet.
  Bytes backlog;
  // For the master.
  Bytes output;

  OutputStop stop = OutputStop::kNone;
  bool master_stopped = false;  // tcflow(TCOOFF) on the descriptor of the master

  bool empty() const {
    return lines.empty() && rest.empty() && backlog.empty() && output.empty() &&
           stop == OutputStop::kNone && !master_stopped;
  }
};

// Bytes that the kernel's line discipline keeps for a reader (N_TTY_BUF_SIZE - 1).
inline constexpr size_t kTerminalRoom = 4095;

// Takes everything out. `master` is non-blocking and not in packet mode, `slave` is a non-blocking
// descriptor of the other end, open for both; neither is used by others meanwhile, and the terminal
// is not the controlling one of this process. If nothing was in it, nothing has changed; otherwise,
// and after an error, GiveQueues must follow with what is in *queues.
absl::Status TakeQueues(int master, int slave, TerminalQueues* queues);

// Puts it into a terminal that nothing waits in, and gives it `settings`. *queues may say anything.
// Waits up to some seconds for the kernel to take it.
absl::Status GiveQueues(int master, int slave, const TerminalQueues& queues,
                        const TerminalSettings& settings);

}  // namespace km

#endif  // KM_FILES_TERMINAL_QUEUE_H_
