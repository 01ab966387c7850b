#include "km/syscalls/proc_texts.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "km/base/owned.h"

namespace km {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

OwnStatus Sample() {
  OwnStatus own;
  own.pid = 1000;
  own.id = 1000;
  own.group = 1000;
  own.host_group = 4242;
  own.session = 999;
  own.host_session = 998;
  own.state = 'R';
  own.comm = "a (b) c";
  own.threads = 3;
  own.memory.size = own.memory.peak = 8 << 20;
  own.memory.own_anonymous = 40 << 10;
  own.memory.own_file = 20 << 10;
  own.resident_limit = 5;
  own.descriptors = 64;
  own.program = {10, 20, 30, 40};
  own.layout.brk_start = 77;
  own.layout.stack_end = 88;
  own.blocked = 0x4;
  own.caught = uint64_t{1} << 63;
  return own;
}

// 52 fields, each its number, but for those that the function looks at.
std::string HostStat() {
  std::string text = "4242 (km) ) x) S 1 4242 998 34816 4242";
  // Field 24 is 24 pages.
  for (int field = 9; field <= 52; ++field) absl::StrAppend(&text, " ", field);
  return text + "\n";
}

TEST(ProcTexts, StatKeepsTheHostsFieldsAndReplacesTheProgramsOwn) {
  std::string text = StatText(HostStat(), "4243 (km) S 1 2 3", Sample());
  EXPECT_EQ(text.rfind("1000 (a (b) c) R 1 1000 999 34816 1000 9 ", 0), 0u) << text;
  std::vector<std::string> fields = absl::StrSplit(text.substr(text.rfind(')') + 2), ' ');
  ASSERT_EQ(fields.size(), 50u);
  EXPECT_EQ(fields[14 - 3], "14");
  EXPECT_EQ(fields[20 - 3], "3");
  EXPECT_EQ(fields[22 - 3], "22");
  EXPECT_EQ(fields[23 - 3], absl::StrCat(8 << 20));
  EXPECT_EQ(fields[24 - 3], "9");  // 15 pages are the monitor's
  EXPECT_EQ(fields[25 - 3], "5");
  EXPECT_EQ(fields[26 - 3], "10");
  EXPECT_EQ(fields[45 - 3], "30");
  EXPECT_EQ(fields[28 - 3], "88");
  EXPECT_EQ(fields[47 - 3], "77");
  EXPECT_EQ(fields[52 - 3], "52\n");
}

TEST(ProcTexts, StatOfAnUnknownShapeIsLeftAlone) {
  EXPECT_EQ(StatText("", "", Sample()), "");
  EXPECT_EQ(StatText("1 x S", "", Sample()), "1 x S");
  EXPECT_EQ(StatText("1 (x) S 2", "", Sample()), "1000 (a (b) c) R 2\n");
}

TEST(ProcTexts, StatusReplacesLinesByName) {
  std::string text = StatusText(
      "Name:\tkm\nUmask:\t0022\nTgid:\t4242\nPid:\t4242\nPPid:\t7\nVmSize:\t 68719476736 kB\n"
      "VmRSS:\t     160 kB\nRssAnon:\t     140 kB\nRssFile:\t      20 "
      "kB\nThreads:\t9\nSigBlk:\tffffffffffffffff\nSigCgt:\t0000000000000000\n",
      Sample());
  EXPECT_EQ(
      text,
      "Name:\ta (b) c\nUmask:\t0022\nTgid:\t1000\nPid:\t1000\nPPid:\t7\nVmSize:\t    8192 kB\n"
      "VmRSS:\t     100 kB\nRssAnon:\t     100 kB\nRssFile:\t       0 "
      "kB\nThreads:\t3\nSigBlk:\t0000000000000004\n"
      "SigCgt:\t8000000000000000\n");
}

TEST(ProcTexts, StatmCountsThePagesOfTheProgram) {
  EXPECT_EQ(StatmText("99999 45 13 4 0 5 0\n", Sample()), "2048 30 8 0 0 0 0\n");
  EXPECT_EQ(StatmText("", Sample()), "");
}

TEST(ProcTexts, NamesAreEscapedInStatus) {
  OwnStatus own = Sample();
  own.comm = "a\n\\b";
  EXPECT_EQ(StatusText("Name:\tkm\n", own), "Name:\ta\\n\\\\b\n");
}

TEST(ProcTexts, SmapsAreAddedUp) {
  std::vector<SmapsEntry> host = ParseSmaps(
      "1000-3000 rw-p 00000000 00:00 0 \nSize:   8 kB\nKernelPageSize:  4 kB\nRss:  8 kB\n"
      "VmFlags: rd wr \n"
      "3000-5000 rw-p 00000000 00:00 0     /a:b\nSize:   8 kB\nKernelPageSize: 4 kB\nRss: 4 kB\n"
      "VmFlags: rd \n");
  ASSERT_EQ(host.size(), 2u);
  SmapsEntry whole = SumSmaps(host, 0x1000, 0x5000);
  EXPECT_EQ(whole.fields[0], std::make_pair(std::string("Size"), uint64_t{16}));
  EXPECT_EQ(whole.fields[1].second, 4u);
  EXPECT_EQ(whole.fields[2].second, 12u);
  EXPECT_EQ(whole.flags, "rd wr ");
  SmapsEntry part = SumSmaps(host, 0x2000, 0x3000);
  EXPECT_EQ(part.fields[0].second, 4u);
  EXPECT_EQ(part.fields[2].second, 4u);
  EXPECT_EQ(SumSmaps(host, 0x8000, 0x9000).fields[2].second, 0u);
  EXPECT_TRUE(ParseSmaps("nonsense\nRss: x\n\n").empty());
}

// Three pages touched, and one more of a file's; what is in the window does not count.
TEST(ProcTexts, TheMonitorsOwnPagesAreCountedWithoutAScan) {
  constexpr size_t kSize = 2000 * kPageSize;
  void* own = mmap(nullptr, kSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(own, MAP_FAILED);
  (void)madvise(own, kSize, MADV_NOHUGEPAGE);  // which a host without such pages does not know
  for (size_t page : {0, 1, 1999}) static_cast<char*>(own)[page * kPageSize] = 1;
  OwnedFd program(open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
  void* file = mmap(nullptr, kPageSize, PROT_READ, MAP_PRIVATE, program.get(), 0);
  ASSERT_NE(file, MAP_FAILED);
  EXPECT_EQ(*static_cast<volatile char*>(file), 0x7f);
  auto line = [](void* start, size_t size, const char* rights) {
    auto address = reinterpret_cast<uint64_t>(start);
    return absl::StrFormat("%x-%x %s 00000000 00:00 0 \n", address, address + size, rights);
  };
  OwnedFd pagemap(open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
  const std::string maps = line(own, kSize, "rw-p") + line(file, kPageSize, "r--p") + "nonsense\n";
  MemoryUse use;
  AddOwnPresent(pagemap.get(), maps, 0, kPageSize, &use);
  EXPECT_EQ(use.own_anonymous, 3 * kPageSize);
  EXPECT_EQ(use.own_file, kPageSize);

  MemoryUse none;
  AddOwnPresent(pagemap.get(), maps, 0, ~uint64_t{0}, &none);
  AddOwnPresent(pagemap.get(), line(own, kSize, "---p"), 0, kPageSize, &none);
  EXPECT_EQ(none.own_anonymous + none.own_file, 0u);
  munmap(own, kSize);
  munmap(file, kPageSize);
}

TEST(ProcTexts, LimitsAreInTheKernelsColumns) {
  std::array<rlimit, RLIM_NLIMITS> limits = {};
  limits[RLIMIT_CPU] = {RLIM_INFINITY, RLIM_INFINITY};
  limits[RLIMIT_NOFILE] = {1024, 4096};
  std::string text = LimitsText(limits);
  EXPECT_THAT(text, HasSubstr("Limit                     Soft Limit           Hard Limit           "
                              "Units     \n"));
  EXPECT_THAT(text, HasSubstr("Max cpu time              unlimited            unlimited            "
                              "seconds   \n"));
  EXPECT_THAT(text, HasSubstr("Max open files            1024                 4096                 "
                              "files     \n"));
  EXPECT_THAT(text, Not(HasSubstr("(null)")));
}

}  // namespace
}  // namespace km
