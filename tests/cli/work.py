"""Threads, hashes, JSON and files, with output that depends on its input only: work.py FILE"""

import hashlib
import json
import os
import queue
import sys
import tempfile
import threading


def digest_worker(lines, results):
    while True:
        item = lines.get()
        if item is None:
            return
        number, line = item
        results[number] = hashlib.sha256(line.encode()).hexdigest()


def digests(path, workers):
    lines = queue.Queue(100)
    results = {}
    threads = [threading.Thread(target=digest_worker, args=(lines, results)) for _ in range(workers)]
    for thread in threads:
        thread.start()
    with open(path, encoding="utf-8") as file:
        for item in enumerate(file):
            lines.put(item)
    for _ in threads:
        lines.put(None)
    for thread in threads:
        thread.join()
    return [results[i] for i in range(len(results))]


def main():
    all_digests = digests(sys.argv[1], 4)
    text = json.dumps({"count": len(all_digests), "digests": all_digests}, indent=1)
    with open("digests.json", "w", encoding="utf-8") as file:
        file.write(text)
    with open("digests.json", encoding="utf-8") as file:
        again = json.load(file)
    assert again["digests"] == all_digests
    with tempfile.TemporaryFile() as file:
        file.write(text.encode())
        file.seek(-20, os.SEEK_END)
        tail = file.read()
    os.rename("digests.json", "renamed.json")
    print(len(all_digests), hashlib.md5(text.encode()).hexdigest(), tail)
    print(sorted(os.listdir(".")), os.path.getsize("renamed.json"))

    event, seen = threading.Event(), []
    timer = threading.Timer(0.05, lambda: (seen.append("timer"), event.set()))
    timer.start()
    event.wait()
    print(seen, threading.active_count() >= 1)


main()
