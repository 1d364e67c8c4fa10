/* test_checksum.c - the Internet checksum against a naive one. */
#include "core/tcb.h"
#include "tests/check.h"

#include <stdlib.h>

/* RFC 1071 4.1, word by word in network order; the result as it lies in memory. */
static uint16_t naive(const uint8_t *p, size_t len)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < len; i++)
		sum += i % 2 ? p[i] : (uint64_t)p[i] << 8;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	uint8_t be[2] = {(uint8_t)(sum >> 8), (uint8_t)sum};
	uint16_t v;
	memcpy(&v, be, 2);
	return v;
}

static void test_rfc1071(void)
{
	static const uint8_t p[8] = {0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7};
	uint16_t v = csum_fold(csum_partial(p, 8, 0));
	uint8_t want[2] = {0xdd, 0xf2};

	CHECK_MEM_EQ(&v, want, 2); /* RFC 1071 section 3: the example sum is ddf2 */
}

static void test_every_length_and_alignment(void)
{
	static uint8_t data[4096 + 8];

	srand(1);
	for (size_t i = 0; i < sizeof data; i++)
		data[i] = (uint8_t)rand();
	for (size_t at = 0; at < 8; at++)
		for (size_t len = 0; len < 300; len++)
			CHECK_EQ(csum_fold(csum_partial(data + at, len, 0)), naive(data + at, len));
	CHECK_EQ(csum_fold(csum_partial(data, 4095, 0)), naive(data, 4095));
}

static void test_pieces(void)
{
	uint8_t data[200];

	for (int i = 0; i < 200; i++)
		data[i] = (uint8_t)(i * 37 + 200);
	for (size_t cut = 0; cut <= 200; cut += 2)
		CHECK_EQ(csum_fold(csum_partial(data + cut, 199 - MIN_OF(cut, 199u),
						csum_partial(data, MIN_OF(cut, 199u), 0))),
			 naive(data, 199));
}

/* Carries: all ones, and the greatest sums that a caller may hand in. */
static void test_carries(void)
{
	static uint8_t ones[65536];

	memset(ones, 0xff, sizeof ones);
	CHECK_EQ(csum_fold(csum_partial(ones, sizeof ones, 0)), 0xffff);
	CHECK_EQ(csum_fold(UINT64_MAX), 0xffff);
	CHECK_EQ(csum_fold(csum_partial(ones, 64, UINT64_MAX)), 0xffff);
	CHECK_EQ(csum_fold(0), 0);
	CHECK_EQ(csum_fold(0xffffffff00000000), 0xffff);
	CHECK_EQ(csum_fold(0x0001000100010001), 4);
}

/* RFC 9293 3.1: source, destination, zero, protocol 6, TCP length. */
static void test_pseudo_header(void)
{
	static const uint8_t v4[12] = {10, 0, 0, 1, 192, 168, 1, 254, 0, 6, 0x12, 0x34};
	struct ipaddr a = ipaddr_v4(10, 0, 0, 1), b = ipaddr_v4(192, 168, 1, 254);
	struct ipaddr a6 = {{0x20, 1, 0xd, 0xb8, [15] = 1}}, b6 = {{0xfe, 0x80, [15] = 2}};
	uint8_t v6[40] = {0};

	CHECK_EQ(csum_tcp_pseudo(&a, &b, 0x1234), naive(v4, 12));
	memcpy(v6, a6.b, 16);
	memcpy(v6 + 16, b6.b, 16);
	v6[33] = 1; /* length 0x10203 */
	v6[34] = 2;
	v6[35] = 3;
	v6[39] = 6;
	CHECK_EQ(csum_tcp_pseudo(&a6, &b6, 0x10203), naive(v6, 40));
}

CHECK_MAIN("checksum", {"RFC 1071 section 3: the example", test_rfc1071},
	   {"every length and alignment", test_every_length_and_alignment},
	   {"sums of pieces add up", test_pieces}, {"carries are folded", test_carries},
	   {"RFC 9293 3.1: the pseudo-header", test_pseudo_header})
