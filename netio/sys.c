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
 * What the thread sanitizer's runtime has to be told, and what it must not see.
 *
 * It holds a signal handler back until the thread is in or behind a call that it
 * knows, and it does not know epoll_pwait2: a sleeper would be interrupted, and
 * its handler would not have run. But we may not block in a call that it does
 * know: a thread that is cancelled there goes on, in its clean-up, with locks
 * that the runtime does not see. So ppoll() goes past it, too, by the name of
 * its checked form.
 *
 * It believes a descriptor to be open, and used by the thread that made it,
 * until close() is called; we close by system calls.
 */
#include <pthread.h>
#include <stdarg.h>
#include <sys/syscall.h>

#include "netio/rawsys.h"

static int (*unknown_pwait2)(int, struct epoll_event *, int, const struct timespec *, const sigset_t *);
static int (*checked_ppoll)(struct pollfd *, nfds_t, const struct timespec *, const sigset_t *, size_t);
static long (*plain_syscall)(long, ...);

static void run_handlers(void)
{
	int saved_errno = errno;
	sigset_t any;

	sigpending(&any);
	errno = saved_errno;
}

static int pwait2_then_handlers(int epfd, struct epoll_event *ev, int max, const struct timespec *ts,
				const sigset_t *mask)
{
	int n = unknown_pwait2(epfd, ev, max, ts, mask);

	if (n < 0)
		run_handlers();
	return n;
}

static int ppoll_then_handlers(struct pollfd *p, nfds_t n, const struct timespec *ts, const sigset_t *mask)
{
	int r = checked_ppoll(p, n, ts, mask, n * sizeof *p);

	if (r < 0)
		run_handlers();
	return r;
}

long raw_close(int fd)
{
	int saved_errno = errno, cancel, r;

	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
	r = sys.close(fd) ? -errno : 0;
	pthread_setcancelstate(cancel, NULL);
	errno = saved_errno;
	return r;
}

static long syscall_that_closes(long nr, ...)
{
	long a[6], r;
	va_list ap;

	va_start(ap, nr);
	for (int i = 0; i < 6; i++)
		a[i] = va_arg(ap, long);
	va_end(ap);
	if (nr != SYS_close)
		return plain_syscall(nr, a[0], a[1], a[2], a[3], a[4], a[5]);
	r = raw_close((int)a[0]);
	if (r < 0)
		errno = (int)-r;
	return r < 0 ? -1 : 0;
}

static void sys_known_to_the_runtime(void)
{
	__atomic_store_n((void **)&unknown_pwait2, dlsym(RTLD_NEXT, "epoll_pwait2"), __ATOMIC_RELAXED);
	__atomic_store_n((void **)&checked_ppoll, dlsym(RTLD_NEXT, "__ppoll_chk"), __ATOMIC_RELAXED);
	__atomic_store_n((void **)&plain_syscall, dlsym(RTLD_NEXT, "syscall"), __ATOMIC_RELAXED);
	__atomic_store_n(&sys.epoll_pwait2, pwait2_then_handlers, __ATOMIC_RELAXED);
	__atomic_store_n(&sys.ppoll, ppoll_then_handlers, __ATOMIC_RELAXED);
	__atomic_store_n(&sys.syscall, syscall_that_closes, __ATOMIC_RELAXED);
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
	sys_known_to_the_runtime();
#endif
	atomic_store_explicit(&done, true, memory_order_release);
	return 0;
}
