// Owned descriptors and mappings of the monitor's own.
#ifndef KM_BASE_OWNED_H_
#define KM_BASE_OWNED_H_

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <utility>

namespace km {

// A host file descriptor that is closed with its owner. -1 is none.
class OwnedFd {
 public:
  OwnedFd() = default;
  explicit OwnedFd(int fd) : fd_(fd) {}
  OwnedFd(OwnedFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  OwnedFd& operator=(OwnedFd&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~OwnedFd() {
    if (fd_ >= 0) close(fd_);
  }
  int get() const { return fd_; }
  bool valid() const { return fd_ >= 0; }
  int Release() { return std::exchange(fd_, -1); }

 private:
  int fd_ = -1;
};

// A host mapping that is unmapped with its owner.
class OwnedMapping {
 public:
  OwnedMapping() = default;
  // `address` may be MAP_FAILED: then valid() is false.
  OwnedMapping(void* address, size_t size)
      : data_(address == MAP_FAILED ? nullptr : static_cast<std::byte*>(address)), size_(size) {}
  OwnedMapping(OwnedMapping&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(other.size_) {}
  OwnedMapping& operator=(OwnedMapping&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~OwnedMapping() {
    if (data_ != nullptr) munmap(data_, size_);
  }
  std::byte* data() const { return data_; }
  size_t size() const { return size_; }
  bool valid() const { return data_ != nullptr; }

 private:
  std::byte* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace km

#endif  // KM_BASE_OWNED_H_
