/*
 * IPv6 where the stack has it, on ::1 (over a device ::1 is the kernel's, in either world): addresses and
 * their lengths, who may call whom, errors, options, bytes, the end. Both ends are here.
 */
#include "both.h"

static char buf[64];

static struct sockaddr_in6 six(const char *ip, int port)
{
	struct sockaddr_in6 a = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};

	inet_pton(AF_INET6, ip, &a.sin6_addr);
	return a;
}

static int port_of(int fd)
{
	struct sockaddr_in6 a = {0};
	socklen_t len = sizeof a;

	getsockname(fd, (struct sockaddr *)&a, &len);
	return ntohs(a.sin6_port);
}

static void show_address(const char *what, const struct sockaddr_in6 *a, socklen_t len, int known)
{
	char text[64] = "";

	inet_ntop(AF_INET6, &a->sin6_addr, text, sizeof text);
	SAY("%s: family %d, %s, port %s, flow %x, scope %u, %u bytes", what, a->sin6_family, text,
	    ntohs(a->sin6_port) == known ? "known"
	    : ntohs(a->sin6_port)	 ? "some"
					 : "0",
	    a->sin6_flowinfo, a->sin6_scope_id, len);
}

static void names(int fd, int own, int other)
{
	struct sockaddr_in6 a;
	socklen_t len;

	memset(&a, 0x55, len = sizeof a);
	SHOW(getsockname(fd, (struct sockaddr *)&a, &len));
	show_address("own", &a, len, own);
	memset(&a, 0x55, len = sizeof a);
	SHOW(getpeername(fd, (struct sockaddr *)&a, &len));
	show_address("peer", &a, len, other);
	for (socklen_t l = 0; l < 40; l += 13) {
		len = l;
		SHOW(getpeername(fd, (struct sockaddr *)&a, &len));
		SAY("%u of %u", len, l);
	}
}

static int listens_on(const char *ip)
{
	struct sockaddr_in6 a = six(ip, 0);
	int l = socket(AF_INET6, SOCK_STREAM, 0);

	SHOW(bind(l, (struct sockaddr *)&a, sizeof a));
	SHOW(listen(l, 4));
	return l;
}

static void pair_of(int *c, int *s, int l)
{
	struct sockaddr_in6 a = six("::1", port_of(l));
	socklen_t len = sizeof a;

	*c = socket(AF_INET6, SOCK_STREAM, 0);
	SHOW(connect(*c, (struct sockaddr *)&a, sizeof a));
	memset(&a, 0x55, sizeof a);
	SHOW((*s = accept(l, (struct sockaddr *)&a, &len)) >= 0);
	show_address("accepted", &a, len, port_of(*c));
}

static int get(int fd, int level, int name)
{
	int v = -1;
	socklen_t len = sizeof v;

	return getsockopt(fd, level, name, &v, &len) ? -errno : v;
}

static void options(int fd, const char *who)
{
	static const struct {
		int level, name;
	} asked[] = {{SOL_SOCKET, SO_DOMAIN},	   {SOL_SOCKET, SO_PROTOCOL},
		     {IPPROTO_IPV6, IPV6_V6ONLY},  {IPPROTO_IPV6, IPV6_UNICAST_HOPS},
		     {IPPROTO_IPV6, IPV6_TCLASS},  {IPPROTO_IPV6, IPV6_MTU_DISCOVER},
		     {IPPROTO_IPV6, IPV6_MTU},	   {IPPROTO_IPV6, IPV6_ADDRFORM},
		     {IPPROTO_IP, IP_TTL},	   {IPPROTO_IP, IP_TOS},
		     {IPPROTO_IPV6, IPV6_RECVERR}, {IPPROTO_IPV6, IPV6_AUTOFLOWLABEL},
		     {IPPROTO_TCP, TCP_NODELAY}};

	for (size_t i = 0; i < sizeof asked / sizeof *asked; i++)
		SAY("%s %d %d: %d", who, asked[i].level, asked[i].name,
		    get(fd, asked[i].level, asked[i].name));
	SHOW(setsockopt(fd, IPPROTO_IPV6, IPV6_UNICAST_HOPS, &(int){7}, sizeof(int)));
	SHOW(setsockopt(fd, IPPROTO_IPV6, IPV6_UNICAST_HOPS, &(int){256}, sizeof(int)));
	SHOW(setsockopt(fd, IPPROTO_IPV6, IPV6_UNICAST_HOPS, &(int){-1}, sizeof(int)));
	SHOW(setsockopt(fd, IPPROTO_IPV6, IPV6_TCLASS, &(int){0x20}, sizeof(int)));
	SHOW(setsockopt(fd, IPPROTO_IPV6, IPV6_TCLASS, &(int){-2}, sizeof(int)));
	SHOW(setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &(int){1}, sizeof(int)));
	SHOW(setsockopt(fd, IPPROTO_IPV6, IPV6_ADDRFORM, &(int){AF_INET}, sizeof(int)));
	SAY("hops %d class %d", get(fd, IPPROTO_IPV6, IPV6_UNICAST_HOPS), get(fd, IPPROTO_IPV6, IPV6_TCLASS));
}

static void life(const char *ip)
{
	int l, c, s;

	SAY("-- listening on %s", ip);
	l = listens_on(ip);
	pair_of(&c, &s, l);
	names(c, port_of(c), port_of(l));
	names(s, port_of(l), port_of(c));
	options(c, "caller");
	options(s, "called");
	SHOW(send(c, "hello", 5, 0));
	SHOW(recv(s, buf, sizeof buf, 0));
	SHOW(sendto(s, "back", 4, 0, (struct sockaddr *)&(struct sockaddr_in6){0}, 28));
	SHOW(recv(c, buf, sizeof buf, 0));
	SHOW(shutdown(c, SHUT_WR));
	SHOW(recv(s, buf, sizeof buf, 0));
	SHOW(send(s, "last", 4, 0));
	close(s);
	SHOW(recv(c, buf, sizeof buf, MSG_WAITALL));
	SHOW(recv(c, buf, sizeof buf, 0));
	close(c);
	pair_of(&c, &s, l);
	setsockopt(s, SOL_SOCKET, SO_LINGER, &(struct linger){1, 0}, sizeof(struct linger));
	close(s);
	SHOW(recv(c, buf, sizeof buf, 0));
	SHOW(get(c, SOL_SOCKET, SO_ERROR));
	close(c);
	close(l);
}

static void wrongly(bool fresh, int fd, int port)
{
	struct sockaddr_in four = address("127.0.0.1", port);
	struct sockaddr_in6 a = six("fe80::1", port);

	SAY("fresh %d:", fresh);
	if (fresh)
		SAY("under UTCP_REQUIRE the policy comes first");
	else
		SHOW(connect(fd, (struct sockaddr *)&a, sizeof a));
	SHOW(connect(fd, (struct sockaddr *)&four, sizeof four));
	a = six("ff02::1", port);
	SHOW(connect(fd, (struct sockaddr *)&a, sizeof a));
	a.sin6_family = AF_INET;
	SHOW(connect(fd, (struct sockaddr *)&a, sizeof a));
	a.sin6_family = 77;
	SHOW(connect(fd, (struct sockaddr *)&a, sizeof a));
}

static void errors(void)
{
	struct sockaddr_in6 a;
	int l = listens_on("::1"), port = port_of(l), fd = socket(AF_INET6, SOCK_STREAM, 0), other;

	SAY("-- errors");
	a = six("::1", port);
	SHOW(bind(fd, (struct sockaddr *)&a, sizeof a));
	SHOW(connect(fd, (struct sockaddr *)&a, 8));
	SHOW(connect(fd, (struct sockaddr *)&a, 24)); /* without a scope, as in RFC 2133 */
	SHOW(connect(fd, (struct sockaddr *)&a, sizeof a));
	close(fd);
	close(accept(l, NULL, NULL));
	close(l);
	fd = socket(AF_INET6, SOCK_STREAM, 0);
	SHOW(connect(fd, (struct sockaddr *)&a, sizeof a));
	wrongly(false, fd, port);
	close(fd);
	fd = socket(AF_INET6, SOCK_STREAM, 0);
	wrongly(true, fd, port);
	a = six("fe80::1", port);
	SHOW(bind(fd, (struct sockaddr *)&a, sizeof a));
	a = six("2001:db8::77", 0);
	SHOW(bind(fd, (struct sockaddr *)&a, sizeof a));
	a.sin6_family = AF_INET;
	SHOW(bind(fd, (struct sockaddr *)&a, sizeof a));
	a.sin6_family = 77;
	SHOW(bind(fd, (struct sockaddr *)&a, sizeof a));
	close(fd);
	other = socket(AF_INET, SOCK_STREAM, 0);
	a = six("::1", port);
	SHOW(connect(other, (struct sockaddr *)&a, sizeof a));
	SHOW(bind(other, (struct sockaddr *)&a, sizeof a));
	close(other);
	/* the unspecified address is this host; a v4 address that an IPv6-only socket may not call */
	l = listens_on("::");
	a = six("::", port_of(l));
	fd = socket(AF_INET6, SOCK_STREAM, 0);
	SHOW(connect(fd, (struct sockaddr *)&a, sizeof a));
	SHOW((other = accept(l, NULL, NULL)) >= 0);
	names(fd, port_of(fd), port_of(l));
	close(other);
	close(fd);
	fd = socket(AF_INET6, SOCK_STREAM, 0);
	SHOW(setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &(int){1}, sizeof(int)));
	a = six("::ffff:127.0.0.1", port_of(l));
	SHOW(connect(fd, (struct sockaddr *)&a, sizeof a));
	close(fd);
	close(l);
}

/* A mapped connection becomes one of IPv4. */
static void another_form(void)
{
	int port = (int)peer("listen"), fd = socket(AF_INET6, SOCK_STREAM, 0);
	char text[64];
	struct sockaddr_in6 a;
	struct sockaddr_in four = {0};
	socklen_t len = sizeof four;

	SAY("-- another form");
	SHOW(setsockopt(fd, IPPROTO_IPV6, IPV6_ADDRFORM, &(int){AF_INET}, sizeof(int)));
	snprintf(text, sizeof text, "::ffff:%s", peer_addr());
	a = six(text, port);
	SHOW(connect(fd, (struct sockaddr *)&a, sizeof a));
	peer("accept");
	SHOW(setsockopt(fd, IPPROTO_IPV6, IPV6_ADDRFORM, &(int){AF_INET6}, sizeof(int)));
	SHOW(setsockopt(fd, IPPROTO_IPV6, IPV6_ADDRFORM, &(int){AF_INET}, 3));
	SHOW(setsockopt(fd, IPPROTO_IPV6, IPV6_ADDRFORM, &(int){AF_INET}, sizeof(int)));
	SHOW(get(fd, SOL_SOCKET, SO_DOMAIN));
	SHOW(get(fd, IPPROTO_IPV6, IPV6_UNICAST_HOPS));
	SHOW(getpeername(fd, (struct sockaddr *)&four, &len));
	SAY("family %d, %u bytes, the port %d", four.sin_family, len, ntohs(four.sin_port) == port);
	SHOW(send(fd, "four", 4, 0));
	SHOW(peer("sum 4"));
	SHOW(shutdown(fd, SHUT_WR));
	SHOW(setsockopt(fd, IPPROTO_IPV6, IPV6_ADDRFORM, &(int){AF_INET}, sizeof(int)));
	close(fd);
	peer("close");
}

int main(void)
{
	peer("nap 0");
	life("::1");
	life("::");
	errors();
	another_form();
	return 0;
}
