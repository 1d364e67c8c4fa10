/*
 * edges.c - readiness: levels, computed as Linux's tcp_poll() does, and edges,
 * collected here until the caller asks for them.
 *
 * An edge says "look again": the level decides what is seen. As in the kernel,
 * a change of state wakes every bit, arriving data IN and PRI (also when the
 * socket was readable already), room to write OUT only after a write hit the
 * limit or a poll saw the socket unwritable (nospace, the kernel's SOCK_NOSPACE).
 *
 * Place in the flow: everything that changes a socket calls sock_signal();
 * netio takes the edges after each call into the stack.
 */
#include "core/recv.h"

void sock_signal(struct stack_cx *cx, struct tcb *t, uint32_t edges)
{
	struct stack *st = stack_of(cx);
	ref r = pool_ref(cx, t);

	/* Nobody holds an orphan or a connection that was not accepted yet. */
	if (t->orphan || !t->accepted)
		return;
	t->edges |= edges;
	if (t->edge_queued)
		return;
	t->edge_queued = true;
	t->edge_next = REF_NONE;
	if (st->edge_last)
		tcb_at(cx, st->edge_last)->edge_next = r;
	else
		st->edge_first = r;
	st->edge_last = r;
}

ref sock_next_edge(struct stack_cx *cx, uint32_t *edges)
{
	struct stack *st = stack_of(cx);
	ref r = st->edge_first;

	if (!r)
		return REF_NONE;
	struct tcb *t = tcb_at(cx, r);
	st->edge_first = t->edge_next;
	if (!st->edge_first)
		st->edge_last = REF_NONE;
	*edges = t->edges;
	t->edges = 0;
	t->edge_queued = false;
	t->edge_next = REF_NONE;
	return r;
}

/* Linux's tcp_epollin_ready(): enough for SO_RCVLOWAT, or the peer cannot send enough. */
static bool readable(struct stack_cx *cx, struct tcb *t)
{
	const struct stack *st = stack_of(cx);
	uint64_t held = buffer_len(&t->rcvbuf), wanted = MAX_OF(t->rcvlowat, 1u);

	if (t->urg_in && !t->oobinline && seq_eq(t->rcv_up, rcv_copied(t)))
		wanted++; /* the urgent byte at the front is not part of the stream */
	if (!held)
		return false;
	return held >= wanted || st->buffer_bytes > st->mem_limit / 4 * 3 ||
	       (wanted > 2 && rcv_window_now(t) <= t->rcv_mss);
}

uint32_t sock_events(struct stack_cx *cx, ref s)
{
	struct tcb *t = tcb_at(cx, s);
	uint32_t bits = 0;

	if (t->state == TCPS_LISTEN)
		return t->accept_first ? SOCK_IN : 0;
	if ((t->rd_shut && t->wr_shut) || t->state == TCPS_CLOSED || t->state == TCPS_TIME_WAIT)
		bits |= SOCK_HUP;
	if (t->rd_shut)
		bits |= SOCK_IN | SOCK_RDHUP;
	if (t->state != TCPS_SYN_SENT && t->state != TCPS_SYN_RECEIVED) {
		if (readable(cx, t))
			bits |= SOCK_IN;
		if (t->wr_shut || sndbuf_writable(cx, t))
			bits |= SOCK_OUT;
		else
			t->nospace = true;
		if (t->urg_valid)
			bits |= SOCK_PRI;
	}
	if (t->so_error)
		bits |= SOCK_ERR;
	return bits;
}

uint32_t *sock_user(struct stack_cx *cx, ref s)
{
	return tcb_at(cx, s)->user;
}
