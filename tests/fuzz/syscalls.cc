// libFuzzer target: the handlers of system calls, with random numbers, arguments and memory,
// without a machine (no_kvm.cc). `make fuzz` builds and runs it; see docs/testing.md.
//
// An input is a list of steps: bytes put into the program's memory, or a call. Each argument is one
// byte that says of what kind it is, and more bytes for its value.
#include <fcntl.h>
#include <fuzzer/FuzzedDataProvider.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <iterator>
#include <string_view>
#include <thread>
#include <vector>

#include "km/process/host_signals.h"
#include "km/process/process.h"
#include "km/syscalls/call.h"
#include "km/syscalls/thread_exit.h"
#include "tests/fuzz/confine.h"
#include "tests/fuzz/faults.h"

namespace {

using km::Call;
using km::GuestAddr;
using km::Process;
using km::SyscallRow;
using km::Thread;

constexpr uint64_t kPage = 4096;
// The program's memory at the start of an input; between them is nothing.
constexpr uint64_t kData = 0x10000, kDataSize = 8 * kPage;  // for reading and writing
constexpr uint64_t kReadOnly = 0x30000, kNone = 0x40000, kShared = 0x50000;
constexpr uint64_t kFile = 0x60000;  // two pages of a file of one: SIGBUS
constexpr uint64_t kStrings = kData, kStringSize = 64;
constexpr uint64_t kStructs = kData + kPage, kStructSize = 128;
constexpr uint64_t kBuffer = kData + 4 * kPage;
// More of it at once takes long and finds nothing.
constexpr uint64_t kMostMapped = 64 << 20, kNeverMapped = uint64_t{1} << 46;
constexpr auto kPatience = std::chrono::milliseconds(5);

const char* const kTexts[] = {"a",
                              "dir/b",
                              "/w/link/exe",
                              "link/fd/0",
                              "",
                              "/proc/self",
                              "/proc/self/mem",
                              "/proc/self/fd",
                              "/dev/fd/1",
                              "loop/x",
                              "dir",
                              "/proc/self/maps",
                              "/proc/thread-self/comm",
                              "fifo",
                              "/proc/self/root/w/a",
                              "user.name",
                              "/w/dir/../a",
                              "/proc/self/task",
                              "missing/",
                              "link/task/1/stat",
                              "/proc/self/fdinfo/4",
                              ".",
                              "..",
                              "/proc/self/environ"};

Process* process;
Thread* guest;
std::vector<const SyscallRow*> supported;
std::atomic<uint64_t> calls_begun = 0;
std::atomic<bool> in_call = false;

// ---- The machine ----

// Ends calls that wait, as a signal would.
[[noreturn]] void Watch() {
  for (uint64_t seen = 0;; seen = calls_begun.load()) {
    std::this_thread::sleep_for(kPatience);
    if (!in_call.load() || calls_begun.load() != seen) continue;
    guest->attention.store(1);
    km::Kick(guest->host_tid);
  }
}

void ThreadMain(Thread& thread) {
  ReleaseThread(*process, thread);
  process->EndThread(&thread, 0);
}

void MakeProcess() {
  km::KeepSanitizersHandlers();
  km::InstallHostSignals();
  km::InstallFaultHandlers();
  process = Process::Create(ThreadMain)->release();
  km::AddressSpace::Layout layout;
  layout.mmap_base = uint64_t{1} << 40;
  layout.brk_start = layout.brk_end = 0x1000000;
  layout.arguments_start = kStrings;
  layout.arguments_end = layout.environment_start = kStrings + 32;
  layout.environment_end = kStrings + kPage;
  process->space().SetLayout(layout);
  process->identity().executable = "/w/a";
  process->identity().auxv = {6, 4096, 0, 0};
  guest = *process->NewThread(process->identity().pid, 0, Process::VcpuFrom::kStart);
  guest->comm = "fuzz";
  guest->host_tid = gettid();
  km::SetCurrentThread(guest);
  std::thread(Watch).detach();
  km::UnblockHostSignals();
}

// ---- Calls ----

// What would stop the fuzzer itself, or take the machine's time.
bool Allowed(const Call& call, const SyscallRow& row) {
  std::string_view name = row.name;
  auto own_or_no_pid = [&call](size_t i) {
    return call.Uint(i) == process->identity().pid || call.Int(i) > 1 << 20;
  };
  if (name == "kill" || name == "rt_sigqueueinfo" || name == "tgkill" ||
      name == "rt_tgsigqueueinfo" || name == "tkill") {
    return own_or_no_pid(0);
  }
  if (name == "sync") return false;
  if (name == "prctl") return call.Int(0) != PR_SET_DUMPABLE && call.Int(0) != PR_SET_PDEATHSIG;
  if (name == "setrlimit") return call.Int(0) > RLIMIT_FSIZE;
  if (name == "prlimit64") return call.Int(1) > RLIMIT_FSIZE;
  if (name == "sched_setattr" || name == "sched_setscheduler") return false;
  return true;
}

void Bound(Call* call, const SyscallRow& row) {
  std::string_view name = row.name;
  auto bound = [call](size_t i) {
    uint64_t& length = call->arguments[i];
    if (length > kMostMapped && length < kNeverMapped) length %= kMostMapped;
  };
  if (name == "mmap") bound(1);
  if (name == "mremap") bound(2);
  if (name == "brk") bound(0);
}

int64_t Make(uint64_t number, std::array<uint64_t, 6> arguments) {
  Call call = {*process, *guest, number, arguments, {}, {}};
  const SyscallRow* row = km::FindSyscall(number);
  if (row == nullptr || !Allowed(call, *row)) return -ENOSYS;
  Bound(&call, *row);
  guest->attention.store(0);
  guest->registers.orig_rax = number;
  calls_begun.fetch_add(1);
  in_call.store(true);
  km::SyscallResult result = row->handler(call);
  in_call.store(false);
  return result.value;
}

// The end of a call, as Monitor::Finish does it.
void Finish() {
  guest->in_call = false;
  guest->deadline_ns.reset();
  guest->done = 0;
  process->signals().EndTemporaryMask(guest->tid);
}

uint64_t TextAt(size_t i) { return kStrings + i % std::size(kTexts) * kStringSize; }

uint64_t Argument(FuzzedDataProvider& input) {
  constexpr uint64_t kNumbers[] = {0,          1,          4096,       4095,       8,
                                   0x7fffffff, 0x80000000, 0xffffffff, 1ul << 32,  1ul << 46,
                                   1ul << 47,  1ul << 63,  ~0ul,       ~0ul >> 1,  (1ul << 46) - 1,
                                   0x10000000, 1ul << 20,  65536,      0x7ffff000, -4096ul};
  constexpr uint64_t kPlaces[] = {kReadOnly, kNone,         kShared,
                                  kFile,     kFile + kPage, kData + kDataSize};
  uint8_t kind = input.ConsumeIntegral<uint8_t>();
  uint8_t value = input.ConsumeIntegral<uint8_t>();
  switch (kind % 12) {
    case 0:
      return value % 24;
    case 1:
      return TextAt(value);
    case 2:
      return kStructs + value % 24 * kStructSize;
    case 3:
      return kBuffer + input.ConsumeIntegral<uint16_t>() % (4 * kPage);
    case 4:
      return kData + kDataSize - value;
    case 5:
      return kPlaces[value % std::size(kPlaces)] + kPage - value % 33;
    case 6:
      return kNumbers[value % std::size(kNumbers)];
    case 7:
      return uint64_t{1} << (value % 64);
    case 8:
      return value | uint64_t{input.ConsumeIntegral<uint8_t>()} << 8;
    case 9:
      return -static_cast<uint64_t>(value);
    case 10:
      return input.ConsumeIntegral<uint64_t>();
    default:
      return value;
  }
}

// ---- The state that every input begins with ----

void FreshDirectory() {
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator("/w", ignored)) {
    std::filesystem::remove_all(entry.path(), ignored);
  }
  mkdir("/w/dir", 0755);
  for (const char* name : {"/w/a", "/w/dir/b"}) {
    FILE* file = fopen(name, "w");
    for (int i = 0; file != nullptr && i < 500; ++i) fputs("content ", file);
    if (file != nullptr) fclose(file);
  }
  (void)!symlink("/proc/self", "/w/link");
  (void)!symlink("loop", "/w/loop");
  mkfifo("/w/fifo", 0644);
}

void Put(uint64_t address, const void* bytes, size_t size) {
  (void)process->memory().CopyOut(GuestAddr(address), bytes, size);
}

void FillMemory() {
  for (size_t i = 0; i < std::size(kTexts); ++i) {
    Put(kStrings + i * kStringSize, kTexts[i], strlen(kTexts[i]) + 1);
  }
  // Structures that point to valid memory: the rest is for the input to change.
  uint64_t words[kStructSize / 8] = {};
  for (uint64_t i = 0; i < 24; ++i) {
    for (size_t w = 0; w < std::size(words); ++w) {
      words[w] = i % 2 == 0 ? (w % 2 == 0 ? kBuffer + w * 64 : 16 + i) : (w == i / 2 ? i : w % 3);
    }
    Put(kStructs + i * kStructSize, words, sizeof(words));
  }
  sockaddr name = {AF_UNIX, "a.sock"};
  Put(kStructs + 4 * kStructSize, &name, sizeof(name));
}

void MapMemory() {
  constexpr uint64_t kFixed = MAP_FIXED | MAP_ANONYMOUS;
  constexpr uint64_t kReadWrite = PROT_READ | PROT_WRITE, kNoFd = ~0ul;
  process->space().Unmap(kPage, KM_GUEST_END - kPage);
  Make(SYS_mmap, {kData, kDataSize, kReadWrite, MAP_PRIVATE | kFixed, kNoFd, 0});
  Make(SYS_mmap, {kReadOnly, kPage, PROT_READ, MAP_PRIVATE | kFixed, kNoFd, 0});
  Make(SYS_mmap, {kNone, kPage, PROT_NONE, MAP_PRIVATE | kFixed, kNoFd, 0});
  Make(SYS_mmap, {kShared, kPage, kReadWrite, MAP_SHARED | kFixed, kNoFd, 0});
  FillMemory();
}

void OpenFiles() {
  process->files().SetLimit(256);
  for (const km::FdTable::Entry& entry : process->files().Entries()) {
    process->files().Close(static_cast<uint64_t>(entry.number));
  }
  (void)!chdir("/w");
  Make(SYS_open, {TextAt(0), O_RDWR, 0});                    // 0: a file
  Make(SYS_open, {TextAt(10), O_RDONLY, 0});                 // 1: a directory
  Make(SYS_pipe2, {kBuffer, O_NONBLOCK});                    // 2, 3
  Make(SYS_eventfd2, {1, 0});                                // 4
  Make(SYS_socketpair, {AF_UNIX, SOCK_STREAM, 0, kBuffer});  // 5, 6
  Make(SYS_epoll_create1, {0});                              // 7
  Make(SYS_open, {TextAt(5), O_RDONLY, 0});                  // 8: /proc/self
  Make(SYS_memfd_create, {TextAt(0), 0});                    // 9
  Make(SYS_open, {TextAt(6), O_RDWR, 0});                    // 10: /proc/self/mem
  Make(SYS_open, {TextAt(10), O_PATH});                      // 11
  Make(SYS_mmap, {kFile, 2 * kPage, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, 0, 0});
}

void Begin() {
  static uint64_t inputs = 0;
  if (inputs++ % 64 == 0) FreshDirectory();
  process->signals().SetMask(guest->tid, 0);
  guest->robust_list = guest->clear_child_tid = GuestAddr();
  MapMemory();
  OpenFiles();
}

}  // namespace

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  km::Confine(*argc, *argv);
  MakeProcess();
  for (size_t i = 0; i < km::SyscallCount(); ++i) {
    if (km::SyscallAt(i).support != km::Support::kLater) supported.push_back(&km::SyscallAt(i));
  }
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  FuzzedDataProvider input(data, size);
  Begin();
  for (int steps = 0; steps < 24 && input.remaining_bytes() > 2; ++steps) {
    uint16_t which = input.ConsumeIntegral<uint16_t>();
    if (which % 4 == 0) {
      uint64_t at = Argument(input);
      std::string bytes = input.ConsumeBytesAsString(input.ConsumeIntegral<uint8_t>() % 65);
      Put(at, bytes.data(), bytes.size());
      continue;
    }
    const SyscallRow& row = *supported[which / 4 % supported.size()];
    std::array<uint64_t, 6> arguments;
    for (uint64_t& argument : arguments) argument = Argument(input);
    int64_t result = Make(row.number, arguments);
    // Made again as after a kick, once.
    if (result <= km::kRestart && result >= km::kRestartNoHandler) Make(row.number, arguments);
    Finish();
  }
  return 0;
}
