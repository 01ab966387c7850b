// Errors of the monitor's own work: absl::Status with the errno that caused it.
#ifndef KM_BASE_STATUS_H_
#define KM_BASE_STATUS_H_

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace km {

// "WHAT: strerror(error)", with `error` attached for ErrnoOf. `error` is a positive errno.
absl::Status ErrnoStatus(int error, absl::string_view what);

// The errno attached to `status`; EIO for an error that carries none, 0 for OK.
int ErrnoOf(const absl::Status& status);

}  // namespace km

#define KM_RETURN_IF_ERROR(expression)                                               \
  do {                                                                               \
    if (absl::Status km_status_ = (expression); !km_status_.ok()) return km_status_; \
  } while (false)

#define KM_STATUS_CONCAT_(a, b) a##b
#define KM_STATUS_NAME_(a, b) KM_STATUS_CONCAT_(a, b)
#define KM_ASSIGN_OR_RETURN(target, expression) \
  KM_ASSIGN_OR_RETURN_(KM_STATUS_NAME_(km_statusor_, __LINE__), target, expression)
#define KM_ASSIGN_OR_RETURN_(holder, target, expression) \
  auto holder = (expression);                            \
  if (!holder.ok()) return holder.status();              \
  target = *std::move(holder)

#endif  // KM_BASE_STATUS_H_
