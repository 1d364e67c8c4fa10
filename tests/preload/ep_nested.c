/* A set in a set: readiness shows through poll() and through outer sets, and goes away again. */
#include "peer.h"

static short poll_one(int fd, int timeout)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	poll(&p, 1, timeout);
	return p.revents;
}

/* What was waited for, and woke its sleeper, is there for others who come to watch the set afterwards. */
static void watched_late(void)
{
	int bad = 0;

	for (int i = 0; i < 20; i++) {
		int outer = epoll_create1(0), inner = epoll_create1(0), fd = peer_connect("d20 wx s");
		struct epoll_event e[2];

		ep_add(inner, fd, EPOLLIN, 1);
		bad += epoll_wait(inner, e, 2, 5000) != 1;
		ep_add(outer, inner, EPOLLIN, 2);
		bad += epoll_wait(outer, e, 2, 0) != 1;
		bad += poll_one(inner, 0) != POLLIN;
		close(outer);
		close(inner);
		close(fd);
	}
	printf("watched late: %d bad\n", bad);
}

int main(void)
{
	int outer = epoll_create1(0), inner = epoll_create1(0), third = epoll_create1(0), p[2];
	int fd = peer_connect("r1 wabc r1 wdef r1 wghi s");
	char buf[64];

	printf("inner into outer: %s\n", result_text(ep_add(outer, inner, EPOLLIN, 100)));
	printf("outer into third: %s\n", result_text(ep_add(third, outer, EPOLLIN, 300)));
	printf("a loop: %s\n", result_text(ep_add(inner, third, EPOLLIN, 1)));
	printf("socket into inner: %s\n", result_text(ep_add(inner, fd, EPOLLIN, 1)));
	ep_show("outer", outer, 8, 0);
	printf("poll(inner): %s\n", bits((uint32_t)poll_one(inner, 0)));
	send(fd, "1", 1, 0);
	ep_show("outer wakes", outer, 8, 5000);
	ep_show("third", third, 8, 0);
	printf("poll(inner): %s poll(outer): %s\n", bits((uint32_t)poll_one(inner, 0)),
	       bits((uint32_t)poll_one(outer, 0)));
	ep_show("inner", inner, 8, 0);
	ep_show("outer again", outer, 8, 0);
	printf("read: %s\n", result_text(read(fd, buf, 64)));
	ep_show("outer after read", outer, 8, 0);
	ep_show("third after read", third, 8, 20);
	printf("poll(inner): %s\n", bits((uint32_t)poll_one(inner, 0)));
	send(fd, "2", 1, 0);
	printf("poll(outer) wakes: %s\n", bits((uint32_t)poll_one(outer, 5000)));
	ep_show("third", third, 8, 0);
	ep_show("inner", inner, 8, 0);
	printf("read: %s\n", result_text(read(fd, buf, 64)));
	send(fd, "3", 1, 0);
	ep_show("third wakes", third, 8, 5000);
	printf("read: %s\n", result_text(read(fd, buf, 64)));
	if (pipe(p) || write(p[1], "x", 1) != 1)
		return 1;
	ep_add(inner, p[0], EPOLLIN, 2);
	ep_show("third by a pipe", third, 8, 0);
	ep_show("inner", inner, 8, 0);
	printf("exclusive on a set: %s\n", result_text(ep_add(outer, third, EPOLLIN | EPOLLEXCLUSIVE, 1)));
	close(inner);
	ep_show("inner closed", outer, 8, 0);
	watched_late();
	return 0;
}
