/* A flood on one side does not starve the other: with room for one event, both kinds are served. */
#include "peer.h"

static void flood(int max)
{
	int ep = epoll_create1(0), socks[4], pipes[4][2], seen_socks = 0, seen_pipes = 0;
	struct epoll_event e[8];

	for (int i = 0; i < 4; i++) {
		socks[i] = peer_connect("wx s");
		if (pipe(pipes[i]) || write(pipes[i][1], "x", 1) != 1)
			return;
		ep_add(ep, socks[i], EPOLLIN, (uint64_t)i);
		ep_add(ep, pipes[i][0], EPOLLIN, (uint64_t)(10 + i));
	}
	for (int i = 0; i < 4; i++)
		await_data(socks[i]);
	for (int k = 0; k < 400; k++) {
		int n = epoll_wait(ep, e, max, 1000);
		for (int i = 0; i < n; i++)
			e[i].data.u64 < 10 ? (seen_socks |= 1 << e[i].data.u64)
					   : (seen_pipes |= 1 << (e[i].data.u64 - 10));
	}
	printf("max %d: sockets %x pipes %x\n", max, seen_socks, seen_pipes);
	for (int i = 0; i < 4; i++) {
		close(socks[i]);
		close(pipes[i][0]);
		close(pipes[i][1]);
	}
	close(ep);
}

int main(void)
{
	flood(1);
	flood(2);
	flood(8);
	return 0;
}
