// The embedded runtime: the bytes that are part of the format, and the vDSO, which needs no VM to
// be called. It is loaded as a shared object here, away from KM_VDSO_ADDRESS; only its data page
// must lie where the guest has it.

#include <dlfcn.h>
#include <elf.h>
#include <execinfo.h>
#include <km/layout.h>
#include <km/runtime_blobs.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <map>
#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace km {
namespace {

using Bytes = std::vector<unsigned char>;
using ClockFunction = int(clockid_t, timespec*);

constexpr int64_t kSecond = 1000000000;

Bytes Stub() { return Bytes(km_runtime_stub, km_runtime_stub_end); }
Bytes Gates() { return Bytes(km_runtime_gates, km_runtime_gates_end); }
Bytes Vdso() { return Bytes(km_runtime_vdso, km_runtime_vdso_end); }

template <typename T>
std::vector<T> Read(const Bytes& image, uint64_t offset, size_t count) {
  std::vector<T> values(count);
  if (offset > image.size() || count * sizeof(T) > image.size() - offset) {
    ADD_FAILURE() << "the image ends before " << offset << " + " << count * sizeof(T);
    return values;
  }
  std::memcpy(values.data(), image.data() + offset, count * sizeof(T));
  return values;
}

std::vector<Elf64_Phdr> ProgramHeaders(const Bytes& image) {
  const Elf64_Ehdr header = Read<Elf64_Ehdr>(image, 0, 1)[0];
  return Read<Elf64_Phdr>(image, header.e_phoff, header.e_phnum);
}

std::map<int64_t, uint64_t> DynamicEntries(const Bytes& image) {
  std::map<int64_t, uint64_t> entries;
  for (const Elf64_Phdr& phdr : ProgramHeaders(image)) {
    if (phdr.p_type != PT_DYNAMIC) continue;
    for (const Elf64_Dyn& entry :
         Read<Elf64_Dyn>(image, phdr.p_offset, phdr.p_filesz / sizeof(Elf64_Dyn))) {
      entries[entry.d_tag] = entry.d_un.d_val;
    }
  }
  return entries;
}

TEST(RuntimeTest, StubLeavesAndReturns) {
  const Bytes stub = Stub();
  ASSERT_EQ(stub.size(), 4096u);
  EXPECT_EQ(Bytes(stub.begin(), stub.begin() + 4), (Bytes{0xe6, KM_EXIT_PORT, 0x48, 0xcf}));
  EXPECT_EQ(Bytes(stub.begin() + 4, stub.end()), Bytes(4092, 0xf4));
}

TEST(RuntimeTest, EveryGateOnlyLeaves) {
  const Bytes gates = Gates();
  ASSERT_EQ(gates.size(), 4096u);
  for (size_t at = 0; at < gates.size(); at += 2) {
    const bool is_entry = at % KM_GATE_SIZE == 0 && at < KM_GATE_COUNT * KM_GATE_SIZE;
    EXPECT_EQ(gates[at], is_entry ? 0xe6 : 0x0f) << at;
    EXPECT_EQ(gates[at + 1], is_entry ? KM_EXIT_PORT : 0x0b) << at;
  }
}

TEST(RuntimeTest, VdsoIsOneExecutableSegmentWithoutRelocations) {
  const Bytes image = Vdso();
  EXPECT_LE(image.size(), size_t{KM_VDSO_MAX_SIZE});

  const Elf64_Ehdr header = Read<Elf64_Ehdr>(image, 0, 1)[0];
  EXPECT_EQ(std::string(header.e_ident, header.e_ident + SELFMAG), ELFMAG);
  EXPECT_EQ(header.e_ident[EI_CLASS], ELFCLASS64);
  EXPECT_EQ(header.e_type, ET_DYN);
  EXPECT_EQ(header.e_machine, EM_X86_64);

  size_t loads = 0;
  for (const Elf64_Phdr& phdr : ProgramHeaders(image)) {
    if (phdr.p_type != PT_LOAD) continue;
    ++loads;
    EXPECT_EQ(phdr.p_flags, uint32_t{PF_R | PF_X});
    EXPECT_EQ(phdr.p_offset, 0u);
    EXPECT_EQ(phdr.p_vaddr, 0u);
    EXPECT_EQ(phdr.p_filesz, phdr.p_memsz);
  }
  EXPECT_EQ(loads, 1u);

  const std::map<int64_t, uint64_t> dynamic = DynamicEntries(image);
  for (int64_t wanted : {DT_HASH, DT_GNU_HASH, DT_VERSYM, DT_VERDEF}) {
    EXPECT_TRUE(dynamic.contains(wanted)) << wanted;
  }
  // Not DT_SONAME: libc would point to it from its list of objects, and a snapshot has not these
  // pages.
  for (int64_t unwanted : {DT_RELA, DT_REL, DT_JMPREL, DT_NEEDED, DT_TEXTREL, DT_SONAME}) {
    EXPECT_FALSE(dynamic.contains(unwanted)) << unwanted;
  }
}

TEST(RuntimeTest, EntryPointsAreWhereTheFormatHasThem) {
  const Bytes image = Vdso();
  std::map<int64_t, uint64_t> dynamic = DynamicEntries(image);
  // DT_HASH is {nbucket, nchain, ...}, with nchain the number of symbols.
  const uint32_t count = Read<uint32_t>(image, dynamic[DT_HASH], 2)[1];
  const std::vector<char> names = Read<char>(image, dynamic[DT_STRTAB], dynamic[DT_STRSZ]);

  std::map<std::string, uint64_t> functions;
  for (const Elf64_Sym& symbol : Read<Elf64_Sym>(image, dynamic[DT_SYMTAB], count)) {
    if (ELF64_ST_TYPE(symbol.st_info) != STT_FUNC) continue;
    ASSERT_LT(symbol.st_name, names.size());
    functions[&names[symbol.st_name]] = symbol.st_value;
  }
  const std::map<std::string, uint64_t> expected = {
      {"clock_gettime", 0x1000},
      {"gettimeofday", 0x1100},
      {"time", 0x1180},
      {"getcpu", 0x1200},
      {"clock_getres", 0x1280},
      {"__vdso_time", 0x1180},
      {"__vdso_clock_gettime", 0x1000},
      {"__vdso_gettimeofday", 0x1100},
      {"__vdso_getcpu", 0x1200},
      {"__vdso_clock_getres", 0x1280},
  };
  EXPECT_EQ(functions, expected);
}

// At KM_VDSO_DATA: what the vDSO reads, and behind it what the test's own clock needs.
struct DataPage {
  km_vdso_data vdso;
  timespec host_time;
  int host_result;
  int frames;
};

DataPage& Page() { return *reinterpret_cast<DataPage*>(KM_VDSO_DATA); }

// Stands for the host's clock_gettime; not inlined, so that it is always one frame.
[[gnu::noinline]] int TestClock(clockid_t, timespec* time) {
  void* frames[64];
  Page().frames = backtrace(frames, std::size(frames));
  *time = Page().host_time;
  return Page().host_result;
}

template <typename Function>
uint64_t AddressOf(Function* function) {
  return reinterpret_cast<uint64_t>(function);
}

class VdsoTest : public testing::Test {
 protected:
  void SetUp() override {
    void* page = mmap(reinterpret_cast<void*>(KM_VDSO_DATA), 4096, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    if (page == MAP_FAILED && errno == EEXIST) {
      GTEST_SKIP() << "something of the test program lies at KM_VDSO_DATA";
    }
    ASSERT_EQ(page, reinterpret_cast<void*>(KM_VDSO_DATA)) << std::strerror(errno);
    mapped_ = true;

    const Bytes image = Vdso();
    const int fd = memfd_create("vdso", MFD_CLOEXEC);
    ASSERT_GE(fd, 0);
    ASSERT_EQ(write(fd, image.data(), image.size()), static_cast<ssize_t>(image.size()));
    vdso_ = dlopen(("/proc/self/fd/" + std::to_string(fd)).c_str(), RTLD_NOW | RTLD_LOCAL);
    close(fd);
    ASSERT_NE(vdso_, nullptr) << dlerror();

    host_ = dlopen("linux-vdso.so.1", RTLD_NOW | RTLD_NOLOAD);
  }

  void TearDown() override {
    if (host_ != nullptr) dlclose(host_);
    if (vdso_ != nullptr) dlclose(vdso_);
    if (mapped_) munmap(reinterpret_cast<void*>(KM_VDSO_DATA), 4096);
  }

  // The vDSO's function, found as libc finds it: by name and version.
  template <typename Function>
  Function* Find(const char* name) {
    auto* function = reinterpret_cast<Function*>(dlvsym(vdso_, name, "LINUX_2.6"));
    EXPECT_NE(function, nullptr) << name;
    return function;
  }

  // 0 when the host has none: then it is the system call that is tested.
  uint64_t HostAddress(const char* name) {
    if (host_ == nullptr) return 0;
    return reinterpret_cast<uint64_t>(dlvsym(host_, name, "LINUX_2.6"));
  }

  void UseHost() {
    Page().vdso = {.host_clock_gettime = HostAddress("__vdso_clock_gettime"),
                   .host_gettimeofday = HostAddress("__vdso_gettimeofday"),
                   .host_time = HostAddress("__vdso_time"),
                   .host_getcpu = HostAddress("__vdso_getcpu"),
                   .host_clock_getres = HostAddress("__vdso_clock_getres"),
                   .monotonic_offset_ns = 0,
                   .boottime_offset_ns = 0};
  }

  // Everything but the offsets, with whatever is in the page.
  void ExpectAgreesWithTheSystem();

 private:
  void* vdso_ = nullptr;
  void* host_ = nullptr;
  bool mapped_ = false;
};

int64_t Nanoseconds(const timespec& time) { return time.tv_sec * kSecond + time.tv_nsec; }

int64_t SystemClock(clockid_t clock) {
  timespec time;
  EXPECT_EQ(clock_gettime(clock, &time), 0);
  return Nanoseconds(time);
}

void VdsoTest::ExpectAgreesWithTheSystem() {
  auto* get_time = Find<ClockFunction>("__vdso_clock_gettime");
  auto* get_resolution = Find<ClockFunction>("__vdso_clock_getres");
  for (clockid_t clock : {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_PROCESS_CPUTIME_ID,
                          CLOCK_THREAD_CPUTIME_ID, CLOCK_MONOTONIC_RAW, CLOCK_REALTIME_COARSE,
                          CLOCK_MONOTONIC_COARSE, CLOCK_BOOTTIME, CLOCK_TAI}) {
    timespec time;
    const int64_t before = SystemClock(clock);
    ASSERT_EQ(get_time(clock, &time), 0) << clock;
    const int64_t after = SystemClock(clock);
    EXPECT_LE(before, Nanoseconds(time)) << clock;
    EXPECT_LE(Nanoseconds(time), after) << clock;

    timespec resolution, expected;
    ASSERT_EQ(get_resolution(clock, &resolution), 0) << clock;
    ASSERT_EQ(clock_getres(clock, &expected), 0) << clock;
    EXPECT_EQ(Nanoseconds(resolution), Nanoseconds(expected)) << clock;
  }
  timespec unused;
  EXPECT_EQ(get_time(1000, &unused), -EINVAL);
  EXPECT_EQ(get_resolution(1000, &unused), -EINVAL);

  timeval day;
  const int64_t before = SystemClock(CLOCK_REALTIME);
  ASSERT_EQ(Find<int(timeval*, void*)>("__vdso_gettimeofday")(&day, nullptr), 0);
  const int64_t now = day.tv_sec * kSecond + day.tv_usec * 1000;
  EXPECT_LE(before - 1000, now);
  EXPECT_LE(now, SystemClock(CLOCK_REALTIME));

  time_t seconds = 0;
  EXPECT_EQ(Find<time_t(time_t*)>("__vdso_time")(&seconds), seconds);
  EXPECT_NEAR(static_cast<double>(seconds), static_cast<double>(day.tv_sec), 1.0);

  unsigned cpu = ~0u, node = ~0u;
  EXPECT_EQ(Find<int(unsigned*, unsigned*, void*)>("__vdso_getcpu")(&cpu, &node, nullptr), 0);
  EXPECT_LT(cpu, static_cast<unsigned>(sysconf(_SC_NPROCESSORS_CONF)));
}

TEST_F(VdsoTest, LeadsToTheHostsVdso) {
  UseHost();
  EXPECT_NE(Page().vdso.host_clock_gettime, 0u) << "this host has no vDSO";
  ExpectAgreesWithTheSystem();
}

TEST_F(VdsoTest, MakesSystemCallsWhenTheHostHasNoVdso) {
  // The offsets are the kernel's business then; here it is the host's kernel, which adds none.
  Page().vdso.monotonic_offset_ns = 5 * kSecond;
  Page().vdso.boottime_offset_ns = 5 * kSecond;
  ExpectAgreesWithTheSystem();
}

TEST_F(VdsoTest, AddsTheOffsetToTheHostsTime) {
  UseHost();
  if (Page().vdso.host_clock_gettime == 0) GTEST_SKIP() << "this host has no vDSO";
  const std::map<clockid_t, int64_t> offsets = {
      {CLOCK_REALTIME, 0},
      {CLOCK_MONOTONIC, -3 * kSecond + 1},
      {CLOCK_PROCESS_CPUTIME_ID, 0},  // served by a system call of the host's vDSO
      {CLOCK_MONOTONIC_RAW, -3 * kSecond + 1},
      {CLOCK_MONOTONIC_COARSE, -3 * kSecond + 1},
      {CLOCK_BOOTTIME, 86400 * kSecond + 999999999},
  };
  Page().vdso.monotonic_offset_ns = offsets.at(CLOCK_MONOTONIC);
  Page().vdso.boottime_offset_ns = offsets.at(CLOCK_BOOTTIME);
  auto* get_time = Find<ClockFunction>("clock_gettime");
  for (const auto& [clock, offset] : offsets) {
    timespec time;
    const int64_t before = SystemClock(clock);
    ASSERT_EQ(get_time(clock, &time), 0) << clock;
    EXPECT_LE(before + offset, Nanoseconds(time)) << clock;
    EXPECT_LE(Nanoseconds(time), SystemClock(clock) + offset) << clock;
    EXPECT_GE(time.tv_nsec, 0) << clock;
    EXPECT_LT(time.tv_nsec, kSecond) << clock;
  }
}

TEST_F(VdsoTest, NormalisesTheSum) {
  Page().vdso.host_clock_gettime = AddressOf(TestClock);
  auto* get_time = Find<ClockFunction>("__vdso_clock_gettime");
  struct Case {
    timespec host;
    int64_t offset;
    timespec sum;
  };
  const Case cases[] = {
      {{10, 0}, 1, {10, 1}},
      {{10, 0}, -1, {9, 999999999}},
      {{10, 999999999}, 1, {11, 0}},
      {{10, 999999999}, 999999999, {11, 999999998}},
      {{10, 500000000}, -500000000, {10, 0}},
      {{10, 0}, -10 * kSecond, {0, 0}},
      {{10, 0}, -10 * kSecond - 1, {-1, 999999999}},
      {{10, 999999999}, INT64_MAX, {9223372047, 854775806}},
      {{10, 0}, INT64_MIN, {-9223372027, 145224192}},
  };
  for (const Case& test : cases) {
    Page().host_time = test.host;
    Page().vdso.monotonic_offset_ns = test.offset;
    timespec time;
    ASSERT_EQ(get_time(CLOCK_MONOTONIC, &time), 0);
    EXPECT_EQ(time.tv_sec, test.sum.tv_sec) << test.offset;
    EXPECT_EQ(time.tv_nsec, test.sum.tv_nsec) << test.offset;
  }
}

TEST_F(VdsoTest, LeavesTheResultOfAFailureAlone) {
  Page().vdso.host_clock_gettime = AddressOf(TestClock);
  Page().vdso.monotonic_offset_ns = kSecond;
  Page().host_time = {1, 2};
  Page().host_result = -EINVAL;
  timespec time;
  EXPECT_EQ(Find<ClockFunction>("__vdso_clock_gettime")(CLOCK_MONOTONIC, &time), -EINVAL);
  EXPECT_EQ(time.tv_sec, 1);
  EXPECT_EQ(time.tv_nsec, 2);
}

TEST_F(VdsoTest, UnwindsToItsCaller) {
  Page().vdso.host_clock_gettime = AddressOf(TestClock);
  Page().vdso.monotonic_offset_ns = kSecond;  // on this way the vDSO has a frame of its own
  auto* get_time = Find<ClockFunction>("__vdso_clock_gettime");
  timespec time;
  ASSERT_EQ(TestClock(CLOCK_MONOTONIC, &time), 0);
  const int direct = Page().frames;
  ASSERT_EQ(get_time(CLOCK_MONOTONIC, &time), 0);
  EXPECT_EQ(Page().frames, direct + 1);
}

}  // namespace
}  // namespace km
