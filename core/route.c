/*
 * route.c - where a datagram goes next, and what kinds of addresses there are.
 *
 * One address, one connected prefix, at most one gateway: RFC 1122 3.3.1.1.
 * Place in the flow: ipv4_output and connect() ask here.
 */
#include "core/net.h"

static uint32_t prefix_mask(uint8_t prefix_len)
{
	return prefix_len ? UINT32_MAX << (32 - prefix_len) : 0;
}

bool addr_is_ours(struct stack_cx *cx, const struct ipaddr *a)
{
	return ipaddr_eq(a, &stack_of(cx)->config.addr);
}

bool addr_is_on_link(struct stack_cx *cx, const struct ipaddr *a)
{
	const struct stack_config *c = &stack_of(cx)->config;

	if (!ipaddr_is_v4(a))
		return false;
	/* a gateway outside the prefix is a neighbour by decree (point-to-point addressing with /32) */
	return ((ipaddr_v4_value(a) ^ ipaddr_v4_value(&c->addr)) & prefix_mask(c->prefix_len)) == 0 ||
	       (!ipaddr_is_any(&c->gateway) && ipaddr_eq(a, &c->gateway));
}

/* Of our own prefix: all ones, and all zeros, the broadcast of old (RFC 1122 3.3.6); /31 and /32 have none.
 */
static bool is_subnet_broadcast(const struct stack_config *c, uint32_t v)
{
	uint32_t mask = prefix_mask(c->prefix_len);

	if (c->prefix_len >= 31 || c->prefix_len == 0 || ((v ^ ipaddr_v4_value(&c->addr)) & mask) != 0)
		return false;
	return (v & ~mask) == ~mask || (v & ~mask) == 0;
}

bool addr_is_broadcast_or_multicast(struct stack_cx *cx, const struct ipaddr *a)
{
	if (!ipaddr_is_v4(a))
		return a->b[0] == 0xff;
	uint32_t v = ipaddr_v4_value(a);
	return v == UINT32_MAX || v >> 28 == 0xe || is_subnet_broadcast(&stack_of(cx)->config, v);
}

/* RFC 1122 3.2.1.3: never 0/8 (this network), 127/8 (loopback), a group or a broadcast. */
bool addr_is_unicast_source(struct stack_cx *cx, const struct ipaddr *a)
{
	if (!ipaddr_is_v4(a))
		return false;
	return a->b[12] != 0 && a->b[12] != 127 && !addr_is_broadcast_or_multicast(cx, a);
}

int route_lookup(struct stack_cx *cx, const struct ipaddr *dst, struct ipaddr *next_hop)
{
	const struct stack_config *c = &stack_of(cx)->config;

	/* local addresses: nothing of this stack comes back from its device (loop.c has them) */
	if ((c->device_caps & DEVICE_NONE) || !addr_is_unicast_source(cx, dst) || addr_is_ours(cx, dst))
		return -ENETUNREACH;
	if (addr_is_on_link(cx, dst))
		*next_hop = *dst;
	else if (!ipaddr_is_any(&c->gateway))
		*next_hop = c->gateway;
	else
		return -ENETUNREACH;
	return 0;
}

uint32_t route_mtu(struct stack_cx *cx, const struct ipaddr *dst)
{
	if (!addr_is_local(cx, dst))
		return stack_of(cx)->config.mtu;
	return ipaddr_is_v4(dst) ? LOOP_MTU : LOOP_MTU + 1; /* lo's 65536: IPv6 does not count its header */
}

uint32_t ip_header_len(const struct ipaddr *dst)
{
	return ipaddr_is_v4(dst) ? 20 : 40;
}
