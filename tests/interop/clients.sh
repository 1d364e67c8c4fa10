# clients.sh - cases in which the program under libutcp is the client, the kernel serves. Sourced by run.sh.
# shellcheck shell=bash

# A web server of the kernel's on port 80; PUT writes files.
kernel_nginx() {
	nginx_config "$WORK/nginx/kernel.conf" 80 'dav_methods PUT; create_full_put_path on;'
	chmod -R a+rwX "$WORK/www" "$WORK/nginx"
	nginx -p "$WORK" -e "$WORK/nginx/error.log" -c "$WORK/nginx/kernel.conf" &
	wait_port 80 || fail "nginx did not start: $(tail -n1 "$WORK/nginx/error.log")"
}

# Ran on the stack: this many connections opened.
opened() {
	[ "$(counter ActiveOpens)" = "$1" ] || fail "the stack opened '$(counter ActiveOpens)' connections, not $1"
}

c_curl_download() {
	kernel_nginx
	spy_start curl
	ours curl -sS -o got "http://$KERNEL/big" || fail "curl: status $?"
	spy_stop || fail "kernel sockets"
	cmp got www/big || fail "the bytes differ"
	opened 1
}

c_curl_upload() {
	kernel_nginx
	spy_start curl
	ours curl -sS -T www/big "http://$KERNEL/up" -w '%{http_code}\n' -o /dev/null >code || fail "curl: status $?"
	spy_stop || fail "kernel sockets"
	grep -q '^201$' code || fail "nginx answered $(cat code)"
	cmp www/up www/big || fail "the bytes differ"
	opened 1
}

c_curl_connection_close() {
	kernel_nginx
	spy_start curl
	ours curl -sS -H 'Connection: close' -w '%{num_connects}\n' -o 'got.#1' "http://$KERNEL/two.[1-20]" >connects ||
		fail "curl: status $?"
	spy_stop || fail "kernel sockets"
	for i in {1..20}; do cmp "got.$i" www/two || fail "the bytes differ"; done
	opened 20
}

c_curl_keepalive_1000() {
	kernel_nginx
	spy_start curl
	ours curl -sS -w '%{http_code} %{num_connects}\n' -o /dev/null "http://$KERNEL/small?[1-1000]" >codes ||
		fail "curl: status $?"
	spy_stop || fail "kernel sockets"
	[ "$(grep -c '^200' codes)" = 1000 ] || fail "$(grep -c '^200' codes) of 1000 requests succeeded"
	opened 1
}

c_curl_parallel_50() {
	kernel_nginx
	mkdir got50
	spy_start curl
	ours curl -sS --no-progress-meter --parallel --parallel-immediate --parallel-max 50 -o 'got50/#1' "http://$KERNEL/two.[1-50]" ||
		fail "curl: status $?"
	spy_stop || fail "kernel sockets"
	for i in {1..50}; do cmp "got50/$i" www/two || fail "the bytes differ"; done
	opened 50
}

# busybox reads the answer through a stream.
c_busybox_wget() {
	kernel_nginx
	spy_start busybox
	ours busybox wget -q -O got "http://$KERNEL/big" || fail "wget: status $?"
	spy_stop || fail "kernel sockets"
	cmp got www/big || fail "the bytes differ"
	opened 1
}

# The shell's own commands: printf writes through stdout, which is the socket then.
c_bash_dev_tcp() {
	kernel_nginx
	spy_start bash
	# shellcheck disable=SC2016
	ours bash -c 'exec 3<>"/dev/tcp/$0/80" && printf "GET /small HTTP/1.0\r\n\r\n" >&3 &&
		while IFS= read -r -u 3 line; do echo "$line"; done; printf %s "$line"' "$KERNEL" >answer || fail "bash: status $?"
	spy_stop || fail "kernel sockets"
	grep -q '^HTTP/1.1 200' answer || fail "nginx answered $(head -n1 answer)"
	cmp <(sed '1,/^.$/d' answer) www/small || fail "the bytes differ"
	opened 1
}

# same_as_kernel SECONDS CURL-ARGUMENTS...: status and message over the stack and over the kernel, numbers of
# milliseconds apart.
same_as_kernel() {
	local a b limit=$1
	shift
	ip neigh flush dev utcp0 # a fresh process of ours knows no neighbours either
	timeout "$limit" curl -sS -o /dev/null "$@" 2>kernel.err
	a=$?
	LIMIT=$limit ours curl -sS -o /dev/null "$@" 2>stack.err
	b=$?
	sed -i 's/after [0-9]* m\{0,1\}s\(econds\)\{0,1\}/after N ms/; s/timed out after [0-9]*/timed out after N/' kernel.err stack.err
	echo "kernel: $a $(cat kernel.err)"
	echo "stack:  $b $(cat stack.err)"
	[ $a = $b ] && cmp kernel.err stack.err
}

c_curl_server_resets() {
	/usr/bin/python3 "$ROOT/tests/interop/peer.py" rude LISTEN "$KERNEL" 81 4 >rude.out &
	wait_port 81 || fail "no server"
	same_as_kernel 15 "http://$KERNEL:81/" || fail "curl ends otherwise than over the kernel"
	grep -q reset stack.err || fail "no reset seen"
	head -c 3M www/big >three
	same_as_kernel 15 -H Expect: -T three "http://$KERNEL:81/x" || fail "an upload ends otherwise than over the kernel"
}

c_curl_refused() {
	same_as_kernel 15 "http://$KERNEL:9/" || fail "curl ends otherwise than over the kernel"
	[ "$(counter AttemptFails)" = 1 ] || fail "the stack counted no failed attempt"
}

c_curl_unreachable() {
	same_as_kernel 15 --connect-timeout 2 "http://$NOBODY/" || fail "a time-out ends otherwise than over the kernel"
	same_as_kernel 20 --connect-timeout 15 "http://$NOBODY/" || fail "no neighbour ends otherwise than over the kernel"
}

# nc_exchange MODE NC-COMMAND...: peer.py serves on port 82, nc sends five; both directions must arrive whole.
nc_exchange() {
	local mode=$1
	shift
	rm -f peer.got nc.got
	/usr/bin/python3 "$ROOT/tests/interop/peer.py" "$mode" LISTEN "$KERNEL" 82 "$WORK/www/two" "$WORK/peer.got" >peer.out &
	local peer=$!
	wait_port 82 || fail "no server"
	ours "$@" "$KERNEL" 82 <five >nc.got || fail "$1: status $?"
	wait $peer || fail "the peer saw no orderly end"
	cmp nc.got www/two || fail "what nc received differs"
	same_or_prefix "$mode" || fail "what nc sent differs"
}

# When the peer closes its half first, nc leaves as soon as it has all of it, over the kernel as well: what it had
# sent by then must have arrived, in order.
same_or_prefix() {
	if [ "$1" = sum ]; then
		cmp peer.got five
	else
		cmp -n "$(stat -c %s peer.got)" peer.got five
	fi
}

# An input named "silence" that gives nothing and does not end.
silent_input() {
	rm -f silence
	mkfifo silence
	sleep 100 >silence &
}

c_nc_openbsd_client() {
	spy_start nc
	echo "the client closes its half first"
	nc_exchange sum nc.openbsd -N
	opened 1
	echo "the server closes its half first"
	nc_exchange push nc.openbsd -N
	spy_stop || fail "kernel sockets"
}

c_nc_traditional_client() {
	# This nc never half-closes: it leaves 2 s after the end of its input.
	spy_start nc
	rm -f peer.got nc.got
	/usr/bin/python3 "$ROOT/tests/interop/peer.py" sum LISTEN "$KERNEL" 82 /dev/null "$WORK/peer.got" >peer.out &
	local peer=$!
	wait_port 82 || fail "no server"
	ours nc.traditional -q 2 "$KERNEL" 82 <five >nc.got || fail "nc: status $?"
	wait $peer || fail "the peer saw no orderly end"
	cmp peer.got five || fail "what nc sent differs"
	opened 1
	echo "the server closes its half first"
	rm -f peer.got
	/usr/bin/python3 "$ROOT/tests/interop/peer.py" push LISTEN "$KERNEL" 82 "$WORK/www/two" "$WORK/peer.got" >peer.out &
	peer=$!
	wait_port 82 || fail "no server"
	silent_input
	ours nc.traditional "$KERNEL" 82 <silence >nc.got || fail "nc: status $?"
	wait $peer || fail "the peer saw no orderly end"
	cmp nc.got www/two || fail "what nc received differs"
	spy_stop || fail "kernel sockets"
}

c_two_in_a_row() {
	kernel_nginx
	for _ in {1..5}; do
		ours curl -sS -o got "http://$KERNEL/small" || fail "curl: status $?"
		cmp got www/small || fail "the bytes differ"
	done
}

# The interface carries less than when the stack began: what is under way and what follows goes in smaller segments.
c_mtu_shrinks() {
	/usr/bin/python3 -c '
import socket
s = socket.create_server(("10.77.0.1", 7000))
for i in range(2):
    c, _ = s.accept()
    n = 0
    while True:
        d = c.recv(1 << 20)
        if not d:
            break
        n += len(d)
    c.sendall(str(n).encode())
    c.close()' &
	wait_port 7000
	cat >mtu.py <<-'EOF'
		import socket, subprocess
		def mss(s):
		    return s.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG)
		def rest(s):
		    s.shutdown(socket.SHUT_WR)
		    return s.makefile().read()
		s = socket.create_connection(("10.77.0.1", 7000))
		s.sendall(b"x" * 3000000)
		assert mss(s) == 1448, mss(s)
		for end in "wire0", "utcp0":
		    subprocess.run(["ip", "link", "set", end, "mtu", "1300"], check=True, env={"PATH": "/usr/sbin:/sbin"})
		s.sendall(b"x" * 3000000)
		assert rest(s) == "6000000"
		s = socket.create_connection(("10.77.0.1", 7000))
		assert mss(s) == 1248, mss(s)
		assert rest(s) == "0"
	EOF
	ours /usr/bin/python3 mtu.py || fail "a smaller MTU: status $?"
	ip link set wire0 mtu 1500
	ip link set utcp0 mtu 1500
}
