/*
 * process.c - fork() and the end of the process.
 *
 * fork(): the child has copies of all descriptors, which are real ones, and of
 * our memory, but the stack belongs to the parent. The child forgets it: no
 * frame, no lock, no close of a connection is ever sent from there. Its
 * connections are FD_LOST, everything else is the kernel's; new sockets go to
 * the kernel. vfork() children share our memory: the wrappers tell by getpid().
 *
 * exit(), return from main, quick_exit(), _exit(): the kernel would go on
 * sending what a process wrote before it ended. Here nobody does when the
 * process is gone, so the dying thread closes every socket by the kernel's rules
 * and drives the stack until the peers have acknowledged all. It gives up when
 * nothing was acknowledged for UTCP_EXIT_DRAIN milliseconds.
 *
 * Place in the flow: hooks set by init.c; _exit() and _Fork() in calls_process.c.
 */
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "preload/async.h"
#include "preload/calls.h"
#include "preload/fdtable.h"
#include "preload/placeholder.h"
#include "preload/process.h"

struct process_state process;

bool process_is_vfork_child(void)
{
	return process.pid && getpid() != process.pid;
}

/* ------------------------------------------------------------ fork */

static void before_fork(void)
{
	/* from here on a kernel socket that exists may be the child's, too */
	atomic_fetch_add(&process.fork_count, 1);
}

void process_child(void)
{
	struct netio *parent = the_stack;

	process.pid = getpid();
	placeholder_after_fork();
	async_after_fork();
	fdtable_after_fork();
	if (parent) {
		the_stack = NULL;
		atomic_store(&process.forked, true);
		netio_forget_after_fork(parent);
		wait_forked();
	}
}

int fd_lost_error(void)
{
	static atomic_flag told = ATOMIC_FLAG_INIT;

	if (!atomic_flag_test_and_set(&told))
		log_line("a forked process used a connection of its parent; let the parent do it, or keep "
			 "such servers on the kernel with UTCP_RULES");
	return -EIO;
}

/* ------------------------------------------------------------ exit */

/* One socket that is still open. A call in progress in another thread keeps it: then only FIN is queued. */
static void drain_close(struct stack_cx *cx, struct description *p)
{
	if (!p->sock)
		return;
	if (p->refs > p->numbers) {
		sock_shutdown(cx, p->sock, 1);
		return;
	}
	watch_remove_socket(cx, p->sock);
	sock_close(cx, p->sock);
	p->sock = REF_NONE;
}

/* What the peers have not acknowledged yet: connections, and bytes as a measure of progress. */
static uint32_t drain_left(struct stack_cx *cx, uint64_t *bytes)
{
	uint32_t left = stack_draining(cx);

	for (ref d = pool_next(cx, POOL_DESCRIPTION, REF_NONE); d; d = pool_next(cx, POOL_DESCRIPTION, d)) {
		struct description *p = description_at(cx, d);
		left += p->sock && p->kind == FD_STREAM && sock_draining(cx, p->sock);
	}
	*bytes = stack_buffer_bytes(cx);
	return left;
}

static void drain_wait(struct netio *n, struct waitset *ws)
{
	nsec patience = the_config.exit_drain_ms * NS_PER_MS, limit = 0;
	uint64_t bytes, bytes_before = 0;
	uint32_t left, left_before = 0;
	struct wait_result res;

	for (;;) {
		struct stack_cx *cx = netio_enter(n);
		netio_drive(n, cx);
		left = drain_left(cx, &bytes);
		if (!limit || left != left_before || bytes != bytes_before)
			limit = cx->now + patience;
		bool stop = !left || cx->now >= limit;
		if (!stop)
			waitset_publish(ws, cx);
		netio_leave(n);
		if (stop)
			break;
		left_before = left;
		bytes_before = bytes;
		waitset_block(ws, limit, NULL, &res);
		cx = netio_enter(n);
		waitset_withdraw(ws, cx);
		netio_leave(n);
	}
	if (left && the_config.verbose)
		log_line("%u connections ended with unacknowledged data; raise UTCP_EXIT_DRAIN", left);
}

static void drain(struct netio *n)
{
	struct waitset *ws;
	struct stack_cx *cx;

	atomic_store(&process.finished, true);
	cx = netio_enter(n);
	for (ref d = pool_next(cx, POOL_DESCRIPTION, REF_NONE); d; d = pool_next(cx, POOL_DESCRIPTION, d))
		drain_close(cx, description_at(cx, d));
	netio_leave(n);
	if (the_config.exit_drain_ms && !thread_waitset(&ws))
		drain_wait(n, ws);
}

void process_drain(void)
{
	static atomic_flag done = ATOMIC_FLAG_INIT;
	int saved_errno = errno, cancel;

	/* A handler of a fatal signal that ends the process from inside the stack holds the lock: leave it.
	 */
	if (atomic_load(&process.forked) || thread_marks.depth || process_is_vfork_child() ||
	    atomic_flag_test_and_set(&done))
		return;
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
	lib_enter();
	if (the_stack) {
		drain(the_stack);
		stats_report(the_stack);
		netio_capture_end(the_stack);
	}
	fallback_report();
	lib_leave();
	pthread_setcancelstate(cancel, NULL);
	errno = saved_errno;
}

void process_hooks(void)
{
	pthread_atfork(before_fork, NULL, process_child);
	(void)at_quick_exit(process_drain);
}
