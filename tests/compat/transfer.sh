# transfer.sh - programs that move bytes. Sourced by run.sh.
# shellcheck shell=bash

cases_transfer() {
	cat <<-'EOF'
		curl|60|client loopback|curl: download, upload, 30 requests on one connection, 8 at once
		wget|60|client loopback|wget: download, recursive
		nc_openbsd|60|server client loopback|nc (OpenBSD): both directions at once
		nc_traditional|60|server client loopback|nc (traditional): both directions, `-e`
		ncat|90|server client loopback|ncat: both directions, `--keep-open --exec`, TLS
		socat|90|server client loopback|socat: `fork`, `EXEC`, `SYSTEM`, OpenSSL
		telnet|30|client loopback|telnet
		bash_dev_tcp|30|client loopback|bash: `/dev/tcp`
		busybox|60|server client loopback|busybox: `httpd`, `wget`, `nc`
		inetd|60|server loopback|inetd: services with the connection as standard input and output
		iperf3|90|server client loopback|iperf3: both directions, 4 streams
		openssl|60|server client loopback|openssl: `s_server`, `s_client`
	EOF
}

# web_server: files of www on $WEB, by whatever is the simplest.
WEB=8080
web_server() {
	nginx_config "$WORK/web.conf" $WEB "location /up { root $WORK/put; dav_methods PUT; }"
	sed -i -e 's|types { }|types { text/html html; }|' -e '1i user root;' web.conf
	mkdir -p put/up
	serve $WEB nginx -e "$WORK/nginx/error.log" -c "$WORK/web.conf"
}

curl_gets() { # NUMBER
	C curl -sS -o "got.$1" "http://$ADDR:$WEB/two" && cmp "got.$1" www/two
}
c_curl() {
	needs curl nginx
	web_server
	C curl -sS -o got "http://$ADDR:$WEB/big" || fail "download: status $?"
	same got www/big
	C curl -sS -T www/big "http://$ADDR:$WEB/up/big" || fail "upload: status $?"
	same put/up/big www/big
	# shellcheck disable=SC2046
	C curl -sS -w '%{num_connects}\n' $(for i in {1..30}; do echo "-o got.$i http://$ADDR:$WEB/two"; done) >connects ||
		fail "30 requests: status $?"
	[ "$(awk '{ n += $1 } END { print n }' connects)" = 1 ] || fail "not one connection: $(tr '\n' ' ' <connects)"
	for i in {1..30}; do same "got.$i" www/two; done
	at_once 8 curl_gets
	C curl -sS "http://$ADDR:9/" 2>err && fail "a closed port answers"
	says 'Failed to connect\|refused' err
}

c_wget() {
	needs wget nginx
	printf '<a href="two">two</a> <a href="small">small</a>' >www/index.html
	web_server
	C wget -q -O got "http://$ADDR:$WEB/big" || fail "status $?"
	same got www/big
	C wget -q -r -nd -P tree "http://$ADDR:$WEB/index.html" || fail "recursive: status $?"
	same tree/two www/two
	same tree/small www/small
}

c_nc_openbsd() {
	needs nc.openbsd
	S nc.openbsd -N -l 0.0.0.0 7001 <www/big >server.got &
	SERVER=$!
	wait_port 7001 || fail "it does not listen"
	C nc.openbsd -d "$ADDR" 7001 >client.got || fail "client: status $?"
	wait "$SERVER" || fail "server: status $?"
	same client.got www/big
	S nc.openbsd -d -l 0.0.0.0 7002 >server.got &
	SERVER=$!
	wait_port 7002 || fail "it does not listen"
	C nc.openbsd -N "$ADDR" 7002 <www/big || fail "client: status $?"
	wait "$SERVER" || fail "server: status $?"
	same server.got www/big
	C nc.openbsd -z -w 5 "$ADDR" 7003 && fail "a closed port is open"
	return 0
}

c_nc_traditional() {
	needs nc.traditional
	S nc.traditional -q 1 -l -p 7001 <www/two >server.got &
	SERVER=$!
	wait_port 7001 || fail "it does not listen"
	C nc.traditional -q 1 "$ADDR" 7001 <www/two >client.got || fail "client: status $?"
	wait "$SERVER" || fail "server: status $?"
	same server.got www/two
	same client.got www/two
	S nc.traditional -l -p 7002 -e /bin/cat &
	SERVER=$!
	wait_port 7002 || fail "it does not listen"
	C nc.traditional -q 1 "$ADDR" 7002 <www/small >client.got || fail "client: status $?"
	same client.got www/small
}

# ncat does not look at what send() returns, and the SIGCHLD of its program cuts a send() that blocks short: over the
# kernel's TCP, too, the last bytes are then missing. So the program that has much to say ends when the client has all
# of it, and the one that ends at once says no more than a new connection takes (both_sndbuf).
ncat_has() { # FILE LIKE
	[ "$(stat -c %s "$1")" = "$(stat -c %s "$2")" ]
}
ncat_gets() { # NUMBER
	: >"got.$1"
	{
		wait_until 400 "the end of got.$1" ncat_has "got.$1" www/two
		echo end
	} | C ncat "$ADDR" 7002 >"got.$1" && cmp "got.$1" www/two
}
ncat_gets_little() { # NUMBER
	C ncat --recv-only "$ADDR" 7004 >"got.$1" && cmp "got.$1" www/little
}
c_ncat() {
	needs ncat
	S ncat --recv-only -l 0.0.0.0 7001 >server.got &
	SERVER=$!
	wait_port 7001 || fail "it does not listen"
	C ncat --send-only "$ADDR" 7001 <www/big || fail "client: status $?"
	wait "$SERVER" || fail "server: status $?"
	same server.got www/big
	S ncat --send-only -l 0.0.0.0 7005 <www/big &
	SERVER=$!
	wait_port 7005 || fail "it does not listen"
	C ncat --recv-only "$ADDR" 7005 >got || fail "client: status $?"
	wait "$SERVER" || fail "server: status $?"
	same got www/big
	printf '#!/bin/sh\ncat www/two; read -r _\n' >two_and_wait
	chmod 755 two_and_wait
	serve 7002 ncat -l 0.0.0.0 7002 --keep-open --exec "$WORK/two_and_wait"
	at_once 5 ncat_gets
	head -c 40000 www/two >www/little
	serve 7004 ncat -l 0.0.0.0 7004 --keep-open --exec "/bin/cat $WORK/www/little"
	at_once 10 ncat_gets_little
	S ncat --ssl --send-only -l 0.0.0.0 7003 <www/two &
	SERVER=$!
	wait_port 7003 || fail "it does not listen"
	C ncat --ssl --recv-only "$ADDR" 7003 >got || fail "TLS client: status $?"
	same got www/two
	wait "$SERVER" || fail "TLS server: status $?"
}

socat_echo() { # PORT NUMBER
	C socat -t 20 - "TCP:$ADDR:$1" <www/two >"got.$2" && cmp "got.$2" www/two
}
certificate() {
	openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 30 -subj /CN=localhost \
		-addext "subjectAltName=DNS:localhost,IP:$ADDR" 2>/dev/null && cat key.pem cert.pem >both.pem && chmod 644 ./*.pem
}
# The servers, too, are patient once one direction has ended: half a second, socat's own choice, passes on a busy machine.
# And in blocks of a page: with more, PIPE can block for good in its own pipe, over the kernel's TCP as well, since poll()
# calls a pipe with a page left writable.
c_socat() {
	needs socat openssl
	serve 7001 socat -t 20 -b 4096 TCP-LISTEN:7001,fork,reuseaddr,backlog=64 PIPE
	at_once 8 socat_echo 7001
	serve 7002 socat -t 20 TCP-LISTEN:7002,fork,reuseaddr EXEC:/bin/cat
	at_once 4 socat_echo 7002
	serve 7003 socat TCP-LISTEN:7003,fork,reuseaddr EXEC:/bin/cat,nofork
	at_once 4 socat_echo 7003
	serve 7004 socat -t 20 TCP-LISTEN:7004,fork,reuseaddr 'SYSTEM:cat | cat'
	at_once 2 socat_echo 7004
	certificate || fail "no certificate"
	serve 7005 socat -t 20 -b 4096 OPENSSL-LISTEN:7005,fork,reuseaddr,cert=both.pem,verify=0 PIPE
	C socat -t 20 - "OPENSSL:$ADDR:7005,cafile=cert.pem,commonname=localhost" <www/two >got || fail "TLS: status $?"
	same got www/two
}

# lines: a service that gives back each line in brackets.
lines() {
	cat >lines <<-'END'
		#!/bin/bash
		while read -r line; do echo "[${line%$'\r'}]"; done
	END
	chmod 755 lines
}

c_telnet() {
	needs telnet socat
	lines
	serve 7001 socat TCP-LISTEN:7001,fork,reuseaddr "EXEC:$WORK/lines"
	{
		sleep 0.5
		echo one
		echo two
		sleep 1
	} | C telnet "$ADDR" 7001 >got 2>&1
	says 'Connected to' got
	says '^\[one\]' got
	says '^\[two\]' got
}

c_bash_dev_tcp() {
	needs socat
	serve 7001 socat -t 20 TCP-LISTEN:7001,fork,reuseaddr PIPE
	C bash -c "exec 3<>/dev/tcp/$ADDR/7001; for i in {1..100}; do echo \"line \$i\" >&3; read -r l <&3; echo \"\$l\"; done" >got ||
		fail "status $?"
	for i in {1..100}; do echo "line $i"; done >want
	same got want
	S nc.openbsd -N -l 0.0.0.0 7002 <www/two >rest &
	wait_port 7002 || fail "nc does not listen"
	C bash -c "exec 3<>/dev/tcp/$ADDR/7002; head -c 1000000 <&3 >first; exec cat <&3 >second" || fail "status $?"
	cat first second >got
	same got www/two
}

c_busybox() {
	needs busybox
	serve 7001 busybox httpd -f -p 7001 -h "$WORK/www"
	C busybox wget -q -O got "http://$ADDR:7001/big" || fail "status $?"
	same got www/big
	S busybox nc -l -p 7002 <www/two >server.got &
	SERVER=$!
	wait_port 7002 || fail "it does not listen"
	C busybox nc "$ADDR" 7002 <www/two >client.got || fail "client: status $?"
	same client.got www/two
	wait "$SERVER" || fail "server: status $?"
	same server.got www/two
}

inetd_echo() { # PORT NUMBER
	C nc.openbsd -N "$ADDR" "$1" <www/two >"got.$2" && cmp "got.$2" www/two
}
c_inetd() {
	needs inetd
	cat >inetd.conf <<-END
		7001 stream tcp nowait root /bin/cat cat
		7002 stream tcp nowait nobody /usr/bin/busybox busybox cat
		7003 stream tcp nowait root $WORK/lines lines
	END
	lines
	serve 7001 inetd -d inetd.conf
	at_once 5 inetd_echo 7001
	at_once 5 inetd_echo 7002
	for i in {1..10}; do
		[ "$(echo "line $i" | C nc.openbsd -N "$ADDR" 7003)" = "[line $i]" ] || fail "line $i"
	done
}

c_iperf3() {
	needs iperf3
	serve 5201 iperf3 -s
	local how
	for how in "" "-R" "-P 4" "--bidir"; do
		# shellcheck disable=SC2086
		C iperf3 -c "$ADDR" -t 1 $how -J >iperf.json || fail "iperf3 $how: $(grep '"error"' iperf.json)"
		/usr/bin/python3 -c 'import json, sys
e = json.load(open("iperf.json"))["end"]
for k in e:
    if k.startswith("sum_received") and e[k]["bytes"] < 1000000: sys.exit(1)' || fail "iperf3 $how moved next to nothing"
	done
}

c_openssl() {
	needs openssl
	certificate || fail "no certificate"
	serve 7001 openssl s_server -accept 7001 -cert cert.pem -key key.pem -WWW
	printf 'GET /www/two HTTP/1.0\r\n\r\n' |
		C openssl s_client -quiet -ign_eof -verify_return_error -CAfile cert.pem -connect "$ADDR:7001" >got 2>err ||
		fail "s_client: $(tail -n3 err)"
	tail -c 2097152 got | cmp - www/two || fail "the bytes differ"
	end TERM any
	serve 7002 openssl s_server -accept 7002 -cert cert.pem -key key.pem -rev
	for i in {1..5}; do
		[ "$({ echo "abc $i"; sleep 0.5; } | C openssl s_client -quiet -no_ign_eof -verify_return_error -CAfile cert.pem \
			-connect "$ADDR:7002" 2>/dev/null)" = "$i cba" ] || fail "exchange $i"
	done
}
