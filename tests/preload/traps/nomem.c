/*
 * nomem.c - what each call answers when the stack's memory cannot grow any more,
 * and that nothing is lost: it all works again when some connections are closed.
 * Trap 23.
 */
#include "../peer.h"
#include <netinet/tcp.h>
#include <pthread.h>
#include <sys/wait.h>

#define MANY 100000

static int fd[MANY], count;

static int one(void)
{
	struct sockaddr_in a = peer_address();
	int s = socket(AF_INET, SOCK_STREAM, 0);

	if (!connect(s, (struct sockaddr *)&a, sizeof a))
		return s;
	int e = errno;
	close(s);
	errno = e;
	return -1;
}

/* As many as there can be. */
static void hoard(void)
{
	while (count < MANY && (fd[count] = one()) >= 0)
		count++;
}

static void *first_wait(void *arg)
{
	char b[8];

	return (void *)(intptr_t)(recv(*(int *)arg, b, 1, 0) < 0 ? -errno : 1);
}

static void in_thread(const char *what, int s)
{
	pthread_t t;
	void *r;

	pthread_create(&t, NULL, first_wait, &s);
	pthread_join(t, &r);
	printf("%s: %s\n", what, (intptr_t)r < 0 ? strerrorname_np(-(int)(intptr_t)r) : "read");
}

static void poll_all(const char *what)
{
	struct pollfd *p = calloc((size_t)count, sizeof *p);
	int r;

	for (int i = 0; i < count; i++)
		p[i] = (struct pollfd){.fd = fd[i], .events = POLLIN};
	r = poll(p, (nfds_t)count, 10);
	printf("%s: poll %s\n", what, r < 0 ? strerrorname_np(errno) : "worked");
	free(p);
}

static void child(const char *what, int s)
{
	int status = 0;
	pid_t p;

	fflush(stdout);
	p = fork();
	if (!p) {
		char b[8] = "";
		send(s, "ping", 4, 0);
		recv(s, b, 4, MSG_WAITALL);
		/* full: room for the set that it waits in, or not */
		printf("%s: child %s\n", what,
		       b[0] || (errno == ENOMEM && !strcmp(what, "full")) ? "fine" : strerrorname_np(errno));
		fflush(stdout);
		_exit(!b[0]);
	}
	waitpid(p, &status, 0);
	if (status && recv(s, (char[4]){0}, 4, MSG_WAITALL) != 4)
		puts("its answer was lost");
	printf("%s: fork %s\n", what, p < 0 ? strerrorname_np(errno) : "worked");
}

/* Refused or not, the one connection that came is not lost. */
static void accept_once(const char *what, int l)
{
	static int accepted;
	int c = accept(l, NULL, NULL), again = c < 0 && errno == EAGAIN, full = c < 0 && errno == ENOBUFS;

	printf("%s: accept %s\n", what,
	       (accepted ? again : c >= 0 || full) ? "fine" : strerrorname_np(errno));
	accepted |= c >= 0;
	if (!strcmp(what, "closed") && !accepted)
		puts("the connection was lost");
	if (c >= 0)
		close(c);
}

static void all(const char *what, int s, int l, int ep)
{
	char b[8] = "";
	int n = socket(AF_INET, SOCK_STREAM, 0);

	send(s, "ping", 4, 0);
	recv(s, b, 4, MSG_WAITALL);
	printf("%s: echo '%s'\n", what, b);
	printf("%s: listen %s\n", what, result_text(listen(n, 5)));
	close(n);
	accept_once(what, l);
	printf("%s: ADD %s\n", what, result_text(ep_add(ep, s, EPOLLIN, 1)));
	epoll_ctl(ep, EPOLL_CTL_DEL, s, NULL);
	send(s, "x", 1, 0);
	in_thread(what, s);
	poll_all(what);
	child(what, s);
	send(s, "ping", 4, 0);
	memset(b, 0, sizeof b);
	recv(s, b, 4, MSG_WAITALL);
	printf("%s: echo '%s'\n", what, b);
}

int main(void)
{
	char line[8];
	int port, listener, s = peer_connect("e"), back, ep = epoll_create1(0);

	listener = listen_any(&port);
	back = peer_call_back(port, "whello s");
	await_data(listener);
	fcntl(listener, F_SETFL, O_NONBLOCK);
	hoard();
	printf("full: %s %s\n", count > 100 ? "many" : "few", strerrorname_np(errno));
	all("full", s, listener, ep);
	hoard();
	printf("again: %s\n", strerrorname_np(errno));
	fflush(stdout);
	if (!fgets(line, sizeof line, stdin)) /* another process comes, and goes */
		return 1;
	while (count > 10)
		close(fd[--count]);
	all("closed", s, listener, ep);
	fflush(stdout);
	if (!fgets(line, sizeof line, stdin))
		return 1;
	close(back);
	return 0;
}
