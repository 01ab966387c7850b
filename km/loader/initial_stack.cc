#include "km/loader/initial_stack.h"

#include <elf.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "km/base/status.h"
#include "km/loader/program_path.h"

namespace km {
namespace {

constexpr uint64_t kMaxString = 131072;  // MAX_ARG_STRLEN, with the NUL
constexpr char kPlatform[] = "x86_64";

uint64_t AlignDown16(uint64_t value) { return value & ~uint64_t{15}; }

// The bytes of `strings` with their NULs and of the pointers to them; kMaxString + limit and more
// when one is too long.
absl::Status CountStrings(const std::vector<std::string>& strings, uint64_t limit,
                          const StackContents& contents, uint64_t* total, uint64_t* string_bytes) {
  *string_bytes = 0;
  for (const std::string& string : strings) {
    *string_bytes += string.size() + 1;
    *total += string.size() + 1 + sizeof(uint64_t);
    if (string.size() >= kMaxString || *total > limit) {
      return CannotRun(
          E2BIG, contents.exec_fn,
          absl::StrCat("its arguments and environment are too long (all together at most ", limit,
                       " bytes, a quarter of ulimit -s; each at most ", kMaxString, ")"));
    }
  }
  return absl::OkStatus();
}

// Bytes written upwards from an address.
class Writer {
 public:
  Writer(std::vector<uint8_t>* bytes, uint64_t base) : bytes_(*bytes), base_(base), at_(base) {}

  void Seek(uint64_t address) { at_ = address; }
  void Bytes(const void* from, size_t size) {
    memcpy(bytes_.data() + (at_ - base_), from, size);
    at_ += size;
  }
  void Word(uint64_t value) { Bytes(&value, sizeof(value)); }
  void String(const std::string& string) { Bytes(string.c_str(), string.size() + 1); }
  // A null-terminated array of pointers to strings that lie one behind the other.
  void Pointers(const std::vector<std::string>& strings, uint64_t first) {
    for (const std::string& string : strings) {
      Word(first);
      first += string.size() + 1;
    }
    Word(0);
  }

 private:
  std::vector<uint8_t>& bytes_;
  const uint64_t base_;
  uint64_t at_;
};

}  // namespace

absl::StatusOr<InitialStack> BuildInitialStack(const StackContents& contents, uint64_t stack_end,
                                               uint64_t limit) {
  std::vector<std::string> arguments = contents.arguments;
  if (arguments.empty()) arguments.emplace_back();
  const std::vector<std::string>& environment = contents.environment;
  uint64_t total = 0, argument_bytes = 0, environment_bytes = 0, name_bytes = 0;
  KM_RETURN_IF_ERROR(CountStrings(arguments, limit, contents, &total, &argument_bytes));
  KM_RETURN_IF_ERROR(CountStrings(environment, limit, contents, &total, &environment_bytes));
  KM_RETURN_IF_ERROR(CountStrings({contents.exec_fn}, limit, contents, &total, &name_bytes));

  // From the top down, as the kernel does: a null word, the strings, the gap, the small things that
  // the auxiliary vector points to, and the vectors.
  InitialStack stack;
  uint64_t exec_fn = stack_end - sizeof(uint64_t) - name_bytes;
  stack.environment_end = exec_fn;
  stack.environment_start = stack.environment_end - environment_bytes;
  stack.arguments_end = stack.environment_start;
  stack.arguments_start = stack.arguments_end - argument_bytes;
  uint64_t platform = AlignDown16(stack.arguments_start - contents.shift) - sizeof(kPlatform);
  uint64_t random = platform - contents.random.size();

  stack.auxv = contents.auxv;
  for (size_t i = 0; i + 1 < stack.auxv.size(); i += 2) {
    if (stack.auxv[i] == AT_RANDOM) stack.auxv[i + 1] = random;
    if (stack.auxv[i] == AT_EXECFN) stack.auxv[i + 1] = exec_fn;
    if (stack.auxv[i] == AT_PLATFORM) stack.auxv[i + 1] = platform;
  }
  stack.auxv.insert(stack.auxv.end(), {AT_NULL, 0});
  uint64_t words = 1 + arguments.size() + 1 + environment.size() + 1 + stack.auxv.size();
  stack.stack_pointer = AlignDown16(random - words * sizeof(uint64_t));

  stack.bytes.resize(stack_end - stack.stack_pointer);
  Writer writer(&stack.bytes, stack.stack_pointer);
  writer.Word(arguments.size());
  writer.Pointers(arguments, stack.arguments_start);
  writer.Pointers(environment, stack.environment_start);
  writer.Bytes(stack.auxv.data(), stack.auxv.size() * sizeof(uint64_t));
  writer.Seek(random);
  writer.Bytes(contents.random.data(), contents.random.size());
  writer.Bytes(kPlatform, sizeof(kPlatform));
  writer.Seek(stack.arguments_start);
  for (const std::string& argument : arguments) writer.String(argument);
  for (const std::string& variable : environment) writer.String(variable);
  writer.String(contents.exec_fn);
  return stack;
}

}  // namespace km
