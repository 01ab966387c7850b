#include "km/kvm/vcpu.h"

#include <km/layout.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <thread>

#include "tests/unit/memory/machine.h"

namespace km {
namespace {

using Kind = VcpuExit::Kind;
using VcpuTest = MachineTest;

constexpr uint64_t kTf = 0x100;

Registers Patterned(Registers registers) {
  uint64_t value = 0;
  for (uint64_t* member :
       {&registers.r8, &registers.r9, &registers.r10, &registers.r11, &registers.r12,
        &registers.r13, &registers.r14, &registers.r15, &registers.rdi, &registers.rsi,
        &registers.rbp, &registers.rbx, &registers.rdx, &registers.rax, &registers.rcx}) {
    *member = value += 0x0123456789abcdef;
  }
  return registers;
}

TEST_F(VcpuTest, SystemCall) {
  Registers registers = Patterned(Program({0x0f, 0x05}));
  Registers expected = registers;
  EXPECT_EQ(vcpu_->Run(registers).kind, Kind::kSystemCall);
  expected.orig_rax = expected.rax;
  expected.rip = kCode + 2;
  expected.rcx = expected.rip;
  expected.r11 = registers.r11;  // the flags
  EXPECT_EQ(registers.eflags & 0x8d5, expected.eflags & 0x8d5);
  expected.eflags = registers.eflags;
  EXPECT_EQ(memcmp(&registers, &expected, sizeof(registers)), 0);
}

TEST_F(VcpuTest, SystemCallsFollowOneAnother) {
  Registers registers = Program({0x0f, 0x05, 0xff, 0xc0, 0x0f, 0x05});  // inc %eax between them
  registers.rax = 5;
  ASSERT_EQ(vcpu_->Run(registers).kind, Kind::kSystemCall);
  registers.rax = 40;
  ASSERT_EQ(vcpu_->Run(registers).kind, Kind::kSystemCall);
  EXPECT_EQ(registers.orig_rax, 41u);
  EXPECT_EQ(vcpu_->exits(), 2u);
}

// Also what sigreturn needs: rcx and r11 arrive as they were given.
TEST_F(VcpuTest, EveryRegisterGoesInAndOut) {
  Registers registers = Patterned(Program({0x0f, 0x0b}));  // ud2
  registers.eflags = 0x202 | 0x8d5 | 0x400;
  Registers expected = registers;
  VcpuExit exit = vcpu_->Run(registers);
  ASSERT_EQ(exit.kind, Kind::kException);
  EXPECT_EQ(exit.vector, 6);
  EXPECT_EQ(registers.eflags & ~uint64_t{0x10000}, expected.eflags);  // RF marks a fault
  expected.eflags = registers.eflags;
  EXPECT_EQ(memcmp(&registers, &expected, sizeof(registers)), 0);
}

// To 32-bit code, where AMD's `syscall` would go to ring 0: there is none, unless the program runs
// on its host's segments (PVM), where the instruction is none of ring 0's either.
TEST_F(VcpuTest, NoWayToRingZeroFromThirtyTwoBitCode) {
  // push $0x23; push $kCode + 9; lretq; syscall
  Registers registers = Program({0x6a, 0x23, 0x68, 0x09, 0, 0x01, 0, 0x48, 0xcb, 0x0f, 0x05});
  VcpuExit exit = vcpu_->Run(registers);
  ASSERT_EQ(exit.kind, Kind::kException);
  if (exit.vector == 13) {
    EXPECT_EQ(registers.rip, kCode + 7);
  } else {
    EXPECT_EQ(exit.vector, 6);
  }
}

TEST_F(VcpuTest, DivideError) {
  Registers registers = Program({0xf7, 0xf1});  // div %ecx
  VcpuExit exit = vcpu_->Run(registers);
  EXPECT_EQ(exit.kind, Kind::kException);
  EXPECT_EQ(exit.vector, 0);
  EXPECT_EQ(registers.rip, kCode);
}

TEST_F(VcpuTest, BreakpointIsATrap) {
  Registers registers = Program({0xcc});
  VcpuExit exit = vcpu_->Run(registers);
  EXPECT_EQ(exit.kind, Kind::kException);
  EXPECT_EQ(exit.vector, 3);
  EXPECT_EQ(registers.rip, kCode + 1);
}

TEST_F(VcpuTest, SingleStep) {
  Registers registers = Program({0x90, 0x90, 0x90});
  registers.eflags |= kTf;
  VcpuExit exit = vcpu_->Run(registers);
  EXPECT_EQ(exit.kind, Kind::kException);
  EXPECT_EQ(exit.vector, 1);
  EXPECT_EQ(registers.rip, kCode + 1);
}

TEST_F(VcpuTest, PrivilegedInstruction) {
  Registers registers = Program({0xf4});  // hlt
  VcpuExit exit = vcpu_->Run(registers);
  EXPECT_EQ(exit.kind, Kind::kException);
  EXPECT_EQ(exit.vector, 13);
  EXPECT_EQ(registers.rip, kCode);
}

TEST_F(VcpuTest, PageFaults) {
  struct Case {
    uint8_t opcode;  // 8b: read, 89: write, through rdi
    uint64_t address, error;
  };
  Registers start = Program({0x90, 0x90});
  MapGuest(kData, kPageSize, PROT_READ);
  for (const Case& c :
       {Case{0x8b, 0x50123, 4}, Case{0x89, 0x50123, 6}, Case{0x89, kData + 8, 7},
        Case{0x89, kCode + 8, 7}, Case{0x89, KM_FRAME_BASE, 7}, Case{0x89, KM_VDSO_DATA, 7}}) {
    auto* code = reinterpret_cast<uint8_t*>(memory_->window() + kCode);
    code[0] = c.opcode;
    code[1] = 0x07;
    Registers registers = start;
    registers.rdi = c.address;
    VcpuExit exit = vcpu_->Run(registers);
    ASSERT_EQ(exit.kind, Kind::kException);
    EXPECT_EQ(exit.vector, 14);
    EXPECT_EQ(exit.fault_address, c.address);
    EXPECT_EQ(exit.error_code, c.error) << std::hex << c.address;
    EXPECT_EQ(registers.rip, kCode);
    EXPECT_EQ(registers.rsp, start.rsp);
  }
}

TEST_F(VcpuTest, ExecutionOfData) {
  Registers registers = Program({0x90});
  MapGuest(kData, kPageSize, PROT_READ | PROT_WRITE);
  registers.rip = kData;
  VcpuExit exit = vcpu_->Run(registers);
  ASSERT_EQ(exit.kind, Kind::kException);
  EXPECT_EQ(exit.vector, 14);
  EXPECT_EQ(exit.fault_address, kData);
  EXPECT_EQ(exit.error_code, 0x15u);
}

TEST_F(VcpuTest, RipThatIsNotCanonical) {
  Registers registers = Program({0x90});
  registers.rip = uint64_t{1} << 63;
  VcpuExit exit = vcpu_->Run(registers);
  EXPECT_EQ(exit.kind, Kind::kException);
  EXPECT_EQ(exit.vector, 13);
  EXPECT_EQ(registers.rip, uint64_t{1} << 63);
}

TEST_F(VcpuTest, TheProgramsOwnUseOfThePort) {
  if (getenv("GUEST_EMULATED") != nullptr) GTEST_SKIP() << "QEMU refuses `out` in ring 3";
  Registers registers = Program({0xe6, KM_EXIT_PORT, 0xe4, KM_EXIT_PORT, 0x0f, 0x05});
  EXPECT_EQ(vcpu_->Run(registers).kind, Kind::kUserOut);
  EXPECT_EQ(registers.rip, kCode + 2);  // and it goes on from there, with what was set

  EXPECT_EQ(vcpu_->Run(registers).kind, Kind::kStrayPort);
  // A register file set after it is what the program goes on with.
  registers.rip = kCode + 4;
  registers.rax = 77;
  EXPECT_EQ(vcpu_->Run(registers).kind, Kind::kSystemCall);
  EXPECT_EQ(registers.orig_rax, 77u);
  // Straight from one `out` into another: no `iretq` in between.
  registers = Patterned(Program({0xe6, KM_EXIT_PORT, 0xe6, KM_EXIT_PORT}));
  EXPECT_EQ(vcpu_->Run(registers).kind, Kind::kUserOut);
  Registers expected = registers;
  expected.rip = kCode + 4;
  EXPECT_EQ(vcpu_->Run(registers).kind, Kind::kUserOut);
  EXPECT_EQ(memcmp(&registers, &expected, sizeof(registers)), 0);
}

TEST_F(VcpuTest, RequestedExitKeepsTheProgramFromRunning) {
  Registers registers = Patterned(Program({0x0f, 0x05}));
  Registers before = registers;
  vcpu_->RequestExit();
  EXPECT_EQ(vcpu_->Run(registers).kind, Kind::kInterrupted);
  EXPECT_EQ(memcmp(&registers, &before, sizeof(registers)), 0);
  vcpu_->ClearExitRequest();
  EXPECT_EQ(vcpu_->Run(registers).kind, Kind::kSystemCall);
}

Vcpu* kicked_vcpu = nullptr;

TEST_F(VcpuTest, KickOfARunningProgram) {
  // 1: inc %rax; mov %rax, (%rbx); jmp 1b
  Registers registers = Program({0x48, 0xff, 0xc0, 0x48, 0x89, 0x03, 0xeb, 0xf8});
  const auto* counter = reinterpret_cast<const std::atomic<uint64_t>*>(
      MapGuest(kData, kPageSize, PROT_READ | PROT_WRITE));
  registers.rbx = kData;
  kicked_vcpu = vcpu_.get();
  struct sigaction action = {}, old = {};
  action.sa_handler = [](int) { kicked_vcpu->RequestExit(); };
  ASSERT_EQ(sigaction(SIGUSR1, &action, &old), 0);
  pthread_t self = pthread_self();
  for (int i = 0; i < 20; ++i) {
    vcpu_->ClearExitRequest();
    uint64_t before = registers.rax;
    std::thread kicker([self, counter, counted = counter->load()] {
      while (counter->load() == counted) std::this_thread::yield();  // it runs
      pthread_kill(self, SIGUSR1);
    });
    EXPECT_EQ(vcpu_->Run(registers).kind, Kind::kInterrupted);
    kicker.join();
    EXPECT_GT(registers.rax, before);
    EXPECT_TRUE(registers.rip == kCode || registers.rip == kCode + 3 || registers.rip == kCode + 6);
  }
  ASSERT_EQ(sigaction(SIGUSR1, &old, nullptr), 0);
}

TEST_F(VcpuTest, Bases) {
  // wrfsbase %rax; mov %fs:0, %rbx; syscall
  Registers registers =
      Program({0xf3, 0x48, 0x0f, 0xae, 0xd0, 0x64, 0x48, 0x8b, 0x1c, 0x25, 0, 0, 0, 0, 0x0f, 0x05});
  uint64_t value = 0x1234567890;
  memcpy(MapGuest(kData, kPageSize, PROT_READ), &value, sizeof(value));
  registers.fs_base = 0x111000;
  registers.gs_base = 0x222000;
  ASSERT_TRUE(vcpu_->WriteBases(registers).ok());
  Registers read;
  ASSERT_TRUE(vcpu_->ReadBases(read).ok());
  EXPECT_EQ(read.fs_base, 0x111000u);
  EXPECT_EQ(read.gs_base, 0x222000u);
  registers.rax = kData;
  ASSERT_EQ(vcpu_->Run(registers).kind, Kind::kSystemCall);
  EXPECT_EQ(registers.rbx, value);
  ASSERT_TRUE(vcpu_->ReadBases(read).ok());
  EXPECT_EQ(read.fs_base, kData);
  EXPECT_EQ(read.gs_base, 0x222000u);
}

TEST_F(VcpuTest, VectorStateGoesInAndOut) {
  Registers registers = Program({0x66, 0x0f, 0xef, 0xc0, 0x0f, 0x05});  // pxor %xmm0, %xmm0
  auto area = vcpu_->ReadXsave();
  ASSERT_TRUE(area.ok()) << area.status();
  ASSERT_EQ(area->size(), vm_->xsave_size());
  for (size_t i = 160; i < 416; ++i) (*area)[i] = static_cast<uint8_t>(i);
  (*area)[512] |= 3;
  ASSERT_TRUE(vcpu_->WriteXsave(*area).ok());
  ASSERT_EQ(vcpu_->Run(registers).kind, Kind::kSystemCall);
  auto after = vcpu_->ReadXsave();
  ASSERT_TRUE(after.ok()) << after.status();
  for (size_t i = 160; i < 176; ++i) EXPECT_EQ((*after)[i], 0) << i;
  for (size_t i = 176; i < 416; ++i) EXPECT_EQ((*after)[i], static_cast<uint8_t>(i)) << i;
}

TEST_F(VcpuTest, ShorterVectorStateIsEnough) {
  auto area = vcpu_->ReadXsave();
  ASSERT_TRUE(area.ok()) << area.status();
  area->resize(576);
  (*area)[512] |= 3;
  (*area)[160] = 0x5a;
  ASSERT_TRUE(vcpu_->WriteXsave(*area).ok());
  EXPECT_EQ((*vcpu_->ReadXsave())[160], 0x5a);
  (*area)[519] = 0x80;  // a component that no processor has
  EXPECT_FALSE(vcpu_->WriteXsave(*area).ok());
}

}  // namespace
}  // namespace km
