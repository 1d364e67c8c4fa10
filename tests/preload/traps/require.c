/*
 * require.c WHAT ADDRESS PORT - makes one call that policy or failure decides
 * and prints "ok" or the error's name. WHAT: connect, listen, fork (connect in
 * a child of a process that has a stack). Traps 23, 28.
 */
#include "../peer.h"
#include <sys/wait.h>

static int to(const char *addr, int port)
{
	struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
	int fd;

	if (inet_pton(AF_INET, addr, &a.sin_addr) == 1) {
		fd = socket(AF_INET, SOCK_STREAM, 0);
		return connect(fd, (struct sockaddr *)&a, sizeof a);
	}
	inet_pton(AF_INET6, addr, &six.sin6_addr);
	fd = socket(AF_INET6, SOCK_STREAM, 0);
	return connect(fd, (struct sockaddr *)&six, sizeof six);
}

static int listens(const char *addr, int port)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
	int fd = socket(AF_INET, SOCK_STREAM, 0), r;

	inet_pton(AF_INET, addr, &a.sin_addr);
	r = bind(fd, (struct sockaddr *)&a, sizeof a);
	return r ? r : listen(fd, 5);
}

int main(int argc, char **argv)
{
	int r = 0, fd, n;
	char b = 0;

	if (argc != 4)
		return 2;
	if (!strcmp(argv[1], "connect")) {
		r = to(argv[2], atoi(argv[3]));
	} else if (!strcmp(argv[1], "listen")) {
		r = listens(argv[2], atoi(argv[3]));
	} else {
		fd = peer_connect("e");
		fflush(stdout);
		if (!fork()) {
			r = to(argv[2], atoi(argv[3]));
			puts(r ? strerrorname_np(errno) : "ok");
			fflush(stdout);
			_exit(0);
		}
		wait(NULL);
		send(fd, "x", 1, 0);
		n = (int)recv(fd, &b, 1, 0);
		printf("parent %d\n", n);
		return 0;
	}
	puts(r ? strerrorname_np(errno) : "ok");
	return 0;
}
