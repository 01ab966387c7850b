#!/usr/bin/env python3
"""Snapshots from outside at bad moments, of much at once, and seen from a terminal. Output as of control.py."""

import json
import os
import pathlib
import random
import re
import resource
import signal
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from controlled import (
    COUNTER, KMCTL, OUT, PATIENCE, FileClient, Held, Program, Raw, Skipped, case, counter, ends_right, eventually,
    expect, few_descriptors, invariant, kmctl, left_over, new_file, resumes_right, run_cases, writer_of,
)
from pseudo_terminal import Terminal

TRIES = 60
PAYLOADS = str(pathlib.Path(__file__).resolve().parents[2] / "payloads/python")
# What kmctl says where the program was faster.
NO_FILE = r"kmctl: (no km with pid .*|.*the program has ended|the monitor went away without an answer)\n"


def client_of(program, *options):
    return subprocess.Popen(
        [KMCTL, "snapshot", str(program.pid), "-o", "file", *options],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )


def ends_meanwhile(program, status, delay, stop):
    """Whether the client got a file from a program that is ended so long after it was asked, or before."""
    with program:
        if delay < 0:
            program.process.send_signal(signal.SIGTERM)
            time.sleep(-delay)
        client = client_of(program, *["--stop"] * stop)
        time.sleep(max(delay, 0))
        _, ended = program.end(signal.SIGTERM)
        errors = client.communicate(timeout=PATIENCE)[1]
    taken = client.returncode == 0
    expect(ended == status or (stop and taken and ended == 0), f"km ended with {ended}, kmctl said {errors!r}")
    expect(os.path.exists("file") == taken, f"kmctl ended with {client.returncode}: {errors!r}")
    expect(not left_over(), "something is left over")
    if taken:
        kmctl("verify", "file")
    else:
        expect(client.returncode == 1 and re.fullmatch(NO_FILE, errors), f"{client.returncode}, {errors!r}")
    return taken


@case
def in_the_end():
    """At a program's end, by exit and by a signal: the delays are around where some get a file and some do not."""
    middle, outcomes = [0.0, 0.0], []
    for number in range(TRIES):
        if number % 2:
            program, status = Program("/bin/sleep", "100", ready=False), -signal.SIGTERM
        else:
            program, status = invariant(4), 0
        taken = ends_meanwhile(program, status, middle[number % 2] + random.gauss(0, 0.001), number % 4 > 1)
        outcomes.append(taken)
        middle[number % 2] += -0.001 if taken else 0.001
        if not taken:
            continue
        # It may have had the signal before the snapshot, and end by itself, and have said all there is to say.
        with Program("./file", options=["--no-sync"], ready=False) as resumed:
            time.sleep(0.1)
            output, ended = resumed.end(signal.SIGTERM)
            expect(ended == status and output[:5] in ("", "right")[: 2 - number % 2], f"{ended}, {output!r}")
        os.remove("file")
    expect(True in outcomes and False in outcomes, f"always the same: {outcomes[0]}")


@case
def monitor_killed():
    """In the middle of it: what has the file's name is whole."""
    for _ in range(6):
        with invariant(64) as program:
            client = client_of(program)
            eventually(lambda: writer_of(program), "it does not begin")
            time.sleep(random.random() * 0.1)
            program.end(signal.SIGKILL)
            errors = client.communicate(timeout=PATIENCE)[1]
        expect(client.returncode in (0, 1), f"kmctl ended with {client.returncode}")
        expect(client.returncode == 0 or errors.startswith("kmctl: "), f"{errors!r}")
        eventually(lambda: not left_over(), "something is left over")
        if os.path.exists("file"):
            kmctl("verify", "file")
            resumes_right("./file")
            os.remove("file")
        else:
            expect(client.returncode == 1, "there is no file")


def both_ways(make, look):
    """A snapshot that the program survives, and one that ends it."""
    with make() as program:
        kmctl("snapshot", program.pid, "-o", "file")
        kmctl("snapshot", program.pid, "-o", "other")
        look(program)
    with make() as program:
        kmctl("snapshot", program.pid, "--stop", "-o", "last")
        expect(program.process.wait(PATIENCE) == 0, "km does not end well")
    for file in ("file", "other", "last"):
        for _ in range(2):
            with Program(f"./{file}", ready=False) as program:
                look(program)


def in_handler(how):
    def make():
        if os.path.exists("go"):
            os.remove("go")
        return Program(f"{OUT}/in_handler", how)

    def look(program):
        open("go", "w").close()
        output = program.process.communicate(timeout=PATIENCE)[0]
        expect(output == b"right\n", f"{output!r}")

    both_ways(make, look)


@case
def in_a_handler_that_is_busy():
    in_handler("busy")


@case
def in_a_handler_that_is_blocked():
    in_handler("blocked")


@case
def five_hundred_threads():
    def look(program):
        info = json.loads(kmctl("info", program.pid, "--json"))
        expect(info["threads"] == 501, f"{info['threads']} threads")
        time.sleep(0.2)
        output, status = program.end(signal.SIGTERM)
        expect(status == 0 and output == "right\n", f"status {status}, {output!r}")

    both_ways(lambda: Program(f"{OUT}/many_threads", "500"), look)


# Threads that wait, until the first one has taken every descriptor there is.
HOARDS = """
import os, signal, threading
THREADS = 8
held, done = [], []
asked, begun, gate = threading.Event(), threading.Barrier(THREADS + 1), threading.Lock()
gate.acquire()
def work():
    begun.wait()
    with gate: done.append(1)
threads = [threading.Thread(target=work) for _ in range(THREADS)]
for thread in threads: thread.start()
begun.wait()
signal.signal(signal.SIGTERM, lambda *_: asked.set())
print('ready', flush=True)
asked.wait()
try:
    while True: held.append(os.open('/dev/null', os.O_RDONLY))
except OSError: pass
gate.release()
for thread in threads: thread.join()
os.write(1, b'right' if len(done) == THREADS else b'wrong')
"""


@case
def threads_that_wake_when_no_descriptor_is_left():
    """They were caught waiting, and what a resume gives them only then must be theirs from the start."""
    with Program("/usr/bin/python3", "-c", HOARDS, launcher=few_descriptors()) as program:
        time.sleep(0.2)  # all of them wait
        kmctl("snapshot", program.pid, "-o", "file", "--stop")
    with Program("./file", ready=False, launcher=few_descriptors()) as program:
        ends_right(program)


@case
def threads_and_memory_that_come_and_go():
    with Program(f"{OUT}/churn", "6") as program:
        for _ in range(10):
            kmctl("snapshot", program.pid, "-o", "file")
            resumes_right("./file")
        ends_right(program)


# It writes to every 64th page of a large buffer, over and over.
WRITES = """
import mmap, signal, time
PAGES, STEP = 16384, 64
memory = mmap.mmap(-1, PAGES * 4096, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
for page in range(PAGES): memory[page * 4096:page * 4096 + 8] = b'%08d' % page
count, goes_on = 0, True
def end(*_):
    global goes_on
    goes_on = False
signal.signal(signal.SIGTERM, end)
print('ready', flush=True)
while goes_on:
    count += 1
    for page in range(0, PAGES, STEP): memory[page * 4096 + 8] = count % 256
    time.sleep(0.001)
right = all(memory[page * 4096:page * 4096 + 9] == b'%08d%c' % (page, count % 256 if page % STEP == 0 else 0)
            for page in range(PAGES))
print('right' if right else 'wrong', count, flush=True)
"""


def working_set(file):
    """Pages of the buffer of WRITES in it, those that have another at a distance of 64 pages, and perhaps a few
    that do by chance; and the number of all pages."""
    pages = set()
    for piece in json.loads(kmctl("inspect", "--json", file))["working_set"]:
        pages.update(range(int(piece["start"], 16) // 4096, int(piece["end"], 16) // 4096))
    columns = [sorted(page for page in pages if page % 64 == column) for column in range(64)]
    column = max(columns, key=len)
    return [page for page in column if page + 64 in pages or page - 64 in pages], len(pages)


def anonymous_kib(pid, file):
    """What a process has copied of a file that it maps."""
    counts, of_file = 0, False
    for line in open(f"/proc/{pid}/smaps"):
        if re.match("[0-9a-f]+-", line):
            of_file = line.rstrip().endswith(os.path.realpath(file))
        elif of_file and line.startswith("Anonymous:"):
            counts += int(line.split()[1])
    return counts


@case
def what_it_writes_is_copied_ahead():
    """By a live snapshot's resume, and by that of a resumed process's snapshot; not of one that stood still."""
    with Program("/usr/bin/python3", "-c", WRITES) as program:
        kmctl("snapshot", program.pid, "-o", "live")
        kmctl("snapshot", program.pid, "-o", "ended", "--stop")
    written, pages = working_set("live")
    expect(len(written) >= 256 and pages <= 512, f"the working set has {len(written)} pages of {pages}")
    expect(working_set("ended")[1] == 0, "a process that stood still is said to have written")
    for file, least in (("live", 256 * 4), ("ended", 0)):
        with Held(f"./{file}") as clone:
            kib = anonymous_kib(clone.pid, file)
            expect(least <= kib <= least + 1300, f"{kib} KiB of '{file}' are copied")
            kmctl("resume", clone.pid)
            time.sleep(0.3)
            kmctl("snapshot", clone.pid, "-o", f"after-{file}", "--stop")
        written, _ = working_set(f"after-{file}")
        expect(len(written) >= 256, f"the working set after {file} has {len(written)} pages")
        resumes_right(f"./after-{file}")
    resumes_right("./live")


# Of all kinds; each has something to be known by.
DESCRIPTORS = """
import os, resource, signal, socket, sys
COUNT = 10000
resource.setrlimit(resource.RLIMIT_NOFILE, (COUNT + 100, COUNT + 100))
open('data', 'wb').write(b''.join(b'%07d\\n' % n for n in range(COUNT)))
held = []
while len(held) < COUNT - 2:
    n, kind = len(held), len(held) // 2 % 4
    if kind == 0:
        held += [os.open('data', os.O_RDONLY) for _ in range(2)]
        for m in (0, 1): os.lseek(held[n + m], 8 * (n + m), 0)
    elif kind == 1:
        held += reversed(os.pipe())
        os.write(held[n], b'%d' % n)
    elif kind == 2:
        held.append(os.eventfd(n)); held.append(os.dup(held[n]))
    else:
        held += [one.detach() for one in socket.socketpair()]
        os.write(held[n], b'%d' % n)
def look(*_):
    wrong = []
    for n in range(0, len(held), 2):
        kind = n // 2 % 4
        if kind == 0: right = [os.read(held[n + m], 8) for m in (0, 1)] == [b'%07d\\n' % (n + m) for m in (0, 1)]
        elif kind == 2: right = n == 0 or os.eventfd_read(held[n + 1]) == n
        else: right = os.read(held[n + 1], 100) == b'%d' % n
        if not right: wrong.append(n)
    print('right' if not wrong else f'wrong {wrong[:10]}', len(os.listdir('/proc/self/fd')) > COUNT, flush=True)
    os._exit(0)
signal.signal(signal.SIGTERM, look)
print('ready', flush=True)
while True: signal.pause()
"""


@case
def ten_thousand_descriptors():
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (20000, max(20000, before[1])))
    except (ValueError, OSError):
        raise Skipped(f"no more than {before[1]} descriptors are allowed here") from None

    def look(program):
        eventually(lambda: os.path.exists(program.socket), "there is no socket")
        output, status = program.end(signal.SIGTERM)
        expect(status == 0 and output == "right True\n", f"status {status}, {output!r}")

    try:
        both_ways(lambda: Program("/usr/bin/python3", "-c", DESCRIPTORS), look)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@case
def beside_its_own():
    """A program that takes one snapshot of itself after the other, while others are taken from outside."""
    code = (
        "import ctypes, os, signal\n"
        "call = ctypes.CDLL(None).syscall\n"
        "data, n, resumed, ended = bytearray(b'x') * (16 << 20), 0, False, False\n"
        "def end(*_):\n"
        "    global ended\n"
        "    ended = True\n"
        "signal.signal(signal.SIGTERM, end)\n"
        "print('ready', flush=True)\n"
        "while not ended:\n"
        "    n += 1\n"
        "    data[:4], data[-4:] = n.to_bytes(4, 'big'), n.to_bytes(4, 'big')\n"
        "    if not resumed and (r := call(0x4b4d00, None, None, 1)) != 0:\n"
        "        resumed = r == 1\n"
        "        if not resumed: print('failed', flush=True)\n"
        "print('right' if data[:4] == data[-4:] and n > 1 else 'wrong', flush=True)\n"
        "os._exit(0)\n"
    )
    with Program("/usr/bin/python3", "-c", code, options=["--no-sync", "--snapshot=own"]) as program:
        eventually(lambda: os.path.exists(program.socket), "there is no socket")
        for number in range(10):
            kmctl("snapshot", program.pid, "-o", f"file{number}")
        eventually(lambda: os.path.exists("own"), "it has taken none")
        output, status = program.end(signal.SIGTERM)
        expect(status == 0 and output == "right\n", f"afterwards: {status} {output!r}")
    for file in ("own", *(f"file{number}" for number in range(10))):
        kmctl("verify", file)
        with Program(f"./{file}", options=["--no-sync", "--snapshot=own2"], ready=False) as program:
            time.sleep(0.2)
            output, status = program.end(signal.SIGTERM)
            expect(status == 0 and output == "right\n", f"{file}: {status} {output!r}")


@case
def a_thousand_connects():
    """One after the other, half of them with a question: nothing is left of them."""
    with counter() as program:
        descriptors = lambda: len(os.listdir(f"/proc/{program.pid}/fd"))
        before = descriptors()
        for number in range(1000):
            client = Raw(program)
            if number % 2:
                client.send(json.dumps({"version": 1, "id": number, "verb": "info"}).encode())
                expect(client.answer()["id"] == number, "another answer")
            client.socket.close()
        eventually(lambda: descriptors() <= before, "descriptors are left in km")


@case
def one_instant():
    """Threads with an invariant over much memory: each file is resumed and looked at, then removed."""
    tries, megabytes = map(int, os.environ.get("ONE_INSTANT", "5 64").split())
    begin, stopped, elapsed = time.monotonic(), [], []
    with Program(f"{OUT}/keeps_invariant", str(megabytes), "4", options=["--no-sync"]) as program:
        eventually(lambda: os.path.exists(program.socket), "there is no socket")
        for number in range(tries):
            answer = json.loads(kmctl("snapshot", program.pid, "-o", "file", "--json"))
            expect(answer["file_bytes"] >= megabytes << 20, f"{number}: only {answer['file_bytes']} bytes")
            stopped.append(answer["stopped_ns"] / 1e6)
            elapsed.append(answer["elapsed_ns"] / 1e9)
            resumes_right("./file")
            os.remove("file")
        ends_right(program)
    print(f"# {tries} snapshots of {megabytes} MiB in {time.monotonic() - begin:.0f} s; the program stood still "
          f"{sorted(stopped)[tries // 2]:.1f} ms (median), {max(stopped):.1f} ms (longest); a file took "
          f"{sorted(elapsed)[tries // 2]:.2f} s (median), {max(elapsed):.2f} s (longest)")


def written_bytes(writer):
    """Of a file that has no name yet; or more than any has."""
    try:
        for fd in os.scandir(f"/proc/{writer}/fd"):
            target = os.readlink(fd.path)
            if target.startswith(os.getcwd()) and target.endswith(" (deleted)"):
                return os.stat(fd.path).st_blocks << 9
    except OSError:
        pass
    return sys.maxsize


def written_slowly(program, *options):
    """kmctl at a terminal, and the process that writes the file, stopped in the middle of its work."""
    for _ in range(20):
        terminal = Terminal(KMCTL, "snapshot", program.pid, "-o", "file", *options, columns=100)
        writer = eventually(lambda: writer_of(program), "it does not begin")
        eventually(lambda: written_bytes(writer) > 8 << 20, "it does not write")
        try:
            os.kill(writer, signal.SIGSTOP)
            if written_bytes(writer) < sys.maxsize:
                return terminal, writer
            os.kill(writer, signal.SIGCONT)
        except ProcessLookupError:
            pass  # it was too fast
        terminal.end()
        os.remove("file")
    raise Skipped("the file is written too fast")


@case
def progress_at_a_terminal():
    with invariant(256) as program:
        terminal, writer = written_slowly(program)
        line = terminal.expect(r"\r *\d+ %  [\d.]+ [KMG]iB of [\d.]+ [KMG]iB, [\d.]+ [KMG]iB/s, \d+ s left ")
        time.sleep(1.2)  # the same again, more slowly
        later = terminal.expect(r"\r *\d+ %  [\d.]+ [KMG]iB of [\d.]+ [KMG]iB, [\d.]+ [KMG]iB/s, \d+ s left ")
        expect(line.split(",")[0] == later.split(",")[0] and line != later, f"{line!r} and {later!r}")
        os.kill(writer, signal.SIGCONT)
        terminal.expect(r"\r\x1b\[K.*/file: [\d.]+ MiB, the program stood still for [\d.]+ ms and goes on\r\n")
        expect(terminal.end() == 0, "kmctl does not end well")
    resumes_right("./file")


@case
def cancelled_at_a_terminal():
    """With Ctrl-C: nothing is left of it, and the program goes on, also where it was to end."""
    with invariant(256) as program:
        for options in ([], ["--stop"]):
            terminal, writer = written_slowly(program, *options)
            terminal.expect(r" s left ")
            terminal.type("\x03")
            expect(terminal.end() == -signal.SIGINT, "kmctl does not die of it")
            os.kill(writer, signal.SIGCONT)
            eventually(lambda: not writer_of(program), "it goes on")
            expect(not left_over() and not os.path.exists("file"), "there is a file")
            kmctl("info", program.pid)
        kmctl("snapshot", program.pid, "-o", "file")
        ends_right(program)
    resumes_right("./file")


def delayed_fsync(pid, seconds):
    """A tracer that lets each fsync of the process's threads begin so much later."""
    delay = f"inject=fsync:delay_enter={seconds}s"
    quiet = ["strace", "-f", "-qq", "-o", "/dev/null"]
    return subprocess.Popen([*quiet, "-e", "trace=fsync", "-e", delay, "-p", str(pid)])


def stays_stopped(pid):
    """By a tracer, at the same place."""
    for _ in range(5):
        if open(f"/proc/{pid}/stat").read().rsplit(") ", 1)[1][0] != "t":
            return False
        time.sleep(0.05)
    return True


def client_of_stopped_writer(program):
    """A client with a file of its own, and the process that writes it."""
    for _ in range(20):
        client = FileClient(program)
        client.request(new_file(), stop=True)
        writer = eventually(lambda: writer_of(program), "it does not begin")
        try:
            os.kill(writer, signal.SIGSTOP)
            return client, writer
        except ProcessLookupError:
            client.socket.close()  # it was too fast; the program goes on
            os.remove("file")
    raise Skipped("the file is written too fast")


@case
def client_that_leaves_late():
    """When its file is complete and it was not told so: the program goes on."""
    with invariant(64) as program:
        client, writer = client_of_stopped_writer(program)
        with delayed_fsync(writer, 3) as tracer:
            eventually(lambda: f"TracerPid:\t{tracer.pid}\n" in open(f"/proc/{writer}/status").read(), "no tracer")
            os.kill(writer, signal.SIGCONT)
            eventually(lambda: stays_stopped(writer), "it does not come to its end")
            client.socket.close()
            tracer.wait(PATIENCE)
        eventually(lambda: not writer_of(program), "it goes on")
        ends_right(program)


@case
def later_of_two_files():
    """A file that the program writes is not replaced by one that began before it."""
    code = (
        f"import os, signal, sys\nsys.path.insert(0, {PAYLOADS!r})\n"
        "import km\n"
        "memory = os.urandom(1 << 20) * 256\n"
        "signal.signal(signal.SIGUSR1, lambda *_: km.snapshot('later'))\n"
        "print('ready', flush=True)\n"
        "while True: signal.pause()\n"
    )
    with Program("/usr/bin/python3", "-c", code, options=["--snapshot=file"]) as program:
        eventually(lambda: os.path.exists(program.socket), "there is no socket")
        client = client_of(program, "--label", "earlier")
        writer = eventually(lambda: writer_of(program), "it does not begin")
        os.kill(writer, signal.SIGSTOP)
        program.process.send_signal(signal.SIGUSR1)
        time.sleep(0.5)
        expect(program.process.poll() is None, "it has ended before the other file is written")
        os.kill(writer, signal.SIGCONT)
        expect(program.process.wait(PATIENCE) == 0 and client.wait(PATIENCE) == 0, "its end")
    shown = json.loads(subprocess.run([KMCTL, "inspect", "--json", "file"], capture_output=True, text=True).stdout)
    expect(shown["snapshot"]["label"] == "later", f"the file is {shown['snapshot']['label']}")


@case
def stuck_in_a_call():
    """A thread in a call that no signal interrupts: who asks for a pause is told, and the rest goes on."""
    code = (
        "import os, threading\n"
        "def sync():\n"
        "    file = os.open('synced', os.O_CREAT | os.O_WRONLY)\n"
        "    while True: os.fsync(file)\n"
        "threading.Thread(target=sync, daemon=True).start()\n"
    )
    with Program("/usr/bin/python3", "-c", code + COUNTER) as program:
        with delayed_fsync(program.pid, 30) as tracer:
            tasks = f"/proc/{program.pid}/task"
            stopped = lambda: any(stays_stopped(f"{program.pid}/task/{task}") for task in os.listdir(tasks))
            eventually(stopped, "no call of it is delayed")
            for verb in (["pause"], ["snapshot", "-o", "file"]):
                error = kmctl(verb[0], program.pid, *verb[1:], status=1)
                expect("did not stop within" in error, error)
                before = open("count").read()
                eventually(lambda: open("count").read() not in ("", before), "it stands still")
            tracer.terminate()
        kmctl("snapshot", program.pid, "-o", "file")


@case
def writer_killed():
    """As by a kernel that is short of memory: the file that is not complete does not stay."""
    with invariant(256) as program:
        for options in ([], ["--stop"]):
            terminal, writer = written_slowly(program, *options)
            os.kill(writer, signal.SIGKILL)
            terminal.expect(r"kmctl: no snapshot was taken: .* was killed")
            expect(terminal.end() == 1, "kmctl does not fail")
            expect(not left_over() and not os.path.exists("file"), f"left over: {os.listdir()}")
        kmctl("snapshot", program.pid, "-o", "file")
        ends_right(program)
    resumes_right("./file")


run_cases("load")
