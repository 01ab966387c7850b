"""Descriptors of the program's own directory in /proc that another process sends it.

passed.py COMMAND...   starts COMMAND with this script as its program, and sends it what it opened
                       below /proc/PID; the program tells what it got.
"""
import ctypes
import json
import os
import socket
import subprocess
import sys

NAMES = ["mem", "status", "fd", "maps", "task/%d/comm", ""]


def mappings(text):
    for line in text.splitlines():
        words = line.split()
        start, end = (int(word, 16) for word in words[0].split("-"))
        if "r" in words[1] and "[vsyscall]" not in line:
            yield start, end


def send():
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    command = sys.argv[1:] + [sys.executable, __file__, "--receive", str(there.fileno())]
    program = subprocess.Popen(command, pass_fds=[there.fileno()])
    there.close()
    assert here.recv(10) == b"ready"
    base = "/proc/%d/" % program.pid
    fds = [os.open(base + (name % program.pid if "%" in name else name), os.O_RDONLY)
           for name in NAMES]
    with open(base + "maps") as maps:
        starts = [start for start, _ in mappings(maps.read())]
    socket.send_fds(here, [json.dumps(starts).encode()], fds)
    kvm = os.open("/dev/kvm", os.O_RDWR)
    socket.send_fds(here, [b"kvm"], [kvm])
    return program.wait()


def receive(number):
    sock = socket.socket(fileno=number)
    sock.send(b"ready")
    message, fds, flags, _ = socket.recv_fds(sock, 1 << 16, 16)
    print("truncated" if flags & socket.MSG_CTRUNC else "whole", len(fds))
    mem, status, directory, maps, comm, own = fds
    text = ctypes.create_string_buffer(b"in the program's memory")
    print(os.pread(mem, len(text), ctypes.addressof(text)))
    print([line for line in os.read(status, 8192).decode().splitlines()
           if line.startswith(("Name:", "Pid:", "Threads:"))][0])
    print(sorted(map(int, os.listdir(directory))))
    print(os.read(comm, 100), os.readlink("exe", dir_fd=own))
    texts = []
    for fd in (maps, os.open("/proc/self/maps", os.O_RDONLY)):
        texts.append("")
        while chunk := os.read(fd, 65536):
            texts[-1] += chunk.decode()
    print("maps of the program", "python3" in texts[0])
    # What is no memory of the program's cannot be read through it.
    ranges, reached = list(mappings(texts[1])), 0
    for start in json.loads(message):
        if any(first <= start < end for first, end in ranges):
            continue
        try:
            reached += len(os.pread(mem, 8, start)) != 0
        except OSError:
            pass
    print("reached", reached)
    _, fds, flags, _ = socket.recv_fds(sock, 100, 4)
    print("kvm", len(fds), "truncated" if flags & socket.MSG_CTRUNC else "whole", file=sys.stderr)


if sys.argv[1] == "--receive":
    receive(int(sys.argv[2]))
else:
    sys.exit(send())
