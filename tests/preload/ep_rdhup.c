/* EPOLLRDHUP and HUP: half-close from either side, both, and after our own shutdown. */
#include "peer.h"
#include <netinet/tcp.h>

/* Our FIN is acknowledged, the connection is over: the last edge that there is. */
static void until_over(int fd)
{
	struct tcp_info i = {0};
	socklen_t len = sizeof i;

	while (!getsockopt(fd, IPPROTO_TCP, TCP_INFO, &i, &len) && i.tcpi_state != TCP_CLOSE)
		msleep(1);
}

int main(void)
{
	int ep = epoll_create1(0), a = peer_connect("d100 f s"), b = peer_connect("d100 wx f s"),
	    c = peer_connect("s");

	ep_add(ep, a, EPOLLIN | EPOLLRDHUP | EPOLLET, 1);
	ep_show("peer closed its side", ep, 8, 5000);
	shutdown(a, SHUT_WR);
	until_over(a);
	ep_show("both sides", ep, 8, 5000);
	ep_add(ep, b, EPOLLRDHUP, 2);
	ep_show("data and fin", ep, 8, 5000);
	ep_mod(ep, b, EPOLLIN | EPOLLRDHUP | EPOLLOUT, 3);
	ep_show("all bits", ep, 8, 0);
	ep_add(ep, c, EPOLLIN | EPOLLRDHUP | EPOLLOUT, 4);
	ep_show("c is open", ep, 8, 0);
	epoll_ctl(ep, EPOLL_CTL_DEL, b, NULL);
	shutdown(c, SHUT_RD);
	ep_show("c after SHUT_RD", ep, 8, 0);
	shutdown(c, SHUT_WR);
	until_over(c);
	ep_show("c after SHUT_WR", ep, 8, 0);
	return 0;
}
