#!/bin/bash
# run.sh [MODULE...] - CPython's own test suite, once on the kernel's TCP and once on the stack, compared test by test.
#
# The stack has no device here: clients and servers meet on 127.0.0.1 and ::1 inside it (UTCP_LOOPBACK=stack), and
# UTCP_REQUIRE=1 lets nothing fall to the kernel. Every test that passes on the kernel must pass on the stack; `differ`
# beside this file lists those that may not, each with its reason. One that failed is given a second chance, on both
# sides, because tests of threads and time-outs fail now and then on a busy machine: what fails twice counts.
#
# Each run has network, PID and mount namespaces of its own and a directory that is removed. The interpreter is not
# their first process: that one has no keeper, and programs that it starts cannot enter its stack. SECONDS_EACH: how long one
# test may take; KEEP=DIR keeps what the tests said.
set -u
here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
BUILD=$(readlink -f "${BUILD:-$here/../../build}")
seconds=${SECONDS_EACH:-120}
modules=("$@")
[ $# != 0 ] || mapfile -t modules < <(sed 's/#.*//' "$here/modules" | xargs -n1)

die() {
	echo "suites: $1" >&2
	exit 2
}
[ "$(id -u)" = 0 ] || die "network namespaces want root; run as root"
[ -r "$BUILD/libutcp.so" ] || die "no $BUILD/libutcp.so; run make"
/usr/bin/python3 -c 'import test.test_socket' 2>/dev/null || die "no tests of python; run scripts/deps.sh suites"

work=$(mktemp -d "${KEEP:-/tmp}/utcp-suites.XXXXXX") || die "${KEEP:-/tmp} cannot be written"
[ -n "${KEEP:-}" ] || trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# side kernel|stack RESULTS MODULE: until all its tests have a line, also when some end the interpreter.
side() {
	local by=() cwd turn
	cwd=$(mktemp -d "$work/cwd.XXXXXX") || die "$work cannot be written"
	for turn in {1..20}; do
		[ "$1" = kernel ] || by=(env UTCP_DEV=none UTCP_LOOPBACK=stack UTCP_REQUIRE=1 UTCP_REPORT=0
			"UTCP_LOG=$work/$3.log" "UTCP_STATS=$work/$3.stats.$turn" "LD_PRELOAD=$BUILD/libutcp.so")
		(cd "$cwd" && timeout -k 5 3600 unshare -n -p -m -f --kill-child --mount-proc -- \
			bash -c 'ip link set lo up; "$@"; exit $?' - "${by[@]}" \
			/usr/bin/python3 "$here/cpython.py" "$2" "$seconds" "$3") >>"$2.said" 2>&1 </dev/null && break
	done
	rm -rf "$cwd"
	[ "$turn" != 20 ] || echo "$3 on the $1: ended 20 times" >&2
}

# outcomes RESULTS: "test <tab> outcome", the last line of each test, sorted.
outcomes() {
	awk -F'\t' '{ o[$2] = $1 } END { for (t in o) print t "\t" o[t] }' "$1" | LC_ALL=C sort
}

# worse MODULE: what passes on the kernel and not on the stack.
worse() {
	LC_ALL=C join -t $'\t' -a 1 -e missing -o 0,1.2,2.2 <(outcomes "$work/$1.kernel") <(outcomes "$work/$1.stack") |
		awk -F'\t' '$2 == "passed" && $3 != "passed" { print $1 "\t" $3 }'
}

# again MODULE: its tests that passed on the kernel only get their second chance.
again() {
	local t
	worse "$1" | cut -f 1 >"$work/again"
	for t in kernel stack; do
		grep -v -F -f <(sed 's/^/\t/' "$work/again") "$work/$1.$t" >"$work/kept"
		mv "$work/kept" "$work/$1.$t"
		side "$t" "$work/$1.$t" "$1"
	done
}

count() { # RESULTS OUTCOME
	outcomes "$1" | grep -c "	$2\$"
}

# carried MODULE: the connections that the stack says it had.
carried() {
	cat "$work/$1".stats.* 2>/dev/null | awk '$1 == "PassiveOpens" { n += $2 } END { print n + 0 }'
}

bad=0 passed=0 connections=0
printf '%-34s %8s %8s   %s\n' "passed" kernel stack "(its connections)"
for m in "${modules[@]}"; do
	side kernel "$work/$m.kernel" "$m"
	side stack "$work/$m.stack" "$m"
	[ -z "$(worse "$m")" ] || again "$m"
	ours=$(count "$work/$m.stack" passed) carried=$(carried "$m")
	printf '%-34s %8d %8d   %8d\n' "$m" "$(count "$work/$m.kernel" passed)" "$ours" "$carried"
	passed=$((passed + ours)) connections=$((connections + carried))
	while IFS=$'\t' read -r name outcome; do
		reason=$(awk -F'\t' -v t="$name" '$1 == t { print $2 }' "$here/differ")
		if [ -n "$reason" ]; then
			echo "  $name: $outcome, may: $reason"
		else
			echo "  $name: $outcome"
			bad=$((bad + 1))
		fi
	done < <(worse "$m")
done
echo "suites: $passed tests pass on the stack, over $connections connections; $bad pass on the kernel only"
[ "$bad" = 0 ] && [ "$passed" != 0 ] && [ "$connections" != 0 ]
