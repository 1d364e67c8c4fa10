/*
 * calls_raw.c - the waits as syscall() reaches them, by the kernel's conventions
 * instead of libc's: a signal mask is eight bytes, with its size beside it, and
 * ppoll() and pselect6() leave in the caller's timespec what is left of the time.
 *
 * Place in the flow: calls_fd.c (syscall()) -> here -> calls_poll.c, calls_epoll.c.
 */
#include <poll.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "netio/rawsys.h"
#include "preload/calls.h"
#include "preload/preload.h"

#define MASK_BYTES 8 /* the kernel's sigset_t */

struct mask {
	sigset_t set;
	const sigset_t *use;
};

static int mask_take(struct mask *m, const void *user, size_t size)
{
	m->use = NULL;
	if (!user)
		return 0;
	if (size != MASK_BYTES)
		return -EINVAL;
	if (!memory_readable(user, MASK_BYTES))
		return -EFAULT;
	memset(&m->set, 0, sizeof m->set);
	memcpy(&m->set, user, MASK_BYTES);
	m->use = &m->set;
	return 0;
}

struct span {
	struct timespec *user, t;
	nsec begun;
};

static int span_take(struct span *s, long arg)
{
	s->user = (struct timespec *)arg;
	if (!s->user)
		return 0;
	if (!memory_readable(s->user, sizeof s->t))
		return -EFAULT;
	s->t = *s->user;
	s->begun = netio_now();
	return 0;
}

static const struct timespec *span_of(const struct span *s)
{
	return s->user ? &s->t : NULL;
}

/* A timespec in read-only memory stays as it is, and is no error: the kernel writes it, or does not. */
static void span_leave(const struct span *s, long r)
{
	int saved_errno = errno;
	struct timespec left = {0, 0};
	struct iovec from = {&left, sizeof left}, to = {s->user, sizeof left};
	nsec gone, all;

	if (!s->user || (r < 0 && saved_errno != EINTR))
		return;
	gone = netio_now() - s->begun;
	all = (nsec)s->t.tv_sec * NS_PER_S + (nsec)s->t.tv_nsec;
	if (s->t.tv_sec > INT32_MAX)
		left = (struct timespec){s->t.tv_sec - (time_t)(gone / NS_PER_S), s->t.tv_nsec};
	else if (gone < all)
		left = (struct timespec){(time_t)((all - gone) / NS_PER_S), (long)((all - gone) % NS_PER_S)};
	RAW6(SYS_process_vm_writev, getpid(), &from, 1, &to, 1, 0);
	errno = saved_errno;
}

static long failed(int error)
{
	errno = -error;
	return -1;
}

static long raw_ppoll(const long *a)
{
	struct mask m;
	struct span s;
	int r = span_take(&s, a[2]);
	long result;

	r = r ? r : mask_take(&m, (const void *)a[3], (size_t)a[4]);
	if (r)
		return failed(r);
	result = ppoll((struct pollfd *)a[0], (nfds_t)a[1], span_of(&s), m.use);
	span_leave(&s, result);
	return result;
}

static long raw_pselect6(const long *a)
{
	struct {
		const void *mask;
		size_t size;
	} given = {NULL, 0};
	struct mask m;
	struct span s;
	int r = span_take(&s, a[4]);
	long result;

	if (!r && a[5]) {
		r = memory_readable((const void *)a[5], sizeof given) ? 0 : -EFAULT;
		if (!r)
			memcpy(&given, (const void *)a[5], sizeof given);
	}
	r = r ? r : mask_take(&m, given.mask, given.size);
	if (r)
		return failed(r);
	result = pselect((int)a[0], (fd_set *)a[1], (fd_set *)a[2], (fd_set *)a[3], span_of(&s), m.use);
	span_leave(&s, result);
	return result;
}

bool wait_by_syscall(long nr, const long *a, long *r)
{
	struct mask m;
	int e;

	switch (nr) {
	case SYS_ppoll:
		*r = raw_ppoll(a);
		return true;
	case SYS_pselect6:
		*r = raw_pselect6(a);
		return true;
	case SYS_epoll_pwait:
		e = mask_take(&m, (const void *)a[4], (size_t)a[5]);
		*r = e ? failed(e)
		       : epoll_pwait((int)a[0], (struct epoll_event *)a[1], (int)a[2], (int)a[3], m.use);
		return true;
	case SYS_epoll_pwait2:
		e = mask_take(&m, (const void *)a[4], (size_t)a[5]);
		*r = e ? failed(e)
		       : epoll_pwait2((int)a[0], (struct epoll_event *)a[1], (int)a[2],
				      (const struct timespec *)a[3], m.use);
		return true;
	default:
		return false;
	}
}
