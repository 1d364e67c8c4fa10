/*
 * calls_poll.c - wrappers: poll and select. Straight to libc unless one of the
 * numbers is a stack socket, or an epoll set that holds one.
 */
#include <pthread.h>

#include "preload/calls.h"
#include "preload/epoll.h"

/* <poll.h> declares the array write-only; poll reads `events`, and so may we. */
#ifndef __clang__
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

/* The overflow checks of _FORTIFY_SOURCE end the process. */
_Noreturn void __chk_fail(void);

/* A set among the numbers may get its first stack member in the middle of the call. */
#define NO_SETS (!atomic_load_explicit(&epoll_any, memory_order_relaxed))

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

/* ------------------------------------------------------------ in libc */

/*
 * libc's call, unless the stack is concerned: it may be so only once the sets
 * among the numbers are noted, or in the middle of the call (poll_plain.c).
 */
struct plain {
	int (*call)(const struct plain *p);
	struct pollfd *fds;
	nfds_t n;
	int timeout, nfds;
	fd_set *r, *w, *x;
	struct timeval *tv;
	const struct timespec *ts;
	const sigset_t *mask;
};
#define NOT_PLAIN INT32_MIN

static int call_poll(const struct plain *p)
{
	return REAL(poll)(p->fds, p->n, p->timeout);
}

static int call_ppoll(const struct plain *p)
{
	return REAL(ppoll)(p->fds, p->n, p->ts, p->mask);
}

static int call_select(const struct plain *p)
{
	return REAL(select)(p->nfds, p->r, p->w, p->x, p->tv);
}

static int call_pselect(const struct plain *p)
{
	return REAL(pselect)(p->nfds, p->r, p->w, p->x, p->ts, p->mask);
}

static bool concerns_stack(const struct plain *p)
{
	return p->fds ? poll_concerns_stack(p->fds, p->n) : select_concerns_stack(p->nfds, p->r, p->w, p->x);
}

static int over_sets(const struct plain *p, struct poll_sets *sets)
{
	volatile int r = NOT_PLAIN;

	pthread_cleanup_push(poll_sets_forget, sets);
	if (!concerns_stack(p))
		r = p->call(p);
	pthread_cleanup_pop(1);
	return r;
}

/* What libc answered, or NOT_PLAIN. */
static int plain(const struct plain *p)
{
	struct poll_sets sets;

	if (UNLIKELY(the_stack != NULL) && concerns_stack(p))
		return NOT_PLAIN;
	if (LIKELY(p->fds ? !poll_sets_find(&sets, p->fds, p->n)
			  : !select_sets_find(&sets, p->nfds, p->r, p->w, p->x)))
		return p->call(p);
	return over_sets(p, &sets);
}

/* ------------------------------------------------------------ poll */

OUT_OF_LINE int poll_concerned(struct pollfd *fds, nfds_t n, int timeout)
{
	const struct plain p = {call_poll, .fds = fds, .n = n, .timeout = timeout};
	int saved_errno = errno, r = plain(&p);

	if (r != NOT_PLAIN)
		return r;
	nsec deadline = timeout < 0 ? NSEC_NEVER : netio_now() + (nsec)timeout * NS_PER_MS;
	return (int)result(stack_poll(fds, n, deadline, NULL), saved_errno);
}

/* A program with epoll sets and without a stack: most calls look at other numbers. */
OUT_OF_LINE int poll_known(struct pollfd *fds, nfds_t n, int timeout)
{
	return UNCONCERNED(poll) && !poll_has_set(fds, n) ? KNOWN(poll)(fds, n, timeout)
							  : poll_concerned(fds, n, timeout);
}

int poll(struct pollfd *fds, nfds_t n, int timeout)
{
	return NO_SETS && UNCONCERNED(poll) ? KNOWN(poll)(fds, n, timeout) : poll_known(fds, n, timeout);
}

int __poll(struct pollfd *fds, nfds_t n, int timeout)
{
	return poll(fds, n, timeout);
}

OUT_OF_LINE int ppoll_known(struct pollfd *fds, nfds_t n, const struct timespec *ts, const sigset_t *mask)
{
	int saved_errno = errno;
	const struct plain p = {call_ppoll, .fds = fds, .n = n, .ts = ts, .mask = mask};
	nsec deadline;
	int r = plain(&p);

	if (LIKELY(r != NOT_PLAIN))
		return r;
	r = deadline_of(ts, &deadline);
	return (int)result(r ? r : stack_poll(fds, n, deadline, mask), saved_errno);
}

int ppoll(struct pollfd *fds, nfds_t n, const struct timespec *ts, const sigset_t *mask)
{
	return NO_SETS && UNCONCERNED(ppoll) ? KNOWN(ppoll)(fds, n, ts, mask) : ppoll_known(fds, n, ts, mask);
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

OUT_OF_LINE int select_concerned(int nfds, fd_set *r, fd_set *w, fd_set *x, struct timeval *tv)
{
	const struct plain p = {call_select, .nfds = nfds, .r = r, .w = w, .x = x, .tv = tv};
	int saved_errno = errno, ret;
	struct timespec ts;
	nsec deadline;

	ret = plain(&p);
	if (LIKELY(ret != NOT_PLAIN))
		return ret;
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

OUT_OF_LINE int select_known(int nfds, fd_set *r, fd_set *w, fd_set *x, struct timeval *tv)
{
	return UNCONCERNED(select) && !select_has_set(nfds, r, w, x) ? KNOWN(select)(nfds, r, w, x, tv)
								     : select_concerned(nfds, r, w, x, tv);
}

int select(int nfds, fd_set *r, fd_set *w, fd_set *x, struct timeval *tv)
{
	return NO_SETS && UNCONCERNED(select) ? KNOWN(select)(nfds, r, w, x, tv)
					      : select_known(nfds, r, w, x, tv);
}

int __select(int nfds, fd_set *r, fd_set *w, fd_set *x, struct timeval *tv)
{
	return select(nfds, r, w, x, tv);
}

OUT_OF_LINE int pselect_known(int nfds, fd_set *r, fd_set *w, fd_set *x, const struct timespec *ts,
			      const sigset_t *mask)
{
	const struct plain p = {call_pselect, .nfds = nfds, .r = r, .w = w, .x = x, .ts = ts, .mask = mask};
	int saved_errno = errno, ret;
	nsec deadline;

	ret = plain(&p);
	if (LIKELY(ret != NOT_PLAIN))
		return ret;
	ret = deadline_of(ts, &deadline);
	return (int)result(ret ? ret : stack_select(nfds, r, w, x, deadline, mask), saved_errno);
}

int pselect(int nfds, fd_set *r, fd_set *w, fd_set *x, const struct timespec *ts, const sigset_t *mask)
{
	return NO_SETS && UNCONCERNED(pselect) ? KNOWN(pselect)(nfds, r, w, x, ts, mask)
					       : pselect_known(nfds, r, w, x, ts, mask);
}
