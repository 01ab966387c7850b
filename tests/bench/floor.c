// The floor that km is measured against: the least that a program pays for a virtual machine whose
// ring 3 leaves it with `out`. Static, plain C, nothing but ioctls.
//
//   floor EXITS [CPUIDS FAULTS]
//                        makes a machine, lets it exit EXITS times, ends: time it from outside.
//                        Before, the guest executes CPUID so many times and touches so many pages
//                        (at most 63), each of which faults: what a libc does at its start
//   floor --loop EXITS   prints nanoseconds of one exit and re-entry: the median of 21 rounds
//   floor --calls EXITS  the same where each exit begins with the `syscall` instruction: a stub of
//                        `out` and `iretq`, nothing done outside
//   floor --touch MIB    prints nanoseconds of the first write to a page: anonymous memory of so
//   many
//                        MiB (at most 64) that the host gives page by page; median of 21 rounds
//   floor --steps        prints microseconds of each step of making the machine
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

// Guest-physical layout, one page each; the program sees its code at kCode and the TSS at kTss.
enum {
  kTop = 0x0000,
  kPointers = 0x1000,
  kDirectory = 0x2000,
  kTable = 0x3000,
  kTss = 0x4000,
  kCode = 0x5000,
  kStub = 0x6000,   // where `syscall` leads
  kGdt = 0x7000,    // as Linux has it, for `iretq`
  kFrame = 0x7800,  // what `iretq` takes: back to kCode
  kMemory = 0x10000,
  kTouched = 0x8000,  // a page in eight, from here on: KVM maps the neighbours of a page with it
  kTouchedMemory = 0x200000,
  kTables = 0x80000,  // of the memory that --touch writes to
  kFresh = 0x200000,
  kPort = 0x7e,
  kRounds = 21
};

struct Machine {
  int vcpu;
  struct kvm_run* run;
};

static void Need(long result, const char* what) {
  if (result >= 0) return;
  perror(what);
  exit(1);
}

static double Now(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

static int show_steps;
static double step_begin;

static void Step(const char* name) {
  if (!show_steps) return;
  double now = Now();
  printf("%-22s %8.1f us\n", name, now - step_begin);
  step_begin = Now();
}

static uint32_t cpuids, faults, fresh_pages;
static uint8_t* guest_memory;
static int by_syscall;

static void WriteCallStub(uint8_t* memory) {
  const uint8_t program[] = {0x48, 0xc7, 0xc4, 0, 0x78, 0, 0,  // mov $kFrame, %rsp
                             0x0f, 0x05};                      // syscall
  const uint8_t stub[] = {0xe6, kPort, 0x48, 0xcf};            // out %al, $port ; iretq
  const uint64_t gdt[] = {0,
                          0,
                          0x00af9b000000ffff,
                          0x00cf93000000ffff,
                          0x00cffb000000ffff,
                          0x00cff3000000ffff,
                          0x00affb000000ffff};
  const uint64_t frame[] = {kCode, 0x33, 0x202, kFrame, 0x2b};
  memcpy(memory + kCode, program, sizeof(program));
  memcpy(memory + kStub, stub, sizeof(stub));
  memcpy(memory + kGdt, gdt, sizeof(gdt));
  memcpy(memory + kFrame, frame, sizeof(frame));
}

static void WriteMemory(uint8_t* memory, size_t size) {
  uint64_t* words = (uint64_t*)memory;
  words[kTop / 8] = kPointers | 7;
  words[kPointers / 8] = kDirectory | 7;
  words[kDirectory / 8] = kTable | 7;
  for (uint64_t page = 0; page < size; page += 4096) words[(kTable + page / 512) / 8] = page | 0x67;
  // A TSS whose I/O map allows the port to ring 3: 104 bytes, then the map.
  memory[kTss + 102] = 104;
  memset(memory + kTss + 104, 0xff, kPort / 8 + 2);
  memory[kTss + 104 + kPort / 8] &= (uint8_t) ~(1 << kPort % 8);
  uint8_t code[] = {0xbe, 0,     0,    0,    0,           // mov $cpuids, %esi
                    0x85, 0xf6,  0x74, 0x0a,              // test %esi, %esi ; jz over the loop
                    0x31, 0xc0,  0x31, 0xc9, 0x0f, 0xa2,  // xor %eax, %eax ; xor %ecx, %ecx ; cpuid
                    0xff, 0xce,  0x75, 0xf6,              // dec %esi ; jnz loop
                    0xbe, 0,     0,    0,    0,           // mov $faults, %esi
                    0xbf, 0,     0x80, 0,    0,           // mov $kTouched, %edi
                    0x85, 0xf6,  0x74, 0x0c,              // test %esi, %esi ; jz over the loop
                    0x8a, 0x07,  0x81, 0xc7, 0,    0x80,
                    0,    0,                   // mov (%rdi), %al ; add $kTouched, %edi
                    0xff, 0xce,  0x75, 0xf4,   // dec %esi ; jnz loop
                    0xe6, kPort, 0xeb, 0xfc};  // out %al, $port ; jmp back
  memcpy(code + 1, &cpuids, sizeof(cpuids));
  memcpy(code + 20, &faults, sizeof(faults));
  memcpy(memory + kCode, code, sizeof(code));
  if (by_syscall) WriteCallStub(memory);
}

// A loop that writes to `pages` pages from kFresh on, and their tables.
static void WriteTouchLoop(uint8_t* memory, uint32_t pages) {
  uint64_t* words = (uint64_t*)memory;
  for (uint32_t i = 0; i < pages; ++i) {
    uint64_t table = kTables + i / 512 * 4096;
    words[(kDirectory + (kFresh >> 21) * 8 + i / 512 * 8) / 8] = table | 7;
    words[(table + i % 512 * 8) / 8] = (kFresh + i * 4096ul) | 0x67;
  }
  uint8_t code[] = {0xbe, 0,     0,    0,    0,     // mov $pages, %esi
                    0xbf, 0,     0,    0x20, 0,     // mov $kFresh, %edi
                    0xc6, 0x07,  0x01,              // movb $1, (%rdi)
                    0x81, 0xc7,  0,    0x10, 0, 0,  // add $4096, %edi
                    0xff, 0xce,  0x75, 0xf3,        // dec %esi ; jnz movb
                    0xe6, kPort, 0xeb, 0xfc};       // out %al, $port ; jmp back
  memcpy(code + 1, &pages, sizeof(pages));
  memcpy(memory + kCode, code, sizeof(code));
}

static struct kvm_segment Segment(uint16_t selector, uint8_t type, int code) {
  struct kvm_segment segment = {.limit = 0xffffffff,
                                .selector = selector,
                                .type = type,
                                .present = 1,
                                .dpl = 3,
                                .db = !code,
                                .s = 1,
                                .l = code,
                                .g = 1};
  return segment;
}

static void SetRegisters(int vcpu) {
  struct kvm_sregs sregs;
  Need(ioctl(vcpu, KVM_GET_SREGS, &sregs), "KVM_GET_SREGS");
  sregs.cs = Segment(0x33, 0xb, 1);
  sregs.ss = sregs.ds = sregs.es = sregs.fs = sregs.gs = Segment(0x2b, 0x3, 0);
  struct kvm_segment task = {
      .base = kTss, .limit = 104 + kPort / 8 + 1, .selector = 0x40, .type = 0xb, .present = 1};
  sregs.tr = task;
  sregs.gdt.base = kGdt;
  sregs.gdt.limit = 0x37;
  sregs.cr0 = 0x80050033;
  sregs.cr3 = kTop;
  sregs.cr4 = 0x506a0;
  sregs.efer = 0xd01;
  Need(ioctl(vcpu, KVM_SET_SREGS, &sregs), "KVM_SET_SREGS");
  if (by_syscall) {
    struct {
      struct kvm_msrs header;
      struct kvm_msr_entry entries[3];
    } msrs = {.header.nmsrs = 3,
              .entries = {{.index = 0xc0000081, .data = 0x0023001000000000},  // STAR
                          {.index = 0xc0000082, .data = kStub},               // LSTAR
                          {.index = 0xc0000084, .data = 0x54700}}};           // SFMASK
    Need(ioctl(vcpu, KVM_SET_MSRS, &msrs) == 3 ? 0 : -1, "KVM_SET_MSRS");
  }
  struct kvm_regs regs = {.rip = kCode, .rflags = 0x202};
  Need(ioctl(vcpu, KVM_SET_REGS, &regs), "KVM_SET_REGS");
}

static struct Machine MakeMachine(void) {
  struct Machine machine;
  step_begin = Now();
  int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
  Need(kvm, "/dev/kvm");
  Step("open /dev/kvm");
  int vm = ioctl(kvm, KVM_CREATE_VM, 0);
  Need(vm, "KVM_CREATE_VM");
  Step("KVM_CREATE_VM");
  static struct {
    struct kvm_cpuid2 header;
    struct kvm_cpuid_entry2 entries[256];
  } cpuid = {.header.nent = 256};
  Need(ioctl(kvm, KVM_GET_SUPPORTED_CPUID, &cpuid), "KVM_GET_SUPPORTED_CPUID");
  Step("KVM_GET_SUPPORTED_CPUID");
  size_t size = faults > 0 ? kTouchedMemory : kMemory;
  if (fresh_pages > 0) size = kFresh + fresh_pages * 4096ul;
  uint8_t* memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  guest_memory = memory;
  WriteMemory(memory, fresh_pages > 0 ? kFresh : size);
  if (fresh_pages > 0) WriteTouchLoop(memory, fresh_pages);
  Step("memory");
  struct kvm_userspace_memory_region region = {.memory_size = size,
                                               .userspace_addr = (uint64_t)memory};
  Need(ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region), "KVM_SET_USER_MEMORY_REGION");
  Step("memory slot");
  machine.vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
  Need(machine.vcpu, "KVM_CREATE_VCPU");
  Step("KVM_CREATE_VCPU");
  Need(ioctl(machine.vcpu, KVM_SET_CPUID2, &cpuid), "KVM_SET_CPUID2");
  Step("KVM_SET_CPUID2");
  SetRegisters(machine.vcpu);
  Step("registers");
  long run_size = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
  Need(run_size, "KVM_GET_VCPU_MMAP_SIZE");
  machine.run = mmap(NULL, (size_t)run_size, PROT_READ | PROT_WRITE, MAP_SHARED, machine.vcpu, 0);
  Need(machine.run == MAP_FAILED ? -1 : 0, "mmap");
  Step("kvm_run");
  return machine;
}

static void Enter(struct Machine machine, long times) {
  for (long i = 0; i < times; ++i) {
    Need(ioctl(machine.vcpu, KVM_RUN, 0), "KVM_RUN");
    if (machine.run->exit_reason != KVM_EXIT_IO || machine.run->io.port != kPort) {
      fprintf(stderr, "unexpected exit, reason %u\n", machine.run->exit_reason);
      exit(1);
    }
  }
}

static int Ascending(const void* a, const void* b) {
  double x = *(const double*)a, y = *(const double*)b;
  return (x > y) - (x < y);
}

static int Touch(struct Machine machine) {
  double rounds[kRounds];
  for (int i = 0; i < kRounds; ++i) {
    Need(madvise(guest_memory + kFresh, fresh_pages * 4096ul, MADV_DONTNEED), "madvise");
    struct kvm_regs regs = {.rip = kCode, .rflags = 0x202};
    Need(ioctl(machine.vcpu, KVM_SET_REGS, &regs), "KVM_SET_REGS");
    double begin = Now();
    Enter(machine, 1);
    rounds[i] = (Now() - begin) * 1e3 / fresh_pages;
  }
  qsort(rounds, kRounds, sizeof(rounds[0]), Ascending);
  printf("%.1f\n", rounds[kRounds / 2]);
  return 0;
}

int main(int argc, char** argv) {
  if (argc < 2) return 2;
  if (argc == 3 && strcmp(argv[1], "--touch") == 0) {
    fresh_pages = (uint32_t)atoi(argv[2]) * 256;
    if (fresh_pages == 0 || fresh_pages > 64 * 256) return 2;
    return Touch(MakeMachine());
  }
  show_steps = strcmp(argv[1], "--steps") == 0;
  by_syscall = strcmp(argv[1], "--calls") == 0;
  if (argc == 4) {
    cpuids = (uint32_t)atoi(argv[2]);
    faults = (uint32_t)atoi(argv[3]);
  }
  struct Machine machine = MakeMachine();
  if (by_syscall || strcmp(argv[1], "--loop") == 0) {
    long exits = argc > 2 ? atol(argv[2]) : 2000;
    double rounds[kRounds];
    Enter(machine, exits);
    for (int i = 0; i < kRounds; ++i) {
      double begin = Now();
      Enter(machine, exits);
      rounds[i] = (Now() - begin) * 1e3 / (double)exits;
    }
    qsort(rounds, kRounds, sizeof(rounds[0]), Ascending);
    printf("%.1f\n", rounds[kRounds / 2]);
    return 0;
  }
  Enter(machine, show_steps ? 1 : atol(argv[1]));
  Step("first exit");
  return 0;
}
