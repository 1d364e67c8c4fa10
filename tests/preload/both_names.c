/*
 * The other names: what libc exports besides read(), connect() and so on, and
 * what _FORTIFY_SOURCE and large-file builds call. Each on a connection, looked
 * up by name (a name that this libc lacks is left out).
 */
#include "both.h"
#include <aio.h>
#include <dlfcn.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <sys/wait.h>

/* sigset() and its kin are old, and used. */
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

static char buf[64];
static int fd;
static volatile int ran;

static void *named(const char *name)
{
	static void *libc;

	if (!libc)
		libc = dlopen("libc.so.6", RTLD_LAZY);
	return dlsym(libc, name) ? dlsym(RTLD_DEFAULT, name) : NULL;
}

/* The call by another name, of the same type as `like`. */
#define NAMED(name, like, ...)                                                                               \
	do {                                                                                                 \
		__typeof__(&like) f_ = (__typeof__(&like))named(name);                                       \
		errno = 0;                                                                                   \
		if (f_)                                                                                      \
			show(name, (long)f_(__VA_ARGS__));                                                   \
	} while (0)

ssize_t like_read_chk(int, void *, size_t, size_t);
ssize_t like_recv_chk(int, void *, size_t, size_t, int);
ssize_t like_recvfrom_chk(int, void *, size_t, size_t, int, struct sockaddr *, socklen_t *);
int like_poll_chk(struct pollfd *, nfds_t, int, size_t);
int like_ppoll_chk(struct pollfd *, nfds_t, const struct timespec *, const sigset_t *, size_t);
int like_dprintf_chk(int, int, const char *, ...);
typedef void (*handler_type)(int);
handler_type like_signal(int, handler_type);
int like_sigignore(int);

static void on_signal(int sig)
{
	(void)sig;
	ran++;
}

static void three(void)
{
	peer("send 3");
	polled(fd, POLLIN, 5000);
}

static void reading(void)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	struct iovec v = {buf, 3};
	const struct timespec zero = {0, 0};
	struct timeval tv = {0, 0};
	fd_set r;

	three();
	NAMED("__poll", poll, &p, 1, 0);
	NAMED("__poll_chk", like_poll_chk, &p, 1, 0, sizeof p);
	NAMED("__ppoll_chk", like_ppoll_chk, &p, 1, &zero, NULL, sizeof p);
	FD_ZERO(&r);
	FD_SET(fd, &r);
	NAMED("__select", select, fd + 1, &r, NULL, NULL, &tv);
	NAMED("__read", read, fd, buf, 3);
	three();
	NAMED("__read_chk", like_read_chk, fd, buf, 3, sizeof buf);
	three();
	NAMED("__recv_chk", like_recv_chk, fd, buf, 3, sizeof buf, 0);
	three();
	NAMED("__recvfrom_chk", like_recvfrom_chk, fd, buf, 3, sizeof buf, 0, NULL, NULL);
	three();
	NAMED("preadv64v2", preadv64v2, fd, &v, 1, -1, 0);
	NAMED("preadv64v2", preadv64v2, fd, &v, 1, -1, RWF_NOWAIT);
	NAMED("preadv64v2", preadv64v2, fd, &v, 1, 5, 0);
}

static void writing(void)
{
	struct iovec v = {"abc", 3};
	struct mmsghdr m = {.msg_hdr = {.msg_iov = &v, .msg_iovlen = 1}};

	NAMED("__write", write, fd, "abc", 3);
	NAMED("__send", send, fd, "abc", 3, 0);
	NAMED("__sendmmsg", sendmmsg, fd, &m, 1, 0);
	NAMED("pwritev64v2", pwritev64v2, fd, &v, 1, -1, 0);
	NAMED("pwritev64v2", pwritev64v2, fd, &v, 1, 5, 0);
	NAMED("__dprintf_chk", like_dprintf_chk, fd, 1, "%s", "abc");
	SHOW(peer("recv 12"));
}

static void numbers(void)
{
	int port = (int)peer("listen"), p[2] = {-1, -1}, s = socket(AF_INET, SOCK_STREAM, 0);
	struct sockaddr_in sin = address(peer_addr(), port);
	sigset_t none;
	FILE *f;

	sigemptyset(&none);
	NAMED("__connect", connect, s, (struct sockaddr *)&sin, sizeof sin);
	peer("accept");
	NAMED("__dup2", dup2, s, 300);
	SHOW(send(300, "abc", 3, 0));
	NAMED("__fcntl", fcntl, 300, F_GETFL);
	NAMED("fcntl64", fcntl, 300, F_SETFL, O_NONBLOCK);
	SHOW(recv(s, buf, 3, 0));
	NAMED("__close", close, s);
	NAMED("__close", close, s);
	f = fdopen(300, "r+");
	fputs("xyz", f);
	f = freopen64("/dev/null", "r", f); /* the stream's end is the connection's */
	SHOW(f != NULL);
	SHOW(peer("recv 100"));
	fclose(f);
	NAMED("__pipe", pipe, p);
	SHOW(p[0] >= 0 && write(p[1], "x", 1) == 1);
	close(p[0]);
	close(p[1]);
	/* the number of a connection, closed and given out again: no trace of it is left */
	SHOW((p[0] = timerfd_create(CLOCK_MONOTONIC, 0)) >= 0);
	SHOW(read(p[0], buf, 4));
	close(p[0]);
	SHOW((p[0] = signalfd(-1, &none, SFD_NONBLOCK)) >= 0);
	SHOW(read(p[0], buf, 4));
	close(p[0]);
	SHOW((p[0] = inotify_init()) >= 0);
	close(p[0]);
	SHOW((p[0] = inotify_init1(IN_NONBLOCK)) >= 0);
	SHOW(read(p[0], buf, 64));
	close(p[0]);
}

/* Each kind of handler is called, and called again or not, masked or not. */
static void handlers(void)
{
	struct sigaction sa = {.sa_handler = on_signal}, was;
	static const char *const names[] = {"bsd_signal", "ssignal", "sysv_signal", "__sysv_signal",
					    "sigset"};

	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
		__typeof__(&like_signal) f = (__typeof__(&like_signal))named(names[i]);
		if (!f)
			continue;
		ran = 0;
		printf("%s: was default %d,", names[i], f(SIGUSR1, on_signal) == SIG_DFL);
		raise(SIGUSR1);
		sigaction(SIGUSR1, NULL, &was);
		printf(" ran %d, now %s, flags %x,", ran,
		       was.sa_handler == on_signal ? "the same" : "another",
		       was.sa_flags & (int)(SA_RESTART | SA_RESETHAND | SA_NODEFER));
		printf(" masks itself %d\n", sigismember(&was.sa_mask, SIGUSR1));
		signal(SIGUSR1, SIG_DFL);
	}
	NAMED("__sigaction", sigaction, SIGUSR1, &sa, NULL);
	raise(SIGUSR1);
	SHOW(ran);
	NAMED("sigignore", like_sigignore, SIGUSR1);
	raise(SIGUSR1);
	SHOW(ran);
	NAMED("sigignore", like_sigignore, 99);
	printf("sigset, held: %d\n", sigset(SIGUSR2, SIG_HOLD) == SIG_DFL);
	printf("sigset, again: %d\n", sigset(SIGUSR2, on_signal) == SIG_HOLD);
}

/* The limits as the program set them. */
static void limits(void)
{
	struct rlimit l = {600, 900}, was = {0, 0};
	struct rlimit64 l64 = {500, 900}, was64 = {0, 0};

	SHOW(prlimit(0, RLIMIT_NOFILE, &l, NULL));
	NAMED("prlimit64", prlimit64, 0, RLIMIT_NOFILE, &l64, &was64);
	SHOW(was64.rlim_cur);
	SHOW(was64.rlim_max);
	NAMED("setrlimit64", setrlimit64, RLIMIT_NOFILE, &l64);
	SHOW(getrlimit(RLIMIT_NOFILE, &was));
	SHOW(was.rlim_cur);
	SHOW(was.rlim_max);
	l64.rlim_cur = 901;
	NAMED("setrlimit64", setrlimit64, RLIMIT_NOFILE, &l64);
	SHOW(prlimit(0, RLIMIT_NOFILE, &l, &was));
	SHOW(was.rlim_cur);
	SHOW(prlimit(0, 99, NULL, &was));
}

__attribute__((used)) static void programs(void)
{
	char *argv[] = {"sh", "-c", "echo out; echo err >&2; exit 7", NULL},
	     *envp[] = {"PATH=/bin:/usr/bin", NULL};
	int status, dir = open("/bin", O_PATH), sh = open("/bin/sh", O_PATH | O_CLOEXEC);

	for (int how = 0; how < 6; how++) {
		fflush(stdout);
		pid_t pid = how == 5 ? _Fork() : fork();
		if (!pid) {
			if (how == 0)
				execle("/bin/sh", "sh", "-c", argv[2], NULL, envp);
			else if (how == 1)
				execlp("sh", "sh", "-c", argv[2], NULL);
			else if (how == 2)
				execvpe("sh", argv, envp);
			else if (how == 3)
				fexecve(sh, argv, envp);
			else if (how == 4)
				execveat(dir, "sh", argv, envp, 0);
			_Exit(9);
		}
		SHOW(waitpid(pid, &status, 0) == pid);
		SHOW(WEXITSTATUS(status));
	}
	close(dir);
	close(sh);
}

int main(void)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	fd = connected();
	reading();
	writing();
	numbers();
	handlers();
	limits();
#ifndef __SANITIZE_THREAD__ /* whose runtime does not start in a shell, which was not built with it */
	programs();
#endif
	return 0;
}
