/*
 * ready.h - sets and watches as they lie in the region: for ready.c, which keeps them, and
 * ready_recover.c, which builds anew what follows from the watches.
 */
#ifndef NETIO_READY_H
#define NETIO_READY_H

#include <sys/epoll.h>

#include "netio/internal.h"

/* sock_user() words; word 3 is preload's */
enum { USER_FIRST, USER_LAST, USER_KERNEL_BITS };

#define PRIVATE_BITS  ((uint32_t)(EPOLLWAKEUP | EPOLLONESHOT | EPOLLET | EPOLLEXCLUSIVE))
#define ALWAYS_EVENTS (SOCK_ERR | SOCK_HUP)

struct evset {
	struct pool_head head;
	ref first; /* all watches */
	ref tree;  /* by mixed key */
	ref ready_first, ready_last;
	uint32_t ready_count, watch_count;
	uint32_t waiters; /* threads published on it */
	uint32_t rung;	  /* rings they have not answered yet */
	uint32_t holders; /* processes with a share: forked ones have the same epoll set */
	uint64_t tag;	  /* what names it in the application's epoll set; 0: a thread's */
	struct bell bell; /* of the waitset to ring */
	bool bell_up;	  /* rung and not drained */
	bool always;	  /* ring on empty -> non-empty even without waiters */
	bool attended;	  /* the thread that drives now will harvest it */
};
_Static_assert(sizeof(struct evset) <= 192, "struct evset outgrew its pool class");

struct watch {
	struct pool_head head;
	ref set, sock;
	ref sock_next, sock_prev;
	ref set_next, set_prev;
	ref ready_next, ready_prev;
	ref left, right; /* search tree */
	uint32_t mask;	 /* as the application gave it, ERR and HUP added */
	uint32_t told;	 /* SOCK_TOLD bits that it asked for, since they were taken */
	bool listed;	 /* on the ready list */
	bool whole;	 /* made: everything above and below is filled in */
	uint64_t data, key;
};
_Static_assert(sizeof(struct watch) <= 128, "struct watch outgrew its pool class");

static inline struct evset *set_at(struct stack_cx *cx, ref r)
{
	return pool_at(cx, r);
}
static inline struct watch *watch_at(struct stack_cx *cx, ref r)
{
	return pool_at(cx, r);
}
static inline struct netio *netio_of(struct stack_cx *cx)
{
	return cx->arg;
}

/* The link of the set's tree that holds `key`, or where it would hang. */
ref *tree_link(struct stack_cx *cx, struct evset *e, uint64_t key);
void ready_append(struct stack_cx *cx, struct evset *e, ref watch);
void sock_list_add(struct stack_cx *cx, ref watch);
/* The watch's events that hold now. */
uint32_t watch_now(struct stack_cx *cx, const struct watch *w);
/* List it, and ring for it; true if that reached a sleeping thread. */
bool watch_wake(struct stack_cx *cx, ref watch);
void evset_ring(struct netio *n, struct evset *e);
/* The bell is a level for those who watch the set from outside: down with the last entry. */
void evset_settle(struct stack_cx *cx, struct evset *e);

#endif
