/*
 * signal(7): which calls come back with EINTR, with and without SA_RESTART,
 * with and without SO_RCVTIMEO, and after SIGSTOP and SIGCONT.
 */
#include "peer.h"
#include <sys/select.h>
#include <sys/wait.h>

static volatile int ran;
static void on_signal(int sig)
{
	(void)sig;
	ran++;
}

static int sock, listener, port, ep;
static char big[1 << 20];

static long do_read(void)
{
	char b[8];
	return read(sock, b, 8);
}
static long do_recv(void)
{
	char b[8];
	return recv(sock, b, 8, 0);
}
static long do_recvmsg(void)
{
	char b[8];
	struct iovec v = {b, 8};
	struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1};
	return recvmsg(sock, &m, 0);
}
static long do_waitall(void)
{
	char b[8];
	return recv(sock, b, 8, MSG_WAITALL);
}
static long do_poll(void)
{
	struct pollfd p = {.fd = sock, .events = POLLIN};
	return poll(&p, 1, 2000);
}
static long do_select(void)
{
	struct timeval tv = {2, 0};
	fd_set r;
	FD_ZERO(&r);
	FD_SET(sock, &r);
	int n = select(sock + 1, &r, NULL, NULL, &tv), saved_errno = errno;
	usleep(0); /* the thread sanitizer does not know select(): it runs a handler at the next call that it
		      knows */
	errno = saved_errno;
	return n;
}
static long do_epoll(void)
{
	struct epoll_event e;
	return epoll_wait(ep, &e, 1, 2000);
}
static long do_accept(void)
{
	int c = accept(listener, NULL, NULL);
	if (c >= 0)
		close(c);
	return c < 0 ? c : 0;
}

struct test {
	const char *name;
	long (*call)(void);
	const char *script; /* of the peer, on sock */
};

/* Every test has its own connection; what the peer sends (at 800 ms) ends a call that was restarted. */
static void run(const struct test *t, int flags, int rcvtimeo)
{
	pthread_t k;
	long r;

	sock = peer_connect(t->script);
	ep = epoll_create1(0);
	ep_add(ep, sock, EPOLLIN, 1);
	if (rcvtimeo) {
		struct timeval tv = {2, 0};
		setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
		setsockopt(listener, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
	}
	handle(SIGUSR1, on_signal, flags);
	ran = 0;
	k = kill_later(pthread_self(), SIGUSR1, 100);
	r = t->call();
	printf("%-8s %-10s %-8s: %s, handler ran %d\n", t->name, flags ? "SA_RESTART" : "-",
	       rcvtimeo ? "timeout" : "-", result_text(r), ran);
	fflush(stdout);
	pthread_join(k, NULL);
	close(ep);
	close(sock);
}

static void run_send(int flags)
{
	pthread_t k;
	long r;

	sock = peer_connect("d400 s");
	handle(SIGUSR1, on_signal, flags);
	k = kill_later(pthread_self(), SIGUSR1, 100);
	r = 0;
	for (int i = 0; i < 64 && r >= 0; i++)
		r = send(sock, big, sizeof big, 0) == sizeof big ? 1 : -2;
	printf("send %s: %s\n", flags ? "SA_RESTART" : "-", r == 1 ? "complete" : "cut short");
	pthread_join(k, NULL);
	close(sock);
}

static void stopped(const char *name, long (*call)(void))
{
	pid_t self = getpid(), child;

	fflush(stdout);
	sock = peer_connect("d800 wabc s");
	ep = epoll_create1(0);
	ep_add(ep, sock, EPOLLIN, 1);
	child = fork();
	if (!child) {
		msleep(150);
		kill(self, SIGSTOP);
		msleep(150);
		kill(self, SIGCONT);
		_exit(0);
	}
	long r = call();
	printf("stopped in %s: %s\n", name, result_text(r));
	waitpid(child, NULL, 0);
	close(ep);
	close(sock);
}

int main(void)
{
	static const struct test tests[] = {
	    {"read", do_read, "d800 wabc s"},	    {"recv", do_recv, "d800 wabc s"},
	    {"recvmsg", do_recvmsg, "d800 wabc s"}, {"waitall", do_waitall, "d800 wabcdefgh s"},
	    {"poll", do_poll, "d800 wabc s"},	    {"select", do_select, "d800 wabc s"},
	    {"epoll", do_epoll, "d800 wabc s"},
	};
	char back[64];

	listener = listen_any(&port);
	snprintf(back, sizeof back, "d800 c%d s", port);
	struct test acc = {"accept", do_accept, back};
	for (int flags = 0; flags < 2; flags++)
		for (unsigned int i = 0; i < sizeof tests / sizeof tests[0]; i++)
			run(&tests[i], flags ? SA_RESTART : 0, 0);
	for (int flags = 0; flags < 2; flags++)
		for (unsigned int i = 0; i < 4; i++)
			run(&tests[i], flags ? SA_RESTART : 0, 1);
	listener = listen_any(&port);
	snprintf(back, sizeof back, "d800 c%d s", port);
	run(&acc, SA_RESTART, 0);
	run(&acc, 0, 0);
	run(&acc, SA_RESTART, 1);
	run_send(SA_RESTART);
	stopped("read", do_read);
	stopped("poll", do_poll);
	stopped("select", do_select);
	stopped("epoll", do_epoll);
	return 0;
}
