/* 48 threads, each blocking on its own connection, all accepting from one listener. */
#include "peer.h"

#define THREADS 48

static int listener;
static _Atomic int accepted, echoed;

static void *acceptor(void *arg)
{
	int c = accept(listener, NULL, NULL);
	char b[8];

	(void)arg;
	if (c < 0)
		return NULL;
	accepted++;
	if (recv(c, b, 5, MSG_WAITALL) == 5 && send(c, b, 5, 0) == 5)
		echoed++;
	close(c);
	return NULL;
}

static void *caller(void *arg)
{
	int fd = peer_connect("e");
	char b[16];

	for (int i = 0; i < 50; i++)
		if (send(fd, "hello", 5, 0) != 5 || recv(fd, b, 5, MSG_WAITALL) != 5)
			return NULL;
	close(fd);
	return arg;
}

int main(void)
{
	pthread_t a[THREADS], c[THREADS];
	int port, done = 0, back[THREADS];
	void *r;

	listener = listen_any(&port);
	for (int i = 0; i < THREADS; i++)
		pthread_create(&a[i], NULL, acceptor, NULL);
	for (long i = 0; i < THREADS; i++)
		pthread_create(&c[i], NULL, caller, (void *)(i + 1));
	for (int i = 0; i < THREADS; i++)
		back[i] = peer_call_back(port, "whello r5");
	for (int i = 0; i < THREADS; i++) {
		pthread_join(a[i], NULL);
		pthread_join(c[i], &r);
		done += r != NULL;
		close(back[i]);
	}
	printf("accepted %d echoed %d callers %d\n", accepted, echoed, done);
	return 0;
}
