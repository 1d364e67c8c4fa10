/* test_option.c - socket options at their limits, as Linux rounds, doubles and refuses. */
#include "core/send.h"
#include "tests/unit/segpeer.h"

static uint8_t bytes[65536];

static int set(ref s, enum sock_option o, int value)
{
	return sock_set_option(&t.cx, s, o, value);
}

/* The value; -1000 less the error if it cannot be had. */
static int get(ref s, enum sock_option o)
{
	int value = 0, err = sock_get_option(&t.cx, s, o, &value);

	return err ? -1000 + err : value;
}

static void expect(ref s, enum sock_option o, int value, int result)
{
	CHECK_MSG(set(s, o, value) == 0, "option %d refuses %d", (int)o, value);
	CHECK_MSG(get(s, o) == result, "option %d: %d gives %d, want %d", (int)o, value, get(s, o), result);
}

static int64_t put(ref s, uint64_t n)
{
	int64_t r = sock_send(&t.cx, s, &(struct iovec){bytes, n}, 1, 0);

	stack_flush(&t.cx);
	return r;
}

/* The least and the most that each takes, and one beyond; a refused value changes nothing. */
static void test_ranges(void)
{
	static const struct {
		enum sock_option o;
		int least, most, before;
	} r[] = {
	    {SOCK_OPT_KEEPIDLE, 1, 32767, 7200}, {SOCK_OPT_KEEPINTVL, 1, 32767, 75},
	    {SOCK_OPT_KEEPCNT, 1, 127, 9},	 {SOCK_OPT_SYNCNT, 1, 127, 6},
	    {SOCK_OPT_MAXSEG, 88, 32767, 536},	 {SOCK_OPT_TTL, 1, 255, 64},
	};

	start();
	for (size_t i = 0; i < ARRAY_LEN(r); i++) {
		ref s = sock_create(&t.cx);
		CHECK_EQ(get(s, r[i].o), r[i].before);
		CHECK_EQ(set(s, r[i].o, r[i].least - 1 ? r[i].least - 1 : -2), -EINVAL);
		CHECK_EQ(set(s, r[i].o, r[i].most + 1), -EINVAL);
		CHECK_EQ(get(s, r[i].o), r[i].before);
		expect(s, r[i].o, r[i].least, r[i].least);
		expect(s, r[i].o, r[i].most, r[i].most);
	}
	ref s = sock_create(&t.cx);
	CHECK_EQ(set(s, SOCK_OPT_TTL, 0), -EINVAL);
	CHECK_EQ(set(s, SOCK_OPT_KEEPCNT, 0), -EINVAL);
	expect(s, SOCK_OPT_TTL, 7, 7);
	expect(s, SOCK_OPT_TTL, -1, 64);
	expect(s, SOCK_OPT_MAXSEG, 1000, 1000);
	expect(s, SOCK_OPT_MAXSEG, 0, 536);
	CHECK_EQ(set(s, SOCK_OPT_USER_TIMEOUT, -1), -EINVAL);
	expect(s, SOCK_OPT_USER_TIMEOUT, INT32_MAX, INT32_MAX);
	expect(s, SOCK_OPT_USER_TIMEOUT, 0, 0);
	finish();
}

/* Doubled, with a floor and net.core's ceiling; a negative value is a large one. */
static void test_buffers(void)
{
	start();
	ref s = sock_create(&t.cx);
	CHECK_EQ(get(s, SOCK_OPT_RCVBUF), 131072);
	CHECK_EQ(get(s, SOCK_OPT_SNDBUF), 16384);
	expect(s, SOCK_OPT_RCVBUF, 0, 2304);
	expect(s, SOCK_OPT_RCVBUF, 1152, 2304);
	expect(s, SOCK_OPT_RCVBUF, 1153, 2306);
	expect(s, SOCK_OPT_RCVBUF, 212992, 425984);
	expect(s, SOCK_OPT_RCVBUF, 212993, 425984);
	expect(s, SOCK_OPT_RCVBUF, -1, 425984);
	expect(s, SOCK_OPT_RCVBUF, INT32_MIN, 425984);
	expect(s, SOCK_OPT_SNDBUF, 0, 4608);
	expect(s, SOCK_OPT_SNDBUF, 2305, 4610);
	expect(s, SOCK_OPT_SNDBUF, INT32_MAX, 425984);
	CHECK(tcb_at(&t.cx, s)->rcvbuf_locked);
	CHECK(tcb_at(&t.cx, s)->sndbuf_locked);
	finish();
}

/* Never more than the buffer can come to hold; 0 counts as 1; a larger one makes room. */
static void test_rcvlowat(void)
{
	start();
	ref s = sock_create(&t.cx);
	expect(s, SOCK_OPT_RCVLOWAT, 0, 1);
	expect(s, SOCK_OPT_RCVLOWAT, 100000, 100000);
	CHECK_EQ(get(s, SOCK_OPT_RCVBUF), 200000);
	expect(s, SOCK_OPT_RCVLOWAT, 1, 1);
	CHECK_EQ(get(s, SOCK_OPT_RCVBUF), 200000);
	expect(s, SOCK_OPT_RCVLOWAT, -1, 3 << 20);
	CHECK_EQ(set(s, SOCK_OPT_RCVBUF, 4000), 0);
	expect(s, SOCK_OPT_RCVLOWAT, 5000, 4000);
	CHECK_EQ(get(s, SOCK_OPT_RCVBUF), 8000);
	finish();
}

/* What is held becomes enough: readers are told. */
static void test_rcvlowat_wakes(void)
{
	uint32_t iss, edges;

	start();
	ref s = accepted(&iss);
	CHECK_EQ(set(s, SOCK_OPT_RCVLOWAT, 20), 0);
	deliver(TH_ACK, 5001, iss + 1, 10);
	CHECK(!(sock_events(&t.cx, s) & SOCK_IN));
	while (sock_next_edge(&t.cx, &edges))
		;
	CHECK_EQ(set(s, SOCK_OPT_RCVLOWAT, 11), 0);
	CHECK_EQ(sock_next_edge(&t.cx, &edges), REF_NONE);
	CHECK_EQ(set(s, SOCK_OPT_RCVLOWAT, 10), 0);
	CHECK_EQ(sock_next_edge(&t.cx, &edges), s);
	CHECK_EQ(edges, SOCK_IN);
	finish();
}

/* Seconds become retransmissions of the SYN-ACK, and those seconds again. */
static void test_defer_accept(void)
{
	static const int pairs[][2] = {
	    {-1, 0},	{0, 0},	    {1, 1},	    {2, 3},	    {3, 3},
	    {4, 7},	{63, 63},   {64, 127},	    {127, 127},	    {128, 247},
	    {247, 247}, {248, 367}, {29887, 29887}, {29888, 29887}, {INT32_MAX, 29887}};

	start();
	ref s = sock_create(&t.cx);
	for (size_t i = 0; i < ARRAY_LEN(pairs); i++)
		expect(s, SOCK_OPT_DEFER_ACCEPT, pairs[i][0], pairs[i][1]);
	finish();
}

static void test_others(void)
{
	static const enum sock_option flags[] = {SOCK_OPT_NODELAY,   SOCK_OPT_CORK,	 SOCK_OPT_KEEPALIVE,
						 SOCK_OPT_OOBINLINE, SOCK_OPT_REUSEADDR, SOCK_OPT_REUSEPORT,
						 SOCK_OPT_V6ONLY};

	start();
	ref s = sock_create(&t.cx);
	for (size_t i = 0; i < ARRAY_LEN(flags); i++) {
		CHECK_EQ(get(s, flags[i]), 0); /* MUST-25 among them */
		expect(s, flags[i], -7, 1);
		expect(s, flags[i], 0, 0);
	}
	CHECK_EQ(get(s, SOCK_OPT_LINGER2), 60);
	expect(s, SOCK_OPT_LINGER2, 120, 120);
	expect(s, SOCK_OPT_LINGER2, 121, 120);
	expect(s, SOCK_OPT_LINGER2, -5, -1);
	expect(s, SOCK_OPT_LINGER2, 0, 60); /* the stack's again */
	CHECK_EQ(get(s, SOCK_OPT_LINGER), -1);
	expect(s, SOCK_OPT_LINGER, 0, 0);
	expect(s, SOCK_OPT_LINGER, -9, -1);
	expect(s, SOCK_OPT_CC, STACK_CC_RENO, STACK_CC_RENO);
	CHECK_EQ(set(s, SOCK_OPT_CC, STACK_CC_COUNT), -ENOENT);
	CHECK_EQ(set(s, SOCK_OPT_CC, -1), -ENOENT);
	CHECK_EQ(get(s, SOCK_OPT_CC), STACK_CC_RENO);
	expect(s, SOCK_OPT_WINDOW_CLAMP, 1, 1152);
	expect(s, SOCK_OPT_WINDOW_CLAMP, 5000, 5000);
	expect(s, SOCK_OPT_WINDOW_CLAMP, 0, 0);
	expect(s, SOCK_OPT_WINDOW_CLAMP, -1, 1152);
	CHECK_EQ(set(s, SOCK_OPT_SNDBUFFORCE, 300000), 0);
	CHECK_EQ(get(s, SOCK_OPT_SNDBUF), 600000);
	CHECK_EQ(set(s, SOCK_OPT_RCVBUFFORCE, INT32_MAX), 0);
	CHECK_EQ(get(s, SOCK_OPT_RCVBUF), INT32_MAX - 1);
	expect(s, SOCK_OPT_NOTSENT_LOWAT, 4096, 4096);
	finish();
}

/* The application has the DSCP, TCP the two bits below. */
static void test_tos(void)
{
	start();
	ref s = sock_create(&t.cx);
	expect(s, SOCK_OPT_TOS, 0xff, 0xfc);
	tcb_at(&t.cx, s)->tos = 2;
	expect(s, SOCK_OPT_TOS, 0x1b9, 0xba);
	finish();
}

/* Unknown, or only to be read, or not of this state. */
static void test_refused(void)
{
	uint32_t iss;

	start();
	ref s = sock_create(&t.cx);
	static const enum sock_option read_only[] = {SOCK_OPT_ACCEPTCONN, SOCK_OPT_INQ,	   SOCK_OPT_OUTQ,
						     SOCK_OPT_OUTQNSD,	  SOCK_OPT_ATMARK, SOCK_OPT_ACCEPTQ,
						     SOCK_OPT_COUNT};
	for (size_t i = 0; i < ARRAY_LEN(read_only); i++)
		CHECK_EQ(set(s, read_only[i], 1), -ENOPROTOOPT);
	CHECK_EQ(get(s, SOCK_OPT_COUNT), -1000 - ENOPROTOOPT);
	CHECK_EQ(get(s, SOCK_OPT_ACCEPTCONN), 0);
	ref c = accepted(&iss), l = tcb_at(&t.cx, c)->listener;
	CHECK_EQ(l, REF_NONE);
	for (l = sock_next(&t.cx, REF_NONE); l && state_at(l) != TCPS_LISTEN;)
		l = sock_next(&t.cx, l);
	CHECK_EQ(get(l, SOCK_OPT_ACCEPTCONN), 1);
	CHECK_EQ(get(l, SOCK_OPT_INQ), -1000 - EINVAL);
	CHECK_EQ(get(l, SOCK_OPT_OUTQ), -1000 - EINVAL);
	CHECK_EQ(get(l, SOCK_OPT_OUTQNSD), -1000 - EINVAL);
	CHECK_EQ(get(l, SOCK_OPT_ACCEPTQ), 0);
	deliver_from(4001, 80, TH_SYN, 5000, 0, 0);
	uint32_t second = heard().seq.v;
	deliver_from(4001, 80, TH_ACK, 5001, second + 1, 0);
	CHECK_EQ(get(l, SOCK_OPT_ACCEPTQ), 1);
	CHECK_EQ(get(c, SOCK_OPT_ACCEPTQ), 0);
	CHECK_EQ(set(c, SOCK_OPT_WINDOW_CLAMP, 0), -EINVAL); /* Linux: only of a closed one */
	finish();
}

/* SIOCINQ, SIOCOUTQ, SIOCOUTQNSD, SIOCATMARK. */
static void test_queues(void)
{
	uint32_t iss;

	start();
	ref s = accepted(&iss);
	struct tcb *c = tcb_at(&t.cx, s);
	deliver(TH_ACK, 5001, iss + 1, 10);
	CHECK_EQ(get(s, SOCK_OPT_INQ), 10);
	c->urg_in = true;
	c->rcv_up = seq_of(5001 + 4);
	CHECK_EQ(get(s, SOCK_OPT_INQ), 4); /* up to the mark */
	CHECK_EQ(get(s, SOCK_OPT_ATMARK), 0);
	c->oobinline = true;
	CHECK_EQ(get(s, SOCK_OPT_INQ), 10);
	c->rcv_up = seq_of(5001);
	CHECK_EQ(get(s, SOCK_OPT_ATMARK), 1); /* MUST-33 */
	c->urg_in = false;
	deliver(TH_FIN | TH_ACK, 5011, iss + 1, 0);
	CHECK_EQ(get(s, SOCK_OPT_INQ), 10); /* a FIN is no byte */
	c->cwnd = 1460;
	CHECK_EQ(put(s, 5000), 5000);
	CHECK_EQ(get(s, SOCK_OPT_OUTQ), 5000);
	CHECK_EQ(get(s, SOCK_OPT_OUTQNSD), 3540);
	CHECK_EQ(sock_shutdown(&t.cx, s, 1), 0);
	CHECK_EQ(get(s, SOCK_OPT_OUTQ), 5001); /* and here it is one */
	CHECK_EQ(get(s, SOCK_OPT_OUTQNSD), 3541);
	deliver(TH_ACK, 5012, iss + 1461, 0);
	CHECK_EQ(get(s, SOCK_OPT_OUTQ), 3541);
	finish();
}

/* Linux: an even value sends the ACK that waits and goes back; without one it is quick mode as 1 is. */
static void test_quickack(void)
{
	uint32_t iss;

	start();
	ref s = accepted(&iss);
	struct tcb *c = tcb_at(&t.cx, s);
	expect(s, SOCK_OPT_QUICKACK, 0, 0);
	expect(s, SOCK_OPT_QUICKACK, 1, 1);
	expect(s, SOCK_OPT_QUICKACK, 0, 0);
	CHECK(!c->ack_pending);
	expect(s, SOCK_OPT_QUICKACK, 2, 1);
	for (int value = 1; value <= 2; value++) {
		CHECK_EQ(set(s, SOCK_OPT_QUICKACK, 0), 0);
		deliver(TH_ACK, c->rcv_nxt.v, iss + 1, 10);
		testcx_forget(&t);
		CHECK(c->ack_pending);
		CHECK_EQ(set(s, SOCK_OPT_QUICKACK, value), 0);
		CHECK_EQ(t.frame_count, 1);
		CHECK_EQ(heard().ack.v, c->rcv_nxt.v);
		CHECK(!c->ack_pending);
		CHECK_EQ(get(s, SOCK_OPT_QUICKACK), value & 1);
	}
	finish();
}

/* What a change does to a connection at once. */
static void test_at_once(void)
{
	uint32_t iss;

	start();
	ref s = accepted(&iss);
	struct tcb *c = tcb_at(&t.cx, s);
	CHECK_EQ(get(s, SOCK_OPT_MAXSEG), 1460);
	CHECK_EQ(put(s, 10), 10);
	CHECK_EQ(put(s, 10), 10); /* Nagle holds it */
	CHECK_EQ(t.frame_count, 1);
	CHECK_EQ(set(s, SOCK_OPT_NODELAY, 1), 0); /* MUST-17 */
	CHECK_EQ(t.frame_count, 2);
	CHECK_EQ(set(s, SOCK_OPT_CORK, 1), 0);
	CHECK_EQ(put(s, 10), 10);
	CHECK_EQ(t.frame_count, 2);
	CHECK_EQ(set(s, SOCK_OPT_CORK, 0), 0);
	CHECK_EQ(t.frame_count, 3);
	CHECK(c->timer[TIMER_KEEPALIVE] == NSEC_NEVER);
	CHECK_EQ(set(s, SOCK_OPT_KEEPALIVE, 1), 0); /* MUST-24, MUST-27 */
	CHECK_EQ(c->timer[TIMER_KEEPALIVE], t.cx.now + 7200 * NS_PER_S);
	CHECK_EQ(set(s, SOCK_OPT_KEEPIDLE, 5), 0);
	CHECK_EQ(c->timer[TIMER_KEEPALIVE], t.cx.now + 5 * NS_PER_S);
	CHECK_EQ(set(s, SOCK_OPT_KEEPIDLE, 0), -EINVAL);
	CHECK_EQ(c->timer[TIMER_KEEPALIVE], t.cx.now + 5 * NS_PER_S);
	CHECK_EQ(set(s, SOCK_OPT_KEEPALIVE, 0), 0);
	CHECK(c->timer[TIMER_KEEPALIVE] == NSEC_NEVER);
	c->ccs.words[0] = 7;
	CHECK_EQ(set(s, SOCK_OPT_CC, c->cc), 0);
	CHECK_EQ(c->ccs.words[0], 7); /* no change, no new start */
	finish();
}

CHECK_MAIN("option", {"MUST-49: ranges", test_ranges}, {"SO_RCVBUF and SO_SNDBUF", test_buffers},
	   {"SO_RCVLOWAT is bounded and makes room", test_rcvlowat},
	   {"SO_RCVLOWAT wakes", test_rcvlowat_wakes}, {"TCP_DEFER_ACCEPT in steps", test_defer_accept},
	   {"MUST-25: flags and the rest", test_others}, {"MUST-48: the DSCP, not the ECN bits", test_tos},
	   {"what is refused", test_refused}, {"MUST-33: the queues' lengths and the mark", test_queues},
	   {"TCP_QUICKACK", test_quickack},
	   {"MUST-17, MUST-24, MUST-27: a change acts at once", test_at_once})
