/*
 * An unconnected socket in several processes, by fork() or in a message: whichever connects, all have the
 * connection, and it lives until the last has closed it. One that goes to an address of the kernel's is the
 * kernel's in all of them.
 */
#include <netinet/tcp.h>
#include <spawn.h>
#include <sys/ioctl.h>

#include "shared.h"
#include "turns.h"

static int make(bool bound)
{
	struct sockaddr_in a = {.sin_family = AF_INET};
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	if (bound && bind(fd, (struct sockaddr *)&a, sizeof a))
		exit(1);
	return fd;
}

static void facts(const char *who, int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN | POLLOUT | POLLPRI | POLLRDHUP};
	int n = poll(&p, 1, 0), state;
	struct sockaddr_in a = {0}, want = peer_address();
	struct tcp_info i = {0};
	socklen_t len = sizeof a, ilen = sizeof i;

	printf("%s: poll %d %s", who, n, bits((uint32_t)p.revents));
	n = getsockname(fd, (struct sockaddr *)&a, &len);
	printf(", name %s port %s", result_text(n), a.sin_port ? "yes" : "no");
	len = sizeof a;
	n = getpeername(fd, (struct sockaddr *)&a, &len);
	printf(", peer %s%s", result_text(n), !n && a.sin_port == want.sin_port ? " ours" : "");
	getsockopt(fd, IPPROTO_TCP, TCP_INFO, &i, &ilen);
	state = i.tcpi_state;
	printf(", state %d, O_NONBLOCK %d\n", state, !!(fcntl(fd, F_GETFL) & O_NONBLOCK));
	fflush(stdout);
}

static int to_peer(int fd)
{
	struct sockaddr_in a = peer_address();

	return connect(fd, (struct sockaddr *)&a, sizeof a);
}

/* _Fork() runs nothing that could prepare it, and there is no stack yet: the parent's connect() works. */
static void unprepared(void)
{
	int fd = make(false);
	pid_t p;

	puts("-- unprepared");
	turns_begin();
	fflush(stdout);
	p = _Fork();
	if (!p) {
		await(0);
		_exit(0);
	}
	printf("parent: connect %s\n", result_text(to_peer(fd)));
	peer_script(fd, "e");
	say("parent", fd, "hello");
	go(0);
	ended("unprepared", p);
	say("parent", fd, "alone");
	close(fd);
	turns_end();
}

/* The child connects and closes, or is killed; the parent goes on. */
static void child_connects(bool bound, int how)
{
	int fd = make(bound), copy = dup(fd);
	pid_t p;

	printf("-- child connects, %d %d\n", bound, how);
	turns_begin();
	facts("parent before", fd);
	p = begin();
	if (!p) {
		facts("child before", fd);
		printf("child: connect %s\n", result_text(to_peer(fd)));
		peer_script(fd, "e");
		say("child", fd, "hello");
		facts("child", fd);
		go(0);
		await(1);
		if (how == 0)
			close(fd), close(copy);
		if (how == 1)
			raise(SIGKILL);
		leave(0);
	}
	await(0);
	facts("parent", copy);
	say("parent", fd, "from the parent");
	printf("parent: connect %s\n", result_text(to_peer(fd)));
	printf("parent: listen %s\n", result_text(listen(fd, 5)));
	go(1);
	ended("child connects", p);
	say("parent", copy, "alone");
	close(fd);
	say("parent", copy, "by the other number");
	printf("parent: shutdown %s\n", result_text(shutdown(copy, SHUT_WR)));
	printf("parent: the end %s\n", result_text(recv(copy, &p, 1, 0)));
	facts("parent at the end", copy);
	close(copy);
	turns_end();
}

/* The parent connects and closes first; the child has it, and the peer sees the end only after that. */
static void parent_connects(void)
{
	int fd = make(false);
	pid_t p;

	puts("-- parent connects");
	turns_begin();
	p = begin();
	if (!p) {
		await(0);
		facts("child", fd);
		say("child", fd, "hello");
		leave(0);
	}
	printf("parent: connect %s\n", result_text(to_peer(fd)));
	peer_script(fd, "e");
	close(fd);
	go(0);
	ended("parent connects", p);
	turns_end();
}

/* Without waiting; the other polls for it, in poll() and in a set from before. */
static void nonblocking(uint32_t how)
{
	int fd = make(false), ep = epoll_create1(EPOLL_CLOEXEC), e = -1;
	socklen_t len = sizeof e;
	struct pollfd w = {.fd = fd, .events = POLLOUT};
	pid_t p;

	printf("-- nonblocking, %s\n", how & EPOLLET ? "edge" : "level");
	turns_begin();
	ep_add(ep, fd, EPOLLIN | EPOLLOUT | how, 5);
	ep_show("fresh", ep, 4, 0);
	p = begin();
	if (!p) {
		close(ep);
		fcntl(fd, F_SETFL, O_NONBLOCK);
		printf("child: connect %s\n", result_text(to_peer(fd)));
		go(0);
		await(1);
		leave(0);
	}
	await(0);
	ep_show("parent", ep, 4, 20000);
	printf("parent: poll %d", poll(&w, 1, 20000));
	printf(" %s\n", bits((uint32_t)w.revents));
	getsockopt(fd, SOL_SOCKET, SO_ERROR, &e, &len);
	printf("parent: SO_ERROR %d, connect %s\n", e, result_text(to_peer(fd)));
	facts("parent", fd);
	peer_script(fd, "d100 wanswer e");
	fcntl(fd, F_SETFL, 0);
	printf("parent: set %d\n", epoll_wait(ep, &(struct epoll_event){0}, 1, how & EPOLLET ? 20000 : 0));
	say("parent", fd, "answer");
	go(1);
	ended("nonblocking", p);
	close(ep);
	close(fd);
	turns_end();
}

/* The set is shared as well: both see the same. */
static void one_set(void)
{
	int fd = make(false), ep = epoll_create1(EPOLL_CLOEXEC);
	pid_t p;

	puts("-- one set");
	turns_begin();
	ep_add(ep, fd, EPOLLOUT, 5);
	p = begin();
	if (!p) {
		ep_show("child: fresh", ep, 4, 0);
		printf("child: connect %s\n", result_text(to_peer(fd)));
		ep_show("child: connected", ep, 4, 20000);
		printf("child: MOD %s\n", result_text(ep_mod(ep, fd, EPOLLIN, 6)));
		go(0);
		await(1);
		ep_show("child: readable", ep, 4, 20000);
		leave(0);
	}
	await(0);
	ep_show("parent: nothing", ep, 4, 0);
	peer_script(fd, "wx s");
	ep_show("parent: readable", ep, 4, 20000);
	printf("parent: DEL and ADD %s", result_text(epoll_ctl(ep, EPOLL_CTL_DEL, fd, NULL)));
	printf(" %s\n", result_text(ep_add(ep, fd, EPOLLIN, 7)));
	go(1);
	ended("one set", p);
	close(fd);
	ep_show("parent: closed", ep, 4, 0);
	close(ep);
	turns_end();
}

/* Nobody answers there: the next attempt is anybody's. */
static void refused(void)
{
	int fd = make(false), e = -1;
	struct sockaddr_in a = peer_address();
	socklen_t len = sizeof e;
	pid_t p;

	puts("-- refused");
	a.sin_port = htons(9);
	p = begin();
	if (!p) {
		printf("child: connect %s\n", result_text(connect(fd, (struct sockaddr *)&a, sizeof a)));
		facts("child", fd);
		leave(0);
	}
	ended("refused", p);
	getsockopt(fd, SOL_SOCKET, SO_ERROR, &e, &len);
	printf("parent: SO_ERROR %d\n", e);
	printf("parent: connect %s\n", result_text(to_peer(fd)));
	peer_script(fd, "e");
	say("parent", fd, "hello");
	close(fd);
}

/* 127.0.0.1 is the kernel's, or the stack's, or it is the kernel anyway. */
static void elsewhere(bool member)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = make(false), l = make(false), c, ep = epoll_create1(EPOLL_CLOEXEC);
	socklen_t len = sizeof a;
	char b[8] = "";
	pid_t p;

	printf("-- elsewhere %d\n", member);
	turns_begin();
	if (bind(l, (struct sockaddr *)&a, sizeof a) || listen(l, 5) ||
	    getsockname(l, (struct sockaddr *)&a, &len))
		exit(1);
	p = begin();
	if (!p) {
		close(ep);
		await(0);
		until_parent_sleeps();
		printf("child: connect %s\n", result_text(connect(fd, (struct sockaddr *)&a, sizeof a)));
		printf("child: write %s\n", result_text(write(fd, "child", 5)));
		go(1);
		await(0);
		leave(0);
	}
	if (member) {
		ep_add(ep, fd, EPOLLIN | EPOLLET, 5);
		ep_show("fresh", ep, 4, 0);
	}
	go(0);
	c = accept(l, NULL, NULL);
	if (c < 0)
		puts("accept failed");
	printf("parent: read %s", result_text(read(c, b, 5)));
	printf(" '%s'\n", b);
	await(1);
	if (member) {
		ep_show("connected", ep, 4, 0);
		if (write(c, "x", 1) != 1)
			exit(1);
		ep_show("readable", ep, 4, 20000);
		printf("parent: read %s\n", result_text(read(fd, b, 1)));
	}
	printf("parent: write %s\n", result_text(write(fd, "paren", 5)));
	printf("parent: read %s", result_text(read(c, b, 5)));
	printf(" '%s'\n", b);
	go(0);
	ended("elsewhere", p);
	printf("parent: shutdown %s\n", result_text(shutdown(fd, SHUT_WR)));
	printf("parent: read %s\n", result_text(read(c, b, 5)));
	close(c);
	close(l);
	close(fd);
	close(ep);
	turns_end();
}

/* Asleep over it while another process takes it to the kernel. */
static void asleep(uint32_t how)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = make(false), l = make(false), c, ep = epoll_create1(EPOLL_CLOEXEC);
	socklen_t len = sizeof a;
	char b[8] = "";
	pid_t p;

	puts("-- asleep");
	turns_begin();
	if (bind(l, (struct sockaddr *)&a, sizeof a) || listen(l, 5) ||
	    getsockname(l, (struct sockaddr *)&a, &len))
		exit(1);
	ep_add(ep, fd, EPOLLIN | how, 5);
	ep_show("fresh", ep, 4, 0);
	p = begin();
	if (!p) {
		close(ep);
		until_parent_sleeps();
		if (connect(fd, (struct sockaddr *)&a, sizeof a))
			leave(1);
		until_parent_sleeps();
		c = accept(l, NULL, NULL);
		if (write(c, "late", 4) != 4)
			leave(2);
		await(0);
		leave(0);
	}
	ep_show("asleep", ep, 4, 20000);
	printf("read %s", result_text(recv(fd, b, 4, MSG_WAITALL)));
	printf(" '%s'\n", b);
	printf("MOD %s\n", result_text(ep_mod(ep, fd, EPOLLOUT, 6)));
	ep_show("modified", ep, 4, 20000);
	printf("DEL %s\n", result_text(epoll_ctl(ep, EPOLL_CTL_DEL, fd, NULL)));
	go(0);
	ended("asleep", p);
	close(fd);
	close(l);
	close(ep);
	turns_end();
}

/* In a message to a process that connects it. */
static void passed(void)
{
	int fd = make(false), pair[2], got[FDS];
	char b;
	pid_t p;

	puts("-- passed");
	if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair))
		exit(1);
	p = begin();
	if (!p) {
		close(fd);
		printf("child: %d\n", take(pair[1], &b, got, FDS, 0, NULL));
		printf("child: connect %s\n", result_text(to_peer(got[0])));
		peer_script(got[0], "e");
		say("child", got[0], "hello");
		printf("child: back %s\n", result_text(give(pair[1], 'x', got, 1)));
		leave(0);
	}
	give(pair[0], 'x', &fd, 1);
	printf("parent: %d\n", take(pair[0], &b, got, FDS, 0, NULL));
	ended("passed", p);
	say("parent", fd, "hello");
	say("parent", got[0], "again");
	close(fd);
	say("parent", got[0], "and again");
	close(got[0]);
	close(pair[0]);
	close(pair[1]);
}

/* Connected there, it goes on to another program. */
static int heir(int fd)
{
	facts("heir", fd);
	return say("heir", fd, "from another program");
}

static void handed_on(void)
{
	int fd = make(false);
	char number[16], *argv[] = {self, "heir", number, NULL};
	pid_t p;

	puts("-- handed on");
	turns_begin();
	p = begin();
	if (!p) {
		await(0);
		snprintf(number, sizeof number, "%d", fd);
		execv(self, argv);
		leave(9);
	}
	printf("parent: connect %s\n", result_text(to_peer(fd)));
	peer_script(fd, "e");
	go(0);
	ended("handed on", p);
	say("parent", fd, "hello");
	close(fd);
	turns_end();
}

/* Fresh over exec(), with nobody else: the new program connects it. */
static int connector(int fd)
{
	printf("connector: %s\n", result_text(to_peer(fd)));
	peer_script(fd, "e");
	return say("connector", fd, "from a new program");
}

static void becomes(void)
{
	pid_t p;

	puts("-- becomes");
	p = begin();
	if (!p) {
		char number[16], *argv[] = {self, "connector", number, NULL};

		snprintf(number, sizeof number, "%d", make(false));
		execv(self, argv);
		leave(9);
	}
	ended("becomes", p);
}

/* An option that only the kernel has, where that is allowed: then it is the kernel's, in all processes. */
static int only_kernel(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = make(true), one = 1, yes = 0, c;
	socklen_t len = sizeof a, ylen = sizeof yes;
	pid_t p = begin();

	if (!p) {
		printf("child: %s\n",
		       result_text(setsockopt(fd, SOL_SOCKET, SO_LOCK_FILTER, &one, sizeof one)));
		printf("child: %s\n", result_text(listen(fd, 5)));
		leave(0);
	}
	ended("only kernel", p);
	getsockopt(fd, SOL_SOCKET, SO_LOCK_FILTER, &yes, &ylen);
	printf("SO_LOCK_FILTER %d", yes);
	getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &yes, &ylen);
	printf(", listens %d\n", yes);
	getsockname(fd, (struct sockaddr *)&a, &len);
	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	fcntl(fd, F_SETFL, O_NONBLOCK);
	c = accept(fd, NULL, NULL);
	printf("accept %s\n", result_text(c));
	facts("only kernel", fd);
	return 0;
}

static void optional(void)
{
	char *argv[] = {self, "only", NULL};
	pid_t p;

	puts("-- only kernel");
	p = begin();
	if (!p) {
		unsetenv("UTCP_REQUIRE");
		execv(self, argv);
		leave(9);
	}
	ended("only kernel", p);
}

/* To a program that nothing can be preloaded into, by each way; and by another number. */
static void strangers(void)
{
	int fd = make(false);
	char number[16], *argv[] = {getenv("TEST_STILL"), "say", number, NULL};
	pid_t p;

	puts("-- strangers");
	p = begin();
	if (!p) {
		printf("child: connect %s\n", result_text(to_peer(fd)));
		peer_script(fd, "e");
		leave(0);
	}
	ended("connected", p);
	for (int how = 0; how < 4; how++) {
		snprintf(number, sizeof number, "%d", how == 3 ? 40 : fd);
		fflush(stdout);
		if (how == 0)
			p = fork();
		else if (how == 1)
			p = posix_spawn(&p, argv[0], NULL, NULL, argv, environ) ? -1 : p;
		else
			p = vfork();
		if (!p) {
			if (how == 3)
				dup2(fd, 40);
			execv(argv[0], argv);
			leave(9);
		}
		ended("stranger", p);
	}
	say("parent", fd, "hello");
	close(fd);
}

/* By sendto(), which names the peer. */
static void fast_open(void)
{
	struct sockaddr_in a = peer_address();
	int fd = make(false);
	pid_t p;

	puts("-- fast open");
	p = begin();
	if (!p) {
		printf("child: %s\n",
		       result_text(sendto(fd, "e\n", 2, MSG_FASTOPEN, (struct sockaddr *)&a, sizeof a)));
		leave(0);
	}
	ended("fast open", p);
	say("parent", fd, "hello");
	close(fd);
}

/* connect(AF_UNSPEC) before and after. */
static void unspecified(void)
{
	struct sockaddr a = {.sa_family = AF_UNSPEC};
	int fd = make(true);
	pid_t p;

	puts("-- unspecified");
	p = begin();
	if (!p) {
		printf("child: connect %s\n", result_text(connect(fd, &a, sizeof a)));
		printf("child: connect %s\n", result_text(to_peer(fd)));
		peer_script(fd, "e");
		leave(0);
	}
	ended("unspecified", p);
	say("parent", fd, "hello");
	printf("parent: connect %s\n", result_text(connect(fd, &a, sizeof a)));
	printf("parent: send %s\n", result_text(send(fd, "x", 1, MSG_NOSIGNAL)));
	printf("parent: connect %s\n", result_text(to_peer(fd)));
	peer_script(fd, "e");
	say("parent", fd, "another");
	close(fd);
}

/* One thread connects while another forks. */
static _Atomic int forking;

static void *forker(void *arg)
{
	while (forking) {
		pid_t p = fork();
		int status;

		if (!p)
			_exit(0);
		if (waitpid(p, &status, 0) != p || status)
			return NULL;
		msleep(1);
	}
	return arg;
}

static void threads(void)
{
	enum { ROUNDS = 100 };
	pthread_t t;
	void *r;
	int good = 0;

	puts("-- threads");
	forking = 1;
	pthread_create(&t, NULL, forker, (void *)(uintptr_t)1);
	for (int i = 0; i < ROUNDS; i++) {
		int fd = socket(AF_INET, SOCK_STREAM, 0);
		char b = 0;

		sched_yield();
		if (!to_peer(fd)) {
			peer_script(fd, "e");
			good += send(fd, "y", 1, 0) == 1 && recv(fd, &b, 1, 0) == 1 && b == 'y';
		}
		close(fd);
	}
	forking = 0;
	pthread_join(t, &r);
	printf("%d of %d, forks %s\n", good, ROUNDS, r ? "worked" : "failed");
}

int main(int argc, char **argv)
{
	signal(SIGPIPE, SIG_IGN);
	self[readlink("/proc/self/exe", self, sizeof self - 1)] = 0;
	if (argc > 2 && !strcmp(argv[1], "heir"))
		return heir(atoi(argv[2]));
	if (argc > 2 && !strcmp(argv[1], "connector"))
		return connector(atoi(argv[2]));
	if (argc > 1 && !strcmp(argv[1], "only"))
		return only_kernel();
	unprepared();
	for (int how = 0; how < 3; how++)
		child_connects(how & 1, how);
	parent_connects();
	nonblocking(0);
	nonblocking(EPOLLET);
	one_set();
	refused();
	elsewhere(false);
	elsewhere(true);
	asleep(EPOLLET);
	passed();
	handed_on();
	becomes();
	optional();
	strangers();
	fast_open();
	unspecified();
	threads();
	return 0;
}
