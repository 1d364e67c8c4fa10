/*
 * arp.c - the Address Resolution Protocol (RFC 826; RFC 1122 2.3.2; RFC 5227).
 *
 * Only packets are read and written here; what is known of neighbours is in
 * neigh.c. ARP has no security, so it is believed as little as possible: an
 * entry is created by an answer that we asked for, or by a request to us from
 * our own link; anything else may only refresh an entry that exists.
 * Place in the flow: ether_input -> here -> neigh_learn.
 */
#include "core/net.h"

#define ARP_LEN	     28u
#define ARP_ETHERNET 1u
#define ARP_REQUEST  1u
#define ARP_REPLY    2u

/* Offsets: htype 0, ptype 2, hlen 4, plen 5, op 6, sender MAC 8, sender IP 14, target MAC 18, target IP 24.
 */

static void arp_send(struct stack_cx *cx, uint16_t op, const uint8_t *link_dst, const uint8_t *target_mac,
		     const struct ipaddr *target)
{
	static const uint8_t nobody[6];
	const struct stack_config *c = &stack_of(cx)->config;
	struct frame_tx f;
	uint8_t *p = f.header + ETHER_HEADER;

	f.header_len = ETHER_HEADER + ARP_LEN;
	f.csum_start = f.csum_offset = f.gso_size = f.piece_count = 0;
	f.payload_len = 0;
	ether_header(cx, f.header, link_dst, ETHERTYPE_ARP);
	put16(p, ARP_ETHERNET);
	put16(p + 2, ETHERTYPE_IPV4);
	p[4] = 6;
	p[5] = 4;
	put16(p + 6, op);
	memcpy(p + 8, c->mac, 6);
	memcpy(p + 14, c->addr.b + 12, 4);
	memcpy(p + 18, target_mac ? target_mac : nobody, 6);
	memcpy(p + 24, target->b + 12, 4);
	ether_output(cx, &f);
}

void arp_request(struct stack_cx *cx, const struct ipaddr *target, const uint8_t *mac)
{
	arp_send(cx, ARP_REQUEST, mac, NULL, target);
}

static bool mac_is_station(const uint8_t *mac)
{
	static const uint8_t zero[6];

	return !(mac[0] & 1) && memcmp(mac, zero, 6) != 0;
}

static bool arp_well_formed(const uint8_t *p, uint32_t len)
{
	return len >= ARP_LEN && get16(p) == ARP_ETHERNET && get16(p + 2) == ETHERTYPE_IPV4 && p[4] == 6 &&
	       p[5] == 4 && (get16(p + 6) == ARP_REQUEST || get16(p + 6) == ARP_REPLY) &&
	       mac_is_station(p + 8);
}

void arp_input(struct stack_cx *cx, const uint8_t *p, uint32_t len)
{
	const struct stack_config *c = &stack_of(cx)->config;

	if (!arp_well_formed(p, len)) {
		COUNT(cx, arp_bad);
		return;
	}
	COUNT(cx, arp_in);
	if ((c->device_caps & DEVICE_NO_ARP) || memcmp(p + 8, c->mac, 6) == 0)
		return; /* no neighbours here; or our own packet come back */
	struct ipaddr sender = ipaddr_from_v4(p + 14), target = ipaddr_from_v4(p + 24);
	bool reply = get16(p + 6) == ARP_REPLY, for_us = addr_is_ours(cx, &target);

	if (addr_is_ours(cx, &sender)) {
		COUNT(cx, arp_conflict); /* RFC 5227 2.4 (b): keep the address and let an operator know */
		return;
	}
	/* RFC 826's merge flag; a probe (RFC 5227 1.1) has no sender address to learn. */
	if (addr_is_unicast_source(cx, &sender) && addr_is_on_link(cx, &sender))
		neigh_learn(cx, &sender, p + 8, reply, for_us && !reply);
	if (for_us && !reply)
		arp_send(cx, ARP_REPLY, p + 8, p + 8, &sender);
}
