#include "km/files/terminal_settings.h"

#include <asm/termbits.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <cstring>

namespace km {

static_assert(sizeof(TerminalSettings) == sizeof(termios2), "the kernel's");
static_assert(sizeof(WindowSize) == sizeof(winsize), "the kernel's");
static_assert(NCCS == 19, "the kernel's");

bool TerminalSettings::canonical() const { return (local & ICANON) != 0 && (local & EXTPROC) == 0; }

bool GetSettings(int fd, TerminalSettings* settings) { return ioctl(fd, TCGETS2, settings) == 0; }

bool SetSettings(int fd, const TerminalSettings& settings) {
  return ioctl(fd, TCSETS2, &settings) == 0;
}

bool GetWindow(int fd, WindowSize* size) { return ioctl(fd, TIOCGWINSZ, size) == 0; }

bool SetWindow(int fd, const WindowSize& size) { return ioctl(fd, TIOCSWINSZ, &size) == 0; }

TerminalSettings NeutralSettings(const TerminalSettings& settings, bool canonical) {
  TerminalSettings neutral = settings;
  neutral.input = neutral.output = 0;
  // Without lines in them, what reads by the byte is left as it is.
  neutral.local = canonical              ? ICANON
                  : settings.canonical() ? 0
                                         : settings.local & (ICANON | EXTPROC);
  neutral.characters.fill(0);
  neutral.characters[VMIN] = 1;
  return neutral;
}

void WriteSettings(const TerminalSettings& settings, ByteWriter* out) {
  for (uint32_t flags : {settings.input, settings.output, settings.control, settings.local}) {
    out->U32(flags);
  }
  out->U8(settings.discipline);
  out->Bytes(settings.characters);
  out->U32(settings.input_speed);
  out->U32(settings.output_speed);
}

TerminalSettings ReadSettings(ByteReader* value) {
  TerminalSettings settings;
  for (uint32_t* flags : {&settings.input, &settings.output, &settings.control, &settings.local}) {
    *flags = value->U32();
  }
  settings.discipline = value->U8();
  for (uint8_t& character : settings.characters) character = value->U8();
  settings.input_speed = value->U32();
  settings.output_speed = value->U32();
  return settings;
}

void WriteWindow(const WindowSize& size, ByteWriter* out) {
  for (uint32_t number : {size.rows, size.columns, size.width, size.height}) out->U32(number);
}

WindowSize ReadWindow(ByteReader* value) {
  WindowSize size;
  for (uint16_t* number : {&size.rows, &size.columns, &size.width, &size.height}) {
    *number = static_cast<uint16_t>(value->U32());
  }
  return size;
}

}  // namespace km
