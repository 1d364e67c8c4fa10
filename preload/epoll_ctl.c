/*
 * epoll_ctl.c - members of sets: fs/eventpoll.c's do_epoll_ctl() for stack
 * sockets, and records of the kernel's members that concern us. Theory: epoll.c.
 *
 * Place in the flow: calls_epoll.c -> here -> netio/ready.c (watches).
 */
#include "preload/epoll.h"
#include "preload/undecided.h"

#define EXCLUSIVE_KEY 0x80000000u
#define EXCLUSIVE_ALLOWED                                                                                    \
	((uint32_t)(EPOLLIN | EPOLLOUT | EPOLLERR | EPOLLHUP | EPOLLWAKEUP | EPOLLET | EPOLLEXCLUSIVE))

/* ------------------------------------------------------------------ members on the stack */

static uint64_t key_of(int fd, ref d, bool exclusive)
{
	return (uint64_t)d << 32 | (uint32_t)fd | (exclusive ? EXCLUSIVE_KEY : 0);
}

int key_number(uint64_t key)
{
	return (int)((uint32_t)key & ~EXCLUSIVE_KEY);
}

ref key_description(uint64_t key)
{
	return (ref)(key >> 32);
}

static struct member **listener_link(struct set *s, int fd, ref d)
{
	struct member **l = &s->listeners;

	while (*l && ((*l)->fd != fd || (*l)->d != d))
		l = &(*l)->next;
	return l;
}

struct member *listener_member(const struct set *s, ref d)
{
	struct member *m = s->listeners;

	while (m && m->d != d)
		m = m->next;
	return m;
}

int listener_add(struct set *s, int fd, ref d)
{
	struct description *desc = description_of(d);
	struct member *m;
	int r;

	if (desc->kind == FD_LISTENER)
		undecided_half_early(fd, d);
	if (desc->kind != FD_LISTENER || local_of(d)->kernel_fd < 0)
		return 0;
	m = cell_get();
	if (!m)
		return -ENOMEM;
	m->fd = fd;
	m->d = d;
	m->kernel_fd = local_of(d)->kernel_fd;
	r = waitset_add_fd(s->ws, m->kernel_fd, EPOLLIN | EPOLLET, TAG_LISTENER | d);
	if (r < 0 && r != -EEXIST) {
		cell_put(m);
		return r;
	}
	half_show(s, m);
	netio_enter(the_stack);
	m->next = s->listeners;
	s->listeners = m;
	netio_leave(the_stack);
	return 0;
}

void listener_remove(struct set *s, int fd, ref d)
{
	struct member **l = listener_link(s, fd, d), *m = *l;

	if (!m)
		return;
	netio_enter(the_stack);
	*l = m->next;
	netio_leave(the_stack);
	if (!listener_member(s, d)) {
		waitset_del_fd(s->ws, m->kernel_fd);
		if (s->exposed)
			epoll_kernel_ctl(s->fd, EPOLL_CTL_DEL, m->kernel_fd, 0, 0);
	}
	cell_put(m);
}

static ref find(struct stack_cx *cx, struct set *s, int fd, ref d, bool *exclusive)
{
	ref set = waitset_evset(s->ws), w = watch_find(cx, set, key_of(fd, d, false));

	*exclusive = false;
	if (!w) {
		w = watch_find(cx, set, key_of(fd, d, true));
		*exclusive = w != REF_NONE;
	}
	return w;
}

int member_add(struct set *s, int fd, ref d, const struct epoll_event *e)
{
	struct description *desc = description_of(d);
	struct stack_cx *cx;
	bool exclusive;
	int r = set_join(s);

	if (r < 0)
		return r;
	cx = netio_enter(the_stack);
	if (!desc->sock)
		r = -EBADF;
	else if (find(cx, s, fd, d, &exclusive))
		r = -EEXIST;
	else if (!watch_add(cx, waitset_evset(s->ws), desc->sock, e->events & ~SOCK_TOLD, e->data.u64,
			    key_of(fd, d, e->events & EPOLLEXCLUSIVE)))
		r = -ENOMEM;
	netio_leave(the_stack);
	return r < 0 ? r : listener_add(s, fd, d);
}

void member_quiet(struct set *s, int fd, ref d)
{
	struct stack_cx *cx = netio_enter(the_stack);
	bool exclusive;
	ref w = find(cx, s, fd, d, &exclusive);

	if (w)
		watch_quiet(cx, w);
	netio_leave(the_stack);
}

static int stack_modify(struct set *s, int fd, ref d, const struct epoll_event *e)
{
	struct stack_cx *cx = netio_enter(the_stack);
	bool exclusive;
	ref w = find(cx, s, fd, d, &exclusive);
	int r = !w ? -ENOENT : exclusive ? -EINVAL : 0;

	if (!r)
		watch_modify(cx, w, e->events & ~SOCK_TOLD, e->data.u64);
	netio_leave(the_stack);
	return r;
}

static int stack_remove(struct set *s, int fd, ref d)
{
	struct stack_cx *cx = netio_enter(the_stack);
	bool exclusive;
	ref w = find(cx, s, fd, d, &exclusive);

	if (w)
		watch_remove(cx, w);
	netio_leave(the_stack);
	if (!w)
		return -ENOENT;
	listener_remove(s, fd, d);
	return 0;
}

bool member_take(struct set *s, int fd, ref d, uint32_t *events, uint64_t *data)
{
	struct stack_cx *cx = netio_enter(the_stack);
	bool exclusive;
	ref w = find(cx, s, fd, d, &exclusive);

	if (w) {
		watch_read(cx, w, events, data);
		watch_remove(cx, w);
	}
	netio_leave(the_stack);
	if (w)
		listener_remove(s, fd, d);
	return w != REF_NONE;
}

/* Is epfd an epoll descriptor at all? The placeholder's number is open, so the kernel looks at epfd. */
static int check_set(int epfd, int fd)
{
	int r;

	if (fd_kind(epfd) == FD_EPOLL)
		return 0;
	r = epoll_kernel_ctl(epfd, EPOLL_CTL_MOD, fd, 0, 0);
	return r == -ENOENT ? 0 : r < 0 ? r : -EINVAL;
}

/* fs/eventpoll.c: do_epoll_ctl(), for a stack socket. e is NULL for DEL. */
static int stack_ctl(int epfd, int op, int fd, ref d, const struct epoll_event *e)
{
	struct set *s;
	int r = check_set(epfd, fd);

	if (r < 0)
		return r;
	if (e && (e->events & EPOLLEXCLUSIVE) &&
	    (op == EPOLL_CTL_MOD || (op == EPOLL_CTL_ADD && (e->events & ~EXCLUSIVE_ALLOWED))))
		return -EINVAL;
	sets_lock();
	s = op == EPOLL_CTL_ADD ? set_get(epfd) : set_of(epfd);
	if (!s)
		r = op == EPOLL_CTL_ADD ? -ENOMEM : -ENOENT;
	else if (op == EPOLL_CTL_ADD)
		r = member_add(s, fd, d, e);
	else if (!s->ws)
		r = -ENOENT;
	else
		r = op == EPOLL_CTL_MOD ? stack_modify(s, fd, d, e) : stack_remove(s, fd, d);
	sets_unlock();
	/* A set that others made, with its first stack member: from now on its waits are ours. */
	if (!r && fd_kind(epfd) == FD_KERNEL)
		r = fd_install(epfd, FD_EPOLL, REF_NONE);
	return r;
}

/* ------------------------------------------------------------------ members in the kernel */

static void tcp_record(struct set *s, int op, int fd, const struct epoll_event *e)
{
	struct tcp_member **l = tcp_bucket(fd), *m;

	while (*l && ((*l)->fd != fd || (*l)->set != s))
		l = &(*l)->next;
	m = *l;
	if (op == EPOLL_CTL_DEL) {
		if (m) {
			*l = m->next;
			cell_put(m);
		}
		return;
	}
	if (!m) {
		m = cell_get();
		if (!m)
			return;
		m->next = *tcp_bucket(fd);
		*tcp_bucket(fd) = m;
	}
	m->set = s;
	m->fd = fd;
	m->moving = false;
	m->event = *e;
}

/* E2 got (or lost) E: E2's readers must drive the stack, and E must tell the kernel when it is ready. */
void nest_record(struct set *outer, int op, int fd)
{
	struct member **l = &outer->sets, *m;

	while (*l && (*l)->fd != fd)
		l = &(*l)->next;
	m = *l;
	if (op == EPOLL_CTL_DEL && m) {
		*l = m->next;
		cell_put(m);
	} else if (op == EPOLL_CTL_ADD && !m && (m = cell_get()) != NULL) {
		m->fd = fd;
		m->inner = set_get(fd);
		m->next = outer->sets;
		outer->sets = m;
		if (m->inner && m->inner->ws) {
			set_expose(m->inner);
			set_join(outer);
		}
	}
}

static int kernel_member_ctl(int epfd, int op, int fd, enum fd_kind kind, struct epoll_event *e)
{
	struct set *s;
	int r = sys.epoll_ctl(epfd, op, fd, e) < 0 ? -errno : 0;

	if (r == -ELOOP && kind == FD_EPOLL && the_stack) {
		sets_lock();
		s = set_of(epfd);
		if (s && set_make_room(s))
			r = sys.epoll_ctl(epfd, op, fd, e) < 0 ? -errno : 0;
		sets_unlock();
	}
	if (r < 0)
		return r;
	sets_lock();
	s = kind == FD_KERNEL ? set_of(epfd) : set_get(epfd);
	if (s) {
		if (op == EPOLL_CTL_ADD)
			s->kernel_members++;
		else if (op == EPOLL_CTL_DEL && s->kernel_members > 0)
			s->kernel_members--;
		if (kind == FD_TCP)
			tcp_record(s, op, fd, e);
		else if (kind == FD_EPOLL)
			nest_record(s, op, fd);
	}
	sets_unlock();
	return r;
}

int epoll_shadow_ctl(int epfd, int op, int fd, struct epoll_event *ev)
{
	enum fd_kind kind = fd_kind(fd);
	struct epoll_event e = {0};
	int r;
	ref d;

	if (kind == FD_KERNEL && the_stack)
		undecided_gone(fd);
	if (kind == FD_KERNEL && the_stack && (netio_owns_fd(fd) || netio_owns_fd(epfd)))
		return -EBADF;
	if (kind != FD_STREAM && kind != FD_LISTENER)
		return kernel_member_ctl(epfd, op, fd, kind, ev);
	if (op != EPOLL_CTL_DEL) {
		if (!memory_readable(ev, sizeof *ev))
			return -EFAULT;
		e = *ev;
		if (op != EPOLL_CTL_ADD && op != EPOLL_CTL_MOD)
			return -EINVAL;
	}
	d = fd_hold(fd);
	if (!d)
		return kernel_member_ctl(epfd, op, fd, fd_kind(fd), ev);
	r = stack_ctl(epfd, op, fd, d, op == EPOLL_CTL_DEL ? NULL : &e);
	fd_release(d);
	return r;
}
