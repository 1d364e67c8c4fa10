/* test_rcvbuf.c - the window we offer. */
#include "tests/unit/segpeer.h"

static uint8_t sink[1 << 20];

static int64_t take(ref s, uint64_t n)
{
	struct iovec iov = {sink, n};

	return sock_recv(&t.cx, s, &iov, 1, 0);
}

/* Linux's first window on Ethernet, and its scale for 6 MiB. */
static void test_first_window(void)
{
	start();
	struct endpoint any = {0}, to = peer_end(4000);
	ref s = sock_create(&t.cx);
	CHECK_EQ(sock_connect(&t.cx, s, &any, &to), -EINPROGRESS);
	struct segment syn = heard();
	CHECK_EQ(syn.wnd, 64240);
	CHECK_EQ(syn.wscale, 7);
	CHECK_EQ(syn.mss, 1460);
	finish();
}

/* SHLD-14: whatever arrives and is read, ACK + window never moves left; and the peer may use all of it. */
static void test_edge_never_moves_left(void)
{
	uint32_t iss, next = 5001, edge = 0;

	start();
	ref s = accepted(&iss);
	for (int i = 0; i < 20000; i++) {
		struct tcb *c = tcb_at(&t.cx, s);
		if (rng_below(&t.cx, 3)) {
			uint32_t len = 1 + rng_below(&t.cx, 1460);
			len = MIN_OF(len, rcv_window_now(c));
			if (len) {
				deliver(TH_ACK, next, iss + 1, len);
				next += len;
				CHECK_EQ(c->rcv_nxt.v, next);
			}
		} else {
			take(s, rng_below(&t.cx, 2400));
		}
		if (!t.frame_count)
			continue;
		struct segment a = heard();
		if (edge)
			CHECK_GE((int32_t)(a.ack.v + a.wnd - edge), 0);
		edge = a.ack.v + a.wnd;
	}
	CHECK_GT(stack_counters(&t.cx)->tcp_zero_window, 0);
	finish();
}

/* MUST-39: a reader of single bytes opens the window by whole segments only. */
static void test_no_crumbs(void)
{
	uint32_t iss, next = 5001, updates = 0;

	start();
	ref s = accepted(&iss);
	struct tcb *c = tcb_at(&t.cx, s);
	for (uint32_t n; (n = MIN_OF(rcv_window_now(c), 1460u)) != 0; next += n)
		deliver(TH_ACK, next, iss + 1, n);
	CHECK_EQ(heard().wnd, 0);
	for (int i = 0; i < 20000; i++) {
		CHECK_EQ(take(s, 1), 1);
		if (!t.frame_count)
			continue;
		CHECK_GE(heard().wnd, 1460);
		updates++;
	}
	CHECK_GT(updates, 0);
	CHECK_LE(updates, 14);
	finish();
}

/* A reader that keeps up with a fast peer gets a larger buffer; SO_RCVBUF switches that off. */
static uint32_t limit_after_bulk(bool locked)
{
	uint32_t iss, next = 5001;

	start();
	ref s = accepted(&iss);
	struct tcb *c = tcb_at(&t.cx, s);
	if (locked)
		sock_set_option(&t.cx, s, SOCK_OPT_RCVBUF, 65536);
	for (int round = 0; round < 60; round++) {
		t.cx.now += 20 * NS_PER_MS;
		for (uint32_t left = rcv_window_now(c), n; (n = MIN_OF(left, 1460u)) != 0;
		     next += n, left -= n)
			deliver(TH_ACK, next, iss + 1, n);
		while (take(s, sizeof sink) > 0)
			;
		testcx_forget(&t);
	}
	uint32_t limit = c->rcvbuf_limit;
	finish();
	return limit;
}

static void test_tuning(void)
{
	CHECK_GT(limit_after_bulk(false), 131072);
	CHECK_EQ(limit_after_bulk(true), 131072);
}

/* setsockopt's arithmetic: doubled, at least 2304, at most twice rmem_max. */
static void test_option(void)
{
	int v = 0;

	start();
	ref s = sock_create(&t.cx);
	sock_get_option(&t.cx, s, SOCK_OPT_RCVBUF, &v);
	CHECK_EQ(v, 131072);
	static const int pairs[][2] = {{1, 2304}, {4096, 8192}, {1 << 30, 425984}};
	for (unsigned i = 0; i < ARRAY_LEN(pairs); i++) {
		sock_set_option(&t.cx, s, SOCK_OPT_RCVBUF, pairs[i][0]);
		sock_get_option(&t.cx, s, SOCK_OPT_RCVBUF, &v);
		CHECK_EQ(v, pairs[i][1]);
	}
	finish();
}

CHECK_MAIN("rcvbuf", {"the first window and its scale are Linux's", test_first_window},
	   {"SHLD-14: the right edge never moves left", test_edge_never_moves_left},
	   {"MUST-39: no crumbs of window for a reader of single bytes", test_no_crumbs},
	   {"the limit follows what is read, unless SO_RCVBUF fixed it", test_tuning},
	   {"SO_RCVBUF is doubled and bounded", test_option})
