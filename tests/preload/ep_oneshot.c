/* EPOLLONESHOT: one event, then silence until MOD; also for errors. */
#include "peer.h"

int main(void)
{
	int ep = epoll_create1(0), fd = peer_connect("d100 wabc r1 wdef r1 d100 x");
	char buf[64];

	ep_add(ep, fd, EPOLLIN | EPOLLONESHOT, 1);
	ep_show("first", ep, 8, 5000);
	send(fd, "0", 1, 0);
	ep_show("disarmed", ep, 8, 400);
	printf("read: %s\n", result_text(read(fd, buf, 3)));
	ep_show("still", ep, 8, 0);
	ep_mod(ep, fd, EPOLLIN | EPOLLONESHOT, 2);
	ep_show("armed", ep, 8, 5000);
	printf("read: %s\n", result_text(read(fd, buf, 64)));
	ep_mod(ep, fd, EPOLLIN | EPOLLONESHOT | EPOLLET, 3);
	ep_show("nothing", ep, 8, 0);
	send(fd, "1", 1, 0);
	ep_show("reset", ep, 8, 5000);
	ep_show("told", ep, 8, 50);
	ep_mod(ep, fd, EPOLLONESHOT, 4);
	ep_show("armed for errors", ep, 8, 0);
	printf("read: %s\n", result_text(read(fd, buf, 64)));
	printf("read: %s\n", result_text(read(fd, buf, 64)));
	return 0;
}
