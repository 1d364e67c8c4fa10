/*
 * icmp.c - ICMP for a TCP host (RFC 792, RFC 1122 3.2.2, RFC 5927).
 *
 * Echo is answered; errors about our TCP segments go to TCP, which believes
 * them only for sequence numbers in flight; redirects, source quench (RFC
 * 6633), timestamps and masks are ignored. All that we send is limited by one
 * token bucket whose level is jittered: a bucket that an attacker can count is
 * a side channel (CVE-2020-25705).
 * Place in the flow: ipv4_input -> icmp_input -> ipv4_output or tcp_icmp_error.
 */
#include "core/net.h"

#define ICMP_HEADER	   8u
#define ICMP_ECHO_REPLY	   0u
#define ICMP_ECHO	   8u
#define ICMP_TIME_EXCEEDED 11u
#define ICMP_PARAMETER	   12u
#define ICMP_FRAG_NEEDED   4u /* code of ICMP_UNREACHABLE */

#define ICMP_RATE_TOKEN_NS NS_PER_MS /* 1000 a second, the burst and the step as Linux has them */
#define ICMP_REFILL_NS	   (20 * NS_PER_MS)
#define ICMP_BURST	   50u
#define ICMP_JITTER	   3u
#define ICMP_TTL	   64u
#define ICMP_ERROR_MAX	   576u /* RFC 1812 4.3.2.3: as much of the datagram as fits in 576 bytes */
#define IPV4_MTU_MIN	   68u	/* RFC 791 */

static bool icmp_allowed(struct stack_cx *cx)
{
	struct token_bucket *b = &stack_of(cx)->icmp_limit;
	nsec elapsed = cx->now - b->last;

	if (b->last == 0 || elapsed >= ICMP_REFILL_NS) {
		uint64_t gain = b->last == 0 ? ICMP_BURST : MIN_OF(elapsed / ICMP_RATE_TOKEN_NS, ICMP_BURST);
		b->tokens = MIN_OF(b->tokens + (uint32_t)gain, ICMP_BURST) - rng_below(cx, ICMP_JITTER);
		b->last = cx->now ? cx->now : 1;
	}
	if (b->tokens == 0) {
		COUNT(cx, icmp_limited);
		return false;
	}
	b->tokens--;
	return true;
}

/* The 8 header bytes are in f already, but for the checksum; `data` follows them. */
static void icmp_send(struct stack_cx *cx, struct frame_tx *f, const struct ipaddr *dst, uint8_t tos,
		      const uint8_t *data, uint32_t len)
{
	uint8_t *icmp = f->header + IPV4_TRANSPORT_OFFSET;

	put16(icmp + 2, 0);
	uint16_t sum = (uint16_t)~csum_fold(csum_partial(data, len, csum_partial(icmp, ICMP_HEADER, 0)));
	memcpy(icmp + 2, &sum, 2);
	f->header_len = IPV4_TRANSPORT_OFFSET + ICMP_HEADER;
	f->gso_size = 0;
	f->payload_len = len;
	f->piece_count = len != 0;
	f->piece[0] = (struct frame_piece){data, len};
	ipv4_output(cx, f, &stack_of(cx)->config.addr, dst, IPPROTO_ICMP_, tos, ICMP_TTL);
}

void icmp_send_error(struct stack_cx *cx, const uint8_t *ip, uint32_t total_len, uint8_t type, uint8_t code)
{
	struct ipaddr to = ipaddr_from_v4(ip + 12);
	uint32_t room = MIN_OF(ICMP_ERROR_MAX, (uint32_t)stack_of(cx)->config.mtu);
	struct frame_tx f;

	if (!icmp_allowed(cx))
		return;
	memset(f.header + IPV4_TRANSPORT_OFFSET, 0, ICMP_HEADER);
	f.header[IPV4_TRANSPORT_OFFSET] = type;
	f.header[IPV4_TRANSPORT_OFFSET + 1] = code;
	icmp_send(cx, &f, &to, 0, ip, MIN_OF(total_len, room - IPV4_HEADER_MIN - ICMP_HEADER));
}

/* RFC 1122 3.2.2.6: the same identifier, number, data and TOS come back. */
static void echo_reply(struct stack_cx *cx, const uint8_t *ip, const uint8_t *icmp, uint32_t len)
{
	struct ipaddr to = ipaddr_from_v4(ip + 12);
	struct frame_tx f;

	if (len + IPV4_HEADER_MIN > stack_of(cx)->config.mtu || !icmp_allowed(cx))
		return;
	memcpy(f.header + IPV4_TRANSPORT_OFFSET, icmp, ICMP_HEADER);
	f.header[IPV4_TRANSPORT_OFFSET] = ICMP_ECHO_REPLY;
	COUNT(cx, icmp_echo);
	icmp_send(cx, &f, &to, ip[1], icmp + ICMP_HEADER, len - ICMP_HEADER);
}

/* What an error means: an errno, and whether RFC 1122 4.2.3.9 calls it hard. err 0: means nothing to TCP. */
struct icmp_meaning {
	int err;
	bool hard;
};

static struct icmp_meaning icmp_meaning_of(uint8_t type, uint8_t code)
{
	static const struct icmp_meaning unreachable[] = {
	    {ENETUNREACH, false},  /* 0 network */
	    {EHOSTUNREACH, false}, /* 1 host */
	    {ENOPROTOOPT, true},   /* 2 protocol */
	    {ECONNREFUSED, true},  /* 3 port */
	    {EMSGSIZE, false},	   /* 4 fragmentation needed */
	    {EOPNOTSUPP, false},   /* 5 source route failed */
	    {ENETUNREACH, true},   /* 6 network unknown */
	    {EHOSTDOWN, true},	   /* 7 host unknown */
	    {ENONET, true},	   /* 8 host isolated */
	    {ENETUNREACH, true},   /* 9 network prohibited */
	    {EHOSTUNREACH, true},  /* 10 host prohibited */
	    {ENETUNREACH, false},  /* 11 network, for this TOS */
	    {EHOSTUNREACH, false}, /* 12 host, for this TOS */
	    {EHOSTUNREACH, true},  /* 13 prohibited by filtering */
	    {EHOSTUNREACH, true},  /* 14 precedence violation */
	    {EHOSTUNREACH, true},  /* 15 precedence cutoff */
	};

	if (type == ICMP_UNREACHABLE && code < ARRAY_LEN(unreachable))
		return unreachable[code];
	if (type == ICMP_TIME_EXCEEDED)
		return (struct icmp_meaning){EHOSTUNREACH, false};
	if (type == ICMP_PARAMETER)
		return (struct icmp_meaning){EPROTO, false};
	return (struct icmp_meaning){0, false};
}

/* RFC 1191 7: routers of old say 0; then the next plateau below what was too long. */
static uint32_t mtu_plateau(uint32_t total_len)
{
	static const uint16_t plateaus[] = {32000, 17914, 8166, 4352, 2002, 1492, 1006, 508, 296};

	for (size_t i = 0; i < ARRAY_LEN(plateaus); i++)
		if (plateaus[i] < total_len)
			return plateaus[i];
	return IPV4_MTU_MIN;
}

static void error_input(struct stack_cx *cx, const uint8_t *icmp, uint32_t len)
{
	const uint8_t *ip = icmp + ICMP_HEADER;
	uint32_t quoted = len - ICMP_HEADER, mtu = 0;
	struct icmp_meaning m = icmp_meaning_of(icmp[0], icmp[1]);

	if (quoted < IPV4_HEADER_MIN || ip[0] >> 4 != 4 || (ip[0] & 15) < 5 ||
	    quoted < (ip[0] & 15u) * 4 + 8) { /* RFC 792: the header and 64 bits */
		COUNT(cx, icmp_bad);
		return;
	}
	const uint8_t *tcp = ip + (ip[0] & 15u) * 4;
	struct endpoint local = {ipaddr_from_v4(ip + 12), get16(tcp)};
	struct endpoint remote = {ipaddr_from_v4(ip + 16), get16(tcp + 2)};
	if (m.err == 0 || ip[9] != IPPROTO_TCP_ || (get16(ip + 6) & 0x1fff) ||
	    !addr_is_ours(cx, &local.addr)) {
		COUNT(cx, icmp_ignored);
		return;
	}
	if (icmp[0] == ICMP_UNREACHABLE && icmp[1] == ICMP_FRAG_NEEDED) {
		mtu = get16(icmp + 6);
		mtu = mtu ? MAX_OF(mtu, IPV4_MTU_MIN) : mtu_plateau(get16(ip + 2));
	}
	tcp_icmp_error(cx, &local, &remote, seq_of(get32(tcp + 4)), m.err, m.hard, mtu);
}

void icmp_input(struct stack_cx *cx, const uint8_t *ip, uint32_t header_len, uint32_t total_len,
		bool broadcast)
{
	const uint8_t *icmp = ip + header_len;
	uint32_t len = total_len - header_len;

	if (len < ICMP_HEADER || csum_fold(csum_partial(icmp, len, 0)) != 0xffff) {
		COUNT(cx, icmp_bad);
		return;
	}
	COUNT(cx, icmp_in);
	if (broadcast)
		return; /* RFC 1122 3.2.2.6: an echo to many may be left unanswered (smurf) */
	switch (icmp[0]) {
	case ICMP_ECHO:
		echo_reply(cx, ip, icmp, len);
		break;
	case ICMP_UNREACHABLE:
	case ICMP_TIME_EXCEEDED:
	case ICMP_PARAMETER:
		error_input(cx, icmp, len);
		break;
	default:
		break;
	}
}
