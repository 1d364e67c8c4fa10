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
 * Before its first socket a process has no device open yet, and the user whom root
 * becomes may not open it (`utcp su nobody -c ...`, a server that gives up root at
 * its start). So root gets its part in the stack just before it goes, and before an
 * empty root or a lack of capabilities is in its way. What the other user executes
 * then gets in through the life line (exec.c).
 *
 * A seccomp filter that forbids what the stack does comes through here, too: seal.c.
 *
 * Place in the flow: -> init.c, evloop.c, seal.c.
 */
#include <grp.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "preload/calls.h"
#include "preload/seal.h"

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

/*
 * In a child of vfork(), whose memory is its parent's, libc takes the thread for the parent's. Says so also
 * where the library knows nothing of the process yet.
 */
static bool memory_is_borrowed(void)
{
	pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;
	int owner;

	pthread_mutex_lock(&m);
	owner = m.__data.__owner;
	pthread_mutex_unlock(&m);
	return owner != gettid();
}

static void attach_before_it_goes(void)
{
	if (LIKELY(the_stack != NULL) || geteuid() || thread_marks.depth || atomic_load(&process.forked) ||
	    atomic_load(&process.finished) || atomic_load(&process.sealed) || memory_is_borrowed())
		return;
	stack_attach_early();
}

/* Root is about to go on as another user. */
static void attach_as_root(uid_t next)
{
	if (next && next != (uid_t)-1)
		attach_before_it_goes();
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
	attach_as_root(uid);
	return ALONE(REAL(setuid)(uid));
}

int seteuid(uid_t uid)
{
	attach_as_root(uid);
	return ALONE(REAL(seteuid)(uid));
}

int setreuid(uid_t ruid, uid_t euid)
{
	attach_as_root(euid);
	return ALONE(REAL(setreuid)(ruid, euid));
}

int setresuid(uid_t ruid, uid_t euid, uid_t suid)
{
	attach_as_root(euid);
	return ALONE(REAL(setresuid)(ruid, euid, suid));
}

/* Behind it there may be no device, no libev and no configuration. */
int chroot(const char *path)
{
	attach_before_it_goes();
	return REAL(chroot)(path);
}

/* Does a set of capabilities have both that a device may ask for? capset(2): two words of three, or one. */
static bool may_open_devices(const void *data)
{
	struct __user_cap_data_struct low;

	if (!memory_readable(data, sizeof low))
		return true; /* the kernel says what is wrong */
	memcpy(&low, data, sizeof low);
	return low.effective & 1u << CAP_NET_ADMIN && low.effective & 1u << CAP_NET_RAW;
}

int capset(void *header, const void *data)
{
	if (!the_stack && !may_open_devices(data))
		attach_before_it_goes();
	return REAL(capset)(header, data);
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
	int r = ALONE(REAL(unshare)(flags));

	if (r == 0 && flags & CLONE_NEWNET)
		netio_network_moved();
	return r;
}

int setns(int fd, int type)
{
	int r = ALONE(REAL(setns)(fd, type));

	if (r == 0 && (!type || type & CLONE_NEWNET))
		netio_network_moved();
	return r;
}

/* ------------------------------------------------------------ seccomp */

/* Will the filter at p close a sandbox that the stack cannot live in? Programs also probe, with NULL. */
static bool filter_closes(const struct sock_fprog *p)
{
	if (!memory_readable(p, sizeof *p) || !p->len || p->len > BPF_MAXINSNS ||
	    !memory_readable(p->filter, p->len * sizeof *p->filter))
		return false; /* the kernel refuses it */
	return !seccomp_harmless(p);
}

int sandbox_prctl(unsigned long op, unsigned long b, unsigned long c, unsigned long d, unsigned long e)
{
	bool closes = op == PR_SET_SECCOMP &&
		      (b == SECCOMP_MODE_STRICT ||
		       (b == SECCOMP_MODE_FILTER && filter_closes((const struct sock_fprog *)c)));
	int r;

	if (UNLIKELY(closes))
		seal_begin();
	r = REAL(prctl)((int)op, b, c, d, e);
	if (UNLIKELY(closes))
		seal_end(r == 0);
	return r;
}

int prctl(int op, ...)
{
	unsigned long a[4];
	va_list ap;

	va_start(ap, op);
	for (int i = 0; i < 4; i++)
		a[i] = va_arg(ap, unsigned long);
	va_end(ap);
	return sandbox_prctl((unsigned long)op, a[0], a[1], a[2], a[3]);
}

long sandbox_seccomp(unsigned int op, unsigned int flags, void *arg)
{
	bool closes = op == SECCOMP_SET_MODE_STRICT || (op == SECCOMP_SET_MODE_FILTER && filter_closes(arg));
	long r;

	if (closes)
		seal_begin();
	r = sys.syscall(SYS_seccomp, op, flags, arg);
	if (closes)
		seal_end(r >= 0);
	return r;
}
