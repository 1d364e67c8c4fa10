/*
 * setsockopt() and getsockopt() of every number of the four levels that a TCP socket answers, in states that
 * differ in who owns the socket and what may still be changed: values of all sizes, in and out of range, no
 * memory, and what the option is after each that was taken. A socket for each number, so that none hides
 * another's effect. (both_option_sizes looks at the reading alone, byte by byte; both_option_early at what
 * was set before a socket's fate was decided.)
 */
#include "state.h"

#pragma GCC diagnostic ignored "-Wnonnull"

static const struct {
	const char *name;
	int level, last;
} levels[] = {{"SOL_SOCKET", SOL_SOCKET, 100},
	      {"IPPROTO_TCP", IPPROTO_TCP, 60},
	      {"IPPROTO_IP", IPPROTO_IP, 63},
	      {"IPPROTO_IPV6", IPPROTO_IPV6, 100}};

/* iptables answers where its modules are loaded; the machine's own congestion control may have figures. */
static bool of_the_machine(int level, int name)
{
	return (level == IPPROTO_TCP && name == TCP_CC_INFO) ||
	       (level == IPPROTO_IPV6 && name != IPV6_RECVTCLASS && name != IPV6_TCLASS &&
		((name >= 64 && name <= 69) || name == 80));
}

/* Buffer sizes, clocks, MSS and the like: results are compared, values are not. */
static bool varies(int level, int name)
{
	switch (level) {
	case SOL_SOCKET:
		return name == SO_SNDBUF || name == SO_RCVBUF || name == SO_RCVLOWAT || name == SO_COOKIE ||
		       name == SO_PEERNAME || name == SO_INCOMING_CPU || name == SO_INCOMING_NAPI_ID ||
		       name == SO_MEMINFO;
	case IPPROTO_TCP:
		return name == TCP_MAXSEG || name == TCP_INFO || name == TCP_CONGESTION ||
		       name == TCP_WINDOW_CLAMP || name == TCP_TIMESTAMP ||
		       name == TCP_QUICKACK; /* until an ACK has waited in vain */
	case IPPROTO_IPV6:
		return name == IPV6_MTU;
	default:
		return name == IP_MTU || name == 52; /* IP_PROTOCOL */
	}
}

static const char *answer(long r)
{
	return r < 0 ? strerrorname_np(errno) : "0";
}

static void get_one(int fd, int level, int name, int size)
{
	unsigned char b[256];
	socklen_t len = (socklen_t)size;

	memset(b, 0xee, sizeof b);
	if (getsockopt(fd, level, name, b, &len)) {
		printf(" %s", strerrorname_np(errno));
		return;
	}
	printf(" %u", len);
	for (socklen_t n = 0; n < len && n < 16 && !varies(level, name); n++)
		printf("%s%02x", n ? "" : "=", b[n]);
}

static void gets(int fd, int level, int name)
{
	static const int sizes[] = {0, 1, 3, 4, 8, -1};

	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
		get_one(fd, level, name, sizes[i]);
	printf(" nowhere %s", answer(getsockopt(fd, level, name, NULL, &(socklen_t){4})));
	printf(" no length %s", answer(getsockopt(fd, level, name, &(int){0}, NULL)));
}

struct seen {
	unsigned char value[128];
	socklen_t len;
	int error;
};

static struct seen look(int fd, int level, int name)
{
	struct seen s = {.len = sizeof s.value};

	s.error = getsockopt(fd, level, name, s.value, &s.len) ? errno : 0;
	return s;
}

static bool same(const struct seen *a, const struct seen *b)
{
	return a->error == b->error &&
	       (a->error || (a->len == b->len && !memcmp(a->value, b->value, a->len)));
}

static const char ones[64] = {1, 0, 0, 0, 1};
static const struct {
	const char *text;
	const void *value;
	int len;
} values[] = {
    {"empty", ones, 0},	    {"1 byte", ones, 1},	 {"3 bytes", ones, 3},
    {"nowhere", NULL, 4},   {"nowhere, empty", NULL, 0}, {"0", &(int){0}, 4},
    {"1", ones, 4},	    {"-1", &(int){-1}, 4},	 {"2^31-1", &(int){0x7fffffff}, 4},
    {"8 bytes", ones, 8},   {"16 bytes", ones, 16},	 {"64 bytes", ones, 64},
    {"too long", ones, -1},
};

/* Each value meets the option as it was at first. */
static int sets(const struct state *s, int fd, const char *kind, int level, int name)
{
	struct seen first = look(fd, level, name), now;

	for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
		int r = setsockopt(fd, level, name, values[i].value, (socklen_t)values[i].len);

		printf("%s %s: %s", kind, values[i].text, answer(r));
		now = look(fd, level, name);
		if (!r && first.error)
			printf(", unseen"); /* there to be set, not to be read */
		if (!r && !varies(level, name) && !same(&now, &first)) {
			printf(", is");
			get_one(fd, level, name, 4);
		}
		printf("\n");
		if (same(&now, &first))
			continue;
		if (!first.error)
			setsockopt(fd, level, name, first.value, first.len);
		now = look(fd, level, name);
		if (!same(&now, &first)) {
			close(fd);
			drop_extras();
			fd = state_make(s);
			first = look(fd, level, name);
		}
	}
	return fd;
}

static int six(int (*then)(int))
{
	int fd = socket(AF_INET6, SOCK_STREAM, 0);

	return then(fd);
}

static int connect6(int fd)
{
	int port = (int)peer("listen");
	struct sockaddr_in6 a = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};
	char text[64];

	snprintf(text, sizeof text, "::ffff:%s", peer_addr());
	inet_pton(AF_INET6, text, &a.sin6_addr);
	return connect(fd, (struct sockaddr *)&a, sizeof a) ? -1 : (peer("accept"), fd);
}

/* After these no connection, or not to there. */
static bool fate_known(int level, int name)
{
	return (level == SOL_SOCKET && (name == SO_DONTROUTE || name == 62 /* SO_BINDTOIFINDEX */)) ||
	       (level == IPPROTO_TCP && (name == TCP_REPAIR || name == TCP_FASTOPEN_CONNECT)) ||
	       (level == IPPROTO_IPV6 && name == IPV6_V6ONLY);
}

static int listen6(int fd)
{
	listen(fd, 3);
	return fd;
}

static int as_is(int fd)
{
	return fd;
}

static int fresh6(void)
{
	return six(as_is);
}

static int connected6(void)
{
	return six(connect6);
}

static int listening6(void)
{
	return six(listen6);
}

static const struct state swept[] = {
    {"fresh", fresh, -1, -1},
    {"fresh6", fresh6, -1, -1},
    {"bound", bound, -1, -1},
    {"listening", listens, 0, 10},
    {"listening6", listening6, 0, 10},
    {"connecting", connecting, 0, 2},
    {"connected", idle, OUT, 1},
    {"connected6", connected6, OUT, 1},
    {"accepted", accepted, OUT, 1},
    {"SHUT_WR", shut_wr, OUT, 5},
    {"peer closed", peer_closed, IN | OUT | POLLRDHUP, 8},
    {"refused", refused_now, -1, 7},
    {"reset", reset_idle, GONE | POLLERR, 7},
    {"disconnected", disconnected, -1, 7},
};

static void sweep(const struct state *s, const char *level_name, int level, int name)
{
	int fd = state_make(s);
	char kind[64];

	snprintf(kind, sizeof kind, "%s %s %d", s->name, level_name, name);
	printf("%s get:", kind);
	gets(fd, level, name);
	printf("\n");
	close(sets(s, fd, kind, level, name));
	drop_extras();
}

/* Set while the socket's fate was open: what it is on the connection. */
static void before_connect(int family, const char *level_name, int level, int name)
{
	int fd = socket(family, SOCK_STREAM, 0), r = setsockopt(fd, level, name, &(int){1}, sizeof(int));

	printf("%d before connect %s %d: %s,", family == AF_INET6, level_name, name, answer(r));
	if (r || fate_known(level, name))
		goto done;
	r = family == AF_INET ? connect_to(fd, peer_addr(), (int)peer("listen")) : connect6(fd) < 0 ? -1 : 0;
	printf(" %s,", answer(r));
	if (family == AF_INET && !r)
		peer("accept");
	get_one(fd, level, name, 4);
done:
	printf("\n");
	close(fd);
}

/* On the listener: what it is on a connection that was accepted. */
static void before_listen(int family, const char *level_name, int level, int name)
{
	int l = socket(family, SOCK_STREAM, 0), r = setsockopt(l, level, name, &(int){1}, sizeof(int)), fd;
	struct sockaddr_in6 a;
	socklen_t len = sizeof a;

	printf("%d before listen %s %d: %s,", family == AF_INET6, level_name, name, answer(r));
	if (r || fate_known(level, name))
		goto done;
	r = listen(l, 2);
	printf(" %s,", answer(r));
	if (r)
		goto done;
	get_one(l, level, name, 4);
	getsockname(l, (struct sockaddr *)&a, &len);
	peer_later("connect %d", ntohs(a.sin6_port));
	peer_later("send 1"); /* for TCP_DEFER_ACCEPT */
	peer_answer();
	fd = accept(l, NULL, NULL);
	peer_answer();
	printf(", accepted");
	get_one(fd, level, name, 4);
	close(fd);
done:
	printf("\n");
	close(l);
}

static void shown(int fd, const char *text, int level, int name)
{
	int v = -1;
	socklen_t len = sizeof v;

	printf("%s %s", text, answer(getsockopt(fd, level, name, &v, &len)));
	SAY(" %d", v);
}

/* What setting one changes in another, and the most that there may be. */
static void together(void)
{
	static const int tos[] = {0x10, 0x10, 0x08, 0x1b, 0xb8, 0x20, 0};
	int fd, l = listens();

	setsockopt(l, IPPROTO_IP, IP_TOS, &(int){0x10}, sizeof(int));
	shown(l, "listener's priority", SOL_SOCKET, SO_PRIORITY);
	peer("connect %d", listener_port);
	fd = accept(l, NULL, NULL);
	shown(fd, "its connection's", SOL_SOCKET, SO_PRIORITY);
	for (size_t i = 0; i < sizeof tos / sizeof *tos; i++) {
		SHOW(setsockopt(fd, IPPROTO_IP, IP_TOS, &tos[i], sizeof(int)));
		shown(fd, "type of service", IPPROTO_IP, IP_TOS);
		shown(fd, "priority", SOL_SOCKET, SO_PRIORITY);
		setsockopt(fd, SOL_SOCKET, SO_PRIORITY, &(int){3}, sizeof(int));
	}
	SHOW(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &(int){30000}, sizeof(int)));
	SHOW(setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &(int){50000}, sizeof(int)));
	shown(fd, "low water", SOL_SOCKET, SO_RCVLOWAT);
	SHOW(setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &(int){-1}, sizeof(int)));
	shown(fd, "low water", SOL_SOCKET, SO_RCVLOWAT);
	close(fd);
	close(l);
	fd = socket(AF_INET, SOCK_STREAM, 0);
	setsockopt(fd, IPPROTO_IP, IP_TOS, &(int){0x08}, sizeof(int));
	connect_to(fd, peer_addr(), (int)peer("listen"));
	peer("accept");
	shown(fd, "connected with a type of service", SOL_SOCKET, SO_PRIORITY);
	close(fd);
}

int main(void)
{
	setvbuf(stdout, NULL, _IOFBF, 1 << 16);
	together();
	for (size_t i = 0; i < sizeof swept / sizeof *swept; i++)
		for (size_t k = 0; k < sizeof levels / sizeof *levels; k++)
			for (int name = 0; name <= levels[k].last; name++)
				if (!of_the_machine(levels[k].level, name))
					sweep(&swept[i], levels[k].name, levels[k].level, name);
	for (size_t k = 0; k < sizeof levels / sizeof *levels; k++)
		for (int name = 0; name <= levels[k].last; name++) {
			if (of_the_machine(levels[k].level, name))
				continue;
			for (int i = 0; i < 2; i++) {
				before_connect(i ? AF_INET6 : AF_INET, levels[k].name, levels[k].level, name);
				before_listen(i ? AF_INET6 : AF_INET, levels[k].name, levels[k].level, name);
			}
		}
	return 0;
}
