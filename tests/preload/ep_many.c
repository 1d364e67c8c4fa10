/*
 * Thousands of members: a set that holds many numbers of few sockets, and one with many
 * sockets. Every ready member is told, level-triggered ones in turn, in the order in which
 * they became ready; edge-triggered ones once. EP_MANY: how many (5000).
 */
#include "peer.h"
#include <sys/resource.h>

#define SOCKETS 60
#define FEW	37 /* room for a call */

static int sock[SOCKETS];

/* Everything that is ready, in calls of few: what order, how often? */
static void harvest(const char *what, int ep, int members, int calls)
{
	struct epoll_event e[FEW];
	uint64_t hash = 14695981039346656037ull;
	int *times = calloc((size_t)members, sizeof *times), total = 0, once = 0;

	for (int i = 0; i < calls; i++) {
		int n = epoll_wait(ep, e, FEW, 0);
		if (n <= 0)
			break;
		for (int k = 0; k < n; k++) {
			hash = (hash ^ e[k].data.u64) * 1099511628211ull;
			times[e[k].data.u64]++;
		}
		total += n;
	}
	for (int i = 0; i < members; i++)
		once += times[i] == 1;
	printf("%s: %d events, %d members once, order %016llx\n", what, total, once,
	       (unsigned long long)hash);
	free(times);
}

static void numbers(int members, uint32_t mode, const char *what)
{
	int ep = epoll_create1(0), made = 0, *fd = calloc((size_t)members, sizeof *fd);

	for (int i = 0; i < members; i++) {
		fd[i] = dup(sock[i % SOCKETS]);
		made += !ep_add(ep, fd[i], EPOLLIN | mode, (uint64_t)i);
	}
	printf("%s: %d members\n", what, made);
	for (int i = 0; i < SOCKETS; i++) {
		struct pollfd p = {.fd = sock[i], .events = POLLIN};
		send(sock[i], "1", 1, 0);
		poll(&p, 1, 10000); /* one after the other */
	}
	harvest("all", ep, members, (members + FEW - 1) / FEW);
	harvest("again", ep, members, (members + FEW - 1) / FEW);
	for (int i = 0; i < SOCKETS; i++) {
		char b[8];
		recv(sock[i], b, 3, MSG_WAITALL);
	}
	harvest("read", ep, members, 9);
	for (int i = 0; i < members; i += 2)
		close(fd[i]); /* open elsewhere: still a member */
	for (int i = 0; i < SOCKETS; i++) {
		struct pollfd p = {.fd = sock[i], .events = POLLIN};
		send(sock[i], "1", 1, 0);
		poll(&p, 1, 10000);
		char b[8];
		recv(sock[i], b, 3, MSG_WAITALL);
	}
	harvest("closed numbers, read", ep, members, 9);
	for (int i = 1; i < members; i += 2)
		close(fd[i]);
	close(ep);
	free(fd);
}

int main(void)
{
	int members = atoi(getenv("EP_MANY") ? getenv("EP_MANY") : "5000");
	struct rlimit l;
	char script[256] = "";

	getrlimit(RLIMIT_NOFILE, &l);
	l.rlim_cur = l.rlim_max < 20000 ? l.rlim_max : 20000;
	setrlimit(RLIMIT_NOFILE, &l);
	for (int i = 0; i < 6; i++)
		strcat(script, "r1 wabc ");
	strcat(script, "s");
	for (int i = 0; i < SOCKETS; i++)
		sock[i] = peer_connect(script);
	numbers(members, 0, "level");
	numbers(members, EPOLLET, "edge");
	numbers(members, EPOLLONESHOT, "oneshot");
	return 0;
}
