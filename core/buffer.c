/*
 * buffer.c - queues of bytes in chunks of the region: what a socket holds to
 * send, what it has received, and (as bare chains) what came out of order.
 *
 * Theory of operation. A queue is a chain of chunks in stream order. An idle
 * connection owns none. The first small writes go into 576-byte chunks; a queue
 * that holds more, or a large write, takes 16 KiB chunks, so that a
 * super-segment of 64 KB is gathered from five pieces. A chunk is filled by
 * several writes, and emptied from its front: it keeps its own begin and end,
 * which is what lets chains of different origin be linked.
 *
 * Output walks the send queue from nearly the same place again and again. The
 * cursor remembers the chunk it ended in, so that a walk is O(1) in the common
 * case and never longer than the queue.
 *
 * Memory: every chunk is charged to stack.buffer_bytes, which never passes
 * mem_limit, but for the little that each queue is entitled to (ENTITLED): so
 * every connection can move on, however much the others hold, and at the pace of
 * acknowledgements: the window under pressure, four segments (rcvbuf.c), fits.
 * With less, each flight loses its end, and the peer goes on by time-outs alone.
 *
 * Place in the flow: sock.c and sndbuf.c above, input.c and reass.c for
 * received data, output.c for pieces to send.
 */
#include "core/chunk.h"

/* From this many bytes held, or to be stored at once, a queue takes large chunks. */
#define LARGE_FROM 2048u
/* The same for a range of out-of-order data: there may be many, each with a last chunk that is nearly empty.
 */
#define LARGE_FROM_RANGE 8192u
/* What a queue may hold although the stack holds too much: Linux's tcp_rmem[0], for twice that. */
#define ENTITLED 8192u

/*
 * The region cannot grow. What is there becomes the cap, less an eighth: windows
 * close in time (rcvbuf.c), and the chunks of that eighth, once free, are for
 * queues that hold little.
 */
static void memory_refused(struct stack *st)
{
	st->mem_limit = MIN_OF(st->mem_limit, st->buffer_bytes / 8 * 7);
}

static ref chunk_new(struct stack_cx *cx, ref owner, uint64_t held, uint64_t wanted, bool queue)
{
	struct stack *st = stack_of(cx);
	bool large = held + wanted > (queue ? LARGE_FROM : LARGE_FROM_RANGE);
	uint64_t cost = large ? CHUNK_DATA + 64 : CHUNK_SMALL_DATA + 64;

	if (st->buffer_bytes + cost > st->mem_limit) {
		large = false;
		cost = CHUNK_SMALL_DATA + 64;
		if (st->buffer_bytes + cost > st->mem_limit && (held >= ENTITLED || !queue))
			return REF_NONE;
	}
	ref r = pool_alloc(cx, large ? POOL_CHUNK : POOL_CHUNK_SMALL, owner);
	if (!r) {
		/* The other size may have a free one: the region's extents do not change their class. */
		large = !large;
		r = pool_alloc(cx, large ? POOL_CHUNK : POOL_CHUNK_SMALL, owner);
		cost = large ? CHUNK_DATA + 64 : CHUNK_SMALL_DATA + 64;
	}
	if (!r)
		memory_refused(st);
	if (r)
		st->buffer_bytes += cost;
	return r;
}

static void chunk_free(struct stack_cx *cx, ref r)
{
	struct chunk *c = chunk_at(cx, r);
	struct stack *st = stack_of(cx);

	st->buffer_bytes -= chunk_cost(c);
	pool_free(cx, c->head.class, r);
}

/* ------------------------------------------------------------------ chains */

uint64_t chain_append(struct stack_cx *cx, struct chain *c, ref owner, const void *p, uint64_t n, bool queue)
{
	const uint8_t *from = p;
	uint64_t done = 0;

	while (done < n) {
		struct chunk *last = chunk_at(cx, c->last);
		if (!last || !chunk_room(last)) {
			ref r = chunk_new(cx, owner, c->bytes, n - done, queue);
			if (!r)
				break;
			if (last)
				last->next = r;
			else
				c->first = r;
			c->last = r;
			last = chunk_at(cx, r);
			c->charged += chunk_cost(last);
		}
		uint32_t take = (uint32_t)MIN_OF((uint64_t)chunk_room(last), n - done);
		memcpy(last->data + last->end, from + done, take);
		last->end += take;
		c->bytes += take;
		done += take;
	}
	return done;
}

void chain_trim_front(struct stack_cx *cx, struct chain *c, uint64_t n)
{
	while (n) {
		ref r = c->first;
		struct chunk *k = chunk_at(cx, r);
		uint32_t take = (uint32_t)MIN_OF((uint64_t)(k->end - k->begin), n);
		k->begin += take;
		c->bytes -= take;
		n -= take;
		if (k->begin == k->end) {
			c->first = k->next;
			if (!c->first)
				c->last = REF_NONE;
			c->charged -= chunk_cost(k);
			chunk_free(cx, r);
		}
	}
}

void chain_free(struct stack_cx *cx, struct chain *c)
{
	for (ref r = c->first; r;) {
		ref next = chunk_at(cx, r)->next;
		chunk_free(cx, r);
		r = next;
	}
	*c = (struct chain){0};
}

void chain_join(struct stack_cx *cx, struct chain *to, struct chain *from)
{
	if (!from->first)
		return;
	if (to->last)
		chunk_at(cx, to->last)->next = from->first;
	else
		to->first = from->first;
	to->last = from->last;
	to->bytes += from->bytes;
	to->charged += from->charged;
	*from = (struct chain){0};
}

/* ----------------------------------------------------------------- buffers */

static struct chain chain_of(const struct buffer *b)
{
	return (struct chain){b->first, b->last, buffer_len(b), b->charged};
}

static void chain_store(struct buffer *b, const struct chain *c)
{
	b->first = c->first;
	b->last = c->last;
	b->charged = c->charged;
	b->end = b->start + c->bytes;
	if (!b->cursor) {
		b->cursor = b->first;
		b->cursor_start = b->start;
	}
}

uint64_t buffer_append_flat(struct stack_cx *cx, struct buffer *b, ref owner, const void *p, uint64_t n)
{
	struct chain c = chain_of(b);
	uint64_t done = chain_append(cx, &c, owner, p, n, true);

	chain_store(b, &c);
	return done;
}

uint64_t buffer_append(struct stack_cx *cx, struct buffer *b, ref owner, const struct iovec *iov, int iovcnt,
		       uint64_t skip, uint64_t max)
{
	uint64_t done = 0;

	for (int i = 0; i < iovcnt && done < max; i++) {
		uint64_t len = iov[i].iov_len;
		if (skip >= len) {
			skip -= len;
			continue;
		}
		uint64_t want = MIN_OF(len - skip, max - done);
		uint64_t got =
		    buffer_append_flat(cx, b, owner, (const uint8_t *)iov[i].iov_base + skip, want);
		done += got;
		skip = 0;
		if (got < want)
			break;
	}
	return done;
}

void buffer_join(struct stack_cx *cx, struct buffer *b, struct chain *from)
{
	struct chain c = chain_of(b);

	chain_join(cx, &c, from);
	chain_store(b, &c);
}

/* Move the cursor to the chunk that holds stream offset `at`, start <= at < end. */
static struct chunk *cursor_seek(struct stack_cx *cx, struct buffer *b, uint64_t at)
{
	if (!b->cursor || at < b->cursor_start) {
		b->cursor = b->first;
		b->cursor_start = b->start;
	}
	struct chunk *c = chunk_at(cx, b->cursor);
	while (at - b->cursor_start >= c->end - c->begin) {
		b->cursor_start += c->end - c->begin;
		b->cursor = c->next;
		c = chunk_at(cx, c->next);
	}
	return c;
}

/* A walk over [at, at + len): each call yields one contiguous run. */
struct walk {
	struct chunk *c;
	uint32_t off; /* from data[] */
	uint64_t left;
};

static struct walk walk_begin(struct stack_cx *cx, struct buffer *b, uint64_t at, uint64_t len)
{
	struct walk w = {0};

	if (at < b->start || at >= b->end)
		return w;
	w.left = MIN_OF(len, b->end - at);
	w.c = cursor_seek(cx, b, at);
	w.off = w.c->begin + (uint32_t)(at - b->cursor_start);
	return w;
}

/* The next run, at most max bytes; 0: the end. */
static uint32_t walk_run(struct stack_cx *cx, struct walk *w, const uint8_t **p, uint64_t max)
{
	if (!w->left || !max)
		return 0;
	if (w->off == w->c->end) {
		w->c = chunk_at(cx, w->c->next);
		w->off = w->c->begin;
	}
	uint32_t n = (uint32_t)MIN_OF(MIN_OF((uint64_t)(w->c->end - w->off), w->left), max);
	*p = w->c->data + w->off;
	w->off += n;
	w->left -= n;
	return n;
}

uint64_t buffer_copy(struct stack_cx *cx, struct buffer *b, uint64_t at, const struct iovec *iov, int iovcnt,
		     uint64_t max)
{
	struct walk w = walk_begin(cx, b, at, max);
	uint64_t done = 0;

	for (int i = 0; i < iovcnt && w.left; i++) {
		uint64_t room = iov[i].iov_len;
		uint8_t *to = iov[i].iov_base;
		const uint8_t *from = NULL;
		uint32_t n;
		while ((n = walk_run(cx, &w, &from, room)) != 0) {
			memcpy(to, from, n);
			to += n;
			room -= n;
			done += n;
		}
	}
	return done;
}

int buffer_pieces(struct stack_cx *cx, struct buffer *b, uint64_t at, uint64_t len, struct frame_piece *p,
		  int max, uint64_t *covered)
{
	struct walk w = walk_begin(cx, b, at, len);
	int count = 0;

	*covered = 0;
	while (count < max) {
		const uint8_t *from = NULL;
		uint32_t n = walk_run(cx, &w, &from, UINT32_MAX);
		if (!n)
			break;
		p[count++] = (struct frame_piece){from, n};
		*covered += n;
	}
	return count;
}

void buffer_consume(struct stack_cx *cx, struct buffer *b, uint64_t n)
{
	struct chain c = chain_of(b);
	uint64_t end = b->end;

	n = MIN_OF(n, c.bytes);
	chain_trim_front(cx, &c, n);
	b->start += n;
	/* The cursor's chunk is gone, or begins later than it did. */
	if (b->cursor_start < b->start) {
		b->cursor = c.first;
		b->cursor_start = b->start;
	}
	chain_store(b, &c);
	b->end = end;
}

void buffer_clear(struct stack_cx *cx, struct buffer *b)
{
	struct chain c = chain_of(b);

	chain_free(cx, &c);
	b->first = b->last = b->cursor = REF_NONE;
	b->charged = 0;
	b->start = b->cursor_start = b->end;
}
