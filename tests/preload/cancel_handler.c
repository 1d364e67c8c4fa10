/*
 * pthread_cancel() of a thread that is in a handler over a call that blocks, or on its way into the handler
 * or out of it: the thread ends, and the others go on with what they have.
 */
#include "both.h"

#define ROUNDS	2000
#define SPIN_NS 30011

static int fd;
static _Atomic int handled, cancelled;

static void counts(int sig)
{
	(void)sig;
	handled++;
}

/* It is cancelled meanwhile, and ends with the call that it came over. */
static void waits(int sig)
{
	counts(sig);
	while (!cancelled)
		;
}

static void *blocked(void *arg)
{
	char c;

	(void)arg;
	return (void *)(long)recv(fd, &c, 1, 0);
}

static bool ends(pthread_t t)
{
	struct timespec limit;
	void *r = NULL;

	clock_gettime(CLOCK_REALTIME, &limit);
	limit.tv_sec += 20;
	if (pthread_timedjoin_np(t, &r, &limit)) {
		SAY("it hangs");
		_exit(1);
	}
	return r == PTHREAD_CANCELED;
}

static void handle(void (*f)(int))
{
	struct sigaction a = {.sa_handler = f, .sa_flags = SA_RESTART};

	sigaction(SIGUSR1, &a, NULL);
}

static long now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000L + ts.tv_nsec;
}

static void spin_ns(long ns)
{
	for (long end = now_ns() + ns; now_ns() < end;)
		;
}

static void at_any_moment(void)
{
	int good = 0;

	handle(counts);
	for (int i = 0; i < ROUNDS; i++) {
		pthread_t t;

		pthread_create(&t, NULL, blocked, NULL);
		usleep(200); /* it is asleep, as a rule */
		handled = 0;
		pthread_kill(t, SIGUSR1);
		if (i % 2)
			while (!handled)
				;
		spin_ns(i * 37 % SPIN_NS);
		pthread_cancel(t);
		good += ends(t);
	}
	SAY("at any moment: %d of %d", good, ROUNDS);
}

static void in_the_handler(void)
{
	pthread_t t;

	handle(waits);
	handled = cancelled = 0;
	pthread_create(&t, NULL, blocked, NULL);
	nap(50);
	pthread_kill(t, SIGUSR1);
	while (!handled)
		nap(1);
	pthread_cancel(t);
	cancelled = 1;
	SAY("in the handler: %d", ends(t));
}

int main(void)
{
	pthread_t t;
	void *r;

#ifdef __SANITIZE_THREAD__
	puts("the thread sanitizer's runtime puts a handler off until recv() ends, over the kernel's TCP, "
	     "too");
	return 0;
#endif
	fd = connected();
	in_the_handler();
	at_any_moment();
	pthread_create(&t, NULL, blocked, NULL);
	nap(50);
	SHOW(peer("send 1"));
	pthread_join(t, &r);
	SAY("another thread: %ld", (long)r);
	return 0;
}
