/*
 * verify.c - stack_verify(): the walk over every invariant.
 *
 * Each file that keeps a structure checks its own (pool, demux, neigh, reass);
 * what belongs to several is here: lists, queues of listeners, the heap of
 * timers, owners of memory, accounts, sequence variables.
 * Place in the flow: tests, the simulator after its events, debug builds.
 */
#include "core/chunk.h"
#include "core/net.h"
#include "core/recv.h"

/* ------------------------------------------------------------------- lists */

static const char *edges_verify(struct stack_cx *cx)
{
	const struct stack *st = stack_of(cx);
	uint32_t seen = 0, marked = 0;
	ref last = REF_NONE;

	for (ref r = st->edge_first; r; last = r, r = tcb_at(cx, r)->edge_next)
		if (!pool_valid(cx, POOL_TCB, r) || !tcb_at(cx, r)->edge_queued ||
		    ++seen > pool_live(cx, POOL_TCB))
			return "stack: the list of edges holds what is not marked";
	for (ref r = pool_next(cx, POOL_TCB, REF_NONE); r; r = pool_next(cx, POOL_TCB, r))
		marked += tcb_at(cx, r)->edge_queued;
	return seen != marked || last != st->edge_last ? "stack: the list of edges is broken" : NULL;
}

static const char *output_verify(struct stack_cx *cx)
{
	const struct stack *st = stack_of(cx);
	uint32_t seen = 0, marked = 0;
	ref last = REF_NONE;

	for (ref r = st->output_first; r; last = r, r = tcb_at(cx, r)->output_next)
		if (!pool_valid(cx, POOL_TCB, r) || !tcb_at(cx, r)->output_queued ||
		    ++seen > pool_live(cx, POOL_TCB))
			return "stack: the list for output holds what is not marked";
	for (ref r = pool_next(cx, POOL_TCB, REF_NONE); r; r = pool_next(cx, POOL_TCB, r))
		marked += tcb_at(cx, r)->output_queued;
	return seen != marked || last != st->output_last ? "stack: the list for output is broken" : NULL;
}

static const char *timewait_verify(struct stack_cx *cx)
{
	const struct stack *st = stack_of(cx);
	uint32_t seen = 0;
	ref before = REF_NONE;

	for (ref r = st->tw_first; r; before = r, r = ((struct timewait *)pool_at(cx, r))->tw_next) {
		if (!pool_valid(cx, POOL_TIMEWAIT, r) || ++seen > st->tw_count)
			return "stack: the TIME-WAIT list leads to a dead object, or loops";
		const struct timewait *w = pool_at(cx, r);
		if (w->tw_prev != before)
			return "stack: the TIME-WAIT list is broken backwards";
		if (demux_find(cx, &w->local, &w->remote).r != r)
			return "stack: a TIME-WAIT is not in the table";
	}
	if (before != st->tw_last || seen != st->tw_count || seen != pool_live(cx, POOL_TIMEWAIT))
		return "stack: the count of TIME-WAITs is wrong";
	return NULL;
}

/* --------------------------------------------------------- the heap of timers */

static const struct timer_node *node_of(const struct stack_cx *cx, ref r)
{
	if (pool_valid(cx, POOL_TCB, r))
		return &tcb_at(cx, r)->node;
	if (pool_valid(cx, POOL_TIMEWAIT, r))
		return &((const struct timewait *)pool_at(cx, r))->node;
	if (pool_valid(cx, POOL_NEIGH, r))
		return &((const struct neigh *)pool_at(cx, r))->node;
	return NULL;
}

/* A node's links agree with those of its neighbours, and it is not due before its parent. */
static const char *node_verify(struct stack_cx *cx, ref r, const struct timer_node *n)
{
	ref before = n->prev;

	if (!n->queued)
		return stack_of(cx)->timer_root == r ? "timer: the root is not queued" : NULL;
	if ((n->child && (!node_of(cx, n->child) || node_of(cx, n->child)->prev != r)) ||
	    (n->next && (!node_of(cx, n->next) || node_of(cx, n->next)->prev != r)))
		return "timer: a link has no counterpart";
	if (!before)
		return stack_of(cx)->timer_root == r ? NULL : "timer: a queued node is not in the heap";
	const struct timer_node *p = node_of(cx, before);
	if (!p || !p->queued || (p->child != r && p->next != r))
		return "timer: a node hangs from a dead one";
	return NULL;
}

/* None of a node's children, not only the first, is due before it. */
static const char *children_verify(struct stack_cx *cx, const struct timer_node *n)
{
	uint32_t seen = 0,
		 most = pool_live(cx, POOL_TCB) + pool_live(cx, POOL_TIMEWAIT) + pool_live(cx, POOL_NEIGH);
	const struct timer_node *c;

	for (ref r = n->queued ? n->child : REF_NONE; r; r = c->next) {
		c = node_of(cx, r);
		if (!c || !c->queued || ++seen > most)
			return "timer: a child is not queued, or the children loop";
		if (c->deadline < n->deadline)
			return "timer: a child is due before its parent";
	}
	return NULL;
}

/* The node of a socket stands for the earliest of its timers: one that it does not cover would never fire. */
static const char *deadlines_verify(struct stack_cx *cx)
{
	for (ref r = pool_next(cx, POOL_TCB, REF_NONE); r; r = pool_next(cx, POOL_TCB, r)) {
		const struct tcb *t = tcb_at(cx, r);

		for (unsigned i = 0; i < TIMER_COUNT; i++)
			if (t->timer[i] != NSEC_NEVER && (!t->node.queued || t->node.deadline > t->timer[i]))
				return "timer: a deadline of a socket is not in the heap";
	}
	return NULL;
}

static const char *timers_verify(struct stack_cx *cx)
{
	static const enum pool_class classes[] = {POOL_TCB, POOL_TIMEWAIT, POOL_NEIGH};
	const char *broken = NULL;

	for (size_t i = 0; i < ARRAY_LEN(classes); i++)
		for (ref r = pool_next(cx, classes[i], REF_NONE); !broken && r;
		     r = pool_next(cx, classes[i], r))
			broken = node_verify(cx, r, node_of(cx, r));
	for (size_t i = 0; i < ARRAY_LEN(classes); i++)
		for (ref r = pool_next(cx, classes[i], REF_NONE); !broken && r;
		     r = pool_next(cx, classes[i], r))
			broken = children_verify(cx, node_of(cx, r));
	return broken ? broken : deadlines_verify(cx);
}

/* ------------------------------------------------------------------ memory */

/* Everything that a socket owns names a live socket (or a looped segment): what does not is a leak. */
static const char *owners_verify(struct stack_cx *cx)
{
	static const enum pool_class classes[] = {POOL_CHUNK, POOL_CHUNK_SMALL, POOL_OOO, POOL_SACKBOARD};

	for (size_t i = 0; i < ARRAY_LEN(classes); i++)
		for (ref r = pool_next(cx, classes[i], REF_NONE); r; r = pool_next(cx, classes[i], r)) {
			ref owner = ((const struct pool_head *)pool_at(cx, r))->owner;

			if (!pool_valid(cx, POOL_TCB, owner) && !pool_valid(cx, POOL_LOOP, owner))
				return "memory: an object outlived its socket";
		}
	return NULL;
}

/* The chunks of a buffer hold the bytes that it says, and cost what it was charged. */
static const char *buffer_verify(struct stack_cx *cx, ref owner, const struct buffer *b)
{
	uint64_t bytes = 0, cost = 0, seen = 0;
	ref last = REF_NONE;

	for (ref r = b->first; r; last = r, r = chunk_at(cx, r)->next) {
		if (!pool_valid(cx, POOL_CHUNK, r) && !pool_valid(cx, POOL_CHUNK_SMALL, r))
			return "buffer: a chain leads to what is no chunk";
		const struct chunk *c = chunk_at(cx, r);
		if (c->head.owner != owner || c->begin > c->end || chunk_room(c) > CHUNK_DATA)
			return "buffer: a chunk is another's, or broken";
		if (++seen > pool_live(cx, POOL_CHUNK) + pool_live(cx, POOL_CHUNK_SMALL))
			return "buffer: a chain has a loop";
		bytes += c->end - c->begin;
		cost += chunk_cost(c);
	}
	if (last != b->last || b->start > b->end || bytes != buffer_len(b))
		return "buffer: it holds other bytes than it says";
	return cost == b->charged ? NULL : "buffer: the charge is not what its chunks cost";
}

/* ----------------------------------------------------------------- sockets */

/* One queue of a listener: every child names it, the links agree, the count is right. */
static const char *queue_verify(struct stack_cx *cx, ref listener, ref first, ref last, uint32_t count)
{
	uint32_t seen = 0;
	ref before = REF_NONE;

	for (ref r = first; r; before = r, r = tcb_at(cx, r)->queue_next) {
		if (!pool_valid(cx, POOL_TCB, r) || ++seen > count)
			return "listener: a queue leads to a dead object, or is longer than counted";
		if (tcb_at(cx, r)->listener != listener || tcb_at(cx, r)->queue_prev != before)
			return "listener: a queued child is not linked to its listener";
	}
	return before != last || seen != count ? "listener: the count of a queue is wrong" : NULL;
}

/* RFC 9293 3.3.1, figure 3: what holds between the variables of a synchronised connection. */
static const char *sequence_verify(const struct tcb *t)
{
	if (seq_gt(t->snd_una, t->snd_nxt) || seq_gt(t->snd_nxt, t->snd_max))
		return "tcb: SND.UNA <= SND.NXT <= the highest sent does not hold";
	if (t->state >= TCPS_ESTABLISHED && seq_gt(t->rcv_nxt, t->rcv_adv) && !t->fin_received)
		return "tcb: RCV.NXT is beyond the window that was offered";
	return NULL;
}

static const char *tcb_verify(struct stack_cx *cx, ref r)
{
	const struct tcb *t = tcb_at(cx, r);
	const char *broken = NULL;

	if (t->state >= TCPS_COUNT)
		return "tcb: no such state";
	if ((t->state == TCPS_LISTEN) != t->hashed_listener)
		return "tcb: LISTEN and the table of listeners disagree";
	/* in TIME-WAIT a struct timewait has its place */
	if (t->state >= TCPS_SYN_SENT && t->state < TCPS_TIME_WAIT && !t->hashed)
		return "tcb: a connection is not in the table";
	if (t->state == TCPS_LISTEN) {
		broken = queue_verify(cx, r, t->syn_first, t->syn_last, t->syn_count);
		if (!broken)
			broken = queue_verify(cx, r, t->accept_first, t->accept_last, t->accept_count);
	} else if (t->state >= TCPS_SYN_SENT) {
		broken = sequence_verify(t);
	}
	if (!broken)
		broken = buffer_verify(cx, r, &t->sndbuf);
	if (!broken)
		broken = buffer_verify(cx, r, &t->rcvbuf);
	return broken ? broken : reass_verify(cx, t);
}

static const char *tcbs_verify(struct stack_cx *cx)
{
	const struct stack *st = stack_of(cx);
	uint32_t orphans = 0;
	uint64_t charged;
	const char *looped = loop_verify(cx, &charged);

	if (looped)
		return looped;
	for (ref r = pool_next(cx, POOL_TCB, REF_NONE); r; r = pool_next(cx, POOL_TCB, r)) {
		const struct tcb *t = tcb_at(cx, r);
		const char *broken = tcb_verify(cx, r);
		if (broken)
			return broken;
		orphans += t->orphan;
		charged += t->sndbuf.charged + t->rcvbuf.charged + t->ooo_charged;
	}
	if (charged != st->buffer_bytes)
		return "stack: the sum of the buffers' charges is wrong";
	if (pool_live(cx, POOL_TCB) != st->tcb_count)
		return "stack: the count of TCBs is wrong";
	return orphans != st->orphan_count ? "stack: the count of orphans is wrong" : NULL;
}

const char *stack_verify(struct stack_cx *cx)
{
	static const char *(*const walks[])(struct stack_cx *) = {
	    pool_verify,     demux_verify,  neigh_verify,  edges_verify, output_verify,
	    timewait_verify, timers_verify, owners_verify, tcbs_verify,
	};
	const struct stack *st = stack_of(cx);

	if (memcmp(st->magic, region_magic, sizeof st->magic) != 0 || st->layout_hash != stack_layout_hash())
		return "stack: not a region of this library";
	for (size_t i = 0; i < ARRAY_LEN(walks); i++) {
		const char *broken = walks[i](cx);
		if (broken)
			return broken;
	}
	return NULL;
}
