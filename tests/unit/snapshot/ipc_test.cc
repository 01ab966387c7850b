// System V objects: out and back, and what a file cannot say of them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <km/notes.h>
#include <mqueue.h>
#include <signal.h>
#include <sys/mman.h>

#include "km/base/bytes.h"
#include "km/files/kind.h"
#include "km/snapshot/parser.h"
#include "km/snapshot/writer.h"
#include "tests/unit/snapshot/rich_image.h"

namespace km {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr uint64_t kPage = 4096;

class Ipc : public testing::Test {
 protected:
  Ipc() {
    image_.objects = {{KM_OBJECT_BASE, 2 * kPage + 5, KM_OBJECT_SEGMENT, 0, "SYSV00000000"}};
    ImageMapping mapping;
    mapping.start = TestMemory::kStart + 0x1000000;
    mapping.end = mapping.start + 2 * kPage;
    mapping.protection = PROT_READ;
    mapping.flags = MAP_SHARED;
    mapping.file_offset = kPage;
    mapping.object = KM_OBJECT_BASE;
    mapping.segment = 7;
    mapping.read_only = true;
    mapping.name = "/SYSV00000000 (deleted)";
    image_.mappings = {mapping};
    image_.memory.clear();
    ImageSegment segment;
    segment.id = 7;
    segment.mode = 0640;
    segment.uid = 1000;
    segment.gid = 100;
    segment.host_id = 9;
    segment.changed = INT64_MIN;
    segment.size = 2 * kPage + 5;
    segment.object = KM_OBJECT_BASE;
    segment.flags = KM_SEGMENT_REMOVED | KM_SEGMENT_LOCKED;
    image_.segments = {segment};
    ImageSemaphores set;
    set.id = 0;
    set.key = -5;
    set.operated = 99;
    set.values = {{32767, true, -32767}, {0, false, 0}};
    image_.semaphores = {set};
    ImageQueue queue;
    queue.id = 5;
    queue.key = 0x4b4d;
    queue.room = 16384;
    queue.messages = {{1, {1, 2, 3}}, {INT64_MAX, {}}};
    image_.queues = {queue};
  }

  absl::StatusOr<Image> Trip() {
    const std::string path = directory_.File("kmsnap");
    const absl::Status status = WriteSnapshot(image_, memory_.Source(), path, {});
    return status.ok() ? ParseFile(path) : status;
  }
  // What the writer says, which reads its own head as a reader would.
  std::string Message() { return std::string(Trip().status().message()); }

  TestDirectory directory_;
  TestMemory memory_;
  Image image_ = RichImage(memory_);
};

TEST_F(Ipc, OutAndBack) {
  const absl::StatusOr<Image> back = Trip();
  ASSERT_TRUE(back.ok()) << back.status();
  ASSERT_EQ(back->segments.size(), 1u);
  const ImageSegment& segment = back->segments[0];
  EXPECT_EQ(segment.id, 7);
  EXPECT_EQ(segment.key, 0);
  EXPECT_EQ(segment.mode, 0640u);
  EXPECT_EQ(segment.uid, 1000u);
  EXPECT_EQ(segment.gid, 100u);
  EXPECT_EQ(segment.host_id, 9);
  EXPECT_EQ(segment.changed, INT64_MIN);
  EXPECT_EQ(segment.size, 2 * kPage + 5);
  EXPECT_EQ(segment.object, KM_OBJECT_BASE);
  EXPECT_EQ(segment.flags, KM_SEGMENT_REMOVED | KM_SEGMENT_LOCKED);
  ASSERT_EQ(back->mappings.size(), 1u);
  EXPECT_EQ(back->mappings[0].segment, 7);
  EXPECT_TRUE(back->mappings[0].read_only);
  EXPECT_EQ(back->mappings[0].object, KM_OBJECT_BASE);
  EXPECT_EQ(back->mappings[0].file_offset, kPage);
  ASSERT_EQ(back->semaphores.size(), 1u);
  EXPECT_EQ(back->semaphores[0].key, -5);
  EXPECT_EQ(back->semaphores[0].operated, 99);
  ASSERT_EQ(back->semaphores[0].values.size(), 2u);
  EXPECT_EQ(back->semaphores[0].values[0].value, 32767u);
  EXPECT_TRUE(back->semaphores[0].values[0].operated);
  EXPECT_EQ(back->semaphores[0].values[0].undo, -32767);
  EXPECT_FALSE(back->semaphores[0].values[1].operated);
  ASSERT_EQ(back->queues.size(), 1u);
  EXPECT_EQ(back->queues[0].room, 16384u);
  ASSERT_EQ(back->queues[0].messages.size(), 2u);
  EXPECT_THAT(back->queues[0].messages[0].text, ElementsAre(1, 2, 3));
  EXPECT_EQ(back->queues[0].messages[1].type, INT64_MAX);
}

TEST_F(Ipc, SegmentsAndMappingsThatDoNotFit) {
  const Image good = image_;
  image_.segments[0].id = 8;
  EXPECT_THAT(Message(), HasSubstr("is not within a System V segment 7"));
  image_ = good;
  image_.mappings[0].file_offset = 2 * kPage;
  EXPECT_THAT(Message(), HasSubstr("is not within a System V segment"));
  image_ = good;
  image_.segments[0].size = 3 * kPage;
  EXPECT_THAT(Message(), HasSubstr("has no memory object"));
  image_ = good;
  image_.segments[0].object += 0x200000;
  EXPECT_THAT(Message(), HasSubstr("has no memory object"));
  image_ = good;
  image_.objects[0].kind = KM_OBJECT_MEMFD;
  EXPECT_THAT(Message(), HasSubstr("has no memory object"));
  image_ = good;
  image_.segments.clear();
  EXPECT_THAT(Message(), HasSubstr("of no System V segment"));
  image_ = good;
  image_.segments.push_back(image_.segments[0]);
  EXPECT_THAT(Message(), HasSubstr("there twice"));
  image_ = good;
  image_.segments.push_back(image_.segments[0]);
  image_.segments[1].id = 9;
  EXPECT_THAT(Message(), HasSubstr("has no memory object"));
  image_ = good;
  image_.mappings[0].flags = MAP_PRIVATE;
  EXPECT_THAT(Message(), HasSubstr("impossible"));
  image_ = good;
  image_.segments[0].flags = 8;
  EXPECT_THAT(Message(), HasSubstr("a System V object in it is impossible"));
  // The host's segment with that key, which is another, would be removed.
  image_ = good;
  image_.segments[0].key = 5;
  EXPECT_THAT(Message(), HasSubstr("a System V object in it is impossible"));
  image_.segments[0].flags = KM_SEGMENT_LOCKED;
  EXPECT_EQ(Trip().status(), absl::OkStatus());
}

TEST_F(Ipc, ImpossibleValues) {
  const Image good = image_;
  image_.semaphores[0].values[1].value = 32768;
  EXPECT_THAT(Message(), HasSubstr("a System V object in it is impossible"));
  for (const int32_t undo : {32768, -32768, INT32_MIN, INT32_MAX}) {
    image_ = good;
    image_.semaphores[0].values[1].undo = undo;
    EXPECT_THAT(Message(), HasSubstr("a System V object in it is impossible")) << undo;
  }
  image_ = good;
  image_.semaphores[0].values.clear();
  EXPECT_THAT(Message(), HasSubstr("a System V object in it is impossible"));
  image_ = good;
  image_.semaphores[0].values.resize((1 << 16) + 1);
  EXPECT_THAT(Message(), HasSubstr("a System V object in it is impossible"));
  image_ = good;
  image_.queues[0].messages[0].type = 0;
  EXPECT_THAT(Message(), HasSubstr("a System V object in it is impossible"));
  image_ = good;
  image_.semaphores[0].id = -1;
  EXPECT_THAT(Message(), HasSubstr("impossible"));
  image_ = good;
  image_.queues.push_back(image_.queues[0]);
  image_.queues[1].id = 6;  // the same key
  EXPECT_THAT(Message(), HasSubstr("the System V message queue 6 (key 0x4b4d) is there twice"));
}

// ---- POSIX message queues: what the kind makes of its records ----

class QueueKind : public testing::Test {
 protected:
  QueueKind() {
    record_.kind = FileKind::kMessageQueue;
    record_.path = "/name";
  }

  std::string Message(uint64_t room, uint64_t size, size_t held, uint32_t notify, uint32_t signal) {
    ByteWriter out;
    size_t record = out.BeginRecord(KM_QUEUE_OBJECT);
    out.U32(1);
    out.U32(unnamed_ ? 1 : 0);
    out.EndRecord(record);
    record = out.BeginRecord(KM_QUEUE_ATTRIBUTES);
    for (const uint64_t number : {room, size, uint64_t{0600}, uint64_t{1}, uint64_t{2}}) {
      out.U64(number);
    }
    out.EndRecord(record);
    record = out.BeginRecord(KM_QUEUE_MESSAGE);
    out.U32(5);
    out.Zeros(held);
    out.EndRecord(record);
    record = out.BeginRecord(KM_QUEUE_NOTICE);
    out.U32(notify);
    out.U32(signal);
    out.U64(3);
    out.EndRecord(record);
    record_.state = out.Take();
    return std::string(KindRow(record_.kind).describe(record_).status().message());
  }

  FileRecord record_;
  bool unnamed_ = false;
};

TEST_F(QueueKind, WhatCanBe) {
  EXPECT_EQ(Message(1, 8, 8, SIGEV_SIGNAL, 64), "");
  EXPECT_EQ(Message(1, 8, 0, SIGEV_NONE, 0), "");
  record_.path.clear();
  unnamed_ = true;
  EXPECT_EQ(Message(INT32_MAX, INT32_MAX, 8, SIGEV_NONE, 0), "");
}

TEST_F(QueueKind, WhatCannotBe) {
  EXPECT_THAT(Message(0, 8, 8, SIGEV_NONE, 0), HasSubstr("impossible"));
  EXPECT_THAT(Message(1, 7, 8, SIGEV_NONE, 0), HasSubstr("impossible"));
  EXPECT_THAT(Message(UINT64_MAX, 8, 8, SIGEV_NONE, 0), HasSubstr("impossible"));
  EXPECT_THAT(Message(1, UINT64_MAX, 8, SIGEV_NONE, 0), HasSubstr("impossible"));
  EXPECT_THAT(Message(1, 8, 8, SIGEV_THREAD, 0), HasSubstr("impossible"));
  EXPECT_THAT(Message(1, 8, 8, SIGEV_SIGNAL, 0), HasSubstr("impossible"));
  EXPECT_THAT(Message(1, 8, 8, SIGEV_SIGNAL, 65), HasSubstr("impossible"));
  for (const char* path : {"", "/", "name", "/a/b"}) {
    record_.path = path;
    EXPECT_THAT(Message(1, 8, 8, SIGEV_NONE, 0), HasSubstr("impossible")) << path;
  }
  record_.path = "/" + std::string(256, 'n');
  EXPECT_THAT(Message(1, 8, 8, SIGEV_NONE, 0), HasSubstr("impossible"));
}

}  // namespace
}  // namespace km
