/*
 * exit() in one thread while others use their sockets, of which both ends are in
 * this process: none of them may see that the process is being taken down, by an
 * error or by the end of a stream. And what functions for the end write still
 * leaves, also those of quick_exit() that are older than the first socket.
 */
#include "noleaks.h" /* the leak checker stops the threads, and interrupts their calls */
#include "peer.h"
#include <sys/wait.h>

#define ROUNDS 45

static struct sockaddr_in address;
static int listener, report[2];
static _Atomic int going;

/* Only what comes after exit() has begun, or is about to, matters. */
static void seen(const char *call, long r)
{
	char line[80];
	int n = snprintf(line, sizeof line, "%s: %ld %s\n", call, r, r < 0 ? strerrorname_np(errno) : "");

	if (going && write(report[1], line, (size_t)n) != n)
		abort();
}

static void *blocked(void *fd)
{
	char byte;

	seen("recv", recv((int)(intptr_t)fd, &byte, 1, 0));
	return NULL;
}

static void *tries(void *fd)
{
	char byte;

	for (;;) {
		long r = recv((int)(intptr_t)fd, &byte, 1, MSG_DONTWAIT);
		if (r != -1 || errno != EAGAIN)
			seen("recv, MSG_DONTWAIT", r);
	}
	return NULL;
}

static void *sends(void *fd)
{
	for (;;) {
		long r = send((int)(intptr_t)fd, "x", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (r != 1 && !(r < 0 && errno == EAGAIN))
			seen("send", r);
	}
	return NULL;
}

static void *polls(void *fd)
{
	struct pollfd p = {.fd = (int)(intptr_t)fd, .events = POLLIN};

	for (;;) {
		int r = poll(&p, 1, 1);
		if (r)
			seen("poll", r);
	}
	return NULL;
}

static void *waits(void *fd)
{
	struct epoll_event e = {.events = EPOLLIN};
	int set = epoll_create1(0);

	epoll_ctl(set, EPOLL_CTL_ADD, (int)(intptr_t)fd, &e);
	for (;;) {
		int r = epoll_wait(set, &e, 1, 1);
		if (r)
			seen("epoll_wait", r);
	}
	return NULL;
}

static void *asks(void *fd)
{
	struct sockaddr_in a;
	int value;

	for (;;) {
		socklen_t len = sizeof value;
		int r = getsockopt((int)(intptr_t)fd, SOL_SOCKET, SO_ERROR, &value, &len);
		if (r || value)
			seen("SO_ERROR", r ? r : value);
		len = sizeof a;
		if (getpeername((int)(intptr_t)fd, (struct sockaddr *)&a, &len))
			seen("getpeername", -1);
	}
	return NULL;
}

static void *accepts(void *unused)
{
	seen("accept", accept(listener, NULL, NULL));
	return unused;
}

static void *connects(void *unused)
{
	for (;;) {
		int fd = socket(AF_INET, SOCK_STREAM, 0), r;
		if (fd < 0)
			seen("socket", fd);
		r = connect(fd, (struct sockaddr *)&address, sizeof address);
		if (r)
			seen("connect", r);
		else if (send(fd, "x", 1, MSG_NOSIGNAL) != 1)
			seen("send, connected", -1);
		close(fd);
	}
	return unused;
}

static int pair(int *other)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	if (connect(fd, (struct sockaddr *)&address, sizeof address) ||
	    (*other = accept(listener, NULL, NULL)) < 0)
		abort();
	return fd;
}

static void listens(void)
{
	const char *own = getenv("TEST_OWN");
	socklen_t len = sizeof address;

	address = (struct sockaddr_in){.sin_family = AF_INET};
	inet_pton(AF_INET, own ? own : "127.0.0.1", &address.sin_addr);
	listener = socket(AF_INET, SOCK_STREAM, 0);
	if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 4096) ||
	    getsockname(listener, (struct sockaddr *)&address, &len))
		abort();
}

static void end(int how)
{
	switch (how % 3) {
	case 0:
		_exit(0);
	case 1:
		quick_exit(0);
	default:
		exit(0);
	}
}

static void watched(int round)
{
	static void *(*const on_socket[])(void *) = {blocked, tries, sends, polls, waits, asks};
	pthread_t t;
	int other;

	listens();
	for (unsigned i = 0; i < sizeof on_socket / sizeof *on_socket; i++)
		pthread_create(&t, NULL, on_socket[i], (void *)(intptr_t)pair(&other));
	pthread_create(&t, NULL, round & 1 ? connects : accepts, NULL);
	usleep((useconds_t)(2000 + round * 50));
	going = 1;
	end(round);
}

static int last = -1;

static void says(void)
{
	if (last >= 0 && send(last, "said at the end", 15, MSG_NOSIGNAL) != 15)
		perror("send at the end");
}

static void heard(int how)
{
	char text[100] = "";
	ssize_t n = 0, r;
	int other;
	pid_t p;

	fflush(stdout);
	if (!fork()) {
		at_quick_exit(says);
		atexit(says);
		listens();
		last = pair(&other);
		close(listener);
		p = fork();
		if (p) {
			close(other);
			end(how);
		}
		close(last);
		last = -1;
		while ((r = recv(other, text + n, sizeof text - 1 - (size_t)n, 0)) > 0)
			n += r;
		printf("%s: %s\n", how == 1 ? "quick_exit" : "exit", text);
		fflush(stdout);
		if (write(report[1], ".", 1) != 1)
			abort();
		_exit(0);
	}
	if (read(report[0], text, 1) != 1)
		abort();
	wait(NULL);
}

int main(void)
{
	char line[2000];
	ssize_t n;

	if (pipe(report))
		return 1;
	heard(1);
	heard(2);
	for (int i = 0; i < ROUNDS; i++) {
		pid_t p = fork();
		if (!p)
			watched(i);
		waitpid(p, NULL, 0);
	}
	close(report[1]);
	for (int total = 0; (n = read(report[0], line, sizeof line)) > 0 && total < 2000; total += (int)n)
		fwrite(line, 1, (size_t)n, stdout);
	return 0;
}
