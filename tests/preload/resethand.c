/* SA_RESETHAND, SA_NODEFER, masks, and what the older calls leave behind, before and after a stack socket. */
#include "peer.h"
#include <sys/wait.h>

/* siginterrupt() is one of the things to be tested. */
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

static volatile int ran, depth, deepest;
static int sock;

static void on_signal(int sig)
{
	(void)sig;
	ran++;
}

static void on_nested(int sig)
{
	if (++depth > deepest)
		deepest = depth;
	if (depth < 3)
		raise(sig);
	depth--;
}

static void show(const char *what, int sig)
{
	struct sigaction a;
	int n = 0;

	sigaction(sig, NULL, &a);
	for (int i = 1; i < 64; i++)
		n += sigismember(&a.sa_mask, i) == 1;
	printf("%s: %s flags %x mask %d\n", what,
	       a.sa_handler == SIG_DFL	   ? "default"
	       : a.sa_handler == SIG_IGN   ? "ignore"
	       : a.sa_handler == on_signal ? "handler"
					   : "other",
	       (unsigned)a.sa_flags, n);
}

static void once(const char *what)
{
	pid_t p;
	int status;

	fflush(stdout);
	handle(SIGUSR1, on_signal, SA_RESETHAND);
	show(what, SIGUSR1);
	ran = 0;
	raise(SIGUSR1);
	printf("ran %d\n", ran);
	show("afterwards", SIGUSR1);
	fflush(stdout);
	p = fork();
	if (!p) {
		raise(SIGUSR1);
		_exit(0);
	}
	waitpid(p, &status, 0);
	printf("the second one: %s\n", WIFSIGNALED(status) ? strsignal(WTERMSIG(status)) : "survived");
}

/* In the middle of calls on the socket. */
static void under_load(void)
{
	char b[64];
	int once_ran = 0;

	for (int i = 0; i < 200; i++) {
		pthread_t t;

		handle(SIGUSR1, on_signal, SA_RESETHAND | SA_RESTART);
		ran = 0;
		t = kill_later(pthread_self(), SIGUSR1, i % 2);
		while (!ran) {
			send(sock, "x", 1, 0);
			recv(sock, b, sizeof b, 0);
		}
		pthread_join(t, NULL);
		once_ran += ran;
	}
	printf("one shot each: %d\n", once_ran);
}

static void old_calls(void)
{
	sighandler_t h;

	h = signal(SIGUSR2, on_signal);
	printf("signal: %s\n", h == SIG_DFL ? "default" : "?");
	show("signal", SIGUSR2);
	siginterrupt(SIGUSR2, 1);
	show("siginterrupt", SIGUSR2);
	signal(SIGUSR2, on_signal);
	show("signal after it", SIGUSR2);
	siginterrupt(SIGUSR2, 0);
	show("siginterrupt off", SIGUSR2);
	sysv_signal(SIGUSR2, on_signal);
	show("sysv_signal", SIGUSR2);
	printf("bad: %s\n", signal(0, on_signal) == SIG_ERR ? strerrorname_np(errno) : "?");
	printf("bad: %s\n", signal(SIGKILL, on_signal) == SIG_ERR ? strerrorname_np(errno) : "?");
	signal(SIGUSR2, SIG_IGN);
	show("ignore", SIGUSR2);
	raise(SIGUSR2);
	signal(SIGUSR2, SIG_DFL);
	show("default", SIGUSR2);
}

static void nodefer(void)
{
	deepest = 0;
	handle(SIGUSR1, on_nested, SA_NODEFER);
	raise(SIGUSR1);
	printf("SA_NODEFER: depth %d\n", deepest);
	deepest = 0;
	handle(SIGUSR1, on_nested, 0);
	sigset_t s, pend;
	sigemptyset(&s);
	sigaddset(&s, SIGUSR1);
	sigprocmask(SIG_BLOCK, &s, NULL);
	raise(SIGUSR1);
	sigpending(&pend);
	printf("pending %d\n", sigismember(&pend, SIGUSR1));
	handle(SIGUSR1, SIG_IGN, 0);
	sigprocmask(SIG_UNBLOCK, &s, NULL);
	printf("ignored: depth %d\n", deepest);
}

int main(void)
{
#ifdef __SANITIZE_THREAD__
	/* Its runtime stands between sigaction() and the kernel and knows no SA_RESETHAND: over the kernel,
	 * too. */
	return 0;
#endif
	handle(SIGHUP, on_signal, SA_RESTART | SA_NODEFER);
	once("before");
	old_calls();
	nodefer();
	sock = peer_connect("e");
	show("kept", SIGHUP);
	once("after");
	old_calls();
	nodefer();
	under_load();
	return 0;
}
