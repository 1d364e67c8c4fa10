/* EPOLLEXCLUSIVE: sets without a sleeping thread do not swallow the wake-up; level rules hold. */
#include "../asleep.h"
#include "peer.h"

static int ep[3];

static void *sleeper(void *arg)
{
	struct epoll_event e;

	return (void *)(long)epoll_wait(ep[(long)arg], &e, 1, 30000);
}

int main(void)
{
	int port, l = listen_any(&port), back;
	pthread_t t;
	void *r;

	for (int i = 0; i < 3; i++) {
		ep[i] = epoll_create1(0);
		printf("add %d: %s\n", i,
		       result_text(ep_add(ep[i], l, EPOLLIN | EPOLLEXCLUSIVE, (uint64_t)i)));
	}
	for (long who = 0; who < 3; who++) {
		/* Awake, it would leave the event to all sets. */
		t = asleep_create(sleeper, (void *)who);
		back = peer_call_back(port, "s");
		pthread_join(t, &r);
		printf("sleeper in set %ld got %ld\n", who, (long)r);
		for (int i = 0; i < 3; i++)
			ep_show("each set sees it", ep[i], 1, 0);
		close(accept(l, NULL, NULL));
		close(back);
		for (int i = 0; i < 3; i++)
			ep_show("nobody", ep[i], 1, 0);
	}
	return 0;
}
