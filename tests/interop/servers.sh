# servers.sh - cases in which the program under libutcp serves, clients of the kernel connect. Sourced by run.sh.
# shellcheck shell=bash

# serve PORT COMMAND...: in the background under libutcp, until it listens. SERVER is its pid: utcp execs.
serve() {
	local port=$1
	shift
	"$UTCP" "$@" &
	SERVER=$!
	wait_port "$port" || fail "$1 does not listen on $port"
}

# server_end: end it and see that it did accept on the stack.
server_end() {
	kill -"${2:-TERM}" "$SERVER" 2>/dev/null
	wait "$SERVER" 2>/dev/null
	spy_stop || fail "kernel sockets"
	[ -z "$1" ] || [ "$(counter PassiveOpens)" -ge "$1" ] || fail "the stack accepted '$(counter PassiveOpens)' connections"
}

# nc_serves MODE NC-COMMAND...: a kernel client by peer.py against nc under libutcp on port 83.
nc_serves() {
	local mode=$1
	shift
	rm -f peer.got nc.got
	"$UTCP" "$@" <five >nc.got &
	SERVER=$!
	wait_port 83 || fail "nc does not listen"
	timeout 50 /usr/bin/python3 "$ROOT/tests/interop/peer.py" "$mode" CONNECT "$STACK" 83 "$WORK/www/two" "$WORK/peer.got" ||
		fail "the peer saw no orderly end"
	wait "$SERVER" || fail "nc: status $?"
	cmp nc.got www/two || fail "what nc received differs"
	same_or_prefix "$mode" || fail "what nc sent differs"
}

c_nc_openbsd_server() {
	spy_start ""
	echo "the server closes its half first"
	nc_serves sum nc.openbsd -N -l 0.0.0.0 83
	[ "$(counter PassiveOpens)" = 1 ] || fail "the stack accepted '$(counter PassiveOpens)' connections"
	echo "the client closes its half first"
	nc_serves push nc.openbsd -N -l 0.0.0.0 83
	spy_stop || fail "kernel sockets"
}

c_nc_traditional_server() {
	spy_start ""
	rm -f peer.got nc.got
	# It leaves 2 s after its input ends, and at once when the client closes its half.
	"$UTCP" nc.traditional -q 2 -l -p 83 <five >nc.got &
	SERVER=$!
	wait_port 83 || fail "nc does not listen"
	timeout 50 /usr/bin/python3 "$ROOT/tests/interop/peer.py" sum CONNECT "$STACK" 83 /dev/null "$WORK/peer.got" ||
		fail "the peer saw no orderly end"
	wait "$SERVER" || fail "nc: status $?"
	cmp peer.got five || fail "what nc sent differs"
	echo "the client closes its half first"
	silent_input
	"$UTCP" nc.traditional -l -p 83 <silence >nc.got &
	SERVER=$!
	wait_port 83 || fail "nc does not listen"
	timeout 50 /usr/bin/python3 "$ROOT/tests/interop/peer.py" push CONNECT "$STACK" 83 "$WORK/www/two" "$WORK/peer.got" ||
		fail "the peer saw no orderly end"
	wait "$SERVER" || fail "nc: status $?"
	cmp nc.got www/two || fail "what nc received differs"
	spy_stop || fail "kernel sockets"
}

c_python_http_server() {
	spy_start ""
	# Jobs of a script ignore SIGINT; python ends properly by it.
	serve 8000 env --default-signal=INT /usr/bin/python3 -m http.server 8000 --bind 0.0.0.0 --directory "$WORK/www"
	timeout 80 curl -sS -o got "http://$STACK:8000/big" || fail "curl: status $?"
	cmp got www/big || fail "the bytes differ"
	# The same listener serves the kernel's addresses.
	timeout 20 curl -sS -o got "http://127.0.0.1:8000/two" || fail "curl over loopback: status $?"
	cmp got www/two || fail "the bytes differ over loopback"
	server_end 1 INT
}

c_iperf3_server() {
	spy_start ""
	serve 5201 iperf3 -s
	local how
	for how in "" "-R" "-P 4"; do
		# shellcheck disable=SC2086
		timeout 20 iperf3 -c "$STACK" -t 2 -C cubic $how -J >iperf.json || fail "iperf3 $how: $(grep '"error"' iperf.json)"
		/usr/bin/python3 -c 'import json, sys
r = json.load(open("iperf.json"))["end"]["sum_received"]
print("iperf3 %s: %.0f Mbit/s" % (sys.argv[1], r["bits_per_second"] / 1e6))
sys.exit(r["bytes"] < 1000000)' "$how" || fail "iperf3 $how moved next to nothing"
	done
	server_end 9 INT
}

c_nginx_wrk() {
	nginx_config "$WORK/nginx/stack.conf" 8080
	chmod -R a+rwX "$WORK/www" "$WORK/nginx"
	spy_start ""
	serve 8080 nginx -p "$WORK" -e "$WORK/nginx/error.log" -c "$WORK/nginx/stack.conf"
	timeout 30 wrk -t2 -c50 -d4s --timeout 20s "http://$STACK:8080/small" >wrk.out || fail "wrk: status $?"
	cat wrk.out
	! grep -q -e 'Socket errors' -e 'Non-2xx' wrk.out || fail "wrk saw errors"
	awk '/requests in/ { exit !($1 > 100) }' wrk.out || fail "wrk made next to no requests"
	timeout 30 wrk -t2 -c50 -d3s --timeout 20s -H 'Connection: close' "http://$STACK:8080/small" >wrk.out || fail "wrk: status $?"
	cat wrk.out
	! grep -q -e 'Socket errors' -e 'Non-2xx' wrk.out || fail "wrk saw errors with Connection: close"
	timeout 60 curl -sS -o got "http://$STACK:8080/big" || fail "curl: status $?"
	cmp got www/big || fail "the bytes differ"
	server_end 100 QUIT
}

# redis-tools holds the server, too, under the name of redis-check-rdb.
redis_start() {
	ln -sf "$(command -v redis-check-rdb)" redis-server
	serve 6379 ./redis-server --port 6379 --bind 0.0.0.0 --protected-mode no --daemonize no --dir "$WORK" --logfile redis.log "$@"
}

load() { # redis-benchmark arguments
	timeout 90 redis-benchmark -h "$STACK" -p 6379 -q "$@" >bench.out 2>&1 || fail "redis-benchmark: status $? $(tail -n1 bench.out)"
	tr '\r' '\n' <bench.out | grep 'requests per second'
	! grep -qi error bench.out || fail "redis-benchmark saw errors: $(grep -i error bench.out | head -1)"
}

c_redis_benchmark() {
	spy_start ""
	redis_start --save ''
	load -n 20000 -c 50 -t ping,set,get,incr,lpush
	load -n 20000 -c 50 -P 16 -t set,get
	load -n 2000 -c 20 -d 20000 -t set,get
	server_end 50
}

c_redis_bgsave() {
	spy_start ""
	redis_start
	load -n 5000 -c 20 -d 1000 -r 5000 -t set
	timeout 60 redis-benchmark -h "$STACK" -p 6379 -q -n 20000 -c 20 -d 1000 -r 5000 -t set,get >under.out 2>&1 &
	local bench=$!
	for _ in 1 2 3; do
		timeout 20 redis-cli -h "$STACK" BGSAVE >>cli.out || fail "redis-cli: status $?"
		wait_until 100 "the end of BGSAVE" sh -c "redis-cli -h $STACK info persistence | grep -q rdb_bgsave_in_progress:0"
	done
	wait $bench || fail "redis-benchmark under BGSAVE: status $? $(tail -n1 under.out)"
	! grep -qi error under.out || fail "errors while saving: $(grep -i error under.out | head -1)"
	[ "$(grep -c 'DB saved on disk' redis.log)" -ge 1 ] || fail "redis saved nothing: $(tail -n3 redis.log)"
	server_end 20
}

# The rule "60 10000" fires 60 s after the start, in the middle of the load.
c_redis_default_save() {
	spy_start ""
	redis_start
	local end=$((SECONDS + 65))
	while [ $SECONDS -lt $end ]; do
		load -n 20000 -c 20 -d 200 -r 2000 -t set >/dev/null
		sleep 1
	done
	grep -q '10000 changes in 60 seconds. Saving' redis.log || fail "the rule did not fire: $(tail -n3 redis.log)"
	wait_until 100 "the end of the save" grep -q 'DB saved on disk' redis.log
	load -n 5000 -c 20 -t get
	server_end 20
}
