"""Real programs beside their native selves, and what each asks of km: exits for one operation, by call."""

import contextlib
import os
import pathlib
import re
import shutil
import statistics
import subprocess

from resumes import free_port, missing, wait_for

COMMITS = 2000
ROWS = 100000
CALLS_SHOWN = 5
CALL_LINE = re.compile(r"^ *[\d.]+ +[\d.]+ +\d+ +(\d+) +(?:\d+ +)?([a-z]\w*)$")
EXITS_LINE = re.compile(r"^ +(\d+) total$")


def calls_of(stats):
    """Calls by name, and all exits, from what km --stats says."""
    calls, exits = {}, 0
    for line in stats.splitlines():
        if match := CALL_LINE.match(line):
            calls[match[2]] = int(match[1])
        elif match := EXITS_LINE.match(line):
            exits = int(match[1])
    calls.pop("total", None)
    return calls, exits


class Programs:
    """`bench` has `table`, `spawn_ms`, `quick` and `disk`; `km` is the monitor's path."""

    def __init__(self, bench, km):
        self.bench = bench
        self.km = km
        self.table = bench.table

    def run(self):
        for part in (self.starts, self.sqlite, self.redis, self.nginx):
            part()

    # ---- One process from start to exit ----------------------------------------------------------

    def starts(self):
        self.table.head("programs, start to exit")
        java = next(iter(sorted(pathlib.Path("/usr/lib/jvm").glob("java-17-openjdk-*/bin/java"))), "java")
        for name, *command in (("python3 -c pass", "/usr/bin/python3", "-c", "pass"),
                               ("python3, asyncio and http.server", "/usr/bin/python3", "-c",
                                "import json, asyncio, http.server"),
                               ("node -e 0", "/usr/bin/node", "-e", "0"),
                               ("perl -e 0", "perl", "-e", "0"),
                               ("java -version", java, "-Xshare:auto", "-version")):
            if not missing(self.table, command[0]):
                self.both(name, command, 1, "")

    def both(self, name, command, operations, unit):
        """A row of times, then the exits for one of `operations`."""
        native, km = self.bench.spawn_ms(command, [self.km, *command], rounds=11 if self.bench.quick else 21)
        scale = 1e3 / operations if unit else 1
        self.table.row(name, km * scale, "us" if unit else "ms", ("native", native * scale))
        result = subprocess.run([self.km, "--stats", *command], stdin=subprocess.DEVNULL,
                                stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=True)
        self.exits(result.stderr, operations, unit)

    def exits(self, stats, operations, unit):
        calls, total = calls_of(stats)
        most = sorted(calls.items(), key=lambda item: -item[1])[:CALLS_SHOWN]
        listed = ", ".join(f"{name} {count / operations:.3g}" for name, count in most)
        print(f"    {total / operations:.3g} exits{unit and ' per ' + unit}: {listed}", flush=True)

    # ---- sqlite ----------------------------------------------------------------------------------

    def sqlite(self):
        self.table.head("sqlite3")
        if missing(self.table, "sqlite3"):
            return
        rows = (f"create table t(a integer primary key, b text); with recursive n(i) as (select 1 union all "
                f"select i + 1 from n where i < {ROWS}) insert into t select i, 'row ' || i from n;")
        commits = "create table t(a integer primary key, b text);" + "".join(
            f"insert into t values({i}, 'row {i}');" for i in range(COMMITS))
        for name, journal, script, count, unit in (
                (f"{ROWS} rows in one insert", "wal", rows, ROWS, "row"),
                (f"{COMMITS} inserts, WAL", "wal", commits, COMMITS, "insert"),
                (f"{COMMITS} inserts, rollback journal", "truncate", commits, COMMITS, "insert")):
            file = self.bench.disk / "script.sql"
            file.write_text(f"pragma journal_mode = {journal}; pragma synchronous = off; drop table if exists t;"
                            + script, encoding="utf-8")
            self.both(name, ["sqlite3", self.bench.disk / "bench.db", f".read {file}"], count, unit)

    # ---- Servers, the client outside -------------------------------------------------------------

    @contextlib.contextmanager
    def server(self, command, port, stop):
        """Runs natively or under km; its standard error is in `log` afterwards."""
        log = self.bench.disk / "server.log"
        with open(log, "wb") as errors:
            server = subprocess.Popen(list(map(str, command)), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                      stderr=errors, cwd=self.bench.disk)
        try:
            wait_for(port)
            yield log
            stop(server)
            server.wait(30)
        finally:
            server.kill()
            server.wait()

    def redis(self):
        self.table.head("redis-server under redis-benchmark, 50 clients")
        if missing(self.table, "redis-server", "redis-benchmark"):
            return
        requests = 20000 if self.bench.quick else 50000
        for pipeline in (1, 16):
            rates = {"native": {}, "km": {}}
            for under in ([], [self.km, "--stats"]) * 3:
                port = free_port()
                command = [*under, "redis-server", "--port", port, "--bind", "127.0.0.1", "--save", ""]
                with self.server(command, port, lambda server: server.terminate()) as log:
                    benchmark = subprocess.run(
                        ["redis-benchmark", "-p", str(port), "-n", str(requests), "-P", str(pipeline), "-t", "set,get",
                         "--csv"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True)
                for name, rate in re.findall(r'^"(SET|GET)","([\d.]+)"', benchmark.stdout, re.M):
                    rates["km" if under else "native"].setdefault(name, []).append(float(rate))
            for name in ("SET", "GET"):
                native, km = (statistics.median(rates[side][name]) for side in ("native", "km"))
                self.table.row(f"{name}, {pipeline} at a time", km / 1e3, "k/s", ("native", native / 1e3), higher=True)
            self.exits(log.read_text(encoding="utf-8", errors="replace"), 2 * requests, "request")

    def nginx(self):
        self.table.head("nginx, one process, under wrk, 30 connections")
        nginx = shutil.which("nginx") or "/usr/sbin/nginx"
        if missing(self.table, nginx, "wrk"):
            return
        seconds = 2 if self.bench.quick else 5
        (self.bench.disk / "page").write_bytes(os.urandom(16384))
        for path in ("small", "page"):
            rates, requests = {"native": [], "km": []}, 0
            for under in ([], [self.km, "--stats"]) * 3:
                port = free_port()
                config = self.bench.disk / "nginx.conf"
                config.write_text(
                    "daemon off; master_process off; pid nginx.pid; error_log stderr; events { }\n"
                    "http { access_log off; sendfile on; client_body_temp_path t1; proxy_temp_path t2;\n"
                    "fastcgi_temp_path t3; uwsgi_temp_path t4; scgi_temp_path t5;\n"
                    f'server {{ listen 127.0.0.1:{port}; root {self.bench.disk}; location /small {{ return 200 "x"; }} }} }}\n',
                    encoding="utf-8")
                with self.server([*under, nginx, "-p", self.bench.disk, "-c", config], port,
                                 lambda server: server.send_signal(3)) as log:
                    wrk = subprocess.run(["wrk", "-t1", "-c30", f"-d{seconds}", f"http://127.0.0.1:{port}/{path}"],
                                         stdout=subprocess.PIPE, text=True, check=True).stdout
                rates["km" if under else "native"].append(float(re.search(r"Requests/sec: *([\d.]+)", wrk)[1]))
                requests = int(re.search(r"(\d+) requests in", wrk)[1])
            native, km = (statistics.median(rates[side]) for side in ("native", "km"))
            self.table.row({"small": "a short answer", "page": "a file of 16 KiB"}[path], km / 1e3, "k/s",
                           ("native", native / 1e3), higher=True)
            self.exits(log.read_text(encoding="utf-8", errors="replace"), requests, "request")
