/*
 * calls_fd.c - wrappers: the life of descriptor numbers, flags, and syscall().
 *
 * Our own descriptors (device, bells, epoll sets) live in the same number space.
 * The application must not reach them: a call on such a number answers EBADF, a
 * range skips it, and dup2() onto one moves ours away first. A vfork() child has
 * its own copy of the numbers but our memory: it may do with them what it wants,
 * and leaves no trace in the table.
 */
#include <stdarg.h>
#include <stdint.h>
#include <linux/sockios.h>
#include <sys/syscall.h>

#include "netio/rawsys.h"
#include "preload/async.h"
#include "preload/calls.h"
#include "preload/number.h"
#include "preload/fdtable.h"
#include "preload/placeholder.h"
#include "preload/process.h"

#define OWN_FDS_MAX (1u << 16) /* none of ours is above: netio/fds.c */

/* A child of vfork() that closes all it does not pass on needs the line to the keeper until its exec(). */
bool fd_ours(int fd)
{
	return the_stack != NULL && netio_owns_fd(fd) && !netio_internal_thread() &&
	       (!process_is_vfork_child() || netio_is_life_line(the_stack, fd));
}

/* ------------------------------------------------------------ close */

/* A connection's number. Its placeholder goes to the pool if nobody else can have it. */
static int close_stream(int fd)
{
	ref d = fd_hold(fd);
	struct local *l;
	int r = 0;

	if (!d) {
		fd_closing(fd);
		return REAL(close)(fd) ? -errno : 0;
	}
	l = local_of(d);
	fd_closing(fd);
	if (atomic_load(&l->numbers) || l->forks != atomic_load(&process.fork_count) ||
	    atomic_load(&description_of(d)->owned) || !placeholder_recycle(fd))
		r = (int)sys.syscall(SYS_close, fd) < 0 ? -errno : 0;
	fd_release(d); /* the last one closes the connection, and lingers if it must */
	return r;
}

OUT_OF_LINE int close_known(int fd)
{
	int saved_errno = errno;

	switch (fd_kind(fd)) {
	case FD_KERNEL:
		if (fd_hidden(fd))
			return (int)result(-EBADF, saved_errno);
		if (UNLIKELY(netio_internal_thread()) && netio_owns_fd(fd)) {
			netio_unprotect_close(fd); /* libev's own set */
			return 0;
		}
		return REAL(close)(fd);
	case FD_STREAM:
		if (!process_is_vfork_child())
			return (int)result(UNCANCELLED(close_stream(fd)), saved_errno);
		return REAL(close)(fd);
	default:
		UNCANCELLED((fd_closing(fd), 0));
		errno = saved_errno;
		return REAL(close)(fd);
	}
}

int close(int fd)
{
	return fd_beyond(fd) && LIKELY(KNOWN(close)) ? KNOWN(close)(fd) : close_known(fd);
}

int __close(int fd)
{
	return close(fd);
}

/* Forget every number of ours in the range; the kernel closes them all at once afterwards. */
static void range_closing(unsigned int first, unsigned int last)
{
	int highest = fd_highest();

	for (int64_t fd = first; fd <= MIN_OF((int64_t)last, highest); fd++)
		fd_closing((int)fd);
}

/* close_range() around our own descriptors. */
static int range_close(unsigned int first, unsigned int last, int flags)
{
	uint64_t from = first;

	if (the_stack) {
		for (uint64_t fd = first; fd <= last && fd < OWN_FDS_MAX; fd++) {
			if (!netio_owns_fd((int)fd) || !fd_hidden((int)fd))
				continue;
			if (fd > from && REAL(close_range)((unsigned int)from, (unsigned int)fd - 1, flags))
				return -errno;
			from = fd + 1;
		}
	}
	return from <= last && REAL(close_range)((unsigned int)from, last, flags) ? -errno : 0;
}

int close_range(unsigned int first, unsigned int last, int flags)
{
	int saved_errno = errno;

	if (first > last || flags & ~(int)(CLOSE_RANGE_UNSHARE | CLOSE_RANGE_CLOEXEC))
		return (int)result(-EINVAL, saved_errno);
	if (!(flags & (int)CLOSE_RANGE_CLOEXEC))
		range_closing(first, last);
	return (int)result(range_close(first, last, flags), saved_errno);
}

void closefrom(int first)
{
	int saved_errno = errno;
	unsigned int from = first < 0 ? 0 : (unsigned int)first;

	range_closing(from, UINT32_MAX);
	if (!the_stack || range_close(from, UINT32_MAX, 0) < 0) {
		/* without ours in the way libc's own way round an old kernel is best */
		REAL(closefrom)(first);
	}
	errno = saved_errno;
}

/* ------------------------------------------------------------ dup */

/* `to` was made from `from` by the kernel. */
static int copied(int from, int to)
{
	int saved_errno = errno;

	if (to >= 0) {
		fd_fresh(to); /* dup2()'s was retired before */
		if (UNLIKELY(fd_kind(from) != FD_KERNEL))
			fd_copy(from, to);
	}
	errno = saved_errno;
	return to;
}

int dup(int fd)
{
	int saved_errno = errno;

	if (fd_hidden(fd))
		return (int)result(-EBADF, saved_errno);
	return copied(fd, NUMBER(REAL(dup)(fd)));
}

/* Before dup2() onto `to`: ours is moved away. */
static int number_retire(int from, int to)
{
	struct rlimit l;

	if (fd_hidden(from))
		return -EBADF;
	if (!fd_hidden(to))
		return 0;
	getrlimit(RLIMIT_NOFILE, &l);
	return (rlim_t)to < l.rlim_cur ? netio_vacate_fd(to) : -EBADF;
}

/*
 * dup2() is atomic: another thread that reads from `to` gets the old file or the
 * new one, and must never meet a placeholder in the kernel. So a connection
 * enters the table before the kernel has it there, and leaves it after.
 */
static int dup_onto(int from, int to, int flags)
{
	bool leaves = fd_kind(to) != FD_KERNEL;
	uint64_t before = 0;
	int r;

	if (process_is_vfork_child())
		return REAL(dup3)(from, to, flags) < 0 ? -errno : to;
	if (fd_is_stack(from)) {
		if (sys.fcntl(from, F_GETFD) < 0)
			return -errno;
		before = fd_swap_in(from, to);
		r = REAL(dup3)(from, to, flags) < 0 ? -errno : to;
		fd_swap_end(to, before, r >= 0);
		return r;
	}
	r = REAL(dup3)(from, to, flags) < 0 ? -errno : to;
	if (r >= 0 && leaves)
		fd_closing(to);
	return r < 0 ? r : copied(from, r);
}

int dup2(int from, int to)
{
	int saved_errno = errno, r;

	if (from == to)
		return fd_hidden(from) ? (int)result(-EBADF, saved_errno) : REAL(dup2)(from, to);
	r = number_retire(from, to);
	return (int)result(r < 0 ? r : UNCANCELLED(dup_onto(from, to, 0)), saved_errno);
}

int __dup2(int from, int to)
{
	return dup2(from, to);
}

int dup3(int from, int to, int flags)
{
	int saved_errno = errno, r;

	if (from == to || flags & ~O_CLOEXEC)
		return REAL(dup3)(from, to, flags); /* EINVAL */
	r = number_retire(from, to);
	return (int)result(r < 0 ? r : UNCANCELLED(dup_onto(from, to, flags)), saved_errno);
}

/* ------------------------------------------------------------ fcntl, ioctl */

/* F_SETFL has set these flags on a stack socket. */
static int flags_noted(int fd, int value)
{
	ref d = fd_hold(fd);
	int r = 0;

	if (d) {
		struct description *p = description_of(d);
		atomic_store(&p->nonblock, (value & O_NONBLOCK) != 0);
		atomic_store(&p->async, (value & O_ASYNC) != 0);
		r = async_update(d) < 0 ? -ENOMEM : 0;
		fd_release(d);
	}
	return r;
}

/* What must be known of a successful fcntl(). */
static int noted(int fd, int cmd, void *arg, int r)
{
	int saved_errno = errno;

	if (r < 0)
		return r;
	switch (cmd) {
	case F_SETOWN:
	case F_SETOWN_EX:
	case F_SETSIG:
		return (int)result(async_owner_set(fd) < 0 ? -ENOMEM : r, saved_errno);
	case F_SETFL:
		if (fd_is_stack(fd))
			return (int)result(flags_noted(fd, (int)(intptr_t)arg) < 0 ? -ENOMEM : r,
					   saved_errno);
	}
	return r;
}

/* The placeholder, or the listener's socket, is real: the kernel keeps the flags, the description a copy. */
OUT_OF_LINE int fcntl_known(int fd, int cmd, void *arg)
{
	int saved_errno = errno, r;
	uint32_t mark;

	if (fd_hidden(fd))
		return (int)result(-EBADF, saved_errno);
	mark = number_mark();
	r = REAL(fcntl64)(fd, cmd, arg);
	if (LIKELY(fd_kind(fd) == FD_KERNEL) && cmd != F_DUPFD && cmd != F_DUPFD_CLOEXEC)
		return r;
	if (cmd == F_DUPFD || cmd == F_DUPFD_CLOEXEC)
		return copied(fd, number_settle(mark, r, (int)(intptr_t)arg));
	return noted(fd, cmd, arg, r);
}

/* Numbers, and what a socket may take along to the stack: seen from the first on. */
static inline bool always_seen(int cmd)
{
	return cmd == F_DUPFD || cmd == F_DUPFD_CLOEXEC || cmd == F_SETOWN || cmd == F_SETOWN_EX ||
	       cmd == F_SETSIG;
}

static inline int fcntl_call(int fd, int cmd, void *arg)
{
	if (UNCONCERNED(fcntl64) && !always_seen(cmd))
		return KNOWN(fcntl64)(fd, cmd, arg);
	return fcntl_known(fd, cmd, arg);
}

#define ONE_ARGUMENT(last)                                                                                   \
	({                                                                                                   \
		va_list ap_;                                                                                 \
		va_start(ap_, last);                                                                         \
		void *arg_ = va_arg(ap_, void *);                                                            \
		va_end(ap_);                                                                                 \
		arg_;                                                                                        \
	})

int fcntl64(int fd, int cmd, ...)
{
	return fcntl_call(fd, cmd, ONE_ARGUMENT(cmd));
}

int fcntl(int fd, int cmd, ...)
{
	return fcntl_call(fd, cmd, ONE_ARGUMENT(cmd));
}

int __fcntl(int fd, int cmd, ...)
{
	return fcntl_call(fd, cmd, ONE_ARGUMENT(cmd));
}

OUT_OF_LINE int ioctl_known(int fd, unsigned long request, void *arg)
{
	if (fd_is_stack(fd))
		return (int)STACK_CALL(fd, socket_ioctl(fd, held, request, arg),
				       REAL(ioctl)(fd, request, arg));
	int r = REAL(ioctl)(fd, request, arg);
	if ((request == FIOSETOWN || request == SIOCSPGRP) && r >= 0)
		async_owner_set(fd);
	return r;
}

int ioctl(int fd, unsigned long request, ...)
{
	void *arg = ONE_ARGUMENT(request);

	return UNCONCERNED(ioctl) && request != FIOSETOWN && request != SIOCSPGRP
		   ? KNOWN(ioctl)(fd, request, arg)
		   : ioctl_known(fd, request, arg);
}

/* ------------------------------------------------------------ syscall */

#define P(type, i) ((type)a[i])
#define I(i)	   ((int)a[i])

/* System calls on descriptors that have a wrapper. False: not one of them. */
static bool by_wrapper(long nr, const long *a, long *r)
{
	switch (nr) {
#define CALL(name, ...)                                                                                      \
	case SYS_##name:                                                                                     \
		*r = name(__VA_ARGS__);                                                                      \
		return true;
		CALL(close, I(0))
		CALL(close_range, (unsigned int)a[0], (unsigned int)a[1], I(2))
		CALL(dup, I(0))
		CALL(dup3, I(0), I(1), I(2))
		CALL(fcntl, I(0), I(1), P(void *, 2))
		CALL(ioctl, I(0), (unsigned long)a[1], P(void *, 2))
		CALL(socket, I(0), I(1), I(2))
		CALL(bind, I(0), P(const struct sockaddr *, 1), (socklen_t)a[2])
		CALL(listen, I(0), I(1))
		CALL(accept, I(0), P(struct sockaddr *, 1), P(socklen_t *, 2))
		CALL(accept4, I(0), P(struct sockaddr *, 1), P(socklen_t *, 2), I(3))
		CALL(connect, I(0), P(const struct sockaddr *, 1), (socklen_t)a[2])
		CALL(shutdown, I(0), I(1))
		CALL(getsockname, I(0), P(struct sockaddr *, 1), P(socklen_t *, 2))
		CALL(getpeername, I(0), P(struct sockaddr *, 1), P(socklen_t *, 2))
		CALL(getsockopt, I(0), I(1), I(2), P(void *, 3), P(socklen_t *, 4))
		CALL(setsockopt, I(0), I(1), I(2), P(const void *, 3), (socklen_t)a[4])
		CALL(read, I(0), P(void *, 1), (size_t)a[2])
		CALL(write, I(0), P(const void *, 1), (size_t)a[2])
		CALL(readv, I(0), P(const struct iovec *, 1), I(2))
		CALL(writev, I(0), P(const struct iovec *, 1), I(2))
		CALL(preadv2, I(0), P(const struct iovec *, 1), I(2), (off_t)a[3], I(5))
		CALL(pwritev2, I(0), P(const struct iovec *, 1), I(2), (off_t)a[3], I(5))
		CALL(recvfrom, I(0), P(void *, 1), (size_t)a[2], I(3), P(struct sockaddr *, 4),
		     P(socklen_t *, 5))
		CALL(sendto, I(0), P(const void *, 1), (size_t)a[2], I(3), P(const struct sockaddr *, 4),
		     (socklen_t)a[5])
		CALL(recvmsg, I(0), P(struct msghdr *, 1), I(2))
		CALL(sendmsg, I(0), P(const struct msghdr *, 1), I(2))
		CALL(recvmmsg, I(0), P(struct mmsghdr *, 1), (unsigned int)a[2], I(3),
		     P(struct timespec *, 4))
		CALL(sendmmsg, I(0), P(struct mmsghdr *, 1), (unsigned int)a[2], I(3))
		CALL(sendfile, I(0), I(1), P(off_t *, 2), (size_t)a[3])
		CALL(splice, I(0), P(off64_t *, 1), I(2), P(off64_t *, 3), (size_t)a[4], (unsigned int)a[5])
		CALL(pidfd_getfd, I(0), I(1), (unsigned int)a[2])
		CALL(epoll_create1, I(0))
		CALL(unshare, I(0))
		CALL(chroot, P(const char *, 0))
		CALL(capset, P(void *, 0), P(const void *, 1))
		CALL(setns, I(0), I(1))
		CALL(epoll_ctl, I(0), I(1), I(2), P(struct epoll_event *, 3))
#ifdef SYS_dup2 /* not on aarch64: numbers that younger architectures never had */
		CALL(dup2, I(0), I(1))
		CALL(poll, P(struct pollfd *, 0), (nfds_t)a[1], I(2))
		CALL(select, I(0), P(fd_set *, 1), P(fd_set *, 2), P(fd_set *, 3), P(struct timeval *, 4))
		CALL(epoll_create, I(0))
		CALL(epoll_wait, I(0), P(struct epoll_event *, 1), I(2), I(3))
#endif
#undef CALL
	case SYS_ppoll:
	case SYS_pselect6:
	case SYS_epoll_pwait:
	case SYS_epoll_pwait2:
		return wait_by_syscall(nr, a, r);
	case SYS_exit_group:
		process_drain();
		return false;
	case SYS_seccomp:
		*r = sandbox_seccomp((unsigned int)a[0], (unsigned int)a[1], P(void *, 2));
		return true;
	case SYS_prctl:
		*r = sandbox_prctl((unsigned long)a[0], (unsigned long)a[1], (unsigned long)a[2],
				   (unsigned long)a[3], (unsigned long)a[4]);
		return true;
	case SYS_clone:
	case SYS_clone3:
#ifdef SYS_fork
	case SYS_fork:
	case SYS_vfork:
#endif
		return process.pid && !atomic_load(&process.sealed) && clone_by_syscall(nr, a, r);
	case SYS_io_uring_setup:
		if (!uring_denied())
			return false;
		errno = ENOSYS;
		*r = -1;
		return true;
	default:
		return false;
	}
}

/*
 * Without the real function: jemalloc calls this from inside its start-up,
 * where looking a name up is a risk.
 */
long syscall(long nr, ...)
{
	long a[6], r;
	va_list ap;

	va_start(ap, nr);
	for (int i = 0; i < 6; i++)
		a[i] = va_arg(ap, long);
	va_end(ap);
	if (by_wrapper(nr, a, &r))
		return r;
	r = raw6(nr, a[0], a[1], a[2], a[3], a[4], a[5]);
	if (UNLIKELY((unsigned long)r > -4096ul)) {
		errno = (int)-r;
		return -1;
	}
	return r;
}
