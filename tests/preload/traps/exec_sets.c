/*
 * exec_sets ROUNDS - a connection to itself; then so many times: an epoll set with many members, which is
 * closed by the exec() of this program that follows. The connection goes on.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define MEMBERS 50

static int begin(int *accepted)
{
	struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof sa;
	int l = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), fd = socket(AF_INET, SOCK_STREAM, 0);

	if (bind(l, (struct sockaddr *)&sa, len) || listen(l, 1) ||
	    getsockname(l, (struct sockaddr *)&sa, &len) || connect(fd, (struct sockaddr *)&sa, len))
		return -1;
	*accepted = accept(l, NULL, NULL);
	return fd;
}

int main(int argc, char **argv)
{
	int rounds = argc > 1 ? atoi(argv[1]) : 0, fd = argc > 2 ? atoi(argv[2]) : -1;
	int other = argc > 3 ? atoi(argv[3]) : -1, ep;
	char text[3][16], byte = 'x';
	struct epoll_event e = {.events = EPOLLIN};

	if (fd < 0)
		fd = begin(&other);
	if (fd < 0 || write(other, &byte, 1) != 1 || read(fd, &byte, 1) != 1) {
		perror("the connection");
		return 1;
	}
	if (!rounds)
		return 0;
	ep = epoll_create1(EPOLL_CLOEXEC);
	for (int i = 0; i < MEMBERS; i++)
		if (epoll_ctl(ep, EPOLL_CTL_ADD, fcntl(fd, F_DUPFD_CLOEXEC, 0), &e))
			return 2;
	if (epoll_wait(ep, &e, 1, 0))
		return 3;
	snprintf(text[0], sizeof text[0], "%d", rounds - 1);
	snprintf(text[1], sizeof text[1], "%d", fd);
	snprintf(text[2], sizeof text[2], "%d", other);
	execl(argv[0], argv[0], text[0], text[1], text[2], (char *)NULL);
	return 4;
}
