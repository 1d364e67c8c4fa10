/*
 * rate.c - how fast the peer gets our data, and what keeps it from being faster:
 * delivery_rate, busy_time, rwnd_limited and sndbuf_limited of TCP_INFO.
 *
 * Rate: one sample a flight, from the moment octets leave until they are
 * acknowledged; what was delivered in that time, over that time
 * (draft-cheng-iccrg-delivery-rate-estimation 3, with one timed octet instead of
 * one for each segment, since the stack keeps no segments). A sample that the
 * application had too little to send for is kept only if it is the highest.
 *
 * Busy: while something is queued or unacknowledged, the time goes to one of
 * three accounts, as in Linux's tcp_chrono: the peer's window is closed; all was
 * sent and the writer waits for room; neither.
 *
 * Place in the flow: output.c and ackin.c report; info.c reads.
 */
#include "core/send.h"

static uint64_t delivered(const struct tcb *t)
{
	return t->bytes_acked + t->sacked_bytes;
}

void rate_sent(struct stack_cx *cx, struct tcb *t)
{
	if (t->rate_timing)
		return;
	t->rate_timing = true;
	t->rate_seq = t->snd_nxt;
	t->rate_start = cx->now;
	t->rate_delivered = delivered(t);
	/* nothing waits, and cwnd would let more leave */
	t->rate_app_limited = !snd_unsent(t) && snd_outstanding(t) < t->cwnd;
}

void rate_acked(struct stack_cx *cx, struct tcb *t)
{
	if (!t->rate_timing || seq_lt(t->snd_una, t->rate_seq))
		return;
	t->rate_timing = false;
	if (cx->now <= t->rate_start)
		return; /* sent and acknowledged within one look at the clock */
	uint64_t octets = delivered(t) - t->rate_delivered;
	uint64_t rate = octets * NS_PER_S / (cx->now - t->rate_start);
	if (t->rate_app_limited && rate < t->rate_octets)
		return;
	t->rate_octets = rate;
	t->rate_octets_app_limited = t->rate_app_limited;
}

void busy_update(struct stack_cx *cx, struct tcb *t, bool window_limited)
{
	enum busy_account to = BUSY_NOTHING;

	if (snd_unsent(t))
		to = window_limited ? BUSY_WINDOW : BUSY_SENDING;
	else if (snd_outstanding(t))
		to = t->nospace ? BUSY_SNDBUF : BUSY_SENDING;
	if (t->busy == to)
		return;
	if (t->busy != BUSY_NOTHING)
		t->busy_ns[t->busy - 1] += cx->now - t->busy_start;
	t->busy = (uint8_t)to;
	t->busy_start = cx->now;
}

nsec busy_time(const struct stack_cx *cx, const struct tcb *t, enum busy_account of)
{
	return t->busy_ns[of - 1] + (t->busy == of ? cx->now - t->busy_start : 0);
}
