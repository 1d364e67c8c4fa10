/*
 * epoll_nest.c - a set gets its wait set W(E), and whoever watches E from outside
 * (an outer set, poll) sees the stack's readiness in it. Theory: epoll.c.
 *
 * Place in the flow: epoll_ctl.c, poll.c -> here -> netio/wait.c.
 */
#include <sys/random.h>

#include "preload/epoll.h"

/*
 * A thread that sleeps in the kernel's epoll_wait(E) since before the first
 * stack member came would never hear of it: with the bell in E it wakes, finds
 * a hidden member (epoll_plain_end), and goes on in epoll_shadow_wait().
 */
static void wake_plain(struct set *s)
{
	for (uint32_t b = 0; b < EPOLL_BUCKETS; b++)
		for (struct number *n = epoll_numbers[b]; n; n = n->next)
			if (n->set == s &&
			    (atomic_load(&epoll_plain_waiters[b]) || atomic_load(&epoll_plain_pollers)))
				set_expose(s);
}

void half_show(struct set *s, const struct member *m)
{
	if (!s->exposed || polled_now(m->kernel_fd, 0) & POLLHUP)
		return;
	epoll_kernel_ctl(s->fd, EPOLL_CTL_ADD, m->kernel_fd, EPOLLIN | EPOLLET, set_tag(s, m->d));
}

void epoll_listens_again(ref d)
{
	struct member *m;

	if (!atomic_load(&epoll_joined))
		return;
	sets_lock();
	for (struct set *s = epoll_sets; s; s = s->next)
		if ((m = listener_member(s, d)) != NULL)
			half_show(s, m);
	sets_unlock();
}

/* A number that is no other set's, and no data of the application's. */
static uint64_t tag_draw(void)
{
	uint32_t low;

	if (getrandom(&low, sizeof low, 0) != sizeof low)
		low = (uint32_t)(netio_now() * 0x9e3779b97f4a7c15ull >> 32);
	return (uint64_t)netio_set_mark(&the_config.net) << 32 | low;
}

/* W(E) for s, and for every set that contains it. 0 or a negative errno. */
int set_join(struct set *s)
{
	int r;

	if (s->ws)
		return 0;
	r = waitset_create(the_stack, &s->ws);
	if (r < 0) {
		s->ws = NULL;
		return r;
	}
	s->tag = tag_draw();
	waitset_inherit(s->ws, s->tag);
	r = waitset_add_fd(s->ws, s->fd, EPOLLIN, TAG_KERNEL);
	if (r == -ELOOP) {
		s->polled = true;
		r = 0;
	}
	if (r < 0) {
		waitset_destroy(s->ws);
		s->ws = NULL;
		return r;
	}
	atomic_fetch_add(&epoll_joined, 1);
	wake_plain(s);
	for (struct set *o = epoll_sets; !r && o; o = o->next)
		for (struct member *m = o->sets; !r && m; m = m->next)
			if (m->inner == s) {
				set_expose(s);
				r = set_join(o);
			}
	return r;
}

/* Make the kernel's poll of E say what the stack's list says. */
void set_expose(struct set *s)
{
	struct stack_cx *cx;

	if (s->exposed || !s->ws)
		return;
	s->exposed = true;
	atomic_store(&epoll_any_exposed, true);
	/* Perhaps it is there as the set's mark (epoll_heir.c). */
	if (epoll_kernel_ctl(s->fd, EPOLL_CTL_ADD, waitset_bell(s->ws), EPOLLIN, s->tag) == -EEXIST)
		epoll_kernel_ctl(s->fd, EPOLL_CTL_MOD, waitset_bell(s->ws), EPOLLIN, s->tag);
	epoll_kernel_ctl(s->fd, EPOLL_CTL_ADD, waitset_post(s->ws), EPOLLIN, s->tag);
	for (struct member *m = s->listeners; m; m = m->next)
		half_show(s, m);
	cx = netio_enter(the_stack);
	waitset_ring_always(s->ws, cx, true);
	netio_leave(the_stack);
}

void epoll_expose(int fd)
{
	struct set *s;

	sets_lock();
	s = set_of(fd);
	if (s)
		set_expose(s);
	sets_unlock();
}

/* The bell of s, and of what it contains, is up only while something is ready. The kernel limits the depth.
 */
void set_settle(struct set *s)
{
	for (struct member *m = s->sets; m; m = m->next)
		set_settle(m->inner);
	if (s->exposed && s->ws) {
		struct stack_cx *cx = netio_enter(the_stack);
		evset_ready(cx, waitset_evset(s->ws));
		netio_leave(the_stack);
	}
}

void epoll_settle(int fd)
{
	struct set *s;

	sets_lock();
	s = set_of(fd);
	if (s)
		set_settle(s);
	sets_unlock();
}

/* Does s contain inner, directly or not? The kernel limits the depth. */
static bool contains(const struct set *s, const struct set *inner)
{
	if (s == inner)
		return true;
	for (const struct member *m = s->sets; m; m = m->next)
		if (contains(m->inner, inner))
			return true;
	return false;
}

bool set_make_room(const struct set *inner)
{
	struct stack_cx *cx = netio_enter(the_stack);
	bool any = false;

	for (struct set *s = epoll_sets; s; s = s->next)
		if (s->ws && !s->polled && contains(s, inner)) {
			s->polled = true;
			waitset_del_fd(s->ws, s->fd);
			waitset_kick(s->ws, cx);
			any = true;
		}
	netio_leave(the_stack);
	return any;
}
