/* test_sack.c - the scoreboard against a bitmap of octets; RFC 2018, 2883, 6675. */
#include "core/send.h"
#include "tests/check.h"
#include "tests/unit/testcx.h"

#define SPACE 6000u
#define BASE  0xfffff000u /* the numbers wrap */

static struct testcx x;
static uint64_t rng_state = 2463534242ull;

static uint32_t any(uint32_t n)
{
	rng_state ^= rng_state << 13;
	rng_state ^= rng_state >> 7;
	rng_state ^= rng_state << 17;
	return (uint32_t)(rng_state >> 20) % n;
}

static struct tcb *fresh(uint32_t outstanding)
{
	testcx_start(&x);
	struct tcb *t = tcb_create(&x.cx);
	t->sack_ok = true;
	t->snd_mss = 100;
	t->iss = seq_of(BASE - 1);
	t->snd_una = t->high_rxt = t->lost_edge = t->high_sacked = seq_of(BASE);
	t->snd_nxt = t->snd_max = seq_of(BASE + outstanding);
	t->recover = t->snd_nxt;
	return t;
}

static uint32_t sack(struct tcb *t, uint32_t start, uint32_t end, bool *dsack)
{
	struct segment s;

	memset(&s, 0, sizeof s);
	s.ack = t->snd_una;
	s.sack_count = 1;
	s.sack[0] = (struct sack_block){seq_of(BASE + start), seq_of(BASE + end)};
	return sack_update(&x.cx, t, &s, dsack);
}

static uint32_t model_unsacked(const bool *held, uint32_t una, uint32_t to)
{
	uint32_t n = 0;

	for (uint32_t i = una; i < to; i++)
		n += !held[i];
	return n;
}

/* RFC 6675 IsLost() by its words: three ranges, or more than two segments of octets, SACKed above. */
static bool model_lost(const bool *held, uint32_t at, uint32_t mss)
{
	uint32_t ranges = 0, octets = 0;

	for (uint32_t i = at + 1; i < SPACE; i++) {
		octets += held[i];
		ranges += held[i] && !held[i - 1];
	}
	return !held[at] && (ranges >= 3 || octets > 2 * mss);
}

static void board_equals_bitmap(void)
{
	static bool held[SPACE];
	struct tcb *t = fresh(SPACE);
	uint32_t una = 0;
	bool dsack;

	memset(held, 0, sizeof held);
	for (int step = 0; step < 4000 && una < SPACE - 400; step++) {
		uint32_t start = una + 1 + any(SPACE - una - 300), len = 1 + any(step % 7 ? 20 : 200),
			 fresh_octets = 0;
		for (uint32_t i = start; i < start + len; i++) {
			fresh_octets += !held[i];
			held[i] = true;
		}
		CHECK_EQ(sack(t, start, start + len, &dsack), fresh_octets);
		if (any(20) == 0) {
			una += any(60);
			while (held[una])
				una++;
			t->snd_una = seq_of(BASE + una);
			sack_advance(&x.cx, t);
		}
		uint32_t probe = una + any(SPACE - una);
		CHECK_EQ(sack_unsacked_below(&x.cx, t, seq_of(BASE + probe)),
			 model_unsacked(held, una, probe));
		CHECK_EQ(t->sacked_bytes, SPACE - una - model_unsacked(held, una, SPACE));
		CHECK_EQ(sack_is_lost(&x.cx, t, seq_of(BASE + probe)), model_lost(held, probe, 100));
		seq32 from = seq_of(BASE + probe);
		uint32_t n = 0, hole = probe;
		while (hole < SPACE && held[hole])
			hole++;
		bool found = sack_next_hole(&x.cx, t, &from, t->snd_nxt, &n);
		CHECK_EQ(found, hole < SPACE);
		if (found) {
			CHECK_EQ(from.v, BASE + hole);
			CHECK_EQ(model_unsacked(held, hole, hole + n), n);
			CHECK(hole + n == SPACE || held[hole + n]);
		}
	}
	sack_clear(&x.cx, t);
	CHECK_EQ(pool_live(&x.cx, POOL_SACKBOARD), 0);
	testcx_close(&x);
}

static void bad_blocks(void)
{
	struct tcb *t = fresh(1000);
	bool dsack;

	CHECK_EQ(sack(t, 500, 400, &dsack), 0);	  /* inverted */
	CHECK_EQ(sack(t, 500, 1001, &dsack), 0);  /* never sent */
	CHECK_EQ(sack(t, 1000, 1000, &dsack), 0); /* empty */
	CHECK_EQ(sack(t, 0x80000000u, 0x80000100u, &dsack), 0);
	CHECK_EQ(t->sackboard, REF_NONE);
	CHECK_EQ(t->sacked_bytes, 0);
	t->sack_ok = false;
	CHECK_EQ(sack(t, 100, 200, &dsack), 0); /* not negotiated */
	testcx_close(&x);
}

static void duplicate_reports(void)
{
	struct tcb *t = fresh(1000);
	struct segment s;
	bool dsack;

	memset(&s, 0, sizeof s);
	s.ack = t->snd_una;
	s.sack_count = 2;
	s.sack[0] = (struct sack_block){seq_of(BASE + 300), seq_of(BASE + 400)};
	s.sack[1] = (struct sack_block){seq_of(BASE + 200), seq_of(BASE + 500)};
	CHECK_EQ(sack_update(&x.cx, t, &s, &dsack), 300);
	CHECK(dsack);
	s.sack_count = 1;
	s.sack[0] = (struct sack_block){seq_of(BASE - 100), seq_of(BASE)};
	CHECK_EQ(sack_update(&x.cx, t, &s, &dsack), 0);
	CHECK(dsack);
	CHECK_EQ(t->dsack_dups, 2);
	testcx_close(&x);
}

static void board_is_bounded(void)
{
	struct tcb *t = fresh(100000);
	bool dsack;

	for (uint32_t i = 0; i < 5000; i++)
		(void)sack(t, 2 + 4 * i, 3 + 4 * i, &dsack);
	CHECK_EQ(pool_live(&x.cx, POOL_SACKBOARD), 1);
	CHECK(t->sacked_bytes >= 500 && t->sacked_bytes < 512);
	/* one block over all still merges */
	(void)sack(t, 1, 99000, &dsack);
	CHECK_EQ(t->sacked_bytes, 98999);
	testcx_close(&x);
}

static void next_seg_rules(void)
{
	struct tcb *t = fresh(1000);
	seq32 from;
	uint32_t len;
	bool dsack;
	int rule;

	t->fin_sent = true; /* no new data: rule 2 has nothing */
	t->ca_state = CA_RECOVERY;
	(void)sack(t, 100, 200, &dsack);
	(void)sack(t, 500, 750, &dsack);
	/* lost: [0,100) and [200,500); then [750,1000) is a tail nobody speaks of */
	CHECK(sack_next_seg(&x.cx, t, &from, &len, &rule));
	CHECK_EQ(rule, 1);
	CHECK_EQ(from.v, BASE);
	CHECK_EQ(len, 100);
	t->high_rxt = seq_of(BASE + 100);
	CHECK(sack_next_seg(&x.cx, t, &from, &len, &rule));
	CHECK_EQ(rule, 1);
	CHECK_EQ(from.v, BASE + 200);
	CHECK_EQ(len, 300);
	t->high_rxt = seq_of(BASE + 500);
	t->rescue_rxt = t->snd_una;
	CHECK(!sack_next_seg(&x.cx, t, &from, &len, &rule)); /* before a partial ACK */
	t->rescue_rxt = seq_of(BASE - 1);
	CHECK(sack_next_seg(&x.cx, t, &from, &len, &rule));
	CHECK_EQ(rule, 4);
	CHECK_EQ(from.v, BASE + 900);
	CHECK_EQ(len, 100);
	t->rescue_done = true;
	CHECK(!sack_next_seg(&x.cx, t, &from, &len, &rule));
	testcx_close(&x);

	t = fresh(1000);
	t->fin_sent = true;
	t->ca_state = CA_RECOVERY;
	(void)sack(t, 600, 700, &dsack); /* one segment above: not lost */
	CHECK(sack_next_seg(&x.cx, t, &from, &len, &rule));
	CHECK_EQ(rule, 3);
	CHECK_EQ(from.v, BASE);
	CHECK_EQ(len, 100);
	testcx_close(&x);
}

static void reneging(void)
{
	struct tcb *t = fresh(1000);
	bool dsack;

	(void)sack(t, 100, 400, &dsack);
	CHECK(!sack_reneged(&x.cx, t));
	t->snd_una = seq_of(BASE + 100);
	sack_advance(&x.cx, t);
	CHECK(sack_reneged(&x.cx, t));
	testcx_close(&x);
}

CHECK_MAIN("sack",
	   {"RFC 2018, 6675: random blocks and ACKs equal a bitmap, IsLost() included", board_equals_bitmap},
	   {"RFC 2018, CVE-2019-11477: blocks that make no sense are ignored", bad_blocks},
	   {"RFC 2883 4: duplicates reported by the first block", duplicate_reports},
	   {"CVE-2019-11478: the board is bounded in memory and work", board_is_bounded},
	   {"RFC 6675 4: NextSeg() rules 1, 3 and 4", next_seg_rules},
	   {"RFC 2018 8: data acknowledged up to a SACKed block was thrown away", reneging})
