#!/usr/bin/env python3
"""kmctl top, once and on a terminal. Prints "ok NAME" or "FAIL NAME: why" for each case."""

import fcntl
import json
import os
import re
import select
import signal
import socket
import struct
import subprocess
import termios
import threading
import time

from controlled import KM, KMCTL, PATIENCE, Program, case, counter, eventually, expect, kmctl, run_cases

PAYLOADS = os.path.abspath("payloads/python")
ENTER, LEAVE = b"\x1b[?1049h", b"\x1b[?1049l"


class Fake:
    """A monitor without a program: a socket in the folder that answers `info`, or nothing."""

    def __init__(self, pid, **info):
        folder = f"{os.environ['XDG_RUNTIME_DIR']}/km"
        os.makedirs(folder, mode=0o700, exist_ok=True)
        self.path = f"{folder}/{pid}.sock"
        self.info = {"pid": pid, "name": f"fake{pid}", "state": "running", "threads": 1, "uptime_ns": 0, **info}
        self.mute = False
        self.clients = []
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen()
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        try:
            while True:
                client = self.listener.accept()[0]
                self.clients.append(client)
                threading.Thread(target=self.serve, args=(client,), daemon=True).start()
        except OSError:
            pass  # it is closed

    def serve(self, client):
        try:
            while header := client.recv(4, socket.MSG_WAITALL):
                request = json.loads(client.recv(struct.unpack("<I", header)[0], socket.MSG_WAITALL))
                # Each answer is a second behind the one before, whatever the clock says.
                self.info["uptime_ns"] += 10**9
                if "exits" in self.info:
                    self.info["exits"] += 1234
                answer = {"version": 1, "id": request["id"], "ok": True, "result": self.info}
                while self.mute:
                    time.sleep(0.01)
                body = json.dumps(answer).encode()
                client.sendall(struct.pack("<I", len(body)) + body)
        except OSError:
            pass

    def close(self):
        os.unlink(self.path)
        for one in [self.listener, *self.clients]:
            one.shutdown(socket.SHUT_RDWR)
            one.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.mute = False
        if self.listener.fileno() >= 0:
            self.close()


class Terminal:
    """A command on a pseudo-terminal of its own."""

    def __init__(self, *command, rows=24, columns=100):
        self.master, self.slave = os.openpty()
        self.resize(rows, columns)
        self.before = termios.tcgetattr(self.slave)
        self.seen = b""
        self.process = subprocess.Popen(
            command, stdin=self.slave, stdout=self.slave, stderr=self.slave, preexec_fn=self.take,
            env={**os.environ, "TERM": "xterm"},
        )

    def take(self):
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    def resize(self, rows, columns):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def read(self, seconds=0.05):
        end = time.monotonic() + seconds
        while select.select([self.master], [], [], max(end - time.monotonic(), 0))[0]:
            self.seen += os.read(self.master, 65536)

    def shown(self):
        """The lines of the last whole screen."""
        self.read()
        screens = self.seen.split(b"\x1b[H")
        if len(screens) < 3:
            return []
        text = re.sub(rb"\x1b\[[?0-9]*[a-zA-Z]", b"", screens[-2]).decode()
        return [line.strip("\r") for line in text.split("\n")]

    def shows(self, text):
        return any(text in line for line in self.shown())

    def type(self, keys):
        os.write(self.master, keys)

    def ended(self):
        """The exit status, when all that it printed is read."""
        end = time.monotonic() + PATIENCE
        while self.process.poll() is None:
            expect(time.monotonic() < end, "it does not end")
            self.read()
        self.read()
        return self.process.returncode

    def restored(self):
        self.read()
        expect(termios.tcgetattr(self.slave) == self.before, "the terminal's settings are not as before")
        expect(self.seen.rindex(LEAVE) > self.seen.rindex(ENTER), "it is still on the other screen")
        expect(self.seen.rindex(b"\x1b[?25h") > self.seen.rindex(b"\x1b[?25l"), "the cursor is hidden")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.master)
        os.close(self.slave)


def top(*options):
    return Terminal(KMCTL, "top", "--interval=0.1", *options)


def rows(text):
    """What is in the columns, by pid."""
    lines = [re.split(r"  +", line.strip()) for line in text.splitlines()]
    expect(lines[0] == ["PID", "NAME", "STATE", "THREADS", "CPU%", "SHARED", "OWN", "EXITS/S", "SNAPSHOT"], text)
    return {int(line[0]): line[1:] for line in lines[1:]}


@case
def once():
    with counter() as program:
        row = rows(kmctl("top", "--once", "--interval=0.5"))[program.pid]
        expect(row[:3] == ["python3", "running", "1"] and row[7] == "-", str(row))
        expect(float(row[3]) > 0 and float(row[6]) > 0, str(row))
        expect(all(re.fullmatch(r"[0-9.]+ ([KMG]i)?B", size) for size in row[4:6]), str(row))
        kmctl("snapshot", program.pid, "-o", "file")
        row = rows(kmctl("top", "--interval=0.1"))[program.pid]
        expect(re.fullmatch(r"\d+s", row[7]), str(row))
        expect("ago" in kmctl("info", program.pid), "info tells no age")


@case
def as_json():
    with counter() as program:
        begin = time.time_ns()
        kmctl("snapshot", program.pid, "-o", "file")
        one = json.loads(kmctl("top", "--once", "--json", "--interval=0.2"))[0]
        expect(one["pid"] == program.pid and one["state"] == "running" and one["threads"] == 1, str(one))
        expect(0 < one["cpu_percent"] < 1000 and one["exits_per_second"] > 0, str(one))
        expect(one["own_bytes"] > 1 << 20 and one["shared_bytes"] >= 0, str(one))
        last = one["last_snapshot"]
        expect(last["path"] == os.path.abspath("file"), str(one))
        expect(begin < last["realtime_ns"] < time.time_ns(), str(one))


@case
def snapshots_of_its_own():
    """Those that the program took by itself count as well, and a resumed one has none yet."""
    code = (
        "import sys, time\n"
        f"sys.path.insert(0, {PAYLOADS!r})\n"
        "import km\n"
        "km.snapshot(go_on=True)\n"
        "print('ready', flush=True)\n"
        "time.sleep(60)\n"
    )
    with Program("/usr/bin/python3", "-c", code) as program:
        info = json.loads(kmctl("info", program.pid, "--json"))
        expect(info["last_snapshot"]["path"] == os.path.abspath("kmsnap"), str(info))
    with Program("./kmsnap") as program:
        info = json.loads(kmctl("info", program.pid, "--json"))
        expect("last_snapshot" not in info, str(info))


@case
def exits_of_all_threads():
    """Threads that have ended count as well."""
    code = (
        "import os, threading, time\n"
        "def calls():\n"
        "    for _ in range(300): os.getppid()\n"
        "for _ in range(4):\n"
        "    one = threading.Thread(target=calls); one.start(); one.join()\n"
        "print('ready', flush=True)\n"
        "time.sleep(60)\n"
    )
    with Program("/usr/bin/python3", "-c", code) as program:
        info = json.loads(kmctl("info", program.pid, "--json"))
        expect(info["threads"] == 1 and info["exits"] > 1200, str(info))


@case
def paused_and_stopped():
    """A program that rests makes no exits; a monitor that is stopped is shown, and keeps nobody waiting."""
    with counter() as first, counter() as second:
        kmctl("pause", first.pid)
        second.process.send_signal(signal.SIGSTOP)
        begin = time.monotonic()
        shown = rows(kmctl("top", "--once", "--interval=0.2"))
        expect(shown[first.pid][1] == "paused" and shown[first.pid][6] == "0", str(shown))
        expect(shown[second.pid][1] == "silent", str(shown))
        expect(time.monotonic() - begin < 10, "it waits")
        second.process.send_signal(signal.SIGCONT)


@case
def nothing_runs():
    expect(kmctl("top", "--once", "--interval=0.01") == "no km is running\n", "the text")
    expect(json.loads(kmctl("top", "--json", "--interval=0.01")) == [], "JSON")
    with top() as terminal:
        eventually(lambda: terminal.shows("no km is running"), "the screen")


@case
def wrong_usage():
    kmctl("top", "target", status=2)
    kmctl("top", "--interval=0", status=2)
    kmctl("top", "--interval=soon", status=2)
    kmctl("list", "--once", status=2)


@case
def older_monitors():
    """One that tells neither exits nor snapshots, one that tells nonsense, and one that tells nothing."""
    with Fake(11), Fake(12, exits=5, threads="x", name=["x"], last_snapshot=7), Fake(13) as mute:
        mute.mute = True
        shown = rows(kmctl("top", "--once", "--interval=0.1"))
        expect(shown[11][6:] == ["-", "-"], str(shown))
        expect(shown[12][2] == "-" and shown[12][6] == "1234", str(shown))
        expect(shown[os.getpid()][:3] == ["-", "silent", "-"], str(shown))


@case
def on_a_terminal():
    """Monitors come and go, and are cut to the window."""
    with Fake(11, exits=0) as first, top() as terminal:
        eventually(lambda: terminal.shows("fake11") and terminal.shows(" 1234 "), "it is not shown")
        settings = termios.tcgetattr(terminal.slave)
        expect(not settings[3] & (termios.ICANON | termios.ECHO), "keys wait for a line, or are shown")
        with Fake(12, name="ünï" * 9 + "\x1b[31m"):
            eventually(lambda: terminal.shows("ünïünïünïünïünï  running"), "another one is not shown")
            first.mute = True
            eventually(lambda: terminal.shows("silent"), "a silent one is not shown as such")
            expect(terminal.shows("fake12") or terminal.shows("ünï"), "one keeps the others from being seen")
            first.mute = False
            eventually(lambda: not terminal.shows("silent"), "it stays silent")
            terminal.resize(4, 30)
            eventually(lambda: len(terminal.shown()) == 4, "the window's height is not respected")
            expect(max(map(len, terminal.shown())) == 30, str(terminal.shown()))
            terminal.resize(24, 100)
        eventually(lambda: terminal.shows("fake11") and not terminal.shows("ünï"), "one that went is still shown")
        terminal.type(b"xyzq")
        expect(terminal.ended() == 0, "q is a failure")
        terminal.restored()


@case
def ends_by_signals():
    with Fake(11):
        for sig in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGALRM):
            with top() as terminal:
                eventually(lambda: terminal.shows("fake11"), "it is not shown")
                terminal.process.send_signal(sig)
                expect(terminal.ended() == (0 if sig == signal.SIGINT else -sig), f"{sig}: the status")
                terminal.restored()
        with top() as terminal:
            eventually(lambda: terminal.shows("fake11"), "it is not shown")
            terminal.type(b"\x03")
            expect(terminal.ended() == 0, "Ctrl-C is a failure")
            terminal.restored()


@case
def stopped_as_a_job():
    """Ctrl-Z gives the terminal back, and fg takes it again."""
    shell = f"'{KMCTL}' top --interval=0.1; echo STOPPED $(stty | grep -c -e -icanon); read; fg; echo ENDED"
    with Fake(11), Terminal("bash", "-mc", shell) as terminal:
        eventually(lambda: terminal.shows("fake11"), "it is not shown")
        terminal.type(b"\x1a")
        eventually(lambda: terminal.read() or b"STOPPED 0" in terminal.seen, "it does not stop as it should")
        terminal.restored()
        terminal.seen = b""
        terminal.type(b"\n")
        eventually(lambda: terminal.shows("fake11"), "it does not go on")
        terminal.type(b"q")
        expect(terminal.ended() == 0 and b"ENDED" in terminal.seen, "it does not end well")
        terminal.restored()


run_cases("top")
