// The generation id: random, another one after each resume (include/km/generation.h), and the form
// in which a program that knows nothing of km can read it: a variable of its environment.
#ifndef KM_PROCESS_GENERATION_H_
#define KM_PROCESS_GENERATION_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "km/memory/guest_memory.h"

namespace km {

// KM_GENERATION_SIZE bytes.
absl::Span<const uint8_t> GenerationId(const GuestMemory& memory);

// A program that is started with a variable KM_GENERATION, of whatever value, gets the id there, in
// hexadecimal digits: this makes room for it, as the first one.
void PlaceGenerationVariable(std::vector<std::string>* environment);

// Writes the id there, if that is what stands at `environment_start`: the program may have changed
// it, and a snapshot may say anything.
void WriteGenerationVariable(const GuestMemory& memory, uint64_t environment_start);

}  // namespace km

#endif  // KM_PROCESS_GENERATION_H_
