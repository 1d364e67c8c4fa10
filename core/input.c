/*
 * input.c - what a segment does to its connection: RFC 9293 3.10.7, one
 * function for each numbered step.
 *
 * Theory of operation. segment_arrives() runs the steps in the RFC's order;
 * each returns a verdict, and the first that is not NEXT ends the walk:
 *
 *   1 sequence number    PAWS (RFC 7323), window test, trimming to the window
 *   2 RST                exact match only (RFC 5961 3.2)
 *   3 security           RFC 9293 keeps the number; nothing is checked
 *   4 SYN                challenge ACK (RFC 5961 4.2), simultaneous open
 *   5 ACK                opens, ack_process() for the sender, acknowledged FINs
 *   6 URG                the urgent mark, with Linux's reading of the pointer
 *   7 text               in order to rcvbuf, else to reass.c
 *   8 FIN
 *
 * After step 1 a segment holds only what is new and fits: seq == rcv_nxt unless
 * it lies beyond a hole. seq_wire keeps what was on the wire.
 *
 * A step that ends the TCB (tcb_drop, tcb_done, tcb_enter_timewait) returns
 * DROP or RST_DROP, so that nobody looks at it again. ACKs and new data leave
 * at the end of the burst: the walk ends with output_mark().
 *
 * Step 1 takes a little more than RFC 9293's table on its left, as Linux does:
 * a segment that ends at or after our last ACK's number is current, so the ACK
 * in a reordered segment is not lost.
 */
#include "core/recv.h"

/* -------------------------------------------------------------- timestamps */

/* RFC 7323 5.3 R1: older than TS.Recent, unless that is older than 24 days itself (5.5). */
bool paws_reject(struct stack_cx *cx, uint32_t ts_recent, nsec age, const struct segment *s)
{
	return (int32_t)(s->ts_val - ts_recent) < 0 && cx->now - age < PAWS_IDLE_MAX;
}

/*
 * A duplicate ACK that was overtaken on its way carries an old timestamp and no
 * news: not worth an answer that the peer would take for a duplicate ACK of ours.
 */
static bool disordered_ack(const struct tcb *t, const struct segment *s)
{
	return s->len == 0 && !(s->flags & (TH_SYN | TH_FIN | TH_RST)) && (s->flags & TH_ACK) &&
	       seq_eq(s->seq, t->rcv_nxt) && seq_eq(s->ack, t->snd_una) &&
	       s->wnd << t->snd_wscale == t->snd_wnd &&
	       (uint64_t)(t->ts_recent - s->ts_val) * NS_PER_MS < t->rto_ns;
}

/* RFC 7323 5.3 R3: TS.Recent follows segments that touch the left edge of what we acknowledged last. */
static void ts_update(struct stack_cx *cx, struct tcb *t, const struct segment *s)
{
	if (!t->ts_ok || !s->has_ts || seq_gt(s->seq_wire, t->last_ack_sent))
		return;
	if (paws_reject(cx, t->ts_recent, t->ts_recent_age, s))
		return;
	t->ts_recent = s->ts_val;
	t->ts_recent_age = cx->now;
}

/* --------------------------------------------------- step 1, the sequence number */

static enum verdict check_timestamps(struct stack_cx *cx, struct tcb *t, const struct segment *s)
{
	if (!t->ts_ok || (s->flags & TH_RST))
		return NEXT; /* RFC 7323 5.2: a RST is taken whatever its timestamp */
	if (!s->has_ts)
		return s->flags & TH_SYN ? NEXT : DROP; /* RFC 7323 3.2 */
	if (!paws_reject(cx, t->ts_recent, t->ts_recent_age, s) || disordered_ack(t, s))
		return NEXT;
	COUNT(cx, tcp_paws);
	return ACK_DROP;
}

/* RFC 9293 3.4's test, by the edges that we promised. */
static bool acceptable(const struct tcb *t, const struct segment *s)
{
	seq32 right = seq_max(t->rcv_adv, t->rcv_nxt);

	if (seq_lt(seq_add(s->seq, segment_span(s)), t->last_ack_sent))
		return false;
	if (seq_lt(s->seq, right))
		return true;
	/* At the edge: no data of it fits, but with a closed window ACK, RST and URG count (MUST-66). */
	return seq_eq(s->seq, right) && (s->len == 0 || seq_eq(right, t->rcv_nxt));
}

/* Received before: say so at once, and which part (RFC 2883). */
static void duplicate(struct stack_cx *cx, struct tcb *t, seq32 start, seq32 end)
{
	reass_duplicate(t, start, seq_min(end, t->rcv_nxt));
	ack_quick_mode(cx, t);
	ack_schedule_now(cx, t);
}

/* Cut what lies left of RCV.NXT: the rest is as good as a segment that began there. */
static void trim_left(struct stack_cx *cx, struct tcb *t, struct segment *s)
{
	int32_t old = seq_diff(t->rcv_nxt, s->seq);

	if (old <= 0)
		return;
	uint32_t cut = MIN_OF((uint32_t)old, s->len);
	seq32 fin = seq_add(s->seq, s->len);
	if ((s->flags & TH_FIN) && seq_lt(fin, t->rcv_nxt)) {
		s->flags &= (uint8_t)~TH_FIN;
		if (!cut)
			duplicate(cx, t, t->rcv_nxt, t->rcv_nxt);
	}
	if (cut)
		duplicate(cx, t, s->seq, seq_add(s->seq, s->len));
	s->urg = (uint16_t)((uint32_t)old < s->urg ? s->urg - (uint32_t)old : 0);
	s->data += cut;
	s->len -= cut;
	s->seq = t->rcv_nxt;
}

/* Cut what lies right of the window, the FIN first. */
static void trim_right(struct stack_cx *cx, struct tcb *t, struct segment *s)
{
	seq32 right = seq_max(t->rcv_adv, t->rcv_nxt);
	int32_t over = seq_diff(seq_add(s->seq, s->len), right);

	if (over <= 0)
		return;
	s->len -= MIN_OF((uint32_t)over, s->len);
	s->flags &= (uint8_t) ~(TH_FIN | TH_PSH);
	ack_quick_mode(cx, t);
	ack_schedule_now(cx, t); /* a window probe is answered (RFC 9293 3.8.6.1) */
}

static enum verdict step1_sequence(struct stack_cx *cx, struct tcb *t, struct segment *s)
{
	enum verdict v = check_timestamps(cx, t, s);

	if (v != NEXT)
		return v;
	if (!acceptable(t, s)) {
		if (s->flags & TH_RST)
			return DROP;
		if (s->flags & TH_SYN) {
			ack_challenge(cx, t);
			return DROP;
		}
		if (s->len && seq_lt(s->seq, t->rcv_nxt))
			reass_duplicate(t, s->seq, seq_min(seq_add(s->seq, s->len), t->rcv_nxt));
		return ACK_DROP;
	}
	if ((s->flags & (TH_SYN | TH_RST | TH_ACK)) == TH_ACK) { /* without ACK step 5 drops it unanswered */
		trim_left(cx, t, s);
		trim_right(cx, t, s);
	}
	return NEXT;
}

/* ---------------------------------------------------------------- step 2, RST */

static int reset_error(const struct tcb *t)
{
	switch ((enum tcp_state)t->state) {
	case TCPS_SYN_RECEIVED:
		return ECONNREFUSED; /* an active open; a passive one goes without a word (MUST-11) */
	case TCPS_CLOSE_WAIT:
		return EPIPE; /* as Linux: the peer had finished, only our writing can fail */
	default:
		return ECONNRESET;
	}
}

/* RFC 5961 3.2: in the window but not exactly expected: ask the peer to say it again with the right number.
 */
static enum verdict step2_reset(struct stack_cx *cx, struct tcb *t, const struct segment *s)
{
	if (!(s->flags & TH_RST))
		return NEXT;
	if (seq_eq(s->seq, t->rcv_nxt))
		tcb_drop(cx, t, reset_error(t));
	else if (seq_gt(s->seq, t->rcv_nxt))
		ack_challenge(cx, t);
	return DROP;
}

/* ----------------------------------------------------- step 3, security: none */

static enum verdict step3_security(void)
{
	return NEXT;
}

/* ---------------------------------------------------------------- step 4, SYN */

static enum verdict step4_syn(struct stack_cx *cx, struct tcb *t, struct segment *s)
{
	if (!(s->flags & TH_SYN))
		return NEXT;
	bool handshake = t->state == TCPS_SYN_RECEIVED && seq_eq(s->seq, t->irs);
	if (handshake && !(s->flags & TH_ACK)) {
		/* The peer sent its SYN again: our SYN-ACK was lost. */
		if (!ack_limited(cx, &t->oow_ack_last))
			output_syn(cx, t);
		return DROP;
	}
	if (handshake && !t->passive && seq_eq(s->ack, t->snd_nxt)) {
		/* Simultaneous open (RFC 9293 figure 8): the peer's SYN-ACK stands for an ACK. */
		s->flags &= (uint8_t)~TH_SYN;
		s->seq = seq_add(s->seq, 1);
		trim_right(cx, t, s);
		ack_schedule_now(cx, t);
		return NEXT;
	}
	ack_challenge(cx, t); /* RFC 5961 4.2 */
	return DROP;
}

/* ---------------------------------------------------------------- step 5, ACK */

static void window_first(struct tcb *t, const struct segment *s, uint8_t scale)
{
	t->snd_wnd = s->wnd << scale;
	t->snd_wnd_max = MAX_OF(t->snd_wnd_max, t->snd_wnd);
	t->snd_wl1 = s->seq_wire;
	t->snd_wl2 = s->ack;
}

static enum verdict ack_in_syn_received(struct stack_cx *cx, struct tcb *t, const struct segment *s)
{
	if (seq_leq(s->ack, t->snd_una) || seq_gt(s->ack, t->snd_nxt))
		return RST_DROP;
	if (t->listener && !listen_may_establish(cx, t, s))
		return DROP;
	tcb_syn_acked(cx, t, s);
	window_first(t, s, t->snd_wscale);
	tcb_established(cx, t);
	return NEXT;
}

static enum verdict step5_ack(struct stack_cx *cx, struct tcb *t, struct segment *s)
{
	ref self = pool_ref(cx, t);

	if (!(s->flags & TH_ACK))
		return DROP;
	t->last_recv = cx->now;
	t->keep_probes = 0;
	if (t->state == TCPS_SYN_RECEIVED) {
		enum verdict v = ack_in_syn_received(cx, t, s);
		if (v != NEXT)
			return v;
	}
	if (!ack_process(cx, t, s))
		return DROP;
	ts_update(cx, t, s);
	if (t->fin_acked && t->state != TCPS_FIN_WAIT_2) {
		tcb_fin_acked(cx, t, s);
		if (!pool_valid(cx, POOL_TCB, self) || t->state == TCPS_CLOSED || t->state == TCPS_TIME_WAIT)
			return DROP;
	}
	return NEXT;
}

/* ---------------------------------------------------------------- step 6, URG */

static bool may_receive(const struct tcb *t)
{
	return t->state == TCPS_ESTABLISHED || t->state == TCPS_FIN_WAIT_1 || t->state == TCPS_FIN_WAIT_2;
}

/* A newer mark while the old byte is next to be read: it is skipped, as if it had been taken. */
static void urgent_skip_old(struct stack_cx *cx, struct tcb *t)
{
	if (t->urg_in && !t->oobinline && seq_eq(t->rcv_up, rcv_copied(t)) && buffer_len(&t->rcvbuf))
		buffer_consume(cx, &t->rcvbuf, 1);
}

/*
 * RFC 9293 3.8.5. The pointer names the octet after the urgent one (MUST-62),
 * and Linux shows the application the octet before it: rcv_up is the sequence
 * number of that urgent byte. The byte is copied aside when it arrives, and
 * sock_recv() steps over it in the stream unless SO_OOBINLINE.
 */
static void urgent_mark(struct stack_cx *cx, struct tcb *t, const struct segment *s)
{
	seq32 mark = seq_add(s->seq, s->urg - 1u);

	COUNT(cx, tcp_tail_drop_urg);
	if (seq_gt(rcv_copied(t), mark) || seq_lt(mark, t->rcv_nxt))
		return; /* read already, or arrived when it was not urgent */
	if (t->urg_in && seq_leq(mark, t->rcv_up))
		return;
	urgent_skip_old(cx, t);
	t->urg_in = true;
	t->urg_valid = t->urg_seen = false;
	t->rcv_up = mark;
	sock_signal(cx, t, SOCK_PRI | SOCK_TOLD_PRI); /* MUST-32 */
}

static enum verdict step6_urgent(struct stack_cx *cx, struct tcb *t, const struct segment *s)
{
	if (!may_receive(t))
		return NEXT;
	if ((s->flags & TH_URG) && s->urg)
		urgent_mark(cx, t, s);
	if (t->urg_in && !t->urg_valid && !t->urg_seen) {
		int32_t at = seq_diff(t->rcv_up, s->seq);
		if (at >= 0 && (uint32_t)at < s->len) {
			t->urg_byte = s->data[at];
			t->urg_valid = true;
			sock_signal(cx, t, SOCK_PRI | SOCK_IN | SOCK_TOLD_IN);
		}
	}
	return NEXT;
}

/* --------------------------------------------------------------- step 7, text */

/* All of it, for the window promised as much, but for want of memory in the stack: then the peer sends again.
 */
static void text_in_order(struct stack_cx *cx, struct tcb *t, struct segment *s)
{
	uint32_t got = s->len;

	if (!loop_take_chunk(cx, &t->rcvbuf, pool_ref(cx, t), s))
		got = (uint32_t)buffer_append_flat(cx, &t->rcvbuf, pool_ref(cx, t), s->data, s->len);

	while (got < s->len && reass_prune(cx, t))
		got += (uint32_t)buffer_append_flat(cx, &t->rcvbuf, pool_ref(cx, t), s->data + got,
						    s->len - got);
	t->rcv_nxt = seq_add(t->rcv_nxt, got);
	t->bytes_received += got;
	if (got < s->len) {
		COUNT(cx, tcp_mem_drop);
		s->flags &= (uint8_t)~TH_FIN;
		s->len = got;
		ack_quick_mode(cx, t);
		ack_schedule_now(cx, t);
	}
	if (got)
		ack_data_received(cx, t, s);
	if (t->ooo_root) {
		/* RFC 5681 4.2: a filled hole is acknowledged at once. */
		reass_deliver(cx, t);
		ack_schedule_now(cx, t);
	}
	if (got && (t->rcvlowat <= 1 || buffer_len(&t->rcvbuf) >= t->rcvlowat || t->fin_known))
		sock_signal(cx, t, SOCK_IN | SOCK_PRI | SOCK_TOLD_IN);
}

/* RFC 5681 4.2: an out-of-order segment is answered at once, so that the peer can tell a loss. */
static void text_out_of_order(struct stack_cx *cx, struct tcb *t, const struct segment *s)
{
	reass_add(cx, t, s);
	ack_quick_mode(cx, t);
	if (t->sack_ok)
		ack_schedule_now(cx, t);
	else
		output_ack(cx, t); /* the peer counts them */
}

/* SHLD-3: data for a socket that nobody can read from any more. */
static enum verdict text_after_close(struct stack_cx *cx, struct tcb *t)
{
	COUNT(cx, tcp_abort_data);
	tcb_drop(cx, t, ECONNRESET);
	return RST_DROP;
}

static enum verdict step7_text(struct stack_cx *cx, struct tcb *t, struct segment *s)
{
	if (!s->len)
		return NEXT;
	if (!may_receive(t)) {
		/* After the peer's FIN nothing can follow (RFC 9293 3.10.7.4). */
		s->len = 0;
		s->flags &= (uint8_t)~TH_FIN;
		return NEXT;
	}
	if (t->state != TCPS_ESTABLISHED && t->rd_shut)
		return text_after_close(cx, t);
	if (t->fin_known && seq_gt(seq_add(s->seq, s->len), t->fin_seq)) {
		if (seq_geq(s->seq, t->fin_seq))
			return ACK_DROP;
		s->len = (uint32_t)seq_diff(t->fin_seq, s->seq);
	}
	t->data_segs_in += s->gso_size ? (s->len + s->gso_size - 1u) / s->gso_size : 1u;
	if (seq_eq(s->seq, t->rcv_nxt))
		text_in_order(cx, t, s);
	else
		text_out_of_order(cx, t, s);
	return NEXT;
}

/* ---------------------------------------------------------------- step 8, FIN */

static enum verdict fin_process(struct stack_cx *cx, struct tcb *t)
{
	t->rcv_nxt = seq_add(t->rcv_nxt, 1);
	t->fin_received = t->rd_shut = true;
	sock_signal(cx, t, t->wr_shut ? SOCK_TOLD_IN | SOCK_TOLD_HUP : SOCK_TOLD_IN);
	reass_clear(cx, t);
	ack_schedule_now(cx, t);
	switch ((enum tcp_state)t->state) {
	case TCPS_ESTABLISHED:
		state_set(cx, t, TCPS_CLOSE_WAIT);
		t->pingpong = true; /* as Linux's tcp_fin(): no more text to acknowledge */
		break;
	case TCPS_FIN_WAIT_1: /* our own FIN is not acknowledged: step 5 would have moved us on */
		COUNT(cx, tcp_simultaneous_close);
		state_set(cx, t, TCPS_CLOSING);
		break;
	case TCPS_FIN_WAIT_2:
		tcb_enter_timewait(cx, t);
		return DROP;
	default:
		break;
	}
	sock_signal(cx, t, SOCK_EDGES_ALL);
	return NEXT;
}

static enum verdict step8_fin(struct stack_cx *cx, struct tcb *t, const struct segment *s)
{
	if (!may_receive(t))
		return NEXT;
	if ((s->flags & TH_FIN) && !t->fin_known) {
		t->fin_known = true;
		t->fin_seq = seq_add(s->seq, s->len);
	}
	if (!t->fin_known || !seq_eq(t->rcv_nxt, t->fin_seq)) {
		if ((s->flags & TH_FIN) && !s->len)
			ack_schedule_now(cx,
					 t); /* it came before what precedes it; text would have said so */
		return NEXT;
	}
	return fin_process(cx, t);
}

/* ------------------------------------------------------------------ SYN-SENT */

/* The echo must lie between our first SYN and now (as Linux; RFC 7323 leaves it open). */
static bool syn_echo_valid(struct stack_cx *cx, const struct tcb *t, const struct segment *s)
{
	if (!stack_of(cx)->config.timestamps || !s->has_ts || !s->ts_ecr)
		return true;
	uint32_t now = ts_now(cx, t);
	uint32_t since = (uint32_t)((cx->now - t->rtt_start) / NS_PER_MS) + 1;
	return now - s->ts_ecr <= since;
}

/* Text and FIN that came with the peer's SYN: on with step 6 (RFC 9293 3.10.7.3). */
static enum verdict syn_sent_rest(struct stack_cx *cx, struct tcb *t, struct segment *s)
{
	s->flags &= (uint8_t)~TH_SYN;
	s->seq = s->seq_wire = seq_add(s->seq, 1);
	trim_right(cx, t, s);
	enum verdict v = step6_urgent(cx, t, s);
	if (v == NEXT)
		v = step7_text(cx, t, s);
	if (v == NEXT)
		v = step8_fin(cx, t, s);
	return v;
}

/* RFC 9293 3.10.7.3 */
enum verdict syn_sent_segment(struct stack_cx *cx, struct tcb *t, struct segment *s)
{
	bool ack = s->flags & TH_ACK;

	if (ack && (seq_leq(s->ack, t->iss) || seq_gt(s->ack, t->snd_nxt) || !syn_echo_valid(cx, t, s)))
		return RST_DROP; /* output_rst_for() answers no RST */
	if (s->flags & TH_RST) {
		if (ack)
			tcb_drop(cx, t, ECONNREFUSED);
		return DROP;
	}
	if (!(s->flags & TH_SYN))
		return DROP;
	t->irs = s->seq;
	t->rcv_nxt = t->last_ack_sent = seq_add(s->seq, 1);
	t->rcv_adv = seq_add(t->rcv_nxt, t->rcv_wnd);
	tcb_negotiate(cx, t, s);
	window_first(t, s, 0); /* RFC 7323 2.2: never scaled in a SYN */
	t->last_recv = cx->now;
	if (!ack) {
		COUNT(cx, tcp_simultaneous_open);
		state_set(cx, t, TCPS_SYN_RECEIVED);
		output_syn(cx, t);
		return DROP; /* the peer sends again what came with its SYN */
	}
	tcb_syn_acked(cx, t, s);
	tcb_established(cx, t);
	ack_schedule_now(cx, t);
	return syn_sent_rest(cx, t, s);
}

/* ------------------------------------------------------------------- the walk */

static enum verdict synchronised_segment(struct stack_cx *cx, struct tcb *t, struct segment *s)
{
	enum verdict v;

	if ((v = step1_sequence(cx, t, s)) != NEXT || (v = step2_reset(cx, t, s)) != NEXT ||
	    (v = step3_security()) != NEXT || (v = step4_syn(cx, t, s)) != NEXT ||
	    (v = step5_ack(cx, t, s)) != NEXT || (v = step6_urgent(cx, t, s)) != NEXT ||
	    (v = step7_text(cx, t, s)) != NEXT)
		return v;
	return step8_fin(cx, t, s);
}

/* An unacceptable segment: data and FIN are answered each burst, what is empty twice a second (as Linux). */
static void answer_unacceptable(struct stack_cx *cx, struct tcb *t, const struct segment *s)
{
	if (s->len || (s->flags & TH_FIN)) {
		ack_quick_mode(cx, t);
		ack_schedule_now(cx, t);
	} else {
		ack_out_of_window(cx, t);
	}
}

void segment_arrives(struct stack_cx *cx, struct tcb *t, struct segment *s)
{
	t->segs_in += s->gso_size ? (s->len + s->gso_size - 1u) / s->gso_size : 1u;
	switch (t->state == TCPS_SYN_SENT ? syn_sent_segment(cx, t, s) : synchronised_segment(cx, t, s)) {
	case NEXT:
		if (t->ack_now || t->fin_queued || buffer_len(&t->sndbuf))
			output_mark(cx, t);
		break;
	case DROP:
		break;
	case ACK_DROP:
		answer_unacceptable(cx, t, s);
		break;
	case RST_DROP:
		output_rst_for(cx, s);
		break;
	}
}
