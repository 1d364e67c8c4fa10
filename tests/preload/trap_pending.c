/*
 * Trap 36: signals that come while the thread is inside the library are put off;
 * with RLIMIT_SIGPENDING at 0 nothing can be queued. None is lost, no action
 * turns deadly, SA_RESETHAND still means one.
 */
#include "peer.h"
#include <sys/resource.h>
#include <sys/wait.h>

#define SHOTS 400

static _Atomic int ran;
static int sock;

static void on_signal(int sig)
{
	(void)sig;
	ran++;
}

static void *shooter(void *target)
{
	for (int i = 0; i < SHOTS; i++) {
		int before = ran;

		pthread_kill(*(pthread_t *)target, SIGUSR1);
		/* one at a time: each must arrive */
		for (int k = 0; ran == before && k < 2000; k++)
			usleep(500);
	}
	return NULL;
}

/* Calls that enter the library all the time, and block in it a little. */
static void echo_until(int count)
{
	char b[64];

	while (ran < count) {
		send(sock, "0123456789", 10, 0);
		recv(sock, b, sizeof b, 0);
	}
}

static void shots(const char *what, int flags)
{
	pthread_t self = pthread_self(), t;
	sigset_t s, old;

	handle(SIGUSR1, on_signal, flags);
	ran = 0;
	sigemptyset(&s);
	sigaddset(&s, SIGUSR1);
	pthread_sigmask(SIG_BLOCK, &s, &old);
	pthread_create(&t, NULL, shooter, &self);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	echo_until(SHOTS);
	pthread_join(t, NULL);
	printf("%s: ran %d of %d\n", what, (int)ran, SHOTS);
}

static void one_shot(void)
{
	int good = 0;

	for (int i = 0; i < 60; i++) {
		struct sigaction a;

		handle(SIGUSR1, on_signal, SA_RESETHAND | SA_RESTART);
		ran = 0;
		pthread_t t = kill_later(pthread_self(), SIGUSR1, i % 2);
		echo_until(1);
		pthread_join(t, NULL);
		sigaction(SIGUSR1, NULL, &a);
		good += ran == 1 && a.sa_handler == SIG_DFL;
	}
	printf("SA_RESETHAND: %d\n", good);
}

/* A timer's signal has its place reserved, but cannot be queued a second time: it must wait in the library.
 */
static void on_timer(int sig, siginfo_t *info, void *context)
{
	(void)sig;
	(void)context;
	ran += info->si_value.sival_int == 77;
}

static timer_t timer_new(void)
{
	struct sigevent e = {
	    .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN + 2, .sigev_value.sival_int = 77};
	struct sigaction a = {.sa_sigaction = on_timer, .sa_flags = SA_SIGINFO | SA_RESTART};
	timer_t t;

	sigaction(SIGRTMIN + 2, &a, NULL);
	if (timer_create(CLOCK_MONOTONIC, &e, &t))
		exit(1);
	return t;
}

static void timer_shots(timer_t t)
{
	char b[64];

	ran = 0;
	for (int i = 0; i < SHOTS; i++) {
		struct itimerspec once = {.it_value.tv_nsec = 1000 + i * 997 % 100000};
		int before = ran;

		timer_settime(t, 0, &once, NULL);
		for (int k = 0; k < 500 && ran == before; k++) {
			send(sock, "0123456789", 10, 0);
			recv(sock, b, sizeof b, 0);
		}
	}
	printf("timer: ran %d of %d, each with its value\n", (int)ran, SHOTS);
}

int main(void)
{
	timer_t timer = timer_new();
	struct rlimit none = {0, 0};
	sigset_t mask;

	sock = peer_connect("e");
	shots("queueing allowed", SA_RESTART);
	setrlimit(RLIMIT_SIGPENDING, &none);
	shots("queueing refused", SA_RESTART);
	shots("SA_NODEFER", SA_RESTART | SA_NODEFER);
	timer_shots(timer);
	one_shot();
	sigprocmask(SIG_SETMASK, NULL, &mask);
	printf("blocked: %d %d\n", sigismember(&mask, SIGUSR1), sigismember(&mask, SIGTERM));
	return 0;
}
