/*
 * Trap 27: programs that close, dup2() or select() over whole ranges of numbers.
 * The library's own descriptors lie among them: they survive, and answer as if
 * they were not there.
 */
#include "peer.h"
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#define FIRST 900 /* ours lie somewhere in here, wherever the limit puts them */
#define LAST  1300
#define SETS  4096

static int sock;

/* The connection, the timer, the driver, new connections: all still there. */
static void works(const char *what)
{
	char b[16] = "";
	int fresh = peer_connect("d20 wnew s"), ep = epoll_create1(0);

	send(sock, "ping", 4, 0);
	printf("%s: echo %s", what, result_text(recv(sock, b, 4, MSG_WAITALL)));
	printf(" '%s'", b);
	ep_add(ep, fresh, EPOLLIN, 7);
	ep_show("", ep, 4, 20000);
	close(ep);
	close(fresh);
}

static void close_loop(const char *what, int from, int to)
{
	int closed = 0, other = 0;

	for (int i = from; i <= to; i++) {
		if (i == sock)
			continue;
		if (!close(i))
			closed++;
		else if (errno != EBADF)
			other++;
	}
	printf("%s: closed %d, not EBADF %d\n", what, closed, other);
}

static void loops(void)
{
	struct rlimit l;
	long by_syscall = 0;

	getrlimit(RLIMIT_NOFILE, &l);
	close_loop("a loop", 3, LAST);
	works("after it");
	close_loop("down", 3, (int)(l.rlim_cur < 70000 ? l.rlim_cur : 70000));
	works("after it");
	for (int i = 3; i <= LAST; i++)
		by_syscall += i != sock && !syscall(SYS_close, i);
	printf("syscall(SYS_close): closed %ld\n", by_syscall);
	works("after it");
	printf("close_range below: %s\n", result_text(sock > 3 ? close_range(3, (unsigned)sock - 1, 0) : 0));
	printf("close_range above: %s\n", result_text(close_range((unsigned)sock + 1, ~0u, 0)));
	works("after it");
	closefrom(sock + 1);
	works("after closefrom");
}

/* Onto every number in turn, one at a time, then all at once. */
static void dup_over(void)
{
	struct stat null, st;
	int dn = open("/dev/null", O_RDWR), good = 0, same = 0;

	fstat(dn, &null);
	for (int round = 0; round < 3; round++)
		for (int i = FIRST; i <= LAST; i++) {
			good += dup2(dn, i) == i && write(i, "x", 1) == 1;
			same += !fstat(i, &st) && st.st_rdev == null.st_rdev;
			good += close(i) == 0;
		}
	printf("one at a time: %d good, %d the same file\n", good, same);
	works("after them");
	for (int i = FIRST, flags = 0; i <= LAST; i++, flags ^= O_CLOEXEC)
		good += dup3(dn, i, flags) == i;
	works("all at once");
	for (int i = FIRST; i <= LAST; i++)
		same += !fstat(i, &st) && st.st_rdev == null.st_rdev;
	printf("all at once: %d good, %d the same file\n", good, same);
	close_loop("they", FIRST, LAST);
	close(dn);
	works("after them");
}

/* The calls by which programs find, wait for, copy and clear away numbers that they never got. */
static void foreign(void)
{
	static const char *const name[] = {"dup",	"F_GETFD", "F_SETFD", "F_DUPFD", "poll",   "select",
					   "epoll_ctl", "dup2",	   "dup3",    "close",	 "F_SETFL"};
	int n[11] = {0}, ep = epoll_create1(0), nul = open("/dev/null", O_RDWR);
	unsigned long set[SETS / 8 / sizeof(long)];

	for (int i = FIRST; i <= LAST; i++) {
		struct pollfd p = {.fd = i, .events = POLLIN};
		int k = 0;
#define BAD(call) n[k++] += !((call) == -1 && errno == EBADF)
		BAD(dup(i));
		BAD(fcntl(i, F_GETFD));
		BAD(fcntl(i, F_SETFD, 0));
		BAD(fcntl(i, F_DUPFD, 10));
		n[k++] += !(poll(&p, 1, 0) == 1 && p.revents == POLLNVAL);
		memset(set, 0, sizeof set);
		set[(unsigned)i / 64] |= 1ul << i % 64;
		BAD(select(i + 1, (fd_set *)(void *)set, NULL, NULL, &(struct timeval){0, 0}));
		BAD(ep_add(ep, i, EPOLLIN, 1));
		BAD(dup2(i, nul));
		BAD(dup3(i, nul, O_CLOEXEC));
		BAD(close(i));
		BAD(fcntl(i, F_SETFL, O_NONBLOCK));
	}
	for (int k = 0; k < 11; k++)
		printf("%s: not EBADF %d\n", name[k], n[k]);
	close(ep);
	close(nul);
	works("after all");
}

/* Every other call that takes a number. */
static void no_such_number(int i, int nul, int p[2], int ep, int *bad)
{
	char b[8] = "";
	int k = 0, one = 1;
	struct iovec v = {b, 1};
	struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1};
	struct mmsghdr mm = {.msg_hdr = m};
	struct sockaddr_in a = peer_address();
	socklen_t len = sizeof a, four = sizeof one;
	struct epoll_event e;
	const struct timespec zero = {0, 0};
	FILE *f;
#define NO(call) bad[k++] += !((call) == -1 && errno == EBADF)
	NO(read(i, b, 1)), NO(readv(i, &v, 1)), NO(preadv2(i, &v, 1, -1, 0)), NO(recv(i, b, 1, MSG_DONTWAIT));
	NO(recvfrom(i, b, 1, MSG_DONTWAIT, NULL, NULL)), NO(recvmsg(i, &m, MSG_DONTWAIT));
	NO(recvmmsg(i, &mm, 1, MSG_DONTWAIT, NULL)), NO(write(i, b, 1)), NO(writev(i, &v, 1));
	NO(pwritev2(i, &v, 1, -1, 0)), NO(send(i, b, 1, 0)), NO(sendto(i, b, 1, 0, NULL, 0)),
	    NO(sendmsg(i, &m, 0));
	NO(sendmmsg(i, &mm, 1, 0)), NO(sendfile(i, nul, NULL, 1)), NO(splice(i, NULL, p[1], NULL, 1, 0));
	NO(splice(p[0], NULL, i, NULL, 1, 0)), NO(ioctl(i, FIONREAD, &one)), NO(shutdown(i, SHUT_RD));
	NO(bind(i, (struct sockaddr *)&a, len)), NO(listen(i, 1)), NO(accept(i, NULL, NULL));
	NO(accept4(i, NULL, NULL, 0)), NO(connect(i, (struct sockaddr *)&a, len));
	NO(getsockname(i, (struct sockaddr *)&a, &len)), NO(getpeername(i, (struct sockaddr *)&a, &len));
	NO(getsockopt(i, SOL_SOCKET, SO_TYPE, &one, &four)),
	    NO(setsockopt(i, SOL_SOCKET, SO_KEEPALIVE, &one, 4));
	NO(sockatmark(i)), NO(epoll_wait(i, &e, 1, 0)), NO(epoll_pwait(i, &e, 1, 0, NULL));
	NO(epoll_pwait2(i, &e, 1, &zero, NULL)), NO(ep_add(i, nul, EPOLLIN, 1)),
	    NO(epoll_ctl(ep, EPOLL_CTL_DEL, i, NULL));
	NO(syscall(SYS_read, i, b, 1)), NO(syscall(SYS_write, i, b, 1)), NO(dprintf(i, "x"));
	f = fdopen(i, "r");
	NO(f ? 0 : -1);
}

static void nowhere(void)
{
	int bad[40] = {0}, p[2], ep = epoll_create1(0), nul = open("/dev/zero", O_RDWR);

	if (pipe(p) || write(p[1], "x", 1) != 1)
		exit(1);
	for (int i = FIRST; i <= LAST; i++)
		no_such_number(i, nul, p, ep, bad);
	printf("other calls, not EBADF:");
	for (int k = 0; k < 40; k++)
		printf(" %d", bad[k]);
	puts("");
	close(p[0]);
	close(p[1]);
	close(ep);
	close(nul);
	works("after them");
}

/* select() on numbers that an fd_set has no room for: programs allocate larger ones. */
static void beyond(void)
{
	unsigned long r[SETS / 8 / sizeof(long)] = {0}, w[SETS / 8 / sizeof(long)] = {0};
	int p[2], high = fcntl(sock, F_DUPFD, 1500), low, n;
	char b[4];

	if (pipe(p))
		exit(1);
	low = fcntl(p[0], F_DUPFD, 1600);
	printf("high numbers: %s\n", high >= 1500 && low >= 1600 ? "yes" : "no");
	send(high, "ping", 4, 0);
	r[high / 64] |= 1ul << high % 64;
	r[low / 64] |= 1ul << low % 64;
	w[high / 64] |= 1ul << high % 64;
	n = select(low + 1, (fd_set *)(void *)r, NULL, NULL, &(struct timeval){3, 0});
	printf("select: %s, socket %lu, pipe %lu\n", result_text(n), r[high / 64] >> high % 64 & 1,
	       r[low / 64] >> low % 64 & 1);
	recv(high, b, 4, MSG_WAITALL);
	if (write(p[1], "x", 1) != 1)
		exit(1);
	r[high / 64] |= 1ul << high % 64;
	r[low / 64] |= 1ul << low % 64;
	n = select(low + 1, (fd_set *)(void *)r, (fd_set *)(void *)w, NULL, &(struct timeval){3, 0});
	printf("select: %s, socket %lu, pipe %lu, writable %lu\n", result_text(n),
	       r[high / 64] >> high % 64 & 1, r[low / 64] >> low % 64 & 1, w[high / 64] >> high % 64 & 1);
	close(high);
	close(low);
	close(p[0]);
	close(p[1]);
}

/* glibc's dprintf() on a number that is none leaves its buffer behind. */
#include "noleaks.h"

int main(void)
{
	struct rlimit l;

	getrlimit(RLIMIT_NOFILE, &l);
	if (l.rlim_cur < SETS && l.rlim_max >= SETS) {
		l.rlim_cur = SETS;
		setrlimit(RLIMIT_NOFILE, &l);
	}
	/* select() takes no notice of numbers beyond the kernel's table: give it its size now */
	close(fcntl(0, F_DUPFD, LAST + 1));
	sock = peer_connect("e");
	works("at first");
	foreign();
	nowhere();
	loops();
	dup_over();
	beyond();
	printf("everything: %s\n", result_text(close_range(3, ~0u, 0)));
	sock = peer_connect("e");
	works("from anew");
	return 0;
}
