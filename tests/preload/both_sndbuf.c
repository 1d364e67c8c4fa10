/*
 * What a connection takes before a write would block: SO_SNDBUF as Linux's tcp_sndbuf_expand() reckons it
 * from the segments of that path (so each leg against its own, 46,080 behind Ethernet), and that much at
 * least from a sender whose peer does not read: fresh, and after a transfer.
 */
#include "both.h"

#include <linux/sockios.h>

#define WARM (8 << 20)

static char data[1 << 16];

static int sndbuf(int fd)
{
	int v = 0;
	socklen_t len = sizeof v;

	getsockopt(fd, SOL_SOCKET, SO_SNDBUF, &v, &len);
	return v;
}

static int queued(int fd)
{
	int n = -1;

	ioctl(fd, SIOCOUTQ, &n);
	return n;
}

/* Ten segments twice over, each a power of two with room for the headers, and its record. */
static int of_segments(int fd)
{
	struct tcp_info ti = {0};
	socklen_t len = sizeof ti;
	int power = 1;

	getsockopt(fd, IPPROTO_TCP, TCP_INFO, &ti, &len);
	while (power < (int)ti.tcpi_advmss + 12 + 576) /* 12: the timestamps */
		power *= 2;
	return 20 * (power + 256);
}

static int new_connection(void)
{
	int port = (int)peer("listen"), fd = socket(AF_INET, SOCK_STREAM, 0);

	SHOW(sndbuf(fd));
	setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "cubic", 5); /* others ask for more */
	if (connect_to(fd, peer_addr(), port)) {
		perror("connect");
		exit(96);
	}
	peer("accept");
	return fd;
}

/* Linux's own records go off it. */
static const char *enough(long taken, long limit)
{
	return taken >= limit / 5 * 4 ? "yes" : "no";
}

/* Until nothing has gone in for a fifth of a second. */
static long fill(int fd)
{
	long taken = 0;

	do {
		ssize_t n = send(fd, data, 8192, MSG_DONTWAIT);
		if (n > 0)
			taken += n;
		else if (errno != EAGAIN || !polled(fd, POLLOUT, 200))
			break;
	} while (true);
	return taken;
}

int main(void)
{
	int fd = new_connection(), first = sndbuf(fd);
	long taken;

	SAY("as Linux: %s", first == of_segments(fd) ? "yes" : "no");
	SHOW(send(fd, data, 30000, MSG_DONTWAIT));
	taken = 30000 + fill(fd);
	SAY("takes that much: %s", enough(taken, first));
	SAY("no less for it: %s", sndbuf(fd) >= first ? "yes" : "no");
	peer_later("recv %ld", taken);
	SAY("all of it: %s", peer_answer() == taken ? "yes" : "no");
	peer("close");
	close(fd);

	fd = new_connection();
	peer_later("recv %d", WARM);
	for (long left = WARM; left > 0;)
		left -= write(fd, data, (size_t)(left < 65536 ? left : 65536));
	SHOW(peer_answer());
	while (queued(fd))
		nap(1);
	SAY("takes no less after %d: %s", WARM, enough(fill(fd), first));
	return 0;
}
