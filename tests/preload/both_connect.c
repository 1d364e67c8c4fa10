/*
 * connect(2): blocking and not, twice, refused, in progress, interrupted,
 * SO_ERROR once, names before and after, the wrong family.
 */
#include "both.h"

static void names(const char *when, int fd)
{
	struct sockaddr_in a, b;
	socklen_t la = sizeof a, lb = sizeof b;
	char text[2][32];
	int r = getsockname(fd, (struct sockaddr *)&a, &la), q;

	inet_ntop(AF_INET, &a.sin_addr, text[0], 32);
	SAY("%s: own %d %s port %s, %u bytes", when, r, !strcmp(text[0], own_addr()) ? "(own)" : text[0],
	    a.sin_port ? "set" : "0", la);
	q = getpeername(fd, (struct sockaddr *)&b, &lb);
	if (q)
		SAY("%s: peer %s", when, strerrorname_np(errno));
	else
		SAY("%s: peer %s, %u bytes", when,
		    !strcmp(inet_ntop(AF_INET, &b.sin_addr, text[1], 32), peer_addr()) ? "(peer)" : text[1],
		    lb);
}

static int so_error(int fd)
{
	int e = 0;
	socklen_t len = sizeof e;
	getsockopt(fd, SOL_SOCKET, SO_ERROR, &e, &len);
	return e;
}

static void refused(void)
{
	int port = (int)peer("listen"), fd;

	peer("unlisten");
	fd = socket(AF_INET, SOCK_STREAM, 0);
	SAY("-- refused, blocking");
	SHOW(connect_to(fd, peer_addr(), port));
	SHOW(so_error(fd));
	names("refused", fd);
	SHOW(send(fd, "x", 1, MSG_NOSIGNAL));
	SHOW(recv(fd, &port, 1, 0));
	SHOW(connect_to(fd, peer_addr(), port));
	port = (int)peer("listen");
	SHOW(connect_to(fd, peer_addr(), port)); /* the same socket, now with a server */
	peer("accept");
	SHOW(send(fd, "x", 1, 0));
	SHOW(peer("recv 1"));
	close(fd);
	peer("close");

	port = (int)peer("listen");
	peer("unlisten");
	fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	SAY("-- refused, not blocking");
	SHOW(connect_to(fd, peer_addr(), port));
	SHOW(polled(fd, POLLIN | POLLOUT, 20000));
	SHOW(so_error(fd));
	SHOW(so_error(fd));
	SHOW(polled(fd, POLLIN | POLLOUT, 0));
	close(fd);
}

static void twice(void)
{
	int port = (int)peer("listen"), fd = socket(AF_INET, SOCK_STREAM, 0);

	SAY("-- twice");
	names("fresh", fd);
	SHOW(connect_to(fd, peer_addr(), port));
	names("connected", fd);
	SHOW(connect_to(fd, peer_addr(), port));
	SHOW(listen(fd, 1));
	peer("accept");
	close(fd);
	peer("close");

	fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	SAY("-- twice, not blocking");
	SHOW(connect_to(fd, peer_addr(), port));
	SHOW(polled(fd, POLLOUT, 20000));
	SHOW(connect_to(fd, peer_addr(), port));
	SHOW(connect_to(fd, peer_addr(), port));
	SHOW(so_error(fd));
	peer("accept");
	close(fd);
	peer("close");
}

static void wrong(void)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = 1};
	struct sockaddr_in sin = address(peer_addr(), 1);

	SAY("-- wrong arguments");
	SHOW(connect(fd, (struct sockaddr *)&in6, sizeof in6));
	SHOW(connect(fd, (struct sockaddr *)&sin, 4));
	sin.sin_family = AF_UNIX;
	SHOW(connect(fd, (struct sockaddr *)&sin, sizeof sin));
	SHOW(connect(fd, NULL, sizeof sin));
	SHOW(connect(999, (struct sockaddr *)&sin, sizeof sin));
	SHOW(listen(999, 1));
	SHOW(accept(fd, NULL, NULL));
	SHOW(shutdown(fd, SHUT_RDWR));
	close(fd);
}

/* AF_INET6 socket, IPv4-mapped address: names have the mapped shape. */
static void mapped(void)
{
	int port = (int)peer("listen"), fd = socket(AF_INET6, SOCK_STREAM, 0), v;
	struct sockaddr_in6 a = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};
	char text[64], addr[64];
	socklen_t len = sizeof a;

	SAY("-- v4-mapped");
	snprintf(text, sizeof text, "::ffff:%s", peer_addr());
	inet_pton(AF_INET6, text, &a.sin6_addr);
	SHOW(connect(fd, (struct sockaddr *)&a, sizeof a));
	peer("accept");
	SHOW(getpeername(fd, (struct sockaddr *)&a, &len));
	inet_ntop(AF_INET6, &a.sin6_addr, addr, sizeof addr);
	SAY("family %d, %u bytes, %s", a.sin6_family, len, strcmp(addr, text) ? addr : "the peer, mapped");
	len = 10;
	SHOW(getsockname(fd, (struct sockaddr *)&a, &len));
	SAY("%u bytes", len);
	len = sizeof v;
	SHOW(getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &v, &len));
	SAY("%d", v);
	SHOW(send(fd, "hello", 5, 0));
	SHOW(peer("recv 5"));
	close(fd);
	peer("close");
}

/* AF_UNSPEC dissolves the association. */
static void unspec(void)
{
	int fd = connected(), port;
	struct sockaddr sa = {.sa_family = AF_UNSPEC};

	SAY("-- AF_UNSPEC");
	SHOW(connect(fd, &sa, sizeof sa));
	SHOW(peer("recv 1"));
	port = (int)peer("listen");
	SHOW(connect_to(fd, peer_addr(), port));
	peer("accept");
	SHOW(send(fd, "x", 1, MSG_NOSIGNAL));
	SHOW(peer("recv 1"));
	close(fd);
}

int main(void)
{
	refused();
	twice();
	wrong();
	mapped();
	unspec();
	return 0;
}
