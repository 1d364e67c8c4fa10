/*
 * sndbuf.c - how much may be queued, and when poll() calls a socket writable.
 *
 * The limit follows the window as Linux's tcp_sndbuf_expand(): twice what can be
 * in flight, so that the next window waits while one is acknowledged, with the
 * room that Linux adds for its per-segment overhead (so that SO_SNDBUF reads
 * alike). It grows up to sndbuf_max, not while the stack is short of memory, and
 * never once SO_SNDBUF has set it.
 */
#include "core/send.h"

void sndbuf_tune(struct stack_cx *cx, struct tcb *t)
{
	const struct stack *st = stack_of(cx);
	uint64_t flight = MAX_OF(t->cwnd, cc_initial_window(t)), want = 2 * flight * 8 / 5;

	if (t->sndbuf_locked || st->buffer_bytes > st->mem_limit / 4 * 3)
		return;
	want = MIN_OF(want, (uint64_t)st->config.sndbuf_max);
	t->sndbuf_limit = MAX_OF(t->sndbuf_limit, (uint32_t)want);
}

/* Linux's sk_stream_is_writeable(): a third of the limit is free; and TCP_NOTSENT_LOWAT. */
bool sndbuf_writable(struct stack_cx *cx, struct tcb *t)
{
	uint64_t queued = buffer_len(&t->sndbuf);

	(void)cx;
	if (queued > t->sndbuf_limit || t->sndbuf_limit - queued < queued / 2)
		return false;
	return !t->notsent_lowat || snd_unsent(t) < t->notsent_lowat;
}

/* The kernel's SOCK_NOSPACE: only who met the limit is woken, and once. */
void sndbuf_wake(struct stack_cx *cx, struct tcb *t)
{
	if (!t->nospace || !sndbuf_writable(cx, t))
		return;
	t->nospace = false;
	sock_signal(cx, t, SOCK_OUT | SOCK_TOLD_OUT);
}
