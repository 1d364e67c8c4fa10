#!/bin/sh
# Runs each program three times, over the kernel's TCP, over the stack, and over the stack's own loopback (with
# both ends in one process, or in two of one stack), and compares what it printed.
# usage: run.sh BUILD-DIRECTORY [PROGRAM[:VARIABLE=VALUE...]...]; LEGS="stack loopback" chooses what is compared,
# SECONDS_EACH is the time limit of a program.
# Needs root: it works in a network namespace of its own.
set -u
if [ "${RUN_INSIDE:-}" != $$ ]; then
	# No name on the machine: the namespace goes with its last process (and needs no mount, as `ip netns` does).
	exec unshare -n sh -c 'RUN_INSIDE=$$ exec sh "$@"' - "$0" "$@"
fi
build=$1
shift
here=$(cd "$(dirname "$0")" && pwd)
tmp=$(mktemp -d)
pids=
started() { # the program that was put into the background
	pids="$pids $!"
	echo "$!" >>"$tmp/pids"
}
cleanup() {
	while read -r p; do kill "$p" 2>/dev/null; done <"$tmp/pids"
	rm -rf "$tmp"
}
# Somebody looks after it who is not killed with this.
(
	trap '' INT TERM HUP
	tail --pid=$$ -f /dev/null
	[ ! -d "$tmp" ] || cleanup
) </dev/null >/dev/null 2>&1 &
touch "$tmp/pids"
trap cleanup EXIT
trap 'exit 1' INT TERM

lib=$(cd "$build" && pwd)/libutcp.so
# Without IPv6 the kernel has nothing to say of its own accord: a frame that no test asked for wakes who was forgotten.
ip link set lo up && ip tuntap add utcp0 mode tap vnet_hdr && echo 1 >/proc/sys/net/ipv6/conf/utcp0/disable_ipv6 &&
	ip addr add 10.77.0.1/24 dev utcp0 &&
	ip link set utcp0 up || exit 1

# A cancelled thread abandons frames, and the marks of the address sanitizer around their variables stay: over the
# kernel's TCP, too. What is tested is the library.
case ${SAN:-} in *address*) SAN="$SAN --param asan-stack=0" ;; esac
compile() {
	${CC:-gcc} ${SAN:-} -std=gnu11 -D_GNU_SOURCE -O1 -g -Wall -Wextra -Wno-unused-function -pthread -o "$tmp/$1" "$here/$1.c"
}
compile both_peer || exit 1
"$tmp/both_peer" 127.0.0.1 127.0.0.1 "$tmp/k.ctl" >"$tmp/peer.log" 2>&1 &
started
"$tmp/both_peer" 10.77.0.1 10.77.0.2 "$tmp/s.ctl" >"$tmp/peer.log" 2>&1 &
started
compile peer || exit 1
${CC:-gcc} -static -O1 -o "$tmp/still" "$here/still.c" && export TEST_STILL="$tmp/still" || exit 1
legs=${LEGS:-stack loopback}
for p in both_peer peer; do # the peers as threads of the program (inside.h)
	${CC:-gcc} ${SAN:-} -std=gnu11 -D_GNU_SOURCE -DINSIDE -O1 -g -Wall -Wextra -Wno-unused-function -pthread -fPIC -shared \
		-o "$tmp/$p.so" "$here/$p.c" || exit 1
done
# Not inside: who forks or execs takes its peer along; who walks over all numbers, or shows them, meets its peer's;
# ep_halves wants to be called from two worlds.
inside() {
	case $1 in
	address_space | both_life | sig_thread | trap_lowest | trap_numbers | full | trap_children | ep_fork | ep_nested | ep_halves | fork_share | stdio_* | trap_reuse) return 1 ;;
	spawn | clones | ep_exec | exit_* | pass_* | share_*) return 1 ;; # programs that have no peer inside get descriptors, or are run
	both_*) echo "$tmp/both_peer.so" ;;
	*) grep -q both.h "$here/$1.c" && echo "$tmp/both_peer.so" || echo "$tmp/peer.so" ;;
	esac
}
# Over loopback the others find their peers in processes beside them, on the same stack.
beside="UTCP_DEV=none UTCP_LOOPBACK=stack UTCP_REQUIRE=1"
env $beside LD_PRELOAD="${UTCP_TEST_RUNTIME:+$UTCP_TEST_RUNTIME }$lib" "$tmp/both_peer" 127.0.0.1 127.0.0.1 "$tmp/b.ctl" >"$tmp/peer.log" 2>&1 &
started
mkfifo "$tmp/alive" && exec 3<>"$tmp/alive" # peer ends with its input
env $beside LD_PRELOAD="${UTCP_TEST_RUNTIME:+$UTCP_TEST_RUNTIME }$lib" "$tmp/peer" 7002 <"$tmp/alive" >"$tmp/peer.out2" &
started
"$tmp/peer" 7000 <"$tmp/alive" >"$tmp/peer.out" &
started
while [ ! -s "$tmp/peer.out" ] || [ ! -s "$tmp/peer.out2" ] || [ ! -S "$tmp/k.ctl" ] || [ ! -S "$tmp/s.ctl" ] || [ ! -S "$tmp/b.ctl" ]; do
	sleep 0.05
	for p in $pids; do
		kill -0 "$p" 2>/dev/null || { echo "FAIL a peer did not start" && cat "$tmp/peer.log" && exit 1; }
	done
done

if [ $# = 0 ]; then
	all=1
	for f in "$here"/*.c; do
		case ${f##*/} in
		both_peer.c | peer.c | still.c) ;;
		*.c) f=${f##*/} && set -- "$@" "${f%.c}" ;;
		esac
	done
	set -- "$@" lostwake:UTCP_TEST_PAUSE=500:LOSTWAKE_ROUNDS=400 pingpong:UTCP_TEST_PAUSE=500:PING_ROUNDS=4000 exit_closes:UTCP_STATS=/dev/null \
		stdio_streams:STDIO_SEALED=1:UTCP_LOG=/dev/null stdio_exit:STDIO_SEALED=1:UTCP_LOG=/dev/null
fi
# Without the lines that may differ (`allowed`): column 2 of it for the kernel, 3 for the stack.
without_allowed() {
	patterns=$(sed '/^#/d' "$here/allowed" | awk -F'\t+' -v t="$1" -v c="$2" '$1 == t { print $c }')
	if [ -n "$patterns" ]; then grep -vE "$patterns"; else cat; fi
}
# A peer's retransmission wakes who was forgotten beside the first frame: not where that is what is tested.
peer_waits() {
	case $1 in
	elected) ip route replace 10.77.0.2 dev utcp0 rto_min 20s ;;
	*) ip route del 10.77.0.2 dev utcp0 2>/dev/null ;;
	esac
}
failed=0
for t in "$@"; do
	with=$(echo "$t" | sed 's/^[^:]*:*//; s/:/ /g')
	t=${t%%:*}
	compile "$t" || { failed=1; continue; }
	env TEST_OWN=127.0.0.1 TEST_PEER=127.0.0.1 TEST_CONTROL="$tmp/k.ctl" \
		PEER_ADDR=127.0.0.1 PEER_PORT=7000 $with timeout -k 2 "${SECONDS_EACH:-60}" "$tmp/$t" >"$tmp/$t.kernel" 2>&1
	echo "exit $?" >>"$tmp/$t.kernel"
	if grep -qE '^exit (124|137)$' "$tmp/$t.kernel"; then # nothing to compare with
		echo "FAIL $t, kernel (not done in ${SECONDS_EACH:-60} s)"
		failed=1
		continue
	fi
	for leg in $legs; do
		case $leg in
		stack)
			peer_waits "$t"
			env TEST_OWN=10.77.0.2 TEST_PEER=10.77.0.1 TEST_CONTROL="$tmp/s.ctl" \
				UTCP_REQUIRE=1 PEER_ADDR=10.77.0.1 PEER_PORT=7000 $with \
				timeout -k 2 "${SECONDS_EACH:-60}" env LD_PRELOAD="${UTCP_TEST_RUNTIME:+$UTCP_TEST_RUNTIME }$lib" "$tmp/$t" >"$tmp/$t.$leg" 2>&1
			;;
		loopback)
			# With little address space it cannot enter a stack that others made bigger; no keeper, no pump; no raw sockets.
			case $t in trap_limits | sandbox | network | both_crossing) continue ;; esac
			port=7001 control=$tmp/l.ctl # the peer inside makes that one anew each time
			peer=$(inside "$t") || port=7002 control=$tmp/b.ctl
			env TEST_OWN=127.0.0.1 TEST_PEER=127.0.0.1 TEST_CONTROL="$control" \
				UTCP_DEV=none UTCP_LOOPBACK=stack UTCP_REQUIRE=1 PEER_ADDR=127.0.0.1 PEER_PORT=$port $with \
				timeout -k 2 "${SECONDS_EACH:-60}" env LD_PRELOAD="${UTCP_TEST_RUNTIME:+$UTCP_TEST_RUNTIME }$lib $peer" "$tmp/$t" >"$tmp/$t.$leg" 2>&1
			;;
		esac
		echo "exit $?" >>"$tmp/$t.$leg"
		without_allowed "$t" 2 <"$tmp/$t.kernel" >"$tmp/kernel.shown"
		without_allowed "$t" 3 <"$tmp/$t.$leg" >"$tmp/$leg.shown"
		if diff -u "$tmp/kernel.shown" "$tmp/$leg.shown" >"$tmp/$t.diff"; then
			echo "ok   $t, $leg ($(wc -l <"$tmp/$t.kernel") lines)"
		else
			echo "FAIL $t, $leg"
			cat "$tmp/$t.diff"
			failed=1
		fi
	done
done
[ -z "${all:-}" ] || sh "$here/coverage.sh" "$tmp" || failed=1
exit $failed
