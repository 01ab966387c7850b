// Records of what a program set for its threads, itself and its memory: km/process/settings.h.
#include <km/layout.h>
#include <km/notes.h>
#include <linux/limits.h>

#include <algorithm>

#include "absl/container/flat_hash_set.h"
#include "km/snapshot/layout.h"
#include "km/snapshot/notes.h"

namespace km {
namespace {

// More than any kernel has processors or memory nodes.
constexpr size_t kMaxWords = 1024;

void Words(const std::vector<uint64_t>& words, ByteWriter* out) {
  for (const uint64_t word : words) out->U64(word);
}

void Policy(const MemoryPolicy& policy, ByteWriter* out) {
  out->U32(policy.mode);
  out->U32(0);
  Words(policy.nodes, out);
}

// False: there are too many.
bool ReadWords(ByteReader* value, std::vector<uint64_t>* words) {
  words->clear();
  if (value->rest().size() > kMaxWords * sizeof(uint64_t)) return false;
  while (!value->empty()) words->push_back(value->U64());
  return true;
}

bool ReadPolicy(ByteReader* value, MemoryPolicy* policy) {
  policy->mode = value->U32();
  value->U32();
  return ReadWords(value, &policy->nodes);
}

PrctlSetting ReadPrctl(ByteReader* value) {
  PrctlSetting setting;
  setting.option = value->U32();
  value->U32();
  setting.value = value->U64();
  return setting;
}

SchedulingSetting ReadScheduling(ByteReader* value) {
  SchedulingSetting scheduling;
  scheduling.policy = value->U32();
  value->U32();
  scheduling.flags = value->U64();
  scheduling.nice = static_cast<int32_t>(value->U32());
  scheduling.priority = value->U32();
  scheduling.runtime = value->U64();
  scheduling.deadline = value->U64();
  scheduling.period = value->U64();
  scheduling.util_min = value->U32();
  scheduling.util_max = value->U32();
  return scheduling;
}

void EncodeScheduling(const SchedulingSetting& scheduling, ByteWriter* out) {
  const size_t record = out->BeginRecord(KM_VCPU_SCHEDULING);
  out->U32(scheduling.policy);
  out->U32(0);
  out->U64(scheduling.flags);
  out->U32(static_cast<uint32_t>(scheduling.nice));
  out->U32(scheduling.priority);
  out->U64(scheduling.runtime);
  out->U64(scheduling.deadline);
  out->U64(scheduling.period);
  out->U32(scheduling.util_min);
  out->U32(scheduling.util_max);
  out->EndRecord(record);
}

void EncodeCredentials(const Credentials& credentials, ByteWriter* out) {
  const size_t record = out->BeginRecord(KM_VCPU_CREDENTIALS);
  for (const uint32_t user : credentials.users) out->U32(user);
  for (const uint32_t group : credentials.groups) out->U32(group);
  out->U64(credentials.permitted);
  out->U64(credentials.effective);
  out->U64(credentials.inheritable);
  out->U64(credentials.bounding);
  out->U64(credentials.ambient);
  for (const uint32_t group : credentials.supplementary) out->U32(group);
  out->EndRecord(record);
}

// False: there are too many groups, or they are not in order.
bool ReadCredentials(ByteReader* value, Credentials* credentials) {
  for (uint32_t& user : credentials->users) user = value->U32();
  for (uint32_t& group : credentials->groups) group = value->U32();
  credentials->permitted = value->U64();
  credentials->effective = value->U64();
  credentials->inheritable = value->U64();
  credentials->bounding = value->U64();
  credentials->ambient = value->U64();
  std::vector<gid_t>& groups = credentials->supplementary;
  if (value->rest().size() > NGROUPS_MAX * sizeof(gid_t)) return false;
  while (!value->empty() && value->ok()) groups.push_back(value->U32());
  return std::is_sorted(groups.begin(), groups.end());
}

void U32Record(uint32_t tag, const std::optional<uint32_t>& number, ByteWriter* out) {
  if (!number.has_value()) return;
  const size_t record = out->BeginRecord(tag);
  out->U32(*number);
  out->EndRecord(record);
}

}  // namespace

void EncodePrctl(uint32_t tag, const std::vector<PrctlSetting>& settings, ByteWriter* out) {
  for (const PrctlSetting& setting : settings) {
    const size_t record = out->BeginRecord(tag);
    out->U32(setting.option);
    out->U32(0);
    out->U64(setting.value);
    out->EndRecord(record);
  }
}

void EncodeThreadSettings(const ThreadSettings& settings, ByteWriter* out) {
  if (settings.scheduling.has_value()) EncodeScheduling(*settings.scheduling, out);
  if (!settings.processors.empty()) {
    const size_t record = out->BeginRecord(KM_VCPU_PROCESSORS);
    Words(settings.processors, out);
    out->EndRecord(record);
  }
  U32Record(KM_VCPU_IO_PRIORITY, settings.io_priority, out);
  U32Record(KM_VCPU_PERSONALITY, settings.personality, out);
  if (settings.memory_policy.has_value()) {
    const size_t record = out->BeginRecord(KM_VCPU_MEMORY_POLICY);
    Policy(*settings.memory_policy, out);
    out->EndRecord(record);
  }
  EncodePrctl(KM_VCPU_PRCTL, settings.prctl, out);
  if (settings.credentials.has_value()) EncodeCredentials(*settings.credentials, out);
}

void EncodeAio(const std::vector<AioContextState>& contexts, ByteWriter* out) {
  for (const AioContextState& context : contexts) {
    const size_t record = out->BeginRecord(KM_PROCESS_AIO);
    out->U64(context.name);
    out->U32(context.room);
    out->U32(0);
    for (const io_event& event : context.ready) {
      out->U64(event.data);
      out->U64(event.obj);
      out->I64(event.res);
      out->I64(event.res2);
    }
    out->EndRecord(record);
  }
}

void EncodePolicies(const std::vector<MappingPolicy>& policies, ByteWriter* out) {
  for (const MappingPolicy& piece : policies) {
    const size_t record = out->BeginRecord(KM_MAPPINGS_POLICY);
    out->U64(piece.start);
    out->U64(piece.end);
    Policy(piece.policy, out);
    out->EndRecord(record);
  }
}

bool DecodeThreadSetting(uint32_t tag, ByteReader* value, ThreadSettings* settings, bool* valid) {
  switch (tag) {
    case KM_VCPU_SCHEDULING:
      settings->scheduling = ReadScheduling(value);
      return true;
    case KM_VCPU_PROCESSORS:
      *valid = *valid && ReadWords(value, &settings->processors);
      return true;
    case KM_VCPU_IO_PRIORITY:
      settings->io_priority = value->U32();
      return true;
    case KM_VCPU_PERSONALITY:
      settings->personality = value->U32();
      return true;
    case KM_VCPU_MEMORY_POLICY:
      *valid = *valid && ReadPolicy(value, &settings->memory_policy.emplace());
      return true;
    case KM_VCPU_PRCTL:
      settings->prctl.push_back(ReadPrctl(value));
      *valid = *valid && IsThreadPrctl(settings->prctl.back().option);
      return true;
    case KM_VCPU_CREDENTIALS:
      *valid = *valid && ReadCredentials(value, &settings->credentials.emplace());
      return true;
    default:
      return false;
  }
}

namespace {

AioContextState ReadAio(ByteReader* value) {
  AioContextState context;
  context.name = value->U64();
  context.room = value->U32();
  value->U32();
  while (!value->empty() && value->ok()) {
    io_event& event = context.ready.emplace_back();
    event.data = value->U64();
    event.obj = value->U64();
    event.res = value->I64();
    event.res2 = value->I64();
  }
  return context;
}

}  // namespace

bool ValidAio(const std::vector<AioContextState>& contexts) {
  absl::flat_hash_set<uint64_t> names = {0};
  return std::all_of(contexts.begin(), contexts.end(), [&names](const AioContextState& context) {
    return names.insert(context.name).second;
  });
}

bool DecodeProcessSetting(uint32_t tag, ByteReader* value, ImageProcess* process, bool* valid) {
  if (tag == KM_PROCESS_AIO) {
    process->aio.push_back(ReadAio(value));
    return true;
  }
  if (tag == KM_PROCESS_OOM_SCORE) {
    process->oom_score = static_cast<int32_t>(value->U32());
    value->U32();
    return true;
  }
  if (tag == KM_PROCESS_LEADS) {
    process->leads = value->U32();
    return true;
  }
  if (tag != KM_PROCESS_PRCTL) return false;
  process->prctl.push_back(ReadPrctl(value));
  *valid = *valid && IsProcessPrctl(process->prctl.back().option);
  return true;
}

bool DecodePolicy(uint32_t tag, ByteReader* value, std::vector<MappingPolicy>* policies,
                  bool* valid) {
  if (tag != KM_MAPPINGS_POLICY) return false;
  MappingPolicy& piece = policies->emplace_back();
  piece.start = value->U64();
  piece.end = value->U64();
  *valid = *valid && ReadPolicy(value, &piece.policy) && piece.start < piece.end &&
           piece.end <= KM_GUEST_END && (piece.start | piece.end) % kPageSize == 0;
  return true;
}

}  // namespace km
