/*
 * A program that nothing can be preloaded into (linked statically).
 *   still            waits for the end of its input
 *   say FD           says something on a socket, prints what came back
 *   is FD            prints whether the number is open
 *   watch EP FD      says something on a socket, and waits for the answer in an epoll set; then FD is no
 * member poll EP FD       polls an epoll set, once a byte has come from FD
 *   call EP PORT     connects to a listener of this machine, which is a member of the set
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

static void show(int ep)
{
	struct epoll_event e[8];
	int n = epoll_wait(ep, e, 8, 5000);

	printf("static child: %d", n);
	for (int i = 0; i < n; i++)
		printf(" [%llu %x]", (unsigned long long)e[i].data.u64, e[i].events);
	puts("");
}

static int watch(int ep, int fd)
{
	char b[8];

	if (write(fd, "w", 1) != 1)
		return 1;
	show(ep);
	if (read(fd, b, sizeof b) != 1)
		return 2;
	printf("static child: del %d\n", epoll_ctl(ep, EPOLL_CTL_DEL, fd, NULL));
	return 0;
}

static int poll_set(int ep, int fd)
{
	struct pollfd p = {ep, POLLIN, 0};
	char b;

	printf("static child: poll %d\n", poll(&p, 1, 0));
	fflush(stdout);
	if (write(fd, "p", 1) != 1 || read(fd, &b, 1) != 1)
		return 1;
	printf("static child: poll %d\n", poll(&p, 1, 5000));
	return 0;
}

static int call(int ep, int port)
{
	struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port)};

	sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (connect(socket(AF_INET, SOCK_STREAM, 0), (struct sockaddr *)&sa, sizeof sa))
		perror("connect");
	show(ep);
	return 0;
}

int main(int argc, char **argv)
{
	static const char text[] = "a static child's words";
	char b[sizeof text] = "";
	size_t n = 0;
	long r;

	if (argc == 3 && !strcmp(argv[1], "is")) {
		printf("static child: F_GETFD %d\n", fcntl(atoi(argv[2]), F_GETFD));
		return 0;
	}
	if (argc == 4 && !strcmp(argv[1], "watch"))
		return watch(atoi(argv[2]), atoi(argv[3]));
	if (argc == 4 && !strcmp(argv[1], "poll"))
		return poll_set(atoi(argv[2]), atoi(argv[3]));
	if (argc == 4 && !strcmp(argv[1], "call"))
		return call(atoi(argv[2]), atoi(argv[3]));
	if (argc < 3 || strcmp(argv[1], "say") != 0) {
		while (read(0, b, 1) > 0)
			;
		return 0;
	}
	r = write(atoi(argv[2]), text, sizeof text - 1);
	printf("static child: wrote %ld", r);
	while (n < sizeof text - 1 && (r = read(atoi(argv[2]), b + n, sizeof text - 1 - n)) > 0)
		n += (size_t)r;
	printf(", read '%s'\n", b);
	return n != sizeof text - 1;
}
