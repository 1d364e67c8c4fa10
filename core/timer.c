/*
 * timer.c - every deadline of the stack: one pairing heap.
 *
 * Theory of operation. TCBs, TIME-WAITs and neighbours embed a timer_node; the
 * heap links these nodes by the refs of the objects around them, so it lives in
 * the region and holds no pointers. A TCB has TIMER_COUNT timers but one node,
 * whose key is at most the earliest of them. Most deadlines only ever move
 * later (each ACK restarts the retransmission timer), so moving later and
 * cancelling do not touch the heap: the node surfaces at its old key,
 * timer_run_tcb() or stack_deadline() puts it back with the true minimum.
 * Moving earlier is the heap's decrease-key: cut the node and meld it with the
 * root. Insertion and decrease are O(1), removal is O(log n) amortised
 * (Fredman, Sedgewick, Sleator, Tarjan: The Pairing Heap, 1986).
 *
 * Equal deadlines are ordered by ref, so that the same inputs give the same
 * order of events. A deadline is never before the next nanosecond, so that
 * stack_advance() ends whatever the handlers arm.
 */
#include "core/net.h"
#include "core/send.h"

static struct timer_node *node_at(const struct stack_cx *cx, ref r)
{
	void *object = pool_at(cx, r);

	switch (((struct pool_head *)object)->class) {
	case POOL_TIMEWAIT:
		return &((struct timewait *)object)->node;
	case POOL_NEIGH:
		return &((struct neigh *)object)->node;
	default:
		return &((struct tcb *)object)->node;
	}
}

static bool node_before(const struct timer_node *a, ref ra, const struct timer_node *b, ref rb)
{
	return a->deadline != b->deadline ? a->deadline < b->deadline : ra < rb;
}

/* Join two trees whose roots have no siblings; the root of the result. */
static ref heap_meld(struct stack_cx *cx, ref ra, ref rb)
{
	if (ra == REF_NONE)
		return rb;
	if (rb == REF_NONE)
		return ra;
	struct timer_node *a = node_at(cx, ra), *b = node_at(cx, rb);
	if (node_before(b, rb, a, ra)) {
		struct timer_node *n = a;
		ref r = ra;

		a = b;
		ra = rb;
		b = n;
		rb = r;
	}
	/* b becomes a's first child; `prev` of a first child is its parent */
	b->next = a->child;
	b->prev = ra;
	if (a->child)
		node_at(cx, a->child)->prev = rb;
	a->child = rb;
	a->next = a->prev = REF_NONE;
	return ra;
}

/* The two passes over the children of a removed root: meld pairs left to right, then right to left. */
static ref heap_merge_children(struct stack_cx *cx, ref first)
{
	ref pairs = REF_NONE; /* stack of melded pairs, linked by next */

	while (first) {
		ref a = first, b = node_at(cx, a)->next;

		first = b ? node_at(cx, b)->next : REF_NONE;
		node_at(cx, a)->next = node_at(cx, a)->prev = REF_NONE;
		if (b)
			node_at(cx, b)->next = node_at(cx, b)->prev = REF_NONE;
		a = heap_meld(cx, a, b);
		node_at(cx, a)->next = pairs;
		pairs = a;
	}
	ref root = REF_NONE;
	while (pairs) {
		ref next = node_at(cx, pairs)->next;

		node_at(cx, pairs)->next = REF_NONE;
		root = heap_meld(cx, root, pairs);
		pairs = next;
	}
	return root;
}

/* Unlink a node with its subtree from its parent and siblings. It must not be the root. */
static void heap_cut(struct stack_cx *cx, struct timer_node *n, ref self)
{
	struct timer_node *before = node_at(cx, n->prev);

	if (before->child == self)
		before->child = n->next;
	else
		before->next = n->next;
	if (n->next)
		node_at(cx, n->next)->prev = n->prev;
	n->next = n->prev = REF_NONE;
}

static void heap_insert(struct stack_cx *cx, struct timer_node *n, ref self, nsec deadline)
{
	struct stack *st = stack_of(cx);

	n->deadline = deadline;
	n->child = n->next = n->prev = REF_NONE;
	n->queued = 1;
	st->timer_root = heap_meld(cx, st->timer_root, self);
}

static void heap_decrease(struct stack_cx *cx, struct timer_node *n, ref self, nsec deadline)
{
	struct stack *st = stack_of(cx);

	n->deadline = deadline;
	if (st->timer_root == self)
		return;
	heap_cut(cx, n, self);
	st->timer_root = heap_meld(cx, st->timer_root, self);
}

static void heap_remove(struct stack_cx *cx, struct timer_node *n, ref self)
{
	struct stack *st = stack_of(cx);
	ref children = n->child;

	if (st->timer_root == self) {
		st->timer_root = heap_merge_children(cx, children);
	} else {
		heap_cut(cx, n, self);
		st->timer_root = heap_meld(cx, st->timer_root, heap_merge_children(cx, children));
	}
	n->child = n->next = n->prev = REF_NONE;
	n->queued = 0;
}

/* Exact: for objects with a single deadline. */
void timer_node_set(struct stack_cx *cx, struct timer_node *n, ref self, enum pool_class kind, nsec deadline)
{
	n->kind = (uint8_t)kind;
	deadline = MAX_OF(deadline, cx->now + 1);
	if (n->queued && deadline >= n->deadline) {
		if (deadline == n->deadline)
			return;
		heap_remove(cx, n, self);
	}
	if (n->queued)
		heap_decrease(cx, n, self, deadline);
	else
		heap_insert(cx, n, self, deadline);
}

void timer_node_cancel(struct stack_cx *cx, struct timer_node *n, ref self)
{
	if (n->queued)
		heap_remove(cx, n, self);
}

/* Lazy: the node's key only ever moves earlier here. */
void timer_set(struct stack_cx *cx, struct tcb *t, enum tcb_timer which, nsec deadline)
{
	if (deadline == NSEC_NEVER) {
		t->timer[which] = NSEC_NEVER;
		return;
	}
	deadline = MAX_OF(deadline, cx->now + 1);
	t->timer[which] = deadline;
	t->node.kind = POOL_TCB;
	if (!t->node.queued)
		heap_insert(cx, &t->node, pool_ref(cx, t), deadline);
	else if (deadline < t->node.deadline)
		heap_decrease(cx, &t->node, pool_ref(cx, t), deadline);
}

void timer_cancel(struct stack_cx *cx, struct tcb *t, enum tcb_timer which)
{
	(void)cx;
	t->timer[which] = NSEC_NEVER;
}

void timer_cancel_all(struct stack_cx *cx, struct tcb *t)
{
	for (unsigned i = 0; i < TIMER_COUNT; i++)
		t->timer[i] = NSEC_NEVER;
	timer_node_cancel(cx, &t->node, pool_ref(cx, t));
}

static nsec timer_earliest(const struct tcb *t)
{
	nsec min = NSEC_NEVER;

	for (unsigned i = 0; i < TIMER_COUNT; i++)
		min = MIN_OF(min, t->timer[i]);
	return min;
}

static void timer_dispatch(struct stack_cx *cx, struct tcb *t, enum tcb_timer which)
{
	switch (which) {
	case TIMER_RTO:
		rto_timer(cx, t);
		break;
	case TIMER_PERSIST:
		persist_timer(cx, t);
		break;
	case TIMER_DELACK:
		ack_delack_timer(cx, t);
		break;
	case TIMER_KEEPALIVE:
		keepalive_timer(cx, t);
		break;
	case TIMER_FIN_WAIT_2:
		fin_wait_2_timer(cx, t);
		break;
	case TIMER_OVERRIDE:
		output_override_timer(cx, t);
		break;
	case TIMER_SPACE:
		sndbuf_wake(cx, t);
		break;
	case TIMER_COUNT:
		break;
	}
}

/*
 * The node of this TCB was taken out of the heap: run what is due, put it back. A handler may free the TCB.
 * It goes back for what is not due before the handlers run: if the process dies in one (they send), no other
 * deadline is lost, and stack_verify() finds a sound heap.
 */
static void timer_run_tcb(struct stack_cx *cx, ref r)
{
	struct tcb *t = tcb_at(cx, r);
	nsec later = NSEC_NEVER;

	for (unsigned i = 0; i < TIMER_COUNT; i++)
		if (t->timer[i] > cx->now)
			later = MIN_OF(later, t->timer[i]);
	if (later != NSEC_NEVER)
		heap_insert(cx, &t->node, r, later);
	ref outer = dirty_begin(cx, r);
	bool alive = true;
	for (unsigned i = 0; alive && i < TIMER_COUNT; i++) {
		if (t->timer[i] > cx->now)
			continue;
		t->timer[i] = NSEC_NEVER;
		timer_dispatch(cx, t, (enum tcb_timer)i);
		alive = pool_valid(cx, POOL_TCB, r);
	}
	dirty_end(cx, outer);
	if (!alive)
		return;
	nsec min = timer_earliest(t);
	if (min == NSEC_NEVER)
		return;
	if (!t->node.queued)
		heap_insert(cx, &t->node, r, min);
	else if (min < t->node.deadline)
		heap_decrease(cx, &t->node, r, min);
}

void stack_advance(struct stack_cx *cx)
{
	struct stack *st = stack_of(cx);

	while (st->timer_root) {
		ref r = st->timer_root;
		struct timer_node *n = node_at(cx, r);

		if (n->deadline > cx->now)
			break;
		heap_remove(cx, n, r);
		switch (n->kind) {
		case POOL_TIMEWAIT:
			timewait_expire(cx, r);
			break;
		case POOL_NEIGH:
			neigh_timer(cx, r);
			break;
		default:
			timer_run_tcb(cx, r);
		}
	}
	stack_flush(cx);
}

/*
 * Exact: a root whose key is stale goes back with its true minimum. A busy
 * connection is the root again at once, with all others as one subtree below
 * it, so that its next turn costs O(1).
 */
nsec stack_deadline(struct stack_cx *cx)
{
	const struct stack *st = stack_of(cx);

	if (st->loop_first)
		return cx->now; /* the last flush stopped at its bound, or there was none since */
	while (st->timer_root) {
		ref r = st->timer_root;
		struct timer_node *n = node_at(cx, r);

		if (n->kind != POOL_TCB)
			return n->deadline;
		nsec min = timer_earliest(tcb_at(cx, r));
		if (min <= n->deadline)
			return n->deadline;
		heap_remove(cx, n, r);
		if (min != NSEC_NEVER)
			heap_insert(cx, n, r, min);
	}
	return NSEC_NEVER;
}

/* --------------------------------------------------------------- rebuild.c */

/* A wait that was never begun, or whose time makes no sense, begins anew. */
static void timewait_requeue(struct stack_cx *cx, struct timewait *w, ref r)
{
	nsec most = cx->now + stack_of(cx)->config.tw_time;

	heap_insert(cx, &w->node, r, w->node.deadline && w->node.deadline < most ? w->node.deadline : most);
}

/* Out of the heap. Its kind stays: that says that the record around it is complete, also to the next rebuild.
 */
static void node_reset(struct timer_node *n)
{
	n->deadline = 0;
	n->child = n->next = n->prev = REF_NONE;
	n->queued = 0;
}

void timer_rebuild(struct stack_cx *cx)
{
	stack_of(cx)->timer_root = REF_NONE;
	for (ref r = pool_next(cx, POOL_TCB, REF_NONE); r; r = pool_next(cx, POOL_TCB, r)) {
		struct tcb *t = tcb_at(cx, r);
		nsec min = timer_earliest(t);

		node_reset(&t->node);
		if (min != NSEC_NEVER)
			heap_insert(cx, &t->node, r, min);
	}
	for (ref r = pool_next(cx, POOL_TIMEWAIT, REF_NONE); r; r = pool_next(cx, POOL_TIMEWAIT, r))
		timewait_requeue(cx, pool_at(cx, r), r);
	for (ref r = pool_next(cx, POOL_NEIGH, REF_NONE); r; r = pool_next(cx, POOL_NEIGH, r)) {
		struct neigh *n = pool_at(cx, r);

		n->node.queued = 0;
		if (n->state == NEIGH_INCOMPLETE || n->state >= NEIGH_DELAY)
			heap_insert(cx, &n->node, r, MAX_OF(n->node.deadline, cx->now + 1));
	}
}
