/*
 * Every bit of the flags that calls on sockets take, one at a time: what the call answers, what is left to be
 * read after it, and what it set.
 */
#include "both.h"
#include <sys/epoll.h>

static char buf[64];

static int left(int fd)
{
	int n = -1;

	ioctl(fd, FIONREAD, &n);
	return n;
}

static int with_ten(void)
{
	int fd = connected();

	peer("send 10");
	for (int i = 0; i < 5000 && left(fd) < 10; i++)
		nap(1);
	return fd;
}

static void told(const char *what, int bit, long r, int fd)
{
	int e = errno;

	printf("%s %08x: %ld %s", what, 1u << bit, r, r < 0 ? strerrorname_np(e) : "");
	SAY(", left %d, bits %x", left(fd), polled(fd, -1 & ~POLLHUP, 0));
}

static long receive(int fd, int how, int flags)
{
	struct iovec v = {buf, 4};
	struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1};
	struct mmsghdr mm = {.msg_hdr = m};
	long r;

	switch (how) {
	case 0:
		return recv(fd, buf, 4, flags);
	case 1:
		r = recvmsg(fd, &m, flags);
		printf("[flags %x] ", (unsigned int)m.msg_flags);
		return r;
	case 2:
		r = recvmmsg(fd, &mm, 1, flags, NULL);
		printf("[%u] ", r > 0 ? mm.msg_len : 0);
		return r;
	case 3:
		return preadv2(fd, &v, 1, -1, flags & ~MSG_DONTWAIT);
	default:
		return recv(fd, buf, 0, flags);
	}
}

static void receiving(void)
{
	static const char *const names[] = {"recv", "recvmsg", "recvmmsg", "preadv2", "recv of nothing"};

	for (int how = 0; how < 5; how++)
		for (int bit = 0; bit < 32; bit++) {
			int fd = with_ten();

			told(names[how], bit, receive(fd, how, (int)(1u << bit) | MSG_DONTWAIT), fd);
			close(fd);
			peer("close");
		}
}

static long transmit(int fd, int how, int flags)
{
	struct iovec v = {"abcd", 4};
	struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1};
	struct mmsghdr mm = {.msg_hdr = m};
	struct sockaddr_in sin = address(peer_addr(), 1);

	switch (how) {
	case 0:
		return send(fd, "abcd", 4, flags);
	case 1:
		return sendmsg(fd, &m, flags);
	case 2:
		return sendmmsg(fd, &mm, 1, flags);
	case 3:
		return pwritev2(fd, &v, 1, -1, flags);
	case 4:
		return sendto(fd, "abcd", 4, flags, (struct sockaddr *)&sin, sizeof sin);
	default:
		return send(fd, "", 0, flags);
	}
}

static void sending(void)
{
	static const char *const names[] = {"send",	"sendmsg", "sendmmsg",
					    "pwritev2", "sendto",  "send of nothing"};

	for (int how = 0; how < 6; how++)
		for (int bit = 0; bit < 32; bit++) {
			int fd = connected();

			told(names[how], bit, transmit(fd, how, (int)(1u << bit)), fd);
			shutdown(fd, SHUT_WR);
			SAY("came %ld", peer("sum 10"));
			close(fd);
			peer("close");
		}
}

static void others(void)
{
	int port, l = listening(&port, 40), fd = with_ten(), ep = epoll_create1(0), p[2], r;
	struct epoll_event e, got;

	nap(0);
	fcntl(l, F_SETFL, O_NONBLOCK);
	for (int bit = 0; bit < 32; bit++) {
		int c = accept4(l, NULL, NULL, (int)(1u << bit));

		printf("accept4 %08x: %s; ", 1u << bit, strerrorname_np(errno));
		peer("connect %d", port);
		polled(l, POLLIN, 5000);
		c = accept4(l, NULL, NULL, (int)(1u << bit));
		if (c < 0) {
			SAY("%s", strerrorname_np(errno));
			c = accept(l, NULL, NULL);
		} else {
			SAY("%x %x", (unsigned int)fcntl(c, F_GETFL), (unsigned int)fcntl(c, F_GETFD));
		}
		close(c);
		peer("close");
	}
	for (int bit = 0; bit < 32; bit++) {
		struct pollfd q = {fd, (short)(1u << bit), 0};

		if (bit < 16)
			SAY("poll %04x: %d %x", 1u << bit, poll(&q, 1, 0), (unsigned int)q.revents);
		e = (struct epoll_event){.events = 1u << bit};
		r = epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e);
		printf("epoll %08x: %s", 1u << bit, r ? strerrorname_np(errno) : "0");
		for (int i = 0; !r && i < 2; i++)
			printf(" %x", epoll_wait(ep, &got, 1, 0) > 0 ? got.events : 0);
		SAY("%s", epoll_ctl(ep, EPOLL_CTL_DEL, fd, NULL) ? " not there" : "");
		e.events |= EPOLLEXCLUSIVE;
		r = epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e);
		SAY("exclusive too: %s", r ? strerrorname_np(errno) : "0");
		epoll_ctl(ep, EPOLL_CTL_DEL, fd, NULL);
		r = epoll_create1((int)(1u << bit));
		SAY("epoll_create1: %s", r < 0 ? strerrorname_np(errno) : "0");
		close(r);
		r = dup3(fd, 700, (int)(1u << bit));
		SAY("dup3: %s", r < 0 ? strerrorname_np(errno) : "0");
		r = close_range(700, 700, (int)(1u << bit));
		SAY("close_range: %s, number %d", r < 0 ? strerrorname_np(errno) : "0", fcntl(700, F_GETFD));
		close(700);
		if (pipe(p))
			exit(1);
		/* SPLICE_F_NONBLOCK: no more than there is */
		r = (int)splice(fd, NULL, p[1], NULL, 0, 1u << bit);
		printf("splice: %s", r < 0 ? strerrorname_np(errno) : "0");
		r = (int)splice(p[0], NULL, fd, NULL, 1, 1u << bit | SPLICE_F_NONBLOCK);
		SAY(" %s", r < 0 ? strerrorname_np(errno) : "0");
		close(p[0]), close(p[1]);
		r = socket(AF_INET, SOCK_STREAM | (int)(1u << bit), 0);
		printf("socket: %s", r < 0 ? strerrorname_np(errno) : "0");
		if (r >= 0)
			printf(" %x %x", (unsigned int)fcntl(r, F_GETFL), (unsigned int)fcntl(r, F_GETFD));
		SAY("%s", "");
		close(r);
	}
	for (int how = -2; how < 6; how++) {
		int c = connected();

		SAY("shutdown %d: %s", how, shutdown(c, how) ? strerrorname_np(errno) : "0");
		close(c);
		peer("close");
	}
	close(ep), close(fd), close(l);
}

static volatile int pipes;

static void on_sigpipe(int sig)
{
	(void)sig;
	pipes++;
}

/* Writing where that is over, by each way that may keep the signal away. */
static void signals(void)
{
	struct iovec v = {"abcd", 4};
	int fd = connected();

	signal(SIGPIPE, on_sigpipe);
	shutdown(fd, SHUT_WR);
	for (int bit = 0; bit < 16; bit++) {
		pipes = 0;
		printf("over: pwritev2 %08x: %s", 1u << bit,
		       pwritev2(fd, &v, 1, -1, 1 << bit) < 0 ? strerrorname_np(errno) : "0");
		SAY(" SIGPIPE %d", pipes);
	}
	for (int bit = 0; bit < 32; bit++) {
		pipes = 0;
		printf("over: send %08x: %s", 1u << bit,
		       send(fd, "abcd", 4, (int)(1u << bit)) < 0 ? strerrorname_np(errno) : "0");
		SAY(" SIGPIPE %d", pipes);
	}
	close(fd);
	peer("close");
	signal(SIGPIPE, SIG_IGN);
}

/* Families, kinds and protocols: who makes what, and how it fails. */
static void kinds(void)
{
	static const int families[] = {AF_UNSPEC, AF_INET, AF_INET6, 99, -1};

	for (size_t f = 0; f < sizeof families / sizeof *families; f++)
		for (int type = -1; type < 12; type++)
			for (int proto = -1; proto < 300; proto += proto < 20 || proto > 250 ? 1 : 23) {
				/* no more modules of the machine than it takes */
				if (type == SOCK_RAW || type == SOCK_PACKET || type == SOCK_SEQPACKET ||
				    type == SOCK_DCCP || (type != SOCK_STREAM && proto > 0) ||
				    proto == IPPROTO_SCTP)
					continue;
				int fd = socket(families[f], type, proto);

				if (fd >= 0 || errno != EPROTONOSUPPORT)
					SAY("socket %d %d %d: %s", families[f], type, proto,
					    fd < 0 ? strerrorname_np(errno) : "0");
				if (fd >= 0)
					close(fd);
			}
}

int main(void)
{
	setvbuf(stdout, NULL, _IOFBF, 1 << 16);
	signal(SIGPIPE, SIG_IGN);
	peer("nap 0");
	receiving();
	sending();
	others();
	signals();
	kinds();
	return 0;
}
