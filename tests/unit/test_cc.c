/* test_cc.c - Reno and CUBIC against their formulas. */
#include "core/send.h"
#include "tests/check.h"
#include "tests/unit/testcx.h"

#define MSS 1000u

static struct testcx x;

static struct tcb *fresh(enum stack_cc cc)
{
	testcx_start(&x);
	struct tcb *t = tcb_create(&x.cx);
	t->cc = (uint8_t)cc;
	t->snd_mss = MSS;
	cc_of(t)->init(&x.cx, t);
	return t;
}

static void initial_window(void)
{
	struct tcb *t = fresh(STACK_CC_RENO);

	CHECK_EQ(t->cwnd, 10 * MSS);
	CHECK_EQ(cc_initial_window(t), 10 * MSS);
	t->total_retrans = 2;
	CHECK_EQ(cc_initial_window(t), MSS);
	testcx_close(&x);
}

static void names(void)
{
	CHECK_EQ(stack_cc_by_name("reno", 4), STACK_CC_RENO);
	CHECK_EQ(stack_cc_by_name("cubic\0xxxxx", 11), STACK_CC_CUBIC);
	CHECK_EQ(stack_cc_by_name("cubi", 4), -ENOENT);
	CHECK_EQ(stack_cc_by_name("cubics", 6), -ENOENT);
	CHECK_EQ(stack_cc_by_name("", 0), -ENOENT);
	CHECK(stack_cc_name(STACK_CC_COUNT) == NULL && stack_cc_name(-1) == NULL);
}

static void slow_start(void)
{
	struct tcb *t = fresh(STACK_CC_RENO);

	cc_of(t)->on_ack(&x.cx, t, 10 * MSS, 0);
	CHECK_EQ(t->cwnd, 20 * MSS);
	/* ACK division (Savage 1999): a thousand ACKs of ten octets are worth 10000 octets */
	for (int i = 0; i < 1000; i++)
		cc_of(t)->on_ack(&x.cx, t, 10, 0);
	CHECK_EQ(t->cwnd, 30 * MSS);
	testcx_close(&x);
}

static void reno_avoidance(void)
{
	struct tcb *t = fresh(STACK_CC_RENO);

	t->ssthresh = t->cwnd = 20 * MSS;
	for (int i = 0; i < 20; i++)
		cc_of(t)->on_ack(&x.cx, t, MSS, 0);
	CHECK_EQ(t->cwnd, 21 * MSS);
	for (int i = 0; i < 21; i++)
		cc_of(t)->on_ack(&x.cx, t, MSS, 0);
	CHECK_EQ(t->cwnd, 22 * MSS);
	testcx_close(&x);
}

static void reno_reduction(void)
{
	struct tcb *t = fresh(STACK_CC_RENO);

	t->cwnd = 20 * MSS;
	t->snd_nxt = seq_add(t->snd_una, 16 * MSS);
	CHECK_EQ(cc_of(t)->ssthresh(&x.cx, t), 8 * MSS);
	t->snd_nxt = seq_add(t->snd_una, MSS);
	CHECK_EQ(cc_of(t)->ssthresh(&x.cx, t), 2 * MSS);
	testcx_close(&x);
}

static double cube(double a)
{
	return a * a * a;
}

static double cube_root_of(double a)
{
	double low = 0, high = 1000;

	for (int i = 0; i < 100; i++) {
		double mid = (low + high) / 2;
		if (cube(mid) < a)
			low = mid;
		else
			high = mid;
	}
	return low;
}

/* One round of ACKs, each of one segment, spread over rtt. */
static void round_of_acks(struct tcb *t, nsec rtt)
{
	uint32_t n = t->cwnd / MSS;

	for (uint32_t i = 0; i < n; i++) {
		x.cx.now += rtt / n;
		cc_of(t)->on_ack(&x.cx, t, MSS, rtt);
	}
}

static void cubic_curve(void)
{
	struct tcb *t = fresh(STACK_CC_CUBIC);
	const nsec rtt = 100 * NS_PER_MS;

	t->cwnd = 1000 * MSS;
	t->ssthresh = cc_of(t)->ssthresh(&x.cx, t);
	CHECK_EQ(t->ssthresh, 700 * MSS);
	t->cwnd = t->ssthresh;
	nsec start = x.cx.now;
	double k = cube_root_of(300.0 / 0.4);
	while (x.cx.now - start < 20 * NS_PER_S) {
		round_of_acks(t, rtt);
		double seconds = (double)(x.cx.now - start) / 1e9;
		double want = (0.4 * cube(seconds - k) + 1000) * MSS;
		if (seconds > 1)
			CHECK(t->cwnd > want * 0.95 && t->cwnd < want * 1.05);
	}
	testcx_close(&x);
}

/* With a small window and a short round trip, Reno's line lies above the cubic: alpha is 9/17 up to the old
 * window. */
static void cubic_reno_friendly(void)
{
	struct tcb *t = fresh(STACK_CC_CUBIC);
	const nsec rtt = 5 * NS_PER_MS;

	t->cwnd = 100 * MSS;
	t->ssthresh = cc_of(t)->ssthresh(&x.cx, t);
	t->cwnd = t->ssthresh;
	double want = 70;
	for (int i = 0; i < 120; i++) {
		round_of_acks(t, rtt);
		want += want < 100 ? 9.0 / 17 : 1;
	}
	CHECK(t->cwnd > want * MSS * 0.95 && t->cwnd < want * MSS * 1.08);
	testcx_close(&x);
}

static void cubic_fast_convergence(void)
{
	struct tcb *t = fresh(STACK_CC_CUBIC);

	t->cwnd = 1000 * MSS;
	(void)cc_of(t)->ssthresh(&x.cx, t);
	CHECK_EQ(t->ccs.cubic.w_max, 1000 * MSS);
	t->cwnd = 800 * MSS; /* below the last plateau: somebody else needs room */
	(void)cc_of(t)->ssthresh(&x.cx, t);
	CHECK_EQ(t->ccs.cubic.w_max, 680 * MSS);
	cc_of(t)->on_undo(&x.cx, t);
	CHECK_EQ(t->ccs.cubic.w_max, 1000 * MSS);
	testcx_close(&x);
}

static void cubic_extremes(void)
{
	struct tcb *t = fresh(STACK_CC_CUBIC);

	t->snd_mss = 48;
	t->cwnd = t->ssthresh = 96;
	for (int i = 0; i < 1000; i++) {
		x.cx.now += 3600 * NS_PER_S;
		cc_of(t)->on_ack(&x.cx, t, 1u << 30, 120 * NS_PER_S);
		CHECK(t->cwnd >= 96 && t->cwnd <= CWND_MAX);
	}
	CHECK_EQ(t->cwnd, CWND_MAX);
	t->ssthresh = cc_of(t)->ssthresh(&x.cx, t);
	t->cwnd = 96;
	t->ssthresh = 96;
	cc_of(t)->on_ack(&x.cx, t, 48, 0);
	CHECK(t->cwnd >= 96);
	testcx_close(&x);
}

static void idle(void)
{
	struct tcb *t = fresh(STACK_CC_RENO);

	t->cwnd = 160 * MSS;
	t->rto_ns = 300 * NS_PER_MS;
	t->last_send = x.cx.now;
	x.cx.now += 299 * NS_PER_MS;
	cc_idle_restart(&x.cx, t);
	CHECK_EQ(t->cwnd, 160 * MSS);
	x.cx.now += 400 * NS_PER_MS; /* 699 ms: more than two RTOs */
	cc_idle_restart(&x.cx, t);
	CHECK_EQ(t->cwnd, 40 * MSS);
	CHECK(t->ssthresh >= 120 * MSS);
	x.cx.now += 3600 * NS_PER_S;
	cc_idle_restart(&x.cx, t);
	CHECK_EQ(t->cwnd, 10 * MSS);
	testcx_close(&x);
}

static void app_limited(void)
{
	struct tcb *t = fresh(STACK_CC_CUBIC);

	t->cwnd = 40 * MSS;
	t->max_flight = 10 * MSS;
	CHECK(!cc_may_grow(t));
	t->max_flight = 21 * MSS;
	CHECK(cc_may_grow(t)); /* slow start: half in use will do */
	t->ssthresh = 20 * MSS;
	CHECK(!cc_may_grow(t));
	t->cwnd_limited = true;
	CHECK(cc_may_grow(t));
	testcx_close(&x);
}

CHECK_MAIN("cc", {"RFC 6928: ten segments; RFC 6298 5.7: one after lost SYNs", initial_window},
	   {"names of congestion controls, padded or not", names},
	   {"RFC 5681 3.1, RFC 3465: slow start counts octets", slow_start},
	   {"RFC 5681 3.1: one segment a round trip", reno_avoidance},
	   {"RFC 5681 (4): half the flight, two segments at least", reno_reduction},
	   {"RFC 9438 4.2, 4.4, 4.5: the window follows the cubic within 5 %", cubic_curve},
	   {"RFC 9438 4.3: the Reno-friendly region", cubic_reno_friendly},
	   {"RFC 9438 4.7, 4.9: fast convergence, and taking it back", cubic_fast_convergence},
	   {"no division by zero, no overflow at the ends of the range", cubic_extremes},
	   {"RFC 2861, RFC 5681 4.1: the window decays in idle time", idle},
	   {"RFC 7661, 9438 5.8: no growth while the application does not fill the window", app_limited})
