#include "km/control/protocol.h"

#include <gtest/gtest.h>

namespace km {
namespace {

std::string Frame(absl::string_view body) {
  const auto size = static_cast<uint32_t>(body.size());
  std::string frame;
  for (int i = 0; i < 4; ++i) frame.push_back(static_cast<char>(size >> (8 * i)));
  return frame + std::string(body);
}

TEST(FrameReaderTest, CutsWhatComesInPieces) {
  const Json message = {{"verb", "info"}, {"id", 7}};
  const std::string bytes = EncodeFrame(message) + EncodeFrame(message);
  FrameReader reader(kMaxRequest);
  int found = 0;
  for (const char byte : bytes) {
    reader.Append({&byte, 1});
    if (!reader.Ready()) continue;
    const absl::StatusOr<Json> read = reader.Next();
    ASSERT_TRUE(read.ok()) << read.status();
    EXPECT_EQ(*read, message);
    ++found;
  }
  EXPECT_EQ(found, 2);
}

TEST(FrameReaderTest, RefusesWhatIsNoObjectAndGoesOn) {
  for (const char* body : {"", "{", "[1]", "3", "\"x\"", "{}x", "\xff"}) {
    FrameReader reader(kMaxRequest);
    reader.Append(Frame(body));
    reader.Append(Frame("{}"));
    ASSERT_TRUE(reader.Ready());
    EXPECT_TRUE(absl::IsInvalidArgument(reader.Next().status())) << body;
    ASSERT_TRUE(reader.Ready());
    EXPECT_TRUE(reader.Next().ok()) << body;
  }
}

TEST(FrameReaderTest, RefusesWhatIsNestedDeeply) {
  const auto nested = [](int depth) {
    return "{\"id\":" + std::string(static_cast<size_t>(depth - 1), '[') +
           std::string(static_cast<size_t>(depth - 1), ']') + "}";
  };
  FrameReader reader(kMaxAnswer);
  reader.Append(Frame(nested(32)));
  reader.Append(Frame(nested(33)));
  reader.Append(Frame(nested(1'000'000)));
  reader.Append(Frame("{}"));
  EXPECT_TRUE(reader.Next().ok());
  EXPECT_TRUE(absl::IsInvalidArgument(reader.Next().status()));
  EXPECT_TRUE(absl::IsInvalidArgument(reader.Next().status()));
  EXPECT_TRUE(reader.Next().ok());
}

TEST(FrameReaderTest, RefusesALengthBeyondTheLimitBeforeItsBytesCome) {
  FrameReader reader(10);
  reader.Append(absl::string_view("\x0b\0\0\0", 4));
  ASSERT_TRUE(reader.Ready());
  EXPECT_TRUE(absl::IsResourceExhausted(reader.Next().status()));
  FrameReader exact(10);
  exact.Append(Frame("{\"a\":\"b\"} "));
  ASSERT_TRUE(exact.Ready());
  EXPECT_TRUE(exact.Next().ok());
}

TEST(ProtocolTest, MembersHaveTheirTypes) {
  const Json object = Json::parse(R"({"text":"a","nul":"a\u0000b","flag":true,"number":-3})");
  EXPECT_EQ(*TextOr(object, "text", "x"), "a");
  EXPECT_EQ(*TextOr(object, "absent", "x"), "x");
  EXPECT_FALSE(TextOr(object, "nul", "x").ok());
  EXPECT_FALSE(TextOr(object, "flag", "x").ok());
  EXPECT_TRUE(*FlagOr(object, "flag", false));
  EXPECT_FALSE(FlagOr(object, "number", false).ok());
  EXPECT_EQ(*NumberOr(object, "number", 1), -3);
  EXPECT_EQ(*NumberOr(object, "absent", 1), 1);
  EXPECT_FALSE(NumberOr(object, "text", 1).ok());
}

TEST(ProtocolTest, TextThatIsNotUtf8IsReplaced) {
  const std::string frame = EncodeFrame({{"path", "a\xff"}});
  EXPECT_NE(frame.find("\xef\xbf\xbd"), std::string::npos);
}

}  // namespace
}  // namespace km
