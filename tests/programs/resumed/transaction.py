"""transaction.py DATABASE: a snapshot in the middle of a transaction that has spilt into the file; then all
is written, or as the file `end` says."""
import ctypes
import pathlib
import sqlite3
import sys

base = sqlite3.connect(sys.argv[1], isolation_level=None)
base.execute("pragma cache_size = 10")
base.execute("create table if not exists t(a integer primary key, b)")
base.execute("insert into t values (0, 'before')")
base.execute("begin immediate")
base.executemany("insert into t values (?, ?)", ((n, "x" * (n % 97)) for n in range(1, 20000)))
ctypes.CDLL(None).syscall(0x4B4D00, b"in a transaction", None, 0)
base.executemany("insert into t values (?, ?)", ((n, "y" * (n % 89)) for n in range(20000, 25000)))
base.execute(pathlib.Path("end").read_text())
print(base.execute("select count(*), sum(a), sum(length(b)) from t").fetchone())
print(base.execute("pragma integrity_check").fetchone())
