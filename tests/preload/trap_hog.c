/*
 * Trap 31: the thread that the kernel elects for a frame is held off its CPU by
 * a real-time thread. Each sleeper is held in turn, so that one of the rounds
 * hits the elected one; the others, on another CPU, get what comes for them.
 * (Where real-time threads are not allowed it is an ordinary run.)
 */
#include "peer.h"
#include <sched.h>

#define SLEEPERS 5
#define HOG_MS	 500

static int fd[SLEEPERS], held;
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

	pin(i == held ? 0 : 1);
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
		msleep(HOG_MS);
	else
		for (long end = now_ms() + HOG_MS; now_ms() < end;)
			;
	hog_over = 1;
	return NULL;
}

/* lucky: the only one that gets data in time, or -1: all but the held one. */
static void round_of(int lucky)
{
	pthread_t t[SLEEPERS], h;
	int in_time = 0;

	hog_over = 0;
	for (int i = 0; i < SLEEPERS; i++) {
		int now = i != held && (lucky < 0 || i == lucky);
		fd[i] = peer_connect(now ? "d250 wx s" : "d700 wx s");
		early[i] = 0;
	}
	for (long i = 0; i < SLEEPERS; i++) {
		pthread_create(&t[i], NULL, sleeper, (void *)i);
		msleep(5); /* they queue for the device in this order */
	}
	msleep(100);
	pthread_create(&h, NULL, hog, NULL);
	for (int i = 0; i < SLEEPERS; i++)
		pthread_join(t[i], NULL);
	pthread_join(h, NULL);
	for (int i = 0; i < SLEEPERS; i++) {
		in_time += early[i];
		close(fd[i]);
	}
	printf("%d woke under the hog\n", in_time);
}

int main(void)
{
	pin(1);
	for (held = 0; held < SLEEPERS; held += 2)
		round_of(-1);
	for (held = 0; held < SLEEPERS; held++)
		round_of((held + 1) % SLEEPERS);
	return 0;
}
