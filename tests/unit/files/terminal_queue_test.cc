// What waits in a pseudo-terminal is taken out and put back, into the same one or another; a twin
// with the same past, which nobody touched, tells what its readers should see.
#include "km/files/terminal_queue.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_join.h"
#include "km/base/owned.h"

namespace km {
namespace {

struct Pty {
  OwnedFd master, slave;
};

Pty OpenPty() {
  Pty pty;
  pty.master = OwnedFd(posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC));
  EXPECT_EQ(unlockpt(pty.master.get()), 0);
  pty.slave =
      OwnedFd(ioctl(pty.master.get(), TIOCGPTPEER, O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC));
  EXPECT_TRUE(pty.slave.valid());
  return pty;
}

std::string Read(int fd, size_t most = 65536) {
  std::string text(most, 0);
  ssize_t length = read(fd, text.data(), most);
  if (length < 0) return "errno " + std::to_string(errno);
  text.resize(static_cast<size_t>(length));
  return text;
}

void Write(int fd, const std::string& text) {
  EXPECT_EQ(write(fd, text.data(), text.size()), static_cast<ssize_t>(text.size()));
}

// Until the line discipline has seen it. (poll waits for that only while there is nothing.)
void Settle(const Pty& pty) {
  for (int i = 0; i < 3; ++i) {
    pollfd fds[] = {{pty.slave.get(), POLLIN, 0}, {pty.master.get(), POLLIN, 0}};
    poll(fds, 2, 0);
    usleep(1000);
  }
}

// Each read, to the end.
std::vector<std::string> Reads(int fd) {
  std::vector<std::string> all;
  do {
    all.push_back(Read(fd));
  } while (all.back() != "errno 11" && all.size() < 10000);
  return all;
}

// What a terminal shows, to the end. The kernel brings it in the background: where a read ends is
// chance.
std::string Shown(const OwnedFd& master) { return absl::StrJoin(Reads(master.get()), ""); }

void TakeAndGive(const Pty& from, const Pty& to) {
  TerminalSettings settings, after;
  ASSERT_TRUE(GetSettings(from.slave.get(), &settings));
  TerminalQueues queues;
  absl::Status status = TakeQueues(from.master.get(), from.slave.get(), &queues);
  ASSERT_TRUE(status.ok()) << status;
  status = GiveQueues(to.master.get(), to.slave.get(), queues, settings);
  ASSERT_TRUE(status.ok()) << status;
  ASSERT_TRUE(GetSettings(to.slave.get(), &after));
  EXPECT_EQ(settings, after);
}

// Does the same to two terminals, one of which is then emptied and filled again.
class TerminalQueue : public testing::Test {
 protected:
  void Set(const std::function<void(termios*)>& change) {
    for (const Pty* pty : {&touched_, &twin_}) {
      Settle(*pty);
      termios settings;
      ASSERT_EQ(tcgetattr(pty->slave.get(), &settings), 0);
      change(&settings);
      ASSERT_EQ(tcsetattr(pty->slave.get(), TCSANOW, &settings), 0);
    }
  }
  void Type(const std::string& text) {
    for (const Pty* pty : {&touched_, &twin_}) Write(pty->master.get(), text);
    SettleBoth();  // in one order: the echo, then what is printed next
  }
  void Print(const std::string& text) {
    for (const Pty* pty : {&touched_, &twin_}) Write(pty->slave.get(), text);
    SettleBoth();
  }
  void SettleBoth() {
    Settle(touched_);
    Settle(twin_);
  }
  void MoveAndSettle() {
    SettleBoth();
    TakeAndGive(touched_, touched_);
    Pty other = OpenPty();
    TakeAndGive(touched_, other);
    touched_ = std::move(other);
    Settle(touched_);
  }
  void ExpectSame() {
    SettleBoth();
    EXPECT_EQ(Shown(touched_.master), Shown(twin_.master));
    EXPECT_EQ(Reads(touched_.slave.get()), Reads(twin_.slave.get()));
    // Echoes of what there was no room for.
    EXPECT_EQ(Shown(touched_.master), Shown(twin_.master));
  }
  Pty touched_ = OpenPty(), twin_ = OpenPty();
};

TEST_F(TerminalQueue, NothingAtAll) {
  MoveAndSettle();
  Type("a line\n");
  Print("a word");
  ExpectSame();
}

TEST_F(TerminalQueue, LinesAndOneBeingTyped) {
  Type("first\nsec\177cond\n\nended by\004\004begun, and edit");
  MoveAndSettle();
  Type("\177\177ted\n");
  ExpectSame();
}

TEST_F(TerminalQueue, OnlyALineBeingTyped) {
  Type("begu");
  MoveAndSettle();
  Type("n\025other\n");
  ExpectSame();
}

TEST_F(TerminalQueue, QuotedCharacters) {
  Type("\026\n\026\003\026\004\026\026\026\023\026\021\022\nnot yet \026\026\026\n");
  MoveAndSettle();
  Type("\n");
  ExpectSame();
}

TEST_F(TerminalQueue, PartOfALineWasRead) {
  Type("0123456789\nmore\n");
  SettleBoth();
  EXPECT_EQ(Read(touched_.slave.get(), 4), "0123");
  EXPECT_EQ(Read(twin_.slave.get(), 4), "0123");
  MoveAndSettle();
  ExpectSame();
}

TEST_F(TerminalQueue, Raw) {
  Set([](termios* settings) { cfmakeraw(settings); });
  std::string all;
  for (int c = 0; c < 256; ++c) all += static_cast<char>(c);
  Type(all);
  Print(all);
  MoveAndSettle();
  Type("behind");
  Print("behind");
  ExpectSame();
}

TEST_F(TerminalQueue, RawThatBecomesLines) {
  Set([](termios* settings) { cfmakeraw(settings); });
  Type("two\nlines and \004\026 some");
  Set([](termios* settings) { settings->c_lflag |= ICANON | IEXTEN; });
  Type("more\n");
  MoveAndSettle();
  ExpectSame();
}

TEST_F(TerminalQueue, OtherEnds) {
  Set([](termios* settings) {
    settings->c_cc[VEOL] = ';';
    settings->c_cc[VEOF] = 'E';
    settings->c_lflag &= ~static_cast<tcflag_t>(ECHO);
  });
  Type("a;b;\026;c;dE\n;EE\004\n");
  MoveAndSettle();
  ExpectSame();
}

TEST_F(TerminalQueue, Backlog) {
  std::string lines;
  for (int i = 0; i < 20; ++i) lines += "a line of some characters\r";
  for (int i = 0; i < 15; ++i) Type(lines);
  MoveAndSettle();
  Type("end\n");
  ExpectSame();
}

TEST_F(TerminalQueue, LineThatIsTooLong) {
  for (int i = 0; i < 10; ++i) Type(std::string(500, static_cast<char>('0' + i)));
  MoveAndSettle();
  Type("more\n");
  ExpectSame();
}

TEST_F(TerminalQueue, RawBacklogBothWays) {
  Set([](termios* settings) { cfmakeraw(settings); });
  for (int i = 0; i < 20; ++i) {
    Type(std::string(400, static_cast<char>('0' + i)));
    Print(std::string(400, static_cast<char>('0' + i)));
  }
  MoveAndSettle();
  ExpectSame();
}

TEST_F(TerminalQueue, FullOutput) {
  // As much as there is room for, in the small pieces that take the most of it.
  std::string written;
  for (char c = 'a'; write(touched_.slave.get(), &c, 1) == 1; c = c == 'z' ? 'a' : c + 1) {
    written += c;
  }
  MoveAndSettle();
  std::string all;
  for (std::string piece; (piece = Read(touched_.master.get())) != "errno 11"; all += piece) {
  }
  EXPECT_EQ(all, written);
}

TEST_F(TerminalQueue, StoppedOutput) {
  Print("before");
  for (const Pty* pty : {&touched_, &twin_}) ASSERT_EQ(tcflow(pty->slave.get(), TCOOFF), 0);
  MoveAndSettle();
  EXPECT_EQ(write(touched_.slave.get(), "x", 1), -1);
  for (const Pty* pty : {&touched_, &twin_}) ASSERT_EQ(tcflow(pty->slave.get(), TCOON), 0);
  Print("after");
  ExpectSame();
}

TEST_F(TerminalQueue, OutputStoppedByACharacter) {
  Print("before");
  Type("\023begun");
  MoveAndSettle();
  EXPECT_EQ(write(touched_.slave.get(), "x", 1), -1);
  EXPECT_EQ(errno, EAGAIN);
  Type("\021");
  SettleBoth();
  Print("after");
  Type("\n");
  ExpectSame();
}

TEST_F(TerminalQueue, StoppedMaster) {
  Type("before");
  SettleBoth();
  for (const Pty* pty : {&touched_, &twin_}) ASSERT_EQ(tcflow(pty->master.get(), TCOOFF), 0);
  MoveAndSettle();
  EXPECT_EQ(write(touched_.master.get(), "x", 1), -1);
  for (const Pty* pty : {&touched_, &twin_}) ASSERT_EQ(tcflow(pty->master.get(), TCOON), 0);
  Type(" after\n");
  ExpectSame();
}

// Random pasts, with a seed that is shown.
TEST_F(TerminalQueue, Anything) {
  const unsigned seed = std::random_device()();
  SCOPED_TRACE(seed);
  std::mt19937 random(seed);
  auto below = [&random](unsigned end) { return static_cast<unsigned>(random() % end); };
  for (int round = 0; round < 5 && !HasFailure(); ++round) {
    touched_ = OpenPty();
    twin_ = OpenPty();
    // What VINTR discards depends on how far the kernel's workers have come.
    Set([](termios* settings) { settings->c_lflag |= NOFLSH; });
    for (unsigned step = below(8); step > 0; --step) {
      std::string text;
      const bool plain = below(2) == 0;
      for (unsigned size = below(300); size > 0; --size) {
        const unsigned kind = below(20);
        text += kind == 0   ? '\n'
                : kind == 1 ? static_cast<char>(4)
                : plain     ? static_cast<char>(' ' + below(90))
                            : static_cast<char>(below(256));
      }
      // Echoes that wait for stopped output to go on come out at once.
      std::replace(text.begin(), text.end(), '\023', 's');
      const unsigned change = random();
      switch (below(4)) {
        case 0:
          Set([change](termios* settings) {
            if (change & 1) settings->c_lflag ^= ICANON;
            if (change & 2) settings->c_lflag ^= ECHO;
            if (change & 4) settings->c_iflag ^= ICRNL;
            if (change & 8) settings->c_oflag ^= OPOST;
            if (change & 16) settings->c_iflag ^= IXON;
            if (change & 32) settings->c_cc[VEOL] ^= ';';
          });
          break;
        case 1:
          Print(text);
          break;
        default:
          Type(text);
      }
    }
    MoveAndSettle();
    ExpectSame();
  }
}

}  // namespace
}  // namespace km
