/*
 * epoll's errors and limits, for sets that hold stack members: wrong arguments
 * of every call, sets in sets up to the kernel's depth and beyond, loops.
 */
#include "peer.h"
#include <limits.h>
#include <sys/mman.h>
#include <sys/resource.h>

#define SHOW(call)                                                                                           \
	do {                                                                                                 \
		errno = 0;                                                                                   \
		printf("%s: %s\n", #call, result_text(call));                                                \
	} while (0)

static struct epoll_event in = {.events = EPOLLIN, .data.u64 = 1};
static struct epoll_event got[8];

static void arguments(int ep, int fd)
{
	const struct timespec zero = {0, 0}, bad[3] = {{0, 1000000000}, {0, -1}, {-1, 0}};
	int file = open("/proc/self/exe", O_RDONLY), p[2], gone = dup(fd);
	char *page = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *readonly = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct epoll_event *none = (void *)page, *ro = (void *)readonly;

	if (pipe(p))
		exit(1);
	close(gone);
	SHOW(epoll_create(0));
	SHOW(epoll_create(-1));
	SHOW(epoll_create1(1));
	SHOW(epoll_ctl(ep, EPOLL_CTL_ADD, gone, &in));
	SHOW(epoll_ctl(gone, EPOLL_CTL_ADD, fd, &in));
	SHOW(epoll_ctl(-1, EPOLL_CTL_ADD, fd, &in));
	SHOW(epoll_ctl(ep, EPOLL_CTL_ADD, -1, &in));
	SHOW(epoll_ctl(ep, EPOLL_CTL_ADD, file, &in));
	SHOW(epoll_ctl(ep, EPOLL_CTL_ADD, ep, &in));
	SHOW(epoll_ctl(p[0], EPOLL_CTL_ADD, fd, &in));
	SHOW(epoll_ctl(fd, EPOLL_CTL_ADD, p[0], &in));
	SHOW(epoll_ctl(fd, EPOLL_CTL_ADD, fd, &in));
	SHOW(epoll_ctl(file, EPOLL_CTL_DEL, fd, &in));
	SHOW(epoll_ctl(ep, EPOLL_CTL_ADD, fd, none));
	SHOW(epoll_ctl(ep, EPOLL_CTL_ADD, fd, NULL));
	SHOW(epoll_ctl(ep, EPOLL_CTL_MOD, fd, NULL));
	SHOW(epoll_ctl(gone, EPOLL_CTL_ADD, fd, NULL));
	SHOW(epoll_ctl(ep, 0, fd, &in));
	SHOW(epoll_ctl(ep, 4, fd, &in));
	SHOW(epoll_ctl(ep, -1, fd, NULL));
	SHOW(epoll_ctl(ep, EPOLL_CTL_DEL, fd, NULL));
	SHOW(epoll_ctl(ep, EPOLL_CTL_DEL, fd, none));
	SHOW(epoll_ctl(ep, EPOLL_CTL_MOD, fd, &in));
	SHOW(epoll_ctl(ep, EPOLL_CTL_ADD, fd, ro));
	SHOW(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &in));
	SHOW(epoll_ctl(ep, EPOLL_CTL_MOD, fd, &in));
	SHOW(epoll_wait(ep, got, 0, 0));
	SHOW(epoll_wait(ep, got, -1, 0));
	SHOW(epoll_wait(ep, got, INT_MAX, 0));
	SHOW(epoll_wait(ep, got, INT_MAX / (int)sizeof(struct epoll_event) + 1, 0));
	SHOW(epoll_wait(ep, NULL, 8, 0));
	SHOW(epoll_wait(ep, none, 8, 0));
	SHOW(epoll_wait(ep, ro, 8, 0));
	SHOW(epoll_wait(gone, got, 8, 0));
	SHOW(epoll_wait(fd, got, 8, 0));
	SHOW(epoll_wait(p[0], got, 8, 0));
	SHOW(epoll_pwait2(ep, got, 8, &zero, NULL));
	SHOW(epoll_pwait2(ep, got, 8, &bad[0], NULL));
	SHOW(epoll_pwait2(ep, got, 8, &bad[1], NULL));
	SHOW(epoll_pwait2(ep, got, 8, &bad[2], NULL));
	SHOW(epoll_pwait2(ep, got, 0, &bad[2], NULL));
	SHOW(read(ep, page, 1));
	SHOW(write(ep, "x", 1));
	SHOW(lseek(ep, 0, SEEK_SET));
	in.events = EPOLLIN | EPOLLEXCLUSIVE | EPOLLONESHOT;
	SHOW(epoll_ctl(ep, EPOLL_CTL_ADD, p[0], &in));
	SHOW(epoll_ctl(ep, EPOLL_CTL_DEL, fd, NULL));
	SHOW(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &in));
	in.events = EPOLLIN | EPOLLEXCLUSIVE | EPOLLET | EPOLLWAKEUP;
	SHOW(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &in));
	in.events = EPOLLIN;
	SHOW(epoll_ctl(ep, EPOLL_CTL_MOD, fd, &in));
	in.events = EPOLLIN | EPOLLEXCLUSIVE;
	SHOW(epoll_ctl(ep, EPOLL_CTL_MOD, fd, &in));
	SHOW(epoll_ctl(ep, EPOLL_CTL_DEL, fd, NULL));
	in.events = EPOLLIN | 0x00f00000u; /* unknown bits */
	SHOW(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &in));
	in.events = 0;
	SHOW(epoll_ctl(ep, EPOLL_CTL_MOD, fd, &in));
	in.events = EPOLLIN;
	close(p[0]);
	close(p[1]);
	close(file);
}

/* A chain of sets, `depth` of them; the innermost holds fd before or after the chain is made. */
static void chain(int depth, int fd, int late)
{
	int ep[8], added = 0;

	for (int i = 0; i < depth; i++)
		ep[i] = epoll_create1(0);
	if (!late)
		epoll_ctl(ep[0], EPOLL_CTL_ADD, fd, &in);
	for (int i = 1; i < depth; i++)
		if (epoll_ctl(ep[i], EPOLL_CTL_ADD, ep[i - 1], &in))
			break;
		else
			added++;
	printf("%d sets, %s: %d in another, %s\n", depth, late ? "late" : "early", added,
	       added == depth - 1 ? "-" : strerrorname_np(errno));
	if (late)
		SHOW(epoll_ctl(ep[0], EPOLL_CTL_ADD, fd, &in));
	for (int i = 0; i <= added; i++) {
		struct pollfd p = {.fd = ep[i], .events = POLLIN};
		printf("  level %d: wait %d,", i, epoll_wait(ep[i], got, 8, 1000));
		printf(" poll %d\n", poll(&p, 1, 0));
	}
	for (int i = 0; i < depth; i++)
		close(ep[i]);
}

/* From the outermost inwards, each with the socket. */
static void inwards(int fd)
{
	int ep[8];

	for (int i = 0; i < 7; i++)
		ep[i] = epoll_create1(0);
	SHOW(epoll_ctl(ep[0], EPOLL_CTL_ADD, fd, &in));
	for (int i = 0; i < 6; i++) {
		struct epoll_event e = {.events = EPOLLIN, .data.u64 = (uint64_t)i + 10};

		printf("into level %d:", i);
		SHOW(epoll_ctl(ep[i], EPOLL_CTL_ADD, ep[i + 1], &e));
		e.data.u64 = 100;
		epoll_ctl(ep[i + 1], EPOLL_CTL_ADD, fd, &e);
		for (int k = 0; k <= i + 1; k++)
			ep_show("  wait", ep[k], 8, 0);
	}
	for (int i = 0; i < 7; i++)
		close(ep[i]);
}

static void loops(int fd)
{
	int a = epoll_create1(0), b = epoll_create1(0), c = epoll_create1(0);

	SHOW(epoll_ctl(a, EPOLL_CTL_ADD, fd, &in));
	SHOW(epoll_ctl(b, EPOLL_CTL_ADD, a, &in));
	SHOW(epoll_ctl(a, EPOLL_CTL_ADD, b, &in));
	SHOW(epoll_ctl(c, EPOLL_CTL_ADD, b, &in));
	SHOW(epoll_ctl(a, EPOLL_CTL_ADD, c, &in));
	SHOW(epoll_ctl(c, EPOLL_CTL_ADD, a, &in));
	ep_show("c", c, 8, 20000);
	in.events = EPOLLIN | EPOLLEXCLUSIVE;
	SHOW(epoll_ctl(c, EPOLL_CTL_DEL, a, NULL));
	SHOW(epoll_ctl(c, EPOLL_CTL_ADD, a, &in)); /* no exclusive set in a set */
	in.events = EPOLLIN;
	SHOW(epoll_ctl(b, EPOLL_CTL_DEL, a, NULL));
	SHOW(epoll_ctl(b, EPOLL_CTL_DEL, a, NULL));
	ep_show("c, a away", c, 8, 0);
	close(a);
	close(b);
	close(c);
}

int main(void)
{
	int ep = epoll_create1(0), fd = peer_connect("wabc s");

	setvbuf(stdout, NULL, _IOLBF, 0);
	await_data(fd);
	puts("a set with stack members");
	ep_add(ep, fd, EPOLLIN, 1);
	arguments(ep, fd);
	for (int depth = 2; depth <= 7; depth++) {
		chain(depth, fd, 0);
		chain(depth, fd, 1);
	}
	inwards(fd);
	loops(fd);
	return 0;
}
