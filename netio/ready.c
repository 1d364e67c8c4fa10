/*
 * ready.c - evsets and watches: who wants to know what of which socket.
 *
 * Theory of operation. The rules are those of the kernel's fs/eventpoll.c, so
 * that an application sees the same events in the same order:
 *  - a watch gets on its set's ready list when an edge matches its mask
 *    (ready_edge), or when it is added or modified while its level matches;
 *  - being on the list is only a hint: harvesting asks the level again and
 *    drops what no longer holds;
 *  - harvesting goes once over what was listed at its start. A level-triggered
 *    watch goes back to the tail, behind what was not reached; an edge-triggered
 *    one is off until the next edge; ONESHOT clears the mask until a MOD;
 *  - of the EXCLUSIVE watches on one socket, an edge stops at the first whose
 *    set has a sleeping thread, but for the end of a socket, which is for all of
 *    them (sk_state_change wakes every waiter, sk_data_ready one). Watches that are not exclusive come
 *    first, the newest first; exclusive ones follow in the order of their addition.
 *
 * A set counts the threads that are asleep on it (waiters) and the rings that
 * are on their way to them (rung): an event rings only while rung < waiters.
 *
 * A watch whose mask has SOCK_TOLD bits (signals: preload/async.c) is harvested
 * with those that came, whatever the level is by then.
 *
 * A watch is in four structures: its socket's list (heads in sock_user()), its
 * set's list, its set's ready list, and its set's search tree. The tree is a
 * plain binary tree over a bijective mix of the key: keys are descriptor
 * numbers and the like, mixed they arrive in random order, so the depth stays
 * logarithmic without balancing.
 *
 * Everything lives in the region and needs the lock. Place in the flow: core's
 * edges -> here -> bells (bell.c); preload's epoll, poll and blocking calls
 * own the sets.
 */
#include "netio/ready.h"

uint64_t ready_layout(uint64_t hash)
{
#define FIELD LAYOUT_FIELD
	static const size_t facts[] = {
	    sizeof(struct evset),     sizeof(struct watch),	sizeof(struct bell),
	    FIELD(evset, first),      FIELD(evset, tree),	FIELD(evset, ready_first),
	    FIELD(evset, ready_last), FIELD(evset, waiters),	FIELD(evset, rung),
	    FIELD(evset, holders),    FIELD(evset, bell),	FIELD(evset, bell_up),
	    FIELD(evset, attended),   FIELD(watch, set),	FIELD(watch, sock_next),
	    FIELD(watch, set_next),   FIELD(watch, ready_next), FIELD(watch, left),
	    FIELD(watch, mask),	      FIELD(watch, listed),	FIELD(watch, data),
	    FIELD(watch, key),	      FIELD(bell, proc),	FIELD(bell, addr),
	    FIELD(evset, tag),
	};
#undef FIELD
	return layout_mix(hash, facts, ARRAY_LEN(facts));
}

/* ------------------------------------------------------------ the search tree */

/* A bijection on 64 bits (two xor-shift-multiply rounds), so equal mixes mean equal keys. */
static uint64_t mix(uint64_t x)
{
	x ^= x >> 32;
	x *= 0xd6e8feb86659fd93ull;
	x ^= x >> 32;
	x *= 0xd6e8feb86659fd93ull;
	x ^= x >> 32;
	return x;
}

/* The link that holds `key`, or where it would hang. */
ref *tree_link(struct stack_cx *cx, struct evset *e, uint64_t key)
{
	uint64_t m = mix(key);
	ref *link = &e->tree;

	while (*link) {
		struct watch *w = watch_at(cx, *link);
		uint64_t wm = mix(w->key);

		if (wm == m)
			break;
		link = m < wm ? &w->left : &w->right;
	}
	return link;
}

static void tree_remove(struct stack_cx *cx, struct evset *e, ref r)
{
	struct watch *w = watch_at(cx, r);
	uint64_t m = mix(w->key);
	ref *link = &e->tree;

	while (*link && *link != r) {
		struct watch *at = watch_at(cx, *link);

		link = m < mix(at->key) ? &at->left : &at->right;
	}
	if (!*link)
		return;
	if (!w->left || !w->right) {
		*link = w->left ? w->left : w->right;
	} else {
		/* Put the leftmost of the right side in its place. */
		ref *low = &w->right;
		struct watch *s;
		ref sr;

		while (watch_at(cx, *low)->left)
			low = &watch_at(cx, *low)->left;
		sr = *low;
		s = watch_at(cx, sr);
		*low = s->right;
		s->left = w->left;
		s->right = w->right;
		*link = sr;
	}
}

/* ------------------------------------------------------------ lists */

void ready_append(struct stack_cx *cx, struct evset *e, ref r)
{
	struct watch *w = watch_at(cx, r);

	w->ready_prev = e->ready_last;
	w->ready_next = REF_NONE;
	if (e->ready_last)
		watch_at(cx, e->ready_last)->ready_next = r;
	else
		e->ready_first = r;
	e->ready_last = r;
	e->ready_count++;
	w->listed = true;
}

static void ready_unlink(struct stack_cx *cx, struct evset *e, struct watch *w)
{
	if (w->ready_prev)
		watch_at(cx, w->ready_prev)->ready_next = w->ready_next;
	else
		e->ready_first = w->ready_next;
	if (w->ready_next)
		watch_at(cx, w->ready_next)->ready_prev = w->ready_prev;
	else
		e->ready_last = w->ready_prev;
	w->ready_next = w->ready_prev = REF_NONE;
	e->ready_count--;
	w->listed = false;
}

void sock_list_add(struct stack_cx *cx, ref r)
{
	struct watch *w = watch_at(cx, r);
	uint32_t *user = sock_user(cx, w->sock);

	if (w->mask & EPOLLEXCLUSIVE) {
		w->sock_prev = user[USER_LAST];
		if (w->sock_prev)
			watch_at(cx, w->sock_prev)->sock_next = r;
		else
			user[USER_FIRST] = r;
		user[USER_LAST] = r;
	} else {
		w->sock_next = user[USER_FIRST];
		if (w->sock_next)
			watch_at(cx, w->sock_next)->sock_prev = r;
		else
			user[USER_LAST] = r;
		user[USER_FIRST] = r;
	}
}

static void sock_list_remove(struct stack_cx *cx, struct watch *w)
{
	uint32_t *user = sock_user(cx, w->sock);

	if (w->sock_prev)
		watch_at(cx, w->sock_prev)->sock_next = w->sock_next;
	else
		user[USER_FIRST] = w->sock_next;
	if (w->sock_next)
		watch_at(cx, w->sock_next)->sock_prev = w->sock_prev;
	else
		user[USER_LAST] = w->sock_prev;
}

/* ------------------------------------------------------------ levels and wake-ups */

uint32_t watch_level(struct stack_cx *cx, ref sock)
{
	return sock_events(cx, sock) | sock_user(cx, sock)[USER_KERNEL_BITS];
}

/* poll's IN and OUT of a stream socket always come with RDNORM and WRNORM. */
static uint32_t with_norms(uint32_t events)
{
	if (events & SOCK_IN)
		events |= EPOLLRDNORM;
	if (events & SOCK_OUT)
		events |= EPOLLWRNORM;
	return events;
}

static bool armed(const struct watch *w)
{
	return (w->mask & ~PRIVATE_BITS) != 0;
}

uint32_t watch_now(struct stack_cx *cx, const struct watch *w)
{
	return armed(w) ? with_norms(watch_level(cx, w->sock)) & w->mask & ~PRIVATE_BITS : 0;
}

void evset_ring(struct netio *n, struct evset *e)
{
	e->bell_up = true;
	bell_ring(n, &e->bell, e->always);
}

/* Something is on e's ready list. True if that rang for a sleeping thread. */
static bool set_wake(struct stack_cx *cx, struct evset *e)
{
	struct netio *n = netio_of(cx);

	if (!n || !e->bell.addr_len)
		return false;
	if (e->attended && !e->always)
		return true;
	if (e->rung < e->waiters) {
		e->rung++;
		evset_ring(n, e);
		return true;
	}
	if (e->always && !e->bell_up)
		evset_ring(n, e);
	return e->attended;
}

/* The bell is a level for those who watch the set from outside: down with the last entry. */
void evset_settle(struct stack_cx *cx, struct evset *e)
{
	struct netio *n = netio_of(cx);

	if (n && e->always && !e->ready_first && e->bell_up && bell_drain(n, &e->bell, pool_ref(cx, e))) {
		e->bell_up = false;
		e->rung = 0;
	}
}

bool watch_wake(struct stack_cx *cx, ref r)
{
	struct watch *w = watch_at(cx, r);
	struct evset *e = set_at(cx, w->set);

	if (!w->listed)
		ready_append(cx, e, r);
	return set_wake(cx, e);
}

/* An edge on a socket: list every watch that wants it. */
static void ready_edge(struct stack_cx *cx, ref sock, uint32_t edges)
{
	ref r, next;

	edges = with_norms(edges);
	for (r = sock_user(cx, sock)[USER_FIRST]; r; r = next) {
		struct watch *w = watch_at(cx, r);

		next = w->sock_next;
		if (!armed(w) || !(edges & w->mask))
			continue;
		w->told |= edges & w->mask & SOCK_TOLD;
		if (watch_wake(cx, r) && (w->mask & EPOLLEXCLUSIVE) && !(edges & (SOCK_HUP | SOCK_RDHUP)))
			break;
	}
}

void ready_deliver(struct netio *n, struct stack_cx *cx)
{
	uint32_t edges;
	ref s;

	(void)n;
	while ((s = sock_next_edge(cx, &edges)) != REF_NONE)
		ready_edge(cx, s, edges);
}

void watch_kernel_bits(struct stack_cx *cx, ref sock, uint32_t bits)
{
	uint32_t *user = sock_user(cx, sock);
	uint32_t rise = bits & ~user[USER_KERNEL_BITS];

	user[USER_KERNEL_BITS] = bits;
	if (rise)
		ready_edge(cx, sock, rise & SOCK_IN ? rise | SOCK_TOLD_IN : rise);
}

void watch_offer(struct stack_cx *cx, ref sock)
{
	ready_edge(cx, sock, watch_level(cx, sock));
}

/* ------------------------------------------------------------ watches */

ref watch_add(struct stack_cx *cx, ref set, ref sock, uint32_t mask, uint64_t data, uint64_t key)
{
	struct evset *e = set_at(cx, set);
	ref r = pool_alloc(cx, POOL_WATCH, set);
	struct watch *w = watch_at(cx, r);

	if (!r)
		return REF_NONE;
	w->set = set;
	w->sock = sock;
	w->mask = mask | ALWAYS_EVENTS;
	w->data = data;
	w->key = key;
	atomic_signal_fence(memory_order_seq_cst);
	w->whole = true;
	w->set_next = e->first;
	if (e->first)
		watch_at(cx, e->first)->set_prev = r;
	e->first = r;
	*tree_link(cx, e, key) = r;
	e->watch_count++;
	sock_list_add(cx, r);
	if (watch_now(cx, w))
		watch_wake(cx, r);
	return r;
}

void watch_modify(struct stack_cx *cx, ref watch, uint32_t mask, uint64_t data)
{
	struct watch *w = watch_at(cx, watch);

	w->mask = mask | ALWAYS_EVENTS;
	w->data = data;
	/* As EPOLL_CTL_MOD: what holds now is reported again, also to an edge-triggered watch. */
	if (watch_now(cx, w))
		watch_wake(cx, watch);
}

void watch_quiet(struct stack_cx *cx, ref watch)
{
	struct watch *w = watch_at(cx, watch);
	struct evset *e = set_at(cx, w->set);

	if (w->listed)
		ready_unlink(cx, e, w);
	w->told = 0;
	if (w->mask & EPOLLONESHOT)
		w->mask &= PRIVATE_BITS;
	evset_settle(cx, e);
}

void watch_remove(struct stack_cx *cx, ref watch)
{
	struct watch *w = watch_at(cx, watch);
	struct evset *e = set_at(cx, w->set);

	sock_list_remove(cx, w);
	tree_remove(cx, e, watch);
	if (w->listed)
		ready_unlink(cx, e, w);
	if (w->set_prev)
		watch_at(cx, w->set_prev)->set_next = w->set_next;
	else
		e->first = w->set_next;
	if (w->set_next)
		watch_at(cx, w->set_next)->set_prev = w->set_prev;
	e->watch_count--;
	pool_free(cx, POOL_WATCH, watch);
	evset_settle(cx, e);
}

void watch_remove_socket(struct stack_cx *cx, ref sock)
{
	ref r;

	while ((r = sock_user(cx, sock)[USER_FIRST]) != REF_NONE)
		watch_remove(cx, r);
}

ref watch_find(struct stack_cx *cx, ref set, uint64_t key)
{
	return *tree_link(cx, set_at(cx, set), key);
}

ref watch_next_of_set(struct stack_cx *cx, ref set, ref watch)
{
	return watch ? watch_at(cx, watch)->set_next : set_at(cx, set)->first;
}

ref watch_first_of_socket(struct stack_cx *cx, ref sock)
{
	return sock_user(cx, sock)[USER_FIRST];
}

ref watch_next_of_socket(struct stack_cx *cx, ref watch)
{
	return watch_at(cx, watch)->sock_next;
}

uint64_t watch_key(struct stack_cx *cx, ref watch)
{
	return watch_at(cx, watch)->key;
}

void watch_read(struct stack_cx *cx, ref watch, uint32_t *mask, uint64_t *data)
{
	const struct watch *w = watch_at(cx, watch);

	*mask = w->mask;
	*data = w->data;
}

ref watch_set(struct stack_cx *cx, ref watch)
{
	return watch_at(cx, watch)->set;
}

ref watch_socket(struct stack_cx *cx, ref watch)
{
	return watch_at(cx, watch)->sock;
}

/* ------------------------------------------------------------ sets */

/* Note a set whose other sleepers may have to be rung when the lock goes (evset_run_rechecks). */
static void evset_recheck(struct stack_cx *cx, ref set)
{
	struct netio *n = netio_of(cx);

	if (!n)
		return;
	for (uint32_t i = 0; i < n->recheck_count; i++) {
		if (n->recheck[i] == set)
			return;
	}
	if (n->recheck_count < RECHECKS_MAX)
		n->recheck[n->recheck_count++] = set;
	else
		set_wake(cx, set_at(cx, set));
}

void evset_run_rechecks(struct netio *n, struct stack_cx *cx)
{
	for (uint32_t i = 0; i < n->recheck_count; i++) {
		struct evset *e = set_at(cx, n->recheck[i]);

		if (e->ready_first)
			set_wake(cx, e);
	}
	n->recheck_count = 0;
}

ref evset_create(struct stack_cx *cx)
{
	return pool_alloc(cx, POOL_EVSET, REF_NONE);
}

void evset_destroy(struct stack_cx *cx, ref set)
{
	struct evset *e = set_at(cx, set);
	struct netio *n = netio_of(cx);

	e->always = false;
	e->bell.addr_len = 0;
	while (e->first)
		watch_remove(cx, e->first);
	for (uint32_t i = 0; n && i < n->recheck_count; i++) {
		if (n->recheck[i] == set)
			n->recheck[i--] = n->recheck[--n->recheck_count];
	}
	pool_free(cx, POOL_EVSET, set);
}

int evset_harvest(struct stack_cx *cx, ref set, struct watch_event *out, int max)
{
	struct evset *e = set_at(cx, set);
	uint32_t listed = e->ready_count; /* what goes back to the tail is not met again */
	int taken = 0;

	for (uint32_t i = 0; i < listed && taken < max; i++) {
		ref r = e->ready_first;
		struct watch *w = watch_at(cx, r);
		uint32_t events = watch_now(cx, w) | w->told;

		ready_unlink(cx, e, w);
		w->told = 0;
		if (!events)
			continue;
		out[taken].events = events;
		out[taken].data = w->data;
		out[taken].watch = r;
		taken++;
		if (w->mask & EPOLLONESHOT)
			w->mask &= PRIVATE_BITS;
		else if (!(w->mask & EPOLLET))
			ready_append(cx, e, r);
	}
	evset_settle(cx, e);
	/* As the kernel: what is left, or went back, is offered to the next sleeper. */
	if (e->ready_first && e->waiters)
		evset_recheck(cx, set);
	return taken;
}

bool evset_ready(struct stack_cx *cx, ref set)
{
	struct evset *e = set_at(cx, set);

	while (e->ready_first) {
		struct watch *w = watch_at(cx, e->ready_first);

		if (watch_now(cx, w) | w->told)
			return true;
		ready_unlink(cx, e, w);
	}
	evset_settle(cx, e);
	return false;
}

uint32_t evset_watch_count(struct stack_cx *cx, ref set)
{
	return set_at(cx, set)->watch_count;
}

/* ------------------------------------------------------------ for wait.c */

void evset_bind(struct stack_cx *cx, ref set, const struct bell *bell)
{
	set_at(cx, set)->bell = *bell;
}

void evset_rebind(struct stack_cx *cx, ref set, ref proc, uint32_t slot)
{
	struct bell *b = &set_at(cx, set)->bell;

	if (b->proc)
		return;
	b->proc = proc;
	b->slot = slot;
}

void evset_name(struct stack_cx *cx, ref set, uint64_t tag)
{
	set_at(cx, set)->tag = tag;
}

uint64_t evset_tag(struct stack_cx *cx, ref set)
{
	return set_at(cx, set)->tag;
}

ref evset_of_tag(struct stack_cx *cx, uint64_t tag)
{
	for (ref r = pool_next(cx, POOL_EVSET, REF_NONE); tag && r; r = pool_next(cx, POOL_EVSET, r))
		if (set_at(cx, r)->holders && set_at(cx, r)->tag == tag)
			return r;
	return REF_NONE;
}

uint32_t *evset_holders(struct stack_cx *cx, ref set)
{
	return &set_at(cx, set)->holders;
}

bool evset_bell_up(struct stack_cx *cx, ref set)
{
	return set_at(cx, set)->bell_up;
}

void evset_bell_down(struct stack_cx *cx, ref set)
{
	set_at(cx, set)->bell_up = false;
}

void evset_sleepers_gone(struct stack_cx *cx, ref set, uint32_t sleepers)
{
	struct evset *e = set_at(cx, set);

	e->waiters -= MIN_OF(sleepers, e->waiters);
	e->rung = 0;
}

void evset_forget_proc(struct stack_cx *cx, ref set, ref proc)
{
	struct evset *e = set_at(cx, set);

	if (e->bell.proc == proc)
		e->bell.proc = REF_NONE;
}

void evsets_reap(struct stack_cx *cx, ref proc)
{
	for (ref r = pool_next(cx, POOL_EVSET, REF_NONE); r; r = pool_next(cx, POOL_EVSET, r)) {
		struct evset *e = set_at(cx, r);

		e->attended = false;
		if (e->bell.proc == proc)
			e->bell.proc = REF_NONE;
		if (e->ready_first) {
			e->rung = 0;
			set_wake(cx, e);
		}
	}
}

void evset_publish(struct stack_cx *cx, ref set)
{
	set_at(cx, set)->waiters++;
}

void evset_withdraw(struct stack_cx *cx, ref set, bool answered)
{
	struct evset *e = set_at(cx, set);

	if (e->waiters)
		e->waiters--;
	/* One sleeper may have answered a ring that was meant for another, or drained it: all are void. */
	e->rung = answered ? 0 : MIN_OF(e->rung, e->waiters);
	if (e->waiters)
		evset_recheck(cx, set);
}

void evset_attend(struct stack_cx *cx, ref set, bool on)
{
	set_at(cx, set)->attended = on;
}

bool evset_has_ready(struct stack_cx *cx, ref set)
{
	return set_at(cx, set)->ready_first != REF_NONE;
}

void evset_ring_always(struct stack_cx *cx, ref set, bool on)
{
	struct evset *e = set_at(cx, set);
	struct netio *n = netio_of(cx);
	bool seen = e->always;

	e->always = on;
	if (!on || !n)
		return;
	if (e->ready_first) {
		/* A ring that a sleeper heard before anybody could see the bell may have been taken away. */
		e->bell_up = e->bell_up && seen;
		set_wake(cx, e);
	} else {
		evset_settle(cx, e);
	}
}

void evset_kick(struct stack_cx *cx, ref set)
{
	set_wake(cx, set_at(cx, set));
}

bool evset_rings_always(struct stack_cx *cx, ref set)
{
	return set_at(cx, set)->always;
}
