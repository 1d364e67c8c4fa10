/*
 * signal(7), the whole of it: a handler with and without SA_RESTART over every call
 * that can block, with and without a time-out of the socket. Who is interrupted,
 * and what do those say that go on? Then SIGSTOP and SIGCONT, without a handler.
 */
#include "both.h"
#include "blocking.h"

static void handler(int sig)
{
	(void)sig;
	if (mine)
		mine->ran++;
}

static bool by_close(const struct blocking *b)
{
	return b->call == call_close;
}

static void signal_all(void)
{
	long until = now_ms() + PATIENCE_MS;

	for (int i = 0; i < case_count; i++)
		pthread_kill(cases[i].thread, cases[i].variant ? SIGUSR1 : SIGUSR2);
	for (int i = 0; i < case_count; i++)
		while (!cases[i].ran && !cases[i].done && now_ms() < until)
			nap(1);
	quiet();
}

static void show_all(const char *what)
{
	int ended[CASES_MAX];

	for (int i = 0; i < case_count; i++)
		ended[i] = cases[i].done;
	let_go();
	for (int i = 0; i < case_count; i++) {
		struct blocking_case *c = &cases[i];

		pthread_join(c->thread, NULL);
		SAY("%s%s%s, %s: %s, %s", c->b->name, c->timeout ? ", time-out" : "",
		    c->variant > 1 ? ""
		    : c->variant   ? ", SA_RESTART"
				   : ", -",
		    what, ended[i] ? "interrupted" : "went on", case_result(c));
		if (!by_close(c->b))
			close(c->fd);
	}
	cases_end();
}

static void stop_and_continue(void)
{
	pid_t parent = getpid(), child;

	child = fork();
	if (!child) {
		kill(parent, SIGSTOP);
		nap(50);
		kill(parent, SIGCONT);
		_exit(0);
	}
	waitpid(child, NULL, 0);
	quiet();
}

int main(void)
{
	struct sigaction sa = {.sa_handler = handler};

	setvbuf(stdout, NULL, _IOLBF, 0);
	sigaction(SIGUSR2, &sa, NULL);
	sa.sa_flags = SA_RESTART;
	sigaction(SIGUSR1, &sa, NULL);
	for (int timeout = 0; timeout < 2; timeout++) {
		for (int i = 0; i < CALLS; i++)
			for (int restart = 0; restart < 2; restart++)
				case_add(&calls[i], restart, timeout);
		blocked();
		signal_all();
		show_all("handler");
	}
	for (int timeout = 0; timeout < 2; timeout++) {
		for (int i = 0; i < CALLS; i++)
			case_add(&calls[i], 2, timeout);
		blocked();
		/* who happened to be awake, for a timer, is caught the next time */
		for (int i = 0; i < 3; i++)
			stop_and_continue();
		show_all("stopped");
	}
	return 0;
}
