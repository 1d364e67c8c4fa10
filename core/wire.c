/*
 * wire.c - TCP headers and options: the only file that touches TCP's bytes.
 *
 * wire_parse() turns a header into a struct segment, and no code behind it
 * looks at bytes again; wire_build() writes one, with the options in the order
 * and padding that Linux uses (middleboxes and fingerprints know it).
 * Place in the flow: tcp_input.c parses with it, output.c builds with it.
 */
#include "core/net.h"

#define TCP_HEADER_MIN 20u
#define OPTIONS_MAX    40u /* data offset is 4 bits: 60 - 20 */
#define WSCALE_MAX     14u /* RFC 7323 2.3 */

enum {
	OPT_END = 0,
	OPT_NOP = 1,
	OPT_MSS = 2,
	OPT_WSCALE = 3,
	OPT_SACK_PERMITTED = 4,
	OPT_SACK = 5,
	OPT_TS = 8
};

#define LEN_MSS		   4u
#define LEN_WSCALE	   3u
#define LEN_SACK_PERMITTED 2u
#define LEN_TS		   10u
#define LEN_TS_ALIGNED	   12u
#define LEN_SACK_BASE	   2u
#define LEN_SACK_BLOCK	   8u

/* ------------------------------------------------------------- reading */

static void parse_sack(const uint8_t *p, uint32_t len, struct segment *s)
{
	uint32_t count = (len - LEN_SACK_BASE) / LEN_SACK_BLOCK;

	if (count == 0 || count > SACK_BLOCKS_MAX || (len - LEN_SACK_BASE) % LEN_SACK_BLOCK != 0)
		return; /* RFC 2018 3: length 8n+2 */
	for (uint32_t i = 0; i < count; i++) {
		s->sack[i].start = seq_of(get32(p + 2 + 8 * i));
		s->sack[i].end = seq_of(get32(p + 6 + 8 * i));
	}
	s->sack_count = (uint8_t)count;
}

/*
 * One option of known bounds. A known kind with another length is skipped as if
 * unknown (RFC 9293 MUST-6, as Linux does); of duplicates the last one counts.
 * MSS, window scale and SACK-permitted mean something on a SYN only.
 */
static void parse_option(const uint8_t *p, uint32_t len, struct segment *s)
{
	bool syn = s->flags & TH_SYN;

	switch (p[0]) {
	case OPT_MSS:
		if (len == LEN_MSS && syn && get16(p + 2) != 0) {
			s->has_mss = true; /* zero: as absent, MUST-15's default applies */
			s->mss = get16(p + 2);
		}
		break;
	case OPT_WSCALE:
		if (len == LEN_WSCALE && syn) {
			s->has_wscale = true;
			s->wscale = (uint8_t)MIN_OF(p[2], WSCALE_MAX); /* RFC 7323 2.3 */
		}
		break;
	case OPT_SACK_PERMITTED:
		if (len == LEN_SACK_PERMITTED && syn)
			s->has_sack_permitted = true;
		break;
	case OPT_SACK:
		if (len > LEN_SACK_BASE && !syn)
			parse_sack(p, len, s);
		break;
	case OPT_TS:
		if (len == LEN_TS) {
			s->has_ts = true;
			s->ts_val = get32(p + 2);
			s->ts_ecr = get32(p + 6);
		}
		break;
	default: /* unknown kinds are skipped: RFC 9293 MUST-6 */
		break;
	}
}

/* RFC 9293 3.1: MUST-4 (in any segment), MUST-5 and 64 (any order, not aligned), MUST-7 (illegal lengths). */
static int parse_options(const uint8_t *p, uint32_t len, struct segment *s)
{
	static const uint8_t ts_only[4] = {OPT_NOP, OPT_NOP, OPT_TS, LEN_TS};

	if (len == LEN_TS_ALIGNED && memcmp(p, ts_only, sizeof ts_only) == 0) {
		parse_option(p + 2, LEN_TS, s); /* nearly every segment */
		return 0;
	}
	while (len) {
		if (p[0] == OPT_END)
			return 0; /* MUST-69: what follows is padding */
		if (p[0] == OPT_NOP) {
			p++;
			len--;
			continue;
		}
		if (len < 2 || p[1] < 2 || p[1] > len)
			return -EBADMSG;
		uint32_t n = p[1];
		parse_option(p, n, s);
		p += n;
		len -= n;
	}
	return 0;
}

int wire_parse(const uint8_t *tcp, uint32_t len, struct segment *s)
{
	if (len < TCP_HEADER_MIN)
		return -EBADMSG;
	uint32_t header = (uint32_t)(tcp[12] >> 4) * 4;
	if (header < TCP_HEADER_MIN || header > len)
		return -EBADMSG;

	s->src.port = get16(tcp);
	s->dst.port = get16(tcp + 2);
	s->seq = seq_of(get32(tcp + 4));
	s->ack = seq_of(get32(tcp + 8));
	s->flags = tcp[13];
	s->wnd = get16(tcp + 14);
	s->urg = get16(tcp + 18);
	s->data = tcp + header;
	s->len = len - header;
	s->has_mss = s->has_wscale = s->has_sack_permitted = s->has_ts = false;
	s->mss = 0;
	s->wscale = s->sack_count = 0;
	s->ts_val = s->ts_ecr = 0;
	return parse_options(tcp + TCP_HEADER_MIN, header - TCP_HEADER_MIN, s);
}

bool wire_checksum_ok(const struct ipaddr *src, const struct ipaddr *dst, const uint8_t *tcp, uint32_t len)
{
	return csum_fold(csum_partial(tcp, len, csum_tcp_pseudo(src, dst, len))) == 0xffff;
}

/* ------------------------------------------------------------- writing */

/* Blocks that fit behind the other options: 4, or 3 beside timestamps (RFC 2018 3). */
static uint32_t sack_blocks_that_fit(const struct wire_options *o, uint32_t used)
{
	uint32_t room = OPTIONS_MAX - used;

	if (o->sack_count == 0 || room < 2 + LEN_SACK_BASE + LEN_SACK_BLOCK)
		return 0;
	return MIN_OF((uint32_t)o->sack_count, (room - 2 - LEN_SACK_BASE) / LEN_SACK_BLOCK);
}

static uint32_t options_len_without_sack(const struct wire_options *o)
{
	/* SACK-permitted takes the place of the two NOPs before the timestamps */
	return (o->mss ? LEN_MSS : 0) +
	       (o->ts		    ? LEN_TS_ALIGNED
		: o->sack_permitted ? 4
				    : 0) +
	       (o->wscale ? LEN_WSCALE + 1 : 0);
}

uint32_t wire_options_len(const struct wire_options *o)
{
	uint32_t used = options_len_without_sack(o), blocks = sack_blocks_that_fit(o, used);

	return used + (blocks ? 2 + LEN_SACK_BASE + blocks * LEN_SACK_BLOCK : 0);
}

static uint8_t *build_ts(uint8_t *p, const struct wire_options *o)
{
	p[0] = o->sack_permitted ? OPT_SACK_PERMITTED : OPT_NOP;
	p[1] = o->sack_permitted ? LEN_SACK_PERMITTED : OPT_NOP;
	p[2] = OPT_TS;
	p[3] = LEN_TS;
	put32(p + 4, o->ts_val);
	put32(p + 8, o->ts_ecr);
	return p + LEN_TS_ALIGNED;
}

static uint8_t *build_sack(uint8_t *p, const struct wire_options *o, uint32_t blocks)
{
	p[0] = p[1] = OPT_NOP;
	p[2] = OPT_SACK;
	p[3] = (uint8_t)(LEN_SACK_BASE + blocks * LEN_SACK_BLOCK);
	p += 4;
	for (uint32_t i = 0; i < blocks; i++, p += LEN_SACK_BLOCK) {
		put32(p, o->sack[i].start.v);
		put32(p + 4, o->sack[i].end.v);
	}
	return p;
}

static uint8_t *build_options(uint8_t *p, const struct wire_options *o)
{
	uint32_t blocks = sack_blocks_that_fit(o, options_len_without_sack(o));

	if (o->mss) {
		p[0] = OPT_MSS;
		p[1] = LEN_MSS;
		put16(p + 2, o->mss_value);
		p += LEN_MSS;
	}
	if (o->ts) {
		p = build_ts(p, o);
	} else if (o->sack_permitted) {
		p[0] = p[1] = OPT_NOP;
		p[2] = OPT_SACK_PERMITTED;
		p[3] = LEN_SACK_PERMITTED;
		p += 4;
	}
	if (o->wscale) {
		p[0] = OPT_NOP;
		p[1] = OPT_WSCALE;
		p[2] = LEN_WSCALE;
		p[3] = o->wscale_value;
		p += 4;
	}
	return blocks ? build_sack(p, o, blocks) : p;
}

uint32_t wire_build(uint8_t *tcp, uint16_t sport, uint16_t dport, seq32 seq, seq32 ack, uint8_t flags,
		    uint16_t wnd, uint16_t urg, const struct wire_options *o)
{
	uint8_t *end = o ? build_options(tcp + TCP_HEADER_MIN, o) : tcp + TCP_HEADER_MIN;
	uint32_t header = (uint32_t)(end - tcp); /* a multiple of 4: every option above is padded to it */

	put16(tcp, sport);
	put16(tcp + 2, dport);
	put32(tcp + 4, seq.v);
	put32(tcp + 8, ack.v);
	tcp[12] = (uint8_t)(header / 4 << 4);
	tcp[13] = flags;
	put16(tcp + 14, wnd);
	put16(tcp + 16, 0); /* the caller puts the pseudo-header's sum here */
	put16(tcp + 18, urg);
	return header;
}
