/*
 * output.c - what may be sent now.
 *
 * Theory of operation. tcp_output() is called after a write, after a burst of
 * input (stack_flush) and by timers. It repeats one decision until the answer is
 * "nothing": first what recovery wants resent, then new data. The amount of new
 * data is the least of what is queued, what the peer's window leaves and what
 * cwnd leaves over the pipe; then three rules may hold a part of it back:
 *   - a segment that is small because the window is (SWS avoidance, MUST-38),
 *   - a small last segment while another is unacknowledged (Nagle, in Minshall's
 *     variant, as Linux), or under cork / MSG_MORE,
 *   - a super-segment that would be larger after the next ACK (deferral): only
 *     while at least a quarter of the window is still to be acknowledged, or,
 *     where the queue and not the window ends it, while two whole ones are in
 *     flight on a path short enough that nobody can notice (coalescing).
 * Each time something is held back, something will bring it out: an ACK that is
 * owed to us, the override timer, or the persist timer; tcp_output() ends by
 * making sure that one of them runs.
 */
#include "core/send.h"

#define DATA_STATES                                                                                          \
	(1u << TCPS_ESTABLISHED | 1u << TCPS_CLOSE_WAIT | 1u << TCPS_FIN_WAIT_1 | 1u << TCPS_CLOSING |       \
	 1u << TCPS_LAST_ACK)

void output_mark(struct stack_cx *cx, struct tcb *t)
{
	struct stack *st = stack_of(cx);
	ref r;

	if (t->output_queued)
		return;
	r = pool_ref(cx, t);
	t->output_queued = true;
	t->output_next = REF_NONE;
	if (st->output_last)
		tcb_at(cx, st->output_last)->output_next = r;
	else
		st->output_first = r;
	st->output_last = r;
}

static void output_round(struct stack_cx *cx)
{
	struct stack *st = stack_of(cx);

	while (st->output_first) {
		struct tcb *t = tcb_at(cx, st->output_first);

		st->output_first = t->output_next;
		if (st->output_first == REF_NONE)
			st->output_last = REF_NONE;
		ref outer = dirty_begin(cx, pool_ref(cx, t));
		t->output_next = REF_NONE;
		t->output_queued = false;
		tcp_output(cx, t);
		dirty_end(cx, outer);
	}
}

/* What stays in the stack arrives between two rounds, and is answered in the next. */
void stack_flush(struct stack_cx *cx)
{
	struct stack *st = stack_of(cx);
	uint32_t looped = 0;

	if (st->in_flush)
		return;
	st->in_flush = true;
	do {
		output_round(cx);
	} while (loop_deliver(cx, &looped));
	st->in_flush = false;
}

/* ------------------------------------------------------------ segment size */

/* RFC 9293 3.7.1, MUST-16: what the peer takes, what the path carries, less our options. */
void snd_mss_update(struct stack_cx *cx, struct tcb *t)
{
	uint32_t mtu = route_mtu(cx, &t->remote.addr), headers = 20u + ip_header_len(&t->remote.addr);
	if (t->pmtu)
		mtu = MIN_OF(t->pmtu, mtu);
	uint32_t mss = MIN_OF((uint32_t)t->peer_mss, MAX_OF(mtu, headers) - headers);

	if (t->user_mss)
		mss = MIN_OF(mss, (uint32_t)t->user_mss);
	if (t->ts_ok)
		mss = mss > 12 ? mss - 12 : 0;
	t->snd_mss = (uint16_t)MAX_OF(mss, SND_MSS_MIN);
}

/* The size of the next segment: SACK blocks that it must carry take their room (RFC 6691). */
uint32_t snd_mss_current(struct stack_cx *cx, struct tcb *t)
{
	uint32_t mss = snd_mss_of(t);

	if (t->sack_ok && (t->ooo_root || t->dsack_pending)) {
		struct sack_block block[SACK_BLOCKS_MAX];
		int n = reass_sack_blocks(cx, t, block, t->ts_ok ? 3 : 4);
		uint32_t room = n ? 4 + 8 * (uint32_t)n : 0;

		mss = mss > room + SND_MSS_MIN ? mss - room : SND_MSS_MIN;
	}
	return mss;
}

/* ---------------------------------------------------------------- sending */

static uint32_t window_left(const struct tcb *t)
{
	int32_t left = seq_diff(seq_add(t->snd_una, t->snd_wnd), t->snd_nxt);

	return left > 0 ? (uint32_t)left
			: 0; /* MUST-34: the window may have shrunk below what is in flight */
}

static uint32_t cwnd_left(const struct tcb *t)
{
	uint32_t in_flight = snd_inflight(t);

	return t->cwnd > in_flight ? t->cwnd - in_flight : 0;
}

/* May a segment shorter than the MSS leave now? (RFC 9293 3.7.4; Minshall's variant; TCP_CORK, MSG_MORE) */
static bool small_permitted(const struct tcb *t)
{
	if (t->urg_out)
		return true; /* MUST-30: urgent data does not wait */
	if (t->cork || t->more)
		return false;
	if (t->nodelay || snd_outstanding(t) == 0)
		return true;
	/* only while an earlier small segment is unacknowledged */
	return !(seq_gt(t->snd_sml, t->snd_una) && seq_leq(t->snd_sml, t->snd_nxt));
}

/* What one look at the queue says. */
struct decision {
	uint32_t len;
	bool fin;
	bool cwnd_limited, window_limited;
};

/* A part of the queue fits: whole segments, or a small one where MUST-38 permits. Octets to send. */
static uint32_t limited_length(const struct tcb *t, struct decision *d, uint32_t room, uint32_t super,
			       uint32_t mss, bool force)
{
	uint32_t len = MIN_OF(room, super), in_flight = snd_inflight(t);

	if (len < mss) {
		if (d->cwnd_limited)
			return in_flight ? 0 : len;
		/* MUST-38 (3): half the largest window seen; (4): the override timer */
		return force || len >= MAX_OF(t->snd_wnd_max / 2, 1) ? len : 0;
	}
	len -= len % mss;
	/* deferral: an ACK is owed that will make room for more at once */
	if (room < super && super > mss && in_flight && t->ca_state < CA_RECOVERY && !force) {
		uint32_t quarter = MIN_OF(t->cwnd, t->snd_wnd) / 4;

		if (len < MIN_OF(quarter - quarter % mss, super))
			return 0;
	}
	return len;
}

/*
 * The queue ends before a super-segment is full. A frame costs the same whatever
 * it carries, and on a path of microseconds the ACK of what is in flight comes
 * before the next write: wait for it, as Linux does while its device is busy
 * (tcp_autocorking). Two super-segments in flight cannot be met by a delayed ACK.
 */
#define COALESCE_RTT_MAX (500 * NS_PER_US)
static bool coalesces(const struct tcb *t, uint32_t len, uint32_t super, uint32_t mss)
{
	return super > mss && len < super && t->srtt_ns && t->srtt_ns < COALESCE_RTT_MAX &&
	       t->ca_state == CA_OPEN && !t->urg_out && !t->fin_queued && snd_inflight(t) >= 2 * super;
}

static struct decision decide(struct stack_cx *cx, struct tcb *t, uint32_t mss, bool force)
{
	struct decision d = {0};
	uint64_t unsent = snd_unsent(t);
	uint32_t wnd = window_left(t), cwnd = cwnd_left(t), room = MIN_OF(wnd, cwnd);
	uint32_t super = t->urg_out ? mss : emit_super_max(cx, mss);

	if (unsent > room) {
		d.cwnd_limited = cwnd < wnd;
		d.window_limited = !d.cwnd_limited;
		d.len = limited_length(t, &d, room, super, mss, force);
		return d;
	}
	if (unsent > super) {
		d.len = super;
		return d;
	}
	if (!force && coalesces(t, (uint32_t)unsent, super, mss))
		return d;
	d.len = (uint32_t)unsent;
	/* the FIN needs an octet of window, but no cwnd: nothing follows it */
	d.fin = t->fin_queued && !t->fin_sent && wnd > d.len;
	d.window_limited = t->fin_queued && !t->fin_sent && !d.fin;
	uint32_t tail = d.len % mss;
	if (tail && !t->fin_queued && !force && !small_permitted(t))
		d.len -= tail;
	return d;
}

/* Linux's tcp_event_data_sent: an answer within the delayed-ACK time makes the connection interactive. */
static void note_data_sent(struct stack_cx *cx, struct tcb *t)
{
	if (t->last_data_recv && cx->now - t->last_data_recv < t->ato_ms * NS_PER_MS)
		t->pingpong = true;
	t->last_send = t->last_data_sent = cx->now;
}

/* New octets and/or the FIN from snd_nxt. */
static void send_new(struct stack_cx *cx, struct tcb *t, const struct decision *d, uint32_t mss)
{
	struct emit e = {.seq = t->snd_nxt, .len = d->len, .mss = mss, .flags = TH_ACK};

	if (d->fin)
		e.flags |= TH_FIN;
	if (snd_outstanding(t) == 0)
		cc_idle_restart(cx, t);
	t->snd_max = seq_add(e.seq, e.len + d->fin); /* so that a reset by rebuild.c finds the peer's place */
	(void)emit_segment(cx, t, &e);
	uint32_t span = e.len + ((e.flags & TH_FIN) != 0);
	if (!t->rtt_timing && t->ca_state < CA_RECOVERY) {
		t->rtt_timing = true;
		t->rtt_seq = e.seq;
		t->rtt_start = cx->now;
	}
	if (e.len % mss)
		t->snd_sml = seq_add(e.seq, e.len);
	t->snd_nxt = t->snd_max = seq_add(e.seq, span);
	if (e.flags & TH_FIN)
		t->fin_sent = true;
	rate_sent(cx, t);
	t->data_segs_out += (e.len + mss - 1) / mss;
	t->bytes_sent += e.len;
	if (t->ca_state == CA_RECOVERY)
		t->prr_out += span;
	note_data_sent(cx, t);
	if (t->timer[TIMER_RTO] == NSEC_NEVER) /* RFC 6298 (5.1) */
		rto_arm(cx, t);
}

/*
 * An octet range that was sent before: payload from the queue, the FIN when the
 * range reaches it, fresh timestamp, acknowledgement and window. The caller keeps
 * the books of recovery. Returns how much of the range left (fewer: too many pieces).
 */
uint32_t output_retransmit(struct stack_cx *cx, struct tcb *t, seq32 from, uint32_t len)
{
	struct emit e = {.seq = from, .len = len, .mss = snd_mss_current(cx, t), .flags = TH_ACK};
	seq32 end = seq_add(from, len), queue_end = snd_queue_end(t);

	if (t->fin_sent && seq_gt(end, queue_end)) {
		e.flags |= TH_FIN;
		e.len = queue_end.v - from.v;
	}
	(void)emit_segment(cx, t, &e);
	uint32_t pieces = MAX_OF((e.len + e.mss - 1) / e.mss, 1);
	COUNT_N(cx, tcp_retrans, pieces);
	t->total_retrans += pieces;
	if (e.len) {
		t->data_segs_out += pieces;
		t->bytes_sent += e.len;
		t->bytes_retrans += e.len;
	}
	t->rtt_timing = false; /* Karn: an ACK may now answer either copy */
	t->last_send = t->last_data_sent = cx->now;
	if (t->timer[TIMER_RTO] == NSEC_NEVER)
		rto_arm(cx, t);
	return e.len + ((e.flags & TH_FIN) != 0);
}

/* One run of what recovery wants to send again, if cwnd and the window let it. */
static bool send_lost(struct stack_cx *cx, struct tcb *t, uint32_t mss)
{
	seq32 from;
	uint32_t len;
	int rule;

	if (!sack_next_seg(cx, t, &from, &len, &rule) || rule == 2)
		return false;
	if (rule != 1 && t->ca_state != CA_RECOVERY)
		return false;
	/* SHLD-15, SHLD-16: old data goes again inside the window; its first octet always, as a probe */
	int32_t wnd = seq_diff(seq_add(t->snd_una, t->snd_wnd), from);
	if (wnd <= 0) {
		if (!seq_eq(from, t->snd_una))
			return false;
		len = MIN_OF(len, mss);
	} else {
		len = MIN_OF(len, (uint32_t)wnd);
	}
	uint32_t room = cwnd_left(t);
	if (room < MIN_OF(len, mss))
		return false;
	if (len > mss) {
		len = MIN_OF(len, MIN_OF(room, t->urg_out ? mss : emit_super_max(cx, mss)));
		len = MAX_OF(len - len % mss, MIN_OF(len, mss));
	}
	recovery_resend(cx, t, from, len, rule);
	return true;
}

/* RFC 7661, 9438 5.8: does the application fill the window? Judged once a flight. */
static void validate_cwnd(struct tcb *t, bool limited)
{
	uint32_t out = snd_inflight(t);

	if (seq_geq(t->snd_una, t->cwnd_usage_seq) || limited || (!t->cwnd_limited && out > t->max_flight)) {
		t->cwnd_limited = limited;
		t->max_flight = out;
		t->cwnd_usage_seq = t->snd_nxt;
	}
}

/* Something waits and nothing is in flight that would bring an ACK: a timer must bring it out. */
static void arm_for_held(struct stack_cx *cx, struct tcb *t)
{
	if (snd_outstanding(t)) {
		if (t->timer[TIMER_RTO] == NSEC_NEVER)
			rto_arm(cx, t);
		timer_cancel(cx, t, TIMER_PERSIST);
		timer_cancel(cx, t, TIMER_OVERRIDE);
		return;
	}
	if (!snd_unsent(t) && !(t->fin_queued && !t->fin_sent)) {
		timer_cancel(cx, t, TIMER_PERSIST);
		timer_cancel(cx, t, TIMER_OVERRIDE);
		return;
	}
	if (window_left(t) == 0) {
		persist_arm(cx, t);
		return;
	}
	timer_cancel(cx, t, TIMER_PERSIST);
	t->persist_backoff = 0;
	if (t->timer[TIMER_OVERRIDE] == NSEC_NEVER)
		timer_set(cx, t, TIMER_OVERRIDE, cx->now + OVERRIDE_TIME);
}

static void output_data(struct stack_cx *cx, struct tcb *t, bool force)
{
	uint32_t mss = snd_mss_current(cx, t);
	bool sent = false;
	struct decision d;

	while (t->ca_state >= CA_RECOVERY && send_lost(cx, t, mss))
		;
	for (;;) {
		d = decide(cx, t, mss, force);
		if (d.len == 0 && !d.fin)
			break;
		send_new(cx, t, &d, mss);
		sent = true;
		mss = snd_mss_current(cx, t); /* a pending DSACK block has left */
		if (t->fin_sent)
			break;
		force = false; /* the override lets one small segment out */
	}
	if (sent || d.cwnd_limited)
		validate_cwnd(t, d.cwnd_limited);
	busy_update(cx, t, d.window_limited);
	if (sent && t->notsent_lowat)
		sndbuf_wake(cx, t); /* TCP_NOTSENT_LOWAT: sending makes room */
	arm_for_held(cx, t);
}

static void output_run(struct stack_cx *cx, struct tcb *t, bool force)
{
	if (DATA_STATES & (1u << t->state) && (t->fin_queued || snd_unsent(t) || t->ca_state >= CA_RECOVERY))
		output_data(cx, t, force);
	if (t->ack_now && t->state >= TCPS_SYN_RECEIVED)
		output_ack(cx, t);
}

void tcp_output(struct stack_cx *cx, struct tcb *t)
{
	output_run(cx, t, false);
}

/* RFC 9293 3.8.6.2.1: the override time-out; also the end of Linux's 200 ms of cork. */
void output_override_timer(struct stack_cx *cx, struct tcb *t)
{
	output_run(cx, t, true);
}

void output_ack(struct stack_cx *cx, struct tcb *t)
{
	struct emit e = {.seq = t->snd_nxt, .flags = TH_ACK, .mss = SND_MSS_MIN};

	/* a number beyond a window that shrank would be unacceptable: Linux's tcp_acceptable_seq */
	seq32 edge = seq_add(t->snd_una, t->snd_wnd);
	if (seq_gt(t->snd_nxt, edge) && t->state >= TCPS_ESTABLISHED)
		e.seq = seq_max(edge, t->snd_una);
	(void)emit_segment(cx, t, &e);
}

/* RFC 9293 3.8.4 and 3.8.6.1: one before SND.UNA, no data: the peer must answer it with an ACK. */
void output_probe(struct stack_cx *cx, struct tcb *t, bool keepalive)
{
	struct emit e = {.seq = seq_add(t->snd_una, UINT32_MAX), .flags = TH_ACK, .mss = SND_MSS_MIN};

	if (keepalive)
		COUNT(cx, tcp_keepalive);
	else
		COUNT(cx, tcp_persist);
	(void)emit_segment(cx, t, &e);
}
