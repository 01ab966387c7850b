#!/usr/bin/env python3
"""Running programs controlled from outside. Prints "ok NAME" or "FAIL NAME: why" for each case."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

from controlled import (
    KM, KMCTL, PATIENCE, TMP, Program, Raw, Skipped, case, count, counter, ends_right, eventually, expect,
    few_descriptors, invariant, kmctl, left_over, resumes_right, run_cases, writer_of,
)


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
        kmctl("info", program.pid, "--dontdump=keep", status=2)
        kmctl("snapshot", program.pid, "--dontdump=some", status=2)
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
        ends_right(program)
    for i in range(5):
        resumes_right(f"./file{i}")
    expect("five" in kmctl("inspect", "file0"), "the label is lost")


@case
def snapshot_and_stop():
    with invariant() as program:
        kmctl("snapshot", program.pid, "--stop", "-o", "file")
        expect(program.process.wait(PATIENCE) == 0, "km does not end well")
    resumes_right("./file")


# Of its two pages it wants one in no dump.
SECRET = """
import mmap, signal
memory = mmap.mmap(-1, 8192, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
for i in range(8192): memory[i] = (i * 7 + i // 256) % 251
memory.madvise(mmap.MADV_DONTDUMP, 0, 4096)
signal.signal(signal.SIGTERM, lambda *_: None)
print('ready', flush=True)
signal.pause()
print(sum(memory[:4096]), sum(memory[4096:]), flush=True)
"""
SECRET_BYTES = bytes((i * 7 + i // 256) % 251 for i in range(8192))


@case
def not_to_be_dumped():
    """Memory with MADV_DONTDUMP is not in the file, which is said, or is with --dontdump=keep."""
    for told, asked, kept in ((), (), False), ((), ["--dontdump=keep"], True), (["--dontdump=keep"], (), True), (
            ["--dontdump=keep"], ["--dontdump=zero"], False):
        with Program("/usr/bin/python3", "-c", SECRET, options=told) as program:
            eventually(lambda: os.path.exists(program.socket), "there is no socket")
            for verb, silent in (["check"], bool(told)), (["snapshot", "-o", "file", *asked], kept):
                done = subprocess.run([KMCTL, *verb, str(program.pid)], capture_output=True, text=True,
                                      timeout=PATIENCE)
                expect(done.returncode == 0, done.stderr)
                warned = "4096 bytes" in done.stderr and "--dontdump=keep" in done.stderr
                expect(warned != silent, f"{told} {asked} {verb[0]}: {done.stderr}")
            sums = [sum(SECRET_BYTES[:4096]), sum(SECRET_BYTES[4096:])]
            expect(program.end(signal.SIGTERM) == (f"{sums[0]} {sums[1]}\n", 0), "the program itself has lost it")
        expect((SECRET_BYTES[1000:1100] in open("file", "rb").read()) == kept, f"{told} {asked}: what the file has")
        with Program("./file", ready=False) as program:
            output, status = program.end(signal.SIGTERM)
        sums[0] *= kept
        expect((output, status) == (f"{sums[0]} {sums[1]}\n", 0), f"{told} {asked}: {output} {status}")


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
        eventually(lambda: writer_of(program), "it does not begin")
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


# It takes every descriptor there is, until it is told to end.
HOARDS = """
import os, signal, sys
held = []
def end(*_):
    for fd in held: os.close(fd)
    print('ended', flush=True)
    os._exit(0)
signal.signal(signal.SIGTERM, end)
try:
    while True: held.append(os.open('/dev/null', os.O_RDONLY))
except OSError: pass
print('ready', flush=True)
while True: signal.pause()
"""


@case
def no_descriptor_left():
    """Of those that the monitor may have, where it cannot have more: clients are served all the same."""
    with Program("/usr/bin/python3", "-c", HOARDS, launcher=few_descriptors()) as program:
        for _ in range(3):
            expect(json.loads(kmctl("info", program.pid, "--json"))["pid"] == program.pid, "info is wrong")
        expect(f"{program.pid}" in kmctl("list"), "it is not listed")
        kmctl("signal", program.pid, "TERM")
        output, status = program.end(0)
        expect((output, status) == ("ended\n", 0), f"it ends with {status} and {output!r}")


@case
def client_killed():
    with invariant(256) as program:
        client = subprocess.Popen(
            [KMCTL, "snapshot", str(program.pid), "-o", "file"], stdout=subprocess.DEVNULL
        )
        eventually(lambda: writer_of(program), "it does not begin")
        client.kill()
        client.wait()
        eventually(lambda: not writer_of(program), "it goes on")
        expect(not left_over(), "its file stays")
        kmctl("snapshot", program.pid, "-o", "file")
        ends_right(program)


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
        eventually(lambda: writer_of(program), "it does not begin")
        client.kill()
        client.wait()
        eventually(lambda: not writer_of(program), "it goes on")
        expect(not left_over() and not os.path.exists("file"), f"left over: {os.listdir()}")


@case
def program_ends_meanwhile():
    with invariant(256) as program:
        client = subprocess.Popen(
            [KMCTL, "snapshot", str(program.pid), "-o", "file"], stdout=subprocess.DEVNULL
        )
        eventually(lambda: writer_of(program), "it does not begin")
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
        traced = re.compile(rb'rename\("count\.[0-9a-f]+", "count"\)')
        eventually(lambda: traced.search(open("errors", "rb").read()), "no trace")
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
        client, info = Raw(program), json.dumps({"version": 1, "verb": "info"}).encode()
        client.send(info)
        expect(client.answer()["ok"], "no answer")
        shutil.rmtree(os.environ["XDG_RUNTIME_DIR"] + "/km")
        before = count()
        eventually(lambda: count() > before, "it does not go on")
        kmctl("info", program.pid, status=1)
        # Who was there before is served still.
        request = {"version": 1, "verb": "snapshot", "path": os.path.abspath("file")}
        client.send(json.dumps(request).encode())
        while "event" in (answer := client.answer()):
            pass
        expect(answer["ok"] and os.path.exists("file"), str(answer))
        expect(program.end(signal.SIGTERM)[1] == -signal.SIGTERM, "its end")


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


@case
def own_path_is_where_it_was_begun():
    """Whatever the program's directory is by then, and whose the name is there."""
    os.mkdir("elsewhere")
    open("elsewhere/here", "w").write("a file")
    code = "import os\nos.chdir('elsewhere')\nprint('ready', flush=True)\ninput()"
    with Program("/usr/bin/python3", "-c", code, options=["--control=here"]) as program:
        kmctl("snapshot", "./here", "-o", "file")
        program.process.wait(PATIENCE)
    expect(not os.path.exists("here") and open("elsewhere/here").read() == "a file", "it removed another file")
    os.mkdir("third")
    with Program("../file", options=["--control=here", "--paused"], ready=False, directory="third"):
        eventually(lambda: os.path.exists("third/here"), "there is no socket")
    os.remove("third/here")  # it was killed


@case
def name_that_another_took():
    with Program("/bin/sleep", "60", options=["--control=here"], ready=False) as program:
        eventually(lambda: os.path.exists("here"), "there is no socket")
        os.remove("here")
        with socket.socket(socket.AF_UNIX) as other:
            other.bind("here")
            program.end(signal.SIGTERM)
            expect(os.path.exists("here"), "it removed another's socket")


@case
def socket_of_one_that_begins():
    """It has its name before it listens. One of a process that is gone goes."""
    folder = f"{os.environ['XDG_RUNTIME_DIR']}/km"
    os.makedirs(folder, mode=0o700, exist_ok=True)
    begins, gone = f"{folder}/{os.getpid()}.sock", f"{folder}/{1 << 30}.sock"
    with socket.socket(socket.AF_UNIX) as one, socket.socket(socket.AF_UNIX) as other:
        one.bind(begins)
        other.bind(gone)
        kmctl("list")
        expect(os.path.exists(begins) and not os.path.exists(gone), f"{os.listdir(folder)}")
    os.remove(begins)


run_cases("control")
