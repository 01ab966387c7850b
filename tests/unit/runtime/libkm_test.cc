// libkm.a without km: seccomp turns the hypercalls of a child process into SIGSYS, whose handler
// answers in km's place.

#include <errno.h>
#include <km/km.h>
#include <km/layout.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include <cstddef>
#include <cstring>
#include <iterator>
#include <string>

#include "gtest/gtest.h"

namespace km {
namespace {

// What HC_snapshot is to return, and the arguments it was called with; set in the child only.
struct FakeKm {
  long result;
  km_hc_args_t seen;
};
FakeKm fake_km;

void Answer(int, siginfo_t* info, void* context) {
  greg_t* registers = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
  if (info->si_syscall == HC_present) {
    registers[REG_RAX] = KM_ABI_VERSION;
    return;
  }
  // What km does when the process is resumed.
  if (fake_km.result == 1) ++*reinterpret_cast<uint64_t*>(KM_GENERATION);
  fake_km.seen.arg1 = static_cast<uint64_t>(registers[REG_RDI]);
  fake_km.seen.arg2 = static_cast<uint64_t>(registers[REG_RSI]);
  fake_km.seen.arg3 = static_cast<uint64_t>(registers[REG_RDX]);
  registers[REG_RAX] = fake_km.result;
}

bool InstallFakeKm(long result) {
  fake_km.result = result;
  void* data = mmap(reinterpret_cast<void*>(KM_VDSO_DATA), 4096, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
  if (data == MAP_FAILED) return false;
  memset(reinterpret_cast<void*>(KM_GENERATION), 7, KM_GENERATION_SIZE);
  struct sigaction action = {};
  action.sa_sigaction = Answer;
  action.sa_flags = SA_SIGINFO;
  if (sigaction(SIGSYS, &action, nullptr) != 0) return false;

  sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, HC_snapshot, 1, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, HC_present, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog program = {.len = std::size(filter), .filter = filter};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

// Runs |body| in a child where HC_snapshot returns |result|; |body| tells whether all was well.
template <typename Body>
void ExpectUnderFakeKm(long result, Body body) {
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    if (!InstallFakeKm(result)) _exit(2);
    _exit(body() ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  if (WIFEXITED(status) && WEXITSTATUS(status) == 2) GTEST_SKIP() << "no seccomp on this host";
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << "wait status " << status;
}

// A callback that appends its letter to a log.
struct Letter {
  std::string* log;
  char letter;
  static void Append(void* arg) {
    const auto* self = static_cast<const Letter*>(arg);
    self->log->push_back(self->letter);
  }
};

// Takes a snapshot with callbacks a, b before and c, d after; the calls made, then the result.
std::string LogOfSnapshot() {
  std::string log;
  Letter letters[] = {{&log, 'a'}, {&log, 'b'}, {&log, 'c'}, {&log, 'd'}};
  km_before_snapshot(Letter::Append, &letters[0]);
  km_before_snapshot(Letter::Append, &letters[1]);
  km_after_resume(Letter::Append, &letters[2]);
  km_after_resume(Letter::Append, &letters[3]);
  const int result = km_snapshot(nullptr, nullptr, 0);
  return log + std::to_string(result);
}

TEST(LibkmTest, NativelyThereIsNoKm) {
  EXPECT_EQ(km_present(), 0);
  EXPECT_EQ(km_snapshot("label", "description", 0), -ENOSYS);
}

TEST(LibkmTest, NativelyThereIsNoGeneration) {
  // In a child: the library remembers that it is not under km.
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    unsigned char id[KM_GENERATION_SIZE], zeros[KM_GENERATION_SIZE] = {};
    memset(id, 1, sizeof(id));
    km_generation(id);
    const bool good = memcmp(id, zeros, sizeof(id)) == 0 && km_generation_fd(0) == -ENOSYS &&
                      km_run_after_resume() == 0;
    _exit(good ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

TEST(LibkmTest, CallbacksRunAfterAResumeThatNobodyAskedFor) {
  ExpectUnderFakeKm(0, [] {
    std::string log;
    Letter letter = {&log, 'a'};
    unsigned char id[KM_GENERATION_SIZE];
    km_generation(id);
    bool good = id[0] == 7 && id[KM_GENERATION_SIZE - 1] == 7;
    km_after_resume(Letter::Append, &letter);
    good = good && km_run_after_resume() == 0 && log.empty();
    ++*reinterpret_cast<uint64_t*>(KM_GENERATION);
    good = good && km_run_after_resume() == 1 && log == "a" && km_run_after_resume() == 0;
    km_generation(id);
    return good && id[0] == 8;
  });
}

TEST(LibkmTest, PassesItsArguments) {
  ExpectUnderFakeKm(0, [] {
    const char label[] = "label";
    const char description[] = "description";
    return km_present() == KM_ABI_VERSION &&
           km_snapshot(label, description, KM_SNAPSHOT_CONTINUE) == 0 &&
           fake_km.seen.arg1 == reinterpret_cast<uint64_t>(label) &&
           fake_km.seen.arg2 == reinterpret_cast<uint64_t>(description) &&
           fake_km.seen.arg3 == KM_SNAPSHOT_CONTINUE;
  });
}

TEST(LibkmTest, CallbacksRunInOrderAroundASnapshot) {
  ExpectUnderFakeKm(1, [] { return LogOfSnapshot() == "bacd1"; });
  ExpectUnderFakeKm(0, [] { return LogOfSnapshot() == "ba0"; });
  ExpectUnderFakeKm(-EBUSY, [] { return LogOfSnapshot() == "ba" + std::to_string(-EBUSY); });
}

TEST(LibkmTest, TakesSoManyCallbacksAndNoMore) {
  ExpectUnderFakeKm(1, [] {
    std::string log;
    Letter letter = {&log, 'x'};
    for (int i = 0; i < KM_CALLBACKS_MAX; ++i) {
      if (km_after_resume(Letter::Append, &letter) != 0) return false;
    }
    return km_after_resume(Letter::Append, &letter) == -ENOMEM &&
           km_before_snapshot(Letter::Append, &letter) == 0 && km_snapshot("", "", 0) == 1 &&
           log.size() == KM_CALLBACKS_MAX + 1;
  });
}

}  // namespace
}  // namespace km
