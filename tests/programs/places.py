"""Services under km, snapshotted and resumed: what resumed.py, outside.py and tests/soak/run share."""

import contextlib
import http.client
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
BUILD = (ROOT / os.environ.get("BUILD", "build")).resolve()
KM = str(BUILD / "km")
KMCTL = str(BUILD / "kmctl")
PYTHON = "/usr/bin/python3"
PATIENCE = 120  # seconds


class Failure(Exception):
    pass


class Skipped(Exception):
    pass


def expect(what, got, wanted):
    if got != wanted:
        raise Failure(f"{what}: {got!r}, not {wanted!r}")


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def until(what, condition):
    """Waits for a true result, and returns it."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if result := condition():
            return result
        time.sleep(0.02)
    raise Failure(f"{what}: not within {PATIENCE} s")


class Place:
    """A directory with a snapshot in it, and what runs there."""

    def __init__(self, directory):
        self.directory = pathlib.Path(directory)
        self.snapshot = self.directory / "snapshot"
        self.log = open(self.directory / "log", "a+b")
        self.running = []
        # Where km's control sockets go.
        self.environment = {**os.environ, "XDG_RUNTIME_DIR": str(directory)}

    def start(self, *command, stdin=subprocess.DEVNULL, stdout=None):
        process = subprocess.Popen([str(part) for part in command], stdin=stdin,
                                   stdout=stdout or self.log, stderr=self.log, cwd=self.directory,
                                   env=self.environment)
        self.running.append(process)
        return process

    def under_km(self, *command, **options):
        self.snapshot.unlink(missing_ok=True)
        return self.start(KM, "--no-sync", f"--snapshot={self.snapshot}", *command, **options)

    def resume(self, *options, **more):
        return self.start(KM, *options, self.snapshot, **more)

    def live(self, process, file=None):
        """A snapshot from outside, of a process that goes on; kmctl's answer."""
        command = [KMCTL, "snapshot", str(process.pid), "--json", "-o", str(file or self.snapshot)]
        result = subprocess.run(command, env=self.environment, stdout=subprocess.PIPE,
                                stderr=self.log, timeout=PATIENCE, check=False)
        expect("the status of kmctl snapshot", result.returncode, 0)
        return json.loads(result.stdout)

    def end(self, process, signal_number=signal.SIGKILL):
        process.send_signal(signal_number)
        process.wait(PATIENCE)

    def taken(self, process):
        """The process ends with its snapshot."""
        try:
            expect("the status with the snapshot", process.wait(PATIENCE), 0)
        except subprocess.TimeoutExpired:
            raise Failure("it does not end with its snapshot") from None
        expect("a snapshot", self.snapshot.exists(), True)

    def take(self, process):
        """A snapshot from outside, which ends the process."""
        command = [KMCTL, "snapshot", str(process.pid), "--stop", "-o", str(self.snapshot)]
        result = subprocess.run(command, env=self.environment, stdout=self.log, stderr=self.log,
                                timeout=PATIENCE, check=False)
        expect("the status of kmctl snapshot", result.returncode, 0)
        self.taken(process)

    def clean(self):
        for process in self.running:
            if process.poll() is None:
                process.kill()
                process.wait()
        self.log.seek(0)
        text = self.log.read().decode(errors="replace")
        self.log.close()
        return text


def connect(port, process):
    """Waits until the server takes connections."""
    def attempt():
        if process.poll() is not None:
            raise Failure(f"the server ended with status {process.returncode}")
        with contextlib.suppress(OSError):
            return socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        return None
    return until("a connection", attempt)


def get(port, path):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request("GET", path)
        return connection.getresponse().read().decode()
    finally:
        connection.close()


def run_tests(tests, needed, suffix, out, names):
    """A line for each test, as tests/lib.sh prints them; whether one failed. What a test returns is shown."""
    failures = 0
    for name in names or tests:
        if name in needed and not shutil.which(needed[name]):
            print(f"skip {name}-{suffix}: {needed[name]} is not installed (tools/setup programs)")
            continue
        with tempfile.TemporaryDirectory() as directory:
            place = Place(directory)
            place.out = pathlib.Path(out)
            why = skipped = figures = None
            try:
                figures = tests[name](place)
            except (Failure, OSError, http.client.HTTPException,
                    subprocess.TimeoutExpired) as error:
                why = f"{type(error).__name__}: {error}" if not isinstance(error, Failure) else error
            except Skipped as reason:
                skipped = reason
            log = place.clean()
            if figures:
                print(f"# {name}-{suffix}: {figures}")
            if why is None:
                print(f"skip {name}-{suffix}: {skipped}" if skipped else f"ok {name}-{suffix}", flush=True)
                continue
            failures += 1
            print(f"FAIL {name}-{suffix}: {why}")
            for text in log.splitlines()[-20:]:
                print(f"    | {text}")
            sys.stdout.flush()
    return failures != 0
