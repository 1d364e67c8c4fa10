/*
 * rtt.c - round-trip estimate and retransmission time-out (RFC 6298, 7323 4).
 *
 * Called by ackin.c with one sample per ACK at most. Samples come from a timed
 * segment (exact, one per flight) and, when it was resent (Karn), from the echoed
 * timestamp. As Linux does, 4*RTTVAR is not let below the minimum RTO, so that the
 * time-out is at least SRTT + rto_min: a peer's delayed ACK never meets it.
 */
#include "core/send.h"

static void rto_from_estimate(struct stack_cx *cx, struct tcb *t)
{
	const struct stack_config *c = &stack_of(cx)->config;
	nsec rto = t->srtt_ns + MAX_OF(4 * t->rttvar_ns, c->rto_min); /* RFC 6298 (2.3), G below rto_min */

	t->rto_ns = MIN_OF(MAX_OF(rto, c->rto_min), c->rto_max);
}

void rtt_init(struct stack_cx *cx, struct tcb *t)
{
	t->srtt_ns = t->rttvar_ns = 0;
	t->min_rtt_ns = NSEC_NEVER;
	t->rto_ns = stack_of(cx)->config.rto_initial; /* RFC 6298 (2.1) */
	t->rtt_timing = false;
	t->backoff = 0;
}

/* RFC 6298 (5.7): the SYN was resent and gave no sample. */
void rtt_established(struct stack_cx *cx, struct tcb *t)
{
	t->backoff = 0;
	if (t->srtt_ns == 0)
		t->rto_ns = MIN_OF(MAX_OF(3 * stack_of(cx)->config.rto_initial, stack_of(cx)->config.rto_min),
				   stack_of(cx)->config.rto_max);
}

void rtt_sample(struct stack_cx *cx, struct tcb *t, nsec sample)
{
	/*
	 * Both segments may have fallen into one look at the clock: a microsecond at least. No path takes
	 * longer than the largest RTO; the bound keeps the sums far from overflow.
	 */
	sample = MIN_OF(MAX_OF(sample, NS_PER_US), stack_of(cx)->config.rto_max);
	t->min_rtt_ns = MIN_OF(t->min_rtt_ns, sample);
	if (t->srtt_ns == 0) { /* RFC 6298 (2.2) */
		t->srtt_ns = sample;
		t->rttvar_ns = sample / 2;
	} else { /* (2.3): alpha 1/8, beta 1/4, RTTVAR first */
		nsec error = t->srtt_ns > sample ? t->srtt_ns - sample : sample - t->srtt_ns;

		t->rttvar_ns = t->rttvar_ns - t->rttvar_ns / 4 + error / 4;
		t->srtt_ns = MAX_OF(t->srtt_ns - t->srtt_ns / 8 + sample / 8, 1);
	}
	t->backoff = 0; /* RFC 6298 5: a sample ends the back-off */
	rto_from_estimate(cx, t);
}

/* RFC 6298 (5.5): double, up to the maximum. */
void rtt_backoff(struct stack_cx *cx, struct tcb *t)
{
	const nsec max = stack_of(cx)->config.rto_max;

	if (t->backoff < UINT8_MAX)
		t->backoff++;
	t->rto_ns = t->rto_ns > max / 2 ? max : t->rto_ns * 2;
}
