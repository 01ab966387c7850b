#!/usr/bin/python3
"""Whether two snapshots say the same, record by record, and have the same memory.

    same.py FIRST SECOND      SECOND is of the process that FIRST resumed to, before it did anything

Prints what differs and exits with 1. What must differ is named in MAY_DIFFER, with the reason. It reads
the files by docs/snapshot-format.md, not with km's own parser.
"""
import errno
import mmap
import os
import re
import struct
import sys

KM = {name: 0x4B4D0001 + i for i, name in enumerate(
    'HEADER VCPU GUEST DYNLINKER PROCESS SIGNALS MAPPINGS FILES CHECKSUMS TIMERS'.split())}
KM['IPC'], KM['WORKING_SET'] = 0x4B4D0070, 0x4B4D0072
NAMES = {number: 'NT_KM_' + name for name, number in KM.items()}
PRSTATUS, PRPSINFO = 1, 3
REQUIRED = 0x80000000
TERMINAL, TIMERFD, QUEUE = 5, 10, 20
HOSTS_OWN = [*range(24, 28), *range(32, 40)]  # of a System V object: its id there, and when it changed

# (note, record) -> the bytes that are left out of the comparison (all of them: None), and why.
MAY_DIFFER = {
    (KM['HEADER'], 2): (None, 'a checksum of what differs'),
    (KM['HEADER'], 7): (None, 'each snapshot has its own id'),
    (KM['HEADER'], 8): (None, 'the parent of the second is the first'),
    (KM['HEADER'], 9): (None, 'time goes on'),
    (KM['VCPU'], 10): (None, 'a resume takes processor time'),
    (KM['PROCESS'], 9): (None, 'a resume takes processor time'),
    (KM['PROCESS'], 1): (range(4, 16), 'parent, group and session are those of whoever resumes'),
    # A periodic timer may have expired meanwhile: expiry, overrun, and whether its signal waits.
    (KM['TIMERS'], 1): ([*range(28, 40), *range(48, 56)], 'time goes on'),
    # Of a timerfd, in its records: expiries that nobody has read, and the time to the next.
    (KM['IPC'], REQUIRED | 1): (HOSTS_OWN, 'made anew'),
    (KM['IPC'], REQUIRED | 2): ([*HOSTS_OWN, *range(40, 48)], 'made anew, and last operated on then'),
    (KM['IPC'], REQUIRED | 3): (HOSTS_OWN, 'made anew'),
    # Of a POSIX message queue: device and inode.
    ('queue', 113): (range(24, 40), 'made anew'),
    ('timerfd', 81): (range(8, 32), 'time goes on'),
}


def aligned(size, to):
    return (size + to - 1) // to * to


class Snapshot:
    def __init__(self, path):
        # Mostly holes, perhaps: what is read stays as small as what is there.
        self.file = open(path, 'rb')
        self.bytes = mmap.mmap(self.file.fileno(), 0, prot=mmap.PROT_READ)
        at, = struct.unpack_from('<Q', self.bytes, 32)
        count, = struct.unpack_from('<H', self.bytes, 56)
        self.loads = []
        self.notes = []
        for i in range(count):
            kind, flags, offset, address, _, size, memory, _ = struct.unpack_from(
                '<IIQQQQQQ', self.bytes, at + 56 * i)
            if kind == 4:
                self.read_notes(offset, offset + size)
            else:
                self.loads.append((address, memory, flags, offset, size))

    def read_notes(self, at, end):
        while at < end:
            name_size, size, kind = struct.unpack_from('<III', self.bytes, at)
            name = self.bytes[at + 12:at + 12 + name_size].rstrip(b'\0').decode()
            at += 12 + aligned(name_size, 4)
            self.notes.append((name, kind, self.bytes[at:at + size]))
            at += aligned(size, 4)

    def pages(self):
        """Address of each page that is not zeros -> its bytes; and each segment's bounds and rights."""
        pages, segments = {}, []
        zeros = bytes(4096)
        for address, memory, flags, offset, size in self.loads:
            # Pieces of one mapping may be cut differently.
            if segments and segments[-1][1] == address and segments[-1][2] == flags:
                segments[-1] = (segments[-1][0], address + memory, flags)
            else:
                segments.append((address, address + memory, flags))
            for place in self.written(offset, offset + size):
                page = self.bytes[place:place + 4096]
                if page != zeros:
                    pages[address + place - offset] = page
        return pages, segments

    def written(self, at, end):
        """The offsets of the file's pages in [at, end) that are no holes."""
        while at < end:
            try:
                at = max(at, os.lseek(self.file.fileno(), at, os.SEEK_DATA) // 4096 * 4096)
            except OSError as error:
                if error.errno == errno.ENXIO:  # only a hole is left
                    return
                raise
            hole = min(os.lseek(self.file.fileno(), at, os.SEEK_HOLE), end)
            yield from range(at, min(hole, end), 4096)
            at = hole


def records(data):
    at = 0
    while at < len(data):
        tag, size = struct.unpack_from('<II', data, at)
        yield tag, data[at + 8:at + 8 + size]
        at += 8 + aligned(size, 8)


def blank(key, value):
    """The value without what may differ."""
    left_out, _ = MAY_DIFFER.get(key, ((), ''))
    if left_out is None:
        return b''
    value = bytearray(value)
    for i in left_out:
        if i < len(value):
            value[i] = 0
    return bytes(value)


def file_record(value):
    """An open file: what it is, and its own records."""
    ident, kind, flags, _, offset, length = struct.unpack_from('<IIIIqI', value, 0)
    path = value[28:28 + length].decode(errors='replace')
    if kind == TERMINAL:  # the host gives out the numbers
        path = re.sub('^/dev/pts/[0-9]+', '/dev/pts/N', path)
    rest = value[28 + length:]
    size, = struct.unpack_from('<I', rest, 0)
    yield 'open file %d: kind %d flags %#x offset %d path' % (ident, kind, flags, offset), path
    for tag, inner in records(rest[4:4 + size]):
        key = ({TIMERFD: 'timerfd', QUEUE: 'queue'}.get(kind, 'file'), tag)
        yield 'open file %d of kind %d, record %d' % (ident, kind, tag), blank(key, inner)


def lines(snapshot):
    """Everything that the notes say, in order: (what it is, its value)."""
    for owner, kind, data in snapshot.notes:
        if owner != 'KM':
            if owner == 'CORE' and kind == PRPSINFO:
                data = data[:28] + data[40:]  # parent, group, session: of whoever resumes
            if owner == 'CORE' and kind == PRSTATUS:
                data = data[:36] + data[48:]
            yield '%s %d' % (owner, kind), data
            continue
        if kind in (KM['CHECKSUMS'], KM['WORKING_SET']):
            continue  # the bytes are compared; what a resume wrote is known to the second only
        name = NAMES.get(kind, 'KM %#x' % kind)
        yield name, data[8:24]
        for tag, value in records(data[24:]):
            if kind == KM['FILES'] and tag == REQUIRED | 4:
                yield from file_record(value)
            elif (kind, tag) != (KM['HEADER'], 5):  # the file's length: compared by what is in it
                yield '%s record %#x' % (name, tag), blank((kind, tag), value)


def text(value, other):
    """A piece of it from where the two differ."""
    if isinstance(value, str):
        return value
    at = 0
    while at < min(len(value), len(other)) and value[at:at + 1] == other[at:at + 1]:
        at += 1
    return '%d bytes, from %d: %s' % (len(value), at, value[at:at + 32].hex(' ', 4))


def main():
    first, second = Snapshot(sys.argv[1]), Snapshot(sys.argv[2])
    differences = []
    one, two = list(lines(first)), list(lines(second))
    for i in range(max(len(one), len(two))):
        a = one[i] if i < len(one) else ('(nothing)', b'')
        b = two[i] if i < len(two) else ('(nothing)', b'')
        if a == b:
            continue
        differences.append('%s: %s\n%s: %s' % (
            a[0], text(a[1], b[1]), b[0], text(b[1], a[1])))
        if a[0] != b[0]:
            break  # what follows is moved
    (pages, segments), (other_pages, other_segments) = first.pages(), second.pages()
    if segments != other_segments:
        differences.append('segments: %s, not %s' % tuple(
            ' '.join('%x-%x:%d' % s for s in sorted(set(x) - set(y)))
            for x, y in ((segments, other_segments), (other_segments, segments))))
    for address in sorted(set(pages) | set(other_pages)):
        if pages.get(address) != other_pages.get(address):
            differences.append('memory at %#x' % address)
    for difference in differences[:20]:
        print(difference)
    if differences:
        sys.exit(1)
    print('%d records and %d pages are the same' % (len(one), len(pages)))


main()
