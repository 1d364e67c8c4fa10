/*
 * A socket that is not a listener yet in several processes, by fork(), exec(), posix_spawn() or in a
 * message: whichever listens, all have the listener, and what waits in its queue outlives the one that
 * listened.
 */
#include <netinet/tcp.h>
#include <spawn.h>
#include <sys/ioctl.h>

#include "shared.h"
#include "turns.h"

enum first { FRESH, BOUND, DUAL };

static void bind_any(int fd)
{
	struct sockaddr_in a = {.sin_family = AF_INET};

	if (bind(fd, (struct sockaddr *)&a, sizeof a))
		printf("bind: %s\n", result_text(-1));
}

static int make(enum first first)
{
	int fd = socket(first == DUAL ? AF_INET6 : AF_INET, SOCK_STREAM, 0);
	struct sockaddr_in6 any = {.sin6_family = AF_INET6};

	if (first == BOUND)
		bind_any(fd);
	if (first == DUAL && bind(fd, (struct sockaddr *)&any, sizeof any))
		printf("bind: %s\n", result_text(-1));
	return fd;
}

static int port_of(int fd)
{
	struct sockaddr_in a = {0};
	socklen_t len = sizeof a;

	getsockname(fd, (struct sockaddr *)&a, &len);
	return ntohs(a.sin_port);
}

/* What can be asked without changing it. */
static void facts(const char *who, int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN | POLLOUT | POLLPRI | POLLRDHUP};
	int yes = -1, n = poll(&p, 1, 0);
	socklen_t len = sizeof yes;
	struct sockaddr_in a = {0};
	socklen_t alen = sizeof a;

	getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &yes, &len);
	printf("%s: poll %d %s, listens %d, port %s", who, n, bits((uint32_t)p.revents), yes,
	       port_of(fd) ? "yes" : "no");
	printf(", peer %s\n", result_text(getpeername(fd, (struct sockaddr *)&a, &alen)));
	fflush(stdout);
}

/* The next in the queue says something. */
static void serve(const char *who, int l)
{
	int c = accept(l, NULL, NULL);

	if (c < 0) {
		printf("%s: accept %s\n", who, result_text(c));
		fflush(stdout);
		return;
	}
	say(who, c, "hello");
	close(c);
}

/* A connection of the peer's, which is there; the asking one. */
static int calls(int l)
{
	char script[32], b;
	int ask;

	snprintf(script, sizeof script, "C%d e", port_of(l));
	ask = peer_connect(script);
	keep(ask, false);
	if (recv(ask, &b, 1, 0) != 1 || b != 'C')
		puts("the peer's call failed");
	return ask;
}

/* The first of them is in the queue. */
static void arrived(int l)
{
	struct pollfd p = {.fd = l, .events = POLLIN};

	if (poll(&p, 1, 20000) != 1)
		puts("nothing arrived");
}

/* ------------------------------------------------------------ fork */

/* The child listens, takes one of two, and ends; the parent has the other. */
static void child_listens(const char *what, enum first first, int how)
{
	int fd = make(first), ask[2];
	pid_t p;

	printf("-- %s\n", what);
	turns_begin();
	facts("parent before", fd);
	p = begin();
	if (!p) {
		facts("child before", fd);
		if (first == FRESH)
			bind_any(fd);
		printf("child: listen %s\n", result_text(listen(fd, 5)));
		facts("child", fd);
		go(0);
		await(1);
		serve("child", fd);
		if (how == 0)
			close(fd);
		if (how == 1)
			raise(SIGKILL);
		leave(0);
	}
	await(0);
	facts("parent", fd);
	for (int i = 0; i < 2; i++)
		ask[i] = calls(fd);
	arrived(fd);
	go(1);
	ended(what, p);
	facts("parent alone", fd);
	serve("parent", fd);
	facts("parent at the end", fd);
	close(fd);
	for (int i = 0; i < 2; i++)
		close(ask[i]);
	turns_end();
}

/* The parent listens and closes first. */
static void parent_listens(const char *what, enum first first)
{
	int fd = make(first), ask;
	pid_t p;

	printf("-- %s\n", what);
	turns_begin();
	p = begin();
	if (!p) {
		await(0);
		facts("child", fd);
		serve("child", fd);
		serve("child", fd);
		close(fd);
		leave(0);
	}
	if (first == FRESH)
		bind_any(fd);
	printf("parent: listen %s\n", result_text(listen(fd, 5)));
	ask = calls(fd);
	arrived(fd);
	int port = port_of(fd);
	close(fd);
	go(0);
	int again = peer_call_back(port, "e");
	ended(what, p);
	peer_sees("both have closed", ask, 3000);
	close(ask);
	close(again);
	turns_end();
}

/* Verbs of the one that did not listen. */
static void verbs(void)
{
	int fd = make(BOUND), one = 1, ask, c;
	struct sockaddr_in a = peer_address();
	socklen_t len = sizeof one;
	pid_t p;

	puts("-- verbs");
	turns_begin();
	p = begin();
	if (!p) {
		printf("child: listen %s\n", result_text(listen(fd, 5)));
		go(0);
		await(1);
		one = 0;
		getsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, &len);
		printf("child: SO_KEEPALIVE %d, O_NONBLOCK %d\n", one, !!(fcntl(fd, F_GETFL) & O_NONBLOCK));
		printf("child: accept %s\n", result_text(accept(fd, NULL, NULL)));
		go(0);
		await(1);
		serve("child", fd);
		go(0);
		await(1);
		printf("child: accept %s\n", result_text(accept(fd, NULL, NULL)));
		facts("child: shut down", fd);
		printf("child: listen again %s\n", result_text(listen(fd, 5)));
		go(0);
		await(1);
		leave(0);
	}
	printf("parent: accept %s\n", result_text(accept(make(FRESH), NULL, NULL)));
	await(0);
	printf("parent: connect %s\n", result_text(connect(fd, (struct sockaddr *)&a, sizeof a)));
	printf("parent: bind %s\n", result_text(bind(fd, (struct sockaddr *)&a, sizeof a)));
	printf("parent: recv %s\n", result_text(recv(fd, &a, 1, MSG_DONTWAIT)));
	printf("parent: send %s\n", result_text(send(fd, &a, 1, MSG_NOSIGNAL)));
	printf("parent: listen again %s\n", result_text(listen(fd, 7)));
	printf("parent: SO_KEEPALIVE %s\n", result_text(setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, len)));
	printf("parent: O_NONBLOCK %s\n", result_text(fcntl(fd, F_SETFL, O_NONBLOCK)));
	go(1);
	await(0);
	ioctl(fd, FIONBIO, &(int){0});
	ask = calls(fd);
	arrived(fd);
	go(1);
	await(0);
	printf("parent: shutdown %s\n", result_text(shutdown(fd, SHUT_RDWR)));
	facts("parent: shut down", fd);
	go(1);
	await(0);
	close(ask);
	facts("parent: listens again", fd);
	ask = calls(fd);
	c = accept(fd, NULL, NULL);
	getsockopt(c, SOL_SOCKET, SO_KEEPALIVE, &one, &len);
	printf("parent: accepted, SO_KEEPALIVE %d\n", one);
	say("parent", c, "again");
	close(c);
	go(1);
	ended("verbs", p);
	close(fd);
	close(ask);
	turns_end();
}

/* Before anybody listens, what one does the other sees. */
static void undecided(void)
{
	int fd = make(FRESH), one = 1, value = 0, copy;
	socklen_t len = sizeof one;
	pid_t p;

	puts("-- undecided");
	turns_begin();
	p = begin();
	if (!p) {
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, len);
		fcntl(fd, F_SETFL, O_NONBLOCK);
		bind_any(fd);
		printf("child: recv %s\n", result_text(recv(fd, &value, 1, 0)));
		printf("child: send %s\n", result_text(send(fd, &value, 1, MSG_NOSIGNAL)));
		printf("child: accept %s\n", result_text(accept(fd, NULL, NULL)));
		go(0);
		await(1);
		facts("child: shut down", fd);
		leave(0);
	}
	await(0);
	copy = dup(fd);
	getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &value, &len);
	printf("parent: TCP_NODELAY %d, O_NONBLOCK %d\n", value, !!(fcntl(fd, F_GETFL) & O_NONBLOCK));
	facts("parent: bound", copy);
	printf("parent: shutdown %s\n", result_text(shutdown(fd, SHUT_WR)));
	facts("parent: shut down", fd);
	go(1);
	ended("undecided", p);
	printf("parent: listen %s\n", result_text(listen(copy, 1)));
	facts("parent: listens", fd);
	close(fd);
	facts("parent: the other number", copy);
	close(copy);
	turns_end();
}

/* Many of them: the fork works, and any of them can become a listener. */
static void many(void)
{
	enum { MANY = 300 };
	int fd[MANY], ask;
	pid_t p;

	puts("-- many");
	turns_begin();
	for (int i = 0; i < MANY; i++)
		fd[i] = make(i % 2 ? BOUND : FRESH);
	p = begin();
	if (!p) {
		printf("child: listen %s\n", result_text(listen(fd[251], 5)));
		printf("child: listen %s\n", result_text(listen(fd[250], 5)));
		leave(0);
	}
	ended("many", p);
	for (int i = 250; i < 252; i++) {
		ask = calls(fd[i]);
		serve("parent", fd[i]);
		close(ask);
	}
	for (int i = 0; i < MANY; i++)
		close(fd[i]);
	turns_end();
}

/* ------------------------------------------------------------ epoll */

/* The parent's set has it as a member, from before the fork or after, and sleeps while the child listens. */
static void member(const char *what, enum first first, uint32_t events, bool early)
{
	int fd = make(first), ep = epoll_create1(EPOLL_CLOEXEC), ask = -1;
	pid_t p;

	printf("-- member, %s\n", what);
	turns_begin();
	if (early) {
		ep_add(ep, fd, events, 7);
		ep_show("before the fork", ep, 4, 0);
	}
	p = begin();
	if (!p) {
		close(ep);
		await(0);
		if (first == FRESH)
			bind_any(fd);
		until_parent_sleeps();
		if (listen(fd, 5))
			leave(1);
		go(1);
		await(0);
		leave(0);
	}
	if (!early)
		ep_add(ep, fd, events, 7);
	ep_show("not yet", ep, 4, 0);
	ep_show("not yet", ep, 4, 0);
	go(0);
	if (events & EPOLLET) {
		ask = peer_connect("d150 s"); /* nothing: another socket of this process */
		close(ask);
	}
	await(1);
	ep_show("listens", ep, 4, 0);
	if (events & EPOLLONESHOT)
		ep_mod(ep, fd, events, 8);
	ask = calls(fd);
	ep_show("a connection", ep, 4, 20000);
	ep_show("and again", ep, 4, 0);
	serve("parent", fd);
	go(0);
	ended(what, p);
	close(ep);
	close(ask);
	close(fd);
	turns_end();
}

/* Edge-triggered, asleep the whole time: the child listens, and the peer calls, meanwhile. */
static void sleeper(bool early)
{
	int fd = make(BOUND), ep = epoll_create1(EPOLL_CLOEXEC), ask;
	pid_t p;

	printf("-- sleeper %d\n", early);
	turns_begin();
	if (early) {
		ep_add(ep, fd, EPOLLIN | EPOLLET, 7);
		ep_show("before the fork", ep, 4, 0);
	}
	p = begin();
	if (!p) {
		close(ep);
		until_parent_sleeps();
		if (listen(fd, 5))
			leave(1);
		until_parent_sleeps();
		ask = peer_call_back(port_of(fd), "d2000 s");
		await(0);
		leave(0);
	}
	if (!early) {
		ep_add(ep, fd, EPOLLIN | EPOLLET, 7);
		ep_show("at once", ep, 4, 0);
	}
	ep_show("asleep", ep, 4, 20000);
	ask = accept(fd, NULL, NULL);
	printf("accept %s\n", ask >= 0 ? "works" : result_text(ask));
	go(0);
	ended("sleeper", p);
	close(ask);
	close(ep);
	close(fd);
	turns_end();
}

/* A client of this machine: over 127.0.0.1, which may be another stack's than the peer. */
static void neighbour(enum first first, int how)
{
	int fd = make(first), ep = epoll_create1(EPOLL_CLOEXEC), c;
	struct pollfd w = {.fd = fd, .events = POLLIN};
	pid_t p;

	printf("-- neighbour %d\n", how);
	if (how == 2) {
		ep_add(ep, fd, EPOLLIN | EPOLLET, 7);
		ep_show("before the fork", ep, 4, 0);
	}
	turns_begin();
	p = begin();
	if (!p) {
		struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
		int client = socket(AF_INET, SOCK_STREAM, 0);

		if (first == FRESH)
			bind_any(fd);
		until_parent_sleeps();
		if (listen(fd, 5))
			leave(1);
		go(0);
		until_parent_sleeps();
		a.sin_port = htons((uint16_t)port_of(fd));
		if (connect(client, (struct sockaddr *)&a, sizeof a) || write(client, "n", 1) != 1)
			leave(2);
		await(1);
		leave(0);
	}
	if (how != 2)
		await(0);
	if (how == 1) {
		c = poll(&w, 1, 20000);
		printf("poll %d %s\n", c, bits((uint32_t)w.revents));
	}
	if (how == 2)
		ep_show("asleep", ep, 4, 20000);
	c = accept(fd, NULL, NULL);
	char b = 0;
	printf("read %s", result_text(read(c, &b, 1)));
	printf(" '%c'\n", b);
	go(1);
	ended("neighbour", p);
	close(c);
	close(fd);
	close(ep);
	turns_end();
}

/* ------------------------------------------------------------ messages, other programs */

static int other(int from)
{
	int fd[FDS], n, flags, kept = -1;
	char what;

	while ((n = take(from, &what, fd, FDS, 0, &flags)) >= 0) {
		if (n > 0)
			kept = fd[0];
		switch (what) {
		case 'f':
			facts("other", kept);
			break;
		case 'b':
			bind_any(kept);
			break;
		case 'l':
			printf("other: listen %s\n", result_text(listen(kept, 5)));
			break;
		case 'a':
			serve("other", kept);
			break;
		case 'c':
			close(kept);
			break;
		case 'x':
			leave(0);
		}
		fflush(stdout);
		if (write(from, "k", 1) != 1)
			leave(8);
	}
	return 0;
}

static int order(int to, const char *what, const int *fd)
{
	char b;

	fflush(stdout);
	for (; *what; what++, fd = NULL)
		if (give(to, *what, fd, fd != NULL) != 1 || read(to, &b, 1) != 1)
			return printf("order '%c' failed: %s\n", *what, strerrorname_np(errno));
	return 0;
}

/* In a message to a process that has nothing else of ours. */
static void passed(const char *what, enum first first, bool keeps)
{
	int to, fd, ask[2];
	pid_t p = other_start(&to);

	printf("-- passed, %s\n", what);
	fd = make(first);
	keep(fd, false);
	if (keeps) {
		order(to, "f", &fd);
	} else {
		char b;

		fflush(stdout);
		give(to, 'f', &fd, 1);
		close(fd);
		if (read(to, &b, 1) != 1)
			exit(1);
	}
	if (first == FRESH)
		order(to, "b", NULL);
	if (keeps) {
		order(to, "lf", NULL);
		facts("this", fd);
		for (int i = 0; i < 2; i++)
			ask[i] = calls(fd);
		arrived(fd);
		order(to, "ac", NULL);
		serve("this", fd);
		close(fd);
		close(ask[0]);
		close(ask[1]);
	} else {
		order(to, "lf", NULL);
	}
	order(to, "", NULL);
	give(to, 'x', NULL, 0);
	ended(what, p);
	close(to);
}

/* By exec(): the new program listens, and its parent, or nobody else, has the socket. */
static void executed(const char *what, enum first first, int how)
{
	int fd = make(first), ask = -1;
	char number[16], *argv[] = {self, "listener", number, NULL};
	pid_t p = -1;

	printf("-- executed, %s\n", what);
	snprintf(number, sizeof number, "%d", fd);
	fflush(stdout);
	if (how == 0) {
		p = fork();
	} else if (how == 1) {
		p = vfork();
	} else if (posix_spawn(&p, self, NULL, NULL, argv, environ)) {
		exit(1);
	}
	if (!p) {
		execv(self, argv);
		leave(9);
	}
	ended(what, p);
	facts("parent", fd);
	ask = calls(fd);
	serve("parent", fd);
	close(fd);
	close(ask);
}

static int listener_run(int fd)
{
	int ask;

	facts("new program", fd);
	if (!port_of(fd))
		bind_any(fd);
	printf("new program: listen %s\n", result_text(listen(fd, 5)));
	ask = calls(fd);
	arrived(fd);
	serve("new program", fd);
	close(ask);
	close(fd);
	return 0;
}

/* This program becomes the next: nobody else has the socket. */
static void becomes(enum first first)
{
	char number[16], *argv[] = {self, "listener", number, NULL};
	pid_t p;

	printf("-- becomes %d\n", first);
	p = begin();
	if (!p) {
		snprintf(number, sizeof number, "%d", make(first));
		execv(self, argv);
		leave(9);
	}
	ended("becomes", p);
}

static void forks(void)
{
	child_listens("bound, the child closes", BOUND, 0);
	child_listens("bound, the child is killed", BOUND, 1);
	child_listens("bound, the child exits", BOUND, 2);
	child_listens("fresh, the child closes", FRESH, 0);
	child_listens("dual, the child closes", DUAL, 0);
	parent_listens("bound, the parent listens", BOUND);
	parent_listens("fresh, the parent listens", FRESH);
	verbs();
	undecided();
	many();
}

int main(int argc, char **argv)
{
	signal(SIGPIPE, SIG_IGN);
	self[readlink("/proc/self/exe", self, sizeof self - 1)] = 0;
	if (argc > 2 && !strcmp(argv[1], "other"))
		return other(atoi(argv[2]));
	if (argc > 2 && !strcmp(argv[1], "listener"))
		return listener_run(atoi(argv[2]));
	/* the first of all in a process without a stack */
	forks();
	member("level, from before", BOUND, EPOLLIN, true);
	member("level", FRESH, EPOLLIN | EPOLLOUT, false);
	member("edge, from before", FRESH, EPOLLIN | EPOLLOUT | EPOLLET, true);
	member("edge", BOUND, EPOLLIN | EPOLLET, false);
	member("oneshot", BOUND, EPOLLIN | EPOLLONESHOT, true);
	sleeper(true);
	sleeper(false);
	neighbour(BOUND, 0);
	neighbour(FRESH, 1);
	neighbour(BOUND, 2);
	neighbour(FRESH, 2);
	passed("bound, kept", BOUND, true);
	passed("fresh, kept", FRESH, true);
	passed("bound, closed", BOUND, false);
	executed("fork, bound", BOUND, 0);
	executed("fork, fresh", FRESH, 0);
	executed("vfork, bound", BOUND, 1);
	executed("spawn, bound", BOUND, 2);
	becomes(BOUND);
	becomes(FRESH);
	return 0;
}
