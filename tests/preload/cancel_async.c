/*
 * Threads that may be cancelled at any instruction (PTHREAD_CANCEL_ASYNCHRONOUS), blocked in a call, in the
 * middle of traffic, and computing: each ends, the connection lives on, nothing is locked.
 */
#include "peer.h"
#include <sys/select.h>

#define ROUNDS 60

static int sock, listener, ep;
static volatile unsigned long work;
static _Atomic int entered;

static void may_end_anywhere(void)
{
	int old = -1;

	pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &old);
	if (old != PTHREAD_CANCEL_DEFERRED)
		puts("the type was not deferred");
}

static void *block(void *arg)
{
	struct pollfd p = {.fd = sock, .events = POLLIN};
	struct epoll_event e;
	fd_set r;
	char b[4];

	may_end_anywhere();
	entered = 1;
	switch ((long)arg) {
	case 0:
		recv(sock, b, 4, 0);
		break;
	case 1:
		poll(&p, 1, -1);
		break;
	case 2:
		FD_ZERO(&r);
		FD_SET(sock, &r);
		select(sock + 1, &r, NULL, NULL, NULL);
		break;
	case 3:
		accept(listener, NULL, NULL);
		break;
	case 4:
		epoll_wait(ep, &e, 1, -1);
		break;
	case 5:
		send(sock, b, 0, 0);
		for (;;)
			work++;
	case 6:
		send(sock, b, 0, 0);
		pthread_setcanceltype(PTHREAD_CANCEL_DEFERRED, NULL);
		for (int i = 0; i < 100; i++)
			work++;
		may_end_anywhere();
		pause();
	}
	return NULL;
}

static sigjmp_buf out;
static _Atomic int landed, uses_socket;

static void jump(int sig)
{
	if (uses_socket)
		send(sock, "x", 1, MSG_NOSIGNAL);
	siglongjmp(out, sig);
}

/* A handler takes it out of the call: what it asked for holds still, without another call or with one. */
static void *jumps(void *arg)
{
	int type = -1;

	if (!sigsetjmp(out, 1))
		block(arg);
	if (uses_socket) {
		pthread_setcanceltype(PTHREAD_CANCEL_DEFERRED, &type);
		printf("%s type, ", type == PTHREAD_CANCEL_ASYNCHRONOUS ? "its own" : "another");
		pthread_setcanceltype(type, NULL);
	}
	landed = 1;
	while (landed)
		work++;
	return NULL;
}

static void *talk(void *arg)
{
	int fd = (int)(long)arg;
	char b[64];

	may_end_anywhere();
	for (;;)
		if (send(fd, "x", 1, MSG_NOSIGNAL) != 1 || recv(fd, b, sizeof b, 0) < 1)
			return NULL;
}

static const char *end(pthread_t t)
{
	void *r = NULL;
	struct timespec ts;

	pthread_cancel(t);
	clock_gettime(CLOCK_REALTIME, &ts);
	ts.tv_sec += 20;
	if (pthread_timedjoin_np(t, &r, &ts))
		return "hangs";
	return r == PTHREAD_CANCELED ? "cancelled" : "returned";
}

/* The stream is whole, and both ends of it end. */
static const char *echoes(int fd)
{
	struct timeval tv = {20, 0};
	char b[64];
	ssize_t n, last = 0;

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
	if (send(fd, "end", 3, MSG_NOSIGNAL) != 3 || shutdown(fd, SHUT_WR))
		return strerrorname_np(errno);
	while ((n = recv(fd, b, sizeof b, 0)) > 0)
		last = b[n - 1];
	return n ? strerrorname_np(errno) : last == 'd' ? "whole" : "short";
}

int main(void)
{
	static const char *name[] = {"recv", "poll", "select", "accept", "epoll_wait", "computing", "again"};
	int port, cancelled = 0, whole = 0;
	pthread_t t;

	sock = peer_connect("e");
	listener = listen_any(&port);
	ep = epoll_create1(0);
	ep_add(ep, sock, EPOLLIN, 1);
	for (long i = 0; i < 7; i++) {
		pthread_create(&t, NULL, block, (void *)i);
		msleep(30);
		printf("%s: %s\n", name[i], end(t));
	}
#ifndef __SANITIZE_THREAD__ /* whose runtime puts handlers off until the call ends, over the kernel's TCP,   \
			       too */
	handle(SIGUSR1, jump, 0);
	for (long i = 0; i < 10; i++) {
		landed = entered = 0;
		uses_socket = i >= 5;
		pthread_create(&t, NULL, jumps, (void *)(i % 5));
		while (!entered)
			msleep(1);
		msleep(30);
		pthread_kill(t, SIGUSR1);
		for (int k = 0; k < 4000 && !landed; k++)
			msleep(5);
		printf("%s, jumped: %s, ", name[i % 5], landed ? "landed" : "lost");
		printf("%s\n", end(t));
	}
#endif
	printf("then %s\n", echoes(sock));
	for (int i = 0; i < ROUNDS; i++) {
		int fd = peer_connect("e");

		pthread_create(&t, NULL, talk, (void *)(long)fd);
		usleep((unsigned int)(i * 7919 % 5000));
		cancelled += !strcmp(end(t), "cancelled");
		whole += !strcmp(echoes(fd), "whole");
		close(fd);
	}
	printf("talking: %d cancelled, %d whole\n", cancelled, whole);
	return 0;
}
