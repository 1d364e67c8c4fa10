/*
 * exec_storm HOW ROUNDS - connections to a child, on most of which a thread each writes without a pause; so
 * many times one thread executes this program anew (HOW is exec) or a child with such threads ends in the
 * midst of it (HOW is exit, quick or _exit). The child says what became of each connection.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define THREADS 3
#define ALL	(THREADS + 1) /* the last one is for one byte there and back */

static int fds[ALL];

static void connect_all(int *other)
{
	struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof sa;
	int l = socket(AF_INET, SOCK_STREAM, 0);

	if (bind(l, (struct sockaddr *)&sa, len) || listen(l, ALL) ||
	    getsockname(l, (struct sockaddr *)&sa, &len))
		exit(10);
	for (int i = 0; i < ALL; i++) {
		fds[i] = socket(AF_INET, SOCK_STREAM, 0);
		if (connect(fds[i], (struct sockaddr *)&sa, len) || (other[i] = accept(l, NULL, NULL)) < 0)
			exit(11);
	}
	close(l);
}

/* Reads all, answers on the last, until each has ended. */
static int partner(int *other)
{
	struct pollfd p[ALL];
	char bytes[4096];
	int left = ALL, bad = 0;

	for (int i = 0; i < ALL; i++)
		p[i] = (struct pollfd){.fd = other[i], .events = POLLIN};
	while (left) {
		if (poll(p, ALL, -1) < 0)
			return 12;
		for (int i = 0; i < ALL; i++) {
			if (p[i].fd < 0 || !p[i].revents)
				continue;
			ssize_t n = read(p[i].fd, bytes, sizeof bytes);

			if (n > 0 && i == THREADS && write(p[i].fd, bytes, (size_t)n) != n)
				n = -1;
			if (n > 0)
				continue;
			if (n < 0) {
				dprintf(1, "connection %d: %s\n", i, strerrorname_np(errno));
				bad = 1;
			}
			p[i].fd = -1;
			left--;
		}
	}
	return bad;
}

static void *hammer(void *arg)
{
	int fd = *(int *)arg;

	while (write(fd, "x", 1) == 1)
		;
	dprintf(1, "write: %s\n", strerrorname_np(errno));
	_exit(13);
}

static void threads_start(void)
{
	pthread_t t;

	for (int i = 0; i < THREADS; i++)
		if (pthread_create(&t, NULL, hammer, &fds[i]))
			exit(14);
}

static void ping(void)
{
	char byte = 'p';

	if (write(fds[THREADS], &byte, 1) != 1 || read(fds[THREADS], &byte, 1) != 1 || byte != 'p') {
		dprintf(1, "ping: %s\n", strerrorname_np(errno));
		_exit(15);
	}
}

static void exec_again(char *self, char *how, int rounds)
{
	char text[ALL + 1][16], *argv[ALL + 4] = {self, how};

	for (int i = 0; i <= ALL; i++) {
		snprintf(text[i], sizeof text[i], "%d", i ? fds[i - 1] : rounds);
		argv[i + 2] = text[i];
	}
	execv(self, argv);
	exit(16);
}

static void end_in_the_midst(const char *how, int rounds)
{
	pid_t pid = fork();
	int status;

	if (!pid) {
		threads_start();
		usleep((useconds_t)(rounds * 37 % 1000));
		ping();
		if (!strcmp(how, "exit"))
			exit(0);
		if (!strcmp(how, "quick"))
			quick_exit(0);
		_exit(0);
	}
	if (waitpid(pid, &status, 0) != pid || status)
		exit(17);
	ping();
}

int main(int argc, char **argv)
{
	int rounds = atoi(argv[2]), other[ALL], status;
	char *how = argv[1];

	if (argc > 3) {
		for (int i = 0; i < ALL; i++)
			fds[i] = atoi(argv[i + 3]);
	} else {
		connect_all(other);
		if (!fork()) {
			for (int i = 0; i < ALL; i++)
				close(fds[i]);
			_exit(partner(other));
		}
		for (int i = 0; i < ALL; i++)
			close(other[i]);
	}
	if (!strcmp(how, "exec") && rounds) {
		threads_start();
		usleep((useconds_t)(rounds * 37 % 1000));
		ping();
		exec_again(argv[0], how, rounds - 1);
	}
	for (; rounds; rounds--)
		end_in_the_midst(how, rounds);
	ping();
	for (int i = 0; i < ALL; i++)
		close(fds[i]);
	if (wait(&status) < 0 || status)
		return 18;
	return 0;
}
