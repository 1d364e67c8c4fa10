/*
 * persist.c - probing a closed window (RFC 9293 3.8.6.1, MUST-35..37, SHLD-29/30).
 *
 * Runs only while nothing is in flight: what is in flight has its own timer. The
 * probe is a segment without data one below SND.UNA, which the peer must answer
 * with its window. A peer that answers may keep the window shut for ever, except
 * on an orphan, whose memory it would hold (CVE-2008-4609), and except beyond
 * the user's own limit.
 */
#include "core/send.h"

#define ORPHAN_PROBES 8u

static nsec persist_interval(struct stack_cx *cx, const struct tcb *t)
{
	const struct stack_config *c = &stack_of(cx)->config;
	nsec interval = MAX_OF(t->rto_ns, c->rto_min);

	for (unsigned i = 0; i < t->persist_backoff && interval < c->rto_max; i++)
		interval *= 2;
	return MIN_OF(interval, c->rto_max);
}

void persist_arm(struct stack_cx *cx, struct tcb *t)
{
	if (t->timer[TIMER_PERSIST] == NSEC_NEVER)
		timer_set(cx, t, TIMER_PERSIST, cx->now + persist_interval(cx, t));
}

static bool persist_exhausted(struct stack_cx *cx, const struct tcb *t)
{
	const struct stack_config *c = &stack_of(cx)->config;

	if (t->user_timeout_ms && t->persist_backoff &&
	    cx->now - t->retransmit_since >= t->user_timeout_ms * NS_PER_MS)
		return true;
	if (t->orphan)
		return t->persist_probes >= ORPHAN_PROBES || persist_interval(cx, t) >= c->rto_max;
	return t->persist_probes >= c->retries;
}

void persist_timer(struct stack_cx *cx, struct tcb *t)
{
	bool waits = snd_unsent(t) || (t->fin_queued && !t->fin_sent);

	if (t->state < TCPS_ESTABLISHED || snd_outstanding(t) || !waits)
		return;
	if (t->snd_wnd) {
		tcp_output(cx, t);
		return;
	}
	if (persist_exhausted(cx, t)) {
		COUNT(cx, tcp_abort_timeout);
		if (t->orphan)
			output_rst(cx, t);
		tcb_drop(cx, t, t->soft_error ? t->soft_error : ETIMEDOUT);
		return;
	}
	if (t->persist_backoff == 0)
		t->retransmit_since = cx->now;
	if (t->persist_backoff < UINT8_MAX)
		t->persist_backoff++;
	if (t->persist_probes < UINT8_MAX)
		t->persist_probes++;
	persist_arm(cx, t);
	output_probe(cx, t, false);
}
