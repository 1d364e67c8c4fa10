# passing.sh - cases in which descriptors go from one program to another. Sourced by run.sh.
# shellcheck shell=bash

# posix_spawn, system and subprocess: the child has the connection, the parent closes its own at once.
c_spawn_inherits() {
	cat >spawn.py <<-'END'
		import os, socket, subprocess, sys
		l = socket.socket()
		l.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
		l.bind(("0.0.0.0", 7020))
		l.listen(5)
		def take():
		    c = l.accept()[0]
		    os.set_inheritable(c.fileno(), True)
		    return c
		children = []
		for env in {}, os.environ:
		    c = take()
		    children.append(os.posix_spawn("/bin/cat", ["cat"], env,
		        file_actions=[(os.POSIX_SPAWN_DUP2, c.fileno(), 0), (os.POSIX_SPAWN_DUP2, c.fileno(), 1),
		                      (os.POSIX_SPAWN_CLOSE, c.fileno())]))
		    c.close()
		c = take()
		bad = os.system(f"cat <&{c.fileno()} >&{c.fileno()}")
		c.close()
		c = take()
		p = subprocess.Popen(["/bin/bash", "-c", f"cat <&{c.fileno()} >&{c.fileno()}"], pass_fds=[c.fileno()], env={})
		c.close()
		bad |= p.wait()
		for p in children:
		    bad |= os.waitpid(p, 0)[1]
		sys.exit(bad)
	END
	spy_start ""
	serve 7020 /usr/bin/python3 spawn.py
	exchanges 7020 4
	wait "$SERVER" || fail "status $?"
	spy_stop || fail "kernel sockets"
	keepers_gone
}

ended() { ! kill -0 "$1"; }

# A new binary takes the listeners of the old one over, while clients come all the time.
c_nginx_upgrade() {
	nginx_workers_config "$WORK/upgrade.conf" 80 2
	sed -i 's/^daemon off;//' "$WORK/upgrade.conf"
	spy_start nginx
	ours /usr/sbin/nginx -c "$WORK/upgrade.conf" || fail "nginx: status $?"
	wait_until 50 "the master's number" test -s "$WORK/nginx/80.pid" || fail "no master"
	wait_until 50 "the first answer" curl -sS -o got "http://$STACK/small" || fail "it does not answer"
	local old new
	old=$(cat "$WORK/nginx/80.pid")
	(
		while [ ! -e stop ]; do
			timeout 10 curl -sS -o got "http://$STACK/two" && cmp -s got www/two || echo "status $?" >>refused
		done
	) &
	CLIENT=$!
	for _ in 1 2; do
		kill -USR2 "$old"
		wait_until 50 "the new master" test -s "$WORK/nginx/80.pid.oldbin" || fail "no upgrade: $(cat "$WORK/nginx/error.log")"
		wait_until 50 "the new master's number" test -s "$WORK/nginx/80.pid" || fail "no new master"
		new=$(cat "$WORK/nginx/80.pid")
		[ "$new" != "$old" ] || fail "the same master: $(cat "$WORK/nginx/error.log")"
		kill -WINCH "$old"
		sleep 0.5
		kill -QUIT "$old"
		wait_until 100 "the old master's end" ended "$old" || fail "the old master stays"
		old=$new
	done
	touch stop
	wait "$CLIENT"
	[ ! -e refused ] || fail "requests failed during the upgrade: $(sort refused | uniq -c)"
	kill -QUIT "$old"
	wait_until 100 "nginx's end" ended "$old" || fail "nginx stays"
	spy_stop || fail "kernel sockets"
	keepers_gone
}

# inetd's way: the listener is made by one program and used by another, which gets an environment from scratch.
c_socket_activation() {
	spy_start ""
	cat >activated.py <<-'END'
		import os, socket, sys
		assert os.environ["LISTEN_FDS"] == "1"
		l = socket.socket(fileno=3)
		for i in range(3):
		    c = l.accept()[0]
		    while b := c.recv(65536):
		        c.sendall(b)
		    c.close()
	END
	cat >activates.py <<-'END'
		import os, select, socket
		l = socket.create_server(("0.0.0.0", 7021))
		select.select([l], [], [])
		if l.fileno() != 3:
		    os.dup2(l.fileno(), 3)
		os.set_inheritable(3, True)
		os.execve("/usr/bin/python3", ["python3", "activated.py"], {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid())})
	END
	serve 7021 /usr/bin/python3 activates.py
	exchanges 7021 3
	wait "$SERVER" || fail "status $?"
	echo "a process for each connection"
	serve 7022 socat TCP-LISTEN:7022,fork,reuseaddr EXEC:cat
	exchanges 7022 5
	server_end ""
	spy_stop || fail "kernel sockets"
	keepers_gone
}

# One program binds, others listen, as uvicorn's workers do: at exec() the socket is nothing of the stack's yet.
c_bound_inherits() {
	cat >worker.py <<-'END'
		import os, socket, sys
		l = socket.socket(fileno=int(sys.argv[1]))
		l.listen(5)
		os.write(int(sys.argv[2]), b".")
		os.read(int(sys.argv[3]), 1)
		c = l.accept()[0]
		while b := c.recv(65536):
		    c.sendall(b)
	END
	cat >binds.py <<-'END'
		import os, socket, subprocess, sys
		l = socket.socket()
		l.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
		l.bind(("0.0.0.0", 7024))
		ready, go = os.pipe(), os.pipe()
		passed = [l.fileno(), ready[1], go[0]]
		for fd in passed:
		    os.set_inheritable(fd, True)
		args = ["python3", "worker.py"] + [str(fd) for fd in passed]
		children = [subprocess.Popen(args, executable="/usr/bin/python3", pass_fds=passed).pid]
		os.read(ready[0], 1)
		children.append(os.posix_spawn("/usr/bin/python3", args, os.environ))
		children.append(os.fork())
		if not children[-1]:
		    os.execv("/usr/bin/python3", args)
		l.close()
		for i in range(2):
		    os.read(ready[0], 1)
		os.write(go[1], b"...")
		sys.exit(any([os.waitpid(p, 0)[1] for p in children]))
	END
	spy_start ""
	serve 7024 /usr/bin/python3 binds.py
	exchanges 7024 3
	wait "$SERVER" || fail "status $?"
	spy_stop || fail "kernel sockets"
	keepers_gone
}

# A server that accepts, and workers that it never forked, who get the connections in messages.
c_python_send_fds() {
	cat >worker.py <<-'END'
		import socket, sys
		s = socket.socket(fileno=int(sys.argv[1]))
		while True:
		    what, fds, _, _ = socket.recv_fds(s, 10, 4)
		    if not what:
		        break
		    for fd in fds:
		        c = socket.socket(fileno=fd)
		        while b := c.recv(65536):
		            c.sendall(b)
		        c.close()
	END
	cat >acceptor.py <<-'END'
		import socket, subprocess, sys
		workers = []
		for i in range(2):
		    a, b = socket.socketpair()
		    workers.append((a, subprocess.Popen([sys.executable, "worker.py", str(b.fileno())], pass_fds=[b.fileno()])))
		    b.close()
		l = socket.create_server(("0.0.0.0", 7030))
		for i in range(6):
		    c = l.accept()[0]
		    socket.send_fds(workers[i % 2][0], [b"take"], [c.fileno()])
		    c.close()
		for a, p in workers:
		    a.close()
		sys.exit(sum(p.wait() for _, p in workers))
	END
	spy_start ""
	serve 7030 /usr/bin/python3 acceptor.py
	exchanges 7030 6
	wait "$SERVER" || fail "status $?"
	spy_stop || fail "kernel sockets"
	keepers_gone
}

# multiprocessing: workers from spawn get a listener as an argument, and connections through a queue.
c_python_multiprocessing() {
	cat >mp.py <<-'END'
		import multiprocessing as mp, socket
		def echo(c):
		    with c:
		        while b := c.recv(65536):
		            c.sendall(b)
		def accepts(l, n):
		    for i in range(n):
		        echo(l.accept()[0])
		def serves(q):
		    while (c := q.get()) is not None:
		        echo(c)
		if __name__ == "__main__":
		    mp.set_start_method("spawn")
		    l = socket.create_server(("0.0.0.0", 7031))
		    l2 = socket.create_server(("0.0.0.0", 7032))
		    q = mp.Queue()
		    p = [mp.Process(target=accepts, args=(l, 3)), mp.Process(target=serves, args=(q,))]
		    for x in p:
		        x.start()
		    for i in range(3):
		        q.put(l2.accept()[0])
		    q.put(None)
		    for x in p:
		        x.join()
		    raise SystemExit(sum(x.exitcode != 0 for x in p))
	END
	spy_start ""
	serve 7031 /usr/bin/python3 mp.py
	exchanges 7031 3
	wait_port 7032
	exchanges 7032 3
	wait "$SERVER" || fail "status $?"
	spy_stop || fail "kernel sockets"
	keepers_gone
}

# A worker without the library, made with an environment from scratch: it gets one end of a pump.
c_python_stranger() {
	cat >stranger.py <<-'END'
		import socket, sys
		s = socket.socket(fileno=int(sys.argv[1]))
		while True:
		    what, fds, _, _ = socket.recv_fds(s, 10, 4)
		    if not what:
		        break
		    assert open("/proc/self/maps").read().find("libutcp") < 0
		    c = socket.socket(fileno=fds[0])
		    if what == b"hello":
		        c.sendall(b"hello")
		    while b := c.recv(65536):
		        c.sendall(b)
		    c.close()
	END
	cat >acceptor.py <<-'END'
		import socket, subprocess, sys
		a, b = socket.socketpair()
		p = subprocess.Popen([sys.executable, "stranger.py", str(b.fileno())], pass_fds=[b.fileno()], env={})
		b.close()
		l = socket.create_server(("0.0.0.0", 7033))
		for what in b"take", b"take", b"hello":
		    c = l.accept()[0]
		    socket.send_fds(a, [what], [c.fileno()])
		    c.close()
		a.close()
		sys.exit(p.wait())
	END
	spy_start ""
	serve 7033 /usr/bin/python3 acceptor.py
	exchanges 7033 2
	timeout 60 nc.openbsd -N "$STACK" 7033 <www/two >hello || fail "nc: status $?"
	printf hello | cat - www/two | cmp - hello || fail "the bytes differ"
	wait "$SERVER" || fail "status $?"
	spy_stop || fail "kernel sockets"
	keepers_gone
}
