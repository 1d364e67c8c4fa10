/*
 * number.c - the slow path of number.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "preload/number.h"
#include "preload/process.h"

/* A birth takes microseconds; whoever left one by longjmp() must not hang the others. */
#define YIELDS_MAX 1000
#define TRIES_MAX  20

/* One try: fd, or a lower number in its place. *alone: no birth of another thread came in between. */
static int lower_once(int fd, int from, bool *alone)
{
	int low, cloexec, spare;
	uint32_t before;

	for (int i = 0;
	     i < YIELDS_MAX && atomic_load(&netio_births.begun) != atomic_load(&netio_births.ended); i++)
		sys.syscall(SYS_sched_yield);
	before = atomic_load(&netio_births.ended);
	netio_births_begin(); /* the copy may itself displace a number */
	cloexec = sys.fcntl(fd, F_GETFD);
	low = sys.fcntl(fd, cloexec & FD_CLOEXEC ? F_DUPFD_CLOEXEC : F_DUPFD, from);
	*alone = atomic_load(&netio_births.begun) == before + 1;
	if (low >= 0) {
		spare = low < fd ? fd : low;
		fd = low < fd ? low : fd;
		sys.syscall(SYS_close, spare);
	}
	netio_births_end();
	return fd;
}

int number_lower(int fd, int from)
{
	int saved_errno = errno;
	bool alone = false;
	struct stat st;

	if (!netio_births_here() && !fstat(fd, &st) && !S_ISREG(st.st_mode))
		for (int i = 0; i < TRIES_MAX && !alone; i++)
			fd = lower_once(fd, from, &alone);
	errno = saved_errno;
	return fd;
}

/* The first was displaced and the second was not: exchange them. */
static void swap_pair(int pair[2])
{
	int cloexec, spare;

	netio_births_begin();
	cloexec = sys.fcntl(pair[0], F_GETFD) & FD_CLOEXEC ? O_CLOEXEC : 0;
	spare = sys.fcntl(pair[0], F_DUPFD_CLOEXEC, pair[0] + 1);
	if (spare >= 0) {
		sys.dup3(pair[1], pair[0], cloexec);
		sys.dup3(spare, pair[1], cloexec);
		sys.syscall(SYS_close, spare);
		spare = pair[0];
		pair[0] = pair[1];
		pair[1] = spare;
	}
	netio_births_end();
}

void number_lower_pair(int pair[2])
{
	int saved_errno = errno;

	pair[0] = number_lower(pair[0], 0);
	pair[1] = number_lower(pair[1], 0);
	if (pair[0] > pair[1] && !netio_births_here())
		swap_pair(pair);
	errno = saved_errno;
}
