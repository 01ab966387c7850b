"""Programs at a pseudo-terminal: what tests of several suites share."""

import contextlib
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time


class PseudoTerminal:
    """`slave` is for whoever is to run there, and to be closed when that has it."""

    patience = 60  # seconds: what does not happen by then never does

    def __init__(self, rows, columns):
        self.master, self.slave = pty.openpty()
        self.resize(rows, columns)
        self.seen = b""

    def resize(self, rows, columns):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text):
        os.write(self.master, text.encode())

    def expect(self, pattern):
        """Waits for output that matches, and forgets it and what came before."""
        end = time.monotonic() + self.patience
        while (match := re.search(pattern.encode(), self.seen, re.S)) is None:
            piece = b""
            if select.select([self.master], [], [], max(0, end - time.monotonic()))[0]:
                with contextlib.suppress(OSError):  # nobody has the other end open any more
                    piece = os.read(self.master, 65536)
            if not piece:
                raise TimeoutError(f"waited for {pattern!r}; the terminal has {self.seen[-500:]!r}")
            self.seen += piece
        self.seen = self.seen[match.end() :]
        return match.group(0).decode(errors="replace")


class Terminal(PseudoTerminal):
    """With a session of its own and one program, whose controlling terminal it is."""

    def __init__(self, *command, rows=24, columns=80, **options):
        super().__init__(rows, columns)
        self.process = subprocess.Popen(
            [str(word) for word in command],
            stdin=self.slave,
            stdout=self.slave,
            stderr=self.slave,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
            **options,
        )
        os.close(self.slave)

    def end(self):
        """Its exit status."""
        status = self.process.wait(self.patience)
        os.close(self.master)
        return status
