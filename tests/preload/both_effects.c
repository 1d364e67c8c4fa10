/*
 * What options do, once set: SO_RCVLOWAT with every way to wait, urgent data with and without SO_OOBINLINE,
 * TCP_NOTSENT_LOWAT, time-outs, and the state that TCP_INFO names.
 */
#include "both.h"
#include <sys/epoll.h>

static char buf[1 << 16];

static int inq(int fd)
{
	int n = -1;

	ioctl(fd, FIONREAD, &n);
	return n;
}

static void arrives(int fd, int n)
{
	for (int i = 0; i < 4000 && inq(fd) < n; i++)
		nap(5);
}

static void set(int fd, int level, int name, int v)
{
	if (setsockopt(fd, level, name, &v, sizeof v))
		SAY("option %d: %s", name, strerrorname_np(errno));
}

/* Readable by poll, select, epoll level and edge. */
static void readable(const char *what, int fd, int ep)
{
	struct timeval zero = {0, 0};
	struct epoll_event e[2];
	fd_set r;
	int n, first = 0;

	FD_ZERO(&r);
	FD_SET(fd, &r);
	n = epoll_wait(ep, e, 2, 0);
	for (int i = 0; i < n; i++)
		first |= 1 << e[i].data.u32;
	printf("%s: %d there, poll %x", what, inq(fd), (unsigned int)polled(fd, POLLIN | POLLRDHUP, 0));
	SAY(", select %d, epoll %d", select(fd + 1, &r, NULL, NULL, &zero), first);
}

static void low_water(void)
{
	int fd = connected(), ep = epoll_create1(0), other = dup(fd);
	struct epoll_event level = {.events = EPOLLIN, .data.u32 = 0};
	struct epoll_event edge = {.events = EPOLLIN | EPOLLET, .data.u32 = 1};

	set(fd, SOL_SOCKET, SO_RCVLOWAT, 10);
	epoll_ctl(ep, EPOLL_CTL_ADD, fd, &level);
	epoll_ctl(ep, EPOLL_CTL_ADD, other, &edge);
	readable("nothing", fd, ep);
	peer("send 5");
	arrives(fd, 5);
	readable("too little", fd, ep);
	SHOW(recv(fd, buf, 3, MSG_DONTWAIT));
	SHOW(recv(fd, buf, 20, MSG_DONTWAIT | MSG_PEEK));
	peer("send 8");
	arrives(fd, 10);
	readable("enough", fd, ep);
	SHOW(recv(fd, buf, 1, 0));
	readable("less again", fd, ep);
	while (recv(fd, buf, 20, MSG_DONTWAIT) > 0)
		;
	readable("read", fd, ep);
	peer("send 4");
	arrives(fd, 4);
	set(fd, SOL_SOCKET, SO_RCVLOWAT, 3);
	readable("lowered", fd, ep);
	set(fd, SOL_SOCKET, SO_RCVLOWAT, 1000);
	readable("raised", fd, ep);
	peer("close");
	polled(fd, POLLRDHUP, 20000);
	readable("the end", fd, ep);
	SHOW(recv(fd, buf, 20, 0));
	SHOW(recv(fd, buf, 20, 0));
	close(ep);
	close(other);
	close(fd);
}

static volatile sig_atomic_t urgent;

static void on_urgent(int sig)
{
	(void)sig;
	urgent++;
}

static void mark(const char *what, int fd)
{
	int at = -1;
	struct pollfd p = {fd, POLLIN | POLLPRI | POLLRDBAND, 0};

	ioctl(fd, SIOCATMARK, &at);
	poll(&p, 1, 0);
	SAY("%s: %d there, at the mark %d, sockatmark %d, poll %x", what, inq(fd), at, sockatmark(fd),
	    (unsigned int)p.revents);
}

static void out_of_band(int inlined)
{
	int fd = connected(), n;
	struct timeval tv = {20, 0};
	fd_set x;

	SAY("-- urgent, %s", inlined ? "inline" : "apart");
	set(fd, SOL_SOCKET, SO_OOBINLINE, inlined);
	signal(SIGURG, on_urgent);
	urgent = 0;
	SHOW(fcntl(fd, F_SETOWN, getpid()));
	mark("nothing", fd);
	SHOW(recv(fd, buf, 1, MSG_OOB | MSG_DONTWAIT));
	peer("send 3");
	arrives(fd, 3);
	peer("oob");
	FD_ZERO(&x);
	FD_SET(fd, &x);
	do
		n = select(fd + 1, NULL, NULL, &x, &tv);
	while (n < 0 && errno == EINTR);
	SAY("select %d, %d", n, FD_ISSET(fd, &x) != 0);
	for (int i = 0; i < 1000 && !urgent; i++)
		nap(5);
	SAY("signals %d", (int)urgent);
	peer("send 4");
	peer("taken");
	mark("three before it", fd);
	SHOW(recv(fd, buf, 1, MSG_OOB | MSG_PEEK));
	SHOW(recv(fd, buf, 100, MSG_PEEK));
	SHOW(recv(fd, buf, 100, 0));
	mark("at it", fd);
	SHOW(recv(fd, buf, 1, MSG_OOB));
	SHOW(recv(fd, buf, 1, MSG_OOB));
	mark("taken", fd);
	SHOW(recv(fd, buf, 100, MSG_WAITALL | MSG_DONTWAIT));
	mark("behind it", fd);
	SHOW(recv(fd, buf, 100, MSG_DONTWAIT));
	peer("oob");
	polled(fd, POLLPRI, 20000);
	peer("oob");
	peer("taken");
	mark("two of them", fd);
	SHOW(recv(fd, buf, 100, MSG_DONTWAIT));
	SHOW(recv(fd, buf, 100, MSG_DONTWAIT));
	SHOW(recv(fd, buf, 1, MSG_OOB));
	SHOW(send(fd, "x", 1, MSG_OOB));
	SHOW(send(fd, "", 0, MSG_OOB));
	peer("close");
	polled(fd, POLLRDHUP, 20000);
	mark("the end", fd);
	SHOW(recv(fd, buf, 1, MSG_OOB));
	close(fd);
	signal(SIGURG, SIG_DFL);
}

/* What is buffered does not matter, what is not sent does. */
static void not_sent(void)
{
	int fd = connected();

	set(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, 20000);
	SHOW(polled(fd, POLLOUT, 0));
	for (int calm = 0; calm < 3; calm++) /* until nothing more goes out */
		for (; polled(fd, POLLOUT, 100) && send(fd, buf, 5000, MSG_DONTWAIT) > 0; calm = 0)
			;
	SAY("writable %x", (unsigned int)polled(fd, POLLOUT, 0));
	set(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, 0);
	SAY("then writable %x", (unsigned int)polled(fd, POLLOUT, 0));
	close(fd);
	peer("rst");
}

static int state(int fd)
{
	struct tcp_info i;
	socklen_t len = sizeof i;

	memset(&i, 0, sizeof i);
	return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &i, &len) ? -1 : i.tcpi_state;
}

static int becomes(int fd, int wanted)
{
	for (int i = 0; i < 1000 && state(fd) != wanted; i++)
		nap(5);
	return state(fd);
}

static void states(void)
{
	int port, fd = socket(AF_INET, SOCK_STREAM, 0), l;
	struct tcp_info i;
	socklen_t len = sizeof i;

	SAY("new %d", state(fd));
	SHOW(connect_to(fd, peer_addr(), 1));
	SAY("refused %d", state(fd));
	close(fd);
	l = listening(&port, 7);
	getsockopt(l, IPPROTO_TCP, TCP_INFO, &i, &len);
	SAY("listening %d: %u of %u", i.tcpi_state, i.tcpi_unacked, i.tcpi_sacked);
	peer("connect %d", port);
	polled(l, POLLIN, 20000);
	getsockopt(l, IPPROTO_TCP, TCP_INFO, &i, &len);
	SAY("one waits: %u of %u", i.tcpi_unacked, i.tcpi_sacked);
	fd = accept(l, NULL, NULL);
	SAY("accepted %d", becomes(fd, TCP_ESTABLISHED));
	shutdown(fd, SHUT_WR);
	SAY("shut %d", becomes(fd, TCP_FIN_WAIT2));
	peer("close");
	SAY("both %d", becomes(fd, TCP_CLOSE));
	close(fd);
	close(l);
	fd = connected();
	peer("shutdown 1");
	SAY("the peer's end %d", becomes(fd, TCP_CLOSE_WAIT));
	shutdown(fd, SHUT_WR);
	SAY("and ours %d", becomes(fd, TCP_CLOSE));
	close(fd);
	peer("close");
	fd = connected();
	peer("rst");
	SAY("reset %d", becomes(fd, TCP_CLOSE));
	close(fd);
}

int main(void)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	low_water();
	out_of_band(0);
	out_of_band(1);
	not_sent();
	states();
	return 0;
}
