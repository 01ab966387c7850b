// A program's descriptors across a snapshot, without a program and without a machine.
#ifndef TESTS_UNIT_FILES_RESUMED_FILES_H_
#define TESTS_UNIT_FILES_RESUMED_FILES_H_

#include <sched.h>
#include <unistd.h>

#include <cerrno>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "km/base/status.h"
#include "km/files/fd_table.h"
#include "km/files/file_restorer.h"
#include "km/files/file_saver.h"
#include "km/files/unnamed_file.h"

namespace km {

class ResumedFiles {
 public:
  // Takes `host`.
  void Put(int number, int host, bool foreign = false) {
    auto description = std::make_shared<FileDescription>();
    description->kind = KindOfHostFd(host);
    description->foreign = foreign;
    Put(number, std::make_shared<OpenFile>(OwnedFd(host), std::move(description)));
  }
  void Put(int number, std::shared_ptr<OpenFile> file) {
    table_->InstallAt(static_cast<uint64_t>(number), std::move(file), false);
  }
  // The host's descriptor of what the program has as `number`.
  int Host(int number) const { return table_->Get(static_cast<uint64_t>(number))->host.get(); }
  const FileDescription& Description(int number) const {
    return *table_->Get(static_cast<uint64_t>(number))->description;
  }

  // A snapshot, after which all goes on: why it could not be taken.
  std::vector<std::string> Save() {
    FileSaver saver(*table_, 1 << 20, false);
    return Save(saver);
  }
  // A snapshot, the end of the process, and a resume.
  absl::Status Resume() {
    auto saver = std::make_unique<FileSaver>(*table_, 1 << 20, false);
    const std::vector<std::string> obstacles = Save(*saver);
    if (!obstacles.empty()) return absl::FailedPreconditionError(obstacles[0]);
    return Restore(std::move(saver), false);
  }
  // The same with --tcp=keep. What holds connections ends with the descriptors of the process,
  // which another thread has here.
  absl::Status ResumeWithTcp() {
    // Never destroyed: they must not go on.
    static auto* const held = new std::vector<HeldConnections>();
    auto saver = std::make_unique<FileSaver>(*table_, 1 << 20, true);
    absl::Status status;
    std::thread process([&] {
      if (unshare(CLONE_FILES) != 0) {
        status = ErrnoStatus(errno, "unshare");
        return;
      }
      const std::vector<std::string> obstacles = Save(*saver);
      if (!obstacles.empty()) status = absl::FailedPreconditionError(obstacles[0]);
      close_range(3, ~0U, 0);  // its own; left to its end they are closed some time later
    });
    process.join();
    held->push_back(std::move(saver->connections));
    KM_RETURN_IF_ERROR(status);
    return Restore(std::move(saver), true);
  }

  uint64_t limit = 4096;  // of the process that is resumed
  // Called when the process has ended, before it is resumed.
  std::function<void()> meanwhile = [] {};

 private:
  static std::vector<std::string> Save(FileSaver& saver) {
    std::vector<std::string> obstacles;
    saver.SaveAll(&obstacles);
    return obstacles;
  }
  absl::Status Restore(std::unique_ptr<FileSaver> saver, bool keep_tcp) {
    const std::vector<FileRecord> records = saver->descriptions;
    const std::vector<DescriptorRecord> descriptors = saver->descriptors;
    std::vector<MemoryObject> objects;
    absl::flat_hash_map<uint64_t, OwnedFd> memory;
    const absl::flat_hash_map<uint64_t, uint32_t> modes = ModesOf(records);
    for (const FileSaver::SavedObject& saved : saver->TakeObjects()) {
      const auto mode = modes.find(saved.object.address);
      KM_ASSIGN_OR_RETURN(
          OwnedFd made,
          MakeMemoryObject(saved.object,
                           mode != modes.end() ? std::optional(mode->second) : std::nullopt));
      const auto size = static_cast<ssize_t>(saved.object.size);
      if (pwrite(made.get(), saved.bytes.data(), saved.object.size, 0) != size) {
        return ErrnoStatus(errno, "pwrite");
      }
      if (SealedBeforeMapped(saved.object)) {
        KM_RETURN_IF_ERROR(SealMemoryObject(saved.object, made.get()));
      }
      objects.push_back(saved.object);
      memory[saved.object.address] = std::move(made);
    }
    saver.reset();  // which has the files open, too
    table_ = std::make_unique<FdTable>(limit);
    meanwhile();
    FileOptions options;
    options.keep_tcp = keep_tcp;
    FileRestorer restorer(*table_, options, records, memory);
    KM_RETURN_IF_ERROR(restorer.Supply(descriptors, 0));
    KM_RETURN_IF_ERROR(restorer.RestoreAll(descriptors, 0));
    (void)restorer.TakeMadeQueues();
    for (const MemoryObject& object : objects) {
      KM_RETURN_IF_ERROR(SealMemoryObject(object, memory[object.address].get()));
    }
    for (const auto& work : restorer.TakeLast()) KM_RETURN_IF_ERROR(work());
    return absl::OkStatus();
  }

  std::unique_ptr<FdTable> table_ = std::make_unique<FdTable>(4096);
};

}  // namespace km

#endif  // TESTS_UNIT_FILES_RESUMED_FILES_H_
