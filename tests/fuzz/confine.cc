#include "tests/fuzz/confine.h"

#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

namespace km {
namespace {

constexpr unsigned kNobody = 65534;
const std::string kRoot = "/tmp";  // of this mount namespace only

[[noreturn]] void Skip(const char* what) {
  fprintf(stderr, "skip: this host allows no namespaces: %s: %s\n", what, strerror(errno));
  _exit(77);
}

void Try(bool done, const char* what) {
  if (!done) Skip(what);
}

void WriteText(const char* path, const std::string& text) {
  int fd = open(path, O_WRONLY);
  Try(fd >= 0 && write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size()), path);
  close(fd);
}

// `at` becomes another name of `what`. A directory of the system cannot be written there.
void Bind(const std::string& what, const std::string& at, bool read_only) {
  struct stat status;
  if (stat(what.c_str(), &status) != 0) return;
  if (S_ISDIR(status.st_mode)) {
    mkdir(at.c_str(), 0755);
  } else {
    close(open(at.c_str(), O_CREAT | O_WRONLY, 0644));
  }
  Try(mount(what.c_str(), at.c_str(), nullptr, MS_BIND | MS_REC, nullptr) == 0, what.c_str());
  unsigned long flags = MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID;
  if (read_only) Try(mount(nullptr, at.c_str(), nullptr, flags, nullptr) == 0, "remount");
}

// Neither root's files nor root's right to change the kernel's settings.
void BecomeNobody(int argc, char** argv) {
  unsigned uid = geteuid(), gid = getegid();
  if (uid == 0) {
    for (int i = 1; i < argc; ++i) {
      if (argv[i][0] != '-' && chown(argv[i], kNobody, kNobody) != 0) Skip(argv[i]);
    }
    uid = gid = kNobody;
    Try(setgroups(0, nullptr) == 0 && setgid(gid) == 0 && setuid(uid) == 0, "setuid");
    prctl(PR_SET_DUMPABLE, 1);
  }
  Try(unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC |
              CLONE_NEWUTS) == 0,
      "unshare");
  WriteText("/proc/self/setgroups", "deny");
  WriteText("/proc/self/uid_map", "0 " + std::to_string(uid) + " 1");
  WriteText("/proc/self/gid_map", "0 " + std::to_string(gid) + " 1");
}

// The first process of the namespace is the child; this one waits for its end.
void EnterPidNamespace() {
  pid_t child = fork();
  Try(child >= 0, "fork");
  if (child == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    return;
  }
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
}

void Limit(__rlimit_resource_t resource, rlim_t value) {
  rlimit limit = {value, value};
  setrlimit(resource, &limit);
}

}  // namespace

void Confine(int argc, char** argv) {
  BecomeNobody(argc, argv);
  EnterPidNamespace();
  Try(mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0, "mount /");
  std::string arguments = "/dev/shm/km-fuzz-arguments";
  // What the arguments name may lie below the directory that is about to be hidden.
  Try(mount("tmpfs", "/dev/shm", "tmpfs", 0, "size=1m") == 0, "mount /dev/shm");
  mkdir(arguments.c_str(), 0755);
  for (int i = 1; i < argc; ++i) {
    if (argv[i][0] == '-') continue;
    char* whole = realpath(argv[i], nullptr);
    Try(whole != nullptr, argv[i]);
    Bind(whole, arguments + "/" + std::to_string(i), false);
    free(whole);
  }
  Try(mount("tmpfs", kRoot.c_str(), "tmpfs", MS_NOSUID, "size=64m") == 0, "mount tmpfs");
  for (const char* name : {"/usr", "/lib", "/lib64", "/bin"}) Bind(name, kRoot + name, true);
  Bind(arguments, kRoot + "/arguments", false);
  mkdir((kRoot + "/dev").c_str(), 0755);
  for (const char* name : {"/dev/null", "/dev/zero"}) Bind(name, kRoot + name, false);
  mkdir((kRoot + "/proc").c_str(), 0755);
  Try(mount("proc", (kRoot + "/proc").c_str(), "proc", MS_NOSUID, nullptr) == 0, "mount proc");
  mkdir((kRoot + "/w").c_str(), 0755);
  Try(chroot(kRoot.c_str()) == 0 && chdir("/w") == 0, "chroot");
  for (int i = 1; i < argc; ++i) {
    if (argv[i][0] != '-') argv[i] = strdup(("/arguments/" + std::to_string(i)).c_str());
  }
  Limit(RLIMIT_FSIZE, 32 << 20);
  Limit(RLIMIT_CORE, 0);
  Limit(RLIMIT_NPROC, 2000);
  Limit(RLIMIT_MEMLOCK, 1 << 20);
}

}  // namespace km
