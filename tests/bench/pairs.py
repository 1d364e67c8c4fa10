#!/usr/bin/python3
"""pairs.py - run flow.c in turn on our stack and on the kernel's, and compare pair by pair.

Called by scripts/bench inside its namespaces. For each placement (unpinned; both ends on CPU 0; client on CPU 0 and
server on CPU 1) and each kind of flow: PAIRS pairs, ours and the kernel's in alternating order. Prints medians, the
spread (least and greatest) and the ratio of each pair; writes everything to JSON. Exit status 1 when a goal is missed:
over TAP, round trips p50 <= 1.0x the kernel's, bulk throughput per CPU of both ends >= 0.8x; for programs that use
only kernel descriptors <= 1.02x with the library preloaded, and 1.15x for the start of /bin/true (bystander.py). KINDS=
measures these alone.

Per CPU: bytes divided by user and system time of both ends (getrusage), so a helper thread counts, too.
"""
import json
import os
import platform
import statistics
import subprocess
import sys
import time

import bystander

PAIRS = int(os.environ.get("PAIRS", "5"))
SECONDS = float(os.environ.get("SECONDS_EACH", "1"))
DEVICES = os.environ.get("DEVICES", "tap").split()
PLACES = os.environ.get("PLACES", "unpinned one-cpu two-cpus").split()
KINDS = os.environ.get("KINDS", "rr send recv").split()
FLOW, UTCP, SECOND = os.environ["FLOW"], os.environ["UTCP"], os.environ["SECOND"]
SIZE = {"rr": 64, "send": 131072, "recv": 131072}
PORT = 7000
NET = {"tap": ("10.77.0.1", os.environ["TAP_DEV"], "10.77.0.2/24"),
       "packet": ("10.79.0.1", "packet:wire0", "10.79.0.2/24")}


def pin(place, end):
    if place == "one-cpu":
        return ["taskset", "-c", "0"]
    if place == "two-cpus":
        return ["taskset", "-c", "0" if end == "client" else "1"]
    return []


def start_server(addr, place):
    global PORT
    PORT += 1
    p = subprocess.Popen(pin(place, "server") + [FLOW, "server", addr, str(PORT)], stdout=subprocess.PIPE, text=True)
    for _ in range(200):
        if subprocess.run(["ss", "-Hltn", "sport = :%d" % PORT], capture_output=True).stdout:
            return p
        time.sleep(0.01)
    sys.exit("bench: the server does not listen")


def run(stack, kind, place):
    """One flow; the client's figures with the CPU of both ends."""
    env = dict(os.environ)
    if stack == "kernel":
        addr, prefix = "10.88.0.1", ["nsenter", "--net=" + SECOND]
    else:
        addr, env["UTCP_DEV"], env["UTCP_ADDR"] = NET[stack]
        prefix = [UTCP, "-q"]
    server = start_server(addr, place)
    try:
        client = subprocess.run(pin(place, "client") + prefix + [FLOW, kind, addr, str(PORT), str(SECONDS), str(SIZE[kind])],
                                env=env, stdout=subprocess.PIPE, text=True, timeout=SECONDS * 10 + 30)
        if client.returncode:
            sys.exit("bench: the client on %s ended with status %d" % (stack, client.returncode))
        c = json.loads(client.stdout)
        s = json.loads(server.stdout.readline())
    finally:
        server.kill()
        server.wait()
    r = {"cpu_client": c["cpu"], "cpu_server": s["cpu"], "seconds": c["seconds"], "count": c["count"],
         "switches": c["switches"]}
    cpu = c["cpu"] + s["cpu"]
    if kind == "rr":
        r.update(p50_us=c["p50_us"], p99_us=c["p99_us"], rate=c["count"] / c["seconds"],
                 cpu_us=cpu / c["count"] * 1e6, switches_each=c["switches"] / c["count"])
    else:
        r.update(gbit=c["count"] * 8e-9 / c["seconds"], gbit_per_cpu=c["count"] * 8e-9 / cpu)
    return r


def spread(values):
    return "%8.2f (%.2f to %.2f)" % (statistics.median(values), min(values), max(values))


def compare(device, kind, place, results):
    pairs = []
    for i in range(PAIRS):
        order = (device, "kernel") if i % 2 == 0 else ("kernel", device)
        got = {s: run(s, kind, place) for s in order}
        pairs.append((got[device], got["kernel"]))
    name = {"rr": "round trips of 64 bytes", "send": "bulk, we send", "recv": "bulk, we receive"}[kind]
    print("\n%s, %s, %s" % (device, name, place))
    columns = ([("p50_us", "p50, us", True), ("p99_us", "p99, us", True), ("cpu_us", "CPU of both ends, us each", True)]
               if kind == "rr" else [("gbit", "Gbit/s", False), ("gbit_per_cpu", "Gbit per CPU second, both ends", False)])
    entry = {"device": device, "kind": kind, "place": place, "pairs": pairs, "ratio": {}}
    for key, text, _ in columns:
        ratios = [a[key] / b[key] for a, b in pairs]
        entry["ratio"][key] = statistics.median(ratios)
        print("  %-31s ours %s  kernel %s" % (text, spread([a[key] for a, _ in pairs]), spread([b[key] for _, b in pairs])))
        print("  %-31s %.2fx   pair by pair: %s" % ("", entry["ratio"][key], " ".join("%.2f" % r for r in ratios)))
    if kind == "rr":
        print("  %-31s ours %.2f  kernel %.2f" % ("context switches each, client",
              statistics.median(a["switches_each"] for a, _ in pairs), statistics.median(b["switches_each"] for _, b in pairs)))
    sys.stdout.flush()
    results.append(entry)


def main():
    about = {"kernel": platform.release(), "cpus": os.cpu_count(), "congestion_control": "cubic at all ends", "mtu": 1500,
             "offloads": "vnet_hdr with checksum and TSO on TAP and AF_PACKET; veth defaults", "pairs": PAIRS,
             "seconds_each": SECONDS}
    print("%s" % ", ".join("%s: %s" % (k.replace("_", " "), v) for k, v in about.items()))
    results = []
    for device in DEVICES:
        for place in PLACES:
            if place == "two-cpus" and os.cpu_count() < 2:
                continue
            for kind in KINDS:
                compare(device, kind, place, results)
    bystanders, missed = bystander.measure(os.path.join(os.path.dirname(UTCP), "libutcp.so"), PAIRS)
    with open(os.environ["JSON"], "w") as f:
        json.dump({"about": about, "results": results, "bystanders": bystanders}, f, indent=1)
    for r in results:
        if r["device"] != "tap":
            continue
        if r["kind"] == "rr" and r["ratio"]["p50_us"] > 1.0:
            missed.append("round trips, %s: p50 %.2fx, goal 1.0x" % (r["place"], r["ratio"]["p50_us"]))
        if r["kind"] != "rr" and r["ratio"]["gbit_per_cpu"] < 0.8:
            missed.append("%s, %s: %.2fx per CPU, goal 0.8x" % (r["kind"], r["place"], r["ratio"]["gbit_per_cpu"]))
    print()
    for m in missed:
        print("goal missed: " + m)
    print("%s; all figures are in %s" % ("goals missed: %d" % len(missed) if missed else "all goals met", os.environ["JSON"]))
    sys.exit(1 if missed else 0)


main()
