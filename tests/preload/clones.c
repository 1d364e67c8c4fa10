/*
 * Children made by clone() and by system calls of the program's own: they share
 * connections as those of fork() do, also while parent and child are in the stack
 * at the same time, and when one is killed there.
 */
#include <linux/sched.h>
#include <sched.h>
#include <sys/syscall.h>

#include "shared.h"

#define STACK  (256 << 10)
#define ROUNDS 400

struct job {
	int fd, kill;
};

/* Many small exchanges: whoever shares the lock wrongly does not get through. */
static int exchange(int fd)
{
	char b[8];
	int good = 0;

	for (int i = 0; i < ROUNDS; i++)
		good += send(fd, "12345678", 8, 0) == 8 && recv(fd, b, 8, MSG_WAITALL) == 8 &&
			!memcmp(b, "12345678", 8);
	return good;
}

static int child(void *arg)
{
	const struct job *j = arg;
	int good = exchange(j->fd);

	printf("child: %d of %d\n", good, ROUNDS);
	fflush(stdout);
	if (j->kill)
		raise(SIGKILL);
	return good != ROUNDS;
}

static int exec_child(void *arg)
{
	char number[16], *argv[] = {self, number, NULL};
	const struct job *j = arg;

	snprintf(number, sizeof number, "%d", j->fd);
	execv(self, argv);
	_exit(9);
}

enum how { CLONE, FORK, CLONE_CALL, CLONE3 };

static long make(enum how how, struct job *j, char *stack)
{
	struct clone_args a = {.exit_signal = SIGCHLD};
	long p = -1;

	fflush(stdout);
	switch (how) {
	case CLONE:
		return clone(child, stack + STACK, SIGCHLD, j);
	case FORK:
#ifdef SYS_fork
		p = syscall(SYS_fork);
		break;
#endif
	case CLONE_CALL:
		p = syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);
		break;
	case CLONE3:
		p = syscall(SYS_clone3, &a, sizeof a);
	}
	if (!p)
		_exit(child(j));
	return p;
}

/* Both work at the same time, on connections of their own and with a third in common. */
static void side_by_side(const char *what, enum how how, int kill, char *stack)
{
	int ask[3], c[3];
	struct job j;
	long p;

	for (int i = 0; i < 3; i++)
		c[i] = called("e", &ask[i]);
	j = (struct job){c[1], kill};
	puts(what);
	errno = ELOOP;
	p = make(how, &j, stack);
	printf("errno %s\n", errno == ELOOP ? "kept" : result_text(-1));
	close(c[1]);
	int good = exchange(c[0]);
	ended(what, p);
	printf("parent: %d of %d\n", good, ROUNDS);
	peer_sees("the child's", ask[1], 3000);
	say("parent", c[2], "in common");
	peer_sees("in common", ask[2], 50);
	close(c[0]);
	close(c[2]);
	for (int i = 0; i < 3; i++)
		close(ask[i]);
}

static void in_one_memory(char *stack)
{
	int ask, c = called("e", &ask);
	struct job j = {c, 0};
	long p;

	fflush(stdout);
	p = clone(exec_child, stack + STACK, CLONE_VM | CLONE_VFORK | SIGCHLD, &j);
	close(c);
	ended("exec in the parent's memory", p);
	peer_sees("exec", ask, 3000);
	close(ask);
}

static int nothing(void *arg)
{
	return *(int *)arg;
}

/* Numbers in common: a child that leaves them alone. */
static void one_table(char *stack)
{
	int ask, c = called("e", &ask), seven = 7;

	fflush(stdout);
	ended("one table", clone(nothing, stack + STACK, CLONE_FILES | SIGCHLD, &seven));
	say("parent", c, "unharmed");
	close(c);
	peer_sees("one table", ask, 3000);
	close(ask);
}

int main(int argc, char **argv)
{
	char *stack = malloc(STACK);

	if (argc > 1)
		return say("exec'd", atoi(argv[1]), "another image");
	if (!stack)
		return 1;
	shared_begin();
	side_by_side("clone()", CLONE, 0, stack);
	side_by_side("fork", FORK, 0, stack);
	side_by_side("clone", CLONE_CALL, 0, stack);
	side_by_side("clone3", CLONE3, 0, stack);
	side_by_side("killed", CLONE, 1, stack);
	in_one_memory(stack);
	one_table(stack);
	printf("bad arguments: %s\n", result_text(syscall(SYS_clone3, NULL, 64)));
	free(stack);
	return 0;
}

/* The leak checker cannot stop threads that a forked child does not have. */
#include "noleaks.h"
