/*
 * room.c - a descriptor of ours when the application has used up all numbers.
 *
 * Theory of operation. With the kernel's TCP a thread that waits, a set that gets
 * a member and a connect() take no number. Here they take one to three, and must
 * not fail for want of them. Two places are beyond the application's limit:
 *
 *   above it    RLIMIT_NOFILE is the soft limit of a process, the table of numbers
 *               is what processes may share. So a child that shares our memory and
 *               our table, but not our limits, raises its own and makes the call:
 *               the number that it gets is ours, and lies where the application's
 *               calls cannot come to. Nobody ever sees our own limit changed. The
 *               child is made as the keeper is (respawn.c), with no exit signal, and
 *               we stand still meanwhile, as in vfork().
 *   a reserve   where the hard limit is the soft one, and we may not raise it, some
 *               numbers are held from the start and given up for the call. What
 *               falls free of ours goes back to it.
 *
 * Place in the flow: whoever in netio or preload makes a descriptor for the library
 * itself -> here; fds.c keeps the number.
 */
#include <fcntl.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "netio/instrument.h"
#include "netio/internal.h"

#define GUEST_STACK  4096u
#define RUN_STACK    (256u << 10)
#define SIGSET_BYTES 8	   /* of the kernel's sigset_t */
#define HIGH	     1024u /* the application may raise a small limit later: not in its way then, either */
#define ABOVE	     4096u /* numbers above the limit that we can have */
#define LEAST_ABOVE  64u   /* so many, and there is no need of a reserve */

/* The C library's clone() under the name that nobody interposes (respawn.c says why). */
int __clone(int (*fn)(void *), void *stack, int flags, void *arg, ...);

struct guest {
	long nr, arg[4], result;
	void (*run)(void *arg); /* in place of the system call */
	void *run_arg;
	struct rlimit limit;
};

/* In our memory and our table of numbers, with a limit of its own. */
NOT_INSTRUMENTED static int guest(void *arg)
{
	struct guest *g = arg;

	g->result = raw6(SYS_prlimit64, 0, RLIMIT_NOFILE, (long)&g->limit, 0, 0, 0);
	if (!g->result && g->run)
		g->run(g->run_arg);
	else if (!g->result)
		g->result = raw6(g->nr, g->arg[0], g->arg[1], g->arg[2], g->arg[3], 0, 0);
	return 0;
}

/* All signals are blocked: a handler must not run on the little stack. */
NOT_INSTRUMENTED static void guest_begin(struct guest *g, char *top)
{
	uint64_t all = UINT64_MAX, old;
	int pid, status, saved_errno = errno;

	RAW4(SYS_rt_sigprocmask, SIG_SETMASK, &all, &old, SIGSET_BYTES);
	pid = __clone(guest, top, CLONE_VM | CLONE_VFORK | CLONE_FILES | CLONE_FS, g);
	if (pid >= 0)
		RAW4(SYS_wait4, pid, &status, __WALL, NULL);
	RAW4(SYS_rt_sigprocmask, SIG_SETMASK, &old, NULL, SIGSET_BYTES);
	errno = saved_errno;
}

NOT_INSTRUMENTED static void guest_run(struct guest *g)
{
	char stack[GUEST_STACK] __attribute__((aligned(16))), *pages;

	if (!g->run) {
		guest_begin(g, stack + sizeof stack);
		return;
	}
	pages = pages_alloc(RUN_STACK);
	if (!pages)
		return;
	guest_begin(g, pages + RUN_STACK);
	pages_free(pages, RUN_STACK);
}

static struct rlimit numbers_limit(void)
{
	struct rlimit l = {1024, 1024};

	RAW4(SYS_prlimit64, 0, RLIMIT_NOFILE, NULL, &l);
	return l;
}

rlim_t fds_limit(void)
{
	return numbers_limit().rlim_cur;
}

bool fds_can_rise(void)
{
	struct rlimit l = numbers_limit();

	return l.rlim_max - l.rlim_cur >= LEAST_ABOVE;
}

static bool no_room(long r)
{
	return r == -EMFILE || r == -EPERM || r == -EBADF || r == -EINVAL;
}

/* What it does with a limit that leaves room above ours; -EMFILE: there is none. */
static long above(struct guest *g)
{
	struct rlimit ours = numbers_limit();
	rlim_t wanted = MAX_OF(ours.rlim_cur, HIGH) + ABOVE;

	g->result = -EMFILE;
	g->limit = (struct rlimit){MIN_OF(wanted, ours.rlim_max), ours.rlim_max};
	if (g->limit.rlim_cur > ours.rlim_cur)
		guest_run(g);
	if (no_room(g->result) && ours.rlim_max < wanted) {
		g->result = -EMFILE;
		g->limit = (struct rlimit){wanted, wanted}; /* with CAP_SYS_RESOURCE */
		guest_run(g);
	}
	return g->result == -EPERM ? -EMFILE : g->result;
}

static long call_above(long nr, const long arg[4])
{
	struct guest g = {.nr = nr, .arg = {arg[0], arg[1], arg[2], arg[3]}};

	return above(&g);
}

int fds_dup_above(int fd)
{
	rlim_t floor = fds_limit();
	long r = -EMFILE;

	if (floor < HIGH)
		r = call_above(SYS_fcntl, (long[]){fd, F_DUPFD_CLOEXEC, HIGH, 0});
	if (r < 0)
		r = call_above(SYS_fcntl, (long[]){fd, F_DUPFD_CLOEXEC, (long)floor, 0});
	return (int)r;
}

long netio_fd_call(long nr, long a, long b, long c, long d)
{
	long r = raw6(nr, a, b, c, d, 0, 0);

	if (r == -EMFILE)
		r = call_above(nr, (long[]){a, b, c, d});
	if (r == -EMFILE && fds_reserve_spend(nr == SYS_socketpair ? 2 : 1))
		r = raw6(nr, a, b, c, d, 0, 0);
	return r;
}

int netio_fd_onto(int fd, int number, int flags)
{
	long r = RAW3(SYS_dup3, fd, number, flags);

	if (r == -EBADF) /* a number that the limit has fallen below */
		r = call_above(SYS_dup3, (long[]){fd, number, flags, 0});
	return r < 0 ? (int)r : 0;
}

/* Is there room for so many? */
static bool free_numbers(int fd, unsigned count)
{
	int copy[MESSAGE_FDS];
	unsigned n = 0;

	while (n < count && n < ARRAY_LEN(copy) &&
	       (copy[n] = (int)RAW3(SYS_fcntl, fd, F_DUPFD_CLOEXEC, 0)) >= 0)
		n++;
	for (unsigned i = 0; i < n; i++)
		raw_close(copy[i]);
	return n == count;
}

void fds_run_above(int any, void (*run)(void *arg), void *arg)
{
	struct guest g = {.run = run, .run_arg = arg};

	if (free_numbers(any, 1) || !above(&g))
		return;
	fds_reserve_spend(1);
	run(arg);
}

long fds_receive(int from, struct msghdr *m, int flags, unsigned count)
{
	long r = -EMFILE;

	if (!free_numbers(from, count))
		r = call_above(SYS_recvmsg, (long[]){from, (long)m, flags, 0});
	if (r == -EMFILE && !free_numbers(from, count))
		fds_reserve_spend(count);
	return r == -EMFILE ? RAW3(SYS_recvmsg, from, m, flags) : r;
}
