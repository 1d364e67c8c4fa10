# processes.sh - cases in which several processes share one stack. Sourced by run.sh.
# shellcheck shell=bash

# keepers_gone: nobody holds the stack but its keeper, which serves what is left and makes room for a newcomer
# with other settings.
newcomer() {
	# by the peer: it had a stack
	UTCP_CC=reno timeout 10 "$UTCP" nc.openbsd -v "$KERNEL" 9 2>&1 </dev/null | grep -q 'Connection refused'
}
keepers_gone() {
	wait_until 20 "the stack to be free" newcomer || fail "a process stays"
}

nginx_workers_config() { # FILE PORT WORKERS
	nginx_config "$1" "$2" 'location /pid { return 200 "$pid"; }'
	sed -i -e "s/^master_process off;/master_process on; worker_processes $3;/" "$1"
}

c_nginx_workers() {
	nginx_workers_config "$WORK/workers.conf" 80 2
	spy_start nginx
	serve 80 nginx -c "$WORK/workers.conf"
	curl_is_served() { timeout 20 curl -sS -o got "http://$STACK/$1" && cmp got "www/$1"; }
	curl_is_served big || fail "curl: status $?"
	timeout 60 wrk -t2 -c20 -d3 "http://$STACK/small" >wrk.txt || fail "wrk: status $?"
	grep -q 'Non-2xx\|Socket errors' wrk.txt && fail "$(grep 'Non-2xx\|Socket errors' wrk.txt)"
	awk '/requests in/ { exit !($1 > 100) }' wrk.txt || fail "$(cat wrk.txt)"
	echo "a worker is killed: the master makes another, the listener stays"
	local before
	before=$(curl -sS "http://$STACK/pid")
	kill -9 "$before" || fail "no worker '$before'"
	sleep 0.3
	for _ in {1..20}; do
		curl_is_served two || fail "after the kill: status $?"
		[ "$(curl -sS "http://$STACK/pid")" != "$before" ] || fail "a dead worker answers"
	done
	echo "reload: new workers, the same listener"
	kill -HUP "$SERVER"
	sleep 0.5
	curl_is_served big || fail "after the reload: status $?"
	server_end 5 QUIT
	keepers_gone
}

# peer_exchange PORT: the kernel's client sends two, gets it back.
peer_exchange() {
	timeout 60 nc.openbsd -N "$STACK" "$1" <www/two >"echo.$2" && cmp "echo.$2" www/two
}

exchanges() { # PORT COUNT
	local i pids=() bad=0
	for ((i = 0; i < $2; i++)); do
		peer_exchange "$1" $i &
		pids+=($!)
	done
	for i in "${pids[@]}"; do wait "$i" || bad=$((bad + 1)); done
	[ $bad = 0 ] || fail "$bad of $2 exchanges went wrong"
}

c_socat_fork() {
	spy_start socat
	serve 7001 socat TCP-LISTEN:7001,fork,reuseaddr PIPE
	exchanges 7001 10
	server_end ""
	keepers_gone
}

c_python_forking() {
	cat >fork.py <<-'END'
		import socketserver, sys
		class H(socketserver.StreamRequestHandler):
		    def handle(self):
		        while True:
		            b = self.request.recv(65536)
		            if not b:
		                return
		            self.request.sendall(b)
		class S(socketserver.ForkingMixIn, socketserver.TCPServer):
		    allow_reuse_address = True
		    request_queue_size = 64
		S(("0.0.0.0", 7002), H).serve_forever()
	END
	spy_start python3
	serve 7002 /usr/bin/python3 fork.py
	exchanges 7002 10
	echo "clients of the kernel half"
	STACK=127.0.0.1 exchanges 7002 3
	server_end ""
	keepers_gone
}

# What the peer sees when processes end: nothing while one lives, then FIN, and every byte.
c_fork_ends() {
	cat >ends.py <<-'END'
		import os, signal, socket, sys, time
		l = socket.socket()
		l.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
		l.bind(("0.0.0.0", 7003))
		l.listen(5)
		signal.alarm(30)
		data = open("www/two", "rb").read()
		for how in sys.argv[1:]:
		    c = l.accept()[0]
		    if os.fork() == 0:
		        l.close()
		        time.sleep(0.2)
		        c.sendall(data)
		        if how == "kill":
		            os.kill(os.getpid(), signal.SIGKILL)
		        os._exit(0)
		    c.close()
		    os.wait()
		l.close()
	END
	"$UTCP" /usr/bin/python3 ends.py kill exit kill &
	SERVER=$!
	wait_port 7003 || fail "it does not listen"
	local i
	for i in 1 2 3; do
		timeout 20 nc.openbsd -d "$STACK" 7003 >got || fail "exchange $i: status $?"
		cmp got www/two || fail "exchange $i: the bytes differ"
	done
	wait "$SERVER" || fail "status $?"
	keepers_gone
}

# Connections on descriptors 0 and 1 of a program that was exec'd.
c_exec_inherits() {
	spy_start ""
	echo "nc -e"
	"$UTCP" nc.traditional -l -p 7004 -e /bin/cat &
	SERVER=$!
	wait_port 7004 || fail "nc does not listen"
	peer_exchange 7004 e || fail "the bytes differ"
	wait "$SERVER" || fail "nc: status $?"
	keepers_gone
	echo "socat EXEC, one process after another on the same descriptor"
	serve 7005 socat TCP-LISTEN:7005,fork,reuseaddr EXEC:cat,nofork
	exchanges 7005 5
	server_end ""
	keepers_gone
	echo "a client that becomes another program"
	serve_kernel 7006
	"$UTCP" bash -c "exec 3<>/dev/tcp/$KERNEL/7006; exec cat <&3" >got || fail "status $?"
	cmp got www/two || fail "the bytes differ"
	wait "$KERNEL_SERVER"
	keepers_gone
	echo "a shell's child reads and writes, the shell's descriptor stays"
	serve_kernel 7006
	"$UTCP" bash -c "exec 3<>/dev/tcp/$KERNEL/7006; head -c 1000000 <&3 >first; cat <&3 >second" || fail "status $?"
	cat first second | cmp - www/two || fail "the bytes differ"
	keepers_gone
}

# serve_kernel PORT: the kernel's server sends two to one client.
serve_kernel() {
	nc.openbsd -N -l "$KERNEL" "$1" <www/two >/dev/null &
	KERNEL_SERVER=$!
	wait_port "$1"
}

# Commands that know nothing of each other share the stack, its address and its ports.
c_one_stack() {
	local i pids=() bad=0
	spy_start ""
	serve 8001 /usr/bin/python3 -m http.server 8001 --bind 0.0.0.0 --directory "$WORK/www"
	serve_kernel 7007
	echo "a client beside the server"
	ours nc.openbsd -d "$KERNEL" 7007 >got || fail "nc: status $?"
	cmp got www/two || fail "the bytes differ"
	timeout 20 curl -sS -o got "http://$STACK:8001/two" || fail "curl: status $?"
	cmp got www/two || fail "the bytes differ"
	echo "a second server on the port: $("$UTCP" /usr/bin/python3 -m http.server 8001 --bind 0.0.0.0 2>&1 | tail -1)"
	echo "other settings while it runs"
	UTCP_MTU=1400 "$UTCP" curl -sS "http://$KERNEL:9/" 2>err && fail "the settings were ignored"
	grep -q 'other settings' err || fail "no word about the settings: $(cat err)"
	echo "ten at once"
	/usr/bin/python3 -m http.server 8002 --bind "$KERNEL" --directory "$WORK/www" >/dev/null 2>&1 &
	wait_port 8002
	for i in {1..10}; do
		"$UTCP" curl -sS -o "got.$i" "http://$KERNEL:8002/two" &
		pids+=($!)
	done
	for i in "${pids[@]}"; do wait "$i" || bad=$((bad + 1)); done
	[ $bad = 0 ] || fail "$bad of 10 failed"
	for i in {1..10}; do cmp "got.$i" www/two || fail "the bytes differ"; done
	server_end ""
	keepers_gone
}

# A process that is killed, and one that ends with data on its way.
c_sudden_ends() {
	spy_start ""
	echo "killed: the peer sees the end"
	timeout 20 nc.openbsd -l "$KERNEL" 7008 >got </dev/null &
	PEER=$!
	wait_port 7008
	"$UTCP" /usr/bin/python3 -c "
import os, signal, socket
s = socket.create_connection(('$KERNEL', 7008))
s.sendall(open('www/two', 'rb').read())
os.kill(os.getpid(), signal.SIGKILL)" 2>/dev/null
	wait "$PEER" || fail "the peer waits"
	cmp got www/two || fail "bytes are lost"
	spy_stop || fail "kernel sockets"
	keepers_gone
}

# subprocess gives a child of vfork() the connection as its standard input and output.
c_vfork_inherits() {
	cat >vfork.py <<-'END'
		import socket, subprocess, sys
		l = socket.socket()
		l.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
		l.bind(("0.0.0.0", 7009))
		l.listen(5)
		children = []
		for i in range(3):
		    c = l.accept()[0]
		    children.append(subprocess.Popen(["/bin/cat"], stdin=c, stdout=c))
		    c.close()
		sys.exit(sum(p.wait() for p in children))
	END
	spy_start ""
	export UTCP_EXIT_DRAIN=600000 # nobody may wait for an acknowledgement that another has taken
	serve 7009 /usr/bin/python3 vfork.py
	exchanges 7009 3
	wait "$SERVER" || fail "status $?"
	spy_stop || fail "kernel sockets"
	keepers_gone
}
