"""Two programs of outside.py that are driven by what is typed: sqlite3 in a transaction, bash at a terminal."""

import concurrent.futures
import contextlib
import os
import pathlib
import re
import select
import shutil
import sqlite3
import subprocess
import sys
import termios
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from places import KM, KMCTL, PATIENCE, Failure, Skipped, expect, until
from pseudo_terminal import Terminal

AT_ONCE = 5
TIMES = 10


class Typist:
    """Goes on with ask(N) for N = 1, 2, ...; its errors are kept."""

    def __init__(self, ask):
        self.ask, self.count, self.begun = ask, 0, 0
        self.errors, self.stopping = [], False
        self.thread = threading.Thread(target=self.run)

    def run(self):
        try:
            while not self.stopping:
                self.begun += 1
                self.ask(self.begun)
                self.count = self.begun
        except (Failure, OSError, ValueError) as error:
            self.errors.append(f"after {self.count}: {type(error).__name__}: {error}")

    def more(self, count):
        wanted = self.count + count
        until("answers", lambda: self.errors or self.count >= wanted)
        expect("errors of the one who types", self.errors, [])

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stopping = True
        self.thread.join(PATIENCE)


def in_turns(function):
    """For each of the ten, five at once."""
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(function, range(TIMES)))


# ---- sqlite3 ----

def row(number):
    return f"row {number} " + "x" * (number % 97)


def told(shell, text, wanted):
    """What the shell answers to this, behind what it may have been about to say; the answer's lines."""
    shell.stdin.write(f"{text}\nselect '{wanted}';\n".encode())
    shell.stdin.flush()
    lines = []
    while not lines or lines[-1] != wanted:
        data = shell.stdout.readline().decode()
        if not data:
            raise Failure(f"the shell ended after {lines[-3:]!r}")
        lines.append(data.rstrip("\n"))
    return lines[:-1]


def rows_of(database):
    with contextlib.closing(sqlite3.connect(database)) as base:
        expect("the integrity", base.execute("pragma integrity_check").fetchall(), [("ok",)])
        return base.execute("select a, b from t order by a").fetchall()


def commit(shell):
    told(shell, "commit;", "committed")
    expect("the integrity", told(shell, "pragma integrity_check;", "checked"), ["ok"])
    shell.stdin.close()
    expect("the status", shell.wait(PATIENCE), 0)


def resume_apart(place, data, copy):
    """With a copy in the place of the directory, for this process alone."""
    script = 'mount --bind "$1" "$2" && cd "$2" && exec "$3" "$4"'
    return place.start("unshare", *([] if os.geteuid() == 0 else ["-r"]), "-m", "sh", "-c", script, "sh",
                       copy, data, KM, place.snapshot, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def check_copy(place, data, number, lowest, highest):
    copy = place.directory / f"copy-{number}"
    shutil.copytree(place.directory / "kept", copy)
    shell = resume_apart(place, data, copy)
    count = int(told(shell, "select count(*) from t;", "counted")[-1])
    expect(f"whether {lowest} <= {count} <= {highest}", lowest <= count <= highest, True)
    told(shell, "\n".join(f"insert into t values ({count + n}, 'of {number}');"
                          for n in range(1, 200 + number)), "inserted")
    commit(shell)
    wanted = [(n, row(n)) for n in range(1, count + 1)]
    wanted += [(count + n, f"of {number}") for n in range(1, 200 + number)]
    expect("the rows that it has written", rows_of(copy / "base.db") == wanted, True)
    expect("what is left of its journal", (copy / "base.db-journal").exists(), False)


def sqlite_transaction(place):
    """One transaction in which rows are inserted all the time. The database and its journal belong to the
    instant of the snapshot: the program is paused while they are copied."""
    if subprocess.run(["unshare", *([] if os.geteuid() == 0 else ["-r"]), "-m", "true"], check=False).returncode:
        raise Skipped("no mount namespaces here")
    data = place.directory / "data"
    data.mkdir()
    shell = place.start("sh", "-c", 'cd "$1" && exec "$2" --no-sync sqlite3 base.db', "sh", data, KM,
                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    told(shell, "pragma cache_size = 10;\ncreate table t(a integer primary key, b);\nbegin;", "begun")

    def control(*words):
        subprocess.run([KMCTL, *words], env=place.environment, stdout=place.log, stderr=place.log,
                       timeout=PATIENCE, check=True)

    def insert(number):
        expect("the answer", told(shell, f"insert into t values ({number}, '{row(number)}');", f"{number}"), [])

    with Typist(insert) as typist:
        typist.more(3000)
        expect("whether it has spilt", (data / "base.db-journal").stat().st_size > 0, True)
        lowest = typist.count
        control("pause", str(shell.pid))
        place.live(shell)
        shutil.copytree(data, place.directory / "kept")
        control("resume", str(shell.pid))
        highest = typist.begun
        typist.more(100)
        in_turns(lambda number: check_copy(place, data, number, lowest, highest))
        typist.more(100)
    expect("errors", typist.errors, [])
    commit(shell)
    wanted = [(n, row(n)) for n in range(1, typist.count + 1)]
    expect("the rows of the one that went on", rows_of(data / "base.db") == wanted, True)
    return f"{typist.count} rows, the snapshot after {lowest}"


# ---- bash ----

PROMPT = r"\x1b\[\?2004hready> "  # behind the wish for brackets around what is pasted


class ShellTerminal(Terminal):
    """With bash and its line editor, in the directory of its place."""

    patience = PATIENCE

    def __init__(self, place, *command, **size):
        environment = {**place.environment, "TERM": "xterm", "LC_ALL": "C", "HISTFILE": "/dev/null"}
        super().__init__(*command, env=environment, cwd=place.directory, **size)
        place.running.append(self.process)

    def ready(self):
        """Waits until keys are for who runs there: the line editor has its modes back, or has prompted. It need
        not draw its line anew before the next key, where it was about to read when SIGWINCH came."""
        def attempt():
            if select.select([self.master], [], [], 0)[0]:
                self.seen += os.read(self.master, 65536)
            return b"ready> " in self.seen or not termios.tcgetattr(self.master)[3] & termios.ICANON
        until("the line editor", attempt)


def check_terminal(place, number, lowest, highest):
    """Another terminal, of another size. What was half typed is cleared first, with Ctrl-U."""
    terminal = ShellTerminal(place, KM, place.snapshot, rows=30 + number, columns=90 + number)
    terminal.ready()
    terminal.type("\x15echo \"at [$n] [${#words[@]}] [$PWD]\"\n")
    answer = terminal.expect(r"at \[(\d+)\] \[3\] \[[^]]*\]\r\n")
    count = int(re.search(r"\d+", answer).group(0))
    expect(f"whether {lowest} <= {count} <= {highest}", lowest <= count <= highest, True)
    expect("its directory", f"[{place.directory}]" in answer, True)
    terminal.type("history 500 \n")
    terminal.expect(rf"n={lowest}; .*history 500")
    terminal.expect(PROMPT)
    terminal.type(f"double {number}4\n")
    terminal.expect(rf"\rdoubled {2 * int(f'{number}4')}\r\n{PROMPT}")
    terminal.type("\x1b[A\x7f5\n")  # the last line once more, with another digit
    terminal.expect(rf"\rdoubled {2 * int(f'{number}5')}\r\n{PROMPT}")
    terminal.type("echo \"$LINES $COLUMNS\"\n")
    terminal.expect(rf"\r{30 + number} {90 + number}\r\n")
    terminal.type("exit 7\n")
    expect("the status", terminal.end(), 7)


def bash_terminal(place):
    """An interactive shell with its own line editor, under somebody who goes on typing."""
    terminal = ShellTerminal(place, KM, "--no-sync", "bash", "--norc", "--noprofile", "-i")
    terminal.type("PS1='ready> '; words=(a b 'c d'); double() { echo \"doubled $(($1 * 2))\"; }\n")
    terminal.expect(PROMPT)

    def ask(number):
        terminal.type(f"n={number}; echo \"<$((n * 3))>\"\n")
        terminal.expect(rf"\r<{number * 3}>\r\n{PROMPT}")

    with Typist(ask) as typist:
        typist.more(100)
        lowest = typist.count
        taken = place.live(terminal.process)
        highest = typist.begun
        typist.more(100)
        in_turns(lambda number: check_terminal(place, number, lowest, highest))
        typist.more(100)
    expect("errors", typist.errors, [])
    terminal.type("exit 3\n")
    expect("the status", terminal.end(), 3)
    return f"{typist.count} lines, stood still {taken['stopped_ns'] / 1e6:.1f} ms"
