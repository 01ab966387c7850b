"""Services that know nothing of km, snapshotted from outside in the middle of their work, which goes on
unharmed, and ten processes resumed from each file, five at once: outside.py OUT [NAME...] prints a line for
each test, as tests/lib.sh does. OUT has what is compiled, JDK is where java is."""

import os
import shutil
import sys

from outside_shells import bash_terminal, sqlite_transaction
from places import HERE, connect, expect, free_port, get, run_tests
from services import Clients, Http, Redis, Service, python_http, resume_and_check

AT_ONCE = 5
TIMES = 2
PAUSE = 0.002  # seconds between two questions of a client


def serve(place, service):
    port = free_port()
    server = service.start(place, port)
    connect(port, server).close()
    service.fill(port)
    askers = [service.asker(port, n) for n in range(service.clients)]
    with Clients(askers, PAUSE) as clients:
        clients.more(20)
        lowest = list(clients.answered)
        taken = place.live(server)
        highest = list(clients.sent)
        clients.more(20)
        for _ in range(TIMES):
            resume_and_check(place, service, port, lowest, highest, AT_ONCE)
        clients.more(20)
    clients.right()
    service.check_counts(port, clients.answered, clients.answered)
    return (f"{sum(clients.answered)} requests, longest wait {clients.longest * 1000:.0f} ms; "
            f"stood still {taken['stopped_ns'] / 1e6:.1f} ms, {taken['file_bytes'] >> 20} MiB")


class PageAsker:
    """A page over one connection; it counts by itself."""

    def __init__(self, connection, wanted):
        self.connection, self.wanted, self.count = connection, wanted, 0

    def ask(self):
        self.connection.sendall(b"GET /page HTTP/1.1\r\nHost: here\r\n\r\n")
        answer = b""
        while b"\r\n\r\n" not in answer or len(answer.partition(b"\r\n\r\n")[2]) < len(self.wanted):
            piece = self.connection.recv(65536)
            expect("whether there is more", piece != b"", True)
            answer += piece
        expect("the status", answer.partition(b"\r\n")[0], b"HTTP/1.1 200 OK")
        expect("the page", answer.partition(b"\r\n\r\n")[2] == self.wanted, True)
        self.count += 1
        return self.count

    def close(self):
        self.connection.close()


class Nginx(Service):
    """Without its master, which would fork. It keeps no data but its page's file, open and cached."""

    page = "".join(f"line {n}\n" for n in range(5000))

    def start(self, place, port):
        (place.directory / "page").write_text(self.page)
        (place.directory / "conf").write_text(f"""daemon off; master_process off; pid pid; error_log stderr;
            events {{ worker_connections 64; }} http {{ access_log off; sendfile on; default_type text/plain;
            open_file_cache max=10; keepalive_requests 1000000; client_body_temp_path b; proxy_temp_path p;
            fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;
            server {{ listen 127.0.0.1:{port}; root {place.directory}; }} }}""")
        self.server = place.under_km(shutil.which("nginx") or "/usr/sbin/nginx", "-p",
                                     place.directory, "-c", place.directory / "conf")
        return self.server

    def fill(self, port):
        expect("the page", get(port, "/page"), self.page)

    def asker(self, port, _):
        return PageAsker(connect(port, self.server), self.page.encode())

    def check_counts(self, *_):
        pass  # it counts nothing

    def check(self, port):
        for _ in range(20):
            expect("the page after the resume", get(port, "/page"), self.page)


def nginx(place):
    return serve(place, Nginx())


def java(place):
    return serve(place, Http(f"{os.environ['JDK']}/bin/java", "-Xmx64m", "-Dsun.net.httpserver.nodelay=true",
                             "-cp", place.out / "java", "HttpServer"))


TESTS = {
    "python-http": lambda place: serve(place, python_http()),
    "node-http": lambda place: serve(place, Http("/usr/bin/node", HERE / "services/http_server.js")),
    "redis-keys": lambda place: serve(place, Redis()),
    "nginx-http": nginx,
    "java-http": java,
    "go-http": lambda place: serve(place, Http(place.out / "http_service")),
    "sqlite-transaction": sqlite_transaction,
    "bash-terminal": bash_terminal,
}
NEEDED = {"node-http": "node", "redis-keys": "redis-server", "sqlite-transaction": "sqlite3"}

if __name__ == "__main__":
    sys.exit(run_tests(TESTS, NEEDED, "outside", sys.argv[1], sys.argv[2:]))
