"""A mixture of the standard library, with output that depends on nothing but itself."""

import bz2
import collections
import concurrent.futures
import csv
import ctypes
import datetime
import decimal
import difflib
import gzip
import hashlib
import heapq
import io
import json
import lzma
import mmap
import os
import pickle
import random
import re
import shelve
import shutil
import sqlite3
import struct
import tarfile
import tempfile
import threading
import time
import xml.etree.ElementTree
import zipfile
import zlib


def compression(data):
    for module in (zlib, bz2, lzma):
        packed = module.compress(data)
        assert module.decompress(packed) == data
        print(module.__name__, hashlib.sha256(packed).hexdigest()[:16])
    with gzip.GzipFile("data.gz", "wb", mtime=0) as file:
        file.write(data)
    print("gzip", os.path.getsize("data.gz"))


def archives(data):
    with open("member", "wb") as file:
        file.write(data[:50000])
    with zipfile.ZipFile("archive.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo("a/b"), data[:100000])
    with zipfile.ZipFile("archive.zip") as archive:
        print(archive.testzip(), archive.namelist())
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("empty"))
    print("tar", len(buffer.getvalue()))


def numbers():
    decimal.getcontext().prec = 300
    print(hashlib.md5(str(decimal.Decimal(2).sqrt()).encode()).hexdigest())
    print(len(str(3**20000)), pow(3, 10**6, 10**9 + 7))
    generator = random.Random(4711)
    sample = [generator.random() for _ in range(50000)]
    print(sum(sample), sorted(sample)[25000], heapq.nlargest(2, sample))


def storage():
    with sqlite3.connect("base.db") as base:
        base.execute("create table t(a, b)")
        base.executemany("insert into t values (?, ?)", ((i, str(i) * 3) for i in range(5000)))
        print(base.execute("select count(*), max(b) from t").fetchone())
    with shelve.open("shelf", "n") as shelf:
        shelf["x"] = {"list": list(range(100))}
        print(len(shelf["x"]["list"]))
    for name in os.listdir("."):
        if name.startswith("shelf"):
            os.remove(name)  # its bytes are no constant
    os.remove("base.db")


def mappings():
    with open("mapped", "w+b") as file:
        file.truncate(1 << 20)
        with mmap.mmap(file.fileno(), 0) as view:
            view[4096:4101] = b"hello"
            view.flush()
            print(view.find(b"hello"))
        file.seek(4096)
        print(file.read(5))
    anonymous = mmap.mmap(-1, 1 << 16)
    anonymous.write(b"x" * 100)
    print(anonymous[:3], len(anonymous))


def threads():
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        digests = list(pool.map(lambda n: hashlib.blake2b(bytes([n]) * 200000).hexdigest(), range(40)))
    print(hashlib.sha1("".join(digests).encode()).hexdigest())
    condition, seen = threading.Condition(), []

    def consumer():
        with condition:
            condition.wait_for(lambda: len(seen) == 3, timeout=10)
            seen.append("done")

    thread = threading.Thread(target=consumer)
    thread.start()
    for n in range(3):
        time.sleep(0.01)
        with condition:
            seen.append(n)
            condition.notify_all()
    thread.join()
    print(seen)


def texts():
    rows = [[str(n), "a,b", 'quote"'] for n in range(200)]
    buffer = io.StringIO()
    csv.writer(buffer).writerows(rows)
    assert list(csv.reader(io.StringIO(buffer.getvalue()))) == rows
    root = xml.etree.ElementTree.fromstring("<a><b c='1'>x</b><b/></a>")
    print([e.tag for e in root.iter()], xml.etree.ElementTree.tostring(root))
    print(collections.Counter(re.findall(r"[a-z]+", buffer.getvalue())).most_common(3))
    print(list(difflib.unified_diff(["a", "b"], ["a", "c"], lineterm="")))
    text = json.dumps({str(n): [n, n * 1.5, None] for n in range(5000)})
    print(hashlib.sha256(pickle.dumps(json.loads(text), 4)).hexdigest()[:16])
    print(datetime.datetime(2024, 2, 29, tzinfo=datetime.timezone.utc) + datetime.timedelta(days=366))
    print(struct.pack(">Id", 7, 0.5), ctypes.CDLL(None).strlen(b"seven!!"))


def folders():
    os.makedirs("tree/a/b")
    for n in range(50):
        with open(f"tree/a/{n}", "w", encoding="ascii") as file:
            print(n, file=file)
    shutil.copytree("tree", "copy")
    shutil.rmtree("tree")
    print(sum(len(files) for _, _, files in os.walk("copy")))
    shutil.rmtree("copy")
    with tempfile.NamedTemporaryFile(dir=".") as file:
        file.write(b"x")
        file.flush()
        print(os.stat(file.name).st_size, os.path.exists(file.name))


def main():
    data = b"".join(b"%d the quick brown fox\n" % (n * 7919 % 10007) for n in range(20000))
    compression(data)
    archives(data)
    for part in (numbers, storage, mappings, threads, texts, folders):
        part()


main()
