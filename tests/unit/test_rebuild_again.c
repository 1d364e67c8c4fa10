/*
 * test_rebuild_again.c - stack_rebuild() after a death inside stack_rebuild().
 *
 * Two stacks are at work as in test_rebuild.c. After a store into one of them it is
 * as if the process had died: the stack is copied and rebuilt, and so a second
 * time, where after each store of the rebuild (or, in `make check`, after some) the
 * process dies again. Whoever comes next rebuilds what it finds. It must come to
 * what the first would have come to: the same connections in the same states with
 * the same bytes, no invariant broken, and sometimes it dies as well.
 *
 * UTCP_REBUILD_RUNS=n: n worlds, and every store instead of one in GAP.
 */
#include <setjmp.h>

#include "tests/unit/rebuild_dead.h"
#include "tests/unit/store_watch.h"

#define WORLDS	     8
#define DEATHS	     4	   /* first ones, of each world */
#define DEATH_GAP    1500u /* stores between two of them, at most */
#define GAP	     40u   /* stores between two deaths in a rebuild, at most */
#define FREE_OPS     900u  /* before all that, at most */
#define FINISH_EVERY 80	   /* rebuilt ones that run to the end */

static struct view whole, cut, again; /* rebuilt at once; being rebuilt; rebuilt after that was cut short */
static struct world dice;
static int side; /* where the dead one was */
static struct conn *changed;
static uint32_t until_death, until_cut, deaths, deaths_wanted, cuts, thirds, finished;
static uint64_t stores;
static bool every_store;
static sigjmp_buf grave;

/* ---------------------------------------------------------------- what matters */

struct fate {
	uint64_t sent[2], received[2];
	nsec timer[TIMER_COUNT];
	uint32_t state, local_port, remote_port, listener, edges, ranges, cwnd;
	seq32 snd_una, snd_nxt, rcv_nxt;
	int32_t so_error;
	bool accepted, orphan, rd_shut, wr_shut, reset_due;
};

static struct fate fate_of(const struct tcb *t)
{
	struct fate f;

	memset(&f, 0, sizeof f);
	f.sent[0] = t->sndbuf.start;
	f.sent[1] = t->sndbuf.end;
	f.received[0] = t->rcvbuf.start;
	f.received[1] = t->rcvbuf.end;
	memcpy(f.timer, t->timer, sizeof f.timer);
	f.state = t->state;
	f.local_port = t->local.port;
	f.remote_port = t->remote.port;
	f.listener = t->listener;
	f.edges = t->edges;
	f.ranges = t->ooo_count;
	f.cwnd = t->cwnd;
	f.snd_una = t->snd_una;
	f.snd_nxt = t->snd_nxt;
	f.rcv_nxt = t->rcv_nxt;
	f.so_error = t->so_error;
	f.accepted = t->accepted;
	f.orphan = t->orphan;
	f.rd_shut = t->rd_shut;
	f.wr_shut = t->wr_shut;
	f.reset_due = t->reset_due;
	return f;
}

static void same_objects(enum pool_class class)
{
	struct stack_cx *a = &whole.cx[side], *b = &again.cx[side];
	ref r = REF_NONE, s = REF_NONE;

	do {
		r = pool_next(a, class, r);
		s = pool_next(b, class, s);
		CHECK_MSG(r == s, "an object of class %d: %u, and %u after a rebuild that was cut short",
			  class, r, s);
	} while (r && r == s);
}

/* Segments may be more: a reset that had left leaves once more. */
static bool same_outcome(void)
{
	struct stack_cx *a = &whole.cx[side], *b = &again.cx[side];
	unsigned failures = CU_get_number_of_failures();

	same_objects(POOL_TCB);
	same_objects(POOL_TIMEWAIT);
	same_objects(POOL_NEIGH);
	same_objects(POOL_OOO);
	if (CU_get_number_of_failures() != failures)
		return false;
	for (ref r = pool_next(a, POOL_TCB, REF_NONE); r; r = pool_next(a, POOL_TCB, r)) {
		struct fate f = fate_of(tcb_at(a, r)), g = fate_of(tcb_at(b, r));
		CHECK_MEM_EQ(&f, &g, sizeof f);
	}
	CHECK_EQ(pool_live(a, POOL_CHUNK), pool_live(b, POOL_CHUNK));
	CHECK_GE(pool_live(b, POOL_LOOP), pool_live(a, POOL_LOOP));
	for (int i = 0; i < SIDES; i++)
		CHECK_GE(again.w->to[i].count, whole.w->to[i].count);
	CHECK_EQ(stack_of(a)->orphan_count, stack_of(b)->orphan_count);
	CHECK_EQ(stack_of(a)->conn_count, stack_of(b)->conn_count);
	return CU_get_number_of_failures() == failures;
}

/* -------------------------------------------------------------------- deaths */

static void in_the_third(struct store_watch *w)
{
	if (w->stores == until_cut)
		siglongjmp(grave, 1);
}

/* The one that rebuilds `again` is killed, too. */
static void die_once_more(uint64_t most)
{
	struct store_watch w = {again.cx[side].base, REGION_BYTES, in_the_third, 0, NULL, {NULL}, 0};
	struct stack_rebuilt what;
	uint32_t before = until_cut;

	until_cut = 1 + pick(&dice, (uint32_t)most);
	watch_begin(&w);
	if (!sigsetjmp(grave, 1))
		stack_rebuild(&again.cx[side], &what);
	else
		thirds++;
	watch_end(&w);
	until_cut = before;
}

static void in_the_rebuild(struct store_watch *w)
{
	struct stack_rebuilt what;

	if (--until_cut || CU_get_number_of_failures())
		return;
	until_cut = every_store ? 1 : 1 + pick(&dice, GAP);
	cuts++;
	view_copy(&again, &cut);
	if (pick(&dice, 200) == 0)
		die_once_more(w->stores);
	CHECK_EQ(stack_rebuild(&again.cx[side], &what), 0);
	CHECK(what.reset <= 1);
	CHECK_EQ(stack_of(&again.cx[side])->dirty, REF_NONE);
	const char *broken = stack_verify(&again.cx[side]);
	CHECK_MSG(!broken, "after a rebuild that was cut short: %s", broken);
	if (!broken && owned_remain(&again, side) && same_outcome() && cuts % FINISH_EVERY == 0) {
		again.w->busy = -1;
		owners_settle(&again, side);
		run_to_end(&again, changed);
		finished++;
	}
	if (CU_get_number_of_failures())
		printf("death %u, store %llu of the rebuild\n", deaths, (unsigned long long)w->stores);
}

static void rebuilt_whole(void)
{
	struct stack_rebuilt what;

	view_copy(&whole, &live);
	changed = conn_of_tcb(&whole, side);
	CHECK_EQ(stack_rebuild(&whole.cx[side], &what), 0);
	const char *broken = stack_verify(&whole.cx[side]);
	CHECK_MSG(!broken, "after the rebuild: %s", broken);
}

/* After a store of the living: it dies, if a stack was at work and it is time. */
static void at_work(struct store_watch *outer)
{
	struct store_watch w = {NULL, REGION_BYTES, in_the_rebuild, 0, NULL, {NULL}, 0};
	struct stack_rebuilt what;

	(void)outer;
	if (live.w->busy < 0 || deaths == deaths_wanted || --until_death || CU_get_number_of_failures())
		return;
	until_death = 1 + pick(&dice, DEATH_GAP);
	side = live.w->busy;
	deaths++;
	rebuilt_whole();
	if (CU_get_number_of_failures())
		return;
	view_copy(&cut, &live);
	w.at = cut.cx[side].base;
	watch_begin(&w);
	CHECK_EQ(stack_rebuild(&cut.cx[side], &what), 0);
	watch_end(&w);
	stores += w.stores;
}

static void one_world(uint64_t seed)
{
	struct store_watch w = {live.cx[0].base, SIDES * (size_t)REGION_BYTES, at_work, 0, NULL, {NULL}, 0};

	world_make(&live, seed);
	dice.rng = seed * 2654435761u + 54321;
	for (uint32_t ops = pick(&dice, seed % 3 ? FREE_OPS : 20); ops; ops--)
		op(&live);
	until_death = 1 + pick(&dice, DEATH_GAP);
	until_cut = 1;
	deaths_wanted += DEATHS;
	watch_begin(&w);
	while (deaths < deaths_wanted && !CU_get_number_of_failures())
		op(&live);
	watch_end(&w);
	if (CU_get_number_of_failures())
		printf("seed %llu\n", (unsigned long long)seed);
}

static void any_store(void)
{
	const char *asked = getenv("UTCP_REBUILD_RUNS");
	unsigned long runs = asked ? strtoul(asked, NULL, 10) : WORLDS;

	if (!STORE_WATCH) {
		printf("not on this machine: no trap flag\n");
		return;
	}
	every_store = asked != NULL;
	view_bind(&live, memory_map(MAP_PRIVATE));
	view_bind(&whole, memory_map(MAP_PRIVATE));
	view_bind(&cut, memory_map(MAP_PRIVATE));
	view_bind(&again, memory_map(MAP_PRIVATE));
	for (unsigned long i = 1; i <= runs && !CU_get_number_of_failures(); i++)
		one_world(i);
	printf("%u deaths; %u in %llu stores of their rebuilds, %u in the next; %u run to the end\n", deaths,
	       cuts, (unsigned long long)stores, thirds, finished);
	CHECK_EQ(deaths, deaths_wanted);
	CHECK_GT(cuts, 20 * deaths);
	CHECK_GT(thirds, deaths / 4);
	CHECK_GT(finished, deaths / 2);
}

CHECK_MAIN("rebuild again",
	   {"design D2: nor does it matter if the rebuild dies, at whichever store", any_store})
