"""Asks km for a snapshot, from an unmodified Python.

    import km
    ...                       # import, load, warm up
    if km.snapshot("ready"):  # the program ends here; each resume goes on here
        ...

The numbers are those of include/km/hypercall.h. Needs only ctypes and the libc that Python runs on.
"""

import ctypes
import errno
import os
import sys

_HC_SNAPSHOT = 0x4B4D00
_HC_PRESENT = 0x4B4D01
_HC_GENERATION = 0x4B4D02
_HC_GENERATION_FD = 0x4B4D03
_GENERATION_SIZE = 16
_SNAPSHOT_CONTINUE = 1

# use_errno: the interpreter may itself make system calls between the call and the look at errno.
_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
_libc.syscall.argtypes = [
    ctypes.c_long,
    ctypes.c_void_p,
    ctypes.c_char_p,
    ctypes.c_ulong,
    ctypes.c_ulong,
    ctypes.c_ulong,
    ctypes.c_ulong,
]


def _hypercall(number, label=None, description=None, flags=0):
    result = _libc.syscall(number, label, description, flags, 0, 0, 0)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def present():
    """Returns whether this process runs under km."""
    try:
        return _hypercall(_HC_PRESENT) > 0
    except OSError as error:
        if error.errno == errno.ENOSYS:
            return False
        raise


def snapshot(label=None, description=None, go_on=False):
    """Writes a snapshot of this process, with all its threads.

    label (at most 255 bytes of UTF-8) and description (at most 4095) are stored in the file. Without
    go_on the program ends with the snapshot. Output that Python still holds back is flushed first:
    it would otherwise appear again in every resume.

    Returns 0 in the process that goes on, 1 in each process resumed from the file. Raises OSError
    when no snapshot was taken; ENOSYS when this is not km.
    """
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    return _hypercall(
        _HC_SNAPSHOT,
        _encode(label),
        _encode(description),
        _SNAPSHOT_CONTINUE if go_on else 0,
    )


def generation():
    """Returns 16 random bytes, others in each resumed process: what was drawn before is then not to be
    used again (random.seed(), keys). Raises OSError; ENOSYS when this is not km."""
    id_ = ctypes.create_string_buffer(_GENERATION_SIZE)
    _hypercall(_HC_GENERATION, ctypes.addressof(id_))
    return id_.raw


def generation_fd():
    """Returns a non-blocking descriptor that turns readable with a resume: 8 bytes, the number of resumes since
    the last read. Raises OSError; ENOSYS when this is not km."""
    return _hypercall(_HC_GENERATION_FD, os.EFD_CLOEXEC | os.EFD_NONBLOCK)


def _encode(text):
    if text is None:
        return None
    data = os.fsencode(text)
    if b"\0" in data:
        raise ValueError("a label or description must not contain a null character")
    return data
