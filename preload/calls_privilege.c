/*
 * calls_privilege.c - wrappers: a process gives up rights, or changes the world it
 * is in.
 *
 * Its connections do not mind: device, region and life line are open, and whom to
 * ring has an abstract address, which needs neither file system nor rights. What
 * minds is the driver thread, which the program knows nothing of. libc carries a
 * change of user or group out in every thread, and aborts the process if it works
 * in one and not in another (setpriv keeps capabilities in its own thread alone);
 * the kernel refuses a new user namespace to a process with threads. So the driver
 * ends before such a call and starts again after it, with what is left of the
 * rights.
 *
 * Place in the flow: -> evloop.c.
 */
#include <grp.h>
#include <sched.h>

#include "preload/calls.h"

static bool driver_pause(void)
{
	bool paused;

	if (LIKELY(!the_stack) || thread_marks.depth || process_is_vfork_child() ||
	    atomic_load(&process.finished))
		return false;
	lib_enter();
	paused = netio_pause_driver(the_stack);
	if (!paused)
		lib_leave();
	return paused; /* signals are put off until it runs again: a handler might start it */
}

/* If it cannot be started (RLIMIT_NPROC of the new user) another process drives: the keeper, if no other. */
static void driver_resume(bool paused)
{
	int saved_errno = errno;

	if (!paused)
		return;
	netio_start_driver(the_stack);
	lib_leave();
	errno = saved_errno;
}

#define ALONE(call)                                                                                          \
	({                                                                                                   \
		bool paused_ = driver_pause();                                                               \
		int r_ = (call);                                                                             \
		driver_resume(paused_);                                                                      \
		r_;                                                                                          \
	})

int setuid(uid_t uid)
{
	return ALONE(REAL(setuid)(uid));
}

int seteuid(uid_t uid)
{
	return ALONE(REAL(seteuid)(uid));
}

int setreuid(uid_t ruid, uid_t euid)
{
	return ALONE(REAL(setreuid)(ruid, euid));
}

int setresuid(uid_t ruid, uid_t euid, uid_t suid)
{
	return ALONE(REAL(setresuid)(ruid, euid, suid));
}

int setgid(gid_t gid)
{
	return ALONE(REAL(setgid)(gid));
}

int setegid(gid_t gid)
{
	return ALONE(REAL(setegid)(gid));
}

int setregid(gid_t rgid, gid_t egid)
{
	return ALONE(REAL(setregid)(rgid, egid));
}

int setresgid(gid_t rgid, gid_t egid, gid_t sgid)
{
	return ALONE(REAL(setresgid)(rgid, egid, sgid));
}

int setgroups(size_t n, const gid_t *groups)
{
	return ALONE(REAL(setgroups)(n, groups));
}

int initgroups(const char *user, gid_t group)
{
	return ALONE(REAL(initgroups)(user, group));
}

int unshare(int flags)
{
	return ALONE(REAL(unshare)(flags));
}

int setns(int fd, int type)
{
	return ALONE(REAL(setns)(fd, type));
}
