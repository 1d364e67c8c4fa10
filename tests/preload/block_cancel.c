/*
 * pthread_cancel() over every call that can block: deferred, asynchronous and
 * disabled. The thread ends (or not), its clean-up handlers run, nothing of the
 * library is left locked, and the descriptor works on.
 */
#include "both.h"
#include "blocking.h"

enum { DEFERRED, DISABLED, KINDS };
static const char *const kinds[] = {"cancelled", "disabled"};
static struct blocking wrapped[CALLS];
static int cleaned[CASES_MAX];

static void clean_up(void *arg)
{
	++*(int *)arg;
}

static long with_clean_up(struct blocking_case *c)
{
	long r;

	if (c->variant == DISABLED)
		pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
	pthread_cleanup_push(clean_up, &cleaned[c - cases]);
	r = calls[c->b - wrapped].call(c);
	pthread_cleanup_pop(0);
	return r;
}

/* Is the descriptor as good as before? */
static const char *works(struct blocking_case *c)
{
	static char text[96];
	char b[256];

	if (c->b->setup != setup_connected && c->b->setup != setup_epoll && c->b->setup != setup_three)
		return "-";
	long sent = ask(c, "send 5"), r = recv(c->fd, b, sizeof b, 0), back = send(c->fd, "hello", 5, 0),
	     got = ask(c, "recv 5");

	if (r >= 5 && got == 5)
		return "works";
	snprintf(text, sizeof text, "broken: %ld sent, %ld received, %ld back, %ld there", sent, r, back,
		 got);
	return text;
}

int main(void)
{
	int ended[CASES_MAX];

	setvbuf(stdout, NULL, _IOLBF, 0);
	for (int i = 0; i < CALLS; i++) {
#ifdef __SANITIZE_THREAD__ /* over the kernel's TCP, too, a thread cancelled in the runtime's ppoll() breaks \
			    */
		if (calls[i].call == call_ppoll)
			continue;
#endif
		wrapped[i] = calls[i];
		wrapped[i].call = with_clean_up;
		for (int k = 0; k < KINDS; k++)
			case_add(&wrapped[i], k, false);
	}
	blocked();
	for (int i = 0; i < case_count; i++)
		pthread_cancel(cases[i].thread);
	quiet();
	for (int i = 0; i < case_count; i++)
		ended[i] = cases[i].done || thread_state(cases[i].tid) == '?';
	for (int i = 0; i < case_count; i++)
		if (!ended[i])
			cases[i].b->release(&cases[i]);
	for (int i = 0; i < case_count; i++) {
		struct blocking_case *c = &cases[i];
		void *r;

		pthread_join(c->thread, &r);
		printf("%s, %s: %s, %s, cleaned up %d", c->b->name, kinds[c->variant],
		       ended[i] ? "ended" : "went on", r == PTHREAD_CANCELED ? "cancelled" : case_result(c),
		       cleaned[i]);
		SAY(", %s", c->b->release == release_recv_all ? "-" : works(c));
		if (calls[c->b - wrapped].call != call_close || r == PTHREAD_CANCELED)
			close(c->fd);
	}
	return 0;
}
