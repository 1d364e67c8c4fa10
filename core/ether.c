/*
 * ether.c - Ethernet frames in and out.
 *
 * The only link type: 14 bytes of header, no VLAN tags. Multicast frames are
 * not for an IPv4 host without groups. On a device without neighbours
 * (DEVICE_NO_ARP) addresses mean nothing and are zero.
 * Place in the flow: stack_input -> here -> arp_input or ipv4_input;
 * neigh_output, arp_request -> here -> cx->tx.
 */
#include "core/net.h"

static const uint8_t broadcast_mac[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};

enum ether_verdict { ETHER_DROP = 0, ETHER_IGNORE, ETHER_UNICAST, ETHER_BROADCAST };

static enum ether_verdict ether_classify(struct stack_cx *cx, const uint8_t *p)
{
	const struct stack_config *c = &stack_of(cx)->config;

	if (c->device_caps & DEVICE_NO_ARP)
		return ETHER_UNICAST;
	if ((p[6] & 1) || memcmp(p + 6, c->mac, 6) == 0)
		return ETHER_DROP; /* a group as source; or our own frame come back */
	if (memcmp(p, c->mac, 6) == 0)
		return ETHER_UNICAST;
	if (memcmp(p, broadcast_mac, 6) == 0)
		return ETHER_BROADCAST;
	return p[0] & 1 ? ETHER_IGNORE : ETHER_DROP;
}

void ether_input(struct stack_cx *cx, const struct frame_rx *f)
{
	enum ether_verdict v = ETHER_DROP;

	if (f->len >= ETHER_HEADER && f->len <= FRAME_LEN_MAX)
		v = ether_classify(cx, f->data);
	if (v == ETHER_IGNORE)
		return;
	if (v == ETHER_DROP) {
		COUNT(cx, ether_bad);
		return;
	}
	const uint8_t *payload = f->data + ETHER_HEADER;
	uint32_t len = f->len - ETHER_HEADER;
	switch (get16(f->data + 12)) {
	case ETHERTYPE_IPV4:
		ipv4_input(cx, f, payload, len, v == ETHER_UNICAST);
		break;
	case ETHERTYPE_ARP:
		arp_input(cx, payload, len);
		break;
	default: /* VLAN tags, 802.3 lengths, protocols that we do not speak */
		COUNT(cx, ether_bad);
		break;
	}
}

void ether_header(struct stack_cx *cx, uint8_t *frame, const uint8_t dst[6], uint16_t ethertype)
{
	const struct stack_config *c = &stack_of(cx)->config;

	memcpy(frame, dst ? dst : broadcast_mac, 6);
	memcpy(frame + 6, c->mac, 6);
	put16(frame + 12, ethertype);
}

int ether_output(struct stack_cx *cx, struct frame_tx *f)
{
	int r = cx->tx(cx, f);

	COUNT(cx, frames_out);
	if (r < 0)
		COUNT(cx, tx_errors);
	return r;
}
