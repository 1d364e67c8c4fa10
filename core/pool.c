/*
 * pool.c - fixed-size objects in the region.
 *
 * Theory of operation. The region is used from the bottom in extents of 64 KiB
 * (`bytes_used` is where the next one begins). extent_map holds a byte for
 * each: the class of its objects, or EXTENT_TABLE. Extent 0 holds struct stack,
 * the small fixed tables and the first map; a map that became too small is
 * copied into one of twice the size. An allocation takes the head of the
 * class's free list, else of its trimmed list (free chunks whose pages were given
 * back to the system), else the next object of the extent that is being carved
 * (`fresh`), else a new extent: all O(1). An object's state is in the object
 * (pool_head), so that the lists can be rebuilt by walking the extents.
 *
 * What a crowd leaves is given back when there is time: pool_release() takes
 * extents without a live object out of their class, and whichever class needs one
 * takes those first. Chunks of extents that stay lose their pages (pool_trim()).
 *
 * Place in the flow: below everything that keeps state. Neither this file nor
 * its callers hold pointers across calls into other processes' reach: refs are
 * checked by pool_valid() where they come from memory that others may write.
 */
#include "core/net.h"

#define EXTENT_REFS (EXTENT_BYTES / REF_GRAIN)

static const uint32_t class_bytes[POOL_CLASS_COUNT] = {
#define X(name, size) [POOL_##name] = (size),
    POOL_CLASSES(X)
#undef X
};
#define X(name, size)                                                                                        \
	_Static_assert((size) % REF_GRAIN == 0 && (size) <= EXTENT_BYTES,                                    \
		       #name ": not a multiple of the grain");
POOL_CLASSES(X)
#undef X
_Static_assert(POOL_CLASS_COUNT < EXTENT_LEAVING, "a class number collides with a mark");

static uint32_t class_refs(enum pool_class class)
{
	return class_bytes[class] / REF_GRAIN;
}
static uint32_t objects_per_extent(enum pool_class class)
{
	return EXTENT_BYTES / class_bytes[class];
}
static uint8_t *extent_map(const struct stack_cx *cx)
{
	return pool_at(cx, stack_of(cx)->extent_map);
}
static struct pool_head *head_at(const struct stack_cx *cx, ref r)
{
	return pool_at(cx, r);
}

/* The bulk data of chunks is not zeroed: nobody reads a byte that was not appended. */
static size_t bytes_to_zero(enum pool_class class)
{
	return class == POOL_CHUNK || class == POOL_CHUNK_SMALL ? REF_GRAIN : class_bytes[class];
}

int pool_init(struct stack_cx *cx, uint32_t first_bytes)
{
	struct stack *st = stack_of(cx);
	uint32_t map_at = (first_bytes + REF_GRAIN - 1) / REF_GRAIN;

	if (cx->limit < EXTENT_BYTES || first_bytes > EXTENT_BYTES / 2)
		return -ENOMEM;
	st->bytes_used = EXTENT_BYTES;
	st->extent_map = map_at;
	st->extent_map_bytes = EXTENT_BYTES - map_at * REF_GRAIN;
	extent_map(cx)[0] = EXTENT_TABLE;
	return 0;
}

/* Make [bytes_used, bytes_used + count extents) usable. */
static bool region_reach(struct stack_cx *cx, uint64_t count)
{
	uint64_t want = stack_of(cx)->bytes_used + count * EXTENT_BYTES;

	if (want > (uint64_t)UINT32_MAX * REF_GRAIN)
		return false;
	if (want <= cx->limit)
		return true;
	return cx->grow && cx->grow(cx, want) == 0 && want <= cx->limit;
}

/* Take `count` extents from the bottom of the unused part, without room in the map having been checked. */
static ref extents_take(struct stack_cx *cx, uint32_t count, uint8_t mark)
{
	struct stack *st = stack_of(cx);
	uint64_t first = st->bytes_used / EXTENT_BYTES;

	memset(extent_map(cx) + first, mark, count);
	record_barrier();
	st->bytes_used += (uint64_t)count * EXTENT_BYTES;
	return (ref)(first * EXTENT_REFS);
}

/* Room in the map for `count` more extents; the old map's place is lost (the sum of all is below the last).
 */
static bool map_reserve(struct stack_cx *cx, uint32_t count)
{
	struct stack *st = stack_of(cx);
	uint64_t used = st->bytes_used / EXTENT_BYTES;

	if (used + count <= st->extent_map_bytes)
		return true;
	uint64_t bytes = 2 * (used + count);
	uint64_t extents = (bytes + EXTENT_BYTES - 1) / EXTENT_BYTES;
	if (!region_reach(cx, extents))
		return false;
	uint8_t *bigger = cx->base + st->bytes_used;
	memcpy(bigger, extent_map(cx), used);
	record_barrier(); /* from here to the end of extents_take(): map_rebuild() knows what is missing */
	st->extent_map = (ref)(used * EXTENT_REFS);
	st->extent_map_bytes = (uint32_t)(extents * EXTENT_BYTES);
	extents_take(cx, (uint32_t)extents, EXTENT_TABLE);
	return true;
}

static ref extents_new(struct stack_cx *cx, uint32_t count, uint8_t mark)
{
	if (count == 0 || !map_reserve(cx, count) || !region_reach(cx, count))
		return REF_NONE;
	return extents_take(cx, count, mark);
}

/* One that another class has left. Its heads read as free in their new places, whatever lay there. */
static ref extent_reuse(struct stack_cx *cx, enum pool_class class)
{
	struct stack *st = stack_of(cx);
	uint64_t extent = st->empty_hint, end = st->bytes_used / EXTENT_BYTES;
	ref at;

	while (extent < end && extent_map(cx)[extent] != EXTENT_EMPTY)
		extent++;
	st->empty_hint = (uint32_t)extent;
	if (extent >= end) {
		st->extents_empty = 0;
		return REF_NONE;
	}
	at = (ref)(extent * EXTENT_REFS);
	for (uint32_t i = 0; i < objects_per_extent(class); i++)
		memset(head_at(cx, at + i * class_refs(class)), 0, sizeof(struct pool_head));
	record_barrier();
	extent_map(cx)[extent] = (uint8_t) class;
	st->extents_empty--;
	return at;
}

ref pool_extents(struct stack_cx *cx, uint32_t count)
{
	return extents_new(cx, count, EXTENT_TABLE); /* never used before: zero */
}

ref pool_alloc(struct stack_cx *cx, enum pool_class class, ref owner)
{
	if ((unsigned)class - 1 >= POOL_CLASS_COUNT - 1)
		return REF_NONE;
	struct pool_state *p = &stack_of(cx)->pools[class];
	ref r = p->free_first;

	if (r) {
		p->free_first = head_at(cx, r)->owner;
		p->free_count--;
	} else if (p->trimmed_first) {
		r = p->trimmed_first;
		p->trimmed_first = head_at(cx, r)->owner;
	} else {
		if (p->fresh == p->fresh_end) {
			ref extent = stack_of(cx)->extents_empty ? extent_reuse(cx, class) : REF_NONE;
			if (!extent)
				extent = extents_new(cx, 1, (uint8_t) class);
			if (!extent)
				return REF_NONE;
			p->fresh = extent;
			p->fresh_end = extent + objects_per_extent(class) * class_refs(class);
		}
		r = p->fresh;
		p->fresh += class_refs(class);
	}
	struct pool_head *h = head_at(cx, r);
	memset(h, 0, bytes_to_zero(class));
	record_barrier();
	h->class = (uint8_t) class;
	h->owner = owner;
	p->live++;
	return r;
}

void pool_free(struct stack_cx *cx, enum pool_class class, ref r)
{
	if (!pool_valid(cx, class, r)) {
#ifndef NDEBUG
		if (r != REF_NONE)
			__builtin_trap(); /* freed twice, or as another class */
#endif
		return;
	}
	struct pool_state *p = &stack_of(cx)->pools[class];
	struct pool_head *h = head_at(cx, r);
	h->class = POOL_FREE;
	h->owner = p->free_first;
	p->free_first = r;
	p->free_count++;
	p->live--;
}

/* r is where an object of the class may be: inside the region, in such an extent, at an object's start. */
static bool slot_valid(const struct stack_cx *cx, enum pool_class class, ref r)
{
	uint64_t at = (uint64_t)r * REF_GRAIN, used = MIN_OF(stack_of(cx)->bytes_used, cx->limit);
	uint32_t inside = (uint32_t)(at % EXTENT_BYTES);

	return at >= EXTENT_BYTES && at < used && extent_map(cx)[at / EXTENT_BYTES] == class &&
	       inside % class_bytes[class] == 0 && inside / class_bytes[class] < objects_per_extent(class);
}

/* A chunk's first page stays: it carries the list. */
bool pool_trim(struct stack_cx *cx, uint32_t keep, uint64_t *at, uint64_t *len)
{
	struct pool_state *p = &stack_of(cx)->pools[POOL_CHUNK];
	ref r = p->free_first;

	if (p->free_count <= keep || !slot_valid(cx, POOL_CHUNK, r))
		return false;
	p->free_first = head_at(cx, r)->owner;
	p->free_count--;
	head_at(cx, r)->owner = p->trimmed_first;
	p->trimmed_first = r;
	*at = (uint64_t)r * REF_GRAIN + POOL_PAGE_BYTES;
	*len = class_bytes[POOL_CHUNK] - POOL_PAGE_BYTES;
	return true;
}

/* Nothing in it lives, and nobody carves it. */
static bool extent_is_idle(const struct stack_cx *cx, enum pool_class class, uint64_t extent)
{
	const struct pool_state *p = &stack_of(cx)->pools[class];
	ref at = (ref)(extent * EXTENT_REFS);

	if (p->fresh != p->fresh_end && p->fresh / EXTENT_REFS == extent)
		return false;
	for (uint32_t i = 0; i < objects_per_extent(class); i++)
		if (head_at(cx, at + i * class_refs(class))->class != POOL_FREE)
			return false;
	return true;
}

/* A free list without what lies in extents that leave; how many it has lost. */
static uint32_t list_sift(const struct stack_cx *cx, ref *link)
{
	uint32_t lost = 0;

	while (*link) {
		ref *next = &head_at(cx, *link)->owner;

		if (extent_map(cx)[*link / EXTENT_REFS] == EXTENT_LEAVING) {
			*link = *next;
			lost++;
		} else {
			link = next;
		}
	}
	return lost;
}

/* Marks up to `most` of a class, and takes their objects off its lists. */
static uint32_t extents_leave(struct stack_cx *cx, enum pool_class class, uint32_t most)
{
	struct stack *st = stack_of(cx);
	struct pool_state *p = &st->pools[class];
	uint32_t count = 0;

	for (uint64_t extent = st->bytes_used / EXTENT_BYTES; extent-- > 1 && count < most;) {
		if (extent_map(cx)[extent] != class || !extent_is_idle(cx, class, extent))
			continue;
		extent_map(cx)[extent] = EXTENT_LEAVING;
		count++;
	}
	if (count) {
		p->free_count -= list_sift(cx, &p->free_first);
		list_sift(cx, &p->trimmed_first);
	}
	return count;
}

/* Those that leave are empty now; neighbours go together. */
static void extents_drop(struct stack_cx *cx, void (*drop)(void *arg, uint64_t at, uint64_t len), void *arg)
{
	struct stack *st = stack_of(cx);
	uint64_t end = st->bytes_used / EXTENT_BYTES, first;

	for (uint64_t extent = 1; extent < end; extent++) {
		for (first = extent; extent < end && extent_map(cx)[extent] == EXTENT_LEAVING; extent++)
			extent_map(cx)[extent] = EXTENT_EMPTY;
		if (extent == first)
			continue;
		st->extents_empty += (uint32_t)(extent - first);
		st->empty_hint = MIN_OF(st->empty_hint, (uint32_t)first);
		drop(arg, first * EXTENT_BYTES, (extent - first) * EXTENT_BYTES);
	}
}

uint32_t pool_release(struct stack_cx *cx, uint64_t spare, uint32_t keep,
		      void (*drop)(void *arg, uint64_t at, uint64_t len), void *arg)
{
	struct stack *st = stack_of(cx);
	uint32_t count = 0;
	uint64_t bytes = 0;

	for (int class = POOL_FREE + 1; class < POOL_CLASS_COUNT; class ++)
		bytes += (uint64_t)st->pools[class].free_count * class_bytes[class];
	if (bytes < spare)
		return 0;
	for (int class = POOL_FREE + 1; class < POOL_CLASS_COUNT; class ++) {
		uint32_t free = st->pools[class].free_count,
			 each = objects_per_extent((enum pool_class) class);
		uint32_t kept = class == POOL_CHUNK ? keep : 0;

		if (free >= each + kept)
			count += extents_leave(cx, (enum pool_class) class, (free - kept) / each);
	}
	if (count)
		extents_drop(cx, drop, arg);
	return count;
}

uint32_t pool_live(struct stack_cx *cx, enum pool_class class)
{
	return (unsigned)class < POOL_CLASS_COUNT ? stack_of(cx)->pools[class].live : 0;
}

bool pool_valid(const struct stack_cx *cx, enum pool_class class, ref r)
{
	return (unsigned)class - 1 < POOL_CLASS_COUNT - 1 && slot_valid(cx, class, r) &&
	       head_at(cx, r)->class == class;
}

ref pool_next(struct stack_cx *cx, enum pool_class class, ref after)
{
	if ((unsigned)class - 1 >= POOL_CLASS_COUNT - 1)
		return REF_NONE;
	const uint8_t *map = extent_map(cx);
	uint64_t extents = MIN_OF(stack_of(cx)->bytes_used, cx->limit) / EXTENT_BYTES;
	uint64_t extent = after / EXTENT_REFS;
	uint32_t i = after ? (after % EXTENT_REFS) / class_refs(class) + 1 : 0;

	for (; extent < extents; extent++, i = 0) {
		if (map[extent] != class)
			continue;
		for (; i < objects_per_extent(class); i++) {
			ref r = (ref)(extent * EXTENT_REFS) + i * class_refs(class);
			if (head_at(cx, r)->class == class)
				return r;
		}
	}
	return REF_NONE;
}

/* --------------------------------------------------------------- rebuild.c */

/* The map was being replaced: it is the first thing behind what is in use. */
static bool map_rebuild(struct stack_cx *cx)
{
	struct stack *st = stack_of(cx);
	uint64_t used = st->bytes_used / EXTENT_BYTES, at = (uint64_t)st->extent_map * REF_GRAIN;
	uint64_t extents = used / EXTENT_BYTES + 1; /* room for the map itself and those before it */

	if (st->bytes_used < EXTENT_BYTES || st->bytes_used % EXTENT_BYTES || st->bytes_used > cx->limit)
		return false;
	if (at != st->bytes_used)
		return at + used <= st->bytes_used && used <= st->extent_map_bytes;
	if ((used + extents) * EXTENT_BYTES > cx->limit)
		return false;
	st->extent_map_bytes = (uint32_t)(extents * EXTENT_BYTES);
	extents_take(cx, (uint32_t)extents, EXTENT_TABLE);
	return true;
}

static uint64_t extents_used(const struct stack_cx *cx)
{
	return stack_of(cx)->bytes_used / EXTENT_BYTES;
}

/* Extent `extent`: its class, POOL_FREE if it has none. */
static enum pool_class extent_class(const struct stack_cx *cx, uint64_t extent)
{
	uint8_t mark = extent_map(cx)[extent];

	return mark < POOL_CLASS_COUNT ? (enum pool_class)mark : POOL_FREE;
}

/* Before: objects of one class in an extent are that or free, and nothing is marked. False: no hope. */
bool pool_rebuild_begin(struct stack_cx *cx)
{
	if (!map_rebuild(cx))
		return false;
	for (uint64_t extent = 0; extent < extents_used(cx); extent++) {
		enum pool_class class = extent_class(cx, extent);

		for (uint32_t i = 0; class && i < objects_per_extent(class); i++) {
			struct pool_head *h =
			    head_at(cx, (ref)(extent * EXTENT_REFS) + i * class_refs(class));

			if (h->class != POOL_FREE && h->class != class)
				h->class = POOL_FREE;
			if (h->class != POOL_FREE)
				h->mark = 0;
		}
	}
	return true;
}

/* After: everything that is not live is on the free list, the lowest first; nothing is left to be carved. */
void pool_rebuild_end(struct stack_cx *cx)
{
	struct stack *st = stack_of(cx);

	memset(st->pools, 0, sizeof st->pools);
	st->extents_empty = st->empty_hint = 0;
	for (uint64_t extent = extents_used(cx); extent-- > 0;) {
		enum pool_class class = extent_class(cx, extent);
		struct pool_state p = st->pools[class];

		if (extent_map(cx)[extent] == EXTENT_LEAVING)
			extent_map(cx)[extent] = EXTENT_EMPTY;
		st->extents_empty += extent_map(cx)[extent] == EXTENT_EMPTY;
		for (uint32_t i = class ? objects_per_extent(class) : 0; i-- > 0;) {
			ref r = (ref)(extent * EXTENT_REFS) + i * class_refs(class);

			if (head_at(cx, r)->class == class) {
				p.live++;
				continue;
			}
			head_at(cx, r)->owner = p.free_first;
			p.free_first = r;
			p.free_count++;
		}
		st->pools[class] = p;
	}
}

void pool_discard(struct stack_cx *cx, ref r)
{
	head_at(cx, r)->class = POOL_FREE;
}

/* ------------------------------------------------------------- verification */

static const char *list_verify(struct stack_cx *cx, enum pool_class class, ref first, uint64_t total,
			       uint64_t *count)
{
	for (ref r = first; r; r = head_at(cx, r)->owner) {
		if (!slot_valid(cx, class, r) || head_at(cx, r)->class != POOL_FREE)
			return "pool: a free list holds what is not free";
		if (++*count > total)
			return "pool: a free list has a loop";
	}
	return NULL;
}

/* Every object of a class is live, or on one free list once, or not carved yet. */
static const char *class_verify(struct stack_cx *cx, enum pool_class class, uint64_t extents)
{
	const struct pool_state *p = &stack_of(cx)->pools[class];
	uint64_t total = extents * objects_per_extent(class);
	uint64_t fresh = (p->fresh_end - p->fresh) / class_refs(class);
	uint64_t live = 0, free = 0;

	for (ref r = pool_next(cx, class, REF_NONE); r; r = pool_next(cx, class, r))
		live++;
	const char *broken = list_verify(cx, class, p->free_first, total, &free);
	if (!broken && free != p->free_count)
		broken = "pool: the count of free objects is wrong";
	if (!broken)
		broken = list_verify(cx, class, p->trimmed_first, total, &free);
	if (broken)
		return broken;
	if (live != p->live)
		return "pool: the count of live objects is wrong";
	if (live + free + fresh != total)
		return "pool: objects are lost";
	return NULL;
}

const char *pool_verify(struct stack_cx *cx)
{
	const struct stack *st = stack_of(cx);
	uint64_t extents[POOL_CLASS_COUNT] = {0};
	uint32_t empty = 0;

	if (st->bytes_used > cx->limit || st->bytes_used % EXTENT_BYTES != 0)
		return "pool: more extents than the region has";
	for (uint64_t i = 0; i < st->bytes_used / EXTENT_BYTES; i++) {
		uint8_t mark = extent_map(cx)[i];
		if (mark == EXTENT_EMPTY && i < st->empty_hint)
			return "pool: an empty extent where none is looked for";
		empty += mark == EXTENT_EMPTY;
		if (mark == EXTENT_TABLE || mark == EXTENT_EMPTY)
			continue;
		if (mark == POOL_FREE || mark >= POOL_CLASS_COUNT)
			return "pool: an extent of no class";
		extents[mark]++;
	}
	if (empty != st->extents_empty)
		return "pool: the count of empty extents is wrong";
	for (int class = POOL_FREE + 1; class < POOL_CLASS_COUNT; class ++) {
		const char *broken = class_verify(cx, (enum pool_class) class, extents[class]);
		if (broken)
			return broken;
	}
	return NULL;
}
