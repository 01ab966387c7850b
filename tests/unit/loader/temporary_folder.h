// A folder for one test, removed at its end.
#ifndef KM_TESTS_UNIT_LOADER_TEMPORARY_FOLDER_H_
#define KM_TESTS_UNIT_LOADER_TEMPORARY_FOLDER_H_

#include <stdlib.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <string>

namespace km {

class TemporaryFolder {
 public:
  TemporaryFolder() : path_(std::filesystem::temp_directory_path() / "km-test-XXXXXX") {
    if (mkdtemp(path_.data()) == nullptr) abort();
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  ~TemporaryFolder() { std::filesystem::remove_all(path_); }

  const std::string& path() const { return path_; }
  // Makes a file and gives its path.
  std::string Write(const std::string& name, const std::string& text, mode_t mode = 0755) const {
    std::string file = path_ + "/" + name;
    std::ofstream(file) << text;
    chmod(file.c_str(), mode);
    return file;
  }

 private:
  std::string path_;
};

}  // namespace km

#endif  // KM_TESTS_UNIT_LOADER_TEMPORARY_FOLDER_H_
