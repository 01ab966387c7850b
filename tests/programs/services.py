"""Services that know nothing of km, and clients that go on asking them: for outside.py and tests/soak/run.

The web servers of services/ answer /value/KEY with the SHA-256 of KEY a thousand times, which they keep,
/state with how many they have, /count/NAME with a number that goes up by one with each request, and
/peek/NAME with that number."""

import concurrent.futures
import hashlib
import http.client
import socket
import subprocess
import threading
import time

from places import HERE, PATIENCE, PYTHON, Failure, connect, expect, free_port, get, until


class Clients:
    """Threads that go on asking. What each is answered must go up by one from question to question: then
    none was lost, and none was answered twice."""

    def __init__(self, askers, pause):
        self.askers, self.pause = askers, pause
        self.sent, self.answered = [0] * len(askers), [0] * len(askers)
        self.errors, self.longest, self.stopping = [], 0.0, False
        self.threads = [threading.Thread(target=self.run, args=[n]) for n in range(len(askers))]

    def run(self, number):
        asker = self.askers[number]
        try:
            while not self.stopping:
                self.sent[number] += 1
                begin = time.monotonic()
                expect("the answer", asker.ask(), self.sent[number])
                self.longest = max(self.longest, time.monotonic() - begin)
                self.answered[number] += 1
                time.sleep(self.pause)
        except (Failure, OSError, ValueError, http.client.HTTPException) as error:
            text = f"client {number} after {self.answered[number]}: {type(error).__name__}: {error}"
            self.errors.append(text)
        finally:
            asker.close()

    def more(self, count):
        """Waits until each has that many more answers."""
        wanted = [answered + count for answered in self.answered]
        until("answers to the clients",
              lambda: self.errors or all(a >= b for a, b in zip(self.answered, wanted)))
        self.right()

    def right(self):
        if self.errors:
            raise Failure(f"clients saw {len(self.errors)} errors: {self.errors[:3]}")

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stopping = True
        for thread in self.threads:
            thread.join(PATIENCE)


class HttpAsker:
    """Counts up /count/NAME, over one connection that it keeps, or each time over another one."""

    def __init__(self, port, name, kept):
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        self.name, self.kept, self.socket = name, kept, None

    def ask(self):
        # By itself it would connect again where the connection is lost: that is an error here.
        if self.kept and self.connection.sock is not self.socket:
            raise Failure("the connection that was kept is gone")
        self.connection.request("GET", f"/count/{self.name}")
        self.socket = self.connection.sock
        answer = self.connection.getresponse().read()
        if not self.kept:
            self.connection.close()
        return int(answer)

    def close(self):
        self.connection.close()


class Service:
    clients = 6

    def check_counts(self, port, lowest, highest):
        """What each client has counted is between these."""
        for low, count, high in zip(lowest, self.counts(port, len(lowest)), highest):
            expect(f"whether {low} <= {count} <= {high}", low <= count <= high, True)


class Http(Service):
    """A web server as above."""

    def __init__(self, *command):
        self.command = command

    def start(self, place, port):
        return place.under_km(*self.command, port)

    def fill(self, port):
        values = [get(port, f"/value/{n % 100}") for n in range(1000)]
        self.values = [hashlib.sha256(str(n).encode() * 1000).hexdigest() for n in range(100)]
        expect("the values", values, self.values * 10)

    def asker(self, port, number):
        return HttpAsker(port, number, kept=number % 3 != 0)

    def counts(self, port, count):
        return [int(get(port, f"/peek/{n}")) for n in range(count)]

    def check(self, port):
        """The data of one that was resumed."""
        expect("the state after the resume", get(port, "/state"), "cached 100")
        expect("values", [get(port, f"/value/{n}") for n in range(100)], self.values)
        expect("a new value", get(port, "/value/new"),
               hashlib.sha256(b"new" * 1000).hexdigest())
        expect("two new counts", [get(port, "/count/new") for _ in range(2)], ["1", "2"])


def python_http():
    return Http(PYTHON, HERE / "services/http_server.py")


class RedisAsker:
    """Counts up two keys of database 1 in a transaction: they must be alike at any time."""

    def __init__(self, port, number):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self.file = self.socket.makefile("rb")
        self.number = number
        self.command("select 1", b"+OK")

    def command(self, text, *wanted):
        self.socket.sendall(text.encode() + b"\r\n")
        for one in wanted:
            expect(f"the answer to {text!r}", self.file.readline().rstrip(b"\r\n"), one)

    def ask(self):
        transaction = f"multi\r\nincr count:{self.number}\r\nincr twin:{self.number}\r\nexec"
        self.command(transaction, b"+OK", b"+QUEUED", b"+QUEUED", b"*2")
        first, second = (int(self.file.readline()[1:]) for _ in range(2))
        expect("the second count", second, first)
        return first

    def close(self):
        self.file.close()
        self.socket.close()


class Redis(Service):
    """100,000 keys of all types in database 0. DEBUG DIGEST is a checksum over all data."""

    def start(self, place, port):
        return place.under_km("redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "",
                              "--appendonly", "no", "--enable-debug-command", "yes")

    @staticmethod
    def say(port, *words):
        result = subprocess.run(["redis-cli", "-p", str(port), *map(str, words)],
                                stdout=subprocess.PIPE, stdin=subprocess.DEVNULL,
                                timeout=PATIENCE, check=True)
        return result.stdout.decode().rstrip("\n")

    def fill(self, port):
        expect("filling", self.say(port, "debug", "populate", "95000", "key", "64"), "OK")
        self.say(port, "eval", """for i = 1, 1000 do
            redis.call('hset', 'h' .. i, 'a', i, 'b', i * i) redis.call('rpush', 'l' .. i, i, 'x', i)
            redis.call('zadd', 'z' .. i, i, 'm', 1, 'n') redis.call('sadd', 's' .. i, 'p', 'q', i)
            redis.call('set', 'e' .. i, i, 'ex', 100000) end""", "0")
        expect("keys", self.say(port, "dbsize"), "100000")
        self.digest = self.say(port, "debug", "digest")

    def asker(self, port, number):
        return RedisAsker(port, number)

    def counts(self, port, count):
        pairs = [self.say(port, "-n", "1", "mget", f"count:{n}", f"twin:{n}").split()
                 for n in range(count)]
        expect("the counts and their twins", [first for first, _ in pairs],
               [second for _, second in pairs])
        return [int(first) for first, _ in pairs]

    def check(self, port):
        """The data of one that was resumed. Without what the clients counted it is as it was at first."""
        expect("emptying", self.say(port, "-n", "1", "flushdb"), "OK")
        expect("the digest after the resume", self.say(port, "debug", "digest"), self.digest)
        expect("a list", self.say(port, "lrange", "l7", "0", "-1"), "7\nx\n7")
        expect("setting", self.say(port, "set", "new", port), "OK")
        expect("keys after the resume", self.say(port, "dbsize"), "100001")


def resume_and_check(place, service, port, lowest, highest, at_once):
    """That many processes of the snapshot, on ports of their own: each has the data, and what each client had
    counted at the instant of the snapshot."""
    ports = []
    while len(ports) < at_once:
        if (one := free_port()) not in ports:
            ports.append(one)
    clones = [place.resume("--listen", f":{port}=:{one}") for one in ports]

    def look(number):
        connect(ports[number], clones[number]).close()
        service.check_counts(ports[number], lowest, highest)
        service.check(ports[number])

    try:
        with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
            list(pool.map(look, range(at_once)))
    finally:
        for clone in clones:
            place.end(clone)
