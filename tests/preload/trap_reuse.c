/*
 * Trap 18: a number is closed, and means something else at once, while another
 * thread blocks on it. As in the kernel, the blocked call finishes on what the
 * number meant when it began; nobody ever reads or writes the newcomer's bytes.
 */
#include "../asleep.h"
#include "peer.h"
#include <sys/select.h>

#define ROUNDS	  300
#define LARGE	  (6 << 20)
#define SAYS_OLD  "d250 wOLD s"
#define SAYS_NEW  "wNEW s"
#define FILE_TEXT 'F'

static int number;	 /* what the blocked thread uses */
static char answer[128]; /* what it saw */
static char large[LARGE];

static void *blocked(void *arg)
{
	struct pollfd p = {.fd = number, .events = POLLIN};
	char b[8] = "";
	fd_set r;
	long n = -1;

	switch ((int)(long)arg) {
	case 0:
		n = recv(number, b, 3, MSG_WAITALL);
		break;
	case 1:
		n = poll(&p, 1, 30000);
		snprintf(b, sizeof b, "%s", n == 1 ? bits((uint32_t)p.revents) : "");
		break;
	case 2:
		FD_ZERO(&r);
		FD_SET(number, &r);
		n = select(number + 1, &r, NULL, NULL, &(struct timeval){30, 0});
		break;
	case 3:
		n = accept(number, NULL, NULL);
		if (n >= 0) {
			int c = (int)n;
			n = recv(c, b, 3, MSG_WAITALL);
			close(c);
		}
		break;
	case 4:
		n = send(number, large, sizeof large, 0);
		break;
	}
	snprintf(answer, sizeof answer, "%s '%s'", result_text(n), b);
	return NULL;
}

/* Close `number` under the blocked thread; a new socket takes it. */
static void exchange(const char *what, int how, int old, const char *script)
{
	pthread_t t;
	int fresh;
	char b[4] = "";

	number = old;
	t = asleep_create(blocked, (void *)(long)how);
	close(old);
	fresh = peer_connect(script);
	printf("%s: the number is used again: %s\n", what, fresh == old ? "yes" : "no");
	pthread_join(t, NULL);
	printf("%s: the blocked call: %s\n", what, answer);
	printf("%s: the new socket: %s", what, result_text(recv(fresh, b, 3, MSG_WAITALL)));
	printf(" '%s'\n", b);
	close(fresh);
}

/* The old connection got everything that send() has promised, then FIN: the peer counts. */
static void sending(void)
{
	int port, l = listen_any(&port), ask, c;
	char script[64], b[4] = "";

	snprintf(script, sizeof script, "d300 r%d wALL", LARGE);
	ask = peer_call_back(port, script);
	c = accept(l, NULL, NULL);
	exchange("send", 4, c, SAYS_NEW);
	shutdown(ask, SHUT_WR);
	recv(ask, b, 1, 0);
	close(ask);
	close(l);
}

static void accepting(void)
{
	int port, l = listen_any(&port);
	char script[64];

	snprintf(script, sizeof script, "d250 c%d wOLD s", port);
	int ask = peer_connect(script);
	exchange("accept", 3, l, SAYS_NEW);
	close(ask);
}

/* A set forgets a closed member, and its successor under the same number was never added. */
static void members(void)
{
	int ep = epoll_create1(0), old = peer_connect(SAYS_OLD), fresh;

	ep_add(ep, old, EPOLLIN, 1);
	close(old);
	fresh = peer_connect(SAYS_NEW);
	printf("epoll: the number is used again: %s\n", fresh == old ? "yes" : "no");
	ep_show("epoll: neither", ep, 4, 400);
	printf("epoll: add the new one: %s\n", result_text(ep_add(ep, fresh, EPOLLIN, 2)));
	ep_show("epoll: the new one", ep, 4, 30000);
	close(fresh);
	close(ep);
}

/* Readers of a number that is a connection and a file in turn. */
static _Atomic int stop, strange, of_socket, of_file, closed;
static char first_strange[64];

static void *reader(void *arg)
{
	char b[16];

	(void)arg;
	while (!stop) {
		ssize_t n = read(number, b, sizeof b);
		int e = errno, odd = 0;

		/* in the instant of the exchange the number may also mean a socket that is nobody's: EINVAL
		 */
		if (n < 0 && (e == EBADF || e == EINVAL))
			closed++;
		else if (n < 0)
			odd = 1;
		for (ssize_t i = 0; i < n; i++) {
			of_file += b[i] == FILE_TEXT;
			of_socket += b[i] == 'S';
			odd |= b[i] != b[0] || (b[i] != FILE_TEXT && b[i] != 'S');
		}
		if (odd && !strange++)
			snprintf(first_strange, sizeof first_strange, "%zd %s", n,
				 n < 0 ? strerrorname_np(e) : b);
	}
	return NULL;
}

static void race(void)
{
	char path[] = "/tmp/utcp-trap.XXXXXX", text[4096];
	pthread_t t[2];
	int f = mkstemp(path), s, fd;

	memset(text, FILE_TEXT, sizeof text);
	if (f < 0 || write(f, text, sizeof text) != sizeof text)
		exit(1);
	s = peer_connect("wSSSS s");
	number = fcntl(s, F_DUPFD, 200);
	close(s);
	for (int i = 0; i < 2; i++)
		pthread_create(&t[i], NULL, reader, NULL);
	for (int i = 0; i < ROUNDS; i++) {
		/* EOF would be a third thing to read: the file is opened anew, the connection never ends */
		fd = i % 2 ? open(path, O_RDONLY) : peer_connect("wSSSSSSSS z0 s");
		if (i % 3 == 0) {
			close(number);
			dup2(fd, number);
		} else {
			dup2(fd, number);
		}
		close(fd);
		if (i % 2 && i % 16 == 1)
			msleep(1);
	}
	stop = 1;
	fd = open(path, O_RDONLY);
	dup2(fd, number);
	/* A reader that blocks on an old connection is let go by its end. */
	msleep(50);
	printf("race: strange answers: %d %s\n", strange, first_strange);
	fflush(stdout);
	unlink(path);
	for (int i = 0; i < 2; i++)
		pthread_cancel(t[i]), pthread_join(t[i], NULL);
	close(number);
	close(fd);
	close(f);
}

int main(void)
{
#ifdef __SANITIZE_THREAD__
	puts("the races are intended");
	return 0;
#endif
	exchange("recv", 0, peer_connect(SAYS_OLD), SAYS_NEW);
	exchange("poll", 1, peer_connect(SAYS_OLD), SAYS_NEW);
	exchange("select", 2, peer_connect(SAYS_OLD), SAYS_NEW);
	accepting();
	sending();
	members();
	race();
	return 0;
}
