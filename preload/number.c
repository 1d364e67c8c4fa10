/*
 * number.c - the slow path of number.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "preload/number.h"
#include "preload/process.h"

/*
 * A birth takes microseconds, but its thread may be held off its CPU in between.
 * What has not come to rest after a second never does (a thread left by
 * longjmp()): the count is put right, or every later call would wait as long.
 */
#define YIELDS	    100
#define NAP_NS	    (50 * NS_PER_US)
#define PATIENCE_NS NS_PER_S
#define TRIES	    100 /* another birth may begin beside each */

static void births_await(void)
{
	const struct timespec nap = {.tv_nsec = NAP_NS};
	nsec start = netio_now();

	for (unsigned i = 0;; i++) {
		uint32_t ended = atomic_load(&netio_births.ended), begun = atomic_load(&netio_births.begun);

		if (begun == ended)
			return;
		if (i < YIELDS)
			sys.syscall(SYS_sched_yield);
		else if (netio_now() - start < PATIENCE_NS)
			sys.syscall(SYS_nanosleep, &nap, NULL);
		else
			atomic_compare_exchange_strong(&netio_births.ended, &ended, begun);
	}
}

/* One try: the lower of fd and the lowest number there is now. */
static int lower_once(int fd, int from)
{
	int cloexec = sys.fcntl(fd, F_GETFD);
	int low = sys.fcntl(fd, cloexec & FD_CLOEXEC ? F_DUPFD_CLOEXEC : F_DUPFD, from);

	if (low < 0)
		return fd;
	sys.syscall(SYS_close, low < fd ? fd : low);
	return low < fd ? low : fd;
}

int number_lower(int fd, int from)
{
	int saved_errno = errno;
	bool alone = false;
	struct stat st;

	if (netio_births_here() || fstat(fd, &st) || S_ISREG(st.st_mode))
		goto out;
	for (int i = 0; i < TRIES && !alone; i++) {
		uint32_t mark;

		births_await();
		mark = number_mark();
		netio_births_begin(); /* the copy may itself displace a number */
		fd = lower_once(fd, from);
		alone = atomic_load(&netio_births.begun) == mark + 1;
		netio_births_end();
	}
out:
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
