/* test_neigh.c - RFC 4861 7.3's states with their exact times, the table's cap, who waits and who is told. */
#include "core/net.h"
#include "tests/check.h"
#include "tests/unit/testcx.h"

#define S NS_PER_S

static struct testcx t;
static const uint8_t other_mac[6] = {2, 0, 0, 0, 0, 9};
static const struct ipaddr gateway = {{[10] = 0xff, 0xff, 10, 0, 0, 1}};
static const struct ipaddr host = {{[10] = 0xff, 0xff, 10, 0, 0, 7}};

/* A frame of header_len + payload octets to a neighbour. */
static int send_frame(const struct ipaddr *to, uint16_t header_len, uint32_t payload)
{
	static const uint8_t zeros[4096];
	struct frame_tx f = {.header_len = header_len, .payload_len = payload, .piece_count = payload != 0};

	f.piece[0] = (struct frame_piece){zeros, payload};
	return neigh_output(&t.cx, &f, to);
}
static int send_to(const struct ipaddr *to)
{
	return send_frame(to, 42, 0);
}
static struct neigh *entry(const struct ipaddr *a)
{
	for (ref r = pool_next(&t.cx, POOL_NEIGH, REF_NONE); r; r = pool_next(&t.cx, POOL_NEIGH, r)) {
		struct neigh *n = pool_at(&t.cx, r);
		if (ipaddr_eq(&n->addr, a))
			return n;
	}
	return NULL;
}
static int state_of(const struct ipaddr *a)
{
	const struct neigh *n = entry(a);

	return n ? n->state : -1;
}
/* To a moment, every timer at its own. */
static void until(nsec end)
{
	for (nsec d = stack_deadline(&t.cx); d <= end; d = stack_deadline(&t.cx)) {
		t.cx.now = MAX_OF(d, t.cx.now);
		stack_advance(&t.cx);
	}
	t.cx.now = end;
}
static void begin(uint8_t prefix_len)
{
	testcx_config(&t);
	t.config.prefix_len = prefix_len;
	CHECK_FATAL(testcx_open(&t) == 0);
}
static void finish(void)
{
	CHECK(stack_verify(&t.cx) == NULL);
	testcx_close(&t);
}

/* Requests at 0, 1 and 2 s; given up at 3 s, not before. */
static void test_incomplete(void)
{
	begin(24);
	nsec began = t.cx.now;
	CHECK_EQ(send_to(&host), 0);
	for (uint32_t i = 1; i <= 3; i++) {
		CHECK_EQ(t.frame_count, i);
		CHECK_EQ(entry(&host)->probes, i);
		CHECK_EQ(entry(&host)->node.deadline, began + i * S);
		until(began + i * S - 1);
		CHECK_EQ(state_of(&host), NEIGH_INCOMPLETE);
		until(began + i * S);
	}
	CHECK_EQ(state_of(&host), -1);
	CHECK_EQ(t.frame_count, 3);
	CHECK_EQ(stack_counters(&t.cx)->arp_failed, 1);
	finish();
}

/* An answer to a request is proof for 30 s; then the next use waits 5 s for TCP and asks three times. */
static void test_life(void)
{
	begin(24);
	send_to(&host);
	neigh_learn(&t.cx, &host, other_mac, true, false);
	nsec proven = t.cx.now;
	CHECK_EQ(state_of(&host), NEIGH_REACHABLE);
	CHECK_EQ(stack_deadline(&t.cx), NSEC_NEVER);
	until(proven + 30 * S - 1);
	send_to(&host);
	CHECK_EQ(state_of(&host), NEIGH_REACHABLE);
	until(proven + 30 * S);
	CHECK_EQ(state_of(&host), NEIGH_REACHABLE); /* unused, it is nobody's business */
	testcx_forget(&t);
	send_to(&host);
	CHECK_EQ(state_of(&host), NEIGH_DELAY);
	CHECK_EQ(t.frame_count, 1); /* used nevertheless */
	until(proven + 35 * S - 1);
	CHECK_EQ(state_of(&host), NEIGH_DELAY);
	CHECK_EQ(t.frame_count, 1);
	for (uint32_t i = 0; i < 3; i++) {
		until(proven + (35 + i) * S);
		CHECK_EQ(state_of(&host), NEIGH_PROBE);
		CHECK_EQ(t.frame_count, 2 + i);
		CHECK_MEM_EQ(t.frame[1 + i].data, other_mac, 6); /* by unicast */
	}
	until(proven + 38 * S - 1);
	send_to(&host); /* still used */
	CHECK_EQ(t.frame_count, 5);
	CHECK_EQ(state_of(&host), NEIGH_PROBE);
	until(proven + 38 * S);
	CHECK_EQ(state_of(&host), -1);
	finish();
}

/* TCP's progress is proof in every state but one: without an address there is nothing to confirm. */
static void test_confirm(void)
{
	struct ipaddr far_away = ipaddr_v4(8, 8, 8, 8);

	begin(24);
	neigh_confirm(&t.cx, &far_away); /* nobody known */
	CHECK_EQ(stack_of(&t.cx)->neigh_count, 0);
	send_to(&gateway);
	neigh_confirm(&t.cx, &far_away);
	CHECK_EQ(state_of(&gateway), NEIGH_INCOMPLETE);
	neigh_learn(&t.cx, &gateway, other_mac, true, false);
	t.cx.now += 29 * S;
	neigh_confirm(&t.cx, &far_away);
	t.cx.now += 30 * S - 1;
	send_to(&gateway);
	CHECK_EQ(state_of(&gateway), NEIGH_REACHABLE);
	t.cx.now += 1;
	send_to(&gateway);
	CHECK_EQ(state_of(&gateway), NEIGH_DELAY);
	until(t.cx.now + 6 * S);
	CHECK_EQ(entry(&gateway)->probes, 2);
	neigh_confirm(&t.cx, &far_away);
	CHECK_EQ(state_of(&gateway), NEIGH_REACHABLE);
	CHECK_EQ(entry(&gateway)->probes, 0);
	CHECK_EQ(stack_deadline(&t.cx), NSEC_NEVER);
	neigh_confirm(&t.cx, &host); /* another neighbour */
	CHECK_EQ(state_of(&host), -1);
	finish();
}

/* RFC 4861 7.2.5: what nobody asked for is a claim, not a proof; the first of two claims holds for a second.
 */
static void test_claims(void)
{
	begin(24);
	neigh_learn(&t.cx, &host, testcx_peer_mac, false, false); /* not for us: no entry */
	CHECK_EQ(state_of(&host), -1);
	neigh_learn(&t.cx, &host, testcx_peer_mac, false, true);
	CHECK_EQ(state_of(&host), NEIGH_STALE);
	nsec learnt = t.cx.now;
	neigh_learn(&t.cx, &host, testcx_peer_mac, true, false); /* an answer to nothing */
	CHECK_EQ(state_of(&host), NEIGH_STALE);
	t.cx.now = learnt + S - 1;
	neigh_learn(&t.cx, &host, other_mac, false, true);
	CHECK_MEM_EQ(entry(&host)->mac, testcx_peer_mac, 6);
	neigh_confirm(&t.cx, &host);
	t.cx.now = learnt + S;
	neigh_learn(&t.cx, &host, testcx_peer_mac, false, true); /* the same again: still reachable */
	CHECK_EQ(state_of(&host), NEIGH_REACHABLE);
	neigh_learn(&t.cx, &host, other_mac, false, true);
	CHECK_MEM_EQ(entry(&host)->mac, other_mac, 6);
	CHECK_EQ(state_of(&host), NEIGH_STALE); /* another address: what was proven is not proven of it */
	CHECK_EQ(entry(&host)->updated, learnt + S);
	finish();
}

/* RFC 1122 2.3.2.2: three frames wait, each within its 2 KiB; what is longer is TCP's to repeat. */
static void test_waiting(void)
{
	begin(24);
	const struct stack_counters *n = stack_counters(&t.cx);
	CHECK_EQ(send_frame(&host, 42, 2024 - 42 + 1), -ENOBUFS);
	CHECK_EQ(n->arp_queue_drops, 1);
	CHECK_EQ(state_of(&host), NEIGH_INCOMPLETE); /* asked all the same */
	CHECK_EQ(t.frame_count, 1);
	CHECK_EQ(send_frame(&host, 42, 2024 - 42), 0);
	CHECK_EQ(n->arp_queue_drops, 1);
	CHECK_EQ(send_frame(&host, 42, 1), 0);
	CHECK_EQ(send_frame(&host, 42, 2), 0);
	CHECK_EQ(entry(&host)->pending_count, 3);
	CHECK_EQ(send_frame(&host, 42, 3), 0);
	CHECK_EQ(entry(&host)->pending_count, 3);
	CHECK_EQ(n->arp_queue_drops, 2);
	CHECK_EQ(t.frame_count, 1); /* one request for all of them */
	CHECK(stack_verify(&t.cx) == NULL);
	neigh_learn(&t.cx, &host, other_mac, true, false);
	CHECK_EQ(t.frame_count, 4);
	for (uint32_t i = 0; i < 3; i++) {
		CHECK_EQ(t.frame[1 + i].len, 42 + 1 + i);
		CHECK_MEM_EQ(t.frame[1 + i].data, other_mac, 6);
		CHECK_MEM_EQ(t.frame[1 + i].data + 6, testcx_mac, 6);
	}
	CHECK_EQ(pool_live(&t.cx, POOL_PENDING), 0);
	finish();
}

static struct ipaddr numbered(uint32_t i)
{
	return ipaddr_v4(10, 1, (uint8_t)(i >> 8), (uint8_t)i);
}

/* A full table: strangers get a place unused for 30 s, we the one unused for longest, nobody one that is
 * asked for.
 */
static void test_cap(void)
{
	struct ipaddr a;

	begin(8);
	for (uint32_t i = 1; i <= NEIGH_MAX; i++) {
		a = numbered(i);
		neigh_learn(&t.cx, &a, other_mac, false, true);
		t.cx.now += 1;
	}
	CHECK_EQ(stack_of(&t.cx)->neigh_count, NEIGH_MAX);
	a = numbered(1);
	nsec used = entry(&a)->used;
	t.cx.now = used + 30 * S - 1;
	neigh_learn(&t.cx, &host, other_mac, false, true);
	CHECK_EQ(state_of(&host), -1);
	t.cx.now = used + 30 * S;
	neigh_learn(&t.cx, &host, other_mac, false, true);
	CHECK_EQ(state_of(&host), NEIGH_STALE);
	CHECK_EQ(state_of(&a), -1); /* the oldest went */
	CHECK_EQ(stack_of(&t.cx)->neigh_count, NEIGH_MAX);
	a = numbered(2);
	CHECK_EQ(send_to(&gateway), 0); /* ours: whoever it pushes out */
	CHECK_EQ(state_of(&gateway), NEIGH_INCOMPLETE);
	CHECK_EQ(state_of(&a), -1);
	finish();
}

static void test_cap_unresolved(void)
{
	struct ipaddr a;

	begin(8);
	for (uint32_t i = 1; i <= NEIGH_MAX; i++) {
		a = numbered(i);
		CHECK_EQ(send_to(&a), 0);
		testcx_forget(&t);
	}
	CHECK_EQ(send_to(&gateway), -ENOBUFS);
	CHECK_EQ(stack_counters(&t.cx)->arp_queue_drops, 1);
	t.cx.now += 2 * S;
	neigh_learn(&t.cx, &host, other_mac, false, true);
	CHECK_EQ(state_of(&host), -1);
	until(t.cx.now + 3 * S);
	CHECK_EQ(stack_of(&t.cx)->neigh_count, 0);
	CHECK_EQ(stack_counters(&t.cx)->arp_failed, NEIGH_MAX);
	CHECK_EQ(send_to(&gateway), 0);
	finish();
}

/* RFC 1122 2.4, MUST-56: opens through a silent gateway fail, each with its own destination; others wait on.
 */
static void test_told(void)
{
	struct endpoint any = {0};
	ref s[3];

	begin(24);
	for (unsigned i = 0; i < 3; i++) {
		struct endpoint to = {ipaddr_v4(8, 8, 8, (uint8_t)(1 + i)), 80};
		if (i == 2)
			to.addr = host; /* on the link: another neighbour */
		s[i] = sock_create(&t.cx);
		CHECK_EQ(sock_connect(&t.cx, s[i], &any, &to), -EINPROGRESS);
		t.cx.now += 1;
	}
	nsec asked = entry(&gateway)->node.deadline - S;
	until(asked + 3 * S - 1);
	for (unsigned i = 0; i < 3; i++)
		CHECK_EQ(tcb_at(&t.cx, s[i])->state, TCPS_SYN_SENT);
	until(asked + 3 * S);
	CHECK_EQ(sock_take_error(&t.cx, s[0]), EHOSTUNREACH);
	CHECK_EQ(sock_take_error(&t.cx, s[1]), EHOSTUNREACH);
	CHECK_EQ(sock_take_error(&t.cx, s[2]), 0);
	CHECK_EQ(state_of(&host), NEIGH_INCOMPLETE);
	until(asked + 3 * S + 2);
	CHECK_EQ(sock_take_error(&t.cx, s[2]), EHOSTUNREACH);
	CHECK_EQ(pool_live(&t.cx, POOL_PENDING), 0);
	finish();
}

/* A timer that comes late, or for an entry that is gone, does nothing. */
static void test_late_timer(void)
{
	begin(24);
	neigh_learn(&t.cx, &host, other_mac, false, true);
	ref r = pool_ref(&t.cx, entry(&host));
	neigh_timer(&t.cx, r);
	CHECK_EQ(state_of(&host), NEIGH_STALE);
	neigh_timer(&t.cx, REF_NONE);
	neigh_timer(&t.cx, r + 1);
	CHECK_EQ(t.frame_count, 0);
	finish();
}

CHECK_MAIN("neigh", {"INCOMPLETE: three requests in three seconds", test_incomplete},
	   {"RFC 4861 7.3: REACHABLE, DELAY, PROBE", test_life}, {"TCP's progress confirms", test_confirm},
	   {"claims and proofs", test_claims}, {"RFC 1122 2.3.2.2: what waits", test_waiting},
	   {"a full table", test_cap}, {"a table full of questions", test_cap_unresolved},
	   {"MUST-56: who is told of a silent gateway", test_told}, {"a late timer", test_late_timer})
