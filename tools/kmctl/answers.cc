#include "tools/kmctl/answers.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "tools/kmctl/names.h"

namespace km {

std::string Dump(const Json& value) {
  return absl::StrCat(value.dump(2, ' ', false, Json::error_handler_t::replace), "\n");
}

std::string Text(const Json& object, const char* name) {
  const auto member = object.find(name);
  if (member == object.end()) return "";
  return Printable(member->is_string() ? member->get<std::string>() : member->dump());
}

uint64_t Number(const Json& object, const char* name) {
  const auto member = object.find(name);
  return member != object.end() && member->is_number_unsigned() ? member->get<uint64_t>()
         : member != object.end() && member->is_number_integer()
             ? static_cast<uint64_t>(std::max<int64_t>(member->get<int64_t>(), 0))
             : 0;
}

std::string AgeText(const Json& snapshot) {
  const auto written = static_cast<int64_t>(Number(snapshot, "realtime_ns"));
  return UptimeText(
      static_cast<uint64_t>(std::max<int64_t>(absl::GetCurrentTimeNanos() - written, 0)));
}

}  // namespace km
