#!/bin/bash
# many.sh - MANY connections at once (default 1000; `make scale`: 10,000) to nginx under libutcp, from wrk on the kernel's
# TCP: no error, and when they are gone the descriptors and the region's pages are what they were before.
set -u
# shellcheck source=tests/interop/lib.sh
. "$(dirname "$(readlink -f "$0")")/lib.sh"
playground_enter "$@"
MANY=${MANY:-1000} SECONDS_EACH=${SECONDS_EACH:-4}
cd "$WORK" || exit 1
topology_tap
fail() {
	printf '  FAIL  many/%s\n          %s\n' "$case" "$1"
	[ ! -s nginx/error.log ] || tail -n 3 nginx/error.log | sed 's/^/          /'
	[ -z "${SERVER:-}" ] || { kill -QUIT "$SERVER" && wait "$SERVER"; }
	[ ! -s stats ] || awk '$2 != 0' stats | sed 's/^/          /'
	echo "          frames that the kernel dropped before us: $(ip -s link show utcp0 | awk "/TX:/ { getline; print \$4 }")"
	[ ! -s utcp.log ] || tail -n 3 utcp.log | sed 's/^/          /'
	exit 1
}
case=start
ulimit -n $((MANY * 5 / 4 + 1000)) 2>/dev/null || ulimit -n "$(ulimit -Hn)"
[ "$(ulimit -n)" -gt $((MANY + 200)) ] || fail "ulimit -n is $(ulimit -n); raise it above $((MANY + 200))"
# All of them at once: room for what they send, a reset that is lost is not sent again; and a port for each.
ip link set utcp0 txqueuelen $((MANY * 10))
echo "$((65000 - MANY - 20000)) 65000" >/proc/sys/net/ipv4/ip_local_port_range
echo $((MANY + 1000)) >/proc/sys/net/core/somaxconn
# nginx closes idle connections once 15 of 16 are in use.
nginx_config nginx.conf 8080
sed -i -e "s/worker_connections 1024/worker_connections $((MANY * 5 / 4))/; s/backlog=1024/backlog=$MANY/" nginx.conf
sed -i -e 's/keepalive_requests.*/keepalive_requests 1000000; keepalive_timeout 600s;/' nginx.conf
head -c 1000 /dev/urandom >www/small
chmod -R a+rX www
export UTCP_REQUIRE=1 UTCP_STATS=$WORK/stats UTCP_LOG=$WORK/utcp.log
"$UTCP" nginx -p "$WORK" -e "$WORK/nginx/error.log" -c "$WORK/nginx.conf" &
SERVER=$!
wait_port 8080 || fail "nginx does not listen"

# The server's number in /proc, which may be the machine's.
server_pid() {
	local net pid
	net=$(readlink /proc/self/ns/net)
	grep -lx nginx /proc/[0-9]*/comm 2>/dev/null | while read -r pid; do
		pid=${pid%/comm}
		[ "$(readlink "$pid/ns/net" 2>/dev/null)" != "$net" ] || echo "${pid#/proc/}"
	done
}
PID=$(server_pid)
[ "$(wc -w <<<"$PID")" = 1 ] || fail "server processes: '$PID'"

descriptors() {
	find "/proc/$PID/fd" -mindepth 1 | wc -l
}
region_kb() { # pages of the region that exist, whoever touched them
	local fd
	fd=$(find "/proc/$PID/fd" -lname '*memfd:*' | head -n 1)
	stat -Lc %b "$fd" | awk '{ print $1 / 2 }'
}
own_kb() {
	awk '/^RssAnon/ { print $2 }' "/proc/$PID/status"
}
in_use() { # the kernel's TCP sockets in this namespace
	awk '/^TCP:/ { print $3 }' /proc/net/sockstat
}
crowd() { # NAME WRK-OPTION...
	case=$1
	shift
	local seen=0 now wrk others
	others=$(in_use)
	timeout $((SECONDS_EACH + 100)) wrk -t2 -c"$MANY" -d"${SECONDS_EACH}s" --timeout 60s "$@" "http://$STACK:8080/small" >wrk.out &
	wrk=$!
	while kill -0 $wrk 2>/dev/null; do
		now=$(($(in_use) - others))
		[ "$now" -le "$seen" ] || seen=$now
		sleep 0.2
	done
	wait $wrk || fail "wrk: status $?"
	! grep -q -e 'Socket errors' -e 'Non-2xx' wrk.out || fail "$(grep -e 'Socket errors' -e 'Non-2xx' wrk.out)"
	awk -v n="$MANY" '/requests in/ { exit !($1 >= n) }' wrk.out || fail "too few: $(grep 'requests in' wrk.out)"
	echo "$case: $seen at once, $(awk '/Requests\/sec/ { print $2 }' wrk.out) requests a second"
	SEEN=$seen REQUESTS=$(awk '/requests in/ { print $1 }' wrk.out)
}

# settled DESCRIPTORS KB: it has no more of either.
settled() {
	[ "$(descriptors)" -le $(($1 + 2)) ] && [ "$(region_kb)" -le "$2" ]
}

# What a crowd leaves: two descriptors for the next connections at most, the stack's reserve of free memory (2 MB) and, for a minute, TIME-WAITs.
gone() { # TIME-WAITS
	local most=$((region + 2048 + $1 / 4))
	wait_until 150 "the connections' end" settled "$before" "$most" ||
		fail "before: $before descriptors, region $region KB; now: $(descriptors), $(region_kb) KB (at most $most)"
	echo "  then: $(descriptors) descriptors, region $(region_kb) KB, own $(own_kb) KB"
}

# A few requests, so that what is made once is made.
curl -s -o got "http://$STACK:8080/small" -o got "http://$STACK:8080/small" -o got "http://$STACK:8080/small" ||
	fail "curl: status $?"
cmp got www/small || fail "the bytes differ"
sleep 0.5
before=$(descriptors) region=$(region_kb)
echo "before: $before descriptors, region $region KB, own $(own_kb) KB"
crowd keep-alive
[ "$SEEN" -ge "$MANY" ] || fail "only $SEEN connections at once"
gone 0
own=$(own_kb)
crowd once-more
[ "$SEEN" -ge "$MANY" ] || fail "only $SEEN connections at once"
gone 0
crowd close -H 'Connection: close'
gone "$REQUESTS"
[ "$(own_kb)" -le $((own + own / 4 + 1024)) ] || fail "nginx's own memory grows with each crowd: $own KB, then $(own_kb) KB"
kill -QUIT "$SERVER"
wait "$SERVER" || fail "nginx: status $?"
SERVER=
[ "$(awk '$1 == "PassiveOpens" { print $2 }' stats)" -ge $((3 * MANY)) ] || fail "not all of them came over the stack"
awk '/^(PassiveOpens|RetransSegs|ListenOverflows|ListenDrops|TCPMemDrops|RegionBytes) / { print "  " $1, $2 }' stats
printf '  ok    many/%s\n' "$MANY"
