#include "tools/kmctl/symbols.h"

#include <cxxabi.h>
#include <gelf.h>
#include <libelf.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>

#include "absl/status/statusor.h"
#include "absl/strings/str_format.h"
#include "km/base/host_files.h"
#include "km/base/owned.h"

namespace km {
namespace {

// Of all of them together: a snapshot may name any files.
constexpr uint64_t kMostBytes = uint64_t{1} << 30;

// `size` bytes of the file; nothing if it has fewer.
std::vector<uint8_t> ReadObject(int fd, uint64_t size) {
  std::vector<uint8_t> bytes(size);
  size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t count =
        pread(fd, bytes.data() + done, bytes.size() - done, static_cast<off_t>(done));
    if (count <= 0) return {};
    done += static_cast<size_t>(count);
  }
  return bytes;
}

std::string Demangled(const char* name) {
  if (std::strncmp(name, "_Z", 2) != 0) return name;  // "h" would be a type
  int status = 0;
  const std::unique_ptr<char, decltype(&free)> text(
      abi::__cxa_demangle(name, nullptr, nullptr, &status), &free);
  return status == 0 ? text.get() : name;
}

// The symbol table of that type, or nullptr.
Elf_Scn* FindTable(Elf* elf, uint32_t type, GElf_Shdr* header) {
  for (Elf_Scn* section = nullptr; (section = elf_nextscn(elf, section)) != nullptr;) {
    if (gelf_getshdr(section, header) != nullptr && header->sh_type == type) return section;
  }
  return nullptr;
}

// Where in the file the byte at that unbiased address is.
bool FileOffset(const std::vector<GElf_Phdr>& loads, uint64_t address, uint64_t* offset) {
  for (const GElf_Phdr& load : loads) {
    if (address < load.p_vaddr || address - load.p_vaddr >= load.p_filesz) continue;
    *offset = address - load.p_vaddr + load.p_offset;
    return true;
  }
  return false;
}

std::vector<GElf_Phdr> Loads(Elf* elf) {
  std::vector<GElf_Phdr> loads;
  size_t count = 0;
  elf_getphdrnum(elf, &count);
  for (size_t i = 0; i < count; ++i) {
    GElf_Phdr header;
    if (gelf_getphdr(elf, static_cast<int>(i), &header) != nullptr && header.p_type == PT_LOAD) {
      loads.push_back(header);
    }
  }
  return loads;
}

}  // namespace

const Symbolizer::Object& Symbolizer::Load(const std::string& path) {
  static const Object kNone;
  const absl::StatusOr<OwnedFd> fd = OpenRegular(path);
  struct stat file = {};
  if (!fd.ok() || fstat(fd->get(), &file) != 0) return kNone;
  const auto [entry, is_new] = objects_.try_emplace({file.st_dev, file.st_ino});
  Object& object = entry->second;
  const auto size = static_cast<uint64_t>(file.st_size);
  if (!is_new || size > kMostBytes - bytes_) return object;
  bytes_ += size;
  object.bytes = ReadObject(fd->get(), size);
  if (object.bytes.empty()) return object;
  elf_version(EV_CURRENT);
  Elf* elf = elf_memory(reinterpret_cast<char*>(object.bytes.data()), object.bytes.size());
  if (elf == nullptr) return object;
  GElf_Shdr header;
  Elf_Scn* section = FindTable(elf, SHT_SYMTAB, &header);
  if (section == nullptr) section = FindTable(elf, SHT_DYNSYM, &header);
  Elf_Data* data = section == nullptr ? nullptr : elf_getdata(section, nullptr);
  const std::vector<GElf_Phdr> loads = Loads(elf);
  GElf_Sym symbol;
  for (int i = 0; data != nullptr && gelf_getsym(data, i, &symbol) != nullptr; ++i) {
    const auto type = GELF_ST_TYPE(symbol.st_info);
    uint64_t offset = 0;
    const char* name = elf_strptr(elf, header.sh_link, symbol.st_name);
    if ((type == STT_FUNC || type == STT_GNU_IFUNC) && symbol.st_shndx != SHN_UNDEF &&
        name != nullptr && FileOffset(loads, symbol.st_value, &offset)) {
      object.functions.push_back({offset, symbol.st_size, name});
    }
  }
  elf_end(elf);
  std::stable_sort(object.functions.begin(), object.functions.end(),
                   [](const Function& a, const Function& b) { return a.offset < b.offset; });
  return object;
}

bool Symbolizer::SameBytes(const Object& object, uint64_t address, uint64_t offset) const {
  constexpr uint64_t kCompared = 16;
  const auto piece = std::partition_point(image_.memory.begin(), image_.memory.end(),
                                          [address](const ImageMemory& candidate) {
                                            return candidate.address + candidate.size <= address;
                                          });
  if (piece == image_.memory.end() || address < piece->address) return false;
  const uint64_t size = std::min(kCompared, piece->address + piece->size - address);
  std::array<uint8_t, kCompared> bytes = {};
  return offset <= object.bytes.size() && size <= object.bytes.size() - offset &&
         pread(fd_, bytes.data(), size,
               static_cast<off_t>(piece->file_offset + (address - piece->address))) ==
             static_cast<ssize_t>(size) &&
         std::memcmp(bytes.data(), object.bytes.data() + offset, size) == 0;
}

Location Symbolizer::Find(uint64_t address) {
  const auto mapping = std::partition_point(
      image_.mappings.begin(), image_.mappings.end(),
      [address](const ImageMapping& candidate) { return candidate.end <= address; });
  if (mapping == image_.mappings.end() || address < mapping->start) return {};
  Location location;
  location.object = mapping->name;
  if ((mapping->flags & MAP_ANONYMOUS) != 0 || !mapping->name.starts_with('/')) return location;
  location.offset = address - mapping->start + mapping->file_offset;
  const Object& object = Load(mapping->name);
  if (!SameBytes(object, address, location.offset)) return location;
  const auto after = std::upper_bound(
      object.functions.begin(), object.functions.end(), location.offset,
      [](uint64_t offset, const Function& function) { return offset < function.offset; });
  if (after == object.functions.begin()) return location;
  const Function& function = *(after - 1);
  const uint64_t distance = location.offset - function.offset;
  // Functions written in assembly may have no size.
  if (function.size != 0 && distance >= function.size) return location;
  location.symbol = Demangled(function.name.c_str());
  if (distance != 0) location.symbol += absl::StrFormat("+%#x", distance);
  return location;
}

}  // namespace km
