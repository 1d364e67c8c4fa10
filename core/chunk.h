/*
 * chunk.h - the pieces that byte queues are made of, private to buffer.c and
 * reass.c: a range of out-of-order data owns a chain of the same chunks as a
 * socket's buffer, so that filling a hole links chains instead of copying.
 */
#ifndef CORE_CHUNK_H
#define CORE_CHUNK_H

#include "core/tcb.h"

/* Live bytes are data[begin, end); bytes before begin were consumed, those from end on are free. */
struct chunk {
	struct pool_head head;
	ref next;
	uint32_t begin, end;
	uint32_t reserved[11];
	uint8_t data[];
};
_Static_assert(offsetof(struct chunk, data) == 64, "the header of a chunk is one cache line");

#define CHUNK_SMALL_DATA 512u
#define CHUNK_DATA	 16320u

static inline struct chunk *chunk_at(const struct stack_cx *cx, ref r)
{
	return (struct chunk *)pool_at(cx, r);
}
static inline uint32_t chunk_room(const struct chunk *c)
{
	return (c->head.class == POOL_CHUNK ? CHUNK_DATA : CHUNK_SMALL_DATA) - c->end;
}
/* Region bytes that a chunk takes. */
static inline uint32_t chunk_cost(const struct chunk *c)
{
	return c->head.class == POOL_CHUNK ? CHUNK_DATA + 64 : CHUNK_SMALL_DATA + 64;
}

/* A chain without stream offsets: what a range of out-of-order data owns. */
struct chain {
	ref first, last;
	uint64_t bytes, charged;
};
/*
 * Append n bytes; how many were taken (fewer: no memory). queue: the chain is a
 * socket's buffer, whose first small chunk passes even at the stack-wide cap.
 */
uint64_t chain_append(struct stack_cx *cx, struct chain *c, ref owner, const void *p, uint64_t n, bool queue);
void chain_trim_front(struct stack_cx *cx, struct chain *c, uint64_t n);
void chain_free(struct stack_cx *cx, struct chain *c);
/* Link the chunks of `from` (now empty) behind those of `to`. */
void chain_join(struct stack_cx *cx, struct chain *to, struct chain *from);
/* rebuild.c: the chain is what it says, all of it owner's. */
bool chain_intact(const struct stack_cx *cx, const struct chain *c, ref owner);
/* rebuild.c: the chunks are in use: mark and charge them. */
void chain_keep(struct stack_cx *cx, const struct chain *c);
/* Hand the chunks over to a buffer, in stream order. */
void buffer_join(struct stack_cx *cx, struct buffer *b, struct chain *from);

#endif
