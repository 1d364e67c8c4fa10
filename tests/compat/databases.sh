# databases.sh - databases, caches, brokers. Sourced by run.sh.
# shellcheck shell=bash disable=SC2154

cases_databases() {
	cat <<-'EOF'
		redis|90|server client loopback|redis: `redis-cli`, `redis-benchmark`, BGSAVE, a replica
		memcached|60|server client loopback|memcached: 4 threads, 200 values of up to 500 KB
		postgres|120|server client loopback|PostgreSQL: `psql`, COPY of 50,000 rows, `pgbench` with 8 connections
		mosquitto|60|server client loopback|mosquitto: 2 subscribers, 300 messages, a retained one
	EOF
}

c_redis() {
	needs redis-server redis-cli redis-benchmark
	local i
	serve 6379 redis-server --port 6379 --bind 0.0.0.0 --protected-mode no --daemonize no --dir "$WORK"
	ask() { C redis-cli -h "$ADDR" -p 6379 "$@" || fail "redis-cli: status $?"; }
	[ "$(ask set greeting hello)" = OK ] || fail "SET"
	[ "$(ask get greeting)" = hello ] || fail "GET"
	ask -x set blob <www/two >out
	ask --raw get blob | head -c 2097152 | cmp - www/two || fail "the value differs"
	for ((i = 0; i < 5000; i++)); do echo "SET key:$i value:$i"; done | ask --pipe >out
	says 'errors: 0, replies: 5000' out
	[ "$(ask dbsize)" = 5002 ] || fail "$(ask dbsize) keys"
	C redis-benchmark -h "$ADDR" -p 6379 -q -n 10000 -c 30 -P 4 -t set,get,lpush >bench.out 2>&1 || fail "redis-benchmark: status $?"
	! grep -i error bench.out || fail "redis-benchmark saw errors"
	[ "$(ask bgsave)" = "Background saving started" ] || fail "BGSAVE"
	wait_until 100 "the end of BGSAVE" sh -c "grep -q 'DB saved on disk' $serve_log"
	[ "$(ask incr counter)" = 1 ] || fail "INCR"
	[ "$LEG" != client ] || return 0
	mkdir replica
	serve 6380 redis-server --port 6380 --bind 0.0.0.0 --protected-mode no --daemonize no --dir "$WORK/replica" --replicaof "$ADDR" 6379
	in_step() { C redis-cli -h "$ADDR" -p 6380 info replication | grep -q master_link_status:up; }
	wait_until 100 "the replica" in_step || fail "no replication"
	[ "$(C redis-cli -h "$ADDR" -p 6380 get key:4999)" = value:4999 ] || fail "the replica lacks a key"
}

c_memcached() {
	needs memcached
	cat >ask.py <<-'END'
		import hashlib, socket, sys, threading
		def talk(k, bad):
		    s = socket.create_connection((sys.argv[1], 11211))
		    f = s.makefile("rwb")
		    for i in range(25):
		        key = "k%d.%d" % (k, i)
		        value = hashlib.sha256(key.encode()).digest() * (1 + i * 640)
		        f.write(b"set %s 0 0 %d\r\n%s\r\n" % (key.encode(), len(value), value)); f.flush()
		        if f.readline() != b"STORED\r\n": bad.append(key)
		        f.write(b"get %s\r\n" % key.encode()); f.flush()
		        n = int(f.readline().split()[3])
		        if f.read(n) != value or f.readline() + f.readline() != b"\r\nEND\r\n": bad.append(key)
		bad = []
		t = [threading.Thread(target=talk, args=(k, bad)) for k in range(8)]
		for x in t: x.start()
		for x in t: x.join()
		sys.exit(bool(bad))
	END
	serve 11211 memcached -u root -t 4 -m 256 -l 0.0.0.0 -U 0
	C /usr/bin/python3 ask.py "$ADDR" || fail "values differ"
	printf 'stats\r\nquit\r\n' | C nc.openbsd -N "$ADDR" 11211 >out
	says 'cmd_set 200' out
	says 'get_hits 200' out
}

# Its server refuses to be root. Whoever shares a stack is of one user.
u_postgres() { echo postgres; }
c_postgres() {
	local bin
	bin=$(find /usr/lib/postgresql -name initdb -printf '%h\n' 2>/dev/null | sort -V | tail -1)
	[ -n "$bin" ] || needs postgres
	mkdir pg && chown postgres pg && chmod 777 .
	as postgres "$bin/initdb" -D "$WORK/pg/data" -A trust -N >initdb.log 2>&1 || fail "initdb: $(tail -n3 initdb.log)"
	echo "host all all all trust" >>pg/data/pg_hba.conf
	# The launcher is his, too: root's would try the device while his keeper has it.
	S_BY=(setpriv --reuid=postgres --regid=postgres --clear-groups "${S_BY[@]}")
	C_BY=(setpriv --reuid=postgres --regid=postgres --clear-groups "${C_BY[@]}")
	serve 5432 "$bin/postgres" -D "$WORK/pg/data" -k "$WORK/pg" \
		-c listen_addresses=0.0.0.0 -c fsync=off -c port=5432
	sql() { C psql -h "$ADDR" -U postgres -qAtX -v ON_ERROR_STOP=1 "$@"; }
	wait_until 50 "the database" sql -c 'select 1' || fail "no answer: $(tail -n5 "$serve_log")"
	seq 1 50000 | awk '{ print $1 "\tline " $1 }' >rows
	sql -c 'create table t (n int primary key, s text)' || fail "CREATE: status $?"
	sql -c 'copy t from stdin' <rows || fail "COPY: status $?"
	sql -c 'copy (select * from t order by n) to stdout' >got || fail "COPY: status $?"
	same got rows
	[ "$(sql -c 'select count(*), sum(n) from t')" = "50000|1250025000" ] || fail "$(sql -c 'select count(*), sum(n) from t')"
	bench() { C "$bin/pgbench" -h "$ADDR" -U postgres "$@"; }
	bench -i -q postgres >bench.log 2>&1 || fail "pgbench -i: $(tail -n3 bench.log)"
	bench -c 8 -j 2 -t 50 postgres >bench.log 2>&1 || fail "pgbench: $(tail -n5 bench.log)"
	says 'actually processed: 400/400' bench.log
	[ "$(sql -c 'select count(*) from pgbench_history')" = 400 ] || fail "rows of pgbench are lost"
	bench -C -c 4 -t 10 postgres >bench.log 2>&1 || fail "pgbench -C: $(tail -n5 bench.log)"
	says 'actually processed: 40/40' bench.log
	end INT 0
}

c_mosquitto() {
	needs mosquitto mosquitto_pub mosquitto_sub
	printf 'listener 1883 0.0.0.0\nallow_anonymous true\nuser root\n' >mosquitto.conf
	serve 1883 mosquitto -c mosquitto.conf
	local i subs=()
	for i in 1 2; do
		C mosquitto_sub -h "$ADDR" -t 'x/#' -q 1 -C 300 >"sub.$i" &
		subs+=($!)
	done
	subscribed() { [ "$(grep -c "Received SUBSCRIBE\|New client connected" "$serve_log")" -ge 2 ]; }
	wait_until 100 "the subscribers" subscribed || fail "$(tail -n5 "$serve_log")"
	sleep 0.5
	seq 1 300 >want
	C mosquitto_pub -h "$ADDR" -t x/lines -q 1 -l <want || fail "mosquitto_pub: status $?"
	wait "${subs[0]}" || fail "mosquitto_sub: status $?"
	wait "${subs[1]}" || fail "mosquitto_sub: status $?"
	same sub.1 want
	same sub.2 want
	C mosquitto_pub -h "$ADDR" -t kept -r -f www/two || fail "mosquitto_pub: status $?"
	C mosquitto_sub -h "$ADDR" -t kept -C 1 -N >got || fail "mosquitto_sub: status $?"
	same got www/two
}
