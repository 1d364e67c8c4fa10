/*
 * epoll_wait.c - one epoll_wait(): harvest of both halves, and the sleep in W(E)
 * between two of them. Theory: epoll.c.
 *
 * Place in the flow: calls_epoll.c -> here -> wait.c, netio/ready.c.
 */
#include <pthread.h>

#include "preload/epoll.h"
#include "preload/undecided.h"

#define TAKE_INLINE  32
#define LEFT_AT_ONCE 4

/* The kernel's struct epoll_event array must fit an int of bytes (fs/eventpoll.c: EP_MAX_EVENTS). */
#define EVENTS_MAX (INT32_MAX / (int)sizeof(struct epoll_event))

/* Room for a harvest that does not fit the frame; used with signals put off. */
static __thread struct {
	struct watch_event *at;
	uint32_t cap;
} scratch __attribute__((tls_model("initial-exec")));

struct call {
	struct set *set;
	int epfd;
	struct epoll_event *ev;
	int max;
	nsec deadline;
	const sigset_t *mask;
	uint32_t before; /* thread_marks.ran */
	bool left;	 /* a member has become the kernel's */
};

/* Not: the half was shut down, which the kernel reports as HUP. */
static bool half_readable(int kernel_fd)
{
	return polled_now(kernel_fd, POLLIN) & POLLIN;
}

/*
 * The kernel half of listener d has one more connection: an edge, also when the
 * bit is up already. Under the stack's lock.
 */
static void listener_report(struct stack_cx *cx, ref d)
{
	struct description *desc = description_at(cx, d);

	if (!pool_valid(cx, POOL_DESCRIPTION, d) || desc->kind != FD_LISTENER || !desc->sock ||
	    !half_readable(local_of(d)->kernel_fd))
		return;
	watch_kernel_bits(cx, desc->sock, 0);
	watch_kernel_bits(cx, desc->sock, SOCK_IN);
}

/*
 * Under the stack's lock: take back the kernel half's bit from listeners whose
 * connection somebody else has accepted. Asks only where the bit alone decides.
 */
static void listeners_refresh(struct stack_cx *cx, struct set *s)
{
	for (struct member *m = s->listeners; m; m = m->next) {
		struct description *desc = description_at(cx, m->d);

		if (!desc->sock || (sock_events(cx, desc->sock) & SOCK_IN) ||
		    !(watch_level(cx, desc->sock) & SOCK_IN))
			continue;
		if (!half_readable(m->kernel_fd))
			watch_kernel_bits(cx, desc->sock, 0);
	}
}

/* Is this tag one of our hidden members'? Then tell the list what it means. */
static bool hidden(struct set *s, uint64_t tag)
{
	struct stack_cx *cx;
	bool found = s->tag && tag == set_tag(s, REF_NONE);

	for (struct member *m = s->listeners; m && !found; m = m->next) {
		found = tag == set_tag(s, m->d);
		if (found && s->ws) {
			cx = netio_enter(the_stack);
			listener_report(cx, m->d);
			netio_leave(the_stack);
		}
	}
	return found;
}

/* What the kernel has in E, from c->ev[at] on. How many, or a negative errno. */
static int kernel_events(struct call *c, int at)
{
	int n, kept = at;

	sets_lock();
	if (c->set->exposed || c->set->sets)
		set_settle(c->set);
	sets_unlock();
	if (!c->set->numbers)
		return 0; /* closed under us: the number may be another file's by now */
	n = sys.epoll_wait(c->epfd, c->ev + at, c->max - at, 0);
	if (n < 0)
		return errno == EINTR ? 0 : -errno;
	if (!c->set->exposed)
		return n;
	for (int i = at; i < at + n; i++)
		if (!hidden(c->set, c->ev[i].data.u64))
			c->ev[kept++] = c->ev[i];
	return kept - at;
}

bool epoll_plain_begin(int epfd)
{
	_Atomic uint32_t *plain = &epoll_plain_waiters[(unsigned int)epfd % EPOLL_BUCKETS];

	/* The other half of the pair is set_join(): it counts the set, then looks here. */
	epoll_plain_count(plain, 1);
	if (!epoll_has_shadow(epfd))
		return true;
	epoll_plain_count(plain, -1);
	return false;
}

int epoll_plain_end(int epfd, struct epoll_event *ev, int n)
{
	struct set *s;
	int kept = 0;

	epoll_plain_count(&epoll_plain_waiters[(unsigned int)epfd % EPOLL_BUCKETS], -1);
	if (n <= 0 || !atomic_load_explicit(&epoll_any_exposed, memory_order_relaxed))
		return n;
	sets_lock();
	s = set_of(epfd);
	for (int i = 0; i < n; i++)
		if (!s || !s->exposed || !hidden(s, ev[i].data.u64))
			ev[kept++] = ev[i];
	sets_unlock();
	return kept ? kept : EPOLL_PLAIN_AGAIN;
}

static struct watch_event *take_room(struct watch_event *few, uint32_t *n)
{
	uint32_t want = *n;

	if (want <= TAKE_INLINE)
		return few;
	if (scratch.cap < want) {
		uint32_t cap = (want + 1023) & ~1023u;
		void *p = pages_get(cap * sizeof *scratch.at);

		if (p) {
			if (scratch.at)
				pages_put(scratch.at, scratch.cap * sizeof *scratch.at);
			scratch.at = p;
			scratch.cap = cap;
		}
	}
	if (scratch.cap) {
		*n = MIN_OF(want, scratch.cap);
		return scratch.at;
	}
	*n = TAKE_INLINE;
	return few;
}

/* Under the stack's lock: of what was taken, what has left the stack (undecided.c); the rest moves up. */
static int take_left(struct stack_cx *cx, struct watch_event *taken, int n, int *left, int *lefts)
{
	int kept = 0;

	*lefts = 0;
	for (int i = 0; i < n; i++) {
		uint64_t key = watch_key(cx, taken[i].watch);

		if (__builtin_expect(description_at(cx, key_description(key))->kind != FD_KERNEL, 1))
			taken[kept++] = taken[i];
		else if (*lefts < LEFT_AT_ONCE)
			left[(*lefts)++] = key_number(key);
	}
	return kept;
}

/* One burst, then what the stack has, from c->ev[at] on; if there is nothing, publish (when allowed). */
static int stack_events(struct call *c, int at, bool may_publish)
{
	struct waitset *ws = c->set->ws;
	struct watch_event few[TAKE_INLINE], *taken;
	struct stack_cx *cx = netio_enter(the_stack);
	int n, left[LEFT_AT_ONCE], lefts;
	uint32_t room;

	waitset_attend(ws, cx, at < c->max); /* else the others must hear of it */
	netio_drive(the_stack, cx);
	listeners_refresh(cx, c->set);
	room = MIN_OF((uint32_t)(c->max - at), evset_watch_count(cx, waitset_evset(ws)));
	taken = take_room(few, &room);
	n = room ? evset_harvest(cx, waitset_evset(ws), taken, (int)room) : 0;
	waitset_attend(ws, cx, false);
	n = take_left(cx, taken, n, left, &lefts);
	if (!n && !at && !lefts && may_publish)
		waitset_publish(ws, cx);
	netio_leave(the_stack);
	for (int i = 0; i < n; i++) {
		c->ev[at + i].events = taken[i].events;
		c->ev[at + i].data.u64 = taken[i].data;
	}
	for (int i = 0; i < lefts; i++)
		undecided_gone(left[i]);
	c->left = lefts != 0;
	return n;
}

/* Sleep in W(E). *kernel: E has something. 0 or a negative errno. */
static int set_sleep(struct call *c, struct wait_result *r, bool *kernel)
{
	struct pollfd beside = {.fd = c->epfd, .events = POLLIN};
	bool polled = c->set->polled;
	struct stack_cx *cx;
	int slept = wait_sleep(c->set->ws, polled ? &beside : NULL, polled, c->deadline, c->mask, r);

	*kernel = polled && !slept && beside.revents;
	cx = netio_enter(the_stack);
	waitset_withdraw(c->set->ws, cx);
	for (int i = 0; i < r->tag_count; i++) {
		if (r->tag[i] == TAG_KERNEL)
			*kernel = true;
		else
			listener_report(cx, (ref)r->tag[i]);
	}
	netio_leave(the_stack);
	return slept;
}

static int call_run(struct call *c)
{
	struct set *s = c->set;
	const bool kernel_turn = s->kernel_turn;
	bool ask = s->kernel_members > 0, kernel_first = kernel_turn, finished = false, interrupted = false;
	/* A zero time-out with nothing but E to look at needs no sleep to find out. */
	bool direct = c->deadline <= netio_now() && !s->listeners;
	struct wait_result r;

	for (;;) {
		int n = 0, more;

		if (ask && kernel_first) {
			n = kernel_events(c, 0);
			if (n < 0)
				return n;
		}
		n += stack_events(c, n, !finished && !direct);
		if (c->left && !n) {
			ask = kernel_first = true;
			continue;
		}
		if ((n && n < c->max && ask && !kernel_first) || (!n && direct && s->kernel_members)) {
			more = kernel_events(c, n);
			n = more > 0 ? n + more : n ? n : more;
		}
		if (n || direct) {
			s->kernel_turn = n == c->max && !kernel_turn;
			return n;
		}
		if (finished)
			return interrupted ? -EINTR : 0;
		more = set_sleep(c, &r, &ask);
		if (more < 0 && more != -EINTR)
			return more;
		interrupted = wait_interrupted(c->before) || more == -EINTR;
		finished = interrupted || r.timed_out;
		ask = ask || (interrupted && s->kernel_members);
		kernel_first = true;
	}
}

static int call_execute(struct call *c)
{
	int r, hold = wait_hold(__builtin_frame_address(0), epoll_release_held, c->set);

	c->before = thread_marks.ran;
	pthread_cleanup_push(epoll_release_held, c->set);
	pthread_cleanup_push(wait_cancelled, c->set->ws);
	r = call_run(c);
	pthread_cleanup_pop(0);
	pthread_cleanup_pop(0);
	wait_unhold(hold);
	return r;
}

/*
 * The set has no stack half (any more). After a fork() the child may share one
 * that has the parent's hidden members: the parent's bell can be up for long,
 * so the child looks at intervals then.
 */
static int kernel_wait(const struct call *c)
{
	const struct timespec pause = {0, 5 * NS_PER_MS};
	struct timespec ts;

	for (;;) {
		nsec now = netio_now(), ns = c->deadline > now ? c->deadline - now : 0;
		int n;

		ts = (struct timespec){(time_t)(ns / NS_PER_S), (long)(ns % NS_PER_S)};
		atomic_fetch_add(&epoll_plain_waiters[(unsigned int)c->epfd % EPOLL_BUCKETS], 1);
		n = sys.epoll_pwait2(c->epfd, c->ev, c->max, c->deadline == NSEC_NEVER ? NULL : &ts, c->mask);
		n = epoll_plain_end(c->epfd, c->ev, n < 0 ? -errno : n);
		if (n != EPOLL_PLAIN_AGAIN)
			return n;
		if (!ns)
			return 0;
		sys.ppoll(NULL, 0, &pause, NULL);
	}
}

int epoll_shadow_wait(int epfd, struct epoll_event *ev, int max, nsec deadline, const sigset_t *mask)
{
	struct call c = {.epfd = epfd, .ev = ev, .max = max, .deadline = deadline, .mask = mask};
	int r;

	if (max <= 0 || max > EVENTS_MAX)
		return -EINVAL;
	/* The kernel fails only where it writes: at the first event that has no room. */
	c.max = (int)(memory_writable(ev, (size_t)max * sizeof *ev) / sizeof *ev);
	if (!c.max)
		return -EFAULT;
	lib_enter();
	sets_lock();
	c.set = set_of(epfd);
	if (c.set && !c.set->ws)
		c.set = NULL;
	if (c.set)
		c.set->refs++;
	sets_unlock();
	if (c.set) {
		r = call_execute(&c);
		epoll_release_held(c.set);
		lib_leave();
	} else {
		lib_leave();
		r = kernel_wait(&c);
	}
	return r;
}
