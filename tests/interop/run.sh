#!/bin/bash
# run.sh TOPOLOGY [CASE...] - unmodified programs over libutcp against the kernel's TCP, on one kind of path:
# tap, packet, lossy-tap or lossy-packet. Each case is a function c_NAME in clients.sh or servers.sh.
#
# A case runs in a process of its own with a time limit. It passes if its commands succeed, if UTCP_REQUIRE=1 let
# nothing fall to the kernel, if ss never saw a kernel socket with the stack's address (spy_*), and on a lossy
# path if the capture shows no silence longer than three RTOs.
set -u
here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
# shellcheck source=tests/interop/lib.sh
. "$here/lib.sh"
# shellcheck source=tests/interop/clients.sh
. "$here/clients.sh"
# shellcheck source=tests/interop/servers.sh
. "$here/servers.sh"
# shellcheck source=tests/interop/processes.sh
. "$here/processes.sh"
# shellcheck source=tests/interop/passing.sh
. "$here/passing.sh"
# shellcheck source=tests/interop/pump.sh
. "$here/pump.sh"
# shellcheck source=tests/interop/users.sh
. "$here/users.sh"
# shellcheck source=tests/interop/device.sh
. "$here/device.sh"

# NAME SECONDS [only on TOPOLOGY...]
cases() {
	cat <<-EOF
		curl_download 120
		curl_upload 120
		curl_connection_close 60
		curl_keepalive_1000 90
		curl_parallel_50 120
		curl_server_resets 20
		curl_refused 20
		curl_unreachable 30
		busybox_wget 60
		bash_dev_tcp 30
		nc_openbsd_client 60
		nc_traditional_client 60
		nc_openbsd_server 60
		nc_traditional_server 60
		python_http_server 90
		iperf3_server 60
		nginx_wrk 60
		redis_benchmark 60
		redis_bgsave 60
		redis_default_save 100 tap
		two_in_a_row 20
		mtu_shrinks 30 packet
		nginx_workers 60 tap packet
		socat_fork 60 tap packet
		python_forking 60 tap packet
		fork_ends 40 tap packet
		exec_inherits 60 tap packet
		one_stack 60 tap packet
		sudden_ends 40 tap packet
		vfork_inherits 30 tap packet
		spawn_inherits 30 tap packet
		nginx_upgrade 60 tap packet
		socket_activation 30 tap packet
		bound_inherits 30 tap packet
		pump_server 90 tap packet lossy-tap
		pump_roads 60 tap packet
		pump_secure 60 tap packet
		pump_ends 90 tap
		pump_slow 60 tap packet
		pump_exec_fails 30 tap
		pump_properties 20 tap
		pump_listener 60 tap packet
		pump_listener_attended 40 tap
		pump_forward_again 60 tap
		pump_keeper_killed 40 tap
		python_send_fds 30 tap packet
		python_multiprocessing 60 tap
		python_stranger 30 tap
		user_before_socket 60 tap packet
		user_before_listener 30 tap packet
		device_down_up 90 tap packet
		device_deleted 60 tap packet
	EOF
}

# ours COMMAND...: under libutcp, with a time limit of its own.
ours() {
	timeout --foreground -k 2 "${LIMIT:-100}" "$UTCP" "$@"
}

fail() {
	echo "FAIL: $1"
	exit 1
}

# counter NAME: of the last command that ran under UTCP_STATS.
counter() {
	awk -v n="$1" '$1 == n { print $2 }' "$UTCP_STATS"
}

case_clean() {
	local status=$? pids
	trap - EXIT
	pids=$(jobs -p)
	# shellcheck disable=SC2086
	[ -z "$pids" ] || kill -9 $pids 2>/dev/null
	exit "$status"
}

# Inside the process of one case.
if [ "${1:-}" = --case ]; then
	trap case_clean EXIT
	trap 'exit 143' TERM
	cd "$WORK" || exit 1
	# Silences are measured in time: what else runs on this machine must not make them.
	[ -z "${LOSSY_REPORT:-}" ] || { renice -n -15 -p $$ && echo -15 >/proc/self/autogroup; } >/dev/null 2>&1
	"c_$2"
	status=$?
	[ $status = 0 ] || fail "the case returned $status"
	if [ -n "${LOSSY_REPORT:-}" ] && [ -s "${UTCP_PCAP:-}" ]; then
		/usr/bin/python3 "$here/silence.py" "$UTCP_PCAP" "$STACK" "${SLACK_MS:-50}" || fail "a silence on the wire"
	fi
	exit 0
fi

kind=${1:?usage: run.sh TOPOLOGY [CASE...]}
playground_enter "$@"
shift
topology "$kind"
export UTCP_REQUIRE=1 UTCP_STATS=$WORK/stats CURL_HOME=$WORK
export WORK KERNEL STACK NOBODY KIND=$kind LOSSY_REPORT LOSSY_PID
mkdir "$WORK/www" "$WORK/nginx"
MB=${MB:-100}
export MB
head -c "${MB}M" /dev/urandom >"$WORK/www/big"
head -c 2M "$WORK/www/big" >"$WORK/www/two"
head -c 5M "$WORK/www/big" >"$WORK/five"
echo "hello, small world" >"$WORK/www/small"
for i in {1..50}; do ln "$WORK/www/two" "$WORK/www/two.$i"; done

# A capture on a disk that is busy would make the silences that it is to show.
MEMORY=$WORK
if [ -w /dev/shm ]; then
	MEMORY=/dev/shm/${WORK##*/} # which the playground takes away as it does $WORK
	mkdir "$MEMORY" || die "$MEMORY cannot be made"
	LEFT=$MEMORY # goes as well
fi

passed=0 failed=0
while read -r name seconds only; do
	[ -z "$only" ] || [[ " $only " == *" $kind "* ]] || continue
	[ $# = 0 ] || [[ " $* " == *" $name "* ]] || continue
	log=$WORK/$name.log
	rm -f "$UTCP_STATS"
	if [ -n "${LOSSY_REPORT:-}" ]; then
		export UTCP_PCAP=$MEMORY/capture.pcap UTCP_PCAP_SNAPLEN=96
		rm -f "$UTCP_PCAP"
	fi
	start=$EPOCHREALTIME
	timeout -k 5 "$seconds" setsid bash "$here/run.sh" --case "$name" >"$log" 2>&1 </dev/null
	status=$?
	took=$(awk -v a="$start" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.1f", b - a }')
	if [ $status = 0 ]; then
		passed=$((passed + 1))
		printf '  ok    %s/%s (%s s)\n' "$kind" "$name" "$took"
		[ -z "${VERBOSE:-}" ] || sed 's/^/          /' "$log"
	else
		failed=$((failed + 1))
		[ $status != 124 ] || echo "FAIL: not done after $seconds s" >>"$log"
		printf '  FAIL  %s/%s (%s s)\n' "$kind" "$name" "$took"
		tail -n 25 "$log" | sed 's/^/          /'
		if [ -n "${KEEP:-}" ]; then
			mkdir -p "$KEEP"
			cp "$log" "$MEMORY/capture.pcap" "$KEEP" 2>/dev/null
		fi
	fi
done < <(cases)
if [ -n "${LOSSY_REPORT:-}" ]; then
	end_process "$LOSSY_PID"
	grep from_ "$LOSSY_REPORT" | sed 's/^/        /'
	grep late_ "$LOSSY_REPORT" | sed 's/^/        /'
fi
[ -z "${UTCP_TEST_TALLY:-}" ] || echo "$passed $failed" >>"$UTCP_TEST_TALLY"
[ $failed = 0 ] && [ $passed != 0 ]
