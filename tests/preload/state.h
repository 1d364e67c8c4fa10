/*
 * state.h - a socket in each state that TCP knows, for the programs that look at
 * it (both_state_bits.c, both_state_calls.c, both_option_sweep.c).
 *
 * Each state has a function that makes it, and says which poll() bits and
 * tcpi_state the kernel shows there: what is waited for before the program looks
 * (at most SETTLE_MS; what came instead is printed and differs).
 */
#ifndef TESTS_PRELOAD_STATE_H
#define TESTS_PRELOAD_STATE_H

#include "both.h"

#define SETTLE_MS 2000

struct state {
	const char *name;
	int (*make)(void);
	int bits, tcp; /* -1: any */
};

#define ALL_EVENTS                                                                                           \
	(POLLIN | POLLPRI | POLLOUT | POLLRDNORM | POLLRDBAND | POLLWRNORM | POLLWRBAND | POLLRDHUP)

static int extra[8], extras; /* what a state keeps open besides */

static void also(int fd)
{
	extra[extras++] = fd;
}

static void drop_extras(void)
{
	while (extras)
		close(extra[--extras]);
}

static void nonblocking(int fd)
{
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

static int tcp_state(int fd)
{
	struct tcp_info ti = {0};
	socklen_t len = sizeof ti;
	return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &ti, &len) ? -1 : ti.tcpi_state;
}

static void wait_bits(int fd, int bits, int tcp)
{
	long until = now_ms() + SETTLE_MS;

	while (now_ms() < until &&
	       ((bits >= 0 && polled(fd, ALL_EVENTS, 0) != bits) || (tcp >= 0 && tcp_state(fd) != tcp)))
		nap(1);
}

static int fresh(void)
{
	return socket(AF_INET, SOCK_STREAM, 0);
}

static int bound(void)
{
	int fd = fresh();
	struct sockaddr_in sin = address(own_addr(), 0);

	bind(fd, (struct sockaddr *)&sin, sizeof sin);
	return fd;
}

static int listener_port;

static int listens(void)
{
	return listening(&listener_port, 4);
}

static int called(void)
{
	int fd = listens();

	peer("connect %d", listener_port);
	return fd;
}

/* The caller has gone again, by FIN or RST, before accept(). */
static int called_and_left(void)
{
	int fd = called();

	wait_bits(fd, POLLIN | POLLRDNORM, -1);
	peer("close");
	nap(10);
	return fd;
}

static int called_and_reset(void)
{
	int fd = called();

	wait_bits(fd, POLLIN | POLLRDNORM, -1);
	peer("rst");
	nap(10);
	return fd;
}

static int listen_shut_rd(void)
{
	int fd = listens();

	shutdown(fd, SHUT_RD);
	return fd;
}

static int listen_shut_wr(void)
{
	int fd = listens();

	shutdown(fd, SHUT_WR);
	return fd;
}

static int listen_again(void)
{
	int fd = listen_shut_rd();

	listen(fd, 3);
	return fd;
}

/* The queue of a listener is full: its host answers no SYN. */
static int connecting(void)
{
	int port = (int)peer("listen0"), fd;

	for (int i = 0; i < 2; i++) {
		fd = fresh();
		nonblocking(fd);
		connect_to(fd, peer_addr(), port);
		if (i == 0) {
			wait_bits(fd, POLLOUT | POLLWRNORM, 1);
			also(fd);
		}
	}
	return fd;
}

static int connecting_shut_wr(void)
{
	int fd = connecting();

	shutdown(fd, SHUT_WR);
	return fd;
}

static int connecting_shut_rdwr(void)
{
	int fd = connecting();

	shutdown(fd, SHUT_RDWR);
	return fd;
}

static int connecting_shut_rd(void)
{
	int fd = connecting();

	shutdown(fd, SHUT_RD);
	return fd;
}

static int connecting_unspec(void)
{
	int fd = connecting();
	struct sockaddr sa = {.sa_family = AF_UNSPEC};

	connect(fd, &sa, sizeof sa);
	return fd;
}

static int refused_later(void)
{
	int port = (int)peer("listen"), fd = fresh();

	peer("unlisten");
	nonblocking(fd);
	connect_to(fd, peer_addr(), port);
	return fd;
}

static int refused_now(void)
{
	int port = (int)peer("listen"), fd = fresh();

	peer("unlisten");
	connect_to(fd, peer_addr(), port);
	return fd;
}

static int so_error(int fd)
{
	int e = -1;
	socklen_t len = sizeof e;

	getsockopt(fd, SOL_SOCKET, SO_ERROR, &e, &len);
	return e;
}

static int refused_and_told(void)
{
	int fd = refused_later();

	wait_bits(fd, POLLIN | POLLOUT | POLLERR | POLLHUP | POLLRDNORM | POLLWRNORM | POLLRDHUP, -1);
	so_error(fd);
	return fd;
}

static int idle(void)
{
	return connected();
}

static int accepted(void)
{
	int l = called(), fd;

	fd = accept(l, NULL, NULL);
	close(l);
	return fd;
}

static int with_data(void)
{
	int fd = connected();

	peer("send 100");
	return fd;
}

static int in_flight(int fd)
{
	struct tcp_info ti = {0};
	socklen_t len = sizeof ti;
	return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &ti, &len) ? -1 : (int)ti.tcpi_unacked;
}

static int fill(int fd)
{
	static char block[65536];

	nonblocking(fd);
	/* the peer's buffer, then ours, until nothing is on its way any more */
	for (long until = now_ms() + SETTLE_MS; now_ms() < until; nap(1)) {
		while (send(fd, block, sizeof block, MSG_NOSIGNAL) > 0)
			;
		if (!in_flight(fd) && send(fd, block, 1, MSG_NOSIGNAL) < 0)
			break;
	}
	return fd;
}

static int connected_small(void)
{
	int fd, one = 4096;

	peer("rcvbuf 8192");
	fd = connected();
	peer("rcvbuf 0");
	setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &one, sizeof one);
	return fd;
}

static int full(void)
{
	return fill(connected_small());
}

static int full_with_data(void)
{
	int fd = full();

	peer("send 100");
	return fd;
}

static int peer_closed(void)
{
	int fd = connected();

	peer("shutdown");
	return fd;
}

static int peer_closed_data(void)
{
	int fd = with_data();

	peer("shutdown");
	return fd;
}

static int accepted_peer_closed(void)
{
	int fd = accepted();

	peer("shutdown");
	return fd;
}

static int shut(int fd, int how)
{
	shutdown(fd, how);
	return fd;
}

static int shut_wr(void)
{
	return shut(connected(), SHUT_WR);
}

static int shut_rd(void)
{
	return shut(connected(), SHUT_RD);
}

static int shut_rdwr(void)
{
	return shut(connected(), SHUT_RDWR);
}

static int shut_rd_data(void)
{
	int fd = shut_rd(), held = 0;

	peer("send 100");
	/* poll() said IN before: only the count tells that the data is there. After a FIN of ours it would
	 * meet a reset. */
	for (int i = 0; i < 5000 && (ioctl(fd, FIONREAD, &held) || held < 100); i++)
		nap(1);
	return fd;
}

static int data_shut_rd(void)
{
	int fd = with_data();

	wait_bits(fd, POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM, -1);
	return shut(fd, SHUT_RD);
}

static int shut_wr_data(void)
{
	int fd = shut_wr();

	peer("send 100");
	return fd;
}

static int time_wait(void)
{
	int fd = shut_wr();

	wait_bits(fd, -1, 5);
	peer("shutdown");
	return fd;
}

static int time_wait_data(void)
{
	int fd = shut_wr_data();

	wait_bits(fd, -1, 5);
	peer("shutdown");
	return fd;
}

static int last_ack(void)
{
	int fd = peer_closed();

	wait_bits(fd, -1, 8);
	return shut(fd, SHUT_WR);
}

/* More than the peer's window: a FIN waits behind it for its turn. */
static int crammed(void)
{
	static char block[60000];
	int fd;

	peer("rcvbuf 8192");
	fd = connected();
	peer("rcvbuf 0");
	send(fd, block, sizeof block, MSG_DONTWAIT);
	return fd;
}

static int fin_wait_1(void)
{
	return shut(crammed(), SHUT_WR);
}

static int fin_wait_1_data(void)
{
	int fd = fin_wait_1();

	peer("send 100");
	return fd;
}

static int closing(void)
{
	int fd = fin_wait_1();

	wait_bits(fd, -1, 4);
	peer("shutdown");
	return fd;
}

static int last_ack_crammed(void)
{
	int fd = crammed();

	peer("shutdown");
	wait_bits(fd, -1, 8);
	return shut(fd, SHUT_WR);
}

static int reset_in(int fd, int tcp)
{
	wait_bits(fd, -1, tcp);
	peer("rst");
	return fd;
}

static int reset_fin_wait_1(void)
{
	return reset_in(fin_wait_1(), 4);
}

static int reset_closing(void)
{
	return reset_in(closing(), 11);
}

static int reset_last_ack(void)
{
	return reset_in(last_ack_crammed(), 9);
}

/* Both ends are one: an open, and a close, from both sides at once. */
static int itself(void)
{
	int fd = bound();
	struct sockaddr_in sin;
	socklen_t len = sizeof sin;

	getsockname(fd, (struct sockaddr *)&sin, &len);
	connect(fd, (struct sockaddr *)&sin, len);
	return fd;
}

static int itself_data(void)
{
	int fd = itself();

	send(fd, "myself", 6, 0);
	return fd;
}

static int itself_shut_wr(void)
{
	return shut(itself(), SHUT_WR);
}

static int itself_data_shut_wr(void)
{
	return shut(itself_data(), SHUT_WR);
}

static int reset_idle(void)
{
	int fd = connected();

	peer("rst");
	return fd;
}

static int reset_data(void)
{
	int fd = with_data();

	wait_bits(fd, POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM, -1);
	peer("rst");
	return fd;
}

static int reset_shut_wr(void)
{
	int fd = shut_wr();

	wait_bits(fd, -1, 5);
	peer("rst");
	return fd;
}

static int reset_peer_closed(void)
{
	int fd = peer_closed();

	wait_bits(fd, -1, 8);
	peer("rst");
	return fd;
}

static int reset_full(void)
{
	int fd = full();

	peer("rst");
	return fd;
}

#define GONE (POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM | POLLRDHUP | POLLHUP)

static int reset_and_told(void)
{
	int fd = reset_idle();

	wait_bits(fd, GONE | POLLERR, -1);
	so_error(fd);
	return fd;
}

static int urgent(void)
{
	int fd = connected();

	peer("oob");
	return fd;
}

static int urgent_behind_data(void)
{
	int fd = with_data();

	peer("oob");
	return fd;
}

static int urgent_taken(void)
{
	char c;
	int fd = urgent();

	wait_bits(fd, POLLPRI | POLLOUT | POLLWRNORM, -1);
	recv(fd, &c, 1, MSG_OOB);
	return fd;
}

static int urgent_inline(void)
{
	int fd = connected(), one = 1;

	setsockopt(fd, SOL_SOCKET, SO_OOBINLINE, &one, sizeof one);
	peer("oob");
	return fd;
}

static int urgent_peer_closed(void)
{
	int fd = urgent();

	peer("shutdown");
	return fd;
}

static int disconnected(void)
{
	int fd = connected();
	struct sockaddr sa = {.sa_family = AF_UNSPEC};

	connect(fd, &sa, sizeof sa);
	return fd;
}

#define IN  (POLLIN | POLLRDNORM)
#define OUT (POLLOUT | POLLWRNORM)

static const struct state states[] = {
    {"fresh", fresh, OUT | POLLHUP, 7},
    {"bound", bound, OUT | POLLHUP, 7},
    {"listening", listens, 0, 10},
    {"listening, called", called, IN, 10},
    {"listening, caller left", called_and_left, IN, 10},
    {"listening, caller reset", called_and_reset, IN, 10},
    {"listening, SHUT_RD", listen_shut_rd, -1, 7},
    {"listening, SHUT_WR", listen_shut_wr, -1, 10},
    {"listening again", listen_again, 0, 10},
    {"connecting", connecting, 0, 2},
    {"connecting, SHUT_WR", connecting_shut_wr, -1, -1},
    {"connecting, SHUT_RD", connecting_shut_rd, -1, -1},
    {"connecting, SHUT_RDWR", connecting_shut_rdwr, -1, -1},
    {"connecting, AF_UNSPEC", connecting_unspec, -1, 7},
    {"refused, later", refused_later, GONE | POLLERR, 7},
    {"refused, at once", refused_now, -1, 7},
    {"refused and told", refused_and_told, -1, 7},
    {"established", idle, OUT, 1},
    {"accepted", accepted, OUT, 1},
    {"data", with_data, IN | OUT, 1},
    {"full", full, 0, 1},
    {"full, data", full_with_data, IN, 1},
    {"peer closed", peer_closed, IN | OUT | POLLRDHUP, 8},
    {"peer closed, data", peer_closed_data, IN | OUT | POLLRDHUP, 8},
    {"accepted, peer closed", accepted_peer_closed, IN | OUT | POLLRDHUP, 8},
    {"SHUT_WR", shut_wr, OUT, 5},
    {"SHUT_RD", shut_rd, IN | OUT | POLLRDHUP, 1},
    {"SHUT_RDWR", shut_rdwr, -1, 5},
    {"SHUT_RD, then data", shut_rd_data, IN | OUT | POLLRDHUP, 1},
    {"data, then SHUT_RD", data_shut_rd, IN | OUT | POLLRDHUP, 1},
    {"SHUT_WR, then data", shut_wr_data, IN | OUT, 5},
    {"SHUT_WR, peer closed", time_wait, -1, 7},
    {"SHUT_WR, data, peer closed", time_wait_data, -1, 7},
    {"peer closed, SHUT_WR", last_ack, -1, 7},
    {"FIN_WAIT_1", fin_wait_1, -1, 4},
    {"FIN_WAIT_1, data", fin_wait_1_data, -1, 4},
    {"CLOSING", closing, -1, 11},
    {"LAST_ACK", last_ack_crammed, -1, 9},
    {"reset in FIN_WAIT_1", reset_fin_wait_1, -1, 7},
    {"reset in CLOSING", reset_closing, -1, 7},
    {"reset in LAST_ACK", reset_last_ack, -1, 7},
    {"itself", itself, OUT, 1},
    {"itself, data", itself_data, IN | OUT, 1},
    {"itself, SHUT_WR", itself_shut_wr, -1, 7},
    {"itself, data, SHUT_WR", itself_data_shut_wr, -1, 7},
    {"reset", reset_idle, GONE | POLLERR, 7},
    {"reset, data", reset_data, GONE | POLLERR, 7},
    {"reset after SHUT_WR", reset_shut_wr, -1, 7},
    {"reset after peer closed", reset_peer_closed, -1, 7},
    {"reset, full", reset_full, -1, 7},
    {"reset and told", reset_and_told, -1, 7},
    {"urgent", urgent, POLLPRI | OUT, 1},
    {"urgent behind data", urgent_behind_data, POLLPRI | IN | OUT, 1},
    {"urgent, taken", urgent_taken, -1, 1},
    {"urgent, inline", urgent_inline, POLLPRI | IN | OUT, 1},
    {"urgent, peer closed", urgent_peer_closed, -1, 8},
    {"disconnected", disconnected, OUT | POLLERR | POLLHUP, 7},
};
#define STATES (sizeof states / sizeof states[0])

/* To make: not for every call. */
static bool state_is_slow(const struct state *s)
{
	return s->make == full || s->make == full_with_data || s->make == reset_full;
}

static int state_make(const struct state *s)
{
	int fd = s->make();

	wait_bits(fd, s->bits, s->tcp);
	return fd;
}

static const char *bit_names(int e)
{
	static char b[4][96];
	static int i;
	char *s = b[i++ & 3];
	static const struct {
		int bit;
		const char *name;
	} names[] = {{POLLIN, "IN"},	  {POLLPRI, "PRI"},    {POLLOUT, "OUT"},    {POLLERR, "ERR"},
		     {POLLHUP, "HUP"},	  {POLLNVAL, "NVAL"},  {POLLRDNORM, "RDN"}, {POLLWRNORM, "WRN"},
		     {POLLRDBAND, "RDB"}, {POLLWRBAND, "WRB"}, {POLLRDHUP, "RDHUP"}};

	s[0] = 0;
	for (size_t k = 0; k < sizeof names / sizeof names[0]; k++)
		if (e & names[k].bit)
			strcat(strcat(s, s[0] ? " " : ""), names[k].name);
	return s[0] ? s : "-";
}

#endif
