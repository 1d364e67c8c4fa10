/* test_isn.c - RFC 6528: ISNs grow with time for one tuple and tell nothing of another. */
#include "tests/check.h"
#include "tests/unit/testcx.h"

static struct testcx t;
static const struct endpoint local = {{{[10] = 0xff, 0xff, 10, 0, 0, 2}}, 40000};
static const struct endpoint remote = {{{[10] = 0xff, 0xff, 10, 0, 0, 1}}, 80};

static void test_clock(void)
{
	testcx_start(&t);
	seq32 a = isn_choose(&t.cx, &local, &remote);
	t.cx.now += 4 * NS_PER_US;
	CHECK_EQ(isn_choose(&t.cx, &local, &remote).v, a.v + 1);
	t.cx.now += NS_PER_S - 4 * NS_PER_US;
	CHECK_EQ(isn_choose(&t.cx, &local, &remote).v, a.v + 250000);
	testcx_close(&t);
}

static void test_unrelated(void)
{
	struct endpoint other = remote;
	uint32_t high_bits = 0;

	testcx_start(&t);
	seq32 before = isn_choose(&t.cx, &local, &remote);
	for (int i = 1; i <= 64; i++) {
		other.port = (uint16_t)(remote.port + i);
		seq32 isn = isn_choose(&t.cx, &local, &other);
		CHECK_NE(isn.v - before.v, 1);
		CHECK_NE(isn.v, before.v);
		high_bits |= 1u << (isn.v >> 27);
		before = isn;
	}
	/* 64 values in 32 bins: fewer than 20 used has a chance below 1e-6 */
	CHECK_GE(__builtin_popcount(high_bits), 20);
	testcx_close(&t);
}

static void test_key(void)
{
	struct stack_cx cx;
	seq32 isn[2];

	for (int i = 0; i < 2; i++) {
		testcx_start(&t);
		cx = t.cx;
		stack_of(&cx)->key_isn[3] ^= (uint8_t)i;
		isn[i] = isn_choose(&cx, &local, &remote);
		testcx_close(&t);
	}
	CHECK_NE(isn[0].v, isn[1].v);
}

/* RFC 7323 5.4: an offset for each tuple, the same for its next connection. */
static void test_timestamp_offset(void)
{
	struct endpoint other_port = {remote.addr, 443}, other_host = {ipaddr_v4(10, 0, 0, 3), 80};

	testcx_start(&t);
	uint32_t a = ts_offset_choose(&t.cx, &local, &remote);
	t.cx.now += 3600 * NS_PER_S;
	CHECK_EQ(ts_offset_choose(&t.cx, &local, &remote), a);
	CHECK_NE(ts_offset_choose(&t.cx, &local, &other_port), a);
	CHECK_NE(ts_offset_choose(&t.cx, &local, &other_host), a);
	testcx_close(&t);
}

CHECK_MAIN("isn", {"RFC 6528 3: one tuple's ISN advances every 4 us", test_clock},
	   {"RFC 6528 3: ISNs of other tuples are unrelated", test_unrelated}, {"the key decides", test_key},
	   {"RFC 7323 5.4: timestamp offset per tuple", test_timestamp_offset})
