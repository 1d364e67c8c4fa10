/*
 * listen.c - passive opens: from a SYN to a connection that accept(2) returns.
 *
 * Theory of operation. A SYN for a listener makes a child TCB in SYN-RECEIVED,
 * in the table of connections and on the listener's SYN queue. The ACK of our
 * SYN moves it to the accept queue, from where sock_accept() takes the oldest.
 * Both queues are linked through the children (queue_next, queue_prev), and
 * every child names its listener until it is accepted.
 *
 * Limits, as Linux's: the accept queue is full when it holds more than backlog
 * connections; then SYNs are dropped and final ACKs ignored (the child stays in
 * SYN-RECEIVED, our SYN-ACK is sent again, its ACK tries anew). The SYN queue
 * holds as many, and 128 at least; beyond that (where Linux's would go on with
 * SYN cookies) the oldest child gives way if it had its second, else the new SYN
 * is dropped: a flood of forged SYNs takes bounded memory and leaves a chance to
 * every honest peer that sends its SYN again (RFC 4987 3.3). A child whose final
 * ACK found the accept queue full does not give way: its peer is connected
 * already, and would be reset at its first data.
 *
 * rcv_tune_start, of no use before ESTABLISHED, holds the time of the SYN.
 */
#include "core/net.h"
#include "core/recv.h"

#define SYN_QUEUE_GRACE NS_PER_S
#define SYN_QUEUE_MIN	128u
#define SYN_QUEUE_LOOKS 8u /* for one that may give way */

/* ------------------------------------------------------------------ queues */

static void queue_append(struct stack_cx *cx, struct tcb *child, ref *first, ref *last, uint32_t *count)
{
	ref r = pool_ref(cx, child);

	child->queue_prev = *last;
	child->queue_next = REF_NONE;
	if (*last)
		tcb_at(cx, *last)->queue_next = r;
	else
		*first = r;
	*last = r;
	(*count)++;
}

static void queue_prepend(struct stack_cx *cx, struct tcb *child, ref *first, ref *last, uint32_t *count)
{
	ref r = pool_ref(cx, child);

	child->queue_prev = REF_NONE;
	child->queue_next = *first;
	if (*first)
		tcb_at(cx, *first)->queue_prev = r;
	else
		*last = r;
	*first = r;
	(*count)++;
}

static void queue_remove(struct stack_cx *cx, struct tcb *child, ref *first, ref *last, uint32_t *count)
{
	if (child->queue_prev)
		tcb_at(cx, child->queue_prev)->queue_next = child->queue_next;
	else
		*first = child->queue_next;
	if (child->queue_next)
		tcb_at(cx, child->queue_next)->queue_prev = child->queue_prev;
	else
		*last = child->queue_prev;
	child->queue_next = child->queue_prev = REF_NONE;
	(*count)--;
}

static void syn_queue_remove(struct stack_cx *cx, struct tcb *l, struct tcb *child)
{
	queue_remove(cx, child, &l->syn_first, &l->syn_last, &l->syn_count);
}

static void accept_queue_remove(struct stack_cx *cx, struct tcb *l, struct tcb *child)
{
	queue_remove(cx, child, &l->accept_first, &l->accept_last, &l->accept_count);
}

/* Out of whichever queue holds it: the SYN queue has exactly the children in SYN-RECEIVED. */
void listen_unlink(struct stack_cx *cx, struct tcb *child)
{
	if (!child->listener)
		return;
	struct tcb *l = tcb_at(cx, child->listener);
	if (child->state == TCPS_SYN_RECEIVED)
		syn_queue_remove(cx, l, child);
	else
		accept_queue_remove(cx, l, child);
	child->listener = REF_NONE;
}

static bool accept_queue_full(const struct tcb *l)
{
	return l->accept_count > l->backlog;
}

/* Room for one more child in SYN-RECEIVED, made if need be. */
static bool syn_queue_room(struct stack_cx *cx, struct tcb *l)
{
	if (l->syn_count <= MAX_OF(l->backlog, SYN_QUEUE_MIN))
		return true;
	struct tcb *oldest = tcb_at(cx, l->syn_first);
	for (uint32_t i = 0; i < SYN_QUEUE_LOOKS && oldest->open_acked; i++) {
		syn_queue_remove(cx, l, oldest);
		queue_append(cx, oldest, &l->syn_first, &l->syn_last, &l->syn_count);
		oldest = tcb_at(cx, l->syn_first);
	}
	if (oldest->open_acked || cx->now - oldest->rcv_tune_start < SYN_QUEUE_GRACE)
		return false;
	COUNT(cx, tcp_attempt_fail);
	ref outer = dirty_begin(cx, l->syn_first);
	tcb_free(cx, oldest);
	dirty_end(cx, outer);
	return true;
}

/* -------------------------------------------------------------------- SYN */

/* The child is marked as being changed (dirty_begin), also where it is not to be. */
static struct tcb *child_new(struct stack_cx *cx, struct tcb *l, const struct segment *s,
			     const seq32 *iss_min)
{
	struct tcb *t = tcb_create(cx);

	if (!t)
		return NULL;
	dirty_begin(cx, pool_ref(cx, t));
	tcb_inherit(t, l);
	t->accepted = false;
	t->passive = true;
	t->connect_started = t->connect_reported = true;
	t->local = s->dst;
	t->remote = s->src;
	t->irs = s->seq;
	t->rcv_nxt = t->last_ack_sent = seq_add(s->seq, 1);
	if (demux_insert(cx, t)) {
		tcb_free(cx, t);
		return NULL;
	}
	seq32 iss = isn_choose(cx, &t->local, &t->remote);
	if (iss_min)
		iss = seq_max(iss, *iss_min);
	tcb_start(cx, t, iss);
	tcb_negotiate(cx, t, s);
	rcv_init_window(cx, t);		      /* now that the options are known */
	t->snd_wnd = t->snd_wnd_max = s->wnd; /* RFC 7323 2.2: not scaled in a SYN */
	t->snd_wl1 = s->seq;
	t->snd_wl2 = iss;
	t->rcv_tune_start = cx->now;
	return t;
}

void listen_syn(struct stack_cx *cx, struct tcb *l, struct segment *s, const seq32 *iss_min)
{
	if (accept_queue_full(l) || !syn_queue_room(cx, l)) {
		COUNT(cx, tcp_listen_drop);
		return;
	}
	ref outer = stack_of(cx)->dirty;
	struct tcb *t = child_new(cx, l, s, iss_min);
	if (!t) {
		COUNT(cx, tcp_listen_drop);
		dirty_end(cx, outer);
		return;
	}
	t->segs_in = 1;
	state_set(cx, t, TCPS_SYN_RECEIVED);
	t->listener = pool_ref(cx, l);
	queue_append(cx, t, &l->syn_first, &l->syn_last, &l->syn_count);
	output_syn(cx, t);
	dirty_end(cx, outer);
}

/* RFC 9293 3.10.7.2. Data on a SYN is left for the peer to send again (no TCP Fast Open). */
void listen_segment(struct stack_cx *cx, struct tcb *l, struct segment *s)
{
	if (s->flags & TH_RST)
		return;
	if (s->flags & TH_ACK) {
		COUNT(cx, tcp_no_socket);
		output_rst_for(cx, s);
		return;
	}
	if (!(s->flags & TH_SYN) || (s->flags & TH_FIN))
		return; /* SYN with FIN is nonsense: Linux drops it too */
	listen_syn(cx, l, s, NULL);
}

/* -------------------------------------------------------------- final ACK */

/*
 * May this ACK complete the open? No while the accept queue is full, and, with
 * TCP_DEFER_ACCEPT, while it brings no data and the time is not over.
 */
bool listen_may_establish(struct stack_cx *cx, struct tcb *t, const struct segment *s)
{
	struct tcb *l = tcb_at(cx, t->listener);
	nsec patience = t->rcv_tune_start + (nsec)l->defer_accept_s * (nsec)NS_PER_S;

	t->open_acked = true;
	if (l->defer_accept_s && !s->len && !(s->flags & TH_FIN) && cx->now < patience) {
		/* The SYN-ACK that goes out then asks for the ACK that ends the wait. */
		timer_set(cx, t, TIMER_RTO, patience);
		t->rtt_timing = false;
		return false;
	}
	if (accept_queue_full(l)) {
		COUNT(cx, tcp_listen_overflow);
		return false;
	}
	return true;
}

/* t was moved to ESTABLISHED: from the SYN queue to the accept queue. */
void listen_child_established(struct stack_cx *cx, struct tcb *t)
{
	struct tcb *l = tcb_at(cx, t->listener);

	syn_queue_remove(cx, l, t);
	queue_append(cx, t, &l->accept_first, &l->accept_last, &l->accept_count);
	COUNT(cx, tcp_passive_open);
	sock_signal(cx, l, SOCK_IN | SOCK_TOLD_IN);
}

/* ------------------------------------------------------------------- verbs */

/* The listener ends: what was not accepted is reset, half-open children are forgotten (as Linux does). */
void listen_stop(struct stack_cx *cx, struct tcb *l)
{
	ref outer = stack_of(cx)->dirty;

	while (l->syn_first) {
		dirty_begin(cx, l->syn_first);
		tcb_free(cx, tcb_at(cx, l->syn_first));
	}
	while (l->accept_first) {
		struct tcb *t = tcb_at(cx, l->accept_first);
		dirty_begin(cx, l->accept_first);
		if (t->state != TCPS_CLOSED)
			output_rst(cx, t);
		tcb_free(cx, t);
	}
	dirty_end(cx, outer);
}

int sock_listen(struct stack_cx *cx, ref s, const struct endpoint *local, int backlog)
{
	struct tcb *t = tcb_at(cx, s);
	uint32_t most = backlog < 0 || backlog > (int)SOMAXCONN_MAX ? SOMAXCONN_MAX : (uint32_t)backlog;

	if (t->state == TCPS_LISTEN) {
		t->backlog = most;
		return 0;
	}
	if (t->state != TCPS_CLOSED || (t->connect_started && !t->connect_reported))
		return -EINVAL;
	if (t->connect_started)
		return -EINVAL; /* Linux: the socket is SS_CONNECTED still */
	if (!local->port)
		return -EINVAL;
	if (!ipaddr_is_any(&local->addr) && !addr_is_local(cx, &local->addr))
		return -EADDRNOTAVAIL;
	t->local = *local;
	int err = demux_insert_listener(cx, t);
	if (err) {
		memset(&t->local, 0, sizeof t->local);
		return err;
	}
	t->backlog = most;
	t->bound_any = ipaddr_is_any(&local->addr);
	t->rd_shut = t->wr_shut = false;
	state_set(cx, t, TCPS_LISTEN);
	return 0;
}

ref sock_accept(struct stack_cx *cx, ref s)
{
	struct tcb *l = tcb_at(cx, s);
	ref r = l->accept_first;

	if (l->state != TCPS_LISTEN || !r)
		return REF_NONE;
	struct tcb *t = tcb_at(cx, r);
	ref outer = dirty_begin(cx, r);
	accept_queue_remove(cx, l, t);
	t->listener = REF_NONE;
	t->accepted = true;
	dirty_end(cx, outer);
	return r;
}

void sock_unaccept(struct stack_cx *cx, ref listener, ref child)
{
	struct tcb *l = tcb_at(cx, listener), *t = tcb_at(cx, child);
	ref outer = dirty_begin(cx, child);

	if (l->state != TCPS_LISTEN) {
		if (t->state != TCPS_CLOSED)
			output_rst(cx, t);
		tcb_free(cx, t);
	} else {
		t->accepted = false;
		t->listener = listener;
		queue_prepend(cx, t, &l->accept_first, &l->accept_last, &l->accept_count);
		sock_signal(cx, l, SOCK_IN | SOCK_TOLD_IN);
	}
	dirty_end(cx, outer);
}

/* --------------------------------------------------------------- rebuild.c */

static void child_requeue(struct stack_cx *cx, struct tcb *l, struct tcb *t)
{
	t->head.mark = 1;
	if (t->state == TCPS_SYN_RECEIVED)
		queue_append(cx, t, &l->syn_first, &l->syn_last, &l->syn_count);
	else
		queue_append(cx, t, &l->accept_first, &l->accept_last, &l->accept_count);
}

/* As far as the old links lead: they are the order of arrival. */
static void queue_follow(struct stack_cx *cx, struct tcb *l, ref at)
{
	ref self = pool_ref(cx, l), next;

	for (; pool_valid(cx, POOL_TCB, at); at = next) {
		struct tcb *t = tcb_at(cx, at);

		if (t->listener != self || t->head.mark)
			return;
		next = t->queue_next;
		child_requeue(cx, l, t);
	}
}

/* Every child names a live listener (rebuild.c saw to that), and is in one of its queues. */
void listen_rebuild(struct stack_cx *cx)
{
	for (ref r = pool_next(cx, POOL_TCB, REF_NONE); r; r = pool_next(cx, POOL_TCB, r)) {
		struct tcb *l = tcb_at(cx, r);
		ref syn = l->syn_first, accept = l->accept_first;

		l->syn_first = l->syn_last = l->accept_first = l->accept_last = REF_NONE;
		l->syn_count = l->accept_count = 0;
		if (l->state != TCPS_LISTEN)
			continue;
		queue_follow(cx, l, syn);
		queue_follow(cx, l, accept);
	}
	for (ref r = pool_next(cx, POOL_TCB, REF_NONE); r; r = pool_next(cx, POOL_TCB, r))
		if (tcb_at(cx, r)->listener && !tcb_at(cx, r)->head.mark)
			child_requeue(cx, tcb_at(cx, tcb_at(cx, r)->listener), tcb_at(cx, r));
}
