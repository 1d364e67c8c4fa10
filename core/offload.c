/*
 * offload.c - segmentation and checksums in software.
 *
 * A super-segment becomes the frames that a wire would carry: each gets a copy
 * of the headers with its own total length, IP identifier, sequence number,
 * flags and checksums. Pieces of payload may begin and end anywhere: they are
 * first copied together, then summed, so that odd lengths need no care.
 * Place in the flow: behind the stack, for devices without offload, for
 * captures and for tests. It needs no stack.
 */
#include "core/net.h"

#define TCP_CSUM_OFFSET 16u

/* Where things are in the headers of a TCP/IPv4 frame. */
struct frame_layout {
	uint32_t ip, tcp, payload;
};

/* Reads payload pieces as one stream. */
struct piece_cursor {
	const struct frame_tx *f;
	uint32_t index, used;
};

static uint32_t cursor_read(struct piece_cursor *c, uint8_t *to, uint32_t want)
{
	uint32_t done = 0;

	while (done < want && c->index < c->f->piece_count) {
		const struct frame_piece *p = &c->f->piece[c->index];
		uint32_t n = MIN_OF(want - done, p->len - c->used);
		memcpy(to + done, (const uint8_t *)p->data + c->used, n);
		done += n;
		c->used += n;
		if (c->used == p->len) {
			c->index++;
			c->used = 0;
		}
	}
	return done;
}

static bool layout_of(const struct frame_tx *f, struct frame_layout *l)
{
	const uint8_t *h = f->header;

	if (f->header_len < ETHER_HEADER + IPV4_HEADER_MIN + 20 || f->header_len > FRAME_HEADER_MAX ||
	    get16(h + 12) != ETHERTYPE_IPV4)
		return false;
	l->ip = ETHER_HEADER;
	if (h[l->ip] >> 4 != 4 || (h[l->ip] & 15) < 5 || h[l->ip + 9] != IPPROTO_TCP_)
		return false;
	l->tcp = l->ip + (h[l->ip] & 15u) * 4;
	if (l->tcp + 20 > f->header_len)
		return false;
	l->payload = l->tcp + (uint32_t)(h[l->tcp + 12] >> 4) * 4;
	return l->payload == f->header_len;
}

static void store_csum(uint8_t *at, uint64_t sum)
{
	uint16_t v = (uint16_t)~csum_fold(sum);
	memcpy(at, &v, 2);
}

/* Lengths, identifier, sequence number and flags of piece number `index`. */
static void piece_headers(uint8_t *frame, const struct frame_layout *l, uint32_t index, uint32_t offset,
			  uint32_t len, bool last)
{
	uint8_t *ip = frame + l->ip, *tcp = frame + l->tcp;

	put16(ip + 2, l->payload - l->ip + len);
	put16(ip + 4, get16(ip + 4) + index);
	put16(ip + 10, 0);
	store_csum(ip + 10, csum_partial(ip, l->tcp - l->ip, 0));
	put32(tcp + 4, get32(tcp + 4) + offset);
	if (!last)
		tcp[13] = (uint8_t)(tcp[13] & ~(TH_FIN | TH_PSH));
	if (index)
		tcp[13] = (uint8_t)(tcp[13] & ~TH_CWR); /* RFC 3168 6.1.2: once per window */
}

static void piece_checksum(uint8_t *frame, const struct frame_layout *l, uint32_t len)
{
	struct ipaddr src = ipaddr_from_v4(frame + l->ip + 12), dst = ipaddr_from_v4(frame + l->ip + 16);
	uint32_t tcp_len = l->payload - l->tcp + len;

	put16(frame + l->tcp + TCP_CSUM_OFFSET, 0);
	store_csum(frame + l->tcp + TCP_CSUM_OFFSET,
		   csum_partial(frame + l->tcp, tcp_len, csum_tcp_pseudo(&src, &dst, tcp_len)));
}

static int segment_super(const struct frame_tx *f, uint8_t *scratch,
			 int (*emit)(void *arg, const uint8_t *frame, uint32_t len), void *arg)
{
	struct piece_cursor c = {.f = f};
	struct frame_layout l;
	uint32_t offset = 0, index = 0;

	if (!layout_of(f, &l))
		return -EINVAL;
	do {
		uint32_t len = MIN_OF((uint32_t)f->gso_size, f->payload_len - offset);
		bool last = offset + len == f->payload_len;
		memcpy(scratch, f->header, f->header_len);
		if (cursor_read(&c, scratch + l.payload, len) != len)
			return -EINVAL;
		piece_headers(scratch, &l, index++, offset, len, last);
		piece_checksum(scratch, &l, len);
		offset += len;
		int r = emit(arg, scratch, l.payload + len);
		if (r)
			return r;
	} while (offset < f->payload_len);
	return 0;
}

int frame_segment(const struct frame_tx *f, uint8_t *scratch,
		  int (*emit)(void *arg, const uint8_t *frame, uint32_t len), void *arg)
{
	struct piece_cursor c = {.f = f};
	uint32_t len = f->header_len + f->payload_len;

	if (f->header_len > FRAME_HEADER_MAX || f->payload_len > FRAME_LEN_MAX - f->header_len ||
	    f->piece_count > FRAME_PIECES_MAX)
		return -EINVAL;
	if (f->gso_size && f->payload_len > f->gso_size)
		return segment_super(f, scratch, emit, arg);
	memcpy(scratch, f->header, f->header_len);
	if (cursor_read(&c, scratch + f->header_len, f->payload_len) != f->payload_len)
		return -EINVAL;
	if (f->csum_offset) {
		uint32_t at = (uint32_t)f->csum_start + f->csum_offset;
		if (at + 2 > f->header_len)
			return -EINVAL;
		/* the field holds the pseudo-header's sum, and so takes part in the sum */
		store_csum(scratch + at, csum_partial(scratch + f->csum_start, len - f->csum_start, 0));
	}
	return emit(arg, scratch, len);
}
