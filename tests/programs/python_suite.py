"""The interpreter's own regression tests, natively and under km.

python_suite.py run RESULTS IGNORED MODULE: `python3 -m test MODULE` in this process. Appends to RESULTS,
at once, a line for each thing that is seen: `start CASE`, `forks CASE` (it made, or tried to make, a
process, as the interpreter's audit events tell), and how it went: `ok CASE`, `skip CASE`, `fail CASE`.
IGNORED is a file of patterns, each a line, of cases that are left out.

python_suite.py both KM DIRECTORY MODULE: first natively, then under km without the cases that forked
natively (their list is kept in DIRECTORY/MODULE.forking). Prints what differs; status 1 if anything does.
Cases that fail in both, and those of KNOWN, are no difference. A case that differs is tried
twice more by itself and passes when it then does, with a remark: many of these tests have time limits
of their own, and machines have busy moments.
"""

import _posixsubprocess
import faulthandler
import os
import pathlib
import runpy
import subprocess
import sys
import unittest

# Left out on both sides: these wait for ever where the machine is a VSOCK guest without that host, or
# set the machine's clock and name where they may (km refuses that).
LEFT_OUT = ["*ThreadedVSOCKSocketStreamTest*", "*.test_clock_settime", "*.test_monotonic_settime",
            "*.test_sethostname"]
# What differs on purpose, by case, and why.
KNOWN = {
    "test.test_selectors.EpollSelectorTestCase.test_above_fd_setsize":
        "skipped where the monitor may not raise its own limit of descriptors (CAP_SYS_RESOURCE)",
    "test.test_socket.BasicVSOCKTest.": "skipped: /dev/vsock's ioctl is not on the list",
}

TIMEOUT_S = 120  # of a case; the interpreter then shows where it stood, and exits
ATTEMPTS = 3
MAKES_PROCESS = {"os.fork", "os.forkpty", "os.exec", "os.posix_spawn", "os.system",
                 "subprocess.Popen", "pty.spawn"}


class Recorder:
    def __init__(self, path):
        # Not one of the tests' descriptors: some count them or close all they find.
        self.path = os.path.abspath(path)
        self.case = "none"
        self.forking = set()

    def write(self, what, case):
        with open(self.path, "a", encoding="utf-8") as file:
            print(what, case, file=file)

    def forks(self):
        if self.case not in self.forking:
            self.forking.add(self.case)
            self.write("forks", self.case)

    def audit(self, event, _arguments):
        if event in MAKES_PROCESS:
            self.forks()

    def wrap(self, run):
        def recorded(case, result=None):
            if result is None:
                return run(case, result)
            self.case = case.id()
            self.write("start", self.case)
            faulthandler.dump_traceback_later(TIMEOUT_S, exit=True, file=sys.__stderr__)
            bad = len(result.failures) + len(result.errors) + len(result.unexpectedSuccesses)
            skipped = len(result.skipped)
            try:
                return run(case, result)
            finally:
                faulthandler.cancel_dump_traceback_later()
                outcome = "ok"
                if len(result.skipped) > skipped:
                    outcome = "skip"
                if len(result.failures) + len(result.errors) + len(result.unexpectedSuccesses) > bad:
                    outcome = "fail"
                self.write(outcome, self.case)
        return recorded


def run(results, ignored, module):
    recorder = Recorder(results)
    sys.addaudithook(recorder.audit)
    fork_exec = _posixsubprocess.fork_exec

    def recorded_fork_exec(*arguments):
        recorder.forks()
        return fork_exec(*arguments)

    _posixsubprocess.fork_exec = recorded_fork_exec
    unittest.TestCase.run = recorder.wrap(unittest.TestCase.run)
    matched = os.environ.get("ONLY_CASES")
    options = ["--matchfile", matched] if matched else ["--ignorefile", ignored]
    sys.argv = ["test", *options, module]
    runpy.run_module("test", run_name="__main__", alter_sys=True)


class Module:
    """One module, its files in a directory."""

    def __init__(self, km, directory, name):
        self.km = km
        self.base = pathlib.Path(directory).resolve() / name
        self.name = name
        self.ignored = self.path("ignored")
        self.ignored.write_text("\n".join(LEFT_OUT) + "\n", encoding="utf-8")

    def path(self, what):
        return self.base.with_suffix("." + what)

    def run(self, what, prefix, environment=None):
        """Outcomes by case, the cases that forked, what went wrong as a whole, in which case if in one."""
        results = self.path(what)
        results.unlink(missing_ok=True)
        command = [*prefix, "/usr/bin/python3", __file__, "run", results, self.ignored, self.name]
        with open(self.path(what + ".log"), "wb") as log:
            status = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False,
                                    env={**os.environ, **(environment or {})}).returncode
        outcomes, forking, started = {}, [], None
        for line in results.read_text(encoding="utf-8").splitlines() if results.exists() else ():
            kind, case = line.split(" ", 1)
            if kind == "forks":
                forking.append(case)
            elif kind == "start":
                started = case
            else:
                outcomes[case] = kind
                started = None if started == case else started
        broken = f"status {status}, in case {started}" if started else ""
        if status != 0 and not started and "fail" not in outcomes.values():
            broken = f"status {status}, with no case that failed"
        return outcomes, forking, broken, started if broken else None

    def ignore(self, cases):
        with open(self.ignored, "a", encoding="utf-8") as file:
            file.write("".join(case + "\n" for case in cases))

    def run_under_km(self):
        """As `run`; goes on without a case that does not end, which counts as failed."""
        stuck = {}
        for _ in range(ATTEMPTS):
            outcomes, _, broken, case = self.run("km", [self.km])
            if case is None:
                break
            print(f"under km: {broken}")
            stuck[case] = "fail"
            self.ignore([case])
        return {**outcomes, **stuck}, broken

    def compare(self):
        native, forking, broken, _ = self.run("native", [])
        if broken:
            yield f"natively: {broken} ({self.path('native.log')})"
        self.path("forking").write_text("".join(case + "\n" for case in forking), encoding="utf-8")
        self.ignore(forking)
        guest, broken = self.run_under_km()
        if broken:
            yield f"under km: {broken} ({self.path('km.log')})"
        wanted = {case: outcome for case, outcome in native.items()
                  if outcome != "fail" and case not in forking and not case.startswith(tuple(KNOWN))}
        bad = [case for case, outcome in wanted.items() if guest.get(case, "not run") not in (outcome, "ok")]
        for case in self.again(bad, wanted):
            yield f"{case}: {guest.get(case, 'not run')}, natively {wanted[case]}"
        print(f"{self.name}: {len(native)} cases natively, {len(guest)} under km, {len(forking)} fork "
              f"(listed in {self.path('forking')})")

    def again(self, bad, wanted):
        for attempt in range(1, ATTEMPTS):
            if not bad:
                break
            only = self.path("again")
            only.write_text("".join(case + "\n" for case in bad), encoding="utf-8")
            guest, _, _, _ = self.run(f"km-again-{attempt}", [self.km], {"ONLY_CASES": str(only)})
            good = [case for case in bad if guest.get(case) in ("ok", wanted[case])]
            for case in good:
                print(f"as natively when tried again: {case}")
            bad = [case for case in bad if case not in good]
        return bad


def main():
    verb, *arguments = sys.argv[1:]
    if verb == "run":
        run(*arguments)
        return
    differences = list(Module(*arguments).compare())
    for difference in differences:
        print(difference)
    sys.exit(1 if differences else 0)


main()
