/*
 * signal(7) and socket(7), what block_signals.c does not: an ignored signal
 * interrupts nothing, and the sockets' time-outs end a call, not too early. Trap 14.
 */
#include "both.h"
#include "state.h"

static void timeout(int fd, int name, int ms)
{
	struct timeval tv = {ms / 1000, ms % 1000 * 1000};
	setsockopt(fd, SOL_SOCKET, name, &tv, sizeof tv);
}

/* No handler runs over it: no EINTR. */
static void ignored(int fd)
{
	char c;

	SAY("-- an ignored signal");
	signal(SIGUSR1, SIG_IGN);
	peer_later("nap 100");
	peer_later("kick %d %d", getpid(), SIGUSR1);
	peer_later("nap 150");
	peer_later("send 1");
	SHOW(recv(fd, &c, 1, 0));
	for (int i = 0; i < 4; i++)
		peer_answer();
}

static const char *early(long since)
{
	return now_ms() - since < 199 ? "too early" : "not early";
}

static void expired(int fd)
{
	char c;
	int port, l = listening(&port, 1);
	long since = now_ms();

	SAY("-- time-outs that end");
	timeout(fd, SO_RCVTIMEO, 200);
	SHOW(recv(fd, &c, 1, 0));
	SAY("%s", early(since));
	timeout(l, SO_RCVTIMEO, 200);
	since = now_ms();
	SHOW(accept(l, NULL, NULL));
	SAY("%s", early(since));
	close(l);
	l = full();
	fcntl(l, F_SETFL, 0);
	timeout(l, SO_SNDTIMEO, 200);
	since = now_ms();
	SHOW(send(l, &c, 1, 0));
	SAY("%s", early(since));
	close(l);
}

int main(void)
{
	int fd = connected();

	ignored(fd);
	expired(fd);
	close(fd);
	return 0;
}
