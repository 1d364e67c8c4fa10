/*
 * inside.h - the peers of this folder as threads of the program under test.
 *
 * Over the stack's own loopback both ends must be in one process. Compiled with
 * -DINSIDE, both_peer.c and peer.c are shared objects that are preloaded behind
 * libutcp.so: a constructor opens the server's socket, and a thread with every
 * signal blocked serves. Their descriptors are moved out of the way, so that the
 * program finds the numbers free that it expects.
 */
#ifndef TESTS_PRELOAD_INSIDE_H
#define TESTS_PRELOAD_INSIDE_H

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#ifdef INSIDE
#define INSIDE_FROM 910 /* above what a program's close_range() sweeps, below the usual limit */
#define STATE	    static __thread

__attribute__((unused)) static int aside(int fd)
{
	int to = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, INSIDE_FROM);

	if (to < 0)
		return fd;
	close(fd);
	return to;
}

__attribute__((unused)) static void inside_thread(void *(*run)(void *), void *arg)
{
	sigset_t all, old;
	pthread_t t;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	if (!pthread_create(&t, NULL, run, arg))
		pthread_detach(t);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
}
#else
#define STATE	  static
#define aside(fd) (fd)
#endif

#endif
