/*
 * test_icmp.c - what ICMP may and may not do to a connection, and echo.
 */
#include "dialogue.h"

TEST(icmp_refuses_open, "SHLD-26, MUST-54: port unreachable for our SYN refuses the connection")
{
	struct peer *p = peer_syn_sent();

	peer_sends_icmp(p, AT_MS(1), 3, 3, 1000, 0);
	expect_state(p, S_CLOSE);
	expect_equal(p, app_connect(p), -ECONNREFUSED);
}

TEST(icmp_host_unreachable_syn,
     "MUST-47, MUST-56, SHLD-25: host unreachable for our SYN is remembered and reported")
{
	struct peer *p = peer_syn_sent();

	peer_sends_icmp(p, AT_MS(1), 3, 1, 1000, 0);
	if (state_of(p) == S_SYN_SENT) {
		advance_to(p, AT_S(130));
		peer_takes_all(p);
	}
	expect_state(p, S_CLOSE);
	expect_equal(p, app_connect(p), -EHOSTUNREACH);
}

TEST(icmp_quote_must_match,
     "MUST-54, RFC 5927 4.1: an error that quotes a sequence number not in flight is ignored")
{
	struct peer *p = peer_syn_sent();

	peer_sends_icmp(p, AT_MS(1), 3, 3, 999, 0);
	peer_sends_icmp(p, AT_MS(1), 3, 3, 1002, 0);
	peer_switches(p, 4001, 80);
	p->conv->our_iss = p->conversations[0].our_iss;
	peer_sends_icmp(p, AT_MS(1), 3, 3, 1000, 0);
	peer_switches(p, 4000, 80);
	expect_state(p, S_SYN_SENT);
	expect_that(p, counter(p, icmp_ignored) >= 2);
}

TEST(icmp_soft_when_established, "MUST-56, SHLD-26, RFC 5927 5.2: unreachables, time exceeded, parameter "
				 "problem do not end an established connection")
{
	struct peer *p = peer_established();
	static const int kind[][2] = {{3, 0}, {3, 1}, {3, 2}, {3, 3}, {3, 5}, {11, 0}, {11, 1}, {12, 0}};

	app_write(p, 1000);
	peer_takes_all(p);
	for (size_t i = 0; i < ARRAY_LEN(kind); i++) {
		peer_sends_icmp(p, AT_MS(1 + i), kind[i][0], kind[i][1], 1001, 0);
		expect_state(p, S_ESTABLISHED);
	}
	peer_sends(p, AT_MS(20), SEG());
	app_write(p, 10);
	expect_segment(p, SEG(.len = 10));
}

TEST(icmp_soft_error_reported,
     "MUST-47, SHLD-9, SHLD-25: a connection that times out after host unreachable says EHOSTUNREACH")
{
	struct peer *p = peer_established();

	app_write(p, 1000);
	peer_takes_all(p);
	advance_to(p, AT_MS(300));
	peer_sends_icmp(p, NOW, 3, 1, 1001, 0);
	advance_to(p, AT_S(1100));
	peer_takes_all(p);
	expect_state(p, S_CLOSE);
	expect_equal(p, sock_take_error(&p->cx, p->sock), EHOSTUNREACH);
}

TEST(icmp_source_quench, "MUST-55, RFC 6633: source quench is ignored")
{
	struct peer *p = peer_established();
	uint32_t cwnd;

	app_write(p, 1000);
	peer_takes_all(p);
	cwnd = info_of(p).snd_cwnd;
	peer_sends_icmp(p, AT_MS(1), 4, 0, 1001, 0);
	expect_equal(p, info_of(p).snd_cwnd, cwnd);
	expect_nothing(p);
}

TEST(icmp_fragmentation_needed,
     "RFC 1191, MUST-16: fragmentation needed lowers the segment size and resends at once")
{
	struct peer *p = peer_established();

	app_write(p, 2920);
	peer_takes_all(p);
	peer_sends_icmp(p, AT_MS(5), 3, 4, 1001, 1000);
	struct emitted *e = peer_takes(p);
	if (!e) {
		advance_to(p, AT_MS(500));
		e = peer_takes(p);
	}
	expect_that(p, e && e->im.seq == p->conv->our_iss + 1 && e->im.len == 960);
	peer_takes_all(p);
	expect_equal(p, info_of(p).pmtu, 1000);
}

TEST(icmp_mtu_bogus, "RFC 1191, RFC 5927 7.2: a PMTU below the floor is raised to it; a wrong quote or a "
		     "larger MTU changes nothing")
{
	struct peer *p = peer_established();

	app_write(p, 2920);
	peer_takes_all(p);
	peer_sends_icmp(p, AT_MS(1), 3, 4, 9000000, 600);
	peer_sends_icmp(p, AT_MS(1), 3, 4, 1001, 9000);
	expect_equal(p, info_of(p).pmtu, 1500);
	peer_sends_icmp(p, AT_MS(2), 3, 4, 1001, 68);
	expect_that(p, info_of(p).pmtu >= 552 && info_of(p).pmtu < 1500);
	peer_takes_all(p);
	advance_to(p, AT_S(2));
	peer_takes_all(p);
	expect_state(p, S_ESTABLISHED);
}

/* An echo request with n bytes of payload, addressed to dst. */
static uint32_t echo(uint8_t *f, uint32_t dst, uint32_t n, uint8_t type)
{
	static const uint8_t head[34] = {2, 0, 0, 0, 0, 2,  2, 0, 0, 0,	 0, 1, 8, 0, 0x45, 0, 0,
					 0, 0, 7, 0, 0, 64, 1, 0, 0, 10, 0, 0, 1, 0, 0,	   0, 0};
	uint16_t sum;

	memcpy(f, head, sizeof head);
	f[17] = (uint8_t)(28 + n), f[16] = (uint8_t)((28 + n) >> 8);
	for (int i = 0; i < 4; i++)
		f[30 + i] = (uint8_t)(dst >> (24 - 8 * i));
	sum = image_checksum(f + 14, 20, 0);
	f[24] = (uint8_t)(sum >> 8), f[25] = (uint8_t)sum;
	memset(f + 34, 0, 8);
	f[34] = type;
	f[39] = 9, f[41] = 1;
	for (uint32_t i = 0; i < n; i++)
		f[42 + i] = (uint8_t)i;
	sum = image_checksum(f + 34, 8 + n, 0);
	f[36] = (uint8_t)(sum >> 8), f[37] = (uint8_t)sum;
	return 42 + n;
}

TEST(icmp_echo,
     "RFC 1122 3.2.2.6: an echo request is answered with the same bytes, not when it was sent to all")
{
	struct peer *p = peer_closed(WITH());
	uint8_t f[200];

	peer_sends_frame(p, AT_MS(1), f, echo(f, 0x0a000002, 57, 8));
	struct emitted *e = peer_takes(p);
	expect_that(p, e && !e->tcp && e->len >= 42 + 57);
	expect_equal(p, e->frame[34], 0);
	expect_equal(p, image_checksum(e->frame + 34, 8 + 57, 0), 0);
	expect_equal(p, memcmp(e->frame + 38, f + 38, 4 + 57), 0);
	peer_sends_frame(p, AT_MS(2), f, echo(f, 0x0a0000ff, 57, 8));
	peer_sends_frame(p, AT_MS(2), f, echo(f, 0x0a000002, 57, 0));
	peer_sends_frame(p, AT_MS(2), f, echo(f, 0x0a000002, 57, 13));
	expect_nothing(p);
}

TEST(icmp_echo_is_limited, "RFC 1812 4.3.2.8, requirements 2 (ICMP): echo replies are rate limited")
{
	struct peer *p = peer_closed(WITH());
	uint8_t f[200];
	int replies = 0;

	for (int i = 0; i < 5000; i++) {
		peer_sends_frame(p, NOW, f, echo(f, 0x0a000002, 8, 8));
		replies += peer_takes_all(p);
	}
	expect_that(p, replies >= 1 && replies < 2500);
	expect_that(p, counter(p, icmp_limited) > 0);
}

TEST(icmp_truncated, "requirements 3 (ICMP size), CVE-2020-17443: truncated and corrupt ICMP is dropped")
{
	struct peer *p = peer_closed(WITH());
	uint8_t f[200];
	uint32_t len = echo(f, 0x0a000002, 20, 8);

	for (uint32_t cut = 0; cut < len; cut++) {
		uint8_t *copy = __builtin_malloc(cut + 1);
		memcpy(copy, f, cut);
		peer_sends_frame(p, NOW, copy, cut);
		__builtin_free(copy);
	}
	f[50] ^= 1;
	peer_sends_frame(p, NOW, f, len);
	expect_nothing(p);
}

TEST(arp_resolution,
     "RFC 826, requirements 2 (ARP): the SYN waits for the neighbour and leaves when it answers")
{
	struct peer *p = peer_closed(WITH(.arp = true));
	uint8_t f[60] = {0};

	peer_switches(p, 4000, 80);
	app_connect(p);
	struct emitted *e = peer_takes(p);
	expect_that(p, e && !e->tcp && e->frame[12] == 8 && e->frame[13] == 6 && e->frame[21] == 1);
	expect_equal(p, memcmp(e->frame + 38, "\x0a\x00\x00\x01", 4), 0);
	expect_nothing(p);
	memcpy(f, "\x02\0\0\0\0\x02\x02\0\0\0\0\x01\x08\x06\0\x01\x08\0\x06\x04\0\x02", 22);
	memcpy(f + 22, "\x02\0\0\0\0\x01\x0a\0\0\x01\x02\0\0\0\0\x02\x0a\0\0\x02", 20);
	peer_sends_frame(p, AT_MS(3), f, 60);
	expect_equal(p, memcmp(p->queue[p->queue_first].frame, f + 6, 6), 0);
	expect_segment(p, SEG(.flags = SYN, .seq = 1000));
}

TEST(arp_unanswered,
     "RFC 1122 2.3.2, MUST-47: a neighbour that never answers makes connect fail with EHOSTUNREACH")
{
	struct peer *p = peer_closed(WITH(.arp = true));

	peer_switches(p, 4000, 80);
	app_connect(p);
	advance_to(p, AT_S(200));
	p->queue_first = p->queue_last = 0;
	expect_state(p, S_CLOSE);
	expect_equal(p, app_connect(p), -EHOSTUNREACH);
}

TEST(arp_answers, "RFC 826: a request for our address is answered, one for another's is not")
{
	struct peer *p = peer_closed(WITH(.arp = true));
	uint8_t f[60] = {0};

	memset(f, 0xff, 6);
	memcpy(f + 6, "\x02\0\0\0\0\x01\x08\x06\0\x01\x08\0\x06\x04\0\x01", 16);
	memcpy(f + 22, "\x02\0\0\0\0\x01\x0a\0\0\x01\0\0\0\0\0\0\x0a\0\0\x03", 20);
	peer_sends_frame(p, AT_MS(1), f, 60);
	expect_nothing(p);
	f[41] = 2;
	peer_sends_frame(p, AT_MS(2), f, 60);
	struct emitted *e = peer_takes(p);
	expect_that(p, e && !e->tcp && e->frame[21] == 2);
	expect_equal(p, memcmp(e->frame + 22, "\x02\0\0\0\0\x02\x0a\0\0\x02", 10), 0);
	expect_equal(p, memcmp(e->frame, "\x02\0\0\0\0\x01", 6), 0);
}
