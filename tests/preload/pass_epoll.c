/*
 * Epoll sets that go to another program image or process: exec(), posix_spawn(),
 * SCM_RIGHTS. They keep their members of both worlds, with what these have
 * reported and what they have not; two who have a set use it at once.
 */
#include <spawn.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "shared.h"

enum { PIPE = 1, LEVEL, EDGE, ONCE, LISTENER, LATER, INNER };

/* A connection to a peer that sends back what it gets; it has sent `first` already. */
static int echo(const char *first)
{
	int fd = peer_connect("e");
	struct pollfd p = {.fd = fd, .events = POLLIN};

	if (*first && (write(fd, first, strlen(first)) < 0 || poll(&p, 1, 5000) != 1))
		exit(2);
	return fd;
}

/* Until that many bytes are there. */
static void bytes(int fd, int n)
{
	int have = 0;

	for (int i = 0; i < 5000 && !ioctl(fd, FIONREAD, &have) && have < n; i++)
		msleep(1);
	if (have != n)
		printf("%d bytes, not %d\n", have, n);
}

static void number_arguments(char **argv, char (*text)[16], const char *mode, const int *fd, int n)
{
	argv[0] = self;
	argv[1] = (char *)(uintptr_t)mode;
	for (int i = 0; i < n; i++) {
		snprintf(text[i], sizeof text[i], "%d", fd[i]);
		argv[2 + i] = text[i];
	}
	argv[2 + n] = NULL;
}

static void become(const char *program, const char *mode, const int *fd, int n)
{
	char *argv[16], text[12][16];

	number_arguments(argv, text, mode, fd, n);
	fflush(stdout);
	execv(program, argv);
	_exit(9);
}

static pid_t spawn(const char *program, const char *mode, const int *fd, int n)
{
	char *argv[16], text[12][16];
	pid_t p = -1;
	int r;

	number_arguments(argv, text, mode, fd, n);
	fflush(stdout);
	r = posix_spawn(&p, program, NULL, NULL, argv, environ);
	if (r)
		printf("posix_spawn: %s\n", strerrorname_np(r));
	return p;
}

/* ------------------------------------------------------------ the set */

/* fd: the set, level, edge, once, the pipe's ends */
static void set_make(int fd[6])
{
	fd[0] = epoll_create1(0);
	fd[1] = echo("");
	fd[2] = echo("e");
	fd[3] = echo("o");
	if (pipe(fd + 4))
		exit(1);
	ep_add(fd[0], fd[4], EPOLLIN, PIPE);
	ep_add(fd[0], fd[1], EPOLLIN, LEVEL);
	ep_add(fd[0], fd[2], EPOLLIN | EPOLLET, EDGE);
	ep_add(fd[0], fd[3], EPOLLIN | EPOLLONESHOT, ONCE);
}

/* Without waiting for the echo. */
static void tell(int fd, const char *text)
{
	if (write(fd, text, strlen(text)) != (long)strlen(text))
		printf("write failed\n");
}

/* What an heir does with the set of set_make(), of which EDGE and ONCE were reported before. */
static void set_use(const int fd[6])
{
	char b[8];

	ep_show("nothing is new", fd[0], 8, 0);
	tell(fd[1], "l");
	ep_show("level", fd[0], 8, 5000);
	tell(fd[5], "p");
	ep_show("level and pipe", fd[0], 8, 5000);
	printf("read %s\n", result_text(read(fd[1], b, sizeof b)));
	tell(fd[2], "E");
	bytes(fd[2], 2);
	ep_show("pipe and edge", fd[0], 8, 5000);
	ep_show("pipe", fd[0], 8, 0);
	printf("mod %s\n", result_text(ep_mod(fd[0], fd[3], EPOLLIN | EPOLLOUT | EPOLLONESHOT, ONCE + 10)));
	ep_show("pipe and once", fd[0], 8, 5000);
	ep_show("pipe", fd[0], 8, 0);
	printf("add again %s\n", result_text(ep_add(fd[0], fd[1], EPOLLIN, 9)));
	printf("del %s\n", result_text(epoll_ctl(fd[0], EPOLL_CTL_DEL, fd[1], NULL)));
	printf("del again %s\n", result_text(epoll_ctl(fd[0], EPOLL_CTL_DEL, fd[1], NULL)));
	printf("del pipe %s\n", result_text(epoll_ctl(fd[0], EPOLL_CTL_DEL, fd[4], NULL)));
	tell(fd[1], "x");
	bytes(fd[1], 1);
	ep_show("not a member", fd[0], 8, 0);
	int more = echo("");
	printf("add %s\n", result_text(ep_add(fd[0], more, EPOLLOUT | EPOLLET, LATER)));
	ep_show("one more", fd[0], 8, 5000);
	close(more);
	close(fd[2]);
	ep_show("closed", fd[0], 8, 0);
}

/* EDGE and ONCE are reported. */
static void set_look(const int fd[6])
{
	ep_show("before", fd[0], 8, 5000);
	ep_show("before, again", fd[0], 8, 0);
}

static void set_begin(int fd[6])
{
	set_make(fd);
	set_look(fd);
}

/* The members are their maker's; an heir gets the set. */
static void keep_only_set(const int fd[6])
{
	for (int i = 1; i < 6; i++)
		keep(fd[i], false);
}

static void close_all(const int *fd, int n)
{
	for (int i = 0; i < n; i++)
		close(fd[i]);
}

static pid_t begin_case(const char *what)
{
	puts(what);
	return begin();
}

/* ------------------------------------------------------------ cases */

static void by_exec(const char *what, const char *mode)
{
	pid_t p = begin_case(what);

	if (!p) {
		int fd[6];

		set_begin(fd);
		become(self, mode, fd, 6);
	}
	ended(what, p);
}

static void by_spawn(void)
{
	int fd[6];
	pid_t p;

	puts("posix_spawn");
	set_begin(fd);
	p = spawn(self, "use", fd, 6);
	close_all(fd, 6);
	ended("posix_spawn", p);
}

/* The heir of the set sees what becomes ready in its maker, who still sees it afterwards. */
static void watched(const char *what, pid_t p, const int fd[6], const int sync[2])
{
	tell(fd[1], "l");
	bytes(fd[1], 1);
	tell(sync[1], "1");
	ended(what, p);
	ep_show("level", fd[0], 8, 5000);
	close_all(fd, 6);
	close_all(sync, 2);
}

/* Only the set goes; the members are its maker's. */
static void only_the_set(void)
{
	int fd[6], sync[2];
	pid_t p;

	puts("only the set");
	if (pipe(sync))
		exit(1);
	set_begin(fd);
	keep_only_set(fd);
	keep(sync[1], false);
	p = spawn(self, "watch", (int[]){fd[0], sync[0]}, 2);
	watched("the other has seen it", p, fd, sync);
}

/* vfork(): under its own number, and under another one. */
static void by_vfork(bool moved)
{
	static int number;
	int fd[6], sync[2];
	char *argv[16], text[12][16];
	pid_t p;

	puts("vfork");
	if (pipe(sync))
		exit(1);
	set_begin(fd);
	keep_only_set(fd);
	keep(sync[1], false);
	number = moved ? 200 : fd[0];
	keep(fd[0], !moved);
	number_arguments(argv, text, "watch", (int[]){number, sync[0]}, 2);
	fflush(stdout);
	p = vfork();
	if (!p) {
		if (moved)
			dup2(fd[0], number);
		execv(self, argv);
		_exit(9);
	}
	watched("vfork", p, fd, sync);
}

static void closed_on_exec(void)
{
	pid_t p = begin_case("close-on-exec");

	if (!p) {
		int fd[6];

		set_make(fd);
		keep(fd[0], false);
		set_look(fd);
		become(self, "without", fd, 6);
	}
	ended("close-on-exec", p);
}

/* Parent and child, another program, have the set: what one adds the other sees. */
static void both_at_once(void)
{
	int fd[6], to[2], from[2];
	char b[8];
	pid_t p;

	puts("both");
	if (pipe(to) || pipe(from))
		exit(1);
	set_begin(fd);
	p = spawn(self, "beside", (int[]){fd[0], fd[1], to[0], from[1], fd[2], fd[3]}, 6);
	if (read(from[0], b, 1) != 1)
		printf("no heir\n");
	int more = echo("m");
	printf("parent adds %s\n", result_text(ep_add(fd[0], more, EPOLLIN, LATER)));
	fflush(stdout);
	tell(to[1], "1");
	if (read(from[0], b, 1) != 1)
		printf("no answer\n");
	printf("deleted by the child: %s\n", result_text(epoll_ctl(fd[0], EPOLL_CTL_DEL, fd[1], NULL)));
	/* The child sleeps in the set; now the parent makes something ready. */
	printf("read %s\n", result_text(read(more, b, 8)));
	fflush(stdout);
	tell(to[1], "2");
	if (read(from[0], b, 1) != 1)
		printf("no answer\n");
	msleep(50);
	tell(more, "n");
	ended("both", p);
	ep_show("parent", fd[0], 8, 5000);
	close_all(fd, 6);
	close(more);
	close_all(to, 2);
	close_all(from, 2);
}

static int beside(const int *fd)
{
	char b[8];

	tell(fd[3], "r");
	if (read(fd[2], b, 1) != 1)
		return 1;
	ep_show("child", fd[0], 8, 5000);
	printf("child deletes %s\n", result_text(epoll_ctl(fd[0], EPOLL_CTL_DEL, fd[1], NULL)));
	fflush(stdout);
	tell(fd[3], "d");
	if (read(fd[2], b, 1) != 1)
		return 1;
	ep_show("child has nothing", fd[0], 8, 0);
	fflush(stdout);
	tell(fd[3], "w");
	ep_show("child", fd[0], 8, 5000);
	return 0;
}

/* Sets in sets, two numbers of one set, poll(). */
static void nested(void)
{
	pid_t p = begin_case("nested");

	if (!p) {
		int fd[6], outer = epoll_create1(0);

		set_make(fd);
		ep_add(outer, fd[0], EPOLLIN, INNER);
		ep_show("outer", outer, 8, 5000);
		set_look(fd);
		become(self, "nested", (int[]){outer, fd[0], fd[1], dup(fd[0]), dup(outer)}, 5);
	}
	ended("nested", p);
}

static int use_nested(const int *fd)
{
	struct pollfd p = {.fd = fd[3], .events = POLLIN};
	char b[8];

	ep_show("outer has nothing", fd[0], 8, 0);
	printf("poll %s\n", result_text(poll(&p, 1, 0)));
	tell(fd[2], "l");
	ep_show("outer", fd[4], 8, 5000);
	printf("poll %s %s\n", result_text(poll(&p, 1, 5000)), bits((uint32_t)p.revents));
	close(fd[1]);
	ep_show("the other number", fd[3], 8, 5000);
	printf("read %s\n", result_text(read(fd[2], b, sizeof b)));
	ep_show("outer has nothing", fd[0], 8, 0);
	printf("poll %s\n", result_text(poll(&p, 1, 0)));
	return 0;
}

static void with_listener(void)
{
	pid_t p = begin_case("listener");

	if (!p) {
		int port, l = listen_any(&port), ep = epoll_create1(0);

		ep_add(ep, l, EPOLLIN, LISTENER);
		ep_show("nobody", ep, 8, 0);
		become(self, "accept", (int[]){ep, l, port}, 3);
	}
	ended("listener", p);
}

static int use_listener(const int *fd)
{
	int ask, c;

	ep_show("nobody", fd[0], 8, 0);
	ask = peer_call_back(fd[2], "e");
	ep_show("a call", fd[0], 8, 5000);
	c = accept(fd[1], NULL, NULL);
	ep_show("accepted", fd[0], 8, 0);
	ep_add(fd[0], c, EPOLLIN, LATER);
	tell(c, "c");
	ep_show("echo", fd[0], 8, 5000);
	close(c);
	close(ask);
	/* From the other world, where there are two. */
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)fd[2])};
	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	ask = socket(AF_INET, SOCK_STREAM, 0);
	printf("connect %s\n", result_text(connect(ask, (struct sockaddr *)&a, sizeof a)));
	ep_show("a call", fd[0], 8, 5000);
	c = accept(fd[1], NULL, NULL);
	ep_show("accepted", fd[0], 8, 0);
	printf("del %s\n", result_text(epoll_ctl(fd[0], EPOLL_CTL_DEL, fd[1], NULL)));
	close(c);
	close(ask);
	return 0;
}

/* A set without members of the stack, whose heir adds one. */
static void first_member_later(void)
{
	pid_t p = begin_case("first member");

	if (!p) {
		int q[2], ep = epoll_create1(0), c = echo("c");

		if (pipe(q))
			exit(1);
		ep_add(ep, q[0], EPOLLIN, PIPE);
		become(self, "first", (int[]){ep, c, q[1]}, 3);
	}
	ended("first member", p);
}

/* ------------------------------------------------------------ messages */

/* A message whose sender has closed its own before it is read; order: the set, its members, in one or two. */
static void by_message(const char *what, bool apart)
{
	int fd[6], pair[2];
	pid_t p;

	puts(what);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair))
		exit(1);
	keep(pair[0], false);
	p = spawn(self, "taker", &pair[1], 1);
	set_begin(fd);
	if (apart) {
		give(pair[0], 'f', fd, 1);
		give(pair[0], 'f', fd + 1, 5);
	} else {
		give(pair[0], 'f', fd, 6);
	}
	close_all(fd, 6);
	close(pair[1]);
	tell(pair[0], "g");
	close(pair[0]);
	ended(what, p);
}

static int taker(int from)
{
	int fd[6], n = 0;
	char b[8];

	while (n < 6) {
		int came[FDS], got = take(from, b, came, 6 - n, 0, NULL);

		if (got <= 0)
			return 7;
		memcpy(fd + n, came, (size_t)got * sizeof *came);
		n += got;
	}
	if (read(from, b, 1) != 1)
		return 8;
	/* The numbers are others now: members are known by those that they were added by. */
	ep_show("nothing is new", fd[0], 8, 0);
	tell(fd[1], "l");
	ep_show("level", fd[0], 8, 5000);
	tell(fd[5], "p");
	ep_show("level and pipe", fd[0], 8, 5000);
	printf("read %s\n", result_text(read(fd[1], b, sizeof b)));
	tell(fd[2], "E");
	bytes(fd[2], 2);
	ep_show("pipe and edge", fd[0], 8, 5000);
	int more = echo("m");
	printf("add %s\n", result_text(ep_add(fd[0], more, EPOLLIN, LATER)));
	ep_show("one more", fd[0], 8, 5000);
	return 0;
}

/* The sender goes on with the set. */
static void message_and_both(void)
{
	int fd[6], pair[2];
	char b[8];
	pid_t p;

	puts("message, both");
	if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair))
		exit(1);
	keep(pair[0], false);
	p = spawn(self, "sleeper", &pair[1], 1);
	set_begin(fd);
	give(pair[0], 'f', fd, 1);
	if (read(pair[0], b, 1) != 1)
		printf("no answer\n");
	msleep(50); /* it sleeps */
	tell(fd[1], "l");
	ended("message, both", p);
	ep_show("sender", fd[0], 8, 5000);
	close_all(fd, 6);
	close_all(pair, 2);
}

static int sleeper(int from)
{
	int fd[FDS];
	char b;

	if (take(from, &b, fd, 1, 0, NULL) != 1)
		return 7;
	ep_show("nothing", fd[0], 8, 0);
	tell(from, "s");
	ep_show("woken", fd[0], 8, 5000);
	return 0;
}

/* ------------------------------------------------------------ programs that nothing can be preloaded into */

/* The set is its alone: the connection is a member there as it was here. An exec that fails changes nothing.
 */
static void static_alone(bool outer)
{
	const char *still = getenv("TEST_STILL");
	pid_t p = begin_case("static, alone");

	if (!p) {
		int fd[6], over = epoll_create1(0);

		set_make(fd);
		if (outer)
			ep_add(over, fd[0], EPOLLIN, INNER); /* it shows what is ready */
		set_look(fd);
		epoll_ctl(fd[0], EPOLL_CTL_DEL, fd[2], NULL);
		epoll_ctl(fd[0], EPOLL_CTL_DEL, fd[3], NULL);
		execl("/dev/null", "x", NULL);
		/* something like a program, that is none */
		int bad = open("/proc/self/exe", O_RDONLY | O_CLOEXEC), w = memfd_create("bad", 0);
		char b[64], path[32];
		if (read(bad, b, 64) != 64 || write(w, b, 64) != 64 || fchmod(w, 0700))
			_exit(1);
		snprintf(path, sizeof path, "/proc/self/fd/%d", w);
		printf("execl of nothing %s\n", result_text(execl(path, "x", NULL)));
		close(w);
		tell(fd[1], "l");
		ep_show("as before", fd[0], 8, 5000);
		if (outer)
			ep_show("as before", over, 8, 5000);
		printf("read %s\n", result_text(read(fd[1], b, 8)));
		ep_show("as before", fd[0], 8, 0);
		become(still, "watch", (int[]){fd[0], fd[1]}, 2);
	}
	ended("static, alone", p);
}

/* A listener in it is the kernel's there, and a member once. */
static void static_listener(bool outer)
{
	pid_t p = begin_case("static, listener");

	if (!p) {
		int port, l = listen_any(&port), ep = epoll_create1(0), over = epoll_create1(EPOLL_CLOEXEC);

		ep_add(ep, l, EPOLLIN, LISTENER);
		if (outer)
			ep_add(over, ep, EPOLLIN, INNER);
		ep_show("nobody", ep, 8, 0);
		become(getenv("TEST_STILL"), "call", (int[]){ep, port}, 2);
	}
	ended("static, listener", p);
}

/* Its parent goes on with the set: the child can see that something is ready. */
static void static_beside(void)
{
	int fd[6], pair[2];
	char b;
	pid_t p;

	puts("static, beside");
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
		exit(1);
	set_begin(fd);
	keep_only_set(fd);
	p = spawn(getenv("TEST_STILL"), "poll", (int[]){fd[0], pair[1]}, 2);
	if (read(pair[0], &b, 1) != 1)
		printf("no child\n");
	tell(fd[1], "l");
	bytes(fd[1], 1);
	tell(pair[0], "s");
	ended("static, beside", p);
	ep_show("parent", fd[0], 8, 5000);
	close_all(fd, 6);
	close_all(pair, 2);
}

/* ------------------------------------------------------------ */

static int heir(char **argv)
{
	int fd[8] = {0};
	char b;

	for (int i = 0; i < 8 && argv[2 + i]; i++)
		fd[i] = atoi(argv[2 + i]);
	if (!strcmp(argv[1], "use"))
		set_use(fd);
	else if (!strcmp(argv[1], "again"))
		become(self, "use", fd, 6);
	else if (!strcmp(argv[1], "watch"))
		return ep_show(read(fd[1], &b, 1) == 1 ? "level" : "?", fd[0], 8, 5000) != 1;
	else if (!strcmp(argv[1], "without")) {
		int ep = epoll_create1(0);

		printf("add %s\n", result_text(ep_add(ep, fd[2], EPOLLIN | EPOLLET, EDGE)));
		ep_show("a set of its own", ep, 8, 5000);
	} else if (!strcmp(argv[1], "beside"))
		return beside(fd);
	else if (!strcmp(argv[1], "nested"))
		return use_nested(fd);
	else if (!strcmp(argv[1], "accept"))
		return use_listener(fd);
	else if (!strcmp(argv[1], "first")) {
		printf("add %s\n", result_text(ep_add(fd[0], fd[1], EPOLLIN, LEVEL)));
		ep_show("first", fd[0], 8, 5000);
		tell(fd[2], "p");
		ep_show("first and pipe", fd[0], 8, 5000);
	} else if (!strcmp(argv[1], "taker"))
		return taker(fd[0]);
	else if (!strcmp(argv[1], "sleeper"))
		return sleeper(fd[0]);
	return 0;
}

int main(int argc, char **argv)
{
	self[readlink("/proc/self/exe", self, sizeof self - 1)] = 0;
	if (argc > 1)
		return heir(argv);
	by_exec("exec", "use");
	by_exec("exec twice", "again"); /* three images one after the other */
	by_spawn();
	only_the_set();
	by_vfork(false);
	by_vfork(true);
	closed_on_exec();
	both_at_once();
	nested();
	with_listener();
	first_member_later();
	by_message("message", false);
	by_message("messages", true);
	message_and_both();
	static_alone(false);
	static_alone(true);
	static_listener(false);
	static_listener(true);
	static_beside();
	return 0;
}
