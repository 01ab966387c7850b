"""A program for supply.sh: open files of many kinds at fixed numbers; a snapshot; what has become of
them."""
import os
import select
import socket
import sys

sys.path.insert(0, "payloads/python")
import km

os.chdir(sys.argv[1])


def at(number, fd):
    os.dup2(fd, number)
    if fd != number:
        os.close(fd)


def bound(number, family, kind, name, listen=True):
    with socket.socket(family, kind) as new:
        new.bind(name)
        if listen:
            new.listen(5)
        os.dup2(new.fileno(), number)


data = os.open("data", os.O_RDONLY)
os.lseek(data, 4, os.SEEK_SET)
at(10, data)
os.dup2(10, 11)
at(12, os.open("out", os.O_WRONLY | os.O_NONBLOCK))
os.write(12, b"abc")
at(13, os.open(".", os.O_RDONLY | os.O_DIRECTORY))
reading, writing = os.pipe()
at(14, reading)
at(15, writing)
os.write(15, b"queued")
os.set_blocking(14, False)
bound(16, socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", int(sys.argv[2])))
bound(17, socket.AF_UNIX, socket.SOCK_STREAM, "sock")
bound(18, socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", int(sys.argv[2])), listen=False)
bound(19, socket.AF_INET6, socket.SOCK_STREAM, ("::1", int(sys.argv[2])))
watching = select.epoll()
at(20, watching.fileno())
os.dup2(1, 21)

km.snapshot("supply")

print("read", os.read(10, 3).decode(), os.read(11, 3).decode())
os.write(12, b"new")
print("out", os.lseek(12, 0, os.SEEK_CUR), "blocking", os.get_blocking(12))
try:
    print("pipe", os.read(14, 100).decode().strip(), "blocking", os.get_blocking(14))
except OSError as error:
    print("pipe", error.strerror)
try:
    os.write(15, b"written\n")
except BrokenPipeError:
    print("nobody reads")
for number in 16, 17, 18, 19:
    with socket.socket(fileno=os.dup(number)) as held:
        name = held.getsockname()
        print(number, "%s %d" % name[:2] if isinstance(name, tuple) else os.fsdecode(name).replace("\0", "@"))
with socket.socket(fileno=16) as listener, socket.create_connection(listener.getsockname()) as near:
    far, _ = listener.accept()
    far.sendall(b"served")
    print(near.recv(100).decode())
sys.stdout.flush()
os.write(21, b"end\n")
