/*
 * poll_plain.c - poll() and select() in libc that look at epoll sets without
 * stack members.
 *
 * A set may get its first stack member while somebody sleeps over it. Then its
 * bell must enter it, so that the kernel's poll of it tells the truth
 * (epoll_nest.c). So such a sleeper is counted for each set that it looks at,
 * like one in epoll_wait(); set_join() looks for it. The two are a Dekker pair:
 * here counted first, then asked whether the set has members by now.
 *
 * A program without epoll sets pays one read; one with sets, a look at each
 * number that it polls (has_set: is there anything to note). A handler that
 * leaves by siglongjmp() leaves its count behind: then a set is exposed for
 * nobody, which costs a ring now and then.
 *
 * Place in the flow: calls_poll.c, poll.c -> here -> epoll_nest.c.
 */
#include "preload/calls.h"
#include "preload/epoll.h"

void poll_sets_note(struct poll_sets *p, int fd)
{
	if (fd < 0 || fd_kind(fd) != FD_EPOLL)
		return;
	if (p->count < POLL_SETS_MAX) {
		p->bucket[p->count] = (uint16_t)((unsigned int)fd % EPOLL_BUCKETS);
		atomic_fetch_add(&epoll_plain_waiters[p->bucket[p->count]], 1);
	} else {
		atomic_fetch_add(&epoll_plain_pollers, 1);
		p->more++;
	}
	p->count += p->count < POLL_SETS_MAX;
}

bool poll_has_set(const struct pollfd *fds, nfds_t n)
{
	if (!memory_readable(fds, n * sizeof *fds))
		return false;
	for (nfds_t i = 0; i < n; i++)
		if (UNLIKELY(fd_kind(fds[i].fd) == FD_EPOLL))
			return true;
	return false;
}

bool select_has_set(int nfds, const fd_set *r, const fd_set *w, const fd_set *x)
{
	for (int fd = select_next(-1, nfds, r, w, x); fd < nfds; fd = select_next(fd, nfds, r, w, x))
		if (UNLIKELY(fd_kind(fd) == FD_EPOLL))
			return true;
	return false;
}

bool poll_sets_find(struct poll_sets *p, const struct pollfd *fds, nfds_t n)
{
	p->count = p->more = 0;
	if (!atomic_load_explicit(&epoll_any, memory_order_relaxed) || !memory_readable(fds, n * sizeof *fds))
		return false;
	for (nfds_t i = 0; i < n; i++)
		poll_sets_note(p, fds[i].fd);
	return p->count;
}

bool select_sets_find(struct poll_sets *p, int nfds, const fd_set *r, const fd_set *w, const fd_set *x)
{
	p->count = p->more = 0;
	if (!atomic_load_explicit(&epoll_any, memory_order_relaxed))
		return false;
	for (int fd = select_next(-1, nfds, r, w, x); fd < nfds; fd = select_next(fd, nfds, r, w, x))
		poll_sets_note(p, fd);
	return p->count;
}

void poll_sets_forget(void *arg)
{
	struct poll_sets *p = arg;

	for (uint32_t i = 0; i < p->count; i++)
		atomic_fetch_sub(&epoll_plain_waiters[p->bucket[i]], 1);
	atomic_fetch_sub(&epoll_plain_pollers, p->more);
	p->count = p->more = 0;
}
