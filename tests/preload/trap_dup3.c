/*
 * Trap 35: dup2() and dup3() over registered descriptors, in every combination
 * of a pipe, a connection, a listener, an undecided socket and an epoll set.
 */
#include "peer.h"

enum kind { PIPE, STREAM, LISTENER, FRESH, SET, KINDS };
static const char *const kind_name[] = {"pipe", "stream", "listener", "fresh", "set"};

static int made[KINDS * KINDS * 4], made_count;

/* A readable one of its kind, but for the undecided socket. */
static int make(enum kind k)
{
	int p[2], port, fd = -1;

	switch (k) {
	case PIPE:
		if (pipe(p) || write(p[1], "x", 1) != 1)
			exit(1);
		made[made_count++] = p[1];
		fd = p[0];
		break;
	case STREAM:
		fd = peer_connect("wx s");
		break;
	case LISTENER:
		fd = listen_any(&port);
		made[made_count++] = peer_call_back(port, "s");
		break;
	case FRESH:
		fd = socket(AF_INET, SOCK_STREAM, 0);
		break;
	default:
		if (pipe(p) || write(p[1], "x", 1) != 1)
			exit(1);
		fd = epoll_create1(0);
		ep_add(fd, p[0], EPOLLIN, 9);
		made[made_count++] = p[1];
		made[made_count++] = p[0];
	}
	if (k != FRESH && poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, 3000) != 1)
		printf("%s is not ready\n", kind_name[k]);
	return fd;
}

static void over(enum kind from_kind, enum kind to_kind, int flags)
{
	int ep = epoll_create1(0), from = make(from_kind), to = make(to_kind), r;
	char what[64];

	made_count = 0;
	snprintf(what, sizeof what, "%s over %s%s", kind_name[from_kind], kind_name[to_kind],
		 flags ? " CLOEXEC" : "");
	ep_add(ep, from, EPOLLIN, 1);
	ep_add(ep, to, EPOLLIN, 2);
	fcntl(from, F_SETFL, O_NONBLOCK);
	r = dup3(from, to, flags);
	printf("%s: %s, FD %d, NONBLOCK %d\n", what, r == to ? "yes" : result_text(r), fcntl(to, F_GETFD),
	       (fcntl(to, F_GETFL) & O_NONBLOCK) != 0);
	ep_show("  members", ep, 8, from_kind == FRESH ? 50 : 1000);
	printf("  mod the lost one: %s\n", result_text(ep_mod(ep, to, EPOLLIN, 3)));
	printf("  add the new one: %s\n", result_text(ep_add(ep, to, EPOLLIN, 4)));
	close(from);
	ep_show("  first number closed", ep, 8, 0);
	printf("  del: %s\n", result_text(epoll_ctl(ep, EPOLL_CTL_DEL, to, NULL)));
	ep_show("  deleted", ep, 8, 0);
	close(to);
	ep_show("  closed", ep, 8, 0);
	close(ep);
	for (int i = 0; i < made_count; i++)
		close(made[i]);
}

/* The number that dup3() took over decides its side later: connect() through either. */
static void decided_later(void)
{
	struct sockaddr_in a = peer_address();
	int ep = epoll_create1(0), s = socket(AF_INET, SOCK_STREAM, 0), old = peer_connect("s"), one = 1;
	socklen_t len = sizeof one;
	char b[4] = "";

	ep_add(ep, old, EPOLLIN, 1);
	setsockopt(s, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
	dup3(s, old, O_CLOEXEC);
	ep_add(ep, s, EPOLLIN, 2);
	ep_add(ep, old, EPOLLIN, 3);
	printf("connect: %s\n", result_text(connect(old, (struct sockaddr *)&a, sizeof a)));
	peer_script(s, "wabc s");
	ep_show("both", ep, 8, 20000);
	one = 0;
	getsockopt(old, SOL_SOCKET, SO_KEEPALIVE, &one, &len);
	printf("keepalive %d, FD %d and %d\n", one, fcntl(s, F_GETFD), fcntl(old, F_GETFD));
	printf("read: %s", result_text(read(s, b, 3)));
	printf(" '%s'\n", b);
	close(s);
	printf("the other lives: %s\n", result_text(send(old, "x", 1, 0)));
	ep_show("none", ep, 8, 0);
	close(old);
	close(ep);
}

int main(void)
{
	for (int from = 0; from < KINDS; from++)
		for (int to = 0; to < KINDS; to++)
			over((enum kind)from, (enum kind)to, (from + to) % 2 ? O_CLOEXEC : 0);
	decided_later();
	return 0;
}
