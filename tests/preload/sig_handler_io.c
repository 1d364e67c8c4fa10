/*
 * A handler that writes to, and reads from, the very socket that its thread is
 * working on, thousands of times; its siginfo arrives whole.
 */
#include "peer.h"

#define SIGNALS 3000

#ifdef __SANITIZE_THREAD__ /* its runtime keeps one pending signal of a kind, over the kernel's TCP, too */
#define MERGED 1
#else
#define MERGED 0
#endif

static int sock, other;
static volatile long ran, bad, wrote;
static _Atomic long got;
static _Atomic long queued;

static void on_signal(int sig, siginfo_t *info, void *context)
{
	char c = 'h', b[16];
	int saved = errno;

	(void)context;
	ran++;
	if (sig != SIGRTMIN + 3 || info->si_code != SI_QUEUE || info->si_value.sival_int != 0x1234)
		bad++;
	if (send(sock, &c, 1, MSG_DONTWAIT) == 1)
		wrote++;
	if (recv(other, b, sizeof b, MSG_DONTWAIT) == 0)
		bad++;
	errno = saved;
}

static void *sender(void *arg)
{
	union sigval v = {.sival_int = 0x1234};

	long i, patience = now_ms() + 20000;

	/* Until the other has got somewhere between them. */
	for (i = 0; i < SIGNALS || (got <= 10 && now_ms() < patience); i++) {
		while (pthread_sigqueue(*(pthread_t *)arg, SIGRTMIN + 3, v))
			usleep(100);
		if (i % 8 == 0)
			usleep(100);
	}
	queued = i;
	return NULL;
}

int main(void)
{
	struct sigaction a = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_RESTART}, seen;
	pthread_t self = pthread_self(), t;
	sigset_t set, old;
	long sent = 0;
	char buf[4096] = {0};

	other = peer_connect("e");
	sigaction(SIGRTMIN + 3, &a, NULL);
	sock = peer_connect("e");
	sigaction(SIGRTMIN + 3, NULL, &seen);
	printf("sigaction shows our own: %d flags %x\n", seen.sa_sigaction == on_signal,
	       (unsigned)seen.sa_flags);
	sigfillset(&set);
	pthread_sigmask(SIG_SETMASK, &set, &old);
	pthread_create(&t, NULL, sender, &self);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	while (!queued || (ran < queued && !(MERGED && got > 10))) {
		if (send(sock, "abc", 3, 0) == 3)
			sent += 3;
		if (send(other, "z", 1, 0) == 1 && recv(sock, buf, sizeof buf, 0) > 0)
			got++;
	}
	pthread_join(t, NULL);
	shutdown(sock, SHUT_WR);
	long rest = 0, n;
	while ((n = recv(sock, buf, sizeof buf, 0)) > 0)
		rest += n;
	printf("ran %s bad %ld wrote %s end %s\n", ran == queued || MERGED ? "all" : "others", bad,
	       wrote > ran / 2 ? "most" : "few", result_text(n));
	printf("progress %s\n", sent > 100 && got > 10 ? "yes" : "no");
	sigprocmask(SIG_SETMASK, NULL, &set);
	n = 0;
	for (int i = 1; i < 64; i++)
		n += sigismember(&set, i) == 1;
	printf("signals left blocked: %ld\n", n);
	return 0;
}
