#include "km/files/socket_address.h"

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/un.h>

namespace km {
namespace {

SocketAddress At(const char* text, SocketAddress like) {
  absl::StatusOr<SocketPlace> place = ParseSocketPlace(text);
  EXPECT_TRUE(place.ok()) << place.status();
  absl::StatusOr<SocketAddress> moved = AtPlace(like, *place);
  return moved.ok() ? *moved : SocketAddress();
}

SocketAddress Family(sa_family_t family, size_t size) {
  SocketAddress address(size);
  address[0] = static_cast<uint8_t>(family);
  return address;
}
SocketAddress In() { return Family(AF_INET, sizeof(sockaddr_in)); }
SocketAddress In6() { return Family(AF_INET6, sizeof(sockaddr_in6)); }
SocketAddress Un() { return Family(AF_UNIX, sizeof(sa_family_t)); }

TEST(SocketAddress, IsWrittenAsItIsRead) {
  EXPECT_EQ(SocketAddressText(At("1.2.3.4:80", In())), "1.2.3.4:80");
  EXPECT_EQ(SocketAddressText(At(":80", In())), "0.0.0.0:80");
  EXPECT_EQ(SocketAddressText(At("[::1]:8080", In6())), "[::1]:8080");
  EXPECT_EQ(SocketAddressText(At("1.2.3.4:80", In6())), "[::ffff:1.2.3.4]:80");
  EXPECT_EQ(SocketAddressText(At("a/b:80", Un())), "a/b:80");
  EXPECT_EQ(SocketAddressText(At("sock", Un())), "sock");
  EXPECT_EQ(SocketAddressText(At("@name", Un())), "@name");
  EXPECT_EQ(SocketAddressText({}), "");
}

TEST(SocketAddress, IsFoundByItsPlace) {
  const SocketAddress four = At("1.2.3.4:80", In()), path = At("/a/b", Un());
  EXPECT_TRUE(IsAtPlace(four, *ParseSocketPlace("1.2.3.4:80")));
  EXPECT_TRUE(IsAtPlace(four, *ParseSocketPlace(":80")));
  EXPECT_FALSE(IsAtPlace(four, *ParseSocketPlace(":81")));
  EXPECT_FALSE(IsAtPlace(four, *ParseSocketPlace("1.2.3.5:80")));
  EXPECT_FALSE(IsAtPlace(four, *ParseSocketPlace("[::1]:80")));
  EXPECT_TRUE(IsAtPlace(path, *ParseSocketPlace("/a/b")));
  EXPECT_FALSE(IsAtPlace(path, *ParseSocketPlace("@/a/b")));
  EXPECT_FALSE(IsAtPlace(path, *ParseSocketPlace(":80")));
  EXPECT_FALSE(IsAtPlace({}, *ParseSocketPlace(":80")));
}

TEST(SocketAddress, OthersAreRefused) {
  for (const char* text : {"", "@", ":", ":0", ":65536", ":x", "1.2.3:80", "::1:80", "[::1]",
                           "[::1:80", "[1.2.3.4]:80", "host:80"}) {
    EXPECT_FALSE(ParseSocketPlace(text).ok()) << text;
  }
}

TEST(SocketAddress, FamiliesDoNotMix) {
  EXPECT_TRUE(At("[::1]:80", In()).empty());
  EXPECT_TRUE(At("/a", In()).empty());
  EXPECT_TRUE(At(":80", Un()).empty());
  EXPECT_TRUE(At(":80", Family(AF_NETLINK, 12)).empty());
}

TEST(SocketAddress, APathFitsOrIsRefused) {
  const size_t most = sizeof(sockaddr_un::sun_path);
  EXPECT_FALSE(At(("/" + std::string(most - 2, 'x')).c_str(), Un()).empty());
  EXPECT_TRUE(At(("/" + std::string(most - 1, 'x')).c_str(), Un()).empty());
  EXPECT_FALSE(At(("@" + std::string(most - 1, 'x')).c_str(), Un()).empty());
  EXPECT_TRUE(At(("@" + std::string(most, 'x')).c_str(), Un()).empty());
}

TEST(SocketAddress, CutAddressesAreRead) {
  for (size_t size = 0; size < sizeof(sockaddr_in6); ++size) {
    SocketAddress cut = At("[1:2:3:4:5:6:7:8]:80", In6());
    cut.resize(size);
    SocketAddressText(cut);
    EXPECT_FALSE(IsAtPlace(cut, *ParseSocketPlace("[1:2:3:4:5:6:7:8]:81")));
  }
}

}  // namespace
}  // namespace km
