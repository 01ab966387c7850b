#!/usr/bin/env python3
"""Snapshots that are built on the one that their process was resumed from. Output as of control.py."""

import json
import os
import signal
import subprocess
import time

from controlled import KM, Program, case, expect, invariant, kmctl, resumes_right, run_cases

# Draws 64 MiB once, then changes a page of it in each round; tells on SIGUSR1 what it has.
CHANGER = (
    "import hashlib, os, random, signal, sys, time\n"
    "random.seed(1)\n"
    "data = bytearray(random.randbytes(64 << 20))\n"
    "def tell(*_):\n"
    "    open('told.new', 'w').write(hashlib.sha256(data).hexdigest() + f' {n}')\n"
    "    os.rename('told.new', 'told')\n"
    "n = 0\n"
    "signal.signal(signal.SIGUSR1, tell)\n"
    "print('ready', flush=True)\n"
    "while True:\n"
    "    signal.sigtimedwait([], 0.01) if n >= 100 else None\n"
    "    if n < 100:\n"
    "        n += 1\n"
    "        data[(n * 7919 % 16384) << 12] ^= 1\n"
)


def told(program):
    """What the program has, once it does nothing more to it."""
    while True:
        if os.path.exists("told"):
            os.remove("told")
        program.process.send_signal(signal.SIGUSR1)
        end = time.monotonic() + 60
        while not os.path.exists("told"):
            expect(time.monotonic() < end, "it does not tell")
            time.sleep(0.01)
        digest, n = open("told").read().split()
        if int(n) >= 100:
            return digest


def snapshot(program, *arguments):
    return json.loads(kmctl("snapshot", program.pid, "--json", *arguments))


def refused(file, *words):
    """A resume of `file` fails, with these words."""
    done = subprocess.run([KM, file], capture_output=True, text=True, timeout=60)
    expect(done.returncode == 126, f"{file}: status {done.returncode}")
    expect(all(word in done.stderr for word in words), f"{file}: {done.stderr}")


@case
def only_what_changed():
    """A chain of three, each read back; then without the others."""
    with Program("/usr/bin/python3", "-c", CHANGER) as program:
        first = told(program)
        whole = snapshot(program, "-o", "0")
        expect(whole["bases"] == 0, str(whole))
        kmctl("snapshot", program.pid, "--base", "-o", "1", status=1)
    files = [whole["file_bytes"]]
    for number in range(2):
        with Program(f"./{number}", ready=False) as program:
            expect(told(program) == first, f"{number} has other memory")
            result = snapshot(program, "--base", "-o", f"{number + 1}")
            files.append(result["file_bytes"])
            expect(result["bases"] >= 1, str(result))
    expect(max(files[1:]) < files[0] / 4, f"their sizes are {files}")
    inspected = json.loads(kmctl("inspect", "2", "--json"))
    expect([os.path.basename(base["path"]) for base in inspected["bases"]] != [], str(inspected["bases"]))
    kmctl("verify", "2")
    kmctl("merge", "2", "-o", "merged")
    kmctl("verify", "merged")
    expect(json.loads(kmctl("inspect", "merged", "--json"))["bases"] == [], "merged has bases")
    for number in range(3):
        os.rename(str(number), f"gone-{number}")
    refused("./gone-2", "is missing", f"{os.getcwd()}/")
    with Program("./merged", ready=False) as program:
        expect(told(program) == first, "merged has other memory")


@case
def changes_are_in_it():
    with invariant() as program:
        kmctl("snapshot", program.pid, "--stop", "-o", "0")
    for number in range(3):
        with Program(f"./{number}", ready=False) as program:
            time.sleep(0.3)
            result = snapshot(program, "--base", "-o", f"{number + 1}")
            expect(result["bases"] >= 1, str(result))
        resumes_right(f"./{number + 1}")


@case
def default_is_what_can_be():
    """On a base where there is one; else all of it."""
    with invariant() as program:
        kmctl("snapshot", program.pid, "--stop", "-o", "0")
    with Program("./0", ready=False) as program:
        expect(snapshot(program, "-o", "1")["bases"] == 1, "not on its base")
        expect(snapshot(program, "--full", "-o", "2")["bases"] == 0, "not whole")
        expect("built on" in kmctl("snapshot", program.pid, "--base", "-o", "0", status=1), "no reason")
        # Where it came from: another file then, which the other one cannot be built on any more.
        expect(snapshot(program, "-o", "0")["bases"] == 0, "built on itself")
        refused("./1", "written anew", f"{os.getcwd()}/0")
        expect(snapshot(program, "-o", "3")["bases"] == 0, "built on another one")
        os.remove("0")
        expect("missing" in kmctl("snapshot", program.pid, "--base", "-o", "4", status=1), "no reason")
        expect(snapshot(program, "-o", "4")["bases"] == 0, "built on nothing")
    resumes_right("./2")
    resumes_right("./4")


@case
def moved_together():
    with invariant() as program:
        kmctl("snapshot", program.pid, "--stop", "-o", "0")
    with Program("./0", ready=False) as program:
        kmctl("snapshot", program.pid, "--base", "--stop", "-o", "1")
    os.mkdir("elsewhere")
    for number in "01":
        os.rename(number, f"elsewhere/{number}")
    resumes_right("./elsewhere/1")


@case
def discarded_memory():
    """Zeros do not become what the base has there; moved memory is where it moved to."""
    code = (
        "import ctypes, mmap, signal, sys, time\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "libc.mmap.restype = libc.mremap.restype = ctypes.c_void_p\n"
        "size = 8 << 20\n"
        "def area():\n"
        "    at = libc.mmap(None, ctypes.c_size_t(size), 3, 0x22, -1, ctypes.c_long(0))\n"
        "    ctypes.memset(at, 0x5a, size)\n"
        "    return at\n"
        "first, second, third = area(), area(), area()\n"
        "def act(*_):\n"
        "    global second\n"
        "    libc.madvise(ctypes.c_void_p(first), ctypes.c_size_t(size), 4)\n"
        "    ctypes.memset(first + 4096, 1, 1)\n"
        "    second = libc.mremap(ctypes.c_void_p(second), ctypes.c_size_t(size), ctypes.c_size_t(2 * size), 1)\n"
        "    libc.mprotect(ctypes.c_void_p(third + 4096), ctypes.c_size_t(8192), 0)\n"
        "    open('acted', 'w').close()\n"
        "def end(*_):\n"
        "    whole = lambda at, size: ctypes.string_at(at, size)\n"
        "    right = whole(first, size) == bytes(4096) + b'\\x01' + bytes(size - 4097)\n"
        "    right = right and whole(second, size) == b'\\x5a' * size and whole(second + size, size) == bytes(size)\n"
        "    right = right and whole(third, 4096) == b'\\x5a' * 4096\n"
        "    right = right and whole(third + 12288, size - 12288) == b'\\x5a' * (size - 12288)\n"
        "    print('right' if right else 'wrong', flush=True)\n"
        "    sys.exit(0)\n"
        "signal.signal(signal.SIGUSR1, act)\n"
        "signal.signal(signal.SIGTERM, end)\n"
        "print('ready', flush=True)\n"
        "while True: signal.pause()\n"
    )
    with Program("/usr/bin/python3", "-c", code) as program:
        kmctl("snapshot", program.pid, "--stop", "-o", "0")
    with Program("./0", ready=False) as program:
        program.process.send_signal(signal.SIGUSR1)
        end = time.monotonic() + 60
        while not os.path.exists("acted"):
            expect(time.monotonic() < end, "it does not act")
            time.sleep(0.01)
        expect(snapshot(program, "--base", "-o", "1")["bases"] == 1, "not on its base")
    resumes_right("./1")


@case
def seen_by_gdb():
    """Memory of the base is read there."""
    with Program("/usr/bin/python3", "-c", "import time\nprint('ready', flush=True)\ntime.sleep(1000)") as program:
        kmctl("snapshot", program.pid, "--stop", "-o", "0")
    with Program("./0", ready=False) as program:
        kmctl("snapshot", program.pid, "--base", "--stop", "-o", "1")
    done = subprocess.run(
        ["gdb", "-batch", "-nx", "-ex", "bt", "/usr/bin/python3", "--core=./1"], capture_output=True, text=True
    )
    expect("nanosleep" in done.stdout and "Py_RunMain" in done.stdout, done.stdout + done.stderr)


run_cases("bases")
