/*
 * bystander.c - a program that uses only kernel descriptors, for measuring what the preloaded library costs.
 *
 *     bystander KIND COUNT [marked]
 *     bystander KIND pairs SECONDS
 *
 * KIND: read (a byte from /dev/zero), write (a byte to /dev/null), pipe (a byte through a pipe), poll and
 * epoll (the same, asked for first), udp (a datagram to itself on loopback), file (seek and read in a file).
 * Not local sockets, nor open(): their cost in the kernel jumps by a tenth from one process image to another,
 * with an empty library as well.
 *
 * COUNT rounds; no output; marked: between two SIGSTOPs, for count.c. With "pairs" the same rounds in blocks
 * of some 40 us, in turn by the names that a program calls (the library's wrappers, where it is preloaded)
 * and by libc's functions themselves: W P P W, P W W P, ... Within one process the machine's phases and the
 * luck of its pages are the same for both, so the median of the ratios of such fours holds still where whole
 * runs differ by a tenth. It ends when the median is known to 0.2 % (95 %), at the latest after SECONDS, and
 * prints one line of JSON. Without the library both sides are the same function: then the ratio tells what
 * the measurement itself is worth.
 */
#include <dlfcn.h>
#include <math.h>
#include <time.h>
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <unistd.h>

#define BLOCK_NS  40000
#define FOURS_MAX 200000

/* The calls of a round, by the names or libc's own. */
struct calls {
	ssize_t (*read)(int, void *, size_t);
	ssize_t (*write)(int, const void *, size_t);
	ssize_t (*send)(int, const void *, size_t, int);
	ssize_t (*recv)(int, void *, size_t, int);
	int (*poll)(struct pollfd *, nfds_t, int);
	int (*epoll_wait)(int, struct epoll_event *, int, int);
	int (*select)(int, fd_set *, fd_set *, fd_set *, struct timeval *);
	int (*open)(const char *, int, ...);
	int (*close)(int);
	int (*dup)(int);
	int (*fcntl)(int, int, ...);
	int (*getsockopt)(int, int, int, void *, socklen_t *);
	int (*sigaction)(int, const struct sigaction *, struct sigaction *);
};

static const struct calls named = {read, write, send, recv,  poll,	 epoll_wait, select,
				   open, close, dup,  fcntl, getsockopt, sigaction};
static const struct calls *call;
static int from, to, set;
static char c;

static void must(int ok, const char *what)
{
	if (ok)
		return;
	perror(what);
	exit(1);
}

static void pass(void)
{
	must(call->write(to, &c, 1) == 1 && call->read(from, &c, 1) == 1, "pass");
}

static void with_poll(void)
{
	struct pollfd p = {.fd = from, .events = POLLIN};

	must(call->write(to, &c, 1) == 1 && call->poll(&p, 1, -1) == 1 && call->read(from, &c, 1) == 1,
	     "poll");
}

static void with_epoll(void)
{
	struct epoll_event e;

	must(call->write(to, &c, 1) == 1 && call->epoll_wait(set, &e, 1, -1) == 1 &&
		 call->read(from, &c, 1) == 1,
	     "epoll");
}

static void datagram(void)
{
	must(call->send(to, &c, 1, 0) == 1 && call->recv(from, &c, 1, 0) == 1, "datagram");
}

static void reading(void)
{
	must(call->read(from, &c, 1) == 1, "read");
}

static void writing(void)
{
	must(call->write(to, &c, 1) == 1, "write");
}

static void seeking(void)
{
	char page[4096];

	must(lseek(from, 0, SEEK_SET) == 0 && call->read(from, page, sizeof page) > 0, "file");
}

static void opening(void)
{
	int fd = call->open("/dev/null", O_RDONLY);

	must(fd >= 0 && call->close(fd) == 0, "open");
}

static void duplicating(void)
{
	int fd = call->dup(from);

	must(fd >= 0 && call->close(fd) == 0, "dup");
}

static void with_select(void)
{
	fd_set r;

	FD_ZERO(&r);
	FD_SET(from, &r);
	must(call->write(to, &c, 1) == 1 && call->select(from + 1, &r, NULL, NULL, NULL) == 1 &&
		 call->read(from, &c, 1) == 1,
	     "select");
}

static void flags(void)
{
	must(call->fcntl(from, F_GETFL) >= 0, "fcntl");
}

static void option(void)
{
	int v;
	socklen_t len = sizeof v;

	must(call->getsockopt(from, SOL_SOCKET, SO_ERROR, &v, &len) == 0, "getsockopt");
}

static void action(void)
{
	struct sigaction a;

	must(call->sigaction(SIGUSR1, NULL, &a) == 0, "sigaction");
}

static void pipe_open(void)
{
	int p[2];

	must(pipe(p) == 0, "pipe");
	from = p[0];
	to = p[1];
}

static void set_open(void)
{
	struct epoll_event e = {.events = EPOLLIN};

	pipe_open();
	set = epoll_create1(0);
	must(set >= 0 && epoll_ctl(set, EPOLL_CTL_ADD, from, &e) == 0, "epoll_ctl");
}

static void *sleeper(void *arg)
{
	pause();
	return arg;
}

static void set_open_threads(void)
{
	pthread_t t;

	set_open();
	must(pthread_create(&t, NULL, sleeper, NULL) == 0, "pthread_create");
}

static void udp_open(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof a;

	from = socket(AF_INET, SOCK_DGRAM, 0);
	to = socket(AF_INET, SOCK_DGRAM, 0);
	must(from >= 0 && to >= 0 && bind(from, (struct sockaddr *)&a, sizeof a) == 0 &&
		 getsockname(from, (struct sockaddr *)&a, &len) == 0 &&
		 connect(to, (struct sockaddr *)&a, sizeof a) == 0,
	     "udp");
}

static void local_open(void)
{
	int p[2];

	must(socketpair(AF_UNIX, SOCK_STREAM, 0, p) == 0, "socketpair");
	from = p[0];
	to = p[1];
}

static void zero_open(void)
{
	from = open("/dev/zero", O_RDONLY);
	to = open("/dev/null", O_WRONLY);
	must(from >= 0 && to >= 0, "/dev/zero");
}

static void file_open(void)
{
	from = open("/proc/self/exe", O_RDONLY);
	must(from >= 0, "/proc/self/exe");
}

static const struct kind {
	const char *name;
	void (*begin)(void);
	void (*round)(void);
} kinds[] = {
    {"read", zero_open, reading},    {"write", zero_open, writing},
    {"file", file_open, seeking},    {"pipe", pipe_open, pass},
    {"poll", pipe_open, with_poll},  {"select", pipe_open, with_select},
    {"epoll", set_open, with_epoll}, {"threads", set_open_threads, with_epoll},
    {"polls", set_open, with_poll},  {"selects", set_open, with_select},
    {"udp", udp_open, datagram},     {"local", local_open, datagram},
    {"open", zero_open, opening},    {"opens", set_open, opening},
    {"dup", zero_open, duplicating}, {"dups", set_open, duplicating},
    {"fcntl", zero_open, flags},     {"option", udp_open, option},
    {"action", zero_open, action},
};

static void *libc_own(void *libc, const char *name)
{
	void *f = dlsym(libc, name);

	must(f != NULL, name);
	return f;
}

static struct calls plain_calls(void)
{
	void *libc = dlopen("libc.so.6", RTLD_LAZY | RTLD_NOLOAD);

	must(libc != NULL, "libc.so.6");
	return (struct calls){
	    .read = libc_own(libc, "read"),
	    .write = libc_own(libc, "write"),
	    .send = libc_own(libc, "send"),
	    .recv = libc_own(libc, "recv"),
	    .poll = libc_own(libc, "poll"),
	    .epoll_wait = libc_own(libc, "epoll_wait"),
	    .select = libc_own(libc, "select"),
	    .open = libc_own(libc, "open"),
	    .close = libc_own(libc, "close"),
	    .dup = libc_own(libc, "dup"),
	    .fcntl = libc_own(libc, "fcntl"),
	    .getsockopt = libc_own(libc, "getsockopt"),
	    .sigaction = libc_own(libc, "sigaction"),
	};
}

static uint64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static double block(const struct calls *calls, const struct kind *k, long n)
{
	uint64_t begin = now();

	call = calls;
	for (long i = 0; i < n; i++)
		k->round();
	return (double)(now() - begin) / (double)n;
}

static int ascending(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* The median, and the ranks around it that hold the true one in 95 of 100 cases. */
struct middle {
	double median, low, high;
};

static struct middle middle_of(const double *values, size_t n)
{
	static double sorted[FOURS_MAX];
	size_t half = (size_t)(0.98 * sqrt((double)n)) + 1;

	memcpy(sorted, values, n * sizeof *values);
	qsort(sorted, n, sizeof *sorted, ascending);
	return (struct middle){sorted[n / 2], sorted[n / 2 - half], sorted[n / 2 + half]};
}

static void pairs(const struct kind *k, double seconds)
{
	static double ratio[FOURS_MAX], with[FOURS_MAX], without[FOURS_MAX];
	struct calls plain = plain_calls();
	struct middle m = {0};
	uint64_t end = now() + (uint64_t)(seconds * 1e9);
	long n = (long)(BLOCK_NS / block(&plain, k, 1000)) + 1;
	size_t fours = 0;

	while (fours < FOURS_MAX && now() < end) {
		const struct calls *a = fours % 2 ? &plain : &named, *b = fours % 2 ? &named : &plain;
		double first = block(a, k, n), second = block(b, k, n);

		second += block(b, k, n);
		first += block(a, k, n);
		with[fours] = (fours % 2 ? second : first) / 2;
		without[fours] = (fours % 2 ? first : second) / 2;
		ratio[fours] = with[fours] / without[fours];
		if (++fours % 1000 != 0)
			continue;
		m = middle_of(ratio, fours);
		if (m.high - m.low < 0.004)
			break;
	}
	if (fours < 100) {
		fprintf(stderr, "bystander: too little time for 100 pairs\n");
		exit(1);
	}
	m = middle_of(ratio, fours);
	printf("{\"ratio\": %.5f, \"low\": %.5f, \"high\": %.5f, \"fours\": %zu, \"ns_with\": %.2f, "
	       "\"ns_without\": %.2f}\n",
	       m.median, m.low, m.high, fours, middle_of(with, fours).median,
	       middle_of(without, fours).median);
}

int main(int argc, char **argv)
{
	bool mark;

	call = &named;
	for (size_t i = 0; argc > 2 && i < sizeof kinds / sizeof *kinds; i++) {
		if (strcmp(argv[1], kinds[i].name) != 0)
			continue;
		kinds[i].begin();
		if (argc == 4 && strcmp(argv[2], "pairs") == 0) {
			pairs(&kinds[i], atof(argv[3]));
			return 0;
		}
		kinds[i].round(); /* what a first call does once more */
		mark = argc == 4 && strcmp(argv[3], "marked") == 0;
		if (mark)
			raise(SIGSTOP);
		for (long n = atol(argv[2]); n > 0; n--)
			kinds[i].round();
		if (mark)
			raise(SIGSTOP);
		return 0;
	}
	fprintf(stderr, "usage: bystander KIND COUNT [marked] | bystander KIND pairs SECONDS\n");
	return 2;
}
