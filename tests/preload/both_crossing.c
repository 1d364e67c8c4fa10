/*
 * SYN_RECEIVED: the one state of TCP that a socket shows only when two SYNs cross (a connection that a
 * listener makes has no socket until it is established). The peer's port is deaf and mute; its SYN, and what
 * follows it, are made here. Bits, calls, an ACK, a reset, a SYN again, an end.
 *
 * Not over the loopback of the stack: there a raw socket, which is the kernel's, reaches nobody.
 */
#include "state_calls.h"
#include <netinet/ip.h>
#include <sys/epoll.h>

#define PEER_ISS     7000u
#define SYN_RECEIVED 3

static int raw = -1;
static struct sockaddr_in here, there;

static uint16_t checksum(const struct tcphdr *t)
{
	struct {
		uint32_t from, to;
		uint16_t proto, len;
		struct tcphdr t;
	} p = {there.sin_addr.s_addr, here.sin_addr.s_addr, htons(IPPROTO_TCP), htons(sizeof *t), *t};
	const uint16_t *w = (const uint16_t *)&p;
	uint32_t sum = 0;

	for (size_t i = 0; i < sizeof p / 2; i++)
		sum += w[i];
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

/* A segment of the peer's. */
static void inject(int flags, uint32_t seq, uint32_t ack)
{
	struct tcphdr t = {.source = there.sin_port,
			   .dest = here.sin_port,
			   .seq = htonl(seq),
			   .ack_seq = htonl(ack),
			   .doff = 5,
			   .window = htons(8000)};
	struct sockaddr_in to = here;

	t.th_flags = (uint8_t)flags;
	t.check = checksum(&t);
	to.sin_port = 0;
	if (sendto(raw, &t, sizeof t, 0, (struct sockaddr *)&to, sizeof to) != sizeof t)
		perror("inject");
}

/* The sequence number of a SYN of ours with these flags. */
static uint32_t heard(int flags)
{
	struct {
		struct iphdr ip;
		struct tcphdr t;
		char rest[1500];
	} p;
	struct pollfd w = {raw, POLLIN, 0};

	while (poll(&w, 1, 5000) == 1) {
		if (recv(raw, &p, sizeof p, 0) < (ssize_t)(sizeof p.ip + sizeof p.t) || p.ip.ihl != 5)
			continue;
		if (p.t.source == here.sin_port && p.t.dest == there.sin_port && p.t.th_flags == flags)
			return ntohl(p.t.seq);
	}
	SAY("no such segment");
	return 0;
}

static uint32_t iss;

/* What was closed here would go on for minutes: nobody answers its FIN. Before or behind the peer's. */
static void leave_nothing(void)
{
	if (raw < 0)
		return;
	inject(TH_RST, PEER_ISS + 1, 0);
	inject(TH_RST, PEER_ISS + 2, 0);
	close(raw);
}

static int crossing(void)
{
	int fd = fresh(), size = 1 << 20;
	socklen_t len = sizeof here;

	leave_nothing();
	there = address(peer_addr(), (int)peer("silent"));
	raw = socket(AF_INET, SOCK_RAW, IPPROTO_TCP);
	setsockopt(raw, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
	here = there;
	here.sin_port = 0;
	if (bind(raw, (struct sockaddr *)&here, sizeof here))
		perror("bind");
	nonblocking(fd);
	connect(fd, (struct sockaddr *)&there, sizeof there);
	getsockname(fd, (struct sockaddr *)&here, &len);
	iss = heard(TH_SYN);
	inject(TH_SYN, PEER_ISS, 0);
	if (heard(TH_SYN | TH_ACK) != iss)
		SAY("another number");
	return fd;
}

static int established(void)
{
	int fd = crossing();

	wait_bits(fd, -1, SYN_RECEIVED);
	inject(TH_ACK, PEER_ISS + 1, iss + 1);
	return fd;
}

static int ended(void)
{
	int fd = crossing();

	wait_bits(fd, -1, SYN_RECEIVED);
	inject(TH_ACK | TH_FIN, PEER_ISS + 1, iss + 1);
	return fd;
}

static int reset(void)
{
	int fd = crossing();

	wait_bits(fd, -1, SYN_RECEIVED);
	inject(TH_RST, PEER_ISS + 1, 0);
	return fd;
}

static int badly_acknowledged(void)
{
	int fd = crossing();

	wait_bits(fd, -1, SYN_RECEIVED);
	inject(TH_ACK, PEER_ISS + 1, iss + 100);
	if (heard(TH_RST) != iss + 100)
		SAY("another number");
	return fd;
}

static int crossing_shut(int how)
{
	int fd = crossing();

	wait_bits(fd, -1, SYN_RECEIVED);
	return shut(fd, how);
}

static int crossing_shut_wr(void)
{
	return crossing_shut(SHUT_WR);
}

static int crossing_shut_rd(void)
{
	return crossing_shut(SHUT_RD);
}

static const struct state crossed[] = {
    {"SYN_RECEIVED", crossing, 0, SYN_RECEIVED},
    {"SYN_RECEIVED, SHUT_WR", crossing_shut_wr, -1, -1},
    {"SYN_RECEIVED, SHUT_RD", crossing_shut_rd, -1, -1},
    {"crossed, established", established, OUT, 1},
    {"crossed, ended", ended, IN | OUT | POLLRDHUP, 8},
    {"crossed, reset", reset, -1, 7},
    {"badly acknowledged", badly_acknowledged, 0, SYN_RECEIVED},
};

static void bits(const struct state *s)
{
	int fd = state_make(s), ep = epoll_create1(0);
	struct epoll_event e = {.events = EPOLLIN | EPOLLOUT | EPOLLPRI | EPOLLRDHUP};

	SAY("%s: tcp %d, poll %s", s->name, tcp_state(fd), bit_names(polled(fd, ALL_EVENTS, 0)));
	epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e);
	SAY("epoll %s", epoll_wait(ep, &e, 1, 0) > 0 ? bit_names((int)e.events) : "-");
	close(ep);
	close(fd);
}

int main(void)
{
	signal(SIGPIPE, on_sigpipe);
	for (size_t i = 0; i < sizeof crossed / sizeof *crossed; i++) {
		bits(&crossed[i]);
		for (size_t k = 0; k < CALLS; k++)
			show_call(&crossed[i], k);
	}
	leave_nothing();
	return 0;
}
