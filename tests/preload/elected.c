/*
 * One frame wakes one thread. If that thread runs a long handler, is stopped by
 * cancellation, or leaves its wait by siglongjmp(), the others must not sleep on
 * beside what came for them.
 *
 * In half of the rounds thread 0 is the first that the kernel tells of a frame.
 * A real-time thread keeps it off its CPU while both the disturbance and what is
 * for the others come; then it does nothing for them until they have theirs. The
 * limit is only met when they were forgotten: no timer of the stack is running,
 * and the peer does not retransmit before (run.sh). Where real-time threads are not allowed it is an ordinary
 * run.
 */
#include "peer.h"
#include <sched.h>
#include <stdbool.h>

#define SLEEPERS  2 /* a second frame would tell the next one */
#define ROUNDS	  4
#define ANSWER_MS 200 /* half of it is for what comes before: acknowledgements, which the peer may delay */
#define LIMIT_MS  4000

static int fd[SLEEPERS];
static _Atomic int woke, tid[SLEEPERS], hog_on, hog_end;
static sigjmp_buf env;

static void pin(int cpu)
{
	cpu_set_t s;

	CPU_ZERO(&s);
	CPU_SET(cpu, &s);
	pthread_setaffinity_np(pthread_self(), sizeof s, &s);
}

static void until_all_woke(void)
{
	for (long end = now_ms() + LIMIT_MS; woke < SLEEPERS - 1 && now_ms() < end;)
		;
}

static void long_handler(int sig)
{
	(void)sig;
	until_all_woke();
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
	until_all_woke();
	return NULL;
}

/* Behind its call, and in the queue of the device. */
static void wait_asleep(int i)
{
	char path[60], state = 0;
	FILE *f;

	while (state != 'S') {
		msleep(1);
		snprintf(path, sizeof path, "/proc/self/task/%d/stat", tid[i]);
		f = tid[i] ? fopen(path, "r") : NULL;
		if (f && fscanf(f, "%*d (%*[^)]) %c", &state) != 1)
			state = 0;
		if (f)
			fclose(f);
	}
}

static void *hog(void *arg)
{
	struct sched_param p = {.sched_priority = 10};
	bool allowed = pthread_setschedparam(pthread_self(), SCHED_FIFO, &p) == 0;
	long end = now_ms() + 500; /* the kernel allows real-time threads 950 ms of each second */

	(void)arg;
	pin(0);
	hog_on = 1;
	while (!hog_end && now_ms() < end)
		if (!allowed)
			msleep(1);
	return NULL;
}

static void disturb(pthread_t t, int how)
{
	if (how == 1)
		pthread_cancel(t);
	else
		pthread_kill(t, how == 2 ? SIGUSR2 : SIGUSR1);
}

static void sleep_until(long ms)
{
	for (long left = ms - now_ms(); left > 0; left = ms - now_ms())
		msleep((int)left);
}

static int round_of(int how, int round)
{
	const struct timeval limit = {LIMIT_MS / 1000, 0};
	pthread_t t[SLEEPERS], h;
	long start;

	woke = hog_on = hog_end = 0;
	for (int place = 0; place < SLEEPERS; place++) {
		long i = round < ROUNDS / 2 ? place : SLEEPERS - 1 - place; /* in the queue of the device */

		fd[i] = peer_connect(i ? "o d200 wx s" : "o r1 wx s");
		setsockopt(fd[i], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
		tid[i] = 0;
		pthread_create(&t[i], NULL, i == 0 && how == 2 ? leaver : sleeper, (void *)i);
		wait_asleep((int)i);
	}
	start = now_ms();
	sleep_until(start + ANSWER_MS / 2);
	pthread_create(&h, NULL, hog, NULL);
	while (!hog_on)
		msleep(1);
	/* before what comes for the others, or between it and the thread that was woken for it */
	if (round % 2)
		disturb(t[0], how);
	sleep_until(start + ANSWER_MS + 60);
	if (round % 2 == 0)
		disturb(t[0], how);
	hog_end = 1;
	pthread_join(h, NULL);
	for (int i = 1; i < SLEEPERS; i++)
		pthread_join(t[i], NULL);
	send(fd[0], "!", 1, 0);
	pthread_join(t[0], NULL);
	for (int i = 0; i < SLEEPERS; i++)
		close(fd[i]);
	return woke;
}

static void run(const char *what, int how)
{
	int n = 0, round = 0;

	for (; round < ROUNDS && n == round * (SLEEPERS - 1); round++)
		n += round_of(how, round);
	printf("%s: %d of %d woke\n", what, n, round * (SLEEPERS - 1));
}

int main(void)
{
	pin(1);
	handle(SIGUSR1, long_handler, SA_RESTART);
	handle(SIGUSR2, jump, 0);
	run("a long handler", 0);
	run("cancelled", 1);
	run("siglongjmp", 2);
	return 0;
}
