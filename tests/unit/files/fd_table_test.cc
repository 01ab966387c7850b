#include "km/files/fd_table.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cerrno>

namespace km {
namespace {

// In a process of its own: every descriptor that the test runner left open is taken as well.
void AdoptAndExit(int kept, int own) {
  FdTable table(1024);
  table.AdoptInherited();
  int status = 0;
  for (const FdTable::Entry& entry : table.Entries()) {
    if (entry.number <= STDERR_FILENO || entry.number == own) status |= 1;
    if (!entry.untouched || entry.close_on_exec) status |= 2;
  }
  auto file = table.Get(static_cast<uint64_t>(kept));
  if (file == nullptr || file->host.get() != kept) _exit(4);
  if (file->description->kind != FileKind::kPipe || file->description->given >= 0) status |= 8;
  // An exec of the monitor's would not hand it on twice.
  if (fcntl(kept, F_GETFD) != FD_CLOEXEC) status |= 16;
  for (const FdTable::Entry& entry : table.Entries()) {
    if (entry.number == kept && entry.untouched) status |= 32;
  }
  file.reset();
  if (table.Close(static_cast<uint64_t>(kept)) != 0 || fcntl(kept, F_GETFD) != -1) status |= 64;
  _exit(status);
}

TEST(FdTableTest, AdoptsWhatAnExecHandsOn) {
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  OwnedFd reading(ends[0]), writing(ends[1]);
  ASSERT_EQ(fcntl(reading.get(), F_SETFD, 0), 0);
  EXPECT_EXIT(AdoptAndExit(reading.get(), writing.get()), testing::ExitedWithCode(0), "");
}

TEST(FdTableTest, AReplacedDescriptorIsNotUntouched) {
  FdTable table(16);
  int fd = table.Add(open("/dev/null", O_RDONLY | O_CLOEXEC), FileKind::kCharacterDevice, "", true);
  ASSERT_EQ(fd, 0);
  ASSERT_EQ(table.Entries().size(), 1u);
  EXPECT_FALSE(table.Entries()[0].untouched);
  EXPECT_EQ(table.CloseOnExec(0), 1);
  EXPECT_EQ(table.Get(16), nullptr);
  EXPECT_EQ(table.InstallAt(16, table.Get(0), false), -EBADF);
}

// As after `exec 100>file; ulimit -n 10`.
void AdoptAboveTheLimitAndExit(int kept) {
  FdTable table(static_cast<uint64_t>(kept));
  table.AdoptInherited();
  const std::shared_ptr<OpenFile> file = table.Get(static_cast<uint64_t>(kept));
  _exit(file != nullptr && fcntl(kept, F_GETFD) == FD_CLOEXEC ? 0 : 1);
}

TEST(FdTableTest, AdoptsWhatIsAboveTheLimit) {
  const OwnedFd kept(open("/dev/null", O_RDONLY));
  EXPECT_EXIT(AdoptAboveTheLimitAndExit(kept.get()), testing::ExitedWithCode(0), "");
  FdTable table(0);
  table.AdoptStandard();
  EXPECT_EQ(table.limit(), 0u);
  EXPECT_NE(table.Get(STDERR_FILENO), nullptr);
  // Not to be closed.
  for (uint64_t fd = 0; fd <= STDERR_FILENO; ++fd) {
    if (std::shared_ptr<OpenFile> file = table.Get(fd)) file->host.Release();
  }
}

std::shared_ptr<OpenFile> Null() {
  return OpenFile::Of(open("/dev/null", O_RDONLY | O_CLOEXEC), FileKind::kCharacterDevice, "");
}

TEST(FdTableTest, AReservedNumberIsTakenButNotOpen) {
  FdTable table(4);
  EXPECT_EQ(table.Install(Null(), false), 0);
  {
    ReservedFd one(table), three(table, 3);
    ASSERT_EQ(one.error(), 0);
    ASSERT_EQ(three.error(), 0);
    EXPECT_EQ(table.Get(1), nullptr);
    EXPECT_EQ(table.Close(1), -EBADF);
    EXPECT_EQ(table.CloseOnExec(1), -EBADF);
    EXPECT_EQ(table.Entries().size(), 1u);
    EXPECT_EQ(table.InstallAt(1, Null(), false), -EBUSY);
    EXPECT_EQ(table.Install(Null(), false), 2);
    EXPECT_EQ(ReservedFd(table).error(), -EMFILE);
    EXPECT_EQ(ReservedFd(table, 4).error(), -EINVAL);
    EXPECT_EQ(one.Fill(Null(), true), 1);
  }
  EXPECT_EQ(table.CloseOnExec(1), 1);
  EXPECT_EQ(table.Get(3), nullptr);
  EXPECT_EQ(table.Install(Null(), false), 3);
}

TEST(FdTableTest, HasRoomAsLinuxHas) {
  FdTable table(1000);
  EXPECT_EQ(table.capacity(), 64u);
  table.InstallAt(63, Null(), false);
  EXPECT_EQ(table.capacity(), 64u);
  table.InstallAt(64, Null(), false);
  EXPECT_EQ(table.capacity(), 128u);
  table.InstallAt(300, Null(), false);
  table.Close(300);
  EXPECT_EQ(table.capacity(), 512u);
}

}  // namespace
}  // namespace km
