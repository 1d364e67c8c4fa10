/*
 * Streams over sockets, both ways: lines, words, bytes, wide characters, their
 * buffers, time-outs and errors; fclose() and freopen() and what the number is
 * afterwards; dprintf(). Traps 4 and 5.
 */
#include "both.h"
#include "sealed.h"
#include <wchar.h>

int __dprintf_chk(int fd, int flag, const char *format, ...);
int __vdprintf_chk(int fd, int flag, const char *format, va_list ap);

static bool sealed;
static char path[] = "/tmp/utcp-stdio.XXXXXX";

static const char *file_text(int fd)
{
	static char text[32];
	ssize_t n = read(fd, text, sizeof text - 1);

	text[n < 0 ? 0 : n] = 0;
	return text;
}

static long checksum(const void *p, size_t n)
{
	long sum = 0;
	for (size_t i = 0; i < n; i++)
		sum = (sum * 31 + ((const uint8_t *)p)[i]) % 1000003;
	return sum;
}

static void reading(void)
{
	FILE *f = fdopen(connected(), "r");
	char buf[4096], *line = NULL;
	size_t size = 0;

	SAY("-- reading");
	peer("send 2000");
	SHOW(fgets(buf, sizeof buf, f) != NULL);
	SHOW(strlen(buf));
	SHOW(getline(&line, &size, f));
	SHOW(checksum(line, 251));
	SHOW(getc(f));
	SHOW(ungetc('x', f));
	SHOW(getc(f));
	SHOW(fread(buf, 1, 1000, f));
	SHOW(checksum(buf, 1000));
	SHOW(getdelim(&line, &size, 200, f));
	SHOW(fread_unlocked(buf, 7, 3, f));
	peer("shutdown");
	SHOW(fread(buf, 1, sizeof buf, f));
	SHOW(feof(f));
	SHOW(ferror(f));
	SHOW(fgetc(f));
	SHOW(fclose(f));
	free(line);
}

static void wide(void)
{
	FILE *f = fdopen(connected(), "r+");
	wchar_t line[64];

	SAY("-- wide");
	SHOW(fwide(f, 1) > 0);
	peer("send 40");
	SHOW(fgetws(line, 64, f) != NULL);
	SHOW(wcslen(line));
	SHOW(fgetwc(f));
	SHOW(fwprintf(f, L"%ls-%d", L"wide", 12));
	SHOW(fflush(f));
	SHOW(peer("sum 7"));
	SHOW(fclose(f));
	SHOW(peer("recv 1"));
}

static void writing(void)
{
	FILE *f = fdopen(connected(), "r+");
	static char block[100000];
	int fd = fileno(f);

	SAY("-- writing");
	for (size_t i = 0; i < sizeof block; i++)
		block[i] = (char)(i % 251);
	SHOW(fileno(f));
	SHOW(fwrite(block, 1, sizeof block, f));
	SHOW(fflush(f));
	SHOW(peer("check 100000"));
	SHOW(fprintf(f, "number %d, text %s", 42, "of some length"));
	SHOW(polled(fd, POLLIN, 0));
	SHOW(fputc('!', f));
	SHOW(fflush(f));
	SHOW(peer("sum 31"));
	SHOW(setvbuf(f, NULL, _IONBF, 0));
	SHOW(fputs("unbuffered", f) >= 0);
	SHOW(peer("sum 10"));
	/* a stream for both ways has one buffer: it is flushed before the answer is read */
	SHOW(fputs("question", f) >= 0);
	peer("sum 8");
	peer("send 12");
	SHOW(fflush(f));
	SHOW(fread(block, 1, 12, f));
	SHOW(checksum(block, 12));
	SHOW(fclose(f));
	SHOW(peer("recv 1"));
	SHOW(fcntl(fd, F_GETFD));
}

static void positions(void)
{
	FILE *f = fdopen(connected(), "r+");
	struct stat st;

	SAY("-- positions");
	SHOW(fseek(f, 0, SEEK_SET));
	SHOW(ftell(f));
	SHOW(fseeko64(f, 10, SEEK_CUR));
	SHOW(ftruncate(fileno(f), 0));
	SHOW(fstat(fileno(f), &st));
	SHOW(st.st_mode & S_IFMT);
	SHOW(st.st_blksize);
	SHOW(fclose(f));
}

static void failing(void)
{
	struct timeval soon = {0, 200000};
	static char block[8 << 20];
	FILE *f = fdopen(connected(), "r+");
	int fd = fileno(f);
	long n;

	SAY("-- failing");
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &soon, sizeof soon);
	SHOW(fgetc(f));
	SHOW(ferror(f));
	clearerr(f);
	fcntl(fd, F_SETFL, O_NONBLOCK);
	SHOW(fgetc(f));
	clearerr(f);
	errno = 0;
	n = (long)fwrite(block, 1, sizeof block, f);
	SAY("a full buffer: %s %s %d", n > 0 && n < (long)sizeof block ? "some" : "all or none",
	    strerrorname_np(errno), ferror(f) != 0);
	peer("rst");
	polled(fd, POLLIN, 20000);
	clearerr(f);
	signal(SIGPIPE, SIG_IGN);
	SHOW(fgetc(f));
	SHOW(fputs("x", f) == EOF || fflush(f) == EOF);
	SHOW(fclose(f) == 0 || errno == EPIPE);
	SHOW(fcntl(fd, F_GETFD));
}

static void opening(void)
{
	int fd = connected(), f;

	SAY("-- opening");
	SHOW(fdopen(fd, "x") != NULL);
	SHOW(fdopen(999, "r") != NULL);
	FILE *a = fdopen(fd, "a");
	SHOW((fcntl(fd, F_GETFL) & O_APPEND) != 0);
	SHOW(fprintf(a, "appended"));
	SHOW(fclose(a));
	SHOW(peer("sum 100"));
	SHOW((f = open(path, O_RDONLY)) == fd);
	SAY("%s", file_text(f));
	close(f);
	/* a stream on a socket that is not connected yet */
	int port = (int)peer("listen");
	fd = socket(AF_INET, SOCK_STREAM, 0);
	a = fdopen(fd, "r+");
	SHOW(connect_to(fd, peer_addr(), port));
	peer("accept");
	SHOW(fputs("early", a) >= 0);
	SHOW(fclose(a));
	SHOW(peer("sum 100"));
	/* and on one that never is: the number is a file then */
	fd = socket(AF_INET, SOCK_STREAM, 0);
	SHOW(fclose(fdopen(fd, "r")));
	SHOW((f = open(path, O_RDONLY)) == fd);
	SHOW(connect_to(f, peer_addr(), port));
	SAY("%s", file_text(f));
	close(f);
}

static void reopening(void)
{
	int fd = connected();
	FILE *f = fdopen(fd, "w"), *g;

	SAY("-- reopening");
	fprintf(f, "before");
	SHOW((g = freopen(path, "r", f)) == f);
	SHOW(g && fileno(g) == fd);
	SHOW(peer("sum 100"));
	SAY("%s", file_text(fd));
	if (g)
		fclose(g);
	fd = connected();
	f = fdopen(fd, "w");
	fprintf(f, "again");
	errno = 0;
	g = freopen(NULL, "r", f);
	SAY("a socket has no name: %s %s", g ? "opened" : "refused", strerrorname_np(errno));
	SHOW(peer("sum 100"));
	SHOW(fcntl(fd, F_GETFD));
}

static void borrowed(void)
{
	int fd = connected(), keep = dup(1);
	char line[64] = "";

	SAY("-- stdout and stdin are the socket");
	fflush(stdout);
	dup2(fd, 1);
	printf("through stdout");
	fflush(stdout);
	dup2(keep, 1);
	SHOW(peer("sum 14"));
	peer("send 11");
	dup2(fd, 0);
	SHOW(fgets(line, sizeof line, stdin) != NULL);
	SHOW(strlen(line));
	SHOW(fclose(stdin));
	close(fd);
	SHOW(peer("recv 1"));
	close(keep);
	open(path, O_RDONLY);
}

static int v(int fd, int flag, const char *format, ...)
{
	va_list ap;
	int r;

	va_start(ap, format);
	r = flag < 0 ? vdprintf(fd, format, ap) : __vdprintf_chk(fd, flag, format, ap);
	va_end(ap);
	return r;
}

static void descriptors(void)
{
	int fd = connected(), tail = 0;
	FILE *f __attribute__((unused));
	char line[64] __attribute__((unused)) = "";

	SAY("-- dprintf, popen");
	SHOW(dprintf(fd, "%s %5.2f%n", "number", 1.5, &tail));
	SHOW(tail);
	SHOW(__dprintf_chk(fd, 1, "%d", 7));
	SHOW(v(fd, -1, "%s", "list"));
	SHOW(v(fd, 1, "%c", 'c'));
	SHOW(dprintf(fd, "%05000d", 1));
	SHOW(dprintf(fd, "%s", ""));
	SHOW(peer("sum 5017"));
	SHOW(dprintf(-1, "x"));
#ifndef __SANITIZE_THREAD__ /* whose runtime does not start in a shell, which was not built with it */
	f = popen("echo popened", "r");
	SHOW(fgets(line, sizeof line, f) != NULL);
	SAY("%s", line);
	SHOW(pclose(f));
#endif
	close(fd);
	signal(SIGPIPE, SIG_IGN);
	SHOW(dprintf(fd, "closed"));
}

static void *read_one(void *f)
{
	return (void *)(long)fgetc(f);
}

/* A thread that waits in a stream is cancelled: the stream is free again and goes on. */
static void cancelled(void)
{
	FILE *f = fdopen(connected(), "r+");
	void *end;
	pthread_t t;

	SAY("-- cancelled");
	pthread_create(&t, NULL, read_one, f);
	/* until it waits: a lock that we took would keep it from that */
	for (int i = 0; i < 2000 && !ftrylockfile(f); i++) {
		funlockfile(f);
		nap(10);
	}
	SHOW(pthread_cancel(t));
	SHOW(pthread_join(t, &end));
	SHOW(end == PTHREAD_CANCELED);
	SHOW(ftrylockfile(f));
	funlockfile(f);
	peer("send 2");
	SHOW(fgetc(f));
	SHOW(fgetc(f));
	SHOW(fputs("after", f) >= 0);
	SHOW(fclose(f));
	SHOW(peer("sum 100"));
}

/* Over the kernel as well: streams are left open on purpose, freopen() gives up one that failed. */
#include "noleaks.h"

int main(void)
{
	int f = mkstemp(path);

	stdio_seal();
	sealed = getenv("STDIO_SEALED") != NULL;
	if (f < 0 || write(f, "of the file", 11) != 11)
		return 1;
	close(f);
	control_open();
	reading();
	if (!sealed)
		wide(); /* fopencookie() knows bytes only */
	writing();
	positions();
	failing();
	opening();
	if (!sealed) {
		reopening();
		borrowed();
	}
	descriptors();
	cancelled();
	unlink(path);
	return 0;
}
