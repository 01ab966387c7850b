"""http_server.py PORT: python's http.server, a thread for each connection. What it answers is in services.py."""

import hashlib
import http.server
import sys
import threading

cache, counts = {}, {}
lock = threading.Lock()


def answer(what, key):
    with lock:
        if what == "value":
            if key not in cache:
                cache[key] = hashlib.sha256(key.encode() * 1000).hexdigest()
            return cache[key]
        if what == "count":
            counts[key] = counts.get(key, 0) + 1
        if what in ("count", "peek"):
            return str(counts.get(key, 0))
        return f"cached {len(cache)}"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1

    def do_GET(self):
        what, _, key = self.path.strip("/").partition("/")
        text = answer(what, key).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 64


Server(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
