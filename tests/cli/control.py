#!/usr/bin/env python3
"""Running programs controlled from outside. Prints "ok NAME" or "FAIL NAME: why" for each case."""

import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time

from controlled import (
    KM, KMCTL, OUT, PATIENCE, TMP, Program, Skipped, case, count, counter, eventually, expect, invariant, kmctl, resumes_right,
    run_cases,
)


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


@case
def verbs():
    with counter() as program:
        row = kmctl("list")
        expect(str(program.pid) in row and "running" in row, row)
        for target in (program.pid, "python3", program.socket):
            info = json.loads(kmctl("info", target, "--json"))
            expect(info["pid"] == program.pid and info["threads"] == 1, str(info))
        expect("command" in kmctl("info", program.pid), "info tells no command")
        listed = json.loads(kmctl("list", "--json"))
        expect([one["pid"] for one in listed] == [program.pid], str(listed))
        expect("possible now" in kmctl("check", program.pid), "check")
        table = kmctl("stats", program.pid, "--interval=0.2")
        expect(re.search(r"\d+ +rename", table), table)


@case
def wrong_usage():
    with counter() as program:
        kmctl("frobnicate", status=2)
        kmctl("info", status=2)
        kmctl("trace", program.pid, "perhaps", status=2)
        kmctl("signal", program.pid, "NONESUCH", status=2)
        kmctl("info", program.pid, "--stop", status=2)
        expect("kmctl list" in kmctl("info", 1, status=1), "no hint")
        expect("kmctl list" in kmctl("info", "nonesuch", status=1), "no hint")
    expect("no km is running" in kmctl("list"), "it is still listed")


@case
def pause_and_resume():
    with counter() as program:
        eventually(lambda: os.path.exists("count"), "it does not count")
        kmctl("pause", program.pid)
        kmctl("pause", program.pid)
        expect("paused" in kmctl("list"), "not listed as paused")
        before = count()
        time.sleep(0.2)
        expect(count() == before, "it goes on while paused")
        kmctl("snapshot", program.pid, "-o", "paused")
        expect(count() == before, "it goes on after a snapshot")
        kmctl("resume", program.pid)
        eventually(lambda: count() > before, "it does not go on")


@case
def begins_paused():
    with Program("/bin/echo", "hello", options=["--paused"], ready=False) as program:
        eventually(lambda: os.path.exists(program.socket), "there is no socket")
        time.sleep(0.1)
        expect(program.process.poll() is None, "it ran")
        kmctl("resume", program.pid)
        expect(program.process.communicate(timeout=PATIENCE)[0] == b"hello\n", "it did not run")


@case
def live_snapshot():
    with invariant() as program:
        for i in range(5):
            shown = json.loads(kmctl("snapshot", program.pid, "-o", f"file{i}", "--label", "five", "--json"))
            expect(shown["file_bytes"] == os.path.getsize(f"file{i}"), str(shown))
        output, status = program.end(signal.SIGTERM)
        expect(status == 0 and output.startswith("right"), f"afterwards: {status} {output!r}")
    for i in range(5):
        resumes_right(f"./file{i}")
    expect("five" in kmctl("inspect", "file0"), "the label is lost")


@case
def snapshot_and_stop():
    with invariant() as program:
        kmctl("snapshot", program.pid, "--stop", "-o", "file")
        expect(program.process.wait(PATIENCE) == 0, "km does not end well")
    resumes_right("./file")


@case
def stops_where_the_file_is_of():
    """What the program did is in the file: resumed, it repeats nothing and leaves nothing out."""
    code = (
        "import os, time\n"
        "data = bytearray(b'x') * (64 << 20)\n"
        "log = os.open('log', os.O_WRONLY | os.O_CREAT | os.O_APPEND)\n"
        "print('ready', flush=True)\n"
        "n = 0\n"
        "while True:\n"
        "    n += 1\n"
        "    os.write(log, b'%d\\n' % n)\n"
        "    time.sleep(0.001)\n"
    )
    with Program("/usr/bin/python3", "-c", code) as program:
        eventually(lambda: os.path.exists("log") and os.path.getsize("log") > 0, "it does not write")
        kmctl("snapshot", program.pid, "--stop", "-o", "file")
    size = os.path.getsize("log")
    with Program("./file", ready=False) as program:
        eventually(lambda: os.path.getsize("log") > size, "it does not go on")
    numbers = [int(line) for line in open("log").read().splitlines()]
    expect(numbers == list(range(1, len(numbers) + 1)), "it does not go on from where it stopped")


@case
def writer_lets_go():
    """Whoever reads a pipe of the program's must not wait for the snapshot's writer."""
    with invariant(256) as program:
        pipe = os.readlink(f"/proc/self/fd/{program.process.stdout.fileno()}")
        client = subprocess.Popen(
            [KMCTL, "snapshot", str(program.pid), "-o", "file"], stdout=subprocess.DEVNULL
        )
        eventually(lambda: [n for n in os.listdir() if n.startswith(".kmsnap")], "it does not begin")
        children = open(f"/proc/{program.pid}/task/{program.pid}/children").read().split()
        expect(len(children) == 1, f"the writers are {children}")
        links = [os.readlink(entry.path) for entry in os.scandir(f"/proc/{children[0]}/fd")]
        expect(links and pipe not in links, f"the writer has {links}")
        expect(client.wait(PATIENCE) == 0, "the client has no file")


@case
def of_a_resumed_one():
    with invariant() as program:
        kmctl("snapshot", program.pid, "--stop", "-o", "file")
    with Program("./file", ready=False) as program:
        info = json.loads(kmctl("info", program.pid, "--json"))
        expect(len(info["resumed_from"]["id"]) == 32, str(info))
        kmctl("snapshot", program.pid, "-o", "file")
    resumes_right("./file")


@case
def on_connection():
    code = (
        "import os, socket\n"
        "s = socket.create_server(('127.0.0.1', 0))\n"
        "open('port', 'w').write(str(s.getsockname()[1]))\n"
        "print('ready', flush=True)\n"
        "while True:\n"
        "    c, _ = s.accept()\n"
        "    open('awake', 'w').close()\n"
        "    c.sendall(c.recv(100).upper())\n"
        "    c.close()\n"
    )
    with Program("/usr/bin/python3", "-c", code) as program:
        kmctl("snapshot", program.pid, "--stop", "-o", "file")
    port = int(open("port").read())
    with Program("./file", options=["--on-connection"], ready=False) as program:
        eventually(lambda: os.path.exists(program.socket), "there is no socket")
        expect(json.loads(kmctl("info", program.pid, "--json"))["state"] == "waiting", "it does not wait")
        time.sleep(0.1)
        expect(not os.path.exists("awake"), "it runs")
        for word in (b"one", b"two"):
            with socket.create_connection(("127.0.0.1", port), PATIENCE) as client:
                client.sendall(word)
                expect(client.recv(100) == word.upper(), "no answer")
        expect(json.loads(kmctl("info", program.pid, "--json"))["state"] == "running", "it does not run")
    with Program("./file", options=["--on-connection"], ready=False) as program:
        eventually(lambda: os.path.exists(program.socket), "there is no socket")
        expect(program.end(signal.SIGTERM)[1] == -signal.SIGTERM, "a signal does not end it")
    none = subprocess.run([KM, "--on-connection", "/bin/true"], capture_output=True, text=True)
    expect(none.returncode == 125 and "no listening socket" in none.stderr, str(none))


# Serves one client after the other; says who it is when it ends.
SERVER = (
    "import os, signal, socket, sys\n"
    "s = socket.create_server(('127.0.0.1', 0))\n"
    "open('port', 'w').write(str(s.getsockname()[1]))\n"
    "open('number', 'w').write(str(s.fileno()))\n"
    "if 'ignore' in sys.argv: signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    "if 'catch' in sys.argv: signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))\n"
    "near, far = socket.socketpair()\n"
    "print('ready', flush=True)\n"
    "while True:\n"
    "    c, _ = s.accept()\n"
    "    while word := c.recv(100): c.sendall(word.upper())\n"
    "    c.close()\n"
)


def served(port, word):
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as client:
        client.sendall(word)
        answer = client.recv(100)
    expect(answer == word.upper(), f"{answer!r} for {word!r}")


def server_file(*arguments):
    """The port of a server; its snapshot is in "file"."""
    with Program("/usr/bin/python3", "-c", SERVER, *arguments) as program:
        kmctl("snapshot", program.pid, "--stop", "-o", "file")
    return int(open("port").read())


@case
def idle_exit():
    with Program("/usr/bin/python3", "-c", SERVER, options=["--idle-exit=1s"]) as program:
        port = int(open("port").read())
        # For longer than that, and it stays.
        with socket.create_connection(("127.0.0.1", port), PATIENCE):
            time.sleep(2)
            expect(program.process.poll() is None, "it ended while somebody was connected")
        begin = time.monotonic()
        expect(program.process.wait(PATIENCE) == -signal.SIGTERM, "it did not end by SIGTERM")
        expect(time.monotonic() - begin > 0.99, "it ended too soon")


@case
def idle_exit_and_short_connections():
    with Program("/usr/bin/python3", "-c", SERVER, options=["--idle-exit=1s"]) as program:
        port = int(open("port").read())
        for _ in range(10):
            served(port, b"word")
            time.sleep(0.3)
        expect(program.process.wait(PATIENCE) == -signal.SIGTERM, "it did not end by SIGTERM")


@case
def idle_exit_is_the_programs():
    """It may catch the signal, or ignore it; a pause is no time, and who listens nowhere is no service."""
    with Program("/usr/bin/python3", "-c", SERVER, "catch", options=["--idle-exit=500ms"]) as program:
        expect(program.process.wait(PATIENCE) == 7, "its handler did not run")
    with Program("/usr/bin/python3", "-c", SERVER, "ignore", options=["--idle-exit=100ms"]) as program:
        time.sleep(1)
        served(int(open("port").read()), b"word")
    with Program("/usr/bin/python3", "-c", SERVER, options=["--idle-exit=2s"]) as program:
        eventually(lambda: os.path.exists(program.socket), "there is no socket")
        kmctl("pause", program.pid)
        time.sleep(2.5)
        kmctl("resume", program.pid)
        served(int(open("port").read()), b"word")
    slow = "import time; time.sleep(1); print('ready', flush=True)"
    with Program("/usr/bin/python3", "-c", slow, options=["--idle-exit=100ms"]) as program:
        expect(program.process.wait(PATIENCE) == 0, "it was taken for a service")


@case
def served_again_and_again():
    """A loop of --on-connection and --idle-exit; who holds the listener meanwhile holds the clients too."""
    server_file()
    number = int(open("number").read())
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        os.set_inheritable(listener.fileno(), True)
        script = (
            "while :; do echo begin >>log\n"
            f"  {KM} --on-connection --idle-exit=50ms --fd {number}=fd:{listener.fileno()} ./file\n"
            "  echo $? >>log; done"
        )
        loop = subprocess.Popen(
            ["bash", "-c", script], close_fds=False, start_new_session=True, stderr=open("errors", "wb")
        )
        try:
            # The pauses are about as long as the time, so that many come in the middle of an end.
            for i in range(60):
                served(listener.getsockname()[1], b"word %d" % i)
                time.sleep((i % 12) * 0.008)
            # Several at once, which wait for one another.
            clients = [socket.create_connection(listener.getsockname(), PATIENCE) for _ in range(10)]
            for i, client in enumerate(clients):
                client.sendall(b"word %d" % i)
                expect(client.recv(100) == b"WORD %d" % i, "no answer")
                client.close()
        finally:
            os.killpg(loop.pid, signal.SIGKILL)
            loop.wait()
    log = open("log").read().split()
    expect(log.count("begin") > 3, f"it did not end between the clients: {log}")
    expect(set(log) == {"begin", "143"}, f"it ended otherwise: {log}")


class Held(Program):
    """A resumed process that km --paused holds."""

    def __init__(self, file, *options):
        super().__init__(file, options=["--paused", *options], ready=False)
        eventually(lambda: os.path.exists(self.socket), "there is no socket")

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))


# Serves what comes to descriptor 20 with what it reads from 21, of which 22 is a duplicate.
READER = (
    "import os, select, socket\n"
    "s = socket.create_server(('127.0.0.1', 0))\n"
    "open('port', 'w').write(str(s.getsockname()[1]))\n"
    "os.dup2(s.fileno(), 20); s.close(); s = socket.socket(fileno=20)\n"
    "s.setblocking(False)\n"
    "os.dup2(os.open('data', os.O_RDONLY), 21)\n"
    "os.read(21, 2)\n"
    "os.dup2(21, 22)\n"
    "e = select.epoll(); e.register(s, select.EPOLLIN | select.EPOLLET)\n"
    "print('ready', flush=True)\n"
    "while True:\n"
    "    e.poll()\n"
    "    c, _ = s.accept()\n"
    "    c.sendall(os.read(21, 2) + os.read(22, 2))\n"
    "    c.close()\n"
)


def reader_file():
    open("data", "w").write("0123456789")
    open("other", "w").write("abcdefghij")
    with Program("/usr/bin/python3", "-c", READER) as program:
        kmctl("snapshot", program.pid, "--stop", "-o", "file")
    return int(open("port").read())


def says(port):
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as client:
        return client.recv(100)


def listening():
    listener = socket.create_server(("127.0.0.1", 0))
    return listener, listener.getsockname()[1]


def supply_fd(client, number, *descriptors, body=None):
    """The answer to a request with these descriptors."""
    body = body or json.dumps({"version": 1, "verb": "supply", "fd": number}).encode()
    socket.send_fds(client.socket, [struct.pack("<I", len(body)) + body], descriptors)
    return client.answer()


@case
def supplied():
    reader_file()
    # As many as there are, each with a listener of its own: none has bound the snapshot's address.
    with Held("./file") as one, Held("./file") as other:
        first, first_port = listening()
        second, second_port = listening()
        with first, second:
            answer = supply_fd(Raw(one), 20, first.fileno())
            expect(answer["ok"] and answer["result"] == {"fd": 20}, str(answer))
            done = subprocess.run(
                [KMCTL, "supply", str(other.pid), f"20=fd:{second.fileno()}", "22=other"],
                pass_fds=[second.fileno()], capture_output=True, text=True,
            )
            expect(done.returncode == 0 and not done.stderr, done.stderr)
        kmctl("resume", one.pid)
        kmctl("resume", other.pid)
        expect(says(first_port) == b"2345", "another file")
        # A path is read from where the snapshot was, through all that shared the open file.
        expect(says(second_port) == b"cdef", "not what was supplied")
        expect(json.loads(kmctl("info", one.pid, "--json"))["state"] == "running", "it does not run")


@case
def supplied_what_does_not_fit():
    port = reader_file()
    with Held("./file") as program, open("other") as other, socket.socket() as idle:
        client = Raw(program)
        before = program.descriptors()
        info = json.loads(kmctl("info", program.pid, "--json"))
        expect(info["state"] == "paused" and info["descriptors"] == 8, str(info))
        for number, descriptor, text in (
            (20, other.fileno(), "supply 20: it is a regular file; the snapshot's descriptor is a socket"),
            (20, idle.fileno(), "the snapshot's descriptor is a listening"),
            (21, idle.fileno(), "it is a socket"),
            (4, other.fileno(), "which only km can make"),
            (99, other.fileno(), "no such descriptor"),
        ):
            answer = supply_fd(client, number, descriptor)
            message = answer["error"]["message"]
            expect(answer["error"]["code"] == "failed" and text in message, str(answer))
        expect(supply_fd(client, -1, other.fileno())["error"]["code"] == "bad-request", "number")
        expect(program.descriptors() == before, "what was refused is still open")
        for words, text in (
            (["21=none"], "none"),
            (["21=."], "it is a directory"),
            (["21=fd:77"], "inherited no descriptor 77"),
            (["21=/proc/self/mem"], "files of /proc"),
        ):
            expect(text in kmctl("supply", program.pid, *words, status=1), f"{words}")
        for words in ([], ["21"], ["x=other"], ["21="]):
            kmctl("supply", program.pid, *words, status=2)
        expect("resume it first" in kmctl("snapshot", program.pid, "-o", "new", status=1), "a snapshot")
        expect("resume it first" in kmctl("check", program.pid, status=1), "a check")
        # The first one holds.
        kmctl("supply", program.pid, "21=other")
        expect("supplied already" in kmctl("supply", program.pid, "22=data", status=1), "twice")
        kmctl("resume", program.pid)
        expect(says(port) == b"cdef", "not what was supplied")
        message = kmctl("supply", program.pid, "21=data", status=1)
        expect("until it is resumed" in message, message)
    with Program("/bin/sleep", "60", options=["--paused"], ready=False) as program:
        eventually(lambda: os.path.exists(program.socket), "there is no socket")
        expect("snapshot" in kmctl("supply", program.pid, "1=data", status=1), "of no snapshot")


@case
def supplied_too_much():
    """What a client sends stays nowhere: not with requests that want none, nor too many, nor half a one."""
    reader_file()
    with Held("./file") as program, open("other") as other:
        before = program.descriptors()
        client, half = Raw(program), Raw(program)
        eventually(lambda: program.descriptors() == before + 2, "not one for each client")
        info = json.dumps({"version": 1, "verb": "info"}).encode()
        for i in range(50):
            expect(supply_fd(client, 0, other.fileno(), body=info)["ok"], "info")
            expect(supply_fd(client, 21, *[other.fileno()] * 2)["error"]["code"] == "bad-request", "two")
            expect(supply_fd(client, 21, *[other.fileno()] * 100)["error"]["code"] == "bad-request", "many")
            expect(supply_fd(client, 21, other.fileno(), body=b"{}")["ok"] is False, "no request")
            # Bytes of a request that never ends: one descriptor at most.
            socket.send_fds(half.socket, [struct.pack("<I", 60000) if i == 0 else b" "], [other.fileno()])
        kmctl("info", program.pid)
        expect(program.descriptors() <= before + 3, "descriptors are left in km")
        # What came with an earlier request is not taken for a later one.
        client.send(json.dumps({"version": 1, "verb": "supply", "fd": 21}).encode())
        expect(client.answer()["error"]["code"] == "bad-request", "an old one was taken")
        # In the middle of its bytes, and behind another request in one go.
        body = json.dumps({"version": 1, "verb": "supply", "fd": 21}).encode()
        frame = struct.pack("<I", len(body)) + body
        client.socket.sendall(struct.pack("<I", len(info)) + info + frame[:10])
        socket.send_fds(client.socket, [frame[10:]], [other.fileno()])
        expect(client.answer()["ok"] and client.answer()["ok"], "in pieces")
        half.socket.close()
        eventually(lambda: program.descriptors() == before + 2, "a client that went has left one")


@case
def held_and_in_vain():
    """What the snapshot needs and nobody supplied is missed when it is resumed."""
    reader_file()
    os.remove("data")
    with Held("./file") as program:
        expect("data" in kmctl("resume", program.pid, status=1), "it does not say why")
        expect(program.process.wait(PATIENCE) == 126, "km does not end")
        expect("data" in open("errors").read(), "km does not say why")
        expect(not os.path.exists(program.socket), "its socket stays")
    with Held("./file") as program:
        kmctl("supply", program.pid, "21=other")
        kmctl("resume", program.pid)
        expect(says(int(open("port").read())) == b"cdef", "it was not supplied")


@case
def held_and_on_connection():
    reader_file()
    listener, port = listening()
    with Held("./file", "--on-connection") as program, listener:
        expect(supply_fd(Raw(program), 20, listener.fileno())["ok"], "not supplied")
        kmctl("resume", program.pid)
        expect(json.loads(kmctl("info", program.pid, "--json"))["state"] == "waiting", "it does not wait")
        expect(says(port) == b"2345", "it was not resumed")
        expect(json.loads(kmctl("info", program.pid, "--json"))["state"] == "running", "it does not run")


@case
def refused():
    code = "import os; os.mkdir('gone'); os.open('gone', 0); os.rmdir('gone'); print('ready', flush=True)\n"
    with Program("/usr/bin/python3", "-c", code + "import time; time.sleep(60)") as program:
        open("file", "w").write("older")
        expect("deleted" in subprocess.run([KMCTL, "check", str(program.pid)], capture_output=True,
                                           text=True).stdout, "check does not say why")
        expect("deleted" in kmctl("snapshot", program.pid, "-o", "file", status=1), "it does not say why")
        expect(open("file").read() == "older", "the older file is not as it was")
        kmctl("snapshot", program.pid, "-o", "/nonesuch/file", status=1)
        kmctl("snapshot", program.pid, "-o", ".", status=1)
        kmctl("info", program.pid)


@case
def two_at_once():
    with invariant(64) as program:
        both = [
            subprocess.Popen(
                [KMCTL, "snapshot", str(program.pid), "-o", f"file{i}"], stdout=subprocess.DEVNULL
            )
            for i in (0, 1)
        ]
        expect([one.wait(PATIENCE) for one in both] == [0, 0], "one failed")
    resumes_right("./file0")
    resumes_right("./file1")


@case
def client_killed():
    with invariant(256) as program:
        client = subprocess.Popen(
            [KMCTL, "snapshot", str(program.pid), "-o", "file"], stdout=subprocess.DEVNULL
        )
        eventually(lambda: [n for n in os.listdir() if n.startswith(".kmsnap")], "it does not begin")
        client.kill()
        client.wait()
        eventually(lambda: not [n for n in os.listdir() if n.startswith(".kmsnap")], "its file stays")
        kmctl("snapshot", program.pid, "-o", "file")
        output, status = program.end(signal.SIGTERM)
        expect(status == 0 and output.startswith("right"), f"afterwards: {status} {output!r}")


@case
def cancelled_beside_timers():
    """The monitor's main thread is never idle for long: each expiry comes through it."""
    code = (
        "import signal\n"
        "data = bytearray(b'x') * (512 << 20)\n"
        "signal.signal(signal.SIGALRM, lambda *_: None)\n"
        "signal.setitimer(signal.ITIMER_REAL, 0.002, 0.002)\n"
        "print('ready', flush=True)\n"
        "while True: signal.pause()\n"
    )
    with Program("/usr/bin/python3", "-c", code) as program:
        client = subprocess.Popen([KMCTL, "snapshot", str(program.pid), "-o", "file"])
        eventually(lambda: [n for n in os.listdir() if n.startswith(".kmsnap")], "it does not begin")
        client.kill()
        client.wait()
        eventually(lambda: not [n for n in os.listdir() if n.startswith(".kmsnap")], "its file stays")
        expect(not os.path.exists("file"), "the snapshot was not given up")


@case
def program_ends_meanwhile():
    with invariant(256) as program:
        client = subprocess.Popen(
            [KMCTL, "snapshot", str(program.pid), "-o", "file"], stdout=subprocess.DEVNULL
        )
        eventually(lambda: [n for n in os.listdir() if n.startswith(".kmsnap")], "it does not begin")
        program.end(signal.SIGTERM)
        expect(client.wait(PATIENCE) == 0, "the client has no file")
    resumes_right("./file")


@case
def no_room():
    os.mkdir("small")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", "small"], capture_output=True)
    if mounted.returncode != 0:
        raise Skipped("cannot mount a small file system")
    try:
        with invariant(32) as program:
            expect("No space" in kmctl("snapshot", program.pid, "-o", "small/file", status=1), "no reason")
            expect(os.listdir("small") == [], "something is left over")
            kmctl("snapshot", program.pid, "-o", "file")
    finally:
        subprocess.run(["umount", "small"], check=True)
    resumes_right("./file")


@case
def signals_and_wait():
    with counter() as program:
        waiting = subprocess.Popen([KMCTL, "wait", str(program.pid)], stdout=subprocess.PIPE)
        connected = lambda: open("/proc/net/unix").read().count(program.socket) > 1
        eventually(connected, "kmctl wait does not connect")
        time.sleep(0.2)
        kmctl("signal", program.pid, "SIGTERM")
        expect(program.process.wait(PATIENCE) == -signal.SIGTERM, "it does not die of it")
        expect(waiting.wait(PATIENCE) == 128 + signal.SIGTERM, "wait does not tell")
        waiting.stdout.close()


@case
def tracing():
    with counter() as program:
        kmctl("trace", program.pid, "on", "rename")
        eventually(lambda: b'rename("count.new", "count")' in open("errors", "rb").read(), "no trace")
        kmctl("trace", program.pid, "off")
        size = os.path.getsize("errors")
        time.sleep(0.1)
        expect(os.path.getsize("errors") == size, "it goes on")
        kmctl("trace", program.pid, "on", "[", status=1)


@case
def hostile_clients():
    with counter() as program:
        stalled = [Raw(program) for _ in range(4)]
        for one in stalled:
            one.socket.sendall(b"\x40\x00\x00\x00{")
        expect(Raw(program).code(b"{") == "bad-request", "broken JSON")
        expect(Raw(program).code(b"[1]") == "bad-request", "an array")
        expect(Raw(program).code(b"[" * 60000) == "bad-request", "nested")
        expect(Raw(program).code(b"\xff\xfe") == "bad-request", "no UTF-8")
        expect(Raw(program).code(b'{"version":2,"verb":"info"}') == "unsupported-version", "version")
        expect(Raw(program).code(b'{"version":1}') == "bad-request", "no verb")
        expect(Raw(program).code(b'{"version":1,"verb":"x"}') == "unknown-verb", "verb")
        expect(Raw(program).code(b'{"version":1,"verb":"snapshot","path":3}') == "bad-request", "type")
        expect(Raw(program).code(b'{"version":1,"verb":"snapshot","path":"x"}') == "bad-request", "path")
        expect(Raw(program).code(b'{"version":1,"verb":"signal","signal":99}') == "bad-request", "signal")
        expect(Raw(program).code(b"x", 100 << 20) == "bad-request", "100 MB")
        # It may go on after a wrong one, with any number of right ones, and answers keep their order.
        client = Raw(program)
        client.code(b"{}")
        for i in range(100):
            client.send(json.dumps({"version": 1, "id": i, "verb": "info"}).encode())
        expect([client.answer()["id"] for _ in range(100)] == list(range(100)), "order")
        kmctl("info", program.pid)


@case
def too_many_clients():
    with counter() as program:
        silent = [Raw(program) for _ in range(1000)]
        kmctl("info", program.pid)
        del silent


@case
def deaf_client():
    with counter() as program:
        client = Raw(program)
        request = json.dumps({"version": 1, "verb": "info"}).encode()
        try:
            for _ in range(50000):
                client.send(request)
        except OSError:
            pass  # it was dropped
        kmctl("info", program.pid)


@case
def others_are_refused():
    if os.geteuid() != 0:
        raise Skipped("needs root to be somebody else")
    with counter() as program:
        os.chmod(program.socket, 0o666)
        for directory in (os.environ["XDG_RUNTIME_DIR"], os.environ["XDG_RUNTIME_DIR"] + "/km", sys.argv[1], TMP):
            os.chmod(directory, 0o755)
        child = os.fork()
        if child == 0:
            os.setuid(65534)
            try:
                os._exit(0 if Raw(program).answer()["error"]["code"] == "refused" else 1)
            except OSError as error:
                print(error, file=sys.stderr)
                os._exit(2)
        expect(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, "somebody else was not refused")


@case
def the_program_itself_is_refused():
    code = (
        "import os, socket, sys, time\n"
        "print('ready', flush=True)\n"
        "while not os.path.exists('socket'): time.sleep(0.01)\n"
        "s = socket.socket(socket.AF_UNIX); s.connect(open('socket').read())\n"
        "print(b'refused' in s.recv(4096))\n"
    )
    with Program("/usr/bin/python3", "-c", code) as program:
        open("socket.new", "w").write(program.socket)
        os.rename("socket.new", "socket")
        expect(program.process.communicate(timeout=PATIENCE)[0] == b"True\n", "it was not refused")


@case
def directory_removed():
    with counter() as program:
        eventually(lambda: os.path.exists("count"), "it does not count")
        shutil.rmtree(os.environ["XDG_RUNTIME_DIR"] + "/km")
        before = count()
        eventually(lambda: count() > before, "it does not go on")
        kmctl("info", program.pid, status=1)


@case
def own_path():
    with Program("/bin/sleep", "60", options=["--control=here"], ready=False) as program:
        eventually(lambda: os.path.exists("here"), "there is no socket")
        expect(os.stat("here").st_mode & 0o777 == 0o600, "its mode")
        second = subprocess.run([KM, "--control=here", "/bin/true"], capture_output=True, text=True)
        expect(second.returncode == 125 and "here" in second.stderr, str(second))
        kmctl("info", "./here")
        program.process.kill()
        program.process.wait()
        expect(os.path.exists("here"), "killed, it leaves its socket")
    third = subprocess.run([KM, "--control=here", "/bin/true"], capture_output=True, text=True)
    expect(third.returncode == 0 and not os.path.exists("here"), str(third))


run_cases("control")
