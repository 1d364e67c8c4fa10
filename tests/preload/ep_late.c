/*
 * poll(), select(), an outer set and epoll_wait() sleep over a set while its first stack member
 * arrives: they wake when that becomes ready, also if the process had no stack
 * socket at all when they went to sleep.
 */
#include "../asleep.h"
#include "peer.h"
#include <sys/select.h>
#include <sys/wait.h>

enum { POLL, PPOLL, POLL_MIXED, SELECT, PSELECT, OUTER, OUTER_POLLED, ITSELF, HOWS };
static const char *const names[] = {"poll",    "ppoll",	    "poll with a pipe",	    "select",
				    "pselect", "outer set", "poll of an outer set", "epoll_wait"};
static int inner, outer, pipe_fd[2];

static void *sleeper(void *arg)
{
	struct pollfd p[2] = {{.fd = inner, .events = POLLIN}, {.fd = pipe_fd[0], .events = POLLIN}};
	const struct timespec ten = {10, 0};
	struct timeval tv = {10, 0};
	struct epoll_event e;
	fd_set r;

	FD_ZERO(&r);
	FD_SET(inner, &r);
	switch ((long)arg) {
	case POLL:
		return (void *)(long)poll(p, 1, 10000);
	case PPOLL:
		return (void *)(long)ppoll(p, 1, &ten, NULL);
	case POLL_MIXED:
		return (void *)(long)poll(p, 2, 10000);
	case SELECT:
		return (void *)(long)select(inner + 1, &r, NULL, NULL, &tv);
	case PSELECT:
		return (void *)(long)pselect(inner + 1, &r, NULL, NULL, &ten, NULL);
	case ITSELF:
		return (void *)(long)epoll_wait(inner, &e, 1, 10000);
	case OUTER:
		return (void *)(long)epoll_wait(outer, &e, 1, 10000);
	default:
		p[0].fd = outer;
		return (void *)(long)poll(p, 1, 10000);
	}
}

static void one(long how)
{
	pthread_t t;
	void *r;
	int fd;

	inner = epoll_create1(0);
	outer = epoll_create1(0);
	if (how == OUTER || how == OUTER_POLLED)
		ep_add(outer, inner, EPOLLIN, 1);
	t = asleep_create(sleeper, (void *)how);
	fd = peer_connect("d100 wx s");
	ep_add(inner, fd, EPOLLIN, 2);
	pthread_join(t, &r);
	printf("%s: %ld\n", names[how], (long)r);
	ep_show("the set", inner, 8, 0);
	close(fd);
	close(inner);
	close(outer);
}

int main(void)
{
	if (pipe(pipe_fd))
		return 1;
	/* Twice: only the first call of a process meets one without a stack. */
	pid_t p = fork();
	if (!p) {
		one(ITSELF);
		fflush(stdout);
		_exit(0);
	}
	waitpid(p, NULL, 0);
	for (long how = 0; how < HOWS; how++)
		one(how);
	return 0;
}
