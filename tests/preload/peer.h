/*
 * peer.h - what the tests of this folder share.
 *
 * Each program runs twice, over the kernel's loopback and over libutcp, and
 * prints what it saw; the runner compares. So nothing that differs by nature
 * (numbers of descriptors, ports, times) may be printed.
 * PEER_ADDR and PEER_PORT name the scripted server of peer.c.
 */
/* Wrong arguments are part of the tests. */
#pragma GCC diagnostic ignored "-Wnonnull"
#pragma GCC diagnostic ignored "-Wstringop-overflow"

#ifndef TEST_PEER_H
#define TEST_PEER_H

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

__attribute__((unused)) static void msleep(int ms)
{
	struct timespec ts = {ms / 1000, ms % 1000 * 1000000L};

	while (nanosleep(&ts, &ts) && errno == EINTR)
		;
}

__attribute__((unused)) static long now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

__attribute__((unused)) static struct sockaddr_in peer_address(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET};
	const char *addr = getenv("PEER_ADDR"), *port = getenv("PEER_PORT");

	inet_pton(AF_INET, addr ? addr : "127.0.0.1", &a.sin_addr);
	a.sin_port = htons((unsigned short)atoi(port ? port : "7000"));
	return a;
}

/* A number for a listener, different in each program and run. */
__attribute__((unused)) static int listen_any(int *port)
{
	struct sockaddr_in a = {.sin_family = AF_INET};
	socklen_t len = sizeof a;
	int l = socket(AF_INET, SOCK_STREAM, 0);

	if (bind(l, (struct sockaddr *)&a, sizeof a) || listen(l, 128) ||
	    getsockname(l, (struct sockaddr *)&a, &len)) {
		perror("listen_any");
		exit(1);
	}
	*port = ntohs(a.sin_port);
	return l;
}

/* Send the script on a connected socket. */
__attribute__((unused)) static void peer_script(int fd, const char *script)
{
	char line[512];
	int n = snprintf(line, sizeof line, "%s\n", script);

	if (send(fd, line, (size_t)n, 0) != n) {
		perror("peer_script");
		exit(1);
	}
}

__attribute__((unused)) static int peer_connect(const char *script)
{
	struct sockaddr_in a = peer_address();
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof a)) {
		perror("peer_connect");
		exit(1);
	}
	peer_script(fd, script);
	return fd;
}

/* Ask the peer to connect to our listener, and run `script` there. Returns the asking connection. */
__attribute__((unused)) static int peer_call_back(int port, const char *script)
{
	char s[300];

	snprintf(s, sizeof s, "c%d %s", port, script);
	return peer_connect(s);
}

/* Until there is something to read. */
__attribute__((unused)) static void await_data(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	if (poll(&p, 1, 20000) != 1)
		puts("nothing came");
}

__attribute__((unused)) static const char *bits(uint32_t e)
{
	static __thread char b[8][80];
	static __thread int i;
	char *s = b[i++ & 7];
	static const struct {
		uint32_t bit;
		const char *name;
	} names[] = {{EPOLLIN, "IN"},	   {EPOLLPRI, "PRI"},	 {EPOLLOUT, "OUT"},    {EPOLLERR, "ERR"},
		     {EPOLLHUP, "HUP"},	   {POLLNVAL, "NVAL"},	 {EPOLLRDNORM, "RDN"}, {EPOLLWRNORM, "WRN"},
		     {EPOLLRDBAND, "RDB"}, {EPOLLWRBAND, "WRB"}, {EPOLLRDHUP, "RDHUP"}};

	s[0] = 0;
	for (unsigned int k = 0; k < sizeof names / sizeof names[0]; k++)
		if (e & names[k].bit)
			strcat(strcat(s, s[0] ? "|" : ""), names[k].name);
	return s[0] ? s : "-";
}

__attribute__((unused)) static const char *result_text(long r)
{
	static __thread char b[8][60];
	static __thread int i;
	char *s = b[i++ & 7];

	if (r < 0)
		snprintf(s, 60, "-1 %s", strerrorname_np(errno));
	else
		snprintf(s, 60, "%ld", r);
	return s;
}

__attribute__((unused)) static int ep_add(int ep, int fd, uint32_t events, uint64_t data)
{
	struct epoll_event e = {.events = events, .data.u64 = data};

	return epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e);
}

__attribute__((unused)) static int ep_mod(int ep, int fd, uint32_t events, uint64_t data)
{
	struct epoll_event e = {.events = events, .data.u64 = data};

	return epoll_ctl(ep, EPOLL_CTL_MOD, fd, &e);
}

__attribute__((unused)) static int by_data(const void *a, const void *b)
{
	const struct epoll_event *x = a, *y = b;

	if (x->data.u64 != y->data.u64)
		return x->data.u64 < y->data.u64 ? -1 : 1;
	return x->events < y->events ? -1 : x->events > y->events;
}

/* Wait and print, in the order of the data. */
__attribute__((unused)) static int ep_show(const char *what, int ep, int max, int timeout)
{
	struct epoll_event e[64];
	int n = epoll_wait(ep, e, max, timeout);

	printf("%s: %s", what, result_text(n));
	if (n > 0)
		qsort(e, (size_t)n, sizeof e[0], by_data);
	for (int i = 0; i < n; i++)
		printf(" [%llu %s]", (unsigned long long)e[i].data.u64, bits(e[i].events));
	puts("");
	return n;
}

__attribute__((unused)) static void handle(int sig, void (*f)(int), int flags)
{
	struct sigaction a = {.sa_handler = f, .sa_flags = flags};

	sigaction(sig, &a, NULL);
}

/* Send sig to this thread's process after ms, from a thread that blocks it itself. */
struct later {
	pthread_t target;
	int sig, ms;
};

__attribute__((unused)) static void *later_run(void *arg)
{
	struct later l = *(struct later *)arg;

	free(arg);
	msleep(l.ms);
	pthread_kill(l.target, l.sig);
	return NULL;
}

__attribute__((unused)) static pthread_t kill_later(pthread_t target, int sig, int ms)
{
	struct later *l = malloc(sizeof *l);
	pthread_t t;
	sigset_t all, old;

	*l = (struct later){target, sig, ms};
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	pthread_create(&t, NULL, later_run, l);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return t;
}

#endif
