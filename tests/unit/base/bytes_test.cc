#include "km/base/bytes.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

namespace km {
namespace {

TEST(Bytes, NumbersAreLittleEndian) {
  ByteWriter out;
  out.U8(1);
  out.U32(0x05040302);
  out.U64(0x0d0c0b0a09080706);
  out.I64(-2);
  EXPECT_EQ(out.span()[1], 2);
  ByteReader in(out.span());
  EXPECT_EQ(in.U8(), 1);
  EXPECT_EQ(in.U32(), 0x05040302u);
  EXPECT_EQ(in.U64(), 0x0d0c0b0a09080706u);
  EXPECT_EQ(in.I64(), -2);
  EXPECT_TRUE(in.ok());
  EXPECT_TRUE(in.empty());
}

TEST(Bytes, ReadingPastTheEndFailsForGood) {
  const std::vector<uint8_t> bytes = {1, 2, 3, 4, 5};
  ByteReader in(bytes);
  EXPECT_EQ(in.U64(), 0u);
  EXPECT_FALSE(in.ok());
  EXPECT_EQ(in.U8(), 0);
  EXPECT_TRUE(in.Bytes(1).empty());
  EXPECT_FALSE(in.ok());
}

TEST(Bytes, HugeCountsDoNotWrap) {
  const std::vector<uint8_t> bytes = {1, 2, 3};
  for (const uint64_t count : {uint64_t{4}, uint64_t{UINT32_MAX}, UINT64_MAX}) {
    ByteReader in(bytes);
    EXPECT_TRUE(in.Bytes(count).empty());
    EXPECT_FALSE(in.ok());
  }
}

TEST(Bytes, RecordsArePaddedAndBounded) {
  ByteWriter out;
  out.TextRecord(7, "hello");
  out.U64Record(8, 9);
  EXPECT_EQ(out.size(), 32u);
  ByteReader in(out.span());
  uint32_t tag = 0;
  ByteReader value;
  ASSERT_TRUE(in.Record(&tag, &value));
  EXPECT_EQ(tag, 7u);
  EXPECT_EQ(value.Text(), "hello");
  ASSERT_TRUE(in.Record(&tag, &value));
  EXPECT_EQ(value.U64(), 9u);
  EXPECT_EQ(value.U8(), 0);
  EXPECT_FALSE(value.ok());
  EXPECT_FALSE(in.Record(&tag, &value));
  EXPECT_TRUE(in.ok());
}

TEST(Bytes, RecordThatDoesNotFitIsAnError) {
  for (const uint32_t length : {9u, UINT32_MAX - 1, UINT32_MAX}) {
    ByteWriter out;
    out.U64Record(1, 2);
    out.PatchU32(4, length);
    ByteReader in(out.span());
    uint32_t tag = 0;
    ByteReader value;
    EXPECT_FALSE(in.Record(&tag, &value));
    EXPECT_FALSE(in.ok());
  }
}

TEST(Bytes, CountedTextIsBounded) {
  ByteWriter out;
  out.CountedText("abc");
  EXPECT_EQ(ByteReader(out.span()).CountedText(), "abc");
  out.PatchU32(0, UINT32_MAX);
  ByteReader in(out.span());
  EXPECT_EQ(in.CountedText(), "");
  EXPECT_FALSE(in.ok());
}

}  // namespace
}  // namespace km
