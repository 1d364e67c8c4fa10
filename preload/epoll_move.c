/*
 * epoll_move.c - a kernel TCP socket that is a member of sets becomes a stack
 * socket: its memberships move from the kernel's sets into our lists (D4).
 *
 * Place in the flow: establish.c -> here -> epoll_ctl.c.
 */
#include "preload/epoll.h"

/* Has it the number in *arg, and fired? */
static bool item_fired(const struct epoll_item *i, void *arg)
{
	return i->fd == *(const int *)arg && !(i->events & ~MODIFIERS);
}

/*
 * Has a ONESHOT member fired, and not been armed again? Only the kernel knows;
 * it tells in fdinfo. Without /proc: no.
 */
static bool oneshot_fired(const struct tcp_member *m)
{
	int fd = m->fd;

	return epoll_each_item(m->set->fd, item_fired, &fd);
}

/* Where another member is ready, too, it may fire once more. */
void epoll_note_fired(int fd)
{
	sets_lock();
	for (struct tcp_member *m = *tcp_bucket(fd); m; m = m->next)
		if (m->fd == fd && (m->event.events & (EPOLLET | EPOLLONESHOT)) == EPOLLET)
			m->fired = !polled_now(m->set->fd, POLLIN);
	sets_unlock();
}

int epoll_before_replace(int fd)
{
	struct tcp_member **l, *m;

	sets_lock();
	for (l = tcp_bucket(fd); (m = *l) != NULL;) {
		if (m->fd != fd) {
			l = &m->next;
			continue;
		}
		if ((m->event.events & EPOLLONESHOT) && oneshot_fired(m))
			m->fired = true;
		if (epoll_kernel_ctl(m->set->fd, EPOLL_CTL_DEL, fd, 0, 0) < 0) {
			*l = m->next; /* the number meant another file then */
			cell_put(m);
			continue;
		}
		m->moving = true;
		if (m->set->kernel_members > 0)
			m->set->kernel_members--;
		l = &m->next;
	}
	sets_unlock();
	return 0;
}

int epoll_after_replace(int fd, ref d)
{
	struct tcp_member **l, *m;
	int r = 0;

	sets_lock();
	for (l = tcp_bucket(fd); (m = *l) != NULL;) {
		if (m->fd != fd || !m->moving) {
			l = &m->next;
			continue;
		}
		if (!d) { /* it stays in the kernel after all */
			m->moving = false;
			if (!epoll_kernel_ctl(m->set->fd, EPOLL_CTL_ADD, fd, m->event.events,
					      m->event.data.u64))
				m->set->kernel_members++;
			l = &m->next;
			continue;
		}
		r = member_add(m->set, fd, d, &m->event);
		if (!r && m->fired)
			member_quiet(m->set, fd, d);
		*l = m->next;
		cell_put(m);
		if (r < 0)
			break;
	}
	sets_unlock();
	return r;
}

/*
 * The watches stay while another process has the description: as in the kernel,
 * a membership lives as long as the open file. With the last one they go.
 */
void epoll_description_gone(ref d)
{
	struct member *m;

	if (!atomic_load(&epoll_joined))
		return;
	sets_lock();
	for (struct set *s = epoll_sets; s; s = s->next)
		while ((m = listener_member(s, d)) != NULL)
			listener_remove(s, m->fd, d);
	sets_unlock();
}
