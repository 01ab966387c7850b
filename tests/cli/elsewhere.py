#!/usr/bin/env python3
"""Snapshots resumed elsewhere and later: held, supplied with descriptors, waiting for a connection, ended when
idle. Output as of control.py."""

import json
import os
import signal
import socket
import struct
import subprocess
import time

from controlled import KM, KMCTL, PATIENCE, Held, Program, Raw, case, eventually, expect, kmctl, run_cases


@case
def on_connection():
    code = (
        "import contextlib, os, signal, socket\n"
        "def wake(*_):\n"  # a snapshot may come anywhere in it
        "    with contextlib.suppress(OSError): os.mkdir('awake')\n"
        "signal.signal(signal.SIGALRM, wake)\n"
        "signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)\n"  # none of its timers is a reason to run
        "s = socket.create_server(('127.0.0.1', 0))\n"
        "open('port', 'w').write(str(s.getsockname()[1]))\n"
        "print('ready', flush=True)\n"
        "while True:\n"
        "    c, _ = s.accept()\n"
        "    c.sendall(c.recv(100).upper())\n"
        "    c.close()\n"
    )
    with Program("/usr/bin/python3", "-c", code) as program:
        kmctl("snapshot", program.pid, "--stop", "-o", "file")
    if os.path.exists("awake"):
        os.rmdir("awake")
    port = int(open("port").read())
    with Program("./file", options=["--on-connection"], ready=False) as program:
        eventually(lambda: os.path.exists(program.socket), "there is no socket")
        expect(json.loads(kmctl("info", program.pid, "--json"))["state"] == "waiting", "it does not wait")
        time.sleep(0.3)
        expect(not os.path.exists("awake"), "it runs")
        for word in (b"one", b"two"):
            with socket.create_connection(("127.0.0.1", port), PATIENCE) as client:
                client.sendall(word)
                expect(client.recv(100) == word.upper(), "no answer")
        expect(json.loads(kmctl("info", program.pid, "--json"))["state"] == "running", "it does not run")
    with Program("./file", options=["--on-connection"], ready=False) as program:
        eventually(lambda: os.path.exists(program.socket), "there is no socket")
        expect(program.end(signal.SIGTERM)[1] == -signal.SIGTERM, "a signal does not end it")
    with Program("./file", options=["--on-connection"], ready=False) as program:
        eventually(lambda: os.path.exists(program.socket), "there is no socket")
        kmctl("signal", program.pid, "TERM")
        expect(program.process.wait(PATIENCE) == -signal.SIGTERM, "a signal by kmctl does not end it")
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
        info = json.loads(kmctl("info", program.pid, "--json"))
        expect(info["state"] == "paused" and info["descriptors"] == 8, str(info))
        client = Raw(program)
        expect(supply_fd(client, -1, other.fileno())["error"]["code"] == "bad-request", "number")
        before = program.descriptors()  # with the client, which has an answer, and without kmctl
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


run_cases("elsewhere")
