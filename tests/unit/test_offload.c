/* test_offload.c - a super-segment becomes the frames that a wire would carry. */
#include "core/tcb.h"
#include "tests/check.h"

#include <stdlib.h>

static uint8_t scratch[FRAME_LEN_MAX], payload[65536], joined[65536];
static const struct ipaddr src = {{[10] = 0xff, 0xff, 10, 0, 0, 2}}, dst = {{[10] = 0xff, 0xff, 10, 0, 0, 1}};

struct seen {
	uint32_t frames, bytes, next_seq;
	uint32_t stop_after; /* 0: never */
	uint16_t id;
	uint32_t largest;
	uint8_t first_flags, middle_flags, last_flags;
};

static int check_frame(void *arg, const uint8_t *frame, uint32_t len)
{
	struct seen *s = arg;
	const uint8_t *ip = frame + 14, *tcp = ip + 20;
	struct segment g;

	CHECK_EQ(ip[2] << 8 | ip[3], len - 14);
	CHECK_EQ(csum_fold(csum_partial(ip, 20, 0)), 0xffff);
	CHECK(wire_checksum_ok(&src, &dst, tcp, len - 34));
	CHECK_EQ(wire_parse(tcp, len - 34, &g), 0);
	CHECK_EQ(g.seq.v, s->next_seq);
	CHECK_EQ(ip[4] << 8 | ip[5], (uint16_t)(s->id + s->frames));
	CHECK(g.has_ts);
	memcpy(joined + s->bytes, g.data, g.len);
	s->bytes += g.len;
	s->next_seq += g.len;
	s->largest = MAX_OF(s->largest, g.len);
	if (s->frames == 0)
		s->first_flags = g.flags;
	else
		s->middle_flags |= s->last_flags;
	s->last_flags = s->frames ? g.flags : 0;
	s->frames++;
	return s->stop_after && s->frames == s->stop_after ? -EIO : 0;
}

/* A TCP frame with timestamps whose checksum is partial, its payload in one piece per cut. */
static void make(struct frame_tx *f, uint32_t len, uint16_t gso, uint8_t flags)
{
	struct wire_options o = {.ts = true, .ts_val = 1, .ts_ecr = 2};
	uint8_t *ip = f->header + 14;

	memset(f, 0, sizeof *f);
	f->header[12] = 8;
	uint32_t n = wire_build(ip + 20, 1000, 80, seq_of(0xfffff000), seq_of(1), flags, 500, 0, &o);
	uint32_t total = 20 + n + len;
	ip[0] = 0x45;
	ip[2] = (uint8_t)(total >> 8);
	ip[3] = (uint8_t)total;
	ip[4] = 0xff;
	ip[5] = 0xfe; /* the identifier wraps as well */
	ip[8] = 64;
	ip[9] = 6;
	memcpy(ip + 12, src.b + 12, 4);
	memcpy(ip + 16, dst.b + 12, 4);
	uint16_t sum = (uint16_t)~csum_fold(csum_partial(ip, 20, 0)),
		 pseudo = csum_tcp_pseudo(&src, &dst, n + len);
	memcpy(ip + 10, &sum, 2);
	memcpy(ip + 36, &pseudo, 2);
	f->header_len = (uint16_t)(34 + n);
	f->csum_start = 34;
	f->csum_offset = 16;
	f->gso_size = gso;
	f->payload_len = len;
}

/* Cut the payload into up to `pieces` pieces of random, often odd, sizes. */
static void cut(struct frame_tx *f, uint16_t pieces)
{
	uint32_t at = 0;

	for (uint16_t i = 0; i < pieces; i++) {
		uint32_t left = f->payload_len - at;
		uint32_t n = i + 1 == pieces ? left : left ? (uint32_t)rand() % (left + 1) : 0;
		f->piece[i] = (struct frame_piece){payload + at, n};
		at += n;
	}
	f->piece_count = pieces;
}

static void test_segments(void)
{
	srand(5);
	for (size_t i = 0; i < sizeof payload; i++)
		payload[i] = (uint8_t)rand();
	for (int round = 0; round < 300; round++) {
		struct frame_tx f;
		uint32_t len = round < 10 ? (uint32_t)round : (uint32_t)rand() % 60000;
		uint16_t gso = (uint16_t)(round % 3 == 0 ? 1448 : 1 + (unsigned)rand() % 9000);
		struct seen s = {.next_seq = 0xfffff000, .id = 0xfffe};
		if (gso < 50)
			len %= 5000;
		make(&f, len, gso, TH_ACK | TH_PSH | TH_FIN | TH_CWR);
		cut(&f, (uint16_t)(1 + rand() % (int)FRAME_PIECES_MAX));
		CHECK_EQ(frame_segment(&f, scratch, check_frame, &s), 0);
		CHECK_EQ(s.bytes, len);
		CHECK_EQ(s.frames, len ? (len + gso - 1) / gso : 1);
		CHECK_LE(s.largest, gso);
		CHECK_MEM_EQ(joined, payload, len);
		if (s.frames > 1) { /* FIN, PSH on the last, CWR on the first only */
			CHECK_EQ(s.first_flags, TH_ACK | TH_CWR);
			CHECK_EQ(s.middle_flags, s.frames > 2 ? TH_ACK : 0);
			CHECK_EQ(s.last_flags, TH_ACK | TH_PSH | TH_FIN);
		} else {
			CHECK_EQ(s.first_flags, TH_ACK | TH_PSH | TH_FIN | TH_CWR);
		}
	}
}

static void test_checksum_only(void)
{
	struct frame_tx f;

	for (uint32_t len = 0; len < 40; len++) {
		struct seen s = {.next_seq = 0xfffff000, .id = 0xfffe};
		make(&f, len, 0, TH_ACK);
		cut(&f, 3);
		CHECK_EQ(frame_segment(&f, scratch, check_frame, &s), 0);
		CHECK_EQ(s.frames, 1);
		CHECK_EQ(s.bytes, len);
	}
}

static void test_emit_stops(void)
{
	struct frame_tx f;
	struct seen s = {.next_seq = 0xfffff000, .id = 0xfffe, .stop_after = 3};

	make(&f, 10000, 1000, TH_ACK);
	cut(&f, 1);
	CHECK_EQ(frame_segment(&f, scratch, check_frame, &s), -EIO);
	CHECK_EQ(s.frames, 3);
}

static int count_bytes(void *arg, const uint8_t *frame, uint32_t len)
{
	(void)frame;
	*(uint32_t *)arg = len;
	return 0;
}

/* Frames that need nothing pass as they are; super-segments that are not TCP over IPv4 are refused. */
static void test_foreign(void)
{
	struct frame_tx f;
	uint32_t len = 0;

	memset(&f, 0, sizeof f);
	f.header_len = 42;
	f.header[12] = 8;
	f.header[13] = 6;
	CHECK_EQ(frame_segment(&f, scratch, count_bytes, &len), 0);
	CHECK_EQ(len, 42);
	make(&f, 5000, 1000, TH_ACK);
	cut(&f, 1);
	f.header[23] = 17;
	CHECK_EQ(frame_segment(&f, scratch, count_bytes, &len), -EINVAL);
	make(&f, 5000, 1000, TH_ACK);
	cut(&f, 1);
	f.header[14] = 0x46; /* then the data offset leads beyond the headers */
	CHECK_EQ(frame_segment(&f, scratch, count_bytes, &len), -EINVAL);
	make(&f, 5000, 1000, TH_ACK);
	cut(&f, 1);
	f.piece[0].len = 4999; /* less payload than announced */
	CHECK_EQ(frame_segment(&f, scratch, count_bytes, &len), -EINVAL);
	make(&f, FRAME_LEN_MAX, 1000, TH_ACK);
	CHECK_EQ(frame_segment(&f, scratch, count_bytes, &len), -EINVAL);
}

CHECK_MAIN("offload", {"lengths, identifiers, sequence numbers, flags, checksums", test_segments},
	   {"a checksum is completed, whatever the pieces", test_checksum_only},
	   {"the value of emit() ends it", test_emit_stops}, {"what is not TCP over IPv4", test_foreign})
