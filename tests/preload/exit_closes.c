/*
 * exit() in one thread while others close their sockets. The process does this
 * many times, each time as a new program: what ends well is counted. The runner
 * also runs it with UTCP_STATS: exit() then waits for the last bytes, and the
 * others have the time to go on in what it has closed.
 */
#include "peer.h"
#include <spawn.h>
#include <sys/wait.h>

#define RUNS	60
#define CLOSERS 3
#define SOCKETS 24

extern char **environ;
static int fd[CLOSERS][SOCKETS];
static _Atomic int go, closed;

static void *closer(void *arg)
{
	int *mine = arg;

	while (!go)
		;
	for (int i = 0; i < SOCKETS; i++, closed++)
		close(mine[i]);
	return NULL;
}

static int end_while_closing(int turn)
{
	pthread_t t;

	for (int c = 0; c < CLOSERS; c++) {
		for (int i = 0; i < SOCKETS; i++)
			fd[c][i] = peer_connect("s");
		if (pthread_create(&t, NULL, closer, fd[c]) || pthread_detach(t))
			return 1;
	}
	go = 1;
	while (closed < turn) /* so many of the closes come before exit() */
		;
	return 0;
}

int main(int argc, char **argv)
{
	int well = 0, status;
	char turn[12];
	pid_t p;

	if (argc > 1)
		return end_while_closing(atoi(argv[1]));
	for (int i = 0; i < RUNS; i++) {
		snprintf(turn, sizeof turn, "%d", i);
		if (posix_spawn(&p, argv[0], NULL, NULL, (char *[]){argv[0], turn, NULL}, environ) == 0 &&
		    waitpid(p, &status, 0) == p)
			well += status == 0;
	}
	printf("%d of %d ended well\n", well, RUNS);
	return 0;
}
