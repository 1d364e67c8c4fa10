/*
 * sndbuf.c - how much may be queued, and when poll() calls a socket writable.
 *
 * The limit follows the window as Linux's tcp_sndbuf_expand(): twice what can be
 * in flight, so that the next window waits while one is acknowledged, each segment
 * with the room that Linux would account for it. SO_SNDBUF then reads alike, and,
 * which matters more, a write() that does not block there does not block here:
 * programs rely on it unknowingly (a blocking send() that a signal interrupts
 * returns a short count, and not everybody looks). It grows up to sndbuf_max, not
 * while the stack is short of memory, and never once SO_SNDBUF has set it.
 */
#include "core/send.h"

/* Linux on 64 bits: headers and struct skb_shared_info in the segment's allocation; struct sk_buff. */
#define SEGMENT_HEADROOM 576u
#define SEGMENT_RECORD	 256u
/* TCP_INIT_CWND: so many segments at least, however small cwnd has become. */
#define SEGMENTS_MIN 10u
#define LOOK_AGAIN   (50 * NS_PER_MS)

/* What Linux accounts for a segment of the largest size that this connection may send. */
static uint64_t segment_truesize(const struct tcb *t)
{
	uint64_t size = MAX_OF(snd_mss_of(t), (uint32_t)t->peer_mss) + SEGMENT_HEADROOM, power = 1;

	while (power < size)
		power <<= 1;
	return power + SEGMENT_RECORD;
}

void sndbuf_tune(struct stack_cx *cx, struct tcb *t)
{
	const struct stack *st = stack_of(cx);
	uint64_t segments = MAX_OF(t->cwnd / snd_mss_of(t), SEGMENTS_MIN);
	uint64_t want = 2 * segments * segment_truesize(t);

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
	if (t->timer[TIMER_SPACE] != NSEC_NEVER)
		return false;
	if (queued > t->sndbuf_limit || t->sndbuf_limit - queued < queued / 2)
		return false;
	return !t->notsent_lowat || snd_unsent(t) < t->notsent_lowat;
}

/*
 * The socket has room, nothing queued, and the stack no memory: no ACK would ever wake the writer. Linux
 * gives him memory all the same, or has him look again after up to 200 ms (sk_stream_wait_memory()).
 */
void sndbuf_starve(struct stack_cx *cx, struct tcb *t)
{
	timer_set(cx, t, TIMER_SPACE, cx->now + LOOK_AGAIN);
}

/* The kernel's SOCK_NOSPACE: only who met the limit is woken, and once. */
void sndbuf_wake(struct stack_cx *cx, struct tcb *t)
{
	if (!t->nospace || !sndbuf_writable(cx, t))
		return;
	t->nospace = false;
	sock_signal(cx, t, SOCK_OUT | SOCK_TOLD_OUT);
}
