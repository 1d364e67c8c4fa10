/*
 * calls.h - what the wrapper files share: declarations of the exported calls,
 * the real functions, and the one place where errno is written.
 *
 * A wrapper reads: is the number the kernel's (one array read)? then REAL(name);
 * else hold the description, do the call of the same meaning, release, result().
 * Place in the flow: included by calls_*.c, process.c and real.c only.
 */
#ifndef PRELOAD_CALLS_H
#define PRELOAD_CALLS_H

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <termios.h>
#include <unistd.h>

#include "preload/preload.h"
#include "preload/symbols.h"

struct aiocb;
struct aiocb64;
struct io_uring;
struct io_uring_params;
struct io_uring_probe;

/* The exported wrappers; many have no public header (_chk, __read ...). */
#define X(group, type, name, params) UTCP_EXPORT type name params;
SYMBOLS(X)
#undef X

/* Their ids and the real functions behind them. */
enum real_id {
#define X(group, type, name, params) REAL_##name,
	SYMBOLS(X)
#undef X
	    REAL_COUNT
};
/* prctl() and seccomp() as system calls (calls_privilege.c). */
int sandbox_prctl(unsigned long op, unsigned long b, unsigned long c, unsigned long d, unsigned long e);
long sandbox_seccomp(unsigned int op, unsigned int flags, void *arg);
/* io_uring_setup() is to fail with ENOSYS (calls_uring.c). */
bool uring_denied(void);

struct real_calls {
#define X(group, type, name, params) type(*name) params;
	SYMBOLS(X)
#undef X
};
extern UTCP_OURS struct real_calls real;
/* Looks the name up and stores it; a function that fails with ENOSYS if libc has none. */
void *real_resolve(enum real_id id);

#define LIKELY(x)   __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)
/* Any thread may look a name up at any time; all find the same function. */
#define REAL(name)                                                                                           \
	({                                                                                                   \
		__typeof__(real.name) real_ = __atomic_load_n(&real.name, __ATOMIC_RELAXED);                 \
		LIKELY(real_) ? real_ : (__typeof__(real.name))real_resolve(REAL_##name);                    \
	})
/*
 * The head of a wrapper that programs without a stack call often. It is one test, one load and a
 * jump to libc's function, without a frame; the rest is behind the call of read_known().
 *     OUT_OF_LINE ssize_t read_known(int fd, void *buf, size_t n) { ... }
 *     ssize_t read(int fd, void *buf, size_t n)
 *     {
 *             return UNCONCERNED(read) ? KNOWN(read)(fd, buf, n) : read_known(fd, buf, n);
 *     }
 */
#define OUT_OF_LINE static __attribute__((noinline))
#define KNOWN(name) __atomic_load_n(&real.name, __ATOMIC_RELAXED)
#define UNCONCERNED(name)                                                                                    \
	(LIKELY(!atomic_load_explicit(&fd_stack_seen, memory_order_relaxed)) && LIKELY(KNOWN(name)))

/*
 * The only place where errno is written: a negative errno becomes -1; on
 * success errno is what it was when the wrapper began. An answer that the end of
 * the process gave is for nobody.
 */
static inline int64_t result(int64_t r, int saved_errno)
{
	if (UNLIKELY(atomic_load_explicit(&process.finished, memory_order_relaxed)))
		process_ends_here();
	if (r >= 0) {
		errno = saved_errno;
		return r;
	}
	errno = (int)-r;
	return -1;
}

/* libc's -1 and errno as a negative errno. */
static inline int64_t negative(int64_t r)
{
	return r < 0 ? -errno : r;
}

/* A descriptor of the library's own: no such number exists for the application (EBADF). */
bool fd_ours(int fd);
static inline bool fd_hidden(int fd)
{
	return UNLIKELY(fd >= atomic_load_explicit(&netio_lowest_fd, memory_order_relaxed)) && fd_ours(fd);
}

/* A number that a call must not pass to the kernel: a stack socket, one that fork() cut off, a hidden one. */
static inline bool fd_is_stack(int fd)
{
	enum fd_kind k = fd_kind(fd);
	return UNLIKELY(k == FD_STREAM || k == FD_LISTENER || k == FD_LOST) || fd_hidden(fd);
}
/* Undecided, also if others have it, too (undecided.c). */
static inline bool fd_may_connect(int fd)
{
	ref d = fd_kind(fd) == FD_LISTENER ? fd_hold(fd) : REF_NONE;
	bool yes = d && description_of(d)->undecided;

	if (d)
		fd_release(d);
	return yes || fd_kind(fd) == FD_TCP;
}
/* What a call on a FD_LOST number answers (one log line a process). */
int fd_lost_error(void);

/*
 * The frame of a wrapper on a stack socket: `expr` (over `held`, the held
 * description) for ours, -EIO for a lost one, -EBADF for a hidden one, otherwise
 * the kernel's answer.
 * Used when fd_is_stack() said yes; the number may have changed hands since.
 */
#define STACK_CALL(fd, expr, kernel)                                                                         \
	({                                                                                                   \
		int saved_errno_ = errno;                                                                    \
		bool anywhere_call_ = UNLIKELY(thread_marks.anywhere);                                       \
		if (anywhere_call_)                                                                          \
			cancel_put_off();                                                                    \
		ref held = fd_hold(fd);                                                                      \
		int64_t r_;                                                                                  \
		if (held) {                                                                                  \
			r_ = (expr);                                                                         \
			fd_release(held);                                                                    \
		} else {                                                                                     \
			r_ = fd_kind(fd) == FD_LOST ? fd_lost_error()                                        \
			     : fd_hidden(fd)	    ? -EBADF                                                 \
						    : negative(kernel);                                             \
		}                                                                                            \
		if (anywhere_call_)                                                                          \
			cancel_let_in();                                                                     \
		result(r_, saved_errno_);                                                                    \
	})

/* A wait by its system call's number and arguments; false: it is none. (calls_raw.c) */
bool wait_by_syscall(long nr, const long *a, long *r);

#endif
