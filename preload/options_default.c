/*
 * options_default.c - options that nobody has set: their value is the default, and a new
 * socket of the kernel's is asked for it.
 *
 * Theory of operation. Most options of IP and many of the socket level turn
 * something on that the stack does not have: a control message with the TTL, a
 * router alert, a lock on filters. While nobody has set them they are off, on a
 * stack socket as on any other, and "off" is the truth. What "off" looks like
 * (its length, a byte for a short buffer, EINVAL for a wrong one, ENODATA, an
 * option that this kernel does not know) is the kernel's to say, so no values
 * stand here: the number is looked up in the list of those whose default
 * describes the stack, and a socket that was made a moment ago answers.
 *
 * To set such an option to what it is already is no request either; anything
 * else keeps an undecided socket in the kernel. On a stack one a new socket judges
 * the value, too: what is wrong with it, or that it changes something, which is
 * ENOPROTOOPT.
 *
 * Not in the list, because the default would be a lie: SO_BPF_EXTENSIONS and
 * SO_TXREHASH (no filters, no hash to change), TCP_ZEROCOPY_RECEIVE (no pages to
 * map), IPV6_PATHMTU (no path with IPv6).
 *
 * ioctl() of interfaces, addresses and routes is such a new socket's to answer, too.
 *
 * Place in the flow: options.c, socket.c -> here.
 */
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "preload/fdtable.h"
#include "preload/socket.h"

#define VALUE_MAX 256

struct state {
	uint8_t value[VALUE_MAX];
	socklen_t len;
	int error;
};

/* clang-format off */
/* By number: the newer ones have no name in the headers of Debian 12. */
static const uint8_t of_socket[] = {
    14 /* BSDCOMPAT */,	   16 /* PASSCRED */,	   34 /* PASSSEC */,	 40 /* RXQ_OVFL */,
    41 /* WIFI_STATUS */,  43 /* NOFCS */,	   44 /* LOCK_FILTER */, 45 /* SELECT_ERR_QUEUE */,
    59 /* PEERGROUPS */,   62 /* BINDTOIFINDEX */, 63 /* TIMESTAMP */,	 64 /* TIMESTAMPNS */,
    65 /* TIMESTAMPING */, 73 /* RESERVE_MEM */,   75 /* RCVMARK */,	 76 /* PASSPIDFD */,
    77 /* PEERPIDFD */,	   82 /* RCVPRIORITY */,   83 /* PASSRIGHTS */,
};
static const uint8_t of_tcp[] = {
    17 /* THIN_DUPACK */,   20 /* REPAIR_QUEUE */,	 21 /* QUEUE_SEQ */, 28 /* SAVED_SYN */,
    29 /* REPAIR_WINDOW */, 34 /* FASTOPEN_NO_COOKIE */, 43 /* IS_MPTCP */,
};
static const uint8_t of_ip[] = {
    3 /* HDRINCL */,	    5 /* ROUTER_ALERT */,    6 /* RECVOPTS */,		7 /* RETOPTS */,
    8 /* PKTINFO */,	    9 /* PKTOPTIONS */,	     12 /* RECVTTL */,		13 /* RECVTOS */,
    18 /* PASSSEC */,	    19 /* TRANSPARENT */,    20 /* RECVORIGDSTADDR */,	22 /* NODEFRAG */,
    23 /* CHECKSUM */,	    25 /* RECVFRAGSIZE */,   26 /* RECVERR_RFC4884 */,	32 /* MULTICAST_IF */,
    33 /* MULTICAST_TTL */, 34 /* MULTICAST_LOOP */, 41 /* MSFILTER */,		48 /* MCAST_MSFILTER */,
    49 /* MULTICAST_ALL */, 50 /* UNICAST_IF */,     51 /* LOCAL_PORT_RANGE */,
};
static const uint8_t of_ipv6[] = {
    2 /* 2292PKTINFO */,           3 /* 2292HOPOPTS */,       4 /* 2292DSTOPTS */,
    5 /* 2292RTHDR */,             6 /* 2292PKTOPTIONS */,    8 /* 2292HOPLIMIT */,
    11 /* FLOWINFO */,             17 /* MULTICAST_IF */,     18 /* MULTICAST_HOPS */,
    19 /* MULTICAST_LOOP */,       22 /* ROUTER_ALERT */,     29 /* MULTICAST_ALL */,
    30 /* ROUTER_ALERT_ISOLATE */, 31 /* RECVERR_RFC4884 */,  32 /* FLOWLABEL_MGR */,
    33 /* FLOWINFO_SEND */,        48 /* MCAST_MSFILTER */,   49 /* RECVPKTINFO */,
    51 /* RECVHOPLIMIT */,         53 /* RECVHOPOPTS */,      54 /* HOPOPTS */,
    55 /* RTHDRDSTOPTS */,         56 /* RECVRTHDR */,        57 /* RTHDR */,
    58 /* RECVDSTOPTS */,          59 /* DSTOPTS */,          60 /* RECVPATHMTU */,
    62 /* DONTFRAG */,             66 /* RECVTCLASS */,       72 /* ADDR_PREFERENCES */,
    73 /* MINHOPCOUNT */,          74 /* RECVORIGDSTADDR */,  75 /* TRANSPARENT */,
    76 /* UNICAST_IF */,           77 /* RECVFRAGSIZE */,     78 /* FREEBIND */,
};
/* clang-format on */
static const struct {
	int level;
	const uint8_t *number;
	size_t count;
} lists[] = {
    {SOL_SOCKET, of_socket, ARRAY_LEN(of_socket)},
    {IPPROTO_TCP, of_tcp, ARRAY_LEN(of_tcp)},
    {IPPROTO_IP, of_ip, ARRAY_LEN(of_ip)},
    {IPPROTO_IPV6, of_ipv6, ARRAY_LEN(of_ipv6)},
};

bool untouched_lists(int level, int name)
{
	for (size_t i = 0; i < ARRAY_LEN(lists); i++)
		if (lists[i].level == level && name >= 0 && name <= UINT8_MAX)
			return memchr(lists[i].number, name, lists[i].count) != NULL;
	return false;
}

static int untouched_socket(bool v6)
{
	int fd;

	netio_births_begin();
	fd = (int)netio_fd_call(SYS_socket, v6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0, 0);
	fd = fd < 0 ? fd : netio_protect_fd(fd);
	netio_births_end();
	return fd;
}

/* The answer of a new socket, whatever the option. */
int untouched_ask(bool v6, int level, int name, void *value, socklen_t *len)
{
	int saved_errno = errno, fd = untouched_socket(v6), r;

	if (fd < 0) {
		errno = saved_errno;
		return fd;
	}
	r = sys.getsockopt(fd, level, name, value, len) ? -errno : 0;
	netio_unprotect_close(fd);
	errno = saved_errno;
	return r;
}

int untouched_ioctl(bool v6, unsigned long request, void *arg)
{
	int saved_errno = errno, fd = untouched_socket(v6), r;

	if (fd < 0) {
		errno = saved_errno;
		return fd;
	}
	r = sys.ioctl(fd, request, arg);
	r = r < 0 ? -errno : r;
	netio_unprotect_close(fd);
	errno = saved_errno;
	return r;
}

int untouched_try(bool v6, int level, int name, const void *value, socklen_t len, int *now)
{
	int saved_errno = errno, fd = untouched_socket(v6), r = 1;
	socklen_t size = sizeof *now;

	*now = 0;
	if (fd >= 0) {
		r = sys.setsockopt(fd, level, name, value, len) ? -errno : 0;
		if (!r && sys.getsockopt(fd, level, name, now, &size))
			r = 1;
		netio_unprotect_close(fd);
	}
	errno = saved_errno;
	return r;
}

int untouched_get(bool v6, int level, int name, void *value, socklen_t *len)
{
	return untouched_lists(level, name) ? untouched_ask(v6, level, name, value, len) : -ENOPROTOOPT;
}

/* What an option is: 256 bytes of it at most, or an error. */
static void read_state(int fd, int level, int name, struct state *s)
{
	s->len = sizeof s->value;
	s->error = sys.getsockopt(fd, level, name, s->value, &s->len) ? errno : 0;
}

static bool same_state(const struct state *a, const struct state *b)
{
	return !a->error && !b->error && a->len == b->len && !memcmp(a->value, b->value, a->len);
}

int untouched_judge(bool v6, int level, int name, const void *value, socklen_t len)
{
	int saved_errno = errno, fd = untouched_socket(v6), r;
	struct state before, after;

	if (fd >= 0) {
		read_state(fd, level, name, &before);
		r = sys.setsockopt(fd, level, name, value, len) ? -errno : 0;
		read_state(fd, level, name, &after);
		netio_unprotect_close(fd);
		r = r ? r : !same_state(&before, &after);
	} else {
		r = -ENOBUFS;
	}
	errno = saved_errno;
	return r;
}

bool untouched_still(int fd, int level, int name)
{
	struct state now, def = {.len = sizeof def.value};
	socklen_t size = sizeof(int);
	int family = AF_INET;

	read_state(fd, level, name, &now);
	if (!untouched_lists(level, name) || sys.getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &family, &size))
		return false;
	def.error = untouched_ask(family == AF_INET6, level, name, def.value, &def.len);
	return same_state(&now, &def);
}
