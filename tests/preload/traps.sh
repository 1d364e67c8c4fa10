#!/bin/bash
# traps.sh [CASE...] - the traps that need a situation of their own, each a case below; the others are programs that
# run.sh compares with the kernel. Where each trap is caught (f: file of this folder, run by run.sh):
#
#    1 helper thread in the way      t19_counters; scripts/bench            21 allocators, early code  t21_*
#    2 lost wake-up                  f: lostwake pingpong, also paused      22 libev, libpcap          t22_libev t22_libpcap
#    3 ended inside the stack        t03_storm; interop/kills.sh            23 limits, privileges      f: trap_limits full; t23_*
#    4 stdio, the flush at exit      t04_*; f: stdio_streams stdio_exit     24 another version         interop/keeper.sh
#    5 stale numbers                 f: stdio_streams stdio_numbers         25 rights in flight        f: pass_rights pass_storm
#    6 fork, and who ends first      f: fork_share ep_fork                  26 socket call details     f: both_connect both_life
#    7 exec with a connection        interop/processes.sh, pump.sh          27 all numbers             f: trap_numbers
#    8 vfork, posix_spawn            f: trap_vfork spawn                    28 UTCP_REQUIRE            t28_require
#    9 the keeper is not seen        interop/keeper.sh                      29 start-up                t29_load t29_kernel_only
#   10 close by system call          f: trap_raw_close both_raw             30 a broken region         interop/keeper.sh
#   11 tags like the application's   f: ep_members (tags)                   31 the elected waiter      f: elected trap_hog
#   12 epoll semantics               f: ep_*; t12_*                         32 stale deadline          t32_deadline
#   13 epoll fairness                f: ep_fair                             33 siglongjmp              t33_longjmp; f: sig_longjmp
#   14 EINTR, SA_RESTART, time-outs  f: block_signals both_signal           34 children                f: trap_children ep_fork
#   15 handlers that do I/O          f: sig_handler_io sig_longjmp          35 dup3 over members       f: trap_dup3 both_async
#   16 cancellation                  f: cancel* block_cancel                36 one-shot, no queue      f: resethand trap_pending
#   17 fork beside threads           f: pass_storm clones                      SIGXFSZ                 f: trap_limits (file_size)
#   18 close() under a call, reuse   f: trap_reuse both_life                37 io_uring                t37_uring
#   19 stealing, idle wake-ups       t19_counters t19_idle t19_idle_many    38 sandboxes, rights       f: sandbox* privilege network
#   20 the first process             interop/keeper.sh
#
# Counts, bytes, error names and times of a capture are compared, never how long something took.
set -u
# shellcheck source=tests/interop/lib.sh
. "$(dirname "$(readlink -f "$0")")/../interop/lib.sh"
here=$ROOT/tests/preload
LIB=$BUILD/libutcp.so
playground_enter "$@"
cd "$WORK" || exit 1
topology_tap
export PEER_ADDR=$KERNEL PEER_PORT=7000 UTCP_REQUIRE=1
RUNTIME=${UTCP_TEST_RUNTIME:+$UTCP_TEST_RUNTIME }

build() { # SOURCE [NAME [FLAGS...]]
	local source=$1 name=${2:-$1}
	shift $(($# < 2 ? $# : 2))
	# shellcheck disable=SC2086 # SAN: flags, those that the library was built with
	"${CC:-gcc}" ${SAN:-} -std=gnu11 -D_GNU_SOURCE -O1 -g -Wall -Wextra -Wno-unused-function -pthread -o "$name" "$here/traps/$source.c" "$@" ||
		fail "$source.c does not compile"
}
fail() {
	printf '%s\n' "$1"
	exit 1
}
# A sanitizer's runtime is an allocator, starts threads and makes calls of its own: nothing to be learned.
without_runtime() {
	[ -z "$RUNTIME${SAN:-}" ] || exit 77
}
# ours COMMAND...: with the library preloaded, in time; BEFORE: what runs it, without the library.
BEFORE=()
ours() {
	timeout $((20 * ${PATIENCE:-1})) "${BEFORE[@]}" env LD_PRELOAD="$RUNTIME$LIB" "$@"
}
same() { # WANT GOT
	[ "$1" = "$2" ] || fail "expected: $1
      got: $2"
}
counter() { # NAME FILE
	awk -v n="$1" '$1 == n { print $2 }' "$2"
}

# ------------------------------------------------------------ 4: the flush at exit

# Destructors of the program's libraries run after the one of a preloaded library, the flush after all of them.
c_t04_late_destructor() {
	build late liblate.so -DLIBRARY -shared -fPIC
	build late late -L. -llate -Wl,-rpath,"$WORK"
	timeout 10 nc.openbsd -l "$KERNEL" 7100 >got </dev/null &
	local nc=$!
	kernel_listens 7100 || wait_port 7100 || fail "nc does not listen"
	ours ./late "$KERNEL" 7100 || fail "status $?"
	wait $nc
	same 'first main destructor' "$(cat got)"
}

# ------------------------------------------------------------ 19: who takes the frames, who wakes

# One thread: at most one switch a round trip. With others asleep beside it the kernel may elect one of them for a
# frame, and the two may meet at the lock: a few, however many they are (a herd of sixteen would make seventeen). The
# helper thread takes next to nothing in either case.
c_t19_counters() {
	build pingpong
	local others switches helper app
	for others in 0 16; do
		switches=$(UTCP_STATS=$WORK/stats ours ./pingpong 2000 $others) || fail "a round trip failed"
		helper=$(counter RxFramesHelper stats)
		app=$(counter RxFramesApp stats)
		echo "$others silent threads: frames: $app by the application, $helper by the helper; $switches switches"
		[ "$app" -ge 2000 ] || fail "the application's threads did not take the frames"
		same 0 "$(counter RxFramesStolen stats)"
		[ "$helper" -le 20 ] || fail "the helper steals frames from the threads that wait"
		[ "$switches" -le $((others ? 10000 : 2200)) ] || fail "too many context switches a round trip"
	done
}

switches() { # PID: the voluntary ones of all threads so far
	awk '/^voluntary_ctxt_switches/ { n += $2 } END { print n }' "/proc/$1"/task/*/status
}

c_t19_idle() {
	without_runtime
	build idle
	local how pid real before after quiet
	for how in recv poll epoll sleep; do
		rm -f out
		LD_PRELOAD="$RUNTIME$LIB" ./idle $how >out &
		pid=$!
		wait_until 50 "traffic" test -s out || fail "no traffic"
		real=$(cat out)
		[ -d "/proc/$real/task" ] || fail "no /proc of this process"
		sleep 0.4
		quiet=no
		# the kernel's neighbour may ask for us once in a while: one quiet window of three is enough
		for _ in 1 2 3; do
			before=$(switches "$real")
			sleep 0.5
			after=$(switches "$real")
			echo "$how: $((after - before)) wake-ups of $(find "/proc/$real/task" -mindepth 1 -maxdepth 1 | wc -l) threads"
			[ "$before" != "$after" ] || quiet=yes
			[ $quiet = no ] || break
		done
		end_process $pid
		[ $quiet = yes ] || fail "an idle process wakes up"
	done
}

# The keeper of this playground's stack, as the machine's /proc knows it.
keeper_pid() {
	local pid net
	net=$(readlink /proc/self/ns/net)
	for pid in $(grep -lx utcp-keeper /proc/[0-9]*/comm 2>/dev/null); do
		pid=${pid%/comm}
		[ "$(readlink "$pid/ns/net")" != "$net" ] || echo "${pid#/proc/}"
	done
}

# Every switch, whoever wanted it: nothing at all runs.
all_switches() { # PID...
	local pid
	for pid in "$@"; do cat "/proc/$pid"/task/*/status; done | awk '/ctxt_switches/ { n += $2 } END { print n + 0 }'
}

# Four processes that share a stack, their helper threads, and the keeper.
c_t19_idle_many() {
	without_runtime
	build idle_many
	# An address that the kernel need not ask for again.
	export UTCP_MAC=02:00:0a:4d:00:02
	ip neigh replace "$STACK" lladdr "$UTCP_MAC" dev utcp0 nud permanent
	(idle_many)
	local status=$?
	ip neigh del "$STACK" dev utcp0
	return $status
}
idle_many() {
	local pid pids keeper before
	LD_PRELOAD="$RUNTIME$LIB" ./idle_many "${IDLE_CONNECTIONS:-100}" >out &
	pid=$!
	wait_until 200 "four processes" awk 'END { exit NR != 4 }' out || fail "$(cat out)"
	keeper=$(keeper_pid)
	[ "$(wc -w <<<"$keeper")" = 1 ] || fail "keepers: '$keeper'"
	pids=$(cat out)
	# delayed ACKs, the helpers' last look: late, on a busy machine
	local i
	for i in {1..30}; do
		# shellcheck disable=SC2086 # a list
		before=$(all_switches $pids $keeper)
		sleep 1
		# shellcheck disable=SC2086
		[ "$before" != "$(all_switches $pids $keeper)" ] || break
	done
	sleep "${IDLE_SECONDS:-2}"
	# shellcheck disable=SC2086
	same "$before" "$(all_switches $pids $keeper)"
	# shellcheck disable=SC2086
	echo "$(for pid in $pids $keeper; do ls "/proc/$pid/task"; done | wc -l) threads, $before switches before, none since"
	[ "$(wc -l <out)" = 4 ] || fail "$(cat out)"
	end_process $pid
}

# ------------------------------------------------------------ 21: who comes first

want_echo='in main 5'

# A preloaded allocator whose first call may come before the loader is done with us, in both orders.
c_t21_jemalloc() {
	without_runtime
	local je
	je=$(ldconfig -p | awk '/libjemalloc\.so\.2/ { print $NF; exit }')
	[ -n "$je" ] || fail "libjemalloc2 is not installed"
	build echo
	same "$want_echo" "$(timeout $((20 * ${PATIENCE:-1})) env LD_PRELOAD="$je $LIB" ./echo 2>&1)"
	same "$want_echo" "$(timeout $((20 * ${PATIENCE:-1})) env LD_PRELOAD="$LIB $je" ./echo 2>&1)"
}

c_t21_asan() {
	without_runtime
	local asan
	asan=$(gcc -print-file-name=libasan.so)
	build echo echo_asan -fsanitize=address
	export ASAN_OPTIONS=detect_leaks=0:verify_asan_link_order=0
	same "$want_echo" "$(timeout $((20 * ${PATIENCE:-1})) env LD_PRELOAD="$asan $LIB" ./echo_asan 2>&1)"
	same "$want_echo" "$(timeout $((20 * ${PATIENCE:-1})) env LD_PRELOAD="$LIB" ./echo_asan 2>&1)"
}

# A static object's constructor runs before main().
c_t21_constructor() {
	local early='before main 5
in main 5'
	build echo early -DEARLY
	same "$early" "$(ours ./early 2>&1)"
	if command -v g++ >/dev/null; then
		build echo echo.o -DPART -c
		# shellcheck disable=SC2086
		g++ ${SAN:-} -Wall -Wextra -pthread -o early++ "$here/traps/early.cc" echo.o || fail "early.cc does not compile"
		same "$early" "$(ours ./early++ 2>&1)"
	fi
}

# The constructors of a program's libraries run before those of a preloaded one.
c_t21_library_constructor() {
	build echo libearly.so -DEARLY -DLIBRARY -shared -fPIC
	build echo uses -DUSES_LIBRARY -L. -learly -Wl,-rpath,"$WORK"
	same 'before main 5
in main 5' "$(ours ./uses 2>&1)"
}

# ------------------------------------------------------------ 22: the application's own libev and libpcap

c_t22_libev() {
	[[ ${SAN:-} != *thread* ]] || exit 77 # it does not live through fork()
	build libev_app libev_app -lev
	same 'children 5, statuses 5, ticks yes, echoes yes, default loop ours' "$(ours ./libev_app 2>&1)"
}

c_t22_libpcap() {
	build libpcap_app libpcap_app -lpcap
	same 'SYNs 3, socket good' "$(UTCP_PCAP=$WORK/both.pcap ours ./libpcap_app utcp0 2>&1)"
	same 4 "$(tcpdump -nr both.pcap 'tcp dst port 7000 and tcp[tcpflags] & tcp-syn != 0' 2>/dev/null | wc -l)"
}

# ------------------------------------------------------------ 23: what the stack cannot have

# refused WHY ERROR COMMAND...: under UTCP_REQUIRE=1 the error and one line that says why; without it the kernel
# serves, with the same line.
refused() {
	local why=$1 error=$2 got
	shift 2
	got=$(UTCP_REQUIRE=1 ours "$@" 2>err)
	echo "required: $got; $(cat err)"
	same "$error" "$got"
	same 1 "$(grep -c '^utcp: .*; ' err)"
	grep -qE "^utcp: .*($why)" err || fail "the line does not say: $why"
	got=$(UTCP_REQUIRE=0 ours "$@" 2>err)
	echo "not required: $got; $(cat err)"
	same ok "$got"
	same 1 "$(grep -c '^utcp: ' err)"
}

c_t23_no_capability() {
	build require
	if [ "$(id -u)" != 0 ] || ! setpriv --reuid=65534 --regid=65534 --clear-groups true 2>/dev/null; then
		echo "only root can be somebody without rights"
		exit 77
	fi
	cp "$LIB" lib.so
	chmod 755 . lib.so
	LIB=$WORK/lib.so
	BEFORE=(setpriv --reuid=65534 --regid=65534 --clear-groups --bounding-set=-all)
	refused 'no permission|cannot be opened' ENETDOWN ./require connect "$KERNEL" 7000
	UTCP_DEV=packet:utcp0 refused 'packet' ENETDOWN ./require connect "$KERNEL" 7000
}

# Before its first socket: the way to the device, to libev.so and to the settings is gone; or the right to use
# somebody else's device. Each a device of its own: what one leaves (TIME-WAIT) keeps it.
c_t23_locked_first() {
	without_runtime
	[ "$(id -u)" = 0 ] || exit 77
	build locked
	local net=78
	for how in chroot capset syscall; do
		ip tuntap add locked$net mode tap vnet_hdr user 4242 && ip link set locked$net up &&
			ip addr add 10.$net.0.1/24 dev locked$net || fail "no device"
		same abc "$(UTCP_DEV=tap:locked$net UTCP_ADDR=10.$net.0.2/24 PEER_ADDR=10.$net.0.1 ours ./locked $how 2>&1)"
		net=$((net + 1))
	done
}

c_t23_ulimit() {
	without_runtime
	build require
	local -x UTCP_STACK=none # limits meet who makes a stack, not who enters one
	# shellcheck disable=SC2016 # that bash expands
	local with=(bash -c 'ulimit "$1" "$2"; shift 2; exec "$@"' -)
	BEFORE=("${with[@]}" -f 1)
	refused 'ulimit -f' ENETDOWN ./require connect "$KERNEL" 7000
	# who may raise the limit has room above it
	BEFORE=(setpriv --bounding-set=-sys_resource --inh-caps=-sys_resource "${with[@]}" -n 5)
	refused 'ulimit -n' ENETDOWN ./require connect "$KERNEL" 7000
	BEFORE=("${with[@]}" -v 9000)
	refused 'ulimit -v' ENETDOWN ./require connect "$KERNEL" 7000
}

# A server that takes every connection and keeps it; a client that opens as many as it can, and again after it has
# closed some. What it saw, without the numbers that are a matter of size.
hoard_server() { # PORT
	/usr/bin/python3 -c "
import resource, socket
n = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (n, n))
l, k = socket.create_server(('0.0.0.0', $1), backlog=1000), []
while True:
    c = l.accept()[0]
    if c.recv(1): # once its client has closed there is nothing to keep
        k.append(c)" &
	HOARD=$!
	wait_port "$1"
	cat >hoard.py <<-'END'
		import errno, resource, socket, sys
		n = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
		if sys.argv[4] == "many":
		    resource.setrlimit(resource.RLIMIT_NOFILE, (n, n))
		def connect():
		    s = socket.socket()
		    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
		    s.connect((sys.argv[1], int(sys.argv[2])))
		    s.send(b"x")
		    return s
		def fill(s):
		    try:
		        while len(s) < n:
		            s.append(connect())
		    except OSError as e:
		        return errno.errorcode[e.errno]
		s = []
		print(fill(s), "many" if len(s) >= int(sys.argv[3]) else len(s))
		print(*[fill(s) for i in range(5)])
		few = s[:10]
		del s[:10]
		for c in few:
		    c.close()
		before = len(s)
		print(fill(s), len(s) - before >= 8)
		s[0].close()
	END
}

# Other settings, or little address space, make a stack of their own: what an earlier keeper has makes room.
c_t23_ports() {
	[[ ${SAN:-} != *thread* ]] || exit 77 # its runtime does not start in an interpreter that was not built with it
	hoard_server 7230
	local range kernel ours
	range=$(cat /proc/sys/net/ipv4/ip_local_port_range)
	echo "40000 40029" >/proc/sys/net/ipv4/ip_local_port_range || exit 77
	kernel=$(timeout 20 /usr/bin/python3 hoard.py "$KERNEL" 7230 1000 few 2>&1)
	ours=$(UTCP_CC=reno ours /usr/bin/python3 hoard.py "$KERNEL" 7230 1000 few 2>&1)
	echo "$range" >/proc/sys/net/ipv4/ip_local_port_range
	kill $HOARD
	echo "$ours"
	same "$kernel" "$ours"
	same 'EADDRNOTAVAIL 30' "$(head -1 <<<"$ours")"
	local listeners="import errno, socket
k = []
try:
    while True:
        k.append(socket.socket())
        k[-1].bind(('0.0.0.0', 0))
        k[-1].listen()
except OSError as e:
    print(errno.errorcode[e.errno], len(k))"
	echo "40000 40029" >/proc/sys/net/ipv4/ip_local_port_range
	kernel=$(timeout 20 /usr/bin/python3 -c "$listeners" 2>&1)
	ours=$(ours /usr/bin/python3 -c "$listeners" 2>&1)
	echo "$range" >/proc/sys/net/ipv4/ip_local_port_range
	same 'EADDRINUSE 31' "$kernel"
	same "$kernel" "$ours"
}

# Other processes' connections are unharmed; what is refused says so; one line; room that comes back is used.
c_t23_memory() {
	without_runtime
	hoard_server 7231
	# shellcheck disable=SC2016 # that bash expands
	BEFORE=(bash -c 'ulimit -v 130000; exec "$@"' -)
	UTCP_EXIT_DRAIN=0 ours /usr/bin/python3 hoard.py "$KERNEL" 7231 1000 many >out 2>err
	echo "status $?; $(cat out err)"
	kill $HOARD
	same 'ENOBUFS many
ENOBUFS ENOBUFS ENOBUFS ENOBUFS ENOBUFS
ENOBUFS True' "$(cat out)"
	same 1 "$(grep -c '^utcp: ' err)"
	grep -q '^utcp: the memory of the stack cannot grow .*; ' err || fail "the line does not say why"
}

# Each table of the stack when its memory cannot grow: connections, listeners, accepted ones, sets, processes.
c_t23_tables() {
	without_runtime
	build nomem
	build ../peer peer
	build require
	ulimit -n 20000
	mkfifo peer.in go
	exec 5<>peer.in 6<>go
	./peer 7233 <peer.in >peer.out &
	local peer=$! p
	wait_port 7233
	# shellcheck disable=SC2016 # that bash expands
	BEFORE=(bash -c 'ulimit -f 8192; exec "$@"' -)
	PEER_PORT=7233 ours ./nomem <go >out 2>err &
	p=$!
	wait_until 100 "the memory to be full" grep -q again out || fail "$(cat out err)"
	same ENOBUFS "$(ours ./require connect "$KERNEL" 7233 2>another)"
	same 1 "$(grep -c '^utcp: the memory of the stack cannot grow .*, ' another)"
	echo >&6
	wait_until 100 "the end" grep -q 'closed: fork' out || fail "$(cat out err)"
	same ok "$(ours ./require connect "$KERNEL" 7233)"
	echo >&6
	wait $p || fail "status $?"
	kill $peer
	cat out err
	same 'full: many ENOBUFS
full: echo ping
full: listen -1 ENOBUFS
full: accept fine
full: ADD 0
full: read
full: poll ENOMEM
full: child fine
full: fork worked
full: echo ping
again: ENOBUFS
closed: echo ping
closed: listen 0
closed: accept fine
closed: ADD 0
closed: read
closed: poll worked
closed: child fine
closed: fork worked
closed: echo ping' "$(tr -d \' <out)"
	same 1 "$(grep -c '^utcp: ' err)"
	grep -q '^utcp: the memory of the stack cannot grow ' err || fail "the line does not say why"
}

# From twenty numbers on; none of ours is to be had for another purpose, and none of the application's is lost.
c_t23_numbers() {
	without_runtime
	hoard_server 7232
	local n
	for n in 20 24 40; do
		# shellcheck disable=SC2016 # that bash expands
		BEFORE=(bash -c 'ulimit -n "$1"; shift; exec "$@"' - "$n")
		ours /usr/bin/python3 hoard.py "$KERNEL" 7232 1 few >out 2>err
		echo "$n: $(cat out err)"
		same 'EMFILE many' "$(head -1 out)"
		same 'EMFILE EMFILE EMFILE EMFILE EMFILE' "$(sed -n 2p out)"
		same 0 "$(grep -c . err)"
	done
	kill $HOARD
}

# A log that cannot be written is said where it would be by default, once, and costs nothing else.
c_t23_log() {
	build require
	local path
	for path in "$WORK/none/log" "$WORK"; do
		UTCP_LOG=$path ours ./require connect "$KERNEL" 7000 >out 2>err
		cat err
		same ok "$(cat out)"
		same 1 "$(grep -c . err)"
		grep -q "^utcp: the log $path cannot be opened (.*), messages go to stderr; check UTCP_LOG" err || fail "it is not said"
	done
	# messages of this process are not lost
	UTCP_LOG=$WORK/none/log UTCP_DEV=packet:none ours ./require connect "$KERNEL" 7000 >out 2>err
	cat err
	same 2 "$(grep -c '^utcp: ' err)"
	UTCP_LOG=$WORK/log ours ./require connect "$KERNEL" 7000 >out 2>err
	same ok "$(cat out)"
	same 0 "$(grep -c . err)"
}

# ------------------------------------------------------------ 28: no silent fallback

c_t28_require() {
	build require
	try() { # WANT LINES ENVIRONMENT... -- ARGUMENTS...
		local want=$1 lines=$2 with=() got
		shift 2
		while [ "$1" != -- ]; do
			with+=("$1")
			shift
		done
		shift
		BEFORE=(env "${with[@]}")
		got=$(ours ./require "$@" 2>err)
		echo "${with[*]} $*: $got; $(cat err)"
		same "$want" "$got"
		same "$lines" "$(grep -c '^utcp: ' err)"
	}
	local gone=(UTCP_DEV=packet:nosuch0)
	try ok 0 -- connect "$KERNEL" 7000
	try ENETDOWN 1 "${gone[@]}" -- connect "$KERNEL" 7000
	try ENETDOWN 1 "${gone[@]}" -- listen 0.0.0.0 0
	try ok 1 "${gone[@]}" UTCP_REQUIRE=0 -- connect "$KERNEL" 7000
	try ok 2 "${gone[@]}" UTCP_REQUIRE=0 UTCP_REPORT=1 -- connect "$KERNEL" 7000
	grep -q 'utcp: 1 connection went to the kernel' err || fail "the fallback is not told"
	try ok 1 "${gone[@]}" UTCP_REQUIRE=0 -- listen 0.0.0.0 0
	try ENETUNREACH 0 -- connect 192.0.2.1 7000
	try ENETUNREACH 0 -- connect 2001:db8::1 7000
	try ENETDOWN 1 UTCP_ADDR=junk -- connect "$KERNEL" 7000
	try ok 1 UTCP_ADDR=junk UTCP_REQUIRE=0 -- connect "$KERNEL" 7000
	# The kernel is the right place: loopback, a rule.
	try ok 0 -- connect 127.0.0.1 7000
	try ok 0 "UTCP_RULES=use kernel client 10.77.0.0/24" -- connect "$KERNEL" 7000
	try ok 0 "UTCP_RULES=use kernel server 0.0.0.0/0" "${gone[@]}" -- listen 0.0.0.0 0
	# A forked child has a part in its parent's stack.
	try 'ok
parent 1' 0 -- fork "$KERNEL" 7000
}

# ------------------------------------------------------------ 29: what loading costs

# counted COMMAND: its system calls without the library and with it.
counted() {
	./count - "$1" >plain || fail "$1 fails"
	./count "$LIB" "$1" >loaded || fail "$1 fails with the library"
}

# Nothing is made before the first stack socket. Loading itself: to find, map and protect one library, and no more.
c_t29_load() {
	without_runtime
	build count
	counted /bin/true
	local name n more
	for name in socket clone clone3 memfd_create epoll_create1 timerfd_create eventfd2 rt_sigaction ioctl fcntl write futex; do
		same "$name $(counter $name plain)" "$name $(counter $name loaded)"
	done
	more=$(($(counter all loaded) - $(counter all plain)))
	n=$(($(counter openat loaded) - $(counter openat plain)))
	echo "loading takes $more more system calls, $n files"
	[ "$more" -le 30 ] || fail "loading does more than mapping"
	[ "$n" -le 3 ] || fail "loading opens more than the library"
}

c_t29_kernel_only() {
	without_runtime
	build count
	build kernel_only
	# What loading alone takes is known from /bin/true.
	counted /bin/true
	local load name
	load=$(($(counter all loaded) - $(counter all plain)))
	counted ./kernel_only
	for name in socket clone clone3 memfd_create epoll_create1 timerfd_create eventfd2 rt_sigaction getpid ioctl fcntl write prctl; do
		same "$name $(counter $name plain)" "$name $(counter $name loaded)"
	done
	# Whether two threads meet at a futex is chance.
	local without=$(($(counter all plain) - $(counter futex plain))) ours=$(($(counter all loaded) - $(counter futex loaded)))
	echo "$without system calls, with the library $ours, of which $load for loading"
	[ $((ours - without)) -le $((load + 2)) ] ||
		fail "calls on kernel descriptors cost more system calls"
}

# ------------------------------------------------------------ 32: a deadline that came after the sleep began

c_t32_deadline() {
	build blackhole
	local how memory=$WORK
	BEFORE=(nice -n -20) # what is late because others compute, or write to the disk, is not our concern
	[ ! -w /dev/shm ] || memory=$(mktemp -d /dev/shm/utcp.XXXXXX)
	# shellcheck disable=SC2064 # as it is now
	trap "rm -rf '$memory'" EXIT
	for how in waiter nobody; do
		rm -f out go "$memory/hole.pcap"
		mkfifo go
		UTCP_PCAP=$memory/hole.pcap UTCP_EXIT_DRAIN=0 ours ./blackhole $how <go >out &
		exec 4>go
		wait_until 50 "the connection" grep -q ready out || fail "no connection"
		ip addr del 10.77.0.1/24 dev utcp0
		echo >&4
		exec 4>&-
		wait $!
		kernel_side utcp0
		/usr/bin/python3 - "$memory/hole.pcap" $how <<'PYTHON' || fail "retransmissions do not leave on time"
import struct, sys
data = open(sys.argv[1], "rb").read()
unit = {0xA1B23C4D: 1e-9, 0xA1B2C3D4: 1e-6}[struct.unpack("<I", data[:4])[0]]
times, at = [], 24
while at + 16 <= len(data):
    s, f, n, whole = struct.unpack("<IIII", data[at:at + 16])
    frame = data[at + 16:at + 16 + n]
    at += 16 + n
    ip = 14
    if frame[12:14] == b"\x08\x00" and frame[ip + 9] == 6 and frame[ip + 12:ip + 16] == bytes([10, 77, 0, 2]):
        tcp = ip + (frame[ip] & 15) * 4
        if struct.unpack(">H", frame[ip + 2:ip + 4])[0] - (tcp - ip) - (frame[tcp + 12] >> 4) * 4 == 1000:
            times.append(s + f * unit)
gaps = [b - a for a, b in zip(times, times[1:])]
print("%s: gaps of the retransmissions, ms: %s" % (sys.argv[2], " ".join("%.0f" % (g * 1000) for g in gaps)))
# RFC 6298: doubled each time: three take seven times the first time-out, of the twenty that the program computes.
sys.exit(len(gaps) < 3)
PYTHON
	done
}

# ------------------------------------------------------------ 33: out of a wait for ever

c_t33_longjmp() {
	build longjmp
	UTCP_STATS=$WORK/stats ours ./longjmp || fail "recv() returned"
	local helper
	helper=$(counter RxFramesHelper stats)
	echo "the helper took $helper frames"
	[ "$helper" -ge 1 ] || fail "nobody takes the frames after siglongjmp() out of a wait"
}

# ------------------------------------------------------------ 12: sets that exec() closes

# What is left of them goes: the region holds no more after many than after few.
c_t12_exec_sets() {
	local rounds few many
	build exec_sets
	for rounds in 2 40; do
		UTCP_DEV=none UTCP_LOOPBACK=stack UTCP_STATS=$WORK/stats.$rounds ours ./exec_sets $rounds || fail "status $?"
	done
	few=$(counter RegionBytes stats.2) many=$(counter RegionBytes stats.40)
	[ "$few" -gt 0 ] || fail "no figures"
	same "$few" "$many"
}

# ------------------------------------------------------------ 3: threads that exec() or the end meets inside the stack

# The kernel ends them wherever they are: not with the lock of the stack, and with it a connection.
c_t03_storm() {
	build exec_storm storm
	local how
	for how in exec exit quick _exit; do
		UTCP_DEV=none UTCP_LOOPBACK=stack UTCP_STATS=$WORK/stats ours ./storm $how ${STORM_ROUNDS:-100} >out || fail "$how: status $?: $(cat out)"
		echo "$how: $(grep -E 'OwnerDeaths|OwnerResets' stats | paste -sd' ')"
		same 0 "$(counter OwnerResets stats)"
		# it is two in three rounds without a gate, and one in thousands between its look and the lock with one
		[ "$(counter OwnerDeaths stats)" -le 1 ] || fail "threads were ended inside the stack"
	done
}

# ------------------------------------------------------------ io_uring

# It would wait on a placeholder for ever: not to be had, from before the first socket on.
c_t37_uring() {
	cat >uring.py <<-'END'
		import ctypes, errno
		libc = ctypes.CDLL(None, use_errno=True)
		print(libc.syscall(425, 8, ctypes.create_string_buffer(256)), errno.errorcode[ctypes.get_errno()])
		print(libc.io_uring_queue_init(8, ctypes.create_string_buffer(1024), 0), libc.io_uring_get_probe())
	END
	same "-1 ENOSYS
-$(/usr/bin/python3 -c 'import errno; print(errno.ENOSYS)') 0" "$(ours /usr/bin/python3 uring.py)"
}

# ------------------------------------------------------------ all of them

if [ "${1:-}" = --case ]; then
	"c_$2"
	exit
fi
"${CC:-gcc}" -std=gnu11 -D_GNU_SOURCE -O1 -pthread -o peer "$here/peer.c" || exit 1
mkfifo alive && exec 3<>alive # peer ends with its input
./peer 7000 <alive >peer.out &
wait_port 7000 || exit 1
passed=0 failed=0
[ $# -gt 0 ] || mapfile -t all < <(sed -n 's/^c_\(t[0-9]*[a-z_0-9]*\)() {$/\1/p' "$here/traps.sh")
[ $# -gt 0 ] || set -- "${all[@]}"
for name in "$@"; do
	(c_"$name") >"$name.log" 2>&1 </dev/null 3>&-
	status=$?
	if [ $status = 77 ]; then
		printf '  --    traps/%s (does not apply: a sanitizer, or no root)\n' "$name"
	elif [ $status = 0 ]; then
		passed=$((passed + 1))
		printf '  ok    traps/%s\n' "$name"
		[ -z "${VERBOSE:-}" ] || sed 's/^/          /' "$name.log"
	else
		failed=$((failed + 1))
		printf '  FAIL  traps/%s\n' "$name"
		tail -n 25 "$name.log" | sed 's/^/          /'
	fi
done
[ $failed = 0 ] && [ $passed != 0 ]
