/*
 * Options set before connect() and listen(): what a connected, a listening, an accepted socket and one whose
 * connection was refused say of them. And with values of no length, of one byte, and out of range, on each.
 */
#include "both.h"

#define OPTION(level, name, v)                                                                               \
	{                                                                                                    \
#name, level, name, v                                                                        \
	}

/* None that keeps the socket in the kernel: both_refused. */
static const struct {
	const char *text;
	int level, name, value;
} options[] = {
    OPTION(SOL_SOCKET, SO_SNDBUFFORCE, 300000),
    OPTION(SOL_SOCKET, SO_SNDBUF, 30000),
    OPTION(SOL_SOCKET, SO_RCVBUFFORCE, 300000),
    OPTION(SOL_SOCKET, SO_RCVBUF, 30000),
    OPTION(SOL_SOCKET, SO_RCVLOWAT, 7),
    OPTION(SOL_SOCKET, SO_PRIORITY, 4),
    OPTION(SOL_SOCKET, SO_MARK, 5),
    OPTION(SOL_SOCKET, SO_BUSY_POLL, 1),
    OPTION(SOL_SOCKET, SO_PREFER_BUSY_POLL, 1),
    OPTION(SOL_SOCKET, SO_INCOMING_CPU, 1),
    OPTION(SOL_SOCKET, SO_BROADCAST, 1),
    OPTION(SOL_SOCKET, SO_NO_CHECK, 1),
    OPTION(SOL_SOCKET, SO_DEBUG, 1),
    OPTION(SOL_SOCKET, SO_OOBINLINE, 1),
    OPTION(SOL_SOCKET, SO_KEEPALIVE, 1),
    OPTION(SOL_SOCKET, SO_REUSEADDR, 1),
    OPTION(SOL_SOCKET, SO_REUSEPORT, 1),
    OPTION(IPPROTO_TCP, TCP_NODELAY, 1),
    OPTION(IPPROTO_TCP, TCP_CORK, 1),
    OPTION(IPPROTO_TCP, TCP_KEEPIDLE, 50),
    OPTION(IPPROTO_TCP, TCP_KEEPINTVL, 51),
    OPTION(IPPROTO_TCP, TCP_KEEPCNT, 52),
    OPTION(IPPROTO_TCP, TCP_SYNCNT, 5),
    OPTION(IPPROTO_TCP, TCP_LINGER2, 54),
    OPTION(IPPROTO_TCP, TCP_DEFER_ACCEPT, 3),
    OPTION(IPPROTO_TCP, TCP_WINDOW_CLAMP, 20000),
    OPTION(IPPROTO_TCP, TCP_USER_TIMEOUT, 55000),
    OPTION(IPPROTO_TCP, TCP_NOTSENT_LOWAT, 4000),
    OPTION(IPPROTO_TCP, TCP_INQ, 1),
    OPTION(IPPROTO_IP, IP_TOS, 0x20),
    OPTION(IPPROTO_IP, IP_TTL, 44),
    OPTION(IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO),
    OPTION(IPPROTO_IP, IP_FREEBIND, 1),
    OPTION(IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1),
    OPTION(IPPROTO_IPV6, IPV6_UNICAST_HOPS, 33),
    OPTION(IPPROTO_IPV6, IPV6_TCLASS, 0x40),
    OPTION(IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_DO),
    OPTION(IPPROTO_IPV6, IPV6_AUTOFLOWLABEL, 0),
};
/* Off; and only the kernel has them. */
static const struct {
	const char *text;
	int level, name;
} only[] = {
    {"TCP_FASTOPEN_CONNECT", IPPROTO_TCP, TCP_FASTOPEN_CONNECT},
    {"IP_RECVERR", IPPROTO_IP, IP_RECVERR},
    {"IP_MINTTL", IPPROTO_IP, IP_MINTTL},
    {"IPV6_RECVERR", IPPROTO_IPV6, IPV6_RECVERR},
    {"SO_DONTROUTE", SOL_SOCKET, SO_DONTROUTE},
    {"TCP_REPAIR", IPPROTO_TCP, TCP_REPAIR},
    {"TCP_THIN_LINEAR_TIMEOUTS", IPPROTO_TCP, TCP_THIN_LINEAR_TIMEOUTS},
};
#define COUNT(a) (sizeof(a) / sizeof *(a))

static const char *answer(long r)
{
	return r < 0 ? strerrorname_np(errno) : "0";
}

static int make(int family)
{
	int fd = socket(family, SOCK_STREAM, 0);

	for (size_t i = 0; i < COUNT(options); i++) {
		int v = options[i].value;

		if (setsockopt(fd, options[i].level, options[i].name, &v, sizeof v))
			SAY("set %s: %s", options[i].text, strerrorname_np(errno));
	}
	return fd;
}

static void read_back(const char *kind, int fd)
{
	for (size_t i = 0; i < COUNT(options); i++) {
		int v = -1, r;
		socklen_t len = sizeof v;
		int level = options[i].level, name = options[i].name;

		if (name == SO_SNDBUFFORCE && level == SOL_SOCKET)
			name = SO_SNDBUF;
		if (name == SO_RCVBUFFORCE && level == SOL_SOCKET)
			name = SO_RCVBUF;
		r = getsockopt(fd, level, name, &v, &len);
		if (name == SO_INCOMING_CPU && level == SOL_SOCKET)
			continue; /* the one that it was, not the one that was asked for */
		SAY("%s: %s %s %d", kind, options[i].text, answer(r), v);
	}
}

static void badly(const char *kind, int fd, const char *text, int level, int name)
{
	int v = 1, huge = 0x7fffffff, minus = -2;

	printf("%s: %s: empty %s,", kind, text, answer(setsockopt(fd, level, name, &v, 0)));
	printf(" no memory %s,", answer(setsockopt(fd, level, name, NULL, 0)));
	printf(" a byte %s,", answer(setsockopt(fd, level, name, &v, 1)));
	printf(" minus two %s,", answer(setsockopt(fd, level, name, &minus, sizeof minus)));
	printf(" huge %s,", answer(setsockopt(fd, level, name, &huge, sizeof huge)));
	SAY(" too long %s", answer(setsockopt(fd, level, name, &v, (socklen_t)-1)));
}

static void wrong(const char *kind, int fd)
{
	for (size_t i = 0; i < COUNT(options); i++)
		badly(kind, fd, options[i].text, options[i].level, options[i].name);
	for (size_t i = 0; i < COUNT(only); i++) {
		int level = only[i].level, name = only[i].name, off = 0;

		printf("%s: %s: empty %s,", kind, only[i].text, answer(setsockopt(fd, level, name, &off, 0)));
		printf(" no memory %s,", answer(setsockopt(fd, level, name, NULL, 0)));
		printf(" a byte %s,", answer(setsockopt(fd, level, name, &off, 1)));
		printf(" off %s,", answer(setsockopt(fd, level, name, &off, sizeof off)));
		SAY(" too long %s", answer(setsockopt(fd, level, name, &off, (socklen_t)-1)));
	}
	SHOW(setsockopt(fd, IPPROTO_TCP, TCP_REPAIR, &(int){-2}, sizeof(int)));
	SHOW(setsockopt(fd, IPPROTO_IP, IP_MINTTL, &(int){256}, sizeof(int)));
}

static int to(int family, int fd, const char *ip, int port)
{
	struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};
	char text[64];

	if (family == AF_INET)
		return connect_to(fd, ip, port);
	snprintf(text, sizeof text, "::ffff:%s", ip);
	inet_pton(AF_INET6, text, &six.sin6_addr);
	return connect(fd, (struct sockaddr *)&six, sizeof six);
}

static void client(int family)
{
	int fd = make(family);

	read_back("open", fd);
	SHOW(to(family, fd, peer_addr(), (int)peer("listen")));
	peer("accept");
	read_back("connected", fd);
	wrong("connected", fd);
	close(fd);
	peer("close");
	fd = make(family);
	SHOW(to(family, fd, peer_addr(), 1));
	read_back("refused", fd);
	wrong("refused", fd);
	close(fd);
}

/* More than there may be without a privilege. */
static void forced(void)
{
	int v = 300000, minus = -1;

	for (int i = 0; i < 2; i++) {
		int get = 0, name = i ? SO_SNDBUF : SO_RCVBUF, force = i ? SO_SNDBUFFORCE : SO_RCVBUFFORCE;
		socklen_t len = sizeof get;
		int s = socket(AF_INET, SOCK_STREAM, 0);

		SHOW(setsockopt(s, SOL_SOCKET, force, &v, sizeof v));
		SHOW(connect_to(s, peer_addr(), (int)peer("listen")));
		peer("accept");
		getsockopt(s, SOL_SOCKET, name, &get, &len);
		SAY("carried over: %d", get);
		v = 400000;
		SHOW(setsockopt(s, SOL_SOCKET, name, &v, sizeof v));
		getsockopt(s, SOL_SOCKET, name, &get, &len);
		SAY("as everybody: %d", get);
		SHOW(setsockopt(s, SOL_SOCKET, force, &v, sizeof v));
		getsockopt(s, SOL_SOCKET, name, &get, &len);
		SAY("forced: %d", get);
		SHOW(setsockopt(s, SOL_SOCKET, force, &minus, sizeof minus));
		getsockopt(s, SOL_SOCKET, name, &get, &len);
		SAY("forced to nothing: %d", get);
		SHOW(setsockopt(s, SOL_SOCKET, force, &v, 1));
		SHOW(getsockopt(s, SOL_SOCKET, force, &get, &len));
		close(s);
		peer("close");
	}
}

static void server(int family)
{
	int l = make(family), fd;
	struct sockaddr_storage sa;
	socklen_t len = sizeof sa;

	SHOW(listen(l, 3));
	read_back("listening", l);
	getsockname(l, (struct sockaddr *)&sa, &len);
	peer_later("connect %d", ntohs(((struct sockaddr_in *)&sa)->sin_port));
	peer_later("send 1"); /* for TCP_DEFER_ACCEPT */
	peer_answer();
	fd = accept(l, NULL, NULL);
	peer_answer();
	read_back("accepted", fd);
	wrong("accepted", fd);
	close(fd);
	wrong("listening", l);
	close(l);
	peer("close");
}

int main(void)
{
	peer("nap 0");
	forced();
	for (int i = 0; i < 2; i++) {
		client(i ? AF_INET6 : AF_INET);
		server(i ? AF_INET6 : AF_INET);
	}
	return 0;
}
