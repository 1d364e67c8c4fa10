/*
 * kernel_only.c - a program that never makes a TCP socket: files, pipes, UDP,
 * AF_UNIX, poll, select, threads, a child. With the library preloaded it makes
 * exactly the calls that it makes without. Trap 29.
 */
#include "../peer.h"
#include <sys/select.h>
#include <sys/wait.h>

static void *thread(void *arg)
{
	return arg;
}

int main(void)
{
	int p[2], sv[2], u = socket(AF_INET, SOCK_DGRAM, 0), f = open("/dev/null", O_RDWR), status;
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof a;
	struct pollfd pfd;
	pthread_t t;
	fd_set r;
	char b[64];

	if (pipe(p) || socketpair(AF_UNIX, SOCK_STREAM, 0, sv) || bind(u, (struct sockaddr *)&a, sizeof a) ||
	    getsockname(u, (struct sockaddr *)&a, &len))
		return 1;
	for (int i = 0; i < 200; i++) {
		if (write(p[1], "x", 1) != 1 || send(sv[0], "y", 1, 0) != 1 ||
		    sendto(u, "z", 1, 0, (struct sockaddr *)&a, sizeof a) != 1)
			return 1;
		pfd = (struct pollfd){.fd = p[0], .events = POLLIN};
		FD_ZERO(&r);
		FD_SET(u, &r);
		if (poll(&pfd, 1, -1) != 1 || select(u + 1, &r, NULL, NULL, NULL) != 1 ||
		    read(p[0], b, sizeof b) != 1 || recv(sv[1], b, 1, 0) != 1 ||
		    recvfrom(u, b, sizeof b, 0, NULL, NULL) != 1)
			return 1;
		close(dup(f));
		fcntl(f, F_GETFL);
	}
	handle(SIGUSR1, SIG_IGN, 0);
	pthread_create(&t, NULL, thread, NULL);
	pthread_join(t, NULL);
	pid_t c = fork();
	if (!c)
		_exit(0);
	waitpid(c, &status, 0);
	return 0;
}
