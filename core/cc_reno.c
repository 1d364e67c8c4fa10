/*
 * cc_reno.c - RFC 5681's congestion control.
 */
#include "core/send.h"

static void reno_init(struct stack_cx *cx, struct tcb *t)
{
	cc_start(cx, t);
}

/* One MSS for each window acknowledged (RFC 5681 3.1, RFC 3465 2.1). */
static void reno_on_ack(struct stack_cx *cx, struct tcb *t, uint32_t acked, nsec rtt)
{
	uint32_t mss = snd_mss_of(t);

	(void)cx;
	(void)rtt;
	acked = cc_slow_start(t, acked);
	t->cwnd_acked += MIN_OF(acked, CWND_MAX);
	while (t->cwnd_acked >= t->cwnd) {
		t->cwnd_acked -= t->cwnd;
		t->cwnd = MIN_OF(t->cwnd + mss, CWND_MAX);
	}
}

/* RFC 5681 equation (4): half of what is in flight, two segments at least. */
static uint32_t reno_ssthresh(struct stack_cx *cx, struct tcb *t)
{
	(void)cx;
	return MAX_OF(MIN_OF(cc_flight(t), t->cwnd) / 2, 2 * snd_mss_of(t));
}

static void reno_forget(struct stack_cx *cx, struct tcb *t)
{
	(void)cx;
	t->cwnd_acked = 0;
}

static void reno_on_idle(struct stack_cx *cx, struct tcb *t, nsec idle)
{
	(void)cx;
	(void)t;
	(void)idle;
}

const struct cc_ops cc_reno = {
    .name = "reno",
    .init = reno_init,
    .on_ack = reno_on_ack,
    .ssthresh = reno_ssthresh,
    .on_exit_recovery = reno_forget,
    .on_rto = reno_forget,
    .on_idle = reno_on_idle,
    .on_undo = reno_forget,
};
