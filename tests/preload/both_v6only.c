/*
 * IPV6_V6ONLY is changed as long as the socket has no port, also again after a connection that failed, was
 * dissolved or has ended; then a mapped address is out of reach. What is accepted has it from its listener.
 */
#include "both.h"

static struct sockaddr_in6 mapped(const char *ip, int port)
{
	struct sockaddr_in6 a = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};
	char text[64];

	snprintf(text, sizeof text, "::ffff:%s", ip);
	inet_pton(AF_INET6, text, &a.sin6_addr);
	return a;
}

static int connect_mapped(int fd, int port)
{
	struct sockaddr_in6 a = mapped(peer_addr(), port);

	return connect(fd, (struct sockaddr *)&a, sizeof a);
}

static int v6only(int fd)
{
	socklen_t len = sizeof(int);
	int v = -1;

	return getsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &v, &len) ? -1 : v;
}

static int change(int fd, int v, size_t len)
{
	return setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &v, (socklen_t)len);
}

#define IN(state, call) (printf("%s, ", state), SHOW(call))

static void look(const char *state, int fd)
{
	IN(state, v6only(fd));
	IN(state, change(fd, 1, sizeof(int)));
	IN(state, v6only(fd));
	IN(state, change(fd, 7, 1));
	IN(state, change(fd, 0, 0));
	IN(state, setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, NULL, sizeof(int)));
	IN(state, change(fd, 0, sizeof(int)));
	IN(state, v6only(fd));
}

/* Where nobody is. */
static int some_port(void)
{
	int fd = socket(AF_INET6, SOCK_STREAM, 0);
	struct sockaddr_in6 own = mapped(own_addr(), 0);
	socklen_t len = sizeof own;

	bind(fd, (struct sockaddr *)&own, sizeof own);
	getsockname(fd, (struct sockaddr *)&own, &len);
	close(fd);
	return ntohs(own.sin6_port);
}

static void refused(bool bound, int port)
{
	int fd = socket(AF_INET6, SOCK_STREAM, 0);
	struct sockaddr_in6 own = mapped(own_addr(), port);

	if (bound)
		SHOW(bind(fd, (struct sockaddr *)&own, sizeof own));
	SHOW(connect_mapped(fd, 1));
	look(!bound ? "refused" : port ? "of this port, refused" : "bound, refused", fd);
	if (!bound) {
		SHOW(change(fd, 1, sizeof(int)));
		SHOW(connect_mapped(fd, 1));
		SHOW(change(fd, 0, sizeof(int)));
		SHOW(connect_mapped(fd, (int)peer("listen")));
		peer("accept");
		SHOW(connect_mapped(fd, 1));
		peer("close");
	}
	close(fd);
}

static void ends(void)
{
	struct sockaddr none = {.sa_family = AF_UNSPEC};
	int fd = socket(AF_INET6, SOCK_STREAM, 0);
	char c;

	SHOW(connect_mapped(fd, (int)peer("listen")));
	peer("accept");
	look("connected", fd);
	SHOW(connect(fd, &none, sizeof none));
	look("dissolved", fd);
	peer("close");
	SHOW(connect_mapped(fd, (int)peer("listen")));
	peer("accept");
	peer("rst");
	SHOW(recv(fd, &c, 1, 0));
	look("reset", fd);
	close(fd);
	fd = socket(AF_INET, SOCK_STREAM, 0);
	SHOW(connect_to(fd, peer_addr(), 1));
	look("of another family", fd);
	close(fd);
}

static void accepted(void)
{
	struct sockaddr_in6 own = mapped(own_addr(), 0);
	int l = socket(AF_INET6, SOCK_STREAM, 0), c;
	socklen_t len = sizeof own;

	SHOW(bind(l, (struct sockaddr *)&own, sizeof own));
	SHOW(listen(l, 3));
	look("listening", l);
	getsockname(l, (struct sockaddr *)&own, &len);
	peer("connect %d", ntohs(own.sin6_port));
	SHOW((c = accept(l, NULL, NULL)) > 0);
	look("accepted", c);
	peer("close");
	close(c);
	close(l);
	/* on IPv6 alone */
	own = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_addr = in6addr_loopback};
	l = socket(AF_INET6, SOCK_STREAM, 0);
	SHOW(bind(l, (struct sockaddr *)&own, sizeof own));
	SHOW(listen(l, 3));
	SHOW(v6only(l));
	getsockname(l, (struct sockaddr *)&own, &len);
	int fd = socket(AF_INET6, SOCK_STREAM, 0);
	SHOW(connect(fd, (struct sockaddr *)&own, sizeof own));
	SHOW((c = accept(l, NULL, NULL)) > 0);
	SHOW(v6only(fd));
	SHOW(v6only(c));
	close(c);
	close(fd);
	close(l);
}

int main(void)
{
	refused(false, 0);
	refused(true, 0);
	refused(true, some_port());
	ends();
	accepted();
	return 0;
}
