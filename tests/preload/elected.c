/*
 * One frame wakes one thread. If that thread runs a long handler, is stopped by
 * cancellation, or leaves its wait by siglongjmp(), the others must not sleep on
 * beside what came for them.
 *
 * In half of the rounds thread 0 is the first that the kernel tells of a frame.
 * A real-time thread keeps it off its CPU while both the disturbance and what is
 * for the other come, one after the other, at a word from here; then it does
 * nothing for the other until that has its byte. Nobody else would help: this
 * program makes no call of the stack meanwhile, no timer of the stack is
 * running, and the peer does not retransmit before (run.sh). Where real-time
 * threads are not allowed it is an ordinary run.
 */
#include "both.h"
#include <sched.h>
#include <setjmp.h>

#define SLEEPERS 2 /* a second frame would tell the next one */
#define ROUNDS	 4
#define TRIES	 10  /* for a round in which the real-time thread had to end too early */
#define HOG_MS	 800 /* the kernel allows real-time threads 950 ms of each second */
#define SYN_MS	 1500
#define QUIET_MS 250  /* for acknowledgements, which may be delayed */
#define LIMIT_MS 4000 /* only met by who was forgotten */

static int fd[SLEEPERS];
static _Atomic int woke, over, tid[SLEEPERS], hog_on, hog_end;
static sigjmp_buf env;

static void pin(int cpu)
{
	cpu_set_t s;

	CPU_ZERO(&s);
	CPU_SET(cpu, &s);
	pthread_setaffinity_np(pthread_self(), sizeof s, &s);
}

static void until_over(void)
{
	while (!over)
		sched_yield();
}

static void long_handler(int sig)
{
	(void)sig;
	until_over();
}

static void jump(int sig)
{
	siglongjmp(env, sig);
}

static void *sleeper(void *arg)
{
	long i = (long)arg;
	char c;

	pin(i ? 1 : 0);
	tid[i] = gettid();
	if (recv(fd[i], &c, 1, 0) == 1 && i)
		woke++;
	return NULL;
}

static void *leaver(void *arg)
{
	char c;

	(void)arg;
	pin(0);
	tid[0] = gettid();
	if (!sigsetjmp(env, 1))
		recv(fd[0], &c, 1, 0);
	until_over();
	return NULL;
}

/* Behind its call, and in the queue of the device. */
static void wait_asleep(int i)
{
	char path[60], state = 0;
	FILE *f;

	while (state != 'S') {
		nap(1);
		snprintf(path, sizeof path, "/proc/self/task/%d/stat", tid[i]);
		f = tid[i] ? fopen(path, "r") : NULL;
		if (f && fscanf(f, "%*d (%*[^)]) %c", &state) != 1)
			state = 0;
		if (f)
			fclose(f);
	}
}

/* True: it kept thread 0 from running for as long as was wanted. */
static void *hog(void *arg)
{
	struct sched_param p = {.sched_priority = 10};
	bool allowed = pthread_setschedparam(pthread_self(), SCHED_FIFO, &p) == 0;
	long end = now_ms() + HOG_MS;

	(void)arg;
	pin(0);
	hog_on = 1;
	while (!hog_end && (!allowed || now_ms() < end))
		if (!allowed)
			nap(1);
	return (void *)(long)hog_end;
}

static void disturb(pthread_t t, int how)
{
	if (how == 1)
		pthread_cancel(t);
	else
		pthread_kill(t, how == 2 ? SIGUSR2 : SIGUSR1);
}

/* The disturbance before what comes for the other, or between it and the thread that is woken for it. */
static bool while_it_cannot_run(pthread_t t, int how, bool before)
{
	pthread_t h;
	void *whole;

	hog_on = hog_end = 0;
	pthread_create(&h, NULL, hog, NULL);
	while (!hog_on)
		nap(1);
	if (before)
		disturb(t, how);
	peer("send 1");
	if (!before)
		disturb(t, how);
	hog_end = 1;
	pthread_join(h, &whole);
	return whole != NULL;
}

/* Did the other wake? -1: it cannot be told. */
static int try_round(int how, int round)
{
	pthread_t t[SLEEPERS];
	struct tcp_info info;
	socklen_t len = sizeof info;
	bool whole;
	int told;

	woke = over = 0;
	for (int place = 0; place < SLEEPERS; place++) {
		long i = round < ROUNDS / 2 ? place : SLEEPERS - 1 - place; /* in the queue of the device */

		tid[i] = 0;
		pthread_create(&t[i], NULL, i == 0 && how == 2 ? leaver : sleeper, (void *)i);
		wait_asleep((int)i);
	}
	nap(QUIET_MS);
	whole = while_it_cannot_run(t[0], how, round % 2);
	for (long end = now_ms() + LIMIT_MS; !woke && now_ms() < end;)
		nap(1);
	told = woke;
	over = 1;
	getsockopt(fd[0], SOL_TCP, TCP_INFO, &info, &len); /* the stack looks at what came */
	pthread_join(t[1], NULL);
	if (how == 0)
		pthread_cancel(t[0]);
	pthread_join(t[0], NULL);
	return whole ? told : -1;
}

static int round_of(int how, int round)
{
	int told = -1;

	for (int i = 0; i < TRIES && told < 0; i++)
		told = try_round(how, round);
	return told != 0;
}

static void run(const char *what, int how)
{
	int n = 0, round = 0;

	for (; round < ROUNDS && n == round; round++)
		n += round_of(how, round);
	SAY("%s: %d of %d woke", what, n, round);
}

static void handle(int sig, void (*f)(int), int flags)
{
	struct sigaction a = {.sa_handler = f, .sa_flags = flags};

	sigaction(sig, &a, NULL);
}

int main(void)
{
	pin(1);
	for (int i = 0; i < SLEEPERS; i++) {
		if (i)
			peer("keep");
		fd[i] = connected();
	}
	nap(SYN_MS); /* the timer may still be set to when the SYN would have been sent again */
	handle(SIGUSR1, long_handler, SA_RESTART);
	handle(SIGUSR2, jump, 0);
	run("a long handler", 0);
	run("cancelled", 1);
	run("siglongjmp", 2);
	return 0;
}
