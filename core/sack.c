/*
 * sack.c - the scoreboard: which octets above snd_una the peer holds.
 *
 * Theory of operation. One pool object of 4096 bytes per connection with holes
 * keeps the SACKed ranges sorted, disjoint and not touching. Blocks are found by
 * binary search and merged by one memmove, so that a segment costs O(log n) plus
 * a bounded move, whatever an attacker SACKs (CVE-2019-11477..11479); when the
 * board is full a block that would add a range is forgotten, which RFC 2018
 * allows (SACK is advisory). Questions of RFC 6675 (IsLost, NextSeg, pipe) are
 * answered in runs of octets, never per segment: IsLost() is monotonic, so one
 * number, the lost edge, answers it for every octet.
 *
 * Nothing here trusts the peer: a block must lie in [snd_una, snd_nxt].
 */
#include "core/send.h"

#define SACK_RANGES_MAX ((4096u - 2 * sizeof(uint64_t)) / sizeof(struct sack_block))

struct sackboard {
	struct pool_head head;
	uint32_t count;
	uint32_t reserved;
	struct sack_block range[SACK_RANGES_MAX];
};
_Static_assert(sizeof(struct sackboard) <= 4096, "struct sackboard outgrew its pool class");

static struct sackboard *board_of(const struct stack_cx *cx, const struct tcb *t)
{
	return pool_at(cx, t->sackboard);
}

static uint32_t block_len(const struct sack_block *b)
{
	return b->end.v - b->start.v;
}

void sack_clear(struct stack_cx *cx, struct tcb *t)
{
	if (t->sackboard)
		pool_free(cx, POOL_SACKBOARD, t->sackboard);
	t->sackboard = REF_NONE;
	t->sacked_bytes = 0;
	t->high_sacked = t->snd_una;
}

/* Index of the first range that ends at or after seq. */
static uint32_t board_find(const struct sackboard *b, seq32 seq)
{
	uint32_t low = 0, high = b->count;

	while (low < high) {
		uint32_t mid = (low + high) / 2;

		if (seq_lt(b->range[mid].end, seq))
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

/* Add [start, end); the octets that were not there. */
static uint32_t board_add(struct sackboard *b, struct sack_block add)
{
	uint32_t at = board_find(b, add.start), last = at, held = 0;

	/* [at, last): the ranges that add touches or overlaps */
	while (last < b->count && seq_leq(b->range[last].start, add.end))
		held += block_len(&b->range[last++]);
	if (at == last) {
		if (b->count == SACK_RANGES_MAX)
			return 0;
		memmove(&b->range[at + 1], &b->range[at], (b->count - at) * sizeof b->range[0]);
		b->range[at] = add;
		b->count++;
		return block_len(&add);
	}
	add.start = seq_min(add.start, b->range[at].start);
	add.end = seq_max(add.end, b->range[last - 1].end);
	b->range[at] = add;
	memmove(&b->range[at + 1], &b->range[last], (b->count - last) * sizeof b->range[0]);
	b->count -= last - at - 1;
	return block_len(&add) - held;
}

/* RFC 2883 4: the first block reports a duplicate when it is acknowledged already or inside the second. */
static bool block_is_dsack(const struct segment *s)
{
	const struct sack_block *b = s->sack;

	if (seq_leq(b[0].end, s->ack))
		return true;
	return s->sack_count > 1 && seq_leq(b[1].start, b[0].start) && seq_leq(b[0].end, b[1].end);
}

/* One block of a segment onto the board; the octets that are new. */
static uint32_t sack_take(struct stack_cx *cx, struct tcb *t, struct sack_block block)
{
	bool sane = seq_lt(block.start, block.end) && seq_leq(block.end, t->snd_nxt) &&
		    block_len(&block) <= snd_outstanding(t);

	if (!sane || seq_lt(block.start, t->snd_una)) {
		/* reordered ACKs carry blocks that have been acknowledged since: not an error */
		if (!seq_leq(block.end, t->snd_una))
			COUNT(cx, tcp_sack_bad);
		return 0;
	}
	if (!t->sackboard) {
		t->sackboard = pool_alloc(cx, POOL_SACKBOARD, pool_ref(cx, t));
		if (!t->sackboard)
			return 0;
		t->high_sacked = t->snd_una;
	}
	struct sackboard *b = board_of(cx, t);
	uint32_t fresh = board_add(b, block);
	t->sacked_bytes += fresh;
	if (b->count)
		t->high_sacked = b->range[b->count - 1].end;
	return fresh;
}

uint32_t sack_update(struct stack_cx *cx, struct tcb *t, const struct segment *s, bool *dsack)
{
	uint32_t fresh = 0, first = 0;

	*dsack = false;
	if (!t->sack_ok || s->sack_count == 0)
		return 0;
	COUNT(cx, tcp_sack_in);
	if (block_is_dsack(s)) {
		/* a report about octets never sent is not one */
		*dsack = seq_lt(s->sack[0].start, s->sack[0].end) && seq_leq(s->sack[0].end, t->snd_nxt);
		first = 1;
		if (*dsack) {
			COUNT(cx, tcp_dsack_in);
			t->dsack_dups++;
		}
	}
	for (uint32_t i = first; i < MIN_OF(s->sack_count, SACK_BLOCKS_MAX); i++)
		fresh += sack_take(cx, t, s->sack[i]);
	return fresh;
}

void sack_advance(struct stack_cx *cx, struct tcb *t)
{
	struct sackboard *b = board_of(cx, t);
	uint32_t gone = 0;

	if (!b)
		return;
	while (gone < b->count && seq_leq(b->range[gone].end, t->snd_una))
		t->sacked_bytes -= block_len(&b->range[gone++]);
	if (gone) {
		memmove(&b->range[0], &b->range[gone], (b->count - gone) * sizeof b->range[0]);
		b->count -= gone;
	}
	if (b->count == 0) {
		sack_clear(cx, t);
		return;
	}
	if (seq_lt(b->range[0].start, t->snd_una)) {
		t->sacked_bytes -= t->snd_una.v - b->range[0].start.v;
		b->range[0].start = t->snd_una;
	}
}

/*
 * RFC 6675 IsLost(S): DupThresh discontiguous ranges, or more than (DupThresh -
 * 1) * SMSS octets, are SACKed above S. Walking down from the top, that becomes
 * true at one range's start and stays true below: at most DupThresh steps.
 */
seq32 sack_lost_edge(struct stack_cx *cx, struct tcb *t)
{
	const struct sackboard *b = board_of(cx, t);
	uint32_t octets = 0, ranges = 0;

	if (!b)
		return t->snd_una;
	for (uint32_t i = b->count; i-- > 0;) {
		octets += block_len(&b->range[i]);
		ranges++;
		if (ranges >= DUP_THRESH || octets > (DUP_THRESH - 1) * snd_mss_of(t))
			return b->range[i].start;
	}
	return t->snd_una;
}

static bool sack_holds(const struct sackboard *b, seq32 at)
{
	uint32_t i = b ? board_find(b, seq_add(at, 1)) : 0;

	return b && i < b->count && seq_leq(b->range[i].start, at);
}

bool sack_is_lost(struct stack_cx *cx, struct tcb *t, seq32 at)
{
	return seq_lt(at, sack_lost_edge(cx, t)) && !sack_holds(board_of(cx, t), at);
}

uint32_t sack_unsacked_below(struct stack_cx *cx, struct tcb *t, seq32 to)
{
	const struct sackboard *b = board_of(cx, t);

	if (seq_leq(to, t->snd_una))
		return 0;
	uint32_t octets = to.v - t->snd_una.v;
	for (uint32_t i = 0; b && i < b->count && seq_lt(b->range[i].start, to); i++)
		octets -= seq_min(b->range[i].end, to).v - b->range[i].start.v;
	return octets;
}

bool sack_next_hole(struct stack_cx *cx, struct tcb *t, seq32 *from, seq32 to, uint32_t *len)
{
	const struct sackboard *b = board_of(cx, t);
	seq32 start = *from, end = to;

	if (b) {
		uint32_t i = board_find(b, seq_add(start, 1));

		if (i < b->count && seq_leq(b->range[i].start, start))
			start = b->range[i++].end; /* ranges never touch: what follows is a hole */
		if (i < b->count)
			end = seq_min(to, b->range[i].start);
	}
	if (seq_geq(start, end))
		return false;
	*from = start;
	*len = end.v - start.v;
	return true;
}

bool sack_reneged(struct stack_cx *cx, struct tcb *t)
{
	const struct sackboard *b = board_of(cx, t);

	return b && b->count && seq_leq(b->range[0].start, t->snd_una);
}

/* RFC 6675 4, NextSeg(): the rules in their order. Rule 2 is new data. */
bool sack_next_seg(struct stack_cx *cx, struct tcb *t, seq32 *from, uint32_t *len, int *rule)
{
	const struct sackboard *b = board_of(cx, t);
	uint32_t mss = snd_mss_of(t);
	seq32 at = seq_max(t->high_rxt, t->snd_una);

	/* (1): the lowest octet that is lost and was not resent in this recovery; its whole run */
	*rule = 1;
	*from = at;
	if (sack_next_hole(cx, t, from, seq_max(sack_lost_edge(cx, t), t->lost_edge), len))
		return true;
	*rule = 2;
	*from = t->snd_nxt;
	*len = (uint32_t)MIN_OF(snd_unsent(t), (uint64_t)UINT32_MAX / 2);
	seq32 edge = seq_add(t->snd_una, t->snd_wnd);
	*len = seq_gt(edge, t->snd_nxt) ? MIN_OF(*len, edge.v - t->snd_nxt.v) : 0;
	if (*len)
		return true;
	/* (3): below the highest SACKed octet, not known to be lost: one segment at a time */
	*rule = 3;
	*from = at;
	if (b && sack_next_hole(cx, t, from, t->high_sacked, len)) {
		*len = MIN_OF(*len, mss);
		return true;
	}
	/*
	 * (4): once per recovery, the last segment outstanding: its ACK may reveal a
	 * lost tail. Only after a partial ACK: by then the tail had its round trip.
	 */
	*rule = 4;
	if (!b || t->rescue_done || seq_leq(t->snd_una, t->rescue_rxt))
		return false;
	if (seq_geq(t->high_sacked, t->snd_nxt) || seq_geq(t->high_rxt, t->snd_nxt))
		return false;
	*len = MIN_OF(mss, t->snd_nxt.v - t->high_sacked.v);
	*from = seq_add(t->snd_nxt, 0u - *len);
	return true;
}
