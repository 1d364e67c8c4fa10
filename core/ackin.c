/*
 * ackin.c - what an acknowledgement does to the sender: step 5 of RFC 9293
 * 3.10.7.4, the part that every synchronised state shares.
 *
 * Called by input.c, which makes the change of state that fin_acked asks for.
 * From here the ACK goes to sack.c (which octets arrived), rtt.c, recovery.c
 * (what is lost; how cwnd changes) and the timers. Sending waits for the end of
 * the burst (output_mark).
 */
#include "core/send.h"

/*
 * RFC 7323 4, RFC 6298 3: the timed segment, exact; after a retransmission
 * (Karn's ambiguity) the echoed timestamp, which names the copy that arrived.
 */
void rtt_on_ack(struct stack_cx *cx, struct tcb *t, const struct segment *s)
{
	if (t->rtt_timing && seq_gt(s->ack, t->rtt_seq)) {
		t->rtt_timing = false;
		rtt_sample(cx, t, cx->now - t->rtt_start);
		return;
	}
	bool ambiguous = t->retransmits || t->backoff || t->ca_state >= CA_RECOVERY || !t->srtt_ns;
	if (!ambiguous || !t->ts_ok || !s->has_ts || s->ts_ecr == 0)
		return;
	uint32_t ms = ts_now(cx, t) - s->ts_ecr;
	if (ms > INT32_MAX)
		return; /* an echo from the future */
	rtt_sample(cx, t, ms ? ms * NS_PER_MS : NS_PER_MS / 2);
}

/* RFC 5961 5.2: SND.UNA - MAX.SND.WND <= SEG.ACK <= SND.NXT, anything else is answered and dropped. */
static bool ack_acceptable(const struct tcb *t, seq32 ack)
{
	if (seq_gt(ack, t->snd_max))
		return false;
	return seq_geq(ack, t->snd_una) || t->snd_una.v - ack.v <= t->snd_wnd_max;
}

/* RFC 9293 3.10.7.4 step 5, SND.WL1/WL2: old segments must not update the window. True when it changed. */
static bool window_update(struct stack_cx *cx, struct tcb *t, const struct segment *s)
{
	uint32_t wnd = s->flags & TH_SYN ? s->wnd : s->wnd << MIN_OF(t->snd_wscale, 14);
	bool newer = seq_gt(s->ack, t->snd_una) || seq_lt(t->snd_wl1, s->seq_wire) ||
		     (seq_eq(t->snd_wl1, s->seq_wire) && seq_leq(t->snd_wl2, s->ack));

	if (!newer)
		return false;
	bool changed = wnd != t->snd_wnd;
	if (wnd == 0 && t->snd_wnd && snd_unsent(t))
		COUNT(cx, tcp_zero_window_in);
	t->snd_wnd = wnd;
	t->snd_wnd_max = MAX_OF(t->snd_wnd_max, wnd);
	t->snd_wl1 = s->seq_wire;
	t->snd_wl2 = s->ack;
	return changed;
}

/* The queue and the sequence variables move up to ack. Octets of data acknowledged. */
static uint32_t advance(struct stack_cx *cx, struct tcb *t, seq32 ack)
{
	seq32 data_end = seq_min(ack, snd_queue_end(t));
	seq32 data_start = seq_add(t->iss, 1 + (uint32_t)t->sndbuf.start);
	uint32_t data = seq_gt(data_end, data_start) ? data_end.v - data_start.v : 0;

	if (data)
		buffer_consume(cx, &t->sndbuf, data);
	t->bytes_acked += ack.v - t->snd_una.v; /* as Linux counts: the FIN too */
	t->snd_una = ack;
	if (t->fin_sent && seq_eq(ack, t->snd_nxt))
		t->fin_acked = true;
	if (t->urg_out && seq_geq(ack, t->snd_up))
		t->urg_out = false;
	t->retransmits = 0;
	t->persist_backoff = 0;
	sack_advance(cx, t);
	return data;
}

/*
 * RFC 5681 2, duplicate acknowledgement (a-e); with SACK, RFC 6675 2: an ACK that
 * SACKs octets not known before.
 */
static bool ack_is_duplicate(const struct tcb *t, const struct segment *s, uint32_t fresh,
			     bool window_changed)
{
	if (!seq_eq(s->ack, t->snd_una) || snd_outstanding(t) == 0)
		return false;
	if (t->sack_ok)
		return fresh > 0;
	/* a duplicate of old data was trimmed to nothing by step 1: its ACK is not a pure one */
	return s->len == 0 && seq_eq(s->seq, s->seq_wire) && !(s->flags & (TH_SYN | TH_FIN)) &&
	       !window_changed;
}

static void ack_advances(struct stack_cx *cx, struct tcb *t, const struct segment *s, uint32_t fresh,
			 bool dsack)
{
	uint32_t sacked_before = t->sacked_bytes;

	rtt_on_ack(cx, t, s);
	uint32_t data = advance(cx, t, s->ack);
	/* of these octets SACK blocks had told before, or this ACK's blocks tell again */
	uint32_t known = t->sack_ok ? sacked_before - t->sacked_bytes : 0;
	rate_acked(cx, t);
	recovery_judge(cx, t, s);
	recovery_on_ack(cx, t, data, data + fresh > known ? data + fresh - known : 0, false, dsack);
	rto_arm(cx, t); /* RFC 6298 (5.2), (5.3) */
	neigh_confirm(cx, &t->remote.addr);
	sndbuf_tune(cx, t);
	sndbuf_wake(cx, t);
	if (!snd_unsent(t)) /* else output_data() says what is in the way now */
		busy_update(cx, t, false);
}

bool ack_process(struct stack_cx *cx, struct tcb *t, struct segment *s)
{
	bool dsack = false;

	if (!ack_acceptable(t, s->ack)) {
		COUNT(cx, tcp_ack_bad);
		ack_challenge(cx, t);
		return false;
	}
	bool old = seq_lt(s->ack, t->snd_una);
	uint32_t fresh = sack_update(cx, t, s, &dsack);
	if (!old) {
		t->last_ack_recv = cx->now;
		t->keep_probes = t->persist_probes = 0; /* the peer lives */
		t->soft_error = 0;
		bool changed = window_update(cx, t, s);
		if (seq_gt(s->ack, t->snd_una))
			ack_advances(cx, t, s, fresh, dsack);
		else
			recovery_on_ack(cx, t, 0, fresh, ack_is_duplicate(t, s, fresh, changed), dsack);
	} else if (fresh) {
		recovery_on_ack(cx, t, 0, fresh, false, dsack); /* a late ACK still tells what arrived */
	}
	if (snd_unsent(t) || (t->fin_queued && !t->fin_sent) || t->ca_state >= CA_RECOVERY)
		output_mark(cx, t);
	return true;
}
