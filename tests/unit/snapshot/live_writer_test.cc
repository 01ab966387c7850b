// The copy of the monitor that writes a snapshot: what becomes of it when it is killed, and what it
// lets others see.
#include "km/snapshot/live_writer.h"

#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <string>

#include "km/snapshot/checksum.h"
#include "km/snapshot/parser.h"
#include "tests/unit/snapshot/rich_image.h"

namespace km {
namespace {

constexpr uid_t kNobody = 65534;

// The status of a copy of this process that does `work`, which has ten seconds.
template <typename Work>
int InChild(const Work& work) {
  const pid_t child = fork();
  if (child == 0) {
    alarm(10);
    _exit(work());
  }
  int status = -1;
  waitpid(child, &status, 0);
  return status;
}

// Whoever makes that system call is killed.
bool KillAt(uint32_t number) {
  sock_filter code[] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
                        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1),
                        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
                        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
  const sock_fprog program = {std::size(code), code};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

class LiveWriterTest : public testing::Test {
 protected:
  Captured Capture() {
    Captured captured;
    captured.image = RichImage(memory_);
    captured.memory = memory_.Source();
    return captured;
  }

  TestDirectory directory_;
  TestMemory memory_;
};

// Before it has said that it is ready, or the monitor would wait for it for ever.
TEST_F(LiveWriterTest, KilledAtOnce) {
  const int status = InChild([this] {
    Captured captured = Capture();
    if (!KillAt(SYS_close_range)) return 2;  // the first that the writer does
    const auto writer = LiveWriter::Start(std::move(captured), directory_.File("kmsnap"), {});
    if (!writer.ok()) return 3;
    const std::string message((*writer)->Finish().message());
    return message.find("the snapshot's writer was killed") != message.npos ? 0 : 4;
  });
  EXPECT_EQ(status, 0);
  EXPECT_EQ(directory_.Count(), 0u);
}

// It reads all of its memory even where /proc/self/mem is not its own any more.
TEST_F(LiveWriterTest, MemoryWithoutRights) {
  ASSERT_EQ(chmod(directory_.path().c_str(), 0777), 0);
  Captured captured = Capture();
  const uint64_t start = captured.image.memory[1].address, size = captured.image.memory[1].size;
  const int status = InChild([&] {
    if (geteuid() == 0 && (setgid(kNobody) != 0 || setuid(kNobody) != 0)) return 2;
    if (prctl(PR_SET_DUMPABLE, 1) != 0) return 3;
    if (mprotect(memory_.At(start), size, PROT_NONE) != 0) return 4;
    captured.memory.unreadable.push_back({start, start + size});
    const auto writer = LiveWriter::Start(std::move(captured), directory_.File("kmsnap"), {});
    if (!writer.ok()) return 5;
    return (*writer)->Finish().ok() ? 0 : 6;
  });
  EXPECT_EQ(status, 0);
  const absl::StatusOr<Image> back = ParseFile(directory_.File("kmsnap"));
  ASSERT_TRUE(back.ok()) << back.status();
  const std::vector<uint8_t> file = ReadFile(directory_.File("kmsnap"));
  for (const ImageMemory& piece : back->memory) {
    EXPECT_EQ(memcmp(file.data() + piece.file_offset, memory_.At(piece.address), piece.size), 0);
  }
}

}  // namespace
}  // namespace km
