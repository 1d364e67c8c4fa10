/*
 * epoll_leave.c - stack sockets that are members of sets become the kernel's: the
 * way back from epoll_move.c's. For a process that will not call us again (seal.c).
 *
 * Place in the flow: seal.c -> here.
 */
#include "preload/epoll.h"

/* A record of the membership, as of an undecided socket's; epoll_after_replace() puts it into the kernel's
 * set. */
static void member_note(struct set *s, int fd, uint32_t events, uint64_t data)
{
	struct tcp_member *m = cell_get();

	if (!m)
		return;
	m->set = s;
	m->fd = fd;
	m->moving = true;
	m->event = (struct epoll_event){.events = events, .data.u64 = data};
	m->next = *tcp_bucket(fd);
	*tcp_bucket(fd) = m;
}

void epoll_leave(int fd, ref d)
{
	uint32_t events;
	uint64_t data;

	if (!atomic_load(&epoll_joined))
		return;
	sets_lock();
	for (struct set *s = epoll_sets; s; s = s->next)
		if (s->ws && member_take(s, fd, d, &events, &data))
			member_note(s, fd, events, data);
	sets_unlock();
}

static void set_leave(struct set *s)
{
	epoll_kernel_ctl(s->fd, EPOLL_CTL_DEL, waitset_bell(s->ws), 0, 0); /* perhaps as a mark only */
	if (s->exposed)
		epoll_kernel_ctl(s->fd, EPOLL_CTL_DEL, waitset_post(s->ws), 0, 0);
	s->exposed = false;
	waitset_destroy(s->ws);
	s->ws = NULL;
	atomic_fetch_sub(&epoll_joined, 1);
}

void epoll_leave_all(void)
{
	if (!atomic_load(&epoll_joined))
		return;
	sets_lock();
	for (struct set *s = epoll_sets; s; s = s->next)
		/* A thread that sleeps in W(E) hears of E there all the same. */
		if (s->ws && s->refs == 1)
			set_leave(s);
	sets_unlock();
}
