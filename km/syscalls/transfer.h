// What all calls that move bytes have in common.
#ifndef KM_SYSCALLS_TRANSFER_H_
#define KM_SYSCALLS_TRANSFER_H_

#include <sys/uio.h>

#include <cstdint>
#include <vector>

#include "absl/functional/function_ref.h"
#include "km/files/fd_table.h"
#include "km/syscalls/call.h"

namespace km {

// UIO_MAXIOV of include/uapi/linux/uio.h.
inline constexpr uint64_t kMaxIovecs = 1024;

// MAX_RW_COUNT of include/linux/fs.h: no call moves more, whatever it is asked for.
inline constexpr uint64_t kMaxTransfer = 0x7ffff000;

// The host address of a buffer, of which no call uses more than the kernel's limit.
uint64_t Buffer(const Call& call, uint64_t address, uint64_t size);

// An iovec array with its buffers as the host sees them, but for the first `skip` bytes of all;
// `count` <= kMaxIovecs. 0 or -EFAULT.
int CopyIovecs(const Call& call, GuestAddr address, uint64_t count, std::vector<iovec>* out,
               uint64_t skip = 0);
// How many bytes they have room for.
uint64_t TotalOf(const std::vector<iovec>& parts);

// `result` of a write of `asked` bytes; SIGPIPE or SIGXFSZ when the program is to get one with it.
int64_t AfterWrite(Call& call, int64_t result, uint64_t asked = 0);
// Passes on to the program's thread a signal that a host call of its has sent to this one. Whether
// there was one.
bool PassHostSignal(Call& call, int sig);

// A transfer of `asked` bytes in all, which the program sees cut short by a handler only: where
// something else has interrupted it and `whole` says that it waits for all of them, what has been
// moved is kept in Thread::done and this is kRestart. make() is the host's call for what lies
// behind Thread::done, which is at most `asked`. The sum, or a negative errno.
int64_t MoveAll(Call& call, uint64_t asked, absl::FunctionRef<bool()> whole,
                absl::FunctionRef<int64_t()> make);
// The same for a write, with AfterWrite.
int64_t WriteAll(Call& call, const OpenFile& file, uint64_t asked, absl::FunctionRef<bool()> whole,
                 absl::FunctionRef<int64_t()> make);
// Whether a write with `flags` of send(2) waits until all is taken: into a pipe, a connection or a
// terminal in blocking mode.
bool WritesAll(const OpenFile& file, int flags);
// The same of a read: of memory's devices, which never lack bytes; or with MSG_WAITALL of a
// connection in blocking mode.
bool ReadsAll(const OpenFile& file, int flags);

}  // namespace km

#endif  // KM_SYSCALLS_TRANSFER_H_
