"""Pays for a slow start once: imports and a table go into the snapshot, the answer comes after it.

    km --snapshot=warm.kmsnap /usr/bin/python3 warm.py
    km warm.kmsnap

Without km it does both in one go. An argument N changes the table's size.
"""

import argparse
import asyncio
import collections
import csv
import decimal
import email.message
import errno
import hashlib
import html.parser
import http.client
import json
import logging
import os
import sys
import time
import unittest
import xml.dom.minidom

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import km


def build_table(size):
    """Maps the first 16 hex digits of SHA-256(n) to n, for n below size."""
    return {hashlib.sha256(b"%d" % n).hexdigest()[:16]: n for n in range(size)}


def take_snapshot(description):
    try:
        return km.snapshot("warm", description) == 1
    except OSError as error:
        if error.errno != errno.ENOSYS:
            raise
        return False


def main():
    parser = argparse.ArgumentParser(description="a warm start for Python")
    parser.add_argument("size", nargs="?", type=int, default=100000, help="entries of the table")
    size = parser.parse_args().size
    if size <= 4711:
        parser.error("the size must be above 4711")

    start = time.monotonic()
    table = build_table(size)
    print(f"{len(sys.modules)} modules, {len(table)} entries in {time.monotonic() - start:.3f} s")

    resumed = take_snapshot(f"{len(table)} entries")

    key = hashlib.sha256(b"4711").hexdigest()[:16]
    answer = {"key": key, "value": table[key], "resumed": resumed}
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
