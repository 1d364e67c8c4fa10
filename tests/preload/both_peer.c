/*
 * both_peer.c - the kernel's end of the programs in this folder.
 *
 *     both_peer ADDRESS OTHER CONTROL
 *
 * Listens on the AF_UNIX path CONTROL; each connection to it is served by a
 * process of its own, which does one command per line and answers one number:
 *
 *     listen            a port of ADDRESS            accept        take a connection: the current one
 *     connect PORT      to OTHER: the current one    send N        pattern bytes; how many
 *     recv N            until N or the end           close | rst   of the current one
 *     shutdown          for writing                  nap MS        wait
 *     rcvbuf N          of listeners to come         oob           one urgent byte
 *     unlisten          close the listener           check N       recv N, 1 if they are the pattern
 *     kick PID SIG      send a signal                keep          forget the current one, leave it open
 *     listen0           as listen, with room for one
 *     silent            as listen, but whatever comes is not heard
 *     taken             what was sent is acknowledged: it is there
 *     sum N             recv N, a number made of the bytes and their order and count
 */
#include "both.h"
#include "inside.h"
#include <linux/filter.h>

STATE int listener = -1, current = -1, rcvbuf;
STATE uint64_t sent, seen;

static uint8_t pattern(uint64_t at)
{
	return (uint8_t)(at % 251);
}

static long do_listen(const char *addr, int backlog)
{
	struct sockaddr_in sin = address(addr, 0);
	socklen_t len = sizeof sin;

	if (listener >= 0)
		close(listener);
	listener = aside(socket(AF_INET, SOCK_STREAM, 0));
	if (rcvbuf)
		setsockopt(listener, SOL_SOCKET, SO_RCVBUF, &rcvbuf, sizeof rcvbuf);
	if (bind(listener, (struct sockaddr *)&sin, sizeof sin) || listen(listener, backlog) ||
	    getsockname(listener, (struct sockaddr *)&sin, &len))
		return -errno;
	return ntohs(sin.sin_port);
}

/* Neither an answer nor a refusal. */
static long do_silent(const char *addr)
{
	struct sock_filter nothing = BPF_STMT(BPF_RET | BPF_K, 0);
	struct sock_fprog all = {1, &nothing};
	long port = do_listen(addr, 1);

	return setsockopt(listener, SOL_SOCKET, SO_ATTACH_FILTER, &all, sizeof all) ? -errno : port;
}

static long take(int fd)
{
	if (fd < 0)
		return -errno;
	current = fd;
	sent = seen = 0;
	return 0;
}

static long do_send(long n)
{
	uint8_t buf[16384];
	long done = 0;

	while (done < n) {
		size_t part = (size_t)(n - done < (long)sizeof buf ? n - done : (long)sizeof buf);
		for (size_t i = 0; i < part; i++)
			buf[i] = pattern(sent + i);
		ssize_t r = send(current, buf, part, MSG_NOSIGNAL);
		if (r <= 0)
			return done ? done : -errno;
		sent += (uint64_t)r;
		done += r;
	}
	return done;
}

static long do_recv(long n, int *good)
{
	uint8_t buf[16384];
	long done = 0;

	*good = 1;
	while (done < n) {
		size_t part = (size_t)(n - done < (long)sizeof buf ? n - done : (long)sizeof buf);
		ssize_t r = recv(current, buf, part, 0);
		if (r < 0)
			return done ? done : -errno;
		if (!r)
			break;
		for (ssize_t i = 0; i < r; i++)
			*good = *good && buf[i] == pattern(seen + (uint64_t)i);
		seen += (uint64_t)r;
		done += r;
	}
	return done;
}

static long do_sum(long n)
{
	uint8_t byte;
	long sum = 0, done = 0;

	for (; done < n && recv(current, &byte, 1, 0) == 1; done++)
		sum = (sum * 31 + byte) % 1000003;
	return done * 10000000 + sum;
}

/* The other end has everything, also what it does not show yet. */
static long taken(void)
{
	int left = 1;

	while (!ioctl(current, TIOCOUTQ, &left) && left)
		nap(1);
	return left;
}

static long reset(void)
{
	struct linger l = {1, 0};
	setsockopt(current, SOL_SOCKET, SO_LINGER, &l, sizeof l);
	return close(current);
}

static long command(const char *addr, const char *other, const char *line)
{
	char word[32] = "";
	long a = 0, b = 0, r;
	int good;

	sscanf(line, "%31s %ld %ld", word, &a, &b);
	if (!strcmp(word, "listen"))
		return do_listen(addr, 16);
	if (!strcmp(word, "listen0"))
		return do_listen(addr, 0);
	if (!strcmp(word, "silent"))
		return do_silent(addr);
	if (!strcmp(word, "unlisten"))
		return r = close(listener), listener = -1, r;
	if (!strcmp(word, "accept"))
		return take(aside(accept(listener, NULL, NULL)));
	if (!strcmp(word, "connect")) {
		int fd = aside(socket(AF_INET, SOCK_STREAM, 0));
		return connect_to(fd, other, (int)a) ? (r = -errno, close(fd), r) : take(fd);
	}
	if (!strcmp(word, "send"))
		return do_send(a);
	if (!strcmp(word, "oob"))
		return send(current, "!", 1, MSG_OOB | MSG_NOSIGNAL);
	if (!strcmp(word, "recv"))
		return do_recv(a, &good);
	if (!strcmp(word, "check"))
		return do_recv(a, &good) == a && good;
	if (!strcmp(word, "taken"))
		return taken();
	if (!strcmp(word, "sum"))
		return do_sum(a);
	if (!strcmp(word, "close"))
		return close(current);
	if (!strcmp(word, "rst"))
		return reset();
	if (!strcmp(word, "shutdown"))
		return shutdown(current, SHUT_WR);
	if (!strcmp(word, "nap"))
		return nap((int)a), 0;
	if (!strcmp(word, "rcvbuf"))
		return rcvbuf = (int)a;
	if (!strcmp(word, "kick"))
		return kill((pid_t)a, (int)b);
	if (!strcmp(word, "keep"))
		return 0;
	return -EINVAL;
}

static void serve(int fd, const char *addr, const char *other)
{
	FILE *in = fdopen(fd, "r");
	char line[256];
	int n;

	while (fgets(line, sizeof line, in)) {
		/* Not dprintf(): a child that is forked meanwhile has its half-made stream, and flushes it at
		 * exit. */
		n = snprintf(line, sizeof line, "%ld\n", command(addr, other, line));
		if (write(fd, line, (size_t)n) != n)
			break;
	}
}

static int control_listen(const char *path)
{
	struct sockaddr_un sun = {.sun_family = AF_UNIX};
	int fd = aside(socket(AF_UNIX, SOCK_STREAM, 0));

	snprintf(sun.sun_path, sizeof sun.sun_path, "%s", path);
	unlink(path);
	return bind(fd, (struct sockaddr *)&sun, sizeof sun) || listen(fd, 16) ? -1 : fd;
}

#ifdef INSIDE
static void *serve_inside(void *arg)
{
	serve((int)(intptr_t)arg, peer_addr(), own_addr());
	return NULL;
}

static void *accept_inside(void *arg)
{
	int c, fd = (int)(intptr_t)arg;

	while ((c = aside(accept(fd, NULL, NULL))) >= 0)
		inside_thread(serve_inside, (void *)(intptr_t)c);
	return NULL;
}

__attribute__((constructor)) static void inside(void)
{
	int fd = control_listen(getenv("TEST_CONTROL"));

	if (fd >= 0)
		inside_thread(accept_inside, (void *)(intptr_t)fd);
}
#else
int main(int argc, char **argv)
{
	int fd;

	if (argc != 4)
		return 2;
	signal(SIGCHLD, SIG_IGN);
	fd = control_listen(argv[3]);
	if (fd < 0)
		return 1;
	for (;;) {
		int c = accept(fd, NULL, NULL);
		if (c >= 0 && !fork()) {
			alarm(60); /* a program that gave up must not leave its server */
			serve(c, argv[1], argv[2]);
			_exit(0);
		}
		close(c);
	}
}
#endif
