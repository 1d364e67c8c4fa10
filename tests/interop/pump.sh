# pump.sh - cases of pump mode: connections in programs that the library is not loaded into. Sourced by run.sh.
# shellcheck shell=bash

heir_build() {
	[ -x "$WORK/heir" ] || ${CC:-cc} -static -O1 -o "$WORK/heir" "$here/heir.c" || fail "no static program can be built"
}

# The keeper of this namespace's stack.
keeper_pid() {
	local p own
	own=$(readlink /proc/self/ns/net)
	for p in /proc/[0-9]*; do
		[ "$(cat "$p/comm" 2>/dev/null)" = utcp-keeper ] && [ "$(readlink "$p/ns/net")" = "$own" ] && echo "${p#/proc/}" && return
	done
}

keeper_fds() {
	find "/proc/$(keeper_pid)/fd" -mindepth 1 2>/dev/null | wc -l
}
keeper_fds_are() { # at most
	local n
	n=$(keeper_fds)
	[ "$n" -gt 0 ] && [ "$n" -le "$1" ]
}

# many PORT COUNT FILE: so many clients of the kernel's at once send FILE, half-close, and get it back.
many() {
	local i pids=() bad=0
	for ((i = 0; i < $2; i++)); do
		{ timeout 60 nc.openbsd -N "$STACK" "$1" <"$3" | cmp - "$3"; } &
		pids+=($!)
	done
	for i in "${pids[@]}"; do wait "$i" || bad=$((bad + 1)); done
	[ $bad = 0 ] || fail "$bad of $2 exchanges went wrong"
}

c_pump_server() {
	local before
	heir_build
	spy_start socat
	serve 7201 socat TCP-LISTEN:7201,fork,reuseaddr,backlog=64 EXEC:"$WORK/heir cat",nofork
	many 7201 1 www/two
	wait_until 20 "the first pump's end" sh -c '! pgrep -x heir' || true
	sleep 0.2
	before=$(keeper_fds)
	[ "$before" -gt 0 ] || fail "no keeper"
	echo "20 MB both ways, half-closed"
	head -c 20M www/big >twenty
	many 7201 1 twenty
	echo "50 at once"
	many 7201 50 www/two
	wait_until 20 "the keeper's $before descriptors" keeper_fds_are "$before" || fail "the keeper has $(keeper_fds) of $before"
	spy_stop || fail "kernel sockets"
	server_end ""
	keepers_gone
}

# By every road to exec(): fork (nc -e), plain (a shell's exec), vfork (subprocess).
c_pump_roads() {
	heir_build
	spy_start ""
	echo "nc -e"
	ln -s "$WORK/heir" cat # nc -e takes no arguments
	printf '#!%s cat\n' "$WORK/heir" >heir.cat && chmod 755 heir.cat
	"$UTCP" nc.traditional -l -p 7202 -e "$WORK/heir.cat" &
	SERVER=$!
	wait_port 7202 || fail "nc does not listen"
	peer_exchange 7202 e || fail "the bytes differ"
	wait "$SERVER" || fail "nc: status $?"
	echo "a client that becomes a static program"
	serve_kernel 7203
	"$UTCP" bash -c "exec 0<>/dev/tcp/$KERNEL/7203; exec $WORK/heir outcome $WORK/client" || fail "status $?"
	[ "$(cat client)" = "end $(stat -c %s www/two)" ] || fail "it saw: $(cat client)"
	wait "$KERNEL_SERVER"
	echo "children of vfork()"
	cat >pump.py <<-END
		import socket, subprocess
		l = socket.create_server(("0.0.0.0", 7204))
		children = []
		for i in range(3):
		    c = l.accept()[0]
		    children.append(subprocess.Popen(["$WORK/heir", "cat"], stdin=c, stdout=c))
		    c.close()
		raise SystemExit(sum(p.wait() for p in children))
	END
	serve 7204 /usr/bin/python3 pump.py
	exchanges 7204 3
	wait "$SERVER" || fail "status $?"
	spy_stop || fail "kernel sockets"
	keepers_gone
}

# What a program that gains privileges does: the linker drops the library.
c_pump_secure() {
	heir_build
	cp /bin/cat setuid.cat && chown 65534 setuid.cat && chmod 4755 setuid.cat || fail "no setuid file"
	spy_start socat
	serve 7205 socat TCP-LISTEN:7205,fork,reuseaddr EXEC:"$WORK/setuid.cat",nofork
	many 7205 3 www/two
	server_end ""
	keepers_gone
	echo "the library out of sight: privileges are dropped first"
	mkdir -m 700 hidden && cp "$BUILD/libutcp.so" "$BUILD/utcp" hidden
	serve_kernel 7206
	hidden/utcp bash -c "exec 0<>/dev/tcp/$KERNEL/7206; exec setpriv --reuid=65534 --clear-groups cat" >got || fail "status $?"
	cmp got www/two || fail "the bytes differ"
	spy_stop || fail "kernel sockets"
	keepers_gone
}

# pump_ends.py CASE ADDR PORT: a peer with exact habits; what it saw is what it prints.
pump_ends_write() {
	cat >ends.py <<-'END'
		import os, socket, struct, sys, time
		case, addr, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
		c = socket.create_connection((addr, port), timeout=30)
		def rest():
		    n = 0
		    try:
		        while b := c.recv(65536):
		            n += len(b)
		        return "end %d" % n
		    except OSError as e:
		        return "%s %d" % (os.strerror(e.errno or 0), n)
		if case == "orderly":  # everything, then the end
		    c.sendall(bytes(300000))
		    c.shutdown(socket.SHUT_WR)
		    print(rest())
		elif case == "reset":  # everything, then RST
		    c.sendall(bytes(300000))
		    while not os.path.exists("outcome.got"):
		        time.sleep(0.01)
		    c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
		    c.close()
		elif case == "reset_writer":
		    c.recv(1)
		    c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
		    c.close()
		elif case == "rude":  # more than the heir reads
		    c.sendall(bytes(1000))
		    time.sleep(0.5)
		    print(rest())
		elif case == "half":  # the peer's end first: the heir still writes
		    c.shutdown(socket.SHUT_WR)
		    print(rest())
	END
}

# ends WORLD PEERCASE HEIR...: "what the peer saw, what the heir saw".
ends() {
	local world=$1 case=$2 run=() port addr=$STACK
	shift 2
	port=$((7300 + RANDOM % 600))
	if [ "$world" = stack ]; then run=("$UTCP"); else addr=$KERNEL; fi
	rm -f outcome outcome.got
	"${run[@]}" socat "TCP-LISTEN:$port,reuseaddr" EXEC:"$WORK/heir $*",nofork &
	SERVER=$!
	wait_port $port || fail "$world: it does not listen"
	timeout 40 /usr/bin/python3 ends.py "$case" "$addr" "$port" || fail "$world $case: the peer's status is $?"
	wait "$SERVER"
	cat outcome 2>/dev/null
	true
}

# The ends of a connection, as the same programs see them on the kernel's.
c_pump_ends() {
	local what stack kernel
	heir_build
	pump_ends_write
	for what in "orderly cat" "orderly outcome $WORK/outcome" "orderly sink" "reset outcome $WORK/outcome 300000" \
		"rude rude" "half source 3000000" "half cat"; do
		# shellcheck disable=SC2086
		stack=$(ends stack $what) || exit 1
		# shellcheck disable=SC2086
		kernel=$(ends kernel $what) || exit 1
		echo "$what: ${stack/$'\n'/, }"
		[ "$stack" = "$kernel" ] || fail "$what: on the kernel: $kernel"
	done
	echo "a writer is told: AF_UNIX can only say EPIPE"
	stack=$(ends stack reset_writer writer "$WORK/outcome")
	[ "$stack" = EPIPE ] || fail "the writer got '$stack'"
	keepers_gone
}

# How far the peer has come with what it sends to a port.
acknowledged() { ss -Htni state established dst "$STACK" dport = ":$1" | grep -o 'bytes_acked:[0-9]*'; }

# What is read late waits in the peer and in the connection, not in the pump. The keeper does not wait with it.
c_pump_slow() {
	local client ahead other
	heir_build
	head -c 30M www/big >thirty
	serve 7207 socat TCP-LISTEN:7207,reuseaddr EXEC:"$WORK/heir lazy $WORK/go",nofork
	timeout 60 nc.openbsd -N "$STACK" 7207 <thirty >got &
	client=$!
	still acknowledged 7207 || fail "it goes on: $(acknowledged 7207)"
	[ -n "$(acknowledged 7207)" ] || fail "nothing is on its way"
	"$UTCP" socat TCP-LISTEN:7242,reuseaddr EXEC:"$WORK/heir cat",nofork &
	other=$!
	wait_port 7242 || fail "the other one does not listen"
	many 7242 1 www/two
	wait $other || fail "the other one: status $?"
	touch go
	wait $client || fail "nc: status $?"
	[ "$(cat got)" = $((30 * 1024 * 1024 - 1)) ] || fail "it got $(cat got) bytes"
	ahead=$(cat go)
	echo "$ahead bytes were in the pair"
	[ "$ahead" -gt 1000 ] || fail "nothing was pumped ahead"
	[ "$ahead" -le 262144 ] || fail "too much was pumped ahead"
	wait "$SERVER"
	keepers_gone
}

# An exec() that fails after all: the connection is as it was, with every byte and option.
c_pump_exec_fails() {
	heir_build
	head -c 4096 "$WORK/heir" >broken && printf '\177ELF\2\1\1' | dd of=broken conv=notrunc status=none
	dd if=/dev/zero of=broken bs=1 seek=54 count=2 conv=notrunc status=none # no program headers' size: ENOEXEC
	chmod 755 broken
	cat >fails.py <<-END
		import errno, os, socket, subprocess, time
		l = socket.create_server(("0.0.0.0", 7208))
		c, peer = l.accept()
		c.set_inheritable(True)
		d = os.dup(c.fileno())
		os.set_inheritable(d, True)
		time.sleep(0.3)  # bytes are waiting
		fds = lambda: sorted(os.listdir("/proc/self/fd"))
		before = fds()
		for i in range(3):
		    try:
		        os.execv("$WORK/broken", ["broken"])
		    except OSError as e:
		        assert e.errno == errno.ENOEXEC, e
		assert fds() == before
		assert c.getpeername() == peer, c.getpeername()
		n = 0
		while n < 1 << 20:
		    b = os.read(d, 65536)
		    c.sendall(b)
		    n += len(b)
		subprocess.run(["/bin/cat"], stdin=d, stdout=c, check=True)
	END
	serve 7208 /usr/bin/python3 fails.py
	peer_exchange 7208 f || fail "the bytes differ"
	wait "$SERVER" || fail "status $?"
	keepers_gone
}

# What a pair's end can have of the connection's properties.
c_pump_properties() {
	heir_build
	cat >kind.py <<-END
		import os, socket, struct, sys
		l = socket.create_server(("0.0.0.0", 7209))
		c = l.accept()[0]
		c.setblocking(False)
		c.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 7, 0))
		os.dup2(c.fileno(), 0)
		os.execv("$WORK/heir", ["heir", "kind", "$WORK/kind"])
	END
	serve 7209 /usr/bin/python3 kind.py
	timeout 20 nc.openbsd -d "$STACK" 7209 || fail "nc: status $?"
	wait "$SERVER" || fail "status $?"
	[ "$(cat kind)" = "unix nonblock 7" ] || fail "$(cat kind)"
	keepers_gone
}

# refused PORT: the stack answers with a reset.
refused() {
	timeout 5 bash -c "exec 3<>/dev/tcp/$STACK/$1" 2>&1 | grep -q refused
}

# A program without hooks that inherits a listener: the keeper accepts for it.
c_pump_listener() {
	heir_build
	cat >listener.py <<-END
		import os, socket, subprocess, sys
		how, port, count = sys.argv[1], int(sys.argv[2]), sys.argv[3]
		l = socket.create_server(("0.0.0.0", port), backlog=16)
		argv = ["$WORK/heir", "accept", count, "$WORK/listener." + how]
		os.dup2(l.fileno(), 0)
		if how == "exec":
		    os.execv(argv[0], argv)
		if how == "vfork":  # and nobody else has it
		    p = subprocess.Popen(argv)
		if how == "spawn":
		    pid = os.posix_spawn(argv[0], argv, os.environ)
		l.close()
		os.close(0)
	END
	local how port=7220
	for how in exec vfork spawn; do
		echo "by $how"
		port=$((port + 1))
		"$UTCP" /usr/bin/python3 listener.py $how $port 6 &
		SERVER=$!
		wait_port $port || fail "it does not listen"
		exchanges $port 5
		peer_exchange $port last || fail "the bytes differ"
		wait_until 50 "the program to close the listener" test -s listener.$how || fail "it does not end"
		[ "$(cat listener.$how)" = 127.0.0.1 ] || fail "its client was $(cat listener.$how)"
		wait_until 50 "the stack to hear of it" refused $port || fail "the listener stays"
		touch listener.$how.end
		wait "$SERVER"
		keepers_gone
	done
}

# While somebody with hooks has the listener too, connections are its own.
c_pump_listener_attended() {
	heir_build
	cat >attended.py <<-END
		import os, signal, socket, subprocess
		l = socket.create_server(("0.0.0.0", 7230), backlog=16)
		os.dup2(l.fileno(), 0)
		p = subprocess.Popen(["$WORK/heir", "accept", "2", "$WORK/attended"], preexec_fn=lambda: None)
		os.close(0)
		for i in range(3):
		    c, peer = l.accept()
		    assert peer[0] == "$KERNEL", peer
		    while b := c.recv(65536):
		        c.sendall(b)
		    c.close()
		l.close()
	END
	# The program without hooks waits in the kernel half alone.
	serve 7230 /usr/bin/python3 attended.py
	local i
	for i in 1 2 3; do peer_exchange 7230 a || fail "the bytes differ"; done
	wait "$SERVER" || fail "status $?"
	echo "then it is alone"
	for i in 1 2; do peer_exchange 7230 a || fail "the bytes differ"; done
	wait_until 50 "the program to end" test -s attended || fail "it does not end"
	touch attended.end
	keepers_gone
}

# The keeper has no descriptor for a connection to the program: the caller waits in the stack's queue, and is served
# when there is one. Nobody tells the keeper of that.
c_pump_forward_again() {
	heir_build
	cat >again.py <<-END
		import os, socket
		l = socket.create_server(("0.0.0.0", 7250), backlog=16)
		os.dup2(l.fileno(), 0)
		l.close()
		os.execv("$WORK/heir", ["$WORK/heir", "accept", "2", "$WORK/again"])
	END
	"$UTCP" /usr/bin/python3 again.py &
	SERVER=$!
	wait_port 7250 || fail "it does not listen"
	peer_exchange 7250 first || fail "the bytes differ"
	local keeper # /proc may be another PID namespace's: the number here is the last one
	keeper=$(awk '/^NSpid/ { print $NF }' "/proc/$(keeper_pid)/status")
	prlimit --pid "$keeper" --nofile=3: || fail "no limit"
	peer_exchange 7250 second &
	CLIENT=$!
	wait_until 50 "the caller" sh -c "ss -Htn state established dst $STACK dport = :7250 | grep -q ." || fail "no connection"
	sleep 0.5 # it tries
	[ ! -s echo.second ] || fail "it was served"
	prlimit --pid "$keeper" --nofile=1024: || fail "no limit"
	wait $CLIENT || fail "the second caller is not served"
	wait_until 50 "the program's end" test -s again || fail "it does not end"
	touch again.end
	wait "$SERVER"
	keepers_gone
}

# The keeper is killed: heir and peer learn it by a reset, the listener goes on with the next keeper.
c_pump_keeper_killed() {
	heir_build
	spy_start socat
	serve 7240 socat TCP-LISTEN:7240,fork,reuseaddr EXEC:"$WORK/heir outcome $WORK/outcome 1",nofork
	cat >reset.py <<-END
		import socket
		c = socket.create_connection(("$STACK", 7240))
		c.sendall(b"x")
		print("ready", flush=True)
		try:
		    print(len(c.recv(1)))
		except ConnectionResetError:
		    print("reset")
	END
	timeout 20 /usr/bin/python3 reset.py >peer.out &
	PEER=$!
	wait_until 50 "the peer" grep -q ready peer.out
	wait_until 50 "the pump" sh -c "[ \$(ls /proc/$(keeper_pid)/fd | wc -l) -gt 10 ]" || fail "no pump"
	wait_until 50 "the byte" test -e outcome.got || fail "the heir has no byte"
	# /proc may be another PID namespace's: the number here is the last one.
	kill -9 "$(awk '/^NSpid/ { print $NF }' "/proc/$(keeper_pid)/status")"
	wait "$PEER" || fail "the peer waits"
	[ "$(tail -n 1 peer.out)" = reset ] || fail "the peer saw $(tail -n 1 peer.out)"
	wait_until 50 "the heir's end" test -s outcome || fail "the heir waits"
	[ "$(cat outcome)" = "ECONNRESET 1" ] || fail "the heir saw $(cat outcome)"
	rm outcome
	echo "the next one"
	head -c 1000 www/two | timeout 10 nc.openbsd -N "$STACK" 7240
	wait_until 50 "the second heir's end" test -s outcome || fail "the second heir waits"
	[ "$(cat outcome)" = "end 1000" ] || fail "the second heir saw $(cat outcome)"
	server_end ""
	keepers_gone
}
