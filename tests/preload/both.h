/*
 * both.h - for programs that run twice, once over the kernel's TCP and once over
 * the stack, and must print the same.
 *
 * A program prints what each call answered (SHOW); run.sh compares the two
 * outputs. The other end is always the kernel's: both_peer.c, a process that does what
 * it is told over an AF_UNIX socket (peer(), peer_later()). So everything that a
 * program under test does with TCP crosses from its stack to another one.
 */
#ifndef TESTS_PRELOAD_BOTH_H
#define TESTS_PRELOAD_BOTH_H

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void show(const char *text, long r)
{
	int e = errno;

	if (r == -1)
		printf("%s = -1 %s\n", text, strerrorname_np(e));
	else
		printf("%s = %ld\n", text, r);
	errno = e;
}

/* What a call answered: its value, or -1 and the error's name. */
#define SHOW(call)                                                                                           \
	({                                                                                                   \
		errno = 0;                                                                                   \
		long r_ = (long)(call);                                                                      \
		show(#call, r_);                                                                             \
		r_;                                                                                          \
	})
#define SAY(...) (printf(__VA_ARGS__), putchar('\n'))

static inline const char *own_addr(void)
{
	return getenv("TEST_OWN") ? getenv("TEST_OWN") : "127.0.0.1";
}

static inline const char *peer_addr(void)
{
	return getenv("TEST_PEER") ? getenv("TEST_PEER") : "127.0.0.1";
}

static int control = -1;

static inline void control_open(void)
{
	struct sockaddr_un sun = {.sun_family = AF_UNIX};

	setvbuf(stdout, NULL, _IOLBF, 0);
	control = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	snprintf(sun.sun_path, sizeof sun.sun_path, "%s", getenv("TEST_CONTROL"));
	if (connect(control, (struct sockaddr *)&sun, sizeof sun)) {
		perror("control");
		exit(99);
	}
	/* out of the way: the programs look at the numbers that they get */
	control = fcntl(control, F_DUPFD_CLOEXEC, 900);
	close(3);
}

/* A command whose answer is fetched by peer_answer(). */
static inline void peer_later(const char *fmt, ...)
{
	char line[256];
	va_list ap;
	int n;

	if (control < 0)
		control_open();
	va_start(ap, fmt);
	n = vsnprintf(line, sizeof line - 1, fmt, ap);
	va_end(ap);
	line[n++] = '\n';
	if (write(control, line, (size_t)n) != n)
		exit(98);
}

static inline long peer_answer(void)
{
	char line[64];
	size_t n = 0;

	while (n < sizeof line - 1) {
		ssize_t r = read(control, line + n, 1);
		if (r < 0 && errno == EINTR)
			continue;
		if (r != 1)
			exit(97);
		if (line[n++] == '\n')
			break;
	}
	line[n] = 0;
	return atol(line);
}

#define peer(...) (peer_later(__VA_ARGS__), peer_answer())

static inline struct sockaddr_in address(const char *ip, int port)
{
	struct sockaddr_in sin = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
	inet_pton(AF_INET, ip, &sin.sin_addr);
	return sin;
}

static inline int connect_to(int fd, const char *ip, int port)
{
	struct sockaddr_in sin = address(ip, port);
	return connect(fd, (struct sockaddr *)&sin, sizeof sin);
}

/* A connection to the peer; the peer's end is its current one. */
static inline int connected(void)
{
	int port = (int)peer("listen"), fd = socket(AF_INET, SOCK_STREAM, 0);

	if (connect_to(fd, peer_addr(), port)) {
		perror("connect");
		exit(96);
	}
	peer("accept");
	return fd;
}

/* A listener on the wildcard; its port. */
static inline int listening(int *port, int backlog)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
	struct sockaddr_in sin = address("0.0.0.0", 0);
	socklen_t len = sizeof sin;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (bind(fd, (struct sockaddr *)&sin, sizeof sin) || listen(fd, backlog) ||
	    getsockname(fd, (struct sockaddr *)&sin, &len)) {
		perror("listen");
		exit(95);
	}
	*port = ntohs(sin.sin_port);
	return fd;
}

static inline long now_ms(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static inline void nap(int ms)
{
	struct timespec ts = {ms / 1000, ms % 1000 * 1000000L};
	while (nanosleep(&ts, &ts) && errno == EINTR)
		;
}

/* poll() bits now, or within `ms`. */
static inline int polled(int fd, int events, int ms)
{
	struct pollfd p = {.fd = fd, .events = (short)events};
	int r = poll(&p, 1, ms);
	return r < 0 ? -1 : r ? p.revents : 0;
}

/* Less than `ms`, what was waited for at most, or not: a busy machine takes its time. */
static inline const char *took(long since, int ms)
{
	return now_ms() - since < ms * 9 / 10 ? "at once" : "long";
}

#endif
