#!/usr/bin/python3
"""table.py RESULTS - the compatibility table of README.md and the page tests/compat/RESULTS.md, from what run.sh noted.

A line of RESULTS is CASE|LEG|ok, FAIL or skip|TITLE, and a title is PROGRAM or PROGRAM: JOB. Reasons for what does not work are
in the file `known` beside this one: CASE/LEG REASON.
"""
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
LEGS = ("server", "client", "loopback")
BEGIN, END = "<!-- compat: made by `make compat` -->\n", "<!-- end of compat -->\n"
PAGE = """# Programs on libutcp

Made by `make compat`: each program does the job that is named, judged by content. *Server* and *client*: the program on that
side of a TAP is under libutcp, its peer on the kernel's TCP. *Loopback*: both sides are under libutcp, as separate
processes of one stack. In all of them `UTCP_REQUIRE=1` lets nothing fall to the kernel, and the kernel's own
counters prove that it opened nothing for the program.

| program and job | server | client | loopback |
|---|---|---|---|
"""


def read(path):
    cases = {}
    with open(path) as f:
        for line in f:
            name, leg, word, title = line.rstrip("\n").split("|", 3)
            cases.setdefault(name, {"title": title, "legs": {}})["legs"][leg] = word
    return cases


def reasons():
    known = {}
    with open(os.path.join(HERE, "known")) as f:
        for line in f:
            if line.strip() and not line.startswith("#"):
                where, why = line.rstrip("\n").split(None, 1)
                known[where] = why
    return known


def page(cases, known):
    marks = {"ok": "yes", "skip": "not installed", "FAIL": "**no**", None: ""}
    out, notes = PAGE, []
    for name, case in cases.items():
        row = []
        for leg in LEGS:
            word = case["legs"].get(leg)
            row.append(marks[word])
            if word == "FAIL":
                notes.append("- %s, %s: %s" % (case["title"].split(":")[0], leg, known.get(name + "/" + leg, "not yet found out")))
        out += "| %s | %s |\n" % (case["title"], " | ".join(row))
    return out + ("\n" + "\n".join(notes) + "\n" if notes else "")


def summary(cases, known):
    """By what works on every leg, then what does not."""
    good, bad = [], []
    for name, case in cases.items():
        program = case["title"].split(":")[0]
        failed = [leg for leg in LEGS if case["legs"].get(leg) == "FAIL"]
        if failed:
            why = known.get(name + "/" + failed[0], "not yet found out")
            bad.append("| %s | not as %s: %s |\n" % (program, ", ".join(failed), why))
        elif "ok" in case["legs"].values():
            good.append(program)
    sides = {}
    for name, case in cases.items():
        program = case["title"].split(":")[0]
        if program in good:
            over_tap = [leg for leg in LEGS[:2] if leg in case["legs"]]
            sides.setdefault(" and ".join(over_tap) + " over TAP, loopback", []).append(program)
    out = "| works as | |\n|---|---|\n"
    for where, programs in sides.items():
        out += "| %s | %s |\n" % (where, ", ".join(programs))
    return out + "".join(bad)


def main():
    cases, known = read(sys.argv[1]), reasons()
    with open(os.path.join(HERE, "RESULTS.md"), "w") as f:
        f.write(page(cases, known))
    path = os.path.join(ROOT, "README.md")
    with open(path) as f:
        text = f.read()
    begin, end = text.index(BEGIN) + len(BEGIN), text.index(END)
    with open(path, "w") as f:
        f.write(text[:begin] + summary(cases, known) + text[end:])


main()
