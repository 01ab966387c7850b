"""http_session.py PORT: what a browser might ask of a web server; prints answers that are the same each time."""

import hashlib
import http.client
import json
import sys


def show(name, response):
    body = response.read()
    print(name, response.status, len(body), hashlib.sha256(body).hexdigest()[:16],
          response.getheader("Content-Type"), response.getheader("Content-Range"))
    return body


def main():
    port = int(sys.argv[1])
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)

    def ask(name, method, path, body=None, **headers):
        connection.request(method, path, body, {key.replace("_", "-"): value for key, value in headers.items()})
        return show(name, connection.getresponse())

    ask("small", "GET", "/small")
    ask("text", "GET", "/text.txt")
    ask("large", "GET", "/large.bin")
    ask("head", "HEAD", "/large.bin")
    ask("part", "GET", "/large.bin", Range="bytes=1000-99999")
    ask("parts", "GET", "/text.txt", Range="bytes=-10")
    ask("packed", "GET", "/text.txt", Accept_Encoding="gzip")
    ask("missing", "GET", "/missing")
    ask("forbidden", "POST", "/text.txt", "x")
    ask("moved", "GET", "/moved")
    names = sorted(entry["name"] for entry in json.loads(ask("list", "GET", "/folder/../") or "[]"))
    print(names)
    ask("proxied", "POST", "/up", b"body" * 500000)
    connection.request("GET", "/small", None, {"Connection": "close"})
    print(show("closed", connection.getresponse()))


main()
