"""bystander.py - what the preloaded library costs programs that never use it.

Whole runs of such a program differ by three to ten per cent from one another on a machine that does other things
too, and the goal is two. So each figure is measured where the noise cannot reach it:

 calls     bystander.c calls by the library's name and libc's own function in turn, within one process: the median
           of the ratios of a thousand fours of blocks of 40 us, and of that the median of seven processes, whose pages
           and addresses differ. The same without the library tells the measurement's error.
 counted   instructions in user space and system calls of a round, stepped through (count.c): exact.
 starts    /bin/true with and without in turn, each start's own CPU time (rusage): the median ratio of such fours.
 programs  dd and python: what a start costs more, and each system call as much as those that it makes most of (the
           dearest of the kinds named), over the CPU time of the program without the library. Whole runs stand beside it.

Called by pairs.py. The goals are judged by calls, starts and programs; a system call that the library adds to a
round misses the goal as well. Calls miss it when all seven processes are above it: where the median is just at the
goal, chance does that once in 128 times, and the printed median says how near it is.
"""
import json
import os
import statistics
import subprocess
import sys

GOAL_CALLS, GOAL_START = 1.02, 1.15
IMAGES = 7
# Kind, text, calls in a round, has a goal. Without one: calls that no program consists of, told for completeness.
KINDS = [("read", "read a byte of /dev/zero", 1, True), ("write", "write a byte to /dev/null", 1, True),
         ("file", "read 4 KB of a file", 1, True), ("pipe", "a byte through a pipe", 2, True),
         ("poll", "the same, with poll", 3, True), ("select", "the same, with select", 3, True),
         ("epoll", "the same, with epoll", 3, True), ("threads", "with epoll, beside a thread", 3, True),
         ("polls", "with poll, beside an epoll set", 3, True), ("udp", "datagrams", 2, True),
         ("local", "a byte through a local socket", 2, True), ("open", "open and close", 2, True),
         ("selects", "with select, beside a set", 3, False), ("dup", "dup and close", 2, False),
         ("fcntl", "fcntl", 1, False), ("option", "getsockopt", 1, False), ("action", "sigaction", 1, False)]

SCRIPT = """
import collections, sys
words = collections.Counter()
for _ in range(4):
    with open("/etc/services") as f:
        for line in f:
            words.update(line.split())
for i in range(3000):
    with open("/dev/null", "w") as f:
        print(i, file=f)
"""
PROGRAMS = [("dd, a byte at a time", ["dd", "if=/dev/zero", "of=/dev/null", "bs=1", "count=300000", "status=none"],
             ("read", "write")),
            ("python3, a script with files", [sys.executable, "-c", SCRIPT], ("read", "write", "file", "open"))]


def environment(library):
    env = {k: v for k, v in os.environ.items() if k != "LD_PRELOAD"}
    if library:
        env["LD_PRELOAD"] = library
    return env


def output(command, library=None):
    return subprocess.run(command, env=environment(library), check=True, capture_output=True, text=True).stdout


def one_call(tools, library, kind, seconds):
    """The ratio of a round, how far the measurement itself is off, instructions and system calls added to a round."""
    run = [os.path.join(tools, "bystander"), kind]
    images = [json.loads(output(run + ["pairs", str(seconds)], library)) for _ in range(IMAGES)]
    got = {k: statistics.median(i[k] for i in images) for k in ("ratio", "ns_with", "ns_without")}
    got["images"] = sorted(i["ratio"] for i in images)
    got["error"] = abs(json.loads(output(run + ["pairs", str(seconds)]))["ratio"] - 1)
    counts = {}
    for lib in (library, None):
        for n in (20, 60):
            step = [os.path.join(tools, "count"), "-m"] + (["-p", lib] if lib else [])
            counts[lib, n] = [int(x) for x in output(step + run + [str(n), "marked"]).split()]
    per = [[(counts[lib, 60][i] - counts[lib, 20][i]) / 40 for lib in (library, None)] for i in (0, 1)]
    got.update(instructions=per[0], system_calls=per[1])
    return got


def calls(tools, library, seconds, results):
    print("\ncalls on kernel descriptors, one process: by the library's names against libc's own")
    for kind, text, each, has_goal in KINDS:
        r = one_call(tools, library, kind, seconds)
        r.update(bystander=text, kind=kind, each=each, goal=GOAL_CALLS if has_goal else None)
        results.append(r)
        print("  %-31s %.3fx %s  ns %.0f against %.0f; processes %.3f to %.3f; instructions %+.0f to %.0f, "
              "system calls %+.0f to %.0f; error %.3f" % (
            text, r["ratio"], "(goal %.2fx)" % GOAL_CALLS if has_goal else " (no goal) ", r["ns_with"], r["ns_without"], r["images"][0], r["images"][-1],
            r["instructions"][0] - r["instructions"][1], r["instructions"][1],
            r["system_calls"][0] - r["system_calls"][1], r["system_calls"][1], r["error"]))
        sys.stdout.flush()


def start(env, command):
    """CPU microseconds and page faults of one run."""
    out = [(os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0)]
    pid = os.posix_spawnp(command[0], command, env, file_actions=out)
    _, status, usage = os.wait4(pid, 0)
    if status:
        sys.exit("bench: %s ended with status %d" % (command[0], status))
    return (usage.ru_utime + usage.ru_stime) * 1e6, usage.ru_minflt


def in_turn(library, command, fours):
    """Pairs (with, without) of CPU us, each the mean of two of W P P W, P W W P, ...; and the last page faults."""
    envs, pairs, faults = (environment(library), environment(None)), [], [0, 0]
    for i in range(fours):
        cpu = [0.0, 0.0]
        for k in (0, 1, 1, 0) if i % 2 == 0 else (1, 0, 0, 1):
            us, faults[k] = start(envs[k], command)
            cpu[k] += us / 2
        pairs.append(tuple(cpu))
    return pairs, faults


def middle(pairs):
    return statistics.median(a / b for a, b in pairs), [statistics.median(p[k] for p in pairs) for k in (0, 1)]


def starts(tools, library, fours, results):
    pairs, faults = in_turn(library, ["/bin/true"], fours)
    ratio, us = middle(pairs)
    count = os.path.join(tools, "count")
    exact = [[int(x) for x in output(c + ["/bin/true"]).split()] for c in ([count, "-p", library], [count])]
    results.append({"bystander": "start of /bin/true", "kind": "start", "ratio": ratio, "goal": GOAL_START, "us": us,
                    "faults": faults, "instructions": [e[0] for e in exact], "system_calls": [e[1] for e in exact]})
    print("\nstart of /bin/true with the library preloaded, CPU")
    print("  %-31s %.3fx (goal %.2fx)  us %.0f against %.0f; instructions %d against %d, system calls %d against %d, "
          "page faults %d against %d" % ("/bin/true", ratio, GOAL_START, us[0], us[1], exact[0][0], exact[1][0],
                                         exact[0][1], exact[1][1], faults[0], faults[1]))
    sys.stdout.flush()
    return max(us[1] * (ratio - 1), 0)


def system_calls(command, library):
    """How many, of all kinds; by the kernel's own counter."""
    count = os.path.join(os.path.dirname(library), "tests", "count")
    return int(output([count, "-c", "-p", library] + command).split()[0])


def programs(library, start_us, fours, results):
    print("\nwhole programs: by what a start and each call costs more; beside it whole runs, which are noisy")
    for text, command, kinds in PROGRAMS:
        n = system_calls(command, library)
        call_ns = max(max((r["ratio"] - 1) * r["ns_without"] / r["each"] for r in results if r["kind"] in kinds), 0)
        pairs, _ = in_turn(library, command, fours)
        whole, us = middle(pairs)
        ratio = 1 + (start_us + n * call_ns / 1000) / us[1]
        results.append({"bystander": text, "kind": "program", "ratio": ratio, "goal": GOAL_CALLS, "whole": whole,
                        "system_calls": n, "call_ns": call_ns, "us": us})
        print("  %-31s %.3fx (goal %.2fx)  %d system calls, %.1f ns more each, in %.0f us; whole runs %.3fx" % (
            text, ratio, GOAL_CALLS, n, call_ns, us[1], whole))
        sys.stdout.flush()


def judged(r):
    return r["images"][0] if "images" in r else r["ratio"]


def measure(library, pairs):
    """All of it; what missed its goal as lines."""
    tools, results = os.path.join(os.path.dirname(library), "tests"), []
    calls(tools, library, max(pairs, 3), results)
    programs(library, starts(tools, library, 80 * pairs, results), 3 * pairs, results)
    missed = ["%s: %.3fx, goal %.2fx" % (r["bystander"], r["ratio"], r["goal"])
              for r in results if r["goal"] and judged(r) > r["goal"]]
    missed += ["%s: the library adds a system call" % r["bystander"]
               for r in results if "each" in r and r["system_calls"][0] > r["system_calls"][1]]
    return results, missed
