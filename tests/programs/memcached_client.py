"""memcached_client.py PORT SECONDS: several connections set, read, count and delete, and check every answer.

Prints what must not depend on speed; the number of operations goes to standard error.
"""

import socket
import sys
import threading
import time


class Client:
    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self.file = self.socket.makefile("rb")
        self.operations = 0

    def ask(self, *lines):
        self.socket.sendall(b"".join(line + b"\r\n" for line in lines))
        self.operations += 1
        return self.file.readline().rstrip()

    def expect(self, wanted, *lines):
        got = self.ask(*lines)
        if got != wanted:
            raise AssertionError(f"{lines[0]}: {got}, not {wanted}")

    def get(self, key):
        head = self.ask(b"get " + key)
        if head == b"END":
            return None
        value = self.file.read(int(head.split()[3]) + 2)[:-2]
        assert self.file.readline() == b"END\r\n"
        return value


def work(client, name, end, failures):
    try:
        done = 0
        while time.monotonic() < end or done < 200:
            key = b"%s-%d" % (name, done % 500)
            value = b"%d:" % done * (done % 300 + 1)
            client.expect(b"STORED", b"set %s 0 0 %d" % (key, len(value)), value)
            assert client.get(key) == value
            client.expect(b"NOT_STORED", b"add %s 0 0 1" % key, b"x")
            client.expect(b"DELETED", b"delete " + key)
            assert client.get(key) is None
            client.ask(b"incr counter 1")
            done += 1
        client.done = done
    except Exception as error:  # the main thread reports it
        failures.append(f"{name}: {error!r}")


def main():
    port, seconds = int(sys.argv[1]), float(sys.argv[2])
    first = Client(port)
    first.expect(b"STORED", b"set counter 0 0 1", b"0")
    clients, failures, threads = [Client(port) for _ in range(8)], [], []
    end = time.monotonic() + seconds
    for i, client in enumerate(clients):
        threads.append(threading.Thread(target=work, args=(client, b"client%d" % i, end, failures)))
        threads[-1].start()
    for thread in threads:
        thread.join()
    print("failures", failures)
    if not failures:
        print("counted", int(first.get(b"counter")) == sum(client.done for client in clients))
    large = b"z" * 900000
    first.expect(b"STORED", b"set large 0 0 %d" % len(large), large)
    print("large", first.get(b"large") == large)
    print("unknown", first.ask(b"nonsense"))
    print(f"{sum(client.operations for client in clients) / seconds:.0f} operations/s", file=sys.stderr)


main()
