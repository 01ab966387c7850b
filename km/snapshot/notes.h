// Image <-> notes. Every note of the file, ours and those that debuggers read.
#ifndef KM_SNAPSHOT_NOTES_H_
#define KM_SNAPSHOT_NOTES_H_

#include <climits>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "km/base/bytes.h"
#include "km/snapshot/image.h"

namespace km {

inline constexpr size_t kNoteHeaderSize = 12;  // Elf64_Nhdr
inline constexpr size_t kNotePrefixSize = 24;  // struct km_note_prefix
inline constexpr size_t kMinXsaveSize = 576;   // legacy area and header
inline constexpr size_t kMaxXsaveSize = 65536;
inline constexpr size_t kMaxPath = 2 * PATH_MAX;  // " (deleted)" and the like may follow

// Appends a note's header and name; its descriptor is what is written until EndNote(the result).
size_t BeginNote(absl::string_view owner, uint32_t type, ByteWriter* out);
void EndNote(size_t note, ByteWriter* out);

// The same for a note of ours: with the prefix, whose checksum EndKmNote fills in.
size_t BeginKmNote(uint32_t type, bool required, ByteWriter* out);
void EndKmNote(size_t note, ByteWriter* out);

// The header note, which comes first. The head's checksum in it is left 0 (see head.h).
void EncodeHeaderNote(const ImageHeader& header, uint64_t file_length, ByteWriter* out);

// Records of settings, within other notes.
void EncodePrctl(uint32_t tag, const std::vector<PrctlSetting>& settings, ByteWriter* out);
void EncodeThreadSettings(const ThreadSettings& settings, ByteWriter* out);
void EncodeAio(const std::vector<AioContextState>& contexts, ByteWriter* out);
void EncodePolicies(const std::vector<MappingPolicy>& policies, ByteWriter* out);
// The note of System V objects, if there are any; and what two notes say of one segment.
void EncodeIpc(const Image& image, ByteWriter* out);
absl::Status CheckSegments(const Image& image);
// The note of bases, if there are any.
void EncodeBases(const Image& image, ByteWriter* out);
// Whether the record is one of them; *valid becomes false where its value cannot be.
bool DecodeThreadSetting(uint32_t tag, ByteReader* value, ThreadSettings* settings, bool* valid);
bool DecodeProcessSetting(uint32_t tag, ByteReader* value, ImageProcess* process, bool* valid);
bool DecodePolicy(uint32_t tag, ByteReader* value, std::vector<MappingPolicy>* policies,
                  bool* valid);
// Whether the names of all of them are unique and none is 0.
bool ValidAio(const std::vector<AioContextState>& contexts);

// The notes of the kernel's core dumps, in the kernel's order.
void EncodeStandardNotes(const Image& image, ByteWriter* out);

// All others of ours, and image.unknown_notes. `working_set`: as the file has it, see
// working_set.h.
void EncodeKmNotes(const Image& image, absl::Span<const uint64_t> checksums,
                   absl::Span<const uint64_t> working_set, ByteWriter* out);

// What the header note says of the file as a whole.
struct HeaderNote {
  ImageHeader header;
  uint64_t file_length = 0;
};

// Each decodes the records of one note, after its prefix, and checks what parser.h promises of it.
// Refuses a text of more than `limit` bytes or with a NUL.
absl::Status CheckText(absl::string_view what, absl::string_view text, size_t limit);

// Errors say what is wrong, without the note's name.
absl::Status DecodeHeaderNote(ByteReader records, HeaderNote* header);
absl::Status DecodeVcpu(ByteReader records, ImageThread* thread);
absl::Status DecodeProgram(ByteReader records, ImageProgram* program);
absl::Status DecodeProcess(ByteReader records, ImageProcess* process);
absl::Status DecodeSignals(ByteReader records, ImageProcess* process);
absl::Status DecodeTimers(ByteReader records, ImageProcess* process);
absl::Status DecodeMappings(ByteReader records, Image* image);
absl::Status DecodeIpc(ByteReader records, Image* image);
absl::Status DecodeBases(ByteReader records, Image* image);
absl::Status DecodeWorkingSet(ByteReader records, Image* image);
absl::Status DecodeFiles(ByteReader records, Image* image);
absl::Status DecodeChecksums(ByteReader records, std::vector<uint64_t>* checksums);

// The descriptors of NT_PRSTATUS, NT_X86_XSTATE and NT_AUXV.
absl::Status DecodePrstatus(absl::Span<const uint8_t> descriptor, ImageThread* thread);
absl::Status DecodeXsave(absl::Span<const uint8_t> descriptor, uint64_t xcr0, ImageThread* thread);
absl::Status DecodeAuxv(absl::Span<const uint8_t> descriptor, std::vector<uint64_t>* auxv);

// "NT_KM_FILES", or "type 0x..." for a type that has no name here.
std::string NoteName(uint32_t type);

}  // namespace km

#endif  // KM_SNAPSHOT_NOTES_H_
