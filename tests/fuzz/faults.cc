#include "tests/fuzz/faults.h"

#include <signal.h>

#include "km/memory/guarded_copy.h"

namespace km {
namespace {

struct sigaction sanitizers_segv, sanitizers_bus;

void OnFault(int sig, siginfo_t* info, void* context) {
  if (FixGuardedFault(static_cast<ucontext_t*>(context))) return;
  (sig == SIGSEGV ? sanitizers_segv : sanitizers_bus).sa_sigaction(sig, info, context);
}

}  // namespace

void KeepSanitizersHandlers() {
  sigaction(SIGSEGV, nullptr, &sanitizers_segv);
  sigaction(SIGBUS, nullptr, &sanitizers_bus);
}

void InstallFaultHandlers() {
  struct sigaction action = {};
  action.sa_sigaction = OnFault;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
  sigaction(SIGSEGV, &action, nullptr);
  sigaction(SIGBUS, &action, nullptr);
}

}  // namespace km
