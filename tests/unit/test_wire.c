/* test_wire.c - TCP headers and options: what is accepted, what is refused, what is written. */
#include "core/tcb.h"
#include "tests/check.h"

#include <stdlib.h>

static uint8_t segment_bytes[60 + 100];

/* A header with the given flags and options (padded by the caller to a multiple of 4), and payload bytes. */
static uint32_t make(uint8_t flags, const void *options, uint32_t len, uint32_t payload)
{
	static const uint8_t head[12] = {0x12, 0x34, 0, 80, 0xa0, 1, 2, 3, 0xb0, 5, 6, 7};

	memset(segment_bytes, 0, sizeof segment_bytes);
	memcpy(segment_bytes, head, 12);
	segment_bytes[12] = (uint8_t)((20 + len) / 4 << 4);
	segment_bytes[13] = flags;
	segment_bytes[14] = 0xfe;
	segment_bytes[15] = 0xdc;
	segment_bytes[19] = 9;
	if (len)
		memcpy(segment_bytes + 20, options, len);
	return 20 + len + payload;
}

/* Parse from a block of exactly that size, so that a sanitizer sees every byte read too far. */
static int parse(uint32_t len, struct segment *s)
{
	uint8_t *exact = malloc(len ? len : 1);

	memcpy(exact, segment_bytes, len);
	memset(s, 0xaa, sizeof *s);
	int r = wire_parse(exact, len, s);
	free(exact);
	return r;
}

static void test_header(void)
{
	struct segment s;

	CHECK_EQ(parse(make(TH_ACK | TH_PSH | TH_URG, NULL, 0, 5), &s), 0);
	CHECK_EQ(s.src.port, 0x1234);
	CHECK_EQ(s.dst.port, 80);
	CHECK_EQ(s.seq.v, 0xa0010203);
	CHECK_EQ(s.ack.v, 0xb0050607);
	CHECK_EQ(s.flags, TH_ACK | TH_PSH | TH_URG);
	CHECK_EQ(s.wnd, 0xfedc);
	CHECK_EQ(s.urg, 9);
	CHECK_EQ(s.len, 5);
	CHECK(!s.has_mss && !s.has_wscale && !s.has_ts && !s.has_sack_permitted);
	CHECK_EQ(s.sack_count, 0);
}

static void test_bad_offsets(void)
{
	struct segment s;

	for (uint32_t len = 0; len < 20; len++) {
		make(TH_ACK, NULL, 0, 0);
		CHECK_EQ(parse(len, &s), -EBADMSG);
	}
	for (unsigned offset = 0; offset < 16; offset++) {
		make(TH_ACK, NULL, 0, 0);
		segment_bytes[12] = (uint8_t)(offset << 4);
		CHECK_EQ(parse(24, &s), offset >= 5 && offset <= 6 ? 0 : -EBADMSG);
	}
}

/* RFC 9293 MUST-4..6, 64, 69; RFC 7323, RFC 2018. */
static void test_syn_options(void)
{
	static const uint8_t o[20] = {2, 4, 5, 0xb4, 4, 2, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0, 1, 3, 3, 7};
	static const uint8_t unknown[12] = {1, 99, 4, 0, 0, 2, 4, 2, 0, 0, 3, 3}; /* END, then a broken one */
	struct segment s;

	CHECK_EQ(parse(make(TH_SYN, o, 20, 0), &s), 0);
	CHECK(s.has_mss && s.has_sack_permitted && s.has_ts && s.has_wscale);
	CHECK_EQ(s.mss, 1460);
	CHECK_EQ(s.ts_val, 0x01020304);
	CHECK_EQ(s.wscale, 7);
	CHECK_EQ(parse(make(TH_ACK, o, 20, 0), &s), 0); /* only timestamps mean something without SYN */
	CHECK(!s.has_mss && !s.has_sack_permitted && s.has_ts && !s.has_wscale);
	CHECK_EQ(parse(make(TH_SYN, unknown, 12, 0), &s), 0);
	CHECK_EQ(s.mss, 512);
	CHECK(!s.has_wscale);
}

static void test_option_values(void)
{
	static const uint8_t mss0[4] = {2, 4, 0, 0}, ws15[4] = {3, 3, 15, 0}, ws14[4] = {3, 3, 14, 0};
	static const uint8_t twice[8] = {2, 4, 1, 0, 2, 4, 2, 0}, mss_len3[4] = {2, 3, 9, 0};
	static const uint8_t ts_fast[12] = {1, 1, 8, 10, 0xff, 0, 0, 1, 0xfe, 0, 0, 2};
	struct segment s;

	CHECK_EQ(parse(make(TH_SYN, mss0, 4, 0), &s), 0);
	CHECK_MSG(!s.has_mss, "MSS 0 counts as absent");
	CHECK_EQ(parse(make(TH_SYN, ws15, 4, 0), &s), 0);
	CHECK_EQ(s.wscale, 14); /* RFC 7323 2.3 */
	CHECK_EQ(parse(make(TH_SYN, ws14, 4, 0), &s), 0);
	CHECK_EQ(s.wscale, 14);
	CHECK_EQ(parse(make(TH_SYN, twice, 8, 0), &s), 0);
	CHECK_EQ(s.mss, 512); /* the last counts */
	CHECK_EQ(parse(make(TH_SYN, mss_len3, 4, 0), &s), 0);
	CHECK(!s.has_mss);
	CHECK_EQ(parse(make(TH_ACK, ts_fast, 12, 1), &s), 0);
	CHECK_EQ(s.ts_val, 0xff000001);
	CHECK_EQ(s.ts_ecr, 0xfe000002);
}

/* RFC 2018 3: 8n+2 bytes; other lengths are ignored, never read beyond. */
static void test_sack_lengths(void)
{
	struct segment s;

	for (uint8_t len = 2; len <= 40; len++) {
		uint8_t o[40];
		for (int i = 0; i < 40; i++)
			o[i] = (uint8_t)i;
		o[0] = 5;
		o[1] = len;
		memset(o + len, 0, 40u - len);
		CHECK_EQ(parse(make(TH_ACK, o, 40, 0), &s), 0);
		CHECK_EQ(s.sack_count, len > 2 && len <= 34 && (len - 2) % 8 == 0 ? (len - 2) / 8 : 0);
		if (s.sack_count) {
			CHECK_EQ(s.sack[0].start.v, 0x02030405);
			CHECK_EQ(s.sack[0].end.v, 0x06070809);
		}
	}
}

/* RFC 9293 MUST-7; AMNESIA:33, TLDK: option length 0 looped for ever. */
static void test_every_kind_and_length(void)
{
	struct segment s;

	for (unsigned kind = 0; kind < 256; kind++) {
		for (unsigned len = 0; len < 256; len++) {
			uint8_t o[40] = {(uint8_t)kind, (uint8_t)len};
			bool fine = kind <= 1 || (len >= 2 && len <= 40);
			if (kind == 1) /* then the "length" is a kind, and zeros follow it */
				fine = len <= 1;
			CHECK_EQ(parse(make(TH_SYN, o, 40, 0), &s), fine ? 0 : -EBADMSG);
		}
	}
}

static void test_random_options(void)
{
	struct segment s;

	srand(3);
	for (int i = 0; i < 100000; i++) {
		uint8_t o[40];
		uint32_t len = (uint32_t)rand() % 11 * 4;
		for (uint32_t k = 0; k < len; k++)
			o[k] = (uint8_t)(rand() % 3 ? rand() % 12 : rand());
		int r = parse(make((uint8_t)(rand() & 0x3f), o, len, 0), &s);
		if (r != 0 && r != -EBADMSG)
			CHECK_EQ(r, 0);
		if (r == 0 && (s.sack_count > 4 || (s.has_wscale && s.wscale > 14) || (s.has_mss && !s.mss)))
			CHECK_MSG(false, "impossible options in round %d", i);
	}
}

/* The order that Linux writes. */
static void test_build_syn(void)
{
	static const uint8_t want[20] = {2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 7, 0, 0, 0, 9, 1, 3, 3, 6};
	static const uint8_t no_ts[12] = {2, 4, 5, 0xb4, 1, 1, 4, 2, 1, 3, 3, 6};
	struct wire_options o = {.mss = true,
				 .wscale = true,
				 .sack_permitted = true,
				 .ts = true,
				 .mss_value = 1460,
				 .wscale_value = 6,
				 .ts_val = 7,
				 .ts_ecr = 9};
	uint8_t b[60];

	CHECK_EQ(wire_build(b, 1, 2, seq_of(3), seq_of(4), TH_SYN, 5, 6, &o), 40);
	CHECK_EQ(wire_options_len(&o), 20);
	CHECK_MEM_EQ(b + 20, want, 20);
	CHECK_EQ(b[12], 0xa0);
	o.ts = false;
	CHECK_EQ(wire_build(b, 1, 2, seq_of(3), seq_of(4), TH_SYN, 5, 6, &o), 32);
	CHECK_MEM_EQ(b + 20, no_ts, 12);
	CHECK_EQ(wire_build(b, 1, 2, seq_of(3), seq_of(4), TH_RST, 5, 6, NULL), 20);
}

static void test_build_sack(void)
{
	struct wire_options o = {.ts = true, .sack_count = 4};
	uint8_t b[60];

	for (uint32_t i = 0; i < 4; i++)
		o.sack[i] = (struct sack_block){seq_of(100 * i), seq_of(100 * i + 50)};
	CHECK_EQ(wire_options_len(&o), 40); /* three blocks beside timestamps */
	CHECK_EQ(wire_build(b, 1, 2, seq_of(3), seq_of(4), TH_ACK, 5, 6, &o), 60);
	CHECK_EQ(b[35], 2 + 3 * 8);
	o.ts = false;
	CHECK_EQ(wire_options_len(&o), 36);
	CHECK_EQ(wire_build(b, 1, 2, seq_of(3), seq_of(4), TH_ACK, 5, 6, &o), 56);
	CHECK_EQ(b[23], 2 + 4 * 8);
}

/* What is built is what is parsed, for all combinations of options. */
static void test_round_trip(void)
{
	for (unsigned bits = 0; bits < 16; bits++) {
		for (uint8_t blocks = 0; blocks <= 4; blocks++) {
			bool syn = bits & 7;
			struct wire_options o = {.mss = bits & 1,
						 .wscale = bits & 2,
						 .sack_permitted = bits & 4,
						 .ts = bits & 8,
						 .mss_value = 1234,
						 .wscale_value = 9,
						 .sack_count = syn ? 0 : blocks,
						 .ts_val = 0xdeadbeef,
						 .ts_ecr = 1};
			struct segment s;
			for (uint32_t i = 0; i < blocks; i++)
				o.sack[i] = (struct sack_block){seq_of(10 * i), seq_of(10 * i + 5)};
			memset(segment_bytes, 0, sizeof segment_bytes);
			uint32_t n = wire_build(segment_bytes, 7, 8, seq_of(UINT32_MAX), seq_of(2),
						syn ? TH_SYN : TH_ACK, 3, 4, &o);
			CHECK_EQ(n, 20 + wire_options_len(&o));
			CHECK_EQ(parse(n + 3, &s), 0);
			CHECK_EQ(s.len, 3);
			CHECK_EQ(s.seq.v, UINT32_MAX);
			CHECK_EQ(s.has_mss, o.mss);
			CHECK_EQ(s.mss, o.mss ? 1234 : 0);
			CHECK_EQ(s.has_wscale, o.wscale);
			CHECK_EQ(s.has_sack_permitted, o.sack_permitted);
			CHECK_EQ(s.has_ts, o.ts);
			CHECK_EQ(s.sack_count, MIN_OF(o.sack_count, o.ts ? 3 : 4));
		}
	}
}

static void test_checksum(void)
{
	struct ipaddr a = ipaddr_v4(10, 0, 0, 1), b = ipaddr_v4(10, 0, 0, 2);
	uint32_t len = make(TH_ACK, NULL, 0, 7);
	uint16_t sum = (uint16_t)~csum_fold(csum_partial(segment_bytes, len, csum_tcp_pseudo(&a, &b, len)));

	memcpy(segment_bytes + 16, &sum, 2);
	CHECK(wire_checksum_ok(&a, &b, segment_bytes, len));
	for (uint32_t bit = 0; bit < len * 8; bit++) {
		segment_bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
		CHECK(!wire_checksum_ok(&a, &b, segment_bytes, len));
		segment_bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
}

CHECK_MAIN("wire", {"RFC 9293 3.1: the header's fields", test_header},
	   {"RFC 9293 3.1: data offset below 5 or beyond the segment", test_bad_offsets},
	   {"RFC 9293 MUST-4..6, 69: options of a SYN", test_syn_options},
	   {"MSS 0, window scale above 14, duplicates, wrong lengths", test_option_values},
	   {"RFC 2018 3: SACK lengths", test_sack_lengths},
	   {"RFC 9293 MUST-7: every kind with every length", test_every_kind_and_length},
	   {"random options", test_random_options}, {"a SYN is built as Linux builds it", test_build_syn},
	   {"SACK blocks: 4, or 3 with timestamps", test_build_sack},
	   {"what is built is what is parsed", test_round_trip},
	   {"RFC 9293 MUST-3: any single bit error is found", test_checksum})
