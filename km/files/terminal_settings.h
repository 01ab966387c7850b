// The settings of a terminal as the kernel has them: flags, characters, speeds.
#ifndef KM_FILES_TERMINAL_SETTINGS_H_
#define KM_FILES_TERMINAL_SETTINGS_H_

#include <array>
#include <cstdint>

#include "km/base/bytes.h"

namespace km {

// struct termios2 of asm/termbits.h, which does not go together with termios.h.
struct TerminalSettings {
  uint32_t input = 0, output = 0, control = 0, local = 0;  // c_iflag, c_oflag, c_cflag, c_lflag
  uint8_t discipline = 0;                                  // c_line
  std::array<uint8_t, 19> characters{};                    // c_cc; 0 is none
  uint32_t input_speed = 0, output_speed = 0;

  bool operator==(const TerminalSettings&) const = default;

  // Whether its input is read by lines.
  bool canonical() const;
};

// Of a terminal's window; characters and pixels.
struct WindowSize {
  uint16_t rows = 0, columns = 0, width = 0, height = 0;

  bool operator==(const WindowSize&) const = default;
};

// False with errno. A pseudo-terminal has one set of settings, which both ends show: those of the
// slave. Setting takes effect at once and discards nothing.
bool GetSettings(int fd, TerminalSettings* settings);
bool SetSettings(int fd, const TerminalSettings& settings);
bool GetWindow(int fd, WindowSize* size);
bool SetWindow(int fd, const WindowSize& size);

// Settings under which each byte goes through as it is and does nothing, both ways: no echo, no
// signals, no special characters. Lines stay lines where `canonical`: LF ends them.
TerminalSettings NeutralSettings(const TerminalSettings& settings, bool canonical);

// 44 bytes, as struct termios2.
void WriteSettings(const TerminalSettings& settings, ByteWriter* out);
TerminalSettings ReadSettings(ByteReader* value);
// u32 each: rows, columns, width, height.
void WriteWindow(const WindowSize& size, ByteWriter* out);
WindowSize ReadWindow(ByteReader* value);

}  // namespace km

#endif  // KM_FILES_TERMINAL_SETTINGS_H_
