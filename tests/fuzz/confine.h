// A place where system calls with random arguments hurt nobody.
#ifndef TESTS_FUZZ_CONFINE_H_
#define TESTS_FUZZ_CONFINE_H_

namespace km {

// Moves the calling process (which has one thread) into namespaces of its own: no rights outside of
// them, no other process to be seen, no network, a file system that is a small tmpfs with /proc,
// /dev/null and the like, and read-only system directories for the symbolizer. Files and
// directories among the arguments are made reachable, and replaced in argv. Ends the process with
// status 77 where the host does not allow it.
void Confine(int argc, char** argv);

}  // namespace km

#endif  // TESTS_FUZZ_CONFINE_H_
