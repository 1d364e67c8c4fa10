#!/bin/bash
# deps.sh [lint] [valgrind] [cov] [compat] [suites] - install the Debian packages that `make demo`, `make check` and
# `make bench` need; the named groups add what those targets want. Silent when everything is there.
#
# Packages must not start a service on this machine, neither now nor at the next boot: while apt-get
# works, policy-rc.d refuses every start (whatever runs already is left alone), and units that the new
# packages enabled are disabled again.
set -u

packages=(
	# build
	gcc libc6-dev make libev-dev libev4 libpcap-dev libpcap0.8 libcunit1-dev
	# playground and proof
	iproute2 ethtool tcpdump util-linux procps python3
	# unmodified programs
	busybox curl nginx netcat-openbsd netcat-traditional iperf3 redis-tools socat wrk
	# libraries that tests preload beside ours
	libjemalloc2
)
for group in "$@"; do
	case $group in
	lint) packages+=(clang-format clang-tidy cppcheck shellcheck mandoc codespell binutils) ;;
	valgrind) packages+=(valgrind libc6-dbg) ;;
	cov) ;; # gcov comes with gcc
	suites) packages+=(libpython3.11-testsuite openssl) ;;
	compat)
		mapfile -t more < <(sed 's/#.*//' "$(dirname "$(readlink -f "$0")")/../tests/compat/packages" | xargs -n1)
		packages+=("${more[@]}")
		;;
	*)
		echo "deps: unknown group '$group'; use lint, valgrind, cov, compat or suites" >&2
		exit 2
		;;
	esac
done

fail() {
	echo "deps: $1" >&2
	exit 1
}

missing=()
if command -v dpkg-query >/dev/null; then
	installed=" $(dpkg-query -W -f='${db:Status-Abbrev}|${Package}\n' 2>/dev/null |
		sed -n 's/^.i .*|//p' | tr '\n' ' ')"
	for p in "${packages[@]}"; do
		[[ $installed == *" $p "* ]] || missing+=("$p")
	done
else
	missing=("${packages[@]}")
fi
((${#missing[@]})) || exit 0

command -v apt-get >/dev/null ||
	fail "this is no Debian system; install the equivalents of: ${missing[*]}"
if [ "$(id -u)" != 0 ]; then
	command -v sudo >/dev/null ||
		fail "run as root or install sudo; these packages are missing: ${missing[*]}"
	exec sudo -- "$(readlink -f "$0")" "$@"
fi

policy=/usr/sbin/policy-rc.d
aside=
log=$(mktemp /tmp/utcp-deps.XXXXXX) || fail "/tmp cannot be written; free some space"

enabled_units() {
	find /etc/systemd/system -path '*.wants/*' -name '*.*' -printf '%f\n' 2>/dev/null | sort -u
	find /etc/rc[2345].d -name 'S*' -printf '%f\n' 2>/dev/null | sed 's/^S[0-9]*//' | sort -u
}

restore() {
	trap - EXIT
	rm -f "$policy"
	if [ -n "$aside" ]; then mv "$aside" "$policy"; fi
	while read -r unit; do
		deb-systemd-helper disable "$unit" >/dev/null 2>&1
		update-rc.d "${unit%.service}" disable >/dev/null 2>&1
	done < <(comm -13 "$log.before" <(enabled_units | sort -u))
	rm -f "$log.before"
}

enabled_units | sort -u >"$log.before"
trap restore EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
if [ -e "$policy" ] || [ -L "$policy" ]; then
	aside=$policy.utcp.$$
	mv "$policy" "$aside" || fail "$policy cannot be moved aside; is /usr writable?"
fi
printf '#!/bin/sh\n# Of libutcp: no service starts while its packages are installed.\nexit 101\n' >"$policy" ||
	fail "$policy cannot be written; is /usr writable?"
chmod 755 "$policy"

echo "deps: installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
apt=(apt-get -qq -o DPkg::Lock::Timeout=120 -o Dpkg::Use-Pty=0)
"${apt[@]}" update >"$log" 2>&1
if ! "${apt[@]}" install -y --no-install-recommends "${missing[@]}" >>"$log" 2>&1; then
	fail "apt-get failed ($(grep -m1 '^E:' "$log" || tail -n1 "$log")); all it said is in $log"
fi
rm -f "$log"
