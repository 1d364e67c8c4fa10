/*
 * The order of events. Members become ready in an order, and are reported in it; what is still ready goes to
 * the end of the line, so that with less room than there are ready members all have their turn, sockets and
 * pipes alike.
 */
#include "peer.h"

#define EACH 4

static int socks[EACH], pipes[EACH][2];

static void make(void)
{
	for (int i = 0; i < EACH; i++) {
		socks[i] = peer_connect("e");
		if (pipe(pipes[i]))
			exit(1);
	}
}

static void end(void)
{
	for (int i = 0; i < EACH; i++) {
		close(socks[i]);
		close(pipes[i][0]);
		close(pipes[i][1]);
	}
}

static void sock_wake(int i)
{
	if (send(socks[i], "x", 1, 0) != 1)
		exit(1);
	await_data(socks[i]);
}

/* The members of a kind, in the order in which the calls of `max` events report them, `n` of them. */
static void line_up(const char *what, int ep, int max, uint64_t from, int n)
{
	struct epoll_event e[16];

	printf("%s, %d at once:", what, max);
	for (int calls = 0; n && calls < 100; calls++) {
		int got = epoll_wait(ep, e, max, 2000);

		for (int i = 0; i < got; i++)
			if (e[i].data.u64 >= from && e[i].data.u64 < from + EACH && n && n--)
				printf(" %d", (int)(e[i].data.u64 - from));
	}
	puts("");
}

/* Only sockets: exactly the kernel's order. */
static void order(uint32_t flags)
{
	static const int woken[EACH] = {2, 0, 3, 1};
	int ep = epoll_create1(0);
	char b[4];

	make();
	for (int i = 0; i < EACH; i++)
		ep_add(ep, socks[i], EPOLLIN | flags, (uint64_t)i);
	for (int i = 0; i < EACH; i++)
		sock_wake(woken[i]);
	if (flags) {
		line_up("edges", ep, 1, 0, EACH);
		end();
		close(ep);
		return;
	}
	for (int max = 1; max <= 5; max++)
		line_up("sockets", ep, max, 0, 12);
	recv(socks[3], b, 4, 0); /* leaves the line, and comes back at its end */
	line_up("without 3", ep, 1, 0, 6);
	sock_wake(3);
	line_up("3 is back", ep, 1, 0, 8);
	ep_mod(ep, socks[0], EPOLLOUT, 0);
	ep_mod(ep, socks[0], EPOLLIN, 0);
	line_up("0 changed", ep, 2, 0, 8);
	epoll_ctl(ep, EPOLL_CTL_DEL, socks[1], NULL);
	ep_add(ep, socks[1], EPOLLIN, 1);
	line_up("1 anew", ep, 3, 0, 12);
	end();
	close(ep);
}

/* Both kinds: each in its order, and all of them within two rounds of the line. */
static void mixed(int n_socks, int n_pipes)
{
	struct epoll_event e[16];
	int ep = epoll_create1(0), all = n_socks + n_pipes;

	make();
	for (int i = 0; i < n_socks; i++) {
		sock_wake(i);
		ep_add(ep, socks[i], EPOLLIN, (uint64_t)i);
	}
	for (int i = 0; i < n_pipes; i++) {
		if (write(pipes[i][1], "x", 1) != 1)
			exit(1);
		ep_add(ep, pipes[i][0], EPOLLIN, (uint64_t)(10 + i));
	}
	for (int max = 1; max <= all + 1; max++) {
		int seen[16] = {0}, missed = 0, full = 1;

		for (int calls = 0; calls * max < 2 * all; calls++) {
			int n = epoll_wait(ep, e, max, 2000);

			full &= n == (max < all ? max : all);
			for (int i = 0; i < n; i++)
				seen[e[i].data.u64]++;
		}
		for (int i = 0; i < all; i++)
			missed += !seen[i < n_socks ? i : 10 + i - n_socks];
		printf("%d sockets and %d pipes, %d at once: %s, missed %d\n", n_socks, n_pipes, max,
		       full ? "no room left" : "room left", missed);
	}
	for (int kind = 0, last = -1; kind < 2; kind++, last = -1) {
		int from = kind ? 10 : 0, n = kind ? n_pipes : n_socks, next = 0, wrong = 0;

		for (int calls = 0; calls < 4 * all; calls++) {
			if (epoll_wait(ep, e, 1, 2000) != 1 || e->data.u64 / 10 != (uint64_t)kind)
				continue;
			next = (int)e->data.u64 - from;
			wrong += last >= 0 && next != (last + 1) % n;
			last = next;
		}
		printf("%s: %d out of turn\n", kind ? "pipes" : "sockets", wrong);
	}
	end();
	close(ep);
}

int main(void)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	order(0);
	order(EPOLLET);
	order(EPOLLONESHOT);
	mixed(4, 4);
	mixed(4, 1);
	mixed(1, 4);
	mixed(3, 2);
	return 0;
}
