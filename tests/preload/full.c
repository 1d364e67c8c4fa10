/*
 * All numbers taken: what takes none with the kernel's TCP goes on, what takes one
 * answers EMFILE and loses nothing. Each case is a process of its own, and so a
 * part of the stack of its own.
 */
#include "peer.h"
#include <grp.h>
#include <pthread.h>
#include <sys/resource.h>
#include <sys/wait.h>

#define NUMBERS 64
#define THREADS 4
#define NOBODY	65534

static int taken[NUMBERS], count;

static void limit(rlim_t soft, rlim_t hard)
{
	if (setrlimit(RLIMIT_NOFILE, &(struct rlimit){soft, hard}))
		printf("the limit cannot be set: %s\n", strerrorname_np(errno));
}

static void soften(rlim_t soft)
{
	struct rlimit l;

	getrlimit(RLIMIT_NOFILE, &l);
	limit(soft, l.rlim_max);
}

/* Every number that is left. How many they are is part of what is compared only where it is said so. */
static void fill(void)
{
	int fd;

	while (count < NUMBERS && (fd = open("/dev/null", O_RDONLY)) >= 0)
		taken[count++] = fd;
	printf("full: %s\n", count < NUMBERS ? strerrorname_np(errno) : "no");
}

static void empty(void)
{
	while (count)
		close(taken[--count]);
}

static int connect_to_peer(int s, const char *script)
{
	struct sockaddr_in a = peer_address();
	int r = connect(s, (struct sockaddr *)&a, sizeof a);

	if (!r)
		peer_script(s, script);
	return r;
}

static void echo(const char *what, int s)
{
	char b[8] = "";

	send(s, "ping", 4, 0);
	printf("%s: %s", what, result_text(recv(s, b, 4, MSG_WAITALL)));
	printf(" '%s'\n", b);
}

/* A set made before, and one with its first member already there. */
static void set_gets_a_member(void)
{
	int s = peer_connect("e"), ep = epoll_create1(0), other = epoll_create1(0);

	fill();
	printf("ADD %s\n", result_text(ep_add(ep, s, EPOLLIN, 7)));
	send(s, "ping", 4, 0);
	ep_show("set", ep, 4, 5000);
	printf("ADD to another %s\n", result_text(ep_add(other, s, EPOLLIN, 8)));
	ep_show("the other", other, 4, 5000);
	printf("nested %s\n", result_text(ep_add(other, ep, EPOLLIN, 9)));
	ep_show("both", other, 4, 5000);
}

static void *wait_and_read(void *arg)
{
	struct pollfd p = {.fd = *(int *)arg, .events = POLLIN};
	char b[8];

	return (void *)(intptr_t)(poll(&p, 1, 20000) == 1 && recv(p.fd, b, 1, 0) == 1);
}

/* Threads that never waited before. */
static void thread_waits(void)
{
	pthread_t t[THREADS];
	int fd[THREADS];
	long good = 0;

	for (int i = 0; i < THREADS; i++)
		fd[i] = peer_connect("d100 wx");
	fill();
	for (int i = 0; i < THREADS; i++)
		pthread_create(&t[i], NULL, wait_and_read, &fd[i]);
	for (int i = 0; i < THREADS; i++) {
		void *r;

		pthread_join(t[i], &r);
		good += (intptr_t)r;
	}
	printf("read in %ld threads\n", good);
	empty();
}

/* The first socket of the process finds its stack when nothing is free. */
static void stack_starts(void)
{
	int s = socket(AF_INET, SOCK_STREAM, 0);

	fill();
	printf("connect %s\n", result_text(connect_to_peer(s, "e")));
	echo("echo", s);
	printf("another %s\n", result_text(socket(AF_INET, SOCK_STREAM, 0)));
}

static void listener_starts(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET};
	socklen_t len = sizeof a;
	int l = socket(AF_INET, SOCK_STREAM, 0), via = socket(AF_INET, SOCK_STREAM, 0), c;
	char script[64], b[8] = "";

	bind(l, (struct sockaddr *)&a, sizeof a);
	fill();
	printf("listen %s\n", result_text(listen(l, 5)));
	getsockname(l, (struct sockaddr *)&a, &len);
	snprintf(script, sizeof script, "c%d whello s", ntohs(a.sin_port));
	connect_to_peer(via, script);
	await_data(l);
	printf("accept %s\n", result_text(accept(l, NULL, NULL)));
	printf("accept %s\n", result_text(accept(l, NULL, NULL)));
	await_data(l);
	close(taken[--count]);
	c = accept(l, NULL, NULL);
	printf("then %s", c >= 0 ? "accepted" : strerrorname_np(errno));
	printf(", %s", result_text(recv(c, b, 5, MSG_WAITALL)));
	printf(" '%s'\n", b);
	printf("accept, nobody there %s\n", result_text(accept(l, NULL, NULL)));
}

static int peer_family(int s)
{
	struct sockaddr_storage a;
	socklen_t len = sizeof a;

	return getpeername(s, (struct sockaddr *)&a, &len) ? -1 : a.ss_family;
}

/* The limit falls under the numbers that are in use: they stay, and lower ones that fall free can be had. */
static void limit_falls(void)
{
	int low = open("/dev/null", O_RDONLY), s = peer_connect("e"), late = socket(AF_INET, SOCK_STREAM, 0),
	    n;
	int ep = epoll_create1(0), further = socket(AF_INET, SOCK_STREAM, 0);
	pthread_t t;
	void *r;

	soften((rlim_t)low + 1);
	echo("above the limit", s);
	printf("connect %s\n", result_text(connect_to_peer(late, "d100 wx e")));
	pthread_create(&t, NULL, wait_and_read, &late);
	pthread_join(t, &r);
	printf("thread %ld\n", (long)(intptr_t)r);
	echo("the late one", late);
	printf("ADD %s\n", result_text(ep_add(ep, late, EPOLLIN | EPOLLOUT, 7)));
	ep_show("set", ep, 4, 5000);
	printf("socket %s\n", result_text(socket(AF_INET, SOCK_STREAM, 0)));
	close(low);
	n = socket(AF_INET, SOCK_STREAM, 0);
	printf("the one that fell free: %d, %s\n", n == low, result_text(connect_to_peer(n, "e")));
	echo("echo", n);
	printf("further %s\n", result_text(connect_to_peer(further, "e")));
	soften(0);
	echo("a limit of none", further);
	printf("its peer: %d\n", peer_family(further) == AF_INET);
	printf("and again %s\n", result_text(shutdown(further, SHUT_RDWR)));
	soften(100);
	echo("a limit as before", peer_connect("e"));
}

/* Of a limit of 20 all is the application's. */
static void twenty(void)
{
	int s[20], n = 0;

	soften(20);
	while (n < 20 && (s[n] = socket(AF_INET, SOCK_STREAM, 0)) >= 0) {
		if (connect_to_peer(s[n], "e"))
			printf("connect %d: %s\n", n, strerrorname_np(errno));
		n++;
	}
	printf("connections: %d, the last number %d, then %s\n", n, s[n - 1], strerrorname_np(errno));
	for (int i = 0; i < n; i++)
		echo("echo", s[i]);
	for (int i = 0; i < n; i++)
		close(s[i]);
	fill();
	printf("files: %d\n", count);
}

static void child(int s)
{
	pid_t p = fork();
	int status;

	if (!p) {
		echo("child", s);
		fflush(stdout);
		_exit(7);
	}
	waitpid(p, &status, 0);
	printf("fork %s %d\n", p > 0 ? "worked" : strerrorname_np(errno), WEXITSTATUS(status));
}

static void children(void)
{
	int s = peer_connect("e");

	fill();
	fflush(stdout);
	child(s);
	echo("parent", s);
}

/* No number above the limit can be had, and no right to raise it. */
static void no_room_above(void)
{
	limit(NUMBERS, NUMBERS);
	if (setgroups(0, NULL) || setresgid(NOBODY, NOBODY, NOBODY))
		printf("cannot be somebody else\n");
}

static void be_nobody(void)
{
	if (setresuid(NOBODY, NOBODY, NOBODY))
		printf("cannot be somebody else\n");
}

static void without(int later)
{
	int s, late, ep = epoll_create1(0);
	pthread_t t;
	void *r;

	if (!later)
		no_room_above();
	s = peer_connect("e");
	if (later)
		no_room_above();
	late = socket(AF_INET, SOCK_STREAM, 0);
	be_nobody();
	fill();
	printf("ADD %s\n", result_text(ep_add(ep, s, EPOLLIN, 7)));
	send(s, "ping", 4, 0);
	ep_show("set", ep, 4, 5000);
	printf("connect %s\n", result_text(connect_to_peer(late, "d100 wx e")));
	for (int i = 0; i < 3; i++) {
		pthread_create(&t, NULL, wait_and_read, i ? &s : &late);
		pthread_join(t, &r);
		printf("thread %ld\n", (long)(intptr_t)r);
	}
	echo("the late one", late);
}

static void without_room(void)
{
	without(0);
}

static void room_is_lost(void)
{
	without(1);
}

#include "noleaks.h"

int main(void)
{
	static const struct {
		const char *name;
		void (*run)(void);
	} c[] = {{"set_gets_a_member", set_gets_a_member},
		 {"thread_waits", thread_waits},
		 {"stack_starts", stack_starts},
		 {"listener_starts", listener_starts},
		 {"limit_falls", limit_falls},
		 {"twenty", twenty},
		 {"children", children},
		 {"without_room", without_room},
		 {"room_is_lost", room_is_lost}};

	for (unsigned i = 0; i < sizeof c / sizeof c[0]; i++) {
		int status;

		printf("-- %s\n", c[i].name);
		fflush(stdout);
		pid_t p = fork(); /* before any socket: the stack is the child's own */
		if (!p) {
			if (c[i].run != without_room && c[i].run != room_is_lost && c[i].run != twenty)
				soften(NUMBERS);
			c[i].run();
			fflush(stdout);
			exit(0);
		}
		waitpid(p, &status, 0);
		printf("%s: %s %d\n", c[i].name, WIFSIGNALED(status) ? "killed by" : "status",
		       WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
	}
	return 0;
}
