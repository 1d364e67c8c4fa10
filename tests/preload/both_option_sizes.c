/*
 * getsockopt() of every number that has a meaning for TCP, on connected sockets of both families that nobody
 * touched, with buffers of all sizes: result, error, length, and the value where it does not depend on the
 * path or the machine. (sshd ends a connection that comes with IP options: four bytes of IP_OPTIONS instead
 * of none were such.)
 */
#include "both.h"
#include <linux/sock_diag.h>

static const struct {
	const char *name;
	int level, last;
} levels[] = {{"SOL_SOCKET", SOL_SOCKET, 90},
	      {"IPPROTO_TCP", IPPROTO_TCP, 50},
	      {"IPPROTO_IP", IPPROTO_IP, 63},
	      {"IPPROTO_IPV6", IPPROTO_IPV6, 79}};

/* Buffer sizes, clocks, MSS, addresses and the like: looked at below, or by their own tests. */
static bool varies(int level, int name)
{
	switch (level) {
	case SOL_SOCKET:
		return name == SO_SNDBUF || name == SO_RCVBUF || name == SO_COOKIE || name == SO_PEERNAME ||
		       name == SO_INCOMING_CPU || name == SO_INCOMING_NAPI_ID || name == SO_MEMINFO;
	case IPPROTO_TCP:
		return name == TCP_MAXSEG || name == TCP_INFO || name == TCP_CONGESTION ||
		       name == TCP_WINDOW_CLAMP || name == TCP_TIMESTAMP;
	case IPPROTO_IPV6:
		return name == IPV6_MTU;
	default:
		return name == IP_MTU || name == 52; /* IP_PROTOCOL */
	}
}

/* The machine's own congestion control may have figures, and iptables answers where its modules are loaded.
 */
static bool of_the_machine(int level, int name)
{
	return (level == IPPROTO_TCP && name == TCP_CC_INFO) ||
	       (level == IPPROTO_IPV6 && name >= 64 && name <= 69 && name != IPV6_RECVTCLASS &&
		name != IPV6_TCLASS);
}

static void sizes(int fd, const char *family)
{
	static const socklen_t sizes[] = {0, 1, 3, 4, 7, 8, 12, 64, 128};

	for (size_t i = 0; i < sizeof levels / sizeof *levels; i++) {
		for (int name = 0; name <= levels[i].last; name++) {
			if (of_the_machine(levels[i].level, name))
				continue;
			printf("%s %s %d:", family, levels[i].name, name);
			for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
				unsigned char b[256];
				socklen_t len = sizes[k];

				memset(b, 0xee, sizeof b);
				if (getsockopt(fd, levels[i].level, name, b, &len)) {
					printf(" %s", strerrorname_np(errno));
					continue;
				}
				printf(" %u", len);
				for (socklen_t n = 0; n < len && !varies(levels[i].level, name); n++)
					printf("%s%02x", n ? "" : "=", b[n]);
			}
			printf("\n");
		}
	}
}

static int get(int fd, int level, int name)
{
	int v = -1;
	socklen_t len = sizeof v;

	return getsockopt(fd, level, name, &v, &len) ? -errno : v;
}

/* What varies, against what says the same. */
static void figures(int fd)
{
	struct sockaddr_in named = {0}, peer = {0}, own = {0};
	socklen_t len = sizeof named, peer_len = sizeof peer, own_len = sizeof own;
	uint32_t m[SK_MEMINFO_VARS], now;
	int size = 30000;

	SHOW(getsockopt(fd, SOL_SOCKET, SO_PEERNAME, &named, &len));
	SHOW(getpeername(fd, (struct sockaddr *)&peer, &peer_len));
	getsockname(fd, (struct sockaddr *)&own, &own_len);
	SAY("SO_PEERNAME is the peer: %d", len == peer_len && !memcmp(&named, &peer, len));
	SAY("IP_PROTOCOL is the local port: %d", get(fd, IPPROTO_IP, 52) == ntohs(own.sin_port));
	SAY("SO_BUF_LOCK %d", get(fd, SOL_SOCKET, SO_BUF_LOCK));
	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
	SAY("RCVBUF set: %d", get(fd, SOL_SOCKET, SO_BUF_LOCK));
	setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
	SAY("SNDBUF set: %d", get(fd, SOL_SOCKET, SO_BUF_LOCK));
	peer("send 10000");
	while (!ioctl(fd, FIONREAD, &size) && size < 10000)
		nap(1);
	len = sizeof m;
	SHOW(getsockopt(fd, SOL_SOCKET, SO_MEMINFO, m, &len));
	SAY("SO_MEMINFO: buffers %d %d, holds what is there %d, drops %u", m[SK_MEMINFO_RCVBUF] == 60000,
	    m[SK_MEMINFO_SNDBUF] == 60000, m[SK_MEMINFO_RMEM_ALLOC] >= 10000, m[SK_MEMINFO_DROPS]);
	now = (uint32_t)get(fd, IPPROTO_TCP, TCP_TIMESTAMP);
	nap(20);
	SAY("TCP_TIMESTAMP goes on: %d", (int)((uint32_t)get(fd, IPPROTO_TCP, TCP_TIMESTAMP) - now) >= 20);
	len = sizeof m;
	SHOW(setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "reno", 4));
	SHOW(getsockopt(fd, IPPROTO_TCP, TCP_CC_INFO, m, &len));
	SAY("of %u bytes", len);
}

/* To ask for what there is already is no request; to ask for more is: of a socket whose fate is open, too. */
static void defaults_set(int fd)
{
	struct timeval tv = {1, 500000}, got = {0, 0};
	socklen_t len = sizeof got;
	int off = 0;

	SHOW(setsockopt(fd, IPPROTO_IP, IP_PKTINFO, &off, sizeof off));
	SHOW(setsockopt(fd, IPPROTO_IP, IP_RECVTTL, &off, sizeof off));
	SHOW(setsockopt(fd, SOL_SOCKET, SO_RXQ_OVFL, &off, sizeof off));
	SHOW(setsockopt(fd, SOL_SOCKET, SO_SELECT_ERR_QUEUE, &off, sizeof off));
	SHOW(setsockopt(fd, SOL_SOCKET, 66, &tv, sizeof tv)); /* SO_RCVTIMEO_NEW */
	SHOW(getsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &got, &len));
	SAY("SO_RCVTIMEO %ld %ld", (long)got.tv_sec, (long)got.tv_usec);
	SHOW(setsockopt(fd, SOL_SOCKET, 67, &tv, 8)); /* SO_SNDTIMEO_NEW */
}

static int connected6(void)
{
	int port = (int)peer("listen"), fd = socket(AF_INET6, SOCK_STREAM, 0);
	struct sockaddr_in6 a = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};
	char text[64];

	snprintf(text, sizeof text, "::ffff:%s", peer_addr());
	inet_pton(AF_INET6, text, &a.sin6_addr);
	SHOW(connect(fd, (struct sockaddr *)&a, sizeof a));
	peer("accept");
	return fd;
}

int main(void)
{
	int fd = connected(), port;

	sizes(fd, "IPv4");
	figures(fd);
	defaults_set(fd);
	close(fd);
	fd = connected6();
	sizes(fd, "IPv6");
	close(fd);
	port = (int)peer("listen");
	fd = socket(AF_INET, SOCK_STREAM, 0);
	defaults_set(fd);
	SHOW(connect_to(fd, peer_addr(), port));
	close(fd);
	return 0;
}
