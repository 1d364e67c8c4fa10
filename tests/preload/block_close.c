/*
 * close(), dup2() over, and shutdown() of a descriptor in the middle of a call on
 * it by another thread: the call keeps the open file. What it answers, and when the
 * peer hears of the end.
 */
#include "both.h"
#include "blocking.h"

enum { CLOSE, DUP2, SHUT_READ, SHUT_BOTH, KINDS };
static const char *const kinds[] = {"close", "dup2 over", "shutdown RD", "shutdown RDWR"};

static int null_fd;

static void act(struct blocking_case *c)
{
	switch (c->variant) {
	case CLOSE:
		close(c->fd);
		break;
	case DUP2:
		dup2(null_fd, c->fd);
		break;
	case SHUT_READ:
		shutdown(c->fd, SHUT_RD);
		break;
	default:
		shutdown(c->fd, SHUT_RDWR);
	}
}

static bool plain(const struct blocking_case *c)
{
	return c->b->setup == setup_connected || c->b->setup == setup_epoll || c->b->setup == setup_three;
}

int main(void)
{
	int ended[CASES_MAX];

	setvbuf(stdout, NULL, _IOLBF, 0);
	signal(SIGPIPE, SIG_IGN);
	null_fd = open("/dev/null", O_RDWR);
	for (int k = 0; k < KINDS; k++) {
		for (int i = 0; i < CALLS; i++)
			if (calls[i].call != call_close)
				case_add(&calls[i], k, false);
		blocked();
		for (int i = 0; i < case_count; i++)
			act(&cases[i]);
		quiet();
		for (int i = 0; i < case_count; i++)
			ended[i] = cases[i].done;
		for (int i = 0; i < case_count; i++)
			/* an epoll set lets go of what is closed; nothing would ever come */
			if (!ended[i] && cases[i].ep >= 0 && k < SHUT_READ) {
				cases[i].done = 2;
				pthread_cancel(cases[i].thread);
			} else if (!ended[i]) {
				cases[i].b->release(&cases[i]);
			}
		for (int i = 0; i < case_count; i++) {
			struct blocking_case *c = &cases[i];

			pthread_join(c->thread, NULL);
			printf("%s, %s: %s, %s", c->b->name, kinds[k], ended[i] ? "ended" : "went on",
			       c->done == 2 ? "-" : case_result(c));
			/* nobody holds the connection any more: its end reaches the peer */
			if (k < SHUT_READ && plain(c) && c->b->release == release_send)
				printf(", peer %ld", ask(c, "recv 1"));
			puts("");
			if (k >= SHUT_READ || k == DUP2)
				close(c->fd);
		}
		cases_end();
	}
	return 0;
}
