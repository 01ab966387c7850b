// The eventfds that tell a program that it was resumed (HC_generation_fd of
// include/km/hypercall.h).
#ifndef KM_FILES_GENERATION_FD_H_
#define KM_FILES_GENERATION_FD_H_

namespace km {

// FileDescription::path of one: each resume adds 1 to its count.
inline constexpr char kGenerationFdPath[] = "anon_inode:[km-generation]";

}  // namespace km

#endif  // KM_FILES_GENERATION_FD_H_
