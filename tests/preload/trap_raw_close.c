/*
 * Trap 10: a program that closes by system call, as libuv does. Thousands of connections, both ends; each
 * peer sees the end, every number comes back, and nothing is left behind.
 */
#include "both.h"
#include <sys/epoll.h>

#define BATCH 25

static int listener, port, rounds = 40;
static _Atomic int ends, bytes;

static int numbers(void)
{
	int n = 0;

	for (int fd = 0; fd < 900; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

/* What it has accepted it watches; the set is not told of a close. */
static void *serve(void *arg)
{
	int ep = epoll_create1(EPOLL_CLOEXEC), open = 0;
	struct epoll_event e = {.events = EPOLLIN}, got[BATCH];
	char b[8];

	e.data.fd = listener;
	epoll_ctl(ep, EPOLL_CTL_ADD, listener, &e);
	for (int left = rounds * BATCH; left;) {
		int n = epoll_wait(ep, got, BATCH, 20000);
		for (int i = 0; i < n; i++) {
			if (got[i].data.fd == listener) {
				e.data.fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
				if (e.data.fd < 0 || epoll_ctl(ep, EPOLL_CTL_ADD, e.data.fd, &e))
					perror("accept");
				open++;
				continue;
			}
			ssize_t r = read(got[i].data.fd, b, sizeof b);
			bytes += r > 0 ? (int)r : 0;
			if (r)
				continue;
			ends++;
			left--;
			open--;
			if (syscall(SYS_close, got[i].data.fd))
				perror("close");
		}
		if (n <= 0)
			break;
	}
	SAY("open %d, and the set is quiet: %d", open, epoll_wait(ep, got, BATCH, 0));
	syscall(SYS_close, ep);
	return arg;
}

int main(void)
{
	int before, first, fd[BATCH];
	pthread_t t;

	peer("nap 0");
	fd[0] = connected(); /* what a first connection brings along is there */
	syscall(SYS_close, fd[0]);
	listener = listening(&port, BATCH);
	before = numbers();
	first = dup(1);
	close(first);
	pthread_create(&t, NULL, serve, NULL);
	for (int i = 0; i < rounds; i++) {
		for (int k = 0; k < BATCH; k++) {
			fd[k] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
			if (connect_to(fd[k], own_addr(), port) || write(fd[k], "x", 1) != 1)
				perror("connect");
		}
		for (int k = 0; k < BATCH; k++)
			if (syscall(SYS_close, fd[k]))
				perror("close");
		while (ends < (i + 1) * BATCH)
			nap(1);
	}
	pthread_join(t, NULL);
	SAY("%d ends, %d bytes", ends, bytes);
	SAY("numbers left behind: %d", numbers() - before);
	fd[0] = dup(1);
	SAY("the lowest is the same: %d", fd[0] == first);
	return 0;
}
