/*
 * test_retransmit.c - time-outs, back-off, fast retransmit without SACK,
 * congestion window, and giving up.
 */
#include "dialogue.h"

static void reno(struct stack_config *c)
{
	c->cc = STACK_CC_RENO;
}

TEST(initial_window, "RFC 6928: ten segments leave after the handshake")
{
	struct peer *p = peer_established();

	app_set(p, SOCK_OPT_SNDBUF, 100000);
	app_write(p, 40000);
	expect_equal(p, peer_takes_bytes(p), 14600);
}

TEST(slow_start, "MUST-19, RFC 5681 3.1: in slow start the flight doubles each round trip")
{
	struct peer *p = peer_established();
	uint64_t flight;

	app_set(p, SOCK_OPT_SNDBUF, 200000);
	app_write(p, 100000);
	flight = peer_takes_bytes(p);
	expect_equal(p, flight, 14600);
	for (int i = 0; i < 10; i++)
		peer_sends(p, AT_MS(10), SEG(.ack = 2461 + 1460 * i));
	expect_equal(p, peer_takes_bytes(p), 2 * 14600);
}

TEST(ack_division,
     "RFC 5681 3.1 (ABC), Savage 1999: many small ACKs of one segment grow the window by one segment at most")
{
	struct peer *p = peer_established();

	app_set(p, SOCK_OPT_SNDBUF, 200000);
	app_write(p, 100000);
	peer_takes_bytes(p);
	for (int i = 1; i <= 146; i++)
		peer_sends(p, AT_MS(10), SEG(.ack = 1001 + 10 * i));
	expect_that(p, peer_takes_bytes(p) <= 1460 * 2);
}

TEST(congestion_avoidance, "MUST-19, RFC 5681 3.1: above ssthresh Reno grows by a segment per round trip")
{
	struct peer *p = peer_established_with(WITH(.configure = reno, .sack = true));
	struct sock_info i;

	app_set(p, SOCK_OPT_SNDBUF, 400000);
	app_write(p, 150000);
	peer_takes_all(p);
	peer_sends(p, AT_MS(10), SEG(.ack = 1001, .sack = {2461, 8301}));
	peer_sends(p, AT_MS(10), SEG(.ack = 1001, .sack = {2461, 9761}));
	peer_sends(p, AT_MS(10), SEG(.ack = 1001, .sack = {2461, 11221}));
	peer_takes_all(p);
	peer_sends(p, AT_MS(20), SEG());
	peer_takes_all(p);
	i = info_of(p);
	uint32_t before = i.snd_cwnd;
	expect_that(p, before >= 2 && before <= 8);
	for (int r = 0; r < 4; r++) {
		peer_sends(p, AT_MS(30 + 10 * r), SEG());
		peer_takes_all(p);
	}
	i = info_of(p);
	expect_that(p, i.snd_cwnd > before && i.snd_cwnd <= before + 5);
}

TEST(rto_exact, "MUST-18, RFC 6298 2, 5: the time-out is SRTT + max(4 RTTVAR, 200 ms) and doubles")
{
	struct peer *p = peer_established();

	expect_equal(p, info_of(p).rto, 210000);
	app_write(p, 1000);
	expect_segment(p, SEG(.len = 1000));
	expect_at(p, AT_MS(210), SEG(.seq = 1001, .len = 1000));
	expect_at(p, AT_MS(630), SEG(.seq = 1001, .len = 1000));
	expect_at(p, AT_MS(1470), SEG(.seq = 1001, .len = 1000));
	expect_equal(p, counter(p, tcp_rto), 3);
	expect_equal(p, info_of(p).total_retrans, 3);
}

TEST(rto_restarts_on_ack, "RFC 6298 5.3: an ACK of new data restarts the timer")
{
	struct peer *p = peer_established();

	app_write(p, 2920);
	peer_takes_all(p);
	peer_sends(p, AT_MS(100), SEG(.ack = 2461));
	expect_nothing(p);
	nsec rto = (nsec)info_of(p).rto * NS_PER_US;
	expect_at(p, AT_MS(100) + rto, SEG(.seq = 2461, .len = 1460));
}

TEST(rto_stops, "RFC 6298 5.2: with everything acknowledged no timer runs")
{
	struct peer *p = peer_established();

	app_write(p, 2920);
	peer_takes_all(p);
	peer_sends(p, AT_MS(10), SEG());
	advance_to(p, AT_S(1)); /* a cancelled timer may surface once */
	expect_nothing(p);
	expect_that(p, stack_deadline(&p->cx) == NSEC_NEVER);
}

TEST(karn, "MUST-18, RFC 6298 3: without timestamps the ACK of a retransmission gives no RTT sample")
{
	struct peer *p = peer_established();
	uint32_t before = info_of(p).rtt;

	app_write(p, 1000);
	peer_takes_all(p);
	advance_to(p, AT_MS(300));
	expect_segment(p, SEG(.seq = 1001));
	peer_sends(p, AT_MS(301), SEG(.ack = 2001));
	expect_equal(p, info_of(p).rtt, before);
}

TEST(karn_fast_retransmit, "MUST-18, RFC 6298 3: nor does the ACK of a fast retransmission")
{
	struct peer *p = peer_established();
	uint32_t before = info_of(p).rtt;

	app_write(p, 5 * 1460);
	peer_takes_all(p);
	for (int i = 0; i < 3; i++)
		peer_sends(p, AT_MS(10 + i), SEG(.ack = 1001));
	expect_segment(p, SEG(.seq = 1001, .len = 1460));
	peer_takes_all(p);
	peer_sends(p, AT_MS(150), SEG(.ack = 8301));
	expect_equal(p, info_of(p).rtt, before);
}

TEST(rtt_from_timestamp, "RFC 7323 4, RFC 6298 3: with timestamps the ACK of a retransmission gives a "
			 "sample, and ends the back-off")
{
	struct peer *p = peer_established_with(WITH(.ts = true));

	app_write(p, 1000);
	peer_takes_all(p);
	advance_to(p, AT_MS(300));
	expect_segment(p, SEG(.seq = 1001));
	peer_sends(p, AT_MS(310), SEG(.ack = 2001));
	expect_equal(p, info_of(p).backoff, 0);
	expect_that(p, info_of(p).rto < 400000);
}

TEST(cwnd_after_rto, "MUST-19, RFC 5681 3.1: after a time-out one segment goes, and the next with its ACK")
{
	struct peer *p = peer_established();

	app_write(p, 14600);
	peer_takes_all(p);
	advance_to(p, AT_MS(210));
	expect_segment(p, SEG(.seq = 1001, .len = 1460));
	expect_nothing(p);
	peer_sends(p, AT_MS(220), SEG(.ack = 2461));
	expect_segment(p, SEG(.seq = 2461, .len = 1460));
	expect_segment(p, SEG(.seq = 3921, .len = 1460));
	expect_nothing(p);
	peer_sends(p, AT_MS(230), SEG(.ack = 15601));
	expect_nothing(p);
}

TEST(fast_retransmit,
     "RFC 5681 3.2: the third duplicate ACK causes the retransmission without waiting for the timer")
{
	struct peer *p = peer_established();

	app_write(p, 14600);
	peer_takes_all(p);
	peer_sends(p, AT_MS(10), SEG(.ack = 1001));
	peer_sends(p, AT_MS(10), SEG(.ack = 1001));
	expect_nothing(p);
	peer_sends(p, AT_MS(10), SEG(.ack = 1001));
	expect_segment(p, SEG(.seq = 1001, .len = 1460, .at = AT_MS(10)));
	expect_nothing(p);
	expect_equal(p, counter(p, tcp_fast_retrans), 1);
	for (int i = 0; i < 6; i++)
		peer_sends(p, AT_MS(11), SEG(.ack = 1001));
	expect_nothing(p);
	peer_sends(p, AT_MS(20), SEG(.ack = 15601));
	advance_to(p, AT_S(1));
	expect_nothing(p);
}

TEST(newreno_partial_ack, "RFC 6582 3.2 step 3: a partial ACK in recovery retransmits the next hole at once")
{
	struct peer *p = peer_established();

	app_write(p, 14600);
	peer_takes_all(p);
	for (int i = 0; i < 3; i++)
		peer_sends(p, AT_MS(10), SEG(.ack = 1001));
	expect_segment(p, SEG(.seq = 1001, .len = 1460));
	peer_sends(p, AT_MS(20), SEG(.ack = 5381));
	expect_segment(p, SEG(.seq = 5381, .len = 1460));
	peer_takes_all(p);
	expect_that(p, counter(p, tcp_partial_ack) >= 1);
	peer_sends(p, AT_MS(30), SEG(.ack = 15601));
	expect_nothing(p);
	expect_equal(p, counter(p, tcp_fast_retrans), 1);
}

TEST(not_a_duplicate_ack,
     "RFC 5681 2: a segment with data, a new window, or nothing in flight is no duplicate ACK")
{
	struct peer *p = peer_established();

	app_write(p, 14600);
	peer_takes_all(p);
	for (int i = 0; i < 4; i++) {
		peer_sends(p, AT_MS(10), SEG(.ack = 1001, .len = 10));
		peer_sends(p, AT_MS(10), SEG(.ack = 1001, .wnd = 65000 + i));
	}
	for (struct emitted *e; (e = peer_takes(p));)
		expect_equal(p, e->im.len, 0);
	expect_equal(p, counter(p, tcp_fast_retrans), 0);
}

TEST(limited_transmit, "RFC 3042: without SACK too, the first two duplicate ACKs each release a new segment")
{
	struct peer *p = peer_established();

	app_set(p, SOCK_OPT_SNDBUF, 100000);
	app_write(p, 14600 + 5840);
	expect_equal(p, peer_takes_bytes(p), 14600);
	peer_sends(p, AT_MS(10), SEG(.ack = 1001));
	expect_segment(p, SEG(.seq = 15601, .len = 1460));
	peer_sends(p, AT_MS(11), SEG(.ack = 1001));
	expect_segment(p, SEG(.seq = 17061, .len = 1460));
	expect_nothing(p);
}

TEST(excessive_retransmission,
     "MUST-20, SHLD-10, SHLD-11: without any answer the connection ends with ETIMEDOUT, after 100 s or more")
{
	struct peer *p = peer_established();
	int sent = 0;

	app_write(p, 1000);
	while (state_of(p) == S_ESTABLISHED && p->cx.now - p->epoch < AT_S(3000)) {
		sent += peer_takes_all(p);
		advance_by(p, AT_MS(100));
	}
	nsec took = p->cx.now - p->epoch;
	expect_that(p, took >= AT_S(900) && took <= AT_S(1000));
	expect_equal(p, sent, 16);
	expect_equal(p, sock_take_error(&p->cx, p->sock), ETIMEDOUT);
	expect_equal(p, counter(p, tcp_abort_timeout), 1);
	expect_nothing(p);
}

TEST(rto_cap, "RFC 6298 2.5: the back-off stops at 120 s")
{
	struct peer *p = peer_established();
	nsec last = 0, longest = 0;

	app_write(p, 1000);
	peer_takes_all(p);
	for (int i = 0; i < 9000; i++) {
		advance_by(p, AT_MS(100));
		if (peer_takes_all(p)) {
			nsec now = p->cx.now - p->epoch;
			longest = MAX_OF(longest, now - last);
			last = now;
		}
	}
	expect_that(p, longest > AT_S(100) && longest <= AT_S(120) + AT_MS(200));
}

TEST(user_timeout,
     "MUST-21, RFC 5482: TCP_USER_TIMEOUT 5000 ends the connection about 5 s after the first loss")
{
	struct peer *p = peer_established();

	app_set(p, SOCK_OPT_USER_TIMEOUT, 5000);
	app_write(p, 1000);
	while (state_of(p) == S_ESTABLISHED && p->cx.now - p->epoch < AT_S(100)) {
		advance_by(p, AT_MS(10));
		peer_takes_all(p);
	}
	nsec took = p->cx.now - p->epoch;
	expect_that(p, took >= AT_S(5) && took <= AT_MS(6000));
	expect_equal(p, app_try_read(p, 1, 0), -ETIMEDOUT);
}

TEST(user_timeout_zero_window, "MUST-21: TCP_USER_TIMEOUT also bounds a window that stays closed")
{
	struct peer *p = peer_established();

	app_set(p, SOCK_OPT_USER_TIMEOUT, 5000);
	peer_sends(p, AT_MS(0), SEG(.wnd = 0));
	app_write(p, 1000);
	while (state_of(p) == S_ESTABLISHED && p->cx.now - p->epoch < AT_S(100)) {
		advance_by(p, AT_MS(100));
		peer_takes_all(p);
	}
	expect_that(p, p->cx.now - p->epoch <= AT_S(15));
	expect_equal(p, app_try_read(p, 1, 0), -ETIMEDOUT);
}

TEST(recovers_after_silence, "MUST-20: an ACK after many time-outs revives the transfer")
{
	struct peer *p = peer_established();

	app_write(p, 5000);
	advance_to(p, AT_S(60));
	peer_takes_all(p);
	peer_sends(p, NOW, SEG(.ack = 2461));
	expect_segment(p, SEG(.seq = 2461, .len = 1460));
	peer_takes_all(p);
	peer_sends(p, AT_S(61), SEG(.ack = 6001));
	expect_nothing(p);
	expect_state(p, S_ESTABLISHED);
}

TEST(idle_restart, "RFC 5681 4.1, RFC 2861: after an idle period the window falls back to the initial one")
{
	struct peer *p = peer_established();

	app_set(p, SOCK_OPT_SNDBUF, 400000);
	for (int i = 1; i <= 4; i++) {
		app_write(p, 60000);
		for (int k = 0; k < 30; k++) {
			if (!peer_takes_bytes(p))
				break;
			peer_sends(p, AT_MS(1000 * i + 10 * k), SEG());
		}
	}
	peer_takes_all(p);
	advance_by(p, AT_S(100));
	app_write(p, 100000);
	expect_that(p, peer_takes_bytes(p) <= 14600);
}

TEST(retransmit_collapses_nothing,
     "RFC 9293 3.8.1: a retransmission starts at SND.UNA even when an ACK cut into a segment")
{
	struct peer *p = peer_established();

	app_write(p, 1000);
	peer_takes_all(p);
	peer_sends(p, AT_MS(10), SEG(.ack = 1501));
	advance_to(p, AT_S(1));
	struct emitted *e = peer_takes(p);
	expect_that(p, e && e->im.seq == p->conv->our_iss + 501 && e->im.len == 500);
	peer_takes_all(p);
}

TEST(sequence_wrap, "RFC 9293 3.4: a transfer over the wrap of both sequence spaces")
{
	struct peer *p = peer_established_with(WITH(.peer_iss = 0xfffff000u, .sack = true));

	for (int i = 0; i < 10; i++) {
		peer_sends(p, AT_MS(10 * i), SEG(.seq = 5001 + 1000 * i + 500, .len = 500));
		peer_sends(p, AT_MS(10 * i), SEG(.seq = 5001 + 1000 * i, .len = 500));
		p->conv->peer_next = 5001 + 1000 * (i + 1);
		app_read(p, 1000);
	}
	advance_by(p, AT_MS(500));
	peer_takes_all(p);
	expect_equal(p, p->conv->emitter.peer_end, p->conv->peer_iss + 10001);
}

TEST(device_refuses, "RFC 9293 3.8.1, design 3: a frame that the device refuses is a lost frame")
{
	struct peer *p = peer_established();
	int (*tx)(struct stack_cx *, const struct frame_tx *) = p->cx.tx;
	extern int refuse(struct stack_cx * cx, const struct frame_tx *f);

	p->cx.tx = refuse;
	app_write(p, 1000);
	p->cx.tx = tx;
	expect_equal(p, counter(p, tx_errors), 1);
	advance_to(p, AT_MS(1000));
	expect_segment(p, SEG(.seq = 1001, .len = 1000));
	peer_takes_all(p);
}

int refuse(struct stack_cx *cx, const struct frame_tx *f);
int refuse(struct stack_cx *cx, const struct frame_tx *f)
{
	(void)cx;
	(void)f;
	return -ENOBUFS;
}

TEST(eifel,
     "RFC 3522, RFC 4015 3.2: an ACK that echoes a timestamp older than the resend undoes the reduction")
{
	struct peer *p = peer_established_with(WITH(.ts = true, .sack = true));
	uint32_t stamp;

	app_write(p, 14480);
	stamp = p->conv->ts_heard;
	expect_equal(p, peer_takes_bytes(p), 14480);
	advance_to(p, AT_MS(211));
	expect_segment(p, SEG(.seq = 1001, .len = 1448));
	expect_equal(p, info_of(p).snd_cwnd, 1);
	peer_sends(p, AT_MS(212), SEG(.ack = 1001 + 1448, .ts_ecr = stamp));
	expect_that(p, info_of(p).snd_cwnd >= 10);
	peer_sends(p, AT_MS(213), SEG(.ack = 15481, .ts_ecr = stamp));
	advance_by(p, AT_S(2));
	expect_nothing(p);
}

TEST(not_eifel, "RFC 3522: an ACK that echoes the resend's timestamp leaves the reduction in force")
{
	struct peer *p = peer_established_with(WITH(.ts = true, .sack = true));

	app_write(p, 14480);
	peer_takes_all(p);
	advance_to(p, AT_MS(211));
	expect_segment(p, SEG(.seq = 1001, .len = 1448));
	peer_sends(p, AT_MS(221), SEG(.ack = 1001 + 1448));
	expect_that(p, info_of(p).snd_cwnd <= 3);
	peer_takes_all(p);
}

TEST(cubic_decrease, "MAY-18, RFC 9438 4.6: CUBIC's window after a loss is 0.7 of what was in flight")
{
	struct peer *p = peer_established_with(WITH(.sack = true));

	app_write(p, 14600);
	peer_takes_all(p);
	peer_sends(p, AT_MS(10), SEG(.ack = 1001, .sack = {2461, 8301}));
	peer_takes_all(p);
	peer_sends(p, AT_MS(20), SEG(.ack = 15601));
	peer_takes_all(p);
	expect_equal(p, info_of(p).snd_ssthresh, 7);
	expect_equal(p, info_of(p).snd_cwnd, 7);
}
