/*
 * calls_clone.c - wrappers: children made by clone() or by system calls of the
 * program's own.
 *
 * Without CLONE_VM it is a fork() with other flags: the child gets its part in the
 * stack as any (process.c). libc knows nothing of such a child. The number by which
 * its mutexes know the calling thread is still the parent's, and the kernel has
 * forgotten its list of robust mutexes: with them it could not share the stack's
 * lock. Both are put right here; where the kernel does not say where libc keeps
 * the number (prctl(PR_GET_TID_ADDRESS)) the child has no part.
 *
 * With CLONE_VM it is a thread, or a child that is about to exec as vfork()'s is:
 * as it is. CLONE_FILES without CLONE_VM is beyond us: numbers in common, and no
 * table. Such a child does not reach connections and leaves its parent's alone.
 *
 * Place in the flow: clone(), syscall() -> process.c.
 */
#include <linux/futex.h>
#include <linux/sched.h>
#include <sched.h>
#include <sys/prctl.h>

#include "netio/rawsys.h"
#include "preload/calls.h"
#include "preload/process.h"
#include "preload/wait.h"

struct origin {
	int *tid;
	struct robust_list_head *robust;
	size_t robust_bytes;
	bool known, files, moves; /* moves: to a new network namespace */
	int (*f)(void *arg);
	void *arg;
};

static void clone_before(struct origin *o, uint64_t flags)
{
	o->files = flags & CLONE_FILES;
	o->moves = flags & CLONE_NEWNET;
	o->known = !RAW2(SYS_prctl, PR_GET_TID_ADDRESS, &o->tid) && o->tid &&
		   *o->tid == RAW1(SYS_gettid, 0) &&
		   !RAW3(SYS_get_robust_list, 0, &o->robust, &o->robust_bytes) && o->robust;
	process_before_clone(o->known && !o->files);
}

static void clone_child(const struct origin *o)
{
	if (o->moves)
		netio_network_moved();
	if (o->files) {
		process_child_of_strangers();
		return;
	}
	if (o->known) {
		*o->tid = (int)RAW1(SYS_gettid, 0);
		RAW1(SYS_set_tid_address, o->tid);
		o->robust->list.next = &o->robust->list;
		RAW2(SYS_set_robust_list, o->robust, o->robust_bytes);
	}
	process_child();
}

static int child_run(void *arg)
{
	const struct origin *o = arg;

	clone_child(o);
	return o->f(o->arg);
}

int clone(int (*f)(void *arg), void *stack, int flags, void *arg, ...)
{
	struct origin o = {.f = f, .arg = arg};
	void *ptid, *tls, *ctid;
	int pid, saved_errno;
	va_list ap;

	va_start(ap, arg);
	ptid = va_arg(ap, void *);
	tls = va_arg(ap, void *);
	ctid = va_arg(ap, void *);
	va_end(ap);
	if (flags & CLONE_VM || !f || !stack || atomic_load(&process.sealed))
		return REAL(clone)(f, stack, flags, arg, ptid, tls, ctid);
	clone_before(&o, (uint64_t)(unsigned int)flags);
	pid = REAL(clone)(child_run, stack, flags, &o, ptid, tls, ctid);
	saved_errno = errno;
	process_parent();
	errno = saved_errno;
	return pid;
}

/* SYS_clone and SYS_clone3, on the caller's stack. */
static long clone_call(long nr, const long *a, uint64_t flags)
{
	struct origin o = {0};
	int saved_errno = errno;
	long r;

	clone_before(&o, flags);
	r = raw6(nr, a[0], a[1], a[2], a[3], a[4], a[5]);
	if (r)
		process_parent();
	else
		clone_child(&o);
	return result(r, saved_errno);
}

bool clone_by_syscall(long nr, const long *a, long *r)
{
	struct clone_args args;

	if (atomic_load(&process.sealed))
		return false;
	switch (nr) {
#ifdef SYS_fork
	case SYS_fork:
	case SYS_vfork: /* one that returns twice through a function of C cannot share its frame */
		*r = _Fork();
		return true;
#endif
	case SYS_clone:
		if (a[0] & CLONE_VM || a[1])
			return false;
		*r = clone_call(nr, a, (uint64_t)a[0]);
		return true;
	case SYS_clone3:
		if (a[1] < (long)CLONE_ARGS_SIZE_VER0 || !memory_readable((void *)a[0], CLONE_ARGS_SIZE_VER0))
			return false;
		memcpy(&args, (void *)a[0], CLONE_ARGS_SIZE_VER0);
		if (args.flags & CLONE_VM || args.stack)
			return false;
		*r = clone_call(nr, a, args.flags);
		return true;
	default:
		return false;
	}
}
