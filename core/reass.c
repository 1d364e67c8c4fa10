/*
 * reass.c - data that arrived before what precedes it (RFC 9293 SHLD-31), and
 * the SACK blocks that tell the peer about it (RFC 2018, RFC 2883).
 *
 * Theory of operation. Out-of-order data lies in ranges [start, end) that
 * neither overlap nor touch: struct ooo, 64 bytes, which owns a chain of
 * chunks. The ranges of a connection form a treap (a binary search tree by
 * sequence number that is a heap by a random priority), so that a hostile peer
 * who sends every second byte costs O(log n) a segment and cannot shape the
 * tree: the priorities come from the stack's generator. Two caps bound the
 * memory: config.ooo_ranges_max, and the connection's receive limit against the
 * bytes charged, overhead included.
 *
 * A new segment is walked from left to right. What is already held is skipped,
 * each gap is copied once: onto the range on its left if it touches it, else
 * into a new range; a range on the right that is then touched is linked to it.
 * When the data in front arrives, reass_deliver() links whole ranges to the
 * receive buffer: nothing is copied twice.
 *
 * All sequence numbers compared here lie in one receive window, so that the
 * order modulo 2^32 is total.
 */
#include "core/chunk.h"
#include "core/net.h"
#include "core/recv.h"

struct ooo {
	struct pool_head head;
	ref left, right;
	uint32_t priority;
	seq32 start, end;
	ref first, last; /* chunks */
	uint32_t reserved;
	uint64_t charged; /* of the chunks */
	uint64_t reserved2[2];
};
_Static_assert(sizeof(struct ooo) == 64, "an out-of-order range is one cache line");

#define OOO_COST 64u

static struct ooo *ooo_at(const struct stack_cx *cx, ref r)
{
	return (struct ooo *)pool_at(cx, r);
}

static struct chain range_chain(const struct ooo *o)
{
	return (struct chain){o->first, o->last, (uint32_t)seq_diff(o->end, o->start), o->charged};
}

static void range_store(struct ooo *o, const struct chain *c)
{
	o->first = c->first;
	o->last = c->last;
	o->charged = c->charged;
	o->end = seq_add(o->start, (uint32_t)c->bytes);
}

/* ---------------------------------------------------------------- the tree */

/* The range with the largest start <= at, or REF_NONE. */
static ref tree_at_or_before(struct stack_cx *cx, const struct tcb *t, seq32 at)
{
	ref best = REF_NONE;

	for (ref r = t->ooo_root; r;) {
		const struct ooo *o = ooo_at(cx, r);
		if (seq_leq(o->start, at)) {
			best = r;
			r = o->right;
		} else {
			r = o->left;
		}
	}
	return best;
}

/* The range with the smallest start > at, or REF_NONE. */
static ref tree_after(struct stack_cx *cx, const struct tcb *t, seq32 at)
{
	ref best = REF_NONE;

	for (ref r = t->ooo_root; r;) {
		const struct ooo *o = ooo_at(cx, r);
		if (seq_gt(o->start, at)) {
			best = r;
			r = o->left;
		} else {
			r = o->right;
		}
	}
	return best;
}

static ref tree_first(struct stack_cx *cx, const struct tcb *t)
{
	ref r = t->ooo_root;

	while (r && ooo_at(cx, r)->left)
		r = ooo_at(cx, r)->left;
	return r;
}

static void tree_insert(struct stack_cx *cx, struct tcb *t, ref n)
{
	struct ooo *o = ooo_at(cx, n);
	ref *link = &t->ooo_root;

	while (*link && ooo_at(cx, *link)->priority >= o->priority) {
		struct ooo *p = ooo_at(cx, *link);
		link = seq_lt(o->start, p->start) ? &p->left : &p->right;
	}
	/* Split the subtree below by the new key; its halves become the children. */
	ref rest = *link, *lesser = &o->left, *greater = &o->right;
	while (rest) {
		struct ooo *p = ooo_at(cx, rest);
		if (seq_lt(p->start, o->start)) {
			*lesser = rest;
			lesser = &p->right;
			rest = p->right;
		} else {
			*greater = rest;
			greater = &p->left;
			rest = p->left;
		}
	}
	*lesser = *greater = REF_NONE;
	*link = n;
}

static void tree_remove(struct stack_cx *cx, struct tcb *t, ref n)
{
	struct ooo *o = ooo_at(cx, n);
	ref *link = &t->ooo_root;

	while (*link != n) {
		struct ooo *p = ooo_at(cx, *link);
		link = seq_lt(o->start, p->start) ? &p->left : &p->right;
	}
	/* Merge its two subtrees in its place. */
	ref a = o->left, b = o->right;
	while (a && b) {
		struct ooo *x = ooo_at(cx, a), *y = ooo_at(cx, b);
		if (x->priority >= y->priority) {
			*link = a;
			link = &x->right;
			a = x->right;
		} else {
			*link = b;
			link = &y->left;
			b = y->left;
		}
	}
	*link = a ? a : b;
}

/* ------------------------------------------------------------------ ranges */

static ref range_new(struct stack_cx *cx, struct tcb *t, seq32 start)
{
	struct stack *st = stack_of(cx);

	if (t->ooo_count >= st->config.ooo_ranges_max || st->buffer_bytes + OOO_COST > st->mem_limit)
		return REF_NONE;
	ref r = pool_alloc(cx, POOL_OOO, pool_ref(cx, t));
	if (!r)
		return REF_NONE;
	struct ooo *o = ooo_at(cx, r);
	o->start = o->end = start;
	o->priority = (uint32_t)rng_next(cx);
	st->buffer_bytes += OOO_COST;
	t->ooo_charged += OOO_COST;
	t->ooo_count++;
	return r;
}

/* Forget a range that is in no tree; its chunks have gone elsewhere, or go now. */
static void range_free(struct stack_cx *cx, struct tcb *t, ref r)
{
	struct chain c = range_chain(ooo_at(cx, r));

	t->ooo_charged -= c.charged + OOO_COST;
	chain_free(cx, &c);
	stack_of(cx)->buffer_bytes -= OOO_COST;
	t->ooo_count--;
	pool_free(cx, POOL_OOO, r);
}

/* The receive limit; and twice what was promised, where SO_RCVBUF lowered the limit after the promise. */
static uint64_t bytes_max(const struct tcb *t)
{
	return MAX_OF((uint64_t)t->rcvbuf_limit, 2 * (uint64_t)rcv_window_now(t));
}

/* Copy [at, at + n) behind the range r, which ends at `at`. Bytes taken. */
static uint32_t range_append(struct stack_cx *cx, struct tcb *t, ref r, const uint8_t *p, uint32_t n)
{
	struct ooo *o = ooo_at(cx, r);
	struct chain c = range_chain(o);
	uint64_t before = c.charged;

	if (t->ooo_charged + n > bytes_max(t))
		return 0;
	uint32_t done = (uint32_t)chain_append(cx, &c, pool_ref(cx, t), p, n, false);
	range_store(o, &c);
	t->ooo_charged += c.charged - before;
	return done;
}

/* The range b begins where a ends: link them. */
static void range_merge(struct stack_cx *cx, struct tcb *t, ref a, ref b)
{
	struct ooo *x = ooo_at(cx, a), *y = ooo_at(cx, b);
	struct chain to = range_chain(x), from = range_chain(y);

	tree_remove(cx, t, b);
	chain_join(cx, &to, &from);
	range_store(x, &to);
	y->first = y->last = REF_NONE;
	y->charged = 0;
	y->end = y->start;
	range_free(cx, t, b);
}

/*
 * Fill the gap [at, to) whose left neighbour is `left` (touching it or not).
 * The range that holds the data afterwards, REF_NONE: none of it was taken.
 */
static ref gap_fill(struct stack_cx *cx, struct tcb *t, ref left, seq32 at, seq32 to, const uint8_t *p,
		    uint32_t *taken)
{
	uint32_t n = (uint32_t)seq_diff(to, at);

	*taken = 0;
	if (left && seq_eq(ooo_at(cx, left)->end, at)) {
		*taken = range_append(cx, t, left, p, n);
		return *taken ? left : REF_NONE;
	}
	ref r = range_new(cx, t, at);
	if (!r)
		return REF_NONE;
	*taken = range_append(cx, t, r, p, n);
	if (!*taken) {
		range_free(cx, t, r);
		return REF_NONE;
	}
	tree_insert(cx, t, r);
	return r;
}

/* ------------------------------------------------------------- SACK blocks */

/* RFC 2018 4: the block with the newest segment leads; older ones that it swallowed go. */
static void sack_note(struct tcb *t, seq32 start, seq32 end)
{
	struct sack_block out[SACK_BLOCKS_MAX] = {{start, end}};
	unsigned n = 1;

	for (unsigned i = 0; i < SACK_BLOCKS_MAX && n < SACK_BLOCKS_MAX; i++) {
		struct sack_block b = t->sack_recent[i];
		if (seq_eq(b.start, b.end) || (seq_leq(b.start, end) && seq_geq(b.end, start)))
			continue;
		out[n++] = b;
	}
	memcpy(t->sack_recent, out, sizeof out);
	t->ooo_newest = start;
}

/* RFC 2883: the next ACK reports [start, end) as received twice. */
void reass_duplicate(struct tcb *t, seq32 start, seq32 end)
{
	if (!t->sack_ok || t->dsack_pending || seq_geq(start, end))
		return;
	t->dsack = (struct sack_block){start, end};
	t->dsack_pending = true;
}

int reass_sack_blocks(struct stack_cx *cx, struct tcb *t, struct sack_block *out, int max)
{
	int n = 0;

	(void)cx;
	if (t->dsack_pending && n < max)
		out[n++] = t->dsack;
	if (!t->ooo_root)
		return n;
	for (unsigned i = 0; i < SACK_BLOCKS_MAX && n < max; i++) {
		struct sack_block b = t->sack_recent[i];
		if (!seq_eq(b.start, b.end) && seq_gt(b.start, t->rcv_nxt))
			out[n++] = b;
	}
	return n;
}

/* ----------------------------------------------------------------- the two */

void reass_add(struct stack_cx *cx, struct tcb *t, const struct segment *s)
{
	seq32 at = s->seq, end = seq_add(s->seq, s->len);
	uint32_t duplicate = 0;
	ref holder = REF_NONE;

	while (seq_lt(at, end)) {
		ref left = tree_at_or_before(cx, t, at);
		if (left && seq_gt(ooo_at(cx, left)->end, at)) {
			seq32 known = seq_min(ooo_at(cx, left)->end, end);
			if (!duplicate)
				reass_duplicate(t, at, known);
			duplicate += (uint32_t)seq_diff(known, at);
			at = known;
			holder = left;
			continue;
		}
		ref right = tree_after(cx, t, at);
		seq32 to = right ? seq_min(ooo_at(cx, right)->start, end) : end;
		uint32_t taken;
		ref r = gap_fill(cx, t, left, at, to, s->data + seq_diff(at, s->seq), &taken);
		if (r)
			holder = r;
		at = seq_add(at, taken);
		if (!r || seq_lt(at, to)) {
			COUNT(cx, tcp_ooo_drop);
			break;
		}
		if (right && seq_eq(ooo_at(cx, right)->start, at))
			range_merge(cx, t, r, right);
	}
	if (holder) {
		COUNT(cx, tcp_ooo);
		t->rcv_ooopack++;
		sack_note(t, ooo_at(cx, holder)->start, ooo_at(cx, holder)->end);
	}
}

/* Blocks at or below rcv_nxt are history. */
static void sack_forget(struct tcb *t)
{
	unsigned n = 0;

	for (unsigned i = 0; i < SACK_BLOCKS_MAX; i++) {
		if (seq_gt(t->sack_recent[i].start, t->rcv_nxt))
			t->sack_recent[n++] = t->sack_recent[i];
	}
	while (n < SACK_BLOCKS_MAX)
		t->sack_recent[n++] = (struct sack_block){t->rcv_nxt, t->rcv_nxt};
}

void reass_deliver(struct stack_cx *cx, struct tcb *t)
{
	ref r;
	bool moved = false;

	while ((r = tree_first(cx, t)) != REF_NONE && seq_leq(ooo_at(cx, r)->start, t->rcv_nxt)) {
		struct ooo *o = ooo_at(cx, r);
		struct chain c = range_chain(o);
		tree_remove(cx, t, r);
		t->ooo_charged -= c.charged;
		moved = true;
		if (seq_gt(o->end, t->rcv_nxt)) {
			uint32_t old = (uint32_t)seq_diff(t->rcv_nxt, o->start);
			if (old)
				reass_duplicate(t, o->start, t->rcv_nxt);
			chain_trim_front(cx, &c, old);
			t->rcv_nxt = seq_add(t->rcv_nxt, (uint32_t)c.bytes);
			t->bytes_received += c.bytes;
			buffer_join(cx, &t->rcvbuf, &c);
		} else {
			reass_duplicate(t, o->start, o->end);
		}
		chain_free(cx, &c);
		o->first = o->last = REF_NONE;
		o->charged = 0;
		range_free(cx, t, r);
	}
	if (moved)
		sack_forget(t);
}

/*
 * Want of memory: the range farthest away makes room for data that is in order,
 * else what nobody can read yet would keep out what everybody waits for. RFC
 * 2018 8 allows it: SACKed data may be discarded. False: nothing is held.
 */
bool reass_prune(struct stack_cx *cx, struct tcb *t)
{
	ref r = t->ooo_root;

	if (!r)
		return false;
	while (ooo_at(cx, r)->right)
		r = ooo_at(cx, r)->right;
	for (unsigned i = 0; i < SACK_BLOCKS_MAX; i++)
		if (seq_geq(t->sack_recent[i].start, ooo_at(cx, r)->start))
			t->sack_recent[i] = (struct sack_block){t->rcv_nxt, t->rcv_nxt};
	tree_remove(cx, t, r);
	range_free(cx, t, r);
	COUNT(cx, tcp_ooo_drop);
	return true;
}

void reass_clear(struct stack_cx *cx, struct tcb *t)
{
	while (t->ooo_root) {
		ref r = t->ooo_root;
		tree_remove(cx, t, r);
		range_free(cx, t, r);
	}
	memset(t->sack_recent, 0, sizeof t->sack_recent);
}

/* --------------------------------------------------------------- rebuild.c */

/* A range of a connection that nobody was changing. */
static bool range_intact(struct stack_cx *cx, const struct ooo *o)
{
	struct chain c = range_chain(o);

	return seq_lt(o->start, o->end) && chain_intact(cx, &c, o->head.owner);
}

void reass_rebuild_begin(struct tcb *t)
{
	t->ooo_root = REF_NONE;
	t->ooo_count = 0;
	t->ooo_charged = 0;
}

/* Each range into its connection's tree; what is no connection's goes. */
void reass_rebuild(struct stack_cx *cx)
{
	for (ref r = pool_next(cx, POOL_OOO, REF_NONE); r; r = pool_next(cx, POOL_OOO, r)) {
		struct ooo *o = ooo_at(cx, r);
		struct tcb *t = pool_valid(cx, POOL_TCB, o->head.owner) ? tcb_at(cx, o->head.owner) : NULL;
		struct chain c = range_chain(o);

		if (!t || t->reset_due || !range_intact(cx, o)) {
			pool_discard(cx, r);
			continue;
		}
		o->left = o->right = REF_NONE;
		tree_insert(cx, t, r);
		t->ooo_count++;
		t->ooo_charged += c.charged + OOO_COST;
		stack_of(cx)->buffer_bytes += OOO_COST;
		chain_keep(cx, &c);
	}
}

/* For stack_verify(): order, heap, gaps and accounts. */
const char *reass_verify(struct stack_cx *cx, const struct tcb *t)
{
	uint64_t charged = 0;
	uint32_t count = 0;
	seq32 at = t->rcv_nxt;

	for (ref r = tree_first(cx, t); r; r = tree_after(cx, t, ooo_at(cx, r)->start)) {
		const struct ooo *o = ooo_at(cx, r);
		uint64_t bytes = 0;
		if (!seq_gt(o->start, at) || !seq_gt(o->end, o->start))
			return "out-of-order ranges overlap, touch or are empty";
		for (ref c = o->first; c; c = chunk_at(cx, c)->next)
			bytes += chunk_at(cx, c)->end - chunk_at(cx, c)->begin;
		if (bytes != (uint32_t)seq_diff(o->end, o->start))
			return "an out-of-order range holds other bytes than it says";
		if ((o->left && ooo_at(cx, o->left)->priority > o->priority) ||
		    (o->right && ooo_at(cx, o->right)->priority > o->priority))
			return "the tree of out-of-order ranges is no heap";
		charged += o->charged + OOO_COST;
		count++;
		at = o->end;
	}
	if (count != t->ooo_count || charged != t->ooo_charged)
		return "the accounts of out-of-order data do not add up";
	return NULL;
}
