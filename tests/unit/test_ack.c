/* test_ack.c - when an ACK leaves: quick-ack phase, delay, challenge limits; every time to the nanosecond. */
#include "tests/unit/segpeer.h"

#define MS NS_PER_MS

static uint32_t iss, at; /* ours; the peer's next octet */

static ref begin(void)
{
	start();
	at = 5001;
	return accepted(&iss);
}
/* len octets in order; how many frames answered. */
static uint32_t data(uint32_t len, uint8_t flags)
{
	testcx_forget(&t);
	deliver(TH_ACK | flags, at, iss + 1, len);
	at += len;
	return t.frame_count;
}
/* As data(), for a connection that is past its quick-ack phase and has measured full segments of 1460. */
static ref begin_delayed(void)
{
	ref s = begin();

	data(1460, 0);
	data(1460, 0);
	tcb_of(s)->quickack = 0;
	CHECK_EQ(tcb_of(s)->rcv_mss, 1460);
	CHECK_EQ(tcb_of(s)->ato_ms, 40);
	return s;
}

static void test_rate_limit(void)
{
	nsec last = NSEC_NEVER;

	testcx_start(&t);
	t.cx.now = 0; /* a valid time like any other */
	CHECK(!ack_limited(&t.cx, &last));
	CHECK(ack_limited(&t.cx, &last));
	t.cx.now = OOW_ACK_INTERVAL - 1;
	CHECK(ack_limited(&t.cx, &last)); /* and what is refused does not extend the silence */
	t.cx.now = OOW_ACK_INTERVAL;
	CHECK(!ack_limited(&t.cx, &last));
	CHECK_EQ(last, OOW_ACK_INTERVAL);
	testcx_close(&t);
}

/* Sixteen answers at once, then the delay: 40 ms, and the ACK is the timer's. */
static void test_quick_phase(void)
{
	ref s = begin();

	for (int i = 0; i < 16; i++) {
		CHECK_EQ(data(100, 0), 1);
		t.cx.now += MS;
	}
	CHECK_EQ(data(100, 0), 0);
	nsec due = t.cx.now + 40 * MS;
	CHECK_EQ(tcb_of(s)->timer[TIMER_DELACK], due);
	t.cx.now = due - 1;
	stack_advance(&t.cx);
	CHECK_EQ(t.frame_count, 0);
	t.cx.now = due;
	stack_advance(&t.cx);
	CHECK_EQ(heard().ack.v, at);
	CHECK_EQ(stack_counters(&t.cx)->tcp_delayed_ack, 1);
	CHECK_EQ(tcb_of(s)->ato_ms, 80); /* nothing came to ride on: longer next time */
	finish();
}

/* SHLD-19: one octet more than a full segment is the boundary. */
static void test_second_segment(void)
{
	begin_delayed();
	CHECK_EQ(data(1460, 0), 0);
	CHECK_EQ(data(1, 0), 1);
	CHECK_EQ(data(730, 0), 0);
	CHECK_EQ(data(730, 0), 0);
	CHECK_EQ(data(1, 0), 1);
	CHECK_EQ(heard().ack.v, at);
	finish();
}

/* The delay follows the pace of arrival; a pause longer than the RTO is a new start. */
static void test_pace(void)
{
	static const struct {
		uint32_t ato, want;
		nsec gap;
		uint8_t quick;
	} row[] = {
	    {80, 60, 20 * MS, 0},	      /* up to half the minimum: towards it */
	    {80, 60, 20 * MS + 1, 0},	      /* more: half of the old, and the gap in ms */
	    {60, 50, 20 * MS + 1, 0},	      /* the same rule, another value */
	    {60, 89, 60 * MS - 1, 0},	      /* just below the old delay */
	    {60, 60, 60 * MS, 0},	      /* no faster than that: no news */
	    {60, 60, 0 /* the RTO */, 0},     /* still none */
	    {60, 60, 1 /* the RTO + 1 */, 16} /* the peer's window is small again */
	};
	ref s = begin_delayed();

	for (unsigned i = 0; i < ARRAY_LEN(row); i++) {
		struct tcb *c = tcb_of(s);

		c->ato_ms = row[i].ato;
		c->quickack = 0;
		c->rcv_mss = 1460;
		t.cx.now += row[i].gap < MS ? c->rto_ns + row[i].gap : row[i].gap;
		data(1, 0);
		CHECK_MSG(c->ato_ms == row[i].want, "row %u: ato %u", i, c->ato_ms);
		/* one of a new phase was spent by the answer */
		CHECK_MSG(c->quickack == (row[i].quick ? row[i].quick - 1 : 0), "row %u: quick %u", i,
			  c->quickack);
		ack_sent(&t.cx, c);
		c->quickack = 0;
	}
	finish();
}

/* A waiting ACK keeps its deadline; with less than a quarter of the delay left it leaves at once. */
static void test_deadline(void)
{
	ref s = begin_delayed();

	CHECK_EQ(data(10, 0), 0);
	nsec due = t.cx.now + 40 * MS;
	CHECK_EQ(tcb_of(s)->timer[TIMER_DELACK], due);
	t.cx.now = due - 10 * MS - 1;
	CHECK_EQ(data(10, 0), 0);
	CHECK_EQ(tcb_of(s)->timer[TIMER_DELACK], due); /* SHLD-18: no arrival puts it off */
	t.cx.now = due - 10 * MS;
	CHECK_EQ(data(10, 0), 1);
	CHECK_EQ(tcb_of(s)->timer[TIMER_DELACK], NSEC_NEVER);
	finish();
}

/* MUST-40: however long the measured delay, an ACK waits 200 ms at most. */
static void test_longest_delay(void)
{
	ref s = begin_delayed();
	struct tcb *c = tcb_of(s);

	c->srtt_ns = 400 * MS;
	c->rto_ns = 600 * MS;
	c->ato_ms = 450;
	t.cx.now += 500 * MS; /* slower than the delay, faster than the RTO: both stay */
	CHECK_EQ(data(10, 0), 0);
	CHECK_EQ(c->timer[TIMER_DELACK], t.cx.now + 200 * MS);
	finish();
}

/* An interactive connection waits even in the quick-ack phase; the timer ends that. */
static void test_pingpong(void)
{
	ref s = begin_delayed();
	struct tcb *c = tcb_of(s);

	c->pingpong = true;
	c->quickack = 16;
	c->ato_ms = 100;
	CHECK_EQ(data(10, 0), 0);
	t.cx.now = c->timer[TIMER_DELACK];
	stack_advance(&t.cx);
	CHECK_EQ(t.frame_count, 1);
	CHECK(!c->pingpong);
	CHECK_EQ(c->ato_ms, 40);
	CHECK_EQ(data(10, 0), 1); /* what the phase has left counts again */
	finish();
}

static uint64_t challenges_in_a_second(ref s)
{
	uint64_t before = stack_counters(&t.cx)->tcp_challenge_ack;

	for (int i = 0; i < 2000; i++) {
		tcb_of(s)->challenge_last = NSEC_NEVER; /* as if it was another connection each time */
		ack_challenge(&t.cx, tcb_of(s));
	}
	return stack_counters(&t.cx)->tcp_challenge_ack - before;
}

/* RFC 5961 7 and CVE-2016-5696: half a second for each, and a stack-wide number that nobody can know. */
static void test_challenges(void)
{
	ref s = begin();
	uint64_t sum = 0;

	testcx_forget(&t);
	ack_challenge(&t.cx, tcb_of(s));
	ack_challenge(&t.cx, tcb_of(s));
	CHECK_EQ(t.frame_count, 1);
	CHECK_EQ(stack_counters(&t.cx)->tcp_challenge_limited, 1);
	nsec began = t.cx.now;
	uint64_t first = 1 + challenges_in_a_second(s);
	CHECK(first >= 500 && first < 1500);
	t.cx.now = began + NS_PER_S - 1;
	CHECK_EQ(challenges_in_a_second(s), 0);
	bool differ = false;
	for (int i = 1; i <= 8; i++) {
		t.cx.now = began + (nsec)i * NS_PER_S;
		uint64_t n = challenges_in_a_second(s);
		CHECK(n >= 500 && n < 1500);
		differ |= n != first;
		sum += n;
	}
	CHECK(differ);
	CHECK_EQ(stack_counters(&t.cx)->tcp_challenge_ack, first + sum);
	finish();
}

/* A read sends the ACK that waits for it: only with the buffer empty behind a pushed segment. */
static void test_read(void)
{
	static uint8_t bytes[4096];
	ref s = begin_delayed();
	struct iovec some = {bytes, 2000}, rest = {bytes, sizeof bytes};

	CHECK_EQ(data(100, TH_PSH), 0);
	CHECK_EQ(sock_recv(&t.cx, s, &some, 1, 0), 2000);
	stack_flush(&t.cx);
	CHECK_EQ(t.frame_count, 0);
	CHECK_EQ(sock_recv(&t.cx, s, &rest, 1, 0), 2920 + 100 - 2000);
	stack_flush(&t.cx);
	CHECK_EQ(t.frame_count, 1);
	CHECK_EQ(data(100, 0), 0); /* not pushed: more is on its way */
	CHECK_EQ(sock_recv(&t.cx, s, &rest, 1, 0), 100);
	CHECK_EQ(t.frame_count, 0);
	finish();
}

/* What leaving does to the books: counters stop at zero, the timer with them. */
static void test_sent(void)
{
	ref s = begin_delayed();
	struct tcb *c = tcb_of(s);

	CHECK_EQ(data(100, TH_PSH), 0);
	c->dsack_pending = true;
	ack_sent(&t.cx, c);
	CHECK_EQ(c->last_ack_sent.v, at);
	CHECK_EQ(c->quickack, 0);
	CHECK_EQ(c->unacked_bytes, 0);
	CHECK(!c->ack_pending && !c->ack_pushed && !c->dsack_pending);
	CHECK_EQ(c->timer[TIMER_DELACK], NSEC_NEVER);
	CHECK_EQ(stack_counters(&t.cx)->tcp_dsack_out, 1);
	ack_delack_timer(&t.cx, c); /* late: nothing is owed */
	CHECK_EQ(t.frame_count, 0);
	CHECK_EQ(stack_counters(&t.cx)->tcp_delayed_ack, 0);
	finish();
}

CHECK_MAIN("ack", {"answers to the unexpected: twice a second", test_rate_limit},
	   {"sixteen quick ACKs, then the delay of 40 ms", test_quick_phase},
	   {"SHLD-19: more than a full segment waits for nothing", test_second_segment},
	   {"the delay follows the pace", test_pace}, {"SHLD-18: an ACK waits once", test_deadline},
	   {"MUST-40: 200 ms at most", test_longest_delay}, {"interactive connections", test_pingpong},
	   {"RFC 5961 7: the limits of challenge ACKs", test_challenges},
	   {"a read sends the ACK that waited", test_read}, {"what an ACK that left settles", test_sent})
