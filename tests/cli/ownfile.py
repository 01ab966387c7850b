#!/usr/bin/env python3
"""Snapshots in a file of the client's, who may write where the program may not. Prints lines like control.py."""

import json
import os
import signal
import stat
import time

from controlled import (
    COUNTER, PATIENCE, FileClient, Program, Skipped, case, eventually, expect, invariant, kmctl, new_file,
    resumes_right, run_cases,
)

# What it counts is in a file that it shares.
BUSY = (
    "import mmap\n"
    "file = open('counted', 'w+b')\n"
    "file.truncate(4096)\n"
    "counted = mmap.mmap(file.fileno(), 4096)\n"
    "print('ready', flush=True)\n"
    "n = 0\n"
    "while True:\n"
    "    n += 1\n"
    "    counted[:8] = n.to_bytes(8, 'little')\n"
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
        client = FileClient(program)
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
        client, other, file = FileClient(program), FileClient(program), new_file()
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
def client_that_ends_it_and_does_not_wait():
    """Nothing of the program runs behind its file."""
    with Program("/usr/bin/python3", "-c", BUSY) as program:
        client = FileClient(program)
        expect(client.ask(new_file(), stop=True)["ok"], "no snapshot")
        counted = open("counted", "rb").read()
        client.say_end()
        client.socket.close()
        expect(program.process.wait(PATIENCE) == 0, "its status")
        expect(open("counted", "rb").read() == counted, "it went on")


@case
def client_that_takes_longer_than_idle_exit():
    with Program("/usr/bin/python3", "-c", COUNTER, options=["--idle-exit=3s"]) as program:
        eventually(lambda: os.path.exists(program.socket), "there is no socket")
        client = FileClient(program)
        expect(client.ask(new_file(), stop=True)["ok"], "no snapshot")
        time.sleep(5)
        expect(program.process.poll() is None, "it is ended as if nobody wanted it")
        expect(client.end()["result"]["ended"] and program.process.wait(PATIENCE) == 0, "its end")


@case
def client_that_goes_away():
    """Before it said that the file has its name: the program goes on, and who waits gets a file."""
    with invariant(4) as program:
        client = FileClient(program)
        expect(client.ask(new_file(), stop=True)["ok"], "no snapshot")
        waiting = FileClient(program)
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
