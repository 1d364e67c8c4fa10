/*
 * TCP_INFO: what it counts, at each step of a connection's life, by who called and who was called. Clocks,
 * rates and sizes of the path are not compared.
 */
#include "state.h"

/* glibc's struct ends with total_retrans. */
struct whole {
	struct tcp_info base;
	uint64_t pacing_rate, max_pacing_rate, bytes_acked, bytes_received;
	uint32_t segs_out, segs_in, notsent_bytes, min_rtt, data_segs_in, data_segs_out;
	uint64_t delivery_rate, busy_time, rwnd_limited, sndbuf_limited;
	uint32_t delivered, delivered_ce;
	uint64_t bytes_sent, bytes_retrans;
	uint32_t dsack_dups, reord_seen, rcv_ooopack, snd_wnd;
};
_Static_assert(sizeof(struct tcp_info) == 104, "the head of struct tcp_info");

/* Everything that was sent is acknowledged, and everything that was expected is here. */
static void settled(int fd, int held)
{
	int n = -1;

	for (int i = 0; i < 5000; i++) {
		if (!in_flight(fd) && !ioctl(fd, FIONREAD, &n) && n == held)
			return;
		nap(1);
	}
	SAY("not settled: %d", n);
}

static void step(const char *what, int fd)
{
	struct whole w = {.base = {.tcpi_state = 0}};
	const struct tcp_info *t = &w.base;
	socklen_t len = sizeof w;

	SHOW(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &w, &len));
	printf("%s: state %u ca %u retransmits %u probes %u backoff %u ", what, t->tcpi_state,
	       t->tcpi_ca_state, t->tcpi_retransmits, t->tcpi_probes, t->tcpi_backoff);
	printf("unacked %u sacked %u lost %u retrans %u ", t->tcpi_unacked, t->tcpi_sacked, t->tcpi_lost,
	       t->tcpi_retrans);
	/* on a busy machine a peer inside may answer after a retransmission */
	printf("acked %lu sent %lu received %lu notsent %u ", w.bytes_acked, w.bytes_sent - w.bytes_retrans,
	       w.bytes_received,
	       t->tcpi_state == 7 ? 0 : w.notsent_bytes); /* once over, the kernel's is noise */
	printf("data segments %u %u marked %u ", w.data_segs_out - t->tcpi_total_retrans, w.data_segs_in,
	       w.delivered_ce);
	printf("reordered %u ooo %u ", w.reord_seen, w.rcv_ooopack);
	SAY("options %x times %d%d", t->tcpi_options & 7, t->tcpi_rtt > 0, t->tcpi_rto >= 200000);
	SAY("delivered %u", w.delivered);
}

static void life(int fd, const char *who)
{
	static char block[20000];

	SAY("-- %s", who);
	step("open", fd);
	SHOW(send(fd, "ten bytes.", 10, 0));
	SHOW(peer("recv 10"));
	settled(fd, 0);
	step("sent", fd);
	peer("send 100");
	settled(fd, 100);
	step("received", fd);
	SHOW(recv(fd, block, 40, 0));
	step("read some", fd);
	SHOW(send(fd, block, 1, 0));
	peer("recv 1");
	peer("send 5");
	settled(fd, 65);
	step("both", fd);
	peer("shutdown");
	wait_bits(fd, -1, 8);
	settled(fd, 65);
	step("peer closed", fd);
	SHOW(send(fd, "more", 4, 0));
	peer("recv 4");
	settled(fd, 65);
	step("sent more", fd);
	shutdown(fd, SHUT_WR);
	wait_bits(fd, -1, 7);
	step("closed", fd);
	close(fd);
	peer("close");
}

int main(void)
{
	int fd, l;

	close(connected()); /* a device that was idle may lose its first frame, and a SYN counts as sent again
			     */
	peer("close");
	life(connected(), "caller");
	l = called();
	fd = accept(l, NULL, NULL);
	life(fd, "called");
	close(l);
	fd = connecting();
	step("connecting", fd);
	close(fd);
	drop_extras();
	fd = refused_now();
	step("refused", fd);
	close(fd);
	fd = reset_data();
	wait_bits(fd, -1, 7);
	step("reset", fd);
	close(fd);
	fd = time_wait();
	wait_bits(fd, -1, 7);
	step("TIME_WAIT", fd);
	close(fd);
	fd = disconnected();
	step("disconnected", fd);
	close(fd);
	return 0;
}
