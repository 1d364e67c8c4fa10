/* epoll, edge-triggered: one event per arrival, MOD re-arms, what was not read is not told again. */
#include "peer.h"

int main(void)
{
	int ep = epoll_create1(0), fd = peer_connect("r1 wabc r1 wdef r1 wghi r1 f s");
	char buf[64];

	ep_add(ep, fd, EPOLLIN | EPOLLOUT | EPOLLET, 1);
	ep_show("add", ep, 8, 0);
	ep_show("again", ep, 8, 30);
	send(fd, "1", 1, 0);
	ep_show("data", ep, 8, 5000);
	ep_show("not read", ep, 8, 30);
	send(fd, "2", 1, 0);
	ep_show("more data", ep, 8, 5000);
	printf("read: %s\n", result_text(read(fd, buf, 2)));
	ep_show("rest is silent", ep, 8, 30);
	ep_mod(ep, fd, EPOLLIN | EPOLLET, 2);
	ep_show("mod re-arms", ep, 8, 0);
	ep_show("once", ep, 8, 30);
	printf("read: %s\n", result_text(read(fd, buf, 64)));
	ep_mod(ep, fd, EPOLLIN | EPOLLET, 3);
	ep_show("mod without data", ep, 8, 30);
	send(fd, "3", 1, 0);
	ep_show("third", ep, 8, 5000);
	send(fd, "4", 1, 0);
	ep_show("end of stream", ep, 8, 5000);
	ep_show("told once", ep, 8, 30);
	printf("read: %s\n", result_text(read(fd, buf, 64)));
	printf("read: %s\n", result_text(read(fd, buf, 64)));
	return 0;
}
