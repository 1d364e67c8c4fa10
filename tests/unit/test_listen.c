/* test_listen.c - the SYN queue, the accept queue, backlog, TCP_DEFER_ACCEPT. */
#include "tests/unit/segpeer.h"

static uint32_t iss_of[65536];

static void syn(uint16_t from)
{
	testcx_forget(&t);
	deliver_from(from, 80, TH_SYN, 5000, 0, 0);
	struct segment s = heard();
	if (s.flags == (TH_SYN | TH_ACK))
		iss_of[from] = s.seq.v;
}
static void final_ack(uint16_t from)
{
	deliver_from(from, 80, TH_ACK, 5001, iss_of[from] + 1, 0);
}

static void test_order(void)
{
	start();
	ref l = listener(5);
	for (uint16_t p = 1; p <= 3; p++)
		syn(p);
	final_ack(3);
	final_ack(1);
	final_ack(2);
	static const uint16_t order[] = {3, 1, 2};
	for (unsigned i = 0; i < 3; i++) {
		struct endpoint who;
		ref s = sock_accept(&t.cx, l);
		CHECK_FATAL(s != REF_NONE);
		CHECK_EQ(sock_names(&t.cx, s, NULL, &who), 0);
		CHECK_EQ(who.port, order[i]);
		if (i == 0) { /* accept(2) failed with EMFILE: the same one comes again */
			sock_unaccept(&t.cx, l, s);
			CHECK_EQ(sock_accept(&t.cx, l), s);
		}
	}
	CHECK_EQ(sock_accept(&t.cx, l), REF_NONE);
	finish();
}

/* Linux: backlog + 1 connections wait; then SYNs are dropped and final ACKs ignored, to be tried again. */
static void test_backlog(void)
{
	start();
	memset(iss_of, 0, sizeof iss_of);
	ref l = listener(1);
	for (uint16_t p = 1; p <= 2; p++)
		syn(p);
	final_ack(1);
	final_ack(2);
	CHECK_EQ(sock_events(&t.cx, l), SOCK_IN);
	CHECK_EQ(tcb_at(&t.cx, l)->accept_count, 2);
	syn(3);
	CHECK_EQ(iss_of[3], 0);
	CHECK_EQ(stack_counters(&t.cx)->tcp_listen_drop, 1);
	ref a = sock_accept(&t.cx, l);
	CHECK(a != REF_NONE);
	syn(3);
	syn(4);
	CHECK_NE(iss_of[4], 0);
	final_ack(3);
	final_ack(4); /* full again: ignored, the SYN-ACK comes again */
	CHECK_EQ(stack_counters(&t.cx)->tcp_listen_overflow, 1);
	CHECK_EQ(tcb_at(&t.cx, l)->syn_count, 1);
	sock_accept(&t.cx, l);
	final_ack(4);
	CHECK_EQ(tcb_at(&t.cx, l)->syn_count, 0);
	finish();
}

/* RFC 4987: forged SYNs take bounded memory; one that comes again a second later gets a place. */
static void test_flood(void)
{
	start();
	ref l = listener(16);
	for (uint32_t p = 1; p <= 5000; p++)
		syn((uint16_t)p);
	CHECK_LE(tcb_at(&t.cx, l)->syn_count, 129); /* a small backlog still means 128 half-open ones */
	CHECK_LE(pool_live(&t.cx, POOL_TCB), 130);
	t.cx.now += NS_PER_S;
	syn(6000);
	CHECK_NE(iss_of[6000], 0);
	final_ack(6000);
	CHECK(sock_accept(&t.cx, l) != REF_NONE);
	finish();
}

/* A peer whose final ACK found the accept queue full is connected: forged SYNs do not push it out. */
static void test_flood_spares_the_connected(void)
{
	start();
	ref l = listener(16);
	for (uint16_t p = 1; p <= 40; p++)
		syn(p);
	for (uint16_t p = 1; p <= 40; p++)
		final_ack(p);
	CHECK_EQ(tcb_at(&t.cx, l)->accept_count, 17);
	CHECK_EQ(tcb_at(&t.cx, l)->syn_count, 23);
	CHECK(sock_accept(&t.cx, l) != REF_NONE); /* room for one: SYNs are looked at */
	for (uint32_t i = 0; i < 400; i++) {
		t.cx.now += 10 * NS_PER_MS;
		syn((uint16_t)(1000 + i));
	}
	CHECK_LE(tcb_at(&t.cx, l)->syn_count, 129);
	for (uint16_t p = 1; p <= 40; p++) {
		final_ack(p);
		CHECK_EQ(t.frame_count, 0); /* no reset */
		sock_accept(&t.cx, l);
	}
	CHECK_EQ(stack_counters(&t.cx)->tcp_passive_open, 40);
	finish();
}

/* All are connected, none is accepted: the new one has to wait. */
static void test_no_room_among_the_connected(void)
{
	start();
	ref l = listener(200);
	for (uint16_t p = 1; p <= 402; p++)
		syn(p);
	CHECK_EQ(tcb_at(&t.cx, l)->syn_count, 201);
	for (uint16_t p = 1; p <= 201; p++)
		tcb_at(&t.cx, l)->backlog = 0, final_ack(p);
	tcb_at(&t.cx, l)->backlog = 100;
	sock_accept(&t.cx, l);
	t.cx.now += 2 * NS_PER_S;
	uint64_t dropped = stack_counters(&t.cx)->tcp_listen_drop;
	syn(500);
	CHECK_EQ(stack_counters(&t.cx)->tcp_listen_drop, dropped + 1);
	CHECK_EQ(tcb_at(&t.cx, l)->syn_count, 200);
	finish();
}

/* RFC 9293 MUST-11: RST in SYN-RECEIVED: silently back to LISTEN; and nothing is left when the listener
 * closes. */
static void test_reset_and_close(void)
{
	start();
	ref l = listener(5);
	syn(1);
	deliver_from(1, 80, TH_RST, 5001, 0, 0);
	CHECK_EQ(tcb_at(&t.cx, l)->syn_count, 0);
	CHECK_EQ(t.frame_count, 0);
	syn(2);
	syn(3);
	final_ack(3);
	testcx_forget(&t);
	sock_close(&t.cx, l);
	CHECK_EQ(heard().flags & TH_RST, TH_RST); /* the one that was established */
	CHECK_EQ(pool_live(&t.cx, POOL_TCB), 0);
	finish();
}

/* A connection that was reset while it waited is still accepted, with its error (Linux). */
static void test_reset_in_queue(void)
{
	start();
	ref l = listener(5);
	syn(1);
	final_ack(1);
	deliver_from(1, 80, TH_RST, 5001, 0, 0);
	ref s = sock_accept(&t.cx, l);
	CHECK_FATAL(s != REF_NONE);
	uint8_t byte;
	struct iovec iov = {&byte, 1};
	CHECK_EQ(sock_recv(&t.cx, s, &iov, 1, 0), -ECONNRESET);
	CHECK_EQ(sock_recv(&t.cx, s, &iov, 1, 0), 0);
	sock_close(&t.cx, s);
	finish();
}

static void test_defer_accept(void)
{
	int v;

	start();
	ref l = listener(5);
	CHECK_EQ(sock_set_option(&t.cx, l, SOCK_OPT_DEFER_ACCEPT, 5), 0);
	sock_get_option(&t.cx, l, SOCK_OPT_DEFER_ACCEPT, &v);
	CHECK_EQ(v, 7);
	syn(1);
	final_ack(1);
	CHECK_EQ(sock_accept(&t.cx, l), REF_NONE);
	deliver_from(1, 80, TH_ACK, 5001, iss_of[1] + 1, 10);
	ref s = sock_accept(&t.cx, l);
	CHECK_FATAL(s != REF_NONE);
	CHECK_EQ(sock_get_option(&t.cx, s, SOCK_OPT_INQ, &v), 0);
	CHECK_EQ(v, 10);
	/* and one that never sends is delivered in the end */
	syn(2);
	final_ack(2);
	for (int i = 0; i < 8; i++) {
		t.cx.now += NS_PER_S;
		stack_advance(&t.cx);
	}
	final_ack(2);
	CHECK(sock_accept(&t.cx, l) != REF_NONE);
	finish();
}

static void test_addresses(void)
{
	start();
	struct endpoint foreign = {ipaddr_v4(10, 0, 0, 9), 80}, mine = our_end(80), zero = our_end(0);
	ref a = sock_create(&t.cx), b = sock_create(&t.cx);
	CHECK_EQ(sock_listen(&t.cx, a, &foreign, 1), -EADDRNOTAVAIL);
	CHECK_EQ(sock_listen(&t.cx, a, &zero, 1), -EINVAL);
	CHECK_EQ(sock_listen(&t.cx, a, &mine, 1), 0);
	CHECK_EQ(sock_listen(&t.cx, b, &mine, 1), -EADDRINUSE); /* MUST-41 */
	CHECK_EQ(sock_listen(&t.cx, a, &mine, 7), 0);
	CHECK_EQ(tcb_at(&t.cx, a)->backlog, 7);
	uint8_t byte;
	struct iovec iov = {&byte, 1};
	CHECK_EQ(sock_recv(&t.cx, a, &iov, 1, 0), -ENOTCONN);
	CHECK_EQ(sock_send(&t.cx, a, &iov, 1, 0), -EPIPE);
	CHECK_EQ(sock_connect(&t.cx, a, &mine, &foreign), -EISCONN);
	finish();
}

CHECK_MAIN("listen", {"accept(2) takes the oldest; an undelivered one comes again", test_order},
	   {"backlog: SYNs are dropped and final ACKs ignored while the accept queue is full", test_backlog},
	   {"RFC 4987: a SYN flood takes bounded memory", test_flood},
	   {"a peer that is connected is not pushed out by a flood", test_flood_spares_the_connected},
	   {"a SYN queue of connected peers has no room", test_no_room_among_the_connected},
	   {"MUST-11: RST in SYN-RECEIVED; closing a listener", test_reset_and_close},
	   {"a connection reset in the accept queue is accepted with its error", test_reset_in_queue},
	   {"TCP_DEFER_ACCEPT waits for data, not for ever", test_defer_accept},
	   {"addresses and verbs of a listener", test_addresses})
