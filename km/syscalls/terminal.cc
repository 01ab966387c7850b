#include "km/syscalls/terminal.h"

#include <csignal>
#include <utility>

#include "km/process/host_signals.h"
#include "km/signals/siginfo.h"

namespace km {

int64_t BlockOn(Call& call, const OpenFile& file, long number,
                const std::array<uint64_t, 5>& rest) {
  Thread& thread = call.thread;
  auto make = [&] {
    return thread.Block(number, static_cast<uint64_t>(file.host.get()), rest[0], rest[1], rest[2],
                        rest[3], rest[4]);
  };
  if (file.description->kind != FileKind::kTerminal) return make();
  SignalState& signals = call.process.signals();
  SignalSet open = ~signals.Mask(thread.tid) & (SignalBit(SIGTTIN) | SignalBit(SIGTTOU));
  for (int sig : {SIGTTIN, SIGTTOU}) {
    if (signals.Action(sig).is_ignore()) open &= ~SignalBit(sig);
  }
  int64_t result;
  {
    TerminalSignals guard(open);
    result = make();
  }
  if (int sig = std::exchange(thread.terminal_signal, 0); sig != 0) {
    call.process.Signal(KernelSiginfo(sig));
  }
  return result;
}

}  // namespace km
