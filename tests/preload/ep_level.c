/* epoll, level-triggered: what is ready stays ready until it is consumed; MOD and DEL; time-outs; errors. */
#include "peer.h"

static void errors(int ep, int fd)
{
	struct epoll_event e = {.events = EPOLLIN};
	int other = epoll_create1(0), p[2];

	printf("add twice: %s\n", result_text(ep_add(ep, fd, EPOLLIN, 1)));
	printf("mod of a stranger: %s\n", result_text(ep_mod(other, fd, EPOLLIN, 1)));
	printf("del of a stranger: %s\n", result_text(epoll_ctl(other, EPOLL_CTL_DEL, fd, NULL)));
	printf("bad op: %s\n", result_text(epoll_ctl(ep, 77, fd, &e)));
	printf("null event: %s\n", result_text(epoll_ctl(ep, EPOLL_CTL_MOD, fd, NULL)));
	printf("bad epfd: %s\n", result_text(ep_add(-1, fd, EPOLLIN, 1)));
	printf("bad fd: %s\n", result_text(ep_add(ep, -1, EPOLLIN, 1)));
	if (pipe(p))
		return;
	printf("not an epoll: %s\n", result_text(ep_add(p[0], fd, EPOLLIN, 1)));
	printf("a socket as the set: %s\n", result_text(ep_add(fd, fd, EPOLLIN, 1)));
	printf("itself: %s\n", result_text(ep_add(ep, ep, EPOLLIN, 1)));
	printf("exclusive oneshot: %s\n",
	       result_text(ep_add(other, fd, EPOLLIN | EPOLLEXCLUSIVE | EPOLLONESHOT, 1)));
	printf("mod to exclusive: %s\n", result_text(ep_mod(ep, fd, EPOLLIN | EPOLLEXCLUSIVE, 1)));
	printf("add exclusive: %s\n", result_text(ep_add(other, fd, EPOLLIN | EPOLLEXCLUSIVE, 1)));
	printf("mod of exclusive: %s\n", result_text(ep_mod(other, fd, EPOLLIN, 1)));
	printf("maxevents 0: %s\n", result_text(epoll_wait(ep, &e, 0, 0)));
	printf("maxevents -1: %s\n", result_text(epoll_wait(ep, &e, -1, 0)));
	printf("null array: %s\n", result_text(epoll_wait(ep, NULL, 1, 0)));
	close(p[0]);
	close(p[1]);
	close(other);
}

int main(void)
{
	int ep = epoll_create1(0), fd = peer_connect("r1 d50 wabcdef r1 d50 wghi r1 d50 f s");
	char buf[16];

	printf("add: %s\n", result_text(ep_add(ep, fd, EPOLLIN, 7)));
	ep_show("nothing yet", ep, 8, 0);
	ep_show("short time-out", ep, 8, 20);
	send(fd, "1", 1, 0);
	ep_show("data", ep, 8, 5000);
	ep_show("still", ep, 8, 0);
	printf("read: %s\n", result_text(read(fd, buf, 3)));
	ep_show("half is left", ep, 8, 0);
	printf("read: %s\n", result_text(read(fd, buf, 16)));
	ep_show("empty", ep, 8, 0);
	printf("mod: %s\n", result_text(ep_mod(ep, fd, EPOLLIN | EPOLLOUT, 8)));
	ep_show("writable", ep, 8, 0);
	printf("mod: %s\n", result_text(ep_mod(ep, fd, EPOLLIN | EPOLLRDNORM | EPOLLOUT | EPOLLWRNORM, 9)));
	ep_show("norms", ep, 8, 0);
	printf("mod: %s\n", result_text(ep_mod(ep, fd, EPOLLIN, 10)));
	send(fd, "2", 1, 0);
	ep_show("more data", ep, 8, 5000);
	printf("mod to nothing: %s\n", result_text(ep_mod(ep, fd, 0, 10)));
	ep_show("masked", ep, 8, 0);
	printf("mod: %s\n", result_text(ep_mod(ep, fd, EPOLLIN, 10)));
	printf("read: %s\n", result_text(read(fd, buf, 16)));
	send(fd, "3", 1, 0);
	ep_show("end of stream", ep, 8, 5000);
	printf("read: %s\n", result_text(read(fd, buf, 16)));
	ep_show("for ever", ep, 8, 0);
	errors(ep, fd);
	printf("del: %s\n", result_text(epoll_ctl(ep, EPOLL_CTL_DEL, fd, NULL)));
	ep_show("gone", ep, 8, 50);
	printf("del again: %s\n", result_text(epoll_ctl(ep, EPOLL_CTL_DEL, fd, NULL)));
	return 0;
}
