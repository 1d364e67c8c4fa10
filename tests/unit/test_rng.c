/* test_rng.c - xoshiro256**: the published sequence, and numbers below n without bias. */
#include "tests/check.h"
#include "tests/unit/testcx.h"

static struct testcx t;

static void set_state(uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
	memcpy(stack_of(&t.cx)->rng, (const uint64_t[]){a, b, c, d}, 32);
}

/* The authors' reference, from the state 1, 2, 3, 4. */
static void test_reference(void)
{
	static const uint64_t want[] = {11520,
					0,
					1509978240,
					1215971899390074240,
					1216172134540287360,
					607988272756665600,
					16172922978634559625u,
					8476171486693032832,
					10595114339597558777u,
					2904607092377533576};

	testcx_start(&t);
	set_state(1, 2, 3, 4);
	for (size_t i = 0; i < ARRAY_LEN(want); i++)
		CHECK_EQ(rng_next(&t.cx), want[i]);
	testcx_close(&t);
}

/* The same seed gives the same numbers; using them moves the state of this stack alone. */
static void test_deterministic(void)
{
	uint64_t first[100];

	testcx_start(&t);
	for (size_t i = 0; i < ARRAY_LEN(first); i++)
		first[i] = rng_next(&t.cx);
	testcx_close(&t);
	testcx_start(&t);
	for (size_t i = 0; i < ARRAY_LEN(first); i++)
		CHECK_EQ(rng_next(&t.cx), first[i]);
	testcx_close(&t);
	for (size_t i = 1; i < ARRAY_LEN(first); i++)
		CHECK_NE(first[i], first[i - 1]);
}

/* Nothing to choose from: 0, and no number is spent. */
static void test_below_nothing(void)
{
	testcx_start(&t);
	uint64_t before[4];
	memcpy(before, stack_of(&t.cx)->rng, 32);
	CHECK_EQ(rng_below(&t.cx, 0), 0);
	CHECK_EQ(rng_below(&t.cx, 1), 0);
	CHECK_MEM_EQ(stack_of(&t.cx)->rng, before, 32);
	CHECK_LE(rng_below(&t.cx, 2), 1);
	CHECK(memcmp(stack_of(&t.cx)->rng, before, 32) != 0);
	testcx_close(&t);
}

static void test_below_range(void)
{
	static const uint32_t n[] = {2, 3, 7, 1000, 65536, 1u << 31, (1u << 31) + 1, UINT32_MAX};
	uint32_t hit[7] = {0};

	testcx_start(&t);
	for (size_t i = 0; i < ARRAY_LEN(n); i++)
		for (int k = 0; k < 1000; k++)
			CHECK_LT(rng_below(&t.cx, n[i]), n[i]);
	for (int k = 0; k < 70000; k++)
		hit[rng_below(&t.cx, 7)]++;
	for (int i = 0; i < 7; i++) {
		CHECK_GT(hit[i], 9500);
		CHECK_LT(hit[i], 10500);
	}
	testcx_close(&t);
}

/* 2^32 values on 3 * 2^30: without rejection every third one would come twice as often. */
static void test_below_bias(void)
{
	uint32_t hit[3] = {0};

	testcx_start(&t);
	for (int k = 0; k < 30000; k++)
		hit[rng_below(&t.cx, 3u << 30) % 3]++;
	for (int i = 0; i < 3; i++) {
		CHECK_GT(hit[i], 9500);
		CHECK_LT(hit[i], 10500);
	}
	testcx_close(&t);
}

CHECK_MAIN("rng", {"the reference sequence of xoshiro256**", test_reference},
	   {"the seed alone decides", test_deterministic},
	   {"below 0 and 1 there is only 0", test_below_nothing},
	   {"below n: all of the range, evenly", test_below_range}, {"below n: no bias", test_below_bias})
