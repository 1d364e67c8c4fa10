/*
 * state_calls.h - the calls that are tried on a socket in each state, and what is shown of one.
 */
#ifndef TESTS_PRELOAD_STATE_CALLS_H
#define TESTS_PRELOAD_STATE_CALLS_H

#include "state.h"

static volatile int pipes;
static char buf[4096];

static void on_sigpipe(int sig)
{
	(void)sig;
	pipes++;
}

static long do_recv(int fd)
{
	return recv(fd, buf, sizeof buf, MSG_DONTWAIT);
}

static long do_read_twice(int fd)
{
	long r = read(fd, buf, sizeof buf);
	return r < 0 ? (so_error(fd), r) : r + 10000 * read(fd, buf, sizeof buf);
}

static long do_peek(int fd)
{
	return recv(fd, buf, sizeof buf, MSG_PEEK | MSG_DONTWAIT);
}

static long do_oob(int fd)
{
	return recv(fd, buf, 1, MSG_OOB | MSG_DONTWAIT);
}

static long do_recv_nothing(int fd)
{
	return recv(fd, buf, 0, MSG_DONTWAIT);
}

static long do_send(int fd)
{
	return send(fd, "x", 1, MSG_DONTWAIT);
}

static long do_send_twice(int fd)
{
	send(fd, "x", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
	return send(fd, "x", 1, MSG_DONTWAIT);
}

static long do_send_nothing(int fd)
{
	return send(fd, "", 0, MSG_DONTWAIT);
}

static long do_send_urgent(int fd)
{
	return send(fd, "x", 1, MSG_DONTWAIT | MSG_OOB | MSG_NOSIGNAL);
}

static long do_shut_rd(int fd)
{
	return shutdown(fd, SHUT_RD);
}

static long do_shut_wr(int fd)
{
	return shutdown(fd, SHUT_WR);
}

static long do_shut_rdwr(int fd)
{
	return shutdown(fd, SHUT_RDWR);
}

static long do_shut_bad(int fd)
{
	return shutdown(fd, 3);
}

static long do_connect(int fd)
{
	int port = (int)peer("listen"), r = connect_to(fd, peer_addr(), port), e = errno;

	if (r && e == EINPROGRESS)
		wait_bits(fd, OUT, 1);
	errno = e;
	return r;
}

static long do_connect_unspec(int fd)
{
	struct sockaddr sa = {.sa_family = AF_UNSPEC};
	return connect(fd, &sa, sizeof sa);
}

static long do_listen(int fd)
{
	return listen(fd, 5);
}

static long do_bind(int fd)
{
	struct sockaddr_in sin = address(own_addr(), 0);
	return bind(fd, (struct sockaddr *)&sin, sizeof sin);
}

static long do_accept(int fd)
{
	int r = accept(fd, NULL, NULL);

	if (r < 0)
		return r;
	long bits = polled(r, ALL_EVENTS, 0);
	close(r);
	return bits;
}

static long do_error_twice(int fd)
{
	int e = so_error(fd);
	return e * 1000 + so_error(fd);
}

static long do_names(int fd)
{
	struct sockaddr_in sin = {0};
	socklen_t len = sizeof sin;
	long r = getsockname(fd, (struct sockaddr *)&sin, &len) ? -errno : sin.sin_port != 0;

	return getpeername(fd, (struct sockaddr *)&sin, &len) ? (r || 1 ? -1 : 0) : r + 10;
}

static long do_inq(int fd)
{
	int n = -1;
	return ioctl(fd, FIONREAD, &n) ? -1 : n;
}

static long do_atmark(int fd)
{
	return sockatmark(fd);
}

static long do_maxseg(int fd)
{
	int n = 500;
	return setsockopt(fd, IPPROTO_TCP, TCP_MAXSEG, &n, sizeof n);
}

static long do_reads_after_shut_rd(int fd)
{
	shutdown(fd, SHUT_RD);
	return recv(fd, buf, sizeof buf, MSG_DONTWAIT);
}

static const struct {
	const char *name;
	long (*call)(int);
	bool always; /* also for states that take long to make */
} calls[] = {
    {"recv", do_recv, true},
    {"read twice", do_read_twice, false},
    {"peek", do_peek, false},
    {"recv MSG_OOB", do_oob, false},
    {"recv of nothing", do_recv_nothing, false},
    {"send", do_send, true},
    {"send twice", do_send_twice, false},
    {"send of nothing", do_send_nothing, false},
    {"send MSG_OOB", do_send_urgent, false},
    {"shutdown RD", do_shut_rd, true},
    {"shutdown WR", do_shut_wr, true},
    {"shutdown RDWR", do_shut_rdwr, false},
    {"shutdown 3", do_shut_bad, false},
    {"connect", do_connect, false},
    {"connect AF_UNSPEC", do_connect_unspec, false},
    {"listen", do_listen, false},
    {"bind", do_bind, false},
    {"accept", do_accept, false},
    {"SO_ERROR twice", do_error_twice, true},
    {"names", do_names, false},
    {"FIONREAD", do_inq, false},
    {"sockatmark", do_atmark, false},
    {"TCP_MAXSEG", do_maxseg, false},
    {"shutdown RD, recv", do_reads_after_shut_rd, false},
};
#define CALLS (sizeof calls / sizeof calls[0])

/* Call `k` on a socket that is made for it. */
static void show_call(const struct state *s, size_t k)
{
	int fd = state_make(s);

	nonblocking(fd);
	pipes = 0;
	errno = 0;
	long r = calls[k].call(fd);
	const char *e = r < 0 ? strerrorname_np(errno) : "";
	printf("%s: %s = %ld %s%s", s->name, calls[k].name, r, e, pipes ? " SIGPIPE" : "");
	SAY(" -> %s", bit_names(polled(fd, ALL_EVENTS, 0)));
	close(fd);
	drop_extras();
}

#endif
