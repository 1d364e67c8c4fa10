/*
 * cc.c - what the congestion controls share: their table, the initial window,
 * slow start, the restart after an idle time.
 *
 * Called by recovery.c on ACKs and losses and by output.c before it sends. All
 * windows are in octets.
 */
#include "core/send.h"

static const struct cc_ops *const controls[STACK_CC_COUNT] = {
    [STACK_CC_RENO] = &cc_reno,
    [STACK_CC_CUBIC] = &cc_cubic,
};

const char *stack_cc_name(int cc)
{
	return cc >= 0 && cc < STACK_CC_COUNT ? controls[cc]->name : NULL;
}

int stack_cc_by_name(const char *name, size_t len)
{
	for (int i = 0; i < STACK_CC_COUNT; i++) {
		const char *n = controls[i]->name;
		size_t k = 0;

		while (n[k] && k < len && n[k] == name[k])
			k++;
		/* a caller's buffer may hold padding after the terminator */
		if (!n[k] && (k == len || name[k] == '\0'))
			return i;
	}
	return -ENOENT;
}

const struct cc_ops *cc_of(const struct tcb *t)
{
	return controls[t->cc < STACK_CC_COUNT ? t->cc : STACK_CC_RENO];
}

/* RFC 6928 2: min(10 * MSS, max(2 * MSS, 14600)) is 10 MSS on Ethernet, as Linux; one MSS when SYNs were
 * lost. */
uint32_t cc_initial_window(const struct tcb *t)
{
	uint32_t mss = snd_mss_of(t);

	return t->total_retrans > 1 && t->bytes_sent == 0 ? mss : 10 * mss;
}

/* The sender's marks at the start of a connection; a later change of control leaves them alone. */
void cc_start(struct stack_cx *cx, struct tcb *t)
{
	if (t->cwnd == 0) {
		t->cwnd = cc_initial_window(t);
		t->ssthresh = CWND_MAX;
	}
	if (t->bytes_sent == 0) {
		t->cwnd_usage_seq = t->snd_nxt;
		t->recover = t->iss;
		t->lost_edge = t->high_rxt = t->high_sacked = t->snd_una;
	}
	t->cwnd_acked = 0;
	sndbuf_tune(cx, t);
}

/* RFC 7661's question: has the sender lately made use of the window it has? */
bool cc_may_grow(const struct tcb *t)
{
	if (t->cwnd < t->ssthresh) /* slow start doubles: half in use is enough */
		return t->cwnd < 2 * (uint64_t)t->max_flight || t->cwnd_limited;
	return t->cwnd_limited;
}

/*
 * RFC 5681 3.1 by octets (RFC 3465): an ACK grows cwnd by what it acknowledges,
 * so that dividing ACKs gains nothing and an ACK for a whole super-segment loses nothing.
 */
uint32_t cc_slow_start(struct tcb *t, uint32_t acked)
{
	uint32_t room, grow;

	if (t->cwnd >= t->ssthresh)
		return acked;
	room = t->ssthresh - t->cwnd;
	grow = MIN_OF(acked, room);
	t->cwnd = MIN_OF(t->cwnd + grow, CWND_MAX);
	return acked - grow;
}

uint32_t cc_flight(const struct tcb *t)
{
	return snd_outstanding(t);
}

/* RFC 5681 4.1, RFC 2861: after each RTO of silence the window halves, not below the initial one. */
void cc_idle_restart(struct stack_cx *cx, struct tcb *t)
{
	nsec idle = t->last_send ? cx->now - t->last_send : 0, rto = MAX_OF(t->rto_ns, NS_PER_MS);
	uint32_t floor = MIN_OF(cc_initial_window(t), t->cwnd);

	if (idle == 0)
		return;
	cc_of(t)->on_idle(cx, t, idle);
	if (idle <= rto)
		return;
	t->ssthresh = MAX_OF(t->ssthresh, t->cwnd / 4 * 3);
	for (nsec left = idle - rto; t->cwnd > floor; left -= rto) {
		t->cwnd /= 2;
		if (left <= rto)
			break;
	}
	t->cwnd = MAX_OF(t->cwnd, floor);
	t->cwnd_limited = false;
	t->max_flight = 0;
	t->cwnd_usage_seq = t->snd_nxt;
}
