/*
 * ends.c HOW ADDRESS PORT BYTES - write and end at once, in a certain way. Whatever write() accepted must
 * arrive, and then the end. Prints what wait() says of children that it does not have.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *how;

static void *last_thread(void *arg)
{
	(void)arg;
	usleep(50000); /* the main thread is gone */
	return NULL;
}

static void children(void)
{
	int r = waitpid(-1, NULL, WNOHANG), err = r < 0 ? errno : 0;

	printf("%s: children: %d %s\n", how, r, err ? strerrorname_np(err) : "-");
	fflush(stdout);
}

static void end(void)
{
	pthread_t t;

	if (!strcmp(how, "exit") || !strcmp(how, "subreaper"))
		exit(0);
	if (!strcmp(how, "_exit"))
		_exit(0);
	if (!strcmp(how, "syscall"))
		syscall(SYS_exit_group, 0);
	if (!strcmp(how, "quick_exit"))
		quick_exit(0);
	if (!strcmp(how, "abort"))
		abort();
	if (!strcmp(how, "segv"))
		*(volatile int *)8 = 1;
	if (!strcmp(how, "term"))
		raise(SIGTERM);
	if (!strcmp(how, "kill") || !strcmp(how, "subreaper_kill"))
		raise(SIGKILL);
	if (!strcmp(how, "xcpu")) {
		setrlimit(RLIMIT_CPU, &(struct rlimit){0, 0});
		for (;;)
			;
	}
	if (!strcmp(how, "pthread_exit")) {
		pthread_create(&t, NULL, last_thread, NULL);
		pthread_exit(NULL);
	}
}

int main(int argc, char **argv)
{
	size_t bytes = argc == 5 ? strtoul(argv[4], NULL, 10) : 0, done = 0;
	struct sockaddr_in a = {.sin_family = AF_INET};
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	char *data;

	if (!bytes)
		return 2;
	how = argv[1];
	setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
	if (!strncmp(how, "subreaper", 9))
		prctl(PR_SET_CHILD_SUBREAPER, 1);
	inet_pton(AF_INET, argv[2], &a.sin_addr);
	a.sin_port = htons((uint16_t)atoi(argv[3]));
	if (connect(fd, (struct sockaddr *)&a, sizeof a)) {
		perror("connect");
		return 1;
	}
	if (!strncmp(how, "subreaper", 9)) {
		int is = 0;

		prctl(PR_GET_CHILD_SUBREAPER, &is);
		if (!is)
			printf("%s: no subreaper any more\n", how);
	}
	children();
	data = malloc(bytes);
	for (size_t i = 0; i < bytes; i++)
		data[i] = (char)(i * 131 >> 7);
	while (done < bytes) {
		ssize_t n = write(fd, data + done, bytes - done);

		if (n < 0) {
			perror("write");
			return 1;
		}
		done += (size_t)n;
	}
	end();
	return 0;
}
