/*
 * parse.h - the small pieces that config.c and rules.c are made of.
 *
 * Place in the flow: config.c, rules.c -> here. Strict throughout: nothing is
 * skipped, guessed or cut off.
 */
#ifndef PRELOAD_PARSE_H
#define PRELOAD_PARSE_H

#include "preload/preload.h"

/* Where an error is told: why[0..len), begun with the place of the value. */
struct complaint {
	char *why;
	size_t len;
	const char *where; /* NULL or "": nothing in front */
};
/* Write the complaint; -EINVAL. */
int bad(const struct complaint *w, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* A piece of a longer text. */
struct word {
	const char *s;
	size_t n;
};
bool is_space(char c);
/* The word at *p, without the space before it; n is 0 at the end. Moves *p behind it. */
struct word next_word(const char **p, const char *end);
bool word_is(struct word w, const char *text);

/* Decimal digits only, at most max. The number or -1. */
int64_t number_parse(const char *s, size_t n, uint32_t max);
/* An IPv4 or IPv6 address of n characters. */
bool addr_parse(const char *s, size_t n, struct ipaddr *out);
void addr_show(const struct ipaddr *a, char *out, size_t len);
/* bit 0 is the first on the wire */
bool bit_is_set(const struct ipaddr *a, unsigned bit);

/* rules.c: one rule in [s, end), or several separated by ';' and lines. An empty one is none. */
int rule_parse(struct config *c, const char *s, const char *end, const struct complaint *w);
int rules_parse(struct config *c, const char *text, const struct complaint *w);
void rules_show(const struct config *c, char *out, size_t len);

#endif
