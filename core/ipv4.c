/*
 * ipv4.c - IPv4 in and out (RFC 791, RFC 1122 3.2, RFC 6864).
 *
 * A host without forwarding and without reassembly: our own segments leave
 * with DF, and peers that do path MTU discovery send none in pieces; what
 * arrives as a fragment is counted and dropped.
 * Place in the flow: ether_input -> ipv4_input -> tcp_input or icmp_input;
 * emit.c, icmp.c -> ipv4_output -> neigh_output.
 */
#include "core/net.h"

#define IP_DF	       0x4000u
#define IP_MF	       0x2000u
#define IP_OFFSET_MASK 0x1fffu
#define OPTION_LSRR    131u
#define OPTION_SSRR    137u

/* ------------------------------------------------------------------ input */

/* RFC 1122 3.2.1: version, lengths, checksum. The header's length, or 0. */
static uint32_t header_check(const uint8_t *p, uint32_t len)
{
	if (len < IPV4_HEADER_MIN || p[0] >> 4 != 4)
		return 0;
	uint32_t header = (p[0] & 15u) * 4, total = get16(p + 2);
	/* a total of 0 (a super-segment above 64 KiB) fails here as well */
	if (header < IPV4_HEADER_MIN || header > len || total < header || total > len)
		return 0;
	return csum_fold(csum_partial(p, header, 0)) == 0xffff ? header : 0;
}

/* 0; -EBADMSG: malformed; -EACCES: source-routed (RFC 7126 4.3.5: drop by default). Others mean nothing to
 * us. */
static int options_check(const uint8_t *p, uint32_t len)
{
	while (len && p[0] != 0) {
		if (p[0] == 1) {
			p++;
			len--;
			continue;
		}
		if (len < 2 || p[1] < 2 || p[1] > len)
			return -EBADMSG;
		if (p[0] == OPTION_LSRR || p[0] == OPTION_SSRR)
			return -EACCES;
		len -= p[1];
		p += p[1];
	}
	return 0;
}

static void deliver(struct stack_cx *cx, const struct frame_rx *f, const uint8_t *p, uint32_t header,
		    bool broadcast)
{
	struct ipaddr src = ipaddr_from_v4(p + 12), dst = ipaddr_from_v4(p + 16);
	uint32_t total = get16(p + 2);

	switch (p[9]) {
	case IPPROTO_TCP_:
		/* RFC 9293 MUST-57: a segment for a broadcast address is discarded silently */
		if (!broadcast)
			tcp_input(cx, f, &src, &dst, p[1], p + header, total - header);
		break;
	case IPPROTO_ICMP_:
		icmp_input(cx, p, header, total, broadcast);
		break;
	default:
		COUNT(cx, ip_unknown_proto);
		if (!broadcast)
			icmp_send_error(cx, p, total, ICMP_UNREACHABLE, ICMP_UNREACHABLE_PROTOCOL);
		break;
	}
}

void ipv4_input(struct stack_cx *cx, const struct frame_rx *f, const uint8_t *p, uint32_t len,
		bool to_us_at_link)
{
	uint32_t header = header_check(p, len);

	if (!header) {
		COUNT(cx, ip_bad_header);
		return;
	}
	struct ipaddr src = ipaddr_from_v4(p + 12), dst = ipaddr_from_v4(p + 16);
	bool ours = addr_is_ours(cx, &dst);
	bool broadcast = !ours && (dst.b[12] >> 4) != 0xe && addr_is_broadcast_or_multicast(cx, &dst);
	/* our own address as source is a LAND packet: nothing of ours comes back from the device */
	if (!(ours || broadcast) || !addr_is_unicast_source(cx, &src) || addr_is_ours(cx, &src)) {
		COUNT(cx, ip_bad_addr);
		return;
	}
	int err = options_check(p + IPV4_HEADER_MIN, header - IPV4_HEADER_MIN);
	if (err == -EACCES)
		COUNT(cx, ip_source_route);
	else if (err)
		COUNT(cx, ip_bad_header);
	else if (get16(p + 6) & (IP_MF | IP_OFFSET_MASK))
		COUNT(cx, ip_fragments);
	else /* RFC 1122 3.3.6: what came as a link broadcast is one, whatever its address says */
		deliver(cx, f, p, header, broadcast || !to_us_at_link);
}

/* ----------------------------------------------------------------- output */

/*
 * RFC 6864: the identifier of an atomic datagram (DF, never fragmented) means
 * nothing, but some middleboxes compress or reassemble by it: it advances by one
 * per packet on the wire. It starts at a keyed hash of the destination, and the
 * counters are spread over a table, so that it does not tell one peer how much
 * is sent to another (idle scan, CVE-2020-36516).
 */
static uint16_t next_id(struct stack_cx *cx, const struct ipaddr *dst, uint32_t packets)
{
	const struct stack *st = stack_of(cx);
	uint16_t *counters = pool_at(cx, st->ipid_counters);
	uint64_t h = siphash(st->key_ipid, dst->b + 12, 4);
	uint16_t *counter = &counters[h % IPID_COUNTERS];
	uint16_t id = (uint16_t)((h >> 32) + *counter);

	*counter = (uint16_t)(*counter + packets);
	return id;
}

static void header_fill(uint8_t *ip, uint32_t total, uint16_t id, const struct ipaddr *src,
			const struct ipaddr *dst, uint8_t proto, uint8_t tos, uint8_t ttl)
{
	ip[0] = 0x45;
	ip[1] = tos;
	put16(ip + 2, total);
	put16(ip + 4, id);
	put16(ip + 6, IP_DF);
	ip[8] = ttl;
	ip[9] = proto;
	put16(ip + 10, 0);
	memcpy(ip + 12, src->b + 12, 4);
	memcpy(ip + 16, dst->b + 12, 4);
	uint16_t sum = (uint16_t)~csum_fold(csum_partial(ip, IPV4_HEADER_MIN, 0));
	memcpy(ip + 10, &sum, 2);
}

int ipv4_output(struct stack_cx *cx, struct frame_tx *f, const struct ipaddr *src, const struct ipaddr *dst,
		uint8_t proto, uint8_t tos, uint8_t ttl)
{
	struct ipaddr next_hop;
	int err = route_lookup(cx, dst, &next_hop);

	if (err)
		return err;
	uint32_t total = f->header_len - ETHER_HEADER + f->payload_len, packets = 1, largest = total;
	if (f->gso_size && f->payload_len > f->gso_size) {
		packets = (f->payload_len + f->gso_size - 1u) / f->gso_size;
		largest = f->header_len - ETHER_HEADER + f->gso_size;
	}
	if (total > UINT16_MAX || largest > stack_of(cx)->config.mtu)
		return -EMSGSIZE; /* DF: what does not fit is lost, here as on any router */
	header_fill(f->header + ETHER_HEADER, total, next_id(cx, dst, packets), src, dst, proto, tos, ttl);
	f->csum_start = IPV4_TRANSPORT_OFFSET;
	f->csum_offset = proto == IPPROTO_TCP_ ? 16 : 0;
	return neigh_output(cx, f, &next_hop);
}
