/*
 * count.c - how often a program makes the system calls that cost or that show:
 *     count [LIBRARY-TO-PRELOAD|-] COMMAND...
 * One line `name number` each, and `all`; only the program itself, not its
 * children. The exit status is the program's. Trap 29.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static const struct {
	long nr;
	const char *name;
} calls[] = {{SYS_socket, "socket"},
	     {SYS_clone, "clone"},
	     {SYS_clone3, "clone3"},
	     {SYS_memfd_create, "memfd_create"},
	     {SYS_epoll_create1, "epoll_create1"},
	     {SYS_timerfd_create, "timerfd_create"},
	     {SYS_eventfd2, "eventfd2"},
	     {SYS_rt_sigaction, "rt_sigaction"},
	     {SYS_getpid, "getpid"},
	     {SYS_ioctl, "ioctl"},
	     {SYS_fcntl, "fcntl"},
	     {SYS_read, "read"},
	     {SYS_write, "write"},
	     {SYS_close, "close"},
	     {SYS_openat, "openat"},
	     {SYS_futex, "futex"},
	     {SYS_clock_gettime, "clock_gettime"},
	     {SYS_prctl, "prctl"}};

static long number[sizeof calls / sizeof calls[0]], all;

/* Calls are counted from the execve() on: it is the first one that returns. */
static void take(pid_t p)
{
	struct __ptrace_syscall_info i;

	if (ptrace(PTRACE_GET_SYSCALL_INFO, p, sizeof i, &i) <= 0 || i.op != PTRACE_SYSCALL_INFO_ENTRY)
		return;
	all++;
	for (unsigned k = 0; k < sizeof calls / sizeof calls[0]; k++)
		number[k] += calls[k].nr == (long)i.entry.nr;
}

int main(int argc, char **argv)
{
	int status;
	pid_t p;

	if (argc < 3)
		return 2;
	p = fork();
	if (!p) {
		ptrace(PTRACE_TRACEME, 0, 0, 0);
		raise(SIGSTOP);
		if (strcmp(argv[1], "-"))
			setenv("LD_PRELOAD", argv[1], 1);
		execvp(argv[2], argv + 2);
		_exit(127);
	}
	if (waitpid(p, &status, 0) != p || !WIFSTOPPED(status))
		return 3;
	ptrace(PTRACE_SETOPTIONS, p, 0, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL | PTRACE_O_TRACEEXEC);
	for (int sig = 0;;) {
		ptrace(PTRACE_SYSCALL, p, 0, sig);
		if (waitpid(p, &status, 0) != p || !WIFSTOPPED(status))
			break;
		sig = WSTOPSIG(status);
		if (sig == (SIGTRAP | 0x80))
			take(p);
		if (sig == (SIGTRAP | 0x80) || sig == SIGTRAP)
			sig = 0;
	}
	for (unsigned k = 0; k < sizeof calls / sizeof calls[0]; k++)
		printf("%s %ld\n", calls[k].name, number[k]);
	printf("all %ld\n", all);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 4;
}
