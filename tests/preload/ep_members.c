/*
 * Whose member is it? dup'ed and closed numbers, numbers used again, sockets
 * added before connect() and listen(), and data that looks like anybody's tag.
 */
#include "peer.h"

static void duplicates(void)
{
	int ep = epoll_create1(0), fd = peer_connect("d50 wabc s"), two = dup(fd), sv[2];

	printf("dup is another member: %s\n", result_text(ep_add(ep, fd, EPOLLIN, 1)));
	printf("dup is another member: %s\n", result_text(ep_add(ep, two, EPOLLIN, 2)));
	ep_show("both", ep, 8, 5000);
	ep_show("both", ep, 8, 0);
	close(fd);
	ep_show("closed number lives on", ep, 8, 0);
	printf("mod of a closed number: %s\n", result_text(ep_mod(ep, fd, EPOLLIN, 3)));
	if (pipe(sv))
		return;
	printf("number used again: %s\n", sv[0] == fd ? "yes" : "no");
	printf("add the new one: %s\n", result_text(ep_add(ep, sv[0], EPOLLIN, 4)));
	ep_show("old and new", ep, 8, 0);
	printf("del new: %s\n", result_text(epoll_ctl(ep, EPOLL_CTL_DEL, sv[0], NULL)));
	ep_show("old ones", ep, 8, 0);
	close(two);
	ep_show("last number closed", ep, 8, 20);
	close(sv[0]);
	close(sv[1]);
	close(ep);
}

static void before_connect(uint32_t flags, const char *what)
{
	struct sockaddr_in a = peer_address();
	int ep = epoll_create1(0), fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), two = dup(fd), r;
	char buf[8];

	printf("%s\n", what);
	ep_add(ep, fd, EPOLLIN | EPOLLOUT | flags, 11);
	ep_add(ep, two, EPOLLIN | flags, 12);
	ep_show("unconnected", ep, 8, 0);
	r = connect(fd, (struct sockaddr *)&a, sizeof a);
	printf("connect: %s\n", result_text(r));
	if (flags & EPOLLONESHOT)
		ep_mod(ep, fd, EPOLLOUT | flags, 13);
	ep_show("connected", ep, 8, 5000);
	peer_script(two, "wabc s");
	await_data(two);
	ep_show("data", ep, 8, flags & EPOLLONESHOT ? 20 : 5000);
	printf("read: %s\n", result_text(read(two, buf, 8)));
	printf("del: %s\n", result_text(epoll_ctl(ep, EPOLL_CTL_DEL, fd, NULL)));
	close(fd);
	close(two);
	ep_show("closed", ep, 8, 20);
	close(ep);
}

static void before_listen(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET};
	socklen_t len = sizeof a;
	int ep = epoll_create1(0), l = socket(AF_INET, SOCK_STREAM, 0), back;

	ep_add(ep, l, EPOLLIN, 21);
	ep_show("not listening", ep, 8, 0);
	listen(l, 5);
	ep_show("listening", ep, 8, 20);
	getsockname(l, (struct sockaddr *)&a, &len);
	back = peer_call_back(ntohs(a.sin_port), "s");
	ep_show("a connection", ep, 8, 5000);
	close(accept(l, NULL, NULL));
	ep_show("accepted", ep, 8, 20);
	close(back);
	close(l);
	close(ep);
}

static void tags(void)
{
	static const uint64_t tag[] = {
	    0, 1, UINT64_MAX, UINT64_MAX - 1, UINT64_MAX - 2, 1ull << 32, 2ull << 32, 0xffffffff, 3, 4, 5};
	int ep = epoll_create1(0), fd = peer_connect("s"), p[2], other = peer_connect("s");

	if (pipe(p) || write(p[1], "x", 1) != 1)
		return;
	ep_add(ep, fd, EPOLLOUT, 0);
	ep_add(ep, p[0], EPOLLIN, 0);
	ep_add(ep, other, EPOLLIN, 0);
	for (unsigned int i = 0; i < sizeof tag / sizeof tag[0]; i++) {
		ep_mod(ep, fd, EPOLLOUT, tag[i]);
		ep_mod(ep, p[0], EPOLLIN, tag[i]);
		ep_show("tag", ep, 8, 0);
	}
	close(p[0]);
	close(p[1]);
	close(fd);
	close(other);
	close(ep);
}

int main(void)
{
	duplicates();
	before_connect(0, "level");
	before_connect(EPOLLET, "edge");
	before_connect(EPOLLONESHOT, "oneshot");
	before_listen();
	tags();
	return 0;
}
