/*
 * test_timers.c - keep-alive, and silence where no timer should run.
 */
#include "dialogue.h"

TEST(keepalive_default_off, "MUST-25, MUST-24: an idle connection sends nothing for three hours")
{
	struct peer *p = peer_established();

	advance_to(p, AT_S(2)); /* a cancelled timer may surface once */
	expect_that(p, stack_deadline(&p->cx) == NSEC_NEVER);
	advance_to(p, AT_S(3 * 3600));
	expect_nothing(p);
	expect_state(p, S_ESTABLISHED);
}

TEST(keepalive_default_time,
     "MUST-28, SHLD-12, MAY-5: the first probe goes after 7200 s: sequence SND.NXT - 1, no data")
{
	struct peer *p = peer_established();

	app_set(p, SOCK_OPT_KEEPALIVE, 1);
	expect_at(p, AT_S(7200), SEG(.flags = ACK, .seq = 1000, .ack = 5001, .len = 0));
	peer_sends(p, NOW, SEG());
	expect_at(p, AT_S(14400), SEG(.flags = ACK, .seq = 1000, .len = 0));
	peer_sends(p, NOW, SEG());
	expect_equal(p, counter(p, tcp_keepalive), 2);
}

static struct peer *keeping_alive(void)
{
	struct peer *p = peer_established();

	app_set(p, SOCK_OPT_KEEPIDLE, 10);
	app_set(p, SOCK_OPT_KEEPINTVL, 2);
	app_set(p, SOCK_OPT_KEEPCNT, 3);
	app_set(p, SOCK_OPT_KEEPALIVE, 1);
	return p;
}

TEST(keepalive_options,
     "MUST-27, MUST-29: TCP_KEEPIDLE, KEEPINTVL and KEEPCNT are obeyed; the last unanswered probe ends it")
{
	struct peer *p = keeping_alive();

	expect_at(p, AT_S(10), SEG(.seq = 1000, .len = 0));
	expect_at(p, AT_S(12), SEG(.seq = 1000, .len = 0));
	expect_at(p, AT_S(14), SEG(.seq = 1000, .len = 0));
	advance_to(p, AT_S(16));
	struct emitted *e = peer_takes(p);
	expect_that(p, !e || (e->im.flags & RST));
	expect_state(p, S_CLOSE);
	expect_equal(p, sock_take_error(&p->cx, p->sock), ETIMEDOUT);
}

TEST(keepalive_answer_resets,
     "MUST-29: one lost probe is not death: an answered probe starts the idle time anew")
{
	struct peer *p = keeping_alive();

	expect_at(p, AT_S(10), SEG(.seq = 1000));
	expect_at(p, AT_S(12), SEG(.seq = 1000));
	peer_sends(p, AT_S(13), SEG());
	expect_at(p, AT_S(23), SEG(.seq = 1000));
	peer_sends(p, NOW, SEG());
	expect_state(p, S_ESTABLISHED);
}

TEST(keepalive_only_idle, "MUST-26: while data is outstanding or arrives, no probe is sent")
{
	struct peer *p = keeping_alive();

	for (int i = 1; i < 6; i++) {
		peer_sends(p, AT_S(8 * i), SEG(.len = 1));
		peer_takes_all(p);
	}
	app_write(p, 10);
	expect_segment(p, SEG(.len = 10));
	for (int i = 0; i < 300; i++) {
		advance_by(p, AT_MS(100));
		for (struct emitted *e; (e = peer_takes(p));)
			expect_equal(p, e->im.len, 10);
	}
	expect_equal(p, counter(p, tcp_keepalive), 0);
	p->queue_first = p->queue_last = 0;
}

TEST(keepalive_can_be_switched_off, "MUST-24: switching SO_KEEPALIVE off stops the probes")
{
	struct peer *p = keeping_alive();

	advance_to(p, AT_S(5));
	app_set(p, SOCK_OPT_KEEPALIVE, 0);
	advance_to(p, AT_S(100));
	expect_nothing(p);
}

TEST(keepalive_probe_answered, "RFC 9293 3.8.4: a peer's keep-alive probe is answered by an ACK")
{
	struct peer *p = peer_established();

	for (int i = 1; i < 4; i++) {
		peer_sends(p, AT_S(60 * i), SEG(.seq = 5000));
		expect_segment(p, SEG(.flags = ACK, .seq = 1001, .ack = 5001, .len = 0));
		peer_sends(p, AT_S(60 * i + 30), SEG(.seq = 5000, .len = 1));
		expect_segment(p, SEG(.flags = ACK, .seq = 1001, .ack = 5001, .len = 0));
	}
}

TEST(keepalive_with_user_timeout,
     "MUST-21, MUST-27: with keep-alive the user time-out decides when a silent peer is dead")
{
	struct peer *p = keeping_alive();

	app_set(p, SOCK_OPT_USER_TIMEOUT, 11000);
	advance_to(p, AT_S(10) + AT_MS(500));
	expect_segment(p, SEG(.seq = 1000));
	advance_to(p, AT_S(13));
	peer_takes_all(p);
	expect_state(p, S_CLOSE);
}

TEST(keepalive_rst, "RFC 9293 3.8.4: a probe answered by RST ends the connection")
{
	struct peer *p = keeping_alive();

	expect_at(p, AT_S(10), SEG(.seq = 1000));
	peer_sends(p, NOW, SEG(.flags = RST, .seq = 5001));
	expect_equal(p, app_try_read(p, 1, 0), -ECONNRESET);
}

TEST(silence_when_idle,
     "performance 4 (idle wake-ups): an idle established, listening or half-closed socket has no deadline")
{
	struct peer *p = peer_accepted();

	peer_sends(p, AT_MS(1), SEG(.len = 10));
	advance_to(p, AT_S(1));
	peer_takes_all(p);
	app_read(p, 10);
	app_write(p, 10);
	peer_takes_all(p);
	peer_sends(p, NOW, SEG());
	advance_by(p, AT_S(1));
	expect_that(p, stack_deadline(&p->cx) == NSEC_NEVER);
	peer_sends(p, NOW, SEG(.flags = FIN | ACK));
	peer_takes_all(p);
	advance_by(p, AT_S(1));
	expect_that(p, stack_deadline(&p->cx) == NSEC_NEVER);
}

TEST(late_clock, "requirements R12: timers that come a minute late cause no burst of segments")
{
	struct peer *p = peer_established();

	app_write(p, 14600);
	peer_takes_all(p);
	p->cx.now += AT_S(60);
	stack_advance(&p->cx);
	stack_flush(&p->cx);
	expect_equal(p, peer_takes_bytes(p), 1460);
	expect_state(p, S_ESTABLISHED);
	peer_sends(p, NOW, SEG(.ack = 15601));
	expect_nothing(p);
}
