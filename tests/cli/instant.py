#!/usr/bin/env python3
"""Live snapshots of a program that keeps its memory in step with what the kernel holds for it. Prints lines like
control.py."""

import os

from controlled import OUT, Program, case, ends_right, kmctl, resumes_right, run_cases

TRIES = int(os.environ.get("ONE_INSTANT", "8").split()[0])


@case
def memory_and_kernel():
    """memfds, eventfds, pipes, sockets, message queues and timers."""
    with Program(f"{OUT}/instant") as program:
        for _ in range(TRIES):
            kmctl("snapshot", program.pid, "-o", "file")
            resumes_right("./file")
        ends_right(program)


@case
def of_a_resumed_one():
    with Program(f"{OUT}/instant") as program:
        kmctl("snapshot", program.pid, "-o", "file", "--stop")
    with Program("./file", ready=False) as program:
        for name in ("on-base", "again"):
            kmctl("snapshot", program.pid, "-o", name)
            resumes_right(f"./{name}")
        ends_right(program)


run_cases("instant")
