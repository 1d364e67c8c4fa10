#!/usr/bin/env python3
"""kills.py - processes that share one stack are killed at random, under load (kills.sh runs it).

Servers and clients (killwork.c) move known bytes over the TAP and inside the stack. Every few
milliseconds one of those on the stack gets SIGKILL, and another is started in its place. Afterwards:

  - no transfer had a wrong byte;
  - whatever broke off had a killed process at one of its ends, but for the connections that a process
    killed inside the stack was changing: the stack counts these;
  - everybody who lives ends by himself when asked to, with the descriptors that he had;
  - of the stack nothing is left but its keeper, and of that nothing when it is asked to make room.

usage: kills.py WORK BUILD KILLS SEED [keeper]
"""
import errno
import os
import random
import selectors
import signal
import subprocess
import sys
import time

work, build, kills, seed = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
kill_keeper = "keeper" in sys.argv[5:]
KERNEL, STACK = "10.77.0.1", "10.77.0.2"
PARALLEL, CLIENTS, WORKERS = 4, 3, 3
END_SECONDS = 60  # a hang; not a measure of speed
FDS_MORE = 16  # placeholders that are kept for the next connection
TARGET_STACK = {"kernel": 0, "stack": 1}  # which of a client's targets is the server on the stack
dice = random.Random(seed)
log = open(os.path.join(work, "kills.log"), "w")
failures = []


def fail(text):
    failures.append(text)
    print("FAIL", text, file=sys.stderr, flush=True)


class Program:
    """One killwork process, and what it says."""

    def __init__(self, name, on_stack, *args, **more):
        self.name, self.on_stack, self.args = name, on_stack, args
        env = dict(os.environ)
        if on_stack:
            env.update(LD_PRELOAD=os.path.join(build, "libutcp.so"), UTCP_REQUIRE="1", **more)
        self.p = subprocess.Popen([os.path.join(build, "tests/killwork"), *args], env=env, stdout=subprocess.PIPE,
                                  stdin=subprocess.DEVNULL, stderr=log)
        self.pid, self.rest, self.eof, self.finished = self.p.pid, b"", False, False
        os.set_blocking(self.p.stdout.fileno(), False)
        selector.register(self.p.stdout, selectors.EVENT_READ, self)

    def read(self):
        try:
            data = os.read(self.p.stdout.fileno(), 1 << 16)
        except BlockingIOError:
            return
        if not data:
            selector.unregister(self.p.stdout)
            self.p.stdout.close()
            self.eof = True
            return
        lines = (self.rest + data).split(b"\n")
        self.rest = lines.pop()
        for line in lines:
            heard(self, line.decode().split())


selector = selectors.DefaultSelector()
programs = []
children = {}  # of servers: child -> parent
killed = set()
served, whole, broken = {}, 0, {}  # id -> server's pid; count; id -> [(pid, errno)]
kinds = {}  # pid -> "kernel" or "stack"
counts = {"client": 0, "parent": 0, "worker": 0, "keeper": 0}


def heard(program, words):
    global whole
    what = words[0]
    if what == "P":
        children[int(words[2])] = int(words[1])
        kinds[int(words[2])] = "stack" if program.on_stack else "kernel"
    elif what == "S":
        served[int(words[1], 16)] = int(words[2])
    elif what == "O":
        whole += 1
    elif what == "B":
        broken.setdefault(int(words[1], 16), []).append((int(words[2]), int(words[3])))
    elif what == "X":
        fail("a wrong byte: " + " ".join(words))
    elif what == "F":
        if int(words[1]) == program.pid:
            program.finished = True
        if int(words[3]) > int(words[2]) + FDS_MORE:
            fail("descriptors of %s %s: %s at first, %s at the end" % (program.name, *words[1:]))


def start(name, on_stack, *args, **more):
    p = Program(name, on_stack, *args, **more)
    kinds[p.pid] = "stack" if on_stack else "kernel"
    programs.append(p)
    return p


def start_client():
    start("client", True, "call", str(PARALLEL), KERNEL, "9000", STACK, "8000")


def start_server():
    start("server", True, "serve", STACK, "8000", str(WORKERS))


def look(seconds):
    """Hear what is said, and start anew who is gone."""
    until = time.monotonic() + seconds
    while True:
        for key, _ in selector.select(max(0, min(0.05, until - time.monotonic()))):
            key.data.read()
        for p in list(programs):
            if p.p.poll() is not None and p.eof:  # all that it has made are gone, too
                programs.remove(p)
                ended(p)
        if time.monotonic() >= until:
            return


def ended(p):
    status = p.p.returncode
    if p.name == "server" and not ending:
        if status not in (6, -signal.SIGKILL):  # 6: a child that was just born still has the port
            fail("the server ended with status %d" % status)
        time.sleep(0.02)
        start_server()
    elif p.pid not in killed:
        if status != 0:
            fail("%s %d ended with status %d" % (p.name, p.pid, status))
    elif p.name == "client" and not ending:
        start_client()


def alive(pid):
    try:
        with open("/proc/%d/stat" % pid, encoding="ascii") as f:
            return f.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def keepers():
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open("/proc/%s/comm" % name, encoding="ascii") as f:
                    if f.read().strip() == "utcp-keeper":
                        found.append(int(name))
            except OSError:
                pass
    return found


def kill_one():
    victims = [("client", p.pid) for p in programs if p.name == "client" and p.p.poll() is None]
    victims += [("parent", p.pid) for p in programs if p.name == "server" and p.p.poll() is None and dice.random() < 0.3]
    victims += [("worker", c) for c in children
                if kinds[c] == "stack" and c not in killed and alive(c)]
    if kill_keeper and dice.random() < 0.3:  # one that dies young again and again is replaced slowly (respawn.c)
        victims += [("keeper", k) for k in keepers()]
    kind, pid = dice.choice(sorted(victims))
    counts[kind] += 1
    if kind != "keeper":
        killed.add(pid)
    os.kill(pid, signal.SIGKILL)


def judge():
    """Transfers that broke off although nobody at their ends was killed."""
    innocent = []
    for ident, ends in sorted(broken.items()):
        client, server = ident >> 32, served.get(ident)
        if client in killed or server in killed:
            continue
        unserved = server is None and ident & 3 == TARGET_STACK[kinds.get(client, "stack")]
        if unserved and all(e in (0, errno.ECONNREFUSED, errno.ECONNRESET, errno.EPIPE, errno.ETIMEDOUT) for _, e in ends):
            continue  # it waited for a server that was killed
        innocent.append("%x: %s, server %s" % (ident, ends, server))
    return innocent


def end_programs(names):
    for p in programs:
        if p.name in names and p.p.poll() is None:
            p.p.send_signal(signal.SIGTERM)
    for child, parent in children.items():  # those without a parent
        if parent in killed and "server" in names and alive(child):
            os.kill(child, signal.SIGTERM)
    until = time.monotonic() + END_SECONDS
    while any(p.name in names for p in programs) and time.monotonic() < until:
        look(0.1)
    for p in list(programs):
        if p.name in names:
            fail("%s %d hangs (%s)" % (p.name, p.pid, " ".join(p.args)))
            os.system("ps -eo pid,ppid,stat,wchan:20,args >&2; ls -l /proc/%d/fd | tail -n +2 >&2" % p.pid)
            p.p.kill()


def statistics(path):
    with open(path, encoding="ascii") as f:
        return {k: int(v) for k, v in (line.split() for line in f)}


ending = False
start("kernel-server", False, "serve", KERNEL, "9000", "2")
listening = time.monotonic() + END_SECONDS
while not children and time.monotonic() < listening:  # it listens when it has children
    look(0.1)
stats_path = os.path.join(work, "stats")
start("anchor", True, "call", "1", KERNEL, "9000", UTCP_STATS=stats_path)
start_server()
look(0.5)
for _ in range(CLIENTS):
    start_client()
start("kernel-client", False, "call", str(PARALLEL), STACK, "8000")
look(1)
for _ in range(kills):
    look(dice.uniform(0.005, 0.12))
    kill_one()
look(1)
before = whole
look(1)
if whole == before:
    fail("after the kills no transfer ends any more")
ending = True
end_programs(("client", "kernel-client"))
end_programs(("server",))
end_programs(("anchor", "kernel-server"))
for child in children:
    if alive(child):
        fail("process %d is left" % child)
stats = statistics(stats_path) if os.path.exists(stats_path) else {}
innocent = judge()
print("%d kills (%s), seed %d: %d transfers whole, %d broken off, %d of them between living processes; "
      "%d deaths inside the lock, %d connections reset by them"
      % (kills, ", ".join("%d %s" % (n, k) for k, n in counts.items() if n), seed, whole, len(broken), len(innocent),
         stats.get("OwnerDeaths", -1), stats.get("OwnerResets", -1)), flush=True)
if len(innocent) > stats.get("OwnerResets", 0):
    fail("more innocent connections were lost than were being changed: " + "; ".join(innocent[:5]))
if stats.get("BufferBytes", 0) > 1 << 20:
    fail("%d bytes of buffers are left" % stats["BufferBytes"])
if whole < 2 * kills:
    fail("only %d transfers: no load" % whole)
with open(os.path.join(work, "stats.keepers"), "w", encoding="ascii") as f:
    f.write(" ".join(map(str, keepers())))
sys.exit(1 if failures else 0)
