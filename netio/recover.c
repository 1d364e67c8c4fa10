/*
 * recover.c - the region after a holder of its lock was killed.
 *
 * Theory of operation. The core puts its own part in order (core/rebuild.c) and
 * resets the connection that was being changed. What netio keeps in the region is
 * built anew by the same rule, from records that name each other:
 *
 *   watch   its set and its socket        -> search trees, both lists, ready lists
 *   hold    its process and its object    -> counts of holders, lists, sleepers
 *   proc    whether it has a driver       -> the list, the counts
 *
 * A hold's count of sleepers is the truth, for only its own process changes it;
 * those of sets, processes and the stack are sums. What then has no holder is
 * closed by the rules of close(): the dead one was about to, or had just made it. Its
 * remaining holds are still in place: the keeper sees its life line end and
 * drops them (keeper.c).
 *
 * What the dead one owed to others is done for it: the stack sends, edges are
 * told, the timer is set, bells are rung. All of that before anybody else gets the
 * lock, since whoever took it may be on its way to something else than a drive.
 *
 * Place in the flow: lock.c, on EOWNERDEAD.
 */
#include "netio/internal.h"

static const char *rebuild(struct netio *n, struct stack_rebuilt *what)
{
	struct stack_cx *cx = &n->cx;
	const char *broken;

	if (stack_rebuild(cx, what))
		return "root";
	ready_rebuild(n, cx);
	procs_rebuild(n, cx);
	broken = stack_verify(cx);
	if (!broken)
		broken = ready_verify(cx);
	return broken ? broken : procs_verify(n, cx);
}

/* As netio_leave() does, but here and now. */
static void catch_up(struct netio *n)
{
	struct stack_cx *cx = &n->cx;
	struct ring_list rings;

	n->region.head->armed = 0; /* it may have been said to be set, and not set */
	ready_rewake(n, cx);
	drive_settle(n, cx);
	ring_collect(n, &rings);
	ring_all(n, &rings);
	driver_unpark(n);
	n->wake_driver = n->kick_driver = false;
	n->left = true; /* it may have been elected, too */
}

void region_recover(struct netio *n)
{
	struct region_head *h = n->region.head;
	struct stack_rebuilt what;
	const char *broken;

	pthread_mutex_consistent(&h->lock);
	h->recovered++;
	if (h->broken)
		return;
	read_clock(n);
	broken = rebuild(n, &what);
	if (broken) {
		h->broken = 1; /* every process sees it when it enters (drive.c) */
		return;
	}
	h->resets += what.reset;
	catch_up(n);
}
