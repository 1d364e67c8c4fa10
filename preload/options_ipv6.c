/*
 * options_ipv6.c - IPV6_V6ONLY and IPV6_ADDRFORM of a connection's socket.
 *
 * The first can be changed while the socket has no port: here, as long as there is no connection and no
 * attempt at one. Then mapped addresses are out of its reach (establish.c). Listeners keep it in their kernel
 * half, and what they accept has it from them (accept.c). The second makes a connection with a mapped address
 * one of IPv4.
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

int option_set_form(struct description *p, const void *value, socklen_t len)
{
	int r = untouched_judge(p->v6, IPPROTO_IPV6, IPV6_ADDRFORM, value, len);
	struct sock_info i = {.state = LINUX_CLOSE};
	struct endpoint peer = {.port = 0};
	struct stack_cx *cx;

	if (r != -ENOTCONN)
		return r; /* not AF_INET */
	lib_enter();
	cx = netio_enter(the_stack);
	if (p->sock && !sock_info(cx, p->sock, &i) && i.state == LINUX_ESTABLISHED) {
		sock_names(cx, p->sock, NULL, &peer);
		r = p->v6only || !ipaddr_is_v4(&peer.addr) ? -EADDRNOTAVAIL : 0;
		p->v6 = r != 0;
	}
	netio_leave(the_stack);
	lib_leave();
	return r;
}
