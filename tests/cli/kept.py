#!/usr/bin/env python3
"""TCP connections that go on in another process: --tcp=keep. Output as of control.py."""

import ctypes
import fcntl
import os
import resource
import signal
import socket
import struct
import subprocess
import threading

from controlled import (
    KM, KMCTL, FileClient, Program, Skipped, case, eventually, expect, kmctl, new_file, run_cases,
)

BIG = 3 << 20  # bytes: more than any window

# Two connections within the process and as many as come from outside. A line is answered by itself and
# a count, "big" by BIG bytes, "done" by the end of the answers: what comes then goes into a file. A client that
# says "later" is read no further before a SIGUSR1.
SERVER = f"""
import fcntl, signal, socket, sys, threading
lock = open('lock', 'w')
fcntl.flock(lock, fcntl.LOCK_EX)
listener = socket.create_server((sys.argv[1], 0), family=int(sys.argv[2]), backlog=64, reuse_port=True)
inner = socket.create_connection(listener.getsockname()[:2])
outer = listener.accept()[0]
inner.sendall(b'within')
going_on = threading.Event()
signal.signal(signal.SIGUSR1, lambda *_: going_on.set())
def serve(client):
    count, file = 0, client.makefile('rb')
    for line in file:
        count += 1
        if line == b'big\\n':
            client.sendall(bytes(i * 7 & 255 for i in range({BIG >> 8})) * 256)
        elif line == b'later\\n':
            going_on.wait()
        elif line == b'done\\n':
            client.sendall(b'bye\\n')
            client.shutdown(socket.SHUT_WR)
            open('heard', 'wb').write(file.read())
        elif line == b'within\\n':
            outer.sendall(b' and back')
            client.sendall(outer.recv(100) + inner.recv(100) + b'\\n')
        else:
            client.sendall(b'%d %s' % (count, line))
def accept():
    while True:
        threading.Thread(target=serve, args=[listener.accept()[0]], daemon=True).start()
threading.Thread(target=accept, daemon=True).start()
open('port', 'w').write(str(listener.getsockname()[1]))
print('ready', flush=True)
while True:
    signal.pause()
"""


class Unanswered:
    """As long as it lasts nothing that comes for the port is answered with a reset, although its process is
    away: what a packet filter does on a real host. A listener that drops everything takes its place."""

    def __init__(self, port):
        self.guard = socket.socket()
        self.guard.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self.guard.bind(("127.0.0.1", port))
        drop = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0))
        program = struct.pack("HxxxxxxQ", 1, ctypes.addressof(drop))
        self.guard.setsockopt(socket.SOL_SOCKET, 26, program)  # SO_ATTACH_FILTER
        self.guard.listen()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.guard.close()


class Client:
    def __init__(self, host, options=()):
        self.socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        for level, name, value in options:
            self.socket.setsockopt(level, name, value)
        self.socket.settimeout(30)
        self.socket.connect((host, int(open("port").read())))
        self.file = self.socket.makefile("rb")

    def say(self, line):
        self.socket.sendall(line + b"\n")

    def ask(self, line):
        self.say(line)
        return self.file.readline().rstrip(b"\n")


def server(host="127.0.0.1", options=()):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return Program("/usr/bin/python3", "-c", SERVER, host, str(int(family)), options=options)


def resumed(file, options=("--tcp=keep",)):
    """When it answers, its sockets are there."""
    program = Program(file, options=options, ready=False)
    answers = [KMCTL, "info", str(program.pid)]
    eventually(lambda: subprocess.run(answers, capture_output=True).returncode == 0, "it does not answer")
    return program


def needs_capability():
    with socket.socket() as probe:
        try:
            probe.setsockopt(socket.IPPROTO_TCP, 19, 1)  # TCP_REPAIR
        except OSError as error:
            raise Skipped(f"TCP_REPAIR: {error.strerror}")


def stop(program, *options):
    kmctl("snapshot", program.pid, "-o", "file", "--stop", "--tcp=keep", *options)
    expect(program.process.wait(60) == 0, "it did not end with status 0")


def goes_on(host):
    needs_capability()
    with server(host) as program:
        idle, big, late = Client(host), Client(host), Client(host)
        small = Client(host, [(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)])
        expect(idle.ask(b"one") == b"1 one", "it does not serve")
        for client in (big, small):
            client.say(b"big")
        late.say(b"later")
        for i in range(1000):
            late.say(b"line %d" % i)
        # Their queues are full on both sides.
        wanted = bytes(i * 7 & 255 for i in range(BIG >> 8)) * 256
        read = {client: client.file.read(1000) for client in (big, small)}
        stop(program)
    with resumed("./file") as program:
        expect(idle.ask(b"two") == b"2 two", "an idle connection does not go on")
        expect(idle.ask(b"within") == b"within and back", "the process's own connection does not go on")
        for client in (big, small):
            expect(read[client] + client.file.read(BIG - 1000) == wanted, "bytes are lost on their way")
            expect(client.ask(b"more") == b"2 more", "it is not served any more")
        program.process.send_signal(signal.SIGUSR1)
        for i in range(1000):
            line = late.file.readline()
            expect(line == b"%d line %d\n" % (i + 2, i), f"not received in order: {line}")
        expect(Client(host).ask(b"new") == b"1 new", "nobody new is served")
        # And once more, of a process that was resumed with its connections.
        stop(program)
    with resumed("./file"):
        expect(idle.ask(b"three") == b"4 three", "it does not go on a second time")


@case
def kept():
    goes_on("127.0.0.1")


@case
def kept_over_ipv6():
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError as error:
        raise Skipped(f"no IPv6 here: {error.strerror}")
    goes_on("::1")


@case
def kept_half_closed():
    """A client that has said all and waits for the answers; a server that has, and is still spoken to."""
    needs_capability()
    with server() as program:
        asked, told = Client("127.0.0.1"), Client("127.0.0.1")
        asked.say(b"later")
        for i in range(3):
            asked.say(b"line %d" % i)
        asked.socket.shutdown(socket.SHUT_WR)
        told.say(b"done")
        expect(told.file.read() == b"bye\n", "it does not end its answers")
        stop(program)
    with resumed("./file") as program:
        stop(program)
    with resumed("./file") as program:
        program.process.send_signal(signal.SIGUSR1)
        expect(asked.file.read() == b"2 line 0\n3 line 1\n4 line 2\n", "not all is answered")
        told.say(b"after all")
        told.socket.shutdown(socket.SHUT_WR)
        heard = lambda: os.path.exists("heard") and open("heard").read() == "after all\n"
        eventually(heard, "what came when it had ended is not heard")


@case
def kept_under_way():
    """Clients that go on sending while it stops: what came in between is sent again, nothing twice."""
    needs_capability()
    with server() as program:
        clients = [Client("127.0.0.1") for _ in range(8)]
        answers = [0] * len(clients)
        wrong = []

        def talk(i):
            try:
                for n in range(1, 3001):
                    if clients[i].ask(b"word %d" % n) != b"%d word %d" % (n, n):
                        raise ValueError(n)
                    answers[i] = n
            except (OSError, ValueError) as error:
                wrong.append(f"client {i} after {answers[i]} answers: {error!r}")

        threads = [threading.Thread(target=talk, args=[i]) for i in range(len(clients))]
        for thread in threads:
            thread.start()
        eventually(lambda: min(answers) > 100, "they are not served")
        with Unanswered(int(open("port").read())):
            stop(program)
            with resumed("./file"):
                for thread in threads:
                    thread.join()
        expect(not wrong, "; ".join(wrong))


def of_one_that_stopped():
    """A client of a server that has answered it once and is in "file" by now."""
    needs_capability()
    with server() as program:
        client = Client("127.0.0.1")
        expect(client.ask(b"one") == b"1 one", "it does not serve")
        stop(program)
    return client


@case
def reset_without_it():
    """Of the same file: connections are reset where nobody asks for them."""
    client = of_one_that_stopped()
    text = subprocess.run([KMCTL, "inspect", "file"], capture_output=True, text=True).stdout
    expect("reset without --tcp=keep at 127.0.0.1:" in text, "inspect does not tell of the connection")
    with resumed("./file", options=()):
        expect(Client("127.0.0.1").ask(b"new") == b"1 new", "nobody new is served")
        client.say(b"two")
        try:
            expect(client.file.readline() == b"", "it was not reset")
        except ConnectionResetError:
            pass


@case
def goes_on_here_when_no_snapshot_is_taken():
    needs_capability()
    with server() as program:
        client = Client("127.0.0.1")
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 0, 0))
        os.mkdir("directory")
        kmctl("snapshot", program.pid, "-o", "directory/none/file", "--stop", "--tcp=keep", status=1)
        expect(client.ask(b"one") == b"1 one", "it does not go on")
        kmctl("snapshot", program.pid, "-o", "file", "--tcp=keep", status=2)
        kmctl("snapshot", program.pid, "-o", "file")
        expect(client.ask(b"two") == b"2 two", "it does not go on")
        program.end()
    # Of a snapshot that was taken without it there is nothing to keep.
    with resumed("./file"):
        expect(Client("127.0.0.1").ask(b"new") == b"1 new", "nobody new is served")


class Talk(threading.Thread):
    """A client that asks again and again, until it is told to end; `wrong`: what was not answered as it should."""

    def __init__(self, client):
        super().__init__()
        self.client, self.ending, self.wrong = client, False, None
        self.start()

    def run(self):
        said = 0
        while not self.ending and self.wrong is None:
            answer = self.client.ask(b"line %d" % said)
            if not answer.endswith(b" line %d" % said):
                self.wrong = answer
            said += 1

    def end(self):
        self.ending = True
        self.join()
        expect(self.wrong is None, f"it answers {self.wrong}")


def leave_descriptors(program, spare):
    """The monitor has room for so many more."""
    used = set(map(int, os.listdir(f"/proc/{program.pid}/fd")))
    free = [number for number in range(max(used) + spare + 2) if number not in used]
    most = resource.prlimit(program.pid, resource.RLIMIT_NOFILE)[1]
    resource.prlimit(program.pid, resource.RLIMIT_NOFILE, (free[spare], most))


@case
def goes_on_here_when_the_writer_cannot_be_started():
    needs_capability()
    with server() as program:
        clients = [Client("127.0.0.1") for _ in range(4)]
        for spare in range(20):
            talks = [Talk(client) for client in clients]
            leave_descriptors(program, spare)
            command = [KMCTL, "snapshot", str(program.pid), "-o", "file", "--stop", "--tcp=keep"]
            done = subprocess.run(command, capture_output=True, text=True, timeout=60)
            if done.returncode == 0:
                break
            for talk in talks:
                talk.end()
        expect(spare > 1 and program.process.wait(60) == 0, f"{spare}: {done.stderr}")
    with resumed("./file"):
        for talk in talks:
            talk.end()


@case
def in_a_file_of_the_clients():
    needs_capability()
    with server() as program:
        client = Client("127.0.0.1")
        expect(client.ask(b"one") == b"1 one", "it does not serve")
        asking = FileClient(program)
        expect(asking.ask(new_file(), stop=True, keep_tcp=True)["ok"], "no snapshot")
        asking.say_end()
        asking.socket.close()
        expect(program.process.wait(60) == 0, "its status")
    with resumed("./file"):
        expect(client.ask(b"two") == b"2 two", "it does not go on")


@case
def of_a_resume_that_fails():
    """Somebody else has the program's lock by then, which is seen late: the next resume has the connection."""
    client = of_one_that_stopped()
    with open("lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = subprocess.run([KM, "--tcp=keep", "./file"], capture_output=True, text=True, timeout=60)
        expect(done.returncode == 126 and "the lock that it held" in done.stderr, f"{done.returncode}: {done.stderr}")
    with resumed("./file"):
        expect(client.ask(b"two") == b"2 two", "it does not go on")


@case
def of_a_process_that_ends_itself():
    """km --tcp=keep PROGRAM, whose own call writes the file."""
    needs_capability()
    with server(options=["--tcp=keep"]) as program:
        eventually(lambda: os.path.exists(program.socket), "there is no socket")
        client = Client("127.0.0.1")
        expect(client.ask(b"one") == b"1 one", "it does not serve")
        kmctl("snapshot", program.pid, "-o", "file", "--stop")
        program.process.wait(60)
    with resumed("./file"):
        expect(client.ask(b"two") == b"2 two", "it does not go on")


@case
def refused_without_the_capability():
    if os.geteuid() != 0:
        raise Skipped("only root can do without")
    with server() as program:
        client = Client("127.0.0.1")
        expect(client.ask(b"one") == b"1 one", "it does not serve")
        stop(program)
    without = ["setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin"]
    done = subprocess.run([*without, KM, "--tcp=keep", "./file"], capture_output=True, text=True, timeout=60)
    expect(done.returncode == 126 and "CAP_NET_ADMIN" in done.stderr, f"{done.returncode}: {done.stderr}")


run_cases("kept")
