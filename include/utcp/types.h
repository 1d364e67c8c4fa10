/*
 * types.h - the small types that every folder shares.
 *
 * Place in the flow: included by all other contracts; depends on nothing but
 * the compiler's freestanding headers.
 */
#ifndef UTCP_TYPES_H
#define UTCP_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Time in nanoseconds on the caller's monotonic clock. 0 is a valid time. */
typedef uint64_t nsec;
#define NSEC_NEVER UINT64_MAX /* no deadline */
#define NS_PER_US  1000ull
#define NS_PER_MS  1000000ull
#define NS_PER_S   1000000000ull

/*
 * A reference to an object in the region: its byte offset divided by
 * REF_GRAIN (design D2: 32-bit indices, never pointers). 0 is "none".
 */
typedef uint32_t ref;
#define REF_GRAIN 64u
#define REF_NONE  0u

/*
 * A TCP sequence number. A struct, so that `<` on two of them does not
 * compile: they compare only modulo 2^32 (RFC 9293 3.4).
 */
typedef struct {
	uint32_t v;
} seq32;

static inline seq32 seq_of(uint32_t v)
{
	return (seq32){v};
}
static inline seq32 seq_add(seq32 a, uint32_t n)
{
	return (seq32){a.v + n};
}
/* a - b as a signed distance; valid when the two are less than 2^31 apart. */
static inline int32_t seq_diff(seq32 a, seq32 b)
{
	return (int32_t)(a.v - b.v);
}
static inline bool seq_lt(seq32 a, seq32 b)
{
	return seq_diff(a, b) < 0;
}
static inline bool seq_leq(seq32 a, seq32 b)
{
	return seq_diff(a, b) <= 0;
}
static inline bool seq_gt(seq32 a, seq32 b)
{
	return seq_diff(a, b) > 0;
}
static inline bool seq_geq(seq32 a, seq32 b)
{
	return seq_diff(a, b) >= 0;
}
static inline bool seq_eq(seq32 a, seq32 b)
{
	return a.v == b.v;
}
static inline seq32 seq_max(seq32 a, seq32 b)
{
	return seq_gt(a, b) ? a : b;
}
static inline seq32 seq_min(seq32 a, seq32 b)
{
	return seq_lt(a, b) ? a : b;
}

/*
 * An IP address in network byte order. IPv4 lives in it as ::ffff:a.b.c.d
 * (RFC 4291 2.5.5.2), so that IPv6 needs no second set of tables.
 */
struct ipaddr {
	uint8_t b[16];
};

static inline struct ipaddr ipaddr_v4(uint8_t a, uint8_t b, uint8_t c, uint8_t d)
{
	return (struct ipaddr){{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d}};
}
/* From four bytes in network order (struct in_addr's s_addr in memory). */
static inline struct ipaddr ipaddr_from_v4(const void *be4)
{
	struct ipaddr r = ipaddr_v4(0, 0, 0, 0);
	memcpy(r.b + 12, be4, 4);
	return r;
}
static inline bool ipaddr_is_v4(const struct ipaddr *a)
{
	static const uint8_t prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
	return memcmp(a->b, prefix, sizeof prefix) == 0;
}
static inline bool ipaddr_eq(const struct ipaddr *a, const struct ipaddr *b)
{
	return memcmp(a->b, b->b, sizeof a->b) == 0;
}
/* :: or 0.0.0.0 */
static inline bool ipaddr_is_any(const struct ipaddr *a)
{
	static const uint8_t zero[16];
	return memcmp(a->b, zero, 16) == 0 || (ipaddr_is_v4(a) && memcmp(a->b + 12, zero, 4) == 0);
}
/* 127.0.0.0/8 or ::1 */
static inline bool ipaddr_is_loopback(const struct ipaddr *a)
{
	static const struct ipaddr one = {{[15] = 1}};
	return ipaddr_is_v4(a) ? a->b[12] == 127 : ipaddr_eq(a, &one);
}

/* One end of a connection; the port is in host byte order. */
struct endpoint {
	struct ipaddr addr;
	uint16_t port;
};

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define MIN_OF(a, b) ((a) < (b) ? (a) : (b))
#define MAX_OF(a, b) ((a) > (b) ? (a) : (b))

#endif
