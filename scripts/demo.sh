#!/bin/bash
# demo.sh - the main job, for watching: an unmodified curl downloads 100 MB from an unmodified nginx. nginx stands on
# the kernel's TCP, curl on ours; between them is a TAP device in a network namespace that vanishes afterwards.
set -u
# shellcheck source=tests/interop/lib.sh
. "$(dirname "$0")/../tests/interop/lib.sh"
playground_enter "$@"

if [ -t 1 ]; then
	bold=$'\e[1m' dim=$'\e[2m' green=$'\e[32m' red=$'\e[31m' plain=$'\e[0m'
else
	bold='' dim='' green='' red='' plain=''
fi
title() { printf '\n%s%s%s\n' "$bold" "$1" "$plain"; }
good() { printf '  %sok%s  %s\n' "$green" "$plain" "$1"; }
bad() {
	printf '  %sFAILED%s  %s\n' "$red" "$plain" "$1"
	failed=1
}
shown() { sed "s/^/      $dim/; s/\$/$plain/"; }
failed=0

MB=100
title "libutcp: curl over our own TCP"
cat <<EOF
   $bold curl + libutcp.so$plain                          $bold nginx$plain
     10.77.0.2, TCP in the process             10.77.0.1, TCP of the kernel
          └──────────────── TAP utcp0 ────────────────┘
EOF

topology_tap
export UTCP_REQUIRE=1
mkdir "$WORK/www"
head -c ${MB}M /dev/urandom >"$WORK/www/file"
want=$(sha256sum <"$WORK/www/file")
nginx_config "$WORK/nginx.conf" 80
nginx -p "$WORK" -e "$WORK/nginx/error.log" -c "$WORK/nginx.conf" &
wait_port 80 || die "nginx did not start: $(tail -n1 "$WORK/nginx/error.log")"

title "1. Download $MB MB"
printf '      %s$ utcp curl http://10.77.0.1/file%s\n' "$dim" "$plain"
figures=$(UTCP_STATS=$WORK/stats timeout 60 "$UTCP" curl -sS -o "$WORK/got" -w '%{time_total} %{speed_download} %{local_ip}' \
	"http://$KERNEL/file")
status=$?
if [ $status = 0 ]; then
	read -r seconds speed own <<<"$figures"
	awk -v s="$seconds" -v b="$speed" -v o="$own" 'BEGIN {
		printf "      %.2f s, %.0f MB/s (%.1f Gbit/s), from address %s\n", s, b / 1e6, b * 8 / 1e9, o }'
	awk '{ v[$1] = $2 } END {
		f = v["RxFramesApp"] + v["RxFramesHelper"]
		printf "      %d frames in, %d out, %d retransmissions; %d %% of the frames were taken by curl itself\n",
			f, v["TxFrames"], v["RetransSegs"], f ? 100 * v["RxFramesApp"] / f : 0 }' "$WORK/stats"
	if [ "$(sha256sum <"$WORK/got")" = "$want" ]; then
		good "SHA-256 of both ends: ${want%% *}"
	else
		bad "the file arrived damaged: SHA-256 differs"
	fi
else
	bad "curl ended with status $status"
fi

title "2. In the middle of a download, the kernel's own sockets (ss -tanp)"
# Nobody reads on from curl until ss has looked, however long that takes; 40 MB fit into no buffers on the way.
mkfifo "$WORK/go"
(
	set -o pipefail
	timeout 60 "$UTCP" curl -sS -r 0-39999999 "http://$KERNEL/file" |
		{ head -c 1000000 >"$WORK/first" && read -r _ <"$WORK/go" && cat >"$WORK/rest"; }
) &
slow=$!
wait_until 300 "the second download" test -s "$WORK/first"
ss -tanp | sed 's/  */ /g' | shown
offenders=$(ss_offenders)
curls=$(ss -Htanp | grep '"curl"')
if [ -z "$offenders$curls" ]; then
	good "no kernel socket has 10.77.0.2 as its own, none belongs to curl"
else
	bad "the kernel carried curl's TCP"
fi
echo >"$WORK/go"
wait $slow || bad "the second download ended with status $?"
cat "$WORK/first" "$WORK/rest" | cmp -n 40000000 - "$WORK/www/file" || bad "the second download differs"

title "3. On the wire: utcp -w capture.pcap, read by tcpdump"
timeout 30 "$UTCP" -w "$WORK/capture.pcap" curl -sS -r 0-99 -o /dev/null "http://$KERNEL/file" || bad "curl ended with status $?"
tcpdump -nn -r "$WORK/capture.pcap" -c 3 tcp >"$WORK/handshake" 2>/dev/null
cut -c1-150 "$WORK/handshake" | shown
if grep -q 'Flags \[S\],' "$WORK/handshake" && grep -q 'Flags \[S\.\],' "$WORK/handshake" &&
	[ "$(wc -l <"$WORK/handshake")" = 3 ]; then
	good "SYN, SYN-ACK, ACK; the capture has $(tcpdump -nn -r "$WORK/capture.pcap" 2>/dev/null | wc -l) frames"
else
	bad "no handshake in the capture"
fi

if [ $failed = 0 ]; then
	title "All of it worked. Your own programs: sudo $([[ $BUILD == "$ROOT"/* ]] && echo "${BUILD#"$ROOT"/}" || echo "$BUILD")/utcp COMMAND"
else
	title "The demo failed."
fi
exit $failed
