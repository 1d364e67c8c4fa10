/*
 * asleep.h - a thread that is known to sleep in its call before something is done to it.
 *
 * /proc says where a thread is: the system call, its arguments, the stack pointer. The same line a few
 * looks in a row is a thread that sleeps there; a busy machine makes that later, never wrong. A futex is
 * no such place: there it waits for a lock, and goes on to its call.
 */
#ifndef TESTS_ASLEEP_H
#define TESTS_ASLEEP_H

#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define ASLEEP_LOOKS 10

/* Where the thread is, or "" once it is gone. */
static inline void asleep_look(pid_t tid, char *line, size_t size)
{
	char path[64];
	int fd;
	ssize_t n;

	snprintf(path, sizeof path, "/proc/self/task/%d/syscall", tid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? 0 : read(fd, line, size - 1);
	if (fd >= 0)
		close(fd);
	line[n > 0 ? n : 0] = 0;
}

/* "running", or "-1 ..." where it waits for memory. */
static inline bool asleep_awake(const char *line)
{
	long call = strtol(line, NULL, 10);

	return line[0] < '0' || line[0] > '9' || call == SYS_futex;
}

/* Until the thread sleeps in a call, or has ended. */
static inline void until_asleep(pid_t tid)
{
	char before[256] = "", now[256];
	struct timespec ms = {0, 1000000};

	for (int calm = 0; calm < ASLEEP_LOOKS; nanosleep(&ms, NULL)) {
		asleep_look(tid, now, sizeof now);
		if (!now[0])
			return;
		calm = asleep_awake(now) || strcmp(now, before) != 0 ? 0 : calm + 1;
		memcpy(before, now, sizeof before);
	}
}

struct asleep_start {
	void *(*run)(void *);
	void *arg;
	_Atomic pid_t tid;
};

static inline void *asleep_run(void *arg)
{
	struct asleep_start *s = arg, start = {.run = s->run, .arg = s->arg};

	s->tid = (pid_t)syscall(SYS_gettid);
	return start.run(start.arg);
}

/* pthread_create(), and the thread sleeps in what it calls (or is done with it). */
__attribute__((unused)) static pthread_t asleep_create(void *(*run)(void *), void *arg)
{
	struct asleep_start s = {.run = run, .arg = arg};
	struct timespec ms = {0, 1000000};
	pthread_t t;

	if (pthread_create(&t, NULL, asleep_run, &s)) {
		perror("asleep_create");
		exit(1);
	}
	while (!s.tid)
		nanosleep(&ms, NULL);
	until_asleep(s.tid);
	return t;
}

#endif
