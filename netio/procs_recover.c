/*
 * procs_recover.c - processes and their holds, after somebody died inside the lock.
 *
 * The records are the truth: a process is there when it is marked whole, a hold when
 * it names its process and its object. Lists and counts are made anew from them, and
 * what nobody holds then is closed.
 *
 * Place in the flow: recover.c -> here -> procs.c.
 */
#include "netio/procs.h"

static void holders_clear(struct stack_cx *cx)
{
	for (ref r = pool_next(cx, POOL_DESCRIPTION, REF_NONE); r; r = pool_next(cx, POOL_DESCRIPTION, r))
		*holders_of(cx, r) = 0;
	for (ref r = pool_next(cx, POOL_EVSET, REF_NONE); r; r = pool_next(cx, POOL_EVSET, r))
		*holders_of(cx, r) = 0;
}

static void slots_relink(struct netio *n, struct stack_cx *cx)
{
	struct region_head *h = n->region.head;

	h->procs = REF_NONE;
	h->proc_count = h->drivers = 0;
	for (ref r = pool_next(cx, POOL_PROC, REF_NONE); r; r = pool_next(cx, POOL_PROC, r)) {
		struct proc *p = proc_at(cx, r);

		if (r == h->passages) { /* no process: in no list */
			p->holds = REF_NONE;
			p->waiters = 0;
			continue;
		}
		if (!p->whole) { /* not quite made, or as good as freed: it has no holds */
			pool_free(cx, POOL_PROC, r);
			continue;
		}
		p->holds = p->prev = REF_NONE;
		p->waiters = 0;
		p->next = h->procs;
		if (h->procs)
			proc_at(cx, h->procs)->prev = r;
		h->procs = r;
		h->proc_count++;
		h->drivers += p->driver;
	}
}

/* A hold is there when it names its process and its object: what hold_new() writes first. */
static void holds_relink(struct stack_cx *cx)
{
	for (ref r = pool_next(cx, POOL_HOLD, REF_NONE); r; r = pool_next(cx, POOL_HOLD, r)) {
		struct hold *d = hold_at(cx, r);
		ref object = d->head.owner;

		if (!pool_valid(cx, POOL_PROC, d->proc) || !object_valid(cx, object)) {
			pool_free(cx, POOL_HOLD, r);
			continue;
		}
		struct proc *p = proc_at(cx, d->proc);
		d->prev = REF_NONE;
		d->next = p->holds;
		if (p->holds)
			hold_at(cx, p->holds)->prev = r;
		p->holds = r;
		++*holders_of(cx, object);
		p->waiters += d->waiters;
		if (d->waiters)
			evset_sleepers_add(cx, object, d->waiters);
	}
}

/* What the dead one was about to close, or had just made for nobody else to see. */
static void unheld_close(struct stack_cx *cx)
{
	ref next;

	for (ref r = pool_next(cx, POOL_DESCRIPTION, REF_NONE); r; r = next) {
		struct shared_object *o = pool_at(cx, r);

		next = pool_next(cx, POOL_DESCRIPTION, r);
		if (o->sock && (!pool_valid(cx, POOL_TCB, o->sock) || !sock_needs_owner(cx, o->sock)))
			o->sock = REF_NONE;
		if (!o->holders)
			object_close(cx, r);
	}
	for (ref r = pool_next(cx, POOL_EVSET, REF_NONE); r; r = next) {
		next = pool_next(cx, POOL_EVSET, r);
		if (!*evset_holders(cx, r))
			evset_destroy(cx, r);
	}
}

/* Sockets live and die with a description, but in tests, which make none at all. */
static void unowned_close(struct stack_cx *cx)
{
	ref next;

	if (!pool_live(cx, POOL_DESCRIPTION))
		return;
	for (ref s = sock_next(cx, REF_NONE); s; s = sock_next(cx, s))
		((struct pool_head *)pool_at(cx, s))->mark = 0;
	for (ref r = pool_next(cx, POOL_DESCRIPTION, REF_NONE); r; r = pool_next(cx, POOL_DESCRIPTION, r)) {
		const struct shared_object *o = pool_at(cx, r);

		if (o->sock)
			((struct pool_head *)pool_at(cx, o->sock))->mark = 1;
	}
	for (ref s = sock_next(cx, REF_NONE); s; s = next) {
		next = sock_next(cx, s);
		if (((struct pool_head *)pool_at(cx, s))->mark || !sock_needs_owner(cx, s))
			continue;
		watch_remove_socket(cx, s);
		sock_close(cx, s);
	}
}

void procs_rebuild(struct netio *n, struct stack_cx *cx)
{
	struct region_head *h = n->region.head;
	int waiters = 0;

	holders_clear(cx);
	slots_relink(n, cx);
	holds_relink(cx);
	unheld_close(cx);
	unowned_close(cx);
	for (ref r = h->procs; r; r = proc_at(cx, r)->next)
		waiters += (int)proc_at(cx, r)->waiters;
	atomic_store(&h->waiters, waiters);
	if (h->making)
		proc_reap(n, cx, h->making); /* its maker is dead, and it was never born */
	h->making = REF_NONE;
	if (!pool_valid(cx, POOL_PROC, h->keeper))
		h->keeper = REF_NONE;
	if (!pool_valid(cx, POOL_PROC, h->passages))
		h->passages = REF_NONE;
}

static const char *proc_verify(struct stack_cx *cx, ref r, uint32_t *holds)
{
	const struct proc *p = proc_at(cx, r);
	uint32_t waiters = 0;
	ref before = REF_NONE;

	for (ref at = p->holds; at; before = at, at = hold_at(cx, at)->next) {
		if (!pool_valid(cx, POOL_HOLD, at) || ++*holds > pool_live(cx, POOL_HOLD))
			return "procs: a list of holds leads to a dead one, or loops";
		if (hold_at(cx, at)->proc != r || hold_at(cx, at)->prev != before ||
		    !object_valid(cx, hold_at(cx, at)->head.owner))
			return "procs: a hold is not its process's, or of nothing";
		waiters += hold_at(cx, at)->waiters;
	}
	return waiters == p->waiters ? NULL : "procs: the sleepers of a process are not those of its holds";
}

const char *procs_verify(struct netio *n, struct stack_cx *cx)
{
	const struct region_head *h = n->region.head;
	uint32_t seen = 0, holds = 0, held = 0, drivers = 0;
	uint64_t waiters = 0;
	const char *passages = h->passages ? proc_verify(cx, h->passages, &holds) : NULL;

	if (passages)
		return passages;
	for (ref r = h->procs; r; r = proc_at(cx, r)->next) {
		if (!pool_valid(cx, POOL_PROC, r) || ++seen > pool_live(cx, POOL_PROC))
			return "procs: the list of processes leads to a dead one, or loops";
		const char *broken = proc_verify(cx, r, &holds);
		if (broken)
			return broken;
		waiters += proc_at(cx, r)->waiters;
		drivers += proc_at(cx, r)->driver;
	}
	if (seen != h->proc_count || seen + (h->passages != REF_NONE) != pool_live(cx, POOL_PROC) ||
	    drivers != h->drivers || waiters != (uint64_t)atomic_load(&h->waiters))
		return "procs: the counts of processes, drivers or sleepers are wrong";
	for (ref r = pool_next(cx, POOL_DESCRIPTION, REF_NONE); r; r = pool_next(cx, POOL_DESCRIPTION, r))
		held += *holders_of(cx, r);
	for (ref r = pool_next(cx, POOL_EVSET, REF_NONE); r; r = pool_next(cx, POOL_EVSET, r))
		held += *holders_of(cx, r);
	return holds != pool_live(cx, POOL_HOLD) || held != holds ? "procs: the count of holds is wrong"
								  : NULL;
}
