/*
 * establish.c - how a kernel socket becomes a socket of the stack: bind,
 * connect, listen, and the decision behind them (design D4).
 *
 * Theory of operation. socket() made a real kernel TCP socket (FD_TCP). At
 * connect() or listen() policy decides. Kernel: the number is forgotten and
 * passes through for good. Stack: what the application set is read back from the
 * kernel socket and given to a new core socket; then
 *   - a connection: every number of the description leaves the kernel's epoll
 *     sets, gets a placeholder by dup3, and enters our lists;
 *   - a listener keeps its real listening socket, which arbitrates the port; on
 *     a wildcard or loopback address accept() serves both halves (accept.c).
 * With UTCP_REQUIRE=1 a fall to the kernel that no rule asked for is an error.
 *
 * Place in the flow: calls_socket.c -> here -> stack.h.
 */
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/syscall.h>

#include "preload/address.h"
#include "preload/async.h"
#include "preload/establish.h"
#include "preload/exec.h"
#include "preload/fdtable.h"
#include "preload/number.h"
#include "preload/process.h"
#include "preload/socket.h"
#include "preload/undecided.h"

/* ------------------------------------------------------------ decision */

struct ipaddr stack_address(void)
{
	struct ipaddr a;

	if (the_stack) {
		lib_enter();
		a = stack_configuration(netio_enter(the_stack))->addr;
		netio_leave(the_stack);
		lib_leave();
	} else {
		uint8_t prefix_len;
		config_network(&the_config, &a, &prefix_len);
	}
	return a;
}

/* The kernel instead of the stack, for a reason that is not a rule: GO_KERNEL, or the error that it is under
 * UTCP_REQUIRE. */
static int fall(const char *reason, int error)
{
	fallback_note(reason);
	return the_config.require ? error : GO_KERNEL;
}

/* GO_STACK (and the stack is attached), GO_KERNEL, or a negative errno. */
static int decide(bool server, const struct endpoint *e)
{
	const char *reason;
	int error = 0;

	if (the_config.off)
		return GO_KERNEL;
	if (process_config_broken())
		return fall("the configuration is not usable", -ENETDOWN);
	if (!policy_use_stack(&the_config, server, e)) {
		reason = policy_fallback_reason(&the_config, server, e, &error);
		if (!reason)
			return GO_KERNEL;
		fallback_note(reason);
		return the_config.require && error ? error : GO_KERNEL;
	}
	if (atomic_load(&process.forked))
		return fall(the_stack ? "the process was taken for dead" : "a forked process has no stack",
			    -ENETDOWN);
	if (stack_attach() < 0)
		return fall("the stack could not be started", -ENETDOWN);
	return GO_STACK;
}

/* The pass-through is for good, for every number of the socket. */
static void alias_decided(int fd, void *arg)
{
	(void)arg;
	fd_decided(fd);
}

static int negative_of(int r)
{
	return r < 0 ? -errno : r;
}

static int option_int(int fd, int level, int name)
{
	int v = 0;
	socklen_t len = sizeof v;

	return sys.getsockopt(fd, level, name, &v, &len) ? 0 : v;
}

int kernel_name(int fd, struct endpoint *out)
{
	struct sockaddr_storage sa;
	socklen_t len = sizeof sa;

	if (sys.getsockname(fd, (struct sockaddr *)&sa, &len))
		return -errno;
	return address_parse((struct sockaddr *)&sa, len, out);
}

/* ------------------------------------------------------------ bind */

int socket_bind(int fd, const struct sockaddr *sa, socklen_t len)
{
	struct endpoint e;
	struct ipaddr own;
	int one = 1, zero = 0, was, r;

	/* The stack's own address is foreign to the kernel: only that one may be bound all the same. */
	bool freebind = !address_parse(sa, len, &e) && !ipaddr_is_any(&e.addr) && ipaddr_is_v4(&e.addr) &&
			!the_config.off && (own = stack_address(), ipaddr_eq(&own, &e.addr)) &&
			(!the_stack || netio_same_network(the_stack, fd));
	was = freebind ? option_int(fd, IPPROTO_IP, IP_FREEBIND) : 1;
	if (!was)
		sys.setsockopt(fd, IPPROTO_IP, IP_FREEBIND, &one, sizeof one);
	r = sys.bind(fd, sa, len) ? -errno : 0;
	if (!was)
		sys.setsockopt(fd, IPPROTO_IP, IP_FREEBIND, &zero, sizeof zero);
	if (!r)
		fd_mark_option(fd, OPTION_BIT_BOUND);
	return r;
}

/* ------------------------------------------------------------ a socket changes sides */

/* A core socket and its description (one reference, the caller's), with the application's options. */
int stream_make(int fd, enum fd_kind kind, const struct option_values *v, ref *out)
{
	int flags = sys.fcntl(fd, F_GETFL);
	bool v6 = fd_tcp_is_v6(fd);
	struct stack_cx *cx = netio_enter(the_stack);
	ref s = sock_create(cx), d = s ? description_new(cx, kind, s) : REF_NONE;

	if (s && !d)
		sock_close(cx, s);
	if (d) {
		struct description *p = description_at(cx, d);
		p->v6 = v6;
		p->nonblock = flags >= 0 && flags & O_NONBLOCK;
		p->async = flags >= 0 && flags & O_ASYNC;
		p->owned = async_owners_used();
		options_apply(cx, p, v);
	}
	netio_leave(the_stack);
	if (d)
		options_timeouts(fd, description_of(d));
	*out = d;
	return d ? 0 : -ENOBUFS;
}

struct replacement {
	ref d;
	int first; /* the number that has the placeholder, -1: none yet */
	int error;
};

/* One number of the description: out of the kernel's sets, placeholder onto it, into ours. */
static void alias_replace(int fd, struct replacement *x)
{
	int r = epoll_before_replace(fd);

	if (!r && x->first < 0) {
		r = placeholder_replace(fd);
	} else if (!r) {
		int cloexec = sys.fcntl(fd, F_GETFD);
		r = netio_fd_onto(x->first, fd, cloexec & FD_CLOEXEC ? O_CLOEXEC : 0);
	}
	if (r >= 0) {
		if (x->first < 0) {
			x->first = fd;
			description_of(x->d)->cookie = cookie_of(fd);
		}
		r = fd_install(fd, FD_STREAM, x->d);
		if (!r)
			r = epoll_after_replace(fd, x->d);
	} else {
		epoll_after_replace(fd, REF_NONE); /* it stays in the kernel */
	}
	if (r < 0)
		x->error = r;
}

void number_collect(int fd, void *arg)
{
	struct number_list *l = arg;
	if (l->count < (int)ARRAY_LEN(l->fd))
		l->fd[l->count++] = fd;
}

static int stream_replace(int fd, ref d)
{
	struct number_list l = {0};
	struct replacement x = {d, -1, 0};

	fd_each_tcp_alias(fd, number_collect, &l);
	for (int i = 0; i < l.count; i++)
		alias_replace(l.fd[i], &x);
	return x.error;
}

/* ------------------------------------------------------------ connect */

/* connect() to the wildcard means this host (ip(7)). */
static int remote_parse(const struct sockaddr *sa, socklen_t len, struct endpoint *e)
{
	int r = address_parse(sa, len, e);

	if (r || !ipaddr_is_any(&e->addr))
		return r;
	if (ipaddr_is_v4(&e->addr))
		e->addr = ipaddr_v4(127, 0, 0, 1);
	else
		e->addr.b[15] = 1;
	return 0;
}

/* Under the lock. again: we have waited for the outcome of an attempt. */
static int connect_once(struct stack_cx *cx, ref s, const struct endpoint *local,
			const struct endpoint *remote, bool again)
{
	int err;

	if (!again || sock_connect_begun(cx, s))
		return sock_connect(cx, s, local, remote);
	err = sock_take_error(cx, s); /* another thread ended it by shutdown() */
	return err ? -err : -ECONNABORTED;
}

int stream_connect(ref d, const struct endpoint *local, const struct endpoint *remote)
{
	struct description *p = description_of(d);
	nsec timeout = atomic_load(&p->sndtimeo), deadline = 0;
	struct endpoint mine;
	int r, first = 0;

	for (;;) {
		struct stack_cx *cx = netio_enter(the_stack);
		r = p->broken  ? -ENETDOWN
		    : !p->sock ? -EBADF
			       : connect_once(cx, p->sock, local, remote, first);
		p->connect_pending = r == -EINPROGRESS || r == -EALREADY;
		if (r == -EINPROGRESS && !sock_names(cx, p->sock, &mine, NULL))
			p->local_port = mine.port;
		netio_leave(the_stack);
		if (!first)
			first = r;
		if (!p->connect_pending || atomic_load(&p->nonblock))
			return r;
		r = socket_block(d, SOCK_OUT, -1, socket_deadline(&deadline, timeout), timeout);
		if (r == -EAGAIN)
			return first; /* SO_SNDTIMEO: the attempt goes on, as in the kernel */
		if (r < 0)
			return r;
	}
}

/* connect(AF_UNSPEC): dissolve the association. */
static int stream_disconnect(ref d)
{
	struct description *p = description_of(d);
	struct stack_cx *cx = netio_enter(the_stack);

	if (p->sock) {
		sock_disconnect(cx, p->sock);
		p->connect_pending = 0;
		p->local_port = 0;
	}
	netio_leave(the_stack);
	return p->sock ? 0 : -EBADF;
}

/* A number that is on the stack already: the second call, or another try after a failure. */
/* A link's own address, and on no link. */
static bool needs_scope(const struct sockaddr *sa, socklen_t len)
{
	struct sockaddr_in6 a = {.sin6_scope_id = 0};

	memcpy(&a, sa, MIN_OF(len, (socklen_t)sizeof a));
	return a.sin6_family == AF_INET6 && IN6_IS_ADDR_LINKLOCAL(&a.sin6_addr) && !a.sin6_scope_id;
}

static int connect_again(int fd, const struct sockaddr *sa, socklen_t len)
{
	struct endpoint remote, local = {.port = 0};
	ref d;
	int r, bad;

	if (len > sizeof(struct sockaddr_storage))
		return -EINVAL;
	if (!memory_readable(sa, len))
		return -EFAULT;
	if (len < sizeof sa->sa_family)
		return -EINVAL;
	d = fd_hold(fd);
	if (!d)
		return -EBADF;
	lib_enter();
	if (sa->sa_family == AF_UNSPEC) {
		r = stream_disconnect(d);
	} else {
		r = description_of(d)->v6 && len < 24 ? -EINVAL : remote_parse(sa, len, &remote);
		if (!r && (sa->sa_family == AF_INET6) != description_of(d)->v6)
			r = -EAFNOSUPPORT;
		if (!r && description_of(d)->v6only && ipaddr_is_v4(&remote.addr))
			r = -ENETUNREACH;
		if (!r && needs_scope(sa, len))
			r = -EINVAL;
		if (!r && !policy_use_stack(&the_config, false, &remote))
			r = -ENETUNREACH; /* this socket left the kernel with its first connect() */
		bad = r;
		/* what goes on is said first, whatever the address */
		r = stream_connect(d, &local, bad ? NULL : &remote);
		if (bad && r == -EDESTADDRREQ)
			r = bad;
	}
	lib_leave();
	fd_release(d);
	return r;
}

bool address_is_local(const struct ipaddr *a)
{
	struct ipaddr own;

	return ipaddr_is_loopback(a) || (own = stack_address(), ipaddr_eq(a, &own));
}

/* Where the application bound it. GO_KERNEL: an address of the kernel's, or one that cannot lead there. */
static int connect_local(int fd, struct endpoint *local, const struct endpoint *remote)
{
	memset(local, 0, sizeof *local);
	/* who has it, too, may have bound it */
	if (fd_kind(fd) == FD_TCP && !(fd_options(fd) & 1ull << OPTION_BIT_BOUND))
		return GO_STACK;
	if (kernel_name(fd, local) < 0)
		return GO_KERNEL;
	if (ipaddr_is_any(&local->addr))
		return GO_STACK;
	if (address_is_local(&local->addr) &&
	    (!ipaddr_is_loopback(&local->addr) || address_is_local(&remote->addr)))
		return GO_STACK;
	return fall("the socket is bound to an address of the kernel", -EADDRNOTAVAIL);
}

/* May this undecided socket go to the stack at all? Reads its options. */
static int convertible(int fd, struct option_values *v)
{
	const char *name = options_gather(fd, v);

	if (!name)
		return GO_STACK;
	fallback_note("an option that only the kernel has");
	if (!the_config.require)
		return GO_KERNEL;
	log_line("the option %s is not available on the stack; do without it or unset UTCP_REQUIRE", name);
	return -EOPNOTSUPP;
}

int decide_connect(int fd, const struct sockaddr *sa, socklen_t len, struct endpoint *local,
		   struct endpoint *remote, struct option_values *v)
{
	bool v6 = fd_tcp_is_v6(fd);
	int r;

	if (remote_parse(sa, len, remote) || (sa->sa_family == AF_INET6) != v6)
		return GO_KERNEL; /* its errors, and AF_UNSPEC, are the kernel's to give */
	if (v6 && ipaddr_is_v4(&remote->addr) && option_int(fd, IPPROTO_IPV6, IPV6_V6ONLY))
		return GO_KERNEL;
	r = decide(false, remote);
	if (r == GO_STACK && !netio_same_network(the_stack, fd))
		r = GO_KERNEL; /* of another network namespace: none that the stack could reach for it */
	if (r != GO_STACK)
		return r;
	r = connect_local(fd, local, remote);
	if (r != GO_STACK)
		return r;
	r = convertible(fd, v);
	return r == GO_STACK && fd_maybe_shared(fd) ? GO_SHARED : r;
}

int socket_connect(int fd, const struct sockaddr *sa, socklen_t len)
{
	struct option_values v;
	struct endpoint local, remote;
	bool made = false, shared = false;
	ref d;
	int r;

	if (fd_kind(fd) == FD_STREAM)
		return connect_again(fd, sa, len);
	if (fd_kind(fd) == FD_LISTENER)
		return listener_connect(fd, sa, len);
	lib_enter();
	undecided_lock();
	if (fd_kind(fd) != FD_TCP) { /* another thread has just decided, or shared it */
		undecided_unlock();
		lib_leave();
		return fd_kind(fd) == FD_KERNEL ? negative_of(sys.connect(fd, sa, len))
						: socket_connect(fd, sa, len);
	}
	r = decide_connect(fd, sa, len, &local, &remote, &v);
	if (r == GO_KERNEL) {
		struct endpoint e;
		if (!address_parse(sa, len, &e))
			fd_each_tcp_alias(fd, alias_decided, NULL);
	} else if (r == GO_SHARED) {
		shared = undecided_share_now(fd, &v);
		r = -ENOBUFS;
	} else if (r == GO_STACK) {
		r = stream_make(fd, FD_STREAM, &v, &d);
		made = !r;
		if (!r)
			r = stream_replace(fd, d);
		if (!r)
			r = async_update(d);
	}
	undecided_unlock();
	if (made) {
		if (!r)
			r = stream_connect(d, &local, &remote);
		lib_leave();
		fd_release(d);
		return r;
	}
	lib_leave();
	if (shared)
		return socket_connect(fd, sa, len);
	return r == GO_KERNEL ? negative_of(sys.connect(fd, sa, len)) : r;
}

/* ------------------------------------------------------------ listen */

bool listens_v6only(int fd)
{
	return fd_tcp_is_v6(fd) && option_int(fd, IPPROTO_IPV6, IPV6_V6ONLY);
}

/* What the kernel has made of the backlog (net.core.somaxconn): tcp_get_info() shows it there. */
static int backlog_of(int fd, int backlog)
{
	struct tcp_info info;
	socklen_t len = sizeof info;

	memset(&info, 0, sizeof info);
	return sys.getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) || !info.tcpi_sacked
		   ? backlog
		   : (int)info.tcpi_sacked;
}

/* The stack's half. The kernel half listens already and owns the port. */
static int listener_start(ref d, const struct endpoint *local, int backlog, bool v6only)
{
	struct description *p = description_of(d);
	struct stack_cx *cx = netio_enter(the_stack);
	int r = -EBADF;

	if (p->kind != FD_LISTENER) {
		r = -EINVAL; /* another process was faster, with a connect() */
	} else if (p->sock) {
		p->v6only = v6only;
		sock_set_option(cx, p->sock, SOCK_OPT_V6ONLY, v6only);
		r = sock_listen(cx, p->sock, local, backlog);
		if (!r)
			p->undecided = 0;
	}

	netio_leave(the_stack);
	return r;
}

int decide_listen(int fd, struct endpoint *local, struct option_values *v)
{
	struct endpoint asked;
	int r;

	if (kernel_name(fd, local))
		return GO_KERNEL;
	asked = *local;
	if (ipaddr_is_any(&local->addr)) {
		/* of IPv6 only ::1 is within reach */
		if (!the_config.loopback && listens_v6only(fd))
			return GO_KERNEL;
		asked.addr = ipaddr_v4(0, 0, 0, 0); /* rules for IPv4 are meant as well */
	}
	r = decide(true, &asked);
	if (r == GO_STACK && !netio_same_network(the_stack, fd))
		r = GO_KERNEL;
	if (r != GO_STACK)
		return r;
	if (!ipaddr_is_any(&local->addr) && !address_is_local(&local->addr))
		return GO_KERNEL;
	return convertible(fd, v);
}

/* The second listen() changes the backlog of both halves; for others the first may have been another's. */
static int listen_again(int fd, int backlog)
{
	struct endpoint local;
	ref d = fd_hold(fd);
	int r;

	if (!d)
		return fd_kind(fd) == FD_KERNEL ? negative_of(sys.listen(fd, backlog)) : -EBADF;
	if (description_of(d)->undecided) {
		struct option_values v;

		r = decide_listen(fd, &local, &v);
		if (r == GO_KERNEL) {
			undecided_leave(d);
			r = negative_of(sys.listen(fd, backlog));
			undecided_tell((void *)(uintptr_t)d);
			fd_release(d);
			return r;
		}
		if (r != GO_STACK) {
			fd_release(d);
			return r;
		}
	}
	r = sys.listen(fd, backlog) ? -errno : kernel_name(fd, &local);
	if (!r) {
		lib_enter();
		r = listener_start(d, &local, backlog_of(fd, backlog), listens_v6only(fd));
		undecided_half(fd, d);
		epoll_listens_again(d);
		lib_leave();
	}
	fd_release(d);
	return r;
}

int alias_listen(int fd, ref d)
{
	int r = epoll_before_replace(fd);

	if (!r)
		r = fd_decide(fd, FD_LISTENER, d);
	if (!r)
		r = epoll_after_replace(fd, d);
	return r;
}

bool establish_both_halves(int fd, struct endpoint *local)
{
	return !kernel_name(fd, local) &&
	       (ipaddr_is_any(&local->addr) || ipaddr_is_loopback(&local->addr) || fd_tcp_is_v6(fd));
}

/* Both halves of a new listener; local->port may still be 0. */
static int listener_make(int fd, int backlog, struct endpoint *local, const struct option_values *v)
{
	bool both = ipaddr_is_any(&local->addr) || ipaddr_is_loopback(&local->addr);
	struct number_list l = {0};
	struct endpoint bound;
	ref d;
	int r = stream_make(fd, FD_LISTENER, v, &d);

	if (r)
		return r;
	description_of(d)->cookie = cookie_of(fd);
	r = sys.listen(fd, backlog) ? -errno : kernel_name(fd, &bound);
	if (!r && both) {
		/* on the stack's own address no connection can reach the kernel half */
		int half;
		netio_births_begin();
		half = (int)netio_fd_call(SYS_fcntl, fd, F_DUPFD_CLOEXEC, 3, 0);
		r = half < 0 ? half : netio_protect_fd_at(half, &local_of(d)->kernel_fd);
		netio_births_end();
	}
	if (!r) {
		local->port = bound.port;
		r = listener_start(d, local, backlog_of(fd, backlog), listens_v6only(fd));
	}
	if (!r) {
		fd_each_tcp_alias(fd, number_collect, &l);
		for (int i = 0; !r && i < l.count; i++)
			r = alias_listen(l.fd[i], d);
	}
	if (!r)
		r = async_update(d);
	fd_release(d);
	return r;
}

int listener_take(int fd)
{
	struct number_list l = {0};
	struct stack_cx *cx;
	int r = 0;
	ref d;

	if (!the_stack || !fd_maybe_shared(fd))
		return 1;
	cx = netio_enter(the_stack);
	d = netio_object_of(the_stack, cx, cookie_of(fd));
	if (d && (description_at(cx, d)->kind != FD_LISTENER || !description_take(cx, d)))
		d = REF_NONE;
	netio_leave(the_stack);
	if (!d)
		return 1;
	fd_each_tcp_alias(fd, number_collect, &l);
	for (int i = 0; !r && i < l.count; i++)
		r = alias_listen(l.fd[i], d);
	if (!r)
		listener_half_restore(fd);
	fd_release(d);
	return r;
}

/* The first listen(). 1: another process's was it. *kernel: it is the kernel's for good. */
static int listen_first(int fd, int backlog, bool *kernel)
{
	struct option_values v;
	struct endpoint local;
	int r = listener_take(fd);

	if (r <= 0)
		return r ? r : 1;
	r = decide_listen(fd, &local, &v);
	*kernel = r == GO_KERNEL;
	if (*kernel)
		fd_each_tcp_alias(fd, alias_decided, NULL);
	if (r != GO_STACK)
		return r;
	r = listener_make(fd, backlog, &local, &v);
	/* another process was faster */
	return r == -EADDRINUSE && fd_kind(fd) == FD_TCP && !listener_take(fd) ? 1 : r;
}

int socket_listen(int fd, int backlog)
{
	bool kernel = false;
	int r = 1;

	lib_enter();
	undecided_lock();
	if (fd_kind(fd) == FD_TCP)
		r = listen_first(fd, backlog, &kernel);
	undecided_unlock();
	lib_leave();
	if (kernel)
		return negative_of(sys.listen(fd, backlog));
	return r > 0 ? listen_again(fd, backlog) : r;
}
