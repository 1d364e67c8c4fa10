/*
 * bystander.c - a program that uses only kernel descriptors, for measuring what the preloaded library costs.
 *
 *     bystander KIND COUNT
 *
 * KIND: read (a byte from /dev/zero), write (a byte to /dev/null), pipe (a byte through a pipe), poll and
 * epoll (the same, asked for first), udp (a datagram to itself on loopback), file (seek and read in a file).
 * COUNT rounds; no output. Not local sockets, nor open(): their cost in the kernel jumps by a tenth from one
 * process image to another, with an empty library as well.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

static int from, to, set;
static char c;

static void must(int ok, const char *what)
{
	if (ok)
		return;
	perror(what);
	exit(1);
}

static void pass(void)
{
	must(write(to, &c, 1) == 1 && read(from, &c, 1) == 1, "pass");
}

static void with_poll(void)
{
	struct pollfd p = {.fd = from, .events = POLLIN};

	must(write(to, &c, 1) == 1 && poll(&p, 1, -1) == 1 && read(from, &c, 1) == 1, "poll");
}

static void with_epoll(void)
{
	struct epoll_event e;

	must(write(to, &c, 1) == 1 && epoll_wait(set, &e, 1, -1) == 1 && read(from, &c, 1) == 1, "epoll");
}

static void datagram(void)
{
	must(send(to, &c, 1, 0) == 1 && recv(from, &c, 1, 0) == 1, "datagram");
}

static void reading(void)
{
	must(read(from, &c, 1) == 1, "read");
}

static void writing(void)
{
	must(write(to, &c, 1) == 1, "write");
}

static void seeking(void)
{
	char page[4096];

	must(lseek(from, 0, SEEK_SET) == 0 && read(from, page, sizeof page) > 0, "file");
}

static void pipe_open(void)
{
	int p[2];

	must(pipe(p) == 0, "pipe");
	from = p[0];
	to = p[1];
}

static void set_open(void)
{
	struct epoll_event e = {.events = EPOLLIN};

	pipe_open();
	set = epoll_create1(0);
	must(set >= 0 && epoll_ctl(set, EPOLL_CTL_ADD, from, &e) == 0, "epoll_ctl");
}

static void udp_open(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof a;

	from = socket(AF_INET, SOCK_DGRAM, 0);
	to = socket(AF_INET, SOCK_DGRAM, 0);
	must(from >= 0 && to >= 0 && bind(from, (struct sockaddr *)&a, sizeof a) == 0 &&
		 getsockname(from, (struct sockaddr *)&a, &len) == 0 &&
		 connect(to, (struct sockaddr *)&a, sizeof a) == 0,
	     "udp");
}

static void zero_open(void)
{
	from = open("/dev/zero", O_RDONLY);
	to = open("/dev/null", O_WRONLY);
	must(from >= 0 && to >= 0, "/dev/zero");
}

static void file_open(void)
{
	from = open("/proc/self/exe", O_RDONLY);
	must(from >= 0, "/proc/self/exe");
}

static const struct kind {
	const char *name;
	void (*begin)(void);
	void (*round)(void);
} kinds[] = {
    {"read", zero_open, reading},   {"write", zero_open, writing},   {"pipe", pipe_open, pass},
    {"poll", pipe_open, with_poll}, {"epoll", set_open, with_epoll}, {"udp", udp_open, datagram},
    {"file", file_open, seeking},
};

int main(int argc, char **argv)
{
	for (size_t i = 0; argc == 3 && i < sizeof kinds / sizeof *kinds; i++) {
		if (strcmp(argv[1], kinds[i].name) != 0)
			continue;
		kinds[i].begin();
		for (long n = atol(argv[2]); n > 0; n--)
			kinds[i].round();
		return 0;
	}
	fprintf(stderr, "usage: bystander KIND COUNT\n");
	return 2;
}
