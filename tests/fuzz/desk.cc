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
#include <set>
#include <string>
#include <thread>

#include "km/base/owned.h"
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

void SendWith(int socket, const std::string& bytes, int descriptor) {
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  iovec part = {const_cast<char*>(bytes.data()), bytes.size()};
  msghdr message = {};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (descriptor >= 0) {
    message.msg_control = control;
    message.msg_controllen = sizeof(control);
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(header), &descriptor, sizeof(descriptor));
  }
  // The rest of a long one is dropped, as by a client that goes away.
  (void)!sendmsg(socket, &message, MSG_NOSIGNAL);
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
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
  char byte = 0;
  iovec part = {&byte, 1};
  msghdr message = {};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  if (write(connector, &byte, 1) != 1 || recvmsg(connector, &message, MSG_CMSG_CLOEXEC) != 1) {
    Fail("nobody connects");
  }
  const cmsghdr* header = CMSG_FIRSTHDR(&message);
  if (header == nullptr) Fail("the monitor lets nobody connect");
  int client;
  memcpy(&client, CMSG_DATA(header), sizeof(client));
  return OwnedFd(client);
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

// Answers until all of `asked` have come, or the monitor hears no more of this client.
void AwaitAnswers(int client, std::multiset<int> asked) {
  km::FrameReader reader(km::kMaxAnswer);
  char bytes[4096];
  while (!asked.empty()) {
    while (reader.Ready()) {
      const absl::StatusOr<Json> message = reader.Next();
      if (!message.ok()) Fail("an answer is no JSON object");
      if (message->contains("event")) continue;
      if (!(*message)["ok"].is_boolean()) Fail("an answer without 'ok'");
      if (!(*message)["id"].is_number_integer()) continue;  // of what was no request
      const auto found = asked.find((*message)["id"].get<int>());
      if (found == asked.end()) Fail("an answer that nobody waits for");
      asked.erase(found);
    }
    if (asked.empty()) return;
    pollfd look = {client, POLLIN, 0};
    if (poll(&look, 1, kPatienceMs) != 1) Fail("a request is not answered");
    const ssize_t length = recv(client, bytes, sizeof(bytes), 0);
    if (length <= 0) return;  // it was dropped, for what it sent before
    reader.Append({bytes, static_cast<size_t>(length)});
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
  static absl::StatusOr<std::unique_ptr<km::Monitor>> monitor = km::Monitor::Create(*options);
  if (!monitor.ok()) Fail(monitor.status().ToString().c_str());
  km::KeepSanitizersHandlers();
  const absl::Status status = (*monitor)->Load();
  if (!status.ok()) Fail(status.ToString().c_str());
  km::InstallFaultHandlers();
  std::thread([] { (*monitor)->Run(); }).detach();
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
  const OwnedFd client = NewClient();
  std::multiset<int> asked;
  bool whole = true;  // all that was sent before is requests
  for (int id = 0; id < 8 && input.remaining_bytes() > 0; ++id) {
    const Json request = Request(input, id);
    const std::string frame = km::EncodeFrame(request);
    const bool fits = frame.size() <= km::kMaxRequest + sizeof(uint32_t);
    // Its answer would come with the end of the program.
    if (whole && fits && request["verb"] != "wait") asked.insert(id);
    const OwnedFd sent = Descriptor(input);
    const size_t cut =
        input.ConsumeBool() ? input.ConsumeIntegralInRange<size_t>(0, frame.size()) : 0;
    if (cut != 0) SendWith(client.get(), frame.substr(0, cut), -1);
    SendWith(client.get(), frame.substr(cut), sent.get());
    if (!fits) whole = false;
  }
  AwaitAnswers(client.get(), asked);
  return 0;
}
