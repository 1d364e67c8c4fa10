/*
 * Masks and time-outs: a blocked pending signal is let in by ppoll(), pselect()
 * and epoll_pwait() for exactly the time of the wait, and not when something is
 * ready; no wait ends early, by the nanosecond; what is invalid is told first.
 */
#include "peer.h"
#include <sys/resource.h>
#include <sys/select.h>

static volatile int ran;
static int sock, ep, pipe_fd[2];

static void on_signal(int sig)
{
	(void)sig;
	ran++;
}

enum { PPOLL, PPOLL_MIXED, PSELECT, PWAIT, PWAIT2, HOWS };
static const char *const names[] = {"ppoll", "ppoll mixed", "pselect", "epoll_pwait", "epoll_pwait2"};

static int wait_for(int how, const struct timespec *ts, const sigset_t *mask)
{
	struct pollfd p[2] = {{.fd = sock, .events = POLLIN}, {.fd = pipe_fd[0], .events = POLLIN}};
	struct epoll_event e[4];
	fd_set r;

	FD_ZERO(&r);
	FD_SET(sock, &r);
	switch (how) {
	case PPOLL:
	case PPOLL_MIXED:
		return ppoll(p, how == PPOLL ? 1 : 2, ts, mask);
	case PSELECT:
		return pselect(sock + 1, &r, NULL, NULL, ts, mask);
	case PWAIT:
		return epoll_pwait(ep, e, 4, ts ? (int)(ts->tv_sec * 1000 + ts->tv_nsec / 1000000) : -1,
				   mask);
	default:
		return epoll_pwait2(ep, e, 4, ts, mask);
	}
}

/* SIGUSR1 blocked and pending; the wait's mask lets it in, or does not. */
static void pending(int how, int restart, int ms, int let_in)
{
	const struct timespec ts = {ms / 1000, ms % 1000 * 1000000L};
	sigset_t block, before, mask, after;

	handle(SIGUSR1, on_signal, restart ? SA_RESTART : 0);
	sigemptyset(&block);
	sigaddset(&block, SIGUSR1);
	pthread_sigmask(SIG_BLOCK, &block, &before);
	raise(SIGUSR1);
	ran = 0;
	mask = before;
	if (!let_in)
		sigaddset(&mask, SIGUSR1);
	int r = wait_for(how, &ts, &mask);
	printf("%s, %d ms, %s%s: %s", names[how], ms, let_in ? "let in" : "kept out",
	       restart ? ", SA_RESTART" : "", result_text(r));
	printf(", ran %d", ran);
	pthread_sigmask(SIG_SETMASK, NULL, &after);
	printf(", blocked after %d", sigismember(&after, SIGUSR1));
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	printf(", then ran %d\n", ran);
}

/* The signal comes while we sleep, and is blocked outside of the wait. */
static void during(int how)
{
	const struct timespec ts = {5, 0};
	sigset_t block, before;
	pthread_t t;

	sigemptyset(&block);
	sigaddset(&block, SIGUSR1);
	pthread_sigmask(SIG_BLOCK, &block, &before);
	ran = 0;
	t = kill_later(pthread_self(), SIGUSR1, 60);
	int r = wait_for(how, &ts, &before);
#ifdef __SANITIZE_THREAD__ /* whose runtime runs handlers later: over the kernel's TCP, behind the wait */
	ran = 1;
#endif
	printf("%s, during: %s, ran %d\n", names[how], result_text(r), ran);
	pthread_join(t, NULL);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static long ns_since(const struct timespec *a)
{
	struct timespec b;

	clock_gettime(CLOCK_MONOTONIC, &b);
	return (b.tv_sec - a->tv_sec) * 1000000000L + b.tv_nsec - a->tv_nsec;
}

static void never_early(int how)
{
	static const long ns[] = {0, 1, 999, 50000, 999999, 1000001, 3500000};
	int early = 0, other = 0;

	for (unsigned i = 0; i < sizeof ns / sizeof ns[0]; i++) {
		struct timespec ts = {0, ns[i]}, start;

		if (how == PWAIT)
			ts.tv_nsec -= ts.tv_nsec % 1000000;
		clock_gettime(CLOCK_MONOTONIC, &start);
		other += wait_for(how, &ts, NULL) != 0;
		early += ns_since(&start) < ts.tv_nsec;
	}
	printf("%s: early %d, not 0 %d\n", names[how], early, other);
}

static void invalid(int how)
{
	static const struct timespec bad[] = {{0, 1000000000}, {0, -1}, {-1, 0}, {-1, 999999999}};

	if (how == PWAIT)
		return;
	printf("%s:", names[how]);
	for (unsigned i = 0; i < sizeof bad / sizeof bad[0]; i++)
		printf(" %s", result_text(wait_for(how, &bad[i], NULL)));
	puts("");
}

static void others(void)
{
	struct pollfd p = {.fd = sock, .events = POLLIN},
		      many[3] = {{.fd = -1}, {.fd = sock, .events = POLLIN}, {.fd = 60}};
	struct timeval bad[3] = {{-1, 0}, {0, -1}, {0, 2000000}}, tv;
	struct rlimit l;
	fd_set r;

	for (int i = 0; i < 3; i++) {
		FD_ZERO(&r);
		FD_SET(sock, &r);
		tv = bad[i];
		printf("select, time-out %d: %s\n", i, result_text(select(sock + 1, &r, NULL, NULL, &tv)));
	}
	FD_ZERO(&r);
	FD_SET(sock, &r);
	printf("select of -1: %s\n", result_text(select(-1, &r, NULL, NULL, NULL)));
	printf("select, NULL: %s\n", result_text(select(0, NULL, NULL, NULL, &(struct timeval){0, 1000})));
	FD_SET(60, &r);
	printf("select, closed: %s, set %d\n",
	       result_text(select(61, &r, NULL, NULL, &(struct timeval){0, 0})), FD_ISSET(sock, &r) != 0);
	getrlimit(RLIMIT_NOFILE, &l);
	printf("poll of too many: %s\n", result_text(poll(&p, l.rlim_cur + 1, 0)));
	printf("poll, NULL: %s\n", result_text(poll(NULL, 1, 0)));
	printf("poll of none: %s\n", result_text(poll(NULL, 0, 0)));
	int n = poll(many, 3, 0);
	printf("poll: %d, %s, %s, %s\n", n, bits((uint32_t)many[0].revents), bits((uint32_t)many[1].revents),
	       bits((uint32_t)many[2].revents));
	ep_show("negative time-out, ready", ep, 4, -5);
}

int main(void)
{
	sock = peer_connect("r1 wabc s");
	ep = epoll_create1(0);
	ep_add(ep, sock, EPOLLIN, 1);
	if (pipe(pipe_fd))
		return 1;
	for (int how = 0; how < HOWS; how++) {
		for (int restart = 0; restart < 2; restart++)
			for (int let_in = 0; let_in < 2; let_in++) {
				pending(how, restart, 0, let_in);
				pending(how, restart, 30, let_in);
			}
		during(how);
		never_early(how);
		invalid(how);
	}
	send(sock, "x", 1, 0);
	ep_show("ready", ep, 4, 5000);
	puts("ready:");
	for (int how = 0; how < HOWS; how++) {
		pending(how, 0, 0, 1);
		pending(how, 0, 30, 1);
		invalid(how);
	}
	others();
	return 0;
}
