/* test_icmp.c - RFC 792, RFC 1122 3.2.2, RFC 5927: echo, and errors about our segments. */
#include "core/net.h"
#include "tests/check.h"
#include "tests/unit/testcx.h"

static struct testcx t;
static const struct ipaddr peer = {{[10] = 0xff, 0xff, 10, 0, 0, 1}};
static uint8_t frame[4096];

static void start(void)
{
	testcx_start(&t);
	testcx_meet_peer(&t);
}

/* Send an ICMP message of `len` bytes, its checksum filled in. */
static void icmp_from(const struct ipaddr *src, const struct ipaddr *dst, uint8_t *icmp, uint32_t len)
{
	if (len >= 4) {
		memset(icmp + 2, 0, 2);
		uint16_t sum = (uint16_t)~csum_fold(csum_partial(icmp, len, 0));
		memcpy(icmp + 2, &sum, 2);
	}
	testcx_input(&t, frame, testcx_ipv4(frame, src, dst, 1, icmp, len));
}

static void test_echo(void)
{
	uint8_t m[108] = {8, 0, 0, 0, 0x12, 0x34, 0, 7};

	start();
	for (int i = 8; i < 108; i++)
		m[i] = (uint8_t)i;
	for (uint32_t len = 8; len <= 107; len += 33) {
		icmp_from(&peer, &t.config.addr, m, len);
		CHECK_EQ(t.frame_count, 1);
		const uint8_t *r = t.frame[0].data + 34;
		CHECK_EQ(t.frame[0].len, 34 + len);
		CHECK_EQ(t.frame[0].csum_offset, 0);
		CHECK_EQ(csum_fold(csum_partial(r, len, 0)), 0xffff);
		CHECK_EQ(r[0], 0);
		CHECK_MEM_EQ(r + 4, m + 4, len - 4);
		CHECK_MEM_EQ(t.frame[0].data + 30, peer.b + 12, 4);
		testcx_forget(&t);
	}
	CHECK_EQ(stack_counters(&t.cx)->icmp_echo, 4);
	testcx_close(&t);
}

static void test_not_answered(void)
{
	struct ipaddr all = ipaddr_v4(255, 255, 255, 255), subnet = ipaddr_v4(10, 0, 0, 255);
	uint8_t m[8] = {8}, long_one[2000] = {8};

	start();
	icmp_from(&peer, &all, m, 8); /* smurf */
	icmp_from(&peer, &subnet, m, 8);
	for (uint8_t type = 13; type < 19; type++) { /* timestamp, information, mask */
		m[0] = type;
		icmp_from(&peer, &t.config.addr, m, 8);
	}
	m[0] = 5; /* redirect, source quench */
	icmp_from(&peer, &t.config.addr, m, 8);
	m[0] = 4;
	icmp_from(&peer, &t.config.addr, m, 8);
	CHECK_EQ(stack_counters(&t.cx)->icmp_in, 10);
	icmp_from(&peer, &t.config.addr, long_one, 1481); /* an answer would exceed the MTU */
	CHECK_EQ(t.frame_count, 0);
	icmp_from(&peer, &t.config.addr, long_one, 1480);
	CHECK_EQ(t.frame_count, 1);
	testcx_close(&t);
}

static void test_malformed(void)
{
	uint8_t m[64] = {8};

	start();
	for (uint32_t len = 0; len < 8; len++)
		icmp_from(&peer, &t.config.addr, m, len);
	CHECK_EQ(stack_counters(&t.cx)->icmp_bad, 8);
	icmp_from(&peer, &t.config.addr, m, 64);
	CHECK_EQ(t.frame_count, 1);
	frame[70] ^= 1; /* a bit error */
	testcx_input(&t, frame, 98);
	CHECK_EQ(stack_counters(&t.cx)->icmp_bad, 9);
	m[0] = 3;
	for (uint32_t quote = 0; quote < 28; quote++) { /* truncated quotes */
		memset(m + 8, 0, 56);
		m[8] = 0x45;
		icmp_from(&peer, &t.config.addr, m, 8 + quote);
	}
	CHECK_EQ(stack_counters(&t.cx)->icmp_bad, 9 + 28);
	for (int version = 0; version < 256;
	     version++) { /* a quoted header longer than the quote, or of no version */
		m[8] = (uint8_t)version;
		icmp_from(&peer, &t.config.addr, m, 8 + 28);
	}
	CHECK_EQ(stack_counters(&t.cx)->icmp_bad, 9 + 28 + 255);
	testcx_close(&t);
}

/* A flood is answered by a burst and then by 1000 a second at most. */
static void test_rate_limit(void)
{
	uint8_t m[8] = {8};

	start();
	for (int i = 0; i < 300; i++) {
		icmp_from(&peer, &t.config.addr, m, 8);
		testcx_forget(&t);
	}
	CHECK_GE(stack_counters(&t.cx)->icmp_echo, 45);
	CHECK_LE(stack_counters(&t.cx)->icmp_echo, 50);
	CHECK_GE(stack_counters(&t.cx)->icmp_limited, 250);
	uint64_t before = stack_counters(&t.cx)->icmp_echo;
	for (int i = 0; i < 10000; i++) { /* ten a millisecond, for a second */
		t.cx.now += NS_PER_MS / 10;
		icmp_from(&peer, &t.config.addr, m, 8);
		testcx_forget(&t);
	}
	CHECK_LE(stack_counters(&t.cx)->icmp_echo - before, 1000);
	CHECK_GE(stack_counters(&t.cx)->icmp_echo - before, 800);
	testcx_close(&t);
}

/* RFC 1122 3.2.2.1: a protocol that we do not have is reported, with a quote of at most 576 bytes in all. */
static void test_protocol_unreachable(void)
{
	static uint8_t data[1000];

	start();
	testcx_input(&t, frame, testcx_ipv4(frame, &peer, &t.config.addr, 17, data, 20));
	CHECK_EQ(t.frame_count, 1);
	const uint8_t *ip = t.frame[0].data + 14;
	CHECK_EQ(ip[9], 1);
	CHECK_EQ(ip[20], 3);
	CHECK_EQ(ip[21], 2);
	CHECK_EQ(t.frame[0].len, 14 + 20 + 8 + 40);
	CHECK_EQ(csum_fold(csum_partial(ip + 20, 48, 0)), 0xffff);
	CHECK_MEM_EQ(ip + 28, frame + 14, 40);
	testcx_input(&t, frame, testcx_ipv4(frame, &peer, &t.config.addr, 17, data, 1000));
	CHECK_EQ(t.frame[1].len, 14 + 576);
	struct ipaddr all = ipaddr_v4(255, 255, 255, 255);
	testcx_input(&t, frame, testcx_ipv4(frame, &peer, &all, 17, data, 20));
	CHECK_EQ(t.frame_count, 2);
	CHECK_EQ(stack_counters(&t.cx)->ip_unknown_proto, 3);
	testcx_close(&t);
}

/* An error that quotes our last frame; code and rest-of-header given. */
static void error_about_last(uint8_t type, uint8_t code, uint16_t mtu, void (*edit)(uint8_t *ip))
{
	const struct testcx_frame *f = &t.frame[t.frame_count - 1];
	uint8_t m[8 + 60] = {type, code, 0, 0, 0, 0, (uint8_t)(mtu >> 8), (uint8_t)mtu};
	struct ipaddr router = ipaddr_v4(10, 0, 0, 1);

	memcpy(m + 8, f->data + 14, 28);
	if (edit)
		edit(m + 8);
	icmp_from(&router, &t.config.addr, m, 8 + 28);
}

static ref connecting(void)
{
	struct endpoint local = {ipaddr_v4(0, 0, 0, 0), 0}, remote = {ipaddr_v4(8, 8, 8, 8), 80};

	start();
	ref s = sock_create(&t.cx);
	CHECK_EQ(sock_connect(&t.cx, s, &local, &remote), -EINPROGRESS);
	stack_flush(&t.cx);
	CHECK_FATAL(t.frame_count == 1);
	return s;
}

/* RFC 1122 4.2.3.9: in SYN-SENT a hard error ends the attempt with the errno that Linux gives. */
static void test_hard_errors(void)
{
	static const struct {
		uint8_t type, code;
		int err;
	} e[] = {{3, 2, ENOPROTOOPT},
		 {3, 3, ECONNREFUSED},
		 {3, 9, ENETUNREACH},
		 {3, 10, EHOSTUNREACH},
		 {3, 13, EHOSTUNREACH}};

	for (size_t i = 0; i < ARRAY_LEN(e); i++) {
		ref s = connecting();
		error_about_last(e[i].type, e[i].code, 0, NULL);
		CHECK_EQ(sock_take_error(&t.cx, s), e[i].err);
		CHECK(stack_verify(&t.cx) == NULL);
		testcx_close(&t);
	}
}

static void other_source(uint8_t *ip)
{
	ip[15] ^= 1;
}
static void other_protocol(uint8_t *ip)
{
	ip[9] = 17;
}
static void later_fragment(uint8_t *ip)
{
	ip[7] = 1;
}
static void other_port(uint8_t *ip)
{
	ip[21] ^= 1;
}
static void other_sequence(uint8_t *ip)
{
	ip[24] ^= 0x40;
}

/* RFC 5927 4.1: a quote that is not of a segment of ours in flight changes nothing. */
static void test_forged_quotes(void)
{
	static void (*const edits[])(uint8_t *) = {other_source, other_protocol, later_fragment, other_port,
						   other_sequence};

	for (size_t i = 0; i < ARRAY_LEN(edits); i++) {
		ref s = connecting();
		error_about_last(3, 3, 0, edits[i]);
		CHECK_EQ(sock_take_error(&t.cx, s), 0);
		CHECK_EQ(stack_counters(&t.cx)->icmp_ignored, 1);
		testcx_close(&t);
	}
	ref s = connecting();
	error_about_last(3, 16, 0, NULL); /* no such code */
	CHECK_EQ(sock_take_error(&t.cx, s), 0);
	testcx_close(&t);
}

CHECK_MAIN("icmp", {"RFC 1122 3.2.2.6: echo", test_echo}, {"what is not answered", test_not_answered},
	   {"malformed messages", test_malformed}, {"the rate limit", test_rate_limit},
	   {"RFC 1122 3.2.2.1: protocol unreachable", test_protocol_unreachable},
	   {"RFC 1122 4.2.3.9: hard errors while connecting", test_hard_errors},
	   {"RFC 5927 4.1: forged quotes", test_forged_quotes})
