/*
 * pool.h - fixed-size objects in the region (design D2).
 *
 * The region is cut into extents of 64 KiB. An extent belongs to one class and
 * is carved into its objects; freed objects go on the class's free list. Every
 * object begins with struct pool_head, which names its class and its owner, so
 * that the global lists can be rebuilt from the objects alone after a process
 * died inside the lock. Core's classes and those of netio and preload (waiters,
 * epoll sets, open file descriptions) share this one allocator.
 */
#ifndef UTCP_POOL_H
#define UTCP_POOL_H

#include "utcp/stack.h"

/* X(NAME, object bytes: a multiple of 64) */
#define POOL_CLASSES(X)                                                                                      \
	X(TCB, 1088)	    /* core/tcb.h: struct tcb */                                                     \
	X(TIMEWAIT, 192)    /* core/tcb.h: struct timewait */                                                \
	X(CHUNK_SMALL, 576) /* 64 header + 512 data */                                                       \
	X(CHUNK, 16384)	    /* 64 header + 16320 data */                                                     \
	X(OOO, 64)	    /* out-of-order range */                                                         \
	X(SACKBOARD, 4096)  /* ranges that the peer holds */                                                 \
	X(NEIGH, 256)	    /* ARP entry */                                                                  \
	X(LOOP, 192)	    /* a segment from the stack to itself */                                         \
	X(PENDING, 2048)    /* a frame that waits for its neighbour */                                       \
	X(DESCRIPTION, 256) /* preload: open file description */                                             \
	X(EVSET, 192)	    /* netio: a set of watched sockets (epoll set, blocked thread) */                \
	X(WATCH, 128)	    /* netio: membership of one socket in one evset */                               \
	X(PROC, 64)	    /* netio: a process that is attached to the stack */                             \
	X(HOLD, 64)	    /* netio: one process's share in a description or an evset */

enum pool_class {
	POOL_FREE = 0,
#define X(name, size) POOL_##name,
	POOL_CLASSES(X)
#undef X
	    POOL_CLASS_COUNT
};

struct pool_head {
	uint8_t class; /* enum pool_class; POOL_FREE while on the free list */
	uint8_t mark;  /* of a walk over everything (core/rebuild.c); means nothing between two of them */
	uint16_t reserved16;
	ref owner; /* the object this one belongs to; next free while POOL_FREE */
};

/* A zeroed object (head filled), or REF_NONE. */
ref pool_alloc(struct stack_cx *cx, enum pool_class class, ref owner);
/* Give back; r must be of that class (asserted in debug builds, ignored otherwise). */
void pool_free(struct stack_cx *cx, enum pool_class class, ref r);
uint32_t pool_live(struct stack_cx *cx, enum pool_class class);

/*
 * Memory to give back: bytes [*at, *at + *len) from cx->base, whole pages of 4 KiB, belong to a free data
 * chunk and may be dropped (they read as anything afterwards). `keep` free chunks are left alone. Call it
 * until it says false; each chunk is offered once.
 */
#define POOL_PAGE_BYTES 4096u
bool pool_trim(struct stack_cx *cx, uint32_t keep, uint64_t *at, uint64_t *len);

/*
 * The same for whole extents without a live object, once all free objects together have `spare` bytes; of
 * data chunks `keep` free ones stay. It walks all free lists: a millisecond for each 10,000 connections that
 * have gone. How many extents; drop() gets their bytes.
 */
uint32_t pool_release(struct stack_cx *cx, uint64_t spare, uint32_t keep,
		      void (*drop)(void *arg, uint64_t at, uint64_t len), void *arg);

/*
 * `count` contiguous extents of 64 KiB for a table (hash buckets); never given
 * back singly. Zeroed. REF_NONE: no memory.
 */
ref pool_extents(struct stack_cx *cx, uint32_t count);

/* True if r names a live object of that class: the check for indices that other processes may have written.
 */
bool pool_valid(const struct stack_cx *cx, enum pool_class class, ref r);

/* Every live object of a class, in address order: after = REF_NONE first; REF_NONE: end. */
ref pool_next(struct stack_cx *cx, enum pool_class class, ref after);

/* The address of r in this process. r must be valid; REF_NONE gives NULL. */
static inline void *pool_at(const struct stack_cx *cx, ref r)
{
	return r ? cx->base + (uint64_t)r * REF_GRAIN : NULL;
}
static inline ref pool_ref(const struct stack_cx *cx, const void *p)
{
	return p ? (ref)((uint64_t)((const uint8_t *)p - cx->base) / REF_GRAIN) : REF_NONE;
}

#endif
