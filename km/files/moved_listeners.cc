// --listen: sockets of a snapshot that are bound elsewhere when it is resumed.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "km/base/host_files.h"
#include "km/base/status.h"
#include "km/files/socket_state.h"
#include "km/files/supplied.h"

namespace km {
namespace {

std::string OptionText(const MovedListener& listener) {
  return absl::StrCat("--listen ", listener.from, "=", listener.to);
}

// Others have no address, or one that came with a connection.
bool CanMove(const SocketState& state) {
  return !state.name.empty() &&
         (state.condition == KM_SOCKET_LISTENING ||
          (state.type == SOCK_DGRAM && state.condition == KM_SOCKET_IDLE && state.peer.empty()));
}

struct Candidate {
  const FileRecord* record;
  SocketState state;
  bool moved = false;
};

absl::StatusOr<std::vector<Candidate>> Candidates(absl::Span<const FileRecord> records) {
  std::vector<Candidate> candidates;
  for (const FileRecord& record : records) {
    if (record.kind != FileKind::kSocket) continue;
    KM_ASSIGN_OR_RETURN(SocketState state, DecodeSocket(record));
    if (CanMove(state)) candidates.push_back({&record, std::move(state)});
  }
  return candidates;
}

absl::Status NoSuchListener(const MovedListener& listener, absl::Span<const Candidate> candidates) {
  return absl::NotFoundError(absl::StrCat(
      OptionText(listener), ": the snapshot has no listener there",
      candidates.empty() ? ", nor any other" : "; it has ",
      absl::StrJoin(candidates, ", ", [](std::string* out, const Candidate& candidate) {
        *out += SocketPlaceText(candidate.state);
      })));
}

// A relative path is the launcher's, not the program's.
absl::StatusOr<SocketPlace> PlaceOf(const std::string& text) {
  KM_ASSIGN_OR_RETURN(SocketPlace place, ParseSocketPlace(text));
  if (place.family != AF_UNIX || place.path[0] == '/' || place.path[0] == '\0') return place;
  KM_ASSIGN_OR_RETURN(place.path, AbsolutePath(place.path));
  return place;
}

absl::Status MoveOne(const MovedListener& listener, std::vector<Candidate>* candidates,
                     std::vector<FileRecord>* changed) {
  auto refused = [&listener](absl::string_view why) {
    return absl::InvalidArgumentError(absl::StrCat(OptionText(listener), ": ", why));
  };
  KM_ASSIGN_OR_RETURN(SocketPlace from, ParseSocketPlace(listener.from));
  KM_ASSIGN_OR_RETURN(SocketPlace to, PlaceOf(listener.to));
  bool found = false;
  for (Candidate& candidate : *candidates) {
    const auto& file = candidate.state.file;
    const bool renamed = file.has_value() && !file->path.empty() && file->path == from.path;
    if (!renamed && !IsAtPlace(candidate.state.name, from)) continue;
    found = true;
    if (candidate.moved) {
      return refused(
          absl::StrCat("another --listen moves ", SocketPlaceText(candidate.state), " already"));
    }
    SocketState state = candidate.state;
    absl::StatusOr<SocketAddress> name = AtPlace(state.name, to);
    if (!name.ok()) return refused(name.status().message());
    state.name = *std::move(name);
    state.port_chosen = false;  // any more
    // What was removed is of no use under its new name either; whoever moves it wants it found.
    const bool none = SocketPath(state.name).empty();
    if (none || (state.file.has_value() && state.file->removed)) state.file.reset();
    if (state.file.has_value()) state.file->path.clear();
    ByteWriter out;
    EncodeSocket(state, &out);
    FileRecord& record = changed->emplace_back(*candidate.record);
    record.state = out.Take();
    candidate.moved = true;
  }
  return found ? absl::OkStatus() : NoSuchListener(listener, *candidates);
}

}  // namespace

absl::StatusOr<MovedListener> ParseMovedListener(absl::string_view text) {
  const size_t equals = text.find('=');
  if (equals == text.npos) {
    return absl::InvalidArgumentError(absl::StrCat("--listen takes OLD=NEW, not '", text, "'"));
  }
  MovedListener listener{std::string(text.substr(0, equals)), std::string(text.substr(equals + 1))};
  for (const std::string* place : {&listener.from, &listener.to}) {
    if (absl::Status status = ParseSocketPlace(*place).status(); !status.ok()) {
      return absl::InvalidArgumentError(absl::StrCat("--listen: ", status.message()));
    }
  }
  return listener;
}

absl::Status MoveListeners(absl::Span<const MovedListener> moved,
                           absl::Span<const FileRecord> records, std::vector<FileRecord>* changed) {
  if (moved.empty()) return absl::OkStatus();
  KM_ASSIGN_OR_RETURN(std::vector<Candidate> candidates, Candidates(records));
  for (const MovedListener& listener : moved) {
    KM_RETURN_IF_ERROR(MoveOne(listener, &candidates, changed));
  }
  return absl::OkStatus();
}

}  // namespace km
