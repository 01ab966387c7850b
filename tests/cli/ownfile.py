#!/usr/bin/env python3
"""Snapshots in a file of the client's, who may write where the program may not. Prints lines like control.py."""

import json
import os
import signal
import socket
import stat
import struct

from controlled import (
    PATIENCE, Program, Raw, Skipped, case, eventually, expect, invariant, kmctl, resumes_right, run_cases,
)

GIVES_UP = (
    "import os, signal\n"
    "os.setgroups([]), os.setgid(24), os.setuid(14)\n"
    "signal.signal(signal.SIGUSR1, lambda *_: print('ids', os.getresuid(), os.getresgid(), flush=True))\n"
    "print('ready', flush=True)\n"
    "while True: signal.pause()\n"
)
IDS = "ids (14, 14, 14) (24, 24, 24)\n"


def gave_up_root():
    if os.geteuid() != 0:
        raise Skipped("only root can give up root")
    os.mkdir("private", mode=0o700)
    return Program("/usr/bin/python3", "-c", GIVES_UP)


def tells_ids(program):
    program.process.send_signal(signal.SIGUSR1)
    told = program.process.stdout.readline().decode()
    expect(told == IDS, f"it tells {told!r}")


def is_roots(path):
    status = os.stat(path)
    return status.st_uid == 0 and stat.S_IMODE(status.st_mode) == 0o600


def resumes_as_it_was(file):
    with Program(file, options=["--control=none"], ready=False) as program:
        eventually(lambda: "Uid:\t14\t" in open(f"/proc/{program.pid}/status").read(), "it stays root")
        tells_ids(program)


class Client(Raw):
    """One that asks for a snapshot in a file of its own."""

    def ask(self, fd, **members):
        body = json.dumps({"version": 1, "verb": "snapshot", "path": os.path.abspath("file"), **members}).encode()
        socket.send_fds(self.socket, [struct.pack("<I", len(body)) + body], [fd])
        while "event" in (answer := self.answer()):
            pass
        return answer

    def end(self):
        self.send(json.dumps({"version": 1, "verb": "end"}).encode())
        return self.answer()


def new_file():
    return os.open("file", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)


@case
def program_that_gave_up_root():
    with gave_up_root() as program:
        error = kmctl("snapshot", program.pid, status=1)
        expect("Permission denied" in error and "-o FILE" in error, error)
        open("private/older", "w").write("older")
        os.symlink("older", "private/link")
        for file in ("private/new", "private/older", "private/link"):
            said = kmctl("snapshot", program.pid, "-o", file)
            expect("goes on" in said and is_roots(file), said)
        expect(os.path.islink("private/link"), "the link is no link any more")
        expect(sorted(os.listdir("private")) == ["link", "new", "older"], f"left over: {os.listdir('private')}")
        tells_ids(program)
        for file in ("private/new", "private/older"):
            resumes_as_it_was(f"./{file}")
        for bad in ("private/nonesuch/file", "private"):
            expect("private" in kmctl("snapshot", program.pid, "-o", bad, "--stop", status=1), "it does not say where")
        tells_ids(program)
        shown = json.loads(kmctl("snapshot", program.pid, "-o", "private/new", "--stop", "--json"))
        expect(shown["ended"] and shown["path"] == os.path.abspath("private/new"), str(shown))
        expect(program.process.wait(PATIENCE) == 0 and is_roots("private/new"), "its end")
    resumes_as_it_was("./private/new")


@case
def no_file_that_will_do():
    with invariant(4) as program:
        client = Client(program)
        open("filled", "w").write("x")
        os.mkfifo("fifo")
        for path, flags in (
            ("new", os.O_RDONLY | os.O_CREAT), ("new", os.O_WRONLY | os.O_APPEND), ("new", os.O_PATH),
            ("filled", os.O_RDWR), ("fifo", os.O_RDWR), (".", os.O_RDONLY),
        ):
            fd = os.open(path, flags, 0o600)
            answer = client.ask(fd)
            expect(answer.get("error", {}).get("code") == "bad-request", f"{path}: {answer}")
            os.close(fd)
        expect(open("filled").read() == "x", "it was written to")


@case
def client_ends_it():
    with invariant(4) as program:
        client, other, file = Client(program), Client(program), new_file()
        expect(client.end()["error"]["code"] == "failed", "there is nothing to end")
        answer = client.ask(file, stop=True)
        size = os.fstat(file).st_size
        expect(not answer["result"]["ended"] and answer["result"]["file_bytes"] == size, str(answer))
        expect(other.end()["error"]["code"] == "failed", "another client ends it")
        expect(program.process.poll() is None, "it has ended")
        expect(client.end()["result"]["ended"], "it is not ended")
        expect(program.process.wait(PATIENCE) == 0, "its status")
    resumes_right("./file")


@case
def client_that_goes_away():
    """Before it said that the file has its name: the program goes on, and who waits gets a file."""
    with invariant(4) as program:
        client = Client(program)
        expect(client.ask(new_file(), stop=True)["ok"], "no snapshot")
        waiting = Client(program)
        os.unlink("file")
        waiting.send(json.dumps({"version": 1, "verb": "snapshot", "path": os.path.abspath("later")}).encode())
        waiting.send(json.dumps({"version": 1, "verb": "info"}).encode())
        expect(waiting.answer()["result"]["writing_snapshot"] is False and not os.path.exists("later"), "it goes on")
        client.socket.close()
        while "event" in (answer := waiting.answer()):
            pass
        expect(answer["ok"], str(answer))
        output, status = program.end(signal.SIGTERM)
        expect(status == 0 and output.startswith("right"), f"status {status}, {output!r}")
    resumes_right("./later")


run_cases("ownfile")
