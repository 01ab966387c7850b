"""A MariaDB server that is stopped by a snapshot and goes on, again and again, on its files: for resumed.py."""

import os
import shutil
import subprocess

from places import PATIENCE, connect, expect, free_port, until

PROGRAM = shutil.which("mariadbd") or "/usr/sbin/mariadbd"
ROWS = 2000
ROUNDS = 2  # MariaDB looks every five seconds whether a client that sleeps is still there


class Server:
    def __init__(self, place):
        self.place, self.port = place, free_port()
        self.data = place.directory / "data"
        self.data.mkdir()
        self.options = ["--no-defaults", f"--datadir={self.data}"]
        if os.geteuid() == 0:
            self.options.append("--user=root")
        # Without the tables of users: whoever connects may do all.
        made = subprocess.run([PROGRAM, *self.options, "--bootstrap"],
                              input=b"create database mysql;\ncreate database d;\n", stdout=place.log,
                              stderr=place.log, timeout=PATIENCE, check=False)
        expect("the status of mariadbd --bootstrap", made.returncode, 0)

    def command(self):
        return [PROGRAM, *self.options, "--skip-grant-tables", "--bind-address=127.0.0.1", f"--port={self.port}",
                f"--socket={self.data}/socket", "--innodb-buffer-pool-size=32M", "--innodb-flush-log-at-trx-commit=2"]

    def say(self, statements):
        result = subprocess.run(["mariadb", "--no-defaults", "--batch", "--skip-column-names", "-h127.0.0.1",
                                 f"-P{self.port}", "-uroot", "d"], input=statements.encode(), stdout=subprocess.PIPE,
                                stderr=self.place.log, timeout=PATIENCE, check=False)
        expect("the client's status", result.returncode, 0)
        return result.stdout.decode()


def fill(first):
    """Statements for so many rows more, some of them changed and some removed in one transaction."""
    rows = ",".join(f"({n}, repeat('{n} ', {n % 40}))" for n in range(first, first + ROWS))
    return (f"begin; insert into t values {rows}; update t set b = concat(b, 'changed') where a % 7 = 0;"
            f"delete from t where a % 11 = 0 and a >= {first}; commit;")


TABLE = "create table t(a int primary key, b varchar(1000), index(b(20))) engine=innodb;"
SUMS = "select count(*), sum(a), sum(length(b)), sum(crc32(b)) from t; check table t extended;"


def mariadb(place):
    """Its buffers are memory that is not to be dumped. A client holds a transaction open, which is undone. In
    the end a server that is started natively finds in the files what the last one said."""
    server = Server(place)
    process = place.under_km("--dontdump=keep", *server.command())
    connect(server.port, process).close()
    server.say(TABLE + fill(0))
    for number in range(1, ROUNDS + 1):
        sums = server.say(SUMS)
        client = place.start("mariadb", "--no-defaults", "-h127.0.0.1", f"-P{server.port}", "-uroot", "d",
                             "-e", "begin; delete from t; select sleep(1000)", stdout=subprocess.DEVNULL)
        waits = "select count(*) from information_schema.processlist where info = 'select sleep(1000)'"
        until("the client in its transaction", lambda: server.say(waits) == "1\n")
        place.take(process)
        process = place.resume("--dontdump=keep")
        connect(server.port, process).close()
        client.wait(PATIENCE)
        expect(f"the table after resume {number}", server.say(SUMS), sums)
        server.say(fill(number * ROWS))
    sums = server.say(SUMS)
    server.say("shutdown")
    expect("the server's end", process.wait(PATIENCE), 0)
    process = place.start(*server.command())
    connect(server.port, process).close()
    expect("the table natively", server.say(SUMS), sums)
    server.say("shutdown")
    expect("the native server's end", process.wait(PATIENCE), 0)
