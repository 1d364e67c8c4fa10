/*
 * SCM_RIGHTS: connections and listeners in messages between processes that are
 * not related by fork(), in flight while the sender closes or dies, thrown away
 * unread, looked at, cut off, to oneself.
 */

#include "shared.h"

/* As called(), and nobody inherits it. */
static int called_alone(const char *script, int *ask)
{
	int c = called(script, ask);

	keep(c, false);
	return c;
}

/* ------------------------------------------------------------ the other program */

static void answer(int fd)
{
	if (write(fd, "k", 1) != 1)
		_exit(8);
}

/* Does what comes with each message, until the end. */
static int other(int from)
{
	int fd[FDS], n, flags, l, kept = -1;
	char what;

	while ((n = take(from, &what, fd, FDS, 0, &flags)) >= 0) {
		switch (what) {
		case 's': /* say something on each */
			for (int i = 0; i < n; i++) {
				struct sockaddr_in a = {0};
				socklen_t len = sizeof a;

				say("other", fd[i], "from elsewhere");
				getpeername(fd[i], (struct sockaddr *)&a, &len);
				printf("other: the peer's family is %s\n",
				       a.sin_family == AF_INET ? "AF_INET" : "?");
			}
			break;
		case 'n':
			printf("other: O_NONBLOCK %d\n", !!(fcntl(fd[0], F_GETFL) & O_NONBLOCK));
			fcntl(fd[0], F_SETFL, fcntl(fd[0], F_GETFL) & ~O_NONBLOCK);
			break;
		case 'a':
			l = accept(fd[0], NULL, NULL);
			say("other", l, "accepted elsewhere");
			close(l);
			break;
		case 'l': /* listen, and keep it */
			kept = dup(fd[0]);
			printf("other: listen %s\n", result_text(listen(kept, 5)));
			break;
		case 'A':
			l = accept(kept, NULL, NULL);
			say("other", l, "listened elsewhere");
			close(l);
			break;
		case 'C':
			close(kept);
			break;
		case 'b': /* send it back */
			if (give(from, 'b', fd, n) != 1)
				_exit(7);
			break;
		case 'k': /* keep it, die of it */
			raise(SIGKILL);
			break;
		case 'x':
			exit(0);
		default:
			break;
		}
		fflush(stdout);
		for (int i = 0; i < n; i++)
			close(fd[i]);
		answer(from);
	}
	return 0;
}

/* ------------------------------------------------------------ this one */

static int order(int to, char what, const int *fd, int n)
{
	char b;

	fflush(stdout);
	if (give(to, what, fd, n) != 1 || read(to, &b, 1) != 1)
		return printf("order '%c' failed: %s\n", what, strerrorname_np(errno));
	return 0;
}

static void given_away(int to)
{
	int ask, c = called_alone("e", &ask);

	fflush(stdout);
	long r = give(to, 's', &c, 1);
	char b;

	close(c);
	if (read(to, &b, 1) != 1)
		exit(1);
	printf("give: %s\n", result_text(r));
	peer_sees("given away", ask, 3000);
	close(ask);
}

static void shared(int to)
{
	int ask, c = called_alone("e", &ask);

	order(to, 's', &c, 1);
	say("this", c, "has it still");
	fcntl(c, F_SETFL, O_NONBLOCK);
	order(to, 'n', &c, 1);
	printf("this: O_NONBLOCK %d\n", !!(fcntl(c, F_GETFL) & O_NONBLOCK));
	order(to, 's', &c, 1);
	peer_sees("shared", ask, 50);
	close(c);
	peer_sees("shared no more", ask, 3000);
	close(ask);
}

static void there_and_back(int to)
{
	int ask, c = called_alone("e", &ask), fd[FDS];
	char b;

	fflush(stdout);
	give(to, 'b', &c, 1);
	close(c);
	printf("back: %d\n", take(to, &b, fd, FDS, MSG_CMSG_CLOEXEC, NULL));
	printf("FD_CLOEXEC %d\n", fcntl(fd[0], F_GETFD));
	if (read(to, &b, 1) != 1)
		exit(1);
	say("this", fd[0], "again");
	close(fd[0]);
	peer_sees("there and back", ask, 3000);
	close(ask);
}

/* Messages that wait in a pair of ours. */
static void in_flight(const char *what, int how)
{
	int ask, c = called_alone("e", &ask), pair[2], fd[FDS];
	char b;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		exit(1);
	give(pair[0], 'x', &c, 1);
	close(c);
	close(pair[0]);
	peer_sees(what, ask, 100);
	if (how == 0) {
		close(pair[1]); /* unread */
	} else if (how == 1) {
		printf("%s: %d\n", what, take(pair[1], &b, fd, FDS, 0, NULL));
		say("this", fd[0], "arrived");
		close(fd[0]);
	} else if (how == 2) {
		printf("looked at: %d\n", take(pair[1], &b, fd, FDS, MSG_PEEK, NULL));
		say("this", fd[0], "the first");
		close(fd[0]);
		peer_sees("closed what was looked at", ask, 100);
		printf("taken: %d\n", take(pair[1], &b, fd, FDS, 0, NULL));
		say("this", fd[0], "the second");
		close(fd[0]);
	} else {
		if (read(pair[1], &b, 1) != 1) /* without room for descriptors */
			exit(1);
	}
	peer_sees(what, ask, 3000);
	close(pair[1]);
	close(ask);
}

static void cut_off(void)
{
	int ask[2], c[2] = {called_alone("e", &ask[0]), called_alone("e", &ask[1])}, pair[2], fd[FDS], flags;
	char b;

	if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair))
		exit(1);
	give(pair[0], 'x', c, 2);
	close(c[0]);
	close(c[1]);
	printf("room for one: %d", take(pair[1], &b, fd, 1, 0, &flags));
	printf(", MSG_CTRUNC %d\n", !!(flags & MSG_CTRUNC));
	peer_sees("the one without room", ask[1], 3000);
	say("this", fd[0], "the one with room");
	close(fd[0]);
	peer_sees("the one with room", ask[0], 3000);
	for (int i = 0; i < 2; i++) {
		close(pair[i]);
		close(ask[i]);
	}
}

/* To oneself: another number of the same. */
static void to_oneself(void)
{
	int ask, c = called_alone("e", &ask), pair[2], fd[FDS];
	char b;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		exit(1);
	give(pair[0], 'x', &c, 1);
	take(pair[1], &b, fd, FDS, 0, NULL);
	fcntl(fd[0], F_SETFL, O_NONBLOCK);
	printf("to oneself: O_NONBLOCK %d, recv %s\n", !!(fcntl(c, F_GETFL) & O_NONBLOCK),
	       result_text(recv(c, &b, 1, 0)));
	fcntl(c, F_SETFL, 0);
	close(c);
	say("this", fd[0], "the other number");
	close(fd[0]);
	peer_sees("to oneself", ask, 3000);
	close(pair[0]);
	close(pair[1]);
	close(ask);
}

static void refused(void)
{
	int ask, c = called_alone("e", &ask), fd[2] = {c, -1}, pair[2], udp = socket(AF_INET, SOCK_DGRAM, 0);
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(9)};

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		exit(1);
	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	printf("with a bad number: %s\n", result_text(give(pair[0], 'x', fd, 2)));
	close(pair[1]);
	printf("to nobody: %s\n", result_text(give(pair[0], 'x', fd, 1)));
	connect(udp, (struct sockaddr *)&a, sizeof a);
	printf("over UDP: %s\n", result_text(give(udp, 'x', fd, 1)));
	close(udp);
	close(pair[0]);
	say("this", c, "nothing happened");
	close(c);
	peer_sees("refused", ask, 3000);
	close(ask);
}

static void many(int to)
{
	int ask[3], c[3], pipes[2], fd[FDS], got[FDS];
	_Alignas(struct cmsghdr) char control[2][CMSG_SPACE(FDS * sizeof(int))];
	struct mmsghdr v[2];
	struct iovec iov[2];
	char byte[2] = "12", b[2];
	int pair[2];

	for (int i = 0; i < 3; i++)
		c[i] = called_alone("e", &ask[i]);
	if (pipe(pipes) || socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair))
		exit(1);
	memcpy(fd, (int[]){c[0], c[1], c[2], c[0]}, 4 * sizeof(int));
	order(to, 's', fd, 4);
	memcpy(fd, (int[]){c[0], pipes[1], c[1]}, 3 * sizeof(int));
	message(&v[0].msg_hdr, &iov[0], &byte[0], control[0], fd, 3);
	message(&v[1].msg_hdr, &iov[1], &byte[1], control[1], &c[2], 1);
	printf("sendmmsg: %s\n", result_text(sendmmsg(pair[0], v, 2, 0)));
	for (int i = 0; i < 3; i++)
		close(c[i]);
	for (int i = 0; i < 2; i++) {
		iov[i] = (struct iovec){&b[i], 1};
		v[i].msg_hdr = (struct msghdr){.msg_iov = &iov[i],
					       .msg_iovlen = 1,
					       .msg_control = control[i],
					       .msg_controllen = sizeof control[i]};
	}
	printf("recvmmsg: %s\n", result_text(recvmmsg(pair[1], v, 2, 0, NULL)));
	memcpy(got, CMSG_DATA(CMSG_FIRSTHDR(&v[0].msg_hdr)), 3 * sizeof(int));
	memcpy(&got[3], CMSG_DATA(CMSG_FIRSTHDR(&v[1].msg_hdr)), sizeof(int));
	printf("the pipe: %s", result_text(write(got[1], "p", 1)));
	printf(" %s\n", result_text(read(pipes[0], b, 1)));
	say("this", got[0], "the first");
	say("this", got[2], "the second");
	say("this", got[3], "the third");
	for (int i = 0; i < 4; i++)
		close(got[i]);
	for (int i = 0; i < 3; i++) {
		peer_sees("many", ask[i], 3000);
		close(ask[i]);
	}
	close(pipes[0]);
	close(pipes[1]);
	close(pair[0]);
	close(pair[1]);
}

static void receiver_dies(void)
{
	int ask, c = called_alone("e", &ask), to, status;
	pid_t p = other_start(&to);

	fflush(stdout);
	give(to, 'k', &c, 1);
	close(c);
	waitpid(p, &status, 0);
	printf("killed by %d\n", WTERMSIG(status));
	peer_sees("the receiver died", ask, 3000);
	close(to);
	close(ask);
}

/* The sender is killed while its message is on the way. */
static void sender_dies(void)
{
	int ask, c, pair[2], fd[FDS], status;
	char b;
	pid_t p;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		exit(1);
	fflush(stdout);
	p = fork();
	if (!p) {
		c = called_alone("w12345 e", &ask);
		fd[0] = c;
		fd[1] = ask;
		give(pair[0], 'x', fd, 2);
		raise(SIGKILL);
	}
	waitpid(p, &status, 0);
	msleep(50);
	printf("the sender died, %d came\n", take(pair[1], &b, fd, FDS, 0, NULL));
	char line[6] = "";
	printf("what it had not read: %s '%s'\n", result_text(recv(fd[0], line, 5, MSG_WAITALL)), line);
	say("this", fd[0], "an orphan");
	close(fd[0]);
	peer_sees("the sender died", fd[1], 3000);
	close(fd[1]);
	close(pair[0]);
	close(pair[1]);
}

static void listener_passed(int to)
{
	int p2, l = listen_any(&p2), ask, pair[2], fd[FDS], c;
	char call[32], b;

	fcntl(l, F_SETFD, FD_CLOEXEC);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		exit(1);
	snprintf(call, sizeof call, "c%d e", p2);
	ask = peer_connect(call);
	order(to, 'a', &l, 1);
	peer_sees("accepted elsewhere", ask, 3000);
	close(ask);
	give(pair[0], 'x', &l, 1);
	close(l);
	ask = peer_connect(call);
	msleep(200);
	printf("the listener: %d\n", take(pair[1], &b, fd, FDS, 0, NULL));
	c = accept(fd[0], NULL, NULL);
	say("this", c, "accepted again");
	close(c);
	peer_sees("accepted again", ask, 3000);
	close(ask);
	give(pair[0], 'x', fd, 1);
	close(fd[0]);
	close(pair[0]);
	close(pair[1]);
	/* thrown away: calls are refused, on the stack soon */
	for (int i = 0; i < 100; i++) {
		struct pollfd f;

		ask = peer_connect(call);
		f = (struct pollfd){.fd = ask, .events = POLLIN};
		i = poll(&f, 1, 50) == 1 ? 1000 : i;
		close(ask);
		if (i == 1000)
			puts("the port is closed");
	}
}

/* Bound here, listening there, and then here as well. */
static void bound_and_passed(int to)
{
	struct sockaddr_in a = {.sin_family = AF_INET};
	socklen_t len = sizeof a;
	int s = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), ask, c;
	char call[32];

	if (bind(s, (struct sockaddr *)&a, sizeof a) || getsockname(s, (struct sockaddr *)&a, &len))
		exit(1);
	snprintf(call, sizeof call, "c%d e", ntohs(a.sin_port));
	order(to, 'l', &s, 1);
	ask = peer_connect(call);
	order(to, 'A', NULL, 0);
	peer_sees("listened elsewhere", ask, 3000);
	close(ask);
	printf("this: listen %s\n", result_text(listen(s, 5)));
	ask = peer_connect(call);
	c = accept(s, NULL, NULL);
	say("this", c, "listened here");
	close(c);
	peer_sees("listened here", ask, 3000);
	close(ask);
	order(to, 'C', NULL, 0);
	ask = peer_connect(call);
	c = accept(s, NULL, NULL);
	say("this", c, "listened alone");
	close(c);
	peer_sees("listened alone", ask, 3000);
	close(ask);
	close(s);
}

int main(int argc, char **argv)
{
	pid_t p;
	int to, status;

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc > 2)
		return other(atoi(argv[2]));
	shared_begin();
	p = other_start(&to);
	given_away(to);
	shared(to);
	there_and_back(to);
	in_flight("thrown away", 0);
	in_flight("in flight", 1);
	in_flight("peeked", 2);
	in_flight("no room at all", 3);
	cut_off();
	to_oneself();
	refused();
	many(to);
	receiver_dies();
	sender_dies();
	listener_passed(to);
	bound_and_passed(to);
	close(to);
	waitpid(p, &status, 0);
	printf("other: status %d\n", WEXITSTATUS(status));
	return 0;
}

/* The leak checker cannot stop threads that a forked child does not have. */
#include "noleaks.h"
