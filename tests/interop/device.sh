# device.sh - the stack's device is set down and up again, and deleted, while connections run. Sourced by run.sh.
# shellcheck shell=bash disable=SC2154 # STACK, KERNEL and so on come from lib.sh

# device: the interface that the stack reads.
device() { echo "${UTCP_DEV#*:}"; }

echo_write() {
	cat >echo.py <<-END
		import socket, threading
		l = socket.create_server(("$KERNEL", 7900), backlog=16)
		def serve(c):
		    try:
		        while b := c.recv(65536):
		            c.sendall(b)
		        c.shutdown(socket.SHUT_WR)
		    except OSError:
		        pass
		while True:
		    threading.Thread(target=serve, args=(l.accept()[0],), daemon=True).start()
	END
	/usr/bin/python3 echo.py &
	ECHO=$!
	wait_port 7900 || fail "no echo"
}

# Both directions of a connection stand still, and go on by retransmission; nothing is computed meanwhile; one that
# was idle all the time works, too, and so does a new one in either direction.
c_device_down_up() {
	local dev
	dev=$(device)
	echo_write
	cat >carry.py <<-END
		import hashlib, os, socket, threading, time
		def carry(s, mb, at):
		    want, got = hashlib.sha1(), hashlib.sha1()
		    def sends():
		        for i in range(mb * 16):
		            b = os.urandom(65536)
		            want.update(b)
		            s.sendall(b)
		            time.sleep(0.005)  # or it is done before anybody looks
		        s.shutdown(socket.SHUT_WR)
		    t = threading.Thread(target=sends)
		    t.start()
		    n = 0
		    while b := s.recv(1 << 20):
		        got.update(b)
		        n += len(b)
		        if at:
		            with open(at, "w") as f:
		                f.write(str(n))
		    t.join()
		    assert n == mb << 20, n
		    assert want.digest() == got.digest()
		l = socket.create_server(("0.0.0.0", 7901))
		idle = socket.create_connection(("$KERNEL", 7900))
		carry(socket.create_connection(("$KERNEL", 7900)), 20, "moved")
		carry(idle, 1, None)
		carry(socket.create_connection(("$KERNEL", 7900)), 1, None)
		print("carried", flush=True)
		c = l.accept()[0]
		while b := c.recv(65536):
		    c.sendall(b)
	END
	ours /usr/bin/python3 carry.py >carry.out &
	SERVER=$!
	wait_until 200 "the first bytes" test -s moved
	echo "down"
	ip link set "$dev" down
	still cat moved || fail "it goes on: $(cat moved)"
	[ "$(cat moved)" -lt $((20 << 20)) ] || fail "it was done before: the test is too slow"
	spin_free
	echo "up, from $(cat moved) bytes on"
	ip link set "$dev" up
	wait_until 600 "the end" grep -q carried carry.out || fail "it does not go on: $(cat moved)"
	timeout 60 nc.openbsd -N "$STACK" 7901 <www/two >got || fail "as a server: status $?"
	cmp got www/two || fail "as a server: the bytes differ"
	wait "$SERVER" || fail "status $?"
	kill $ECHO
	keepers_gone
}

# Whoever has the library has hardly run for a second: a spin is all that a CPU gives.
spin_free() {
	local used
	for _ in 1 2 3; do
		used=$(ticks)
		sleep 1
		used=$(($(ticks) - used))
		echo "$used ticks"
		[ $used -gt 5 ] || return 0
	done
	fail "something spins"
}

# ticks: of all processes of this playground with the stack's region open.
ticks() {
	local p own
	own=$(readlink /proc/self/ns/net)
	for p in /proc/[0-9]*; do
		[ "$(readlink "$p/ns/net" 2>/dev/null)" = "$own" ] &&
			[ -n "$(find "$p/fd" -lname '/memfd:utcp*' 2>/dev/null)" ] && awk '{ print $14 + $15 }' "$p/stat"
	done | awk '{ n += $1 } END { print n + 0 }'
}

# Deleted: one line; who waits for an answer gets ETIMEDOUT, in time; who waits for nothing in particular goes on
# waiting and burns nothing; a new connection is not made; all ends in an orderly way.
c_device_deleted() {
	echo_write
	cat >deleted.py <<-END
		import errno, os, select, signal, socket, sys, threading, time
		def connection():
		    s = socket.create_connection(("$KERNEL", 7900))
		    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1500)
		    s.sendall(b"x")
		    assert s.recv(1) == b"x"
		    return s
		def outcome(what, call):
		    try:
		        r = call()
		    except OSError as e:
		        r = errno.errorcode.get(e.errno, str(e))
		    print(what, r, flush=True)
		asleep, busy, idle, polled = [connection() for i in range(4)]
		l = socket.create_server(("0.0.0.0", 7901))
		ep = select.epoll()
		ep.register(idle, select.EPOLLIN)
		ep.register(l, select.EPOLLIN)
		for call in (l.accept, lambda: ep.poll(), lambda: select.select([idle], [], [])):
		    threading.Thread(target=call, daemon=True).start()
		child = os.fork()  # another process of the stack, which has the device, too, and sleeps
		if not child:
		    idle.recv(1)
		    os._exit(0)
		print("ready", flush=True)
		sys.stdin.readline()
		asleep.sendall(bytes(1000))
		t = threading.Thread(target=outcome, args=("asleep:", lambda: asleep.recv(1000)))
		t.start()
		print("send:", busy.send(b"y"), flush=True)
		t.join()
		outcome("busy:", lambda: busy.recv(1))
		outcome("again:", lambda: busy.recv(1))
		idle.settimeout(0.1)
		outcome("much:", lambda: polled.sendall(bytes(1000000)))
		outcome("idle:", lambda: idle.recv(1))
		s = socket.socket()
		s.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1500)
		outcome("new:", lambda: s.connect(("$KERNEL", 7900)))
		sys.stdin.readline()
		os.kill(child, signal.SIGKILL)
		os.waitpid(child, 0)
	END
	mkfifo deleted.go || fail "no fifo"
	UTCP_LOG=$WORK/deleted.log ours /usr/bin/python3 deleted.py <deleted.go >deleted.out &
	SERVER=$!
	exec 5>deleted.go
	wait_until 200 "the connections" grep -q ready deleted.out || fail "no connections"
	sleep 0.3 # those who sleep do so, as a rule
	ip link del "$(device)"
	echo >&5
	wait_until 300 "the new connection's end" grep -q '^new:' deleted.out || fail "it hangs: $(cat deleted.out)"
	cat >deleted.want <<-END
		ready
		send: 1
		asleep: ETIMEDOUT
		busy: ETIMEDOUT
		again: b''
		much: ETIMEDOUT
		idle: timed out
		new: ETIMEDOUT
	END
	diff deleted.want deleted.out || fail "other answers"
	spin_free
	[ "$(cat deleted.log)" = "utcp: device $UTCP_DEV is gone; connections on it will time out" ] || fail "log: $(cat deleted.log)"
	exec 5>&-
	wait "$SERVER" || fail "status $?"
	kill $ECHO
	topology "$KIND" # those who come later have a device of that name again
	keepers_gone
}
