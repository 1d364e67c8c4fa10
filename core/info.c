/*
 * info.c - the figures of a connection as struct tcp_info of Linux shows them.
 *
 * Counts of segments are derived from octets, since the stack keeps no segments:
 * rounded up, so that something outstanding never reads as nothing.
 */
#include "core/send.h"

/* Linux's tcpi_options */
#define INFO_TIMESTAMPS 1u
#define INFO_SACK	2u
#define INFO_WSCALE	4u
#define SEGMENTS_MAX	0x7fffffffu /* Linux's TCP_INFINITE_SSTHRESH */

static uint32_t segments(uint64_t octets, uint32_t mss)
{
	return (uint32_t)((octets + mss - 1) / mss);
}

static uint32_t ms_since(const struct stack_cx *cx, nsec then)
{
	return then && cx->now > then ? (uint32_t)((cx->now - then) / NS_PER_MS) : 0;
}

static uint32_t us_of(nsec ns)
{
	return (uint32_t)MIN_OF(ns / NS_PER_US, (nsec)UINT32_MAX);
}

static void info_flight(const struct tcb *t, struct sock_info *o)
{
	uint32_t mss = snd_mss_of(t);

	o->snd_mss = mss;
	o->unacked = segments(snd_outstanding(t), mss);
	o->sacked = segments(t->sacked_bytes, mss);
	o->lost = segments(t->lost_bytes, mss);
	o->retrans = segments(t->retrans_out, mss);
	o->snd_cwnd = t->cwnd / mss;
	o->snd_ssthresh = t->ssthresh >= CWND_MAX ? SEGMENTS_MAX : t->ssthresh / mss;
	o->delivered = segments(t->bytes_acked + t->sacked_bytes, mss);
	o->notsent_bytes = (uint32_t)MIN_OF(snd_unsent(t), (uint64_t)UINT32_MAX);
	o->snd_wnd = t->snd_wnd;
	/* the most that cwnd lets leave, per second */
	o->pacing_rate = t->srtt_ns ? (uint64_t)t->cwnd * NS_PER_S / t->srtt_ns : 0;
	o->max_pacing_rate = UINT64_MAX;
}

static void info_times(const struct stack_cx *cx, const struct tcb *t, struct sock_info *o)
{
	o->rto = us_of(t->rto_ns);
	o->ato = t->ato_ms * 1000;
	o->rtt = t->srtt_ns ? MAX_OF(us_of(t->srtt_ns), 1u) : 0; /* no time passes within the stack */
	o->rttvar = us_of(t->rttvar_ns);
	o->min_rtt = t->min_rtt_ns == NSEC_NEVER ? UINT32_MAX : MAX_OF(us_of(t->min_rtt_ns), 1u);
	o->rcv_rtt = t->rcv_rtt_us;
	o->last_data_sent = ms_since(cx, t->last_data_sent);
	o->last_data_recv = ms_since(cx, t->last_data_recv);
	o->last_ack_recv = ms_since(cx, t->last_ack_recv);
}

static void info_rates(const struct stack_cx *cx, const struct tcb *t, struct sock_info *o)
{
	nsec window = busy_time(cx, t, BUSY_WINDOW), sndbuf = busy_time(cx, t, BUSY_SNDBUF);

	o->busy_time = (busy_time(cx, t, BUSY_SENDING) + window + sndbuf) / NS_PER_US;
	o->rwnd_limited = window / NS_PER_US;
	o->sndbuf_limited = sndbuf / NS_PER_US;
	o->delivery_rate = t->rate_octets;
	o->delivery_rate_app_limited = t->rate_octets_app_limited;
}

static void info_totals(const struct tcb *t, struct sock_info *o)
{
	o->total_retrans = t->total_retrans;
	o->bytes_acked = t->bytes_acked;
	o->bytes_received = t->bytes_received + t->fin_received; /* Linux counts sequence numbers */
	o->bytes_sent = t->bytes_sent;
	o->bytes_retrans = t->bytes_retrans;
	o->segs_in = t->segs_in;
	o->segs_out = t->segs_out;
	o->data_segs_in = t->data_segs_in;
	o->data_segs_out = t->data_segs_out;
	o->dsack_dups = t->dsack_dups;
	o->rcv_ooopack = t->rcv_ooopack;
	o->total_rto = t->total_rto;
}

int sock_info(struct stack_cx *cx, ref s, struct sock_info *o)
{
	if (!pool_valid(cx, POOL_TCB, s))
		return -EINVAL;
	const struct tcb *t = tcb_at(cx, s);
	memset(o, 0, sizeof *o);
	o->state = (uint8_t)state_to_linux((enum tcp_state)t->state);
	if (t->state == TCPS_LISTEN) { /* Linux shows the accept queue here */
		o->unacked = t->accept_count;
		o->sacked = t->backlog;
		return 0;
	}
	o->ca_state = t->ca_state;
	o->retransmits = t->retransmits;
	o->probes = MAX_OF(t->persist_probes, t->keep_probes);
	o->backoff = MAX_OF(t->backoff, t->persist_backoff);
	o->options = (uint8_t)((t->ts_ok ? INFO_TIMESTAMPS : 0) | (t->sack_ok ? INFO_SACK : 0) |
			       (t->wscale_ok ? INFO_WSCALE : 0));
	o->snd_wscale = t->snd_wscale;
	o->rcv_wscale = t->rcv_wscale;
	o->rcv_mss = t->rcv_mss;
	o->pmtu = t->pmtu ? t->pmtu : route_mtu(cx, &t->remote.addr);
	o->advmss = t->adv_mss - (t->ts_ok ? 12u : 0u); /* as Linux shows it: without the timestamps */
	o->reordering = DUP_THRESH;
	o->rcv_ssthresh = t->rcv_ssthresh;
	o->rcv_space = t->rcv_space;
	o->rcv_wnd = t->rcv_wnd;
	info_flight(t, o);
	info_times(cx, t, o);
	info_rates(cx, t, o);
	info_totals(t, o);
	return 0;
}
