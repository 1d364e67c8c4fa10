/*
 * respawn.c - a keeper for the stack: the first one, and the next when it was
 * killed.
 *
 * Theory of operation. The keeper is made by two nested clone()s with no exit
 * signal, the first of which ends at once: so it is nobody's child that wait()
 * could return, holds no descriptor of the application's, and has a session of
 * its own. A program that adopts orphans (PR_SET_CHILD_SUBREAPER) is none for
 * the moment in which the first clone ends. The first process of a PID namespace
 * cannot be asked not to adopt: where it is one of the stack, its namespace makes
 * no keeper.
 *
 * Every process of a stack sees the end of its keeper: its life line hangs up.
 * The line is in every wait set (wait.c) and in the driver's loop (evloop.c),
 * and is looked at now and then by whoever drives. Whoever notices acts at the
 * end of its netio_leave():
 *
 *   bind the stack's name   the one atomic decision: it starts the new keeper,
 *                           which gets the listening socket
 *   EADDRINUSE              another process was faster: dial, and say RETURN
 *                           with our slot and the stack's secret; the connection
 *                           is our new line
 *
 * The new keeper counts region_head.keepers up and wakes the parked drivers, so
 * that processes return which had no thread to notice. Those that do not come
 * (stopped, or a program that knows nothing of us) it waits for; the dead ones
 * among them it finds by a record lock that every process holds (procs.c).
 *
 * The name is the rendezvous' (rendezvous.c), or a private one if the stack has
 * none. Only the user whose name it is may take it, because the others would not
 * trust the keeper. A process that has changed its user finds nobody at the name
 * if it is the last one: then it chooses another, in the region for all to see.
 *
 * A keeper that cannot be started costs nobody the connections: the log has one
 * line, exit waits for the drain (preload/process.c), and each second one call
 * tries again. Keepers that keep dying young are not replaced more often either.
 *
 * Place in the flow: procs.c (fork), lifeline.c (exec), drive.c -> here -> keeper.c
 * at the other end.
 */
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "netio/instrument.h"
#include "netio/internal.h"
#include "netio/passage.h"

#define CLONE_STACK  16384u
#define SIGSET_BYTES 8 /* of the kernel's sigset_t */
#define LOOK_NS	     (100 * NS_PER_MS)
#define YOUNG_NS     NS_PER_S
#define YOUNG_MAX    16 /* keepers, or lines of one process, in a row */
#define TRIES	     60 /* a millisecond each */

static char library_path[4096];
static uint32_t drain_ms = 2000;

void netio_set_keeper(const char *library, uint32_t ms)
{
	size_t len = strlen(library);

	if (len < sizeof library_path)
		memcpy(library_path, library, len + 1);
	drain_ms = ms;
}

/* ------------------------------------------------------------ a process that is nobody's child */

struct birth {
	const char *path;
	int line;
	void *stack; /* of the second clone */
	char *env[2 + INSTRUMENT_VARIABLES];
	const char *log; /* NULL: no stderr */
	int err;
	_Atomic uint32_t shares; /* not 0: the second clone still runs in our memory */
};

/*
 * The C library's clone() under the name that nobody interposes. The thread
 * sanitizer's runtime takes clone() for a fork() and, since both processes have
 * the same memory, leaves its "ignore what this thread calls" twice for the once
 * that it entered it: from then on it sees no lock of the calling thread.
 */
int __clone(int (*fn)(void *), void *stack, int flags, void *arg, ...);

/*
 * The keeper-to-be. Shares our memory until the exec: system calls only. It never
 * returns, so that an instrument's entry without the exit would stay behind in the
 * parent: a frame on the call stack of our thread, marks on the borrowed stack.
 */
NOT_INSTRUMENTED static int grandchild(void *arg)
{
	struct birth *b = arg;
	char *argv[] = {(char *)(uintptr_t) "utcp-keeper", NULL};

	RAW1(SYS_setsid, 0);
	RAW1(SYS_chdir, "/");
	if (b->line == KEEPER_FD) /* of a program without 0, 1 or 2 */
		RAW3(SYS_fcntl, KEEPER_FD, F_SETFD, 0);
	else
		RAW3(SYS_dup3, b->line, KEEPER_FD, 0);
	RAW3(SYS_close_range, KEEPER_FD + 1, UINT32_MAX, 0);
	for (int fd = 0; fd < KEEPER_FD; fd++)
		RAW1(SYS_close, fd);
	RAW4(SYS_openat, AT_FDCWD, "/dev/null", O_RDWR, 0);
	RAW3(SYS_dup3, 0, 1, 0);
	if (!b->log || RAW4(SYS_openat, AT_FDCWD, b->log, O_WRONLY | O_APPEND | O_CREAT, 0600) < 0)
		RAW3(SYS_dup3, 0, 2, 0);
	/* All signals are blocked still: a handler must not run here. */
	b->err = (int)RAW3(SYS_execve, b->path, argv, b->env);
	return 1;
}

/* Ends as soon as it can: until then orphans of an adopting program go elsewhere. */
static int child(void *arg)
{
	struct birth *b = arg;

	if (__clone(grandchild, (char *)b->stack + CLONE_STACK, CLONE_VM | CLONE_CHILD_CLEARTID, b,
		    (pid_t *)NULL, (void *)NULL, &b->shares) < 0) {
		b->err = -errno;
		b->shares = 0;
	}
	return 0;
}

static void wait_for_exec(struct birth *b)
{
	uint32_t shares;

	while ((shares = atomic_load(&b->shares)) != 0)
		RAW6(SYS_futex, &b->shares, FUTEX_WAIT, shares, NULL, NULL, 0);
}

/* As in a shell's double fork, but without a copy of our memory and without SIGCHLD. */
static int spawn(int line)
{
	struct birth b = {.path = library_path,
			  .line = line,
			  .env = {(char *)(uintptr_t)NETIO_KEEPER_VARIABLE "=3"},
			  .shares = 1};
	uint64_t all = UINT64_MAX, old;
	char *stacks = pages_alloc(2 * CLONE_STACK);
	int pid, status, subreaper = 0, saved_errno = errno;

	if (!stacks)
		return -ENOMEM;
	b.stack = stacks + CLONE_STACK;
	b.log = instrument_log();
	instrument_variables(b.env + 1);
	RAW4(SYS_rt_sigprocmask, SIG_SETMASK, &all, &old, SIGSET_BYTES);
	RAW2(SYS_prctl, PR_GET_CHILD_SUBREAPER, &subreaper);
	if (subreaper)
		RAW2(SYS_prctl, PR_SET_CHILD_SUBREAPER, 0);
	pid = __clone(child, stacks + CLONE_STACK, CLONE_VM | CLONE_VFORK, &b);
	if (pid < 0)
		b = (struct birth){.err = -errno};
	else
		RAW4(SYS_wait4, pid, &status, __WALL, NULL);
	if (subreaper)
		RAW2(SYS_prctl, PR_SET_CHILD_SUBREAPER, 1);
	wait_for_exec(&b);
	RAW4(SYS_rt_sigprocmask, SIG_SETMASK, &old, NULL, SIGSET_BYTES);
	pages_free(stacks, 2 * CLONE_STACK);
	errno = saved_errno;
	return b.err;
}

bool keeper_known(void)
{
	return library_path[0];
}

/* The first process of a PID namespace would be the keeper's parent, and take it along when it ends. */
bool keeper_possible(void)
{
	return keeper_known() && getpid() != 1;
}

int keeper_spawn(struct netio *n, int listener)
{
	struct attach_message m;
	int pair[2], fds[MESSAGE_FDS], err;

	err = (int)netio_fd_call(SYS_socketpair, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, (long)pair);
	if (err)
		return err;
	passages_forget(n);
	attach_describe(n, &m);
	m.drain_ms = drain_ms;
	attach_fds(n, fds);
	fds[ATTACH_FDS] = listener;
	err = message_send(pair[0], &m, sizeof m, fds, MESSAGE_FDS);
	if (!err)
		err = spawn(pair[1]);
	raw_close(pair[1]);
	if (!err)
		return keeper_line_set(n, pair[0]);
	raw_close(pair[0]);
	return err;
}

/* ------------------------------------------------------------ the life line */

bool keeper_alive(struct netio *n)
{
	struct pollfd p = {.fd = n->keeper_fd, .events = POLLIN};
	struct timespec zero = {0, 0};
	long r;

	if (n->keeper_fd < 0)
		return false;
	/* A signal is no death: dropping the line of a keeper that lives tells it that we are dead. */
	do {
		r = RAW6(SYS_ppoll, &p, 1, &zero, NULL, 0, 0);
	} while (r == -EINTR);
	return r == 0;
}

int keeper_line_set(struct netio *n, int fd)
{
	int err;

	lock_acquire(n);
	err = fds_keep(fd, &n->keeper_fd);
	if (!err) {
		nsec now = netio_now();

		waitsets_watch_line(n);
		n->lines = now - n->line_since < YOUNG_NS ? n->lines + 1 : 0;
		n->line_since = now;
		n->keepers = n->region.head->keepers;
	}
	lock_release(n);
	if (!err)
		driver_watch_line(n);
	return err;
}

static void line_drop(struct netio *n)
{
	lock_acquire(n);
	if (n->keeper_fd >= 0)
		fds_drop(&n->keeper_fd);
	lock_release(n);
}

/*
 * Not while another thread makes a keeper or a line: its descriptors have no owner yet, and the child's
 * copies would keep the name, or a dead keeper's lines, for ever.
 */
void keeper_line_before_fork(struct netio *n)
{
	pthread_mutex_lock(&n->line_lock);
}

void keeper_line_parent_after_fork(struct netio *n)
{
	pthread_mutex_unlock(&n->line_lock);
}

void keeper_line_after_fork(struct netio *n)
{
	pthread_mutex_init(&n->line_lock, NULL);
	atomic_store(&n->line_lost, false);
	n->look_at = 0;
	n->lines = 0;
	atomic_store(&n->hasty, false);
}

/* ------------------------------------------------------------ one keeper, whoever wants it */

/* Keepers, or our lines to them, that end as soon as they are made. */
static bool too_hasty(struct netio *n)
{
	struct region_head *h = n->region.head;
	nsec now = netio_now();
	bool hasty;

	lock_acquire(n);
	hasty = (h->hasty > YOUNG_MAX && now - h->keeper_born < YOUNG_NS) ||
		(n->lines > YOUNG_MAX && now - n->line_since < YOUNG_NS);
	lock_release(n);
	return hasty;
}

static void name_read(struct netio *n, struct stack_name *name)
{
	lock_acquire(n);
	*name = n->region.head->name;
	lock_release(n);
}

/* Nobody whom we trust is at the name, and it is not ours to take. */
static void name_replace(struct netio *n, const struct stack_name *old)
{
	struct region_head *h = n->region.head;
	struct stack_name other;

	rendezvous_private_name(&other);
	lock_acquire(n);
	if (!memcmp(&h->name, old, sizeof *old))
		h->name = other;
	lock_release(n);
}

static int say_return(struct netio *n, int fd)
{
	/* The serial that we signed: the place may be another's by now, if we were taken for dead. */
	struct return_message m = {.type = MESSAGE_RETURN, .proc = n->proc, .serial = n->serial};

	lock_acquire(n);
	m.secret = n->region.head->secret;
	lock_release(n);
	return message_send(fd, &m, sizeof m, NULL, 0);
}

static bool may_spawn(struct netio *n)
{
	return keeper_possible() && !proc_adopts_orphans(n);
}

/* 0; -EAGAIN: once more; another negative errno, or any if *ours (the name was): there is none to be had. */
static int attempt(struct netio *n, const struct stack_name *name, bool *ours)
{
	int fd, err;

	if (may_spawn(n) && name->uid == geteuid()) {
		fd = rendezvous_listen(name);
		if (fd >= 0) {
			*ours = true;
			err = keeper_spawn(n, fd);
			raw_close(fd);
			return err;
		}
		if (fd != -EADDRINUSE)
			return fd;
	}
	fd = rendezvous_dial(name);
	if (fd < 0)
		return fd == -ECONNREFUSED ? -EAGAIN : fd;
	if (say_return(n, fd)) {
		raw_close(fd);
		return -EAGAIN;
	}
	return keeper_line_set(n, fd);
}

static int obtain(struct netio *n)
{
	const struct timespec pause = {0, (long)NS_PER_MS};
	struct stack_name name;
	int err = -EAGAIN;
	bool ours = false;

	if (n->dev.fd < 0 || n->dev.mem || (!may_spawn(n) && !n->region.head->keepers))
		return -EOPNOTSUPP;
	line_drop(n);
	if (too_hasty(n))
		return -EBUSY;
	for (int i = 0; i < TRIES && err == -EAGAIN && !ours; i++) {
		if (i)
			RAW2(SYS_nanosleep, &pause, NULL);
		name_read(n, &name);
		err = attempt(n, &name, &ours);
		if (!ours && may_spawn(n) &&
		    (err == -EPERM || (err == -EAGAIN && i == TRIES / 2 && name.uid != geteuid()))) {
			name_replace(n, &name);
			err = -EAGAIN;
		}
	}
	return err;
}

/* One line for a process, and none where there is nothing that the user could do. */
static void tell(struct netio *n, int err)
{
	if (n->keeper_told || err == -EOPNOTSUPP || err == -EBUSY)
		return;
	n->keeper_told = true;
	if (err == -EAGAIN)
		report("the keeper of this stack cannot be started (%s); until it can, what a killed process "
		       "leaves is not sent, and timers may wait for the application's next call: raise "
		       "`ulimit -u`",
		       strerror(-err));
	else
		report("the keeper of this stack cannot be started (%s); what a killed process leaves is not "
		       "sent, check ulimit -u and the permissions of %.100s",
		       strerror(-err), library_path);
}

bool netio_keeper_missing(struct netio *n)
{
	return n->keeper_told;
}

/* line_lock held */
static int line_renew(struct netio *n)
{
	int err = 0;

	atomic_store(&n->line_lost, false);
	n->keepers = n->region.head->keepers;
	n->look_at = netio_now() + LOOK_NS;
	if (!n->severed)
		proc_mark(n);
	if (keeper_alive(n))
		return 0;
	if (n->severed)
		return -ESRCH;
	netio_births_begin();
	err = obtain(n);
	netio_births_end();
	atomic_store(&n->hasty, err == -EBUSY);
	if (err) {
		n->look_at = netio_now() + KEEPER_RETRY_NS;
		/* Everybody may sleep then. */
		if (err == -EBUSY) {
			driver_unpark(n);
			driver_kick(n);
		}
		tell(n, err);
	}
	return err;
}

void keeper_begin(struct netio *n, int listener)
{
	int err = n->dev.mem ? 0 : keeper_spawn(n, listener);

	n->look_at = netio_now() + (err ? KEEPER_RETRY_NS : LOOK_NS);
	if (err)
		tell(n, err);
}

int keeper_start(struct netio *n)
{
	int err;

	do {
		pthread_mutex_lock(&n->line_lock);
		err = line_renew(n);
		pthread_mutex_unlock(&n->line_lock);
	} while (!err && atomic_load(&n->line_lost));
	return err;
}

void keeper_look(struct netio *n)
{
	int err;

	if (n->is_keeper || n->forgotten || n->severed)
		return;
	/* A stack that never had one starts it when it forks. */
	if (!n->region.head->keepers && n->keeper_fd < 0 && !n->keeper_told) {
		n->look_at = NSEC_NEVER;
		return;
	}
	/* A thread that sees the new line end, too, while we are at it leaves it to us. */
	do {
		if (pthread_mutex_trylock(&n->line_lock))
			return;
		err = line_renew(n);
		pthread_mutex_unlock(&n->line_lock);
	} while (!err && atomic_load(&n->line_lost));
}

bool netio_is_kept(struct netio *n)
{
	if (n->forgotten)
		return false;
	return keeper_alive(n) || (n->region.head->keepers && !keeper_start(n));
}
