/*
 * exit() from a handler that interrupted malloc(): programs do that, and nobody may
 * ask for memory from there to the end.
 */
#include "peer.h"
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#if !defined(__SANITIZE_ADDRESS__) &&                                                                        \
    !defined(__SANITIZE_THREAD__) /* whose allocators must be the only ones */
void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t n);

static __thread int ending;
static _Atomic int *asked;

void *malloc(size_t n)
{
	if (ending)
		++*asked;
	return __libc_malloc(n);
}

void *calloc(size_t n, size_t size)
{
	if (ending)
		++*asked;
	return __libc_calloc(n, size);
}

void *realloc(void *p, size_t n)
{
	if (ending)
		++*asked;
	return __libc_realloc(p, n);
}

static void on_signal(int sig)
{
	(void)sig;
	ending = 1;
	exit(7);
}

int main(void)
{
	int status = -1;
	pid_t p;
	FILE *f;

	asked = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	free(malloc(1));
	fflush(stdout);
	p = fork();
	if (!p) {
		signal(SIGTERM, on_signal);
		f = fdopen(peer_connect("r5 s"), "w");
		fputs("hello", f);
		raise(SIGTERM);
		_exit(1);
	}
	waitpid(p, &status, 0);
	printf("ended with %d, asked %d times for memory\n", WEXITSTATUS(status), *asked);
	return 0;
}
#else
int main(void)
{
	puts("the sanitizer's allocator must be the only one");
	return 0;
}
#endif
