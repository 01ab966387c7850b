"""python_network.py CERTIFICATE KEY: sockets of all kinds, TLS, selectors, asyncio, with themselves."""

import asyncio
import hashlib
import http.client
import http.server
import mmap
import os
import select
import selectors
import signal
import socket
import socketserver
import ssl
import sys
import threading
import time


def sockets():
    with socket.create_server(("127.0.0.1", 0)) as server:
        def serve():
            for _ in range(10):
                peer, _ = server.accept()
                with peer, peer.makefile("rwb") as file:
                    for line in file:
                        file.write(line.upper())
                        file.flush()
        thread = threading.Thread(target=serve)
        thread.start()
        for i in range(10):
            with socket.create_connection(server.getsockname(), timeout=30) as client:
                client.sendall(b"line %d\n" % i * 100)
                client.shutdown(socket.SHUT_WR)
                data = b"".join(iter(lambda c=client: c.recv(4096), b""))
                print("tcp", i, len(data), hashlib.md5(data).hexdigest()[:8])
        thread.join()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as a, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as b:
        a.bind(("127.0.0.1", 0))
        for size in (0, 1, 1000, 9000):
            b.sendto(b"u" * size, a.getsockname())
        print("udp", [len(a.recv(10000)) for _ in range(4)])
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET):
        a, b = socket.socketpair(socket.AF_UNIX, kind)
        with a, b:
            a.sendmsg([b"one", b"two"])
            a.settimeout(0.02)
            try:
                a.recv(1)
            except TimeoutError as error:
                print("unix", kind.name, b.recv(100), error)
    print("dual", socket.has_dualstack_ipv6() in (True, False), socket.gethostbyname("localhost"))


def tls(certificate, key):
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(certificate, key)
    client_context = ssl.create_default_context(cafile=certificate)

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))[::-1]
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        server.socket = server_context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            client_context.maximum_version = version
            connection = http.client.HTTPSConnection("localhost", server.server_port, context=client_context, timeout=30)
            for size in (10, 100000):
                connection.request("POST", "/", bytes(range(256)) * size)
                body = connection.getresponse().read()
                print("tls", connection.sock.version(), len(body), body[:2])
            connection.close()
        server.shutdown()


def waiting():
    reader, writer = os.pipe()
    epoll = select.epoll()
    epoll.register(reader, select.EPOLLIN | select.EPOLLET)
    print("epoll", epoll.poll(0.01))
    os.write(writer, b"x")
    print("epoll", len(epoll.poll(1)), epoll.poll(0.01), select.select([reader], [writer], [], 0)[0] == [reader])
    poll = select.poll()
    poll.register(reader, select.POLLIN)
    threading.Timer(0.02, os.close, [writer]).start()
    print("poll", poll.poll(0)[0][1])
    os.read(reader, 1)
    print("hang-up", poll.poll(5000)[0][1] == select.POLLHUP)
    for name in ("SelectSelector", "PollSelector", "EpollSelector"):
        with getattr(selectors, name)() as selector:
            selector.register(reader, selectors.EVENT_READ)
            print(name, len(selector.select(1)))
    epoll.close()
    os.close(reader)
    got = []
    signal.signal(signal.SIGALRM, lambda number, _: got.append(number))
    signal.setitimer(signal.ITIMER_REAL, 0.005, 0.005)
    begin = time.monotonic()
    while len(got) < 5:
        time.sleep(1)  # goes on after each handler (PEP 475) unless the handler raises
        if time.monotonic() - begin > 0.9:
            break
    signal.setitimer(signal.ITIMER_REAL, 0)
    print("alarms", len(got) >= 5)


def memory():
    with mmap.mmap(-1, 1 << 20) as shared:
        def fill(part):
            shared[part << 18:(part + 1) << 18] = bytes([part + 1]) * (1 << 18)
        threads = [threading.Thread(target=fill, args=(part,)) for part in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        print("mmap", sum(shared[::4096]))
        shared.madvise(mmap.MADV_DONTNEED)
        shared.resize(1 << 21)
        print("resized", len(shared))


async def asynchronous():
    async def handle(reader, writer):
        while line := await reader.readline():
            writer.write(line[::-1])
            await writer.drain()
        writer.close()

    async def client(port, i):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        total = 0
        for j in range(20):
            writer.write(b"%d-%d\n" % (i, j))
            total += len(await reader.readexactly(len(f"{i}-{j}\n")))
            await asyncio.sleep(0)
        writer.close()
        return total

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    print("asyncio", sum(await asyncio.gather(*(client(port, i) for i in range(30)))))
    server.close()
    loop = asyncio.get_running_loop()
    print("executor", sum(await asyncio.gather(*(loop.run_in_executor(None, pow, 3, i) for i in range(50)))) % 1000007)
    fired = asyncio.Event()
    loop.add_signal_handler(signal.SIGUSR1, fired.set)
    os.kill(os.getpid(), signal.SIGUSR1)
    await asyncio.wait_for(fired.wait(), 10)
    try:
        await asyncio.wait_for(asyncio.sleep(10), 0.01)
    except asyncio.TimeoutError:
        print("timeout")
    queue = asyncio.Queue(3)

    async def produce():
        for i in range(100):
            await queue.put(i)

    producer = asyncio.create_task(produce())
    print("queue", sum([await queue.get() for _ in range(100)]))
    await producer


sockets()
tls(*sys.argv[1:])
waiting()
memory()
asyncio.run(asynchronous())
