/* select and pselect: sets, EBADF, time left, numbers above FD_SETSIZE, the mask. */
#include "peer.h"
#include <sys/resource.h>
#include <sys/select.h>

static void on_signal(int sig)
{
	(void)sig;
}

static char has(int fd, fd_set *s)
{
	return (((unsigned long *)(void *)s)[fd / 64] >> (fd % 64)) & 1 ? 'y' : '-';
}

static void put(int fd, fd_set *s)
{
	((unsigned long *)(void *)s)[fd / 64] |= 1ul << (fd % 64);
}

static void show(const char *what, int a, int b, int ms, const char *sets)
{
	static unsigned long r[64], w[64], x[64];
	fd_set *fr = (fd_set *)(void *)r, *fw = (fd_set *)(void *)w, *fx = (fd_set *)(void *)x;
	struct timeval tv = {ms / 1000, ms % 1000 * 1000};
	int n, max = a > b ? a : b;
	long left;

	memset(r, 0, sizeof r);
	memset(w, 0, sizeof w);
	memset(x, 0, sizeof x);
	for (const char *p = sets; *p; p++) {
		fd_set *s = *p == 'r' || *p == 'R' ? fr : *p == 'w' || *p == 'W' ? fw : fx;
		put(*p >= 'a' ? a : b, s);
	}
	n = select(max + 1, strpbrk(sets, "rR") ? fr : NULL, strpbrk(sets, "wW") ? fw : NULL,
		   strpbrk(sets, "xX") ? fx : NULL, ms < 0 ? NULL : &tv);
	left = tv.tv_sec * 1000 + tv.tv_usec / 1000;
	printf("%s: %s a:%c%c%c b:%c%c%c", what, result_text(n), has(a, fr), has(a, fw), has(a, fx),
	       has(b, fr), has(b, fw), has(b, fx));
	printf("%s\n", ms <= 0 ? "" : left == 0 ? " none left" : left < ms ? " time left" : " untouched");
}

static void high_number(int fd)
{
	struct rlimit l = {4096, 4096};
	int high;

	setrlimit(RLIMIT_NOFILE, &l);
	high = fcntl(fd, F_DUPFD, 2000);
	printf("high number %s\n", high == 2000 ? "2000" : "?");
	show("above FD_SETSIZE", high, fd, 100, "rwR");
	close(high);
}

static void masks(int fd)
{
	struct timespec zero = {0, 0}, sec = {3, 0};
	sigset_t block, none;
	fd_set r;

	handle(SIGUSR1, on_signal, SA_RESTART);
	sigemptyset(&none);
	sigemptyset(&block);
	sigaddset(&block, SIGUSR1);
	sigprocmask(SIG_BLOCK, &block, NULL);
	raise(SIGUSR1);
	FD_ZERO(&r);
	FD_SET(fd, &r);
	printf("pselect, blocked: %s\n", result_text(pselect(fd + 1, &r, NULL, NULL, &zero, NULL)));
	FD_SET(fd, &r);
	printf("pselect, let in: %s\n", result_text(pselect(fd + 1, &r, NULL, NULL, &zero, &none)));
	FD_SET(fd, &r);
	printf("pselect, none left: %s\n", result_text(pselect(fd + 1, &r, NULL, NULL, &zero, &none)));
	raise(SIGUSR1);
	FD_SET(fd, &r);
	printf("pselect, waiting: %s\n", result_text(pselect(fd + 1, &r, NULL, NULL, &sec, &none)));
	pthread_t t = kill_later(pthread_self(), SIGUSR1, 100);
	FD_SET(fd, &r);
	printf("pselect, later: %s\n", result_text(pselect(fd + 1, &r, NULL, NULL, &sec, &none)));
	pthread_join(t, NULL);
	raise(SIGUSR1);
	FD_ZERO(&r);
	printf("ready beats signal: %s\n",
	       result_text(pselect(fd + 1, NULL, (FD_SET(fd, &r), &r), NULL, &sec, &none)));
	sigpending(&block);
	printf("still pending: %d\n", sigismember(&block, SIGUSR1));
}

int main(void)
{
	int p[2], s = peer_connect("r1 wabc r1 f s"), q = peer_connect("s"), rst = peer_connect("r1 x");
	struct pollfd reset = {.fd = rst};
	char buf[8];

	if (pipe(p))
		return 1;
	show("writable", s, p[0], 1000, "rwxR");
	show("nothing", s, p[0], 50, "rR");
	send(s, "0", 1, 0);
	show("data", s, p[0], 5000, "rR");
	show("stack only", s, q, 5000, "rR");
	if (write(p[1], "x", 1) != 1)
		return 1;
	show("both", s, p[0], -1, "rR");
	printf("read %s\n", result_text(read(s, buf, 8)));
	show("pipe", s, p[0], 1000, "rwRX");
	send(s, "1", 1, 0);
	show("end of stream", s, q, 5000, "rR");
	send(rst, "0", 1, 0);
	poll(&reset, 1, 5000); /* writable it is before */
	show("reset", rst, q, 5000, "rwR");
	shutdown(q, SHUT_RDWR);
	msleep(200);
	show("hung up, only x", q, p[1], 50, "x");
	show("hung up", q, p[1], 50, "rwx");
	show("bad number", s, 40, 50, "rR"); /* the kernel ignores those beyond its table */
	printf("negative n: %s\n", result_text(select(-1, NULL, NULL, NULL, NULL)));
	high_number(rst);
	q = peer_connect("s");
	masks(q);
	return 0;
}
