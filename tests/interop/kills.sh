#!/bin/bash
# kills.sh - kill -9 of processes that share one stack, at random, under load: kills.py in a playground, and a
# look at what is left. UTCP_TEST_KILLS=n kills (default 40), SEED=n; UTCP_TEST_KILLS_KEEPER=0: never
# the keeper.
set -u
here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
# shellcheck source=tests/interop/lib.sh
. "$here/lib.sh"
# Inside the playground: mounts of our own, so that /proc shows its processes and nothing of it shows outside.
if [ -n "${UTCP_TEST_PLAYGROUND:-}" ] && [ -z "${KILLS_MOUNTS:-}" ]; then
	KILLS_MOUNTS=1 exec unshare -m --propagation unchanged -- bash "$0" "$@"
fi
playground_enter "$@"
# mount_private TYPE DIRECTORY: also where / is no mount (a chroot), and cannot be made private as a whole.
mount_private() {
	mount --make-private "$(stat -c %m "$2")" && mount -t "$1" "$1" "$2"
}
{ [ -n "${KILLS_MOUNTS:-}" ] && mount_private proc /proc && mount_private sysfs /sys && mount_private tmpfs /dev/shm; } ||
	die "cannot mount in a namespace of our own"
topology tap
cd "$WORK" || exit 1
bad=0
fail() {
	echo "FAIL  $1" >&2
	bad=1
}
keeper=()
[ "${UTCP_TEST_KILLS_KEEPER:-1}" = 0 ] || keeper=(keeper)
timeout -k 5 $((120 + ${UTCP_TEST_KILLS:-40})) python3 "$here/kills.py" "$WORK" "$BUILD" "${UTCP_TEST_KILLS:-40}" "${SEED:-1}" "${keeper[@]}" ||
	fail "kills.py: status $?"
grep -v '^$' kills.log | sort | uniq -c | sort -rn | head -5 >&2

# What is left of the stack is its keeper, with its own few descriptors.
for pid in $(cat stats.keepers 2>/dev/null); do
	n=$(ls /proc/"$pid"/fd 2>/dev/null | wc -l)
	[ "$n" -le 16 ] || fail "the keeper has $n descriptors"
done
[ "$(wc -w <stats.keepers)" -le 1 ] || fail "keepers: $(cat stats.keepers)"
# Somebody with other settings: it makes room.
newcomer() {
	# by the peer: it had a stack
	UTCP_CC=reno UTCP_REQUIRE=1 timeout 10 "$UTCP" nc.openbsd -v "$KERNEL" 9 2>&1 </dev/null | grep -q 'Connection refused'
}
# A child that was killed before it ran is waited for ten seconds (keeper.c).
wait_until 150 "the stack to be free" newcomer || fail "the stack is not free"
processes() { pgrep -x 'utcp-keeper|killwork'; }
nobody() { ! processes >/dev/null; }
wait_until 50 "the last process to end" nobody || fail "left: $(ps -e)"
no_names() { ! grep -q ' @' /proc/net/unix; }
wait_until 20 "the last name to go" no_names || fail "abstract sockets are left: $(grep ' @' /proc/net/unix)"
[ "$(ls -d /sys/class/net/* | wc -l)" = 2 ] || fail "interfaces: $(ls /sys/class/net)"
[ -z "$(ls -A /dev/shm)" ] || fail "files: $(ls -A /dev/shm)"
[ -z "$(ip rule list | grep -v 'lookup \(local\|main\|default\)')" ] || fail "rules: $(ip rule list)"
[ $bad = 0 ] && echo "  ok    kills"
exit $bad
