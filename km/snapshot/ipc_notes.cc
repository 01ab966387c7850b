// The note of System V objects, NT_KM_IPC.
#include <km/notes.h>

#include <algorithm>
#include <climits>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_format.h"
#include "km/base/records.h"
#include "km/base/status.h"
#include "km/snapshot/layout.h"
#include "km/snapshot/notes.h"

namespace km {
namespace {

constexpr uint32_t kMostValue = 32767;  // SEMVMX of the kernel's include/uapi/linux/sem.h
constexpr size_t kMostSemaphores = 1 << 16;
constexpr uint32_t kKnownFlags = KM_SEGMENT_REMOVED | KM_SEGMENT_LOCKED;

void Common(const ImageIpc& object, ByteWriter* out) {
  out->U32(static_cast<uint32_t>(object.id));
  out->U32(static_cast<uint32_t>(object.key));
  out->U32(object.mode);
  out->U32(object.uid);
  out->U32(object.gid);
  out->U32(0);
  out->U32(static_cast<uint32_t>(object.host_id));
  out->U32(0);
  out->I64(object.changed);
}

void ReadCommon(ByteReader* value, ImageIpc* object) {
  object->id = static_cast<int32_t>(value->U32());
  object->key = static_cast<int32_t>(value->U32());
  object->mode = value->U32();
  object->uid = value->U32();
  object->gid = value->U32();
  value->U32();
  object->host_id = static_cast<int32_t>(value->U32());
  value->U32();
  object->changed = value->I64();
}

void EncodeSemaphores(const ImageSemaphores& set, ByteWriter* out) {
  const size_t record = out->BeginRecord(KM_IPC_SEMAPHORES);
  Common(set, out);
  out->I64(set.operated);
  for (const ImageSemaphore& semaphore : set.values) {
    out->U32(semaphore.value);
    out->U32(semaphore.operated ? 1 : 0);
    out->U32(static_cast<uint32_t>(semaphore.undo));
  }
  out->EndRecord(record);
}

void EncodeQueue(const ImageQueue& queue, ByteWriter* out) {
  size_t record = out->BeginRecord(KM_IPC_QUEUE);
  Common(queue, out);
  out->U64(queue.room);
  out->EndRecord(record);
  for (const ImageMessage& message : queue.messages) {
    record = out->BeginRecord(KM_IPC_MESSAGE);
    out->I64(message.type);
    out->Bytes(message.text);
    out->EndRecord(record);
  }
}

bool ReadSemaphores(ByteReader* value, ImageSemaphores* set) {
  constexpr size_t kBytesEach = 12;
  ReadCommon(value, set);
  set->operated = value->I64();
  if (value->rest().size() / kBytesEach > kMostSemaphores) return false;
  while (!value->empty() && value->ok()) {
    ImageSemaphore& semaphore = set->values.emplace_back();
    semaphore.value = value->U32();
    semaphore.operated = value->U32() != 0;
    semaphore.undo = static_cast<int32_t>(value->U32());
    const int64_t undo = semaphore.undo;
    if (semaphore.value > kMostValue || undo > kMostValue || undo < -int64_t{kMostValue}) {
      return false;
    }
  }
  return !set->values.empty();
}

bool ReadSegment(ByteReader* value, ImageSegment* segment) {
  ReadCommon(value, segment);
  segment->size = value->U64();
  segment->object = value->U64();
  segment->flags = value->U32();
  value->U32();
  return segment->size != 0 && segment->size <= KM_OBJECT_END - KM_OBJECT_BASE &&
         (segment->flags & ~kKnownFlags) == 0 &&
         // The kernel takes the key away: one that has it is another.
         ((segment->flags & KM_SEGMENT_REMOVED) == 0 || segment->key == 0);
}

bool ReadMessage(ByteReader* value, std::vector<ImageQueue>* queues) {
  if (queues->empty()) return false;
  ImageMessage& message = queues->back().messages.emplace_back();
  message.type = value->I64();
  const absl::Span<const uint8_t> text = value->Bytes(value->rest().size());
  message.text.assign(text.begin(), text.end());
  return message.type > 0;
}

uint64_t WholePages(uint64_t size) { return (size + kPageSize - 1) / kPageSize * kPageSize; }

// Ids are what a program knows objects by: unique within each kind, as keys are, and not negative.
template <typename Object>
absl::Status CheckIds(const std::vector<Object>& objects, absl::string_view what) {
  absl::flat_hash_set<int32_t> ids, keys;
  for (const Object& object : objects) {
    if (object.id < 0 || !ids.insert(object.id).second ||
        (object.key != 0 && !keys.insert(object.key).second)) {
      return absl::DataLossError(
          absl::StrFormat("the System V %s %d (key %#x) is there twice, or "
                          "impossible",
                          what, object.id, object.key));
    }
  }
  return absl::OkStatus();
}

}  // namespace

void EncodeIpc(const Image& image, ByteWriter* out) {
  if (image.segments.empty() && image.semaphores.empty() && image.queues.empty()) return;
  const size_t note = BeginKmNote(NT_KM_IPC, true, out);
  for (const ImageSegment& segment : image.segments) {
    const size_t record = out->BeginRecord(KM_IPC_SEGMENT);
    Common(segment, out);
    out->U64(segment.size);
    out->U64(segment.object);
    out->U32(segment.flags);
    out->U32(0);
    out->EndRecord(record);
  }
  for (const ImageSemaphores& set : image.semaphores) EncodeSemaphores(set, out);
  for (const ImageQueue& queue : image.queues) EncodeQueue(queue, out);
  EndKmNote(note, out);
}

absl::Status DecodeIpc(ByteReader records, Image* image) {
  bool valid = true;
  KM_RETURN_IF_ERROR(ForEachRecord(records, [&](uint32_t tag, ByteReader* value) {
    switch (tag) {
      case KM_IPC_SEGMENT:
        valid = ReadSegment(value, &image->segments.emplace_back()) && valid;
        return true;
      case KM_IPC_SEMAPHORES:
        valid = ReadSemaphores(value, &image->semaphores.emplace_back()) && valid;
        return true;
      case KM_IPC_QUEUE:
        ReadCommon(value, &image->queues.emplace_back());
        image->queues.back().room = value->U64();
        return true;
      case KM_IPC_MESSAGE:
        valid = ReadMessage(value, &image->queues) && valid;
        return true;
      default:
        return false;
    }
  }));
  if (!valid) return absl::DataLossError("a System V object in it is impossible");
  KM_RETURN_IF_ERROR(CheckIds(image->segments, "shared memory"));
  KM_RETURN_IF_ERROR(CheckIds(image->semaphores, "semaphore set"));
  return CheckIds(image->queues, "message queue");
}

absl::Status CheckSegments(const Image& image) {
  absl::flat_hash_map<uint64_t, uint64_t> objects;  // sizes, by address
  for (const MemoryObject& object : image.objects) {
    if (object.kind == KM_OBJECT_SEGMENT) objects[object.address] = object.size;
  }
  absl::flat_hash_map<int32_t, const ImageSegment*> segments;  // by id
  for (const ImageSegment& segment : image.segments) {
    const auto object = objects.find(segment.object);
    if (object == objects.end() || object->second != segment.size) {
      return absl::DataLossError(absl::StrFormat(
          "the System V segment %d has no memory object at %#x", segment.id, segment.object));
    }
    objects.erase(object);
    segments[segment.id] = &segment;
  }
  if (!objects.empty()) return absl::DataLossError("a memory object is of no System V segment");
  for (const ImageMapping& mapping : image.mappings) {
    if (!mapping.segment.has_value()) continue;
    const auto found = segments.find(*mapping.segment);
    const uint64_t size = found != segments.end() ? WholePages(found->second->size) : 0;
    if (size == 0 || mapping.object != found->second->object || mapping.file_offset > size ||
        mapping.end - mapping.start > size - mapping.file_offset) {
      return absl::DataLossError(
          absl::StrFormat("the mapping %#x-%#x is not within a System V segment %d", mapping.start,
                          mapping.end, *mapping.segment));
    }
  }
  return absl::OkStatus();
}

}  // namespace km
