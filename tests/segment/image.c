/*
 * image.c - parse, check and build TCP/IPv4 frames for the tests (see image.h).
 */
#include "image.h"

#include <string.h>

static uint16_t get16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}
static uint32_t get32(const uint8_t *p)
{
	return (uint32_t)get16(p) << 16 | get16(p + 2);
}
static void put16(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}
static void put32(uint8_t *p, uint32_t v)
{
	put16(p, v >> 16);
	put16(p + 2, v);
}

uint16_t image_checksum(const uint8_t *p, uint32_t len, uint32_t sum)
{
	uint64_t s = sum;

	for (; len >= 2; p += 2, len -= 2)
		s += get16(p);
	if (len)
		s += (uint32_t)p[0] << 8;
	while (s >> 16)
		s = (s & 0xffff) + (s >> 16);
	return (uint16_t)~s;
}

static uint16_t tcp_checksum(const uint8_t *ip, const uint8_t *tcp, uint32_t len)
{
	uint32_t pseudo = 6 + len;

	for (int i = 12; i < 20; i += 2)
		pseudo += get16(ip + i);
	return image_checksum(tcp, len, pseudo);
}

bool image_is_tcp(const uint8_t *frame, uint32_t len)
{
	return len >= IMAGE_ETHER + 20 && get16(frame + 12) == 0x0800 && frame[IMAGE_ETHER + 9] == 6;
}

static const char *parse_option(struct image *im, const uint8_t *o, uint8_t size)
{
	switch (o[0]) {
	case 2:
		if (!(im->flags & SYN))
			return "MSS option outside a SYN (MUST-65)";
		if (size != 4 || im->mss >= 0)
			return "MSS option of wrong length, or twice";
		im->mss = get16(o + 2);
		return NULL;
	case 3:
		if (!(im->flags & SYN) || size != 3 || im->wscale >= 0)
			return "window scale option outside a SYN, of wrong length, or twice (RFC 7323 2.2)";
		if (o[2] > 14)
			return "window scale above 14 (RFC 7323 2.3)";
		im->wscale = o[2];
		return NULL;
	case 4:
		if (!(im->flags & SYN) || size != 2 || im->sack_permitted)
			return "SACK-permitted outside a SYN, of wrong length, or twice (RFC 2018 2)";
		im->sack_permitted = true;
		return NULL;
	case 5:
		if ((im->flags & SYN) || size < 10 || (size - 2) % 8 || im->sack_count)
			return "SACK option malformed, twice, or on a SYN";
		for (int i = 0; i < (size - 2) / 8; i++, im->sack_count++) {
			im->sack[i][0] = get32(o + 2 + 8 * i);
			im->sack[i][1] = get32(o + 6 + 8 * i);
			if ((int32_t)(im->sack[i][1] - im->sack[i][0]) <= 0)
				return "empty or inverted SACK block";
		}
		return NULL;
	case 8:
		if (size != 10 || im->ts)
			return "timestamp option of wrong length, or twice";
		im->ts = true;
		im->ts_val = get32(o + 2);
		im->ts_ecr = get32(o + 6);
		return NULL;
	default:
		return "option that this stack never negotiated";
	}
}

static const char *parse_options(struct image *im, const uint8_t *o, uint32_t left)
{
	while (left) {
		if (o[0] == 1) {
			o++, left--;
			continue;
		}
		if (o[0] == 0) {
			for (; left; o++, left--)
				if (*o)
					return "padding after EOL is not zero (MUST-69)";
			return NULL;
		}
		if (left < 2 || o[1] < 2 || o[1] > left)
			return "option length (MUST-68)";
		const char *bad = parse_option(im, o, o[1]);
		if (bad)
			return bad;
		left -= o[1];
		o += o[1];
	}
	return NULL;
}

static const char *parse_ip(const uint8_t *ip, uint32_t len, uint32_t *total)
{
	if (ip[0] != 0x45)
		return "IPv4 version or header length";
	*total = get16(ip + 2);
	if (*total > len || *total < 40)
		return "IPv4 total length";
	if (image_checksum(ip, 20, 0) != 0)
		return "IPv4 header checksum";
	if ((get16(ip + 6) & 0x4000) == 0 || (get16(ip + 6) & 0x3fff))
		return "DF clear, or a fragment";
	if (ip[8] == 0)
		return "TTL 0";
	return NULL;
}

const char *image_parse(const uint8_t *frame, uint32_t len, struct image *im)
{
	const uint8_t *ip = frame + IMAGE_ETHER, *tcp = ip + 20;
	uint32_t total, header;
	const char *bad;

	memset(im, 0, sizeof *im);
	im->mss = im->wscale = -1;
	if (!image_is_tcp(frame, len))
		return "not TCP over IPv4";
	bad = parse_ip(ip, len - IMAGE_ETHER, &total);
	if (bad)
		return bad;
	im->tos = ip[1];
	im->ttl = ip[8];
	im->src = get32(ip + 12);
	im->dst = get32(ip + 16);
	im->sport = get16(tcp);
	im->dport = get16(tcp + 2);
	im->seq = get32(tcp + 4);
	im->ack = get32(tcp + 8);
	header = (uint32_t)(tcp[12] >> 4) * 4;
	im->flags = tcp[13];
	im->wnd = get16(tcp + 14);
	im->urg = get16(tcp + 18);
	if (header < 20 || header > total - 20)
		return "TCP data offset";
	if (tcp[12] & 0x0f)
		return "reserved bits set";
	if (tcp_checksum(ip, tcp, total - 20) != 0)
		return "TCP checksum (MUST-2)";
	im->len = total - 20 - header;
	im->data = tcp + header;
	if (!(im->flags & (SYN | ACK | RST)))
		return "segment without SYN, ACK or RST";
	if ((im->flags & SYN) && (im->flags & (FIN | RST)))
		return "SYN together with FIN or RST";
	if (!(im->flags & ACK) && im->ack)
		return "ACK field set without the flag";
	if (!(im->flags & URG) && im->urg)
		return "urgent pointer set without the flag";
	return parse_options(im, tcp + 20, header - 20);
}

static uint32_t build_options(uint8_t *o, const struct image *im)
{
	uint8_t *start = o;

	if (im->raw_options) {
		memcpy(o, im->raw_options, im->raw_options_len);
		o += im->raw_options_len;
	}
	if (im->mss >= 0) {
		*o++ = 2, *o++ = 4;
		put16(o, (uint32_t)im->mss);
		o += 2;
	}
	if (im->sack_permitted)
		*o++ = 4, *o++ = 2;
	if (im->ts) {
		*o++ = 8, *o++ = 10;
		put32(o, im->ts_val);
		put32(o + 4, im->ts_ecr);
		o += 8;
	}
	if (im->wscale >= 0)
		*o++ = 3, *o++ = 3, *o++ = (uint8_t)im->wscale;
	if (im->sack_count) {
		*o++ = 5, *o++ = (uint8_t)(2 + 8 * im->sack_count);
		for (int i = 0; i < im->sack_count; i++, o += 8) {
			put32(o, im->sack[i][0]);
			put32(o + 4, im->sack[i][1]);
		}
	}
	while ((o - start) % 4)
		*o++ = 0;
	return (uint32_t)(o - start);
}

void image_seal(uint8_t *frame, uint32_t len)
{
	uint8_t *ip = frame + IMAGE_ETHER;
	uint32_t header = (uint32_t)(ip[0] & 15) * 4;
	uint32_t tcp_len = len - IMAGE_ETHER - header;
	uint8_t *tcp = ip + header;

	put16(ip + 10, 0);
	put16(ip + 10, image_checksum(ip, header, 0));
	put16(tcp + 16, 0);
	put16(tcp + 16, tcp_checksum(ip, tcp, tcp_len));
}

uint32_t image_build(uint8_t *frame, const uint8_t dst_mac[6], const uint8_t src_mac[6],
		     const struct image *im)
{
	static uint16_t id;
	uint8_t *ip = frame + IMAGE_ETHER, *tcp = ip + 20;
	uint32_t header, total;

	memset(frame, 0, IMAGE_ETHER + 40);
	memcpy(frame, dst_mac, 6);
	memcpy(frame + 6, src_mac, 6);
	put16(frame + 12, 0x0800);
	header = 20 + build_options(tcp + 20, im);
	total = 20 + header + im->len;
	ip[0] = 0x45;
	ip[1] = im->tos;
	put16(ip + 2, total);
	put16(ip + 4, ++id);
	put16(ip + 6, 0x4000);
	ip[8] = im->ttl ? im->ttl : 64;
	ip[9] = 6;
	put32(ip + 12, im->src);
	put32(ip + 16, im->dst);
	put16(tcp, im->sport);
	put16(tcp + 2, im->dport);
	put32(tcp + 4, im->seq);
	put32(tcp + 8, im->ack);
	tcp[12] = (uint8_t)(header / 4 << 4);
	tcp[13] = im->flags;
	put16(tcp + 14, im->wnd);
	put16(tcp + 18, im->urg);
	if (im->len)
		memcpy(tcp + header, im->data, im->len);
	image_seal(frame, IMAGE_ETHER + total);
	if (im->bad_checksum)
		tcp[16] ^= 0x10;
	return IMAGE_ETHER + total;
}

void image_print(const struct image *im, uint32_t seq_shift, uint32_t ack_shift, char *out, size_t size)
{
	static const char letters[] = "FSRP.UEW";
	char flags[9], *f = flags;
	size_t n;

	for (int i = 0; i < 8; i++)
		if (im->flags >> i & 1)
			*f++ = letters[i];
	*f = 0;
	n = (size_t)snprintf(out, size, "%-3s seq %u", flags, im->seq - seq_shift);
	if (im->len && n < size)
		n += (size_t)snprintf(out + n, size - n, ":%u(%u)", im->seq - seq_shift + im->len, im->len);
	if ((im->flags & ACK) && n < size)
		n += (size_t)snprintf(out + n, size - n, " ack %u", im->ack - ack_shift);
	if (n < size)
		n += (size_t)snprintf(out + n, size - n, " win %u", im->wnd);
	if (im->urg && n < size)
		n += (size_t)snprintf(out + n, size - n, " urg %u", im->urg);
	if (im->mss >= 0 && n < size)
		n += (size_t)snprintf(out + n, size - n, " mss %d", im->mss);
	if (im->sack_permitted && n < size)
		n += (size_t)snprintf(out + n, size - n, " sackOK");
	if (im->wscale >= 0 && n < size)
		n += (size_t)snprintf(out + n, size - n, " wscale %d", im->wscale);
	if (im->ts && n < size)
		n += (size_t)snprintf(out + n, size - n, " ts %u/%u", im->ts_val, im->ts_ecr);
	for (int i = 0; i < im->sack_count && n < size; i++)
		n += (size_t)snprintf(out + n, size - n, " sack %u:%u", im->sack[i][0] - ack_shift,
				      im->sack[i][1] - ack_shift);
}

/* ------------------------------------------------------------- one end's promises */

void emitter_hears(struct emitter *e, const struct image *im)
{
	uint32_t end = im->seq + im->len + ((im->flags & SYN) != 0) + ((im->flags & FIN) != 0);

	if (im->flags & SYN) {
		e->peer_wscale = im->wscale;
		e->peer_ts = im->ts;
		e->peer_sack = im->sack_permitted;
	}
	if (!e->peer_known || (int32_t)(end - e->peer_end) > 0)
		e->peer_end = end;
	e->peer_known = true;
}

static const char *check_syn(struct emitter *e, const struct image *im)
{
	if (im->mss < 0)
		return "SYN without an MSS option (SHLD-5)";
	if (im->ts && !im->ts_val)
		return "timestamp value 0";
	if ((im->flags & ACK) && !e->syn_sent) { /* a SYN-ACK of a simultaneous open repeats our SYN */
		if (im->wscale >= 0 && e->peer_wscale < 0)
			return "window scale answered but not offered (RFC 7323 2.2)";
		if (im->ts && !e->peer_ts)
			return "timestamps answered but not offered (RFC 7323 3.2)";
		if (im->sack_permitted && !e->peer_sack)
			return "SACK-permitted answered but not offered";
	}
	if (e->syn_sent && im->seq != e->syn_seq)
		e->edge_known =
		    false; /* an old SYN arrived after the end: a new connection, which promised nothing */
	e->syn_seq = im->seq;
	if (e->syn_sent && im->seq != e->iss) /* a new incarnation: an old duplicate SYN was answered */
		e->edge_known = false;
	e->iss = im->seq;
	e->syn_sent = true;
	e->own_wscale = im->wscale;
	e->ts_on = im->ts;
	return NULL;
}

const char *emitter_check(struct emitter *e, const struct image *im)
{
	int shift = 0;
	uint32_t edge;

	if (im->flags & SYN) {
		const char *bad = check_syn(e, im);
		if (bad)
			return bad;
	} else if (e->syn_sent && !(im->flags & RST)) {
		if (im->ts != (e->ts_on && e->peer_ts))
			return "timestamps missing, or present without negotiation (RFC 7323 3.2)";
		if (im->sack_count && !e->peer_sack)
			return "SACK without negotiation";
		if (im->wscale >= 0 || im->mss >= 0)
			return "SYN option on a later segment";
		if (e->own_wscale >= 0 && e->peer_wscale >= 0)
			shift = e->own_wscale;
	}
	if (!(im->flags & ACK) || (im->flags & RST))
		return NULL;
	if (e->peer_known && (int32_t)(im->ack - e->peer_end) > 0 &&
	    !(e->before_known && (int32_t)(im->ack - e->peer_end_before) <= 0))
		return "ACK of data never received";
	for (int i = 0; i < im->sack_count; i++)
		if ((int32_t)(im->sack[i][1] - e->peer_end) > 0)
			return "SACK of data never received";
	edge = im->ack + ((uint32_t)im->wnd << shift);
	if (e->edge_known && (int32_t)(edge - e->edge) < 0) {
		/* a repeated SYN-ACK cannot say what a scaled window said in between */
		if (im->flags & SYN)
			return NULL;
		return "right window edge moved left (SHLD-14)";
	}
	e->edge = edge;
	e->edge_known = true;
	return NULL;
}

/* ------------------------------------------------------------- captures */

FILE *pcap_open(const char *path)
{
	/* libpcap file format: nanosecond magic, version 2.4, zone 0, accuracy 0, snap length, Ethernet */
	static const uint32_t head[6] = {0xa1b23c4d, 2 | 4u << 16, 0, 0, 65535 + 14, 1};
	FILE *f = fopen(path, "wb");

	if (f)
		fwrite(head, sizeof head, 1, f);
	return f;
}

void pcap_write(FILE *f, uint64_t ns, const uint8_t *frame, uint32_t len)
{
	uint32_t head[4] = {(uint32_t)(ns / NS_PER_S), (uint32_t)(ns % NS_PER_S), len, len};

	fwrite(head, sizeof head, 1, f);
	fwrite(frame, len, 1, f);
}
