// Numbers of a snapshot as people know them.
#ifndef TOOLS_KMCTL_NAMES_H_
#define TOOLS_KMCTL_NAMES_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/types/span.h"

namespace km {

std::string SignalName(int number);                      // "SIGSEGV", "SIGRT_3"
std::string SyscallName(uint64_t number);                // "read", "system call 999"
std::string ProtectionText(uint32_t protection);         // "rw-"
std::string OpenFlagsText(uint32_t flags);               // "O_RDWR|O_APPEND"
std::string ActionFlagsText(uint64_t flags);             // "SA_SIGINFO|SA_RESTART", "" for none
std::string SizeText(uint64_t bytes);                    // "1.5 MiB"
std::string DurationText(int64_t nanoseconds);           // "1.250 s"
std::string UptimeText(uint64_t nanoseconds);            // "7s", "3m05s", "26h00m"
std::string TimeText(int64_t realtime_ns);               // "2024-05-06 07:08:09.123 UTC"
std::string HexText(uint64_t value);                     // "0x1f"
std::string BytesText(absl::Span<const uint8_t> bytes);  // "01ff"

// The signals of a mask.
std::vector<std::string> SignalNames(uint64_t mask);

// The register states in XCR0: "x87", "sse", "avx", ...
std::vector<std::string> XsaveComponentNames(uint64_t xcr0);

// `text` with control characters as \xNN: what a snapshot holds must not steer the terminal.
std::string Printable(const std::string& text);

}  // namespace km

#endif  // TOOLS_KMCTL_NAMES_H_
