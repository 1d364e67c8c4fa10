/*
 * rebuild.c - stack_rebuild(): the region after its owner was killed inside the lock.
 *
 * Theory of operation. The region holds two kinds of state. Records say what is:
 * a TCB with its buffers, a TIME-WAIT, a neighbour, a looped segment. Everything
 * else follows from them: hash chains, queues of listeners, lists of edges and
 * output, the heap of timers, free lists, counts, accounts. So whatever was
 * being done to the second kind needs no log: it is thrown away and made
 * anew, each structure by the file that keeps it.
 *
 * A record may be half-changed in three ways only:
 *  - the TCB named by stack.dirty (tcb.h: dirty_begin): it is reset. A listener is
 *    none of these: its state LISTEN, its name and its backlog are single stores;
 *  - a record that was being made: it is not complete, which its timer_node.kind
 *    says, and goes;
 *  - a neighbour whose address was being changed: marked the same way.
 * Memory is found by walking from the records. Chunks that no record reaches go
 * back, be they of the reset connection or on their way between two records.
 *
 * The steps are ordered so that each relies on those before it alone: records are
 * judged (condemn), objects that go lose their class, then free lists are made,
 * then tables, and at last the resets leave. A second death on the way is no
 * special case: the mark stays to the end, and condemned TCBs carry reset_due.
 *
 * Place in the flow: netio/lock.c, when the lock says EOWNERDEAD.
 */
#include "core/chunk.h"
#include "core/net.h"
#include "core/recv.h"
#include "core/send.h"

enum reset_due { RESET_NONE = 0, RESET_SILENT, RESET_OPENING, RESET_TELL };

/* ------------------------------------------------------------------ chains */

bool chain_intact(const struct stack_cx *cx, const struct chain *c, ref owner)
{
	uint64_t bytes = 0, cost = 0;
	ref last = REF_NONE;

	for (ref r = c->first; r; last = r, r = chunk_at(cx, r)->next) {
		if (!pool_valid(cx, POOL_CHUNK, r) && !pool_valid(cx, POOL_CHUNK_SMALL, r))
			return false;
		const struct chunk *k = chunk_at(cx, r);
		if (k->head.owner != owner || k->begin > k->end || chunk_room(k) > CHUNK_DATA)
			return false;
		bytes += k->end - k->begin;
		cost += chunk_cost(k);
		if (cost > c->charged) /* also the end of a loop */
			return false;
	}
	return last == c->last && bytes == c->bytes && cost == c->charged;
}

void chain_keep(struct stack_cx *cx, const struct chain *c)
{
	for (ref r = c->first; r; r = chunk_at(cx, r)->next)
		chunk_at(cx, r)->head.mark = 1;
	stack_of(cx)->buffer_bytes += c->charged;
}

static struct chain chain_of(const struct buffer *b)
{
	return (struct chain){b->first, b->last, b->end - b->start, b->charged};
}

static bool buffer_intact(const struct stack_cx *cx, const struct buffer *b, ref owner)
{
	struct chain c = chain_of(b);

	return b->start <= b->end && chain_intact(cx, &c, owner);
}

static void buffer_keep(struct stack_cx *cx, struct buffer *b)
{
	struct chain c = chain_of(b);

	chain_keep(cx, &c);
	b->cursor = b->first; /* a reader moves it without a mark */
	b->cursor_start = b->start;
}

/* Field by field: the end must survive, for the next rebuild reads it as well. */
static void buffer_forget(struct buffer *b)
{
	b->first = b->last = b->cursor = REF_NONE;
	b->start = b->cursor_start = b->end;
	b->charged = 0;
}

/* Chunks and scoreboards that no record has reached. */
static void unreached_discard(struct stack_cx *cx)
{
	static const enum pool_class classes[] = {POOL_CHUNK, POOL_CHUNK_SMALL, POOL_SACKBOARD};

	for (size_t i = 0; i < ARRAY_LEN(classes); i++)
		for (ref r = pool_next(cx, classes[i], REF_NONE); r; r = pool_next(cx, classes[i], r))
			if (!((const struct pool_head *)pool_at(cx, r))->mark)
				pool_discard(cx, r);
}

/* ----------------------------------------------------------------- judging */

static bool synchronised_or_opening(const struct tcb *t)
{
	return t->state >= TCPS_SYN_SENT && t->state < TCPS_TIME_WAIT;
}

static bool sackboard_intact(const struct stack_cx *cx, const struct tcb *t, ref self)
{
	return !t->sackboard || (pool_valid(cx, POOL_SACKBOARD, t->sackboard) &&
				 ((const struct pool_head *)pool_at(cx, t->sackboard))->owner == self);
}

/* A child whose listener is alive, or none at all. */
static bool listener_intact(const struct stack_cx *cx, const struct tcb *t)
{
	if (!t->listener)
		return t->accepted || t->orphan;
	return pool_valid(cx, POOL_TCB, t->listener) && tcb_at(cx, t->listener)->state == TCPS_LISTEN;
}

static bool tcb_intact(const struct stack_cx *cx, const struct tcb *t, ref self)
{
	if (self == stack_of(cx)->dirty || t->reset_due)
		return false;
	return t->cc < STACK_CC_COUNT && buffer_intact(cx, &t->sndbuf, self) &&
	       buffer_intact(cx, &t->rcvbuf, self) && sackboard_intact(cx, t, self) &&
	       listener_intact(cx, t) && !(t->orphan && t->state == TCPS_CLOSED);
}

/* tcb_reset_for_reuse() was under way: the socket stays its owner's, with default options. */
static void unborn_finish(struct stack_cx *cx, struct tcb *t)
{
	t->accepted = true;
	t->orphan = false;
	tcb_defaults(cx, t);
	rtt_init(cx, t);
	record_barrier();
	t->node.kind = POOL_TCB;
}

/* What is left of the connection is what reset() needs to speak to the peer, and what the socket's owner
 * sees. */
static void condemn(struct stack_cx *cx, struct tcb *t)
{
	bool was_open = synchronised_or_opening(t), lost = was_open || buffer_len(&t->rcvbuf);

	if (!t->reset_due) {
		bool tell = was_open && t->state >= TCPS_SYN_RECEIVED && t->remote.port;
		if (lost)
			t->so_error = ECONNRESET;
		if (was_open || t->passive || t->connect_started)
			t->rd_shut = t->wr_shut = true;
		t->edges |= SOCK_EDGES_ALL;
		record_barrier();
		t->reset_due = tell ? RESET_TELL : was_open ? RESET_OPENING : RESET_SILENT;
		record_barrier();
	}
	if (t->node.kind != POOL_TCB)
		unborn_finish(cx, t);
	state_set(cx, t, TCPS_CLOSED);
	buffer_forget(&t->sndbuf);
	buffer_forget(&t->rcvbuf);
	reass_rebuild_begin(t);
	memset(t->sack_recent, 0, sizeof t->sack_recent);
	t->sackboard = REF_NONE;
	t->sacked_bytes = 0;
	t->fin_received = t->urg_in = t->urg_valid = t->urg_out = false;
	t->ack_now = t->ack_pending = t->dsack_pending = false;
	t->cc = (uint8_t)MIN_OF(t->cc, (uint8_t)(STACK_CC_COUNT - 1));
	for (unsigned i = 0; i < TIMER_COUNT; i++)
		t->timer[i] = NSEC_NEVER;
}

/* It owns no memory but its queues, which follow from the children. */
static bool is_listener(const struct tcb *t)
{
	return t->state == TCPS_LISTEN && t->local.port;
}

static void listener_clear(struct tcb *t)
{
	buffer_forget(&t->sndbuf);
	buffer_forget(&t->rcvbuf);
	reass_rebuild_begin(t);
	t->sackboard = t->listener = REF_NONE;
	t->reset_due = RESET_NONE;
}

static void tcbs_judge(struct stack_cx *cx)
{
	const struct stack *st = stack_of(cx);

	for (ref r = pool_next(cx, POOL_TCB, REF_NONE); r; r = pool_next(cx, POOL_TCB, r)) {
		struct tcb *t = tcb_at(cx, r);

		if (t->state >= TCPS_COUNT || (t->node.kind != POOL_TCB && r != st->dirty))
			pool_discard(cx, r);
		else if (is_listener(t))
			listener_clear(t);
		else if (!tcb_intact(cx, t, r))
			condemn(cx, t);
		else
			reass_rebuild_begin(t);
	}
	/* Those that cannot be where they say they are; only then is it known who stays. */
	for (ref r = pool_next(cx, POOL_TCB, REF_NONE); r; r = pool_next(cx, POOL_TCB, r)) {
		struct tcb *t = tcb_at(cx, r);

		if ((!t->reset_due && !is_listener(t) && !listener_intact(cx, t)) ||
		    !demux_rebuild_tcb(cx, t))
			condemn(cx, t);
		if (t->reset_due)
			t->listener = REF_NONE;
	}
}

static void tcbs_keep(struct stack_cx *cx)
{
	for (ref r = pool_next(cx, POOL_TCB, REF_NONE); r; r = pool_next(cx, POOL_TCB, r)) {
		struct tcb *t = tcb_at(cx, r);

		buffer_keep(cx, &t->sndbuf);
		buffer_keep(cx, &t->rcvbuf);
		if (t->sackboard)
			((struct pool_head *)pool_at(cx, t->sackboard))->mark = 1;
	}
}

/* ------------------------------------------------------------------- lists */

static void lists_rebuild(struct stack_cx *cx)
{
	struct stack *st = stack_of(cx);

	st->edge_first = st->edge_last = st->output_first = st->output_last = REF_NONE;
	st->tcb_count = st->orphan_count = 0;
	for (ref r = pool_next(cx, POOL_TCB, REF_NONE); r; r = pool_next(cx, POOL_TCB, r)) {
		struct tcb *t = tcb_at(cx, r);

		st->tcb_count++;
		st->orphan_count += t->orphan;
		t->edge_queued = t->output_queued = false;
		t->edge_next = t->output_next = REF_NONE;
		if (t->edges)
			sock_signal(cx, t, 0);
		if (synchronised_or_opening(t) && t->state != TCPS_SYN_SENT)
			snd_mss_update(cx, t); /* stack_set_device() was on its way to it */
		if (synchronised_or_opening(t) && (t->ack_now || t->fin_queued || buffer_len(&t->sndbuf)))
			output_mark(cx, t); /* one look too many does no harm */
	}
}

/* ------------------------------------------------------------------ resets */

/* Who has a socket keeps it; what nobody has, or had not yet, goes. */
static void reset(struct stack_cx *cx, ref r)
{
	struct tcb *t = tcb_at(cx, r);

	if (t->reset_due == RESET_TELL) {
		COUNT(cx, tcp_estab_reset);
		output_rst_torn(cx, t);
	}
	if (t->orphan || !t->accepted)
		tcb_free(cx, t);
	else
		t->reset_due = RESET_NONE;
}

/* What never changes once the stack is laid out, and all tables hang on. */
static bool root_sound(const struct stack *st)
{
	const uint32_t last = EXTENT_BYTES / 2 / REF_GRAIN;

	return memcmp(st->magic, region_magic, sizeof st->magic) == 0 &&
	       st->layout_hash == stack_layout_hash() && st->listen_buckets < last &&
	       st->neigh_buckets < last && st->listen_bucket_bits == LISTEN_BUCKET_BITS;
}

int stack_rebuild(struct stack_cx *cx, struct stack_rebuilt *out)
{
	struct stack *st = stack_of(cx);
	ref next;

	*out = (struct stack_rebuilt){0};
	if (!root_sound(st) || !pool_rebuild_begin(cx) || !demux_rebuild_begin(cx))
		return -ENOTRECOVERABLE;
	st->in_flush = false;
	st->buffer_bytes = 0;
	tcbs_judge(cx);
	tcbs_keep(cx);
	reass_rebuild(cx);
	loop_rebuild(cx);
	unreached_discard(cx);
	timewait_rebuild(cx);
	neigh_rebuild(cx);
	pool_rebuild_end(cx);
	listen_rebuild(cx);
	lists_rebuild(cx);
	timer_rebuild(cx);
	for (ref r = pool_next(cx, POOL_TCB, REF_NONE); r; r = next) {
		next = pool_next(cx, POOL_TCB, r);
		if (!tcb_at(cx, r)->reset_due)
			continue;
		out->reset += tcb_at(cx, r)->reset_due >= RESET_OPENING;
		reset(cx, r);
	}
	dirty_end(cx, REF_NONE);
	return 0;
}

bool sock_needs_owner(struct stack_cx *cx, ref s)
{
	const struct tcb *t = tcb_at(cx, s);

	return t->accepted && !t->orphan;
}
