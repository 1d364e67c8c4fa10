/*
 * calls_process.c - wrappers: the ends and beginnings of a process that run no
 * hook of libc's.
 *
 * fork() and what is built on it run pthread_atfork's handlers, exit() and
 * return from main our destructor (process.c); these here run neither.
 */
#include <pthread.h>

#include "preload/calls.h"
#include "preload/process.h"
#include "preload/undecided.h"

/* The stack cannot be made in the handlers: those of other libraries may hold malloc()'s lock by then. */
pid_t fork(void)
{
	undecided_share_all(true, false);
	return REAL(fork)();
}

pid_t _Fork(void)
{
	pid_t pid;

	int saved_errno;

#ifdef __SANITIZE_THREAD__
	return fork(); /* the runtime knows no other, and would take the parent's threads for the child's */
#endif
	process_before_fork();
	pid = REAL(_Fork)();
	saved_errno = errno;
	if (pid)
		process_parent();
	else
		process_child();
	errno = saved_errno;
	return pid;
}

/* What is left of the process ends with its last thread: that must not be one of ours (process.c). */
void pthread_exit(void *value)
{
	process_thread_ends();
	for (;;)
		REAL(pthread_exit)(value);
}

/*
 * A thread that is cancelled in the middle of the stack would leave its lock
 * behind: its wish waits while it is inside, and is real only outside.
 */
int pthread_setcanceltype(int type, int *old)
{
	struct thread_marks *m = &thread_marks;
	int was, r;

	if (m->cancel_put_off) { /* a handler, or what runs at the thread's end */
		was = m->cancel_type;
		r = type == PTHREAD_CANCEL_ASYNCHRONOUS || type == PTHREAD_CANCEL_DEFERRED ? 0 : EINVAL;
	} else {
		r = REAL(pthread_setcanceltype)(type, &was);
		if (!r)
			m->anywhere = type == PTHREAD_CANCEL_ASYNCHRONOUS;
	}
	if (!r) {
		m->cancel_type = (uint8_t)type;
		if (old)
			*old = was;
	}
	return r;
}

void cancel_put_off(void)
{
	if (!thread_marks.cancel_put_off++)
		REAL(pthread_setcanceltype)(PTHREAD_CANCEL_DEFERRED, NULL);
}

void cancel_let_in(void)
{
	struct thread_marks *m = &thread_marks;

	if (!m->cancel_put_off || --m->cancel_put_off)
		return;
	m->anywhere = m->cancel_type == PTHREAD_CANCEL_ASYNCHRONOUS;
	REAL(pthread_setcanceltype)(m->cancel_type, NULL);
}

void _exit(int status)
{
	process_drain();
	for (;;)
		REAL(_exit)(status);
}

void _Exit(int status)
{
	process_drain();
	for (;;)
		REAL(_Exit)(status);
}
