#include "km/syscalls/proc_memory.h"

#include <fcntl.h>
#include <km/layout.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <iterator>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "km/base/host_files.h"
#include "km/base/owned.h"
#include "km/base/pagemap_scan.h"
#include "km/syscalls/proc_texts.h"

namespace km {
namespace {

constexpr uint64_t kHostEnd = (uint64_t{1} << 47) - kPageSize;

// Adds what is present in [start, end) of the host's addresses, the kernel's page of zeros apart,
// which it counts for nobody. False where the kernel has no scan.
bool AddPresent(int pagemap, uint64_t start, uint64_t end, MemoryUse* use) {
  PmScanArg scan = {};
  scan.start = start;
  scan.end = end;
  scan.category_mask = kPageIsPresent | kPageIsZero;
  scan.category_inverted = kPageIsZero;
  scan.return_mask = kPageIsPresent | kPageIsFile;
  return ScanPagemap(pagemap, scan, [use](const PageRegion& region) {
           (region.categories & kPageIsFile ? use->own_file : use->own_anonymous) +=
               region.end - region.start;
         }) == 0;
}

uint64_t PageUp(uint64_t value) { return (value + kPageSize - 1) & ~(kPageSize - 1); }

// mm_struct's sum of `text`, which the kernel takes from the program's headers.
uint64_t CodeSize(const LoadedElf& program) {
  ProgramAddresses at = AddressesOf(program);
  return PageUp(at.end_code) - (at.start_code & ~(kPageSize - 1));
}

uint64_t Scaled(uint64_t kilobytes, uint64_t part, uint64_t whole) {
  if (part == whole) return kilobytes;
  return static_cast<uint64_t>(static_cast<double>(kilobytes) * static_cast<double>(part) /
                               static_cast<double>(whole)) &
         ~uint64_t{3};
}

// Figures that are no sums.
bool IsProperty(const std::string& name) {
  return name == "KernelPageSize" || name == "MMUPageSize" || name == "THPeligible" ||
         name == "ProtectionKey";
}

// The host's entries in the window, at the program's addresses.
std::vector<SmapsEntry> WindowSmaps(Process& process) {
  auto window = reinterpret_cast<uint64_t>(process.memory().window());
  std::vector<SmapsEntry> entries;
  for (SmapsEntry& entry : ParseSmaps(HostText("/proc/self/smaps"))) {
    if (entry.start < window || entry.end > window + KM_GUEST_END) continue;
    entry.start -= window;
    entry.end -= window;
    entries.push_back(std::move(entry));
  }
  return entries;
}

// The rights and how memory is accounted for are the program's, the rest what the host says.
std::string FlagsText(const Mapping* mapping, const std::string& host) {
  if (mapping == nullptr) return "rd ex mr mw me de ";
  std::string text;
  if (mapping->protection & PROT_READ) text += "rd ";
  if (mapping->protection & PROT_WRITE) text += "wr ";
  if (mapping->protection & PROT_EXEC) text += "ex ";
  static constexpr absl::string_view kOurs[] = {"rd", "wr", "ex", "dc", "dd", "ac", "nr", "nh"};
  bool reserved = (mapping->flags & MAP_NORESERVE) == 0;
  bool accounted = (mapping->protection & PROT_WRITE) && !(mapping->flags & MAP_SHARED);
  for (absl::string_view flag : absl::StrSplit(host, ' ', absl::SkipEmpty())) {
    if (std::find(std::begin(kOurs), std::end(kOurs), flag) != std::end(kOurs)) continue;
    absl::StrAppend(&text, flag, " ");
    if (flag != "me") continue;
    if ((mapping->flags & MAP_GROWSDOWN) || mapping->name == "[stack]") text += "gd ";
    if (!reserved || accounted) text += reserved ? "ac " : "nr ";
  }
  return text;
}

std::string FieldsText(const SmapsEntry& entry) {
  std::string text;
  for (const auto& [name, value] : entry.fields) {
    absl::StrAppendFormat(&text, "%-16s%8d", name + ":", value);
    text += name == "THPeligible" || name == "ProtectionKey" ? "\n" : " kB\n";
  }
  return text;
}

// "start-end" of a line of /proc/self/maps.
bool ParseRange(absl::string_view line, uint64_t* start, uint64_t* end) {
  return sscanf(std::string(line).c_str(), "%" SCNx64 "-%" SCNx64 " ", start, end) == 2;
}

uint64_t Field(const SmapsEntry& entry, absl::string_view name) {
  for (const auto& [field, value] : entry.fields) {
    if (field == name) return value;
  }
  return 0;
}

// The same, page by page. Zeros are known by nobody having them alone; so is what a copy of this
// process shares with it, as long as there is one.
void AddPresentEntries(int pagemap, uint64_t start, uint64_t end, MemoryUse* use) {
  uint64_t entries[512];
  while (start < end) {
    const uint64_t count = std::min<uint64_t>(std::size(entries), (end - start) / kPageSize);
    const ssize_t got = pread(pagemap, entries, count * sizeof(uint64_t),
                              static_cast<off_t>(start / kPageSize * sizeof(uint64_t)));
    if (got <= 0) return;
    for (size_t i = 0; i < static_cast<size_t>(got) / sizeof(uint64_t); ++i) {
      start += kPageSize;
      if (!(entries[i] & kEntryPresent)) continue;
      if (entries[i] & kEntryFile) {
        use->own_file += kPageSize;
      } else if (entries[i] & kEntryExclusive) {
        use->own_anonymous += kPageSize;
      }
    }
  }
}

}  // namespace

void AddOwnPresent(int pagemap, const std::string& maps, uint64_t window, uint64_t window_end,
                   MemoryUse* use) {
  for (absl::string_view line : absl::StrSplit(maps, '\n', absl::SkipEmpty())) {
    uint64_t start = 0, end = 0;
    if (!ParseRange(line, &start, &end) || absl::StrContains(line, " ---p ")) continue;
    if (end <= window || start >= window_end) AddPresentEntries(pagemap, start, end, use);
  }
}

std::vector<SmapsEntry> ParseSmaps(const std::string& text) {
  std::vector<SmapsEntry> entries;
  for (absl::string_view line : absl::StrSplit(text, '\n', absl::SkipEmpty())) {
    std::pair<absl::string_view, absl::string_view> parts =
        absl::StrSplit(line, absl::MaxSplits(':', 1));
    uint64_t start = 0, end = 0, value = 0;
    if (absl::ConsumePrefix(&line, "VmFlags: ")) {
      if (!entries.empty()) entries.back().flags = std::string(line);
    } else if (ParseRange(line, &start, &end)) {
      entries.push_back({start, end, {}, ""});
    } else if (!entries.empty() &&
               absl::SimpleAtoi(absl::StripSuffix(parts.second, " kB"), &value)) {
      entries.back().fields.emplace_back(std::string(parts.first), value);
    }
  }
  return entries;
}

SmapsEntry SumSmaps(const std::vector<SmapsEntry>& entries, uint64_t start, uint64_t end) {
  SmapsEntry sum;
  if (!entries.empty()) sum.fields = entries.front().fields;
  for (auto& [name, value] : sum.fields) {
    if (!IsProperty(name)) value = name == "Size" ? (end - start) >> 10 : 0;
  }
  auto at =
      std::lower_bound(entries.begin(), entries.end(), start,
                       [](const SmapsEntry& e, uint64_t address) { return e.end <= address; });
  for (; at != entries.end() && at->start < end; ++at) {
    uint64_t part = std::min(end, at->end) - std::max(start, at->start);
    if (sum.flags.empty()) sum.flags = at->flags;
    for (size_t i = 0; i < std::min(sum.fields.size(), at->fields.size()); ++i) {
      const auto& [name, value] = at->fields[i];
      if (name == "Size") continue;
      if (IsProperty(name)) {
        sum.fields[i].second = value;
      } else {
        sum.fields[i].second += Scaled(value, part, at->end - at->start);
      }
    }
  }
  return sum;
}

std::string SmapsText(Process& process) {
  std::vector<SmapsEntry> entries = WindowSmaps(process);
  absl::flat_hash_map<uint64_t, Mapping> mappings;
  for (Mapping& mapping : process.space().Mappings()) {
    mappings[mapping.start] = std::move(mapping);
  }
  std::string text;
  std::string maps = process.space().MapsText();
  for (absl::string_view line : absl::StrSplit(maps, '\n', absl::SkipEmpty())) {
    uint64_t start = 0, end = 0;
    if (!ParseRange(line, &start, &end)) continue;
    auto mapping = mappings.find(start);
    SmapsEntry sum = SumSmaps(entries, start, end);
    absl::StrAppend(&text, line, "\n", FieldsText(sum), "VmFlags: ",
                    FlagsText(mapping != mappings.end() ? &mapping->second : nullptr, sum.flags),
                    "\n");
  }
  return text;
}

std::string SmapsRollupText(Process& process) {
  std::vector<SmapsEntry> entries = WindowSmaps(process);
  std::vector<Mapping> mappings = process.space().Mappings();
  if (mappings.empty() || entries.empty()) return "";
  SmapsEntry all = entries.front();
  for (auto& field : all.fields) field.second = 0;
  uint64_t pss[3] = {};  // of anonymous memory, files, shared memory
  for (const Mapping& mapping : mappings) {
    SmapsEntry sum = SumSmaps(entries, mapping.start, mapping.end);
    for (size_t i = 0; i < all.fields.size(); ++i) all.fields[i].second += sum.fields[i].second;
    uint64_t share = Field(sum, "Pss"), anonymous = std::min(share, Field(sum, "Anonymous"));
    pss[0] += anonymous;
    pss[mapping.file != nullptr ? 1 : 2] += share - anonymous;
  }
  std::string text = absl::StrFormat("%08x-%08x ---p 00000000 00:00 0 ", mappings.front().start,
                                     uint64_t{KM_VDSO_ADDRESS + KM_VDSO_MAX_SIZE});
  text.resize(std::max<size_t>(text.size(), 73), ' ');
  text += "[rollup]\n";
  SmapsEntry shown;
  for (auto& field : all.fields) {
    if (IsProperty(field.first) || field.first == "Size") continue;
    bool dirty = field.first == "Pss_Dirty";
    shown.fields.push_back(std::move(field));
    if (!dirty) continue;
    constexpr const char* kNames[] = {"Pss_Anon", "Pss_File", "Pss_Shmem"};
    for (size_t i = 0; i < 3; ++i) shown.fields.emplace_back(kNames[i], pss[i]);
  }
  return text + FieldsText(shown);
}

MemoryUse MemoryUseOf(Process& process) {
  MemoryUse use;
  use.size = KM_VDSO_MAX_SIZE;
  for (const Mapping& mapping : process.space().Mappings()) {
    uint64_t bytes = mapping.end - mapping.start;
    bool writable = mapping.protection & PROT_WRITE;
    bool stack = (mapping.flags & MAP_GROWSDOWN) || mapping.name == "[stack]";
    use.size += bytes;
    if (stack) use.stack += bytes;
    if (!stack && writable && !(mapping.flags & MAP_SHARED)) use.data += bytes;
    if (!stack && !writable && (mapping.protection & PROT_EXEC)) use.libraries += bytes;
  }
  use.code = std::min(CodeSize(process.identity().program), use.libraries);
  use.libraries -= use.code;
  use.peak = use.size;
  OwnedFd pagemap = process.OpenPagemap();
  auto window = reinterpret_cast<uint64_t>(process.memory().window());
  const uint64_t window_end = window + KM_GUEST_END;
  if (!AddPresent(pagemap.get(), 0, window, &use)) {
    AddOwnPresent(pagemap.get(), HostText("/proc/self/maps"), window, window_end, &use);
  } else {
    AddPresent(pagemap.get(), window_end, kHostEnd, &use);
  }
  return use;
}

}  // namespace km
