/*
 * severed.c - a process that its keeper takes for dead while it lives (keeper.sh).
 *
 * It does by hand what only a fault would do: gives up the record lock that says that it
 * lives (closing any descriptor of the region's file does), and closes its life
 * line, both past the library. One connection is used by no thread, in another one
 * a thread sleeps. Then the other processes of the stack take the places of both.
 *
 * usage: severed ADDRESS PORT FILE   (FILE: made when it has done it; goes on when it is gone)
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "netio/rawsys.h"

#define NUMBERS 4096

static struct sockaddr_in to = {.sin_family = AF_INET};

static int dial(void)
{
	int s = socket(AF_INET, SOCK_STREAM, 0);

	if (s < 0 || connect(s, (struct sockaddr *)&to, sizeof to)) {
		close(s);
		return -1;
	}
	return s;
}

static void say(const char *what, long r)
{
	printf("%s: %s\n", what, r < 0 ? strerrorname_np(errno) : "done");
	fflush(stdout);
}

static void *sleeper(void *arg)
{
	char c;
	long r = recv(*(int *)arg, &c, 1, 0);

	return (void *)(intptr_t)(r < 0 ? errno : 0);
}

/* The region's file, opened once more and closed: POSIX drops every record lock of the process on it. */
static int lock_give_up(void)
{
	char path[64], name[64];
	int found = 0;

	for (int fd = 3; fd < NUMBERS; fd++) {
		snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
		long n = RAW4(SYS_readlinkat, AT_FDCWD, path, name, sizeof name - 1);
		if (n < 0)
			continue;
		name[n] = 0;
		if (strncmp(name, "/memfd:utcp", 11))
			continue;
		long copy = RAW4(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC, 0);
		if (copy >= 0)
			raw_close((int)copy);
		found += copy >= 0;
	}
	return found;
}

/* Of the library's local sockets the life line alone has messages. */
static int line_close(void)
{
	int found = 0;

	for (int fd = 3; fd < NUMBERS; fd++) {
		int type = 0;
		socklen_t len = sizeof type;

		if (RAW6(SYS_getsockopt, fd, SOL_SOCKET, SO_TYPE, &type, &len, 0) || type != SOCK_SEQPACKET)
			continue;
		raw_close(fd);
		found++;
	}
	return found;
}

int main(int argc, char **argv)
{
	static int idle, slept;
	struct epoll_event e = {.events = EPOLLIN};
	void *result;
	pthread_t t;
	char c;

	if (argc != 4)
		return 2;
	inet_pton(AF_INET, argv[1], &to.sin_addr);
	to.sin_port = htons((uint16_t)atoi(argv[2]));
	idle = dial();
	slept = dial();
	int ep = epoll_create1(0);
	if (idle < 0 || slept < 0 || epoll_ctl(ep, EPOLL_CTL_ADD, idle, &e))
		return 3;
	pthread_create(&t, NULL, sleeper, &slept);
	usleep(100000);
	if (lock_give_up() < 1 || line_close() != 1)
		return 4;
	close(open(argv[3], O_CREAT | O_WRONLY, 0600));
	while (access(argv[3], F_OK) == 0)
		usleep(10000);
	say("send", send(idle, "wrong", 5, MSG_NOSIGNAL));
	pthread_join(t, &result);
	errno = (int)(intptr_t)result;
	say("asleep", errno ? -1 : 0);
	say("recv", recv(idle, &c, 1, MSG_DONTWAIT));
	printf("epoll_wait: %d\n", epoll_wait(ep, &e, 1, 0));
	say("dial", dial() < 0 ? -1 : 0);
	pid_t p = fork();
	if (!p) {
		say("child", recv(slept, &c, 1, MSG_DONTWAIT));
		_exit(0);
	}
	waitpid(p, NULL, 0);
	say("shutdown", shutdown(slept, SHUT_RDWR));
	say("close", close(idle));
	close(slept);
	close(ep);
	return 0;
}
