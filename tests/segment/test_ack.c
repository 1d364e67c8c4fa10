/*
 * test_ack.c - when the stack acknowledges: delayed, at once, per burst, and in
 * answer to segments that should not have come.
 */
#include "dialogue.h"

/* TCP_QUICKACK 0: leave the quick-ack phase of a young connection. */
static struct peer *delaying(struct setup s)
{
	struct peer *p = peer_established_with(s);

	app_set(p, SOCK_OPT_QUICKACK, 0);
	return p;
}

TEST(quick_ack_phase, "SHLD-18, RFC 9293 3.8.6.3: a young connection acknowledges its first segments at once")
{
	struct peer *p = peer_established();

	for (int i = 0; i < 4; i++) {
		peer_sends(p, AT_MS(i), SEG(.len = 1000));
		expect_segment(p, SEG(.flags = ACK, .ack = 5001 + 1000 * (i + 1), .len = 0, .at = AT_MS(i)));
	}
}

TEST(delayed_ack, "SHLD-18, MUST-40: a single small segment is acknowledged after 40 to 200 ms, never 500")
{
	struct peer *p = delaying(WITH());

	peer_sends(p, AT_MS(0), SEG(.len = 100));
	expect_nothing(p);
	advance_to(p, AT_MS(39));
	expect_nothing(p);
	advance_to(p, AT_MS(200));
	expect_segment(p, SEG(.flags = ACK, .seq = 1001, .ack = 5101, .len = 0));
	expect_equal(p, counter(p, tcp_delayed_ack), 1);
}

TEST(delayed_ack_rides_on_data, "SHLD-18: data that leaves before the timer carries the ACK")
{
	struct peer *p = delaying(WITH());

	peer_sends(p, AT_MS(0), SEG(.len = 100));
	advance_to(p, AT_MS(10));
	app_write(p, 50);
	expect_segment(p, SEG(.flags = ACK, .seq = 1001, .ack = 5101, .len = 50));
	peer_sends(p, AT_MS(15), SEG(.ack = 1051));
	advance_to(p, AT_S(2));
	expect_nothing(p);
}

TEST(ack_every_second_segment, "SHLD-19: at least every second full-sized segment is acknowledged")
{
	struct peer *p = delaying(WITH());
	int acks = 0;

	for (int i = 0; i < 20; i++) {
		peer_sends(p, AT_MS(i), SEG(.len = 1460));
		acks += peer_takes_all(p);
		app_read(p, 1460);
		acks += peer_takes_all(p);
	}
	advance_by(p, AT_MS(300));
	acks += peer_takes_all(p);
	expect_that(p, acks >= 10 && acks <= 21);
}

TEST(ack_aggregation,
     "MUST-58, MUST-59: a burst of queued frames is processed whole and answered by one cumulative ACK")
{
	struct peer *p = peer_established();
	int acks;

	for (int i = 0; i < 20; i++)
		peer_sends(p, NOW, SEG(.len = 1460, .hold = i != 19));
	acks = p->queue_last;
	expect_that(p, acks >= 1 && acks <= 11);
	struct emitted *e = &p->queue[acks - 1];
	expect_equal(p, e->im.ack - p->conv->peer_iss, 20 * 1460 + 1);
	peer_takes_all(p);
	app_read(p, 20 * 1460);
	peer_takes_all(p);
}

TEST(out_of_order_ack, "SHLD-31, MAY-13, RFC 5681 4.2: each out-of-order segment draws a duplicate ACK at "
		       "once; the fill one for all")
{
	struct peer *p = delaying(WITH());

	peer_sends(p, AT_MS(1), SEG(.seq = 6001, .len = 1000));
	expect_segment(p, SEG(.flags = ACK, .seq = 1001, .ack = 5001, .len = 0, .at = AT_MS(1)));
	peer_sends(p, AT_MS(2), SEG(.seq = 7001, .len = 1000));
	expect_segment(p, SEG(.flags = ACK, .ack = 5001, .at = AT_MS(2)));
	expect_equal(p, app_try_read(p, 10, 0), -EAGAIN);
	peer_sends(p, AT_MS(3), SEG(.seq = 5001, .len = 1000));
	expect_segment(p, SEG(.flags = ACK, .ack = 8001, .at = AT_MS(3)));
	app_read(p, 3000);
	peer_takes_all(p);
}

TEST(duplicate_acked, "RFC 9293 3.10.7.4 step 1: an old duplicate is acknowledged and dropped")
{
	struct peer *p = peer_established();

	peer_sends(p, AT_MS(1), SEG(.len = 100));
	expect_segment(p, SEG(.ack = 5101));
	peer_sends(p, AT_MS(2), SEG(.seq = 5001, .len = 100));
	expect_segment(p, SEG(.flags = ACK, .seq = 1001, .ack = 5101, .len = 0));
	app_read(p, 100);
	expect_equal(p, app_try_read(p, 100, 0), -EAGAIN);
}

TEST(beyond_window, "RFC 9293 3.10.7.4 step 1: a segment beyond the window is dropped and acknowledged")
{
	struct peer *p = peer_established();

	peer_sends(p, AT_MS(1), SEG(.seq = 5001 + 0x4000000, .len = 100));
	expect_segment(p, SEG(.flags = ACK, .seq = 1001, .ack = 5001));
	expect_equal(p, app_try_read(p, 100, 0), -EAGAIN);
}

TEST(out_of_window_is_limited,
     "RFC 5961 7, requirements 3 (ACK loops): ACKs of segments out of the window are bounded per connection")
{
	struct peer *p = peer_established();
	int acks = 0;

	for (int i = 0; i < 1000; i++) {
		peer_sends(p, AT_MS(i), SEG(.seq = 4000));
		acks += peer_takes_all(p);
	}
	expect_that(p, acks >= 1 && acks <= 5);
}

TEST(ack_of_unsent,
     "RFC 9293 3.10.7.4 step 5, Savage 1999: an ACK of data never sent is answered and its segment dropped")
{
	struct peer *p = peer_established();

	app_write(p, 1460);
	expect_segment(p, SEG(.len = 1460));
	peer_sends(p, AT_MS(1), SEG(.ack = 2462, .len = 100));
	expect_segment(p, SEG(.flags = ACK, .seq = 2461, .ack = 5001, .len = 0));
	expect_equal(p, app_try_read(p, 10, 0), -EAGAIN);
	expect_equal(p, info_of(p).unacked, 1);
	expect_that(p, counter(p, tcp_ack_bad) == 1);
}

TEST(ack_far_too_old,
     "RFC 5961 5.2, MAY-12: an ACK below SND.UNA - MAX.SND.WND draws a challenge ACK; its data is dropped")
{
	struct peer *p = peer_established_with(WITH(.wnd = 1000));

	app_write(p, 900);
	peer_takes_all(p);
	for (int i = 0; i < 4; i++) {
		peer_sends(p, AT_MS(10 * i + 10), SEG());
		app_write(p, 900);
		peer_takes_all(p);
	}
	peer_sends(p, AT_S(1) - AT_MS(800), SEG(.len = 100, .ack = 1001));
	expect_segment(p, SEG(.flags = ACK, .ack = 5001, .len = 0));
	expect_equal(p, app_try_read(p, 10, 0), -EAGAIN);
}

TEST(old_ack_with_data, "RFC 9293 3.10.7.4 step 5: an old but plausible ACK is ignored, its data is taken")
{
	struct peer *p = peer_established();

	app_write(p, 100);
	peer_takes_all(p);
	peer_sends(p, AT_MS(10), SEG());
	peer_sends(p, AT_MS(11), SEG(.ack = 1001, .len = 50));
	peer_takes_all(p);
	app_read(p, 50);
}

TEST(partial_overlap,
     "RFC 9293 3.10.7.4 step 7: the new part of a segment that begins left of RCV.NXT is taken")
{
	struct peer *p = peer_established();

	peer_sends(p, AT_MS(1), SEG(.len = 100));
	expect_segment(p, SEG(.ack = 5101));
	peer_sends(p, AT_MS(2), SEG(.seq = 5051, .len = 200));
	expect_segment(p, SEG(.ack = 5251));
	app_read(p, 250);
}

TEST(window_trims_segment,
     "RFC 9293 3.10.7.4 step 7: what lies beyond the right edge is cut off, FIN included")
{
	struct peer *p = peer_established();
	uint32_t wnd;

	app_set(p, SOCK_OPT_RCVBUF, 4096);
	for (int i = 0; i < 200 && info_of(p).rcv_wnd > 1460; i++)
		peer_sends(p, NOW, SEG(.len = 1460));
	wnd = info_of(p).rcv_wnd;
	peer_takes_all(p);
	uint32_t next = p->conv->peer_next;
	peer_sends(p, NOW, SEG(.flags = FIN | ACK, .seq = next, .len = wnd + 100));
	expect_state(p, S_ESTABLISHED);
	struct emitted *e = NULL, *last = NULL;
	while ((e = peer_takes(p)))
		last = e;
	if (last)
		expect_that(p, last->im.ack - p->conv->peer_iss + PEER_ISS <= next + wnd);
	peer_takes_all(p);
}

TEST(psh_on_last,
     "MUST-60, MUST-61, SHLD-27, SHLD-28: a write goes at once; full segments without PSH, the last with it")
{
	struct peer *p = peer_established();

	app_write(p, 1460 * 2 + 100);
	expect_segment(p, SEG(.len = 1460, .seq = 1001));
	expect_segment(p, SEG(.len = 1460));
	expect_that(p, p->queue_last - p->queue_first <= 1);
	peer_sends(p, AT_MS(5), SEG(.ack = 1001 + 2920));
	expect_segment(p, SEG(.len = 100, .psh = 1, .seq = 3921));
}

TEST(single_write_psh, "MUST-60, MUST-61: one byte with nothing in flight leaves at once, with PSH")
{
	struct peer *p = peer_established();

	app_write(p, 1);
	expect_segment(p, SEG(.flags = ACK, .len = 1, .psh = 1, .at = 0));
}

TEST(received_super_segment, "SHLD-19: a super-segment counts as its pieces: acknowledged at once")
{
	struct peer *p = delaying(WITH());

	peer_sends(p, AT_MS(1), SEG(.len = 14600, .gso = 1460));
	expect_segment(p, SEG(.flags = ACK, .ack = 5001 + 14600));
	app_read(p, 14600);
	peer_takes_all(p);
}

TEST(pure_ack_not_acked, "RFC 9293 3.10.7.4: an empty acceptable segment is never acknowledged")
{
	struct peer *p = peer_established();

	for (int i = 0; i < 10; i++)
		peer_sends(p, AT_MS(i), SEG());
	advance_to(p, AT_S(1));
	expect_nothing(p);
}

TEST(ack_every_second_unread, "SHLD-19: so it is while the application reads nothing")
{
	struct peer *p = delaying(WITH());

	for (int i = 1; i <= 16; i++) {
		peer_sends(p, AT_MS(i), SEG(.len = 1460));
		if (i % 2 == 0)
			expect_that(p, p->conv->emitter.edge_known && p->queue_last > 0);
		if (p->queue_last)
			expect_equal(p, p->queue[p->queue_last - 1].im.ack - p->conv->peer_iss, 1460 * i + 1);
		peer_takes_all(p);
	}
}

TEST(ack_overtaken,
     "RFC 9293 3.10.7.4 step 1: an ACK that data overtook on its way counts, while that waits for its ACK")
{
	struct peer *p = peer_established();

	app_set(p, SOCK_OPT_QUICKACK, 0);
	app_write(p, 500);
	peer_takes_all(p);
	peer_sends(p, AT_MS(1), SEG(.len = 100, .ack = 1001));
	expect_nothing(p);
	peer_sends(p, AT_MS(2), SEG(.flags = ACK, .seq = 5001, .ack = 1501, .len = 0));
	expect_equal(p, app_get(p, SOCK_OPT_OUTQ), 0);
	peer_takes_all(p);
}
