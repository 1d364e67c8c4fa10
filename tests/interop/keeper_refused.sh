# keeper_refused.sh - a keeper that is not to be had, and who is refused a stack. Sourced by keeper.sh.
# shellcheck shell=bash disable=SC2154 # KERNEL, UTCP and so on come from lib.sh

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
	stack_is_free
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
