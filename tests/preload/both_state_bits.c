/*
 * What poll, select and epoll say of a socket in every state of TCP: the level
 * as poll() shows it for all and for no events, the three sets of select(), and
 * a new member of an epoll set in each mode.
 */
#include "state.h"
#include <sys/epoll.h>

static int zero_poll(int fd)
{
	return polled(fd, 0, 0);
}

static const char *selected(int fd)
{
	static char text[64];
	fd_set r, w, x;
	struct timeval tv = {0, 0};
	int n;

	FD_ZERO(&r);
	FD_ZERO(&w);
	FD_ZERO(&x);
	FD_SET(fd, &r), FD_SET(fd, &w), FD_SET(fd, &x);
	n = select(fd + 1, &r, &w, &x, &tv);
	snprintf(text, sizeof text, "%d%s%s%s", n, FD_ISSET(fd, &r) ? " r" : "", FD_ISSET(fd, &w) ? " w" : "",
		 FD_ISSET(fd, &x) ? " x" : "");
	return text;
}

/* One member added with `mode`: what the first, the second wait and one after MOD say. */
static void epolled(int fd, uint32_t mode, const char *name)
{
	int ep = epoll_create1(0), outer = epoll_create1(0);
	uint32_t want = mode & EPOLLEXCLUSIVE ? mode | EPOLLIN | EPOLLOUT
					      : mode | EPOLLIN | EPOLLOUT | EPOLLPRI | EPOLLRDHUP;
	struct epoll_event e = {.events = want, .data.u64 = 1}, got;

	epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e);
	printf("  %-14s", name);
	for (int i = 0; i < 2; i++)
		printf(" [%s]", epoll_wait(ep, &got, 1, 0) > 0 ? bit_names((int)got.events) : "");
	e.events = want;
	printf(" mod %d", epoll_ctl(ep, EPOLL_CTL_MOD, fd, &e) ? errno : 0);
	printf(" [%s]", epoll_wait(ep, &got, 1, 0) > 0 ? bit_names((int)got.events) : "");
	e = (struct epoll_event){.events = EPOLLIN, .data.u64 = 2};
	epoll_ctl(outer, EPOLL_CTL_ADD, ep, &e);
	printf(" outer %d, poll of it %s\n", epoll_wait(outer, &got, 1, 0),
	       bit_names(polled(ep, POLLIN | POLLOUT, 0)));
	close(ep);
	close(outer);
}

int main(void)
{
	signal(SIGPIPE, SIG_IGN);
	for (size_t i = 0; i < STATES; i++) {
		int fd = state_make(&states[i]);

		SAY("%s: tcp %d", states[i].name, tcp_state(fd));
		SAY("  poll %s; of nothing %s", bit_names(polled(fd, ALL_EVENTS, 0)),
		    bit_names(zero_poll(fd)));
		SAY("  select %s", selected(fd));
		epolled(fd, 0, "level");
		epolled(fd, EPOLLET, "edge");
		epolled(fd, EPOLLONESHOT, "oneshot");
		epolled(fd, EPOLLEXCLUSIVE, "exclusive");
		close(fd);
		drop_extras();
	}
	return 0;
}
