#include "km/control/client.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include "km/base/owned.h"
#include "km/base/status.h"

namespace km {
namespace {

// A monitor as far as a socket goes: the test says what it answers.
class ControlClientTest : public ::testing::Test {
 protected:
  ControlClientTest() : path_(::testing::TempDir() + "km-client-test-" + std::to_string(getpid())) {
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    memcpy(address.sun_path, path_.data(), path_.size());
    listener_ = OwnedFd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    EXPECT_EQ(bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    EXPECT_EQ(listen(listener_.get(), 0), 0);
  }
  ~ControlClientTest() override { unlink(path_.c_str()); }

  ControlClient Connected() {
    absl::StatusOr<ControlClient> client = ControlClient::Connect(path_, absl::Milliseconds(20));
    EXPECT_TRUE(client.ok()) << client.status();
    monitor_ = OwnedFd(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    return *std::move(client);
  }
  void Answer(const Json& message) {
    const std::string frame = EncodeFrame(message);
    EXPECT_EQ(write(monitor_.get(), frame.data(), frame.size()),
              static_cast<ssize_t>(frame.size()));
  }

  const std::string path_;
  OwnedFd listener_, monitor_;
};

TEST_F(ControlClientTest, TakesAnAnswerWhenItIsThere) {
  ControlClient client = Connected();
  client.Send({{"verb", "info"}});
  for (int i = 0; i < 2; ++i) {
    absl::StatusOr<std::optional<Json>> none = client.TakeAnswer();
    ASSERT_TRUE(none.ok()) << none.status();
    EXPECT_FALSE(none->has_value());
    if (i == 0) Answer({{"event", "progress"}});
  }
  Answer({{"ok", true}, {"result", {{"pid", 17}}}});
  absl::StatusOr<std::optional<Json>> answer = client.TakeAnswer();
  ASSERT_TRUE(answer.ok()) << answer.status();
  ASSERT_TRUE(answer->has_value());
  EXPECT_EQ((**answer)["pid"], 17);
}

TEST_F(ControlClientTest, TellsOfARefusalAndOfTheEnd) {
  ControlClient client = Connected();
  client.Send({{"verb", "info"}});
  Answer({{"ok", false}, {"error", {{"message", "not now"}}}});
  EXPECT_EQ(client.TakeAnswer().status().message(), "not now");
  monitor_ = OwnedFd();  // the request was never read: the connection is reset
  const absl::Status end = client.TakeAnswer().status();
  EXPECT_TRUE(absl::IsUnavailable(end));
  EXPECT_EQ(end.message(), "the monitor went away without an answer");
}

TEST_F(ControlClientTest, PatienceEnds) {
  ControlClient client = Connected();
  EXPECT_EQ(ErrnoOf(client.Call({{"verb", "info"}}).status()), EAGAIN);
  // Those that nobody accepts: some have room, then there is none.
  absl::Status status;
  std::vector<ControlClient> waiting;
  while (status.ok() && waiting.size() < 10) {
    absl::StatusOr<ControlClient> one = ControlClient::Connect(path_, absl::Milliseconds(20));
    status = one.status();
    if (one.ok()) waiting.push_back(*std::move(one));
  }
  EXPECT_EQ(ErrnoOf(status), EAGAIN) << status;
}

}  // namespace
}  // namespace km
