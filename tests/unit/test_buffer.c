/* test_buffer.c - byte queues against a flat model; accounts; the stack-wide cap. */
#include "core/chunk.h"
#include "tests/check.h"
#include "tests/unit/testcx.h"

#include <stdlib.h>

static struct testcx t;

#define MODEL_BYTES (1u << 20)
static uint8_t model[MODEL_BYTES], scratch[MODEL_BYTES];

static uint32_t random_below(uint32_t n)
{
	return rng_below(&t.cx, n);
}

static void compare(struct buffer *b)
{
	uint64_t at = b->start + random_below((uint32_t)buffer_len(b) + 1), len = random_below(40000);
	uint64_t want = MIN_OF(len, b->end - at), covered;
	struct iovec iov[2] = {{scratch, random_below(1000)}, {NULL, 0}};

	iov[1] = (struct iovec){scratch + iov[0].iov_len, sizeof scratch - iov[0].iov_len};
	CHECK_EQ(buffer_copy(&t.cx, b, at, iov, 2, len), want);
	CHECK_MEM_EQ(scratch, model + at, want);
	struct frame_piece p[FRAME_PIECES_MAX];
	int n = buffer_pieces(&t.cx, b, at, want, p, FRAME_PIECES_MAX, &covered);
	CHECK(covered == want || n == (int)FRAME_PIECES_MAX);
	for (int i = 0; i < n; at += p[i++].len)
		CHECK_MEM_EQ(p[i].data, model + at, p[i].len);
}

static void test_random(void)
{
	struct buffer b = {0};

	testcx_start(&t);
	for (uint32_t i = 0; i < MODEL_BYTES; i++)
		model[i] = (uint8_t)(i * 2654435761u >> 13);
	for (int step = 0; step < 20000 && b.end < MODEL_BYTES - 70000; step++) {
		uint32_t n = random_below(8) ? random_below(200) : random_below(65536);
		struct iovec iov[3] = {
		    {model + b.end - 7, 7}, {model + b.end, n / 2}, {model + b.end + n / 2, n - n / 2}};
		if (b.end < 7)
			iov[0] = (struct iovec){model, 7};
		if (random_below(2))
			CHECK_EQ(buffer_append(&t.cx, &b, 9, iov, 3, 7, n), n);
		else
			buffer_consume(&t.cx, &b, random_below((uint32_t)buffer_len(&b) + 1));
		compare(&b);
		CHECK_EQ(stack_buffer_bytes(&t.cx), b.charged);
		CHECK(buffer_len(&b) || (!b.first && !b.last && !b.charged));
	}
	CHECK_GT(b.end, 500000);
	buffer_clear(&t.cx, &b);
	CHECK_EQ(stack_buffer_bytes(&t.cx), 0);
	CHECK_EQ(pool_live(&t.cx, POOL_CHUNK) + pool_live(&t.cx, POOL_CHUNK_SMALL), 0);
	testcx_close(&t);
}

/* A bulk write lies in few pieces: one super-segment fits one frame. */
static void test_bulk_pieces(void)
{
	struct buffer b = {0};
	struct frame_piece p[FRAME_PIECES_MAX];
	uint64_t covered;

	testcx_start(&t);
	CHECK_EQ(buffer_append_flat(&t.cx, &b, 9, model, 300000), 300000);
	CHECK_LE(buffer_pieces(&t.cx, &b, 12345, 65160, p, FRAME_PIECES_MAX, &covered), 5);
	CHECK_EQ(covered, 65160);
	CHECK_LE(b.charged, 300000 + 2 * 16384);
	buffer_clear(&t.cx, &b);
	testcx_close(&t);
}

/* A first small write costs one small chunk. */
static void test_small_is_small(void)
{
	struct buffer b = {0};

	testcx_start(&t);
	CHECK_EQ(buffer_append_flat(&t.cx, &b, 9, model, 100), 100);
	CHECK_EQ(b.charged, 576);
	buffer_clear(&t.cx, &b);
	testcx_close(&t);
}

/* At the cap a queue that holds something gets nothing more; an empty one the window of four segments. */
static void test_cap(void)
{
	struct buffer a = {0}, b = {0};

	testcx_config(&t);
	t.config.mem_max = 100000;
	CHECK_EQ(testcx_open(&t), 0);
	uint64_t got = buffer_append_flat(&t.cx, &a, 9, model, 500000);
	CHECK_GT(got, 80000);
	CHECK_LE(stack_buffer_bytes(&t.cx), 100000);
	CHECK_EQ(buffer_append_flat(&t.cx, &a, 9, model, 600), 0);
	CHECK_EQ(buffer_append_flat(&t.cx, &b, 9, model, 600), 600);
	CHECK_EQ(buffer_append_flat(&t.cx, &b, 9, model, 20000), 8192 - 600);
	CHECK_EQ(buffer_append_flat(&t.cx, &b, 9, model, 600), 0);
	buffer_clear(&t.cx, &a);
	CHECK_EQ(buffer_append_flat(&t.cx, &b, 9, model, 600), 600);
	buffer_clear(&t.cx, &b);
	CHECK_EQ(stack_buffer_bytes(&t.cx), 0);
	testcx_close(&t);
}

static int refuse(struct stack_cx *cx, uint64_t bytes)
{
	(void)cx;
	(void)bytes;
	return -ENOMEM;
}

/* A region that cannot grow is a lower cap: what becomes free serves empty queues, whatever size it had. */
static void test_refused(void)
{
	struct buffer a = {0}, b = {0};
	uint64_t got, more;

	testcx_start(&t);
	t.cx.grow = refuse;
	got = buffer_append_flat(&t.cx, &a, 9, model, MODEL_BYTES);
	while ((more = buffer_append_flat(&t.cx, &a, 9, model, MODEL_BYTES)) > 0)
		got += more;
	CHECK_GT(got, 100000);
	CHECK_LT(stack_of(&t.cx)->mem_limit, stack_buffer_bytes(&t.cx));
	CHECK_EQ(buffer_append_flat(&t.cx, &b, 9, model, 600), 0);
	buffer_consume(&t.cx, &a, got / 16);
	CHECK_EQ(buffer_append_flat(&t.cx, &a, 9, model, 100000), 0);
	CHECK_EQ(buffer_append_flat(&t.cx, &b, 9, model, 4 * 1460), 4 * 1460);
	buffer_clear(&t.cx, &a);
	CHECK_EQ(buffer_append_flat(&t.cx, &b, 9, model, 100000), 100000);
	buffer_clear(&t.cx, &b);
	CHECK_EQ(stack_buffer_bytes(&t.cx), 0);
	testcx_close(&t);
}

CHECK_MAIN("buffer", {"random appends, reads and consumption equal a flat model", test_random},
	   {"a super-segment is gathered from few pieces", test_bulk_pieces},
	   {"an idle connection's first bytes cost 576 bytes", test_small_is_small},
	   {"the stack-wide cap holds, and an empty queue is entitled to one small chunk", test_cap},
	   {"a region that cannot grow becomes a lower cap", test_refused})
