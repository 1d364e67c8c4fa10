# remote.sh - remote shells, copies, version control. Sourced by run.sh.
# shellcheck shell=bash disable=SC2154

cases_remote() {
	cat <<-'EOF'
		ssh|90|server client loopback|OpenSSH: 20 logins, `scp`, `sftp`, a terminal
		rsync|60|server client loopback|rsync: daemon, a tree down, up and changed
		git_daemon|60|server client loopback|git: `git daemon`, clone, fetch
		git_http|60|server client loopback|git over HTTP: `git http-backend` behind nginx and fcgiwrap, clone, push
	EOF
}

c_ssh() {
	needs sshd ssh scp sftp
	mkdir -p /run/sshd ssh
	chmod 700 ssh
	ssh-keygen -q -t ed25519 -N '' -f ssh/host && ssh-keygen -q -t ed25519 -N '' -f ssh/id && cp ssh/id.pub ssh/authorized || fail "no keys"
	cat >ssh/sshd_config <<-END
		Port 2222
		ListenAddress 0.0.0.0
		HostKey $WORK/ssh/host
		AuthorizedKeysFile $WORK/ssh/authorized
		PermitRootLogin yes
		StrictModes no
		UsePAM no
		PidFile none
		Subsystem sftp /usr/lib/openssh/sftp-server
	END
	cat >ssh/config <<-END
		Host *
		    User root
		    Port 2222
		    IdentityFile $WORK/ssh/id
		    StrictHostKeyChecking no
		    UserKnownHostsFile /dev/null
		    LogLevel ERROR
		    BatchMode yes
	END
	serve 2222 "$(command -v sshd)" -D -e -f "$WORK/ssh/sshd_config"
	[ "$(C ssh -F ssh/config "$ADDR" 'echo "$((6 * 7))"; exit 3')" = 42 ] || fail "ssh: no answer: $(tail -n5 "$serve_log")"
	local i
	for i in {1..20}; do
		[ "$(C ssh -F ssh/config "$ADDR" "echo $i")" = "$i" ] || fail "login $i: $(tail -n5 "$serve_log")"
	done
	C ssh -F ssh/config "$ADDR" 'exit 3'
	[ $? = 3 ] || fail "ssh: the status is lost"
	C ssh -F ssh/config "$ADDR" cat <www/two >got || fail "ssh cat: status $?"
	same got www/two
	C scp -q -F ssh/config "$ADDR:$WORK/www/big" got || fail "scp: status $?"
	same got www/big
	C scp -q -O -F ssh/config www/big "$ADDR:$WORK/up" || fail "scp up: status $?"
	same up www/big
	printf 'get %s/www/two two.sftp\nput www/two %s/two.up\n' "$WORK" "$WORK" | C sftp -q -F ssh/config -b - "$ADDR" >sftp.log ||
		fail "sftp: status $?"
	same two.sftp www/two
	same two.up www/two
	C ssh -F ssh/config -tt "$ADDR" 'tty; stty size' >tty.out </dev/null || fail "ssh -tt: status $?"
	says '/dev/pts/' tty.out
}

c_rsync() {
	needs rsync
	mkdir -p tree/a/b down
	local i
	for i in {1..200}; do head -c $((i * 500)) www/big >"tree/a/b/$i"; done
	cp www/big tree/
	cat >rsyncd.conf <<-END
		use chroot = yes
		uid = root
		gid = root
		[tree]
		    path = $WORK/tree
		    read only = no
		[up]
		    path = $WORK/up
		    read only = no
	END
	mkdir up
	serve 8730 rsync --daemon --no-detach --port=8730 --config=rsyncd.conf --log-file=/dev/stderr
	C rsync -a "rsync://$ADDR:8730/tree/" down/ || fail "rsync: status $?"
	diff -r tree down || fail "the trees differ"
	C rsync -az tree/ "rsync://$ADDR:8730/up/" || fail "rsync up: status $?"
	diff -r tree up || fail "the trees differ"
	rm tree/a/b/7
	{ head -c 1M tree/big; echo changed; tail -c +1048577 tree/big; } >changed && mv changed tree/big
	C rsync -a --delete --no-whole-file "rsync://$ADDR:8730/tree/" down/ || fail "rsync, changed: status $?"
	diff -r tree down || fail "the trees differ after a change"
}

repository() { # PATH: a bare one with 100 commits
	git init -q --bare -b main "$1" && git init -q -b main work || fail "git init"
	local i
	(
		cd work || exit 1
		git config user.email nobody@localhost && git config user.name nobody
		for i in {1..40}; do
			head -c $((i * 10000)) ../www/big >"file.$i"
			git add . && git commit -q -m "commit $i" || exit 1
		done
		git push -q "../$1" main
	) || fail "git commit"
}
cloned() { # DIRECTORY: it has what work has
	[ "$(git -C "$1" rev-parse main)" = "$(git -C work rev-parse main)" ] || fail "$1 is of another commit"
	git -C "$1" fsck --strict 2>&1 || fail "$1 is damaged"
	diff -r -x .git work "$1" || fail "the trees differ"
}

c_git_daemon() {
	needs git
	mkdir srv
	repository srv/r.git
	serve 9418 git daemon --reuseaddr --export-all --base-path="$WORK/srv" --listen=0.0.0.0 "$WORK/srv"
	C git clone -q "git://$ADDR/r.git" clone || fail "git clone: status $?"
	cloned clone
	(cd work && cp ../www/two more && git add . && git commit -q -m more && git push -q ../srv/r.git main) || fail "git commit"
	C git -C clone pull -q || fail "git pull: status $?"
	cloned clone
}

c_git_http() {
	needs git nginx fcgiwrap
	mkdir srv
	repository srv/r.git
	git -C srv/r.git config http.receivepack true
	fcgiwrap -s "unix:$WORK/fcgi.sock" &
	wait_until 50 "fcgiwrap" test -S fcgi.sock
	nginx_config git.conf 8080 "location /git/ { fastcgi_param GIT_PROJECT_ROOT $WORK/srv; fastcgi_param GIT_HTTP_EXPORT_ALL 1; \
fastcgi_param PATH_INFO \$git_path; fastcgi_param REMOTE_USER u; fastcgi_param QUERY_STRING \$query_string; \
fastcgi_param REQUEST_METHOD \$request_method; fastcgi_param CONTENT_TYPE \$content_type; \
fastcgi_param CONTENT_LENGTH \$content_length; fastcgi_param SCRIPT_FILENAME /usr/lib/git-core/git-http-backend; \
set \$git_path \$uri; if (\$uri ~ ^/git(/.*)) { set \$git_path \$1; } fastcgi_pass unix:$WORK/fcgi.sock; }"
	sed -i '1i user root;' git.conf
	serve 8080 nginx -e "$WORK/nginx/error.log" -c "$WORK/git.conf"
	C git clone -q "http://$ADDR:8080/git/r.git" clone || fail "git clone: status $? $(tail -n3 nginx/error.log)"
	cloned clone
	(cd clone && git config user.email nobody@localhost && git config user.name nobody && cp ../www/two more &&
		git add . && git commit -q -m more) || fail "git commit"
	C git -C clone push -q origin main || fail "git push: status $? $(tail -n3 nginx/error.log)"
	git -C work pull -q ../srv/r.git main || fail "git pull"
	cloned clone
}
