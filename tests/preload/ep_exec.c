/*
 * An epoll set with an edge-triggered member, over many exec()s: each arrival is reported once, whether it
 * was reported before the exec, lay ready, or comes just then.
 */
#include "both.h"
#include <sys/epoll.h>

#define EXECS 200

struct state {
	int left, ep, fd, due, missing, extra;
};

static int reports(int ep, int ms)
{
	struct epoll_event ev[4];
	int n;

	do {
		n = epoll_wait(ep, ev, 4, ms);
	} while (n < 0 && errno == EINTR);
	return n;
}

static void again(const struct state *s, char *name)
{
	char text[6][16];
	char *argv[] = {name, text[0], text[1], text[2], text[3], text[4], text[5], NULL};
	const int *value = &s->left;

	for (int i = 0; i < 6; i++)
		snprintf(text[i], sizeof text[i], "%d", value[i]);
	execv("/proc/self/exe", argv);
	perror("exec");
	exit(1);
}

/* What is due, and nothing after it. */
static void look(struct state *s)
{
	if (s->due && reports(s->ep, 5000) != 1)
		s->missing++;
	while (reports(s->ep, s->left % 2) > 0)
		s->extra++;
	s->due = 0;
}

int main(int argc, char **argv)
{
	struct state s = {.left = EXECS};

	if (argc == 1) {
		struct epoll_event e = {.events = EPOLLIN | EPOLLET};

		s.fd = connected();
		s.ep = epoll_create1(0);
		epoll_ctl(s.ep, EPOLL_CTL_ADD, s.fd, &e);
		fcntl(control, F_SETFD, 0);
	} else {
		int *value = &s.left;

		for (int i = 0; i < 6; i++)
			value[i] = atoi(argv[1 + i]);
		control = 900;
		setvbuf(stdout, NULL, _IOLBF, 0);
		if (s.left % 3 == 2)
			peer_answer();
		look(&s);
	}
	if (!s.left--) {
		SAY("%d execs: %d reports missing, %d too many", EXECS, s.missing, s.extra);
		return 0;
	}
	if (s.left % 3 == 2)
		peer_later("send 1"); /* on its way while we exec */
	else
		peer("send 1");
	s.due = 1;
	if (s.left % 3 == 0)
		look(&s);
	again(&s, argv[0]);
	return 1;
}
