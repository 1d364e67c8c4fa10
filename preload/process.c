/*
 * process.c - fork() and the end of the process.
 *
 * fork(): the child has copies of all descriptors, which are real ones, and of
 * our memory; the stack is shared memory. So it gets a part in every description
 * and epoll set that its parent has a number of (netio/procs.c), and goes on with
 * both as with anything that fork() shares: whoever closes last closes the
 * connection. All locks of this library are taken before and let go after, so
 * that the child's copies are whole. A child that can get no part forgets the
 * stack: its connections are FD_LOST, everything else is the kernel's. vfork()
 * children share our memory: the wrappers tell by getpid().
 *
 * exit(), return from main, quick_exit(), _exit(): the dying thread closes every
 * socket by the kernel's rules. What it wrote must still be sent and acknowledged:
 * if there is a keeper it does that. Else nobody does when the process is gone, so
 * the thread drives the stack until the peers have acknowledged all; it gives up
 * when nothing was acknowledged for UTCP_EXIT_DRAIN milliseconds.
 *
 * Place in the flow: hooks set by init.c; _exit() and _Fork() in calls_process.c.
 */
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "preload/async.h"
#include "preload/calls.h"
#include "preload/fdtable.h"
#include "preload/placeholder.h"
#include "preload/process.h"
#include "preload/spawn.h"
#include "preload/undecided.h"

UTCP_EARLY struct process_state process;

bool process_is_vfork_child(void)
{
	return process.pid && !atomic_load_explicit(&process.sealed, memory_order_relaxed) &&
	       getpid() != process.pid;
}

/* ------------------------------------------------------------ fork */

/* fork() in progress, in the thread that calls it: with the stack and its locks. */
static __thread bool fork_shares __attribute__((tls_model("initial-exec")));

void process_before_fork(void)
{
	process_before_clone(true);
}

void process_before_clone(bool shares)
{
	if (atomic_load(&process.sealed))
		return;
	if (atomic_load(&process.finished))
		process_ends_here();
	if (shares)
		undecided_share_all(false, false);
	/* from here on a kernel socket that exists may be the child's, too */
	atomic_fetch_add(&process.fork_count, 1);
	/* A handler of a signal that is never put off may fork from inside the stack. */
	fork_shares = shares && the_stack && !thread_marks.depth && !process_is_vfork_child();
	if (!fork_shares)
		return;
	lib_enter();
	async_before_fork();
	wait_before_fork();
	placeholder_before_fork();
	netio_before_fork(the_stack, fdtable_inherit);
}

void process_parent(void)
{
	if (!fork_shares)
		return;
	fork_shares = false;
	netio_parent_after_fork(the_stack);
	placeholder_parent_after_fork();
	wait_parent_after_fork();
	async_parent_after_fork();
	lib_leave();
}

/* What a child does that has no part in the stack of its parent. */
static void child_lost(void)
{
	struct netio *parent = the_stack;

	the_stack = NULL;
	atomic_store(&process.forked, true);
	fdtable_lost();
	netio_forget_after_fork(parent);
	wait_forked(false);
}

void process_child(void)
{
	if (atomic_load(&process.sealed))
		return;
	process.pid = getpid();
	atomic_store(&process.ender, 0); /* not a thread of this process */
	undecided_after_fork();
	spawn_after_fork();
	async_after_fork();
	if (!the_stack) {
		fork_shares = false;
		return;
	}
	process.child = true;
	if (!fork_shares || netio_child_after_fork(the_stack)) {
		child_lost();
	} else {
		fdtable_after_fork();
		wait_forked(true);
	}
	placeholder_after_fork();
	if (fork_shares)
		lib_leave();
	fork_shares = false;
}

/* Its memory is private by now (netio/severed.c). */
static void severed(void)
{
	atomic_store(&process.forked, true);
	fdtable_severed();
}

void process_child_of_strangers(void)
{
	atomic_store(&process.forked, true);
	atomic_store(&process.finished, true);
	fork_shares = false;
}

int fd_lost_error(void)
{
	static atomic_flag told = ATOMIC_FLAG_INIT;

	/* netio has said so */
	if (the_stack && netio_is_severed(the_stack))
		return -EIO;
	if (!atomic_flag_test_and_set(&told))
		log_line(
		    "a forked process has no part in the connections of its parent (out of memory, or forked "
		    "in a signal handler that interrupted a call); raise `ulimit -v` or keep it on the "
		    "kernel "
		    "with UTCP_RULES");
	return -EIO;
}

/* ------------------------------------------------------------ exit */

/*
 * Between the drain and the end the other threads still run, for as long as the drain lasts. They would
 * find their sockets closed, and log it, or connect in the kernel instead.
 */
void process_ends_here(void)
{
	const uint64_t all = ~0ull;
	int ender = atomic_load(&process.ender);

	if (!ender || ender == gettid() || netio_internal_thread() || process_is_vfork_child())
		return;
	/* a signal to the process is for a thread that can take it */
	sys.syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, NULL, sizeof all);
	for (;;)
		sys.syscall(SYS_ppoll, NULL, 0, NULL, NULL, 0);
}

/* Take a description away from the other threads: false if one is inside a call on it, or about to free it.
 */
static bool drain_take(struct local *l, uint32_t *refs)
{
	*refs = atomic_load(&l->refs);
	while (*refs && *refs <= atomic_load(&l->numbers))
		if (atomic_compare_exchange_weak(&l->refs, refs, *refs | REFS_AT_END))
			return true;
	return false;
}

/*
 * libc ends a process whose main thread called pthread_exit() with its last
 * thread. The driver would be that one, for ever: such a process does without.
 */
void process_thread_ends(void)
{
	if (gettid() != getpid() || process_is_vfork_child())
		return;
	atomic_store(&process.headless, true);
	lib_enter();
	if (the_stack && !netio_leave_to_keeper(the_stack))
		log_line("the main thread has ended and there is no keeper; the process stays until exit() "
			 "is called");
	lib_leave();
}

/*
 * One socket that is still open here. Other processes keep it open. A call in
 * progress in another thread keeps it: then only FIN is queued. A close() in
 * another thread does what there is to do.
 */
static void drain_close(struct stack_cx *cx, ref d)
{
	struct description *p = description_at(cx, d);
	struct local *l = local_of(d);
	uint32_t refs;

	if (!l->hold || !p->sock)
		return;
	if (!drain_take(l, &refs)) {
		if (refs && p->holders == 1)
			sock_shutdown(cx, p->sock, 1);
		return;
	}
	if (netio_unhold(the_stack, cx, l->hold)) {
		watch_remove_socket(cx, p->sock);
		sock_close(cx, p->sock);
		p->sock = REF_NONE;
		pool_free(cx, POOL_DESCRIPTION, d);
	}
	l->hold = l->child_hold = REF_NONE;
}

/* What the peers have not acknowledged yet: connections, and bytes as a measure of progress. */
static uint32_t drain_left(struct stack_cx *cx, uint64_t *bytes)
{
	uint32_t left = stack_draining(cx);

	for (ref d = pool_next(cx, POOL_DESCRIPTION, REF_NONE); d; d = pool_next(cx, POOL_DESCRIPTION, d)) {
		struct description *p = description_at(cx, d);
		left += p->sock && p->kind == FD_STREAM && p->holders <= 1 && sock_draining(cx, p->sock);
	}
	*bytes = stack_buffer_bytes(cx);
	return left;
}

/*
 * Another process may take the frame that ends it all, and would not know that we
 * wait for it: look again at short, growing intervals.
 */
static void drain_wait(struct netio *n, struct waitset *ws)
{
	nsec patience = the_config.exit_drain_ms * NS_PER_MS, limit = 0, step = NS_PER_MS, until;
	uint64_t bytes, bytes_before = 0;
	uint32_t left, left_before = 0;
	struct wait_result res;

	for (;;) {
		struct stack_cx *cx = netio_enter(n);
		netio_drive(n, cx);
		left = drain_left(cx, &bytes);
		if (!limit || left != left_before || bytes != bytes_before)
			limit = cx->now + patience;
		until = cx->now + step;
		bool stop = !left || cx->now >= limit;
		if (!stop)
			waitset_publish(ws, cx);
		netio_leave(n);
		if (stop)
			break;
		left_before = left;
		bytes_before = bytes;
		waitset_block(ws, MIN_OF(until, limit), NULL, &res);
		step = MIN_OF(step * 2, 50 * NS_PER_MS);
		cx = netio_enter(n);
		waitset_withdraw(ws, cx);
		netio_leave(n);
	}
	if (left && the_config.verbose)
		log_line("%u connections ended with unacknowledged data; raise UTCP_EXIT_DRAIN", left);
}

static bool others_go_on; /* process_drain_early() */

static void drain(struct netio *n)
{
	struct waitset *ws;
	struct stack_cx *cx;

	if (!others_go_on)
		atomic_store(&process.ender, gettid());
	atomic_store(&process.finished, true);
	cx = netio_enter(n);
	for (ref d = pool_next(cx, POOL_DESCRIPTION, REF_NONE); d; d = pool_next(cx, POOL_DESCRIPTION, d))
		drain_close(cx, d);
	netio_leave(n);
	/* Figures and a capture are to be complete: then we see the end ourselves. */
	if ((!netio_is_kept(n) || (!process.child && (the_config.stats_path[0] || the_config.verbose ||
						      the_config.net.pcap_path[0]))) &&
	    the_config.exit_drain_ms && !thread_waitset(&ws))
		drain_wait(n, ws);
}

void process_drain(void)
{
	static atomic_flag done = ATOMIC_FLAG_INIT;
	int saved_errno = errno, cancel;

	/* A handler of a fatal signal that ends the process from inside the stack holds the lock: leave it.
	 */
	if (atomic_load(&process.forked) || atomic_load(&process.sealed) || thread_marks.depth ||
	    process_is_vfork_child() || atomic_flag_test_and_set(&done))
		return;
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
	lib_enter();
	if (the_stack) {
		/*
		 * The end of the process must meet no thread inside the stack, with its lock; nor do the
		 * others see that their connections are gone already.
		 */
		netio_pause_driver(the_stack);
		netio_gate_close(the_stack);
		drain(the_stack);
		if (!process.child)
			stats_report(the_stack);
		netio_capture_end(the_stack);
		netio_gate_close(the_stack); /* the drain may have outlasted it */
	}
	fallback_report();
	lib_leave();
	pthread_setcancelstate(cancel, NULL);
	errno = saved_errno;
}

void process_drain_early(void)
{
	others_go_on = true;
	process_drain();
}

void process_hooks(void)
{
	pthread_atfork(process_before_fork, process_parent, process_child);
	netio_set_severed(severed);
}
