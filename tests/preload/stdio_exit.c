/*
 * Streams that nobody closed: exit() flushes them after the last handler and
 * destructor, and the peer gets all of it, then FIN. Each case is a process of
 * its own that ends; what arrived is asked of the peer. Trap 4.
 */
#include "both.h"
#include "sealed.h"
#include <wchar.h>

#define LARGE 300000

static FILE *late; /* written by a handler and by a destructor */
static int late_fd = -1;

/* The peer reads from now on; the parent takes its answer. */
static int last_connection(void)
{
	int fd = connected();

	peer_later("sum 1000000");
	return fd;
}

static FILE *stream(void)
{
	return fdopen(last_connection(), "w");
}

static void handler(void)
{
	fprintf(late, " handler");
}

static void __attribute__((destructor)) destroyed(void)
{
	if (late)
		fprintf(late, " destructor");
	if (late_fd >= 0 && write(late_fd, " destructor", 11) != 11)
		_exit(3);
}

/* Called by the very flush. */
static ssize_t flushed(void *cookie, const char *buf, size_t n)
{
	(void)cookie;
	return write(late_fd, buf, n) == (ssize_t)n ? (ssize_t)n : 0;
}

static int returning(void)
{
	fprintf(stream(), "unflushed %d", 1);
	return 0;
}

static int exiting(void)
{
	late = stream();
	atexit(handler);
	fprintf(late, "main");
	exit(5);
}

static int two(void)
{
	FILE *a = stream(), *b = fdopen(dup(fileno(a)), "w");

	setvbuf(b, NULL, _IOLBF, 0);
	fputs("one line\nand a half", b);
	fflush(a);
	fputs(" of a", a);
	return 0;
}

static int wide(void)
{
	FILE *f = stream();

	fwprintf(f, L"wide %ls %d\n", L"characters", 7);
	return 0;
}

static int large(void)
{
	FILE *f = stream();

	for (int i = 0; i < LARGE; i++)
		putc('a' + i % 26, f);
	return 0;
}

static int standard_output(void)
{
	int fd = last_connection();

	dup2(fd, 1);
	close(fd);
	setvbuf(stdout, NULL, _IOFBF, 4096);
	printf("to the peer");
	return 0;
}

static int by_hand(void)
{
	static const cookie_io_functions_t io = {.write = flushed};
	FILE *f;

	late_fd = last_connection();
	f = fopencookie(NULL, "w", io);
	fprintf(f, " in the flush");
	return 0;
}

static int quick(void)
{
	FILE *f = stream();

	fprintf(f, "flushed");
	fflush(f);
	fprintf(f, "not flushed");
	quick_exit(0);
}

static int immediate(void)
{
	FILE *f = stream();

	fprintf(f, "flushed");
	fflush(f);
	fprintf(f, "not flushed");
	_exit(0);
}

static int closed_all(void)
{
	FILE *f = stream();

	fprintf(f, "flushed");
	fcloseall();
	return 0;
}

/* Input that was read ahead and never taken. */
static int reading(void)
{
	FILE *f = fdopen(connected(), "r+");
	char line[64];

	setvbuf(f, NULL, _IOFBF, 16);
	peer("send 16");
	SHOW(fgets(line, sizeof line, f) != NULL);
	fprintf(f, "answer");
	peer_later("sum 1000000");
	return 0;
}

static void *blocked(void *stream)
{
	fgetc(stream);
	return NULL;
}

/* A thread waits for input on the connection whose output is still to go. */
static int with_reader(void)
{
	FILE *f = fdopen(connected(), "r"), *out = fdopen(dup(fileno(f)), "w");
	pthread_t t;

	peer_later("sum 1000000");
	pthread_create(&t, NULL, blocked, f);
	nap(100);
	fprintf(out, "beside a reader");
	return 0;
}

static const struct {
	const char *name;
	int (*run)(void);
} cases[] = {{"return", returning}, {"exit", exiting},
	     {"two streams", two},  {"wide", wide},
	     {"large", large},	    {"stdout", standard_output},
	     {"by hand", by_hand},  {"quick_exit", quick},
	     {"_exit", immediate},  {"fcloseall", closed_all},
	     {"reading", reading},  {"a reader beside", with_reader}};

int main(void)
{
	stdio_seal();
	control_open();
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		int status;
		if (getenv("STDIO_SEALED") && (cases[i].run == standard_output || cases[i].run == wide))
			continue;
		fflush(stdout);
		pid_t pid = fork();
		if (!pid)
			return cases[i].run();
		waitpid(pid, &status, 0);
		SAY("%s: ended with %d; the peer got %ld", cases[i].name, WEXITSTATUS(status), peer_answer());
	}
	return 0;
}
