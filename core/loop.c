/*
 * loop.c - segments from this stack to itself: 127.0.0.0/8, ::1 and its own address.
 *
 * Theory of operation. No frame is made. What emit.c built - a TCP header and
 * pieces of the sender's queue - is copied into an object of the region, the
 * payload into chunks as a socket's buffer has them, and put at the end of one
 * queue. stack_flush() delivers what the queue holds after its round of output,
 * lets the receivers answer in the next round, and so on until nothing is left:
 * a handshake, or a write and its ACK, is over when the verb's flush is. Delivery
 * is never nested in output, so no TCB finds itself changed under its own feet,
 * and a socket may even be connected to itself.
 *
 * One flush delivers at most LOOP_BURST segments, so that nobody holds the
 * lock for long; while something is left the stack's deadline is "now".
 *
 * Sizes are those of Linux's lo: a datagram of 64 KiB, uncut, its checksum
 * never made. A payload comes out as one segment for each of its chunks; a
 * chunk that is taken whole is linked into the receiver's buffer, not copied.
 * Addresses keep their 128 bits: ::1 works without IPv6 on any wire.
 *
 * The memory is charged like a socket's. When it is short the tail of a payload
 * is lost as on any network, its beginning never: the receiver moves on.
 *
 * Place in the flow: emit.c -> loop_output() ... stack_flush() ->
 * loop_deliver() -> tcp_dispatch().
 */
#include "core/chunk.h"
#include "core/net.h"

#define LOOP_BURST 512u

struct loop_segment {
	struct pool_head head;
	ref next;
	ref first, last; /* chunks of the payload */
	uint64_t bytes, charged;
	struct ipaddr src, dst;
	uint16_t gso_size;
	uint8_t tos, header_len;
	uint8_t tcp[60];
};
_Static_assert(sizeof(struct loop_segment) <= 192, "struct loop_segment outgrew its pool class");

static inline struct loop_segment *loop_at(const struct stack_cx *cx, ref r)
{
	return (struct loop_segment *)pool_at(cx, r);
}

bool addr_is_local(struct stack_cx *cx, const struct ipaddr *a)
{
	return ipaddr_is_loopback(a) || (addr_is_ours(cx, a) && !ipaddr_is_any(a));
}

/* As Linux's table "local" has it: from any 127.x.y.z comes 127.0.0.1, from another local address that one.
 */
struct ipaddr loop_source(const struct ipaddr *dst)
{
	return ipaddr_is_v4(dst) && dst->b[12] == 127 ? ipaddr_v4(127, 0, 0, 1) : *dst;
}

/* ------------------------------------------------------------------ in */

/* What did not fit into memory is lost: the segment ends before it. */
static void shorten(struct loop_segment *l)
{
	l->tcp[13] = (uint8_t)(l->tcp[13] & ~(TH_FIN | TH_PSH));
}

static void payload_copy(struct stack_cx *cx, struct loop_segment *l, const struct frame_tx *f)
{
	struct chain c = {0};

	for (uint32_t i = 0; i < f->piece_count; i++) {
		const struct frame_piece *p = &f->piece[i];

		if (chain_append(cx, &c, pool_ref(cx, l), p->data, p->len, true) < p->len) {
			COUNT(cx, loop_drops);
			shorten(l);
			break;
		}
	}
	l->first = c.first;
	l->last = c.last;
	l->bytes = c.bytes;
	l->charged = c.charged;
}

int loop_output(struct stack_cx *cx, const struct frame_tx *f, const uint8_t *tcp, uint32_t header_len,
		const struct ipaddr *src, const struct ipaddr *dst, uint8_t tos)
{
	struct stack *st = stack_of(cx);
	ref r = pool_alloc(cx, POOL_LOOP, REF_NONE);

	if (!r) {
		COUNT(cx, loop_drops);
		return -ENOBUFS;
	}
	struct loop_segment *l = loop_at(cx, r);
	l->src = *src;
	l->dst = *dst;
	l->gso_size = f->gso_size;
	l->tos = tos;
	l->header_len = (uint8_t)header_len;
	memcpy(l->tcp, tcp, header_len);
	if (f->payload_len)
		payload_copy(cx, l, f);
	if (st->loop_last)
		loop_at(cx, st->loop_last)->next = r;
	else
		st->loop_first = r;
	st->loop_last = r;
	COUNT(cx, loop_segments);
	return 0;
}

/* ------------------------------------------------------------------ out */

/* The part of a segment that begins `offset` octets into its payload. */
static struct segment part_of(const struct segment *whole, uint32_t offset, bool last)
{
	struct segment s = *whole;

	s.seq = s.seq_wire = seq_add(whole->seq, offset);
	s.urg = (uint16_t)(whole->urg > offset ? whole->urg - offset : 0);
	if (!s.urg)
		s.flags &= (uint8_t)~TH_URG;
	if (!last)
		s.flags &= (uint8_t) ~(TH_FIN | TH_PSH);
	return s;
}

/* One chunk after the other; each is looked up anew, for the one before may have ended the connection. */
static void deliver_payload(struct stack_cx *cx, struct chain *payload, const struct segment *whole)
{
	uint32_t offset = 0;

	while (payload->first) {
		struct chunk *c = chunk_at(cx, payload->first);
		struct chain one = {payload->first, payload->first, c->end - c->begin, chunk_cost(c)};

		payload->first = c->next;
		c->next = REF_NONE;
		struct segment s = part_of(whole, offset, !payload->first);
		s.data = c->data + c->begin;
		s.len = (uint32_t)one.bytes;
		s.gso_size = s.gso_size < s.len ? s.gso_size : 0;
		s.loose = &one;
		offset += s.len;
		tcp_dispatch(cx, &s);
		chain_free(cx, &one);
	}
}

static void deliver(struct stack_cx *cx, const struct loop_segment *l)
{
	struct chain payload = {l->first, l->last, l->bytes, l->charged};
	struct segment s;

	COUNT(cx, tcp_in);
	if (wire_parse(l->tcp, l->header_len, &s)) {
		COUNT(cx, tcp_bad_header);
		chain_free(cx, &payload);
		return;
	}
	s.src.addr = l->src;
	s.dst.addr = l->dst;
	s.tos = l->tos;
	s.gso_size = l->gso_size;
	s.seq_wire = s.seq;
	s.loose = NULL;
	if (payload.first)
		deliver_payload(cx, &payload, &s);
	else
		tcp_dispatch(cx, &s);
}

bool loop_deliver(struct stack_cx *cx, uint32_t *budget)
{
	struct stack *st = stack_of(cx);
	ref stop = st->loop_last, r;

	if (!st->loop_first || *budget >= LOOP_BURST)
		return false;
	do {
		r = st->loop_first;
		struct loop_segment *l = loop_at(cx, r);
		/*
		 * It stays the first until it was taken, so that a reset is not lost with a process
		 * that dies on it; its chunks go back in any case.
		 */
		deliver(cx, l);
		st->loop_first = l->next;
		if (!st->loop_first)
			st->loop_last = REF_NONE;
		pool_free(cx, POOL_LOOP, r);
	} while (r != stop && ++*budget < LOOP_BURST);
	return true;
}

bool loop_take_chunk(struct stack_cx *cx, struct buffer *b, ref owner, const struct segment *s)
{
	struct chain *one = s->loose;

	/* not one that was trimmed, nor a large chunk for a few octets */
	if (!one || !one->first || one->bytes != s->len || 2 * one->bytes < one->charged)
		return false;
	chunk_at(cx, one->first)->head.owner = owner;
	buffer_join(cx, b, one);
	return true;
}

/* --------------------------------------------------------------- rebuild.c */

static bool segment_intact(const struct stack_cx *cx, ref r)
{
	const struct loop_segment *l = loop_at(cx, r);
	struct chain payload = {l->first, l->last, l->bytes, l->charged};

	return l->header_len <= sizeof l->tcp && chain_intact(cx, &payload, r);
}

/*
 * The queue as it is linked; what is in no queue goes, and so does a segment
 * whose payload was being taken: its sender has it still. At every instant the
 * queue leads to all that stays: the only copy of a reset may be in it.
 */
void loop_rebuild(struct stack_cx *cx)
{
	struct stack *st = stack_of(cx);
	ref last = REF_NONE, *link = &st->loop_first;

	while (pool_valid(cx, POOL_LOOP, *link) && !loop_at(cx, *link)->head.mark) {
		struct loop_segment *l = loop_at(cx, *link);
		struct chain payload = {l->first, l->last, l->bytes, l->charged};

		if (!segment_intact(cx, *link)) {
			ref gone = *link;

			*link = l->next;
			record_barrier();
			pool_discard(cx, gone);
			continue;
		}
		l->head.mark = 1;
		chain_keep(cx, &payload);
		last = *link;
		link = &l->next;
	}
	*link = REF_NONE;
	st->loop_last = last;
	for (ref r = pool_next(cx, POOL_LOOP, REF_NONE); r; r = pool_next(cx, POOL_LOOP, r))
		if (!loop_at(cx, r)->head.mark)
			pool_discard(cx, r);
}

/* --------------------------------------------------------- verification */

const char *loop_verify(struct stack_cx *cx, uint64_t *charged)
{
	const struct stack *st = stack_of(cx);
	uint32_t seen = 0;
	ref last = REF_NONE;

	*charged = 0;
	for (ref r = st->loop_first; r; last = r, r = loop_at(cx, r)->next) {
		if (!pool_valid(cx, POOL_LOOP, r) || ++seen > pool_live(cx, POOL_LOOP))
			return "loop: the queue leads to a dead object, or loops";
		*charged += loop_at(cx, r)->charged;
	}
	return last != st->loop_last || seen != pool_live(cx, POOL_LOOP) ? "loop: segments are lost" : NULL;
}
