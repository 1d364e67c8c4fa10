/*
 * test_loop.c - the stack talking to itself: loopback addresses, its own
 * address, ::1; a handshake in one flush; bulk data; memory; self-connection.
 */
#include "core/chunk.h"
#include "core/net.h"
#include "tests/check.h"
#include "tests/unit/testcx.h"

static struct testcx t;

static const struct ipaddr any4 = {{[10] = 0xff, 0xff}}, any6, one6 = {{[15] = 1}};

static void settle(void)
{
	const char *broken;

	stack_flush(&t.cx);
	broken = stack_verify(&t.cx);
	CHECK_STR_EQ(broken ? broken : "", "");
	CHECK_EQ(t.frame_count, 0); /* nothing of this reaches the device */
}

static ref listening(const struct ipaddr *a, uint16_t port)
{
	struct endpoint local = {*a, port};
	ref l = sock_create(&t.cx);

	CHECK_EQ(sock_listen(&t.cx, l, &local, 8), 0);
	return l;
}

static ref connecting(const struct ipaddr *to, uint16_t port)
{
	struct endpoint local = {.port = 0}, remote = {*to, port};
	ref s = sock_create(&t.cx);

	CHECK_EQ(sock_connect(&t.cx, s, &local, &remote), -EINPROGRESS);
	settle();
	return s;
}

static bool named(ref s, bool peer, const struct ipaddr *a)
{
	struct endpoint e;

	return sock_names(&t.cx, s, peer ? NULL : &e, peer ? &e : NULL) == 0 && ipaddr_eq(&e.addr, a);
}

static int64_t put(ref s, const void *p, size_t n)
{
	struct iovec iov = {(void *)(uintptr_t)p, n};
	int64_t r = sock_send(&t.cx, s, &iov, 1, 0);

	settle();
	return r;
}

static int64_t take(ref s, void *p, size_t n)
{
	struct iovec iov = {p, n};
	int64_t r = sock_recv(&t.cx, s, &iov, 1, 0);

	settle();
	return r;
}

/* Handshake, data both ways, orderly end: each is over with its flush. */
static void converse(const struct ipaddr *listen_on, const struct ipaddr *to, const struct ipaddr *from)
{
	char text[16];
	ref l = listening(listen_on, 80), c = connecting(to, 80), s;

	CHECK_EQ(sock_events(&t.cx, c) & (SOCK_OUT | SOCK_ERR), SOCK_OUT);
	s = sock_accept(&t.cx, l);
	CHECK_FATAL(s != REF_NONE);
	CHECK(named(c, false, from));
	CHECK(named(c, true, to));
	CHECK(named(s, false, to));
	CHECK(named(s, true, from));
	CHECK_EQ(put(c, "question", 8), 8);
	CHECK_EQ(take(s, text, sizeof text), 8);
	CHECK_EQ(put(s, "answer", 6), 6);
	CHECK_EQ(take(c, text, sizeof text), 6);
	CHECK_EQ(memcmp(text, "answer", 6), 0);
	CHECK_EQ(sock_shutdown(&t.cx, c, 1), 0);
	settle();
	CHECK_EQ(take(s, text, sizeof text), 0);
	sock_close(&t.cx, s);
	sock_close(&t.cx, c);
	sock_close(&t.cx, l);
	settle();
	CHECK_EQ(stack_draining(&t.cx), 0);
	CHECK_EQ(stack_buffer_bytes(&t.cx), 0);
}

static void test_addresses(void)
{
	struct ipaddr own, lo = ipaddr_v4(127, 0, 0, 1), other = ipaddr_v4(127, 9, 8, 7);

	testcx_start(&t);
	own = t.config.addr;
	converse(&any4, &lo, &lo);
	converse(&any6, &lo, &lo);
	converse(&lo, &lo, &lo);
	converse(&any4, &other, &lo);
	converse(&any4, &own, &own);
	converse(&own, &own, &own);
	converse(&any6, &one6, &one6);
	converse(&one6, &one6, &one6);
	CHECK_EQ(stack_counters(&t.cx)->tcp_retrans, 0);
	testcx_close(&t);
}

/* IPv4's wildcard hears no IPv6, and :: with V6ONLY no IPv4: they may share a port. */
static void test_families(void)
{
	struct ipaddr lo = ipaddr_v4(127, 0, 0, 1);
	struct endpoint local = {any6, 80};
	ref l4, l6, c;

	testcx_start(&t);
	l4 = listening(&any4, 80);
	c = connecting(&one6, 80);
	CHECK(sock_events(&t.cx, c) & SOCK_HUP); /* refused */
	sock_close(&t.cx, c);
	l6 = sock_create(&t.cx);
	CHECK_EQ(sock_listen(&t.cx, l6, &local, 8), -EADDRINUSE);
	CHECK_EQ(sock_set_option(&t.cx, l6, SOCK_OPT_V6ONLY, 1), 0);
	CHECK_EQ(sock_listen(&t.cx, l6, &local, 8), 0);
	connecting(&one6, 80);
	connecting(&lo, 80);
	CHECK(sock_accept(&t.cx, l6) != REF_NONE);
	CHECK_EQ(sock_accept(&t.cx, l6), REF_NONE);
	CHECK(sock_accept(&t.cx, l4) != REF_NONE);
	CHECK_EQ(sock_accept(&t.cx, l4), REF_NONE);
	testcx_close(&t);
}

static void test_sources(void)
{
	struct ipaddr lo = ipaddr_v4(127, 0, 0, 1), two = ipaddr_v4(127, 0, 0, 2);
	struct endpoint local = {lo, 0}, remote = {ipaddr_v4(10, 0, 0, 1), 80};
	ref s, l;

	testcx_start(&t);
	s = sock_create(&t.cx);
	CHECK_EQ(sock_connect(&t.cx, s, &local, &remote), -EINVAL); /* never onto the wire */
	local.addr = ipaddr_v4(10, 0, 0, 77);
	CHECK_EQ(sock_connect(&t.cx, s, &local, &remote), -EADDRNOTAVAIL);
	local.addr = one6;
	remote.addr = lo;
	CHECK_EQ(sock_connect(&t.cx, s, &local, &remote), -EINVAL);
	l = listening(&lo, 80);
	local.addr = two;
	local.port = 1234;
	CHECK_EQ(sock_connect(&t.cx, s, &local, &remote), -EINPROGRESS);
	settle();
	s = sock_accept(&t.cx, l);
	CHECK_FATAL(s != REF_NONE);
	CHECK(named(s, true, &two));
	testcx_close(&t);
}

static uint8_t pattern(uint64_t at)
{
	return (uint8_t)(at * 7 + at / 251);
}

/* Much data with a slow reader: in order, whole, in the segments of a 64 KiB link, and nothing is sent twice.
 */
static void bulk(uint64_t total, size_t piece)
{
	static uint8_t out[300000], in[100000];
	struct ipaddr lo = ipaddr_v4(127, 0, 0, 1);
	ref l = listening(&any4, 80), c = connecting(&lo, 80), s = sock_accept(&t.cx, l);
	uint64_t sent = 0, got = 0, wrong = 0;
	struct sock_info info;

	CHECK_EQ(sock_info(&t.cx, c, &info), 0);
	CHECK_EQ(info.snd_mss, 65483);
	for (int idle = 0; got < total && idle < 1000; idle++) {
		size_t n = (size_t)MIN_OF((uint64_t)piece, total - sent);
		for (size_t i = 0; i < n; i++)
			out[i] = pattern(sent + i);
		int64_t r = n ? put(c, out, n) : 0;
		sent += r > 0 ? (uint64_t)r : 0;
		t.cx.now += NS_PER_US;
		while ((r = take(s, in, sizeof in)) > 0) {
			for (int64_t i = 0; i < r; i++)
				wrong += in[i] != pattern(got + (uint64_t)i);
			got += (uint64_t)r;
			idle = 0;
		}
		if (stack_deadline(&t.cx) <= t.cx.now + NS_PER_S) {
			t.cx.now = MAX_OF(t.cx.now, stack_deadline(&t.cx));
			stack_advance(&t.cx);
			settle();
		}
	}
	CHECK_EQ(got, total);
	CHECK_EQ(wrong, 0);
	sock_abort(&t.cx, c);
	sock_close(&t.cx, c);
	sock_close(&t.cx, s);
	sock_close(&t.cx, l);
	settle();
	CHECK_EQ(stack_buffer_bytes(&t.cx), 0);
}

static void test_bulk(void)
{
	testcx_start(&t);
	bulk(20u << 20, 300000);
	bulk(3u << 20, 3000);
	bulk(200000, 100);
	CHECK_EQ(stack_counters(&t.cx)->tcp_retrans, 0);
	CHECK_EQ(stack_counters(&t.cx)->loop_drops, 0);
	testcx_close(&t);
}

/* With hardly any memory, tails are lost and sent again; it ends all the same. */
static void test_short_of_memory(void)
{
	testcx_config(&t);
	t.config.mem_max = 100000;
	CHECK_FATAL(testcx_open(&t) == 0);
	bulk(300000, 30000);
	testcx_close(&t);
}

/* A socket connected to itself (RFC 9293 figure 8). */
static void test_self(void)
{
	struct endpoint e = {ipaddr_v4(127, 0, 0, 1), 4000};
	ref s;
	char text[8];

	testcx_start(&t);
	s = sock_create(&t.cx);
	CHECK_EQ(sock_connect(&t.cx, s, &e, &e), -EINPROGRESS);
	settle();
	CHECK_EQ(sock_events(&t.cx, s), SOCK_OUT);
	CHECK_EQ(put(s, "mirror", 6), 6);
	CHECK_EQ(take(s, text, sizeof text), 6);
	sock_close(&t.cx, s);
	settle();
	testcx_close(&t);
}

/* One flush is bounded; what is left makes the deadline "now" and comes with the next. */
static void test_bound(void)
{
	enum { MANY = 1500 };
	struct ipaddr lo = ipaddr_v4(127, 0, 0, 1);
	struct endpoint local = {.port = 0}, remote = {lo, 9};
	uint32_t edges, refused = 0;

	testcx_start(&t);
	for (int i = 0; i < MANY; i++)
		CHECK_EQ(sock_connect(&t.cx, sock_create(&t.cx), &local, &remote), -EINPROGRESS);
	settle();
	CHECK_EQ(stack_deadline(&t.cx), t.cx.now);
	for (int i = 0; i < 20 && stack_deadline(&t.cx) == t.cx.now; i++)
		settle();
	while (sock_next_edge(&t.cx, &edges))
		refused++;
	CHECK_EQ(refused, MANY);
	testcx_close(&t);
}

/* What claims such addresses on the wire is martian, whoever listens. */
static void test_martians(void)
{
	static const uint8_t lo[4] = {127, 0, 0, 1}, own[4] = {10, 0, 0, 2};
	static const uint8_t *const pair[][2] = {{lo, lo}, {lo, own}, {own, own}};
	uint8_t frame[128], syn[20] = {0x12, 0x34, 0, 80, [12] = 0x50, TH_SYN, 0xff, 0xff};

	testcx_start(&t);
	testcx_meet_peer(&t);
	listening(&any4, 80);
	for (size_t i = 0; i < ARRAY_LEN(pair); i++) {
		struct ipaddr src = ipaddr_from_v4(pair[i][0]), dst = ipaddr_from_v4(pair[i][1]);
		uint64_t before = stack_counters(&t.cx)->ip_bad_addr;
		uint32_t len = testcx_ipv4(frame, &src, &dst, 6, syn, sizeof syn);

		testcx_input(&t, frame, len);
		CHECK_EQ(stack_counters(&t.cx)->ip_bad_addr, before + 1);
	}
	CHECK_EQ(stack_counters(&t.cx)->tcp_in, 0);
	CHECK_EQ(t.frame_count, 0);
	testcx_close(&t);
}

/* Without a device loopback is all there is. */
static void test_no_device(void)
{
	struct ipaddr lo = ipaddr_v4(127, 0, 0, 1);
	struct endpoint local = {.port = 0}, remote = {ipaddr_v4(10, 0, 0, 1), 80};

	testcx_config(&t);
	t.config.addr = lo;
	t.config.gateway = any4;
	CHECK_EQ(testcx_open(&t), -EINVAL);
	testcx_config(&t);
	t.config.addr = lo;
	t.config.gateway = any4;
	t.config.device_caps |= DEVICE_NONE | DEVICE_NO_ARP;
	CHECK_FATAL(testcx_open(&t) == 0);
	CHECK_EQ(sock_connect(&t.cx, sock_create(&t.cx), &local, &remote), -ENETUNREACH);
	converse(&any4, &lo, &lo);
	testcx_close(&t);
}

CHECK_MAIN("loop",
	   {"127/8, ::1 and the own address: names, data, an orderly end, each in one flush", test_addresses},
	   {"wildcards of the two families; V6ONLY", test_families},
	   {"which source goes with which destination (RFC 1122 3.2.1.3)", test_sources},
	   {"bulk data arrives whole, never sent twice", test_bulk},
	   {"at the memory cap a transfer still ends", test_short_of_memory},
	   {"a socket connected to itself", test_self}, {"a flush delivers a bounded number", test_bound},
	   {"local addresses on the wire are dropped (LAND)", test_martians},
	   {"no device: loopback only", test_no_device})
