/*
 * rebuild_dead.h - what test_rebuild*.c do with the stack of a dead process: copy it, find the
 * connection that was being changed, and settle what the dead one owned.
 */
#ifndef TESTS_UNIT_REBUILD_DEAD_H
#define TESTS_UNIT_REBUILD_DEAD_H

#include "tests/unit/rebuild_kit.h"

static struct conn *conn_of_tcb(struct view *v, int side)
{
	struct stack_cx *cx = &v->cx[side];
	ref r = stack_of(cx)->dirty;

	if (!pool_valid(cx, POOL_TCB, r))
		return NULL;
	struct conn *c = conn_by_port(v->w, tcb_at(cx, r)->local.port);
	if (!c)
		c = conn_by_port(v->w, tcb_at(cx, r)->remote.port);
	for (int i = 0; !c && i < 2 * CONNS; i++) /* it has no name yet, or no more */
		if (v->w->conn[i / 2].used && v->w->conn[i / 2].s[i % 2] == r &&
		    side_of(&v->w->conn[i / 2], i % 2) == side)
			c = &v->w->conn[i / 2];
	return c;
}

static bool owned(struct view *v, int side, ref s)
{
	if (s == v->w->listener[side])
		return true;
	for (int i = 0; i < CONNS; i++)
		for (int end = 0; end < 2; end++) {
			const struct conn *c = &v->w->conn[i];
			if (c->used && c->s[end] == s && side_of(c, end) == side && !c->leaving[end])
				return true;
		}
	return false;
}

/* Whatever was reset, what an application has must be there still, for it to close. */
__attribute__((unused)) static bool owned_remain(struct view *v, int side)
{
	for (int i = 0; i < CONNS; i++)
		for (int end = 0; end < 2; end++) {
			const struct conn *c = &v->w->conn[i];

			if (!c->used || !c->s[end] || c->leaving[end] || side_of(c, end) != side)
				continue;
			bool there = pool_valid(&v->cx[side], POOL_TCB, c->s[end]) &&
				     sock_needs_owner(&v->cx[side], c->s[end]);
			CHECK_MSG(there, "port %u end %d: its socket has gone", c->port, end);
			if (!there)
				return false;
		}
	return true;
}

/* What netio does: close what nobody has; and forget what the dead one was about to close. */
static void owners_settle(struct view *v, int side)
{
	struct stack_cx *cx = &v->cx[side];
	ref next;

	for (ref r = sock_next(cx, REF_NONE); r; r = next) {
		next = sock_next(cx, r);
		if (sock_needs_owner(cx, r) && !owned(v, side, r))
			sock_close(cx, r);
	}
	for (int i = 0; i < CONNS; i++) {
		struct conn *c = &v->w->conn[i];

		for (int end = 0; end < 2; end++)
			if (c->leaving[end]) {
				c->s[end] = REF_NONE;
				c->closed[end] = true;
			}
		/* it was about to be born: its connect() never came */
		if (c->used && !c->closed[0] && (!c->s[0] || !tcb_of(v, c, 0)->connect_started))
			c->aborted = c->lost[0] = true;
	}
}

static void region_copy(struct stack_cx *to, const struct stack_cx *from)
{
	uint64_t before = stack_of(to)->bytes_used, used = stack_of(from)->bytes_used;

	used = MIN_OF(used + EXTENT_BYTES, (uint64_t)REGION_BYTES); /* what is being added to it */
	memcpy(to->base, from->base, used);
	if (before > used) /* of the copy before: a region is zero behind what is in use */
		memset(to->base + used, 0, before - used);
	to->now = from->now;
}

static void view_copy(struct view *to, const struct view *from)
{
	*to->w = *from->w;
	for (int i = 0; i < SIDES; i++) {
		region_copy(&to->cx[i], &from->cx[i]);
		to->cx[i].now = to->w->now;
	}
}

#endif
