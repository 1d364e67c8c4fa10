/*
 * Socket options: defaults, what is read back, errors of wrong arguments,
 * truncated lengths, what an accepted socket inherits. tcp(7), socket(7), ip(7).
 */
#include "both.h"

struct opt {
	int level, name;
	const char *text;
	int set; /* a value to try; -99: none */
};
#define O(l, n, v)                                                                                           \
	{                                                                                                    \
		l, n, #n, v                                                                                  \
	}
static const struct opt opts[] = {
    O(SOL_SOCKET, SO_TYPE, -99),
    O(SOL_SOCKET, SO_PROTOCOL, -99),
    O(SOL_SOCKET, SO_DOMAIN, -99),
    O(SOL_SOCKET, SO_ACCEPTCONN, -99),
    O(SOL_SOCKET, SO_ERROR, -99),
    O(SOL_SOCKET, SO_KEEPALIVE, 1),
    O(SOL_SOCKET, SO_OOBINLINE, 7),
    O(SOL_SOCKET, SO_REUSEADDR, 1),
    O(SOL_SOCKET, SO_REUSEPORT, 1),
    O(SOL_SOCKET, SO_PRIORITY, 3),
    O(SOL_SOCKET, SO_BROADCAST, 1),
    O(SOL_SOCKET, SO_RCVLOWAT, 5),
    O(SOL_SOCKET, SO_SNDLOWAT, -99),
    O(SOL_SOCKET, SO_DONTROUTE, -99),
    O(SOL_SOCKET, SO_SNDBUF, 30000),
    O(SOL_SOCKET, SO_RCVBUF, 40000),
    O(IPPROTO_TCP, TCP_NODELAY, 1),
    O(IPPROTO_TCP, TCP_CORK, 1),
    O(IPPROTO_TCP, TCP_KEEPIDLE, 33),
    O(IPPROTO_TCP, TCP_KEEPINTVL, 11),
    O(IPPROTO_TCP, TCP_KEEPCNT, 4),
    O(IPPROTO_TCP, TCP_KEEPIDLE, 0),
    O(IPPROTO_TCP, TCP_KEEPIDLE, 40000),
    O(IPPROTO_TCP, TCP_KEEPCNT, 128),
    O(IPPROTO_TCP, TCP_SYNCNT, 3),
    O(IPPROTO_TCP, TCP_LINGER2, 9),
    O(IPPROTO_TCP, TCP_USER_TIMEOUT, 12345),
    O(IPPROTO_TCP, TCP_USER_TIMEOUT, -5),
    O(IPPROTO_TCP, TCP_NOTSENT_LOWAT, 16384),
    O(IPPROTO_TCP, TCP_QUICKACK, 1),
    O(IPPROTO_TCP, 250, 1),
    O(SOL_SOCKET, 999, 1),
    O(IPPROTO_IP, IP_TOS, 0x10),
    O(IPPROTO_IP, IP_TTL, 77),
    O(IPPROTO_IP, IP_TTL, 300),
    O(IPPROTO_IP, IP_MTU_DISCOVER, -99),
    O(12345, 1, 1),
};

/* Sizes that nobody set tune themselves: they differ, and may. */
static bool sizes_set;

static void get(int fd, const struct opt *o)
{
	if (!sizes_set && o->level == SOL_SOCKET && (o->name == SO_SNDBUF || o->name == SO_RCVBUF))
		return;
	int v = -1;
	socklen_t len = sizeof v;
	int r = getsockopt(fd, o->level, o->name, &v, &len);

	if (r)
		SAY("  get %-18s -1 %s", o->text, strerrorname_np(errno));
	else
		SAY("  get %-18s %d (%u bytes)", o->text, v, len);
}

static void one(int fd, const struct opt *o)
{
	get(fd, o);
	if (o->set == -99)
		return;
	int r = setsockopt(fd, o->level, o->name, &o->set, sizeof o->set);
	sizes_set = sizes_set || o->name == SO_SNDBUF;
	SAY("  set %-18s to %d: %s", o->text, o->set, r ? strerrorname_np(errno) : "ok");
	get(fd, o);
}

static void special(int fd)
{
	struct linger l = {1, 5};
	struct timeval tv = {2, 340000}, bad = {0, 1000000};
	char name[32] = "";
	unsigned char byte = 0;
	int v;
	socklen_t len = sizeof l;

	SHOW(getsockopt(fd, SOL_SOCKET, SO_LINGER, &l, &len));
	SAY("  linger %d %d", l.l_onoff, l.l_linger);
	l = (struct linger){1, 5};
	SHOW(setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, 4));
	SHOW(setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof l));
	memset(&l, 0, sizeof l);
	SHOW(getsockopt(fd, SOL_SOCKET, SO_LINGER, &l, &len));
	SAY("  linger %d %d", l.l_onoff, l.l_linger);
	l.l_onoff = 0;
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof l);

	SHOW(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &bad, sizeof bad));
	SHOW(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, 4));
	SHOW(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv));
	memset(&tv, 0, sizeof tv);
	len = sizeof tv;
	SHOW(getsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, &len));
	SAY("  %ld.%06ld, %u bytes", (long)tv.tv_sec, (long)tv.tv_usec, len);

	len = sizeof name;
	SHOW(setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "reno", 4));
	SHOW(getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name, &len));
	SAY("  %s, %u bytes", name, len);
	SHOW(setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "nonesuch", 8));
	len = 3;
	memset(name, 0, sizeof name);
	SHOW(getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name, &len));
	SAY("  %s, %u bytes", name, len);

	len = 1;
	SHOW(getsockopt(fd, IPPROTO_IP, IP_TOS, &byte, &len));
	SAY("  %u, %u bytes", byte, len);
	byte = 8;
	SHOW(setsockopt(fd, IPPROTO_IP, IP_TOS, &byte, 1));
	v = -1;
	len = 2;
	SHOW(getsockopt(fd, SOL_SOCKET, SO_TYPE, &v, &len));
	SAY("  %d, %u bytes", v & 0xffff, len);
	v = 1;
	SHOW(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &v, 2));
	SHOW(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &v, 0));
	SHOW(setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, NULL, 4));
	len = (socklen_t)-1;
	SHOW(getsockopt(fd, SOL_SOCKET, SO_TYPE, &v, &len));
	SHOW(getsockopt(fd, IPPROTO_IPV6, 26, &v, &len));
	SHOW(setsockopt(fd, SOL_SOCKET, SO_TYPE, &v, 4));
}

static void info(int fd)
{
	char buf[512];
	struct tcp_info *t = (struct tcp_info *)buf;
	socklen_t len = 8;

	memset(buf, 0x55, sizeof buf);
	SHOW(getsockopt(fd, IPPROTO_TCP, TCP_INFO, buf, &len));
	SAY("  %u bytes, state %u, next byte untouched %d", len, t->tcpi_state, buf[8] == 0x55);
	len = sizeof *t;
	SHOW(getsockopt(fd, IPPROTO_TCP, TCP_INFO, buf, &len));
	SAY("  %u bytes; rtt %s, cwnd %s, snd_mss %s, rto %s, pmtu %s, options %s", len,
	    t->tcpi_rtt ? "yes" : "0", t->tcpi_snd_cwnd ? "yes" : "0", t->tcpi_snd_mss > 500 ? "yes" : "0",
	    t->tcpi_rto >= 200000 ? "yes" : "0", t->tcpi_pmtu ? "yes" : "0",
	    (t->tcpi_options & 7) == 7 ? "yes" : "no");
}

int main(void)
{
	int port, fd, l, c, v = 1;
	socklen_t len = sizeof v;

	peer("nap 0");
	fd = socket(AF_INET, SOCK_STREAM, 0);
	SAY("before connect:");
	for (size_t i = 0; i < sizeof opts / sizeof opts[0]; i++)
		one(fd, &opts[i]);
	port = (int)peer("listen");
	SHOW(connect_to(fd, peer_addr(), port));
	peer("accept");
	SAY("carried over:");
	for (size_t i = 0; i < sizeof opts / sizeof opts[0]; i++)
		get(fd, &opts[i]);
	close(fd);
	peer("close");

	sizes_set = false;
	fd = connected();
	SAY("connected:");
	for (size_t i = 0; i < sizeof opts / sizeof opts[0]; i++)
		one(fd, &opts[i]);
	special(fd);
	info(fd);
	close(fd);
	peer("close");

	sizes_set = false;
	SAY("accepted:");
	l = listening(&port, 5);
	SHOW(setsockopt(l, IPPROTO_TCP, TCP_NODELAY, &v, sizeof v));
	SHOW(setsockopt(l, SOL_SOCKET, SO_KEEPALIVE, &v, sizeof v));
	SHOW(getsockopt(l, SOL_SOCKET, SO_ACCEPTCONN, &v, &len));
	SAY("  %d", v);
	peer("connect %d", port);
	c = accept(l, NULL, NULL);
	for (size_t i = 0; i < sizeof opts / sizeof opts[0]; i++)
		get(c, &opts[i]);
	return 0;
}
