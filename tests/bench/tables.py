#!/usr/bin/python3
"""tables.py - write the tables of `make bench` into README.md.

    tables.py BENCH.JSON README.md

Between the marks `<!-- speed: ... -->` and `<!-- end of speed -->`. All figures come from the one file, which must
have every placement and kind of flow of each device in it, TAP first.
"""
import json
import re
import statistics
import sys

DEVICES = [("tap", "over TAP"), ("packet", "over AF_PACKET on a veth")]
PLACES = [("unpinned", "not pinned"), ("one-cpu", "both ends on one CPU"), ("two-cpus", "one CPU each")]
ROWS = [("rr", "p50_us", "round trip of 64 bytes, p50, µs"), ("rr", "cpu_us", "its CPU, both ends, µs"),
        ("send", "gbit_per_cpu", "we send, Gbit per CPU second of both ends"), ("recv", "gbit_per_cpu", "we receive, the same")]
NUMBERS = ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]


def cell(found, device, kind, place, key):
    entry = found.get((device, kind, place))
    if not entry:
        sys.exit("tables: no %s, %s, %s in the file; run make bench with all of them" % (device, kind, place))
    ours, kernel = (statistics.median(pair[i][key] for pair in entry["pairs"]) for i in (0, 1))
    return "%.1f to %.1f: **%.2fx**" % (ours, kernel, entry["ratio"][key])


def flows(bench):
    found = {(r["device"], r["kind"], r["place"]): r for r in bench["results"]}
    about = bench["about"]
    yield ("Medians of %s pairs, ours to the kernel's; in bold the median of the ratios pair by pair (below 1 is better for times,"
           % (NUMBERS[about["pairs"]] if about["pairs"] < len(NUMBERS) else about["pairs"]))
    yield ("above 1 for throughput). Linux %s, %d virtual CPUs, MTU %d, checksum and segmentation offload on both sides:"
           % (".".join(about["kernel"].split(".")[:2]), about["cpus"], about["mtu"]))
    yield ""
    devices = [d for d in DEVICES if any(r["device"] == d[0] for r in bench["results"])]
    if not devices:
        sys.exit("tables: no device in the file; run make bench with all kinds of flow")
    for i, (device, title) in enumerate(devices):
        if i == 0:
            yield "| %s | %s |" % (title, " | ".join(text for _, text in PLACES))
            yield "|---|---|---|---|"
        else:
            yield "| **%s** | | | |" % title
        for kind, key, text in ROWS:
            yield "| %s | %s |" % (text, " | ".join(cell(found, device, kind, place, key) for place, _ in PLACES))


def bystanders(bench):
    yield "| a program that uses only kernel descriptors | with the library | instructions more |"
    yield "|---|---|---|"
    for r in bench["bystanders"]:
        if not r["goal"]:
            continue
        more = "" if "instructions" not in r else "%d%s" % (r["instructions"][0] - r["instructions"][1],
                                                            " a round" if "each" in r else "")
        yield "| %s | **%.3fx** | %s |" % (r["bystander"], r["ratio"], more)
    yield ""
    yield "Calls that no program consists of, so without a goal: %s." % ", ".join(
        "%s %.2fx" % (r["bystander"], r["ratio"]) for r in bench["bystanders"] if not r["goal"])


def main():
    with open(sys.argv[1]) as f:
        bench = json.load(f)
    with open(sys.argv[2]) as f:
        readme = f.read()
    table = "\n".join(list(flows(bench)) + [""] + list(bystanders(bench)))
    new, n = re.subn(r"(<!-- speed: [^\n]*-->\n).*?(<!-- end of speed -->)", lambda m: m[1] + table + "\n" + m[2], readme,
                     flags=re.DOTALL)
    if n != 1:
        sys.exit("tables: %s has no marks for the tables" % sys.argv[2])
    with open(sys.argv[2], "w") as f:
        f.write(new)


main()
