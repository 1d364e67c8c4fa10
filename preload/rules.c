/*
 * rules.c - the rules' language: `use stack|kernel client|server addr/len[:ports]`.
 *
 * Place in the flow: config.c hands texts in; policy.c reads the result.
 */
#include <errno.h>

#include "preload/parse.h"

/* "80" or "8000-8080"; nothing: every port. */
static int rule_ports(struct rule *r, const char *s, const char *end, const struct complaint *w)
{
	const char *dash = memchr(s, '-', (size_t)(end - s));
	int64_t first = number_parse(s, (size_t)((dash ? dash : end) - s), 65535);
	int64_t last = dash ? number_parse(dash + 1, (size_t)(end - dash - 1), 65535) : first;

	if (first < 0 || last < 0)
		return bad(w, "'%.*s' are no ports; write 80 or 8000-8080", (int)MIN_OF(end - s, 32), s);
	if (first > last)
		return bad(w, "ports '%.*s' run backwards; write the smaller one first", (int)(end - s), s);
	r->port_first = (uint16_t)first;
	r->port_last = (uint16_t)last;
	return 0;
}

/* addr/len[:ports]; an IPv6 address may stand in brackets, and must when ports follow it without a length. */
static int rule_network(struct rule *r, struct word t, const struct complaint *w)
{
	const char *s = t.s, *end = t.s + t.n, *addr = s, *addr_end, *p;
	int shown = (int)MIN_OF(t.n, (size_t)64);
	int64_t len;

	if (*s == '[') {
		addr = s + 1;
		addr_end = memchr(s, ']', t.n);
		if (!addr_end)
			return bad(w, "'%.*s' lacks its ']'; write it as in [2001:db8::]/32:443", shown, s);
		p = addr_end + 1;
	} else {
		const char *slash = memchr(s, '/', t.n), *stop = slash ? slash : end;
		const char *colon = memchr(s, ':', (size_t)(stop - s));

		/* Two colons before any slash: an IPv6 address without brackets. */
		if (colon && memchr(colon + 1, ':', (size_t)(stop - colon - 1)))
			colon = NULL;
		p = addr_end = slash ? slash : colon ? colon : end;
	}
	if (addr_end < addr || !addr_parse(addr, (size_t)(addr_end - addr), &r->net))
		return bad(w, "'%.*s' is no address; write it as in 10.0.0.0/8:80", shown, s);
	unsigned base = ipaddr_is_v4(&r->net) ? 96 : 0;
	r->prefix_len = 128;
	if (p < end && *p == '/') {
		const char *colon = memchr(p, ':', (size_t)(end - p)), *stop = colon ? colon : end;

		len = number_parse(p + 1, (size_t)(stop - p - 1), 128 - base);
		if (len < 0)
			return bad(w, "'%.*s' has no right prefix length; write /0 to /%u", shown, s,
				   128 - base);
		r->prefix_len = (uint8_t)(base + (unsigned)len);
		p = stop;
	}
	for (unsigned bit = r->prefix_len; bit < 128; bit++)
		if (bit_is_set(&r->net, bit))
			return bad(w, "%.*s has bits beyond its prefix; clear them or lengthen the prefix",
				   shown, s);
	if (p == end)
		return 0;
	if (*p != ':')
		return bad(w, "'%.*s' is no network; write it as in 10.0.0.0/8:80", shown, s);
	return rule_ports(r, p + 1, end, w);
}

/* use stack|kernel client|server addr/len[:ports] */
int rule_parse(struct config *c, const char *s, const char *end, const struct complaint *w)
{
	struct rule r = {.port_first = 0, .port_last = 65535};
	struct word use = next_word(&s, end), where, who, net, more;
	int err;

	if (!use.n)
		return 0;
	where = next_word(&s, end);
	who = next_word(&s, end);
	net = next_word(&s, end);
	more = next_word(&s, end);
	if (!word_is(use, "use"))
		return bad(w, "'%.*s' begins no rule; write: use stack|kernel client|server ADDR/LEN[:PORTS]",
			   (int)MIN_OF(use.n, (size_t)32), use.s);
	r.to_stack = word_is(where, "stack");
	if (!r.to_stack && !word_is(where, "kernel"))
		return bad(w, "'use %.*s' is no rule; write use stack or use kernel",
			   (int)MIN_OF(where.n, (size_t)32), where.s);
	r.server = word_is(who, "server");
	if (!r.server && !word_is(who, "client"))
		return bad(w, "'use %.*s %.*s' is no rule; write client or server there", (int)where.n,
			   where.s, (int)MIN_OF(who.n, (size_t)32), who.s);
	if (!net.n)
		return bad(w, "the rule names no network; write it as in 10.0.0.0/8:80");
	if (more.n)
		return bad(w, "'%.*s' is too much for one rule; separate rules by ';'",
			   (int)MIN_OF(more.n, (size_t)32), more.s);
	err = rule_network(&r, net, w);
	if (err)
		return err;
	if (c->rule_count == RULES_MAX)
		return bad(w, "more than %d rules; join networks", RULES_MAX);
	c->rules[c->rule_count++] = r;
	return 0;
}

int rules_parse(struct config *c, const char *text, const struct complaint *w)
{
	const char *p = text;
	int err = 0;

	while (*p && !err) {
		size_t n = strcspn(p, ";\n");

		err = rule_parse(c, p, p + n, w);
		p += n + (p[n] != '\0');
	}
	return err;
}

int config_parse_rules(struct config *c, const char *text, char *why, size_t why_len)
{
	struct complaint w = {why, why_len, NULL};

	return rules_parse(c, text, &w);
}

void rules_show(const struct config *c, char *out, size_t len)
{
	size_t at = 0;

	out[0] = '\0';
	for (int i = 0; i < c->rule_count && at < len; i++) {
		const struct rule *r = &c->rules[i];
		bool v4 = ipaddr_is_v4(&r->net) && r->prefix_len >= 96;
		char net[64];

		addr_show(&r->net, net, sizeof net);
		at += (size_t)log_format(out + at, len - at, "%suse %s %s %s/%u", i ? "; " : "",
					 r->to_stack ? "stack" : "kernel", r->server ? "server" : "client",
					 net, r->prefix_len - (v4 ? 96u : 0u));
		if (at < len && (r->port_first > 0 || r->port_last < 65535))
			at += (size_t)log_format(out + at, len - at, ":%u-%u", r->port_first, r->port_last);
	}
}
