/* test_edges.c - readiness: the queue of edges, and the levels at their boundaries. */
#include "tests/unit/segpeer.h"

static uint8_t bytes[65536];

static void drain(void)
{
	uint32_t e;

	while (sock_next_edge(&t.cx, &e))
		;
}

/* Oldest first, each socket once with all its bits, again after it was taken. */
static void test_queue(void)
{
	uint32_t e = 99;

	start();
	ref a = sock_create(&t.cx), b = sock_create(&t.cx);
	CHECK_EQ(sock_next_edge(&t.cx, &e), REF_NONE);
	CHECK_EQ(e, 99);
	sock_signal(&t.cx, tcb_of(b), SOCK_OUT);
	sock_signal(&t.cx, tcb_of(a), SOCK_IN);
	sock_signal(&t.cx, tcb_of(b), SOCK_PRI);
	CHECK_EQ(sock_next_edge(&t.cx, &e), b);
	CHECK_EQ(e, SOCK_OUT | SOCK_PRI);
	sock_signal(&t.cx, tcb_of(b), SOCK_HUP); /* behind a now */
	CHECK_EQ(sock_next_edge(&t.cx, &e), a);
	CHECK_EQ(e, SOCK_IN);
	CHECK_EQ(sock_next_edge(&t.cx, &e), b);
	CHECK_EQ(e, SOCK_HUP);
	CHECK_EQ(sock_next_edge(&t.cx, &e), REF_NONE);
	finish();
}

/* A socket that goes takes its edge along, from any place of the queue; the end of it stays sound. */
static void test_closed_in_queue(void)
{
	for (int gone = 0; gone < 3; gone++) {
		ref s[3];
		uint32_t e;

		start();
		for (int i = 0; i < 3; i++) {
			s[i] = sock_create(&t.cx);
			sock_signal(&t.cx, tcb_of(s[i]), SOCK_IN);
		}
		sock_close(&t.cx, s[gone]);
		ref late = sock_create(&t.cx); /* takes the memory over: it must owe nothing */
		sock_signal(&t.cx, tcb_of(late), SOCK_OUT);
		for (int i = 0; i < 3; i++)
			if (i != gone)
				CHECK_EQ(sock_next_edge(&t.cx, &e), s[i]);
		CHECK_EQ(sock_next_edge(&t.cx, &e), late);
		CHECK_EQ(e, SOCK_OUT);
		CHECK_EQ(sock_next_edge(&t.cx, &e), REF_NONE);
		finish();
	}
}

/* Nobody holds an orphan or what waits in the accept queue: no edges; the listener has one. */
static void test_unowned(void)
{
	uint32_t e, iss;
	uint16_t port;

	start();
	ref l = listener(5);
	deliver(TH_SYN, 5000, 0, 0);
	iss = heard().seq.v;
	CHECK_EQ(sock_events(&t.cx, l), 0);
	deliver(TH_ACK, 5001, iss + 1, 10);
	CHECK_EQ(sock_next_edge(&t.cx, &e), l);
	CHECK_EQ(sock_next_edge(&t.cx, &e), REF_NONE);
	CHECK_EQ(sock_events(&t.cx, l), SOCK_IN);
	ref child = sock_accept(&t.cx, l);
	CHECK_EQ(sock_events(&t.cx, l), 0);
	CHECK_EQ(sock_events(&t.cx, child), SOCK_IN | SOCK_OUT); /* the level has it */
	deliver(TH_ACK, 5011, iss + 1, 10);
	CHECK_EQ(sock_next_edge(&t.cx, &e), child);
	ref o = connected(&iss, &port);
	drain();
	sock_close(&t.cx, o);
	deliver_from(4000, port, TH_ACK, 5001, iss + 2, 0);
	CHECK_EQ(tcb_of(o)->orphan, true);
	CHECK_EQ(sock_next_edge(&t.cx, &e), REF_NONE);
	finish();
}

/* SO_RCVLOWAT: level and edge at exactly that many octets. */
static void test_low_mark(void)
{
	uint32_t iss, e;

	start();
	ref s = accepted(&iss);
	CHECK_EQ(sock_set_option(&t.cx, s, SOCK_OPT_RCVLOWAT, 100), 0);
	drain();
	deliver(TH_ACK, 5001, iss + 1, 99);
	CHECK_EQ(sock_next_edge(&t.cx, &e), REF_NONE);
	CHECK_EQ(sock_events(&t.cx, s), SOCK_OUT);
	deliver(TH_ACK, 5100, iss + 1, 1);
	CHECK_EQ(sock_next_edge(&t.cx, &e), s);
	CHECK(e & SOCK_IN);
	CHECK_EQ(sock_events(&t.cx, s), SOCK_IN | SOCK_OUT);
	struct iovec one = {bytes, 1};
	CHECK_EQ(sock_recv(&t.cx, s, &one, 1, 0), 1);
	CHECK_EQ(sock_events(&t.cx, s), SOCK_OUT);
	/* the peer cannot send enough: what is there must do, and so it must under memory pressure */
	struct tcb *c = tcb_of(s);
	seq32 edge = c->rcv_adv;
	c->rcv_adv = seq_add(c->rcv_nxt, c->rcv_mss + 1);
	CHECK_EQ(sock_events(&t.cx, s), SOCK_OUT);
	c->rcv_adv = seq_add(c->rcv_nxt, c->rcv_mss);
	CHECK_EQ(sock_events(&t.cx, s), SOCK_IN | SOCK_OUT);
	c->rcv_adv = edge;
	stack_of(&t.cx)->mem_limit = stack_buffer_bytes(&t.cx) / 3 * 4;
	CHECK_EQ(sock_events(&t.cx, s), SOCK_OUT);
	stack_of(&t.cx)->mem_limit -= 4;
	CHECK_EQ(sock_events(&t.cx, s), SOCK_IN | SOCK_OUT);
	finish();
}

/* Linux's rule of a third: free room is at least half of what is queued. OUT edges only for who was refused.
 */
static void test_writable(void)
{
	uint32_t iss, e;

	start();
	ref s = accepted(&iss);
	struct tcb *c = tcb_of(s);
	c->sndbuf_limit = 30000;
	c->sndbuf_locked = true;
	c->snd_wnd = 0;
	struct iovec iov = {bytes, 20000};
	CHECK_EQ(sock_send(&t.cx, s, &iov, 1, 0), 20000);
	CHECK_EQ(sock_events(&t.cx, s), SOCK_OUT);
	CHECK(!c->nospace);
	iov.iov_len = 2;
	CHECK_EQ(sock_send(&t.cx, s, &iov, 1, 0), 2); /* 20002 queued, 9998 free */
	drain();
	CHECK(!c->nospace);
	CHECK_EQ(sock_events(&t.cx, s), 0);
	CHECK(c->nospace); /* who asked and was told no is owed an edge */
	deliver(TH_ACK, 5001, iss + 1, 0);
	stack_flush(&t.cx);
	CHECK_EQ(sock_next_edge(&t.cx, &e), REF_NONE);
	uint32_t sent = c->snd_nxt.v - iss - 1;
	CHECK_GT(sent, 1);
	deliver(TH_ACK, 5001, iss + 1 + sent, 0);
	CHECK_EQ(sock_next_edge(&t.cx, &e), s);
	CHECK_EQ(e, SOCK_OUT | SOCK_TOLD_OUT);
	sent = c->snd_nxt.v - iss - 1;
	deliver(TH_ACK, 5001, iss + 1 + sent, 0);
	CHECK_EQ(sock_next_edge(&t.cx, &e), REF_NONE); /* once */
	finish();
}

/* MUST-32: the urgent byte at the front is no part of the stream: it alone makes nothing readable. */
static void test_urgent(void)
{
	uint32_t iss;

	start();
	ref s = accepted(&iss);
	struct segment g = segment_from(4000, 80, TH_ACK | TH_URG, 5001, iss + 1, 1);
	g.urg = 1;
	deliver_segment(g);
	CHECK_EQ(sock_events(&t.cx, s), SOCK_OUT | SOCK_PRI);
	CHECK_EQ(sock_set_option(&t.cx, s, SOCK_OPT_OOBINLINE, 1), 0);
	CHECK(sock_events(&t.cx, s) & SOCK_IN);
	CHECK_EQ(sock_set_option(&t.cx, s, SOCK_OPT_OOBINLINE, 0), 0);
	deliver(TH_ACK, 5002, iss + 1, 1);
	CHECK_EQ(sock_events(&t.cx, s), SOCK_IN | SOCK_OUT | SOCK_PRI);
	finish();
}

/* What the halves and the states show (Linux's tcp_poll). */
static void test_levels(void)
{
	uint32_t iss;
	uint16_t port;
	struct endpoint any = {0}, to = peer_end(4001);

	start();
	ref s = sock_create(&t.cx);
	CHECK_EQ(sock_events(&t.cx, s), SOCK_OUT | SOCK_HUP);
	CHECK_EQ(sock_connect(&t.cx, s, &any, &to), -EINPROGRESS);
	CHECK_EQ(sock_events(&t.cx, s), 0);
	CHECK(!tcb_of(s)->nospace); /* connecting owes no OUT by this: the outcome signals everything */
	tcb_of(s)->so_error = ETIMEDOUT;
	CHECK_EQ(sock_events(&t.cx, s), SOCK_ERR);
	s = connected(&iss, &port);
	CHECK_EQ(sock_events(&t.cx, s), SOCK_OUT);
	CHECK_EQ(sock_shutdown(&t.cx, s, 0), 0);
	CHECK_EQ(sock_events(&t.cx, s), SOCK_IN | SOCK_OUT | SOCK_RDHUP);
	CHECK_EQ(sock_shutdown(&t.cx, s, 1), 0);
	CHECK_EQ(sock_events(&t.cx, s), SOCK_IN | SOCK_OUT | SOCK_RDHUP | SOCK_HUP);
	finish();
}

static void test_user_words(void)
{
	start();
	ref a = sock_create(&t.cx), b = sock_create(&t.cx);
	for (uint32_t i = 0; i < 4; i++) {
		CHECK_EQ(sock_user(&t.cx, a)[i], 0);
		sock_user(&t.cx, a)[i] = i + 1;
	}
	CHECK_EQ(sock_user(&t.cx, b)[0], 0);
	CHECK_EQ(sock_user(&t.cx, a)[3], 4);
	sock_close(&t.cx, a);
	a = sock_create(&t.cx); /* the same memory */
	for (uint32_t i = 0; i < 4; i++)
		CHECK_EQ(sock_user(&t.cx, a)[i], 0);
	finish();
}

CHECK_MAIN("edges", {"the queue: oldest first, each once", test_queue},
	   {"a closed socket leaves the queue", test_closed_in_queue},
	   {"orphans and the accept queue have no edges", test_unowned},
	   {"SO_RCVLOWAT to the octet", test_low_mark}, {"writable: a third is free", test_writable},
	   {"MUST-32: the urgent byte", test_urgent}, {"levels by state", test_levels},
	   {"the caller's words are zero at birth", test_user_words})
