/*
 * Signals that are taken, not handled: sigwaitinfo(), sigtimedwait(), sigwait() and signalfd see those of the
 * sockets as the kernel sends them, and no others, whatever the sockets do.
 */
#include "both.h"
#include <sys/signalfd.h>

static const struct timespec second = {20, 0}, zero = {0, 0};

static void show_pending(const char *when)
{
	sigset_t s;

	sigpending(&s);
	printf("%s:", when);
	for (int i = 1; i <= SIGRTMAX; i++)
		if (sigismember(&s, i) == 1)
			printf(" %d", i);
	puts("");
}

static void drop(const sigset_t *s)
{
	siginfo_t i;

	nap(60);
	while (sigtimedwait(s, &i, &zero) > 0)
		;
}

static void show_info(const char *what, int r, const siginfo_t *i, int fd)
{
	SAY("%s: %d, signal %d code %d band %lx descriptor %s", what, r, i->si_signo, i->si_code,
	    (unsigned long)i->si_band & (POLLIN | POLLRDNORM | POLLERR | POLLHUP),
	    i->si_fd == fd ? "ours"
	    : i->si_fd	   ? "another"
			   : "0");
}

static void taken(int sig)
{
	int port = (int)peer("listen"), fd = socket(AF_INET, SOCK_STREAM, 0), got = 0;
	struct signalfd_siginfo si;
	char buf[16];
	siginfo_t i;
	sigset_t s;

	sigemptyset(&s);
	sigaddset(&s, sig ? sig : SIGIO);
	SHOW(fcntl(fd, F_SETOWN, getpid()));
	SHOW(fcntl(fd, F_SETSIG, sig));
	SHOW(fcntl(fd, F_SETFL, O_ASYNC));
	SHOW(connect_to(fd, peer_addr(), port));
	peer("accept");
	drop(&s);

	memset(&i, 0, sizeof i);
	peer("send 3");
	show_info("sigwaitinfo", sigwaitinfo(&s, &i), &i, fd);
	SHOW(sigtimedwait(&s, NULL, &zero));
	SHOW(recv(fd, buf, 16, 0));
	memset(&i, 0, sizeof i);
	peer("send 3");
	show_info("sigtimedwait", sigtimedwait(&s, &i, &second), &i, fd);
	SHOW(recv(fd, buf, 16, 0));
	peer("send 3");
	SHOW(sigwait(&s, &got));
	SAY("signal %d", got);
	SHOW(recv(fd, buf, 16, 0));
	peer("send 3");
	int sfd = signalfd(-1, &s, 0);
	SHOW(read(sfd, &si, sizeof si));
	SAY("signal %u descriptor %s", si.ssi_signo, si.ssi_fd == fd ? "ours" : si.ssi_fd ? "another" : "0");
	SHOW(recv(fd, buf, 16, 0));
	SHOW(sigtimedwait(&s, NULL, &zero));
	close(sfd);
	close(fd);
	drop(&s);
	peer("close");
}

/* Nobody asked for any. */
static void quiet(void)
{
	char buf[16];
	int fd = connected(), port, l = listening(&port, 3), c;

	peer("send 3");
	SHOW(recv(fd, buf, 16, 0));
	SHOW(send(fd, "abc", 3, 0));
	show_pending("data");
	peer("close");
	SHOW(polled(fd, POLLIN | POLLRDHUP, 20000) & POLLIN);
	SHOW(send(fd, "abc", 3, MSG_NOSIGNAL));
	close(fd);
	peer("connect %d", port);
	c = accept(l, NULL, NULL);
	SHOW(c >= 0);
	SHOW(polled(c, POLLIN, 30));
	pid_t child = fork();
	if (!child) {
		show_pending("child");
		_exit(0);
	}
	siginfo_t i;
	sigset_t s;
	sigemptyset(&s);
	sigaddset(&s, SIGCHLD);
	memset(&i, 0, sizeof i);
	SAY("the child's end: %d, code %d", sigwaitinfo(&s, &i), i.si_code);
	SHOW(waitpid(child, NULL, 0) == child);
	close(c);
	close(l);
	peer("close");
	show_pending("closed");
	SHOW(sigtimedwait(&s, &i, &(struct timespec){0, 1000000000}));
}

int main(void)
{
	sigset_t all;

	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, NULL);
	peer("nap 0");
	quiet();
	taken(SIGRTMIN + 3);
	taken(0);
	show_pending("end");
	return 0;
}
