/*
 * close.c - the end of a connection: FIN, abort, orphans, TIME-WAIT.
 *
 * Who owns a TCB. A descriptor (sock_create(), sock_accept()), a listener's
 * queue, or nobody: an orphan, which lives on until its FIN is acknowledged. A
 * TCB that somebody owns is never freed here: it becomes CLOSED, keeps its
 * receive queue, which stays readable as in Linux's tcp_reset(), and its error.
 * An orphan is freed at once. Callers must not touch a TCB after tcb_drop(),
 * tcb_done() or tcb_enter_timewait() unless they know that it is owned.
 *
 * TIME-WAIT is served by a struct timewait of 192 bytes in the place of the
 * TCB. When the socket is still owned (it called shutdown(2) only), its TCB
 * leaves the tables too and keeps the name TIME-WAIT until it is closed; the
 * verbs treat it as Linux treats a socket after tcp_time_wait(): as closed.
 *
 * TIME-WAIT ends at once for no RST (RFC 1337), takes a new SYN of the peer
 * whose sequence number or timestamp lies above the old ones (MAY-2, RFC 6191),
 * and gives its tuple to a new active open of ours under the same rule.
 */
#include "core/net.h"
#include "core/recv.h"

/* ------------------------------------------------------------------ CLOSED */

/* The connection is over: what stays is what the application may still read. */
static void tcb_end(struct stack_cx *cx, struct tcb *t)
{
	timer_cancel_all(cx, t);
	demux_remove(cx, t);
	buffer_clear(cx, &t->sndbuf);
	reass_clear(cx, t);
	sack_clear(cx, t);
	t->rd_shut = t->wr_shut = true;
	t->ack_now = t->ack_pending = t->dsack_pending = false;
	if (t->orphan)
		tcb_free(cx, t);
	else
		sock_signal(cx, t, SOCK_EDGES_ALL);
}

void tcb_done(struct stack_cx *cx, struct tcb *t)
{
	state_set(cx, t, TCPS_CLOSED);
	tcb_end(cx, t);
}

void tcb_drop(struct stack_cx *cx, struct tcb *t, int err)
{
	enum tcp_state was = (enum tcp_state)t->state;

	if (was == TCPS_CLOSED || was == TCPS_LISTEN)
		return;
	if (was == TCPS_SYN_SENT || was == TCPS_SYN_RECEIVED)
		COUNT(cx, tcp_attempt_fail);
	else if (err && (was == TCPS_ESTABLISHED || was == TCPS_CLOSE_WAIT))
		COUNT(cx, tcp_estab_reset);
	if (was == TCPS_SYN_RECEIVED && t->listener) {
		tcb_free(cx, t); /* MUST-11: nobody has heard of it */
		return;
	}
	if (err) {
		t->so_error = err;
		sock_signal(cx, t, SOCK_TOLD_ERR);
	}
	tcb_done(cx, t);
}

/* ------------------------------------------------------------------- FIN */

void tcb_send_fin(struct stack_cx *cx, struct tcb *t)
{
	if (t->fin_queued)
		return;
	t->wr_shut = true;
	switch ((enum tcp_state)t->state) {
	case TCPS_ESTABLISHED:
		t->fin_queued = true;
		state_set(cx, t, TCPS_FIN_WAIT_1);
		break;
	case TCPS_CLOSE_WAIT:
		t->fin_queued = true;
		state_set(cx, t, TCPS_LAST_ACK);
		break;
	default: /* SYN-RECEIVED: tcb_established() looks at wr_shut (RFC 9293 3.10.4) */
		return;
	}
	t->more = false;
	tcp_output(cx, t);
}

/* Linux's tcp_fin_time(): TCP_LINGER2, else the stack's, never below 3.5 RTO. */
static nsec fin_wait_2_time(struct stack_cx *cx, const struct tcb *t)
{
	nsec time = t->linger2_s > 0 ? (nsec)t->linger2_s * (nsec)NS_PER_S : stack_of(cx)->config.fin_timeout;

	return MAX_OF(time, t->rto_ns * 7 / 2);
}

/* An orphan reached FIN-WAIT-2: the peer may stay half open for ever, we do not. */
static void orphan_fin_wait_2(struct stack_cx *cx, struct tcb *t)
{
	timer_cancel(cx, t, TIMER_KEEPALIVE);
	timer_set(cx, t, TIMER_FIN_WAIT_2, cx->now + fin_wait_2_time(cx, t));
}

void fin_wait_2_timer(struct stack_cx *cx, struct tcb *t)
{
	if (t->orphan && t->state == TCPS_FIN_WAIT_2)
		tcb_drop(cx, t, 0);
}

/* RFC 9293 3.10.7.4 step 5, what an acknowledged FIN does. t may be gone afterwards. */
void tcb_fin_acked(struct stack_cx *cx, struct tcb *t, const struct segment *s)
{
	switch ((enum tcp_state)t->state) {
	case TCPS_FIN_WAIT_1:
		state_set(cx, t, TCPS_FIN_WAIT_2);
		if (!t->orphan) {
			sock_signal(cx, t, SOCK_EDGES_ALL);
		} else if (t->linger2_s < 0) {
			COUNT(cx, tcp_abort_data);
			output_rst_for(cx, s);
			tcb_drop(cx, t, 0);
		} else {
			orphan_fin_wait_2(cx, t);
		}
		break;
	case TCPS_CLOSING:
		tcb_enter_timewait(cx, t);
		break;
	case TCPS_LAST_ACK:
		tcb_done(cx, t);
		break;
	default:
		break;
	}
}

/* --------------------------------------------------------------- TIME-WAIT */

static void timewait_link(struct stack_cx *cx, struct timewait *w)
{
	struct stack *st = stack_of(cx);
	ref r = pool_ref(cx, w);

	w->tw_prev = st->tw_last;
	w->tw_next = REF_NONE;
	if (st->tw_last)
		((struct timewait *)pool_at(cx, st->tw_last))->tw_next = r;
	else
		st->tw_first = r;
	st->tw_last = r;
	st->tw_count++;
}

void timewait_free(struct stack_cx *cx, struct timewait *w)
{
	struct stack *st = stack_of(cx);
	ref r = pool_ref(cx, w);

	timer_node_cancel(cx, &w->node, r);
	demux_remove_timewait(cx, w);
	if (w->tw_prev)
		((struct timewait *)pool_at(cx, w->tw_prev))->tw_next = w->tw_next;
	else
		st->tw_first = w->tw_next;
	if (w->tw_next)
		((struct timewait *)pool_at(cx, w->tw_next))->tw_prev = w->tw_prev;
	else
		st->tw_last = w->tw_prev;
	st->tw_count--;
	pool_free(cx, POOL_TIMEWAIT, r);
}

void timewait_expire(struct stack_cx *cx, ref w)
{
	timewait_free(cx, pool_at(cx, w));
}

static void timewait_restart(struct stack_cx *cx, struct timewait *w)
{
	timer_node_set(cx, &w->node, pool_ref(cx, w), POOL_TIMEWAIT, cx->now + stack_of(cx)->config.tw_time);
}

/* The small object that answers for t from now on; without memory the wait is skipped, as in Linux. */
static void timewait_new(struct stack_cx *cx, const struct tcb *t)
{
	struct stack *st = stack_of(cx);

	if (!st->config.tw_max) {
		COUNT(cx, tcp_tw_overflow);
		return;
	}
	if (st->tw_count >= st->config.tw_max) {
		timewait_free(cx, pool_at(cx, st->tw_first));
		COUNT(cx, tcp_tw_overflow);
	}
	ref r = pool_alloc(cx, POOL_TIMEWAIT, REF_NONE);
	if (!r) {
		COUNT(cx, tcp_tw_overflow);
		return;
	}
	struct timewait *w = pool_at(cx, r);
	w->local = t->local;
	w->remote = t->remote;
	w->snd_nxt = t->snd_nxt;
	w->rcv_nxt = t->rcv_nxt;
	w->rcv_wnd = rcv_window_now(t);
	w->rcv_wscale = t->rcv_wscale;
	w->ts_ok = t->ts_ok;
	w->ts_recent = t->ts_recent;
	w->ts_recent_age = t->ts_recent_age;
	w->ts_offset = t->ts_offset;
	w->oow_ack_last = NSEC_NEVER;
	if (demux_insert_timewait(cx, w)) {
		pool_free(cx, POOL_TIMEWAIT, r);
		COUNT(cx, tcp_tw_overflow);
		return;
	}
	timewait_link(cx, w);
	record_barrier(); /* the timer's kind says that it is complete (rebuild.c) */
	timewait_restart(cx, w);
	COUNT(cx, tcp_tw);
}

void tcb_enter_timewait(struct stack_cx *cx, struct tcb *t)
{
	state_set(cx, t, TCPS_TIME_WAIT);
	/* The ACK of the FIN must leave while there is a TCB to send it. */
	if (t->ack_now || t->ack_pending)
		output_ack(cx, t);
	demux_remove(cx, t);
	timewait_new(cx, t);
	tcb_end(cx, t);
}

bool timewait_reusable(struct stack_cx *cx, const struct timewait *w)
{
	/* RFC 6191: our timestamp clock has ticked past the old connection's last one. */
	return w->ts_ok && cx->now - w->ts_recent_age >= NS_PER_S;
}

static void timewait_ack(struct stack_cx *cx, struct timewait *w, const struct segment *s)
{
	/* As Linux: segments without data are answered twice a second at most, against ACK storms. */
	if ((segment_span(s) == 0 || (s->flags & TH_SYN)) && ack_limited(cx, &w->oow_ack_last))
		return;
	output_timewait_ack(cx, w);
}

/* RFC 9293 3.10.7.4 for TIME-WAIT, RFC 6191, RFC 1337. */
void timewait_segment(struct stack_cx *cx, struct timewait *w, struct segment *s)
{
	bool old_ts = w->ts_ok && s->has_ts && paws_reject(cx, w->ts_recent, w->ts_recent_age, s);

	if (s->flags & TH_RST)
		return;
	if ((s->flags & (TH_SYN | TH_ACK)) == TH_SYN && !old_ts &&
	    (seq_gt(s->seq, w->rcv_nxt) ||
	     (w->ts_ok && s->has_ts && (int32_t)(s->ts_val - w->ts_recent) > 0))) {
		ref l = demux_find_listener(cx, &s->dst);
		if (l) {
			seq32 above = seq_add(w->snd_nxt, 65535u + 2u);
			timewait_free(cx, w);
			COUNT(cx, tcp_tw_reuse);
			listen_syn(cx, tcb_at(cx, l), s, &above);
			return;
		}
	}
	if (old_ts)
		COUNT(cx, tcp_paws);
	if (!old_ts && seq_eq(s->seq, w->rcv_nxt) && segment_span(s) == 0) {
		if (s->has_ts) {
			w->ts_recent = s->ts_val;
			w->ts_recent_age = cx->now;
		}
		return; /* the last ACK of the peer: nothing to say */
	}
	if (s->flags & TH_FIN)
		timewait_restart(cx, w); /* our ACK was lost */
	timewait_ack(cx, w, s);
}

/* ------------------------------------------------------------------- close */

bool sock_draining(struct stack_cx *cx, ref s)
{
	const struct tcb *t = tcb_at(cx, s);

	switch ((enum tcp_state)t->state) {
	case TCPS_ESTABLISHED:
	case TCPS_CLOSE_WAIT:
		return buffer_len(&t->sndbuf) != 0;
	case TCPS_FIN_WAIT_1:
	case TCPS_CLOSING:
	case TCPS_LAST_ACK:
		return true;
	case TCPS_SYN_RECEIVED:
		return t->wr_shut;
	default:
		return false;
	}
}

uint32_t stack_draining(struct stack_cx *cx)
{
	uint32_t count = 0;

	for (ref r = pool_next(cx, POOL_TCB, REF_NONE); r; r = pool_next(cx, POOL_TCB, r)) {
		if (tcb_at(cx, r)->orphan && sock_draining(cx, r))
			count++;
	}
	return count;
}

uint32_t stack_orphans(const struct stack_cx *cx)
{
	return stack_of(cx)->orphan_count;
}

/* RST if the peer knows of the connection, then nothing. */
static void close_abort(struct stack_cx *cx, struct tcb *t)
{
	if (t->state >= TCPS_SYN_RECEIVED && t->state != TCPS_TIME_WAIT)
		output_rst(cx, t);
	if (t->state == TCPS_SYN_SENT || t->state == TCPS_SYN_RECEIVED)
		COUNT(cx, tcp_attempt_fail);
	tcb_done(cx, t);
}

/* The descriptor is gone and the state lives on. */
static void orphan_make(struct stack_cx *cx, struct tcb *t)
{
	struct stack *st = stack_of(cx);

	if (st->orphan_count >= st->config.orphan_max) {
		COUNT(cx, tcp_orphan_overflow);
		close_abort(cx, t);
		tcb_free(cx, t);
		return;
	}
	t->orphan = true;
	t->rd_shut = t->wr_shut = true;
	st->orphan_count++;
	buffer_clear(cx, &t->rcvbuf);
	ref self = pool_ref(cx, t);
	tcb_send_fin(cx, t);
	if (pool_valid(cx, POOL_TCB, self) && t->state == TCPS_FIN_WAIT_2)
		orphan_fin_wait_2(cx, t);
}

/* Unread data: what the application never took, a waiting FIN not counted (SHLD-3, RFC 2525 2.17). */
void tcb_close(struct stack_cx *cx, struct tcb *t)
{
	bool unread = buffer_len(&t->rcvbuf) != 0;

	switch ((enum tcp_state)t->state) {
	case TCPS_LISTEN:
		listen_stop(cx, t);
		tcb_free(cx, t);
		return;
	case TCPS_CLOSED:
	case TCPS_TIME_WAIT:
		tcb_free(cx, t);
		return;
	case TCPS_SYN_SENT:
		tcb_done(cx, t);
		tcb_free(cx, t);
		return;
	default:
		break;
	}
	if (unread || t->linger_s == 0 || (t->state == TCPS_FIN_WAIT_2 && t->linger2_s < 0)) {
		if (unread)
			COUNT(cx, tcp_abort_data);
		close_abort(cx, t);
		tcb_free(cx, t);
		return;
	}
	orphan_make(cx, t);
}

void sock_close(struct stack_cx *cx, ref s)
{
	ref outer = dirty_begin(cx, s);

	tcb_close(cx, tcb_at(cx, s));
	dirty_end(cx, outer);
}

void sock_abort(struct stack_cx *cx, ref s)
{
	struct tcb *t = tcb_at(cx, s);
	ref outer = dirty_begin(cx, s);

	if (t->state == TCPS_LISTEN) {
		listen_stop(cx, t);
		demux_remove(cx, t);
		state_set(cx, t, TCPS_CLOSED);
		sock_signal(cx, t, SOCK_EDGES_ALL);
	} else if (t->state != TCPS_CLOSED && t->state != TCPS_TIME_WAIT) {
		close_abort(cx, t);
	}
	dirty_end(cx, outer);
}

/* Linux's tcp_disconnect(): which states tell the application that something was cut off. */
static bool disconnect_cuts(const struct tcb *t)
{
	switch ((enum tcp_state)t->state) {
	case TCPS_SYN_SENT:
	case TCPS_SYN_RECEIVED:
	case TCPS_ESTABLISHED:
	case TCPS_CLOSE_WAIT:
	case TCPS_FIN_WAIT_1:
	case TCPS_FIN_WAIT_2:
		return true;
	case TCPS_CLOSING:
	case TCPS_LAST_ACK:
		return buffer_len(&t->sndbuf) != 0;
	default:
		return false;
	}
}

void sock_disconnect(struct stack_cx *cx, ref s)
{
	struct tcb *t = tcb_at(cx, s);
	int err = disconnect_cuts(t) ? ECONNRESET : t->so_error;
	ref outer = dirty_begin(cx, s);

	sock_abort(cx, s);
	tcb_reset_for_reuse(cx, t);
	t->so_error = err;
	sock_signal(cx, t, SOCK_EDGES_ALL);
	dirty_end(cx, outer);
}

/* linger_s == 0 through shutdown etc. is no abort; sock_shutdown() of a half that is open. */
static int tcb_shutdown(struct stack_cx *cx, struct tcb *t, int how)
{
	bool rd = how == 0 || how == 2, wr = how == 1 || how == 2;
	int result = 0;

	if (how < 0 || how > 2)
		return -EINVAL;
	switch ((enum tcp_state)t->state) {
	case TCPS_CLOSED:
	case TCPS_TIME_WAIT:
		result = -ENOTCONN; /* and yet, as Linux does, the halves are shut and waiters woken */
		break;
	case TCPS_LISTEN:
		if (!rd)
			break;
		sock_abort(cx, pool_ref(cx, t));
		return 0;
	case TCPS_SYN_SENT:
		tcb_reset_for_reuse(cx, t);
		t->so_error = ECONNRESET;
		sock_signal(cx, t, SOCK_EDGES_ALL);
		return 0;
	default:
		break;
	}
	t->rd_shut |= rd;
	t->wr_shut |= wr;
	if (wr && (t->state == TCPS_ESTABLISHED || t->state == TCPS_CLOSE_WAIT))
		tcb_send_fin(cx, t);
	sock_signal(cx, t, SOCK_EDGES_ALL);
	return result;
}

int sock_shutdown(struct stack_cx *cx, ref s, int how)
{
	ref outer = dirty_begin(cx, s);
	int result = tcb_shutdown(cx, tcb_at(cx, s), how);

	dirty_end(cx, outer);
	return result;
}

/* --------------------------------------------------------------- rebuild.c */

/* As far as the old links lead: the oldest first. Then what they left out; incomplete ones go. */
void timewait_rebuild(struct stack_cx *cx)
{
	struct stack *st = stack_of(cx);
	ref next, at = st->tw_first;

	for (ref r = pool_next(cx, POOL_TIMEWAIT, REF_NONE); r; r = pool_next(cx, POOL_TIMEWAIT, r)) {
		struct timewait *w = pool_at(cx, r);

		if (w->node.kind != POOL_TIMEWAIT || !demux_rebuild_timewait(cx, w))
			pool_discard(cx, r);
	}
	st->tw_first = st->tw_last = REF_NONE;
	st->tw_count = 0;
	for (; pool_valid(cx, POOL_TIMEWAIT, at); at = next) {
		struct timewait *w = pool_at(cx, at);

		if (w->head.mark)
			break;
		next = w->tw_next;
		w->head.mark = 1;
		timewait_link(cx, w);
	}
	for (ref r = pool_next(cx, POOL_TIMEWAIT, REF_NONE); r; r = pool_next(cx, POOL_TIMEWAIT, r))
		if (!((struct timewait *)pool_at(cx, r))->head.mark)
			timewait_link(cx, pool_at(cx, r));
}
