/* test_rate.c - TCP_INFO tells the truth: delivery rate by flight, time busy and what it was spent on. */
#include "core/send.h"
#include "tests/check.h"
#include "tests/unit/testcx.h"

static struct testcx t;
static struct tcb *c;

static void start(void)
{
	testcx_config(&t);
	CHECK_FATAL(testcx_open(&t) == 0);
	c = pool_at(&t.cx, pool_alloc(&t.cx, POOL_TCB, REF_NONE));
	c->cwnd = 100000;
	c->snd_una = c->snd_nxt = seq_of(1); /* iss 0: the SYN is acknowledged */
	t.cx.now = NS_PER_S;
}

static void queue(uint32_t octets)
{
	c->sndbuf.end += octets;
}

static void send(uint32_t octets)
{
	c->snd_nxt = seq_add(c->snd_nxt, octets);
	rate_sent(&t.cx, c);
}

static void acked(uint32_t octets)
{
	c->snd_una = seq_add(c->snd_una, octets);
	c->bytes_acked += octets;
	rate_acked(&t.cx, c);
}

/* draft-cheng-iccrg-delivery-rate-estimation 3: what was delivered until the timed octet's ACK, over that
 * time */
static void test_rate(void)
{
	start();
	queue(300000);
	send(50000);
	send(50000);
	t.cx.now += 5 * NS_PER_MS;
	acked(20000); /* not the timed octet yet */
	CHECK_EQ(c->rate_octets, 0);
	t.cx.now += 5 * NS_PER_MS;
	acked(30000);
	CHECK_EQ(c->rate_octets, 5000000);
	CHECK(!c->rate_octets_app_limited);
	testcx_close(&t);
}

static void test_app_limited(void)
{
	start();
	queue(100000);
	send(100000); /* all that cwnd allows */
	t.cx.now += 10 * NS_PER_MS;
	acked(100000);
	CHECK_EQ(c->rate_octets, 10000000);
	queue(10);
	send(10);
	t.cx.now += 10 * NS_PER_MS;
	acked(10);
	CHECK_EQ(c->rate_octets, 10000000); /* ten octets say nothing of the path */
	CHECK(!c->rate_octets_app_limited);
	testcx_close(&t);
}

static void test_same_instant(void)
{
	start();
	queue(10);
	send(10);
	acked(10);
	CHECK_EQ(c->rate_octets, 0);
	CHECK(!c->rate_timing);
	testcx_close(&t);
}

static void test_busy(void)
{
	start();
	busy_update(&t.cx, c, false);
	t.cx.now += NS_PER_MS; /* idle */
	queue(1000);
	busy_update(&t.cx, c, false);
	t.cx.now += 2 * NS_PER_MS;
	busy_update(&t.cx, c, true);
	t.cx.now += 3 * NS_PER_MS;
	CHECK_EQ(busy_time(&t.cx, c, BUSY_WINDOW), 3 * NS_PER_MS); /* while it lasts */
	send(1000);
	c->nospace = true;
	busy_update(&t.cx, c, false);
	t.cx.now += 4 * NS_PER_MS;
	acked(1000);
	busy_update(&t.cx, c, false);
	t.cx.now += 5 * NS_PER_MS; /* idle */
	CHECK_EQ(busy_time(&t.cx, c, BUSY_SENDING), 2 * NS_PER_MS);
	CHECK_EQ(busy_time(&t.cx, c, BUSY_WINDOW), 3 * NS_PER_MS);
	CHECK_EQ(busy_time(&t.cx, c, BUSY_SNDBUF), 4 * NS_PER_MS);
	testcx_close(&t);
}

CHECK_MAIN("rate", {"one sample a flight", test_rate},
	   {"a trickle does not lower the rate", test_app_limited},
	   {"no time passed: no sample", test_same_instant}, {"busy, by what is in the way", test_busy})
