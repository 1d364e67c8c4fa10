/*
 * calls_poll.c - wrappers: poll and select. Straight to libc unless one of the
 * numbers is a stack socket, or an epoll set that holds one.
 */
#include "preload/calls.h"

/* <poll.h> declares the array write-only; poll reads `events`, and so may we. */
#ifndef __clang__
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

/* The overflow checks of _FORTIFY_SOURCE end the process. */
_Noreturn void __chk_fail(void);

/* Absolute deadline; NULL: never. -EINVAL as poll(2). */
static int deadline_of(const struct timespec *ts, nsec *out)
{
	if (!ts) {
		*out = NSEC_NEVER;
		return 0;
	}
	if (ts->tv_sec < 0 || ts->tv_nsec < 0 || ts->tv_nsec >= (long)NS_PER_S)
		return -EINVAL;
	if ((uint64_t)ts->tv_sec > NSEC_NEVER / NS_PER_S / 4)
		*out = NSEC_NEVER;
	else
		*out = netio_now() + (nsec)ts->tv_sec * NS_PER_S + (nsec)ts->tv_nsec;
	return 0;
}

int poll(struct pollfd *fds, nfds_t n, int timeout)
{
	int saved_errno = errno;

	if (LIKELY(!the_stack) || !poll_concerns_stack(fds, n))
		return REAL(poll)(fds, n, timeout);
	nsec deadline = timeout < 0 ? NSEC_NEVER : netio_now() + (nsec)timeout * NS_PER_MS;
	return (int)result(stack_poll(fds, n, deadline, NULL), saved_errno);
}

int __poll(struct pollfd *fds, nfds_t n, int timeout)
{
	return poll(fds, n, timeout);
}

int ppoll(struct pollfd *fds, nfds_t n, const struct timespec *ts, const sigset_t *mask)
{
	int saved_errno = errno;
	nsec deadline;

	if (LIKELY(!the_stack) || !poll_concerns_stack(fds, n))
		return REAL(ppoll)(fds, n, ts, mask);
	int r = deadline_of(ts, &deadline);
	return (int)result(r ? r : stack_poll(fds, n, deadline, mask), saved_errno);
}

int __poll_chk(struct pollfd *fds, nfds_t n, int timeout, size_t size)
{
	if (size / sizeof *fds < n)
		__chk_fail();
	return poll(fds, n, timeout);
}

int __ppoll_chk(struct pollfd *fds, nfds_t n, const struct timespec *ts, const sigset_t *mask, size_t size)
{
	if (size / sizeof *fds < n)
		__chk_fail();
	return ppoll(fds, n, ts, mask);
}

int select(int nfds, fd_set *r, fd_set *w, fd_set *x, struct timeval *tv)
{
	int saved_errno = errno, ret;
	struct timespec ts;
	nsec deadline;

	if (LIKELY(!the_stack) || !select_concerns_stack(nfds, r, w, x))
		return REAL(select)(nfds, r, w, x, tv);
	if (tv) {
		/* Linux takes microseconds beyond a second */
		ts.tv_sec = tv->tv_sec + tv->tv_usec / 1000000;
		ts.tv_nsec = tv->tv_usec % 1000000 * 1000;
	}
	ret = tv && (tv->tv_sec < 0 || tv->tv_usec < 0) ? -EINVAL : deadline_of(tv ? &ts : NULL, &deadline);
	if (!ret) {
		ret = stack_select(nfds, r, w, x, deadline, NULL);
		select_write_back(deadline, tv);
	}
	return (int)result(ret, saved_errno);
}

int __select(int nfds, fd_set *r, fd_set *w, fd_set *x, struct timeval *tv)
{
	return select(nfds, r, w, x, tv);
}

int pselect(int nfds, fd_set *r, fd_set *w, fd_set *x, const struct timespec *ts, const sigset_t *mask)
{
	int saved_errno = errno, ret;
	nsec deadline;

	if (LIKELY(!the_stack) || !select_concerns_stack(nfds, r, w, x))
		return REAL(pselect)(nfds, r, w, x, ts, mask);
	ret = deadline_of(ts, &deadline);
	return (int)result(ret ? ret : stack_select(nfds, r, w, x, deadline, mask), saved_errno);
}
