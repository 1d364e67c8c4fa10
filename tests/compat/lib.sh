# lib.sh - what a case of run.sh has: the two sides, servers, files, and the proof that the kernel's TCP stood by.
# shellcheck shell=bash disable=SC2034 # variables are for the cases

# shellcheck source=tests/interop/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../interop/lib.sh"

# ------------------------------------------------------------------ of a case

fail() {
	echo "FAIL: $1"
	exit 1
}

# no REASON: it does not work, as is known, and the program or the launcher said so itself: the words are for the table.
no() {
	echo "$1"
	exit 78
}

# needs PROGRAM...: or the case does not count.
needs() {
	local p
	for p in "$@"; do
		command -v "$p" >/dev/null || {
			echo "$p is not installed; see tests/compat/packages"
			exit 77
		}
	done
}

# C COMMAND...: the client's side of this leg. S: the server's. Both take variables by `env`.
C() {
	"${C_BY[@]}" "$@"
}
S() {
	"${S_BY[@]}" "$@"
}

# serve PORT COMMAND...: the server's side, in the background, until it listens. SERVER is its pid. Its session is its
# own: apache kills its process group.
serve() {
	local port=$1
	shift
	serve_log=$WORK/server.$port.log
	setsid "${S_BY[@]}" "$@" >"$serve_log" 2>&1 &
	SERVER=$!
	wait_until 200 "port $port" kernel_listens "$port" && return 0
	tail -n 20 "$serve_log"
	fail "$1 does not listen on $port"
}

# end SIGNAL STATUS: the server is told to end and ends so ("any": however it likes).
end() {
	local status
	kill "-$1" "$SERVER" || fail "the server is gone: $(tail -n 5 "$serve_log")"
	wait "$SERVER"
	status=$?
	[ "$2" = any ] || [ "$status" = "$2" ] || fail "the server ended with status $status: $(tail -n 5 "$serve_log")"
}

same() { # FILE FILE
	cmp "$1" "$2" || fail "the bytes of $1 differ from those of $2 ($(stat -c %s "$1") and $(stat -c %s "$2"))"
}

# says PATTERN FILE
says() {
	grep -q -e "$1" "$2" || fail "no '$1' in $2: $(tail -n 5 "$2")"
}

# at_once COUNT COMMAND...: so many in parallel, each with its number as the last argument.
at_once() {
	local i n=$1 pids=() bad=0
	shift
	for ((i = 1; i <= n; i++)); do
		"$@" $i &
		pids+=($!)
	done
	for i in "${pids[@]}"; do wait "$i" || bad=$((bad + 1)); done
	[ $bad = 0 ] || fail "$bad of $n went wrong: $*"
}

# as USER COMMAND...
as() {
	local who=$1
	shift
	setpriv --reuid="$who" --regid="$(id -gn "$who")" --clear-groups "$@"
}

# ------------------------------------------------------------------ proof

# What the kernel's TCP may do: on the legs over TAP the other side's connections between 10.77.0.1 and the stack.
spy() {
	while :; do
		ss -Htan | awk -v leg="$LEG" '
			$1 == "LISTEN" { next }
			{ own = $4; peer = $5; gsub(/[][]|::ffff:|:[0-9]+$/, "", own); gsub(/[][]|::ffff:|:[0-9]+$/, "", peer) }
			leg != "loopback" && own == "10.77.0.1" && peer == "10.77.0.2" { next }
			{ print }'
		sleep 0.1
	done >"$WORK/spy"
}

# opened NAME: the kernel's counter in this network namespace, which began with 0.
opened() {
	awk -v n="$1" '$1 == "Tcp:" { if (col) print $col; else for (i = 2; i <= NF; i++) if ($i == n) col = i }' /proc/net/snmp
}

# Seen by ss ten times a second, and counted by the kernel: the side that is the stack's opened nothing there.
kernel_proof() {
	local active passive
	active=$(opened ActiveOpens) passive=$(opened PassiveOpens)
	kill "$SPY" 2>/dev/null
	[ ! -s "$WORK/spy" ] || fail "kernel sockets where the stack's should be: $(sort -u "$WORK/spy" | head -5)"
	case $LEG in
	server) [ "$active" -gt 0 ] && [ "$passive" = 0 ] ;;
	client) [ "$active" = 0 ] && [ "$passive" -gt 0 ] ;;
	loopback) [ "$active" = 0 ] && [ "$passive" = 0 ] ;;
	esac || fail "the kernel made $active connections and accepted $passive"
}

# ------------------------------------------------------------------ frame

# case_run LEG NAME: in namespaces of its own, as PID 1 there.
case_run() {
	LEG=$1
	UTCP_TEST_PLAYGROUND=1 playground_enter "$@"
	rmdir "$WORK"
	mount -t tmpfs -o mode=755 tmpfs /run || die "no tmpfs" # also for the servers' pid files and lock directories
	mount -t tmpfs -o mode=1777 tmpfs /dev/shm || die "no tmpfs" # databases leave something there
	WORK=/run/case
	mkdir -m 755 "$WORK"
	unset LD_LIBRARY_PATH PYTHONPATH
	export PATH=/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin HOME=$WORK UTCP_REQUIRE=1
	C_BY=() S_BY=() ADDR=127.0.0.1
	[[ $LEG != loopback && $LEG != client ]] || C_BY=("$UTCP")
	[[ $LEG != loopback && $LEG != server ]] || S_BY=("$UTCP")
	if [ "$LEG" = loopback ]; then
		export UTCP_DEV=none UTCP_LOOPBACK=stack
	elif [ "$LEG" != kernel ]; then
		TAP_USER=$(declare -F "u_$2" >/dev/null && "u_$2")
		# shellcheck disable=SC2086
		ip tuntap add utcp0 mode tap vnet_hdr ${TAP_USER:+user $TAP_USER} || die "no TAP device; is the module tun loaded?"
		# In case udev has not been here.
		mknod -m 666 /run/tun c 10 200 && mount --bind /run/tun /dev/net/tun
		kernel_side utcp0
		export UTCP_DEV=tap:utcp0
		[ "$LEG" = server ] && ADDR=$STACK || ADDR=$KERNEL
	fi
	cd "$WORK" || exit 1
	mkdir www
	head -c "${MB:-20}M" /dev/urandom >www/big
	head -c 2M www/big >www/two
	echo "hello, small world" >www/small
	spy &
	SPY=$!
	"c_$2" || fail "the case returned $?"
	[ "$LEG" = kernel ] || kernel_proof
}
