#include "km/files/launchers_terminal.h"

#include <asm/termbits.h>
#include <fcntl.h>
#include <km/notes.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cerrno>

#include "absl/strings/str_cat.h"
#include "km/base/log.h"
#include "km/base/status.h"
#include "km/files/fd_table.h"
#include "km/files/named_file.h"
#include "km/files/pty.h"

namespace km {
namespace {

constexpr char kControlling[] = "/dev/tty";

OwnedFd OpenControlling(int flags) {
  return OwnedFd(open(kControlling, flags | O_NOCTTY | O_CLOEXEC));
}

bool SameFile(int one, int other) {
  struct stat a, b;
  return fstat(one, &a) == 0 && fstat(other, &b) == 0 && a.st_dev == b.st_dev &&
         a.st_ino == b.st_ino;
}

// /dev/tty itself, or what it stands for.
bool IsControlling(int fd) {
  struct stat status;
  if (fstat(fd, &status) == 0 && status.st_rdev == makedev(5, 0)) return true;
  pid_t session = 0;
  return PtyNumber(fd) < 0 && ioctl(fd, TIOCGSID, &session) == 0;
}

bool InBackground(int fd) {
  pid_t group = 0;
  return ioctl(fd, TIOCGPGRP, &group) == 0 && group != getpgrp();
}

// The program's descriptor of the terminal, best one that it was given; -1.
int TerminalOf(const FdTable& table) {
  int found = -1;
  for (const FdTable::Entry& entry : table.Entries()) {
    const FileDescription& description = *entry.file->description;
    const int host = entry.file->host.get();
    if (description.kind != FileKind::kTerminal) continue;
    if (description.given >= 0) return host;
    if (found < 0 && WhichLaunchersTerminal(host, table) != 0) found = host;
  }
  return found;
}

}  // namespace

uint32_t WhichLaunchersTerminal(int host_fd, const FdTable& table) {
  uint32_t which = 0;
  for (const FdTable::Entry& entry : table.Entries()) {
    const int given = entry.file->description->given;
    if (given >= 0 && SameFile(host_fd, entry.file->host.get())) which |= 1u << given;
  }
  return which | (IsControlling(host_fd) ? KM_TERMINAL_CONTROLLING : 0);
}

absl::StatusOr<OwnedFd> OpenLaunchersTerminal(const FileRecord& record, uint32_t which,
                                              const FileRestorer& restorer) {
  for (int number = 0; number <= STDERR_FILENO; ++number) {
    const int given = restorer.Given(number);
    if ((which >> number & 1) == 0 || !isatty(given)) continue;
    absl::StatusOr<OwnedFd> host = Reopen(given, record);
    if (host.ok()) return host;
  }
  OwnedFd host = OpenControlling(static_cast<int>(record.flags & (O_ACCMODE | O_NONBLOCK)));
  if (host.valid()) return host;
  return ErrnoStatus(errno, absl::StrCat("it had its terminal open ('", record.path,
                                         "'), and there is none to take its place"));
}

std::optional<TerminalSettings> LaunchersSettings(uint32_t which) {
  TerminalSettings settings;
  for (int given = 0; given <= STDERR_FILENO; ++given) {
    if ((which >> given & 1) != 0 && GetSettings(given, &settings)) return settings;
  }
  const OwnedFd controlling = OpenControlling(O_RDONLY | O_NONBLOCK);
  if (controlling.valid() && GetSettings(controlling.get(), &settings)) return settings;
  return std::nullopt;
}

std::optional<TerminalRecord> SaveLaunchersTerminal(const FdTable& table) {
  TerminalRecord record;
  const int fd = TerminalOf(table);
  if (fd < 0 || !GetSettings(fd, &record.now)) return std::nullopt;
  (void)GetWindow(fd, &record.window);
  record.launched = table.launched_with().value_or(record.now);
  return record;
}

bool RestoreLaunchersTerminal(const TerminalRecord& record, FdTable& table,
                              const std::function<void()>& stop) {
  const int fd = TerminalOf(table);
  TerminalSettings here;
  WindowSize window;
  if (fd < 0 || !GetSettings(fd, &here) || !GetWindow(fd, &window)) return false;
  table.SetLaunchedWith(here);
  const TerminalSettings wanted = WithChanges(here, record.launched, record.now);
  if (wanted != here) {
    if (stop && InBackground(fd)) stop();
    // Others have used the terminal meanwhile.
    if (!GetSettings(fd, &here) || !GetWindow(fd, &window)) return false;
    table.SetLaunchedWith(here);
    if (stop && InBackground(fd)) {
      Log(LogLevel::kWarning,
          "the terminal is not set as the program had it: the process is in the background");
    } else if (!SetSettings(fd, WithChanges(here, record.launched, record.now))) {
      Log(LogLevel::kWarning, "the terminal cannot be set as the program had it");
    }
  }
  return window != record.window;
}

TerminalSettings WithChanges(const TerminalSettings& now, const TerminalSettings& before,
                             const TerminalSettings& after) {
  TerminalSettings result = now;
  auto flags = [&](uint32_t TerminalSettings::*word) {
    const uint32_t changed = before.*word ^ after.*word;
    result.*word = (now.*word & ~changed) | (after.*word & changed);
  };
  flags(&TerminalSettings::input);
  flags(&TerminalSettings::output);
  flags(&TerminalSettings::local);
  const uint32_t speed = CBAUD | (CBAUD << IBSHIFT);
  if (((before.control ^ after.control) & ~speed) != 0) {
    flags(&TerminalSettings::control);
    result.control = (result.control & ~speed) | (now.control & speed);
  }
  for (size_t i = 0; i < result.characters.size(); ++i) {
    // When input is read by bytes, these two say how many make a read return.
    const bool counts = (after.local & ICANON) == 0 && (i == VMIN || i == VTIME);
    if (counts || before.characters[i] != after.characters[i]) {
      result.characters[i] = after.characters[i];
    }
  }
  return result;
}

}  // namespace km
