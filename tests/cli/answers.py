#!/usr/bin/env python3
"""What monitors and kmctl --json answer is what docs/control-protocol.schema.json says. Prints lines like control.py."""

import json
import os
import re
import signal
import subprocess

import jsonschema

from controlled import (
    KM, KMCTL, PATIENCE, Held, Program, Raw, case, counter, expect, invariant, kmctl, run_cases,
)

SCHEMA = json.load(open("docs/control-protocol.schema.json"))
VERBS = re.findall(r'\{"(\w+)", &ControlDesk::', open("km/monitor/control_desk.cc").read())
PAGE = open("docs/control-protocol.md").read()


def conforms(value, place=""):
    """Whether it is what the schema has there; members that it does not have are none that we send."""
    schema = {**SCHEMA, "$ref": f"#/$defs/{place}", "anyOf": [{}]} if place else SCHEMA
    errors = [error.message for error in jsonschema.Draft202012Validator(schema).iter_errors(value)]
    expect(not errors, f"{place}: {'; '.join(errors)}")


def is_result(verb, result):
    conforms(result, f"results/{verb}")
    schema = SCHEMA["$defs"]["results"][verb]
    known = {name for one in schema.get("oneOf", [schema]) for name in one["properties"]}
    expect(set(result) <= known, f"{verb} answers {set(result) - known}, which the schema does not have")


def shown(verb, *arguments, status=0):
    """What kmctl VERB --json prints."""
    done = subprocess.run([KMCTL, verb, "--json", *map(str, arguments)], capture_output=True, text=True, timeout=PATIENCE)
    expect(done.returncode == status, f"kmctl {verb} ended with {done.returncode}: {done.stderr}")
    return json.loads(done.stdout)


def ask(client, verb, **members):
    """Its result, or its error's code."""
    request = {"version": 1, "id": [verb], "verb": verb, **members}
    conforms(request, "request")
    client.send(json.dumps(request).encode())
    while "event" in (answer := client.answer()):
        conforms(answer, "event")
    expect(answer["id"] == [verb], f"the answer is to another request: {answer}")
    conforms(answer)
    conforms(answer, "answer" if answer["ok"] else "error")
    if answer["ok"]:
        is_result(verb, answer["result"])
    return answer["result"] if answer["ok"] else answer["error"]["code"]


@case
def verbs_agree():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    verbs, parts = set(VERBS), SCHEMA["$defs"]
    expect(len(verbs) > 10, f"the verbs are {verbs}")
    expect(verbs == set(parts["requests"]) == set(parts["results"]), "those of the schema are others")
    expect(verbs == set(parts["request"]["properties"]["verb"]["enum"]), "those of its requests are others")
    told = set(re.findall(r"\*\*(\w+)\*\*", PAGE.partition("## Verbs")[2]))
    expect(verbs == told, f"the page tells of {told ^ verbs} alone")
    codes = set(parts["error"]["properties"]["error"]["properties"]["code"]["enum"])
    rows = PAGE.partition("| `code` | |\n")[2].partition("\n\n")[0]
    expect(codes == set(re.findall(r"^\| `([a-z-]+)` \|", rows, re.M)), f"the codes of the page are others: {codes}")


@case
def frames():
    with invariant(8) as program:
        client = Raw(program)
        for verb in ("info", "pause", "resume", "check"):
            ask(client, verb)
        ask(client, "stats", count=True)
        ask(client, "signal", signal=signal.SIGWINCH)
        ask(client, "trace", on=True, filter="read")
        ask(client, "trace", on=False)
        ask(client, "stats", count=False)
        ask(client, "snapshot", path=os.path.abspath("file"), label="one")
        expect("last_snapshot" in ask(client, "info"), "there is no last snapshot")
        expect(ask(client, "end") == "failed", "it ends")
        expect(ask(client, "supply", fd=3, path="/dev/null") == "failed", "it is supplied")
        expect(ask(client, "snapshot", path="/proc/nowhere") == "no-snapshot", "there is a snapshot")
        for body, code in ((b"[]", "bad-request"), (b'{"version": 2}', "unsupported-version"),
                           (b'{"version": 1, "verb": "dance"}', "unknown-verb")):
            client.send(body)
            conforms(answer := client.answer(), "error")
            expect(answer["error"]["code"] == code, str(answer))
        client.send(json.dumps({"version": 1, "id": ["wait"], "verb": "wait"}).encode())
        program.end(signal.SIGTERM)
        is_result("wait", client.answer()["result"])


@case
def of_kmctl():
    with counter() as program:
        pid = program.pid
        for verb, arguments in (("info", ()), ("pause", ()), ("resume", ()), ("signal", ("WINCH",)),
                                ("trace", ("on", "read")), ("trace", ("off",)), ("snapshot", ("-o", "file"))):
            is_result(verb, shown(verb, pid, *arguments))
        is_result("check", answer := shown("check", pid))
        expect(answer["possible"], str(answer))
        is_result("stats", answer := shown("stats", pid, "--interval=0.3"))
        calls = {row["name"]: row for row in answer["calls"]}
        expect(calls["write"]["calls"] > 0 and calls["write"]["errors"] == 0, f"it counts {calls}")
        expect({"reason": "system call"}.items() <= answer["exits"][0].items(), f"it counts {answer['exits']}")
        expect("usecs/call" in answer["table"], "there is no table for people")
    with Program("/usr/bin/python3", "-c", "import sys, time; print('ready', flush=True); time.sleep(5); sys.exit(3)") as ends:
        is_result("wait", answer := shown("wait", ends.pid, status=3))
        expect(answer == {"exit_status": 3}, str(answer))


@case
def supplied():
    open("one", "w").write("one")
    open("other", "w").write("other")
    code = ("import ctypes, os, sys; fd = os.open('one', os.O_RDONLY)\n"
            "ctypes.CDLL(None).syscall(0x4b4d00, b'', b'', 0) >= 0 or sys.exit(3)\n"
            "print(os.read(fd, 9).decode(), fd)\n")
    expect(subprocess.run([KM, "--no-sync", "--snapshot=file", "/usr/bin/python3", "-c", code]).returncode == 0,
           "no snapshot")
    fd = next(one["number"] for one in shown("inspect", "file")["descriptors"] if one["path"].endswith("/one"))
    with Held("./file") as program:
        results = shown("supply", program.pid, f"{fd}={os.path.abspath('other')}")
        for result in results:
            is_result("supply", result)
        expect(results == [{"fd": fd}], str(results))
        kmctl("resume", program.pid)
        expect(program.process.communicate(timeout=PATIENCE)[0] == f"other {fd}\n".encode(), "it was not supplied")


@case
def what_fails():
    """Is an object too, and is told to people all the same."""
    for verb, arguments, status in (("info", ("no-such-program",), 1), ("inspect", ("/dev/null",), 1),
                                    ("inspect", ("/nowhere",), 2)):
        error = shown(verb, *arguments, status=status)["error"]
        expect(error["message"] and kmctl(verb, *arguments, status=status) == f"kmctl: {error['message']}\n", str(error))
    with Program("/usr/bin/python3", "-c", "import os, time\nos.mkdir('gone'); fd = os.open('gone', 0); os.rmdir('gone')\n"
                 "print('ready', flush=True); time.sleep(60)\n") as program:
        is_result("check", answer := shown("check", program.pid, status=1))
        expect(not answer["possible"] and "a directory" in answer["obstacles"], str(answer))
        expect("a directory" in shown("snapshot", program.pid, "-o", "file", status=1)["error"]["message"], "why")


run_cases("answers")
