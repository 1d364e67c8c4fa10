/*
 * One frame wakes one thread. If that thread runs a long handler, is stopped by
 * cancellation, or leaves its wait by siglongjmp(), the others must not sleep on
 * beside what came for them.
 */
#include "peer.h"

#define SLEEPERS 6

static int fd[SLEEPERS];
static _Atomic long woke[SLEEPERS];
static sigjmp_buf env;

static void long_handler(int sig)
{
	(void)sig;
	for (long t0 = now_ms(); now_ms() - t0 < 700;)
		;
}

static void jump(int sig)
{
	siglongjmp(env, sig);
}

static void *sleeper(void *arg)
{
	long i = (long)arg;
	char c;

	if (recv(fd[i], &c, 1, 0) == 1)
		woke[i] = now_ms();
	return NULL;
}

static void *leaver(void *arg)
{
	char c;

	(void)arg;
	if (!sigsetjmp(env, 1))
		recv(fd[0], &c, 1, 0);
	for (long t0 = now_ms(); now_ms() - t0 < 700;)
		;
	return NULL;
}

/* Thread 0 is disturbed when the data of all the others is about to arrive. */
static void run(const char *what, int how)
{
	pthread_t t[SLEEPERS];
	long t0;
	int prompt = 0;

	for (int i = 0; i < SLEEPERS; i++) {
		fd[i] = peer_connect(i ? "d300 wx s" : "d1500 wx s");
		woke[i] = 0;
	}
	t0 = now_ms();
	for (long i = 0; i < SLEEPERS; i++)
		pthread_create(&t[i], NULL, i == 0 && how == 2 ? leaver : sleeper, (void *)i);
	msleep(280);
	if (how == 1)
		pthread_cancel(t[0]);
	else
		pthread_kill(t[0], how == 2 ? SIGUSR2 : SIGUSR1);
	for (int i = 0; i < SLEEPERS; i++)
		pthread_join(t[i], NULL);
	for (int i = 1; i < SLEEPERS; i++)
		prompt += woke[i] && woke[i] - t0 < 300 + 250;
	printf("%s: %d of %d woke in time\n", what, prompt, SLEEPERS - 1);
	for (int i = 0; i < SLEEPERS; i++)
		close(fd[i]);
}

int main(void)
{
	handle(SIGUSR1, long_handler, SA_RESTART);
	handle(SIGUSR2, jump, 0);
	run("a long handler", 0);
	run("cancelled", 1);
	run("siglongjmp", 2);
	return 0;
}
