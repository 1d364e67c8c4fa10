# web.sh - web servers, proxies and what puts load on them. Sourced by run.sh.
# shellcheck shell=bash

cases_web() {
	cat <<-'EOF'
		nginx|90|server loopback|nginx: 2 workers, `sendfile`, upload, reload, binary upgrade, proxy
		lighttpd|60|server loopback|lighttpd: `sendfile`, CGI
		apache_prefork|90|server loopback|apache2 (prefork): files, CGI, graceful restart under load
		apache_event|90|server loopback|apache2 (event): files, CGI, graceful restart under load
		haproxy|90|server loopback|haproxy: 2 back ends, a worker and its master, reload under load
		wrk|60|client loopback|wrk: 50 connections
		ab|60|client loopback|ab: 20 connections, with and without keep-alive
	EOF
}

gets() { # PORT NUMBER
	C curl -sS -o "got.$2" "http://$ADDR:$1/two" && cmp "got.$2" www/two
}
file_served() { # PORT PATH
	C curl -sS -o got "http://$ADDR:$1/$2" || fail "curl: status $?"
	same got "www/$2"
}

# load PORT PATH COMMAND...: while wrk asks, the command is run three times; no request may fail. A connection for
# each: a server that reloads closes those that are idle.
load() {
	local url="http://$ADDR:$1/$2" pid i
	shift 2
	C wrk -t2 -c16 -d4 --timeout 10s -H 'Connection: close' "$url" >wrk.out 2>&1 &
	pid=$!
	for i in 1 2 3; do
		sleep 0.8
		"$@" || fail "$*: status $?"
	done
	wait $pid || fail "wrk: $(tail -n3 wrk.out)"
	! grep -e 'Socket errors' -e 'Non-2xx' wrk.out || fail "requests failed"
	awk '/requests in/ { exit !($1 > 100) }' wrk.out || fail "next to no requests"
}

nginx_reload() { kill -HUP "$SERVER"; }
c_nginx() {
	needs nginx curl wrk
	mkdir -p nginx put/up
	nginx_config nginx.conf 8080 "location /up { root $WORK/put; dav_methods PUT; }"
	sed -i -e 's/^master_process off;/worker_processes 2;/' -e 's/^daemon off;/user root;/' nginx.conf
	sed -i "\$s|}|upstream up { server $ADDR:8080; keepalive 4; } server { listen 8081; location / { proxy_pass http://up; \
proxy_http_version 1.1; proxy_set_header Connection \"\"; } } }|" nginx.conf
	serve 8080 "$(command -v nginx)" -e "$WORK/nginx/error.log" -c "$WORK/nginx.conf"
	wait_until 50 "the pid" test -s nginx/8080.pid
	SERVER=$(cat nginx/8080.pid)
	file_served 8080 big
	at_once 8 gets 8080
	C curl -sS -T www/big "http://$ADDR:8080/up/big" || fail "upload: status $?"
	same put/up/big www/big
	file_served 8081 big
	at_once 8 gets 8081
	load 8080 small nginx_reload
	file_served 8081 big
	kill -USR2 "$SERVER" # another master takes over the listeners
	wait_until 100 "the new master" test -s nginx/8080.pid.oldbin
	sleep 0.3
	kill -QUIT "$SERVER"
	wait_until 100 "the end of the old master" test ! -e nginx/8080.pid.oldbin
	file_served 8080 big
	at_once 8 gets 8081
	kill -QUIT "$(cat nginx/8080.pid)"
}

c_lighttpd() {
	needs lighttpd curl wrk
	mkdir www/cgi
	printf '#!/bin/sh\nprintf "Content-Type: text/plain\\r\\n\\r\\n"; cat; echo "$QUERY_STRING"\n' >www/cgi/echo.sh
	printf '#!/bin/sh\nprintf "Content-Type: text/plain\\r\\n\\r\\n"; sha256sum\n' >www/cgi/sum.sh
	chmod 755 www/cgi/*.sh
	cat >lighttpd.conf <<-END
		server.document-root = "$WORK/www"
		server.port = 8080
		server.modules = ("mod_cgi")
		server.errorlog = "$WORK/lighttpd.log"
		server.upload-dirs = ("$WORK")
		\$HTTP["url"] =~ "^/cgi/" { cgi.assign = (".sh" => "/bin/sh") }
	END
	serve 8080 lighttpd -D -f lighttpd.conf
	file_served 8080 big
	at_once 8 gets 8080
	for i in {1..5}; do
		[ "$(C curl -sS --data-binary "body $i " "http://$ADDR:8080/cgi/echo.sh?n=$i")" = "body $i n=$i" ] || fail "CGI $i"
	done
	C curl -sS -o got --data-binary @www/two "http://$ADDR:8080/cgi/sum.sh" || fail "CGI: status $?"
	[ "$(cat got)" = "$(sha256sum <www/two)" ] || fail "other bytes reached the CGI program: $(cat got)"
	load 8080 small true
	end INT 0
}

apache() { # MPM
	needs apache2 curl wrk
	mkdir -p www/cgi
	printf '#!/bin/sh\nprintf "Content-Type: text/plain\\r\\n\\r\\n"; cat; echo "$QUERY_STRING"\n' >www/cgi/echo.sh
	printf '#!/bin/sh\nprintf "Content-Type: text/plain\\r\\n\\r\\n"; sha256sum\n' >www/cgi/sum.sh
	chmod 755 www/cgi/*.sh
	local m=/usr/lib/apache2/modules cgi=cgi
	[ "$1" = prefork ] || cgi=cgid
	cat >apache.conf <<-END
		ServerName localhost
		ServerRoot $WORK
		PidFile $WORK/apache.pid
		ErrorLog $WORK/apache.log
		DefaultRuntimeDir $WORK
		LoadModule mpm_$1_module $m/mod_mpm_$1.so
		LoadModule authz_core_module $m/mod_authz_core.so
		LoadModule ${cgi}_module $m/mod_$cgi.so
		LoadModule alias_module $m/mod_alias.so
		User www-data
		Group www-data
		Listen 8080
		EnableSendfile on
		DocumentRoot $WORK/www
		ScriptAlias /cgi/ $WORK/www/cgi/
		MaxRequestWorkers 50
		GracefulShutdownTimeout 5
	END
	[ $cgi = cgi ] || echo "ScriptSock $WORK/cgid.sock" >>apache.conf
	serve 8080 apache2 -d "$WORK" -f "$WORK/apache.conf" -D FOREGROUND
	file_served 8080 big
	at_once 8 gets 8080
	for i in {1..5}; do
		[ "$(C curl -sS --data-binary "body $i " "http://$ADDR:8080/cgi/echo.sh?n=$i")" = "body $i n=$i" ] || fail "CGI $i"
	done
	C curl -sS -o got --data-binary @www/two "http://$ADDR:8080/cgi/sum.sh" || fail "CGI: status $?"
	[ "$(cat got)" = "$(sha256sum <www/two)" ] || fail "other bytes reached the CGI program: $(cat got)"
	load 8080 small kill -USR1 "$SERVER"
	file_served 8080 big
	end TERM 0
}
c_apache_prefork() { apache prefork; }
c_apache_event() { apache event; }

c_haproxy() {
	needs haproxy nginx curl wrk
	web_server
	nginx_config second.conf 8082
	serve 8082 nginx -e nginx/error.log -c "$WORK/second.conf"
	cat >haproxy.cfg <<-END
		global
		    maxconn 500
		defaults
		    mode http
		    timeout connect 10s
		    timeout client 30s
		    timeout server 30s
		frontend f
		    bind 0.0.0.0:8090
		    default_backend b
		listen t
		    mode tcp
		    bind 0.0.0.0:8091
		    server one $ADDR:8080
		backend b
		    balance roundrobin
		    server one $ADDR:8080 check inter 500ms
		    server two $ADDR:8082 check inter 500ms
	END
	serve 8090 haproxy -W -db -f haproxy.cfg
	wait_port 8091
	file_served 8090 big
	file_served 8091 big
	at_once 8 gets 8090
	load 8090 small kill -USR2 "$SERVER"
	file_served 8091 big
	end USR1 any
}

c_wrk() {
	needs wrk nginx
	web_server
	C wrk -t2 -c50 -d2 "http://$ADDR:$WEB/small" >wrk.out || fail "wrk: status $?"
	! grep -e 'Socket errors' -e 'Non-2xx' wrk.out || fail "requests failed"
	awk '/requests in/ { exit !($1 > 100) }' wrk.out || fail "$(cat wrk.out)"
	C wrk -t2 -c50 -d2 -H 'Connection: close' "http://$ADDR:$WEB/small" >wrk.out || fail "wrk: status $?"
	! grep -e 'Socket errors' -e 'Non-2xx' wrk.out || fail "requests failed"
	awk '/requests in/ { exit !($1 > 100) }' wrk.out || fail "$(cat wrk.out)"
}

c_ab() {
	needs ab nginx
	web_server
	local how
	for how in "" "-k"; do
		# shellcheck disable=SC2086
		C ab -q $how -n 2000 -c 20 "http://$ADDR:$WEB/small" >ab.out 2>&1 || fail "ab $how: $(tail -n3 ab.out)"
		says 'Complete requests: *2000$' ab.out
		says 'Failed requests: *0$' ab.out
		says "HTML transferred: *$((2000 * $(stat -c %s www/small))) bytes" ab.out
	done
}
