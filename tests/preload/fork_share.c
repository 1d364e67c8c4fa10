/*
 * fork(): parent and child share connections, a listener and an epoll set.
 * Whoever closes last closes the connection, however it ends; what one takes
 * from a queue the other does not see.
 */
#include "shared.h"

static void parent_closes(void)
{
	int ask, c = called("e", &ask), go[2];
	char b;
	pid_t p;

	if (pipe(go))
		exit(1);
	p = begin();
	if (!p) {
		if (read(go[0], &b, 1) == 1)
			say("child", c, "after the parent's close");
		_exit(3);
	}
	close(c);
	peer_sees("parent has closed", ask, 50);
	if (write(go[1], "x", 1) != 1)
		exit(1);
	ended("parent_closes", p);
	peer_sees("child has ended", ask, 3000);
	close(go[0]);
	close(go[1]);
	close(ask);
}

static void child_ends(int how)
{
	int ask, c = called("e", &ask);
	pid_t p = begin();

	if (!p) {
		say("child", c, "first");
		if (how == 0)
			_exit(0);
		if (how == 1)
			exit(0);
		if (how == 2)
			close(c);
		raise(SIGKILL);
	}
	ended("child_ends", p);
	say("parent", c, "after the child's end");
	peer_sees("the parent lives", ask, 50);
	close(c);
	peer_sees("the parent has closed", ask, 3000);
	close(ask);
}

/* The child goes on after the parent was killed: a grandchild of ours. */
static void parent_dies(int sig)
{
	int ask, c = called("e", &ask), go[2], done[2];
	char b = 0;
	pid_t p;

	if (pipe(go) || pipe(done))
		exit(1);
	p = begin();
	if (!p) {
		if (!fork()) {
			if (read(go[0], &b, 1) == 1)
				say("grandchild", c, "an orphan's");
			if (write(done[1], "x", 1) != 1)
				_exit(1);
			_exit(0);
		}
		if (sig)
			raise(sig);
		exit(0);
	}
	close(c);
	ended("parent_dies", p);
	peer_sees("the grandchild lives", ask, 50);
	if (write(go[1], "x", 1) != 1 || read(done[0], &b, 1) != 1)
		exit(1);
	peer_sees("all have ended", ask, 3000);
	close(go[0]);
	close(go[1]);
	close(done[0]);
	close(done[1]);
	close(ask);
}

/* A process killed with unread data resets the peer; queued bytes of one that is killed still go out. */
static void killed_with_data(void)
{
	int ask, c = called("r300000 e", &ask);
	pid_t p = begin();

	if (!p) {
		static char big[300000];

		send(c, big, sizeof big, 0);
		raise(SIGKILL);
	}
	close(c);
	ended("killed_with_data", p);
	peer_sees("killed_with_data", ask, 3000);
	close(ask);
}

static void one_queue(void)
{
	char b[8] = "";
	int s = peer_connect("wabcdef d200 wghi s"), p[2];
	pid_t child;

	recv(s, b, 1, MSG_PEEK);
	child = begin();
	if (!child) {
		long n = recv(s, b, 3, 0);

		printf("child: %s '%s'\n", result_text(n), b);
		exit(0);
	}
	ended("one_queue", child);
	memset(b, 0, sizeof b);
	printf("parent: %s", result_text(recv(s, b, 3, 0)));
	printf(" '%s'\n", b);
	/* The next bytes wake the one who waits, in whichever process. */
	if (pipe(p))
		exit(1);
	child = begin();
	memset(b, 0, sizeof b);
	if (!child) {
		printf("child waits: %s", result_text(recv(s, b, 3, MSG_WAITALL)));
		printf(" '%s'\n", b);
		exit(0);
	}
	ended("one_queue", child);
	close(s);
	close(p[0]);
	close(p[1]);
}

/* Workers accept from one listener; the parent only waits. */
static void workers(void)
{
	int ask[8], good = 0;
	pid_t w[4];

	for (int i = 0; i < 4; i++) {
		w[i] = begin();
		if (!w[i]) {
			for (;;) {
				int c = accept(listener, NULL, NULL);

				send(c, "hello", 5, 0);
				close(c);
			}
		}
	}
	for (int round = 0; round < 4; round++) {
		for (int i = 0; i < 8; i++)
			ask[i] = peer_call_back(port, "r5 f s");
		for (int i = 0; i < 8; i++) {
			char b;
			good += recv(ask[i], &b, 1, 0) == 0;
			close(ask[i]);
		}
		kill(w[round], SIGKILL);
		ended("worker", w[round]);
		if (round == 2)
			break;
	}
	printf("workers: served %d\n", good);
	kill(w[3], SIGTERM);
	ended("worker", w[3]);
}

static void shared_set(void)
{
	int ep = epoll_create1(0), s = peer_connect("d100 wabc r1 wdef s");
	char b[8] = "";
	pid_t p;

	ep_add(ep, s, EPOLLIN, 7);
	p = begin();
	if (!p) {
		ep_show("child", ep, 4, 20000);
		printf("child: %s", result_text(recv(s, b, 3, 0)));
		printf(" '%s'\n", b);
		ep_show("child, empty", ep, 4, 0);
		close(s);
		exit(0);
	}
	ended("shared_set", p);
	if (write(s, "x", 1) != 1)
		exit(1);
	ep_show("parent", ep, 4, 20000);
	printf("parent: %s", result_text(recv(s, b, 3, 0)));
	printf(" '%s'\n", b);
	close(s);
	ep_show("closed", ep, 4, 0);
	close(ep);
}

/* A child's own connections and listeners. */
static void childs_own(void)
{
	pid_t p = begin();

	if (!p) {
		int s = peer_connect("e"), own, ask, c;

		say("child's own", s, "hello");
		close(listener);
		listener = own = listen_any(&port);
		c = called("e", &ask);
		say("child's listener", c, "hi");
		close(c);
		peer_sees("child's listener", ask, 3000);
		exit(own < 0);
	}
	ended("childs_own", p);
}

static void daemonized(void)
{
	int ask, c = called("e", &ask);
	pid_t p = begin();

	if (!p) {
		if (daemon(1, 1))
			_exit(1);
		say("daemon", c, "from a daemon");
		_exit(0);
	}
	close(c);
	peer_sees("daemonized", ask, 3000);
	ended("daemonized", p); /* the one that daemon() left behind */
	close(ask);
}

/* A child has threads of its parent in its books that it never had; the leak checker says so on stderr. */
#include "noleaks.h"

int main(void)
{
	shared_begin();
	parent_closes();
	for (int how = 0; how < 4; how++)
		child_ends(how);
	parent_dies(0);
	parent_dies(SIGKILL);
	killed_with_data();
	one_queue();
	workers();
	shared_set();
	childs_own();
	daemonized();
	return 0;
}
