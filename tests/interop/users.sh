# users.sh - cases in which root gives its rights up before the first socket: who comes after it may not open the
# device, and is on the stack all the same. Sourced by run.sh.
# shellcheck shell=bash

# A copy of the library and its launcher that everybody may read; root, or nothing can be tested.
users_begin() {
	if [ "$(id -u)" != 0 ] || ! setpriv --reuid=65534 --regid=65534 --clear-groups true 2>/dev/null; then
		echo "only root can become somebody else"
		exit 0
	fi
	mkdir -p lib
	cp --remove-destination "$BUILD/libutcp.so" "$BUILD/utcp" lib/ # a keeper may run there
	chmod -R a+rX lib
	unset UTCP_STATS # of a file that only root may write
	(cd www && exec /usr/bin/python3 -m http.server --bind "$KERNEL" 7080) >/dev/null 2>&1 &
	wait_port 7080 || fail "nobody serves"
	spy_start ""
}
# as_nobody WHAT COMMAND...: under the launcher; it prints the file that the kernel serves.
as_nobody() {
	echo "$1"
	timeout 30 lib/utcp "${@:2}" >got 2>err || fail "status $?: $(cat err)"
	cmp got www/two || fail "the bytes differ: $(head -c 300 got)"
	[ ! -s err ] || fail "said: $(cat err)"
}

c_user_before_socket() {
	users_begin
	local url=http://$KERNEL:7080/two
	local nobody=(setpriv --reuid=65534 --regid=65534 --clear-groups)
	as_nobody "setpriv, and another program" "${nobody[@]}" curl -sS "$url"
	as_nobody "a program in a shell, and one after another" "${nobody[@]}" bash -c "/bin/true; curl -sS $url >/dev/null; curl -sS $url | cat"
	as_nobody "su" su nobody -s /bin/bash -c "curl -sS $url"
	as_nobody "runuser" runuser -u nobody -- curl -sS "$url"
	keepers_gone
	wait_until 50 "the keeper's end" no_keeper || fail "a keeper has the device still"
	as_nobody "a stack of its own" env UTCP_STACK=none "${nobody[@]}" bash -c "curl -sS $url; exit"
	cat >become.py <<-'END'
		import os, subprocess, sys
		how, url = sys.argv[1:]
		if how == "reuid":
		    os.setreuid(65534, 65534)
		elif how == "euid":
		    os.seteuid(65534)
		elif how == "child":
		    os.setuid(0) # nothing changes
		    os.setgroups([])
		    os.setuid(65534)
		    sys.stdout.flush()
		    sys.exit(subprocess.run(["curl", "-sS", url], close_fds=True).returncode)
		elif how == "spawn":
		    os.setuid(65534)
		    pid = os.posix_spawnp("curl", ["curl", "-sS", url], os.environ)
		    sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
		import urllib.request
		sys.stdout.buffer.write(urllib.request.urlopen(url).read())
	END
	keepers_gone
	local how
	for how in reuid euid child spawn; do
		as_nobody "python, $how" /usr/bin/python3 become.py $how "$url"
	done
	spy_stop || fail "on the kernel"
	keepers_gone
}

# A server that gives root up before it has a socket, and children of it that serve.
c_user_before_listener() {
	users_begin
	local UTCP=$WORK/lib/utcp nobody=(setpriv --reuid=65534 --regid=65534 --clear-groups) server
	serve 7001 "${nobody[@]}" socat TCP-LISTEN:7001,fork,reuseaddr EXEC:cat
	server=$SERVER
	serve 7002 "${nobody[@]}" socat TCP-LISTEN:7002,fork,reuseaddr "EXEC:id -u"
	exchanges 7001 5
	[ "$(timeout 20 nc.openbsd -d "$STACK" 7002)" = 65534 ] || fail "it is root still"
	server_end ""
	SERVER=$server
	kill "$server"
	wait "$server"
	keepers_gone
}
