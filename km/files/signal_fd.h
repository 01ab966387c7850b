// What stands for a signalfd on the host: an eventfd that can be read as long as one of the
// signalfd's signals is pending. Signals are in SignalState, which keeps the two in step.
#ifndef KM_FILES_SIGNAL_FD_H_
#define KM_FILES_SIGNAL_FD_H_

#include <cstdint>

#include "km/base/owned.h"

namespace km {

// Shared by the descriptors that dup(2) made of each other. SignalState's lock covers it.
class SignalFd {
 public:
  explicit SignalFd(OwnedFd carrier) : carrier_(std::move(carrier)) {}

  uint64_t mask = 0;  // bit sig - 1: the signals that it takes

  // A signal of the mask has come: whoever waits is told, an edge-triggered listener too.
  void Raise();
  // No signal of the mask is pending any more.
  void Lower();

 private:
  const OwnedFd carrier_;  // an eventfd
  bool readable_ = false;
};

}  // namespace km

#endif  // KM_FILES_SIGNAL_FD_H_
