/* test_reass.c - reassembly against a bitmap; SACK blocks; caps. */
#include "core/recv.h"
#include "tests/check.h"
#include "tests/unit/testcx.h"

static struct testcx t;

#define SPAN 20000u
static uint8_t stream[SPAN + 4000], have[SPAN + 4000], out[SPAN + 4000];

static struct tcb *tcb_new(uint32_t rcv_nxt)
{
	struct tcb *c = tcb_create(&t.cx);

	CHECK_FATAL(c != NULL);
	c->sack_ok = true;
	c->rcv_nxt = c->rcv_adv = seq_of(rcv_nxt);
	return c;
}

static void add(struct tcb *c, uint32_t origin, uint32_t at, uint32_t len)
{
	struct segment s = {.seq = seq_of(origin + at), .len = len, .data = stream + at};

	reass_add(&t.cx, c, &s);
}

static void verify(struct tcb *c)
{
	const char *broken = reass_verify(&t.cx, c);

	CHECK_MSG(!broken, "%s", broken ? broken : "");
}

/* One stream, shuffled segments that overlap at random; the origin lies before the wrap of sequence numbers.
 */
static void shuffle(uint32_t origin, uint32_t biggest)
{
	struct tcb *c = tcb_new(origin);
	uint32_t next = 0;

	c->rcvbuf_limit = 64u << 20;
	memset(have, 0, sizeof have);
	while (next < SPAN) {
		uint32_t at = next + rng_below(&t.cx, 4000), len = 1 + rng_below(&t.cx, biggest);
		if (rng_below(&t.cx, 20) == 0)
			at = next;
		if (at + len > SPAN)
			at = MIN_OF(at, SPAN - 1), len = SPAN - at;
		add(c, origin, at, len);
		memset(have + at, 1, len);
		reass_deliver(&t.cx, c);
		verify(c);
		while (have[next])
			next++;
		CHECK_EQ(c->rcv_nxt.v - origin, next);
		struct sack_block b[4];
		c->dsack_pending = false;
		int n = reass_sack_blocks(&t.cx, c, b, 4);
		if (n && !seq_leq(seq_of(origin + at + len), c->rcv_nxt))
			CHECK(seq_leq(b[0].start, seq_of(origin + at)) &&
			      seq_geq(b[0].end, seq_of(origin + at + len)));
		for (int i = 0; i < n; i++)
			for (uint32_t k = b[i].start.v - origin; k < b[i].end.v - origin; k++)
				CHECK_FATAL(have[k]);
	}
	CHECK_EQ(c->ooo_count, 0);
	CHECK_EQ(c->ooo_charged, 0);
	CHECK_EQ(buffer_len(&c->rcvbuf), SPAN);
	struct iovec iov = {out, SPAN};
	buffer_copy(&t.cx, &c->rcvbuf, 0, &iov, 1, SPAN);
	CHECK_MEM_EQ(out, stream, SPAN);
	tcb_free(&t.cx, c);
	CHECK_EQ(stack_buffer_bytes(&t.cx), 0);
}

static void test_random(void)
{
	testcx_start(&t);
	for (uint32_t i = 0; i < sizeof stream; i++)
		stream[i] = (uint8_t)(i * 2654435761u >> 11);
	for (int round = 0; round < 6; round++)
		shuffle(round % 2 ? 0xffffe000u : 77, round < 3 ? 1460 : 60);
	testcx_close(&t);
}

/* Every second byte, the pattern of CVE-2018-5390: the range cap and the byte cap hold, nothing leaks. */
static void test_every_second_byte(void)
{
	testcx_start(&t);
	struct tcb *c = tcb_new(0);
	for (uint32_t i = 0; i < 4000; i++)
		add(c, 0, 1 + 2 * (i * 2039 % 4000), 1);
	verify(c);
	CHECK_LE(c->ooo_count, t.config.ooo_ranges_max);
	CHECK_LE(c->ooo_charged, c->rcvbuf_limit + 1000);
	CHECK_GT(c->ooo_count, 50);
	CHECK_GT(stack_counters(&t.cx)->tcp_ooo_drop, 0);
	reass_clear(&t.cx, c);
	CHECK_EQ(stack_buffer_bytes(&t.cx), 0);
	CHECK_EQ(pool_live(&t.cx, POOL_OOO), 0);
	tcb_free(&t.cx, c);
	testcx_close(&t);
}

/* RFC 2018 4: newest first, then recent ones; RFC 2883: the duplicate leads once. */
static void test_sack_order(void)
{
	struct sack_block b[4];

	testcx_start(&t);
	struct tcb *c = tcb_new(0);
	for (uint32_t at = 100; at <= 500; at += 100)
		add(c, 0, at, 10);
	CHECK_EQ(reass_sack_blocks(&t.cx, c, b, 4), 4);
	CHECK_EQ(b[0].start.v, 500);
	CHECK_EQ(b[1].start.v, 400);
	CHECK_EQ(b[3].start.v, 200);
	add(c, 0, 110, 90); /* joins 100 and 200 */
	CHECK_EQ(reass_sack_blocks(&t.cx, c, b, 4), 4);
	CHECK_EQ(b[0].start.v, 100);
	CHECK_EQ(b[0].end.v, 210);
	CHECK_EQ(b[1].start.v, 500);
	verify(c);
	add(c, 0, 405, 20);
	verify(c);
	CHECK_EQ(reass_sack_blocks(&t.cx, c, b, 3), 3);
	CHECK_EQ(b[0].start.v, 405);
	CHECK_EQ(b[0].end.v, 410);
	CHECK_EQ(b[1].start.v, 400);
	CHECK_EQ(b[1].end.v, 425);
	tcb_free(&t.cx, c);
	testcx_close(&t);
}

/* RFC 2018 8: what is given up for want of memory, the farthest first, is not reported any more. */
static void test_prune(void)
{
	struct sack_block b[4];

	testcx_start(&t);
	struct tcb *c = tcb_new(1000);
	c->rcvbuf_limit = 1u << 20;
	add(c, 1000, 100, 50);
	add(c, 1000, 300, 50);
	add(c, 1000, 200, 50);
	CHECK(reass_prune(&t.cx, c));
	verify(c);
	CHECK_EQ(c->ooo_count, 2);
	CHECK_FATAL(reass_sack_blocks(&t.cx, c, b, 4) == 2);
	CHECK(seq_eq(b[0].start, seq_of(1200)) && seq_eq(b[0].end, seq_of(1250)));
	CHECK(seq_eq(b[1].start, seq_of(1100)) && seq_eq(b[1].end, seq_of(1150)));
	CHECK(reass_prune(&t.cx, c) && reass_prune(&t.cx, c) && !reass_prune(&t.cx, c));
	CHECK_EQ(reass_sack_blocks(&t.cx, c, b, 4), 0);
	tcb_free(&t.cx, c);
	testcx_close(&t);
}

CHECK_MAIN("reass", {"SHLD-31: shuffled, overlapping segments across the wrap give the stream", test_random},
	   {"CVE-2018-5390: one-byte ranges are capped", test_every_second_byte},
	   {"RFC 2018 4, RFC 2883: the order of SACK blocks", test_sack_order},
	   {"RFC 2018 8: ranges given up for want of memory", test_prune})
