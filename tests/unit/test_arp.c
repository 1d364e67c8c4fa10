/* test_arp.c - RFC 826, RFC 1122 2.3.2, RFC 4861 7.3: ARP packets and what is known of neighbours. */
#include "core/net.h"
#include "tests/check.h"
#include "tests/unit/testcx.h"

static struct testcx t;
static const uint8_t other_mac[6] = {2, 0, 0, 0, 0, 9};
static const struct ipaddr gateway = {{[10] = 0xff, 0xff, 10, 0, 0, 1}};
static const struct ipaddr stranger = {{[10] = 0xff, 0xff, 10, 0, 0, 9}};
static const struct ipaddr far_away = {{[10] = 0xff, 0xff, 8, 8, 8, 8}};

/* A datagram of an unassigned protocol, payload bytes long. */
static int send_datagram(const struct ipaddr *to, uint32_t payload)
{
	static const uint8_t zeros[9000];
	struct frame_tx f;

	f.header_len = IPV4_TRANSPORT_OFFSET + 8;
	memset(f.header + IPV4_TRANSPORT_OFFSET, 0x5a, 8);
	f.gso_size = 0;
	f.payload_len = payload;
	f.piece_count = payload != 0;
	f.piece[0] = (struct frame_piece){zeros, payload};
	return ipv4_output(&t.cx, &f, &t.config.addr, to, 253, 0, 64);
}

static void advance(nsec by)
{
	nsec end = t.cx.now + by;

	for (nsec d = stack_deadline(&t.cx); d <= end; d = stack_deadline(&t.cx)) {
		t.cx.now = MAX_OF(d, t.cx.now);
		stack_advance(&t.cx);
	}
	t.cx.now = end;
	stack_advance(&t.cx);
}

static bool is_request(const struct testcx_frame *f, const struct ipaddr *target, const uint8_t *link_dst)
{
	return f->len == 42 && f->data[12] == 8 && f->data[13] == 6 && f->data[21] == 1 &&
	       memcmp(f->data + 22, testcx_mac, 6) == 0 &&
	       memcmp(f->data + 28, t.config.addr.b + 12, 4) == 0 &&
	       memcmp(f->data + 38, target->b + 12, 4) == 0 && memcmp(f->data, link_dst, 6) == 0;
}

static const uint8_t broadcast[6] = {255, 255, 255, 255, 255, 255};

static void test_reply(void)
{
	testcx_start(&t);
	testcx_arp(&t, 1, testcx_peer_mac, &gateway, &t.config.addr);
	CHECK_EQ(t.frame_count, 1);
	static const uint8_t want[42] = {2, 0, 0, 0, 0, 1, 2, 0,  0, 0, 0, 2, 8, 6, 0, 1, 8, 0,	 6, 4, 0,
					 2, 2, 0, 0, 0, 0, 2, 10, 0, 0, 2, 2, 0, 0, 0, 0, 1, 10, 0, 0, 1};
	CHECK_EQ(t.frame[0].len, 42);
	CHECK_MEM_EQ(t.frame[0].data, want, 42);
	testcx_arp(&t, 1, testcx_peer_mac, &gateway, &stranger); /* not for us: no answer */
	CHECK_EQ(t.frame_count, 1);
	struct ipaddr zero = ipaddr_v4(0, 0, 0, 0);
	testcx_arp(&t, 1, other_mac, &zero, &t.config.addr); /* RFC 5227 probe: answered, not learnt */
	CHECK_EQ(t.frame_count, 2);
	CHECK_EQ(stack_of(&t.cx)->neigh_count, 1);
	CHECK(stack_verify(&t.cx) == NULL);
	testcx_close(&t);
}

static void test_malformed(void)
{
	uint8_t f[60] = {255, 255, 255, 255, 255, 255, 2, 0,  0, 0, 0, 1, 8, 6, 0, 1, 8, 0,  6, 4, 0,
			 1,   2,   0,	0,   0,	  0,   1, 10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 10, 0, 0, 2};

	testcx_start(&t);
	for (uint32_t len = 14; len < 42; len++)
		testcx_input(&t, f, len); /* runts (Ripple20 CVE-2020-11914) */
	CHECK_EQ(stack_counters(&t.cx)->arp_bad, 28);
	for (int i = 14; i < 22; i++) { /* each fixed field, one bit off */
		if (i == 20)
			continue;
		f[i] ^= 4;
		testcx_input(&t, f, 60);
		f[i] ^= 4;
	}
	f[22] |= 1; /* a group as sender */
	testcx_input(&t, f, 60);
	CHECK_EQ(stack_counters(&t.cx)->arp_bad, 28 + 8);
	CHECK_EQ(t.heard, 0);
	f[22] &= 0xfe;
	testcx_input(&t, f, 60);
	CHECK_EQ(t.heard, 1);
	testcx_close(&t);
}

/* Resolution: the frame waits, goes out when the answer comes, and the next one goes at once. */
static void test_resolve(void)
{
	testcx_start(&t);
	CHECK_EQ(send_datagram(&far_away, 100), 0); /* by way of the gateway */
	CHECK_EQ(t.frame_count, 1);
	CHECK(is_request(&t.frame[0], &gateway, broadcast));
	CHECK(stack_verify(&t.cx) == NULL);
	testcx_arp(&t, 2, testcx_peer_mac, &gateway, &t.config.addr);
	CHECK_EQ(t.frame_count, 2);
	CHECK_EQ(t.frame[1].len, 142);
	CHECK_MEM_EQ(t.frame[1].data, testcx_peer_mac, 6);
	CHECK_MEM_EQ(t.frame[1].data + 30, far_away.b + 12, 4);
	CHECK_EQ(send_datagram(&gateway, 0), 0);
	CHECK_EQ(t.frame_count, 3);
	CHECK_EQ(pool_live(&t.cx, POOL_PENDING), 0);
	CHECK(stack_verify(&t.cx) == NULL);
	testcx_close(&t);
}

static void test_queue(void)
{
	testcx_start(&t);
	for (uint32_t i = 1; i <= 5; i++)
		CHECK_EQ(send_datagram(&gateway, i), 0);
	CHECK_EQ(t.frame_count, 1); /* one request for all of them */
	CHECK_EQ(pool_live(&t.cx, POOL_PENDING), 3);
	CHECK_EQ(stack_counters(&t.cx)->arp_queue_drops, 2);
	stack_set_device(&t.cx, 9000, 0);
	CHECK_EQ(send_datagram(&gateway, 3000), -ENOBUFS); /* too big to wait */
	CHECK_EQ(stack_counters(&t.cx)->arp_queue_drops, 3);
	testcx_arp(&t, 2, testcx_peer_mac, &gateway, &t.config.addr);
	CHECK_EQ(t.frame_count, 4);
	for (uint32_t i = 0; i < 3; i++)
		CHECK_EQ(t.frame[1 + i].len, 42 + 3 + i); /* the latest three, in order */
	testcx_close(&t);
}

/* RFC 1122 2.3.2.1: one request a second; three without an answer, and the neighbour is unreachable. */
static void test_failure(void)
{
	testcx_start(&t);
	ref s = sock_create(&t.cx);
	struct endpoint local = {ipaddr_v4(0, 0, 0, 0), 0}, remote = {far_away, 80};
	CHECK_EQ(sock_connect(&t.cx, s, &local, &remote), -EINPROGRESS);
	stack_flush(&t.cx);
	advance(2900 * NS_PER_MS);
	int requests = 0;
	for (uint32_t i = 0; i < t.frame_count; i++)
		requests += is_request(&t.frame[i], &gateway, broadcast);
	CHECK_EQ(requests, 3);
	CHECK_EQ(sock_take_error(&t.cx, s), 0);
	advance(200 * NS_PER_MS);
	CHECK_EQ(sock_take_error(&t.cx, s), EHOSTUNREACH);
	CHECK_EQ(stack_counters(&t.cx)->arp_failed, 1);
	CHECK_EQ(stack_of(&t.cx)->neigh_count, 0);
	CHECK_EQ(pool_live(&t.cx, POOL_PENDING), 0);
	CHECK(stack_verify(&t.cx) == NULL);
	testcx_close(&t);
}

/* Nobody is believed unasked: no entry from a stray reply, from a request for others, or from off the link.
 */
static void test_not_learnt(void)
{
	testcx_start(&t);
	testcx_arp(&t, 2, other_mac, &stranger, &t.config.addr);
	testcx_arp(&t, 1, other_mac, &stranger, &stranger);
	testcx_arp(&t, 1, other_mac, &stranger, &gateway);
	testcx_arp(&t, 1, other_mac, &far_away, &t.config.addr);
	CHECK_EQ(stack_of(&t.cx)->neigh_count, 0);
	testcx_arp(&t, 1, other_mac, &t.config.addr, &t.config.addr); /* our address claimed by another */
	CHECK_EQ(stack_counters(&t.cx)->arp_conflict, 1);
	/* Our own question, come back by a bridge that puts its address on frames, is no conflict. */
	static const uint8_t own[42] = {255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 0,  9, 8, 6,
					0,   1,	  8,   0,   6,	 4,   0, 1, 2, 0, 0,  0, 0, 2,
					10,  0,	  0,   2,   0,	 0,   0, 0, 0, 0, 10, 0, 0, 1};
	testcx_input(&t, own, sizeof own);
	CHECK_EQ(stack_counters(&t.cx)->arp_conflict, 1);
	CHECK_EQ(stack_of(&t.cx)->neigh_count, 0);
	testcx_close(&t);
}

/* An entry may move, but not within a second of the last change: the first of two answers wins. */
static void test_override(void)
{
	testcx_start(&t);
	testcx_meet_peer(&t);
	testcx_arp(&t, 1, other_mac, &gateway, &gateway);
	send_datagram(&gateway, 0);
	CHECK_MEM_EQ(t.frame[0].data, testcx_peer_mac, 6);
	advance(1100 * NS_PER_MS);
	testcx_arp(&t, 1, other_mac, &gateway, &gateway); /* announcement of a fail-over */
	send_datagram(&gateway, 0);
	CHECK_MEM_EQ(t.frame[1].data, other_mac, 6);
	CHECK(stack_verify(&t.cx) == NULL);
	testcx_close(&t);
}

/* RFC 4861 7.3: stale after 30 s, used at once, probed by unicast after 5 s unless TCP confirms. */
static void test_reachability(void)
{
	testcx_start(&t);
	send_datagram(&gateway, 0);
	testcx_arp(&t, 2, testcx_peer_mac, &gateway, &t.config.addr);
	advance(29 * NS_PER_S);
	testcx_forget(&t);
	send_datagram(&gateway, 0);
	advance(10 * NS_PER_S);
	CHECK_EQ(t.frame_count, 1); /* was reachable: no probe */
	send_datagram(&gateway, 0);
	CHECK_EQ(t.frame_count, 2);
	CHECK_EQ(t.frame[1].len, 42);
	CHECK_EQ(t.frame[1].data[13], 0); /* the datagram itself went out */
	advance(4 * NS_PER_S);
	neigh_confirm(&t.cx, &far_away); /* through the same gateway */
	advance(4 * NS_PER_S);
	CHECK_EQ(t.frame_count, 2);
	advance(31 * NS_PER_S);
	send_datagram(&gateway, 0);
	advance(5100 * NS_PER_MS);
	CHECK_EQ(t.frame_count, 4);
	CHECK(is_request(&t.frame[3], &gateway, testcx_peer_mac));
	testcx_arp(&t, 2, testcx_peer_mac, &gateway, &t.config.addr);
	advance(20 * NS_PER_S);
	CHECK_EQ(t.frame_count, 4);
	CHECK(stack_verify(&t.cx) == NULL);
	testcx_close(&t);
}

/* A neighbour that stops answering is forgotten; the next frame asks by broadcast again. */
static void test_lost_neighbour(void)
{
	testcx_start(&t);
	testcx_meet_peer(&t); /* stale from the start: it only asked */
	send_datagram(&gateway, 0);
	advance(5100 * NS_PER_MS + 3 * NS_PER_S);
	CHECK_EQ(t.frame_count, 4);
	CHECK_EQ(stack_of(&t.cx)->neigh_count, 0);
	send_datagram(&gateway, 0);
	CHECK(is_request(&t.frame[4], &gateway, broadcast));
	CHECK(stack_verify(&t.cx) == NULL);
	testcx_close(&t);
}

/* A flood of senders: the cap holds, and what is in use stays. */
static void test_flood(void)
{
	testcx_config(&t);
	t.config.prefix_len = 8;
	CHECK_FATAL(testcx_open(&t) == 0);
	testcx_meet_peer(&t);
	for (uint32_t i = 0; i < 5000; i++) {
		struct ipaddr a = ipaddr_v4(10, 1, (uint8_t)(i >> 8), (uint8_t)i);
		if (i % 100 == 0) {
			t.cx.now += NS_PER_S;
			neigh_confirm(&t.cx, &gateway);
			send_datagram(&gateway, 0);
		}
		testcx_arp(&t, 1, other_mac, &a, &t.config.addr);
		testcx_forget(&t);
	}
	CHECK_EQ(stack_of(&t.cx)->neigh_count, NEIGH_MAX);
	send_datagram(&gateway, 0);
	CHECK_EQ(t.frame[0].data[13], 0);
	CHECK_MEM_EQ(t.frame[0].data, testcx_peer_mac, 6);
	CHECK(stack_verify(&t.cx) == NULL);
	testcx_close(&t);
}

static void test_scan(void)
{
	testcx_config(&t);
	t.config.prefix_len = 8;
	CHECK_FATAL(testcx_open(&t) == 0);
	for (uint32_t i = 0; i < 3000; i++) {
		struct ipaddr a = ipaddr_v4(10, 1, (uint8_t)(i >> 8), (uint8_t)(i | 1));
		send_datagram(&a, 10);
		testcx_forget(&t);
	}
	CHECK_EQ(stack_of(&t.cx)->neigh_count, NEIGH_MAX);
	CHECK(stack_verify(&t.cx) == NULL);
	advance(4 * NS_PER_S);
	CHECK_EQ(stack_of(&t.cx)->neigh_count, 0);
	CHECK_EQ(pool_live(&t.cx, POOL_PENDING), 0);
	testcx_close(&t);
}

static void test_no_arp(void)
{
	static const uint8_t zeros[12];

	testcx_config(&t);
	t.config.device_caps = DEVICE_NO_ARP;
	CHECK_FATAL(testcx_open(&t) == 0);
	CHECK_EQ(send_datagram(&far_away, 1), 0);
	CHECK_EQ(t.frame_count, 1);
	CHECK_MEM_EQ(t.frame[0].data, zeros, 12);
	CHECK_EQ(t.frame[0].data[12], 8);
	CHECK_EQ(stack_of(&t.cx)->neigh_count, 0);
	testcx_close(&t);
}

CHECK_MAIN("arp", {"RFC 826: a request for our address is answered", test_reply},
	   {"malformed packets are counted and dropped", test_malformed}, {"resolution", test_resolve},
	   {"three frames wait, the oldest gives way", test_queue},
	   {"RFC 1122 2.3.2.1: EHOSTUNREACH after three requests", test_failure},
	   {"nothing is learnt unasked", test_not_learnt}, {"an entry moves after a second", test_override},
	   {"RFC 4861 7.3: reachability", test_reachability},
	   {"a neighbour that stops answering", test_lost_neighbour}, {"a flood of requests", test_flood},
	   {"a scan of the link", test_scan}, {"a device without neighbours", test_no_arp})
