/*
 * peer.c - the scripted server that the tests of this folder talk to, always
 * over the kernel's TCP.    usage: peer [PORT]
 *
 * It says "ready" and serves until its standard input ends. The first line that
 * a client sends is a script, words separated by spaces:
 *
 *     dN  wait N ms            wTEXT  write TEXT          zN  write N zero bytes
 *     rN  read N bytes         e      echo until the end  s   swallow until the end
 *     f   FIN                  x      reset               cPORT  connect to the client's
 *     o   run off CPU 0                                          PORT, the rest runs there
 *     CPORT  the same, and say "C" to the client when it is done
 */
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "inside.h"

#define PIECE	  65536
#define LINE_MAX_ 512

static void write_all(int fd, const char *p, size_t n)
{
	while (n) {
		ssize_t r = send(fd, p, n, MSG_NOSIGNAL);
		if (r <= 0)
			return;
		p += r;
		n -= (size_t)r;
	}
}

/* Read n bytes, or until the end, or until nothing has come for so long that the program must hang. */
static void read_some(int fd, size_t n, int echo)
{
	static const int patience_ms = 60000;
	static __thread char buf[PIECE];
	struct pollfd p = {.fd = fd, .events = POLLIN};

	while (n && poll(&p, 1, patience_ms) > 0) {
		ssize_t r = recv(fd, buf, n < sizeof buf ? n : sizeof buf, 0);
		if (r <= 0)
			return;
		if (echo)
			write_all(fd, buf, (size_t)r);
		n -= (size_t)r;
	}
}

static void write_zeros(int fd, size_t n)
{
	static const char zeros[PIECE];

	while (n) {
		size_t part = n < sizeof zeros ? n : sizeof zeros;
		write_all(fd, zeros, part);
		n -= part;
	}
}

/* A connection to the client's host. */
static int call_back(int fd, int port)
{
	struct sockaddr_in a;
	socklen_t len = sizeof a;
	int back = aside(socket(AF_INET, SOCK_STREAM, 0));

	getpeername(fd, (struct sockaddr *)&a, &len);
	a.sin_port = htons((uint16_t)port);
	if (connect(back, (struct sockaddr *)&a, sizeof a)) {
		close(back);
		return -1;
	}
	return back;
}

/* Where CPU 0 is all there is, stay. */
static void off_cpu_0(void)
{
	cpu_set_t s;

	if (pthread_getaffinity_np(pthread_self(), sizeof s, &s))
		return;
	CPU_CLR(0, &s);
	pthread_setaffinity_np(pthread_self(), sizeof s, &s);
}

static int reset(int fd)
{
	struct linger l = {1, 0};

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof l);
	close(fd);
	return -1;
}

/* The descriptor if it is still open, -1 after a reset. */
static int run(int fd, char *script)
{
	char *rest;

	for (char *word = strtok_r(script, " ", &rest); word; word = strtok_r(NULL, " ", &rest)) {
		long n = strtol(word + 1, NULL, 10);
		switch (word[0]) {
		case 'w':
			write_all(fd, word + 1, strlen(word + 1));
			break;
		case 'z':
			write_zeros(fd, (size_t)n);
			break;
		case 'd':
			usleep((useconds_t)n * 1000);
			break;
		case 'r':
			read_some(fd, (size_t)n, 0);
			break;
		case 'e':
			read_some(fd, SIZE_MAX, 1);
			break;
		case 's':
			read_some(fd, SIZE_MAX, 0);
			break;
		case 'f':
			shutdown(fd, SHUT_WR);
			break;
		case 'o':
			off_cpu_0();
			break;
		case 'x':
			return reset(fd);
		case 'C':
		case 'c': {
			int back = call_back(fd, (int)n);
			if (word[0] == 'C' && back >= 0)
				write_all(fd, word, 1);
			if (back >= 0 && rest && rest[0])
				back = run(back, rest);
			if (back >= 0)
				close(back);
			return fd;
		}
		}
	}
	return fd;
}

static void *serve(void *arg)
{
	int fd = (int)(intptr_t)arg;
	char line[LINE_MAX_ + 1];
	size_t n = 0;

	while (n < LINE_MAX_ && recv(fd, line + n, 1, 0) == 1 && line[n] != '\n')
		n++;
	line[n] = 0;
	fd = run(fd, line);
	if (fd >= 0)
		close(fd);
	return NULL;
}

static int listen_on(int port)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
	int l = aside(socket(AF_INET, SOCK_STREAM, 0)), one = 1;

	setsockopt(l, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	return bind(l, (struct sockaddr *)&a, sizeof a) || listen(l, 256) ? -1 : l;
}

#ifdef INSIDE
static void *accept_inside(void *arg)
{
	int c, l = (int)(intptr_t)arg;

	while ((c = aside(accept(l, NULL, NULL))) >= 0)
		inside_thread(serve, (void *)(intptr_t)c);
	return NULL;
}

__attribute__((constructor)) static void inside(void)
{
	int l = listen_on(atoi(getenv("PEER_PORT")));

	if (l >= 0)
		inside_thread(accept_inside, (void *)(intptr_t)l);
}
#else
static void *end_with_input(void *arg)
{
	char c;

	(void)arg;
	while (read(0, &c, 1) > 0)
		;
	exit(0);
}

int main(int argc, char **argv)
{
	int l = listen_on(argc > 1 ? atoi(argv[1]) : 7000), c;
	pthread_t t;

	signal(SIGPIPE, SIG_IGN);
	if (l < 0) {
		perror("peer");
		return 1;
	}
	puts("ready");
	fflush(stdout);
	pthread_create(&t, NULL, end_with_input, NULL);
	while ((c = accept(l, NULL, NULL)) >= 0) {
		pthread_create(&t, NULL, serve, (void *)(intptr_t)c);
		pthread_detach(t);
	}
	return 0;
}
#endif
