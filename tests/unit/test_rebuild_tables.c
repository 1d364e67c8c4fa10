/*
 * test_rebuild_tables.c - stack_rebuild() where single-stepping does not get: the few
 * operations that move a table of the whole stack, and indices that make no sense.
 */
#include "tests/unit/rebuild_kit.h"

static void rebuilt_and_sound(struct view *v, int side, const char *what)
{
	struct stack_rebuilt r;

	v->cx[side].now = v->w->now;
	CHECK_EQ(stack_rebuild(&v->cx[side], &r), 0);
	CHECK_EQ(r.reset, 0);
	const char *broken = stack_verify(&v->cx[side]);
	CHECK_MSG(!broken, "%s: %s", what, broken);
}

/* map_reserve(): the new map is there, the extents that it takes are not in use yet. */
static void map_moves(void)
{
	for (int stage = 0; stage < 3; stage++) {
		busy_world(3, 500);
		struct stack *st = stack_of(&live.cx[0]);
		uint64_t used = st->bytes_used / EXTENT_BYTES;

		memcpy(live.cx[0].base + st->bytes_used, pool_at(&live.cx[0], st->extent_map), used);
		st->extent_map = (ref)(st->bytes_used / REF_GRAIN);
		if (stage >= 1)
			st->extent_map_bytes = EXTENT_BYTES;
		if (stage >= 2) /* the marks of extents_take() as well */
			((uint8_t *)pool_at(&live.cx[0], st->extent_map))[used] = EXTENT_TABLE;
		rebuilt_and_sound(&live, 0, "a map that moved");
		CHECK_EQ(st->bytes_used, (used + 1) * EXTENT_BYTES);
		run_to_end(&live, NULL);
	}
}

/* conn_table_double(): any number of its three stores. */
static void table_doubles(void)
{
	for (int stage = 0; stage < 3; stage++) {
		busy_world(4, 500);
		struct stack *st = stack_of(&live.cx[0]);

		st->conn_bucket_split = 1u << st->conn_bucket_bits;
		uint32_t bytes = (uint32_t)sizeof(ref) << (st->conn_bucket_bits + 2);
		ref bigger = pool_extents(&live.cx[0], (bytes + EXTENT_BYTES - 1) / EXTENT_BYTES);
		CHECK_FATAL(bigger != REF_NONE);
		if (stage >= 1)
			st->conn_buckets = bigger;
		if (stage >= 2)
			st->conn_bucket_bits++;
		rebuilt_and_sound(&live, 0, "a table that grew");
		run_to_end(&live, NULL);
	}
}

/* Where indices are, as bytes from the start of an object. */
#define AT(type, field) ((uint32_t)offsetof(struct type, field))
static const struct {
	enum pool_class class;
	uint32_t at;
} indices[] = {
    {POOL_TCB, AT(tcb, hash_next)},
    {POOL_TCB, AT(tcb, listener)},
    {POOL_TCB, AT(tcb, queue_next)},
    {POOL_TCB, AT(tcb, queue_prev)},
    {POOL_TCB, AT(tcb, edge_next)},
    {POOL_TCB, AT(tcb, output_next)},
    {POOL_TCB, AT(tcb, syn_first)},
    {POOL_TCB, AT(tcb, accept_first)},
    {POOL_TCB, AT(tcb, sndbuf.first)},
    {POOL_TCB, AT(tcb, sndbuf.last)},
    {POOL_TCB, AT(tcb, sndbuf.cursor)},
    {POOL_TCB, AT(tcb, rcvbuf.first)},
    {POOL_TCB, AT(tcb, ooo_root)},
    {POOL_TCB, AT(tcb, sackboard)},
    {POOL_TCB, AT(tcb, node.child)},
    {POOL_TCB, AT(tcb, node.next)},
    {POOL_TCB, AT(tcb, head.owner)},
    {POOL_CHUNK_SMALL, AT(chunk, next)},
    {POOL_CHUNK, AT(chunk, next)},
    {POOL_CHUNK, AT(chunk, begin)},
    {POOL_CHUNK_SMALL, AT(chunk, end)},
    {POOL_CHUNK_SMALL, AT(chunk, head.owner)},
    {POOL_OOO, 8},
    {POOL_OOO, 12},
    {POOL_OOO, 28},
    {POOL_LOOP, 8},
    {POOL_LOOP, 12},
    {POOL_TIMEWAIT, AT(timewait, hash_next)},
    {POOL_TIMEWAIT, AT(timewait, tw_next)},
    {POOL_NEIGH, AT(neigh, hash_next)},
    {POOL_NEIGH, AT(neigh, pending_first)},
};

static void object_spoil(struct view *v, uint32_t word)
{
	struct stack_cx *cx = &v->cx[0];
	uint32_t i = pick(v->w, ARRAY_LEN(indices)), live_now = pool_live(cx, indices[i].class);
	ref r = REF_NONE;

	for (uint32_t n = live_now ? 1 + pick(v->w, live_now) : 0; n; n--)
		r = pool_next(cx, indices[i].class, r);
	if (r)
		memcpy((uint8_t *)pool_at(cx, r) + indices[i].at, &word, 4);
}

static void root_spoil(struct view *v, uint32_t word)
{
	struct stack *st = stack_of(&v->cx[0]);
	uint32_t *const field[] = {
	    &st->edge_first,
	    &st->output_last,
	    &st->loop_first,
	    &st->timer_root,
	    &st->tw_first,
	    &st->tcb_count,
	    &st->dirty,
	    &st->conn_bucket_split,
	    &st->conn_bucket_bits,
	    &st->conn_buckets,
	    &st->extent_map,
	    &st->conn_count,
	    &st->extent_map_bytes,
	    &st->pools[POOL_TCB].free_first,
	};

	*field[pick(v->w, ARRAY_LEN(field))] = word;
}

/* Indices written over at random: no walk leaves the region, or goes round for ever. */
static void nonsense(void)
{
	uint32_t refused = 0, broken = 0, sound = 0, reset_count = 0;

	for (uint64_t seed = 1; seed <= 300; seed++) {
		struct stack_rebuilt r;

		busy_world(seed, 400);
		uint32_t refs = (uint32_t)(stack_of(&live.cx[0])->bytes_used / REF_GRAIN);
		for (int i = 0; i < 12; i++)
			object_spoil(&live, pick(live.w, 3) ? pick(live.w, refs) : pick(live.w, UINT32_MAX));
		if (!pick(live.w, 3))
			root_spoil(&live, pick(live.w, 3) ? pick(live.w, refs) : pick(live.w, UINT32_MAX));
		if (stack_rebuild(&live.cx[0], &r))
			refused++;
		else if (stack_verify(&live.cx[0]))
			broken++;
		else
			sound++;
		reset_count += r.reset;
		munmap(live.memory, MEMORY_BYTES);
	}
	printf("nonsense: %u refused, %u told by stack_verify(), %u sound; %u resets\n", refused, broken,
	       sound, reset_count);
	CHECK_GT(refused, 0);
	CHECK_GT(sound, 100);
	CHECK_GT(reset_count, 0);
}

CHECK_MAIN("rebuild_tables", {"the map of extents may be moving", map_moves},
	   {"the table of connections may be growing", table_doubles}, {"no index is trusted", nonsense})
