/*
 * SIGPIPE goes to the thread that wrote; a handler may end the process, or fork,
 * while its thread is inside of a call; signals stop and continue a process that
 * moves data at any moment.
 */
#include "both.h"
#include <setjmp.h>

static _Atomic int pipe_tid, pipes;

static void on_sigpipe(int sig)
{
	(void)sig;
	pipe_tid = (int)syscall(SYS_gettid);
	pipes++;
}

static void *writer(void *arg)
{
	int fd = *(int *)arg, before = pipes;
	ssize_t r = send(fd, "x", 1, 0);

	printf("send: %zd %s, SIGPIPE %d, in the writer %d\n", r, r < 0 ? strerrorname_np(errno) : "",
	       pipes - before, pipe_tid == (int)syscall(SYS_gettid));
	before = pipes;
	r = send(fd, "x", 1, MSG_NOSIGNAL);
	printf("MSG_NOSIGNAL: %zd, SIGPIPE %d\n", r, pipes - before);
	r = write(fd, "x", 1);
	printf("write: %zd, SIGPIPE %d\n", r, pipes - before);
	sigset_t block, pending;
	sigemptyset(&block);
	sigaddset(&block, SIGPIPE);
	pthread_sigmask(SIG_BLOCK, &block, NULL);
	r = write(fd, "x", 1);
	sigpending(&pending);
	printf("blocked: %zd, SIGPIPE %d, pending %d\n", r, pipes - before, sigismember(&pending, SIGPIPE));
	const struct timespec zero = {0, 0};
	printf("taken: %d\n", sigtimedwait(&block, NULL, &zero) == SIGPIPE);
	signal(SIGPIPE, SIG_IGN);
	r = write(fd, "x", 1);
	printf("ignored: %zd %s\n", r, strerrorname_np(errno));
	return NULL;
}

static void sigpipe(void)
{
	struct sigaction sa = {.sa_handler = on_sigpipe};
	int fd = connected();
	pthread_t t;

	sigaction(SIGPIPE, &sa, NULL);
	shutdown(fd, SHUT_WR);
	pthread_create(&t, NULL, writer, &fd);
	pthread_join(t, NULL);
	close(fd);
}

static int busy;

static void ends(int sig)
{
	if (sig == SIGUSR1)
		_exit(write(busy, "bye", 3) == 3 ? 5 : 6);
	exit(7);
}

/* A child that moves data all the time is ended by a handler; the peer gets whole messages and the end. */
static void ended_inside(int sig)
{
	int fd = connected(), status;
	pid_t pid;
	char block[1000] = {0};

	fflush(stdout);
	pid = fork();
	if (!pid) {
		struct sigaction sa = {.sa_handler = ends};

		busy = fd;
		sigaction(sig, &sa, NULL);
		for (;;)
			if (send(fd, block, sizeof block, 0) != sizeof block)
				_exit(9);
	}
	close(fd);
	peer("recv 50000");
	kill(pid, sig);
	long rest = peer("recv 1000000000");
	waitpid(pid, &status, 0);
	printf("signal %s: exit %d, the end came %d\n", sig == SIGUSR1 ? "1" : "2", WEXITSTATUS(status),
	       rest >= 0);
}

static int stop_pipe[2];

/* STOP and CONT, a hundred times, while megabytes move in both directions. */
static void stopped(void)
{
	int fd = connected(), status;
	static char buf[65536];
	long n = 0, bad = 0, seen = 0;
	pid_t parent = getpid(), pid;

	fflush(stdout);
	if (pipe(stop_pipe))
		exit(1);
	pid = fork();
	if (!pid) {
		for (int i = 0; i < 100; i++) {
			kill(parent, SIGSTOP);
			sched_yield();
			kill(parent, SIGCONT);
			usleep((useconds_t)(i * 37 % 900));
		}
		_exit(0);
	}
	peer_later("send 8000000");
	for (ssize_t r; seen < 8000000 && (r = recv(fd, buf, sizeof buf, 0)) > 0; seen += r)
		for (ssize_t i = 0; i < r; i++)
			bad += buf[i] != (char)((seen + i) % 251);
	SHOW(peer_answer());
	SHOW(seen);
	SHOW(bad);
	peer_later("check 4000000");
	while (n < 4000000) {
		long part = 4000000 - n < 50000 ? 4000000 - n : 50000;
		for (long i = 0; i < part; i++)
			buf[i] = (char)((n + i) % 251);
		for (long done = 0; done < part;) {
			ssize_t r = send(fd, buf + done, (size_t)(part - done), 0);
			if (r < 0)
				exit(1);
			done += r;
		}
		n += part;
	}
	SHOW(peer_answer());
	SHOW(waitpid(pid, &status, 0) == pid);
	close(fd);
}

static _Atomic int stop_threads;
static int echo_fd[4];

static void *echoes(void *arg)
{
	int fd = *(int *)arg;
	char b[100];

	while (!stop_threads)
		if (send(fd, b, sizeof b, 0) <= 0)
			return (void *)1;
	return NULL;
}

/* fork() while four threads send: the child works on one of the connections, the parent's go on. */
static void forks(void)
{
	pthread_t t[4];
	int good = 0, mine = connected();

	for (int i = 0; i < 4; i++) {
		echo_fd[i] = connected();
		peer("keep");
	}
	signal(SIGPIPE, SIG_IGN);
	for (int i = 0; i < 4; i++)
		pthread_create(&t[i], NULL, echoes, &echo_fd[i]);
	for (int i = 0; i < 20; i++) {
		int status = -1;
		pid_t pid = fork();

		if (!pid)
			_exit(send(mine, "x", 1, 0) == 1 && polled(mine, POLLOUT, 5000) == POLLOUT ? 0 : 1);
		waitpid(pid, &status, 0);
		good += status == 0;
	}
	stop_threads = 1;
	for (int i = 0; i < 4; i++)
		shutdown(echo_fd[i], SHUT_RDWR);
	for (int i = 0; i < 4; i++) {
		pthread_join(t[i], NULL);
		close(echo_fd[i]);
	}
	SHOW(good);
	close(mine);
}

/* The leak checker looks for its parent's threads in a child that was forked among threads. */
#include "noleaks.h"

int main(void)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	sigpipe();
	ended_inside(SIGUSR1);
	ended_inside(SIGUSR2);
	stopped();
	forks();
	return 0;
}
