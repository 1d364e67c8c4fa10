/*
 * The lowest free number, while other threads wait in the stack for the first
 * time: what the library opens for them must not push the program's numbers up.
 */
#include "peer.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#define WAITERS 400

static atomic_bool done;

static void *wait_once(void *arg)
{
	char c;

	recv((int)(intptr_t)arg, &c, 1, 0); /* SO_RCVTIMEO ends it */
	return NULL;
}

static void *waiters(void *arg)
{
	for (int i = 0; i < WAITERS; i++) {
		pthread_t t[2];

		for (int k = 0; k < 2; k++)
			pthread_create(&t[k], NULL, wait_once, arg);
		for (int k = 0; k < 2; k++)
			pthread_join(t[k], NULL);
	}
	atomic_store(&done, true);
	return NULL;
}

enum { EVENT, DUP, SOCKET, EPOLL, PIPE, PIPE_WRITE, FROM, NUMBERS };

static void take(int n[NUMBERS], int fd)
{
	n[EVENT] = eventfd(0, 0);
	n[DUP] = dup(n[EVENT]);
	n[SOCKET] = socket(AF_INET, SOCK_STREAM, 0);
	n[EPOLL] = epoll_create1(0);
	if (pipe(&n[PIPE]))
		n[PIPE] = n[PIPE_WRITE] = -1;
	n[FROM] = fcntl(fd, F_DUPFD_CLOEXEC, n[DUP]);
	for (int i = 0; i < NUMBERS; i++)
		close(n[i]);
}

int main(void)
{
	int fd = peer_connect("s"), expected[NUMBERS], n[NUMBERS], wrong[NUMBERS] = {0}, rounds = 0;
	struct timeval t = {.tv_usec = 1000};
	pthread_t thread;

	take(expected, fd);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t);
	pthread_create(&thread, NULL, waiters, (void *)(intptr_t)fd);
	for (; !atomic_load(&done); rounds++) {
		take(n, fd);
		for (int i = 0; i < NUMBERS; i++)
			wrong[i] += n[i] != expected[i];
	}
	pthread_join(thread, NULL);
	printf("rounds: %s\n", rounds > 100 ? "many" : "few");
	printf("not the lowest: eventfd %d, dup %d, socket %d, epoll %d, pipe %d %d, F_DUPFD %d\n",
	       wrong[EVENT], wrong[DUP], wrong[SOCKET], wrong[EPOLL], wrong[PIPE], wrong[PIPE_WRITE],
	       wrong[FROM]);
	return 0;
}
