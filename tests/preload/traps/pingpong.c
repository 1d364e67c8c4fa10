/*
 * pingpong.c ROUNDS THREADS - round trips of one byte by the main thread, while
 * other threads wait on connections that stay silent. Prints how often the
 * process gave up its CPU. Traps 1, 19.
 */
#include "../peer.h"
#include <sys/resource.h>

static void *silent(void *arg)
{
	char b;

	(void)arg;
	recv(peer_connect("s"), &b, 1, 0);
	return NULL;
}

int main(int argc, char **argv)
{
	int rounds = argc > 1 ? atoi(argv[1]) : 1000, others = argc > 2 ? atoi(argv[2]) : 0;
	int fd = peer_connect("e");
	struct rusage a, z;
	pthread_t t;
	char b;

	for (int i = 0; i < others; i++)
		pthread_create(&t, NULL, silent, NULL), pthread_detach(t);
	msleep(50);
	getrusage(RUSAGE_SELF, &a);
	for (int i = 0; i < rounds; i++)
		if (send(fd, "x", 1, 0) != 1 || recv(fd, &b, 1, 0) != 1)
			return 1;
	getrusage(RUSAGE_SELF, &z);
	printf("%ld\n", z.ru_nvcsw - a.ru_nvcsw);
	return 0;
}
