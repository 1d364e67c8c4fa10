/*
 * recovery.c - what is lost, and how much may be sent while it is repaired.
 *
 * Theory of operation. ackin.c reports each ACK here; rto.c reports time-outs.
 * The state is enum ca_state: OPEN and DISORDER (holes, not yet judged lost)
 * grow the window, RECOVERY repairs after duplicate ACKs, LOSS after a time-out.
 *
 * No segment is remembered. Three sequence numbers say all: below lost_edge
 * whatever is not SACKed counts as lost; below high_rxt it was resent in this
 * episode; below recover the episode ends. From them follow lost_bytes and
 * retrans_out, and from these RFC 6675's pipe in O(1) (snd_inflight()). A loss
 * of a resent octet is left to the RTO, which starts over with high_rxt = snd_una.
 *
 * Without SACK each duplicate ACK counts as one segment SACKed somewhere above
 * the hole: RFC 6582's window inflation, seen from the other side, and bounded by
 * what is in flight (so forged duplicates gain nothing). In RECOVERY the window follows
 * Proportional Rate Reduction (RFC 9937). tcp_output() does the sending; only
 * the first segment of an episode leaves from here, because no window holds it back.
 */
#include "core/send.h"

/* RFC 6675 pipe: outstanding, not SACKed, not lost, plus what was resent. */
uint32_t snd_inflight(const struct tcb *t)
{
	uint32_t left = t->sacked_bytes + t->lost_bytes, out = snd_outstanding(t) + t->retrans_out;

	return out > left ? out - left : 0;
}

void recovery_account(struct stack_cx *cx, struct tcb *t)
{
	if (t->ca_state < CA_RECOVERY) {
		t->lost_bytes = t->retrans_out = 0;
		return;
	}
	t->lost_bytes = sack_unsacked_below(cx, t, t->lost_edge);
	t->retrans_out = sack_unsacked_below(cx, t, seq_min(t->high_rxt, t->snd_nxt));
}

void recovery_resend(struct stack_cx *cx, struct tcb *t, seq32 from, uint32_t len, int rule)
{
	len = output_retransmit(cx, t, from, len);
	if (rule == 4) {
		t->rescue_done = true;
		t->rescue_rxt = t->recover;
	} else {
		t->high_rxt = seq_max(t->high_rxt, seq_add(from, len));
	}
	if (rule == 1 && t->sackboard)
		COUNT(cx, tcp_sack_hole);
	t->prr_out += len;
	recovery_account(cx, t);
}

void recovery_resend_first(struct stack_cx *cx, struct tcb *t)
{
	seq32 from = t->snd_una;
	uint32_t len = 0;

	if (sack_next_hole(cx, t, &from, t->snd_nxt, &len))
		recovery_resend(cx, t, from, MIN_OF(len, snd_mss_current(cx, t)), 1);
}

/* The end of an episode, or of a false alarm. */
static void recovery_calm(struct stack_cx *cx, struct tcb *t)
{
	if (!t->sack_ok)
		t->sacked_bytes = 0;
	t->dup_acks = 0;
	t->lost_edge = t->snd_una;
	t->high_rxt = seq_max(t->high_rxt, t->snd_una);
	t->ca_state = t->sacked_bytes ? CA_DISORDER : CA_OPEN;
	recovery_account(cx, t);
}

/* RFC 9937 6: cwnd for this ACK; what may be sent is cwnd - pipe. */
static void prr_update(struct tcb *t, uint32_t delivered, bool safe)
{
	uint32_t pipe = snd_inflight(t), mss = snd_mss_of(t);
	int64_t count;

	t->prr_delivered += delivered;
	if (pipe > t->ssthresh) {
		uint64_t share = (uint64_t)t->prr_delivered * t->ssthresh;
		uint32_t flight = MAX_OF(t->recovery_flight, 1);

		count = (int64_t)((share + flight - 1) / flight) - t->prr_out;
	} else {
		count = MAX_OF((int64_t)t->prr_delivered - t->prr_out, (int64_t)delivered);
		if (safe)
			count += mss;
		count = MIN_OF(count, (int64_t)(t->ssthresh - pipe));
	}
	if (t->prr_out == 0) /* the fast retransmit itself */
		count = MAX_OF(count, (int64_t)mss);
	t->cwnd = pipe + (uint32_t)MAX_OF(count, 0);
}

/* RFC 5681 3.2 step 2; RFC 6582 3.2 step 2; RFC 6675 5 step 4. */
static void recovery_enter(struct stack_cx *cx, struct tcb *t, uint32_t delivered)
{
	uint32_t mss = snd_mss_of(t);
	/* the episode before may have repaired losses above its own end: those are not sent twice */
	bool resent = seq_gt(t->high_rxt, t->snd_una);

	COUNT(cx, tcp_fast_retrans);
	t->prior_cwnd = t->cwnd;
	t->prior_ssthresh = t->ssthresh;
	t->recovery_flight = snd_outstanding(t);
	t->ssthresh = cc_of(t)->ssthresh(cx, t);
	t->ca_state = CA_RECOVERY;
	t->recover = t->snd_nxt;
	t->rescue_done = false;
	t->rescue_rxt = t->snd_una;
	t->prr_delivered = t->prr_out = 0;
	t->undo_armed = t->ts_ok && !resent;
	t->undo_ts = ts_now(cx, t);
	/* three duplicate ACKs condemn the first segment even where SACK does not yet */
	t->lost_edge = seq_max(seq_min(seq_add(t->snd_una, mss), t->snd_nxt), sack_lost_edge(cx, t));
	recovery_account(cx, t);
	prr_update(t, delivered, false);
	if (!resent)
		recovery_resend_first(cx, t);
	rto_arm(cx, t);
}

/* Without SACK: what this ACK tells about segments above the hole. The octets delivered. */
static uint32_t reno_account(struct tcb *t, uint32_t acked, bool dup)
{
	uint32_t mss = snd_mss_of(t), out = snd_outstanding(t);

	if (dup) {
		uint32_t bound = out > mss ? out - mss : 0; /* the hole itself is not held */
		uint32_t before = t->sacked_bytes;

		t->sacked_bytes = MIN_OF(before + mss, bound);
		return t->sacked_bytes > before ? t->sacked_bytes - before : 0;
	}
	if (acked == 0)
		return 0;
	uint32_t removed = MIN_OF(t->sacked_bytes, acked > mss ? acked - mss : 0);
	t->sacked_bytes = MIN_OF(t->sacked_bytes - removed, out > mss ? out - mss : 0);
	return acked - removed;
}

static bool recovery_due(struct stack_cx *cx, struct tcb *t)
{
	if (snd_outstanding(t) == 0)
		return false;
	/* RFC 6582 3.2 step 1: duplicates of what a time-out resent are no sign of a new loss */
	if (!t->sack_ok)
		return t->dup_acks >= DUP_THRESH && seq_gt(t->snd_una, t->recover);
	return t->dup_acks >= DUP_THRESH || seq_gt(sack_lost_edge(cx, t), t->snd_una);
}

static void ack_in_open(struct stack_cx *cx, struct tcb *t, uint32_t acked, uint32_t delivered)
{
	if (acked) {
		t->dup_acks = 0;
		if (!t->sack_ok)
			t->sacked_bytes = 0;
		/* recover trails snd_una, so that the comparison above stays within 2^31 */
		t->recover = seq_max(t->recover, seq_add(t->snd_una, UINT32_MAX));
		if (cc_may_grow(t))
			cc_of(t)->on_ack(cx, t, acked, t->srtt_ns);
	}
	t->lost_edge = t->snd_una;
	t->high_rxt = seq_max(t->high_rxt, t->snd_una);
	t->ca_state = t->sacked_bytes ? CA_DISORDER : CA_OPEN;
	if (recovery_due(cx, t))
		recovery_enter(cx, t, delivered);
}

static void ack_in_recovery(struct stack_cx *cx, struct tcb *t, uint32_t acked, uint32_t delivered)
{
	uint32_t lost_before = t->lost_bytes;

	if (acked && seq_geq(t->snd_una, t->recover)) { /* RFC 6582 3.2 step 3, full; RFC 6675 5 (A) */
		t->cwnd = MAX_OF(t->ssthresh, snd_mss_of(t));
		recovery_calm(cx, t);
		cc_of(t)->on_exit_recovery(cx, t);
		if (recovery_due(cx, t)) /* SACK knows of losses since: the next episode */
			recovery_enter(cx, t, delivered);
		return;
	}
	t->high_rxt = seq_max(t->high_rxt, t->snd_una);
	t->lost_edge = seq_max(t->lost_edge, t->snd_una);
	if (t->sack_ok) {
		t->lost_edge = seq_max(t->lost_edge, sack_lost_edge(cx, t));
	} else if (acked) {
		/* RFC 6582 3.2 step 3, partial: the next segment is missing as well */
		COUNT(cx, tcp_partial_ack);
		t->high_rxt = t->snd_una;
		t->lost_edge = seq_min(seq_add(t->snd_una, snd_mss_of(t)), t->snd_nxt);
	}
	recovery_account(cx, t);
	prr_update(t, delivered, acked && t->lost_bytes <= lost_before);
	if (!t->sack_ok && acked)
		recovery_resend_first(cx, t);
}

/* After a time-out: slow start through what was outstanding (RFC 5681 3.1). */
static void ack_in_loss(struct stack_cx *cx, struct tcb *t, uint32_t acked, uint32_t delivered)
{
	t->high_rxt = seq_max(t->high_rxt, t->snd_una);
	t->lost_edge = seq_max(t->lost_edge, seq_max(t->snd_una, sack_lost_edge(cx, t)));
	if (delivered) {
		/* RFC 3465 2.3: an ACK may jump over data that arrived long ago; SACK knows, without it L = 2
		 */
		if (!t->sack_ok)
			delivered = MIN_OF(delivered, 2 * snd_mss_of(t));
		cc_of(t)->on_ack(cx, t, delivered, t->srtt_ns);
	}
	if (acked && seq_geq(t->snd_una, t->recover))
		recovery_calm(cx, t);
	else
		recovery_account(cx, t);
}

void recovery_on_ack(struct stack_cx *cx, struct tcb *t, uint32_t acked, uint32_t delivered, bool dup,
		     bool dsack)
{
	(void)dsack; /* counted by sack_update(); the timestamps judge (recovery_judge) */
	if (dup) {
		COUNT(cx, tcp_dup_ack);
		if (t->dup_acks < UINT8_MAX)
			t->dup_acks++;
	}
	if (!t->sack_ok && t->ca_state != CA_LOSS)
		delivered = reno_account(t, acked, dup);
	switch ((enum ca_state)t->ca_state) {
	case CA_RECOVERY:
		ack_in_recovery(cx, t, acked, delivered);
		break;
	case CA_LOSS:
		ack_in_loss(cx, t, acked, delivered);
		break;
	default:
		ack_in_open(cx, t, acked, delivered);
	}
}

/*
 * RFC 3522 (Eifel): the first ACK of new data after a resend carries the
 * timestamp of the segment that caused it. Older than the resend: the original
 * had arrived, and nothing was lost. RFC 4015 3.2: take the reduction back.
 */
void recovery_judge(struct stack_cx *cx, struct tcb *t, const struct segment *s)
{
	if (!t->undo_armed)
		return;
	t->undo_armed = false;
	if (t->ca_state < CA_RECOVERY || !s->has_ts || s->ts_ecr == 0)
		return;
	if ((int32_t)(s->ts_ecr - t->undo_ts) >= 0)
		return;
	t->cwnd = MAX_OF(t->cwnd, t->prior_cwnd);
	t->ssthresh = MAX_OF(t->ssthresh, t->prior_ssthresh);
	cc_of(t)->on_undo(cx, t);
	t->high_rxt = t->snd_una;
	recovery_calm(cx, t);
}

/* RFC 5681 3.1 equation (4); RFC 6675 5.1: SACK information is kept, unless it proved wrong. */
void recovery_on_rto(struct stack_cx *cx, struct tcb *t)
{
	bool first = t->ca_state < CA_RECOVERY || seq_geq(t->snd_una, t->recover) ||
		     (t->ca_state == CA_LOSS && t->retransmits == 0);

	if (sack_reneged(cx, t)) {
		COUNT(cx, tcp_sack_reneging);
		sack_clear(cx, t);
	}
	if (first) {
		t->prior_cwnd = t->cwnd;
		t->prior_ssthresh = t->ssthresh;
		t->ssthresh = cc_of(t)->ssthresh(cx, t);
		t->undo_armed = t->ts_ok;
		t->undo_ts = ts_now(cx, t);
	} else if (t->ca_state != CA_LOSS) {
		t->undo_armed = false; /* the resend that it would judge is not the first */
	}
	cc_of(t)->on_rto(cx, t);
	if (!t->sack_ok)
		t->sacked_bytes = 0;
	t->cwnd = snd_mss_of(t);
	t->cwnd_acked = 0;
	t->dup_acks = 0;
	t->ca_state = CA_LOSS;
	t->recover = t->lost_edge = t->snd_nxt;
	t->high_rxt = t->snd_una;
	t->rtt_timing = false; /* Karn */
	recovery_account(cx, t);
}

/*
 * RFC 1191 6.5: segments of the old size cannot pass, so all that is outstanding
 * goes again at once, in smaller ones; no sign of congestion, so at the old rate.
 */
void recovery_on_icmp_mtu(struct stack_cx *cx, struct tcb *t)
{
	if (snd_outstanding(t) == 0 || t->state < TCPS_ESTABLISHED)
		return;
	t->cwnd = MAX_OF(t->cwnd, snd_mss_of(t));
	t->undo_armed = false;
	if (!t->sack_ok)
		t->sacked_bytes = 0;
	t->ca_state = CA_LOSS;
	t->dup_acks = 0;
	t->recover = t->lost_edge = t->snd_nxt;
	t->high_rxt = t->snd_una;
	t->rtt_timing = false;
	recovery_account(cx, t);
	output_mark(cx, t);
}
