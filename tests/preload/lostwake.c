/*
 * Ping-pong of many threads over many connections: one lost wake-up stops it
 * (the watchdog tells). LOSTWAKE_ROUNDS sets the length; the runner also runs it
 * with UTCP_TEST_PAUSE, a sleep between the unlock and the block.
 */
#include "peer.h"

#define THREADS 6

static _Atomic long total;
static long rounds;

static void *ping(void *arg)
{
	int how = (int)(long)arg % 3, fd = peer_connect("e"), ep = epoll_create1(0);
	struct pollfd p = {.fd = fd, .events = POLLIN};
	struct epoll_event e;
	char c;

	ep_add(ep, fd, EPOLLIN, 1);
	for (long i = 0; i < rounds; i++) {
		if (send(fd, "x", 1, 0) != 1)
			break;
		if (how == 1)
			poll(&p, 1, -1);
		else if (how == 2)
			epoll_wait(ep, &e, 1, -1);
		if (recv(fd, &c, 1, 0) != 1)
			break;
		total++;
	}
	close(fd);
	close(ep);
	return NULL;
}

static void *watchdog(void *arg)
{
	long last = -1;

	(void)arg;
	for (;;) {
		msleep(2000);
		if (total == last) {
			printf("a wake-up was lost\n");
			fflush(stdout);
			_exit(1);
		}
		last = total;
	}
}

int main(void)
{
	pthread_t t[THREADS], w;
	const char *r = getenv("LOSTWAKE_ROUNDS");

	rounds = r ? atol(r) : 3000;
	pthread_create(&w, NULL, watchdog, NULL);
	for (long i = 0; i < THREADS; i++)
		pthread_create(&t[i], NULL, ping, (void *)i);
	for (int i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
	printf("%s\n", total == THREADS * rounds ? "all rounds" : "missing rounds");
	return 0;
}
