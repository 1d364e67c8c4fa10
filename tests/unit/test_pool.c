/* test_pool.c - objects of the region: unique, aligned, zeroed, checked; growth and its refusal. */
#include "core/net.h"
#include "tests/check.h"
#include "tests/unit/testcx.h"

#include <stdlib.h>

static struct testcx t;

static const uint32_t class_size[] = {
#define X(name, size) [POOL_##name] = size,
    POOL_CLASSES(X)
#undef X
};

static void test_alloc_free(void)
{
	testcx_start(&t);
	for (int class = 1; class < POOL_CLASS_COUNT; class ++) {
		ref a = pool_alloc(&t.cx, class, 77), b = pool_alloc(&t.cx, class, 78);
		CHECK_FATAL(a != REF_NONE && b != REF_NONE);
		const struct pool_head *h = pool_at(&t.cx, a);
		CHECK_EQ(h->class, class);
		CHECK_EQ(h->owner, 77);
		CHECK_EQ((uint64_t)(b - a) * REF_GRAIN, class_size[class]);
		CHECK_EQ(pool_live(&t.cx, class), 2);
		CHECK_EQ(pool_ref(&t.cx, h), a);
		pool_free(&t.cx, class, a);
		CHECK(!pool_valid(&t.cx, class, a));
		CHECK(pool_valid(&t.cx, class, b));
		CHECK_EQ(pool_alloc(&t.cx, class, 1), a); /* the free list first */
	}
	CHECK(pool_verify(&t.cx) == NULL);
	CHECK_EQ(pool_alloc(&t.cx, POOL_FREE, 0), REF_NONE);
	CHECK_EQ(pool_alloc(&t.cx, POOL_CLASS_COUNT, 0), REF_NONE);
	testcx_close(&t);
}

/* A recycled object is as good as a new one (chunks: their header). */
static void test_zeroed(void)
{
	testcx_start(&t);
	for (int class = 1; class < POOL_CLASS_COUNT; class ++) {
		uint32_t zeroed = class == POOL_CHUNK || class == POOL_CHUNK_SMALL ? 64 : class_size[class];
		ref r = pool_alloc(&t.cx, class, 0);
		memset((uint8_t *)pool_at(&t.cx, r) + sizeof(struct pool_head), 0xee,
		       class_size[class] - sizeof(struct pool_head));
		pool_free(&t.cx, class, r);
		CHECK_EQ(pool_alloc(&t.cx, class, 0), r);
		const uint8_t *p = pool_at(&t.cx, r);
		uint32_t dirty = 0;
		for (uint32_t i = sizeof(struct pool_head); i < zeroed; i++)
			dirty += p[i] != 0;
		CHECK_EQ(dirty, 0);
	}
	testcx_close(&t);
}

/* Refs that other processes may have scribbled over: none of them passes unless it names a live object. */
static void test_valid(void)
{
	testcx_start(&t);
	ref tcb = pool_alloc(&t.cx, POOL_TCB, 0), ooo = pool_alloc(&t.cx, POOL_OOO, 0);
	uint32_t passed = 0;

	for (uint32_t r = 0; r < 2 * STACK_MIN_BYTES / REF_GRAIN; r++)
		passed += pool_valid(&t.cx, POOL_TCB, r);
	CHECK_EQ(passed, 1);
	CHECK(pool_valid(&t.cx, POOL_TCB, tcb));
	CHECK(!pool_valid(&t.cx, POOL_OOO, tcb));
	CHECK(!pool_valid(&t.cx, POOL_TCB, ooo));
	CHECK(!pool_valid(&t.cx, POOL_TCB, tcb + 1));
	CHECK(!pool_valid(&t.cx, POOL_TCB, UINT32_MAX));
	CHECK(!pool_valid(&t.cx, POOL_FREE, tcb));
	CHECK(!pool_valid(&t.cx, POOL_CLASS_COUNT, tcb));
	testcx_close(&t);
}

static void test_next(void)
{
	enum { N = 500 };
	ref all[N];
	uint32_t live = 0;

	testcx_start(&t);
	for (int i = 0; i < N; i++)
		all[i] = pool_alloc(&t.cx, POOL_SACKBOARD, 0); /* 16 an extent: over many extents */
	for (int i = 0; i < N; i += 3)
		pool_free(&t.cx, POOL_SACKBOARD, all[i]);
	ref last = REF_NONE;
	for (ref r = pool_next(&t.cx, POOL_SACKBOARD, REF_NONE); r; r = pool_next(&t.cx, POOL_SACKBOARD, r)) {
		CHECK_GT(r, last);
		last = r;
		live++;
	}
	CHECK_EQ(live, pool_live(&t.cx, POOL_SACKBOARD));
	CHECK_EQ(live, N - (N + 2) / 3);
	CHECK_EQ(pool_next(&t.cx, POOL_TCB, REF_NONE), REF_NONE);
	CHECK(pool_verify(&t.cx) == NULL);
	testcx_close(&t);
}

static void test_refused_growth(void)
{
	uint32_t got = 0;

	testcx_start(&t);
	t.grow_max = STACK_MIN_BYTES + 5 * EXTENT_BYTES;
	while (pool_alloc(&t.cx, POOL_CHUNK, 0))
		got++;
	CHECK_EQ(stack_region_bytes(&t.cx), t.grow_max);
	CHECK_EQ(got, (t.grow_max / EXTENT_BYTES - 2) * 4);
	CHECK_EQ(pool_extents(&t.cx, 1), REF_NONE);
	CHECK_EQ(pool_alloc(&t.cx, POOL_TCB, 0), REF_NONE);
	CHECK(pool_verify(&t.cx) == NULL);
	t.grow_max += EXTENT_BYTES;
	CHECK_NE(pool_alloc(&t.cx, POOL_TCB, 0), REF_NONE);
	t.cx.grow = NULL;
	CHECK_EQ(pool_alloc(&t.cx, POOL_CHUNK, 0), REF_NONE);
	testcx_close(&t);
}

/* The map of extents is copied into a bigger one; objects stay where they are. */
static void test_map_growth(void)
{
	testcx_config(&t);
	t.reserved = t.grow_max = 24ull << 30;
	CHECK_FATAL(testcx_open(&t) == 0);
	ref before = pool_alloc(&t.cx, POOL_TCB, 5);
	uint32_t capacity = stack_of(&t.cx)->extent_map_bytes;
	ref table = pool_extents(&t.cx, 70000);
	CHECK_FATAL(table != REF_NONE);
	CHECK_GT(stack_of(&t.cx)->extent_map_bytes, capacity);
	CHECK_GT(stack_of(&t.cx)->extent_map_bytes, 70000);
	ref after = pool_alloc(&t.cx, POOL_CHUNK, 6);
	CHECK_GE((uint64_t)after * REF_GRAIN, 70000ull * EXTENT_BYTES);
	CHECK(pool_valid(&t.cx, POOL_TCB, before));
	CHECK(pool_valid(&t.cx, POOL_CHUNK, after));
	CHECK_NE(pool_extents(&t.cx, 100000), REF_NONE);
	CHECK_NE(pool_extents(&t.cx, 200000), table);
	CHECK(pool_verify(&t.cx) == NULL);
	testcx_close(&t);
}

static void test_random(void)
{
	enum { N = 300 };
	static struct {
		ref r;
		int class;
	} o[N];

	testcx_start(&t);
	srand(11);
	for (int round = 0; round < 20000; round++) {
		int i = rand() % N;
		if (o[i].r) {
			CHECK_EQ(((struct pool_head *)pool_at(&t.cx, o[i].r))->owner, i + 1);
			pool_free(&t.cx, o[i].class, o[i].r);
			o[i].r = REF_NONE;
		} else {
			o[i].class = 1 + rand() % (POOL_CLASS_COUNT - 1);
			o[i].r = pool_alloc(&t.cx, o[i].class, (ref)i + 1);
		}
		if (round % 1000 == 0)
			CHECK(pool_verify(&t.cx) == NULL);
	}
	for (int i = 0; i < N; i++)
		if (o[i].r)
			pool_free(&t.cx, o[i].class, o[i].r);
	for (int class = 1; class < POOL_CLASS_COUNT; class ++)
		CHECK_EQ(pool_live(&t.cx, class), 0);
	CHECK(pool_verify(&t.cx) == NULL);
	testcx_close(&t);
}

/* Design D2: free chunks go back to the system, but for some; each once; and are used again, last. */
static void test_trim(void)
{
	ref chunk[40];
	uint64_t at, len;
	int offered = 0;

	testcx_config(&t);
	CHECK_FATAL(testcx_open(&t) == 0);
	for (int i = 0; i < 40; i++)
		chunk[i] = pool_alloc(&t.cx, POOL_CHUNK, REF_NONE);
	CHECK(!pool_trim(&t.cx, 0, &at, &len)); /* all are live */
	for (int i = 0; i < 40; i++)
		pool_free(&t.cx, POOL_CHUNK, chunk[i]);
	while (offered < 100 && pool_trim(&t.cx, 10, &at, &len)) {
		CHECK_EQ(at % POOL_PAGE_BYTES, 0);
		CHECK_EQ(len, 16384 - POOL_PAGE_BYTES);
		CHECK_LE(at + len, t.cx.limit);
		memset(t.cx.base + at, 0xee, len); /* whatever a hole reads as */
		CHECK(pool_verify(&t.cx) == NULL);
		offered++;
	}
	CHECK_EQ(offered, 30);
	for (int i = 0; i < 40; i++) {
		chunk[i] = pool_alloc(&t.cx, POOL_CHUNK, REF_NONE);
		CHECK(pool_valid(&t.cx, POOL_CHUNK, chunk[i]));
	}
	CHECK_EQ(pool_live(&t.cx, POOL_CHUNK), 40);
	CHECK(pool_verify(&t.cx) == NULL);
	testcx_close(&t);
}

struct dropped {
	uint64_t bytes, calls;
	struct stack_cx *cx;
};

/* Whatever a hole reads as. */
static void drop(void *arg, uint64_t at, uint64_t len)
{
	struct dropped *d = arg;

	CHECK_EQ(at % EXTENT_BYTES, 0);
	CHECK(len && len % EXTENT_BYTES == 0);
	CHECK_LE(at + len, stack_of(d->cx)->bytes_used);
	memset(d->cx->base + at, 0xee, len);
	d->bytes += len;
	d->calls++;
}

/* A crowd comes and goes: the extents without a survivor leave their class, and serve any other. */
static void test_release(void)
{
	enum { CROWD = 600, SURVIVOR = 300 };
	ref tcb[CROWD], small[CROWD], keeps = REF_NONE;
	struct dropped d = {.cx = &t.cx};

	testcx_config(&t);
	CHECK_FATAL(testcx_open(&t) == 0);
	uint64_t before = stack_of(&t.cx)->bytes_used;
	for (int i = 0; i < CROWD; i++) {
		tcb[i] = pool_alloc(&t.cx, POOL_TCB, REF_NONE);
		small[i] = pool_alloc(&t.cx, POOL_CHUNK, REF_NONE);
		CHECK_FATAL(tcb[i] && small[i]);
	}
	uint64_t used = stack_of(&t.cx)->bytes_used;
	CHECK_EQ(pool_release(&t.cx, 1, 0, drop, &d), 0); /* all live */
	for (int i = 0; i < CROWD; i++) {
		if (i == SURVIVOR)
			keeps = tcb[i];
		else
			pool_free(&t.cx, POOL_TCB, tcb[i]);
		pool_free(&t.cx, POOL_CHUNK, small[i]);
	}
	CHECK_EQ(pool_release(&t.cx, 1ull << 30, 0, drop, &d), 0); /* not worth it */
	CHECK_EQ(d.calls, 0);
	uint32_t count = pool_release(&t.cx, 1, 8, drop, &d);
	/* all but the survivor's extent, the one being carved, and two with the eight chunks that stay */
	CHECK_GE(count, (used - before) / EXTENT_BYTES - 6);
	CHECK_LE(count, (used - before) / EXTENT_BYTES - 3);
	CHECK_EQ(d.bytes, (uint64_t)count * EXTENT_BYTES);
	CHECK_LE(d.calls, count);
	CHECK(pool_verify(&t.cx) == NULL);
	CHECK(pool_valid(&t.cx, POOL_TCB, keeps));
	CHECK(!pool_valid(&t.cx, POOL_TCB, tcb[0]));
	CHECK_GE(stack_of(&t.cx)->pools[POOL_CHUNK].free_count, 8);
	/* the next crowd, of other classes, finds room in them */
	for (int i = 0; i < 2000; i++) {
		ref r = pool_alloc(&t.cx, i % 2 ? POOL_WATCH : POOL_SACKBOARD, REF_NONE);
		CHECK_FATAL(r);
		CHECK(((struct pool_head *)pool_at(&t.cx, r))->mark == 0);
	}
	CHECK_EQ(stack_of(&t.cx)->bytes_used, used);
	CHECK(pool_verify(&t.cx) == NULL);
	testcx_close(&t);
}

/* A process died between the marks and the lists: the rebuild finds the extents empty. */
static void test_release_torn(void)
{
	ref tcb[200];
	struct dropped d = {.cx = &t.cx};

	testcx_config(&t);
	CHECK_FATAL(testcx_open(&t) == 0);
	for (int i = 0; i < 200; i++)
		tcb[i] = pool_alloc(&t.cx, POOL_TCB, REF_NONE);
	for (int i = 0; i < 200; i++)
		pool_free(&t.cx, POOL_TCB, tcb[i]);
	struct stack *st = stack_of(&t.cx);
	uint8_t *map = pool_at(&t.cx, st->extent_map);
	for (uint64_t e = 1; e < st->bytes_used / EXTENT_BYTES; e++)
		if (map[e] == POOL_TCB && e != st->pools[POOL_TCB].fresh / (EXTENT_BYTES / REF_GRAIN))
			map[e] = EXTENT_LEAVING;
	CHECK(pool_rebuild_begin(&t.cx));
	pool_rebuild_end(&t.cx);
	CHECK(pool_verify(&t.cx) == NULL);
	CHECK_GE(st->extents_empty, 2);
	uint64_t used = st->bytes_used;
	for (int i = 0; i < 200; i++)
		CHECK(pool_alloc(&t.cx, POOL_TCB, REF_NONE) != REF_NONE);
	CHECK_EQ(st->bytes_used, used);
	CHECK_EQ(pool_release(&t.cx, 1, 0, drop, &d), 0);
	CHECK(pool_verify(&t.cx) == NULL);
	testcx_close(&t);
}

CHECK_MAIN("pool", {"allocate, free, allocate again", test_alloc_free}, {"objects are zeroed", test_zeroed},
	   {"only live objects are valid", test_valid}, {"every live object, in address order", test_next},
	   {"growth that is refused", test_refused_growth}, {"the extent map grows", test_map_growth},
	   {"20000 random operations", test_random}, {"spare chunks are offered once", test_trim},
	   {"extents without a live object leave their class and serve any other", test_release},
	   {"a release that was torn is finished by the rebuild", test_release_torn})
