// The terminal that the monitor was started at, which the program shares with others. A snapshot
// holds none of it but what the program has done to its settings; whoever resumes has another one.
#ifndef KM_FILES_LAUNCHERS_TERMINAL_H_
#define KM_FILES_LAUNCHERS_TERMINAL_H_

#include <cstdint>
#include <functional>
#include <optional>

#include "absl/status/statusor.h"
#include "km/base/owned.h"
#include "km/files/file_record.h"
#include "km/files/terminal_settings.h"

namespace km {

class FdTable;
class FileRestorer;

// Which terminal of the launcher's `host_fd` is open on: bit N: the one that the program was given
// as N (0 to 2) and still has; KM_TERMINAL_CONTROLLING. 0: another one, or none.
uint32_t WhichLaunchersTerminal(int host_fd, const FdTable& table);

// A descriptor of its own, as `record` says, of the one that takes its place here: what was given
// as one of those numbers if that is a terminal, or else the controlling terminal.
absl::StatusOr<OwnedFd> OpenLaunchersTerminal(const FileRecord& record, uint32_t which,
                                              const FileRestorer& restorer);

// Settings of the terminal among the monitor's 0 to 2 that `which` has a bit for, or of the
// controlling one.
std::optional<TerminalSettings> LaunchersSettings(uint32_t which);

// What the program has done to the terminal; nothing where it has none open.
std::optional<TerminalRecord> SaveLaunchersTerminal(const FdTable& table);

// Makes the same changes to the settings of the terminal that the program has here. In the
// background it calls `stop` first, and gives up if that does not bring the process to the
// foreground; where `stop` is empty it sets them all the same. How the terminal was before becomes
// FdTable::launched_with. True when the window is of another size.
bool RestoreLaunchersTerminal(const TerminalRecord& record, FdTable& table,
                              const std::function<void()>& stop);

// `now` with what differs between `before` and `after`.
TerminalSettings WithChanges(const TerminalSettings& now, const TerminalSettings& before,
                             const TerminalSettings& after);

}  // namespace km

#endif  // KM_FILES_LAUNCHERS_TERMINAL_H_
