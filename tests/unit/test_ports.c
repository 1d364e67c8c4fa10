/* test_ports.c - RFC 6056: ephemeral ports are unused, in range, and unpredictable across destinations. */
#include "tests/check.h"
#include "tests/unit/testcx.h"

static struct testcx t;
static const struct endpoint remote = {{{[10] = 0xff, 0xff, 10, 0, 0, 1}}, 80};

/* Occupy the tuple (own address:port, to) as a connection would. */
static void occupy(uint16_t port, const struct endpoint *to)
{
	struct tcb *c = pool_at(&t.cx, pool_alloc(&t.cx, POOL_TCB, REF_NONE));

	c->local = (struct endpoint){t.config.addr, port};
	c->remote = *to;
	CHECK_EQ(demux_insert(&t.cx, c), 0);
}

static void start(uint16_t first, uint16_t last)
{
	testcx_config(&t);
	t.config.port_first = first;
	t.config.port_last = last;
	CHECK_FATAL(testcx_open(&t) == 0);
}

static void test_exhaustion(void)
{
	bool seen[101] = {false};
	uint16_t port;

	start(40000, 40100);
	for (int i = 0; i <= 100; i++) {
		CHECK_EQ(port_choose(&t.cx, &t.config.addr, &remote, &port), 0);
		CHECK_GE(port, 40000);
		CHECK_LE(port, 40100);
		CHECK(!seen[port - 40000]);
		seen[port - 40000] = true;
		occupy(port, &remote);
	}
	CHECK_EQ(port_choose(&t.cx, &t.config.addr, &remote, &port), -EADDRNOTAVAIL);
	struct endpoint other = {remote.addr, 81};
	CHECK_EQ(port_choose(&t.cx, &t.config.addr, &other, &port), 0); /* another tuple */
	testcx_close(&t);
}

/* RFC 6191, RFC 9293 MAY-2: before it says "no port", one whose TIME-WAIT timestamps have outgrown. */
static void test_time_wait_last(void)
{
	struct timewait *w;
	uint16_t port;

	start(40000, 40001);
	t.cx.now = 100 * NS_PER_S;
	occupy(40000, &remote);
	w = pool_at(&t.cx, pool_alloc(&t.cx, POOL_TIMEWAIT, REF_NONE));
	w->local = (struct endpoint){t.config.addr, 40001};
	w->remote = remote;
	w->ts_recent_age = t.cx.now;
	w->ts_ok = true;
	CHECK_EQ(demux_insert_timewait(&t.cx, w), 0);
	CHECK_EQ(port_choose(&t.cx, &t.config.addr, &remote, &port), -EADDRNOTAVAIL);
	t.cx.now += NS_PER_S;
	CHECK_EQ(port_choose(&t.cx, &t.config.addr, &remote, &port), 0);
	CHECK_EQ(port, 40001);
	w->ts_ok = false;
	CHECK_EQ(port_choose(&t.cx, &t.config.addr, &remote, &port), -EADDRNOTAVAIL);
	testcx_close(&t);
}

static void test_one_port(void)
{
	uint16_t port = 0;

	start(65535, 65535);
	CHECK_EQ(port_choose(&t.cx, &t.config.addr, &remote, &port), 0);
	CHECK_EQ(port, 65535);
	testcx_close(&t);
}

static void test_listener_spared(void)
{
	uint16_t port;

	start(40000, 40001);
	struct tcb *c = pool_at(&t.cx, pool_alloc(&t.cx, POOL_TCB, REF_NONE));
	c->local = (struct endpoint){ipaddr_v4(0, 0, 0, 0), 40000};
	CHECK_EQ(demux_insert_listener(&t.cx, c), 0);
	for (int i = 0; i < 10; i++) {
		CHECK_EQ(port_choose(&t.cx, &t.config.addr, &remote, &port), 0);
		CHECK_EQ(port, 40001);
	}
	testcx_close(&t);
}

/* RFC 6056 2.4, 3.1: successive ports to different destinations look random; the whole range is used. */
static void test_unpredictable(void)
{
	enum { N = 2000, BINS = 16 };
	int bin[BINS] = {0}, near = 0;
	uint16_t port, before = 0;

	start(32768, 60999);
	for (int i = 0; i < N; i++) {
		struct endpoint to = {ipaddr_v4(172, 16, (uint8_t)(i >> 8), (uint8_t)i), 443};
		CHECK_EQ(port_choose(&t.cx, &t.config.addr, &to, &port), 0);
		bin[(port - 32768) * BINS / (61000 - 32768)]++;
		near += i && (uint16_t)(port - before + 16) < 32;
		before = port;
	}
	for (int i = 0; i < BINS; i++) {
		CHECK_GT(bin[i], N / BINS * 6 / 10);
		CHECK_LT(bin[i], N / BINS * 14 / 10);
	}
	CHECK_LT(near, 20); /* by chance: N * 32 / 28232 = 2.3 */
	testcx_close(&t);
}

/* RFC 6056 2.2: one destination sees a port again late (what TIME-WAIT at the peer wants). */
static void test_late_reuse(void)
{
	static uint8_t seen[65536];
	int again = 0;
	uint16_t port;

	memset(seen, 0, sizeof seen);
	start(32768, 60999);
	for (int i = 0; i < 8000; i++) {
		CHECK_EQ(port_choose(&t.cx, &t.config.addr, &remote, &port), 0);
		again += seen[port]++;
	}
	CHECK_EQ(again, 0);
	testcx_close(&t);
}

CHECK_MAIN("ports", {"every port once, then EADDRNOTAVAIL", test_exhaustion},
	   {"RFC 6191: a port in TIME-WAIT comes last", test_time_wait_last},
	   {"a range of one", test_one_port}, {"a listener's port is spared", test_listener_spared},
	   {"RFC 6056 3.1: unpredictable across destinations", test_unpredictable},
	   {"RFC 6056 2.2: late reuse for one destination", test_late_reuse})
