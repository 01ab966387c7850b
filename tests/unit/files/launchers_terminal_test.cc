// What a program has changed of its terminal's settings, made to another terminal.
#include "km/files/launchers_terminal.h"

#include <gtest/gtest.h>
#include <termios.h>

namespace km {
namespace {

TerminalSettings Cooked() {
  TerminalSettings settings;
  settings.input = ICRNL | IXON;
  settings.output = OPOST | ONLCR;
  settings.control = CS8 | CREAD | B38400;
  settings.local = ISIG | ICANON | ECHO | IEXTEN;
  settings.characters[VERASE] = 127;
  settings.characters[VMIN] = 1;
  return settings;
}

TEST(LaunchersTerminal, NothingChanged) {
  TerminalSettings here = Cooked();
  here.characters[VERASE] = 8;
  here.local &= ~static_cast<uint32_t>(IEXTEN);
  EXPECT_EQ(WithChanges(here, Cooked(), Cooked()), here);
}

TEST(LaunchersTerminal, RawMode) {
  TerminalSettings raw = Cooked();
  raw.local &= ~static_cast<uint32_t>(ICANON | ECHO);
  raw.input &= ~static_cast<uint32_t>(ICRNL);
  TerminalSettings here = Cooked();
  here.characters[VERASE] = 8;
  here.characters[VMIN] = 4;
  here.input |= IUTF8;
  const TerminalSettings result = WithChanges(here, Cooked(), raw);
  EXPECT_EQ(result.local, static_cast<uint32_t>(ISIG | IEXTEN));
  EXPECT_EQ(result.input, static_cast<uint32_t>(IXON | IUTF8));
  EXPECT_EQ(result.output, here.output);
  EXPECT_EQ(result.characters[VERASE], 8);  // whoever resumes has his own
  EXPECT_EQ(result.characters[VMIN], 1);    // the program relies upon it
}

TEST(LaunchersTerminal, CharactersAndSpeeds) {
  TerminalSettings after = Cooked();
  after.characters[VINTR] = 9;
  after.control = CS7 | CREAD | B9600;
  TerminalSettings here = Cooked();
  here.control = CS8 | CREAD | B115200;
  const TerminalSettings result = WithChanges(here, Cooked(), after);
  EXPECT_EQ(result.characters[VINTR], 9);
  EXPECT_EQ(result.control, static_cast<uint32_t>(CS7 | CREAD | B115200));
}

}  // namespace
}  // namespace km
