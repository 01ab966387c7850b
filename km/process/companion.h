// A process that a thread of the program made to share its memory, descriptors and directory
// (clone(2) with CLONE_VM, CLONE_FS and CLONE_FILES and without CLONE_THREAD): one task beside the
// threads, in the same machine, with an id, signals and an end of its own. It may look at the
// program's threads with ptrace(2). Sanitizers search for leaks so.
#ifndef KM_PROCESS_COMPANION_H_
#define KM_PROCESS_COMPANION_H_

#include <sys/resource.h>

#include <atomic>
#include <cstdint>
#include <vector>

#include "km/kvm/vcpu.h"

namespace km {

// How it ended, for whoever waits.
struct Companion {
  std::atomic<uint32_t> ended = 0;  // a futex of the host's; what follows is set before it
  int status = 0;                   // as wait(2) tells it
  rusage usage = {};
};

// What one of them does with a thread. A futex of the host's while it waits for the thread to stop.
struct Trace {
  enum State : uint32_t { kAsked, kStopped, kEnded };

  explicit Trace(uint32_t pid) : tracer(pid) {}
  const uint32_t tracer;
  std::atomic<uint32_t> state = kAsked;
  bool told = false;    // the tracer has waited for the stop
  int exit_status = 0;  // of a thread that has ended
};

// Of a thread that is stopped.
struct StoppedState {
  Registers registers;
  std::vector<uint8_t> xsave;
};

}  // namespace km

#endif  // KM_PROCESS_COMPANION_H_
