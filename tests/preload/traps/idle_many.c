/*
 * idle_many.c CONNECTIONS - some traffic on each connection, a listener, an epoll set that holds them all,
 * and four processes that share the stack and wait: in epoll_wait() over the set, in accept(), in poll() over
 * all connections with a kernel pipe among them, in recv(). Each prints its number as /proc knows it and
 * waits for ever, so that the script can count the wake-ups of all threads. Trap 19.
 */
#include <sys/prctl.h>

#include "../peer.h"

static int listener, count, ep, *fd;

static void tell(void)
{
	char self[32] = "";

	if (readlink("/proc/self", self, sizeof self - 1) < 0)
		_exit(3);
	dprintf(1, "%s\n", self);
}

static void wait_in_poll(void)
{
	struct pollfd *p = calloc((size_t)count + 1, sizeof *p);
	int pair[2];

	if (pipe(pair))
		_exit(4);
	for (int i = 0; i < count; i++)
		p[i] = (struct pollfd){.fd = fd[i], .events = POLLIN};
	p[count] = (struct pollfd){.fd = pair[0], .events = POLLIN};
	poll(p, (nfds_t)count + 1, -1);
}

static void wait_as(int process)
{
	struct epoll_event e;
	char c;

	tell();
	switch (process) {
	case 0:
		epoll_wait(ep, &e, 1, -1);
		break;
	case 1:
		accept(listener, NULL, NULL);
		break;
	case 2:
		wait_in_poll();
		break;
	default:
		recv(fd[0], &c, 1, 0);
	}
	dprintf(1, "process %d woke up\n", process);
}

int main(int argc, char **argv)
{
	int port;
	char b[4];

	count = argc > 1 ? atoi(argv[1]) : 100;
	fd = calloc((size_t)count, sizeof *fd);
	listener = listen_any(&port);
	ep = epoll_create1(0);
	ep_add(ep, listener, EPOLLIN, 1);
	for (int i = 0; i < count; i++) {
		fd[i] = peer_connect("e");
		if (send(fd[i], "ping", 4, 0) != 4 || recv(fd[i], b, 4, MSG_WAITALL) != 4)
			return 1;
		ep_add(ep, fd[i], EPOLLIN, 2);
	}
	for (int process = 1; process < 4; process++) {
		if (fork())
			continue;
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		wait_as(process);
		_exit(0);
	}
	wait_as(0);
	return 0;
}
