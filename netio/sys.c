/*
 * sys.c - fills in the table of the C library's own functions (sys.h).
 *
 * Place in the flow: called before anything else of netio and by preload's
 * start; dlsym(RTLD_NEXT) skips the object that this file is linked into, so
 * that inside libutcp.so the table points past our wrappers.
 */
#include <dlfcn.h>
#include <stdatomic.h>

#include "utcp/sys.h"
#include <errno.h>
#include <stdbool.h>

struct sys_calls sys;

#ifdef __SANITIZE_THREAD__
/*
 * The thread sanitizer's runtime holds a signal handler back until the thread is
 * in or behind a call that it knows, and it does not know epoll_pwait2: a sleeper
 * would be interrupted, and its handler would not have run. (Not epoll_pwait in
 * its place: a thread that is cancelled in a call that the runtime knows goes on,
 * in its clean-up, with locks that the runtime does not see.)
 */
static int (*unknown_pwait2)(int, struct epoll_event *, int, const struct timespec *, const sigset_t *);

static int pwait2_then_handlers(int epfd, struct epoll_event *ev, int max, const struct timespec *ts,
				const sigset_t *mask)
{
	int n = unknown_pwait2(epfd, ev, max, ts, mask), saved_errno = errno;
	sigset_t any;

	if (n < 0)
		sigpending(&any);
	errno = saved_errno;
	return n;
}
#endif

int sys_init(void)
{
	static _Atomic bool done;
	bool complete = true;

	if (atomic_load_explicit(&done, memory_order_acquire))
		return 0;
		/* Two threads may both fill the table: with equal values. */
#define X(type, name, params)                                                                                \
	do {                                                                                                 \
		void *p = dlsym(RTLD_NEXT, #name);                                                           \
		__atomic_store_n((void **)&sys.name, p, __ATOMIC_RELAXED);                                   \
		complete = complete && p;                                                                    \
	} while (0);
	SYS_CALLS(X)
#undef X
	if (!complete)
		return -ENOSYS;
#ifdef __SANITIZE_THREAD__
	__atomic_store_n((void **)&unknown_pwait2, dlsym(RTLD_NEXT, "epoll_pwait2"), __ATOMIC_RELAXED);
	__atomic_store_n(&sys.epoll_pwait2, pwait2_then_handlers, __ATOMIC_RELAXED);
#endif
	atomic_store_explicit(&done, true, memory_order_release);
	return 0;
}
