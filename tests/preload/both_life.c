/*
 * The life of descriptors: close with unread data, linger, dup and its kin over
 * sockets, close_range, syscall(SYS_close), EMFILE on accept, half-close in each
 * direction, SIGPIPE, backlog, inherited flags.
 */
#include "../asleep.h"
#include "both.h"
#include <linux/close_range.h>

static volatile int pipes;

static void on_sigpipe(int sig)
{
	(void)sig;
	pipes++;
}

static void closing(void)
{
	struct linger now = {1, 0}, wait = {1, 30};
	static char more[65536];
	int fd = connected();
	long since;

	SAY("-- close with unread data: the peer sees a reset");
	peer("send 10");
	polled(fd, POLLIN, 20000);
	SHOW(close(fd));
	SHOW(peer("recv 1"));
	SHOW(close(fd));
	peer("close");

	fd = connected();
	SAY("-- close: FIN");
	SHOW(send(fd, "abc", 3, 0));
	SHOW(close(fd));
	SHOW(peer("recv 10"));
	SHOW(peer("recv 10"));
	peer("close");

	fd = connected();
	SAY("-- linger 0");
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
	SHOW(close(fd));
	SHOW(peer("recv 1"));
	peer("close");

	fd = connected();
	SAY("-- linger 30, the peer takes all at once");
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &wait, sizeof wait);
	SHOW(send(fd, "abc", 3, 0));
	since = now_ms();
	SHOW(close(fd));
	SAY("%s", took(since, 30000));
	SHOW(peer("recv 10"));
	peer("close");

	fd = connected();
	SAY("-- linger 1, the peer takes nothing, and its FIN does not end the wait");
	wait.l_linger = 1;
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &wait, sizeof wait);
	fcntl(fd, F_SETFL, O_NONBLOCK);
	while (send(fd, more, sizeof more, 0) > 0)
		;
	peer_later("nap 300");
	peer_later("shutdown 1");
	since = now_ms();
	SHOW(close(fd));
	SAY("%s", took(since, 1000));
	peer_answer();
	peer_answer();
	peer("close");

	fd = connected();
	SAY("-- the peer resets");
	peer("rst");
	SHOW(polled(fd, POLLIN | POLLOUT | POLLRDHUP, 20000));
	SHOW(recv(fd, &since, 1, 0));
	SHOW(recv(fd, &since, 1, 0));
	SHOW(send(fd, "x", 1, MSG_NOSIGNAL));
	close(fd);
}

/* After SHUT_RD no call waits for what comes, but it does come. */
static void arrives(int fd, int bytes)
{
	char buf[16];

	for (int i = 0; i < 2000 && recv(fd, buf, sizeof buf, MSG_PEEK | MSG_DONTWAIT) != bytes; i++)
		nap(5);
}

static void halves(void)
{
	char buf[16];
	int fd = connected();

	SAY("-- SHUT_WR, then the peer goes on");
	SHOW(send(fd, "abc", 3, 0));
	SHOW(shutdown(fd, SHUT_WR));
	SHOW(peer("recv 10"));
	signal(SIGPIPE, on_sigpipe);
	SHOW(send(fd, "x", 1, 0));
	SHOW(pipes);
	SHOW(send(fd, "x", 1, MSG_NOSIGNAL));
	SHOW(pipes);
	SHOW(write(fd, "x", 1));
	SHOW(pipes);
	SHOW(peer("send 5"));
	SHOW(recv(fd, buf, 16, 0));
	SHOW(polled(fd, POLLIN | POLLOUT | POLLRDHUP, 0));
	SHOW(peer("shutdown"));
	SHOW(recv(fd, buf, 16, 0));
	SHOW(polled(fd, POLLIN | POLLOUT | POLLRDHUP, 0));
	SHOW(shutdown(fd, SHUT_RDWR));
	close(fd);
	peer("close");

	fd = connected();
	SAY("-- SHUT_RD: end of file here, the peer may still send");
	SHOW(shutdown(fd, SHUT_RD));
	SHOW(recv(fd, buf, 16, 0));
	SHOW(polled(fd, POLLIN | POLLRDHUP, 0));
	SHOW(peer("send 5"));
	arrives(fd, 5);
	SHOW(recv(fd, buf, 16, 0));
	SHOW(shutdown(fd, 7));
	close(fd);
	peer("close");

	fd = connected();
	SAY("-- the peer's FIN");
	peer("shutdown");
	SHOW(polled(fd, POLLIN | POLLRDHUP, 20000));
	SHOW(recv(fd, buf, 16, 0));
	SHOW(recv(fd, buf, 16, 0));
	SHOW(send(fd, "late", 4, 0));
	SHOW(peer("recv 4"));
	close(fd);
	peer("close");
}

static void numbers(void)
{
	int fd = connected(), a, b, n;
	struct rlimit old, few = {20, 20};

	SAY("-- dup: the connection lives as long as one number");
	a = (int)SHOW(dup(fd));
	b = (int)SHOW(fcntl(fd, F_DUPFD_CLOEXEC, 50));
	SHOW(fcntl(b, F_GETFD));
	SHOW(close(fd));
	SHOW(send(a, "a", 1, 0));
	SHOW(close(a));
	SHOW(send(b, "b", 1, 0));
	SHOW(peer("recv 2"));
	SHOW(send(a, "x", 1, 0));
	SHOW(fcntl(b, F_SETFL, O_NONBLOCK));
	a = dup(b);
	SHOW(fcntl(a, F_GETFL) & O_NONBLOCK);
	SHOW(recv(a, &n, 1, 0));
	SHOW(dup2(a, a));
	SHOW(dup3(a, a, 0));
	SHOW(dup2(999, a));
	SHOW(send(a, "c", 1, 0));
	SAY("-- dup2 over the last number closes it");
	close(b);
	n = open("/dev/null", O_RDWR);
	SHOW(dup2(n, a));
	SHOW(peer("recv 1"));
	SHOW(peer("recv 1"));
	SHOW(write(a, "to null", 7));
	close(n);
	close(a);
	peer("close");

	fd = connected();
	SAY("-- the number means a file afterwards");
	SHOW(syscall(SYS_close, fd));
	SHOW(peer("recv 1"));
	n = open("/dev/zero", O_RDONLY);
	SHOW(n == fd);
	SHOW(read(n, &a, 4));
	close(n);
	peer("close");

	fd = connected();
	SAY("-- close_range");
	SHOW(close_range(fd, fd, CLOSE_RANGE_CLOEXEC));
	SHOW(fcntl(fd, F_GETFD));
	SHOW(send(fd, "d", 1, 0));
	SHOW(close_range((unsigned)fd, 800, 0));
	SHOW(peer("recv 5"));
	SHOW(peer("recv 5"));
	SHOW(fcntl(fd, F_GETFD));
	SHOW(close_range(5, 4, 0));
	peer("close");

	SAY("-- EMFILE leaves the connection in the queue");
	int port, l = listening(&port, 5);
	peer("connect %d", port);
	polled(l, POLLIN, 20000);
	getrlimit(RLIMIT_NOFILE, &old);
	few.rlim_max = old.rlim_max;
	while ((n = open("/dev/null", O_RDONLY)) >= 0 && n < 19)
		;
	setrlimit(RLIMIT_NOFILE, &few);
	SHOW(accept(l, NULL, NULL));
	SHOW(accept(l, NULL, NULL));
	close(n);
	SHOW(accept(l, NULL, NULL) == n);
	setrlimit(RLIMIT_NOFILE, &old);
	SHOW(send(n, "hello", 5, 0));
	SHOW(peer("recv 5"));
	for (int i = l + 1; i < 20; i++)
		close(i);
	close(l);
	peer("close");
}

static void accepting(void)
{
	struct sockaddr_in a;
	socklen_t len = sizeof a;
	int port, l, c, c2;
	char text[32], byte;

	SAY("-- accept");
	l = listening(&port, 0);
	SHOW(accept4(l, NULL, NULL, 0x100));
	SHOW(fcntl(l, F_SETFL, O_NONBLOCK));
	SHOW(accept(l, NULL, NULL));
	SHOW(polled(l, POLLIN | POLLOUT, 0));
	peer("connect %d", port);
	SHOW(polled(l, POLLIN | POLLOUT, 20000));
	c = accept4(l, (struct sockaddr *)&a, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
	SAY("%u bytes, from %s", len,
	    !strcmp(inet_ntop(AF_INET, &a.sin_addr, text, sizeof text), peer_addr()) ? "the peer" : text);
	SHOW((fcntl(c, F_GETFL) & O_NONBLOCK) != 0);
	SHOW(fcntl(c, F_GETFD));
	SHOW(recv(c, &byte, 1, 0));
	len = sizeof a;
	SHOW(getsockname(c, (struct sockaddr *)&a, &len));
	SAY("%s, port %s",
	    !strcmp(inet_ntop(AF_INET, &a.sin_addr, text, sizeof text), own_addr()) ? "own" : text,
	    ntohs(a.sin_port) == port ? "the listener's" : "another");
	peer("close");
	SAY("-- blocked accept; an accepted socket does not inherit O_NONBLOCK");
	peer("connect %d", port);
	polled(l, POLLIN, 20000);
	c2 = accept(l, NULL, NULL);
	SHOW((fcntl(c2, F_GETFL) & O_NONBLOCK) != 0);
	close(c);
	close(c2);
	SHOW(recv(l, &byte, 1, 0));
	SHOW(send(l, &byte, 1, MSG_NOSIGNAL));
	SHOW(getpeername(l, (struct sockaddr *)&a, &len));
	SHOW(connect_to(l, peer_addr(), 9));
	SHOW(listen(l, 20));
	SHOW(shutdown(l, SHUT_RD));
	SHOW(accept(l, NULL, NULL));
	SHOW(peer("connect %d", port));
	close(l);

	SAY("-- both worlds: a listener on the wildcard also answers on loopback");
	l = listening(&port, 5);
	c = socket(AF_INET, SOCK_STREAM, 0);
	SHOW(connect_to(c, "127.0.0.1", port));
	c2 = accept(l, NULL, NULL);
	SHOW(send(c, "x", 1, 0));
	SHOW(recv(c2, &byte, 1, 0));
	close(c);
	close(c2);
	SAY("-- a port in use");
	c = socket(AF_INET, SOCK_STREAM, 0);
	a = address("0.0.0.0", port);
	SHOW(bind(c, (struct sockaddr *)&a, sizeof a));
	a = address("192.0.2.77", 0);
	SHOW(bind(c, (struct sockaddr *)&a, sizeof a));
	a = address(own_addr(), 0);
	SHOW(bind(c, (struct sockaddr *)&a, sizeof a));
	SHOW(bind(c, (struct sockaddr *)&a, sizeof a));
	SHOW(listen(c, 5));
	len = sizeof a;
	getsockname(c, (struct sockaddr *)&a, &len);
	SHOW(peer("connect %d", ntohs(a.sin_port)));
	c2 = accept(c, NULL, NULL);
	SHOW(send(c2, "hi", 2, 0));
	SHOW(peer("recv 2"));
	close(c);
	close(c2);
	close(l);
}

static void *closer(void *arg)
{
	until_asleep(getpid()); /* the main thread */
	close(*(int *)arg);
	peer("send 1");
	return NULL;
}

/* A call that blocks keeps the old description when another thread closes the number. */
static void across_threads(void)
{
	pthread_t t;
	char c = 0;
	int fd = connected();

	SAY("-- close under a blocked call");
	pthread_create(&t, NULL, closer, &fd);
	SHOW(recv(fd, &c, 1, 0));
	pthread_join(t, NULL);
	SHOW(fcntl(fd, F_GETFD));
	SHOW(peer("recv 1"));
	peer("close");
}

int main(void)
{
	closing();
	halves();
	numbers();
	accepting();
	across_threads();
	return 0;
}
