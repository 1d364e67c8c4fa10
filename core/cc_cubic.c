/*
 * cc_cubic.c - CUBIC (RFC 9438) in integers.
 *
 * W_cubic(t) = C * (t - K)^3 + W_max with C = 0.4 segments/s^3 and beta = 0.7.
 * Windows are octets, time is in ms inside the cube: |t - K| is capped at 10^6 ms,
 * so that its cube stays below 10^18. An epoch begins at the first ACK of
 * congestion avoidance after a reduction; idle time does not count in it (4.2).
 */
#include "core/send.h"

#define CUBE_MS_MAX 1000000u

/* The integer cube root, bit by bit from the top (22 steps). */
static uint32_t cube_root(uint64_t a)
{
	uint64_t root = 0;

	for (int s = 63; s >= 0; s -= 3) {
		uint64_t step;

		root <<= 1;
		step = 3 * root * (root + 1) + 1;
		if (a >> s >= step) {
			a -= step << s;
			root++;
		}
	}
	return (uint32_t)root;
}

static struct cc_cubic_state *state_of(struct tcb *t)
{
	return &t->ccs.cubic;
}

static void cubic_init(struct stack_cx *cx, struct tcb *t)
{
	cc_start(cx, t);
	memset(&t->ccs, 0, sizeof t->ccs);
}

/* RFC 9438 4.2: K = cbrt((W_max - cwnd_epoch) / C), here in ns; no plateau ahead: K = 0, W_max = cwnd. */
static void epoch_begin(struct stack_cx *cx, struct tcb *t)
{
	struct cc_cubic_state *c = state_of(t);
	uint32_t mss = snd_mss_of(t);

	c->epoch_start_ns = MAX_OF(cx->now, 1);
	c->w_est = t->cwnd;
	c->acked_bytes = 0;
	if (t->cwnd < c->w_max) {
		/* (W_max - cwnd) / mss / 0.4 in s^3, times 10^9 in ms^3 */
		uint64_t ms3 = (uint64_t)(c->w_max - t->cwnd) * 2500000000ull / mss;

		c->k_ns = cube_root(ms3) * NS_PER_MS;
		c->origin_cwnd = c->w_max;
	} else {
		c->k_ns = 0;
		c->origin_cwnd = t->cwnd;
	}
}

/* W_cubic at `elapsed` into the epoch. */
static uint64_t cubic_window(const struct tcb *t, nsec elapsed)
{
	const struct cc_cubic_state *c = &t->ccs.cubic;
	bool below = elapsed < c->k_ns;
	nsec distance = below ? c->k_ns - elapsed : elapsed - c->k_ns;
	uint64_t ms = MIN_OF(distance / NS_PER_MS, CUBE_MS_MAX);
	/* 0.4 * (ms / 1000)^3 * mss, the factor 4 / 10^10 applied in two steps */
	uint64_t delta = ms * ms * ms / 1000000 * snd_mss_of(t) * 4 / 10000;

	if (below)
		return c->origin_cwnd > delta ? c->origin_cwnd - delta : 0;
	return c->origin_cwnd + delta;
}

/* RFC 9438 4.3: what Reno would have; alpha = 3 (1 - beta) / (1 + beta) = 9/17, 1 beyond the old window. */
static void reno_estimate(struct tcb *t, uint32_t acked)
{
	struct cc_cubic_state *c = state_of(t);
	uint64_t mss = snd_mss_of(t), cwnd = MAX_OF(t->cwnd, 1);
	uint64_t grow = acked * mss + c->acked_bytes; /* the rest of the last division goes along */

	c->acked_bytes = (uint32_t)(grow % cwnd);
	grow /= cwnd;
	if (c->w_est < c->prior_w_max)
		grow = grow * 9 / 17 + (grow * 9 % 17 >= 9); /* rounded */
	c->w_est = (uint32_t)MIN_OF(c->w_est + grow, (uint64_t)CWND_MAX);
}

static void cubic_on_ack(struct stack_cx *cx, struct tcb *t, uint32_t acked, nsec rtt)
{
	struct cc_cubic_state *c = state_of(t);

	acked = cc_slow_start(t, acked);
	if (acked == 0)
		return;
	if (c->epoch_start_ns == 0)
		epoch_begin(cx, t);
	/* 4.2: the window one round trip ahead, within [cwnd, 1.5 cwnd] */
	uint64_t target = cubic_window(t, cx->now - c->epoch_start_ns + rtt), cwnd = MAX_OF(t->cwnd, 1);
	target = MIN_OF(MAX_OF(target, cwnd), cwnd + cwnd / 2);
	reno_estimate(t, acked);
	/* 4.4, 4.5: (target - cwnd) / cwnd for each octet; the rest of the division is kept in cwnd_acked */
	uint64_t grow = (target - cwnd) * acked + t->cwnd_acked;
	t->cwnd_acked = (uint32_t)(grow % cwnd);
	cwnd += grow / cwnd;
	cwnd = MAX_OF(cwnd, (uint64_t)c->w_est); /* 4.3: the Reno-friendly region */
	t->cwnd = (uint32_t)MIN_OF(cwnd, (uint64_t)CWND_MAX);
}

/* 4.6 multiplicative decrease by 0.7; 4.7 fast convergence: give room to newcomers when the plateau sinks. */
static uint32_t cubic_ssthresh(struct stack_cx *cx, struct tcb *t)
{
	struct cc_cubic_state *c = state_of(t);
	uint64_t cwnd = t->cwnd;

	(void)cx;
	c->prior_w_max = t->cwnd;
	c->w_last_max = c->w_max;
	c->w_max = cwnd < c->w_max ? (uint32_t)(cwnd * 17 / 20) : t->cwnd;
	c->epoch_start_ns = 0;
	t->cwnd_acked = 0;
	return MAX_OF((uint32_t)(cwnd * 7 / 10), 2 * snd_mss_of(t));
}

static void cubic_forget(struct stack_cx *cx, struct tcb *t)
{
	(void)cx;
	state_of(t)->epoch_start_ns = 0;
	t->cwnd_acked = 0;
}

/* 4.2, 5.8: the curve stands still while the application is silent. */
static void cubic_on_idle(struct stack_cx *cx, struct tcb *t, nsec idle)
{
	struct cc_cubic_state *c = state_of(t);

	if (c->epoch_start_ns)
		c->epoch_start_ns = MIN_OF(c->epoch_start_ns + idle, cx->now);
}

/* 4.9: a reduction that proved spurious is taken back. */
static void cubic_on_undo(struct stack_cx *cx, struct tcb *t)
{
	struct cc_cubic_state *c = state_of(t);

	c->w_max = MAX_OF(c->w_max, c->w_last_max);
	cubic_forget(cx, t);
}

const struct cc_ops cc_cubic = {
    .name = "cubic",
    .init = cubic_init,
    .on_ack = cubic_on_ack,
    .ssthresh = cubic_ssthresh,
    .on_exit_recovery = cubic_forget,
    .on_rto = cubic_forget,
    .on_idle = cubic_on_idle,
    .on_undo = cubic_on_undo,
};
