// The text form of a description.
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "tools/kmctl/inspect.h"
#include "tools/kmctl/names.h"

namespace km {
namespace {

using Json = nlohmann::ordered_json;

std::string Text(const Json& value) { return Printable(value.get<std::string>()); }

std::string Joined(const Json& list) {
  std::vector<std::string> parts;
  for (const Json& part : list) parts.push_back(Text(part));
  return absl::StrJoin(parts, " ");
}

// A heading's lines are indented, with what they are about in a column.
void Line(absl::string_view name, absl::string_view value, std::string* out) {
  absl::StrAppendFormat(out, "  %-12s %s\n", name, value);
}

// Lists of words are long: they go on below each other.
void WrappedLine(absl::string_view name, const Json& words, std::string* out) {
  constexpr size_t kWidth = 80;
  std::string line;
  for (const Json& word : words) {
    const std::string text = Text(word);
    if (!line.empty() && line.size() + 1 + text.size() > kWidth) {
      Line(name, line, out);
      name = "";
      line.clear();
    }
    absl::StrAppend(&line, line.empty() ? "" : " ", text);
  }
  Line(name, line, out);
}

// "0x401234 main+0x12 (/usr/bin/program)", or with the offset in the file when no symbol is known.
std::string AddressText(const Json& address) {
  std::string text = Text(address["address"]);
  if (!address.contains("object")) return text;
  const std::string object = Text(address["object"]);
  if (address.contains("symbol")) {
    absl::StrAppend(&text, " ", Text(address["symbol"]), " (", object, ")");
  } else if (address["offset"] != "0x0") {
    absl::StrAppend(&text, " ", object, "+", Text(address["offset"]));
  } else {
    absl::StrAppend(&text, " ", object);
  }
  return text;
}

std::string PendingText(const Json& pending) {
  std::vector<std::string> parts;
  for (const Json& signal : pending) parts.push_back(Text(signal["signal"]));
  return absl::StrJoin(parts, " ");
}

std::string Numbers(const Json& process, std::initializer_list<const char*> names) {
  std::vector<std::string> parts;
  for (const char* name : names)
    parts.push_back(absl::StrCat(name, " ", process[name].get<uint32_t>()));
  return absl::StrJoin(parts, ", ");
}

void AppendSnapshot(const Json& description, std::string* out) {
  const Json& file = description["file"];
  const Json& snapshot = description["snapshot"];
  absl::StrAppend(out, Text(file["path"]), ": snapshot of process ",
                  description["process"]["pid"].get<uint32_t>(), " (",
                  Text(description["process"]["name"]), ")\n");
  if (snapshot["label"] != "") Line("label", Text(snapshot["label"]), out);
  if (snapshot["description"] != "") Line("description", Text(snapshot["description"]), out);
  Line("taken", Text(snapshot["taken"]), out);
  Line("written by",
       absl::StrCat(Text(snapshot["producer"]), ", format ", snapshot["format"].get<uint32_t>()),
       out);
  Line("id", Text(snapshot["id"]), out);
  if (!snapshot["parent"].is_null()) Line("parent", Text(snapshot["parent"]), out);
  for (const Json& base : description["bases"]) {
    Line("built on",
         absl::StrCat(Text(base["path"]), ", for ", SizeText(base["size"].get<uint64_t>())), out);
  }
  Line("file",
       absl::StrCat(SizeText(file["size"].get<uint64_t>()), ", ",
                    SizeText(file["allocated"].get<uint64_t>()), " on disk"),
       out);
  if (const Json& pages = description["working_set"]; !pages.empty()) {
    Line("working set",
         absl::StrCat(SizeText(description["working_set_size"].get<uint64_t>()), " in ",
                      pages.size(), " pieces, copied ahead by a resume"),
         out);
  }
  const Json& cpu = description["cpu"];
  Line("states", absl::StrCat(Joined(cpu["states"]), " (XCR0 ", Text(cpu["xcr0"]), ")"), out);
  if (!cpu["features"].empty()) WrappedLine("cpu features", cpu["features"], out);
}

// "nice 5, policy 3"; empty when there are none.
std::string SettingsText(const Json& settings) {
  std::vector<std::string> parts;
  for (const auto& [name, value] : settings.items()) {
    parts.push_back(absl::StrCat(name, " ", value.is_string() ? Text(value) : value.dump()));
  }
  return absl::StrJoin(parts, ", ");
}

void AppendProcess(const Json& description, std::string* out) {
  const Json& process = description["process"];
  absl::StrAppend(out, "\nProcess\n");
  Line("ids", Numbers(process, {"pid", "parent", "group", "session"}), out);
  Line("user", Numbers(process, {"uid", "effective_uid", "gid", "effective_gid"}), out);
  Line("command", Text(process["command_line"]), out);
  Line("directory", Text(process["directory"]), out);
  Line("umask", absl::StrFormat("%03o", process["umask"].get<uint32_t>()), out);
  if (!process["settings"].empty()) Line("has set", SettingsText(process["settings"]), out);
  if (!process["leads"].empty()) Line("leads its", Joined(process["leads"]), out);
  for (const char* name : {"program", "interpreter"}) {
    const Json& program = description[name];
    if (program.is_null()) continue;
    Line(name,
         absl::StrCat(Text(program["path"]), ", loaded at ", Text(program["load_bias"]), ", entry ",
                      Text(program["entry"])),
         out);
  }
}

void AppendThreads(const Json& threads, std::string* out) {
  absl::StrAppend(out, "\nThreads: ", threads.size(), "\n");
  for (const Json& thread : threads) {
    absl::StrAppendFormat(out, "  %-7d %-15s  %s\n", thread["tid"].get<uint32_t>(),
                          Text(thread["name"]), AddressText(thread["pc"]));
    const auto detail = [out](absl::string_view text) {
      absl::StrAppendFormat(out, "  %-7s %-15s  %s\n", "", "", text);
    };
    if (thread.contains("system_call")) {
      const Json& call = thread["system_call"];
      std::string text = absl::StrCat("in ", Text(call["name"]));
      if (call.contains("remaining_ns")) {
        const auto remaining = call["remaining_ns"].get<int64_t>();
        absl::StrAppend(&text, ", ",
                        remaining <= 0 ? "time is up" : DurationText(remaining) + " to go");
      }
      detail(text);
    }
    const Json& blocked = thread["blocked_signals"];
    if (!blocked.empty()) {
      // Few threads block a few signals or all: all is not worth two lines.
      constexpr size_t kMany = 20;
      detail(absl::StrCat("blocks ", blocked.size() > kMany
                                         ? absl::StrCat(blocked.size(), " signals")
                                         : Joined(blocked)));
    }
    if (!thread["settings"].empty()) {
      detail(absl::StrCat("has set ", SettingsText(thread["settings"])));
    }
    if (!thread["pending_signals"].empty()) {
      detail(absl::StrCat("pending ", PendingText(thread["pending_signals"])));
    }
  }
}

void AppendMappings(const Json& mappings, std::string* out) {
  uint64_t size = 0, touched = 0, zero = 0, file = 0;
  for (const Json& mapping : mappings) {
    size += mapping["size"].get<uint64_t>();
    touched += mapping["touched"].get<uint64_t>();
    zero += mapping["zero"].get<uint64_t>();
    file += mapping["file"].get<uint64_t>();
  }
  absl::StrAppend(out, "\nMemory: ", mappings.size(), " mappings, ", SizeText(size), " (",
                  SizeText(touched), " touched, ", SizeText(zero), " zero, ", SizeText(file),
                  " of shared files)\n");
  absl::StrAppendFormat(out, "  %-29s %-5s %10s %10s %10s %10s  %s\n", "address", "", "size",
                        "touched", "zero", "file", "what");
  for (const Json& mapping : mappings) {
    const std::string range =
        absl::StrCat(Text(mapping["start"]), "-", Text(mapping["end"]).substr(2));
    const std::string rights =
        absl::StrCat(Text(mapping["protection"]), mapping["sharing"] == "shared" ? "s" : "p");
    const std::string line = absl::StrFormat(
        "  %-29s %-5s %10s %10s %10s %10s  %s", range, rights,
        SizeText(mapping["size"].get<uint64_t>()), SizeText(mapping["touched"].get<uint64_t>()),
        SizeText(mapping["zero"].get<uint64_t>()), SizeText(mapping["file"].get<uint64_t>()),
        Text(mapping["name"]));
    absl::StrAppend(out, absl::StripTrailingAsciiWhitespace(line), "\n");
  }
}

void AppendObjects(const Json& objects, std::string* out) {
  if (objects.empty()) return;
  absl::StrAppend(out, "\nMemory objects: ", objects.size(), "\n");
  for (const Json& object : objects) {
    absl::StrAppend(out, "  ", Text(object["address"]), "  ", Text(object["kind"]), " '",
                    Text(object["name"]), "', ", SizeText(object["size"].get<uint64_t>()), ", ",
                    SizeText(object["touched"].get<uint64_t>()), " touched\n");
  }
}

void AppendSysv(const Json& objects, std::string* out) {
  auto line = [out](const Json& object, absl::string_view what, absl::string_view detail) {
    absl::StrAppend(out, "  ", what, " ", object["id"].dump(), ", key ", Text(object["key"]), ", ",
                    detail, "\n");
  };
  if (objects["segments"].empty() && objects["semaphore_sets"].empty() &&
      objects["queues"].empty()) {
    return;
  }
  absl::StrAppend(out, "\nSystem V\n");
  for (const Json& segment : objects["segments"]) {
    line(segment, "segment",
         absl::StrCat(SizeText(segment["size"].get<uint64_t>()), ", object ",
                      Text(segment["object"]), segment["removed"].get<bool>() ? ", removed" : "",
                      segment["locked"].get<bool>() ? ", locked" : ""));
  }
  for (const Json& set : objects["semaphore_sets"]) {
    line(set, "semaphores",
         absl::StrCat("values ", set["values"].dump(), ", undo ", set["undo"].dump()));
  }
  for (const Json& queue : objects["queues"]) {
    line(queue, "queue", absl::StrCat(queue["messages"].size(), " messages"));
  }
}

void AppendDescriptors(const Json& descriptors, uint32_t given, std::string* out) {
  std::vector<int> from_outside;
  for (int number = 0; number <= 2; ++number) {
    if ((given >> number & 1) != 0) from_outside.push_back(number);
  }
  absl::StrAppend(out, "\nDescriptors: ", descriptors.size());
  if (!from_outside.empty()) {
    absl::StrAppend(out, " (", absl::StrJoin(from_outside, ", "), " from whoever resumes)");
  }
  absl::StrAppend(out, "\n");
  for (const Json& descriptor : descriptors) {
    const std::string path = Text(descriptor["path"]), detail = Text(descriptor["detail"]);
    absl::StrAppendFormat(
        out, "  %-4d %s%s%s, %s, at %d%s, description %d%s%s\n",
        descriptor["number"].get<uint32_t>(), Text(descriptor["kind"]), path.empty() ? "" : " ",
        path, Text(descriptor["flags"]), descriptor["offset"].get<int64_t>(),
        descriptor["close_on_exec"].get<bool>() ? ", close on exec" : "",
        descriptor["description"].get<uint32_t>(), detail.empty() ? "" : ": ", detail);
  }
}

void AppendLocks(const Json& locks, std::string* out) {
  for (const Json& lock : locks) {
    const auto length = lock["length"].get<int64_t>();
    absl::StrAppendFormat(
        out, "  %s lock of description %d, %s, from %d %s\n", Text(lock["kind"]),
        lock["description"].get<uint32_t>(), lock["exclusive"].get<bool>() ? "exclusive" : "shared",
        lock["start"].get<int64_t>(), length == 0 ? "on" : absl::StrCat("for ", length, " bytes"));
  }
}

void AppendSignals(const Json& signals, std::string* out) {
  absl::StrAppend(out, "\nSignals: ", signals["actions"].size(), " not at their default\n");
  for (const Json& action : signals["actions"]) {
    const Json& handler = action["handler"];
    absl::StrAppendFormat(out, "  %-12s %s", Text(action["signal"]),
                          handler.is_string() ? Text(handler) : AddressText(handler));
    if (action["flags"] != "") absl::StrAppend(out, ", ", Text(action["flags"]));
    if (!action["mask"].empty()) absl::StrAppend(out, ", blocks ", Joined(action["mask"]));
    absl::StrAppend(out, "\n");
  }
  if (!signals["pending"].empty()) Line("pending", PendingText(signals["pending"]), out);
}

// Ids below 0 are the interval timers, from ITIMER_REAL on.
void AppendTimers(const Json& timers, std::string* out) {
  if (timers.empty()) return;
  absl::StrAppend(out, "\nTimers: ", timers.size(), "\n");
  for (const Json& timer : timers) {
    absl::StrAppendFormat(
        out, "  %-4d clock %d, %s, %s, every %d ns\n", timer["id"].get<int32_t>(),
        timer["clock"].get<int32_t>(), Text(timer["signal"]),
        timer["armed"].get<bool>()
            ? absl::StrFormat("expires at %d ns", timer["expiry_ns"].get<int64_t>())
            : std::string("off"),
        timer["interval_ns"].get<int64_t>());
  }
}

}  // namespace

std::string DescriptionText(const Json& description) {
  std::string out;
  AppendSnapshot(description, &out);
  AppendProcess(description, &out);
  AppendThreads(description["threads"], &out);
  AppendMappings(description["mappings"], &out);
  AppendObjects(description["objects"], &out);
  AppendSysv(description["system_v"], &out);
  AppendDescriptors(description["descriptors"], description["given"].get<uint32_t>(), &out);
  if (const Json& terminal = description["terminal"]; !terminal.is_null()) {
    absl::StrAppendFormat(&out, "\nTerminal: %dx%d, read by %s, settings %s\n",
                          terminal["columns"].get<int>(), terminal["rows"].get<int>(),
                          terminal["by_lines"].get<bool>() ? "lines" : "bytes",
                          terminal["changed"].get<bool>() ? "changed by the program" : "as given");
  }
  AppendLocks(description["locks"], &out);
  AppendSignals(description["signals"], &out);
  AppendTimers(description["timers"], &out);
  for (const Json& note : description["unknown_notes"]) {
    absl::StrAppend(&out, "\nUnknown note of ", Text(note["owner"]), ", type ", Text(note["type"]),
                    ", ", SizeText(note["size"].get<uint64_t>()), "\n");
  }
  return out;
}

}  // namespace km
