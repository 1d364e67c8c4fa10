/*
 * Trap 31: the thread that the kernel elected for a frame is held off its CPU by
 * a real-time thread. The others, on another CPU, get what comes for them.
 * (Where real-time threads are not allowed it is an ordinary run.)
 */
#include "peer.h"
#include <sched.h>

#define SLEEPERS 6

static int fd[SLEEPERS];
static _Atomic int hog_over, early[SLEEPERS];

static void pin(int cpu)
{
	cpu_set_t s;

	CPU_ZERO(&s);
	CPU_SET(cpu, &s);
	pthread_setaffinity_np(pthread_self(), sizeof s, &s);
}

static void *sleeper(void *arg)
{
	long i = (long)arg;
	char c;

	pin(i ? 1 : 0);
	if (recv(fd[i], &c, 1, 0) == 1)
		early[i] = !hog_over;
	return NULL;
}

static void *hog(void *arg)
{
	struct sched_param p = {.sched_priority = 10};

	(void)arg;
	pin(0);
	if (pthread_setschedparam(pthread_self(), SCHED_FIFO, &p))
		msleep(700);
	else
		for (long end = now_ms() + 700; now_ms() < end;)
			;
	hog_over = 1;
	return NULL;
}

int main(void)
{
	pthread_t t[SLEEPERS], h;
	int in_time = 0;

	pin(1);
	for (int i = 0; i < SLEEPERS; i++)
		fd[i] = peer_connect(i ? "d400 wx s" : "d1500 wx s");
	for (long i = 0; i < SLEEPERS; i++) {
		pthread_create(&t[i], NULL, sleeper, (void *)i);
		msleep(10); /* thread 0 is first in the queue of those to be elected */
	}
	msleep(200);
	pthread_create(&h, NULL, hog, NULL);
	for (int i = 0; i < SLEEPERS; i++)
		pthread_join(t[i], NULL);
	pthread_join(h, NULL);
	for (int i = 1; i < SLEEPERS; i++)
		in_time += early[i];
	printf("%d of %d woke under the hog\n", in_time, SLEEPERS - 1);
	return 0;
}
