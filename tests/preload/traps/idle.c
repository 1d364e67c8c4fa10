/*
 * idle.c recv|sleep|poll|epoll - some traffic, then nothing: prints its process
 * number as /proc knows it and waits in the given way, so that the script can
 * count the wake-ups of all its threads. Trap 19.
 */
#include "../peer.h"

int main(int argc, char **argv)
{
	int port, l = listen_any(&port), ep = epoll_create1(0), fd;
	struct pollfd p[2] = {{.fd = l, .events = POLLIN}, {.events = POLLIN}};
	struct epoll_event e;
	char self[32] = "", b[64];

	if (argc != 2)
		return 2;
	for (int i = 0; i < 50; i++) {
		fd = peer_connect("e");
		send(fd, "ping", 4, 0);
		recv(fd, b, 4, MSG_WAITALL);
		if (i < 49)
			close(fd);
	}
	p[1].fd = fd;
	ep_add(ep, l, EPOLLIN, 1);
	ep_add(ep, fd, EPOLLIN, 2);
	if (readlink("/proc/self", self, sizeof self - 1) < 0)
		return 3;
	puts(self);
	fflush(stdout);
	if (!strcmp(argv[1], "recv"))
		recv(fd, b, sizeof b, 0);
	else if (!strcmp(argv[1], "poll"))
		poll(p, 2, -1);
	else if (!strcmp(argv[1], "epoll"))
		epoll_wait(ep, &e, 1, -1);
	else
		pause();
	return 0;
}
