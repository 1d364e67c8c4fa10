/*
 * calls_limit.c - wrappers: limits on file descriptors, as a sandbox sets them, and
 * on address space.
 *
 * sshd's child lowers RLIMIT_NOFILE to 1, for good, and closes its seccomp filter
 * afterwards. Pump mode (seal.c) takes a pair of descriptors and puts one onto the
 * connection's number; below such a limit the kernel allows neither. So the
 * connections go there before the limit falls. A limit that leaves room changes
 * nothing, nor does one that can be raised again (netio/room.c).
 *
 * RLIMIT_AS counts what the stack has reserved, which is more than vsftpd leaves to
 * itself: what is not in use goes (netio/region.c).
 *
 * Place in the flow: -> seal.c, netio/region.c.
 */
#include "netio/instrument.h"
#include "preload/calls.h"
#include "preload/fdtable.h"
#include "preload/process.h"
#include "preload/seal.h"

#define ROOM 3u /* a pair, and the placeholder that it replaces */

static void descriptors_fall(const void *new)
{
	struct rlimit l;
	int saved_errno = errno;

	if (!memory_readable(new, sizeof l))
		return;
	memcpy(&l, new, sizeof l);
	if (l.rlim_cur <= l.rlim_max && fd_highest() >= 0 && l.rlim_max < (rlim_t)fd_highest() + 1 + ROOM)
		seal_streams();
	errno = saved_errno;
}

/* The application is to have what the limit allows; the stack has reserved more than that. */
static void address_space_falls(const void *new)
{
	struct rlimit l;

	if (!memory_readable(new, sizeof l) || thread_marks.depth || process_is_vfork_child())
		return;
	memcpy(&l, new, sizeof l);
	if (l.rlim_cur == RLIM_INFINITY || l.rlim_cur > l.rlim_max)
		return;
	lib_enter();
	netio_address_space(the_stack, l.rlim_cur);
	lib_leave();
}

/* A sanitizer's runtime comes here while it begins. */
NOT_INSTRUMENTED static void limit_falls(pid_t pid, int resource, const void *new)
{
	if (UNLIKELY(the_stack) && resource == RLIMIT_NOFILE && (!pid || pid == getpid()))
		descriptors_fall(new);
	if (UNLIKELY(the_stack) && resource == RLIMIT_AS && (!pid || pid == getpid()))
		address_space_falls(new);
}

/* Numbers that we hold for ourselves are to lie below the limit, if none above it can be had. */
NOT_INSTRUMENTED static int limit_fell(pid_t pid, int resource, const void *new, int r)
{
	int saved_errno = errno;

	if (UNLIKELY(the_stack) && resource == RLIMIT_NOFILE && new && !r && (!pid || pid == getpid()) &&
	    !thread_marks.depth && !process_is_vfork_child() && !atomic_load(&process.finished)) {
		lib_enter();
		netio_births_begin();
		netio_reserve_fds(the_stack);
		netio_births_end();
		lib_leave();
	}
	errno = saved_errno;
	return r;
}

NOT_INSTRUMENTED int setrlimit(__rlimit_resource_t resource, const struct rlimit *l)
{
	limit_falls(0, (int)resource, l);
	return limit_fell(0, (int)resource, l, REAL(setrlimit)(resource, l));
}

NOT_INSTRUMENTED int setrlimit64(__rlimit_resource_t resource, const struct rlimit64 *l)
{
	limit_falls(0, (int)resource, l);
	return limit_fell(0, (int)resource, l, REAL(setrlimit64)(resource, l));
}

NOT_INSTRUMENTED int prlimit(pid_t pid, enum __rlimit_resource resource, const struct rlimit *new,
			     struct rlimit *old)
{
	limit_falls(pid, (int)resource, new);
	return limit_fell(pid, (int)resource, new, REAL(prlimit)(pid, resource, new, old));
}

NOT_INSTRUMENTED int prlimit64(pid_t pid, enum __rlimit_resource resource, const struct rlimit64 *new,
			       struct rlimit64 *old)
{
	limit_falls(pid, (int)resource, new);
	return limit_fell(pid, (int)resource, new, REAL(prlimit64)(pid, resource, new, old));
}
