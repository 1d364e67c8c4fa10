/* procs.h - the private side of procs.c, procs_recover.c: processes and holds. */
#ifndef NETIO_PROCS_H
#define NETIO_PROCS_H

#include "netio/internal.h"

struct hold {
	struct pool_head head; /* owner: the object */
	ref proc;
	ref next, prev;	  /* of the same process */
	uint32_t waiters; /* an evset's: threads of this process that sleep on it */
};
_Static_assert(sizeof(struct hold) <= 64, "struct hold outgrew its pool class");

static inline struct proc *proc_at(struct stack_cx *cx, ref r)
{
	return pool_at(cx, r);
}
static inline struct hold *hold_at(struct stack_cx *cx, ref r)
{
	return pool_at(cx, r);
}

static inline bool object_valid(const struct stack_cx *cx, ref object)
{
	return pool_valid(cx, POOL_DESCRIPTION, object) || pool_valid(cx, POOL_EVSET, object);
}

/* The count of processes that have a part in a description or an evset. */
static inline uint32_t *holders_of(struct stack_cx *cx, ref object)
{
	struct shared_object *o = pool_at(cx, object);

	return o->head.class == POOL_EVSET ? evset_holders(cx, object) : &o->holders;
}

/* Nobody holds it any more: by the rules of close(). */
void object_close(struct stack_cx *cx, ref object);

#endif
