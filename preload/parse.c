/*
 * parse.c - words, numbers, addresses and complaints for config.c and rules.c.
 */
#include <arpa/inet.h>
#include <errno.h>

#include "preload/parse.h"

int bad(const struct complaint *w, const char *fmt, ...)
{
	va_list ap;
	int n = 0;

	if (w->where && w->where[0])
		n = log_format(w->why, w->len, "%s: ", w->where);
	if (n >= 0 && (size_t)n < w->len) {
		va_start(ap, fmt);
		log_vformat(w->why + n, w->len - (size_t)n, fmt, &ap);
		va_end(ap);
	}
	return -EINVAL;
}

bool is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

int64_t number_parse(const char *s, size_t n, uint32_t max)
{
	uint64_t v = 0;

	if (n == 0 || n > 10)
		return -1;
	for (size_t i = 0; i < n; i++) {
		if (s[i] < '0' || s[i] > '9')
			return -1;
		v = v * 10 + (uint64_t)(s[i] - '0');
	}
	return v <= max ? (int64_t)v : -1;
}

bool addr_parse(const char *s, size_t n, struct ipaddr *out)
{
	char text[INET6_ADDRSTRLEN];
	uint8_t v4[4];

	if (n == 0 || n >= sizeof text)
		return false;
	memcpy(text, s, n);
	text[n] = '\0';
	if (inet_pton(AF_INET, text, v4) == 1) {
		*out = ipaddr_from_v4(v4);
		return true;
	}
	return inet_pton(AF_INET6, text, out->b) == 1;
}

bool bit_is_set(const struct ipaddr *a, unsigned bit)
{
	return a->b[bit / 8] & (0x80u >> (bit % 8));
}

void addr_show(const struct ipaddr *a, char *out, size_t len)
{
	char text[INET6_ADDRSTRLEN] = "";

	if (ipaddr_is_v4(a))
		inet_ntop(AF_INET, a->b + 12, text, sizeof text);
	else
		inet_ntop(AF_INET6, a->b, text, sizeof text);
	log_format(out, len, "%s", text);
}

struct word next_word(const char **p, const char *end)
{
	struct word w;

	while (*p < end && is_space(**p))
		(*p)++;
	w.s = *p;
	while (*p < end && !is_space(**p))
		(*p)++;
	w.n = (size_t)(*p - w.s);
	return w;
}

bool word_is(struct word w, const char *text)
{
	return w.n == strlen(text) && !memcmp(w.s, text, w.n);
}
