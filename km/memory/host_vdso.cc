#include "km/memory/host_vdso.h"

#include <elf.h>
#include <fcntl.h>
#include <sys/auxv.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "km/base/owned.h"

namespace km {
namespace {

// The kernel's own image in our memory: trusted.
template <typename T>
const T* At(uint64_t address) {
  return reinterpret_cast<const T*>(address);
}

std::string ReadMaps() {
  OwnedFd fd(open("/proc/self/maps", O_RDONLY | O_CLOEXEC));
  std::string text;
  char buffer[4096];
  for (ssize_t n; (n = read(fd.get(), buffer, sizeof(buffer))) > 0;) {
    text.append(buffer, static_cast<size_t>(n));
  }
  return text;
}

void FindFunctions(HostVdso* vdso) {
  const auto* header = At<Elf64_Ehdr>(vdso->code);
  const auto* segments = At<Elf64_Phdr>(vdso->code + header->e_phoff);
  const Elf64_Dyn* dynamic = nullptr;
  uint64_t bias = vdso->code;
  for (int i = 0; i < header->e_phnum; ++i) {
    if (segments[i].p_type == PT_LOAD)
      bias = vdso->code + segments[i].p_offset - segments[i].p_vaddr;
    if (segments[i].p_type == PT_DYNAMIC)
      dynamic = At<Elf64_Dyn>(vdso->code + segments[i].p_offset);
  }
  const Elf64_Sym* symbols = nullptr;
  const char* names = nullptr;
  for (; dynamic != nullptr && dynamic->d_tag != DT_NULL; ++dynamic) {
    if (dynamic->d_tag == DT_SYMTAB) symbols = At<Elf64_Sym>(bias + dynamic->d_un.d_ptr);
    if (dynamic->d_tag == DT_STRTAB) names = At<char>(bias + dynamic->d_un.d_ptr);
  }
  if (symbols == nullptr || names == nullptr) return;
  // The string table follows the symbol table in every vDSO that the kernel links.
  const auto* end = reinterpret_cast<const Elf64_Sym*>(names);
  for (const Elf64_Sym* symbol = symbols; symbol < end; ++symbol) {
    absl::string_view name = names + symbol->st_name;
    uint64_t address = bias + symbol->st_value;
    if (name == "__vdso_clock_gettime") vdso->clock_gettime = address;
    if (name == "__vdso_gettimeofday") vdso->gettimeofday = address;
    if (name == "__vdso_time") vdso->time = address;
    if (name == "__vdso_getcpu") vdso->getcpu = address;
    if (name == "__vdso_clock_getres") vdso->clock_getres = address;
  }
}

}  // namespace

std::optional<HostVdso> FindHostVdso() {
  HostVdso vdso;
  vdso.code = getauxval(AT_SYSINFO_EHDR);
  if (vdso.code == 0) return std::nullopt;
  uint64_t data_end = 0;
  for (absl::string_view line : absl::StrSplit(ReadMaps(), '\n', absl::SkipEmpty())) {
    uint64_t start = 0, end = 0;
    size_t dash = line.find('-'), space = line.find(' ');
    if (dash == line.npos || space == line.npos || space < dash) continue;
    if (!absl::SimpleHexAtoi(line.substr(0, dash), &start) ||
        !absl::SimpleHexAtoi(line.substr(dash + 1, space - dash - 1), &end)) {
      continue;
    }
    if (absl::EndsWith(line, "[vvar]")) vdso.start = start;
    if (absl::StrContains(line, "[vvar")) data_end = end;
    if (absl::EndsWith(line, "[vdso]")) vdso.end = end;
  }
  if (vdso.start == 0 || vdso.end == 0 || data_end != vdso.code) return std::nullopt;
  FindFunctions(&vdso);
  return vdso;
}

}  // namespace km
