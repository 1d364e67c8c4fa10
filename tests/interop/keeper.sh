#!/bin/bash
# keeper.sh [CASE...] - the keeper of a stack: killed, not to be had, seen by nobody; and who is refused a stack.
#
# A case is a function c_NAME, run in a process of its own; see lib.sh for the playground. A /proc of the playground's
# own lets the cases look for processes.
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

# proc COMMAND...: with a /proc of the processes in here (our /proc is the machine's). In a chroot / is no mount, and
# cannot be made private.
proc() {
	unshare -m --propagation unchanged sh -c 'mount --make-private /proc && mount -t proc proc /proc && exec "$@"' - "$@"
}
# keepers: their process ids
keepers() {
	# shellcheck disable=SC2016 # that sh expands
	proc sh -c 'for c in /proc/[0-9]*/comm; do
		read -r n <$c 2>/dev/null || continue
		s=$(sed "s/.*) //; s/ .*//" ${c%comm}stat 2>/dev/null)
		[ "$n" != utcp-keeper ] || [ "$s" = Z ] || { p=${c#/proc/}; echo ${p%/comm}; }
	done'
}
one_keeper() {
	[ "$(keepers | wc -l)" = 1 ]
}
another_keeper() { # PID: there is exactly one, and it is not that one
	local now
	now=$(keepers)
	[ -n "$now" ] && [ "$(wc -w <<<"$now")" = 1 ] && [ "$now" != "$1" ]
}
no_keeper() {
	[ -z "$(keepers)" ]
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

# ------------------------------------------------------------ not to be had

# A program that makes the stack, forks, sends, and ends. The keeper cannot be started: one line, nothing is lost.
no_keeper_program() { # COMMAND... BEFORE: what python does first
	timeout 20 nc.openbsd -l "$KERNEL" 7300 >got </dev/null &
	local peer=$!
	wait_port 7300
	timeout 20 "$@" /usr/bin/python3 -c "
import os, socket
exec(os.environ.get('BEFORE', ''))
s = socket.create_connection(('$KERNEL', 7300))
for i in range(3):
    p = os.fork()
    if p == 0:
        s.sendall(open('two', 'rb').read()[i * 100000:(i + 1) * 100000])
        os._exit(0)
    assert os.waitpid(p, 0)[1] == 0
s.sendall(open('two', 'rb').read()[300000:])" 2>err || fail "status $?: $(cat err)"
	wait $peer || fail "the peer waits"
	cmp got two || fail "bytes are lost"
	[ "$(grep -c '^utcp: ' err)" = 1 ] || fail "lines: $(cat err)"
	grep -q '^utcp: the keeper .* cannot be started (.*); ' err || fail "what it says: $(cat err)"
}

c_without_a_keeper() {
	stack_is_free
	echo "the library is no program"
	cp "$LIB" plain.so
	chmod 644 plain.so
	no_keeper_program env LD_PRELOAD="$WORK/plain.so"
	grep -q 'Permission denied' err || fail "$(cat err)"
	no_keeper || fail "a keeper: $(keepers)"
	echo "the library has gone"
	cp "$LIB" gone.so
	BEFORE='os.unlink("gone.so")' no_keeper_program env LD_PRELOAD="$WORK/gone.so"
	grep -q 'No such file' err || fail "$(cat err)"
	echo "no process can be made: as at a limit (EAGAIN), or in a sandbox (EPERM)"
	# clone(CLONE_VM ...) fails, fork() and threads do not: it is the keeper alone that cannot be had
	cat >refuse.py <<-'END'
		import ctypes, os, struct, sys
		code = [(0x20, 0, 0, 0), (0x15, 0, 4, 56), (0x20, 0, 0, 16), (0x54, 0, 0, 0x100), (0x15, 1, 0, 0),
		        (0x06, 0, 0, 0x50000 | int(sys.argv[1])), (0x06, 0, 0, 0x7fff0000)]
		if os.uname().machine == "aarch64":
		    code[1] = (0x15, 0, 4, 220)
		filter = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *c) for c in code))
		program = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(code), ctypes.addressof(filter)))
		prctl = ctypes.CDLL(None, use_errno=True).prctl
		assert prctl(38, 1, 0, 0, 0) == 0 and prctl(22, 2, program, 0, 0) == 0
		os.execvp(sys.argv[2], sys.argv[2:])
	END
	local number text
	for number in 11 1; do
		no_keeper_program /usr/bin/python3 refuse.py $number env LD_PRELOAD="$LIB"
		text=$(/usr/bin/python3 -c "import os; print(os.strerror($number))")
		grep -q "($text)" err || fail "not '$text': $(cat err)"
		no_keeper || fail "a keeper: $(keepers)"
	done
}

# Limits and permissions come back: the next try succeeds, and the stack can be entered.
c_a_keeper_later() {
	stack_is_free
	cp "$LIB" later.so
	chmod 644 later.so
	mkfifo go
	LD_PRELOAD=$WORK/later.so timeout 30 /usr/bin/python3 -c "
import os, socket, sys
l = socket.create_server(('0.0.0.0', 7301))
os.chmod('later.so', 0o755)
while True:
    l.accept()[0].sendall(b'hello')" 2>err &
	local server=$!
	wait_port 7301
	sleep 1.1
	[ "$(timeout 10 nc.openbsd -d "$STACK" 7301)" = hello ] || fail "no answer"
	wait_until 30 "a keeper" one_keeper || fail "no keeper: $(cat err)"
	/usr/bin/python3 -m http.server 8101 --bind "$KERNEL" >/dev/null 2>&1 &
	local http=$!
	wait_port 8101
	LD_PRELOAD=$WORK/later.so timeout 20 curl -sS -o joined "http://$KERNEL:8101/two" || fail "curl: status $?"
	cmp joined two || fail "curl: the bytes differ"
	kill $http $server
}

# ------------------------------------------------------------ refused

# refused WHY COMMAND...: an error under UTCP_REQUIRE=1, and without it the kernel serves; one line that says why.
refused() {
	local why=$1
	shift
	timeout 20 env UTCP_REQUIRE=1 "$@" nc.openbsd -v "$KERNEL" 9 2>err </dev/null
	grep -q 'Network is down' err || fail "it was not refused: $(cat err)"
	[ "$(grep -c '^utcp: .*; ' err)" = 1 ] || fail "lines: $(cat err)"
	grep -q "^utcp: .*$why" err || fail "it does not say '$why': $(cat err)"
	timeout 20 env UTCP_REQUIRE=0 "$@" nc.openbsd -v "$KERNEL" 9 2>err </dev/null
	grep -q 'Connection refused' err || fail "the kernel did not serve: $(cat err)"
	[ "$(grep -c '^utcp: ' err)" = 1 ] || fail "lines: $(cat err)"
}

server_start() {
	"$UTCP" /usr/bin/python3 -c "
import socket
l = socket.create_server(('0.0.0.0', 7400))
while True:
    l.accept()[0].sendall(b'hello')" &
	SERVER=$!
	wait_port 7400 || fail "no server"
}
server_lives() {
	[ "$(timeout 10 nc.openbsd -d "$STACK" 7400)" = hello ] || fail "the server of the stack does not answer"
}

# The same files with another version: the one that was there goes on, the other is told.
c_another_version() {
	stack_is_free
	/usr/bin/python3 - "$LIB" other.so <<-'END'
		import re, sys
		b = open(sys.argv[1], "rb").read()
		assert b.count(b"0.1.0\0") >= 1
		open(sys.argv[2], "wb").write(b.replace(b"0.1.0\0", b"0.9.9\0"))
	END
	chmod 755 other.so
	server_start
	refused 'another version' env LD_PRELOAD="$WORK/other.so"
	server_lives
	end_process $SERVER
	echo "alone it works, and the first one is told"
	LD_PRELOAD=$WORK/other.so timeout 10 nc.openbsd -v "$KERNEL" 9 2>&1 </dev/null | grep -q 'Connection refused' ||
		fail "the other version does not work"
}

liar() {
	cat >squat.py <<-'END'
		import fcntl, os, socket, struct, sys, time
		def region(data, size, seal=2): # F_SEAL_SHRINK
		    fd = os.memfd_create("utcp", os.MFD_ALLOW_SEALING)
		    os.write(fd, data)
		    os.truncate(fd, size)
		    fcntl.fcntl(fd, 1033, seal)
		    return fd
		regions = {
		    "empty": lambda: region(b"", 0),
		    "unsealed": lambda: region(b"utcp-rg1", 8 << 20, 0),
		    "zeros": lambda: region(b"", 8 << 20),
		    "garbage": lambda: region(b"utcp-rg1" + os.urandom(4000), 8 << 20),
		}
		s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
		s.bind("\0utcp/0/tap:utcp0")
		s.listen(50)
		print("squats", flush=True)
		while True:
		    c = s.accept()[0]
		    if sys.argv[1] in regions:
		        c.recv(1000)
		        answer = struct.pack("<I", 1) + bytes(int(sys.argv[2]) - 4)
		        null = os.open("/dev/null", os.O_RDWR)
		        socket.send_fds(c, [answer], [regions[sys.argv[1]](), null, null, null])
		    if sys.argv[1] == "nonsense":
		        c.recv(1000)
		        c.send(b"x" * int(sys.argv[2]))
		    time.sleep(1)
	END
}

# The name, taken by somebody whom we do not trust, or by one that says nonsense.
c_a_stranger_at_the_name() {
	if [ "$(id -u)" != 0 ] || ! setpriv --reuid=65534 --regid=65534 --clear-groups true 2>/dev/null; then
		exit 77
	fi
	stack_is_free
	liar
	setpriv --reuid=65534 --regid=65534 --clear-groups /usr/bin/python3 "$WORK/squat.py" silent >squat.out &
	local squat=$!
	wait_until 50 "the stranger" grep -q squats squat.out
	refused 'another user' env LD_PRELOAD="$LIB"
	end_process $squat
	local bytes
	for bytes in 1 8 176; do
		rm -f squat.out
		/usr/bin/python3 squat.py nonsense $bytes >squat.out &
		squat=$!
		wait_until 50 "the liar" grep -q squats squat.out
		refused '' env LD_PRELOAD="$LIB"
		end_process $squat
	done
}

# The answer is well-formed, the region that comes with it is not.
c_a_broken_region() {
	[ "$(id -u)" = 0 ] || exit 77
	stack_is_free
	liar # writes squat.py
	local what squat
	for what in empty unsealed zeros garbage; do
		rm -f squat.out
		/usr/bin/python3 squat.py $what 512 >squat.out & # more than the message has
		squat=$!
		wait_until 50 "the liar" grep -q squats squat.out
		refused 'none that this library can work on' env LD_PRELOAD="$LIB"
		end_process $squat
	done
}

# When the keeper is killed and a stranger takes its name at once, the processes find each other by another.
c_a_stranger_takes_over() {
	if [ "$(id -u)" != 0 ] || ! setpriv --reuid=65534 --regid=65534 --clear-groups true 2>/dev/null; then
		exit 77
	fi
	stack_is_free
	server_start
	cat >grab.py <<-'END'
		import os, signal, socket, sys, time
		s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
		stop = [int(p) for p in sys.argv[2:]]
		for p in stop:
		    os.kill(p, signal.SIGSTOP)
		os.kill(int(sys.argv[1]), signal.SIGKILL)
		while True:
		    try:
		        s.bind("\0utcp/0/tap:utcp0")
		        break
		    except OSError:
		        time.sleep(0.001)
		os.setresuid(65534, 65534, 65534)
		s.listen(50) # whose it is: who listens
		for p in stop:
		    os.system("true")
		print("grabbed", flush=True)
		time.sleep(30)
	END
	local old grab
	old=$(keepers)
	/usr/bin/python3 grab.py "$old" "$SERVER" >grab.out &
	grab=$!
	wait_until 50 "the stranger" grep -q grabbed grab.out || fail "the name was not taken"
	kill -CONT "$SERVER"
	wait_until 50 "the next keeper" another_keeper "$old" || fail "keepers: $(keepers)"
	server_lives
	end_process $grab $SERVER
	stack_is_free
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

# A user who may have no process more: no keeper, no thread, one line; as soon as he may, both.
c_no_process_to_be_had() {
	cat >few.py <<-'END'
		import os, resource, socket, struct, sys, threading, time
		hard = resource.getrlimit(resource.RLIMIT_NPROC)[1]
		def limit(soft):
		    resource.setrlimit(resource.RLIMIT_NPROC, (soft, hard))
		def echo(c, word):
		    c[0].sendall(b"ping")
		    print(word, c[1].recv(4).decode(), flush=True)
		def pair():
		    c = socket.create_connection(l.getsockname())
		    c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)) # no TIME-WAIT
		    return c, l.accept()[0]
		def fork():
		    try:
		        pid = os.fork()
		    except BlockingIOError:
		        return print("fork EAGAIN", flush=True)
		    if not pid:
		        echo(p, "child")
		        os._exit(0)
		    os.waitpid(pid, 0)
		if sys.argv[1] == "first":
		    limit(0)
		l = socket.create_server(("127.0.0.1", 0))
		p = pair()
		if sys.argv[1] == "next":
		    limit(0)
		    print("ready", flush=True)
		    sys.stdin.readline()
		echo(p, "without")
		fork()
		try:
		    threading.Thread(target=print).start()
		except RuntimeError:
		    print("no thread", flush=True)
		echo(pair(), "another")
		limit(hard)
		time.sleep(1.2)
		echo(p, "with")
		fork()
		echo(pair(), "another")
		tasks = len(os.listdir("/proc/self/task"))
		print("threads %d" % tasks, flush=True)
		sys.stdin.readline()
	END
	local way p want
	# the user may not enter our directory
	local dir
	dir=$(mktemp -d) && chmod 755 "$dir" && cp "$LIB" "$UTCP" few.py "$dir" || fail "no directory"
	# shellcheck disable=SC2064 # its name now
	trap "rm -rf '$dir'" EXIT
	for way in first next; do
		rm -f go
		mkfifo go
		exec 5<>go
		(cd "$dir" && UTCP_DEV=none UTCP_LOOPBACK=stack exec timeout --foreground -k 2 30 setpriv --reuid=65534 \
			--regid=65534 --clear-groups ./utcp /usr/bin/python3 few.py $way) <go 5>&- >few.out 2>few.err &
		p=$!
		if [ $way = next ]; then
			wait_until 50 "it" grep -q ready few.out || fail "$(cat few.out few.err)"
			kill -9 "$(keepers)"
			wait_until 50 "the line" grep -q '^utcp: .*ulimit -u' few.err || fail "next: $(cat few.err)"
			echo >&5
		fi
		wait_until 50 "the threads" grep -q threads few.out || fail "$way: $(cat few.out few.err)"
		one_keeper || fail "$way: keepers: $(keepers)"
		echo >&5
		exec 5>&-
		wait $p || fail "$way: status $?: $(cat few.err)"
		want='without ping
fork EAGAIN
no thread
another ping
with ping
child ping
another ping
threads 2'
		[ "$(sed /ready/d few.out)" = "$want" ] || fail "$way: $(cat few.out)"
		[ "$(grep -c '^utcp: ' few.err)" = 1 ] || fail "$way: $(cat few.err)"
		grep -q '^utcp: .*cannot be started.*ulimit -u' few.err || fail "$way: $(cat few.err)"
		wait_until 50 "the keeper's end" no_keeper || fail "a keeper stays"
	done
}

# ------------------------------------------------------------ all of them

if [ "${1:-}" = --case ]; then
	cd "$WORK" || exit 1
	"c_$2"
	exit
fi
passed=0 failed=0
[ $# -gt 0 ] || mapfile -t all < <(sed -n 's/^c_\([a-z0-9_]*\)() {$/\1/p' "$here/keeper.sh")
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
