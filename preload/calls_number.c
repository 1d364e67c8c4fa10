/*
 * calls_number.c - wrappers: calls that hand out, or take, numbers inside libc.
 *
 * Every close is seen (close() and its kin, streams, dup2(), freopen(), and the
 * calls below), so a number that the kernel gives out can have no live entry.
 * Should it have one all the same, closed by a system call of the program's own,
 * then it means something else now: the entry is treated as closed, before the
 * newcomer's bytes can go into a connection (fd_fresh()). socket(), accept(),
 * dup() and epoll_create() ask in their own wrappers. The open() family asks only
 * in a build with -DUTCP_GUARD, which also tells of every such entry: `make guard`
 * runs the tests with it, a release pays nothing.
 *
 * daemon(), login_tty() and forkpty() put other files on 0, 1 and 2 past dup2().
 */
#include <pty.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <utmp.h>

#include "preload/calls.h"
#include "preload/number.h"
#include "preload/passing.h"
#include "preload/undecided.h"

void fd_stale(int fd)
{
	int saved_errno = errno;

	if (!process_is_vfork_child()) {
#ifdef UTCP_GUARD
		log_line("number %d (kind %d) was closed unseen", fd, (int)fd_kind(fd));
#endif
		fd_closing(fd);
	}
	errno = saved_errno;
}

static int fresh(int fd)
{
	if (fd >= 0)
		fd_fresh(fd);
	return fd;
}

static int fresh_pair(uint32_t mark, int r, int pair[2])
{
	if (!r) {
		number_settle_pair(mark, pair);
		fd_fresh(pair[0]);
		fd_fresh(pair[1]);
	}
	return r;
}

int socketpair(int domain, int type, int protocol, int pair[2])
{
	uint32_t mark = number_mark();

	return fresh_pair(mark, REAL(socketpair)(domain, type, protocol, pair), pair);
}

int pipe(int pair[2])
{
	uint32_t mark = number_mark();

	return fresh_pair(mark, REAL(pipe)(pair), pair);
}

int __pipe(int pair[2])
{
	return pipe(pair);
}

int pipe2(int pair[2], int flags)
{
	uint32_t mark = number_mark();

	return fresh_pair(mark, REAL(pipe2)(pair, flags), pair);
}

int eventfd(unsigned int value, int flags)
{
	return fresh(NUMBER(REAL(eventfd)(value, flags)));
}

int pidfd_getfd(int pidfd, int number, unsigned int flags)
{
	int fd = fresh(NUMBER(REAL(pidfd_getfd)(pidfd, number, flags)));

	if (fd >= 0)
		passing_fetched(fd);
	return fd;
}

int signalfd(int fd, const sigset_t *mask, int flags)
{
	uint32_t mark = number_mark();
	int r = REAL(signalfd)(fd, mask, flags);

	return r == fd ? r : fresh(number_settle(mark, r, 0));
}

int timerfd_create(clockid_t clock, int flags)
{
	return fresh(NUMBER(REAL(timerfd_create)(clock, flags)));
}

int inotify_init(void)
{
	return fresh(NUMBER(REAL(inotify_init)()));
}

int inotify_init1(int flags)
{
	return fresh(NUMBER(REAL(inotify_init1)(flags)));
}

int memfd_create(const char *name, unsigned int flags)
{
	return fresh(NUMBER(REAL(memfd_create)(name, flags)));
}

/* ------------------------------------------------------------ 0, 1 and 2 */

static void standard_closing(void)
{
	int saved_errno = errno;

	for (int fd = 0; fd < 3; fd++)
		fd_closing(fd);
	errno = saved_errno;
}

int daemon(int nochdir, int noclose)
{
	undecided_share_all(true, false);
	int r = REAL(daemon)(nochdir, noclose);

	if (!r && !noclose)
		standard_closing();
	return r;
}

int login_tty(int fd)
{
	int r = REAL(login_tty)(fd);

	if (!r) {
		standard_closing();
		fd_closing(fd);
	}
	return r;
}

int forkpty(int *parent, char *name, const struct termios *termios, const struct winsize *size)
{
	undecided_share_all(true, false);
	int r = REAL(forkpty)(parent, name, termios, size);

	if (!r)
		standard_closing();
	else if (r > 0)
		fd_fresh(*parent);
	return r;
}

/* ------------------------------------------------------------ the open() family */

#ifdef UTCP_GUARD

static mode_t mode_of(int flags, va_list ap)
{
	return flags & (O_CREAT | (O_TMPFILE & ~O_DIRECTORY)) ? va_arg(ap, mode_t) : 0;
}

#define OPEN(name)                                                                                           \
	int name(const char *path, int flags, ...)                                                           \
	{                                                                                                    \
		va_list ap;                                                                                  \
		va_start(ap, flags);                                                                         \
		mode_t mode = mode_of(flags, ap);                                                            \
		va_end(ap);                                                                                  \
		return fresh(REAL(name)(path, flags, mode));                                                 \
	}
#define OPENAT(name)                                                                                         \
	int name(int at, const char *path, int flags, ...)                                                   \
	{                                                                                                    \
		va_list ap;                                                                                  \
		va_start(ap, flags);                                                                         \
		mode_t mode = mode_of(flags, ap);                                                            \
		va_end(ap);                                                                                  \
		return fresh(REAL(name)(at, path, flags, mode));                                             \
	}
#define PLAIN(name, params, args)                                                                            \
	int name params                                                                                      \
	{                                                                                                    \
		return fresh(REAL(name) args);                                                               \
	}
OPEN(open)
OPEN(open64)
OPEN(__open)
OPEN(__open64)
OPENAT(openat)
OPENAT(openat64)
PLAIN(__open_2, (const char *path, int flags), (path, flags))
PLAIN(__open64_2, (const char *path, int flags), (path, flags))
PLAIN(__openat_2, (int at, const char *path, int flags), (at, path, flags))
PLAIN(__openat64_2, (int at, const char *path, int flags), (at, path, flags))
PLAIN(creat, (const char *path, mode_t mode), (path, mode))
PLAIN(creat64, (const char *path, mode_t mode), (path, mode))
PLAIN(mkstemp, (char *path), (path))
PLAIN(mkstemp64, (char *path), (path))
PLAIN(mkstemps, (char *path, int suffix), (path, suffix))
PLAIN(mkstemps64, (char *path, int suffix), (path, suffix))
PLAIN(mkostemp, (char *path, int flags), (path, flags))
PLAIN(mkostemp64, (char *path, int flags), (path, flags))
PLAIN(mkostemps, (char *path, int suffix, int flags), (path, suffix, flags))
PLAIN(mkostemps64, (char *path, int suffix, int flags), (path, suffix, flags))

#endif
