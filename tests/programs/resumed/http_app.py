"""http_app.py PORT [REQUESTS]: http.server with an application that is warm after 1,000 requests; then it
takes a snapshot of itself, if this is km, which ends it. Without km it goes on."""
import ctypes
import hashlib
import http.server
import json
import sys

cache = {}
WARM = int(sys.argv[2]) if len(sys.argv) > 2 else 1000


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.requests += 1
        what, _, key = self.path.strip("/").partition("/")
        if what == "value":
            if key not in cache:
                cache[key] = hashlib.sha256(key.encode() * 1000).hexdigest()
            answer = cache[key]
        else:
            answer = json.dumps({"requests": self.server.requests, "cached": len(cache)})
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer.encode())

    def log_message(self, *_):
        pass


class Server(http.server.HTTPServer):
    requests = 0

    def service_actions(self):
        if self.requests == WARM:
            self.requests += 1
            ctypes.CDLL(None).syscall(0x4B4D00, b"warm", b"1000 requests", 0)


Server(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
