/*
 * test_sack.c - selective acknowledgement, both directions (RFC 2018, 2883, 6675).
 */
#include "dialogue.h"

#define SACKING peer_established_with(WITH(.sack = true))

TEST(sack_blocks, "RFC 2018 4: the first block holds the newest segment; earlier ones follow")
{
	struct peer *p = SACKING;

	peer_sends(p, AT_MS(1), SEG(.seq = 6001, .len = 1000));
	expect_segment(p, SEG(.ack = 5001, .sack = {6001, 7001}));
	peer_sends(p, AT_MS(2), SEG(.seq = 8001, .len = 1000));
	expect_segment(p, SEG(.ack = 5001, .sack = {8001, 9001, 6001, 7001}));
	peer_sends(p, AT_MS(3), SEG(.seq = 10001, .len = 1000));
	expect_segment(p, SEG(.ack = 5001, .sack = {10001, 11001, 8001, 9001, 6001, 7001}));
	peer_sends(p, AT_MS(4), SEG(.seq = 7001, .len = 1000));
	expect_segment(p, SEG(.ack = 5001, .sack = {6001, 9001, 10001, 11001}));
	peer_sends(p, AT_MS(5), SEG(.seq = 5001, .len = 1000));
	expect_segment(p, SEG(.ack = 9001, .sack = {10001, 11001}));
	peer_sends(p, AT_MS(6), SEG(.seq = 9001, .len = 1000));
	expect_segment(p, SEG(.ack = 11001, .sack = {ABSENT}));
	app_read(p, 6000);
	peer_takes_all(p);
}

TEST(sack_with_timestamps, "RFC 2018 3: beside timestamps at most three blocks fit")
{
	struct peer *p = peer_established_with(WITH(.sack = true, .ts = true));

	for (int i = 0; i < 5; i++)
		peer_sends(p, AT_MS(1 + i), SEG(.seq = 6001 + 2000 * i, .len = 1000));
	for (int i = 0; i < 4; i++)
		peer_takes(p);
	struct emitted *e = peer_takes(p);
	expect_that(p, e && e->im.sack_count == 3);
	expect_equal(p, e->im.sack[0][0] - p->conv->peer_iss + PEER_ISS, 14001);
}

TEST(no_sack_without_offer, "RFC 2018 2: no block is sent unless SACK was negotiated")
{
	struct peer *p = peer_established();

	peer_sends(p, AT_MS(1), SEG(.seq = 6001, .len = 1000));
	expect_segment(p, SEG(.ack = 5001, .sack = {ABSENT}));
}

TEST(dsack_below_ack, "RFC 2883 4.1: a duplicate below the cumulative ACK is reported as first block")
{
	struct peer *p = SACKING;

	peer_sends(p, AT_MS(1), SEG(.len = 1000));
	expect_segment(p, SEG(.ack = 6001));
	peer_sends(p, AT_MS(2), SEG(.seq = 5001, .len = 1000));
	expect_segment(p, SEG(.ack = 6001, .sack = {5001, 6001}));
	peer_sends(p, AT_MS(3), SEG(.seq = 7001, .len = 1000));
	expect_segment(p, SEG(.ack = 6001, .sack = {7001, 8001}));
	expect_equal(p, counter(p, tcp_dsack_out), 1);
}

TEST(dsack_out_of_order,
     "RFC 2883 4.2: a duplicate of out-of-order data is reported, followed by the block that holds it")
{
	struct peer *p = SACKING;

	peer_sends(p, AT_MS(1), SEG(.seq = 7001, .len = 1000));
	expect_segment(p, SEG(.ack = 5001, .sack = {7001, 8001}));
	peer_sends(p, AT_MS(2), SEG(.seq = 7001, .len = 1000));
	expect_segment(p, SEG(.ack = 5001, .sack = {7001, 8001, 7001, 8001}));
}

/* Ten segments in flight: 1001, 2461, ... 14141; end 15601. */
static void ten_in_flight(struct peer *p)
{
	app_write(p, 14600);
	expect_equal(p, peer_takes_bytes(p), 14600);
}

TEST(sack_recovery,
     "RFC 6675 5: three SACKed segments above a hole cause its retransmission, once, and not of the rest")
{
	struct peer *p = SACKING;

	ten_in_flight(p);
	peer_sends(p, AT_MS(10), SEG(.ack = 1001, .sack = {2461, 3921}));
	peer_sends(p, AT_MS(10), SEG(.ack = 1001, .sack = {2461, 5381}));
	expect_nothing(p);
	peer_sends(p, AT_MS(10), SEG(.ack = 1001, .sack = {2461, 6841}));
	expect_segment(p, SEG(.seq = 1001, .len = 1460, .at = AT_MS(10)));
	expect_nothing(p);
	peer_sends(p, AT_MS(11), SEG(.ack = 1001, .sack = {2461, 8301}));
	expect_nothing(
	    p); /* NextSeg rule 4, the rescue, only after a partial ACK: the tail is still on its way */
	peer_sends(p, AT_MS(12), SEG(.ack = 1001, .sack = {2461, 15601}));
	expect_nothing(p);
	peer_sends(p, AT_MS(20), SEG(.ack = 15601));
	advance_to(p, AT_S(2));
	expect_nothing(p);
	expect_equal(p, counter(p, tcp_fast_retrans), 1);
	expect_equal(p, counter(p, tcp_rto), 0);
}

TEST(sack_two_holes,
     "RFC 6675 5 (NextSeg rule 1): every hole is retransmitted in one recovery, without a time-out")
{
	struct peer *p = SACKING;
	bool first = false, fourth = false;

	ten_in_flight(p);
	peer_sends(p, AT_MS(10), SEG(.ack = 1001, .sack = {2461, 5381}));
	peer_sends(p, AT_MS(11), SEG(.ack = 1001, .sack = {6841, 8301, 2461, 5381}));
	peer_sends(p, AT_MS(12), SEG(.ack = 1001, .sack = {6841, 11221, 2461, 5381}));
	peer_sends(p, AT_MS(13), SEG(.ack = 1001, .sack = {6841, 12681, 2461, 5381}));
	peer_sends(p, AT_MS(14), SEG(.ack = 1001, .sack = {6841, 14141, 2461, 5381}));
	peer_sends(p, AT_MS(15), SEG(.ack = 1001, .sack = {6841, 15601, 2461, 5381}));
	for (struct emitted *e; (e = peer_takes(p));) {
		uint32_t seq = e->im.seq - p->conv->our_iss + OUR_ISS;
		expect_that(p, seq == 1001 || seq == 5381 || seq == 14141); /* the last by rule 4 */
		first |= seq == 1001;
		fourth |= seq == 5381;
	}
	expect_that(p, first && fourth);
	expect_equal(p, counter(p, tcp_rto), 0);
	expect_that(p, counter(p, tcp_sack_hole) >= 1);
	peer_sends(p, AT_MS(30), SEG(.ack = 15601));
	expect_nothing(p);
}

TEST(sack_beyond_next,
     "requirements 3 (SACK bookkeeping), RFC 2018: blocks beyond SND.MAX, inverted or old are ignored")
{
	struct peer *p = SACKING;

	ten_in_flight(p);
	peer_sends(p, AT_MS(10), SEG(.ack = 1001, .sack = {15601, 20001}));
	peer_sends(p, AT_MS(10), SEG(.ack = 1001, .sack = {6841, 2461}));
	peer_sends(p, AT_MS(10), SEG(.ack = 1001, .sack = {400, 500}));
	peer_sends(p, AT_MS(10), SEG(.ack = 1001, .sack = {14141, 15602}));
	expect_equal(p, info_of(p).sacked, 0);
	expect_that(p, counter(p, tcp_sack_bad) >= 2);
	peer_sends(p, AT_MS(20), SEG(.ack = 15601));
	advance_to(p, AT_S(1));
	peer_takes_all(p);
	expect_state(p, S_ESTABLISHED);
}

TEST(sack_reneging,
     "RFC 2018 8, RFC 6675 5.1: when the receiver reneges, data once SACKed is sent again after the time-out")
{
	struct peer *p = SACKING;

	ten_in_flight(p);
	peer_sends(p, AT_MS(10), SEG(.ack = 1001, .sack = {2461, 15601}));
	peer_takes_all(p);
	peer_sends(p, AT_MS(20), SEG(.ack = 2461));
	peer_takes_all(p);
	/* Nobody ever acknowledges 2461 again: all of it must come back. */
	bool seen[10] = {false};
	uint32_t next = 2461;
	for (int i = 0; i < 100 && next < 15601; i++) {
		advance_by(p, AT_MS(300));
		for (struct emitted *e; (e = peer_takes(p));) {
			uint32_t seq = e->im.seq - p->conv->our_iss + OUR_ISS;
			if (seq >= 1001 && seq < 15601)
				seen[(seq - 1001) / 1460] = true;
			if (seq <= next && seq + e->im.len > next)
				next = seq + e->im.len;
		}
		peer_takes_all(p);
		peer_sends(p, NOW, SEG(.ack = next));
	}
	for (int i = 1; i < 10; i++)
		expect_that(p, seen[i]);
	peer_takes_all(p);
}

TEST(sack_limited_transmit, "RFC 3042, RFC 6675: the first two duplicate ACKs each release one new segment")
{
	struct peer *p = SACKING;

	app_set(p, SOCK_OPT_SNDBUF, 100000);
	app_write(p, 14600 + 5840);
	expect_equal(p, peer_takes_bytes(p), 14600);
	peer_sends(p, AT_MS(10), SEG(.ack = 1001, .sack = {2461, 3921}));
	expect_segment(p, SEG(.seq = 15601, .len = 1460));
	peer_sends(p, AT_MS(11), SEG(.ack = 1001, .sack = {2461, 5381}));
	expect_segment(p, SEG(.seq = 17061, .len = 1460));
	expect_nothing(p);
	peer_sends(p, AT_MS(12), SEG(.ack = 1001, .sack = {2461, 6841}));
	expect_segment(p, SEG(.seq = 1001, .len = 1460));
	peer_takes_all(p);
}

TEST(sack_lost_retransmission,
     "RFC 6675 5, RFC 6298 5: a retransmission that is lost too is repaired by the time-out")
{
	struct peer *p = SACKING;

	ten_in_flight(p);
	peer_sends(p, AT_MS(10), SEG(.ack = 1001, .sack = {2461, 6841}));
	peer_sends(p, AT_MS(10), SEG(.ack = 1001, .sack = {2461, 8301}));
	peer_sends(p, AT_MS(10), SEG(.ack = 1001, .sack = {2461, 15601}));
	expect_segment(p, SEG(.seq = 1001));
	peer_takes_all(p);
	advance_to(p, AT_MS(900));
	expect_segment(p, SEG(.seq = 1001, .len = 1460));
	expect_equal(p, counter(p, tcp_rto) >= 1, 1);
	peer_takes_all(p);
	peer_sends(p, AT_MS(910), SEG(.ack = 15601));
	advance_by(p, AT_S(2));
	expect_nothing(p);
}

TEST(dsack_received, "RFC 2883 5: a duplicate-SACK from the peer is counted and harms nothing")
{
	struct peer *p = SACKING;

	app_write(p, 1460);
	peer_takes_all(p);
	peer_sends(p, AT_MS(10), SEG(.ack = 2461));
	app_write(p, 1460);
	peer_takes_all(p);
	peer_sends(p, AT_MS(20), SEG(.ack = 2461, .sack = {1001, 2461}));
	expect_equal(p, counter(p, tcp_dsack_in), 1);
	peer_sends(p, AT_MS(21), SEG(.ack = 3921));
	expect_nothing(p);
}

static void few_ranges(struct stack_config *c)
{
	c->ooo_ranges_max = 4;
}

TEST(reassembly_cap,
     "CVE-2018-5390, requirements 3 (OOO queue): ranges beyond the cap are dropped and later accepted")
{
	struct peer *p = peer_established_with(WITH(.sack = true, .configure = few_ranges));

	for (int i = 0; i < 8; i++)
		peer_sends(p, AT_MS(1 + i), SEG(.seq = 5101 + 200 * i, .len = 100));
	peer_takes_all(p);
	expect_that(p, counter(p, tcp_ooo_drop) >= 1);
	expect_that(p, pool_live(&p->cx, POOL_OOO) <= 4);
	for (int i = 0; i < 17; i++)
		peer_sends(p, AT_MS(20 + i), SEG(.seq = 5001 + 100 * i, .len = 100));
	peer_takes_all(p);
	app_read(p, 1700);
	peer_takes_all(p);
	expect_equal(p, pool_live(&p->cx, POOL_OOO), 0);
}

TEST(overlapping_ranges, "SHLD-31: overlapping and contained out-of-order segments deliver every byte once")
{
	struct peer *p = SACKING;
	static const uint16_t piece[][2] = {{500, 300}, {400, 200}, {700, 400}, {100, 50},
					    {100, 900}, {50, 60},   {1050, 150}};

	for (size_t i = 0; i < ARRAY_LEN(piece); i++)
		peer_sends(p, AT_MS(1 + i), SEG(.seq = 5001 + piece[i][0], .len = piece[i][1]));
	peer_takes_all(p);
	peer_sends(p, AT_MS(20), SEG(.seq = 5001, .len = 50));
	expect_segment(p, SEG(.ack = 6201, .sack = {ABSENT}));
	app_read(p, 1200);
	peer_takes_all(p);
}

TEST(sack_lost_by_octets,
     "RFC 6675 4 (IsLost): one ACK that SACKs more than two segments above a hole is enough")
{
	struct peer *p = SACKING;

	ten_in_flight(p);
	peer_sends(p, AT_MS(10), SEG(.ack = 1001, .sack = {2461, 5381}));
	expect_nothing(p);
	peer_sends(p, AT_MS(11), SEG(.ack = 1001, .sack = {2461, 6841}));
	expect_segment(p, SEG(.seq = 1001, .len = 1460));
	peer_takes_all(p);
	expect_equal(p, counter(p, tcp_fast_retrans), 1);
}

static void little_memory(struct stack_config *c)
{
	c->mem_max = 40000;
}

TEST(reassembly_gives_way,
     "requirements R7, RFC 2018 8: for want of memory out-of-order data gives way to data that is in order")
{
	struct peer *p = peer_established_with(WITH(.configure = little_memory, .sack = true));

	for (uint32_t i = 20; i < 58; i++)
		peer_sends(p, AT_MS(i), SEG(.seq = 5001 + 1000 * i, .len = 1000));
	peer_takes_all(p);
	expect_that(p, counter(p, tcp_ooo_drop) > 0);
	/* more than any queue is entitled to: it takes the place of the other */
	for (uint32_t i = 0; i < 16; i++) {
		peer_sends(p, AT_MS(60 + i), SEG(.seq = 5001 + 1000 * i, .len = 1000));
		peer_takes_all(p);
	}
	app_read(p, 16000);
	expect_that(p, counter(p, tcp_mem_drop) == 0);
}
