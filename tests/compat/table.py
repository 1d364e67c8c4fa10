#!/usr/bin/python3
"""table.py RESULTS - the compatibility table of README.md and the page tests/compat/RESULTS.md, from what run.sh noted.

A line of RESULTS is CASE|LEG|ok, FAIL, no or skip|TITLE|LAST WORDS; a title is PROGRAM or PROGRAM: JOB; the last words of a "no"
are its reason. Reasons for what does not work are
in the file `known` beside this one: CASE/LEG REASON. What is listed there does not count as working, though it passed this time.
"""
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
LEGS = ("server", "client", "loopback")
BAD = ("FAIL", "no")
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
            name, leg, word, title, last = line.rstrip("\n").split("|", 4)
            case = cases.setdefault(name, {"title": title, "legs": {}, "why": {}})
            case["legs"][leg] = word
            if word == "no":
                case["why"][leg] = last
    return cases


def reasons():
    known = {}
    with open(os.path.join(HERE, "known")) as f:
        for line in f:
            if line.strip() and not line.startswith("#"):
                where, why = line.rstrip("\n").split(None, 1)
                known[where] = why
    return known


def distrust(cases, known):
    for where in known:
        name, leg = where.split("/")
        if cases.get(name, {"legs": {}})["legs"].get(leg) == "ok":
            cases[name]["legs"][leg] = "FAIL"


def reason(known, name, case, leg):
    return case["why"].get(leg) or known.get(name + "/" + leg, "not yet found out")


def page(cases, known):
    marks = {"ok": "yes", "skip": "not installed", "FAIL": "**no**", "no": "**no**", None: ""}
    out, notes = PAGE, []
    for name, case in cases.items():
        row = []
        for leg in LEGS:
            word = case["legs"].get(leg)
            row.append(marks[word])
            if word in BAD:
                notes.append("- %s, %s: %s" % (case["title"].split(":")[0], leg, reason(known, name, case, leg)))
        out += "| %s | %s |\n" % (case["title"], " | ".join(row))
    return out + ("\n" + "\n".join(notes) + "\n" if notes else "")


def summary(cases, known):
    """A line for those that work on every leg, by the sides that they have, then a line for each that does not."""
    sides = {"clients and servers": [], "servers": [], "clients": []}
    bad = ""
    for name, case in cases.items():
        program, legs = case["title"].split(":")[0], case["legs"]
        failed = [leg for leg in LEGS if legs.get(leg) in BAD]
        if failed:
            title = program if any(legs[leg] == "FAIL" for leg in failed) else case["title"]
            bad += "| not %s | as %s: %s |\n" % (title, ", ".join(failed), reason(known, name, case, failed[0]))
        elif "ok" in legs.values():
            side = "clients and servers" if len(legs) == 3 else "servers" if "server" in legs else "clients"
            sides[side].append(program)
    for programs in sides.values():  # several jobs of one program
        programs[:] = dict.fromkeys(programs)
    sides["servers"] = [p for p in sides["servers"] if p not in sides["clients and servers"]]
    return "| | |\n|---|---|\n" + "".join("| %s | %s |\n" % (s, ", ".join(p)) for s, p in sides.items() if p) + bad


def main():
    cases, known = read(sys.argv[1]), reasons()
    distrust(cases, known)
    with open(os.path.join(HERE, "RESULTS.md"), "w") as f:
        f.write(page(cases, known))
    path = os.path.join(ROOT, "README.md")
    with open(path) as f:
        text = f.read()
    begin, end = text.index(BEGIN) + len(BEGIN), text.index(END)
    with open(path, "w") as f:
        f.write(text[:begin] + summary(cases, known) + text[end:])


main()
