/*
 * options_figures.c - get-only options whose value comes from the connection: its peer, its
 * memory, its clock, its timers.
 *
 * Place in the flow: options.c (rows FIGURE) -> here -> sock_get_option (core).
 */
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "preload/address.h"
#include "preload/fdtable.h"
#include "preload/socket.h"

/* The kernel copies what the caller has room for, but takes no more room than there is address. */
static int get_peername(ref d, void *value, socklen_t *len)
{
	struct sockaddr_storage a;
	socklen_t n = sizeof a;
	struct endpoint peer;

	/* unlike getpeername(), also of one that is not connected yet, or was reset */
	if (!socket_peer(d, &peer))
		return -ENOTCONN;
	address_copy_out(&peer, description_of(d)->v6, (struct sockaddr *)&a, &n);
	return n < *len ? -EINVAL : option_copy_out(&a, n, value, len);
}

static int get_ints(struct description *p, const enum sock_option *o, int *v, int n)
{
	struct stack_cx *cx;
	int r = 0;

	lib_enter();
	cx = netio_enter(the_stack);
	for (int i = 0; i < n && !r; i++)
		r = p->sock ? sock_get_option(cx, p->sock, o[i], &v[i]) : -EBADF;
	netio_leave(the_stack);
	lib_leave();
	return r;
}

int socket_left(ref d)
{
	static const enum sock_option asked = SOCK_OPT_INQ_FIN;
	int v = 0;

	return get_ints(description_of(d), &asked, &v, 1) ? 0 : v;
}

/* Octets, since the stack has no buffers that count otherwise; what was handed to the device is gone. */
static int get_meminfo(struct description *p, void *value, socklen_t *len)
{
	static const enum sock_option asked[] = {SOCK_OPT_INQ_FIN, SOCK_OPT_RCVBUF, SOCK_OPT_SNDBUF,
						 SOCK_OPT_OUTQ};
	uint32_t m[SK_MEMINFO_VARS] = {0};
	int v[ARRAY_LEN(asked)], r = get_ints(p, asked, v, (int)ARRAY_LEN(asked));

	if (r)
		return r;
	m[SK_MEMINFO_RMEM_ALLOC] = (uint32_t)v[0];
	m[SK_MEMINFO_RCVBUF] = (uint32_t)v[1];
	m[SK_MEMINFO_SNDBUF] = (uint32_t)v[2];
	m[SK_MEMINFO_WMEM_QUEUED] = (uint32_t)v[3];
	return option_copy_out(m, sizeof m, value, len);
}

static int get_int(struct description *p, enum sock_option o, int level, void *value, socklen_t *len)
{
	int v = 0, r = get_ints(p, &o, &v, 1);

	return r ? r : option_copy_out_int(level, v, value, len);
}

/* IP_PROTOCOL is the number that IP's socket has: on TCP the local port. */
static int get_number(ref d, void *value, socklen_t *len)
{
	struct sockaddr_in6 a;
	socklen_t n = sizeof a;
	int r = socket_names(d, false, (struct sockaddr *)&a, &n);
	int port = ntohs(a.sin6_port); /* where sin_port is, too */

	return r ? r : option_copy_out_int(IPPROTO_IP, port, value, len);
}

/* A timer of the stack's, where the kernel has that option. */
static int get_timer(struct description *p, int name, void *value, socklen_t *len)
{
	const struct stack_config *c;
	struct stack_cx *cx;
	int v;
	socklen_t size = sizeof v;
	int r = untouched_ask(p->v6, IPPROTO_TCP, name, &v, &size);

	if (r)
		return r;
	lib_enter();
	cx = netio_enter(the_stack);
	c = stack_configuration(cx);
	v = (int)(name == OPT_TCP_RTO_MAX_MS   ? c->rto_max / NS_PER_MS
		  : name == OPT_TCP_RTO_MIN_US ? c->rto_min / NS_PER_US
					       : c->delack_max / NS_PER_US);
	netio_leave(the_stack);
	lib_leave();
	return option_copy_out_int(IPPROTO_TCP, v, value, len);
}

static int get_tcp(struct description *p, int name, void *value, socklen_t *len)
{
	switch (name) {
	case TCP_TIMESTAMP:
		return get_int(p, SOCK_OPT_TIMESTAMP, IPPROTO_TCP, value, len);
	case OPT_TCP_RTO_MAX_MS:
	case OPT_TCP_RTO_MIN_US:
	case OPT_TCP_DELACK_MAX_US:
		return get_timer(p, name, value, len);
	default:
		*len = 0; /* TCP_CC_INFO: neither CUBIC nor Reno has any */
		return 0;
	}
}

int figure_get(int fd, ref d, int level, int name, void *value, socklen_t *len)
{
	struct description *p = description_of(d);

	if (level == IPPROTO_TCP)
		return get_tcp(p, name, value, len);
	if (level == IPPROTO_IP)
		return get_number(d, value, len);
	switch (name) {
	case SO_PEERNAME:
		return get_peername(d, value, len);
	case SO_MEMINFO:
		return get_meminfo(p, value, len);
	case SO_BUF_LOCK:
		return get_int(p, SOCK_OPT_BUF_LOCK, level, value, len);
	default: /* SO_NETNS_COOKIE: the placeholder's */
		return sys.getsockopt(fd, level, name, value, len) ? -errno : 0;
	}
}
