/*
 * Trap 31: the thread that the kernel elects for a frame is held off its CPU by
 * a real-time thread. Each sleeper is held in turn, so that one of the rounds
 * hits the elected one; the others, on another CPU, get what comes for them.
 * (Where real-time threads are not allowed it is an ordinary run.)
 *
 * Nothing hangs on when a thread gets its turn: data is asked for when the hog
 * is on, and the hog stays until those who asked have theirs. Its limit is only
 * met when they were forgotten; it is below what the kernel grants real-time
 * threads (950 ms of each second), and leaves a peer time to retransmit.
 */
#include "peer.h"
#include <sched.h>

#define SLEEPERS 5
#define HOG_MS	 900
/*
 * The peer is not to be held, which over loopback would be inside the stack: it
 * says when it is out of the way. d20: when it answers, nobody who asked is
 * inside the stack any more.
 */
#define SCRIPT "o wr r1 d20 wx s"

static int fd[SLEEPERS], held, expected;
static _Atomic int hog_on, hog_over, arrived, early[SLEEPERS], tid[SLEEPERS];

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
	tid[i] = gettid();
	if (recv(fd[i], &c, 1, 0) == 1) {
		early[i] = !hog_over;
		arrived++;
	}
	return NULL;
}

static void *hog(void *arg)
{
	struct sched_param p = {.sched_priority = 10};
	long end = now_ms() + HOG_MS;
	int allowed;

	(void)arg;
	pin(0);
	allowed = pthread_setschedparam(pthread_self(), SCHED_FIFO, &p) == 0;
	hog_on = 1;
	while (arrived < expected && now_ms() < end)
		if (!allowed)
			msleep(1);
	hog_over = 1;
	return NULL;
}

static int asleep(int i)
{
	char path[60], state = 0;
	FILE *f;

	snprintf(path, sizeof path, "/proc/self/task/%d/stat", tid[i]);
	f = tid[i] ? fopen(path, "r") : NULL;
	if (f) {
		if (fscanf(f, "%*d (%*[^)]) %c", &state) != 1)
			state = 0;
		fclose(f);
	}
	return state == 'S';
}

static void ask(int i)
{
	if (send(fd[i], "!", 1, 0) != 1)
		perror("ask");
}

/* Does sleeper i get data under the hog? lucky: the only one that does, or -1: all but the held one. */
static int in_round(int i, int lucky)
{
	return i != held && (lucky < 0 || i == lucky);
}

static int attempt(int lucky)
{
	pthread_t t[SLEEPERS], h;
	int in_time = 0;
	char c;

	hog_on = hog_over = arrived = expected = 0;
	for (int i = 0; i < SLEEPERS; i++) {
		fd[i] = peer_connect(SCRIPT);
		early[i] = tid[i] = 0;
		expected += in_round(i, lucky);
	}
	for (int i = 0; i < SLEEPERS; i++)
		if (recv(fd[i], &c, 1, 0) != 1)
			perror("recv");
	for (long i = 0; i < SLEEPERS; i++) {
		pthread_create(&t[i], NULL, sleeper, (void *)i);
		do
			msleep(5);
		while (!asleep((int)i)); /* they queue for the device in this order */
	}
	msleep(100);
	pthread_create(&h, NULL, hog, NULL);
	while (!hog_on)
		msleep(1);
	for (int i = 0; i < SLEEPERS; i++)
		if (in_round(i, lucky))
			ask(i);
	pthread_join(h, NULL);
	for (int i = 0; i < SLEEPERS; i++)
		if (!in_round(i, lucky))
			ask(i);
	for (int i = 0; i < SLEEPERS; i++) {
		pthread_join(t[i], NULL);
		in_time += early[i];
		close(fd[i]);
	}
	return in_time;
}

/* Who was forgotten is forgotten each time; a busy machine may not get round to it all once. */
static void round_of(int lucky)
{
	int in_time, attempts = 0;

	do
		in_time = attempt(lucky);
	while (in_time < expected && ++attempts < 3);
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
