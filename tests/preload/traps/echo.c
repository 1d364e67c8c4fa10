/*
 * echo.c - connections from wherever the script puts them: main(), a constructor
 * (-DEARLY), the constructor of a shared library (-DEARLY -DLIBRARY), or a C++
 * object (-DPART, with early.cc). Threads and malloc() take part. Trap 21.
 */
#include "../peer.h"

#define BYTES	200000
#define THREADS 4

static void *one(void *arg)
{
	unsigned char *out = (unsigned char *)malloc(BYTES), *in = (unsigned char *)calloc(1, BYTES);
	int fd = peer_connect("e");
	ssize_t sent = 0, got = 0, n;

	for (int i = 0; i < BYTES; i++)
		out[i] = (unsigned char)(i * 7 + (long)arg);
	while (got < BYTES) {
		size_t part = BYTES - sent > 4096 ? 4096 : (size_t)(BYTES - sent);
		if (part && (n = send(fd, out + sent, part, 0)) > 0)
			sent += n;
		if ((n = recv(fd, in + got, (size_t)(sent - got), 0)) <= 0)
			break;
		got += n;
	}
	close(fd);
	n = got == BYTES && !memcmp(in, out, BYTES);
	free(in);
	free(out);
	return (void *)n;
}

static int works(void)
{
	pthread_t t[THREADS];
	int good = 0;

	good += one(NULL) != NULL;
	for (long i = 0; i < THREADS; i++)
		pthread_create(&t[i], NULL, one, (void *)i);
	for (int i = 0; i < THREADS; i++) {
		void *r;
		pthread_join(t[i], &r);
		good += r != NULL;
	}
	return good;
}

#ifdef EARLY
static int early;
__attribute__((constructor)) static void before_main(void)
{
	early = works();
}
#endif

#if defined(PART)
int echo_works(void);
int echo_works(void)
{
	return works();
}
#elif defined(LIBRARY)
int echo_early(void);
int echo_early(void)
{
	return early;
}
#else
#ifdef USES_LIBRARY
int echo_early(void);
#endif

int main(void)
{
#if defined(USES_LIBRARY)
	printf("before main %d\n", echo_early());
#elif defined(EARLY)
	printf("before main %d\n", early);
#endif
	printf("in main %d\n", works());
	return 0;
}
#endif
