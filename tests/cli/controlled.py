"""Programs under km that are controlled from outside: what control.py and the scripts like it share."""

import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time

KM, KMCTL, OUT = os.environ["KM"], os.environ["KMCTL"], os.environ["OUT"]
TMP = os.path.join(sys.argv[1], "control")
PATIENCE = 60  # seconds: what does not happen by then never does
COUNTER = (
    "import os, sys, time\n"
    "n = 0\n"
    "print('ready', flush=True)\n"
    "while True:\n"
    "    n += 1\n"
    "    name = 'count.' + os.urandom(8).hex()\n"  # several may run in one directory
    "    open(name, 'w').write(str(n))\n"
    "    os.rename(name, 'count')\n"
    "    time.sleep(0.002)\n"
)
cases = []


def case(function):
    cases.append(function)
    return function


class Wrong(Exception):
    pass


class Skipped(Exception):
    pass


def expect(condition, why):
    if not condition:
        raise Wrong(why)


def eventually(condition, why):
    """What the condition is at last, which is something true."""
    end = time.monotonic() + PATIENCE
    while not (reached := condition()):
        expect(time.monotonic() < end, why)
        time.sleep(0.01)
    return reached


class Program:
    """A program under km that has said "ready", in a directory of its own."""

    def __init__(self, *command, options=(), ready=True, launcher=(), directory=None):
        self.errors = open("errors", "wb")
        self.process = subprocess.Popen(
            [*launcher, KM, *options, *command], cwd=directory, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=self.errors,
        )
        self.pid = self.process.pid
        self.socket = f"{os.environ['XDG_RUNTIME_DIR']}/km/{self.pid}.sock"
        if ready:
            expect(self.process.stdout.readline() == b"ready\n", "it did not begin")
        if not options:
            eventually(lambda: os.path.exists(self.socket), "there is no socket")

    def end(self, sig=signal.SIGKILL):
        """Its output and exit status."""
        self.process.send_signal(sig)
        output = self.process.communicate(timeout=PATIENCE)[0].decode()
        return output, self.process.returncode

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


def few_descriptors():
    """A launcher for a Program whose monitor can have no more descriptors than the program."""
    launcher = ["prlimit", "--nofile=100:100"]
    if os.geteuid() == 0:
        launcher += ["setpriv", "--bounding-set=-sys_resource"]
    return launcher


class Held(Program):
    """A resumed process that km --paused holds."""

    def __init__(self, file, *options):
        super().__init__(file, options=["--paused", *options], ready=False)
        eventually(lambda: os.path.exists(self.socket), "there is no socket")

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))


class Raw:
    """A client that need not keep to the protocol."""

    def __init__(self, program):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(PATIENCE)
        self.socket.connect(program.socket)

    def send(self, body, length=None):
        self.socket.sendall(struct.pack("<I", len(body) if length is None else length) + body)

    def answer(self):
        length = struct.unpack("<I", self.receive(4))[0]
        return json.loads(self.receive(length))

    def receive(self, size):
        data = b""
        while len(data) < size:
            piece = self.socket.recv(size - len(data))
            expect(piece, "the monitor closed the connection")
            data += piece
        return data

    def code(self, body, length=None):
        self.send(body, length)
        return self.answer()["error"]["code"]


def new_file():
    return os.open("file", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)


class FileClient(Raw):
    """One that asks for a snapshot in a file of its own."""

    def request(self, fd, **members):
        body = json.dumps({"version": 1, "verb": "snapshot", "path": os.path.abspath("file"), **members}).encode()
        socket.send_fds(self.socket, [struct.pack("<I", len(body)) + body], [fd])

    def ask(self, fd, **members):
        self.request(fd, **members)
        while "event" in (answer := self.answer()):
            pass
        return answer

    def say_end(self):
        self.send(json.dumps({"version": 1, "verb": "end"}).encode())

    def end(self):
        self.say_end()
        return self.answer()


def kmctl(*arguments, status=0):
    """What it printed: to standard output, or to standard error when it is to fail."""
    done = subprocess.run([KMCTL, *map(str, arguments)], capture_output=True, text=True, timeout=PATIENCE)
    expect(done.returncode == status, f"kmctl {arguments} ended with {done.returncode}: {done.stderr}")
    return done.stderr if status else done.stdout


def writer_of(program):
    """The process that writes a snapshot of it just now, or None."""
    try:
        for pid in open(f"/proc/{program.pid}/task/{program.pid}/children").read().split():
            if open(f"/proc/{pid}/comm").read() == "km-snapshot\n":
                return int(pid)
    except OSError:  # one of them has ended
        pass
    return None


def left_over():
    """Files here that are no snapshot yet."""
    return [name for name in os.listdir() if name.startswith(".kmsnap")]


def counter():
    return Program("/usr/bin/python3", "-c", COUNTER)


def count():
    return int(open("count").read())


def invariant(megabytes=16, threads=4):
    return Program(f"{OUT}/keeps_invariant", str(megabytes), str(threads))


def ends_right(program, what="afterwards"):
    """One of keeps_invariant's: it finds everything as it should be."""
    output, status = program.end(signal.SIGTERM)
    expect(status == 0 and output.startswith("right"), f"{what}: status {status}, {output!r}")


def resumes_right(file):
    with Program(file, ready=False) as program:
        time.sleep(0.2)
        ends_right(program, file)


def run(prefix, function):
    name = f"{prefix}.{function.__name__}"
    os.environ["XDG_RUNTIME_DIR"] = f"{TMP}/run"
    os.makedirs(f"{TMP}/run", mode=0o700)
    os.mkdir(f"{TMP}/{function.__name__}")
    os.chdir(f"{TMP}/{function.__name__}")
    try:
        function()
        print(f"ok {name}", flush=True)
    except Skipped as why:
        print(f"skip {name}: {why}", flush=True)
    except (Wrong, OSError, KeyError, ValueError, subprocess.SubprocessError) as error:
        print(f"FAIL {name}: {type(error).__name__}: {error}", flush=True)
        sys.stdout.flush()
        if os.path.exists("errors"):
            for line in open("errors", errors="replace").read().splitlines()[-20:]:
                print(f"    | {line}", flush=True)
    os.chdir("/")
    shutil.rmtree(f"{TMP}/run", ignore_errors=True)
    shutil.rmtree(f"{TMP}/{function.__name__}", ignore_errors=True)


def run_cases(prefix):
    """Those that the command line names, or all."""
    os.makedirs(TMP)
    for one in cases:
        if len(sys.argv) < 3 or one.__name__ in sys.argv[2:]:
            run(prefix, one)
    shutil.rmtree(TMP, ignore_errors=True)
