/* test_demux.c - which socket a segment belongs to. */
#include "core/net.h"
#include "tests/check.h"
#include "tests/unit/testcx.h"

static struct testcx t;
static const struct endpoint any_80 = {{{[10] = 0xff, 0xff}}, 80};
static const struct endpoint own_80 = {{{[10] = 0xff, 0xff, 10, 0, 0, 2}}, 80};

static struct tcb *new_tcb(const struct endpoint *local, const struct endpoint *remote)
{
	struct tcb *c = pool_at(&t.cx, pool_alloc(&t.cx, POOL_TCB, REF_NONE));

	c->local = *local;
	if (remote)
		c->remote = *remote;
	return c;
}

static struct endpoint peer(uint32_t n)
{
	return (struct endpoint){ipaddr_v4(192, 168, (uint8_t)(n >> 16), (uint8_t)(n >> 8)),
				 (uint16_t)(1024 + (n & 0xff))};
}

static void test_connection(void)
{
	testcx_start(&t);
	struct endpoint a = peer(1), b = peer(2);
	struct tcb *c = new_tcb(&own_80, &a), *twin = new_tcb(&own_80, &a);

	CHECK_EQ(demux_find(&t.cx, &own_80, &a).kind, DEMUX_NONE);
	CHECK_EQ(demux_insert(&t.cx, c), 0);
	CHECK(c->hashed);
	CHECK_EQ(demux_insert(&t.cx, twin), -EADDRINUSE);
	CHECK_EQ(demux_insert(&t.cx, c), -EADDRINUSE);
	CHECK_EQ(demux_find(&t.cx, &own_80, &a).kind, DEMUX_TCB);
	CHECK_EQ(demux_find(&t.cx, &own_80, &a).r, pool_ref(&t.cx, c));
	CHECK(demux_tuple_used(&t.cx, &own_80, &a));
	CHECK_EQ(demux_find(&t.cx, &own_80, &b).kind, DEMUX_NONE);
	CHECK_EQ(demux_find(&t.cx, &a, &own_80).kind, DEMUX_NONE); /* ends are not interchangeable */
	CHECK(demux_verify(&t.cx) == NULL);
	demux_remove(&t.cx, c);
	demux_remove(&t.cx, c);
	CHECK(!c->hashed);
	CHECK_EQ(demux_find(&t.cx, &own_80, &a).kind, DEMUX_NONE);
	CHECK_EQ(demux_insert(&t.cx, twin), 0);
	CHECK(demux_verify(&t.cx) == NULL);
	testcx_close(&t);
}

static void test_timewait(void)
{
	testcx_start(&t);
	struct endpoint a = peer(1);
	struct timewait *w = pool_at(&t.cx, pool_alloc(&t.cx, POOL_TIMEWAIT, REF_NONE));
	struct tcb *c = new_tcb(&own_80, &a);

	w->local = own_80;
	w->remote = a;
	CHECK_EQ(demux_insert_timewait(&t.cx, w), 0);
	CHECK_EQ(demux_find(&t.cx, &own_80, &a).kind, DEMUX_TIMEWAIT);
	CHECK_EQ(demux_insert(&t.cx, c), -EADDRINUSE);
	demux_remove_timewait(&t.cx, w);
	CHECK_EQ(demux_insert(&t.cx, c), 0);
	demux_remove_timewait(&t.cx, w); /* not in the table any more: nothing happens */
	CHECK_EQ(demux_find(&t.cx, &own_80, &a).kind, DEMUX_TCB);
	CHECK(demux_verify(&t.cx) == NULL);
	testcx_close(&t);
}

static void test_listeners(void)
{
	testcx_start(&t);
	struct endpoint a = peer(1), own_81 = own_80;
	struct tcb *wild = new_tcb(&any_80, NULL), *exact = new_tcb(&own_80, NULL);

	own_81.port = 81;
	CHECK_EQ(demux_insert_listener(&t.cx, wild), 0);
	CHECK_EQ(demux_find(&t.cx, &own_80, &a).kind, DEMUX_LISTENER);
	CHECK_EQ(demux_find(&t.cx, &own_81, &a).kind, DEMUX_NONE);
	CHECK_EQ(demux_insert_listener(&t.cx, exact), -EADDRINUSE);
	wild->reuseport = true;
	CHECK_EQ(demux_insert_listener(&t.cx, exact), -EADDRINUSE); /* both must ask for it */
	exact->reuseport = true;
	CHECK_EQ(demux_insert_listener(&t.cx, exact), 0);
	CHECK_EQ(demux_find(&t.cx, &own_80, &a).r, pool_ref(&t.cx, exact));
	CHECK_EQ(demux_find_listener(&t.cx, &own_80), pool_ref(&t.cx, exact));

	struct tcb *c = new_tcb(&own_80, &a); /* a connection wins over both */
	CHECK_EQ(demux_insert(&t.cx, c), 0);
	CHECK_EQ(demux_find(&t.cx, &own_80, &a).r, pool_ref(&t.cx, c));
	demux_remove(&t.cx, exact);
	demux_remove(&t.cx, c);
	CHECK_EQ(demux_find(&t.cx, &own_80, &a).r, pool_ref(&t.cx, wild));
	CHECK(demux_verify(&t.cx) == NULL);
	testcx_close(&t);
}

/* Ports that share a bucket of the listener table are told apart. */
static void test_listener_buckets(void)
{
	testcx_start(&t);
	for (uint32_t port = 80; port < 65536; port += 1u << LISTEN_BUCKET_BITS) {
		struct endpoint e = {any_80.addr, (uint16_t)port};
		CHECK_EQ(demux_insert_listener(&t.cx, new_tcb(&e, NULL)), 0);
	}
	for (uint32_t port = 80; port < 65536; port += 1u << LISTEN_BUCKET_BITS) {
		struct endpoint e = {own_80.addr, (uint16_t)port};
		ref r = demux_find_listener(&t.cx, &e);
		CHECK_FATAL(r != REF_NONE);
		CHECK_EQ(tcb_at(&t.cx, r)->local.port, port);
	}
	CHECK(demux_verify(&t.cx) == NULL);
	testcx_close(&t);
}

/* SO_REUSEPORT: connections spread evenly, and one tuple always meets the same listener. */
static void test_reuseport(void)
{
	enum { LISTENERS = 4, PEERS = 4000 };
	ref l[LISTENERS];
	int hits[LISTENERS] = {0};

	testcx_start(&t);
	for (int i = 0; i < LISTENERS; i++) {
		struct tcb *c = new_tcb(&any_80, NULL);
		c->reuseport = true;
		l[i] = pool_ref(&t.cx, c);
		CHECK_EQ(demux_insert_listener(&t.cx, c), 0);
	}
	for (uint32_t n = 0; n < PEERS; n++) {
		struct endpoint a = peer(n);
		ref r = demux_find(&t.cx, &own_80, &a).r;
		CHECK_EQ(demux_find(&t.cx, &own_80, &a).r, r);
		for (int i = 0; i < LISTENERS; i++)
			hits[i] += r == l[i];
	}
	for (int i = 0; i < LISTENERS; i++) {
		CHECK_GT(hits[i], PEERS / LISTENERS * 8 / 10);
		CHECK_LT(hits[i], PEERS / LISTENERS * 12 / 10);
	}
	testcx_close(&t);
}

static uint32_t longest_chain(void)
{
	const struct stack *st = stack_of(&t.cx);
	const ref *table = pool_at(&t.cx, st->conn_buckets);
	uint32_t longest = 0;

	for (uint64_t i = 0; i < (1ull << st->conn_bucket_bits) + st->conn_bucket_split; i++) {
		uint32_t n = 0;
		for (ref r = table[i]; r; r = ((struct timewait *)pool_at(&t.cx, r))->hash_next)
			n++;
		longest = MAX_OF(longest, n);
	}
	return longest;
}

/* 100,000 tuples: each is found while the table grows under them, and chains stay short. */
static void test_growth(void)
{
	enum { N = 100000 };
	static ref all[N];
	uint32_t wrong = 0;

	testcx_start(&t);
	for (uint32_t n = 0; n < N; n++) {
		all[n] = pool_alloc(&t.cx, POOL_TIMEWAIT, REF_NONE);
		struct timewait *w = pool_at(&t.cx, all[n]);
		w->local = own_80;
		w->remote = peer(n);
		wrong += demux_insert_timewait(&t.cx, w) != 0;
		if (n % 20000 == 0) {
			CHECK(demux_verify(&t.cx) == NULL);
			for (uint32_t k = 0; k <= n; k++) {
				struct endpoint a = peer(k);
				wrong += demux_find(&t.cx, &own_80, &a).r != all[k];
			}
		}
	}
	CHECK_EQ(wrong, 0);
	CHECK_EQ(stack_of(&t.cx)->conn_count, N);
	CHECK_LE(longest_chain(), 12); /* random hashing at load 1..2: above 12 has a chance below 1e-4 */
	for (uint32_t n = 0; n < N; n++)
		demux_remove_timewait(&t.cx, pool_at(&t.cx, all[n]));
	CHECK_EQ(stack_of(&t.cx)->conn_count, 0);
	CHECK(demux_verify(&t.cx) == NULL);
	testcx_close(&t);
}

/* Memory for a bigger table is refused: slower, never wrong. */
static void test_growth_refused(void)
{
	enum { N = 40000 };
	uint32_t wrong = 0;

	testcx_start(&t);
	for (uint32_t n = 0; n < N; n++) {
		ref r = pool_alloc(&t.cx, POOL_TIMEWAIT, REF_NONE);
		struct timewait *w = pool_at(&t.cx, r);
		w->local = own_80;
		w->remote = peer(n);
		t.grow_max = 0;
		wrong += demux_insert_timewait(&t.cx, w) != 0;
		t.grow_max = t.reserved;
		struct endpoint a = peer(n);
		wrong += demux_find(&t.cx, &own_80, &a).r != r;
	}
	CHECK_EQ(wrong, 0);
	CHECK(demux_verify(&t.cx) == NULL);
	testcx_close(&t);
}

CHECK_MAIN("demux", {"a connection is found by its exact 4-tuple", test_connection},
	   {"TIME-WAITs share the table", test_timewait},
	   {"exact listener before wildcard; SO_REUSEPORT of both", test_listeners},
	   {"ports that share a bucket", test_listener_buckets}, {"SO_REUSEPORT spreads", test_reuseport},
	   {"100,000 tuples", test_growth}, {"growth that is refused", test_growth_refused})
