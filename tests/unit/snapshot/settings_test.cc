// What a program set for its threads, itself and its memory: out and back, and what cannot be.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <km/layout.h>
#include <km/notes.h>
#include <sched.h>
#include <sys/prctl.h>

#include "km/snapshot/parser.h"
#include "km/snapshot/writer.h"
#include "tests/unit/snapshot/rich_image.h"

namespace km {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class Settings : public testing::Test {
 protected:
  Image WithSettings() {
    Image image = RichImage(memory_);
    ThreadSettings& settings = image.threads[0].settings;
    settings.scheduling = SchedulingSetting{
        0, SCHED_FIFO, 1, -7, 33, 1'000'000'000'000, 2'000'000'000'000, 3'000'000'000'000, 5, 900};
    settings.processors = {0x8000000000000001, 0, 7};
    settings.io_priority = 0x4006;
    settings.personality = 0x0040000;
    settings.memory_policy = MemoryPolicy{0x8002, {1, 2}};
    settings.prctl = {{PR_SET_TIMERSLACK, UINT64_MAX}, {PR_SET_NO_NEW_PRIVS, 1}};
    settings.credentials = Credentials{
        {1, 2, 3, UINT32_MAX - 1}, {5, 6, 7, 8}, {9, 10, 10}, 1, 2, uint64_t{1} << 40, 4, 5};
    image.process.prctl = {{PR_SET_DUMPABLE, 0}, {PR_SET_THP_DISABLE, 3}};
    image.process.aio = {{0x7000, 128, {{1, 2, -3, INT64_MIN}, {UINT64_MAX, 0, 0, 0}}},
                         {0x9000, 1, {}}};
    image.process.oom_score = -500;
    image.process.leads = KM_LEADS_GROUP | KM_LEADS_TERMINAL;
    image.policies = {{TestMemory::kStart, TestMemory::kStart + 4096, {1, {}}},
                      {KM_GUEST_END - 4096, KM_GUEST_END, {2, {1}}}};
    return image;
  }

  // The writer reads its own head as a reader would.
  absl::StatusOr<Image> Trip(const Image& image) {
    const std::string path = directory_.File("kmsnap");
    const absl::Status status = WriteSnapshot(image, memory_.Source(), path, {});
    return status.ok() ? ParseFile(path) : status;
  }

  std::string Message(const Image& image) { return std::string(Trip(image).status().message()); }

  TestDirectory directory_;
  TestMemory memory_;
};

TEST_F(Settings, OfAThread) {
  const Image image = WithSettings();
  const absl::StatusOr<Image> back = Trip(image);
  ASSERT_TRUE(back.ok()) << back.status();
  ExpectSameImage(image, *back);
  const ThreadSettings& settings = back->threads[0].settings;
  ASSERT_TRUE(settings.scheduling.has_value());
  EXPECT_EQ(settings.scheduling->policy, static_cast<uint32_t>(SCHED_FIFO));
  EXPECT_EQ(settings.scheduling->flags, 1u);
  EXPECT_EQ(settings.scheduling->nice, -7);
  EXPECT_EQ(settings.scheduling->priority, 33u);
  EXPECT_EQ(settings.scheduling->runtime, 1'000'000'000'000u);
  EXPECT_EQ(settings.scheduling->deadline, 2'000'000'000'000u);
  EXPECT_EQ(settings.scheduling->period, 3'000'000'000'000u);
  EXPECT_EQ(settings.scheduling->util_min, 5u);
  EXPECT_EQ(settings.scheduling->util_max, 900u);
  EXPECT_THAT(settings.processors, ElementsAre(0x8000000000000001, 0, 7));
  EXPECT_EQ(settings.io_priority, 0x4006u);
  EXPECT_EQ(settings.personality, 0x0040000u);
  ASSERT_TRUE(settings.memory_policy.has_value());
  EXPECT_EQ(settings.memory_policy->mode, 0x8002u);
  EXPECT_THAT(settings.memory_policy->nodes, ElementsAre(1, 2));
  ASSERT_EQ(settings.prctl.size(), 2u);
  EXPECT_EQ(settings.prctl[0].option, static_cast<uint32_t>(PR_SET_TIMERSLACK));
  EXPECT_EQ(settings.prctl[0].value, UINT64_MAX);
  ASSERT_TRUE(settings.credentials.has_value());
  EXPECT_EQ(*settings.credentials, *image.threads[0].settings.credentials);
  EXPECT_TRUE(back->threads[1].settings.empty());
}

TEST_F(Settings, OfTheProcessAndItsMemory) {
  const absl::StatusOr<Image> back = Trip(WithSettings());
  ASSERT_TRUE(back.ok()) << back.status();
  ASSERT_EQ(back->process.prctl.size(), 2u);
  EXPECT_EQ(back->process.prctl[1].option, static_cast<uint32_t>(PR_SET_THP_DISABLE));
  EXPECT_EQ(back->process.prctl[1].value, 3u);
  EXPECT_EQ(back->process.oom_score, -500);
  EXPECT_EQ(back->process.leads, KM_LEADS_GROUP | KM_LEADS_TERMINAL);
  ASSERT_EQ(back->process.aio.size(), 2u);
  EXPECT_EQ(back->process.aio[0].name, 0x7000u);
  EXPECT_EQ(back->process.aio[0].room, 128u);
  ASSERT_EQ(back->process.aio[0].ready.size(), 2u);
  EXPECT_EQ(back->process.aio[0].ready[0].res, -3);
  EXPECT_EQ(back->process.aio[0].ready[0].res2, INT64_MIN);
  EXPECT_EQ(back->process.aio[0].ready[1].data, UINT64_MAX);
  EXPECT_TRUE(back->process.aio[1].ready.empty());
  ASSERT_EQ(back->policies.size(), 2u);
  EXPECT_EQ(back->policies[0].start, uint64_t{TestMemory::kStart});
  EXPECT_EQ(back->policies[0].policy.mode, 1u);
  EXPECT_EQ(back->policies[1].end, KM_GUEST_END);
  EXPECT_THAT(back->policies[1].policy.nodes, ElementsAre(1));
}

TEST_F(Settings, OptionsThatASnapshotDoesNotHold) {
  for (const uint32_t option : {0u, 15u /* PR_SET_NAME */, 22u /* PR_SET_SECCOMP */, UINT32_MAX,
                                uint32_t{PR_SET_DUMPABLE}}) {
    Image image = WithSettings();
    image.threads[1].settings.prctl = {{option, 1}};
    EXPECT_THAT(Message(image), HasSubstr("a setting is impossible or unknown")) << option;
  }
  Image image = WithSettings();
  image.process.prctl = {{PR_SET_TIMERSLACK, 1}};
  EXPECT_THAT(Message(image), HasSubstr("a setting is impossible or unknown"));
}

TEST_F(Settings, ContextsOfAsynchronousIo) {
  Image image = WithSettings();
  image.process.aio[1].name = image.process.aio[0].name;
  EXPECT_THAT(Message(image), HasSubstr("a setting is impossible"));
  image.process.aio[1].name = 0;
  EXPECT_THAT(Message(image), HasSubstr("a setting is impossible"));
}

TEST_F(Settings, ImpossibleOnes) {
  for (const auto& [start, end] : {std::pair<uint64_t, uint64_t>{4096, 4096},
                                   {8192, 4096},
                                   {1, 4096},
                                   {0, 4097},
                                   {0, KM_GUEST_END + 4096},
                                   {UINT64_MAX - 4095, UINT64_MAX}}) {
    Image image = WithSettings();
    image.policies = {{start, end, {1, {1}}}};
    EXPECT_THAT(Message(image), HasSubstr("a setting is impossible")) << start << " " << end;
  }
  Image image = WithSettings();
  image.policies[0].policy.nodes.assign(1025, 1);
  EXPECT_THAT(Message(image), HasSubstr("a setting is impossible"));
  image = WithSettings();
  image.threads[0].settings.processors.assign(1025, 1);
  EXPECT_THAT(Message(image), HasSubstr("a setting is impossible"));
  image = WithSettings();
  image.threads[0].settings.memory_policy->nodes.assign(1025, 1);
  EXPECT_THAT(Message(image), HasSubstr("a setting is impossible"));
}

}  // namespace
}  // namespace km
