#!/usr/bin/env python3
"""Drives a program through a pseudo-terminal, as a shell and a person would.

terminal.py [--km KM KMCTL] CASE prints what was seen; a run under km prints the same as a native one.
"""

import fcntl
import os
import pathlib
import select
import signal
import subprocess
import sys
import termios
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from pseudo_terminal import PseudoTerminal


class Job(PseudoTerminal):
    """A program in the foreground of a terminal, the child of a shell with job control: us."""

    def __init__(self, command, rows=24, columns=80, background=False, environment=None):
        super().__init__(rows, columns)
        self.shell = os.fork()
        if self.shell == 0:
            self.be_shell(self.slave, command, background, environment or {})
        os.close(self.slave)

    def be_shell(self, slave, command, background, environment):
        """A session leader that reports each change of its one job on descriptor 9, a pipe."""
        # A terminal is hung up when nobody has its other end: keep none.
        for fd in range(3, 100):
            if fd not in (slave, REPORT, COMMAND):
                try:
                    os.close(fd)
                except OSError:
                    pass
        os.setsid()
        fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
        signal.signal(signal.SIGTTOU, signal.SIG_IGN)
        child = os.fork()
        if child == 0:
            os.setpgid(0, 0)
            if not background:
                os.tcsetpgrp(slave, os.getpid())
            signal.signal(signal.SIGTTOU, signal.SIG_DFL)
            for fd in (0, 1, 2):
                os.dup2(slave, fd)
            os.closerange(3, 100)
            os.environ.update(environment)
            os.execvp(command[0], command)
        while True:
            _, status = os.waitpid(child, os.WUNTRACED | os.WCONTINUED)
            os.write(REPORT, describe(status).encode() + b"\n")
            if os.WIFEXITED(status) or os.WIFSIGNALED(status):
                signal.pause()  # until the terminal is gone: others of the session may need it
            if os.WIFSTOPPED(status):
                os.tcsetpgrp(slave, os.getpgrp())
                if os.read(COMMAND, 1) == b"f":
                    os.tcsetpgrp(slave, child)
                os.killpg(child, signal.SIGCONT)

    def report(self):
        """What the shell hears of its job next: "exited 0", "stopped SIGTSTP", ..."""
        line = b""
        while not line.endswith(b"\n"):
            if not select.select([REPORT_READ], [], [], self.patience)[0]:
                sys.exit(f"the job does not change; the terminal has {self.drain()!r}")
            line += os.read(REPORT_READ, 1)
        return line.decode().strip()

    def modes(self):
        """Those of the terminal that programs change most."""
        local = termios.tcgetattr(self.master)[3]
        return [name for name in ("ISIG", "ICANON", "ECHO") if local & getattr(termios, name)]

    def drain(self):
        while select.select([self.master], [], [], 0)[0]:
            try:
                self.seen += os.read(self.master, 65536)
            except OSError:
                break
        return self.seen

    def go_on(self, foreground=True):
        os.write(COMMAND_WRITE, b"f" if foreground else b"b")
        return self.report()

    def end(self):
        """Reads until the program has ended, so that it never waits for room."""
        while True:
            self.drain()
            if select.select([REPORT_READ], [], [], 0.05)[0]:
                break
        return self.report()


def describe(status):
    if os.WIFEXITED(status):
        return f"exited {os.WEXITSTATUS(status)}"
    if os.WIFSTOPPED(status):
        return f"stopped {signal.Signals(os.WSTOPSIG(status)).name}"
    if os.WIFSIGNALED(status):
        return f"killed {signal.Signals(os.WTERMSIG(status)).name}"
    return "continued"


REPORT_READ, REPORT = os.pipe()
COMMAND, COMMAND_WRITE = os.pipe()
CASES = {}


def case(function):
    CASES[function.__name__] = function
    return function


def python(code):
    return ["/usr/bin/python3", "-c", code]


@case
def keys(run):
    """Ctrl-C, Ctrl-\\ and Ctrl-Z of a program without handlers, and of one with them."""
    for key, name in (("\x03", "int"), ("\x1c", "quit")):
        job = run(["/bin/cat"])
        job.type("hello\n")
        job.expect("hello\r\nhello")
        job.type(key)
        print(name, job.end().replace(" (core dumped)", ""))
    job = run(["/bin/cat"])
    job.type("one\n")
    job.expect("one\r\none")
    for _ in range(3):
        job.type("\x1a")
        print(job.report(), job.go_on())
        job.type("two\n")
        job.expect("two\r\ntwo")
    job.type("\x04")
    print(job.end())
    job = run(
        python(
            "import signal, sys\n"
            "def on(n, _):\n  print('got', signal.Signals(n).name, flush=True)\n"
            "for n in (2, 3, 20, 28, 18): signal.signal(n, on)\n"
            "print('ready', flush=True)\n"
            "for line in sys.stdin: print('line', line, flush=True)\n"
        )
    )
    job.expect("ready")
    # Python may lose a signal that comes just before it reads again: type as slowly as a person.
    for key in "\x03\x1c\x1a":
        time.sleep(0.1)
        job.type(key)
        print(job.expect("got SIG[A-Z]+(?=\r)"))
    time.sleep(0.1)
    job.resize(30, 100)
    print(job.expect("got SIG[A-Z]+(?=\r)"))
    job.type("x\n")
    job.expect("line x")
    job.type("\x04")
    print(job.end())


@case
def background(run):
    """Reading, writing and setting modes in the background."""
    job = run(["/bin/cat"], background=True)
    print(job.report())
    # It may stop again before the shell has heard that it went on.
    if (report := job.go_on(foreground=False)) == "continued":
        report = job.report()
    print(report)
    print(job.go_on())
    job.type("now\n")
    job.expect("now\r\nnow")
    job.type("\x04")
    print(job.end())
    # Modes are set with SIGTTOU; writing stops with TOSTOP only.
    job = run(
        python(
            "import sys, termios\n"
            "print('begin', flush=True)\n"
            "t = termios.tcgetattr(0)\n"
            "t[3] |= termios.TOSTOP\n"
            "termios.tcsetattr(0, termios.TCSANOW, t)\n"
            "print('end', flush=True)\n"
        ),
        background=True,
    )
    job.expect("begin")
    print(job.report(), job.go_on())
    job.expect("end")
    print(job.end())
    # Ignored or blocked it is an error to read, and none to write.
    for setting in ("signal(n, signal.SIG_IGN)", "pthread_sigmask(signal.SIG_BLOCK, [n])"):
        job = run(
            python(
                "import os, signal, termios\n"
                f"for n in (21, 22): signal.{setting}\n"
                "try: os.read(0, 1)\n"
                "except OSError as e: print('read:', e.strerror, flush=True)\n"
                "termios.tcsetattr(0, termios.TCSANOW, termios.tcgetattr(0))\n"
                "print('set', flush=True)\n"
            ),
            background=True,
        )
        print(job.expect("read: [^\r]+(?=\r)"), job.expect("set"), job.end())
    # A handler sees it, as often as the call is made again.
    job = run(
        python(
            "import os, signal\n"
            "class Enough(Exception): pass\n"
            "def on(n, _):\n  raise Enough(signal.Signals(n).name)\n"
            "signal.signal(21, on)\n"
            "try: os.read(0, 1)\n"
            "except Enough as e: print('handled', e, flush=True)\n"
        ),
        background=True,
    )
    print(job.expect("handled SIGTTIN"), job.end())


@case
def orphan(run):
    """Nobody could continue a process of an orphaned group: it does not stop, reading fails."""
    code = (
        "import os, signal, time\n"
        "while os.getppid() == PARENT: time.sleep(0.01)\n"
        "os.kill(os.getpid(), signal.SIGTSTP)\n"
        "try: r = os.read(os.open('/dev/tty', os.O_RDWR), 1)\n"
        "except OSError as e: r = e.strerror\n"
        "os.write(1, b'orphan: %r\\n' % r)\n"
    )
    # The shell between ends at once, which makes its child's group an orphan.
    wrapper = (
        "import os, sys\n"
        "parent = os.getpid()\n"
        "if os.fork() == 0:\n"
        "  os.setpgid(0, 0)\n"
        f"  code = {code!r}.replace('PARENT', str(parent))\n"
        "  os.execvp(sys.argv[1], sys.argv[1:] + ['-c', code])\n"
    )
    command = run.command(["/usr/bin/python3"])
    job = Job(["/usr/bin/python3", "-c", wrapper] + command)
    print(job.report(), job.expect("orphan: [^\r]+(?=\r)"))


def interrupt_stop_and_leave(job):
    """Ctrl-C, Ctrl-Z and Ctrl-D of an interpreter that prompts with "ready> "."""
    job.type("import time; time.sleep(100)\n")
    job.expect(r"sleep\(100\)\r\n")
    time.sleep(0.3)  # until it sleeps
    job.type("\x03")
    print(job.expect("KeyboardInterrupt"))
    job.expect("ready> ")
    job.type("\x1a")
    print(job.report(), job.go_on())
    job.type("'a' + 'b'\n")
    print(job.expect("'ab'"))
    job.expect("ready> ")
    job.type("\x04")


@case
def python3(run):
    """The interactive interpreter: editing a line, history, interrupting, window size, suspending."""
    job = run(["/usr/bin/python3", "-q", "-i", "-c", "import sys; sys.ps1 = 'ready> '"])
    job.expect("ready> ")
    job.type("6 * 8\x7f7\n")
    print(job.expect(r"\n42"))
    job.expect("ready> ")
    job.type("\x1b[A\n")
    print(job.expect(r"\n42"))
    job.expect("ready> ")
    job.type("import os; os.get_terminal_size()\n")
    print(job.expect(r"columns=\d+, lines=\d+"))
    # Readline, before each prompt, reads the window's size and sets what it read: behind that.
    job.expect("ready> ")
    job.resize(40, 132)
    job.type("os.get_terminal_size()\n")
    print(job.expect(r"columns=\d+, lines=\d+"))
    job.expect("ready> ")
    interrupt_stop_and_leave(job)
    print(job.end())


@case
def vi(run):
    """An editor that draws a screen and suspends itself."""
    path = os.path.join(os.getcwd(), "edited")
    with open(path, "w", encoding="ascii") as file:
        file.write("".join(f"line {n}\n" for n in range(1, 101)))
    job = run(["vim.tiny", "-u", "NONE", "-N", "-i", "NONE", path])
    job.expect("line 1.*line 20")
    job.type("50Gcwedited\x1b")
    job.expect("edited")
    job.type("\x1a")
    print(job.report(), job.go_on())
    job.expect("edited")
    job.resize(40, 100)
    job.expect("line 60")
    job.type(":%s/line/row/\r")
    job.expect("row 100")
    job.type(":wq\r")
    print(job.end())
    with open(path, encoding="ascii") as file:
        lines = file.read().splitlines()
    print(len(lines), lines[48:51])


@case
def less(run):
    """A pager that takes its keys from /dev/tty or standard error."""
    with open("paged", "w", encoding="ascii") as file:
        file.write("".join(f"number {n}\n" for n in range(1, 1001)))
    job = run(["less", "paged"], rows=10)
    job.expect("number 9.*paged")
    job.type(" ")
    print(job.expect("number 18"))
    job.type("G")
    print(job.expect("number 1000"))
    job.type("/number 50\\d*1\r")
    job.type("?number 500\r")
    print(job.expect("number 500"))
    time.sleep(0.3)  # it may lose the signal while it draws, natively too
    job.type("\x1a")
    print(job.report(), job.go_on())
    job.type("q")
    print(job.end())


@case
def top(run):
    """A full screen that changes by itself."""
    job = run(["top", "-d", "0.2"], environment={"HOME": "/nowhere"})
    print(job.expect("Tasks:"), job.expect("PID"))
    job.expect("Tasks:")
    job.resize(50, 120)
    job.expect("Tasks:")
    job.type("q")
    print(job.end())


@case
def moved_python3(run):
    """The interpreter goes on at another terminal, of another size, in the middle of a line."""
    job = run(["/usr/bin/python3", "-q", "-i", "-c", "import sys; sys.ps1 = 'ready> '"])
    job.expect("ready> ")
    job.type("6 * 8\x7f")
    job.expect("6 \\* 8")
    print(job.modes())
    for rows, columns in ((40, 132), (25, 70)):
        job = run.move(job, rows, columns)
        job.expect("ready> 6 \\* ")
        print(job.modes())
    job.type("7\n")
    print(job.expect(r"\n42"))
    job.expect("ready> ")
    job.type("import os; os.get_terminal_size(), os.isatty(os.open('/dev/tty', os.O_RDWR))\n")
    print(job.expect(r"columns=\d+, lines=\d+.*True"))
    job.expect("ready> ")
    job = run.move(job, 30, 90)
    job.expect("ready> ")
    job.type("os.read(3, 100)\n")
    job.expect(r"read\(3, 100\)\r\n")
    job.type("typed\n")
    print(job.expect(r"b'typed\\n'"))
    job.expect("ready> ")
    interrupt_stop_and_leave(job)
    print(job.end(), job.modes())
    # It has opened its terminal: without one it cannot go on.
    run.refused_without_terminal()


@case
def moved_vi(run):
    """An editor with a change that is not written yet."""
    path = os.path.join(os.getcwd(), "edited")
    with open(path, "w", encoding="ascii") as file:
        file.write("".join(f"line {n}\n" for n in range(1, 101)))
    job = run(["vim.tiny", "-u", "NONE", "-N", "-i", "NONE", path])
    job.expect("line 1.*line 20")
    job.type("50Gcwedited and")
    job.expect("edited and")
    print(job.modes())
    job = run.move(job, 40, 100)
    job.expect("edited and.*line 60")
    print(job.modes())
    job.type(" moved\x1b")
    job.expect("moved")
    # In the background it does not touch the terminal before it is in the foreground.
    job = run.move(job, 30, 90, background=True)
    if run.monitor:
        if (report := job.report()) != "stopped SIGTTOU" or job.modes() != ["ISIG", "ICANON", "ECHO"]:
            sys.exit(f"in the background: {report}, {job.modes()}")
        job.go_on()
    job.expect("and moved.*line 51")
    print(job.modes())
    job.type(":wq\r")
    print(job.end(), job.modes())
    with open(path, encoding="ascii") as file:
        lines = file.read().splitlines()
    print(len(lines), lines[48:51])


@case
def moved_less(run):
    """A pager, which has opened its terminal once more."""
    with open("paged", "w", encoding="ascii") as file:
        file.write("".join(f"number {n}\n" for n in range(1, 1001)))
    job = run(["less", "paged"], rows=10)
    job.expect("number 9.*paged")
    print(job.modes())
    job = run.move(job, 20, 60)
    job.expect("number 19")
    print(job.modes())
    job.type("G")
    print(job.expect("number 1000"))
    time.sleep(0.3)
    job.type("\x1a")
    print(job.report(), job.go_on())
    job.type("q")
    print(job.end(), job.modes())


class Runner:
    ENVIRONMENT = {"TERM": "xterm", "LC_ALL": "C", "PYTHON_HISTORY": "/dev/null"}

    def __init__(self, monitor, kmctl):
        self.monitor = monitor
        self.kmctl = kmctl
        self.moves = 0

    def command(self, command):
        return [self.monitor, f"--control={self.control()}"] + command if self.monitor else command

    def control(self):
        return os.path.join(os.getcwd(), f"control-{self.moves}")

    def __call__(self, command, environment=None, **kwargs):
        return Job(self.command(command), environment=self.ENVIRONMENT | (environment or {}), **kwargs)

    def refused_without_terminal(self):
        if not self.monitor:
            return
        command = [self.monitor, f"moved-{self.moves - 1}.kmsnap"]
        result = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
        )
        if result.returncode == 0 or b"it had its terminal open ('/dev/tty')" not in result.stdout:
            sys.exit(f"without a terminal: {result}")

    def move(self, job, rows, columns, background=False):
        """To another terminal, by a snapshot. Natively the terminal is only resized."""
        if not self.monitor:
            time.sleep(0.3)  # less, too, may lose a signal that comes just before it reads
            job.drain()
            job.seen = b""
            job.resize(rows, columns)
            return job
        file = f"moved-{self.moves}.kmsnap"
        subprocess.run([self.kmctl, "snapshot", self.control(), "--stop", "-o", file], check=True, stdout=subprocess.DEVNULL)
        if (end := job.end()) != "exited 0":
            sys.exit(f"snapshotted, it {end}")
        self.moves += 1
        return self([file], rows=rows, columns=columns, background=background)


def main():
    arguments = sys.argv[1:]
    monitor = kmctl = None
    if arguments[:1] == ["--km"]:
        monitor, kmctl, arguments = arguments[1], arguments[2], arguments[3:]
    CASES[arguments[0]](Runner(monitor, kmctl))


main()
