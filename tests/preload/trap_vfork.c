/*
 * Trap 8: a child of vfork() works in its parent's memory, on numbers of its own. What it and posix_spawn()'s
 * file actions close, duplicate and overwrite there changes nothing here: a connection, a listener and an
 * epoll set go on under a thread that never stops using them.
 */
#include "both.h"
#include <spawn.h>
#include <sys/epoll.h>

extern char **environ;

#ifdef __SANITIZE_THREAD__ /* its programs take long to start */
#define CHILDREN 60
#else
#define CHILDREN 300
#endif

static int fd, l, port, ep;
static _Atomic bool over;
static _Atomic long exchanged;

static void *exchange(void *arg)
{
	struct epoll_event e;
	char b[8];

	while (!over) {
		int c = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), a;
		if (connect_to(c, own_addr(), port) || (a = accept4(l, NULL, NULL, SOCK_CLOEXEC)) < 0 ||
		    send(c, "ping", 4, 0) != 4 || recv(a, b, 4, MSG_WAITALL) != 4 || memcmp(b, "ping", 4) ||
		    epoll_wait(ep, &e, 1, 0)) {
			perror("exchange");
			break;
		}
		close(c);
		close(a);
		if (++exchanged > 5000)
			nap(10); /* each leaves a port in TIME-WAIT: on a busy machine there would be none
				    left */
	}
	return arg;
}

/* In a child of vfork(): every way to be rid of a number. */
static void meddle(int how, int null)
{
	switch (how % 6) {
	case 0:
		close(fd), close(l), close(ep);
		break;
	case 1:
		dup2(null, fd), dup2(null, l), dup2(null, ep);
		break;
	case 2:
		close_range(3, 899, 0);
		break;
	case 3:
		dup3(null, fd, O_CLOEXEC), dup2(fd, 0), dup2(l, 1);
		break;
	case 4:
		syscall(SYS_close, fd), syscall(SYS_close, l);
		break;
	default:
		fcntl(fd, F_SETFD, FD_CLOEXEC), closefrom(3);
	}
}

static int spawned(int how)
{
	posix_spawn_file_actions_t a;
	char *argv[] = {"end", NULL};
	int status = -1;
	pid_t pid;

	posix_spawn_file_actions_init(&a);
	if (how % 3 == 0) {
		posix_spawn_file_actions_addclose(&a, fd);
		posix_spawn_file_actions_addclose(&a, l);
	} else if (how % 3 == 1) {
		posix_spawn_file_actions_addopen(&a, fd, "/dev/null", O_RDWR, 0);
		posix_spawn_file_actions_adddup2(&a, fd, l);
	} else {
		posix_spawn_file_actions_addclosefrom_np(&a, 3);
	}
	if (posix_spawn(&pid, "/proc/self/exe", &a, NULL, argv, environ) || waitpid(pid, &status, 0) != pid)
		perror("posix_spawn");
	posix_spawn_file_actions_destroy(&a);
	return status;
}

int main(int argc, char **argv)
{
	int null = open("/dev/null", O_RDWR), status, bad = 0;
	char *end[] = {"end", NULL}, b[8];
	struct epoll_event e = {.events = EPOLLIN};
	pthread_t t;

	if (argc && !strcmp(argv[0], "end")) /* a child: any program would do that the instrument is in */
		return 0;
	fd = connected();
	l = listening(&port, 8);
	ep = epoll_create1(EPOLL_CLOEXEC);
	SHOW(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e));
	pthread_create(&t, NULL, exchange, NULL);
	for (int i = 0; i < CHILDREN; i++) {
		pid_t pid = vfork();

		if (!pid) {
			meddle(i, null);
			if (i & 1)
				execve("/proc/self/exe", end, environ);
			_exit(0);
		}
		bad += waitpid(pid, &status, 0) != pid || status;
		if (i % 5 == 0)
			bad += spawned(i / 5) != 0;
	}
	over = true;
	pthread_join(t, NULL);
	SAY("children that failed: %d; exchanges: %s", bad, exchanged > 0 ? "some" : "none");
	SHOW(send(fd, "still", 5, 0));
	SHOW(peer("sum 5"));
	peer("send 3");
	SHOW(epoll_wait(ep, &e, 1, 5000));
	SHOW(recv(fd, b, sizeof b, 0));
	SHOW(fcntl(fd, F_GETFD));
	SHOW(close(fd));
	SHOW(peer("recv 1"));
	return 0;
}
