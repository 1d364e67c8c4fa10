#!/bin/bash
# run.sh [LEG...] [CASE...] - real programs with real jobs over libutcp, each judged by content.
#
# A case is a function c_NAME in one of the files below: a server, a client, and what must come out. It runs on up
# to three legs:
#
#   server    over a TAP: the server under libutcp (10.77.0.2), the client on the kernel's TCP (10.77.0.1)
#   client    over a TAP: the other way round
#   loopback  no device: both under libutcp, separate processes of one stack, on 127.0.0.1
#
# "no" is what a program that libutcp cannot help says itself (outside.sh). The leg "kernel", without libutcp, judges the case itself; it runs when it is asked for.
#
# Each run has network, PID and mount namespaces of its own, which take everything with them when it ends. UTCP_REQUIRE=1
# lets nothing fall to the kernel; that the kernel's TCP did nothing that was the stack's is proven twice (kernel_proof in
# lib.sh). A run of everything writes README.md's table (table.py). VERBOSE=1 shows what a case said.
set -u
here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
# shellcheck source=tests/compat/lib.sh
. "$here/lib.sh"
for f in transfer web remote databases languages outside; do
	# shellcheck source=/dev/null
	. "$here/$f.sh"
done

# NAME SECONDS LEGS TITLE: in the order of the table.
cases() {
	local f
	for f in transfer web remote databases languages outside; do "cases_$f"; done
}

if [ "${1:-}" = --case ]; then
	case_run "$2" "$3"
	exit
fi

[ "$(id -u)" = 0 ] || die "servers change their user; run as root"
legs=() chosen=()
for a in "$@"; do
	case $a in
	server | client | loopback | kernel) legs+=("$a") ;;
	*) declare -F "c_$a" >/dev/null || die "no leg and no case '$a'"; chosen+=("$a") ;;
	esac
done
[ ${#legs[@]} != 0 ] || legs=(server client loopback)

passed=0 failed=0 skipped=0 declined=0 results=
log=$(mktemp /tmp/utcp-compat.XXXXXX) || die "/tmp cannot be written; free some space"
trap 'rm -f "$log" "$results"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
[ $# != 0 ] || results=$(mktemp /tmp/utcp-compat.XXXXXX)
while IFS='|' read -r name seconds on title; do
	[ ${#chosen[@]} = 0 ] || [[ " ${chosen[*]} " == *" $name "* ]] || continue
	for leg in "${legs[@]}"; do
		[[ " $on kernel " == *" $leg "* ]] || continue
		start=$EPOCHREALTIME
		timeout -k 5 "$seconds" unshare -n -p -m -f --kill-child --mount-proc -- \
			bash "$here/run.sh" --case "$leg" "$name" >"$log" 2>&1 </dev/null
		status=$?
		took=$(awk -v a="$start" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.1f", b - a }')
		case $status in
		0) word=ok passed=$((passed + 1)) ;;
		77) word=skip skipped=$((skipped + 1)) ;;
		78) word=no declined=$((declined + 1)) ;;
		*) word=FAIL failed=$((failed + 1)) ;;
		esac
		[ $status != 124 ] || echo "FAIL: not done after $seconds s" >>"$log"
		printf '  %-5s %s/%s (%s s)\n' "$word" "$leg" "$name" "$took"
		[[ $word == skip || $word == no ]] && tail -n1 "$log" | sed 's/^/          /'
		[ $word = FAIL ] && tail -n "${LINES_SHOWN:-25}" "$log" | sed 's/^/          /'
		[ $word = ok ] && [ -n "${VERBOSE:-}" ] && sed 's/^/          /' "$log"
		[ -z "$results" ] || echo "$name|$leg|$word|$title|$(tail -n1 "$log")" >>"$results"
	done
done < <(cases)
[ -z "$results" ] || "$here/table.py" "$results" || failed=$((failed + 1))
[ $declined = 0 ] || echo "$declined do not work, for the reason that they gave"
[ $skipped = 0 ] || echo "$skipped skipped"
echo "$passed passed, $failed failed"
[ $failed = 0 ] && [ $passed != 0 ]
