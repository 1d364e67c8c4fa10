/*
 * keepalive.c - probing an idle peer (RFC 9293 3.8.4, MUST-24..29).
 *
 * Off unless SO_KEEPALIVE asks. Arrivals do not touch the timer: it fires at its
 * old deadline, sees how long the connection was really silent, and goes on.
 */
#include "core/send.h"

static nsec keep_idle(struct stack_cx *cx, const struct tcb *t)
{
	return t->keepidle_s ? t->keepidle_s * NS_PER_S : stack_of(cx)->config.keepidle;
}

static nsec keep_interval(struct stack_cx *cx, const struct tcb *t)
{
	return t->keepintvl_s ? t->keepintvl_s * NS_PER_S : stack_of(cx)->config.keepintvl;
}

void keepalive_arm(struct stack_cx *cx, struct tcb *t)
{
	if (t->keepalive && t->state >= TCPS_ESTABLISHED && t->state != TCPS_TIME_WAIT)
		timer_set(cx, t, TIMER_KEEPALIVE, cx->now + keep_idle(cx, t));
	else
		timer_cancel(cx, t, TIMER_KEEPALIVE);
}

/* MUST-29: one probe without an answer is not death; keepcnt are, or the user's time-out. */
static bool keep_exhausted(struct stack_cx *cx, const struct tcb *t, nsec silent)
{
	unsigned most = t->keepcnt ? t->keepcnt : stack_of(cx)->config.keepcnt;

	if (t->user_timeout_ms)
		return t->keep_probes > 0 && silent >= t->user_timeout_ms * NS_PER_MS;
	return t->keep_probes >= most;
}

void keepalive_timer(struct stack_cx *cx, struct tcb *t)
{
	nsec idle = keep_idle(cx, t), silent = cx->now - t->last_recv;

	if (!t->keepalive || t->state < TCPS_ESTABLISHED || t->state == TCPS_TIME_WAIT)
		return;
	/* MUST-26: while data waits, its own timers test the peer */
	if (snd_outstanding(t) || snd_unsent(t)) {
		timer_set(cx, t, TIMER_KEEPALIVE, cx->now + idle);
		return;
	}
	if (silent < idle) {
		t->keep_probes = 0;
		timer_set(cx, t, TIMER_KEEPALIVE, t->last_recv + idle);
		return;
	}
	if (keep_exhausted(cx, t, silent)) {
		COUNT(cx, tcp_abort_timeout);
		output_rst(cx, t);
		tcb_drop(cx, t, t->soft_error ? t->soft_error : ETIMEDOUT);
		return;
	}
	t->keep_probes++;
	timer_set(cx, t, TIMER_KEEPALIVE, cx->now + keep_interval(cx, t));
	output_probe(cx, t, true);
}
