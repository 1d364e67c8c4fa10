/*
 * blocking.h - every call that can block, each in a thread of its own, for programs
 * that do something to a blocked thread (block_*.c).
 *
 * blocked() sets all of them up and returns once all sleep in their calls (/proc
 * says so); quiet() waits until each has returned or sleeps again; let_go() makes
 * happen what each call waits for. No clock decides: the waits only end sooner
 * or later.
 */
#ifndef TESTS_PRELOAD_BLOCKING_H
#define TESTS_PRELOAD_BLOCKING_H

#include "both.h"
#include <sys/epoll.h>

#define PATIENCE_MS 30000
#define BIG	    (8l << 20)
#define CASES_MAX   128

struct blocking_case;
struct blocking {
	const char *name;
	void (*setup)(struct blocking_case *c);
	long (*call)(struct blocking_case *c);
	void (*release)(struct blocking_case *c);
};

struct blocking_case {
	const struct blocking *b;
	int variant;	 /* the program's */
	bool timeout;	 /* SO_RCVTIMEO and SO_SNDTIMEO are set */
	int control, fd; /* the peer, and the descriptor that the call blocks on */
	int other, port, ep;
	long filled;
	pthread_t thread;
	_Atomic int tid, ran, done;
	long result;
	int error;
};

static struct blocking_case cases[CASES_MAX];
static int case_count;
static __thread struct blocking_case *mine; /* of the thread */
static char big[BIG];

/* ------------------------------------------------------------ the peer of a case */

static long ask(struct blocking_case *c, const char *fmt, ...)
{
	char line[64];
	size_t n;
	va_list ap;

	va_start(ap, fmt);
	n = (size_t)vsnprintf(line, sizeof line - 1, fmt, ap);
	va_end(ap);
	line[n++] = '\n';
	if (write(c->control, line, n) != (ssize_t)n)
		exit(98);
	for (n = 0; n < sizeof line - 1; n++) {
		while (read(c->control, line + n, 1) != 1)
			if (errno != EINTR)
				exit(97);
		if (line[n] == '\n')
			break;
	}
	line[n] = 0;
	return atol(line);
}

static int control_connect(void)
{
	struct sockaddr_un sun = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(sun.sun_path, sizeof sun.sun_path, "%s", getenv("TEST_CONTROL"));
	if (connect(fd, (struct sockaddr *)&sun, sizeof sun))
		exit(99);
	return fd;
}

/* ------------------------------------------------------------ what can be set up, and let go */

static void limits(struct blocking_case *c)
{
	struct timeval tv = {30, 0};

	if (!c->timeout)
		return;
	setsockopt(c->fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
	setsockopt(c->fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof tv);
}

static void setup_connected(struct blocking_case *c)
{
	int port = (int)ask(c, "listen");

	c->fd = socket(AF_INET, SOCK_STREAM, 0);
	if (connect_to(c->fd, peer_addr(), port))
		exit(96);
	ask(c, "accept");
	limits(c);
}

static void setup_epoll(struct blocking_case *c)
{
	struct epoll_event e = {.events = EPOLLIN};

	setup_connected(c);
	c->ep = epoll_create1(0);
	epoll_ctl(c->ep, EPOLL_CTL_ADD, c->fd, &e);
}

/* Some bytes are there already. */
static void setup_three(struct blocking_case *c)
{
	setup_connected(c);
	c->filled = ask(c, "send 3");
	polled(c->fd, POLLIN, PATIENCE_MS);
}

/* tcpi_snd_wnd, which the headers of Debian 12 have in the other struct tcp_info only. */
static uint32_t peer_window(int fd)
{
	unsigned char info[256] = {0};
	socklen_t len = sizeof info;
	uint32_t window;

	getsockopt(fd, IPPROTO_TCP, TCP_INFO, info, &len);
	memcpy(&window, info + 228, sizeof window);
	return window;
}

/*
 * Full: the peer reads nothing, and its buffer and ours hold no more. A window of less than a segment is not
 * full: it is filled when the sender has waited long enough for more, and then there is room again.
 */
static void setup_full(struct blocking_case *c)
{
	struct tcp_info ti = {.tcpi_unacked = 1};
	socklen_t len = sizeof ti;
	uint32_t window = 1;
	int small = 16384;
	long r = 1;

	ask(c, "rcvbuf 8192");
	setup_connected(c);
	setsockopt(c->fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
	fcntl(c->fd, F_SETFL, O_NONBLOCK);
	while (ti.tcpi_unacked || r > 0 || window) {
		window = peer_window(c->fd); /* first: the send has the last word */
		getsockopt(c->fd, IPPROTO_TCP, TCP_INFO, &ti, &len);
		r = send(c->fd, big, 4096, 0);
		c->filled += r > 0 ? r : 0;
		if (r < 0)
			nap(1);
	}
	fcntl(c->fd, F_SETFL, 0);
}

static void setup_linger(struct blocking_case *c)
{
	struct linger l = {1, 30};

	setup_full(c);
	setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &l, sizeof l);
}

static void setup_listener(struct blocking_case *c)
{
	c->fd = listening(&c->port, 4);
	limits(c);
}

/* The peer's queue is full: nobody answers the SYN. */
static void setup_connecting(struct blocking_case *c)
{
	c->port = (int)ask(c, "listen0");
	c->other = socket(AF_INET, SOCK_STREAM, 0);
	connect_to(c->other, peer_addr(), c->port);
	c->fd = socket(AF_INET, SOCK_STREAM, 0);
	limits(c);
}

static void release_send(struct blocking_case *c)
{
	ask(c, "send 100");
}

static void release_recv(struct blocking_case *c)
{
	ask(c, "recv %ld", c->filled + 1);
}

static void release_recv_all(struct blocking_case *c)
{
	ask(c, "recv %ld", BIG);
}

static void release_connect(struct blocking_case *c)
{
	ask(c, "connect %d", c->port);
}

static void release_refuse(struct blocking_case *c)
{
	ask(c, "unlisten");
}

/* ------------------------------------------------------------ the calls */

static char *room(void)
{
	static __thread char b[256];
	return b;
}

static long call_read(struct blocking_case *c)
{
	return read(c->fd, room(), 100);
}

static long call_readv(struct blocking_case *c)
{
	struct iovec v = {room(), 100};
	return readv(c->fd, &v, 1);
}

static long call_preadv2(struct blocking_case *c)
{
	struct iovec v = {room(), 100};
	return preadv2(c->fd, &v, 1, -1, 0);
}

static long call_recv(struct blocking_case *c)
{
	return recv(c->fd, room(), 100, 0);
}

static long call_recvfrom(struct blocking_case *c)
{
	return recvfrom(c->fd, room(), 100, 0, NULL, NULL);
}

static long call_recvmsg(struct blocking_case *c)
{
	struct iovec v = {room(), 100};
	struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1};
	return recvmsg(c->fd, &m, 0);
}

static long call_recvmmsg(struct blocking_case *c)
{
	struct iovec v = {room(), 100};
	struct mmsghdr m = {.msg_hdr = {.msg_iov = &v, .msg_iovlen = 1}};
	return recvmmsg(c->fd, &m, 1, 0, NULL);
}

static long call_peek(struct blocking_case *c)
{
	return recv(c->fd, room(), 100, MSG_PEEK);
}

static long call_waitall(struct blocking_case *c)
{
	return recv(c->fd, room(), c->filled ? 103 : 100, MSG_WAITALL);
}

static long call_splice_in(struct blocking_case *c)
{
	int p[2];
	long r = pipe(p) ? -1 : splice(c->fd, NULL, p[1], NULL, 100, 0);
	int e = errno;

	close(p[0]);
	close(p[1]);
	errno = e;
	return r;
}

static long call_send(struct blocking_case *c)
{
	return send(c->fd, big, 1, 0);
}

static long call_write(struct blocking_case *c)
{
	return write(c->fd, big, 1);
}

static long call_writev(struct blocking_case *c)
{
	struct iovec v = {big, 1};
	return writev(c->fd, &v, 1);
}

static long call_sendmsg(struct blocking_case *c)
{
	struct iovec v = {big, 1};
	struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1};
	return sendmsg(c->fd, &m, 0);
}

static long call_sendmmsg(struct blocking_case *c)
{
	struct iovec v = {big, 1};
	struct mmsghdr m = {.msg_hdr = {.msg_iov = &v, .msg_iovlen = 1}};
	return sendmmsg(c->fd, &m, 1, 0);
}

static long call_sendfile(struct blocking_case *c)
{
	int f = open("/proc/self/exe", O_RDONLY);
	long r = sendfile(c->fd, f, NULL, 1);
	int e = errno;

	close(f);
	errno = e;
	return r;
}

static long call_splice_out(struct blocking_case *c)
{
	int p[2];
	long r = pipe(p) || write(p[1], "x", 1) != 1 ? -1 : splice(p[0], NULL, c->fd, NULL, 1, 0);
	int e = errno;

	close(p[0]);
	close(p[1]);
	errno = e;
	return r;
}

/* Much more than there is room for: 1 if all of it went, 0 if a part. */
static long call_send_big(struct blocking_case *c)
{
	long r = send(c->fd, big, BIG, 0);
	return r < 0 ? r : r == BIG;
}

static long call_close(struct blocking_case *c)
{
	return close(c->fd);
}

static long call_accept(struct blocking_case *c)
{
	int r = accept(c->fd, NULL, NULL), e = errno;

	if (r >= 0)
		close(r);
	errno = e;
	return r < 0 ? r : 0;
}

static long call_accept4(struct blocking_case *c)
{
	int r = accept4(c->fd, NULL, NULL, SOCK_CLOEXEC), e = errno;

	if (r >= 0)
		close(r);
	errno = e;
	return r < 0 ? r : 0;
}

static long call_connect(struct blocking_case *c)
{
	return connect_to(c->fd, peer_addr(), c->port);
}

static long call_poll(struct blocking_case *c)
{
	struct pollfd p = {.fd = c->fd, .events = POLLIN};
	return poll(&p, 1, -1);
}

static long call_poll_mixed(struct blocking_case *c)
{
	struct pollfd p[2] = {{.fd = c->fd, .events = POLLIN}, {.fd = c->control, .events = POLLPRI}};
	return poll(p, 2, 60000);
}

static long call_ppoll(struct blocking_case *c)
{
	struct pollfd p = {.fd = c->fd, .events = POLLIN};
	const struct timespec ts = {60, 0};
	sigset_t none;

	sigemptyset(&none);
	return ppoll(&p, 1, &ts, &none);
}

static long call_select(struct blocking_case *c)
{
	fd_set r;

	FD_ZERO(&r);
	FD_SET(c->fd, &r);
	return select(c->fd + 1, &r, NULL, NULL, NULL);
}

static long call_pselect(struct blocking_case *c)
{
	fd_set r;

	FD_ZERO(&r);
	FD_SET(c->fd, &r);
	return pselect(c->fd + 1, &r, NULL, NULL, NULL, NULL);
}

static long call_epoll_wait(struct blocking_case *c)
{
	struct epoll_event e;
	return epoll_wait(c->ep, &e, 1, -1);
}

static long call_epoll_pwait(struct blocking_case *c)
{
	struct epoll_event e;
	sigset_t none;

	sigemptyset(&none);
	return epoll_pwait(c->ep, &e, 1, 60000, &none);
}

static long call_epoll_pwait2(struct blocking_case *c)
{
	struct epoll_event e;
	const struct timespec ts = {60, 0};
	return epoll_pwait2(c->ep, &e, 1, &ts, NULL);
}

static const struct blocking calls[] = {
    {"read", setup_connected, call_read, release_send},
    {"readv", setup_connected, call_readv, release_send},
    {"preadv2", setup_connected, call_preadv2, release_send},
    {"recv", setup_connected, call_recv, release_send},
    {"recvfrom", setup_connected, call_recvfrom, release_send},
    {"recvmsg", setup_connected, call_recvmsg, release_send},
    {"recvmmsg", setup_connected, call_recvmmsg, release_send},
    {"recv PEEK", setup_connected, call_peek, release_send},
    {"recv WAITALL", setup_connected, call_waitall, release_send},
    {"recv WAITALL, a part", setup_three, call_waitall, release_send},
    {"splice from", setup_connected, call_splice_in, release_send},
    {"write", setup_full, call_write, release_recv},
    {"writev", setup_full, call_writev, release_recv},
    {"send", setup_full, call_send, release_recv},
    {"sendmsg", setup_full, call_sendmsg, release_recv},
    {"sendmmsg", setup_full, call_sendmmsg, release_recv},
    {"sendfile", setup_full, call_sendfile, release_recv},
    {"splice to", setup_full, call_splice_out, release_recv},
    {"send much", setup_connected, call_send_big, release_recv_all},
    {"close, lingering", setup_linger, call_close, release_recv},
    {"accept", setup_listener, call_accept, release_connect},
    {"accept4", setup_listener, call_accept4, release_connect},
    {"connect", setup_connecting, call_connect, release_refuse},
    {"poll", setup_connected, call_poll, release_send},
    {"poll mixed", setup_connected, call_poll_mixed, release_send},
    {"ppoll", setup_connected, call_ppoll, release_send},
    {"select", setup_connected, call_select, release_send},
    {"pselect", setup_connected, call_pselect, release_send},
    {"epoll_wait", setup_epoll, call_epoll_wait, release_send},
    {"epoll_pwait", setup_epoll, call_epoll_pwait, release_send},
    {"epoll_pwait2", setup_epoll, call_epoll_pwait2, release_send},
};
#define CALLS ((int)(sizeof calls / sizeof calls[0]))

/* ------------------------------------------------------------ threads */

/* 'S' while the thread sleeps. */
static char thread_state(int tid)
{
	char path[64], text[256], *p;
	int fd, n;

	snprintf(path, sizeof path, "/proc/self/task/%d/stat", tid);
	fd = open(path, O_RDONLY);
	n = fd < 0 ? 0 : (int)read(fd, text, sizeof text - 1);
	if (fd >= 0)
		close(fd);
	text[n > 0 ? n : 0] = 0;
	p = strrchr(text, ')');
	return p ? p[2] : '?';
}

/* In its call, asleep; or gone (a cancelled thread never says that it is done). */
static bool is_quiet(const struct blocking_case *c)
{
	char state = c->tid ? thread_state(c->tid) : 'R';

	return c->done || state == 'S' || state == '?';
}

static void *case_run(void *arg)
{
	struct blocking_case *c = arg;

	c->b->setup(c);
	mine = c;
	c->tid = (int)syscall(SYS_gettid);
	errno = 0;
	c->result = c->b->call(c);
	c->error = errno;
	c->done = 1;
	return NULL;
}

/* Every case has returned, or sleeps, ten looks in a row. */
static void quiet(void)
{
	long until = now_ms() + PATIENCE_MS;

	for (int calm = 0; calm < 10 && now_ms() < until; nap(5)) {
		int busy = 0;
		for (int i = 0; i < case_count; i++)
			busy += !is_quiet(&cases[i]);
		calm = busy ? 0 : calm + 1;
	}
}

static struct blocking_case *case_add(const struct blocking *b, int variant, bool timeout)
{
	struct blocking_case *c = &cases[case_count++];

	memset(c, 0, sizeof *c);
	*c = (struct blocking_case){.b = b, .variant = variant, .timeout = timeout, .ep = -1, .other = -1};
	c->control = control_connect();
	return c;
}

static void blocked(void)
{
	for (int i = 0; i < case_count; i++)
		pthread_create(&cases[i].thread, NULL, case_run, &cases[i]);
	quiet();
	/* what is done to a thread that talks to its peer yet is done to their talk */
	for (int i = 0; i < case_count; i++)
		if (!cases[i].tid) {
			SAY("%s: not set up in time", cases[i].b->name);
			exit(94);
		}
}

static void let_go(void)
{
	for (int i = 0; i < case_count; i++)
		if (!cases[i].done)
			cases[i].b->release(&cases[i]);
}

static void cases_end(void)
{
	for (int i = 0; i < case_count; i++) {
		close(cases[i].control);
		if (cases[i].ep >= 0)
			close(cases[i].ep);
		if (cases[i].other >= 0)
			close(cases[i].other);
	}
	case_count = 0;
}

static const char *case_result(const struct blocking_case *c)
{
	static char text[64];

	if (c->result < 0)
		snprintf(text, sizeof text, "-1 %s", strerrorname_np(c->error));
	else
		snprintf(text, sizeof text, "%ld", c->result);
	return text;
}

#endif
