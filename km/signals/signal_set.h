// Sets of signals, in the form of the kernel's masks.
#ifndef KM_SIGNALS_SIGNAL_SET_H_
#define KM_SIGNALS_SIGNAL_SET_H_

#include <signal.h>

#include <cstdint>

namespace km {

// Bit sig - 1 for signals 1 to 64: the sigset of rt_sigprocmask(2) and of a signal frame.
using SignalSet = uint64_t;

inline constexpr int kMaxSignal = 64;
// The kernel's, not libc's: libc keeps 32 and 33 for itself.
inline constexpr int kFirstRealTimeSignal = 32;

constexpr bool ValidSignal(int sig) { return sig >= 1 && sig <= kMaxSignal; }
// `sig` is a valid signal.
constexpr SignalSet SignalBit(int sig) { return SignalSet{1} << (sig - 1); }
constexpr bool Contains(SignalSet set, int sig) { return (set & SignalBit(sig)) != 0; }

inline constexpr SignalSet kUnblockable = SignalBit(SIGKILL) | SignalBit(SIGSTOP);
// What an instruction causes; delivered before all else, while rip still shows the instruction.
inline constexpr SignalSet kSynchronous = SignalBit(SIGSEGV) | SignalBit(SIGBUS) |
                                          SignalBit(SIGILL) | SignalBit(SIGTRAP) |
                                          SignalBit(SIGFPE) | SignalBit(SIGSYS);
inline constexpr SignalSet kStopping =
    SignalBit(SIGSTOP) | SignalBit(SIGTSTP) | SignalBit(SIGTTIN) | SignalBit(SIGTTOU);

}  // namespace km

#endif  // KM_SIGNALS_SIGNAL_SET_H_
