/*
 * calls_process.c - wrappers: the ends and beginnings of a process that run no
 * hook of libc's.
 *
 * fork() and what is built on it run pthread_atfork's handlers, exit() and
 * return from main our destructor (process.c); these here run neither.
 */
#include "preload/calls.h"
#include "preload/process.h"

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
