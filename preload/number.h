/*
 * number.h - the lowest free number, also while one of ours is being born.
 *
 * POSIX promises the lowest number that is free. A descriptor of ours is made by
 * calls that keep the promise too, and only then moved up (netio/fds.c): for some
 * microseconds it holds a low number, when a thread waits in the stack for the
 * first time, for example. A thread that is given a number meanwhile gets one that
 * is higher than it should be. The counts of netio_births tell: ended was loaded
 * before the call, begun after it, and unless they are equal a birth was under way
 * at some moment in between.
 *
 * Not for files on disk, where the open() family is not even intercepted: closing
 * one of two numbers of a file drops the process's record locks on it.
 *
 * Place in the flow: the wrappers of calls that hand numbers out (calls_number.c,
 * calls_socket.c, calls_fd.c, calls_epoll.c, establish.c).
 */
#ifndef PRELOAD_NUMBER_H
#define PRELOAD_NUMBER_H

#include "preload/preload.h"

/* The slow path: wait until no birth is under way, then move fd to the lowest free number >= from. */
int number_lower(int fd, int from);

static inline uint32_t number_mark(void)
{
	return atomic_load(&netio_births.ended);
}

static inline int number_settle(uint32_t mark, int fd, int from)
{
	if (__builtin_expect(atomic_load(&netio_births.begun) == mark, 1) || fd < 0)
		return fd;
	return number_lower(fd, from);
}

/* The same for what pipe() and socketpair() hand out: the first is the lower. */
void number_lower_pair(int pair[2]);

static inline void number_settle_pair(uint32_t mark, int pair[2])
{
	if (__builtin_expect(atomic_load(&netio_births.begun) != mark, 0))
		number_lower_pair(pair);
}

/* The number that `call` hands out, or its negative answer. */
#define NUMBER_FROM(from, call)                                                                              \
	({                                                                                                   \
		uint32_t mark_ = number_mark();                                                              \
		int fd_ = (call);                                                                            \
		number_settle(mark_, fd_, from);                                                             \
	})
#define NUMBER(call) NUMBER_FROM(0, call)

#endif
