# lib.sh - a playground for real programs: namespaces, devices, servers, proofs. Source it first.
#
# playground_enter starts the script afresh in network and PID namespaces of its own. When it ends, however it
# ends, the kernel ends every process in there and takes the devices away: nothing has a name on this machine
# that two runs could fight over; somebody outside removes its directory ($WORK) also when it was killed. Without root
# a user namespace gives the same rights inside.
# shellcheck shell=bash disable=SC2034 # variables are for the scripts that source it

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
BUILD=${BUILD:-build}
[[ $BUILD == /* ]] || BUILD=$ROOT/$BUILD
export BUILD
UTCP=${UTCP_TEST_LAUNCHER:-$BUILD/utcp}
LEFT= # a directory beside $WORK that goes with it
export PATH=$PATH:/usr/sbin:/sbin

die() {
	echo "$(basename "$0"): $1" >&2
	exit 1
}

playground_enter() {
	if [ -z "${UTCP_TEST_PLAYGROUND:-}" ]; then
		local user=()
		[ "$(id -u)" = 0 ] || user=(-U -r)
		unshare "${user[@]}" -n true 2>/dev/null ||
			die "no permission to make a network namespace; run as root or allow user namespaces"
		[ -c /dev/net/tun ] || modprobe tun 2>/dev/null
		[ -c /dev/net/tun ] || die "/dev/net/tun is missing; load it with modprobe tun"
		UTCP_TEST_PLAYGROUND=$(mktemp -d /tmp/utcp.XXXXXX) || die "/tmp cannot be written; free some space"
		export UTCP_TEST_PLAYGROUND
		# Short of a mount of its own, which not every container allows.
		(
			trap '' INT TERM HUP
			tail --pid=$$ -f /dev/null
			rm -rf "$UTCP_TEST_PLAYGROUND" "/dev/shm/${UTCP_TEST_PLAYGROUND##*/}"
		) </dev/null >/dev/null 2>&1 &
		[ -z "${UTCP_TEST_RUNTIME:-}" ] || user+=(--mount-proc) # where a leak checker looks
		exec unshare "${user[@]}" -n -p -f --kill-child -- bash "$0" "$@"
	fi
	unset UTCP_STACK UTCP_INHERIT UTCP_DEV UTCP_ADDR UTCP_GW UTCP_MAC UTCP_MTU UTCP_PCAP UTCP_PCAP_FILTER UTCP_PCAP_SNAPLEN UTCP_CC \
		UTCP_RULES UTCP_REQUIRE UTCP_LOG UTCP_EXIT_DRAIN UTCP_SPIN_US UTCP_STATS UTCP_TEST_PAUSE LD_PRELOAD
	unset http_proxy https_proxy all_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY no_proxy NO_PROXY
	export UTCP_CONF=/dev/null LC_ALL=C
	WORK=$UTCP_TEST_PLAYGROUND
	[ -d "$WORK" ] || WORK=$(mktemp -d /tmp/utcp.XXXXXX) || die "/tmp cannot be written; free some space"
	chmod 755 "$WORK" # servers give up root and still read from here
	trap 'exit 130' INT
	trap 'exit 143' TERM HUP
	trap 'playground_leave' EXIT
	ip link set lo up
	[ -z "${UTCP_TEST_RUNTIME:-}" ] || instrument
	return 0
}

# A library with a sanitizer, by hand: UTCP_TEST_RUNTIME=$(gcc -print-file-name=libasan.so). The runtime stands before
# libc, or it does not see vfork(), whose child leaves its frames' marks on the parent's stack. Programs of others have
# leaks of their own, and some do not live with the runtime at all: curl hangs in setlocale() with it alone.
instrument() {
	printf '#!/bin/sh\nLD_PRELOAD=%s exec %s "$@"\n' "$UTCP_TEST_RUNTIME" "$UTCP" >"$WORK/utcp"
	chmod +x "$WORK/utcp"
	export UTCP_TEST_LAUNCHER=$WORK/utcp UTCP=$WORK/utcp
	export ASAN_OPTIONS=${ASAN_OPTIONS:+$ASAN_OPTIONS:}detect_leaks=0
}

playground_leave() {
	local status=$?
	trap - EXIT
	rm -rf "$WORK" "${LEFT:-$WORK}"
	exit "$status"
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
no_keeper() {
	[ -z "$(keepers)" ]
}

# quiet_ipv6 DEV: no router solicitations in the captures.
quiet_ipv6() {
	echo 1 >"/proc/sys/net/ipv6/conf/$1/disable_ipv6" 2>/dev/null || true
}

# kernel_side DEV: the kernel's address there; its congestion control is cubic, whatever this machine prefers.
kernel_side() {
	quiet_ipv6 "$1"
	ip addr add 10.77.0.1/24 dev "$1"
	ip link set "$1" up
	ip route change 10.77.0.0/24 dev "$1" proto kernel scope link src 10.77.0.1 congctl cubic 2>/dev/null || true
	KERNEL=10.77.0.1 STACK=10.77.0.2 NOBODY=10.77.0.99
	export UTCP_ADDR=10.77.0.2/24
}

# topology_tap: the kernel's side is 10.77.0.1 on a TAP, the stack 10.77.0.2.
topology_tap() {
	ip tuntap add utcp0 mode tap vnet_hdr || die "no TAP device; is the module tun loaded?"
	kernel_side utcp0
	export UTCP_DEV=tap:utcp0
}

# topology_packet: a veth; one end is the kernel's, the stack reads and writes the other by AF_PACKET.
topology_packet() {
	ip link add utcp0 type veth peer name wire0 || die "no veth devices in this kernel"
	quiet_ipv6 wire0
	ip link set wire0 up
	kernel_side utcp0
	export UTCP_DEV=packet:wire0
}

# topology_lossy tap|packet: the same, with the path emulator between the stack's device and the kernel's.
# All ends live in one namespace, so each answers ARP only for its own address.
LOSSY=(loss=1 reorder=1 duplicate=0.5)
topology_lossy() {
	local near
	ip link add far0 type veth peer name utcp0 || die "no veth devices in this kernel"
	echo 1 >/proc/sys/net/ipv4/conf/all/arp_ignore
	if [ "$1" = tap ]; then
		near=stack0
		ip tuntap add stack0 mode tap vnet_hdr || die "no TAP device; is the module tun loaded?"
		export UTCP_DEV=tap:stack0
	else
		near=near0
		ip link add near0 type veth peer name stack0
		export UTCP_DEV=packet:stack0
	fi
	local d
	for d in stack0 near0 far0 utcp0; do
		[ -e "/proc/sys/net/ipv4/conf/$d" ] || continue
		quiet_ipv6 "$d"
		# Each frame on its own: no super-frames, no sums left open by the kernel.
		ethtool -K "$d" tso off gso off gro off tx off >/dev/null 2>&1
		ip link set "$d" up
	done
	kernel_side utcp0
	local rt=()
	chrt -f 10 true 2>/dev/null && rt=(chrt -f 10)
	LOSSY_REPORT=$WORK/lossy.txt
	"${rt[@]}" "$BUILD/tests/lossy" "$near" far0 seed="${SEED:-1}" "${LOSSY[@]}" \
		2>"$LOSSY_REPORT" &
	LOSSY_PID=$!
	wait_until 50 "the path emulator" grep -q ready "$LOSSY_REPORT"
}

# topology NAME: tap, packet, lossy-tap or lossy-packet.
topology() {
	case $1 in
	tap | packet) "topology_$1" ;;
	lossy-tap | lossy-packet) topology_lossy "${1#lossy-}" ;;
	*) die "unknown topology '$1'; use tap, packet, lossy-tap or lossy-packet" ;;
	esac
}

# wait_until TENTHS WHAT COMMAND...: poll until the command succeeds.
wait_until() {
	local i n=$(($1 < 200 ? 200 : $1)) what=$2 # a busy machine: 20 s at least
	shift 2
	for ((i = 0; i < n; i++)); do
		"$@" >/dev/null 2>&1 && return 0
		sleep 0.1
	done
	echo "waited in vain for $what" >&2
	return 1
}

# still COMMAND...: what it prints stays the same for a second: nothing moves. A busy machine gets there later.
still() {
	local before
	for _ in {1..20}; do
		before=$("$@")
		sleep 1
		[ "$before" != "$("$@")" ] || return 0
	done
	return 1
}

kernel_listens() { # PORT
	[ -n "$(ss -Hltn "sport = :$1")" ]
}
wait_port() { # PORT: a kernel socket listens (a listener of the stack holds its port there, too)
	wait_until 100 "port $1" kernel_listens "$1"
}

# end_process PID...: and wait for it, so that its device is free again.
end_process() {
	local pid
	for pid in "$@"; do
		kill "$pid" 2>/dev/null
		for _ in {1..50}; do
			kill -0 "$pid" 2>/dev/null || break
			sleep 0.1
		done
		kill -9 "$pid" 2>/dev/null
		wait "$pid" 2>/dev/null
	done
	return 0
}

# No kernel socket may own the stack's address except a listener: the proof that TCP ran on our stack.
# Prints the offenders and fails.
ss_offenders() {
	ss -Htanp 2>/dev/null | awk -v a="$STACK:" '$1 != "LISTEN" && index($4, a) == 1'
}

# spy_start NAME / spy_stop: look at ss ten times a second while programs run; NAME must own no kernel TCP socket
# that is connected to anywhere but loopback.
spy_start() {
	SPY_LOG=$WORK/spy.$RANDOM
	: >"$SPY_LOG"
	(
		while :; do
			ss -Htanp 2>/dev/null | awk -v a="$STACK:" -v n="\"$1\"" '
				$1 == "LISTEN" { next }
				index($4, a) == 1 { print; next }
				$1 ~ /^(ESTAB|SYN-SENT|SYN-RECV|CLOSE-WAIT|FIN-WAIT-1|FIN-WAIT-2)$/ && n != "\"\"" && index($0, n) &&
				index($4, "127.") != 1 && index($4, "[::1]") != 1 { print }' >>"$SPY_LOG"
			sleep 0.1
		done
	) &
	SPY_PID=$!
}
spy_stop() {
	kill "$SPY_PID" 2>/dev/null
	wait "$SPY_PID" 2>/dev/null
	if [ -s "$SPY_LOG" ]; then
		echo "kernel sockets where the stack's should be:" >&2
		sort -u "$SPY_LOG" | head -5 >&2
		return 1
	fi
}

# nginx_config FILE PORT [EXTRA]: one server in the foreground, files below $WORK/www.
nginx_config() {
	mkdir -p "$WORK/www" "$WORK/nginx"
	cat >"$1" <<EOF
daemon off;
master_process off;
error_log $WORK/nginx/error.log warn;
pid $WORK/nginx/$2.pid;
events { worker_connections 1024; }
http {
	access_log off;
	sendfile on;
	tcp_nopush on;
	keepalive_requests 1000000;
	client_max_body_size 1g;
	client_body_temp_path $WORK/nginx/body;
	proxy_temp_path $WORK/nginx/proxy;
	fastcgi_temp_path $WORK/nginx/fastcgi;
	uwsgi_temp_path $WORK/nginx/uwsgi;
	scgi_temp_path $WORK/nginx/scgi;
	types { }
	default_type application/octet-stream;
	server {
		listen $2 backlog=1024;
		root $WORK/www;
		${3:-}
	}
}
EOF
}
