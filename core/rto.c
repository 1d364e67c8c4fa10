/*
 * rto.c - the retransmission timer (RFC 6298 5) and the limits after which a
 * connection is given up (RFC 9293 3.8.3).
 *
 * One timer serves SYN, SYN-ACK, data and FIN. R1 is three time-outs; R2 is, as
 * in Linux, not a count but the time that `retries` doublings of the minimum RTO
 * would take: 15 give 924.6 s. TCP_USER_TIMEOUT replaces it, an orphan has 8
 * doublings (102 s), and 0 once its RTO has reached the maximum.
 */
#include "core/send.h"

#define ORPHAN_RETRIES 8u

void rto_arm(struct stack_cx *cx, struct tcb *t)
{
	if (snd_outstanding(t))
		timer_set(cx, t, TIMER_RTO, cx->now + t->rto_ns);
	else
		timer_cancel(cx, t, TIMER_RTO);
}

nsec rto_span(const struct stack_config *c, unsigned n)
{
	nsec span = 0, rto = c->rto_min;

	for (unsigned i = 0; i <= n; i++) {
		span += rto;
		rto = MIN_OF(2 * rto, c->rto_max);
	}
	return span;
}

/* MUST-20, MUST-21: report the last hint of the network, else a time-out. */
static void give_up(struct stack_cx *cx, struct tcb *t)
{
	COUNT(cx, tcp_abort_timeout);
	if (t->orphan && t->state >= TCPS_ESTABLISHED)
		output_rst(cx, t); /* nobody is left to tell; let the peer know */
	tcb_drop(cx, t, t->soft_error ? t->soft_error : ETIMEDOUT);
}

static bool limit_reached(struct stack_cx *cx, const struct tcb *t, nsec elapsed)
{
	const struct stack_config *c = &stack_of(cx)->config;

	if (t->user_timeout_ms)
		return elapsed >= t->user_timeout_ms * NS_PER_MS;
	if (!t->orphan)
		return elapsed >= rto_span(c, c->retries);
	return t->rto_ns >= c->rto_max || elapsed >= rto_span(c, ORPHAN_RETRIES);
}

bool rto_give_up(struct stack_cx *cx, struct tcb *t)
{
	if (t->retransmits == 0) {
		/* what times out now was sent, or last acknowledged, about one RTO ago */
		t->retransmit_since = cx->now > t->rto_ns ? cx->now - t->rto_ns : 0;
		return false;
	}
	if (!limit_reached(cx, t, cx->now - t->retransmit_since))
		return false;
	give_up(cx, t);
	return true;
}

/* The next time-out; not later than the moment at which the user's patience ends. */
static void rto_rearm(struct stack_cx *cx, struct tcb *t)
{
	nsec deadline = cx->now + t->rto_ns;

	if (t->user_timeout_ms)
		deadline = MIN_OF(deadline, t->retransmit_since + t->user_timeout_ms * NS_PER_MS);
	timer_set(cx, t, TIMER_RTO, deadline);
}

/* SYN-SENT and SYN-RECEIVED (MUST-22, MUST-23): a count of retransmissions, as Linux's tcp_syn_retries. */
static void syn_timeout(struct stack_cx *cx, struct tcb *t)
{
	const struct stack_config *c = &stack_of(cx)->config;
	unsigned most = t->syn_retries_opt ? t->syn_retries_opt : c->syn_retries;
	bool impatient = t->user_timeout_ms && t->retransmits &&
			 cx->now - t->retransmit_since >= t->user_timeout_ms * NS_PER_MS;

	if (t->state == TCPS_SYN_RECEIVED && t->passive)
		most = c->synack_retries;
	if (t->retransmits >= most || impatient) {
		give_up(cx, t);
		return;
	}
	if (t->retransmits == 0)
		t->retransmit_since = cx->now > t->rto_ns ? cx->now - t->rto_ns : 0;
	COUNT(cx, tcp_rto);
	t->total_rto++;
	t->retransmits++;
	rtt_backoff(cx, t);
	rto_rearm(cx, t);
	output_syn(cx, t);
}

/* SHLD-17: a peer that shut its window on data in flight, but answers, is alive. */
static bool window_shut_but_alive(struct stack_cx *cx, const struct tcb *t)
{
	return t->snd_wnd == 0 && !t->orphan && !t->user_timeout_ms &&
	       cx->now - t->last_recv <= stack_of(cx)->config.rto_max;
}

void rto_timer(struct stack_cx *cx, struct tcb *t)
{
	if (t->state == TCPS_SYN_SENT || t->state == TCPS_SYN_RECEIVED) {
		syn_timeout(cx, t);
		return;
	}
	if (t->state < TCPS_ESTABLISHED || snd_outstanding(t) == 0)
		return;
	if (window_shut_but_alive(cx, t))
		t->retransmit_since = cx->now;
	else if (rto_give_up(cx, t))
		return;
	COUNT(cx, tcp_rto);
	t->total_rto++;
	recovery_on_rto(cx, t); /* RFC 6298 (5.4) to (5.6) */
	if (t->retransmits < UINT8_MAX)
		t->retransmits++;
	rtt_backoff(cx, t);
	rto_rearm(cx, t);
	recovery_resend_first(cx, t);
}
