/*
 * policy.c - stack or kernel? The decision for one connection or listener.
 *
 * The user's rules are asked first, in their order; the first that fits
 * decides. Without one, a client's multicast and unroutable addresses belong to
 * the kernel, loopback to whom the setting of that name says, and a server goes
 * to the stack when it listens on every address or on one that clients reach
 * there. Accepted sockets inherit.
 *
 * Place in the flow: socket.c asks at connect() and listen() (design D4).
 */
#include "preload/preload.h"

enum verdict {
	TO_STACK,
	TO_KERNEL_BY_RULE,
	TO_KERNEL_LOOPBACK,
	TO_KERNEL_MULTICAST,
	TO_KERNEL_NO_ROUTE,
	TO_KERNEL_IPV6,
	TO_KERNEL_FOREIGN, /* a server on an address that is not the stack's */
	TO_KERNEL_OFF,
};

static bool same_prefix(const struct ipaddr *a, const struct ipaddr *b, unsigned bits)
{
	unsigned bytes = bits / 8, rest = bits % 8;

	if (memcmp(a->b, b->b, bytes) != 0)
		return false;
	return rest == 0 || ((a->b[bytes] ^ b->b[bytes]) & (0xff00u >> rest) & 0xff) == 0;
}

static bool rule_fits(const struct rule *r, bool server, const struct endpoint *e)
{
	return r->server == server && same_prefix(&r->net, &e->addr, r->prefix_len) &&
	       e->port >= r->port_first && e->port <= r->port_last;
}

static enum verdict client_verdict(const struct config *c, const struct ipaddr *a)
{
	struct ipaddr own;
	uint8_t prefix_len;
	const uint8_t *b = a->b + 12;

	/* connect() to the unspecified address means this host (ip(7)). */
	if (ipaddr_is_any(a) || ipaddr_is_loopback(a))
		return c->loopback ? TO_STACK : TO_KERNEL_LOOPBACK;
	if (!ipaddr_is_v4(a))
		return a->b[0] == 0xff ? TO_KERNEL_MULTICAST : TO_KERNEL_IPV6;
	if (b[0] >= 224 && b[0] < 240)
		return TO_KERNEL_MULTICAST;
	config_network(c, &own, &prefix_len);
	if (same_prefix(&own, a, 96u + prefix_len))
		return TO_STACK;
	/* 240/4 is reserved, 255.255.255.255 a broadcast: no gateway forwards them. */
	if (config_no_device(c) || ipaddr_is_any(&c->net.stack.gateway) || b[0] >= 240)
		return TO_KERNEL_NO_ROUTE;
	return TO_STACK;
}

static enum verdict server_verdict(const struct config *c, const struct ipaddr *a)
{
	struct ipaddr own;
	uint8_t prefix_len;

	config_network(c, &own, &prefix_len);
	if (ipaddr_is_any(a) || ipaddr_eq(a, &own))
		return TO_STACK;
	if (ipaddr_is_loopback(a))
		return c->loopback ? TO_STACK : TO_KERNEL_LOOPBACK;
	return TO_KERNEL_FOREIGN;
}

static enum verdict decide(const struct config *c, bool server, const struct endpoint *e)
{
	if (c->off)
		return TO_KERNEL_OFF;
	for (int i = 0; i < c->rule_count; i++)
		if (rule_fits(&c->rules[i], server, e)) {
			/* A rule cannot make the stack speak a protocol that it lacks. */
			if (c->rules[i].to_stack && !ipaddr_is_v4(&e->addr) && !ipaddr_is_any(&e->addr) &&
			    !ipaddr_is_loopback(&e->addr))
				return TO_KERNEL_IPV6;
			return c->rules[i].to_stack ? TO_STACK : TO_KERNEL_BY_RULE;
		}
	return server ? server_verdict(c, &e->addr) : client_verdict(c, &e->addr);
}

bool policy_use_stack(const struct config *c, bool server, const struct endpoint *e)
{
	return decide(c, server, e) == TO_STACK;
}

const char *policy_fallback_reason(const struct config *c, bool server, const struct endpoint *e, int *error)
{
	static const struct {
		const char *text;
		int error;
	} reason[] = {
	    [TO_STACK] = {NULL, 0},
	    [TO_KERNEL_BY_RULE] = {NULL, 0},
	    [TO_KERNEL_LOOPBACK] = {"loopback", 0},
	    [TO_KERNEL_MULTICAST] = {"multicast", 0},
	    [TO_KERNEL_NO_ROUTE] = {"no route in the stack", -ENETUNREACH},
	    [TO_KERNEL_IPV6] = {"no IPv6 in the stack", -ENETUNREACH},
	    [TO_KERNEL_FOREIGN] = {"a listener on another address", 0},
	    [TO_KERNEL_OFF] = {"the stack is switched off", -ENETDOWN},
	};
	enum verdict v = decide(c, server, e);

	if (error)
		*error = reason[v].error;
	return reason[v].text;
}
