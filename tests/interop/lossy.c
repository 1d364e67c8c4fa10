/*
 * lossy.c - a bad path between two network devices, for tests.
 *
 *     lossy NEAR FAR [seed=N] [loss=PERCENT] [reorder=PERCENT] [duplicate=PERCENT] [delay=US]
 *
 * Every frame that arrives at one device leaves by the other, unless the dice
 * say otherwise; both directions suffer alike. Reordering holds a frame back
 * for 1 to 4 ms. Super-frames (virtio-net header with a gso size) are cut into
 * the segments that a wire would carry, and open checksums are completed, so
 * that a percentage means single segments.
 *
 * "ready" appears on stderr when frames pass; SIGTERM ends it and prints the
 * counts, among them its own lateness: a starved forwarder looks like a silent
 * network. Run it under chrt -f.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define FRAME_MAX  (65536 + 256)
#define HELD_MAX   4096
#define BURST	   64
#define ETHER_LEN  14
#define NS_PER_SEC 1000000000ull

struct device {
	int fd;
	uint64_t in, lost, reordered, duplicated, out, refused;
};

struct held {
	uint64_t due;
	struct device *to;
	size_t len;
	uint8_t *bytes;
};

struct path {
	struct device dev[2];
	uint64_t dice;			 /* state of the generator */
	double loss, reorder, duplicate; /* probabilities */
	uint64_t delay_ns, late_ns;
	struct held held[HELD_MAX]; /* in order of due */
	int held_count;
};

static volatile sig_atomic_t stop;

static void on_signal(int sig)
{
	(void)sig;
	stop = 1;
}

static void die(const char *what)
{
	fprintf(stderr, "lossy: %s: %s\n", what, strerror(errno));
	exit(1);
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * NS_PER_SEC + (uint64_t)t.tv_nsec;
}

/* xorshift64*: the same seed, the same fates in order of arrival. */
static uint64_t roll(struct path *p)
{
	p->dice ^= p->dice >> 12;
	p->dice ^= p->dice << 25;
	p->dice ^= p->dice >> 27;
	return p->dice * 0x2545f4914f6cdd1dull;
}

static bool happens(struct path *p, double probability)
{
	return (double)(roll(p) >> 11) / 9007199254740992.0 < probability;
}

/* ------------------------------------------------------------------ devices */

static void device_open(struct device *d, const char *name)
{
	struct sockaddr_ll at = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL)};
	struct packet_mreq all = {.mr_type = PACKET_MR_PROMISC};
	int one = 1, size = 16 << 20;

	at.sll_ifindex = all.mr_ifindex = (int)if_nametoindex(name);
	if (!at.sll_ifindex)
		die(name);
	/* Protocol 0: no frame before bind(), so none of another interface. */
	d->fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (d->fd < 0 || setsockopt(d->fd, SOL_PACKET, PACKET_VNET_HDR, &one, sizeof one) < 0 ||
	    setsockopt(d->fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &one, sizeof one) < 0 ||
	    setsockopt(d->fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &all, sizeof all) < 0)
		die("packet socket");
	if (setsockopt(d->fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size) < 0)
		setsockopt(d->fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
	if (setsockopt(d->fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size) < 0)
		setsockopt(d->fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
	if (bind(d->fd, (struct sockaddr *)&at, sizeof at) < 0)
		die("bind");
}

static void frame_send(struct device *to, const uint8_t *bytes, size_t len)
{
	struct virtio_net_hdr none = {0};
	struct iovec iov[2] = {{&none, sizeof none}, {(void *)(uintptr_t)bytes, len}};

	if (writev(to->fd, iov, 2) < 0)
		to->refused++;
	else
		to->out++;
}

/* ------------------------------------------------------------------ fates */

static void frame_hold(struct path *p, struct device *to, const uint8_t *bytes, size_t len, uint64_t due)
{
	int at = p->held_count;
	uint8_t *copy;

	if (at == HELD_MAX || !(copy = malloc(len))) {
		frame_send(to, bytes, len);
		return;
	}
	memcpy(copy, bytes, len);
	while (at > 0 && p->held[at - 1].due > due) {
		p->held[at] = p->held[at - 1];
		at--;
	}
	p->held[at] = (struct held){due, to, len, copy};
	p->held_count++;
}

static void held_release(struct path *p, uint64_t now)
{
	int n = 0;

	for (; n < p->held_count && p->held[n].due <= now; n++) {
		if (now - p->held[n].due > p->late_ns)
			p->late_ns = now - p->held[n].due;
		frame_send(p->held[n].to, p->held[n].bytes, p->held[n].len);
		free(p->held[n].bytes);
	}
	p->held_count -= n;
	memmove(p->held, p->held + n, (size_t)p->held_count * sizeof p->held[0]);
}

static void frame_fate(struct path *p, struct device *from, struct device *to, const uint8_t *bytes,
		       size_t len)
{
	uint64_t wait = p->delay_ns;
	int copies = 1;

	from->in++;
	if (happens(p, p->loss)) {
		from->lost++;
		return;
	}
	if (happens(p, p->duplicate)) {
		from->duplicated++;
		copies = 2;
	}
	if (happens(p, p->reorder)) {
		from->reordered++;
		wait += 1000000 + roll(p) % 3000000;
	}
	for (; copies > 0; copies--) {
		if (wait)
			frame_hold(p, to, bytes, len, now_ns() + wait);
		else
			frame_send(to, bytes, len);
	}
}

/* ------------------------------------------------------------------ super-frames */

static uint32_t sum_add(uint32_t sum, const uint8_t *b, size_t len)
{
	for (; len > 1; b += 2, len -= 2)
		sum += (uint32_t)b[0] << 8 | b[1];
	return len ? sum + ((uint32_t)b[0] << 8) : sum;
}

static uint16_t sum_fold(uint32_t sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

static void put16(uint8_t *b, uint32_t v)
{
	b[0] = (uint8_t)(v >> 8);
	b[1] = (uint8_t)v;
}

/* Fill in both checksums of an IPv4/TCP frame whose IP header starts at ip. */
static void sums_set(uint8_t *ip, size_t ip_len, size_t total)
{
	uint8_t *tcp = ip + ip_len;
	size_t tcp_len = total - ip_len;

	put16(ip + 2, (uint32_t)total);
	put16(ip + 10, 0);
	put16(ip + 10, sum_fold(sum_add(0, ip, ip_len)));
	put16(tcp + 16, 0);
	put16(tcp + 16, sum_fold(sum_add(6 + (uint32_t)tcp_len, ip + 12, 8) + sum_add(0, tcp, tcp_len)));
}

/* One TCP super-frame becomes what a card would put on the wire (RFC 9293 3.1 fields; FIN and PSH at the
 * end). */
static void frame_cut(struct path *p, struct device *from, struct device *to, const uint8_t *bytes,
		      size_t len, size_t piece)
{
	static uint8_t out[FRAME_MAX];
	size_t ip_len = (size_t)(bytes[ETHER_LEN] & 15) * 4;
	size_t head = ETHER_LEN + ip_len + (size_t)(bytes[ETHER_LEN + ip_len + 12] >> 4) * 4;
	uint8_t *ip = out + ETHER_LEN, *tcp = ip + ip_len;
	uint32_t seq, id;

	if (head > len)
		return;
	memcpy(out, bytes, head);
	memcpy(&seq, tcp + 4, 4);
	id = (uint32_t)ip[4] << 8 | ip[5];
	for (size_t at = head; at < len; at += piece) {
		size_t n = len - at < piece ? len - at : piece;
		uint32_t s = htonl(ntohl(seq) + (uint32_t)(at - head));

		memcpy(out + head, bytes + at, n);
		memcpy(tcp + 4, &s, 4);
		put16(ip + 4, id++);
		tcp[13] = bytes[ETHER_LEN + ip_len + 13];
		if (at + n < len)
			tcp[13] &= (uint8_t)~0x09; /* FIN, PSH */
		sums_set(ip, ip_len, head - ETHER_LEN + n);
		frame_fate(p, from, to, out, head + n);
	}
}

static void frame_take(struct path *p, struct device *from, struct device *to, uint8_t *bytes, size_t len,
		       const struct virtio_net_hdr *v)
{
	bool tcp4 = len > ETHER_LEN + 40 && bytes[12] == 8 && bytes[13] == 0 && bytes[ETHER_LEN + 9] == 6;

	if ((v->gso_type & ~VIRTIO_NET_HDR_GSO_ECN) == VIRTIO_NET_HDR_GSO_TCPV4 && tcp4 && v->gso_size) {
		frame_cut(p, from, to, bytes, len, v->gso_size);
		return;
	}
	if (v->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM && (size_t)v->csum_start + v->csum_offset + 2 <= len) {
		/* The field holds the pseudo-header's sum already. */
		uint16_t sum = sum_fold(sum_add(0, bytes + v->csum_start, len - v->csum_start));

		put16(bytes + v->csum_start + v->csum_offset, sum ? sum : 0xffff);
	}
	frame_fate(p, from, to, bytes, len);
}

static void device_drain(struct path *p, struct device *from, struct device *to)
{
	static uint8_t bytes[FRAME_MAX];

	for (int i = 0; i < BURST; i++) {
		struct virtio_net_hdr v;
		struct iovec iov[2] = {{&v, sizeof v}, {bytes, sizeof bytes}};
		ssize_t n = readv(from->fd, iov, 2);

		if (n < (ssize_t)sizeof v)
			return;
		if ((size_t)n > sizeof v + ETHER_LEN)
			frame_take(p, from, to, bytes, (size_t)n - sizeof v, &v);
	}
}

/* ------------------------------------------------------------------ the whole */

static void parameter_set(struct path *p, const char *arg)
{
	const char *equals = strchr(arg, '=');
	double v = equals ? strtod(equals + 1, NULL) : -1;

	if (v < 0)
		goto bad;
	if (!strncmp(arg, "seed=", 5))
		p->dice = (uint64_t)v * 0x9e3779b97f4a7c15ull + 1;
	else if (!strncmp(arg, "loss=", 5))
		p->loss = v / 100;
	else if (!strncmp(arg, "reorder=", 8))
		p->reorder = v / 100;
	else if (!strncmp(arg, "duplicate=", 10))
		p->duplicate = v / 100;
	else if (!strncmp(arg, "delay=", 6))
		p->delay_ns = (uint64_t)(v * 1000);
	else
		goto bad;
	return;
bad:
	fprintf(stderr, "lossy: '%s' is no parameter; see the head of lossy.c\n", arg);
	exit(2);
}

static void forward(struct path *p)
{
	struct pollfd fds[2] = {{p->dev[0].fd, POLLIN, 0}, {p->dev[1].fd, POLLIN, 0}};

	while (!stop) {
		struct timespec wait = {1, 0};
		uint64_t now = now_ns();

		held_release(p, now);
		if (p->held_count && p->held[0].due - now < NS_PER_SEC)
			wait = (struct timespec){0, (long)(p->held[0].due - now)};
		if (ppoll(fds, 2, &wait, NULL) <= 0)
			continue;
		for (int i = 0; i < 2; i++)
			if (fds[i].revents)
				device_drain(p, &p->dev[i], &p->dev[!i]);
	}
}

static void report(const struct path *p)
{
	static const char *const side[] = {"near", "far"};

	for (int i = 0; i < 2; i++) {
		const struct device *d = &p->dev[i];
		struct tpacket_stats s = {0};
		socklen_t len = sizeof s;

		getsockopt(d->fd, SOL_PACKET, PACKET_STATISTICS, &s, &len);
		fprintf(
		    stderr,
		    "from_%s in=%lu lost=%lu reordered=%lu duplicated=%lu overrun=%u sent=%lu refused=%lu\n",
		    side[i], d->in, d->lost, d->reordered, d->duplicated, s.tp_drops, d->out, d->refused);
	}
	fprintf(stderr, "late_us=%lu\n", p->late_ns / 1000);
}

int main(int argc, char **argv)
{
	static struct path p = {.dice = 1};
	struct sigaction sa = {.sa_handler = on_signal};

	if (argc < 3) {
		fprintf(stderr, "lossy: two devices wanted; see the head of lossy.c\n");
		return 2;
	}
	for (int i = 3; i < argc; i++)
		parameter_set(&p, argv[i]);
	device_open(&p.dev[0], argv[1]);
	device_open(&p.dev[1], argv[2]);
	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGINT, &sa, NULL);
	fprintf(stderr, "ready\n");
	forward(&p);
	report(&p);
	return 0;
}
