// What monitors answer. Members need not be there, nor be what they should.
#ifndef TOOLS_KMCTL_ANSWERS_H_
#define TOOLS_KMCTL_ANSWERS_H_

#include <cstdint>
#include <string>

#include "km/control/protocol.h"

namespace km {

// As --json prints it, with a newline.
std::string Dump(const Json& value);

// A member that is to be a text, printable; of another type as JSON; "" when it is absent.
std::string Text(const Json& object, const char* name);
// A member that is to be a number; 0 when it is absent or negative.
uint64_t Number(const Json& object, const char* name);

// How long ago a "last_snapshot" was written: "7s".
std::string AgeText(const Json& snapshot);

}  // namespace km

#endif  // TOOLS_KMCTL_ANSWERS_H_
