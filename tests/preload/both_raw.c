/*
 * syscall(): every system call on descriptors by its number, with the kernel's own conventions: masks of
 * eight bytes with their size beside them, a wait that says what is left of its time. And a descriptor that
 * is fetched from another process (pidfd_getfd).
 */
#include "both.h"
#include <sys/epoll.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>

#pragma GCC diagnostic ignored "-Wnonnull"

static char buf[64];
static volatile int ran;

static void on_signal(int sig)
{
	(void)sig;
	ran++;
}

static void opening(void)
{
	int port = (int)peer("listen"), fd, l, c;
	struct sockaddr_in sin = address(peer_addr(), port), any = address("0.0.0.0", 0);
	socklen_t len = sizeof sin;

	fd = (int)syscall(SYS_socket, AF_INET, SOCK_STREAM, 0);
	SHOW(syscall(SYS_connect, fd, &sin, sizeof sin));
	peer("accept");
	SHOW(syscall(SYS_getpeername, fd, &sin, &len));
	SAY("port %d", ntohs(sin.sin_port) == port);
	SHOW(syscall(SYS_getsockname, fd, &sin, &len));
	SHOW(syscall(SYS_setsockopt, fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int)));
	len = sizeof c;
	SHOW(syscall(SYS_getsockopt, fd, IPPROTO_TCP, TCP_NODELAY, &c, &len));
	SAY("%d", c);
	SHOW(syscall(SYS_shutdown, fd, SHUT_WR));
	SHOW(peer("recv 1"));
	SHOW(syscall(SYS_close, fd));
	peer("close");
	l = (int)syscall(SYS_socket, AF_INET, SOCK_STREAM, 0);
	SHOW(syscall(SYS_bind, l, &any, sizeof any));
	SHOW(syscall(SYS_listen, l, 3));
	len = sizeof any;
	SHOW(syscall(SYS_getsockname, l, &any, &len));
	for (int i = 0; i < 2; i++) {
		peer("connect %d", ntohs(any.sin_port));
		c = (int)(i ? syscall(SYS_accept4, l, NULL, NULL, SOCK_CLOEXEC)
			    : syscall(SYS_accept, l, NULL, NULL));
		SHOW(syscall(SYS_fcntl, c, F_GETFD));
		SHOW(syscall(SYS_write, c, "abc", 3));
		SHOW(peer("recv 3"));
		SHOW(syscall(SYS_close, c));
		peer("close");
	}
	SHOW(syscall(SYS_close, l));
}

static int there(int fd, int n)
{
	int held = 0;

	for (int i = 0; i < 5000 && (ioctl(fd, FIONREAD, &held) || held < n); i++)
		nap(1);
	return held;
}

static void moving(int fd)
{
	struct iovec v = {buf, 3};
	struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1};
	struct mmsghdr mm = {.msg_hdr = m};
	struct timespec left = {5, 0};
	off_t off = 0;
	int p[2], n, file = open("/proc/self/exe", O_RDONLY);

	peer("send 24");
	there(fd, 24);
	SHOW(syscall(SYS_read, fd, buf, 3));
	SHOW(syscall(SYS_readv, fd, &v, 1));
	SHOW(syscall(SYS_preadv2, fd, &v, 1, -1L, -1L, 0));
	SHOW(syscall(SYS_preadv2, fd, &v, 1, 0L, 0L, 0));
	SHOW(syscall(SYS_preadv2, fd, &v, 1, -1L, -1L, 0x1000));
	SHOW(syscall(SYS_recvfrom, fd, buf, 3, 0, NULL, NULL));
	SHOW(syscall(SYS_recvmsg, fd, &m, 0));
	SHOW(syscall(SYS_recvmmsg, fd, &mm, 1, 0, &left));
	SHOW(syscall(SYS_ioctl, fd, FIONREAD, &n));
	SAY("%d left", n);
	SHOW(syscall(SYS_pipe2, p, 0));
	SHOW(syscall(SYS_splice, fd, NULL, p[1], NULL, 6, 0));
	SHOW(syscall(SYS_write, fd, "abc", 3));
	SHOW(syscall(SYS_writev, fd, &v, 1));
	SHOW(syscall(SYS_pwritev2, fd, &v, 1, -1L, -1L, 0));
	SHOW(syscall(SYS_pwritev2, fd, &v, 1, 5L, 0L, 0));
	SHOW(syscall(SYS_sendto, fd, "abc", 3, MSG_NOSIGNAL, NULL, 0));
	SHOW(syscall(SYS_sendmsg, fd, &m, 0));
	SHOW(syscall(SYS_sendmmsg, fd, &mm, 1, 0));
	SHOW(syscall(SYS_sendfile, fd, file, &off, 3));
	SHOW(syscall(SYS_splice, p[0], NULL, fd, NULL, 6, 0));
	SHOW(syscall(SYS_lseek, fd, 0, SEEK_SET));
	SHOW(syscall(SYS_pread64, fd, buf, 1, 0));
	SHOW(peer("recv 27"));
	close(p[0]), close(p[1]);
	close(file);
}

static void numbers(int fd)
{
	int d = (int)syscall(SYS_dup, fd);

	SHOW(syscall(SYS_dup3, fd, 300, O_CLOEXEC));
	SHOW(syscall(SYS_fcntl, fd, F_DUPFD, 400));
#ifdef SYS_dup2
	SHOW(syscall(SYS_dup2, fd, 401));
#endif
	SHOW(write(d, "a", 1) + write(300, "b", 1) + write(400, "c", 1) + write(401, "d", 1));
	SHOW(peer("recv 4"));
	SHOW(syscall(SYS_close_range, 300, 500, 0));
	SHOW(write(401, "d", 1));
	SHOW(syscall(SYS_close, d));
	SHOW(syscall(SYS_close, d));
	SHOW(write(fd, "a", 1));
	SHOW(peer("recv 1"));
}

static const char *left_of(struct timespec t, int of)
{
	return t.tv_sec == of ? "all of it" : t.tv_sec < 0 ? "less than nothing" : "some";
}

static fd_set only(int fd)
{
	fd_set r;

	FD_ZERO(&r);
	FD_SET(fd, &r);
	return r;
}

struct raw_mask {
	const uint64_t *mask;
	size_t size;
};

static void waiting(int fd)
{
	struct pollfd p = {fd, POLLIN, 0};
	struct timespec t = {0, 1000000};
	fd_set r;
	/* what is behind the eight bytes is not the mask's */
	struct {
		uint64_t mask, beyond;
	} none = {0, -1ull}, usr1 = {1ull << (SIGUSR1 - 1), 0};
	struct raw_mask m = {&none.mask, 8}, wrong = {&none.mask, 16}, masked = {&usr1.mask, 8};

	SHOW(syscall(SYS_ppoll, &p, 1, &t, NULL, 0));
	SAY("left %ld %ld", (long)t.tv_sec, t.tv_nsec);
	t = (struct timespec){0, 1000000};
	r = only(fd);
	SHOW(syscall(SYS_pselect6, fd + 1, &r, NULL, NULL, &t, NULL));
	SAY("left %ld %ld", (long)t.tv_sec, t.tv_nsec);
	peer("send 1");
	there(fd, 1);
	t = (struct timespec){20, 0};
	SHOW(syscall(SYS_ppoll, &p, 1, &t, &none.mask, 8));
	SAY("%s", left_of(t, 20));
	SHOW(syscall(SYS_ppoll, &p, 1, &t, &none.mask, 16));
	t = (struct timespec){0, -1};
	SHOW(syscall(SYS_ppoll, &p, 1, &t, NULL, 0));
	t = (struct timespec){20, 0};
	r = only(fd);
	SHOW(syscall(SYS_pselect6, fd + 1, &r, NULL, NULL, &t, &m));
	SAY("%s, set %d", left_of(t, 20), FD_ISSET(fd, &r));
	SHOW(syscall(SYS_pselect6, fd + 1, &r, NULL, NULL, &t, &wrong));
	SHOW(syscall(SYS_pselect6, -1, &r, NULL, NULL, &t, NULL));
	SHOW(syscall(SYS_pselect6, fd + 1, &r, NULL, NULL, NULL, NULL));
	read(fd, buf, 1);
	/* a signal that only the mask of the call lets through, and one that only it keeps away */
	signal(SIGUSR1, on_signal);
	sigset_t s, old;
	sigemptyset(&s), sigaddset(&s, SIGUSR1);
	sigprocmask(SIG_BLOCK, &s, &old);
	raise(SIGUSR1);
	t = (struct timespec){20, 0};
	SHOW(syscall(SYS_ppoll, &p, 1, &t, &none.mask, 8));
	SAY("ran %d", ran);
	raise(SIGUSR1);
	r = only(fd);
	SHOW(syscall(SYS_pselect6, fd + 1, &r, NULL, NULL, &t, &m));
	SAY("ran %d", ran);
	raise(SIGUSR1);
	t = (struct timespec){0, 1000000};
	r = only(fd);
	SHOW(syscall(SYS_pselect6, fd + 1, &r, NULL, NULL, &t, &masked));
	SAY("ran %d", ran);
	sigprocmask(SIG_SETMASK, &old, NULL);
	SAY("ran %d", ran);
#ifdef SYS_poll
	struct timeval tv = {0, 1000};
	SHOW(syscall(SYS_poll, &p, 1, 1));
	r = only(fd);
	SHOW(syscall(SYS_select, fd + 1, &r, NULL, NULL, &tv));
#endif
}

static void sets(int fd)
{
	int ep = (int)syscall(SYS_epoll_create1, EPOLL_CLOEXEC);
	struct epoll_event e = {.events = EPOLLIN, .data.u64 = 7}, got = {0};
	struct {
		uint64_t mask, beyond;
	} none = {0, -1ull};
	struct timespec t = {5, 0};

	SHOW(syscall(SYS_epoll_ctl, ep, EPOLL_CTL_ADD, fd, &e));
	SHOW(syscall(SYS_epoll_pwait, ep, &got, 1, 0, NULL, 0));
	peer("send 1");
	SHOW(syscall(SYS_epoll_pwait, ep, &got, 1, 5000, &none.mask, 8));
	SAY("%lu", (unsigned long)got.data.u64);
	SHOW(syscall(SYS_epoll_pwait, ep, &got, 1, 5000, &none.mask, 16));
	SHOW(syscall(SYS_epoll_pwait2, ep, &got, 1, &t, &none.mask, 8));
	SHOW(syscall(SYS_epoll_pwait2, ep, &got, 1, NULL, &none.mask, 4));
#ifdef SYS_epoll_wait
	SHOW(syscall(SYS_epoll_wait, ep, &got, 1, 5000));
#endif
	read(fd, buf, 1);
	close(ep);
}

/* In another process, which has it from nobody: by its parent's number. */
static int child_fetches(int fd, int l)
{
	int pid = pidfd_open(getppid(), 0), got, ep, c;
	struct epoll_event e;

	got = pidfd_getfd(pid, fd, 0);
	SHOW(got >= 0);
	SHOW(fcntl(got, F_GETFD));
	SHOW(send(got, "fetched", 7, MSG_NOSIGNAL));
	SHOW(polled(got, POLLIN, 5000));
	SHOW(recv(got, buf, 4, MSG_DONTWAIT));
	got = (int)syscall(SYS_pidfd_getfd, pid, l, 0);
	SHOW(got >= 0);
	SHOW(polled(got, POLLIN, 5000));
	SHOW((c = accept(got, NULL, NULL)) >= 0);
	SHOW(send(c, "accepted", 8, MSG_NOSIGNAL));
	ep = epoll_create1(0);
	SHOW(epoll_ctl(ep, EPOLL_CTL_ADD, got, &(struct epoll_event){.events = EPOLLIN}));
	SHOW(epoll_wait(ep, &e, 1, 0));
	SHOW(pidfd_getfd(pid, 999, 0));
	SHOW(pidfd_getfd(got, 1, 0));
	SHOW(pidfd_getfd(pid, 1, 7));
	fflush(stdout);
	return 0;
}

/* By a child that had them and closed them, and by a program that never saw them. */
static void fetching(int fd, bool program)
{
	int port, l = listening(&port, 3), status;
	long sum;
	char number[2][16];

	fcntl(fd, F_SETFD, FD_CLOEXEC);
	fcntl(l, F_SETFD, FD_CLOEXEC);
	snprintf(number[0], 16, "%d", fd);
	snprintf(number[1], 16, "%d", l);
	peer("send 4");
	fflush(stdout);
	pid_t pid = fork();
	if (!pid && program) {
		execl("/proc/self/exe", "fetch", number[0], number[1], NULL);
		_exit(9);
	}
	if (!pid) {
		close(fd);
		close(l);
		_exit(child_fetches(fd, l));
	}
	sum = peer("sum 7");
	peer("connect %d", port);
	peer_later("sum 8");
	waitpid(pid, &status, 0);
	SHOW(sum);
	SHOW(peer_answer());
	SHOW(status);
	close(l);
}

int main(int argc, char **argv)
{
	int fd;

	if (argc == 3)
		return child_fetches(atoi(argv[1]), atoi(argv[2]));
	peer("nap 0");
	prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY);
	opening();
	fd = connected();
	moving(fd);
	numbers(fd);
	waiting(fd);
	sets(fd);
	fetching(fd, false);
	close(fd);
	fd = connected();
	fetching(fd, true);
	SHOW(send(fd, "mine", 4, MSG_NOSIGNAL));
	close(fd);
	return 0;
}
