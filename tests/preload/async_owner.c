/*
 * Who gets which signal with what: SIGIO and F_SETSIG's signal for each event of a
 * socket, to a process, a thread, a group; SIGURG with and without O_ASYNC; set
 * by fcntl() and by ioctl(), before and after connect(), on listeners and accepted
 * sockets. fcntl(2), socket(7).
 */
#include "both.h"

struct seen {
	int sig, code, fd, tid;
	long band;
};
static struct seen seen[64];
static volatile int count;

static void handler(int sig, siginfo_t *info, void *context)
{
	int i = count;

	(void)context;
	if (i < 64)
		seen[i] =
		    (struct seen){sig, info->si_code, info->si_fd, (int)syscall(SYS_gettid), info->si_band};
	count = i + 1;
}

static const char *code_name(int code)
{
	static const char *const names[] = {"0",	"POLL_IN",  "POLL_OUT", "POLL_MSG",
					    "POLL_ERR", "POLL_PRI", "POLL_HUP"};
	return code >= 0 && code <= 6 ? names[code] : code == SI_KERNEL ? "SI_KERNEL" : "other";
}

static int by_kind(const void *a, const void *b)
{
	const struct seen *x = a, *y = b;
	return x->sig != y->sig ? x->sig - y->sig : x->code - y->code;
}

static int kinds(void)
{
	int n = count < 64 ? count : 64, kinds = 0;

	for (int i = 0; i < n; i++) {
		int before = 0;

		while (before < i && by_kind(&seen[i], &seen[before]))
			before++;
		kinds += before == i;
	}
	return kinds;
}

/* What came, each kind once: the kernel may send more than one of the same. */
static void told(const char *what, int fd, int expected)
{
	for (long until = now_ms() + 20000; kinds() < expected && now_ms() < until;)
		nap(2);
	nap(60); /* and what should not */
	int n = count < 64 ? count : 64;
	qsort(seen, (size_t)n, sizeof seen[0], by_kind);
	printf("%s:", what);
	for (int i = 0; i < n; i++) {
		if (i && !by_kind(&seen[i], &seen[i - 1]))
			continue;
		printf(" %s", seen[i].sig == SIGIO ? "SIGIO" : seen[i].sig == SIGURG ? "SIGURG" : "SIGRTMIN");
		if (seen[i].sig != SIGURG)
			printf("(%s, band %lx%s)", code_name(seen[i].code),
			       seen[i].code == SI_KERNEL ? 0 : (unsigned long)seen[i].band,
			       seen[i].code == SI_KERNEL ? ""
			       : seen[i].fd == fd	 ? ", fd"
							 : ", another fd");
		if (seen[i].tid != getpid())
			printf(" in a thread");
	}
	puts("");
	count = 0;
}

static void events(int fd, const char *what, int io)
{
	char buf[64];

	SAY("%s", what);
	told("nothing", fd, 0);
	peer("send 3");
	told("data", fd, io);
	peer("send 3");
	told("more data", fd, io);
	recv(fd, buf, sizeof buf, 0);
	told("read", fd, 0);
	send(fd, "x", 1, 0);
	told("written", fd, 0);
	peer("oob");
	told("urgent", fd, io ? fcntl(fd, F_GETSIG) ? 3 : 2 : fcntl(fd, F_GETOWN) != 0);
	recv(fd, buf, 1, MSG_OOB);
	peer("send 3");
	told("data after it", fd, io);
	peer("shutdown");
	told("FIN", fd, io);
	shutdown(fd, SHUT_WR);
	told("SHUT_WR", fd, 0);
	peer("close");
	told("closed", fd, 0);
}

static int armed(int sig, int own)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	fcntl(fd, F_SETSIG, sig);
	if (own)
		fcntl(fd, F_SETOWN, getpid());
	fcntl(fd, F_SETFL, O_ASYNC);
	return fd;
}

static void owners(int fd)
{
	struct f_owner_ex ex = {F_OWNER_PID, getpid()};
	int v;

	SHOW(fcntl(fd, F_GETOWN));
	SHOW(fcntl(fd, F_GETSIG));
	SHOW(fcntl(fd, F_SETSIG, -1));
	SHOW(fcntl(fd, F_SETSIG, 65));
	SHOW(fcntl(fd, F_SETSIG, 0));
	v = getpid();
	SHOW(ioctl(fd, FIOSETOWN, &v));
	v = 0;
	SHOW(ioctl(fd, SIOCGPGRP, &v));
	SHOW(v == getpid());
	v = -getpgrp();
	SHOW(ioctl(fd, SIOCSPGRP, &v));
	v = 0;
	SHOW(ioctl(fd, FIOGETOWN, &v));
	SHOW(v == -getpgrp());
	SHOW(fcntl(fd, F_GETOWN_EX, &ex));
	SHOW(ex.type);
	SHOW(ex.pid == getpgrp());
	ex = (struct f_owner_ex){F_OWNER_TID, (pid_t)syscall(SYS_gettid)};
	SHOW(fcntl(fd, F_SETOWN_EX, &ex));
	SHOW(fcntl(fd, F_GETOWN_EX, &ex));
	SHOW(ex.type);
	ex.type = 7;
	SHOW(fcntl(fd, F_SETOWN_EX, &ex));
	ex = (struct f_owner_ex){F_OWNER_PID, 0x3fffffff};
	SHOW(fcntl(fd, F_SETOWN_EX, &ex));
	v = 0x3fffffff;
	SHOW(ioctl(fd, FIOSETOWN, &v));
	SHOW(fcntl(fd, F_SETOWN, 0));
	SHOW(ioctl(fd, FIOSETOWN, NULL));
}

static void *thread_owner(void *arg)
{
	int fd = *(int *)arg;
	struct f_owner_ex ex = {F_OWNER_TID, (pid_t)syscall(SYS_gettid)};
	sigset_t io;

	sigemptyset(&io);
	sigaddset(&io, SIGRTMIN);
	pthread_sigmask(SIG_UNBLOCK, &io, NULL);
	fcntl(fd, F_SETOWN_EX, &ex);
	__atomic_store_n((int *)arg, -1, __ATOMIC_RELEASE);
	for (int i = 0; i < 3000 && __atomic_load_n((int *)arg, __ATOMIC_ACQUIRE) == -1; i++)
		nap(1);
	return NULL;
}

int main(void)
{
	struct sigaction sa = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_RESTART};
	int port, fd, l, v, one = 1;
	pthread_t t;

#ifdef __SANITIZE_THREAD__
	puts("the thread sanitizer's runtime keeps one signal of a kind, over the kernel's TCP, too");
	return 0;
#endif
	setvbuf(stdout, NULL, _IOLBF, 0);
	sigaction(SIGIO, &sa, NULL);
	sigaction(SIGURG, &sa, NULL);
	sigaction(SIGRTMIN, &sa, NULL);

	/* before there is any stack: by ioctl(), then connect() */
	port = (int)peer("listen");
	fd = socket(AF_INET, SOCK_STREAM, 0);
	v = getpid();
	SHOW(ioctl(fd, FIOSETOWN, &v));
	v = 1;
	SHOW(ioctl(fd, FIOASYNC, &v));
	connect_to(fd, peer_addr(), port);
	peer("accept");
	told("connected", fd, 1);
	close(fd);

	fd = socket(AF_INET, SOCK_STREAM, 0);
	owners(fd);
	close(fd);
	fd = connected();
	owners(fd);
	close(fd);

	port = (int)peer("listen");
	fd = armed(SIGRTMIN, 1);
	connect_to(fd, peer_addr(), port);
	peer("accept");
	told("connected", fd, 1);
	events(fd, "set before connect()", 1);
	close(fd);

	fd = connected();
	fcntl(fd, F_SETOWN, getpid());
	v = one;
	ioctl(fd, FIOASYNC, &v);
	count = 0;
	events(fd, "FIOASYNC, SIGIO", 1);
	close(fd);

	fd = connected();
	fcntl(fd, F_SETOWN, getpid());
	events(fd, "an owner only", 0);
	close(fd);

	fd = connected();
	fcntl(fd, F_SETSIG, SIGRTMIN);
	fcntl(fd, F_SETFL, O_ASYNC);
	events(fd, "no owner", 0);
	close(fd);

	fd = connected();
	fcntl(fd, F_SETOWN, getpid());
	fcntl(fd, F_SETSIG, SIGRTMIN);
	fcntl(fd, F_SETFL, O_ASYNC);
	told("armed late", fd, 0);
	peer("rst");
	told("RST", fd, 1);
	close(fd);

	fd = connected();
	fcntl(fd, F_SETOWN, getpid());
	fcntl(fd, F_SETSIG, SIGRTMIN);
	fcntl(fd, F_SETFL, O_ASYNC);
	shutdown(fd, SHUT_RD);
	told("SHUT_RD", fd, 0);
	shutdown(fd, SHUT_WR);
	told("SHUT_WR", fd, 0);
	peer("close");
	told("closed", fd, 2);
	close(fd);

	/* a listener, and what it accepts */
	l = listening(&port, 4);
	fcntl(l, F_SETOWN, getpid());
	fcntl(l, F_SETSIG, SIGRTMIN);
	fcntl(l, F_SETFL, O_ASYNC);
	peer("connect %d", port);
	told("a caller", l, 1);
	fd = accept(l, NULL, NULL);
	SHOW(fcntl(fd, F_GETFL) & O_ASYNC);
	SHOW(fcntl(fd, F_GETOWN));
	SHOW(fcntl(fd, F_GETSIG));
	peer("send 3");
	told("data of an accepted one", fd, 0);
	close(fd);
	close(l);

	/* a thread as owner */
	fd = connected();
	fcntl(fd, F_SETSIG, SIGRTMIN);
	fcntl(fd, F_SETFL, O_ASYNC);
	v = fd;
	pthread_create(&t, NULL, thread_owner, &v);
	while (__atomic_load_n(&v, __ATOMIC_ACQUIRE) != -1)
		nap(1);
	peer("send 3");
	told("owned by a thread", fd, 1);
	__atomic_store_n(&v, 0, __ATOMIC_RELEASE);
	pthread_join(t, NULL);
	return 0;
}
