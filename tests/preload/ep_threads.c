/*
 * Several threads sleep in one set; members come and go meanwhile. The first
 * stack socket joins while the threads already sleep in the kernel's set.
 */
#include "../asleep.h"
#include "peer.h"

#define THREADS 4
#define ROUNDS	400

static int ep, done_pipe[2];
static _Atomic int bytes, stopped;

static void *worker(void *arg)
{
	struct epoll_event e;
	char buf[64];

	(void)arg;
	for (;;) {
		if (epoll_wait(ep, &e, 1, -1) != 1)
			continue;
		if (e.data.fd == done_pipe[0])
			break;
		ssize_t n = recv(e.data.fd, buf, sizeof buf, MSG_DONTWAIT);
		if (n > 0) {
			bytes += (int)n;
			ep_mod(ep, e.data.fd, EPOLLIN | EPOLLONESHOT, (uint64_t)e.data.fd);
		}
	}
	stopped++;
	return NULL;
}

int main(void)
{
	pthread_t t[THREADS];
	int fd[8];

	ep = epoll_create1(0);
	if (pipe(done_pipe))
		return 1;
	for (int i = 0; i < THREADS; i++)
		t[i] = asleep_create(worker, NULL);
	for (int i = 0; i < 8; i++) {
		fd[i] = peer_connect("e");
		ep_add(ep, fd[i], EPOLLIN | EPOLLONESHOT, (uint64_t)fd[i]);
	}
	for (int k = 0; k < ROUNDS; k++) {
		int want = (k + 1) * 8;
		for (int i = 0; i < 8; i++)
			if (send(fd[i], "x", 1, 0) != 1)
				return 1;
		for (long t0 = now_ms(); bytes < want && now_ms() - t0 < 20000;)
			usleep(50);
		if (bytes < want) {
			printf("round %d: a wake-up was lost\n", k);
			break;
		}
	}
	printf("bytes %d\n", bytes);
	ep_add(ep, done_pipe[0], EPOLLIN, (uint64_t)done_pipe[0]);
	if (write(done_pipe[1], "x", 1) != 1)
		return 1;
	for (int i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
	printf("stopped %d\n", stopped);
	return 0;
}
