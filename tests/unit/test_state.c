/* test_state.c - figure 5 of RFC 9293, as a table; names and Linux's numbers. */
#include "core/tcb.h"
#include "tests/check.h"
#include "tests/unit/testcx.h"
#include "utcp/trace.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static struct testcx t;
static int traced_from, traced_to;

static void trace(struct stack_cx *cx, int point, ref sock, uint64_t a, uint64_t b)
{
	(void)cx;
	(void)sock;
	if (point == TRACE_STATE) {
		traced_from = (int)a;
		traced_to = (int)b;
	}
}

/* RFC 9293 figure 5 and 3.10: who follows whom, CLOSED aside (reset, time-out, abort reach it from all). */
static const char figure[TCPS_COUNT][TCPS_COUNT + 1] = {
    /* to:		    CLSeCFcL2T; C closed L listen S SYN-SENT r SYN-RECEIVED ... */
    [TCPS_CLOSED] = "x111.......",	[TCPS_LISTEN] = "1x.........",
    [TCPS_SYN_SENT] = "1.x11......",	[TCPS_SYN_RECEIVED] = "1..x1......",
    [TCPS_ESTABLISHED] = "1...x11....", [TCPS_CLOSE_WAIT] = "1....x..1..",
    [TCPS_FIN_WAIT_1] = "1.....x1.11",	[TCPS_CLOSING] = "1......x..1",
    [TCPS_LAST_ACK] = "1.......x..",	[TCPS_FIN_WAIT_2] = "1........x1",
    [TCPS_TIME_WAIT] = "1.........x",
};

/* An illegal transition stops the process: tried in a child. */
static bool transition_dies(struct tcb *c, int from, int to)
{
	int status = 0;
	pid_t child = fork();

	if (child == 0) {
		signal(SIGILL, SIG_DFL);
		c->state = (uint8_t)from;
		state_set(&t.cx, c, (enum tcp_state)to);
		_exit(0);
	}
	waitpid(child, &status, 0);
	return !WIFEXITED(status) || WEXITSTATUS(status) != 0;
}

static void test_table(void)
{
	testcx_start(&t);
	t.cx.trace = trace;
	struct tcb *c = tcb_create(&t.cx);
	for (int from = 0; from < TCPS_COUNT; from++) {
		for (int to = 0; to < TCPS_COUNT; to++) {
			if (figure[from][to] == '1') {
				c->state = (uint8_t)from;
				state_set(&t.cx, c, (enum tcp_state)to);
				CHECK_EQ(c->state, to);
				CHECK_EQ(traced_from, from);
				CHECK_EQ(traced_to, to);
			} else if (from != to) {
				CHECK_MSG(transition_dies(c, from, to), "%s -> %s is taken", state_name(from),
					  state_name(to));
			}
		}
	}
	c->state = TCPS_CLOSED;
	testcx_close(&t);
}

static void test_names(void)
{
	CHECK_STR_EQ(state_name(TCPS_SYN_RECEIVED), "SYN-RECEIVED");
	CHECK_STR_EQ(state_name(TCPS_COUNT), "?");
	CHECK_EQ(state_to_linux(TCPS_ESTABLISHED), 1);
	CHECK_EQ(state_to_linux(TCPS_CLOSING), 11);
	CHECK_STR_EQ(sock_state_name(10), "LISTEN");
	CHECK_STR_EQ(sock_state_name(99), "?");
	for (int s = 0; s < TCPS_COUNT; s++)
		CHECK_STR_EQ(sock_state_name(state_to_linux(s)), state_name(s));
}

CHECK_MAIN("state", {"RFC 9293 figure 5: exactly its transitions are taken", test_table},
	   {"names, and Linux's numbers", test_names})
