/*
 * Many threads pass connections to other programs and close them at once, while
 * others spawn, fork and throw messages away: each connection is served once by
 * whoever got it, and every peer sees its end.
 */
#include <spawn.h>
#include <stdatomic.h>

#include "shared.h"

#define THREADS 4
#define ROUNDS	24

static int good[THREADS], ends[THREADS];

/* The other program: one exchange on each connection that comes. */
static int other(int from)
{
	int fd[FDS];
	char what;

	while (take(from, &what, fd, 1, MSG_CMSG_CLOEXEC, NULL) == 1) {
		char b[8] = "";
		int ok = send(fd[0], "storm", 5, MSG_NOSIGNAL) == 5 && recv(fd[0], b, 5, MSG_WAITALL) == 5 &&
			 !strcmp(b, "storm");

		close(fd[0]);
		if (send(from, ok ? "y" : "n", 1, MSG_NOSIGNAL) != 1)
			return 1;
	}
	return 0;
}

static pid_t another_start(int *to)
{
	char number[16], *argv[] = {self, number, NULL};
	pid_t p = -1;
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
		exit(1);
	snprintf(number, sizeof number, "%d", pair[1]);
	posix_spawn_file_actions_t fa;
	posix_spawn_file_actions_init(&fa);
	posix_spawn_file_actions_adddup2(&fa, pair[1], pair[1]);
	if (posix_spawn(&p, self, &fa, NULL, argv, environ))
		exit(1);
	posix_spawn_file_actions_destroy(&fa);
	close(pair[1]);
	*to = pair[0];
	return p;
}

/* The peer closes when it has seen the end: then the connection is gone everywhere. */
static int peer_ended(int ask)
{
	struct pollfd p = {.fd = ask, .events = POLLIN};
	char b;

	return poll(&p, 1, 5000) == 1 && recv(ask, &b, 1, 0) == 0;
}

static void *passes(void *arg)
{
	int i = (int)(intptr_t)arg, l, port, to, status;
	pid_t p = another_start(&to);

	l = listen_any(&port);
	fcntl(l, F_SETFD, FD_CLOEXEC);
	for (int k = 0; k < ROUNDS; k++) {
		int ask = peer_call_back(port, "e"), c = accept4(l, NULL, NULL, SOCK_CLOEXEC), pair[2];
		char b = 'n';

		fcntl(ask, F_SETFD, FD_CLOEXEC);
		if (k % 4 == 3) { /* thrown away */
			if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) ||
			    give(pair[0], 'x', &c, 1) != 1)
				exit(1);
			close(c);
			close(pair[k % 8 == 3]);
			close(pair[k % 8 != 3]);
			good[i]++;
		} else {
			if (give(to, 'x', &c, 1) != 1)
				exit(1);
			close(c);
			if (recv(to, &b, 1, 0) == 1 && b == 'y')
				good[i]++;
		}
		ends[i] += peer_ended(ask);
		close(ask);
	}
	close(l);
	close(to);
	while (waitpid(p, &status, 0) < 0 && errno == EINTR)
		;
	return (void *)(intptr_t)status;
}

static atomic_int over;

static void *children(void *arg)
{
	char *argv[] = {(char *)(uintptr_t) "true", NULL};
	int status;
	pid_t p;

	while (!over) {
		if (posix_spawn(&p, "/bin/true", NULL, NULL, argv, environ) || waitpid(p, &status, 0) != p)
			exit(1);
#ifndef __SANITIZE_THREAD__ /* which does not live through fork() */
		p = fork();
		if (!p)
			_exit(0);
		waitpid(p, &status, 0);
#endif
	}
	return arg;
}

int main(int argc, char **argv)
{
	pthread_t t[THREADS], storm;

	if (argc > 1)
		return other(atoi(argv[1]));
	if (readlink("/proc/self/exe", self, sizeof self - 1) < 0)
		return 1;
	pthread_create(&storm, NULL, children, NULL);
	for (int i = 0; i < THREADS; i++)
		pthread_create(&t[i], NULL, passes, (void *)(intptr_t)i);
	for (int i = 0; i < THREADS; i++) {
		void *status;

		pthread_join(t[i], &status);
		printf("thread: %d of %d good, %d ends, the other's status %ld\n", good[i], ROUNDS, ends[i],
		       (long)(intptr_t)status);
	}
	over = 1;
	pthread_join(storm, NULL);
	return 0;
}

/* The leak checker cannot stop threads that a forked child does not have. */
#include "noleaks.h"
