/*
 * ack.c - when to acknowledge (RFC 9293 3.8.6.3, SHLD-18/19, MUST-40, MUST-58/59).
 *
 * Theory of operation, which is Linux's. A connection begins in quick-ack mode:
 * up to 16 segments are answered at once, because the peer is in slow start and
 * its window opens with each ACK. Later an ACK waits (40 ms, adapted to the
 * pace of arrival, 200 ms at most) for data to ride on or a second full segment.
 * A connection on which the application answers what it reads (`pingpong`) is
 * interactive: its ACKs always wait for the answer. Trouble (a duplicate, a
 * hole) brings quick-ack mode back.
 *
 * "At once" means at the end of the burst: the segment sets ack_now and marks
 * the connection, stack_flush() lets tcp_output() send one ACK for all that
 * came in the burst. Without SACK each out-of-order segment is answered by
 * itself, since the peer counts duplicate ACKs (RFC 5681 3.2).
 *
 * Answers to segments that should not have come are rate limited per
 * connection, so that two confused hosts cannot keep each other busy; challenge
 * ACKs also by a stack-wide bucket of random size (CVE-2016-5696).
 */
#include "core/recv.h"

#define QUICKACK_MAX	16u
#define ATO_MIN_MS	40u
#define CHALLENGE_BURST 1000u /* a second, half of it random */

bool ack_limited(struct stack_cx *cx, nsec *last)
{
	if (*last != NSEC_NEVER && cx->now - *last < OOW_ACK_INTERVAL)
		return true;
	*last = cx->now;
	return false;
}

static void quick_refill(struct tcb *t)
{
	uint32_t n = t->rcv_mss ? t->rcv_wnd / (2 * t->rcv_mss) : 0;

	n = MIN_OF(n ? n : 2u, QUICKACK_MAX);
	t->quickack = (uint8_t)MAX_OF(n, (uint32_t)t->quickack);
}

void ack_quick_mode(struct stack_cx *cx, struct tcb *t)
{
	(void)cx;
	quick_refill(t);
	t->pingpong = false;
	t->ato_ms = ATO_MIN_MS;
}

void ack_schedule_now(struct stack_cx *cx, struct tcb *t)
{
	t->ack_now = t->ack_pending = true;
	output_mark(cx, t);
}

/* The size of the peer's full segments, as far as seen (Linux's tcp_measure_rcv_mss). */
static void measure_mss(struct tcb *t, const struct segment *s)
{
	uint32_t len = s->gso_size ? s->gso_size : s->len;

	if (len >= t->rcv_mss)
		t->rcv_mss = MIN_OF(len, (uint32_t)t->adv_mss);
	else if (s->flags & TH_PSH)
		t->ack_pushed = true;
}

/* Adapt the delay to the pace of arrival. */
static void measure_pace(struct stack_cx *cx, struct tcb *t)
{
	nsec gap = cx->now - t->last_data_recv, ato = t->ato_ms * NS_PER_MS;

	if (!t->ato_ms) {
		quick_refill(t);
		t->ato_ms = ATO_MIN_MS;
	} else if (gap <= ATO_MIN_MS * NS_PER_MS / 2) {
		t->ato_ms = t->ato_ms / 2 + ATO_MIN_MS / 2;
	} else if (gap < ato) {
		t->ato_ms = t->ato_ms / 2 + (uint32_t)(gap / NS_PER_MS);
	} else if (gap > t->rto_ns) {
		quick_refill(t); /* the sender restarts after a pause: its window is small again */
	}
}

static void schedule_delayed(struct stack_cx *cx, struct tcb *t)
{
	const struct stack_config *c = &stack_of(cx)->config;
	nsec ato = t->ato_ms * NS_PER_MS;

	if (ato > c->delack_min) {
		nsec most = t->pingpong || t->ack_pushed ? c->delack_max : 500 * NS_PER_MS;
		if (t->srtt_ns)
			most = MIN_OF(most, MAX_OF(t->srtt_ns, c->delack_min));
		ato = MIN_OF(ato, most);
	}
	ato = MIN_OF(MAX_OF(ato, c->delack_min), c->delack_max);
	nsec deadline = cx->now + ato;
	if (t->ack_pending && t->timer[TIMER_DELACK] != NSEC_NEVER) {
		if (t->timer[TIMER_DELACK] <= cx->now + ato / 4) {
			ack_schedule_now(cx, t);
			return;
		}
		deadline = MIN_OF(deadline, t->timer[TIMER_DELACK]);
	}
	t->ack_pending = true;
	timer_set(cx, t, TIMER_DELACK, deadline);
}

void ack_data_received(struct stack_cx *cx, struct tcb *t, const struct segment *s)
{
	measure_mss(t, s);
	rcv_measure_rtt(cx, t, s);
	measure_pace(cx, t);
	t->last_data_recv = cx->now;
	rcv_window_grow(cx, t, s);
	t->unacked_bytes += s->len;
	/* SHLD-19: more than one full segment waits; or the peer has no window left to send another. */
	if (t->ack_now || t->unacked_bytes > t->rcv_mss || (t->quickack && !t->pingpong) ||
	    rcv_window_now(t) < t->rcv_mss)
		ack_schedule_now(cx, t);
	else
		schedule_delayed(cx, t);
}

/* RFC 5961 7: a stack-wide limit whose size nobody outside can know. */
static bool challenge_allowed(struct stack_cx *cx)
{
	struct token_bucket *b = &stack_of(cx)->challenge_limit;

	if (!b->last || cx->now - b->last >= NS_PER_S) {
		b->last = cx->now ? cx->now : 1;
		b->tokens = CHALLENGE_BURST / 2 + rng_below(cx, CHALLENGE_BURST);
	}
	if (!b->tokens)
		return false;
	b->tokens--;
	return true;
}

void ack_challenge(struct stack_cx *cx, struct tcb *t)
{
	if (ack_limited(cx, &t->challenge_last) || !challenge_allowed(cx)) {
		COUNT(cx, tcp_challenge_limited);
		return;
	}
	COUNT(cx, tcp_challenge_ack);
	output_ack(cx, t);
}

void ack_out_of_window(struct stack_cx *cx, struct tcb *t)
{
	if (!ack_limited(cx, &t->oow_ack_last))
		output_ack(cx, t);
}

void ack_delack_timer(struct stack_cx *cx, struct tcb *t)
{
	if (!t->ack_pending || t->state < TCPS_ESTABLISHED)
		return;
	if (!t->pingpong) {
		/* Nothing came to ride on: wait longer next time. */
		uint32_t most = (uint32_t)(t->rto_ns / NS_PER_MS);
		t->ato_ms = MIN_OF(t->ato_ms * 2, MAX_OF(most, ATO_MIN_MS));
	} else {
		t->pingpong = false;
		t->ato_ms = ATO_MIN_MS;
	}
	COUNT(cx, tcp_delayed_ack);
	t->ack_now = true;
	output_ack(cx, t);
}

void ack_sent(struct stack_cx *cx, struct tcb *t)
{
	t->last_ack_sent = t->rcv_nxt;
	t->unacked_bytes = 0;
	t->ack_now = t->ack_pending = t->ack_pushed = false;
	if (t->quickack)
		t->quickack--;
	if (t->dsack_pending) {
		t->dsack_pending = false;
		COUNT(cx, tcp_dsack_out);
	}
	timer_cancel(cx, t, TIMER_DELACK);
}

/* Linux's tcp_cleanup_rbuf(). */
void ack_read(struct stack_cx *cx, struct tcb *t)
{
	bool due =
	    t->ack_pending && !t->ack_now &&
	    (t->unacked_bytes > t->rcv_mss || (t->ack_pushed && !t->pingpong && !buffer_len(&t->rcvbuf)));

	if (due || rcv_window_update_due(cx, t))
		output_ack(cx, t);
}
