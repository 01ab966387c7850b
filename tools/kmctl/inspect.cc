#include "tools/kmctl/inspect.h"

#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "absl/container/flat_hash_map.h"
#include "km/files/kind.h"
#include "km/kvm/cpu_features.h"
#include "km/memory/guest_addr.h"
#include "km/snapshot/working_set.h"
#include "tools/kmctl/names.h"
#include "tools/kmctl/symbols.h"

namespace km {
namespace {

using Json = nlohmann::ordered_json;

// How many of the piece's bytes are data on disk; the rest are holes, which read as zeros.
uint64_t StoredBytes(int fd, const ImageMemory& piece) {
  const auto end = static_cast<off_t>(piece.file_offset + piece.size);
  uint64_t stored = 0;
  for (auto at = static_cast<off_t>(piece.file_offset); at < end;) {
    const off_t data = lseek(fd, at, SEEK_DATA);
    if (data < 0 || data >= end) break;
    const off_t hole = std::min(end, lseek(fd, data, SEEK_HOLE));
    if (hole <= data) break;
    stored += static_cast<uint64_t>(hole - data);
    at = hole;
  }
  return stored;
}

Json DescribeSignals(const std::vector<SignalInfoBytes>& signals) {
  Json list = Json::array();
  for (const SignalInfoBytes& info : signals) {
    int32_t fields[3];  // si_signo, si_errno, si_code
    std::memcpy(fields, info.data(), sizeof(fields));
    list.push_back({{"signal", SignalName(fields[0])}, {"code", fields[2]}});
  }
  return list;
}

Json DescribeAddress(uint64_t address, Symbolizer* symbols) {
  const Location location = symbols->Find(address);
  Json result = {{"address", HexText(address)}};
  if (!location.symbol.empty()) result["symbol"] = location.symbol;
  if (!location.object.empty()) {
    result["object"] = location.object;
    result["offset"] = HexText(location.offset);
  }
  return result;
}

Json DescribeThread(const ImageThread& thread, int64_t now, Symbolizer* symbols) {
  Json result = {{"tid", thread.tid},
                 {"name", thread.comm},
                 {"pc", DescribeAddress(thread.registers.rip, symbols)},
                 {"sp", HexText(thread.registers.rsp)}};
  if (thread.registers.orig_rax != ~uint64_t{0}) {
    Json call = {{"name", SyscallName(thread.registers.orig_rax)},
                 {"restarts", thread.blocked_call.has_value()}};
    if (thread.blocked_call.has_value() && thread.blocked_call->done != 0) {
      call["done"] = thread.blocked_call->done;
    }
    if (thread.blocked_call.has_value() && thread.blocked_call->has_deadline) {
      // Hostile readings may be far apart.
      call["remaining_ns"] = static_cast<int64_t>(
          static_cast<uint64_t>(thread.blocked_call->deadline_ns) - static_cast<uint64_t>(now));
    }
    result["system_call"] = call;
  }
  result["blocked_signals"] = SignalNames(thread.signal_mask);
  result["pending_signals"] = DescribeSignals(thread.pending);
  if (thread.altstack_size != 0) {
    result["alternate_stack"] = {{"address", HexText(thread.altstack_address)},
                                 {"size", thread.altstack_size}};
  }
  result["xsave_size"] = thread.xsave.size();
  return result;
}

Json DescribeMappings(const Image& image, int fd) {
  Json list = Json::array();
  auto piece = image.memory.begin();
  auto other = image.base_memory.begin();
  for (const ImageMapping& mapping : image.mappings) {
    const uint64_t size = mapping.end - mapping.start;
    uint64_t in_file = 0, stored = 0, in_bases = 0;
    for (; other != image.base_memory.end() && other->address < mapping.end; ++other) {
      in_bases += other->size;
    }
    for (; piece != image.memory.end() && piece->address < mapping.end; ++piece) {
      in_file += piece->size;
      stored += StoredBytes(fd, *piece);
    }
    const bool is_shared = (mapping.flags & MAP_SHARED) != 0;
    const bool is_file = (mapping.flags & MAP_ANONYMOUS) == 0;
    const uint64_t from_file = is_shared && is_file ? size - in_file : 0;
    list.push_back({{"start", HexText(mapping.start)},
                    {"end", HexText(mapping.end)},
                    {"protection", ProtectionText(mapping.protection)},
                    {"sharing", is_shared ? "shared" : "private"},
                    {"name", mapping.name},
                    {"object", mapping.object != 0 ? HexText(mapping.object) : ""},
                    {"offset", is_file ? mapping.file_offset : 0},
                    {"size", size},
                    {"touched", stored},
                    {"bases", in_bases},
                    {"zero", size - from_file - stored - in_bases},
                    {"file", from_file}});
  }
  return list;
}

Json DescribeBases(const Image& image) {
  Json list = Json::array();
  for (size_t i = 0; i < image.bases.size(); ++i) {
    uint64_t size = 0;
    for (const ImageBaseMemory& piece : image.base_memory) size += piece.base == i ? piece.size : 0;
    list.push_back({{"path", image.bases[i].path},
                    {"id", BytesText(image.bases[i].id)},
                    {"file_length", image.bases[i].length},
                    {"size", size}});
  }
  return list;
}

Json DescribeWorkingSet(const Image& image) {
  Json list = Json::array();
  for (const AddressRange& range : image.working_set) {
    list.push_back({{"start", HexText(range.start)}, {"end", HexText(range.end)}});
  }
  return list;
}

Json DescribeObjects(const Image& image, int fd) {
  Json list = Json::array();
  auto piece = image.memory.begin();
  for (const MemoryObject& object : image.objects) {
    uint64_t stored = 0;
    for (; piece != image.memory.end() && piece->address < object.address + object.size; ++piece) {
      if (piece->address >= object.address) stored += StoredBytes(fd, *piece);
    }
    list.push_back({{"address", HexText(object.address)},
                    {"kind", object.kind == KM_OBJECT_MEMFD          ? "memfd"
                             : object.kind == KM_OBJECT_DELETED_FILE ? "deleted file"
                             : object.kind == KM_OBJECT_SEGMENT      ? "System V segment"
                                                                     : "anonymous"},
                    {"name", object.name},
                    {"size", object.size},
                    {"seals", object.seals},
                    {"touched", stored}});
  }
  return list;
}

// What it set itself: of a thread, or of the process.
Json DescribePrctl(const std::vector<PrctlSetting>& settings) {
  Json result = Json::object();
  for (const PrctlSetting& setting : settings) result[PrctlName(setting.option)] = setting.value;
  return result;
}

Json DescribePolicy(const MemoryPolicy& policy) {
  return {{"mode", policy.mode}, {"nodes", policy.nodes}};
}

Json DescribeSettings(const ThreadSettings& settings) {
  Json result = DescribePrctl(settings.prctl);
  if (const auto& scheduling = settings.scheduling; scheduling.has_value()) {
    result["policy"] = scheduling->policy;
    result["nice"] = scheduling->nice;
    result["priority"] = scheduling->priority;
  }
  if (!settings.processors.empty()) result["processors"] = settings.processors;
  if (settings.io_priority.has_value()) result["io_priority"] = *settings.io_priority;
  if (settings.personality.has_value()) result["personality"] = HexText(*settings.personality);
  if (settings.memory_policy.has_value()) {
    result["memory_policy"] = DescribePolicy(*settings.memory_policy);
  }
  return result;
}

Json DescribePolicies(const Image& image) {
  Json list = Json::array();
  for (const MappingPolicy& piece : image.policies) {
    Json result = DescribePolicy(piece.policy);
    result["start"] = HexText(piece.start);
    result["end"] = HexText(piece.end);
    list.push_back(result);
  }
  return list;
}

Json DescribeAio(const std::vector<AioContextState>& contexts) {
  Json list = Json::array();
  for (const AioContextState& context : contexts) {
    list.push_back({{"name", HexText(context.name)},
                    {"room", context.room},
                    {"events", context.ready.size()}});
  }
  return list;
}

Json DescribeIpc(const ImageIpc& object) {
  return {{"id", object.id},
          {"key", HexText(static_cast<uint32_t>(object.key))},
          {"mode", object.mode},
          {"uid", object.uid},
          {"gid", object.gid}};
}

Json DescribeSysv(const Image& image) {
  Json segments = Json::array(), sets = Json::array(), queues = Json::array();
  for (const ImageSegment& segment : image.segments) {
    segments.push_back(DescribeIpc(segment));
    segments.back()["size"] = segment.size;
    segments.back()["object"] = HexText(segment.object);
    segments.back()["removed"] = (segment.flags & KM_SEGMENT_REMOVED) != 0;
    segments.back()["locked"] = (segment.flags & KM_SEGMENT_LOCKED) != 0;
  }
  for (const ImageSemaphores& set : image.semaphores) {
    sets.push_back(DescribeIpc(set));
    Json& values = sets.back()["values"] = Json::array();
    Json& undo = sets.back()["undo"] = Json::array();
    for (const ImageSemaphore& semaphore : set.values) {
      values.push_back(semaphore.value);
      undo.push_back(semaphore.undo);
    }
  }
  for (const ImageQueue& queue : image.queues) {
    queues.push_back(DescribeIpc(queue));
    queues.back()["room"] = queue.room;
    Json& messages = queues.back()["messages"] = Json::array();
    for (const ImageMessage& message : queue.messages) {
      messages.push_back({{"type", message.type}, {"size", message.text.size()}});
    }
  }
  return {{"segments", segments}, {"semaphore_sets", sets}, {"queues", queues}};
}

Json DescribeLeads(uint32_t leads) {
  Json list = Json::array();
  if ((leads & KM_LEADS_GROUP) != 0) list.push_back("group");
  if ((leads & KM_LEADS_SESSION) != 0) list.push_back("session");
  if ((leads & KM_LEADS_TERMINAL) != 0) list.push_back("terminal");
  return list;
}

Json DescribeDescriptors(const Image& image) {
  absl::flat_hash_map<uint32_t, const FileRecord*> descriptions;
  for (const FileRecord& description : image.descriptions) {
    descriptions[description.id] = &description;
  }
  Json list = Json::array();
  for (const DescriptorRecord& descriptor : image.descriptors) {
    const FileRecord& description = *descriptions.at(descriptor.description);
    list.push_back({{"number", descriptor.number},
                    {"description", description.id},
                    {"kind", KindRow(description.kind).name},
                    {"detail", KindRow(description.kind).describe(description).value_or("")},
                    {"path", description.path},
                    {"flags", OpenFlagsText(description.flags)},
                    {"offset", description.offset},
                    {"close_on_exec", descriptor.close_on_exec}});
  }
  return list;
}

// Null where the process had none of its launcher's open.
Json DescribeTerminal(const Image& image) {
  if (!image.terminal.has_value()) return nullptr;
  const TerminalRecord& terminal = *image.terminal;
  return {{"rows", terminal.window.rows},
          {"columns", terminal.window.columns},
          {"by_lines", terminal.now.canonical()},
          {"changed", terminal.now != terminal.launched}};
}

Json DescribeLocks(const Image& image) {
  constexpr const char* kKinds[] = {"", "POSIX", "OFD", "flock", "lease"};
  Json list = Json::array();
  for (const LockRecord& lock : image.locks) {
    list.push_back({{"description", lock.description},
                    {"kind", lock.kind < std::size(kKinds) ? kKinds[lock.kind] : ""},
                    {"exclusive", lock.exclusive},
                    {"start", lock.start},
                    {"length", lock.length}});
  }
  return list;
}

Json DescribeActions(const ImageProcess& process, Symbolizer* symbols) {
  Json list = Json::array();
  for (size_t i = 0; i < process.actions.size(); ++i) {
    const ImageAction& action = process.actions[i];
    if (action.handler == 0) continue;
    Json result = {{"signal", SignalName(static_cast<int>(i) + 1)}};
    if (action.handler == 1) {
      result["handler"] = "ignored";
    } else {
      result["handler"] = DescribeAddress(action.handler, symbols);
    }
    result["flags"] = ActionFlagsText(action.flags);
    result["mask"] = SignalNames(action.mask);
    list.push_back(result);
  }
  return list;
}

Json DescribeProgram(const ImageProgram& program) {
  return {{"path", program.path},
          {"load_bias", HexText(program.load_bias)},
          {"entry", HexText(program.entry)}};
}

Json DescribeProcess(const ImageProcess& process) {
  Json limits = Json::array();
  for (const auto& [current, maximum] : process.limits) limits.push_back({current, maximum});
  return {{"pid", process.pid},
          {"parent", process.parent_pid},
          {"group", process.process_group},
          {"session", process.session},
          {"uid", process.uid},
          {"effective_uid", process.euid},
          {"gid", process.gid},
          {"effective_gid", process.egid},
          {"name", process.comm},
          {"command_line", process.command_line},
          {"directory", process.working_directory},
          {"umask", process.umask},
          {"personality", HexText(process.personality)},
          {"limits", limits},
          {"settings", DescribePrctl(process.prctl)},
          {"leads", DescribeLeads(process.leads)},
          {"aio_contexts", DescribeAio(process.aio)},
          {"brk", {HexText(process.brk_start), HexText(process.brk_end)}}};
}

Json DescribeTimers(const ImageProcess& process) {
  Json list = Json::array();
  for (const ImageTimer& timer : process.timers) {
    list.push_back({{"id", timer.id},
                    {"clock", timer.clock},
                    {"notify", timer.notify},
                    {"signal", timer.signal != 0 ? SignalName(static_cast<int>(timer.signal)) : ""},
                    {"thread", timer.tid},
                    {"armed", timer.armed},
                    {"waiting", timer.waiting},
                    {"expiry_ns", timer.expiry_ns},
                    {"interval_ns", timer.interval_ns}});
  }
  return list;
}

Json DescribeFile(const std::string& path, int fd) {
  struct stat file = {};
  fstat(fd, &file);
  return {{"path", path},
          {"size", file.st_size},
          {"allocated", static_cast<uint64_t>(file.st_blocks) * 512}};
}

Json DescribeSnapshot(const ImageHeader& header) {
  const bool has_parent = std::any_of(header.parent.begin(), header.parent.end(),
                                      [](uint8_t byte) { return byte != 0; });
  return {{"format", header.format_version},
          {"producer", header.producer},
          {"id", BytesText(header.id)},
          {"parent", has_parent ? Json(BytesText(header.parent)) : Json()},
          {"label", header.label},
          {"description", header.description},
          {"taken", TimeText(header.realtime_ns)},
          {"realtime_ns", header.realtime_ns},
          {"monotonic_ns", header.monotonic_ns},
          {"boottime_ns", header.boottime_ns}};
}

}  // namespace

Json Describe(const Image& image, int fd, const std::string& path) {
  Symbolizer symbols(image, fd);
  Json result;
  result["file"] = DescribeFile(path, fd);
  result["snapshot"] = DescribeSnapshot(image.header);
  result["cpu"] = {{"xcr0", HexText(image.header.xcr0)},
                   {"states", XsaveComponentNames(image.header.xcr0)},
                   {"features", CpuFeatureNames(image.header.cpu_features)}};
  result["process"] = DescribeProcess(image.process);
  result["program"] = DescribeProgram(image.program);
  result["interpreter"] =
      image.dynamic_linker.has_value() ? DescribeProgram(*image.dynamic_linker) : Json();
  Json& threads = result["threads"] = Json::array();
  for (const ImageThread& thread : image.threads) {
    threads.push_back(DescribeThread(thread, image.header.monotonic_ns, &symbols));
    threads.back()["settings"] = DescribeSettings(thread.settings);
  }
  result["bases"] = DescribeBases(image);
  result["mappings"] = DescribeMappings(image, fd);
  result["working_set"] = DescribeWorkingSet(image);
  result["working_set_size"] = PagesIn(image.working_set) * kPageSize;
  result["memory_policies"] = DescribePolicies(image);
  result["objects"] = DescribeObjects(image, fd);
  result["system_v"] = DescribeSysv(image);
  result["given"] = image.given;
  result["descriptors"] = DescribeDescriptors(image);
  result["terminal"] = DescribeTerminal(image);
  result["locks"] = DescribeLocks(image);
  result["signals"] = {{"actions", DescribeActions(image.process, &symbols)},
                       {"pending", DescribeSignals(image.process.pending)}};
  result["timers"] = DescribeTimers(image.process);
  Json& unknown = result["unknown_notes"] = Json::array();
  for (const ImageNote& note : image.unknown_notes) {
    unknown.push_back(
        {{"owner", note.owner}, {"type", HexText(note.type)}, {"size", note.descriptor.size()}});
  }
  return result;
}

}  // namespace km
