/*
 * trace.h - the points at which core tells an observer what happens, each
 * declared once. cx->trace(cx, point, sock, a, b) sees them; it must not call
 * back into the stack.
 */
#ifndef UTCP_TRACE_H
#define UTCP_TRACE_H

/* X(NAME, what a is, what b is) */
#define TRACE_POINTS(X) X(STATE, "state left (enum tcp_state)", "state entered")

enum trace_point {
#define X(name, a, b) TRACE_##name,
	TRACE_POINTS(X)
#undef X
	    TRACE_POINT_COUNT
};

#endif
