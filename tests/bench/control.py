"""From outside: how long a program stands still for a pause and for a live snapshot; clones."""

import contextlib
import json
import signal
import statistics
import subprocess
import time


class Control:
    """`bench` has `table`, `quick`, `tmpfs`, `disk`; `workload` is tests/bench/workload.c."""

    def __init__(self, bench, km, workload):
        self.bench = bench
        self.km = km
        self.kmctl = km.parent / "kmctl"
        self.workload = workload
        self.table = bench.table
        self.rounds = 3 if bench.quick else 11

    def run(self):
        self.table.head("from outside (kmctl)")
        with self.holding(1, "plain", 64) as pid:
            paused = []
            for _ in range(self.rounds):
                paused.append(self.ask("pause", pid)["pause_ns"] / 1e6)
                self.ask("resume", pid)
        self.table.row("pausing 64 busy threads", statistics.median(paused), "ms", None, ("value", 3.0))
        size = 64 if self.bench.quick else 1024
        for how, pages, limit, peers in (("plain", "4 KiB", 60, "CRIU 341"), ("huge", "2 MiB", 5, "")):
            with self.holding(size, how, 0) as pid:
                file = self.bench.tmpfs / "live"
                stopped = [self.ask("snapshot", pid, "-o", file)["stopped_ns"] / 1e6
                           for _ in range(self.rounds)]
                file.unlink()
            self.table.row(f"live snapshot of {size} MiB, {pages} pages: stopped",
                           statistics.median(stopped), "ms", None, ("value", limit), peers)
        self.on_base(size)
        self.clones()

    def on_base(self, size):
        """A snapshot of what changed since a resume, beside one of everything."""
        file = self.bench.disk / "base"
        with self.holding(size, "plain", 0) as pid:
            self.ask("snapshot", pid, "-o", file)
        times = {"--base": [], "--full": []}
        with self.guest([file]) as guest:
            guest.send_signal(signal.SIGUSR1)
            if guest.stdout.readline() != b"1\n":
                raise RuntimeError("the resumed program ended")
            for _ in range(self.rounds):
                for how, taken in times.items():
                    # Each has a file of its own: taking the other's place would free it first.
                    to = self.bench.disk / f"taken{how}"
                    answer = self.ask("snapshot", guest.pid, how, "-o", to)
                    taken.append(answer["elapsed_ns"] / 1e6)
                    to.unlink()
        file.unlink()
        base, full = (statistics.median(taken) for taken in times.values())
        self.table.row(f"{size} MiB, 1 % changed since a resume: --base", base, "ms",
                       ("--full", full), ("ratio", 0.05))

    def clones(self):
        """Ten clones of a process of 64 MiB, until each one answers its control socket."""
        file = self.bench.disk / "clone"
        with self.holding(64, "plain", 0) as pid:
            self.ask("snapshot", pid, "-o", file)
        times = []
        for _ in range(self.rounds):
            sockets = [self.bench.tmpfs / f"clone-{i}" for i in range(10)]
            begin = time.perf_counter()
            clones = [subprocess.Popen([self.km, f"--control={path}", file], stdin=subprocess.DEVNULL)
                      for path in sockets]
            while not all(path.exists() for path in sockets):
                time.sleep(0.0005)
            times.append((time.perf_counter() - begin) * 1e3)
            for clone in clones:
                clone.kill()
                clone.wait()
            for path in sockets:
                path.unlink()
        file.unlink()
        self.table.row("ten clones of a process of 64 MiB run", statistics.median(times), "ms", None,
                       ("value", 30), "CRIU 172")

    @contextlib.contextmanager
    def holding(self, mib, how, threads):
        """The pid of a km whose program has so much memory and so many busy threads."""
        with self.guest([self.workload, "hold", str(mib), how, str(threads)]) as guest:
            if guest.stdout.readline() != b"0\n":
                raise RuntimeError("the program that is to hold memory ended")
            yield guest.pid

    @contextlib.contextmanager
    def guest(self, command):
        """A program under km, once it can be asked."""
        guest = subprocess.Popen([self.km, "--no-sync", *command], stdin=subprocess.DEVNULL,
                                 stdout=subprocess.PIPE)
        try:
            while True:
                with contextlib.suppress(RuntimeError):
                    self.ask("info", guest.pid)
                    break
            yield guest
        finally:
            guest.kill()
            guest.wait()
            guest.stdout.close()

    def ask(self, verb, pid, *more):
        done = subprocess.run([self.kmctl, verb, str(pid), "--json", *map(str, more)],
                              capture_output=True, text=True, check=False, timeout=120)
        if done.returncode != 0:
            raise RuntimeError(f"kmctl {verb}: {done.stderr}")
        return json.loads(done.stdout)
