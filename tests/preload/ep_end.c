/*
 * shutdown() of a listener is told to everybody who waits for it, not to one as a
 * connection is: threads in accept(), and sleepers in sets that have it EXCLUSIVE.
 * On an own address there is no kernel half that would wake them.
 */
#include "../asleep.h"
#include "both.h"
#include <sys/epoll.h>

#define THREADS 6

static int listener, turn;

static void *accepts(void *unused)
{
	(void)unused;
	return (void *)(intptr_t)(accept(listener, NULL, NULL) < 0 ? errno : 0);
}

static void *waits(void *unused)
{
	struct epoll_event e = {.events = EPOLLIN | EPOLLEXCLUSIVE};
	int set = epoll_create1(0);

	(void)unused;
	if (epoll_ctl(set, EPOLL_CTL_ADD, listener, &e))
		return NULL;
	e.events = 0;
	epoll_wait(set, &e, 1, 30000);
	close(set);
	return (void *)(intptr_t)e.events;
}

static void listens(const char *address)
{
	struct sockaddr_in a = {.sin_family = AF_INET};

	inet_pton(AF_INET, address, &a.sin_addr);
	listener = socket(AF_INET, SOCK_STREAM, 0);
	if (bind(listener, (struct sockaddr *)&a, sizeof a) || listen(listener, 16))
		abort();
}

static void ends(const char *name, const char *address, void *(*call)(void *))
{
	pthread_t t[THREADS];
	void *r;

	listens(address);
	for (int i = 0; i < THREADS; i++)
		t[i] = asleep_create(call, NULL);
	SHOW(shutdown(listener, ++turn & 1 ? SHUT_RD : SHUT_RDWR));
	for (int i = 0; i < THREADS; i++) {
		pthread_join(t[i], &r);
		SAY("%s, %d: %ld", name, i, (long)(intptr_t)r);
	}
	close(listener);
}

int main(void)
{
	for (int i = 0; i < 2; i++) {
		ends("accept, own address", own_addr(), accepts);
		ends("accept, any address", "0.0.0.0", accepts);
		ends("epoll_wait, own address", own_addr(), waits);
		ends("epoll_wait, any address", "0.0.0.0", waits);
		turn++;
	}
	return 0;
}
