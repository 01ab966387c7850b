"""Warm servers: from the start of km to the first answer of what it resumes, beside a cold start."""

import contextlib
import os
import pathlib
import re
import shutil
import socket
import statistics
import subprocess
import time

TESTS = pathlib.Path(__file__).resolve().parent.parent
HTTP = b"GET /peek/0 HTTP/1.0\r\n\r\n"


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_for(port):
    for _ in range(600):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.05)
    raise RuntimeError(f"no server at port {port}")


def ask(port, question):
    """The first bytes of an answer; empty if there is none."""
    with contextlib.suppress(ConnectionError), socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(question)
        return client.recv(4096)
    return b""


def own_kib(pid):
    """What no other process shares with it, and its page tables."""
    text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text() + pathlib.Path(f"/proc/{pid}/status").read_text()
    return sum(int(line.split()[1]) for line in text.splitlines() if line.startswith(("Private_", "VmPTE")))


def missing(table, *programs):
    absent = [str(name) for name in programs if not shutil.which(name)]
    if absent:
        table.head(f"skipped: {', '.join(absent)} is not installed (tools/setup programs)")
    return bool(absent)


class Resumes:
    """`bench` has `table`, `quick`, `tmpfs` and `disk`; `km` is the monitor's path, `programs` where to compile."""

    def __init__(self, bench, km, programs):
        self.bench = bench
        self.km = km
        self.programs = programs
        self.table = bench.table

    def run(self):
        self.table.head("warm servers: resume to first answer")
        services = TESTS / "programs/services"
        java = next(iter(sorted(pathlib.Path("/usr/lib/jvm").glob("java-17-openjdk-*/bin/java"))), "java")
        for name, needs, command, target, peers in (
                ("python http.server", (), self.python("1000000"), 8, "CRIU 20, cold 79"),
                ("the same, from a snapshot that it took", (), self.python("1000"), 8, "CRIU 20, cold 79"),
                ("node http server", ["node"], ["/usr/bin/node", services / "http_server.js"], 12, ""),
                ("Go http server", ["go"], [self.programs / "http_service"], None, ""),
                # The cold ones would remove the file of its counters that the snapshot shares.
                ("JVM http server", [java],
                 [java, "-Xmx64m", "-XX:-UsePerfData", "-cp", self.programs, "HttpServer"], None, "")):
            if not missing(self.table, *needs):
                if not callable(command):
                    self.build(command, services)
                self.first_answer(name, command, self.warm_http, HTTP, target, peers)
        if not missing(self.table, "nginx"):
            self.first_answer("nginx", self.nginx, self.warm_http, b"GET /page HTTP/1.0\r\n\r\n", None, "")
        if not missing(self.table, "redis-server", "redis-cli"):
            command = ["redis-server", "--bind", "127.0.0.1", "--save", "", "--enable-debug-command", "yes", "--port"]
            self.first_answer("redis, 100,000 keys", command, self.warm_redis, b"GET key:7\r\n", 6, "CRIU 17")

    @staticmethod
    def python(requests):
        """After that many requests it takes a snapshot of itself, and ends."""
        return lambda port: ["/usr/bin/python3", TESTS / "programs/resumed/http_app.py", port, requests]

    def build(self, command, services):
        """Go's and Java's programs."""
        if command[0] == self.programs / "http_service":
            subprocess.run(["go", "build", "-o", command[0], services / "http_server.go"], check=True,
                           env={**os.environ, "GOFLAGS": "-mod=mod", "GOCACHE": str(self.programs / "go-cache")})
        if command[-1] == "HttpServer":
            javac = pathlib.Path(command[0]).parent / "javac"
            subprocess.run([javac, "-d", self.programs, services / "HttpServer.java"], check=True)

    def nginx(self, port):
        place = self.bench.disk
        (place / "page").write_text("".join(f"line {n}\n" for n in range(5000)))
        (place / "conf").write_text(f"""daemon off; master_process off; pid pid; error_log stderr crit;
            events {{ worker_connections 64; }} http {{ access_log off; client_body_temp_path b; proxy_temp_path p;
            fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;
            server {{ listen 127.0.0.1:{port}; root {place}; }} }}""")
        return [shutil.which("nginx"), "-p", place, "-c", place / "conf"]

    @staticmethod
    def warm_http(port, question):
        for n in range(1000):
            if not ask(port, question if n % 2 else b"GET /value/%d HTTP/1.0\r\n\r\n" % (n % 100)):
                raise RuntimeError("the server does not answer")

    @staticmethod
    def warm_redis(port, _question):
        subprocess.run(["redis-cli", "-p", str(port), "debug", "populate", "100000"], stdout=subprocess.DEVNULL,
                       check=True)

    def first_answer(self, name, command, warm, question, target, peers):
        """Median milliseconds from the start of km to the first byte of an answer; cold: from that of the program,
        without what it had warmed."""
        snapshot, port = self.bench.disk / "server", free_port()
        command = command(port) if callable(command) else [*command, port]
        with self.started([self.km, "--no-sync", f"--snapshot={snapshot}", *command]) as server:
            wait_for(port)
            warm(port, question)
            # One takes it of itself when it has served enough.
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.wait(0.5)
            if server.poll() is None:
                self.take(server, snapshot, port, question)
        times = {"km": [], "cold": []}
        for i in range(11 if self.bench.quick else 31):
            times["km"].append(self.answer_ms([self.km, snapshot], port, question))
            if i < 11:
                times["cold"].append(self.answer_ms(command, port, question))
        km, cold = (statistics.median(times[side]) for side in ("km", "cold"))
        self.table.row(name, km, "ms", ("cold, native", cold), ("value", target) if target else None, peers)
        print(f"    {cold / km:.1f} times as fast; file {snapshot.stat().st_size / 2**20:.1f} MiB; "
              f"a further idle clone {self.clone_kib(snapshot, port) / 1024:.1f} MiB", flush=True)

    def take(self, server, snapshot, port, question):
        """A live one, while a client asks: but at the instant itself, for a connection would be reset."""
        with subprocess.Popen([self.km.parent / "kmctl", "snapshot", str(server.pid), "-o", snapshot],
                              stdout=subprocess.DEVNULL) as kmctl:
            while kmctl.poll() is None:
                if any(snapshot.parent.glob(".kmsnap-*")):
                    ask(port, question)
            if kmctl.returncode != 0:
                raise RuntimeError("no snapshot was taken")

    def clone_kib(self, snapshot, port):
        """Of the second of two that wait for their first client."""
        with contextlib.ExitStack() as clones:
            for _ in range(2):
                other = free_port()
                clone = clones.enter_context(self.started(
                    [self.km, f"--listen=:{port}=:{other}", snapshot]))
                wait_for_listener(other)
            time.sleep(0.2)
            return own_kib(clone.pid)

    @contextlib.contextmanager
    def started(self, command):
        server = subprocess.Popen(list(map(str, command)), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                  stderr=subprocess.DEVNULL, cwd=self.bench.disk)
        try:
            yield server
        finally:
            server.kill()
            server.wait()

    def answer_ms(self, command, port, question):
        begin = time.perf_counter()
        with self.started(command):
            while not ask(port, question):
                if time.perf_counter() - begin > 60:
                    raise RuntimeError(f"no answer from {command[0]}")
                time.sleep(0.0002)
            return (time.perf_counter() - begin) * 1e3


def wait_for_listener(port):
    """Without connecting to it, which would wake the service."""
    for _ in range(600):
        tables = pathlib.Path("/proc/net/tcp").read_text() + pathlib.Path("/proc/net/tcp6").read_text()
        if re.search(rf":{port:04X} 0+:0000 0A", tables):
            return
        time.sleep(0.02)
    raise RuntimeError(f"nobody listens at port {port}")
