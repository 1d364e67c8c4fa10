/* test_rtt.c - RFC 6298 with Linux's bounds. */
#include "core/send.h"
#include "tests/check.h"
#include "tests/unit/testcx.h"

#define MS NS_PER_MS

static struct testcx x;

static struct tcb *fresh(void)
{
	testcx_start(&x);
	return tcb_create(&x.cx);
}

static void initial(void)
{
	struct tcb *t = fresh();

	CHECK_EQ(t->rto_ns, 1000 * MS);
	rtt_established(&x.cx, t);
	CHECK_EQ(t->rto_ns, 3000 * MS);
	testcx_close(&x);
}

static void first_sample(void)
{
	struct tcb *t = fresh();

	rtt_sample(&x.cx, t, 300 * MS);
	CHECK_EQ(t->srtt_ns, 300 * MS);
	CHECK_EQ(t->rttvar_ns, 150 * MS);
	CHECK_EQ(t->rto_ns, 900 * MS);
	CHECK_EQ(t->min_rtt_ns, 300 * MS);
	testcx_close(&x);
}

static void later_samples(void)
{
	struct tcb *t = fresh();

	rtt_sample(&x.cx, t, 400 * MS);
	rtt_sample(&x.cx, t, 800 * MS);
	CHECK_EQ(t->rttvar_ns, 250 * MS); /* 3/4 * 200 + 1/4 * 400 */
	CHECK_EQ(t->srtt_ns, 450 * MS);	  /* 7/8 * 400 + 1/8 * 800 */
	CHECK_EQ(t->rto_ns, 1450 * MS);
	CHECK_EQ(t->min_rtt_ns, 400 * MS);
	testcx_close(&x);
}

static void floor_and_ceiling(void)
{
	struct tcb *t = fresh();

	for (int i = 0; i < 100; i++)
		rtt_sample(&x.cx, t, 1 * MS);
	CHECK(t->rto_ns >= 200 * MS && t->rto_ns <= 202 * MS);
	for (int i = 0; i < 10; i++)
		rtt_sample(&x.cx, t, 500 * NS_PER_S);
	CHECK_EQ(t->rto_ns, 120 * NS_PER_S);
	testcx_close(&x);
}

static void backoff(void)
{
	struct tcb *t = fresh();

	rtt_sample(&x.cx, t, 100 * MS);
	nsec rto = t->rto_ns;
	CHECK_EQ(rto, 300 * MS);
	for (int i = 1; i <= 8; i++) {
		rtt_backoff(&x.cx, t);
		CHECK_EQ(t->rto_ns, rto << i);
	}
	rtt_backoff(&x.cx, t);
	CHECK_EQ(t->rto_ns, 120 * NS_PER_S);
	CHECK_EQ(t->backoff, 9);
	rtt_sample(&x.cx, t, 100 * MS);
	CHECK_EQ(t->backoff, 0);
	CHECK(t->rto_ns < 400 * MS);
	testcx_close(&x);
}

static void spans(void)
{
	struct stack_config c;

	stack_config_defaults(&c);
	CHECK_EQ(rto_span(&c, 15), 924600 * MS); /* Linux's tcp_retries2 */
	CHECK_EQ(rto_span(&c, 8), 102200 * MS);
	CHECK_EQ(rto_span(&c, 0), 200 * MS);
}

CHECK_MAIN("rtt", {"RFC 6298 2.1, 5.7: one second at first, three after a resent SYN", initial},
	   {"RFC 6298 2.2: the first sample", first_sample},
	   {"RFC 6298 2.3: alpha 1/8, beta 1/4, RTTVAR first", later_samples},
	   {"RFC 6298 2.4, 2.5: 200 ms over SRTT at least, 120 s at most", floor_and_ceiling},
	   {"RFC 6298 5.5: doubling up to the maximum; a sample ends it", backoff},
	   {"MUST-20, SHLD-11: how long retransmission goes on", spans})
