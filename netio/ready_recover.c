/*
 * ready_recover.c - sets and watches after a holder of the lock was killed, and
 * their invariants.
 *
 * A watch names its set and its socket; trees, lists and counts follow from that.
 * One that was being made is not whole and goes; one that was being removed is
 * there again: its process is dead, and the set or the socket with it, or it is
 * shared, and then the removal never happened.
 *
 * Place in the flow: recover.c.
 */
#include "netio/ready.h"

void evset_sleepers_add(struct stack_cx *cx, ref set, uint32_t sleepers)
{
	if (pool_valid(cx, POOL_EVSET, set))
		set_at(cx, set)->waiters += sleepers;
}

/* What hangs on a set or a socket follows from the watches. Sleepers are counted anew by procs_rebuild(). */
static void sets_clear(struct stack_cx *cx)
{
	for (ref r = pool_next(cx, POOL_EVSET, REF_NONE); r; r = pool_next(cx, POOL_EVSET, r)) {
		struct evset *e = set_at(cx, r);

		e->first = e->tree = e->ready_first = e->ready_last = REF_NONE;
		e->ready_count = e->watch_count = e->waiters = e->rung = 0;
		e->attended = false;
	}
}

/* False: it was being made, or its set or socket is gone. */
static bool watch_relink(struct stack_cx *cx, ref r)
{
	struct watch *w = watch_at(cx, r);
	struct evset *e = set_at(cx, w->set);
	ref *link;

	w->head.mark = 0;
	w->left = w->right = w->ready_next = w->ready_prev = REF_NONE;
	if (!w->whole || !pool_valid(cx, POOL_EVSET, w->set) || !pool_valid(cx, POOL_TCB, w->sock) ||
	    !sock_needs_owner(cx, w->sock))
		return false;
	link = tree_link(cx, e, w->key);
	if (*link)
		return false;
	*link = r;
	w->set_prev = REF_NONE;
	w->set_next = e->first;
	if (e->first)
		watch_at(cx, e->first)->set_prev = r;
	e->first = r;
	e->watch_count++;
	return true;
}

/* As far as the old links lead: the order in which EXCLUSIVE watches were added. */
static void sock_list_follow(struct stack_cx *cx, ref sock)
{
	uint32_t *user = sock_user(cx, sock);
	ref next, at = user[USER_FIRST], last = REF_NONE;

	user[USER_FIRST] = REF_NONE;
	for (; pool_valid(cx, POOL_WATCH, at) && watch_at(cx, at)->sock == sock; at = next) {
		struct watch *w = watch_at(cx, at);

		if (w->head.mark)
			break;
		next = w->sock_next;
		w->head.mark = 1;
		w->sock_prev = last;
		w->sock_next = REF_NONE;
		if (last)
			watch_at(cx, last)->sock_next = at;
		else
			user[USER_FIRST] = at;
		last = at;
	}
	user[USER_LAST] = last;
}

void ready_rebuild(struct netio *n, struct stack_cx *cx)
{
	ref next;

	n->recheck_count = n->ring_count = 0;
	sets_clear(cx);
	for (ref r = pool_next(cx, POOL_WATCH, REF_NONE); r; r = next) {
		next = pool_next(cx, POOL_WATCH, r);
		if (!watch_relink(cx, r))
			pool_free(cx, POOL_WATCH, r);
	}
	for (ref s = sock_next(cx, REF_NONE); s; s = sock_next(cx, s))
		sock_list_follow(cx, s);
	for (ref r = pool_next(cx, POOL_WATCH, REF_NONE); r; r = pool_next(cx, POOL_WATCH, r)) {
		struct watch *w = watch_at(cx, r);

		if (!w->head.mark) {
			w->sock_next = w->sock_prev = REF_NONE;
			sock_list_add(cx, r);
		}
		if (w->listed)
			ready_append(cx, set_at(cx, w->set), r);
	}
}

/*
 * Edges that the dead one had taken and not delivered, rings that it owed: whatever
 * has a level is an edge. One too many is what edge-triggered readers expect anyway.
 */
void ready_rewake(struct netio *n, struct stack_cx *cx)
{
	for (ref r = pool_next(cx, POOL_WATCH, REF_NONE); r; r = pool_next(cx, POOL_WATCH, r)) {
		struct watch *w = watch_at(cx, r);

		if (w->listed || watch_now(cx, w))
			watch_wake(cx, r);
	}
	for (ref r = pool_next(cx, POOL_EVSET, REF_NONE); r; r = pool_next(cx, POOL_EVSET, r)) {
		struct evset *e = set_at(cx, r);

		/* Said to be up, and perhaps never rung; or rung, and not said to be. */
		if (e->always && e->ready_first)
			evset_ring(n, e);
		else if (e->always)
			e->bell_up = true;
		evset_settle(cx, e);
	}
}

static const char *sock_list_verify(struct stack_cx *cx, ref sock, uint32_t *seen)
{
	const uint32_t *user = sock_user(cx, sock);
	ref before = REF_NONE;

	for (ref r = user[USER_FIRST]; r; before = r, r = watch_at(cx, r)->sock_next)
		if (!pool_valid(cx, POOL_WATCH, r) || watch_at(cx, r)->sock != sock ||
		    watch_at(cx, r)->sock_prev != before || ++*seen > pool_live(cx, POOL_WATCH))
			return "ready: a socket's list of watches is broken";
	return before == user[USER_LAST] ? NULL : "ready: a socket's list of watches ends elsewhere";
}

static const char *set_verify(struct stack_cx *cx, ref set, uint32_t *seen)
{
	struct evset *e = set_at(cx, set);
	uint32_t watches = 0, listed = 0, ready = 0;
	ref last = REF_NONE;

	for (ref r = e->first; r; r = watch_at(cx, r)->set_next) {
		if (!pool_valid(cx, POOL_WATCH, r) || watch_at(cx, r)->set != set ||
		    ++watches > pool_live(cx, POOL_WATCH))
			return "ready: a set's list of watches is broken";
		if (watch_find(cx, set, watch_at(cx, r)->key) != r)
			return "ready: a watch is not found by its key";
		listed += watch_at(cx, r)->listed;
	}
	for (ref r = e->ready_first; r; last = r, r = watch_at(cx, r)->ready_next)
		if (!pool_valid(cx, POOL_WATCH, r) || !watch_at(cx, r)->listed || ++ready > watches)
			return "ready: a ready list holds what is not listed";
	if (ready != listed || ready != e->ready_count || last != e->ready_last || watches != e->watch_count)
		return "ready: the counts of a set are wrong";
	*seen += watches;
	return NULL;
}

const char *ready_verify(struct stack_cx *cx)
{
	uint32_t by_set = 0, by_sock = 0;
	const char *broken = NULL;

	for (ref r = pool_next(cx, POOL_EVSET, REF_NONE); !broken && r; r = pool_next(cx, POOL_EVSET, r))
		broken = set_verify(cx, r, &by_set);
	for (ref s = sock_next(cx, REF_NONE); !broken && s; s = sock_next(cx, s))
		broken = sock_list_verify(cx, s, &by_sock);
	if (!broken && (by_set != pool_live(cx, POOL_WATCH) || by_sock != by_set))
		broken = "ready: a watch is in no list";
	return broken;
}
