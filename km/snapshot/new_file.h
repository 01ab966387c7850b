// A file that is there under its name when it is complete, or not at all.
#ifndef KM_SNAPSHOT_NEW_FILE_H_
#define KM_SNAPSHOT_NEW_FILE_H_

#include <string>

#include "absl/status/status.h"
#include "km/base/owned.h"

namespace km {

// Until Commit it has no name, so that nothing of it is left whoever is killed (O_TMPFILE); on file
// systems without such files it is .kmsnap-... beside its place. For one thread.
class NewFile {
 public:
  // What becomes of a symbolic link at the place: the file that it names is replaced, or the link
  // itself, as anything but a directory is then. Who makes a link cannot know what it will replace.
  enum class Links { kFollow, kReplace };

  explicit NewFile(Links links = Links::kFollow) : links_(links) {}
  ~NewFile();
  NewFile(const NewFile&) = delete;
  NewFile& operator=(const NewFile&) = delete;

  // Whether Create would find a place for `path` where this thread may make files: otherwise the
  // error of the host. It makes nothing.
  static absl::Status MayCreate(const std::string& path);

  // Mode 0600, open for reading and writing, for the place `path`. With kFollow anything but a
  // regular file in the way is EINVAL or EISDIR.
  absl::Status Create(const std::string& path);
  // Replaces what is at the place; where that fails it is as it was. Not to be used after this.
  absl::Status Commit(bool sync);

  int fd() const { return fd_.get(); }
  // The path that it has until Commit, on a file system where it must have one; otherwise empty.
  const std::string& name() const { return name_; }

 private:
  absl::Status FindPlace(const std::string& path);
  absl::Status GiveName();

  const Links links_;
  std::string target_, directory_;  // the latter with a slash at its end
  std::string name_;                // that it has for the time being; empty: none
  OwnedFd fd_;
};

}  // namespace km

#endif  // KM_SNAPSHOT_NEW_FILE_H_
