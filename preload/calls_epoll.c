/*
 * calls_epoll.c - wrappers: epoll. Sets are marked when they are made, so that
 * epoll.c can keep a shadow of one once a stack socket joins it.
 */
#include <pthread.h>
#include <sys/syscall.h>

#include "preload/calls.h"
#include "preload/epoll.h"
#include "preload/number.h"
#include "preload/process.h"

static int created(int fd)
{
	int saved_errno = errno;

	if (netio_internal_thread()) { /* libev's own set */
		fd = fd < 0 ? (int)netio_fd_call(SYS_epoll_create1, EPOLL_CLOEXEC, 0, 0, 0) : fd;
		return fd < 0 ? -1 : netio_protect_fd(fd);
	}
	if (fd < 0)
		return fd;
	process_init();
	fd_fresh(fd);
	if (the_config.off || atomic_load(&process.finished) || fd_install(fd, FD_EPOLL, REF_NONE) < 0)
		return errno = saved_errno, fd;
	epoll_created(fd);
	errno = saved_errno;
	return fd;
}

int epoll_create(int size)
{
	return created(NUMBER(REAL(epoll_create)(size)));
}

int epoll_create1(int flags)
{
	return created(NUMBER(REAL(epoll_create1)(flags)));
}

int epoll_ctl(int epfd, int op, int fd, struct epoll_event *ev)
{
	int saved_errno = errno;

	if (fd_hidden(epfd) || fd_hidden(fd))
		return (int)result(-EBADF, saved_errno);
	if ((fd_kind(epfd) != FD_EPOLL && fd_kind(fd) == FD_KERNEL) || netio_internal_thread())
		return REAL(epoll_ctl)(epfd, op, fd, ev);
	return (int)result(UNCANCELLED(epoll_shadow_ctl(epfd, op, fd, ev)), saved_errno);
}

/* ------------------------------------------------------------ waiting */

/* A wait as libc gets it: one of the three calls. */
struct plain {
	int (*call)(const struct plain *p);
	int epfd, max, timeout;
	struct epoll_event *ev;
	const struct timespec *ts;
	const sigset_t *mask;
};

static int call_wait(const struct plain *p)
{
	return REAL(epoll_wait)(p->epfd, p->ev, p->max, p->timeout);
}

static int call_pwait(const struct plain *p)
{
	return REAL(epoll_pwait)(p->epfd, p->ev, p->max, p->timeout, p->mask);
}

static int call_pwait2(const struct plain *p)
{
	return REAL(epoll_pwait2)(p->epfd, p->ev, p->max, p->ts, p->mask);
}

static void plain_cancelled(void *epfd)
{
	epoll_plain_end(*(int *)epfd, NULL, -1);
}

/*
 * A set of the kernel's alone waits in libc; if its first stack member arrives
 * during that, epoll_plain_end() says so and the wait goes on in epoll.c:
 * EPOLL_PLAIN_AGAIN, as for a set that has stack members already.
 */
static int plain_wait(struct plain *p)
{
	int n;

	if (fd_kind(p->epfd) != FD_EPOLL || netio_internal_thread())
		return p->call(p);
	if (!epoll_plain_begin(p->epfd))
		return EPOLL_PLAIN_AGAIN;
	pthread_cleanup_push(plain_cancelled, &p->epfd);
	n = p->call(p);
	pthread_cleanup_pop(0);
	return epoll_plain_end(p->epfd, p->ev, n);
}

static int waited(struct plain *p, nsec deadline)
{
	int saved_errno = errno, n;

	if (fd_hidden(p->epfd))
		return (int)result(-EBADF, saved_errno);
	n = plain_wait(p);
	if (n != EPOLL_PLAIN_AGAIN)
		return n;
	return (int)result(UNCANCELLED(epoll_shadow_wait(p->epfd, p->ev, p->max, deadline, p->mask)),
			   saved_errno);
}

/* 0: now. The clock is not read for a set that libc waits on. */
static nsec deadline_of_ms(int epfd, int timeout)
{
	if (timeout < 0)
		return NSEC_NEVER;
	return timeout && fd_kind(epfd) == FD_EPOLL ? netio_now() + (nsec)timeout * NS_PER_MS : 0;
}

int epoll_pwait(int epfd, struct epoll_event *ev, int max, int timeout, const sigset_t *mask)
{
	struct plain p = {call_pwait, epfd, max, timeout, ev, NULL, mask};
	return waited(&p, deadline_of_ms(epfd, timeout));
}

OUT_OF_LINE int epoll_wait_known(int epfd, struct epoll_event *ev, int max, int timeout)
{
	struct plain p = {call_wait, epfd, max, timeout, ev, NULL, NULL};
	return waited(&p, deadline_of_ms(epfd, timeout));
}

/*
 * plain_wait() in short, for the loops of programs without a stack. A thread that is cancelled here leaves
 * its count behind, as one whose handler leaves by siglongjmp(): then a set is exposed for nobody, which
 * costs a ring now and then. A clean-up handler would cost every call more than all the rest.
 */
int epoll_wait(int epfd, struct epoll_event *ev, int max, int timeout)
{
	/* In memory, not in six registers that each call would save: only the rare case below reads it. */
	volatile struct {
		struct epoll_event *ev;
		int epfd, max, timeout;
	} later;
	_Atomic uint32_t *plain;
	int n;

	if (!UNCONCERNED(epoll_wait))
		return epoll_wait_known(epfd, ev, max, timeout);
	if (!timeout) /* nobody sleeps */
		return KNOWN(epoll_wait)(epfd, ev, max, timeout);
	later.ev = ev, later.epfd = epfd, later.max = max, later.timeout = timeout;
	plain = &epoll_plain_waiters[(unsigned int)epfd % EPOLL_BUCKETS];
	epoll_plain_count(plain, 1);
	/* A handler or a thread may have made the stack since we looked, or makes it while we wait. */
	if (UNLIKELY(atomic_load(&fd_stack_seen))) {
		epoll_plain_count(plain, -1);
		return epoll_wait_known(later.epfd, later.ev, later.max, later.timeout);
	}
	n = KNOWN(epoll_wait)(epfd, ev, max, timeout);
	if (LIKELY(!atomic_load_explicit(&fd_stack_seen, memory_order_relaxed))) {
		epoll_plain_count(plain, -1);
		return n;
	}
	n = epoll_plain_end(later.epfd, later.ev, n);
	return n == EPOLL_PLAIN_AGAIN ? epoll_wait_known(later.epfd, later.ev, later.max, later.timeout) : n;
}

int epoll_pwait2(int epfd, struct epoll_event *ev, int max, const struct timespec *ts, const sigset_t *mask)
{
	struct plain p = {call_pwait2, epfd, max, 0, ev, ts, mask};
	nsec deadline = NSEC_NEVER;

	if (ts && fd_kind(epfd) == FD_EPOLL) {
		if (ts->tv_sec < 0 || ts->tv_nsec < 0 || ts->tv_nsec >= (long)NS_PER_S) {
			errno = EINVAL;
			return -1;
		}
		if ((uint64_t)ts->tv_sec < NSEC_NEVER / NS_PER_S / 4)
			deadline = netio_now() + (nsec)ts->tv_sec * NS_PER_S + (nsec)ts->tv_nsec;
	}
	return waited(&p, deadline);
}
