"""Unmodified servers, warmed, snapshotted and resumed: resumed.py OUT [NAME...] prints a line for each test,
as tests/lib.sh does. OUT has the compiled ones. Nothing is waited for longer than PATIENCE."""

import contextlib
import http.client
import json
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys

from places import HERE, PATIENCE, PYTHON, Failure, connect, expect, free_port, get, run_tests, until
from resumed_mariadb import mariadb


def line(client, text):
    client.sendall(text.encode() + b"\n")
    answer = b""
    while not answer.endswith(b"\n"):
        data = client.recv(1000)
        if not data:
            raise Failure(f"the connection was closed after {answer!r}")
        answer += data
    return answer.decode().rstrip("\n")


def is_gone(client):
    """The other end was reset or closed, behind what it had sent."""
    try:
        while client.recv(1000):
            pass
        return True
    except ConnectionResetError:
        return True


# ---- The tests ----

def python_http(place):
    answers = {}
    for mode in ("native", "km"):
        port = free_port()
        command = (PYTHON, HERE / "resumed/http_app.py", port)
        server = place.start(*command) if mode == "native" else place.under_km(*command)
        connect(port, server).close()
        for n in range(1000):
            get(port, f"/value/{n % 100}")
        if mode == "km":
            place.taken(server)
            for resume in range(3):
                server = place.resume()
                connect(port, server).close()
                answers[f"resume {resume}"] = [get(port, "/state"), get(port, "/value/7")]
                place.end(server)
        else:
            answers[mode] = [get(port, "/state"), get(port, "/value/7")]
            place.end(server)
    expect("the application's state", json.loads(answers["native"][0]),
           {"requests": 1002, "cached": 100})
    for name, answer in answers.items():
        expect(name, answer, answers["native"])


def echo(place, take, stats, *command):
    """A server with 50 clients that takes a snapshot: they see a reset, so does it, new ones are served."""
    port = free_port()
    server = place.under_km(*command, port)
    connect(port, server).close()
    clients = [socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) for _ in range(50)]
    for n, client in enumerate(clients):
        expect("an echo", line(client, f"line {n}"), f"line {n}")
        client.sendall(b"half a li")
    until("all clients open", lambda: line(clients[0], "").endswith("half a li") and
          line(clients[0], "stats").startswith("open 50 "))
    take(server, clients[0])
    place.taken(server)
    for client in clients:
        expect("the connection of an old client is gone", is_gone(client), True)
    for _ in range(2):
        server = place.resume()
        with connect(port, server) as client:
            expect("an echo after the resume", line(client, "again"), "again")
            until("what became of the old clients", lambda: line(client, "stats") == stats)
            more = [socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
                    for _ in range(50)]
            for n, other in enumerate(more):
                expect("an echo to a new client", line(other, f"new {n}"), f"new {n}")
        place.end(server)


def asyncio_echo(place):
    echo(place, lambda server, client: server.send_signal(signal.SIGUSR1), "open 1 reset 50",
         PYTHON, HERE / "resumed/echo.py")


def epoll_echo(place):
    echo(place, lambda server, client: client.sendall(b"snapshot\n"), "open 1 lost 50 ticks 1",
         place.out / "epoll_server")


def remembers(place, port, values):
    """Three times: the resumed server has its 100 values still, and makes new ones."""
    for _ in range(3):
        server = place.resume()
        connect(port, server).close()
        expect("the state after the resume", get(port, "/state"), "cached 100")
        expect("values", [get(port, f"/value/{n}") for n in range(100)], values[:100])
        expect("a new value", len(get(port, "/value/new")), 64)
        place.end(server)


def go_http(place):
    port = free_port()
    server = place.under_km(place.out / "http_server", port)
    connect(port, server).close()
    values = [get(port, f"/value/{n % 100}") for n in range(300)]
    kept = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    kept.request("GET", "/state")
    expect("the state", kept.getresponse().read(), b"cached 100")
    get(port, "/snapshot")
    place.taken(server)
    remembers(place, port, values)


def sqlite_transaction(place):
    def output(process):
        text, _ = process.communicate(timeout=PATIENCE)
        expect("the status", process.returncode, 0)
        return text.decode()

    def dump(name):
        with contextlib.closing(sqlite3.connect(place.directory / name)) as base:
            return list(base.iterdump())

    program = (PYTHON, HERE / "resumed/transaction.py")
    for end in ("commit", "rollback"):
        (place.directory / "end").write_text(end)
        native = output(place.start(*program, f"native-{end}.db", stdout=subprocess.PIPE))
        place.taken(place.under_km(*program, f"{end}.db"))
        expect("the journal is there", (place.directory / f"{end}.db-journal").exists(), True)
        expect(f"the answers after the {end}", output(place.resume(stdout=subprocess.PIPE)), native)
        expect(f"what is in the file after the {end}", dump(f"{end}.db"), dump(f"native-{end}.db"))
        expect("rows", len(dump(f"{end}.db")) > 20000, end == "commit")


def node_http(place):
    port = free_port()
    server = place.under_km("/usr/bin/node", HERE / "services/http_server.js", port)
    connect(port, server).close()
    values = [get(port, f"/value/{n % 100}") for n in range(1000)]
    with socket.create_connection(("127.0.0.1", port)):  # one that waits for its request
        place.take(server)
    remembers(place, port, values)


def redis_keys(place):
    """100,000 keys of all types, with a client that waits; DEBUG DIGEST is a checksum over all data."""
    port = free_port()

    def redis(*words):
        result = subprocess.run(["redis-cli", "-p", str(port), *words], stdout=subprocess.PIPE,
                                stdin=subprocess.DEVNULL, timeout=PATIENCE, check=True)
        return result.stdout.decode().rstrip("\n")

    server = place.under_km("redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "",
                            "--appendonly", "no", "--enable-debug-command", "yes")
    connect(port, server).close()
    expect("filling", redis("debug", "populate", "95000", "key", "64"), "OK")
    redis("eval", """for i = 1, 1000 do
        redis.call('hset', 'h' .. i, 'a', i, 'b', i * i) redis.call('rpush', 'l' .. i, i, 'x', i)
        redis.call('zadd', 'z' .. i, i, 'm', 1, 'n') redis.call('sadd', 's' .. i, 'p', 'q', i)
        redis.call('set', 'e' .. i, i, 'ex', 100000) end""", "0")
    expect("keys", redis("dbsize"), "100000")
    digest = redis("debug", "digest")
    waiting = place.start("redis-cli", "-p", port, "blpop", "never", "0")
    until("a client that waits", lambda: "blocked_clients:1" in redis("info", "clients"))
    place.take(server)
    expect("the waiting client's end", waiting.wait(PATIENCE) is not None, True)
    for resume in range(3):
        server = place.resume()
        connect(port, server).close()
        expect("the digest after the resume", redis("debug", "digest"), digest)
        expect("a list", redis("lrange", "l7", "0", "-1"), "7\nx\n7")
        expect("setting", redis("set", "new", str(resume)), "OK")
        expect("keys after the resume", redis("dbsize"), "100001")
        place.end(server)


def sqlite_shell(place):
    """The shell itself, between two statements of a transaction; what follows comes by another pipe."""
    before = ["pragma cache_size = 10;", "create table t(a integer primary key, b);", "begin;"]
    before += [f"insert into t values ({n}, '{'x' * (n % 97)}');" for n in range(20000)]
    after = [f"insert into t values ({n}, 'after');" for n in range(20000, 21000)]
    after += ["commit;", "select count(*), sum(a), sum(length(b)) from t;", "pragma integrity_check;"]
    native = place.start("sqlite3", "native.db", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    wanted, _ = native.communicate("\n".join(before + after).encode(), timeout=PATIENCE)
    shell = place.under_km("sqlite3", "km.db", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    shell.stdin.write(("\n".join(before) + "\nselect 'ready';\n").encode())
    shell.stdin.flush()
    expect("the shell", shell.stdout.readline(), b"ready\n")
    place.take(shell)
    expect("the journal is there", (place.directory / "km.db-journal").exists(), True)
    shell = place.resume(stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    got, _ = shell.communicate("\n".join(after).encode(), timeout=PATIENCE)
    expect("the status", shell.returncode, 0)
    expect("what the shell says", got, wanted)


def nginx_http(place):
    port = free_port()
    (place.directory / "page").write_text("page\n" * 10000)
    (place.directory / "conf").write_text(f"""daemon off; master_process off; pid pid; error_log stderr;
        events {{ worker_connections 64; }} http {{ access_log off; sendfile on; default_type text/plain;
        client_body_temp_path b; proxy_temp_path p; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;
        server {{ listen 127.0.0.1:{port}; root {place.directory}; }} }}""")
    nginx = shutil.which("nginx") or "/usr/sbin/nginx"
    server = place.under_km(nginx, "-p", place.directory, "-c", place.directory / "conf")
    connect(port, server).close()
    page = get(port, "/page")
    expect("the page", page, "page\n" * 10000)
    with socket.create_connection(("127.0.0.1", port)):
        place.take(server)
    for _ in range(3):
        server = place.resume()
        connect(port, server).close()
        for _ in range(20):
            expect("the page after the resume", get(port, "/page"), page)
        place.end(server)


TESTS = {"python-http": python_http, "asyncio-echo": asyncio_echo, "epoll-echo": epoll_echo,
         "go-http": go_http, "node-http": node_http, "redis-keys": redis_keys, "nginx-http": nginx_http,
         "sqlite-transaction": sqlite_transaction, "sqlite-shell": sqlite_shell, "mariadb": mariadb}
NEEDED = {"node-http": "node", "redis-keys": "redis-server", "sqlite-shell": "sqlite3", "mariadb": "mariadbd"}


if __name__ == "__main__":
    sys.exit(run_tests(TESTS, NEEDED, "resumed", sys.argv[1], sys.argv[2:]))
