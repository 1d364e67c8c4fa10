/*
 * count.c - what a command does, exactly: its instructions in user space, one by one, and its system calls.
 *
 *     count [-p LIBRARY] COMMAND...
 *
 * Runs the command twice under ptrace, with LIBRARY preloaded if one is given: stepping, then from system
 * call to system call. Prints "INSTRUCTIONS CALLS". For small commands of one process and one thread: a step
 * takes some microseconds. A clock's figures depend on the machine's mood; these do not.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

static void fail(const char *what)
{
	fprintf(stderr, "count: %s: %s\n", what, strerror(errno));
	exit(1);
}

static pid_t start(const char *library, char **command)
{
	pid_t p = fork();

	if (p < 0)
		fail("fork");
	if (p)
		return p;
	close(1); /* what it says is not asked for */
	open("/dev/null", O_WRONLY);
	personality(ADDR_NO_RANDOMIZE); /* the same addresses, so the same instructions */
	if (library ? setenv("LD_PRELOAD", library, 1) : unsetenv("LD_PRELOAD"))
		fail("LD_PRELOAD");
	if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0)
		fail("ptrace");
	execvp(command[0], command);
	fail(command[0]);
	return -1;
}

static bool marked;

/* Goes on by `request` to the next stop; its signal, or 0 when the command has ended well. */
static int next_stop(pid_t p, int request, int pass)
{
	int status;

	if (request >= 0 && ptrace((enum __ptrace_request)request, p, NULL, (void *)(long)pass) < 0)
		fail("ptrace");
	if (waitpid(p, &status, 0) < 0)
		fail("waitpid");
	if (WIFSTOPPED(status))
		return WSTOPSIG(status);
	if (!WIFEXITED(status) || WEXITSTATUS(status)) {
		fprintf(stderr, "count: the command failed\n");
		exit(1);
	}
	return 0;
}

/* How often the command stopped `by` this on its way. It begins stopped, after its exec. */
static long stops(pid_t p, int request, int by)
{
	bool counting = !marked;
	long n = 0;
	int sig = next_stop(p, -1, 0), pass = 0;

	ptrace(PTRACE_SETOPTIONS, p, NULL, (void *)(PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL));
	while (sig) {
		sig = next_stop(p, counting ? request : PTRACE_CONT, pass);
		if (marked && sig == SIGSTOP)
			counting = !counting;
		pass = sig == by || sig == SIGSTOP ? 0 : sig;
		n += counting && sig == by;
	}
	return n;
}

int main(int argc, char **argv)
{
	const char *library = NULL;
	bool calls_only = false;
	int o;

	while ((o = getopt(argc, argv, "+cmp:")) != -1) {
		if (o == 'm')
			marked = true;
		else if (o == 'c')
			calls_only = true;
		else if (o == 'p')
			library = optarg;
		else
			optind = argc;
	}
	argv += optind;
	if (!*argv) {
		fprintf(stderr, "usage: count [-c] [-m] [-p LIBRARY] COMMAND...\n");
		return 2;
	}
	if (!calls_only)
		printf("%ld ", stops(start(library, argv), PTRACE_SINGLESTEP, SIGTRAP));
	fflush(stdout);
	/* Each stops twice; the last of a command, exit_group(), once. */
	printf("%ld\n", (stops(start(library, argv), PTRACE_SYSCALL, SIGTRAP | 0x80) + 1) / 2);
	return 0;
}
