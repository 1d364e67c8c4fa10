/*
 * options_ipv6.c - IPV6_V6ONLY of a connection's socket.
 *
 * It can be changed while the socket has no port: here, as long as there is no connection and no attempt at
 * one. Then mapped addresses are out of its reach (establish.c). Listeners keep it in their kernel half, and
 * what they accept has it from them (accept.c).
 *
 * Place in the flow: options.c -> here.
 */
#include <netinet/in.h>

#include "preload/options.h"
#include "preload/socket.h"

/* The kernel takes no value at all for a zero. */
int option_set_v6only(struct description *p, const void *value, socklen_t len)
{
	int v = 0, r = -EINVAL;
	struct stack_cx *cx;
	struct sock_info i;

	if (!p->v6)
		return -ENOPROTOOPT;
	if (len < sizeof v || p->kind != FD_STREAM)
		return -EINVAL;
	if (value && (uintptr_t)value < 4096)
		return -EFAULT;
	if (value)
		memcpy(&v, value, sizeof v);
	lib_enter();
	cx = netio_enter(the_stack);
	if (p->sock && !sock_info(cx, p->sock, &i) &&
	    (i.state == LINUX_CLOSE || i.state == LINUX_TIME_WAIT)) {
		p->v6only = v != 0;
		r = 0;
	}
	netio_leave(the_stack);
	lib_leave();
	return r;
}
