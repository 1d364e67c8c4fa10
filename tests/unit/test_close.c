/* test_close.c - FIN, abort, orphans, TIME-WAIT. */
#include "tests/unit/segpeer.h"

static uint8_t bytes[4096];

static int64_t put(ref s, uint64_t n)
{
	struct iovec iov = {bytes, n};

	return sock_send(&t.cx, s, &iov, 1, 0);
}
static int64_t take(ref s, uint64_t n)
{
	struct iovec iov = {bytes, n};

	return sock_recv(&t.cx, s, &iov, 1, 0);
}

/* close() with everything read: FIN, FIN-WAIT-2, TIME-WAIT, and after its time nothing is left. */
static void test_orderly(void)
{
	uint32_t iss;
	uint16_t port;

	start();
	ref s = connected(&iss, &port);
	sock_close(&t.cx, s);
	CHECK_EQ(heard().flags, TH_FIN | TH_ACK);
	CHECK_EQ(stack_draining(&t.cx), 1);
	deliver_from(4000, port, TH_ACK, 5001, iss + 2, 0);
	CHECK_EQ(stack_draining(&t.cx), 0);
	CHECK_EQ(stack_orphans(&t.cx), 1);
	deliver_from(4000, port, TH_FIN | TH_ACK, 5001, iss + 2, 0);
	CHECK_EQ(heard().ack.v, 5002);
	CHECK_EQ(stack_orphans(&t.cx), 0);
	CHECK_EQ(pool_live(&t.cx, POOL_TCB), 0);
	CHECK_EQ(pool_live(&t.cx, POOL_TIMEWAIT), 1);
	t.cx.now += 30 * NS_PER_S;
	deliver_from(4000, port, TH_FIN | TH_ACK, 5001, iss + 2, 0);
	CHECK_EQ(heard().ack.v, 5002); /* MUST-13 */
	t.cx.now += 59 * NS_PER_S;
	stack_advance(&t.cx);
	CHECK_EQ(pool_live(&t.cx, POOL_TIMEWAIT), 1);
	t.cx.now += 2 * NS_PER_S;
	stack_advance(&t.cx);
	CHECK_EQ(pool_live(&t.cx, POOL_TIMEWAIT), 0);
	finish();
}

/* SHLD-3: unread data at close(), or data that arrives after it: RST. */
static void test_unread_and_late_data(void)
{
	uint32_t iss;
	uint16_t port;

	start();
	ref s = connected(&iss, &port);
	deliver_from(4000, port, TH_ACK | TH_PSH, 5001, iss + 1, 10);
	testcx_forget(&t);
	sock_close(&t.cx, s);
	CHECK_EQ(heard().flags, TH_RST | TH_ACK);
	CHECK_EQ(pool_live(&t.cx, POOL_TCB), 0);
	s = connected(&iss, &port);
	sock_close(&t.cx, s);
	deliver_from(4000, port, TH_ACK, 5001, iss + 2, 0);
	testcx_forget(&t);
	deliver_from(4000, port, TH_ACK, 5001, iss + 2, 10);
	CHECK_EQ(heard().flags, TH_RST);
	CHECK_EQ(pool_live(&t.cx, POOL_TCB), 0);
	CHECK_EQ(stack_counters(&t.cx)->tcp_abort_data, 2);
	finish();
}

static void test_linger_zero(void)
{
	uint32_t iss;
	uint16_t port;

	start();
	ref s = connected(&iss, &port);
	put(s, 100);
	testcx_forget(&t);
	sock_set_option(&t.cx, s, SOCK_OPT_LINGER, 0);
	sock_close(&t.cx, s);
	CHECK_EQ(heard().flags, TH_RST | TH_ACK);
	CHECK_EQ(stack_buffer_bytes(&t.cx), 0);
	finish();
}

/* An orphan in FIN-WAIT-2 goes after its time; orphan_max resets what is too much. */
static void test_orphans(void)
{
	uint32_t iss;
	uint16_t port;

	testcx_config(&t);
	t.config.orphan_max = 1;
	CHECK_EQ(testcx_open(&t), 0);
	testcx_meet_peer(&t);
	ref a = connected(&iss, &port);
	sock_close(&t.cx, a);
	deliver_from(4000, port, TH_ACK, 5001, iss + 2, 0);
	ref b = connected(&iss, &port);
	testcx_forget(&t);
	sock_close(&t.cx, b);
	CHECK_EQ(heard().flags, TH_RST | TH_ACK);
	CHECK_EQ(stack_counters(&t.cx)->tcp_orphan_overflow, 1);
	CHECK_EQ(pool_live(&t.cx, POOL_TCB), 1);
	t.cx.now += 61 * NS_PER_S;
	stack_advance(&t.cx);
	CHECK_EQ(pool_live(&t.cx, POOL_TCB), 0);
	finish();
}

/* An owned socket in TIME-WAIT: Linux's view of it; the tuple is served by the small object. */
static void test_owned_timewait(void)
{
	uint32_t iss;
	uint16_t port;

	start();
	ref s = connected(&iss, &port);
	CHECK_EQ(sock_shutdown(&t.cx, s, 1), 0);
	deliver_from(4000, port, TH_FIN | TH_ACK, 5001, iss + 2, 10);
	CHECK_EQ(state_at(s), TCPS_TIME_WAIT);
	CHECK_EQ(sock_events(&t.cx, s), SOCK_IN | SOCK_OUT | SOCK_HUP | SOCK_RDHUP);
	CHECK_EQ(take(s, 100), 10);
	CHECK_EQ(take(s, 100), 0);
	CHECK_EQ(put(s, 1), -EPIPE);
	CHECK_EQ(sock_shutdown(&t.cx, s, 2), -ENOTCONN);
	testcx_forget(&t);
	deliver_from(4000, port, TH_FIN | TH_ACK, 5011, iss + 2, 0);
	CHECK_EQ(heard().ack.v, 5012);
	sock_close(&t.cx, s);
	CHECK_EQ(pool_live(&t.cx, POOL_TIMEWAIT), 1);
	finish();
}

/* RFC 1337, MAY-2, the cap. */
static void test_timewait_rules(void)
{
	uint32_t iss[3];
	uint16_t port[3];

	testcx_config(&t);
	t.config.tw_max = 2;
	CHECK_EQ(testcx_open(&t), 0);
	testcx_meet_peer(&t);
	for (int i = 0; i < 3; i++) {
		ref s = connected(&iss[i], &port[i]);
		sock_close(&t.cx, s);
		deliver_from(4000, port[i], TH_FIN | TH_ACK, 5001, iss[i] + 2, 0);
	}
	CHECK_EQ(pool_live(&t.cx, POOL_TIMEWAIT), 2);
	CHECK_EQ(stack_counters(&t.cx)->tcp_tw_overflow, 1);
	deliver_from(4000, port[2], TH_RST, 5002, 0, 0);
	CHECK_EQ(pool_live(&t.cx, POOL_TIMEWAIT), 2);
	ref l = sock_create(&t.cx);
	struct endpoint mine = our_end(port[2]);
	CHECK_EQ(sock_listen(&t.cx, l, &mine, 1), 0);
	testcx_forget(&t);
	deliver_from(4000, port[2], TH_SYN, 4000, 0, 0); /* older: refused by ACK */
	CHECK_EQ(heard().flags, TH_ACK);
	deliver_from(4000, port[2], TH_SYN, 6000, 0, 0); /* newer: opens, above the old numbers */
	struct segment s = heard();
	CHECK_EQ(s.flags, TH_SYN | TH_ACK);
	CHECK_GT((int32_t)(s.seq.v - iss[2]), 65535);
	CHECK_EQ(pool_live(&t.cx, POOL_TIMEWAIT), 1);
	finish();
}

/* What a reset leaves: buffered bytes first, then the error once, then the end (Linux's tcp_reset). */
static void test_reset(void)
{
	uint32_t iss;
	uint16_t port;

	start();
	ref s = connected(&iss, &port);
	deliver_from(4000, port, TH_ACK, 5001, iss + 1, 10);
	put(s, 100);
	deliver_from(4000, port, TH_RST, 5011, 0, 0);
	CHECK_EQ(state_at(s), TCPS_CLOSED);
	CHECK_EQ(sock_events(&t.cx, s), SOCK_IN | SOCK_OUT | SOCK_ERR | SOCK_HUP | SOCK_RDHUP);
	CHECK_EQ(take(s, 100), 10);
	CHECK_EQ(take(s, 100), -ECONNRESET);
	CHECK_EQ(take(s, 100), 0);
	CHECK_EQ(put(s, 1), -EPIPE);
	sock_close(&t.cx, s);
	CHECK_EQ(stack_buffer_bytes(&t.cx), 0);
	/* in CLOSE-WAIT it is our writing that fails */
	s = connected(&iss, &port);
	deliver_from(4000, port, TH_FIN | TH_ACK, 5001, iss + 1, 0);
	CHECK_EQ(sock_events(&t.cx, s), SOCK_IN | SOCK_OUT | SOCK_RDHUP);
	deliver_from(4000, port, TH_RST, 5002, 0, 0);
	CHECK_EQ(sock_take_error(&t.cx, s), EPIPE);
	CHECK_EQ(sock_take_error(&t.cx, s), 0);
	sock_close(&t.cx, s);
	finish();
}

/* connect(2)'s outcomes, one at a time (inet_stream_connect). */
static void test_connect_outcomes(void)
{
	struct endpoint any = {0}, to = peer_end(4000), mine;

	start();
	ref s = sock_create(&t.cx);
	CHECK_EQ(sock_events(&t.cx, s), SOCK_OUT | SOCK_HUP);
	CHECK_EQ(take(s, 1), -ENOTCONN);
	CHECK_EQ(put(s, 1), -EPIPE);
	CHECK_EQ(sock_connect(&t.cx, s, &any, &to), -EINPROGRESS);
	CHECK_EQ(sock_events(&t.cx, s), 0);
	CHECK_EQ(put(s, 1), -EAGAIN);
	CHECK_EQ(sock_connect(&t.cx, s, &any, &to), -EALREADY);
	uint32_t iss = heard().seq.v;
	sock_names(&t.cx, s, &mine, NULL);
	deliver_from(4000, mine.port, TH_RST | TH_ACK, 0, iss + 1, 0);
	CHECK_EQ(sock_events(&t.cx, s), SOCK_IN | SOCK_OUT | SOCK_ERR | SOCK_HUP | SOCK_RDHUP);
	CHECK_EQ(sock_connect(&t.cx, s, &any, &to), -ECONNREFUSED);
	CHECK_EQ(sock_connect(&t.cx, s, &any, &to), -EINPROGRESS); /* usable again */
	CHECK_EQ(sock_shutdown(&t.cx, s, 2), 0);
	CHECK_EQ(sock_take_error(&t.cx, s), ECONNRESET);
	sock_close(&t.cx, s);
	CHECK_EQ(pool_live(&t.cx, POOL_TCB), 0);
	finish();
}

CHECK_MAIN("close", {"MUST-13: an orderly close, TIME-WAIT for its time", test_orderly},
	   {"SHLD-3: RST for unread or late data", test_unread_and_late_data},
	   {"SO_LINGER 0 aborts", test_linger_zero}, {"orphans are bounded in number and time", test_orphans},
	   {"an owned socket in TIME-WAIT", test_owned_timewait},
	   {"RFC 1337, RFC 9293 MAY-2, the cap on TIME-WAITs", test_timewait_rules},
	   {"MUST-12: what a reset leaves to the application", test_reset},
	   {"the outcomes of connect(2)", test_connect_outcomes})
