/*
 * checksum.c - the Internet checksum (RFC 1071).
 *
 * The sum is taken over words as they lie in memory: one's complement addition
 * does not care for byte order (RFC 1071 2(B)), so a folded sum is stored with
 * memcpy(). 64-bit accumulators take 32-bit halves; they cannot overflow below
 * 2^32 words. Place in the flow: ipv4, icmp and wire verify with it; offload.c
 * completes what devices would.
 */
#include "core/net.h"

static inline uint64_t load64(const uint8_t *p)
{
	uint64_t v;
	memcpy(&v, p, 8);
	return v;
}
static inline uint64_t halves(uint64_t v)
{
	return (v & 0xffffffff) + (v >> 32);
}

uint64_t csum_partial(const void *data, size_t len, uint64_t sum)
{
	const uint8_t *p = data;
	uint64_t a = halves(sum), b = 0;

	for (; len >= 64; len -= 64, p += 64) {
		a += halves(load64(p)) + halves(load64(p + 16)) + halves(load64(p + 32)) +
		     halves(load64(p + 48));
		b += halves(load64(p + 8)) + halves(load64(p + 24)) + halves(load64(p + 40)) +
		     halves(load64(p + 56));
	}
	for (; len >= 8; len -= 8, p += 8)
		a += halves(load64(p));
	if (len) { /* the rest, padded with zeros at its end */
		uint8_t rest[8] = {0};
		for (size_t i = 0; i < len; i++)
			rest[i] = p[i];
		b += halves(load64(rest));
	}
	return a + b;
}

uint16_t csum_fold(uint64_t sum)
{
	sum = halves(sum);
	sum = halves(sum);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)sum;
}

/* RFC 9293 3.1: the pseudo-header. tcp_len counts header and payload, of a super-segment too. */
uint16_t csum_tcp_pseudo(const struct ipaddr *src, const struct ipaddr *dst, uint32_t tcp_len)
{
	uint8_t tail[8];
	uint64_t sum;

	put32(tail, tcp_len);
	put32(tail + 4, IPPROTO_TCP_);
	sum = csum_partial(tail, sizeof tail, 0);
	if (ipaddr_is_v4(src)) {
		sum = csum_partial(src->b + 12, 4, sum);
		sum = csum_partial(dst->b + 12, 4, sum);
	} else { /* RFC 8200 8.1 */
		sum = csum_partial(src->b, 16, sum);
		sum = csum_partial(dst->b, 16, sum);
	}
	return csum_fold(sum);
}
