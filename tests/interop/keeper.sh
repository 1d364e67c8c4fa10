#!/bin/bash
# keeper.sh [CASE...] - the keeper of a stack: killed, not to be had, seen by nobody; and who is refused a stack.
#
# A case is a function c_NAME, here or in keeper_refused.sh, run in a process of its own; see lib.sh for the playground.
# A /proc of the playground's own lets the cases look for processes.
set -u
# shellcheck source=tests/interop/lib.sh
. "$(dirname "$(readlink -f "$0")")/lib.sh"
here=$ROOT/tests/interop
LIB=$BUILD/libutcp.so
if [ "${1:-}" != --case ]; then
	playground_enter "$@"
	cd "$WORK" || exit 1
	topology_tap
	export UTCP_REQUIRE=1 WORK KERNEL STACK NOBODY
	head -c 2M /dev/urandom >two
fi

fail() {
	echo "FAIL: $1"
	exit 1
}

one_keeper() {
	[ "$(keepers | wc -l)" = 1 ]
}
another_keeper() { # PID: there is exactly one, and it is not that one
	local now
	now=$(keepers)
	[ -n "$now" ] && [ "$(wc -w <<<"$now")" = 1 ] && [ "$now" != "$1" ]
}
kill_keeper() { # and wait for the next one
	local old
	old=$(keepers)
	[ "$(wc -w <<<"$old")" = 1 ] || fail "keepers: '$old'"
	kill -9 "$old"
	wait_until 50 "the next keeper" another_keeper "$old" || fail "keepers after the kill: '$(keepers)'"
}
# Nobody has the stack: its keeper, if it serves TIME-WAIT still, makes room for a newcomer with other settings.
newcomer() {
	# by the peer: it had a stack
	UTCP_CC=reno timeout 10 "$UTCP" nc.openbsd -v "$KERNEL" 9 2>&1 </dev/null | grep -q 'Connection refused'
}
stack_is_free() {
	wait_until 50 "the stack to be free" newcomer || fail "a process stays"
	wait_until 50 "the keeper's end" no_keeper || {
		proc ps -eo pid,ppid,stat,etimes,comm,args
		fail "a keeper stays: $(keepers)"
	}
}
ours() {
	timeout --foreground -k 2 30 "$UTCP" "$@"
}

# ------------------------------------------------------------ killed

# Whoever sleeps in the stack notices, and starts the next one; the connection is unharmed; what is accepted is sent
# after the process has gone.
c_killed_while_waiting() {
	ours /usr/bin/python3 -c "
import socket, sys
l = socket.socket()
l.bind(('0.0.0.0', 7100))
l.listen(5)
c = l.accept()[0]
c.recv(1)
c.sendall(open('two', 'rb').read())
sys.stdout.write('ended')" >end.txt &
	wait_port 7100 || fail "no server"
	echo "it sleeps in accept()"
	kill_keeper
	echo "it sleeps in recv()"
	mkfifo go
	timeout 20 nc.openbsd -N "$STACK" 7100 <go >got &
	local peer=$!
	exec 5>go
	sleep 0.3
	kill_keeper
	kill_keeper
	echo "a command joins the stack"
	/usr/bin/python3 -m http.server 8100 --bind "$KERNEL" >/dev/null 2>&1 5>&- &
	local http=$!
	wait_port 8100
	ours curl -sS -o joined "http://$KERNEL:8100/two" || fail "curl: status $?"
	cmp joined two || fail "curl: the bytes differ"
	[ "$(keepers | wc -l)" = 1 ] || fail "a second keeper"
	printf x >&5 # all that the server reads: it does not end in a reset
	exec 5>&-
	wait $peer || fail "the peer: status $?"
	cmp got two || fail "the bytes differ"
	kill $http
	wait_until 50 "the end" grep -q ended end.txt || fail "the server did not end"
}

# Ten processes of one stack, asleep, computing, and in epoll_wait(), notice at once.
c_killed_with_ten() {
	cat >ten.py <<-'END'
		import os, select, socket, sys, time
		l = socket.socket()
		l.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
		l.bind(("0.0.0.0", 7101))
		l.listen(50)
		for i in range(10):
		    if os.fork() == 0:
		        if i % 3 == 1:
		            e = select.epoll()
		            e.register(l, select.EPOLLIN)
		            while not e.poll():
		                pass
		        elif i % 3 == 2:
		            end = time.time() + 1
		            while time.time() < end:
		                pass
		        while True:
		            c = l.accept()[0]
		            c.sendall(b"%d\n" % os.getpid())
		            c.close()
		for i in range(10):
		    os.wait()
	END
	"$UTCP" /usr/bin/python3 ten.py &
	local server=$! i
	wait_port 7101 || fail "no server"
	sleep 0.3
	for i in 1 2 3 4 5; do
		kill_keeper
		[ -n "$(timeout 10 nc.openbsd -d "$STACK" 7101)" ] || fail "no answer after kill $i"
	done
	sleep 1.2
	echo "the new keeper has them all: killed ones are reaped, the others serve"
	kill_keeper
	local pid
	pid=$(timeout 10 nc.openbsd -d "$STACK" 7101)
	for i in 1 2 3 4 5; do
		kill -9 "$pid" || fail "no process '$pid'"
		pid=$(timeout 10 nc.openbsd -d "$STACK" 7101)
		[ -n "$pid" ] || fail "no answer after process $i"
	done
	one_keeper || fail "keepers: $(keepers)"
	end_process $server
	# shellcheck disable=SC2009
	proc ps -eo pid,comm,args >ps.txt
	awk '/ten.py/ { print $1 }' ps.txt | xargs -r kill -9
	stack_is_free
}

# The keeper and a process with data on its way die together: the next keeper, made by another process, finds what
# the dead one left.
c_killed_together() {
	"$UTCP" /usr/bin/python3 -c "
import socket, time
l = socket.socket()
l.bind(('0.0.0.0', 7102))
l.listen(5)
time.sleep(30)" &
	local other=$!
	wait_port 7102 || fail "no server"
	timeout 20 nc.openbsd -l "$KERNEL" 7103 >got </dev/null &
	local peer=$!
	wait_port 7103
	"$UTCP" /usr/bin/python3 -c "
import os, signal, socket, sys
s = socket.create_connection(('$KERNEL', 7103))
s.sendall(open('two', 'rb').read())
os.kill(int(sys.argv[1]), signal.SIGKILL)
os.kill(os.getpid(), signal.SIGKILL)" "$(keepers)" 2>/dev/null
	wait $peer || fail "the peer waits"
	cmp got two || fail "bytes are lost"
	one_keeper || fail "keepers: '$(keepers)'"
	end_process $other
	stack_is_free
}

# Keepers that die young are replaced slowly, but they are, although everybody sleeps; who comes meanwhile waits.
c_killed_again_and_again() {
	stack_is_free
	ours /usr/bin/python3 -c "
import socket
l = socket.socket()
l.bind(('0.0.0.0', 7104))
l.listen(5)
open('listens', 'w').write('yes')
for i in range(2):
    l.accept()[0].sendall(b'there')" &
	local server=$!
	wait_until 50 "the server" test -s listens || fail "no server"
	cat >young.py <<-'END'
		import os, signal, sys, time
		def keeper():
		    for p in os.listdir("/proc"):
		        try:
		            if p.isdigit() and open("/proc/%s/comm" % p).read() == "utcp-keeper\n":
		                return int(p)
		        except OSError:
		            pass
		killed, seen = 0, time.monotonic()
		while time.monotonic() - seen < 0.4: # none for so long: they have begun to be slow
		    k = keeper()
		    if k:
		        try:
		            os.kill(k, signal.SIGKILL)
		            killed += 1
		        except ProcessLookupError:
		            pass
		        seen = time.monotonic()
		    if killed > 2000:
		        sys.exit("never slow")
		print(killed)
	END
	proc /usr/bin/python3 young.py || fail "they are never replaced slowly"
	no_keeper || fail "a keeper: $(keepers)"
	echo "one who wants to enter waits for the next one"
	timeout 10 nc.openbsd -l "$KERNEL" 7105 >got </dev/null &
	wait_port 7105
	ours nc.openbsd -N "$KERNEL" 7105 <<<"entered" || fail "nc: status $?"
	wait $!
	grep -q entered got || fail "it did not enter"
	[ "$(timeout 10 nc.openbsd -d "$STACK" 7104)" = there ] || fail "no answer"
	proc /usr/bin/python3 young.py || fail "they are never replaced slowly, the second time"
	echo "all are asleep"
	wait_until 50 "a keeper" one_keeper || fail "nobody makes the next one"
	[ "$(timeout 10 nc.openbsd -d "$STACK" 7104)" = there ] || fail "no answer in the end"
	wait $server
	stack_is_free
}

# ------------------------------------------------------------ the ends of a process

ends_data() { # BYTES: what ends.c sends
	/usr/bin/python3 -c "
import sys
sys.stdout.buffer.write(bytes((i * 131 >> 7) & 255 for i in range($1)))"
}

# ends HOW [COMMAND...]: a peer that begins to read late gets everything, and the end.
ends() {
	local how=$1 peer
	shift
	cat >late.py <<-END
		import socket, time
		l = socket.socket()
		l.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
		l.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
		l.bind(("$KERNEL", 7200))
		l.listen(1)
		l.settimeout(10)
		c = l.accept()[0]
		c.settimeout(10)
		time.sleep(0.15)
		with open("got", "wb") as f:
		    while True:
		        b = c.recv(65536)
		        if not b:
		            break
		        f.write(b)
	END
	/usr/bin/python3 late.py &
	peer=$!
	wait_port 7200
	timeout 20 "$@" env LD_PRELOAD="$LIB" ./ends "$how" "$KERNEL" 7200 200000 >>children.txt 2>>err.txt
	wait $peer || fail "$how: the peer sees no orderly end"
	cmp got want || fail "$how: bytes are lost"
	wait_until 50 "the port" port_is_free
}
port_is_free() { ! kernel_listens 7200; }

build_ends() {
	"${CC:-gcc}" -std=gnu11 -D_GNU_SOURCE -O1 -g -Wall -Wextra -pthread -o ends "$here/ends.c" || fail "ends.c does not compile"
	ends_data 200000 >want
	rm -f children.txt err.txt
}

c_ends() {
	local how
	build_ends
	for how in return exit _exit syscall quick_exit abort segv term kill xcpu pthread_exit; do
		ends $how
	done
	grep -v ': children: -1 ECHILD$' children.txt && fail "children that the program did not make"
	[ "$(wc -l <children.txt)" = 11 ] || fail "$(cat children.txt err.txt)"
}

# A program that adopts orphans does not get the keeper, stays what it is, and the keeper outlives it.
c_ends_of_a_subreaper() {
	build_ends
	ends subreaper
	ends subreaper_kill
	grep -v ': children: -1 ECHILD$' children.txt && fail "the keeper is a child of the program"
	[ "$(wc -l <children.txt)" = 2 ] || fail "$(cat children.txt err.txt)"
}

# The first process of a PID namespace, which takes everything along: it waits for the drain itself.
c_ends_of_pid_1() {
	local how
	build_ends
	stack_is_free
	for how in return exit _exit quick_exit; do
		ends $how unshare -p -f --kill-child
	done
	no_keeper || fail "a keeper: $(keepers)"
	grep -v ': children: -1 ECHILD$' children.txt && fail "a child of the program"
	[ "$(wc -l <children.txt)" = 4 ] || fail "$(cat children.txt err.txt)"
}

# ------------------------------------------------------------ seen by nobody

# What a keeper holds, and who can tell: it outlives the command, and nobody has to wait for it.
c_seen_by_nobody() {
	stack_is_free
	mkdir away
	: >away/locked
	cat >seen.py <<-END
		import fcntl, os, signal, socket, sys
		os.chdir("away")
		f = open("locked", "w")
		fcntl.flock(f, fcntl.LOCK_EX)
		os.set_inheritable(f.fileno(), True)
		s = socket.create_connection(("$KERNEL", 7500))
		print("hello", flush=True)
		if sys.argv[1] == "group": # what Ctrl-C and the end of a terminal send
		    sys.stdin.readline()
		    for n in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
		        signal.signal(n, signal.SIG_IGN)
		        os.kill(0, n)
		s.sendall(b"x" * 100000)
	END
	nc.openbsd -k -l "$KERNEL" 7500 >/dev/null </dev/null & # ends with the playground at the latest
	local nc=$! keeper app
	wait_port 7500
	mkfifo seen.go
	exec 7<>seen.go
	timeout 40 setsid -w "$UTCP" /usr/bin/python3 seen.py group <seen.go >out 2>&1 7>&- &
	app=$!
	wait_until 400 "the program" test -s out || fail "it said nothing"
	kill -STOP $nc # it does not close: the keeper has something to wait for when the program is gone
	echo >&7
	wait $app || fail "status $?: $(cat out)"
	[ "$(cat out)" = hello ] || fail "it said: $(cat out)"
	keeper=$(keepers)
	[ "$(wc -w <<<"$keeper")" = 1 ] || fail "keepers: '$keeper'"
	flock -n away/locked true || fail "the application's lock is held"
	# shellcheck disable=SC2016 # that sh expands
	proc sh -c 'cd /proc/$1 && readlink cwd fd/0 fd/1 fd/2 && ls -l fd && cut -d" " -f4-8 stat && tr "\0" "." <cmdline && cat comm' - "$keeper" >keeper.txt
	local root want # a chroot in another mount namespace has its path before everything
	root=$(proc readlink /proc/1/root)
	root=${root%/}
	want="${root:-/}
$root/dev/null
$root/dev/null
$root/dev/null"
	[ "$(head -4 keeper.txt)" = "$want" ] || fail "$(cat keeper.txt)"
	grep -q "$WORK\|pipe:" keeper.txt && fail "it holds what is the application's: $(cat keeper.txt)"
	# parent 1, group and session its own, no terminal
	grep -q "^1 $keeper $keeper 0 -1$" keeper.txt || fail "$(cat keeper.txt)"
	grep -q '^utcp-keeper\.utcp-keeper$' keeper.txt || fail "$(cat keeper.txt)"
	kill -CONT $nc
	echo "a shell that waits for all its children"
	# shellcheck disable=SC2016
	timeout 10 bash -c '"$1" /usr/bin/python3 seen.py alone >/dev/null & wait; jobs; wait -n; [ $? = 127 ]' - "$UTCP" || fail "a shell waits for it"
	kill $nc
}

# ------------------------------------------------------------ where it is born

# A program that has closed some of its numbers 0 to 2: whatever numbers the keeper's birth takes then, it lives.
c_born_without_standard_numbers() {
	stack_is_free
	local closed born
	for closed in 0 1 2 0,1 0,2 1,2 0,1,2; do
		rm -f listens
		ours /usr/bin/python3 -c "
import fcntl, os, socket, sys
def high(f): # and what is below is closed: 3 is free
    return fcntl.fcntl(f, fcntl.F_DUPFD, 40)
l = socket.socket(fileno=high(socket.socket()))
out = high(open('listens', 'w'))
l.bind(('0.0.0.0', 7115))
for fd in ($closed,):
    os.close(fd)
l.listen(5)
os.write(out, b'yes')
l.accept()[0].sendall(b'there\n')" &
		wait_until 50 "the server" test -s listens || fail "without $closed: no server"
		born=$(keepers)
		[ "$(timeout 5 nc.openbsd -d "$STACK" 7115)" = there ] || fail "without $closed: no answer"
		[ -n "$born" ] && [ "$(keepers)" = "$born" ] || fail "without $closed: '$born' is '$(keepers)' now"
		stack_is_free
	done
}

# ------------------------------------------------------------ taken for dead

# What the keeper reaped of a process that lives is another's soon: not a byte of it may be touched.
c_taken_for_dead() {
	"${CC:-gcc}" -std=gnu11 -D_GNU_SOURCE -O1 -g -Wall -Wextra -pthread -I"$ROOT" -o severed "$here/severed.c" ||
		fail "severed.c does not compile"
	cat >echo.py <<-END
		import socket, threading
		l = socket.create_server(("$KERNEL", 7600), backlog=50)
		def serve(c):
		    try:
		        while (b := c.recv(65536)):
		            c.sendall(b)
		    except OSError:
		        pass
		    open("severed.closed", "a").write("x")
		while True:
		    threading.Thread(target=serve, args=(l.accept()[0],), daemon=True).start()
	END
	cat >heir.py <<-END
		import os, socket, time
		def until(what):
		    while not what():
		        time.sleep(0.01)
		first = socket.create_connection(("$KERNEL", 7600))
		print("here", flush=True)
		until(lambda: os.path.exists("severed.done"))
		until(lambda: os.path.exists("severed.closed") and len(open("severed.closed").read()) == 2)
		s = [socket.create_connection(("$KERNEL", 7600)) for i in range(20)]
		os.unlink("severed.done")
		until(lambda: os.path.exists("severed.ended"))
		for i, c in enumerate([first] + s):
		    want = b"%d" % i * 5000
		    c.sendall(want)
		    got = b""
		    while len(got) < len(want):
		        b = c.recv(65536)
		        assert b, i
		        got += b
		    assert got == want, (i, got[:20])
		    c.settimeout(0.01)
		    try:
		        raise SystemExit("more on %d: %r" % (i, c.recv(100)))
		    except TimeoutError:
		        pass
		print("whole", flush=True)
	END
	/usr/bin/python3 echo.py &
	local echo=$! heir
	wait_port 7600
	rm -f severed.*
	ours /usr/bin/python3 heir.py >heir.out 2>&1 &
	heir=$!
	wait_until 50 "the other process" grep -q here heir.out || fail "$(cat heir.out)"
	timeout 20 env LD_PRELOAD="$LIB" ./severed "$KERNEL" 7600 severed.done >out 2>err || fail "severed: status $?: $(cat out err)"
	: >severed.ended
	wait $heir || fail "the heir: $(cat heir.out)"
	# a call in progress, and whichever call finds it out, sees a stack that failed
	sed -i -E '/^(asleep|send): /s/E(IO|NETDOWN)$/lost/' out
	diff - out <<-'END' || fail "what its calls answered; $(cat err)"
		send: lost
		asleep: lost
		recv: EIO
		epoll_wait: 0
		dial: ENETDOWN
		child: EIO
		shutdown: EIO
		close: done
	END
	[ "$(grep -c 'taken for dead, and its connections' err)" = 1 ] || fail "what it says: $(cat err)"
	one_keeper || fail "keepers: $(keepers)"
	kill $echo
	stack_is_free
}

# ------------------------------------------------------------ all of them

# shellcheck source=tests/interop/keeper_refused.sh
. "$here/keeper_refused.sh"

if [ "${1:-}" = --case ]; then
	cd "$WORK" || exit 1
	"c_$2"
	exit
fi
passed=0 failed=0
[ $# -gt 0 ] || mapfile -t all < <(sed -n 's/^c_\([a-z0-9_]*\)() {$/\1/p' "$here/keeper.sh" \
	"$here/keeper_refused.sh")
[ $# -gt 0 ] || set -- "${all[@]}"
for name in "$@"; do
	timeout -k 5 60 bash "$here/keeper.sh" --case "$name" >"$name.log" 2>&1 </dev/null
	status=$?
	if [ $status = 0 ]; then
		passed=$((passed + 1))
		printf '  ok    keeper/%s\n' "$name"
		[ -z "${VERBOSE:-}" ] || sed 's/^/          /' "$name.log"
	elif [ $status = 77 ]; then
		printf '  --    keeper/%s (does not apply: no root)\n' "$name"
	else
		failed=$((failed + 1))
		printf '  FAIL  keeper/%s (status %d)\n' "$name" "$status"
		tail -n 25 "$name.log" | sed 's/^/          /'
	fi
done
[ $failed = 0 ] && [ $passed != 0 ]
