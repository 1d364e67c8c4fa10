/*
 * signal(7): which calls a handler interrupts, with and without SA_RESTART, with
 * and without a time-out. Trap 14.
 */
#include "both.h"

static volatile int ran;

static void handler(int sig)
{
	(void)sig;
	ran++;
}

static void handle(bool restart)
{
	struct sigaction sa = {.sa_handler = handler, .sa_flags = restart ? SA_RESTART : 0};
	sigaction(SIGUSR1, &sa, NULL);
	ran = 0;
}

/* A signal in 100 ms; then, in 250 ms from now, `command` at the peer. */
static void soon(const char *command)
{
	peer_later("nap 100");
	peer_later("kick %d %d", getpid(), SIGUSR1);
	peer_later("nap 150");
	peer_later("%s", command);
}

static void settled(void)
{
	for (int i = 0; i < 4; i++)
		peer_answer();
}

static void timeout(int fd, int name, int ms)
{
	struct timeval tv = {ms / 1000, ms % 1000 * 1000};
	setsockopt(fd, SOL_SOCKET, name, &tv, sizeof tv);
}

static void reading(int fd, bool restart, int limit_ms)
{
	char c;
	long since;

	handle(restart);
	timeout(fd, SO_RCVTIMEO, limit_ms);
	SAY("-- recv, SA_RESTART %d, time-out %d", restart, limit_ms);
	soon("send 1");
	since = now_ms();
	SHOW(recv(fd, &c, 1, 0));
	SAY("ran %d, %s", ran, took(since));
	settled();
	fcntl(fd, F_SETFL, O_NONBLOCK);
	while (recv(fd, &c, 1, 0) > 0)
		;
	fcntl(fd, F_SETFL, 0);
}

static void waitall(int fd, bool restart)
{
	char buf[10];

	handle(restart);
	timeout(fd, SO_RCVTIMEO, 0);
	SAY("-- recv(MSG_WAITALL) with a part, SA_RESTART %d", restart);
	peer("send 4");
	soon("send 6");
	nap(20);
	long r = SHOW(recv(fd, buf, 10, MSG_WAITALL));
	settled();
	if (r == 4)
		SHOW(recv(fd, buf, 6, 0));
}

static void writing(int fd, bool restart)
{
	static char buf[8 << 20];
	long n;

	handle(restart);
	SAY("-- send into a full buffer, SA_RESTART %d", restart);
	fcntl(fd, F_SETFL, O_NONBLOCK);
	while (send(fd, buf, 65536, 0) > 0 || (nap(50), send(fd, buf, 65536, 0) > 0))
		;
	fcntl(fd, F_SETFL, 0);
	soon("recv 100000000");
	errno = 0;
	n = send(fd, buf, sizeof buf, 0);
	SAY("send %s %s, ran %d",
	    n == (long)sizeof buf ? "all"
	    : n > 0		  ? "a part"
				  : "nothing",
	    n < 0 ? strerrorname_np(errno) : "", ran);
	shutdown(fd, SHUT_WR);
	settled();
}

static void accepting(bool restart, int limit_ms)
{
	int port, l = listening(&port, 5), c;
	char command[32];

	handle(restart);
	timeout(l, SO_RCVTIMEO, limit_ms);
	SAY("-- accept, SA_RESTART %d, time-out %d", restart, limit_ms);
	snprintf(command, sizeof command, "connect %d", port);
	soon(command);
	c = (int)SHOW(accept(l, NULL, NULL) >= 0 ? 0 : -1);
	(void)c;
	SAY("ran %d", ran);
	settled();
	close(l);
}

static void polling(int fd, bool restart)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	struct timeval tv = {2, 0};
	fd_set set;
	char c;

	handle(restart);
	SAY("-- poll, select: never restarted. SA_RESTART %d", restart);
	soon("send 1");
	SHOW(poll(&p, 1, 2000));
	settled();
	recv(fd, &c, 1, 0);
	soon("send 1");
	FD_ZERO(&set);
	FD_SET(fd, &set);
	SHOW(select(fd + 1, &set, NULL, NULL, &tv));
	settled();
	recv(fd, &c, 1, 0);
	SAY("ran %d", ran);
}

/* No handler runs over it: no EINTR. */
static void ignored(int fd)
{
	char c;

	SAY("-- an ignored signal");
	signal(SIGUSR1, SIG_IGN);
	soon("send 1");
	SHOW(recv(fd, &c, 1, 0));
	settled();
}

static void expired(int fd)
{
	char c;
	long since = now_ms();
	int port, l = listening(&port, 1);

	SAY("-- time-outs that end");
	timeout(fd, SO_RCVTIMEO, 200);
	SHOW(recv(fd, &c, 1, 0));
	SAY("%s", took(since));
	timeout(fd, SO_RCVTIMEO, 0);
	timeout(l, SO_RCVTIMEO, 200);
	since = now_ms();
	SHOW(accept(l, NULL, NULL));
	SAY("%s", took(since));
	close(l);
}

int main(void)
{
	int fd = connected();

	for (int restart = 0; restart < 2; restart++) {
		reading(fd, restart, 0);
		reading(fd, restart, 2000);
		waitall(fd, restart);
		accepting(restart, 0);
		/* the peer talks to the accepted connection now: make a new pair */
		close(fd);
		fd = connected();
		accepting(restart, 2000);
		close(fd);
		fd = connected();
		polling(fd, restart);
	}
	ignored(fd);
	expired(fd);
	for (int restart = 0; restart < 2; restart++) {
		close(fd);
		fd = connected();
		writing(fd, restart);
	}
	return 0;
}
