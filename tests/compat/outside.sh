# outside.sh - programs that ignore preloading, and io_uring: what is there for them, and what is not. Sourced by run.sh.
# shellcheck shell=bash

cases_outside() {
	cat <<-'EOF'
		outside_inetd|60|server loopback|static and setuid programs behind inetd: the connection as standard input and output
		static_own|30|server client|static programs, as Go builds them: sockets of their own
		setuid_own|30|server client|setuid programs: sockets of their own
		io_uring|30|client loopback|io_uring
	EOF
}

# plain FILE [FLAG...]
plain() {
	local out=$1
	shift
	needs gcc
	gcc -std=gnu11 -D_GNU_SOURCE -O1 "$@" -o "$out" "$ROOT/tests/compat/plain.c" 2>gcc.log || {
		echo "it cannot be built: $(tail -n1 gcc.log)"
		exit 77
	}
}
setuid_plain() { # FILE
	plain "$1"
	chown nobody "$1" && chmod 4755 "$1"
}

c_outside_inetd() {
	needs inetd
	plain still -static
	setuid_plain theirs
	cat >inetd.conf <<-END
		7001 stream tcp nowait root $WORK/still still echo
		7002 stream tcp nowait root $WORK/theirs theirs echo
	END
	serve 7001 inetd -d inetd.conf
	at_once 5 inetd_echo 7001
	at_once 5 inetd_echo 7002
}

# own FILE: as a client or as a server. The launcher may decline, and its words are the reason in the table.
own() {
	local status
	if [ "$LEG" = client ]; then
		serve 7001 ./still serve 7001 www/two
		C "./$1" get "$ADDR" 7001 >got 2>err
		status=$?
	else
		timeout 20 "${S_BY[@]}" "./$1" serve 7001 www/two 2>err &
		SERVER=$!
		while ! kernel_listens 7001 && kill -0 $SERVER 2>/dev/null; do sleep 0.1; done
		C ./still get "$ADDR" 7001 >got 2>/dev/null
		status=$?
		[ $status = 0 ] || wait $SERVER
	fi
	[ $status = 0 ] && same got www/two && return 0
	grep -q 'ignores preloading' err || fail "no reason is given: $(tail -n 3 err)"
	no "$(sed -n -e "s|^utcp: \./$1 ||p" err)"
}
c_static_own() {
	plain still -static
	own still
}
c_setuid_own() {
	plain still -static
	setuid_plain theirs
	own theirs
}

# A program that can use a ring does without.
c_io_uring() {
	plain plain
	./plain ring 127.0.0.1 9 2>&1 | grep -q 'a ring' || {
		echo "the kernel here has none either"
		exit 77
	}
	serve 7001 ./plain serve 7001 www/two
	C ./plain ring "$ADDR" 7001 >got 2>err || fail "status $?: $(tail -n 3 err)"
	same got www/two
	grep -q 'a ring' err || no "$(grep io_uring_setup err), as with a kernel that lacks it; the program did its job without"
}
