// libFuzzer target: what clients ask of a monitor over its control socket. The monitor runs, on a
// machine that never does (no_kvm.cc), and this is its client. Each request that arrives whole has
// to be answered, once. `make fuzz` builds and runs it; see docs/testing.md.
//
// An input is a list of requests of one client, each with members that the verbs know, of any type;
// between them there may be bytes that are no request.
#include <fcntl.h>
#include <fuzzer/FuzzedDataProvider.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "km/base/owned.h"
#include "km/base/passed_descriptor.h"
#include "km/control/protocol.h"
#include "km/monitor/monitor.h"
#include "tests/fuzz/confine.h"
#include "tests/fuzz/faults.h"

namespace {

using km::Json;
using km::OwnedFd;

constexpr char kSocket[] = "/w/control", kFile[] = "/w/sent";
constexpr int kPatienceMs = 20000;

const char* const kVerbs[] = {"info",  "pause",  "resume", "check", "snapshot", "signal",   "trace",
                              "stats", "supply", "wait",   "end",   "",         "snapshot", "none"};
const char* const kMembers[] = {"path",          "label", "description", "stop",   "keep_tcp",
                                "keep_dontdump", "base",  "fd",          "signal", "on",
                                "filter",        "count", "version"};
const char* const kTexts[] = {"/w/a",     "/w/b", "/w/missing/c",       "/w",
                              "relative", "",     "/dev/null",          "/w/a/below",
                              "^m",       "[",    "/w/../w/b",          "/w/sent",
                              "\xff\xfe", "a\n",  "(((((((((a*)*)*)*)*"};

int connector = -1;  // asks the process that connects for another connection

[[noreturn]] void Fail(const char* what) {
  fprintf(stderr, "desk: %s\n", what);
  abort();
}

// ---- Connections ----

// The rest of a long one is dropped, as by a client that goes away.
void SendWith(int socket, absl::string_view bytes, int descriptor) {
  (void)km::SendWithDescriptor(socket, bytes, descriptor);
}

OwnedFd Connect() {
  OwnedFd client(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un name = {};
  name.sun_family = AF_UNIX;
  snprintf(name.sun_path, sizeof(name.sun_path), "%s", kSocket);
  const auto* address = reinterpret_cast<const sockaddr*>(&name);
  return connect(client.get(), address, sizeof(name)) == 0 ? std::move(client) : OwnedFd();
}

// The monitor refuses its own process, which this is: another one connects, and sends what it got.
void StartConnector() {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) Fail("socketpair");
  const pid_t child = fork();
  if (child < 0) Fail("fork");
  if (child == 0) {
    close(ends[0]);
    for (char byte; read(ends[1], &byte, 1) == 1;) {
      const OwnedFd client = Connect();
      SendWith(ends[1], "x", client.get());
    }
    _exit(0);
  }
  close(ends[1]);
  connector = ends[0];
}

OwnedFd NewClient() {
  char byte = 0;
  OwnedFd client;
  if (write(connector, &byte, 1) != 1 ||
      km::ReceiveWithDescriptor(connector, &byte, 1, &client) != 1) {
    Fail("nobody connects");
  }
  if (!client.valid()) Fail("the monitor lets nobody connect");
  return client;
}

// ---- Requests ----

Json Value(FuzzedDataProvider& input, int depth = 0) {
  switch (input.ConsumeIntegralInRange<int>(0, depth < 3 ? 8 : 6)) {
    case 0:
      return input.ConsumeBool();
    case 1:
      return input.ConsumeIntegral<int64_t>();
    case 2:
      return input.ConsumeIntegralInRange<int>(-1, 70);
    case 3:
      return input.ConsumeFloatingPoint<double>();
    case 4:
      return nullptr;
    case 5:
      return std::string(input.ConsumeIntegralInRange<size_t>(0, 70000), 'x');
    case 6:
      return input.PickValueInArray(kTexts);
    case 7:
      return Json{{input.PickValueInArray(kMembers), Value(input, depth + 1)}};
    default:
      return Json::array({Value(input, depth + 1), Value(input, depth + 1)});
  }
}

// What is asked for is not the end of the program, and with it of this process.
void MakeHarmless(Json& request) {
  // Those that a program without handlers does not notice, and those that there are not.
  constexpr int kHarmless[] = {SIGCHLD, SIGURG, SIGWINCH, SIGCONT};
  Json& sig = request["signal"];
  if (sig.is_number() && sig >= 1 && sig <= 64) {
    sig = kHarmless[static_cast<unsigned>(sig.get<double>()) % std::size(kHarmless)];
  }
  if (request.contains("stop") && request["stop"] == true && request["verb"] == "snapshot") {
    request["path"] = "/w/missing/stop";
  }
}

Json Request(FuzzedDataProvider& input, int id) {
  Json request = {{"version", 1}, {"id", id}, {"verb", input.PickValueInArray(kVerbs)}};
  if (input.ConsumeProbability<float>() < 0.05F) request["verb"] = Value(input);
  const int members = input.ConsumeIntegralInRange<int>(0, 5);
  for (int i = 0; i < members; ++i) request[input.PickValueInArray(kMembers)] = Value(input);
  MakeHarmless(request);
  return request;
}

// What may come with a request; -1: nothing.
OwnedFd Descriptor(FuzzedDataProvider& input) {
  switch (input.ConsumeIntegralInRange<int>(0, 12)) {
    case 0:
      return OwnedFd(memfd_create("sent", MFD_CLOEXEC));
    case 1:
      return OwnedFd(open("/dev/null", O_RDWR | O_CLOEXEC));
    case 2:
    case 3:
      return OwnedFd(open(kFile, O_CREAT | O_TRUNC | O_RDWR | O_CLOEXEC, 0600));
    case 4:
      return OwnedFd(open(kFile, O_CREAT | O_APPEND | O_WRONLY | O_CLOEXEC, 0600));
    case 5:
      return OwnedFd(open("/w", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    default:
      return OwnedFd();
  }
}

// What is sent at once.
struct Sent {
  std::string frame;
  size_t cut = 0;  // where it comes in two pieces
  OwnedFd descriptor;
};

// The number behind `prefix`, which `text` begins with, and what follows that; -1: it is another
// text.
int NumberBehind(absl::string_view* text, absl::string_view prefix) {
  if (!absl::ConsumePrefix(text, prefix)) return -1;
  int number = -1;
  while (!text->empty() && absl::ascii_isdigit((*text)[0])) {
    number = std::max(number, 0) * 10 + ((*text)[0] - '0');
    text->remove_prefix(1);
  }
  return number;
}

// Requests, a bit for each id.
struct Asked {
  unsigned all = 0;   // an answer to others is wrong, and so is a second one
  unsigned sure = 0;  // are answered; of others the answer may come with the end of the program
};

// Takes the whole frames at the front of `bytes`, and from `asked` what they answer.
void TakeAnswers(absl::string_view* bytes, Asked* asked) {
  uint32_t length = 0;
  while (bytes->size() >= sizeof(length)) {
    memcpy(&length, bytes->data(), sizeof(length));
    if (bytes->size() - sizeof(length) < length) return;
    absl::string_view text = bytes->substr(sizeof(length), length);
    bytes->remove_prefix(sizeof(length) + length);
    const int id = NumberBehind(&text, R"({"version":1,"id":)");
    if (id < 0 || absl::StartsWith(text, R"(,"event":)")) continue;  // or of what was no request
    if (!absl::StartsWith(text, R"(,"ok":)")) Fail("an answer without 'ok'");
    if ((asked->all >> id & 1) == 0) Fail("an answer that nobody waits for");
    asked->all &= ~(1U << id);
    asked->sure &= ~(1U << id);
  }
}

// Until all that are sure to be are answered, or the monitor hears no more of this client. It
// allocates no memory: whoever writes a snapshot is a copy of this process, in which a lock of
// malloc's that is taken now stays so.
void AwaitAnswers(int client, Asked asked) {
  static char buffer[8 << 20];
  size_t filled = 0;
  while (asked.sure != 0) {
    pollfd look = {client, POLLIN, 0};
    if (poll(&look, 1, kPatienceMs) != 1) Fail("a request is not answered");
    const ssize_t length = recv(client, buffer + filled, sizeof(buffer) - filled, 0);
    if (length <= 0) return;  // it was dropped, for what it sent before
    absl::string_view bytes(buffer, filled + static_cast<size_t>(length));
    TakeAnswers(&bytes, &asked);
    memmove(buffer, bytes.data(), bytes.size());
    filled = bytes.size();
  }
}

// ---- The monitor ----

void StartMonitor() {
  char name[] = "km", control[] = "--control=/w/control", snapshot[] = "--snapshot=/w/default",
       program[] = "/usr/bin/true";
  char* arguments[] = {name, control, snapshot, program, nullptr};
  char* environment[] = {nullptr};
  absl::StatusOr<km::Options> options = km::ParseOptions(4, arguments, environment);
  if (!options.ok()) Fail(options.status().ToString().c_str());
  absl::StatusOr<std::unique_ptr<km::Monitor>> created = km::Monitor::Create(*options);
  if (!created.ok()) Fail(created.status().ToString().c_str());
  km::Monitor* const monitor = created->release();  // it runs to the end of the process
  km::KeepSanitizersHandlers();
  const absl::Status status = monitor->Load();
  if (!status.ok()) Fail(status.ToString().c_str());
  km::InstallFaultHandlers();
  std::thread([monitor] { monitor->Run(); }).detach();
}

}  // namespace

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  km::Confine(*argc, *argv);
  StartConnector();
  StartMonitor();
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  FuzzedDataProvider input(data, size);
  Asked asked;
  bool whole = true;  // all that is sent before is requests
  std::vector<Sent> all;
  for (int id = 0; id < 8 && input.remaining_bytes() > 0; ++id) {
    const Json request = Request(input, id);
    Sent sent = {km::EncodeFrame(request), 0, Descriptor(input)};
    whole = whole && sent.frame.size() <= km::kMaxRequest + sizeof(uint32_t);
    if (whole) asked.all |= 1U << id;
    if (whole && request["verb"] != "wait") asked.sure |= 1U << id;
    if (input.ConsumeBool()) sent.cut = input.ConsumeIntegralInRange<size_t>(0, sent.frame.size());
    all.push_back(std::move(sent));
  }
  const OwnedFd client = NewClient();
  for (const Sent& sent : all) {
    const absl::string_view frame = sent.frame;
    if (sent.cut != 0) SendWith(client.get(), frame.substr(0, sent.cut), -1);
    SendWith(client.get(), frame.substr(sent.cut), sent.descriptor.get());
  }
  AwaitAnswers(client.get(), asked);
  return 0;
}
