#!/bin/bash
# launcher.sh - what people do wrong: each mistake gets one line `utcp: cause; what to do` and status 2 (126, 127).
# shellcheck disable=SC2016 # the shells under test expand
set -u
# shellcheck disable=SC2016 # the shells under test expand
# shellcheck source=tests/interop/lib.sh
. "$(dirname "$(readlink -f "$0")")/lib.sh"
playground_enter "$@"
cd "$WORK" || exit 1
topology_tap
LIB=$BUILD/libutcp.so
passed=0 failed=0

# expect STATUS PATTERN COMMAND...: status, and exactly one line on stderr that begins "utcp: " and fits.
expect() {
	local want=$1 pattern=$2 got
	shift 2
	timeout 10 "$@" >out 2>err </dev/null
	got=$?
	if [ $got != "$want" ] || [ "$(wc -l <err)" != 1 ] || ! grep -qE "^utcp: .*$pattern" err || { ! grep -q '; ' err; }; then
		printf '  FAIL  launcher: %s\n          status %d, not %d: %s\n' "$*" "$got" "$want" "$(cat err)"
		failed=$((failed + 1))
	else
		passed=$((passed + 1))
	fi
}

# works TEXT COMMAND...: status 0, and the output is TEXT.
works() {
	local want=$1 got
	shift
	timeout 10 "$@" >out 2>err </dev/null
	got=$?
	if [ $got != 0 ] || [ "$(cat out)" != "$want" ]; then
		printf '  FAIL  launcher: %s\n          status %d, output %s: %s\n' "$*" "$got" "$(cat out)" "$(cat err)"
		failed=$((failed + 1))
	else
		passed=$((passed + 1))
	fi
}

# options
works "utcp $("$UTCP" --version | cut -d' ' -f2)" "$UTCP" --version
expect 2 'no command' "$UTCP"
expect 2 "unknown option '-x'" "$UTCP" -x true
expect 2 "unknown option '--frob'" "$UTCP" --frob true
expect 2 "'both' is no place for loopback" "$UTCP" --loopback both true
works '' "$UTCP" -d none --loopback stack true
expect 2 "'--device' lacks its value" "$UTCP" --device
expect 2 "'eth0' is no device" "$UTCP" -d eth0 true
expect 2 'no prefix length' "$UTCP" -a 10.0.0.1 true
expect 2 'is no address' "$UTCP" --address ten true
expect 2 'is no gateway' "$UTCP" -g nowhere true
expect 2 'outside the stack' "$UTCP" -g 192.0.2.1 true
expect 2 'is no congestion control' "$UTCP" -c vegas true
expect 2 'is no rule' "$UTCP" --rule 'use it' true
expect 2 'cannot write the capture' "$UTCP" -w /nonexistent/x.pcap true
expect 2 'UTCP_PCAP_FILTER' env UTCP_PCAP_FILTER='tcp sport' "$UTCP" -w "$WORK/x.pcap" true
expect 2 'UTCP_RULES' env UTCP_RULES='use nothing' "$UTCP" true
expect 2 'UTCP_REQUIRE' env UTCP_REQUIRE=maybe "$UTCP" true

# configuration
expect 2 'no such file' env UTCP_CONF=/nonexistent "$UTCP" true
printf 'mtu = 1500\naddr = 10.0.0.1\n' >bad.conf
expect 2 'bad.conf:2: .*no prefix length' env UTCP_CONF=bad.conf "$UTCP" true
expect 2 'bad.conf:2' env UTCP_CONF="$WORK/bad.conf" "$UTCP" true
expect 2 'cannot be read .Is a directory.;' env UTCP_CONF="$WORK" "$UTCP" true
mkfifo pipe.conf
expect 2 'pipe.conf: is a pipe' env UTCP_CONF=pipe.conf "$UTCP" true
expect 0 'UTCP_ADR is no setting' env UTCP_ADR=10.0.0.1/24 "$UTCP" true
expect 0 'UTCP_RQUIRE is no setting' env UTCP_RQUIRE=1 LD_PRELOAD="$BUILD/libutcp.so" /usr/bin/python3 -c 'import socket; socket.socket()'
printf 'mtu = 1234\n' >utcp.conf
works '' "$UTCP" sh -c 'echo "$UTCP_MTU"'

# device
expect 2 'no interface nosuch0' "$UTCP" -d packet:nosuch0 -a 10.0.0.2/24 true
expect 2 'no address on packet:lo' env -u UTCP_ADDR "$UTCP" -d packet:lo true
expect 2 'is no TAP' "$UTCP" -d tap:lo true
ip link set utcp0 mtu 127
expect 2 'too small for TCP' "$UTCP" true
ip link set utcp0 mtu 128
works connected env UTCP_REQUIRE=1 "$UTCP" /usr/bin/python3 -c '
import socket, subprocess, sys
server = subprocess.Popen([sys.executable, "-c", """
import socket
s = socket.create_server(("10.77.0.1", 7001))
print("ready", flush=True)
c, _ = s.accept()
c.sendall(c.recv(9, socket.MSG_WAITALL))"""], env={}, stdout=subprocess.PIPE)
server.stdout.readline()
s = socket.create_connection(("10.77.0.1", 7001), 8)
s.sendall(b"connected")
print(s.recv(9, socket.MSG_WAITALL).decode())
server.wait()'
ip link set utcp0 mtu 1500
/usr/bin/python3 -c '
import fcntl, os, struct, time
f = os.open("/dev/net/tun", os.O_RDWR)
fcntl.ioctl(f, 0x400454CA, struct.pack("16sH22x", b"utcp0", 0x5002))
print("held", flush=True)
time.sleep(30)' >holder &
holder=$!
wait_until 50 "the holder of the device" grep -q held holder
expect 2 'utcp0 is in use by' "$UTCP" true
kill $holder
wait $holder 2>/dev/null
works '' "$UTCP" true
if [ "$(id -u)" = 0 ] && setpriv --reuid=65534 --regid=65534 --clear-groups true 2>/dev/null; then
	nobody=(setpriv --reuid=65534 --regid=65534 --clear-groups --bounding-set=-all)
	cp "$UTCP" "$BUILD/libutcp.so" .
	expect 2 'no permission|cannot be opened' "${nobody[@]}" ./utcp -d tap:new0 true
	expect 2 'no packet socket' "${nobody[@]}" ./utcp -d packet:utcp0 -a 10.0.0.2/24 true
	printf 'mtu = 1500\n' >secret.conf
	chmod 600 secret.conf
	expect 2 'secret.conf: cannot be read' "${nobody[@]}" env UTCP_CONF="$WORK/secret.conf" ./utcp true
	cp /bin/true setuid
	chmod 4755 setuid
	expect 2 'setuid is setuid or setgid' "${nobody[@]}" ./utcp -d none ./setuid
	# two commands that find each other without a device and without a right to anything
	nothing=("${nobody[@]}" env UTCP_REQUIRE=1 ./utcp -d none --loopback stack)
	"${nothing[@]}" /usr/bin/python3 -c '
import socket
s = socket.create_server(("127.0.0.1", 7070))
s.settimeout(60)
c, _ = s.accept()
c.sendall(c.recv(100) + b" beside")' &
	server=$!
	# shellcheck disable=SC2016
	works 'one beside' "${nothing[@]}" /usr/bin/python3 -c '
import socket, time
for i in range(400):
    try:
        s = socket.create_connection(("127.0.0.1", 7070))
        break
    except ConnectionRefusedError:
        time.sleep(0.02)
s.sendall(b"one")
print(s.makefile().read())'
	wait $server
fi

# memory (a sanitizer's runtime needs more than this by itself)
if (ulimit -v 10000 && "$UTCP" --version >/dev/null 2>&1); then
	little() { (ulimit -v 10000 && exec "$UTCP" "$@"); }
	export -f little
	export UTCP
	for device in '-d tap:new0' '-d none --loopback stack' '-d tap:utcp0'; do
		expect 2 'memory cannot be mapped' bash -c "little $device true"
	done
fi

# command
expect 127 'nosuch: No such file' "$UTCP" nosuch
expect 127 'No such file' "$UTCP" ./nosuch
: >plain.txt
expect 126 'Permission denied' "$UTCP" ./plain.txt
expect 126 'Permission denied' "$UTCP" /etc
# files that are cut short: the command, its interpreter, the library
for n in 4 63 100 600; do
	head -c $n /bin/true >short
	chmod 755 short
	expect 126 'short: Exec format error' "$UTCP" ./short
done

printf '#!%s\n' "$WORK/short" >script
chmod 755 script
expect 126 'short: Exec format error' "$UTCP" ./script
printf 'int x;\n' | gcc -c -xc -o object - && chmod 755 object
expect 126 'object: Exec format error' "$UTCP" ./object
mkdir damaged
cp "$UTCP" damaged/utcp
size=$(stat -c %s "$LIB")
for n in 0 3 63 1000 4096 100000 300000; do
	head -c "$n" "$LIB" >damaged/libutcp.so
	chmod 755 damaged/libutcp.so
	expect 2 'libutcp.so is damaged' damaged/utcp touch started
done
head -c "$size" /dev/zero >damaged/libutcp.so
expect 2 'libutcp.so is damaged' damaged/utcp touch started
{ head -c 2000 "$LIB" && tail -c +2001 /dev/zero | head -c $((size - 2000)); } >damaged/libutcp.so
expect 2 'libutcp.so is damaged' damaged/utcp touch started
works '' test ! -e started
cp "$LIB" damaged/libutcp.so
works fine damaged/utcp echo fine
printf 'int main(void) { return 0; }\n' | gcc -static -xc -o static - 2>/dev/null
if [ -x static ]; then
	expect 2 'static is statically linked' "$UTCP" ./static
	printf '#!%s\n' "$WORK/static" >script
	chmod +x script
	expect 2 'static is statically linked' "$UTCP" ./script
	printf '#!/usr/bin/env static\n' >script
	expect 2 'static is statically linked' env PATH="$WORK:$PATH" "$UTCP" ./script
fi

# the way to the command
works "$BUILD/libutcp.so" "$UTCP" sh -c 'echo "$LD_PRELOAD"'
# installed, and without the tree that it came from
make -s -C "$ROOT" -o all install BUILD="$BUILD" DESTDIR="$WORK/root" PREFIX=/usr || failed=$((failed + 1))
mv root moved
works "$WORK/moved/usr/lib/libutcp.so" moved/usr/bin/utcp sh -c 'echo "$LD_PRELOAD"'
works "libutcp $("$UTCP" --version | cut -d' ' -f2): TCP in user space" sh -c 'moved/usr/lib/libutcp.so | sed 1q'
works /usr/lib/libutcp.so sed -n 's/^libdir=\(.*\)/\1\/libutcp.so/p' \
	moved/usr/lib/pkgconfig/libutcp.pc
works 'x y' "$UTCP" -q -- echo x y
works '-a' "$UTCP" echo -a
works 'use kernel client 10.1.0.0/16;use stack client 10.0.0.0/8;use stack server 0.0.0.0/0' \
	env UTCP_RULES='use stack server 0.0.0.0/0' "$UTCP" --rule 'use kernel client 10.1.0.0/16' \
	--rule 'use stack client 10.0.0.0/8' sh -c 'echo "$UTCP_RULES"'
works "$WORK/x.pcap" "$UTCP" -w x.pcap sh -c 'echo "$UTCP_PCAP"'
timeout 10 "$UTCP" sh -c 'exit 7'
if [ $? = 7 ]; then
	passed=$((passed + 1))
else
	failed=$((failed + 1))
	echo '  FAIL  launcher: the exit status of the command is lost'
fi

[ $passed = 0 ] || echo "  ok    launcher ($passed checks)"
[ $failed = 0 ]
