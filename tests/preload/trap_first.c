/*
 * The library's first sight of a process can be any call: each here is the first
 * one of a program of its own that has no socket (and no shell did it before,
 * either). Nothing may have to be set up for it.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static char b[4] = "abc";
static struct iovec iov = {b, 1};
static struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
static struct mmsghdr mmsg = {.msg_hdr = {.msg_iov = &iov, .msg_iovlen = 1}};
static struct timespec now;
static struct epoll_event ev;
static struct rlimit limit = {64, 64};
static struct rlimit64 limit64 = {64, 64};
static char *true_argv[] = {"true", NULL};

static int spawned(int (*spawn)(pid_t *, const char *, const posix_spawn_file_actions_t *,
				const posix_spawnattr_t *, char *const *, char *const *))
{
	pid_t pid;
	int status = -1, r = spawn(&pid, "/bin/true", NULL, NULL, true_argv, environ);

	return r ? r : waitpid(pid, &status, 0) == pid ? status : -1;
}

static int vforked(void)
{
	int status = -1;
	pid_t pid = vfork();

	if (pid == 0)
		_exit(dup2(1, 5) == 5 ? 3 : 4);
	return waitpid(pid, &status, 0) == pid ? status : -1;
}

static int piped(void)
{
	FILE *f = popen("true", "r");
	return f ? pclose(f) : -1;
}

static int handled(void)
{
	struct sigaction sa = {.sa_handler = SIG_IGN};
	return sigaction(SIGUSR1, &sa, NULL);
}

static int polled(void)
{
	struct pollfd p = {.fd = 1000};
	return poll(&p, 1, 0) + ppoll(&p, 1, &now, NULL);
}

/* X(name, expression): its result and errno are compared. */
#define CALLS(X)                                                                                             \
	X(dup, dup(1) > 2)                                                                                   \
	X(dup2, dup2(1, 5))                                                                                  \
	X(dup2_same, dup2(1, 1))                                                                             \
	X(dup2_bad, dup2(1000, 5))                                                                           \
	X(dup3, dup3(1, 5, O_CLOEXEC))                                                                       \
	X(dup3_flags, dup3(1, 5, 1))                                                                         \
	X(close, close(1000))                                                                                \
	X(close_range, close_range(100, 200, 0))                                                             \
	X(closefrom, (closefrom(100), 0))                                                                    \
	X(fcntl, fcntl(1000, F_GETFL))                                                                       \
	X(fcntl_dupfd, fcntl(1, F_DUPFD, 50))                                                                \
	X(ioctl, ioctl(1000, FIONREAD, b))                                                                   \
	X(read, read(1000, b, 1))                                                                            \
	X(write, write(1000, b, 1))                                                                          \
	X(readv, readv(1000, &iov, 1))                                                                       \
	X(writev, writev(1000, &iov, 1))                                                                     \
	X(recv, recv(1000, b, 1, 0))                                                                         \
	X(send, send(1000, b, 1, 0))                                                                         \
	X(recvfrom, recvfrom(1000, b, 1, 0, NULL, NULL))                                                     \
	X(sendto, sendto(1000, b, 1, 0, NULL, 0))                                                            \
	X(recvmsg, recvmsg(1000, &msg, 0))                                                                   \
	X(sendmsg, sendmsg(1000, &msg, 0))                                                                   \
	X(recvmmsg, recvmmsg(1000, &mmsg, 1, 0, NULL))                                                       \
	X(sendmmsg, sendmmsg(1000, &mmsg, 1, 0))                                                             \
	X(sendfile, sendfile(1000, 1001, NULL, 1))                                                           \
	X(splice, splice(1000, NULL, 1001, NULL, 1, 0))                                                      \
	X(bind, bind(1000, NULL, 0))                                                                         \
	X(listen, listen(1000, 1))                                                                           \
	X(accept, accept(1000, NULL, NULL))                                                                  \
	X(accept4, accept4(1000, NULL, NULL, 0))                                                             \
	X(connect, connect(1000, NULL, 0))                                                                   \
	X(shutdown, shutdown(1000, SHUT_RD))                                                                 \
	X(getsockopt, getsockopt(1000, SOL_SOCKET, SO_TYPE, b, &(socklen_t){4}))                             \
	X(setsockopt, setsockopt(1000, SOL_SOCKET, SO_KEEPALIVE, b, 4))                                      \
	X(getsockname, getsockname(1000, NULL, NULL))                                                        \
	X(getpeername, getpeername(1000, NULL, NULL))                                                        \
	X(poll, polled())                                                                                    \
	X(select, select(0, NULL, NULL, NULL, &(struct timeval){0, 0}))                                      \
	X(pselect, pselect(0, NULL, NULL, NULL, &now, NULL))                                                 \
	X(epoll_create1, epoll_create1(0) > 2)                                                               \
	X(epoll_ctl, epoll_ctl(1000, EPOLL_CTL_ADD, 0, &ev))                                                 \
	X(epoll_wait, epoll_wait(1000, &ev, 1, 0))                                                           \
	X(epoll_pwait, epoll_pwait(1000, &ev, 1, 0, NULL))                                                   \
	X(epoll_pwait2, epoll_pwait2(1000, &ev, 1, &now, NULL))                                              \
	X(syscall_close, syscall(SYS_close, 1000))                                                           \
	X(syscall_dup2, syscall(SYS_dup3, 1, 5, 0))                                                          \
	X(sigaction, handled())                                                                              \
	X(signal, signal(SIGUSR1, SIG_IGN) == SIG_DFL)                                                       \
	X(posix_spawn, spawned(posix_spawn))                                                                 \
	X(posix_spawnp, spawned(posix_spawnp))                                                               \
	X(system, system("true"))                                                                            \
	X(popen, piped())                                                                                    \
	X(vfork, vforked())                                                                                  \
	X(fdopen, fdopen(1000, "r") != NULL)                                                                 \
	X(dprintf, dprintf(1000, "x"))                                                                       \
	X(execv, execv("/nowhere", true_argv))                                                               \
	X(execvp, execvp("/nowhere", true_argv))                                                             \
	X(execl, execl("/nowhere", "nowhere", (char *)NULL))                                                 \
	X(setuid, setuid(getuid()))                                                                          \
	X(setrlimit, setrlimit(RLIMIT_NOFILE, &limit))                                                       \
	X(setrlimit64, setrlimit64(RLIMIT_NOFILE, &limit64))                                                 \
	X(prlimit, prlimit(0, RLIMIT_NOFILE, &limit, NULL))                                                  \
	X(prlimit64, prlimit64(0, RLIMIT_NOFILE, &limit64, NULL))                                            \
	X(udp, socket(AF_INET, SOCK_DGRAM, 0) > 2)                                                           \
	X(tcp, socket(AF_INET, SOCK_STREAM, 0) > 2)

static int first(const char *name)
{
	long r = -2;

	errno = 0;
#define X(id, expression)                                                                                    \
	if (strcmp(name, #id) == 0)                                                                          \
		r = (long)(expression);
	CALLS(X)
#undef X
	int e = errno;
	return printf("%s: %ld %s\n", name, r, strerrorname_np(e)) < 0;
}

/* glibc's dprintf() on a number that is none leaves its buffer behind. */
#include "noleaks.h"

int main(int argc, char **argv)
{
	static const char *const names[] = {
#define X(id, expression) #id,
	    CALLS(X)
#undef X
	};

	if (argc > 1)
		return first(argv[1]);
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		int status;
		pid_t pid = (pid_t)syscall(SYS_fork);

		if (pid == 0) {
			syscall(SYS_execve, "/proc/self/exe", (char *[]){argv[0], (char *)names[i], NULL},
				environ);
			_exit(1);
		}
		if (syscall(SYS_wait4, pid, &status, 0, NULL) != pid || status)
			printf("%s: status %x\n", names[i], status);
		fflush(stdout);
	}
	return 0;
}
