/*
 * state.c - the eleven states, their names, and which may follow which (RFC
 * 9293 figure 5). state_set() is the only writer of tcb->state.
 *
 * Place in the flow: open.c, listen.c, input.c and close.c call it.
 */
#include "core/tcb.h"
#include "utcp/trace.h"

#define TO(s) (1u << TCPS_##s)

/* Bit n of row m: m -> n is legal. Every state may be left for CLOSED: reset, time-out, abort. */
static const uint16_t legal[TCPS_COUNT] = {
    [TCPS_CLOSED] = TO(LISTEN) | TO(SYN_SENT) | TO(SYN_RECEIVED),
    [TCPS_LISTEN] = TO(CLOSED),
    [TCPS_SYN_SENT] = TO(CLOSED) | TO(SYN_RECEIVED) | TO(ESTABLISHED),
    [TCPS_SYN_RECEIVED] = TO(CLOSED) | TO(ESTABLISHED),
    [TCPS_ESTABLISHED] = TO(CLOSED) | TO(FIN_WAIT_1) | TO(CLOSE_WAIT),
    [TCPS_CLOSE_WAIT] = TO(CLOSED) | TO(LAST_ACK),
    [TCPS_FIN_WAIT_1] = TO(CLOSED) | TO(FIN_WAIT_2) | TO(CLOSING) | TO(TIME_WAIT),
    [TCPS_CLOSING] = TO(CLOSED) | TO(TIME_WAIT),
    [TCPS_LAST_ACK] = TO(CLOSED),
    [TCPS_FIN_WAIT_2] = TO(CLOSED) | TO(TIME_WAIT),
    [TCPS_TIME_WAIT] = TO(CLOSED),
};

/* Linux's TCP_ESTABLISHED ... TCP_CLOSING, as TCP_INFO and ss show them. */
static const uint8_t linux_number[TCPS_COUNT] = {
    [TCPS_CLOSED] = 7,	    [TCPS_LISTEN] = 10,	   [TCPS_SYN_SENT] = 2,	  [TCPS_SYN_RECEIVED] = 3,
    [TCPS_ESTABLISHED] = 1, [TCPS_CLOSE_WAIT] = 8, [TCPS_FIN_WAIT_1] = 4, [TCPS_CLOSING] = 11,
    [TCPS_LAST_ACK] = 9,    [TCPS_FIN_WAIT_2] = 5, [TCPS_TIME_WAIT] = 6,
};

static const char *const names[TCPS_COUNT] = {
    [TCPS_CLOSED] = "CLOSED",		[TCPS_LISTEN] = "LISTEN",
    [TCPS_SYN_SENT] = "SYN-SENT",	[TCPS_SYN_RECEIVED] = "SYN-RECEIVED",
    [TCPS_ESTABLISHED] = "ESTABLISHED", [TCPS_CLOSE_WAIT] = "CLOSE-WAIT",
    [TCPS_FIN_WAIT_1] = "FIN-WAIT-1",	[TCPS_CLOSING] = "CLOSING",
    [TCPS_LAST_ACK] = "LAST-ACK",	[TCPS_FIN_WAIT_2] = "FIN-WAIT-2",
    [TCPS_TIME_WAIT] = "TIME-WAIT",
};

void state_set(struct stack_cx *cx, struct tcb *t, enum tcp_state to)
{
	enum tcp_state from = (enum tcp_state)t->state;

	if (from == to)
		return;
	/* A bug of ours: stop here rather than go on with a connection whose state means nothing. */
	if ((unsigned)from >= TCPS_COUNT || !(legal[from] & (1u << to)))
		__builtin_trap();
	t->state = (uint8_t)to;
	if (cx->trace)
		cx->trace(cx, TRACE_STATE, pool_ref(cx, t), from, to);
}

const char *state_name(enum tcp_state s)
{
	return (unsigned)s < TCPS_COUNT ? names[s] : "?";
}

int state_to_linux(enum tcp_state s)
{
	return (unsigned)s < TCPS_COUNT ? linux_number[s] : 0;
}

const char *sock_state_name(int linux_state)
{
	for (unsigned i = 0; i < TCPS_COUNT; i++) {
		if (linux_number[i] == linux_state)
			return names[i];
	}
	return "?";
}
