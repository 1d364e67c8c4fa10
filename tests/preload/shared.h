/*
 * shared.h - what the tests have in common in which several processes hold one connection: by fork(),
 * clone(), exec(), posix_spawn() or in messages.
 *
 * called() makes a pair of ends that tells when the last holder has gone, say() shows that a holder's end
 * works, give() and take() are SCM_RIGHTS, ended() waits for a child and prints how it went.
 */
#ifndef TEST_SHARED_H
#define TEST_SHARED_H

#include <spawn.h>
#include <stdbool.h>
#include <sys/wait.h>

#include "peer.h"

extern char **environ;

__attribute__((unused)) static int listener, port;
__attribute__((unused)) static char self[256];

/* For called(), and for who runs this program again. */
__attribute__((unused)) static void shared_begin(void)
{
	self[readlink("/proc/self/exe", self, sizeof self - 1)] = 0;
	listener = listen_any(&port);
	fcntl(listener, F_SETFD, FD_CLOEXEC);
}

/* Whether the programs that this one becomes or starts get the descriptor. */
__attribute__((unused)) static void keep(int fd, bool on)
{
	fcntl(fd, F_SETFD, on ? 0 : FD_CLOEXEC);
}

/* A connection that the peer made to us, and the asking one: it ends when the peer saw the end of the first.
 */
__attribute__((unused)) static int called(const char *script, int *ask)
{
	*ask = peer_call_back(port, script);
	keep(*ask, false);
	return accept(listener, NULL, NULL);
}

/* The peer's end: 0 (FIN), a reset, or nothing within a while. */
__attribute__((unused)) static void peer_sees(const char *what, int ask, int ms)
{
	struct pollfd p = {.fd = ask, .events = POLLIN};
	char b;

	if (poll(&p, 1, ms) == 0)
		printf("%s: the peer sees nothing\n", what);
	else
		printf("%s: the peer sees the end: %s\n", what, result_text(recv(ask, &b, 1, 0)));
	fflush(stdout);
}

/* Some words to a peer that sends them back. */
__attribute__((unused)) static int say(const char *who, int fd, const char *text)
{
	char b[32] = "";
	long n = send(fd, text, strlen(text), MSG_NOSIGNAL);

	printf("%s: sent %s", who, result_text(n));
	n = recv(fd, b, strlen(text), MSG_WAITALL);
	printf(", received %s '%s'\n", result_text(n), b);
	fflush(stdout);
	return n == (long)strlen(text) ? 0 : 1;
}

/* fork(), and what was printed is printed once. */
__attribute__((unused)) static pid_t begin(void)
{
	fflush(stdout);
	return fork();
}

__attribute__((unused)) static void ended(const char *what, long p)
{
	int status = 0;

	while (waitpid((pid_t)p, &status, __WALL) < 0 && errno == EINTR)
		;
	printf("%s: child %s %d\n", what, WIFSIGNALED(status) ? "killed by" : "status",
	       WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
	fflush(stdout);
}

/* ------------------------------------------------------------ messages */

#define FDS 8

__attribute__((unused)) static void message(struct msghdr *m, struct iovec *iov, char *byte, char *control,
					    const int *fd, int n)
{
	struct cmsghdr *c = (struct cmsghdr *)(void *)control;

	*iov = (struct iovec){byte, 1};
	*m = (struct msghdr){.msg_iov = iov, .msg_iovlen = 1};
	if (!n)
		return;
	m->msg_control = control;
	m->msg_controllen = CMSG_SPACE((size_t)n * sizeof(int));
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN((size_t)n * sizeof(int));
	memcpy(CMSG_DATA(c), fd, (size_t)n * sizeof(int));
}

__attribute__((unused)) static long give(int to, char byte, const int *fd, int n)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(FDS * sizeof(int))] = {0};
	struct msghdr m;
	struct iovec iov;

	message(&m, &iov, &byte, control, fd, n);
	return sendmsg(to, &m, MSG_NOSIGNAL);
}

/* How many numbers came; those that did not are -1. */
__attribute__((unused)) static int take(int from, char *byte, int *fd, int room, int flags, int *got_flags)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(FDS * sizeof(int))];
	struct iovec iov = {byte, 1};
	struct msghdr m = {.msg_iov = &iov,
			   .msg_iovlen = 1,
			   .msg_control = control,
			   .msg_controllen = CMSG_LEN((size_t)room * sizeof(int))};
	struct cmsghdr *c;
	int n = 0;

	for (int i = 0; i < FDS; i++)
		fd[i] = -1;
	if (recvmsg(from, &m, flags) != 1)
		return -1;
	c = CMSG_FIRSTHDR(&m);
	if (c && c->cmsg_type == SCM_RIGHTS) {
		n = (int)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
		memcpy(fd, CMSG_DATA(c), (size_t)n * sizeof(int));
	}
	if (got_flags)
		*got_flags = m.msg_flags;
	return n;
}

/* This program once more, as `other`, with nothing of ours but a line. */
__attribute__((unused)) static pid_t other_start(int *to)
{
	char number[16], *argv[] = {self, "other", number, NULL};
	pid_t p = -1;
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair))
		exit(1);
	fcntl(pair[0], F_SETFD, FD_CLOEXEC);
	snprintf(number, sizeof number, "%d", pair[1]);
	fflush(stdout);
	if (posix_spawn(&p, self, NULL, NULL, argv, environ))
		exit(1);
	close(pair[1]);
	*to = pair[0];
	return p;
}

#endif
