/*
 * test_paws.c - timestamps and PAWS (RFC 7323).
 */
#include "dialogue.h"

#define STAMPED peer_established_with(WITH(.ts = true))

TEST(timestamps_on_every_segment,
     "RFC 7323 3.2: once negotiated every segment but RST carries the option; TSecr echoes the newest TSval")
{
	struct peer *p = STAMPED;

	peer_sends(p, AT_MS(5), SEG(.len = 100, .ts_val = 200000));
	expect_segment(p, SEG(.flags = ACK, .ts_ecr = 200000));
	app_write(p, 10);
	expect_segment(p, SEG(.len = 10, .ts_ecr = 200000));
}

TEST(ts_clock, "RFC 7323 5.4: the timestamp clock ticks in milliseconds")
{
	struct peer *p = STAMPED;
	uint32_t first;

	app_write(p, 10);
	struct emitted *e = peer_takes(p);
	first = e->im.ts_val;
	peer_sends(p, AT_MS(10), SEG());
	advance_to(p, AT_MS(1000));
	app_write(p, 10);
	e = peer_takes(p);
	expect_equal(p, e->im.ts_val - first, 1000);
}

TEST(ts_offset, "RFC 7323 5.4, requirements 3 (TS leakage): the clock's offset differs from tuple to tuple")
{
	struct peer *p = peer_listen_with(WITH(.ts = true));
	uint32_t seen[4];

	for (int i = 0; i < 4; i++) {
		peer_switches(p, 80, (uint16_t)(4000 + i));
		peer_sends(p, NOW, SEG(.flags = SYN));
		struct emitted *e = peer_takes(p);
		seen[i] = e->im.ts_val;
		for (int k = 0; k < i; k++)
			expect_that(p, seen[i] - seen[k] > 100000 && seen[k] - seen[i] > 100000);
	}
}

TEST(paws_drop, "RFC 7323 5.3 R1: a segment with an older timestamp is acknowledged and dropped")
{
	struct peer *p = STAMPED;

	peer_sends(p, AT_MS(1), SEG(.len = 100, .ts_val = 200000));
	expect_segment(p, SEG(.ack = 5101));
	app_read(p, 100);
	peer_sends(p, AT_MS(2), SEG(.len = 100, .seq = 5101, .ts_val = 199000));
	expect_segment(p, SEG(.flags = ACK, .seq = 1001, .ack = 5101, .ts_ecr = 200000));
	expect_equal(p, app_try_read(p, 1, 0), -EAGAIN);
	expect_equal(p, counter(p, tcp_paws), 1);
}

TEST(paws_wrap, "RFC 7323 5.2: timestamps compare modulo 2^32")
{
	struct peer *p = STAMPED;

	peer_sends(p, AT_MS(1), SEG(.flags = ACK, .len = 10, .ts_val = 0x7ffffff0));
	peer_sends(p, AT_MS(2), SEG(.flags = ACK, .len = 10, .ts_val = 0xe0000000));
	peer_sends(p, AT_MS(3), SEG(.flags = ACK, .len = 10, .ts_val = 0x00000005));
	peer_takes_all(p);
	app_read(p, 30);
	peer_sends(p, AT_MS(4), SEG(.flags = ACK, .len = 10, .ts_val = 0xfffffff1));
	peer_takes_all(p);
	expect_equal(p, app_try_read(p, 10, 0), -EAGAIN);
}

TEST(paws_exempts_rst, "RFC 7323 5.3: RST is not subject to PAWS, with an old timestamp or none")
{
	struct peer *p = STAMPED;

	peer_sends(p, AT_MS(1), SEG(.len = 100, .ts_val = 200000));
	peer_takes_all(p);
	app_read(p, 100);
	peer_sends(p, AT_MS(2), SEG(.flags = RST, .ts_val = 5));
	expect_state(p, S_CLOSE);
}

TEST(ts_missing, "RFC 7323 3.2: a segment without the negotiated option is dropped")
{
	struct peer *p = STAMPED;

	peer_sends(p, AT_MS(1), SEG(.len = 100, .ts_val = ABSENT));
	peer_takes_all(p);
	expect_equal(p, app_try_read(p, 1, 0), -EAGAIN);
	peer_sends(p, AT_MS(2), SEG(.len = 100, .seq = 5001));
	peer_takes_all(p);
	app_read(p, 100);
}

TEST(ts_not_negotiated, "requirements 4 (timestamps when not negotiated): without negotiation the option is "
			"ignored and never sent")
{
	struct peer *p = peer_established();

	peer_sends(p, AT_MS(1), SEG(.len = 100, .ts_val = 77, .ts_ecr = 1));
	expect_segment(p, SEG(.ack = 5101, .ts_val = ABSENT));
	peer_sends(p, AT_MS(2), SEG(.len = 100, .ts_val = 5, .ts_ecr = 1));
	expect_segment(p, SEG(.ack = 5201, .ts_val = ABSENT));
	app_read(p, 200);
}

TEST(ts_recent_rule, "RFC 7323 4.3 (2): an out-of-order segment does not update TS.Recent; TSecr names the "
		     "segment that moved the window")
{
	struct peer *p = STAMPED;

	peer_sends(p, AT_MS(1), SEG(.len = 100, .ts_val = 200000));
	expect_segment(p, SEG(.ack = 5101, .ts_ecr = 200000));
	peer_sends(p, AT_MS(2), SEG(.seq = 5201, .len = 100, .ts_val = 200010));
	expect_segment(p, SEG(.ack = 5101, .ts_ecr = 200000));
	peer_sends(p, AT_MS(3), SEG(.seq = 5101, .len = 100, .ts_val = 200005));
	expect_segment(p, SEG(.ack = 5301, .ts_ecr = 200005));
	app_read(p, 300);
}

TEST(ts_delayed_ack, "RFC 7323 4.3: when one ACK answers two segments TSecr is that of the first")
{
	struct peer *p = STAMPED;

	app_set(p, SOCK_OPT_QUICKACK, 0);
	peer_sends(p, AT_MS(1), SEG(.len = 100, .ts_val = 200000));
	expect_nothing(p);
	peer_sends(p, AT_MS(2), SEG(.len = 100, .ts_val = 200007));
	advance_to(p, AT_MS(300));
	expect_segment(p, SEG(.ack = 5201, .ts_ecr = 200000));
	app_read(p, 200);
}

TEST(ts_idle_24_days, "RFC 7323 5.5: after 24 days of silence TS.Recent is no longer believed")
{
	struct peer *p = STAMPED;

	peer_sends(p, AT_MS(1), SEG(.len = 100, .ts_val = 200000));
	peer_takes_all(p);
	app_read(p, 100);
	peer_sends(p, AT_S(25ull * 86400), SEG(.len = 100, .ts_val = 200000 - 1000));
	peer_takes_all(p);
	app_read(p, 100);
}

TEST(paws_old_duplicate_syn,
     "RFC 7323 5.3, RFC 5961 4.2: an old SYN in a stamped connection draws an ACK, nothing else")
{
	struct peer *p = STAMPED;

	peer_sends(p, AT_MS(1), SEG(.flags = SYN, .seq = 5000, .ts_val = 3));
	expect_segment(p, SEG(.flags = ACK, .ack = 5001));
	expect_state(p, S_ESTABLISHED);
}

TEST(ts_ecr_invalid, "RFC 7323 3.2, 4.1: a TSecr that we never sent gives no absurd RTT sample")
{
	struct peer *p = STAMPED;

	app_write(p, 1000);
	peer_takes_all(p);
	advance_to(p, AT_MS(250));
	peer_takes_all(p);
	peer_sends(p, AT_MS(260), SEG(.ack = 2001, .ts_ecr = 1));
	expect_that(p, info_of(p).rto <= 2000000);
	expect_state(p, S_ESTABLISHED);
}
