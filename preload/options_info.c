/*
 * options_info.c - TCP_INFO: what the stack knows of a connection, in the kernel's words.
 *
 * struct tcp_info of Linux 6.18. The layout is the kernel's interface; the
 * machine's header may be older and shorter, so it is written out here and
 * checked against the header's first part.
 *
 * Place in the flow: options.c -> here -> sock_info (core).
 */
#include <linux/tcp.h>

#include "preload/fdtable.h"
#include "preload/socket.h"

struct tcp_info_linux {
	uint8_t state, ca_state, retransmits, probes, backoff, options;
	uint8_t wscale;	     /* send scale in the low half */
	uint8_t app_limited; /* delivery_rate_app_limited:1, fastopen_client_fail:2 */
	uint32_t rto, ato, snd_mss, rcv_mss;
	uint32_t unacked, sacked, lost, retrans, fackets;
	uint32_t last_data_sent, last_ack_sent, last_data_recv, last_ack_recv;
	uint32_t pmtu, rcv_ssthresh, rtt, rttvar, snd_ssthresh, snd_cwnd, advmss, reordering;
	uint32_t rcv_rtt, rcv_space, total_retrans;
	uint64_t pacing_rate, max_pacing_rate, bytes_acked, bytes_received;
	uint32_t segs_out, segs_in, notsent_bytes, min_rtt, data_segs_in, data_segs_out;
	uint64_t delivery_rate, busy_time, rwnd_limited, sndbuf_limited;
	uint32_t delivered, delivered_ce;
	uint64_t bytes_sent, bytes_retrans;
	uint32_t dsack_dups, reord_seen, rcv_ooopack, snd_wnd, rcv_wnd, rehash;
	uint16_t total_rto, total_rto_recoveries;
	uint32_t total_rto_time;
	/* accurate ECN: none, as where it is off */
	uint32_t received_ce, delivered_e1_bytes, delivered_e0_bytes, delivered_ce_bytes;
	uint32_t received_e1_bytes, received_e0_bytes, received_ce_bytes;
	uint16_t accecn_fail_mode, accecn_opt_seen;
};
_Static_assert(offsetof(struct tcp_info_linux, rto) == offsetof(struct tcp_info, tcpi_rto), "tcp_info");
_Static_assert(offsetof(struct tcp_info_linux, pacing_rate) == offsetof(struct tcp_info, tcpi_pacing_rate),
	       "tcp_info");
_Static_assert(offsetof(struct tcp_info_linux, snd_wnd) == offsetof(struct tcp_info, tcpi_snd_wnd),
	       "tcp_info");

#define LINUX_TIME_WAIT 6
#define LINUX_CLOSE	7

static void info_fill(struct tcp_info_linux *t, const struct sock_info *i)
{
	memset(t, 0, sizeof *t);
#define C(field) t->field = i->field;
	C(state) C(ca_state) C(retransmits) C(probes) C(backoff) C(options);
	if (i->state == LINUX_TIME_WAIT)
		t->state = LINUX_CLOSE; /* the kernel has given the rest to a small object of its own */
	t->wscale = (uint8_t)((i->snd_wscale & 15) | i->rcv_wscale << 4);
	t->app_limited = i->delivery_rate_app_limited;
	C(rto) C(ato) C(snd_mss) C(rcv_mss) C(unacked) C(sacked) C(lost) C(retrans);
	C(last_data_sent) C(last_ack_sent) C(last_data_recv) C(last_ack_recv);
	C(pmtu) C(rcv_ssthresh) C(rtt) C(rttvar) C(snd_ssthresh) C(snd_cwnd) C(advmss) C(reordering);
	C(rcv_rtt) C(rcv_space) C(total_retrans);
	C(pacing_rate) C(max_pacing_rate) C(bytes_acked) C(bytes_received);
	C(segs_out) C(segs_in) C(notsent_bytes) C(min_rtt) C(data_segs_in) C(data_segs_out);
	C(delivery_rate) C(busy_time) C(rwnd_limited) C(sndbuf_limited);
	C(delivered) C(delivered_ce) C(bytes_sent) C(bytes_retrans);
	C(dsack_dups) C(reord_seen) C(rcv_ooopack) C(snd_wnd) C(rcv_wnd) C(rehash);
	C(total_rto) C(total_rto_recoveries) C(total_rto_time);
#undef C
}

int options_tcp_info(struct description *p, void *value, socklen_t *len)
{
	struct tcp_info_linux t;
	struct sock_info i;
	struct stack_cx *cx;
	int r;

	lib_enter();
	cx = netio_enter(the_stack);
	netio_drive(the_stack, cx);
	r = p->sock ? sock_info(cx, p->sock, &i) : -EBADF;
	netio_leave(the_stack);
	lib_leave();
	if (r < 0)
		return r;
	info_fill(&t, &i);
	return option_copy_out(&t, sizeof t, value, len);
}
