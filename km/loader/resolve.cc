#include "km/loader/resolve.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "km/base/status.h"
#include "km/loader/program_path.h"

namespace km {
namespace {

constexpr int kMaxScripts = 5;
constexpr size_t kMaxFirstLine = 256;  // with its newline, which makes it complete

constexpr char kBlanks[] = " \t";

struct ScriptLine {
  std::string interpreter;
  std::string argument;  // empty: none
};

bool IsScript(const ProgramFile& file) {
  return file.head.size() >= 2 && file.head[0] == '#' && file.head[1] == '!';
}

// The first line of a script, by the rules of the kernel's fs/binfmt_script.c: one interpreter, and
// all the rest is one argument. A line that is too long loses the end of its argument, never of the
// interpreter's name.
absl::StatusOr<ScriptLine> ParseScriptLine(const ProgramFile& file) {
  auto refuse = [&file](absl::string_view why) { return CannotRun(ENOEXEC, file.path, why); };
  size_t limit = std::min(file.head.size(), kMaxFirstLine);
  absl::string_view line(reinterpret_cast<const char*>(file.head.data()) + 2, limit - 2);
  size_t end = std::min(line.find('\n'), line.find('\0'));
  bool complete = end != absl::string_view::npos || file.head.size() < kMaxFirstLine;
  line = line.substr(0, complete ? end : line.size() - 1);

  size_t begin = line.find_first_not_of(kBlanks);
  if (begin == absl::string_view::npos) return refuse("its first line '#!' names no interpreter");
  line.remove_prefix(begin);
  size_t name_end = line.find_first_of(kBlanks);
  if (name_end == absl::string_view::npos && !complete) {
    return refuse("the interpreter's name in its first line is too long");
  }
  ScriptLine result;
  result.interpreter = std::string(line.substr(0, name_end));
  if (name_end == absl::string_view::npos) return result;
  line.remove_prefix(name_end);
  begin = line.find_first_not_of(kBlanks);
  if (begin == absl::string_view::npos) return result;
  line.remove_prefix(begin);
  result.argument = std::string(line.substr(0, line.find_last_not_of(kBlanks) + 1));
  return result;
}

// An error of the interpreter, told with the file that asks for it.
absl::Status InterpreterError(const absl::Status& status, const std::string& interpreter,
                              const std::string& path) {
  if (ErrnoOf(status) == ENOENT) {
    return CannotRun(ENOENT, path,
                     absl::StrCat("its interpreter '", interpreter, "' does not exist"));
  }
  absl::string_view message = status.message();
  return CannotRun(ErrnoOf(status), path, absl::StrCat("its interpreter does not work: ", message));
}

absl::StatusOr<ProgramFile> OpenScriptInterpreter(const std::string& interpreter,
                                                  const std::string& script) {
  // Execute permission is asked for, as for the script itself.
  absl::Status status = interpreter.find('/') == std::string::npos
                            ? FindProgram(absl::StrCat("./", interpreter), nullptr).status()
                            : FindProgram(interpreter, nullptr).status();
  if (!status.ok()) return InterpreterError(status, interpreter, script);
  absl::StatusOr<ProgramFile> file = ProgramFile::Open(interpreter);
  if (!file.ok()) return InterpreterError(file.status(), interpreter, script);
  return file;
}

}  // namespace

absl::StatusOr<ResolvedProgram> ResolveProgram(const std::string& path,
                                               std::vector<std::string> arguments) {
  KM_ASSIGN_OR_RETURN(ProgramFile file, ProgramFile::Open(path));
  for (int scripts = 0; IsScript(file); ++scripts) {
    if (scripts == kMaxScripts) {
      return CannotRun(ELOOP, path, "its interpreter is a script, whose interpreter is, and so on");
    }
    KM_ASSIGN_OR_RETURN(ScriptLine line, ParseScriptLine(file));
    if (!arguments.empty()) arguments.erase(arguments.begin());
    arguments.insert(arguments.begin(), file.path);
    if (!line.argument.empty()) arguments.insert(arguments.begin(), line.argument);
    arguments.insert(arguments.begin(), line.interpreter);
    KM_ASSIGN_OR_RETURN(file, OpenScriptInterpreter(line.interpreter, file.path));
  }

  ResolvedProgram result;
  KM_ASSIGN_OR_RETURN(result.program, ElfProgram::Parse(file));
  result.arguments = std::move(arguments);
  result.exec_fn = path;
  const std::string& interpreter = result.program.interpreter;
  if (!interpreter.empty()) {
    absl::StatusOr<ElfProgram> linker = ElfProgram::Open(interpreter);
    if (!linker.ok()) return InterpreterError(linker.status(), interpreter, file.path);
    result.interpreter = *std::move(linker);
  }
  return result;
}

}  // namespace km
