/*
 * accept.c - accept() of a listener of the stack, which has two halves.
 *
 * The stack's half has connections that wait in the region; each gets a
 * description, and a placeholder as its number. The other half is the kernel
 * socket that the listener was made from (establish.c): what is accepted there is
 * the kernel's and stays so.
 *
 * The kernel half of a listener is reached through a protected duplicate, so
 * that no close() or dup2() of the application can make a waiting thread accept
 * from somebody else's socket. It must be taken without blocking, but
 * O_NONBLOCK belongs to the file, which heirs that we cannot see share: so the
 * file keeps the flag that the application gave it, and where it is blocking we
 * ask poll() first, one thread at a time. Only another process that takes the
 * same connection between the two calls can make that accept block, as it
 * blocks there today.
 *
 * Place in the flow: calls_socket.c -> here -> stack.h.
 */
#include <fcntl.h>
#include <pthread.h>
#include <sys/syscall.h>

#include "preload/address.h"
#include "preload/fdtable.h"
#include "preload/number.h"
#include "preload/process.h"
#include "preload/socket.h"
#include "preload/undecided.h"

static pthread_mutex_t kernel_accept_lock = PTHREAD_MUTEX_INITIALIZER;

/* Is a connection waiting in the kernel half? */
static bool kernel_half_ready(int kernel_fd)
{
	struct pollfd pfd = {.fd = kernel_fd, .events = POLLIN};
	return sys.syscall(SYS_ppoll, &pfd, 1, &(struct timespec){0, 0}, NULL, 0) > 0 &&
	       (pfd.revents & POLLIN);
}

/* The kernel's level went down (or not): tell our lists. */
static void kernel_half_settle(struct description *p, int half)
{
	bool ready = kernel_half_ready(half);
	struct stack_cx *cx = netio_enter(the_stack);

	if (p->sock)
		watch_kernel_bits(cx, p->sock, ready ? SOCK_IN : 0);
	netio_leave(the_stack);
}

/* A connection of the kernel half, a plain kernel descriptor; -EAGAIN: none. */
static int accept_kernel(ref d, struct sockaddr *sa, socklen_t *len, int flags)
{
	struct description *p = description_of(d);
	int half = local_of(d)->kernel_fd, fd = -EAGAIN, cancel;

	if (half < 0)
		return -EAGAIN;
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
	if (atomic_load(&p->nonblock)) {
		fd = NUMBER(sys.accept4(half, sa, len, flags));
		if (fd < 0)
			fd = -errno;
	} else {
		pthread_mutex_lock(&kernel_accept_lock);
		if (kernel_half_ready(half)) {
			fd = NUMBER(sys.accept4(half, sa, len, flags));
			if (fd < 0)
				fd = -errno;
		}
		pthread_mutex_unlock(&kernel_accept_lock);
	}
	pthread_setcancelstate(cancel, NULL);
	if (fd >= 0) {
		fd_fresh(fd);
		kernel_half_settle(p, half);
	}
	return fd == -EINVAL ? -EAGAIN : fd; /* shut down: the stack's half says so itself */
}

/* What accept() takes from the stack's queue. */
struct accepted {
	ref d; /* the connection's description, one reference */
	struct endpoint peer;
};

/* 0, -EAGAIN (empty), -EINVAL (not listening), -ENOBUFS. */
static int accept_take(struct description *p, struct accepted *a)
{
	struct stack_cx *cx = netio_enter(the_stack);
	ref child;
	int r = -EAGAIN, listening = 0;

	if (!p->sock) {
		netio_leave(the_stack);
		return -EINVAL;
	}
	child = sock_accept(cx, p->sock);
	if (!child) {
		netio_drive(the_stack, cx);
		child = sock_accept(cx, p->sock);
	}
	if (child) {
		a->d = description_new(cx, FD_STREAM, child);
		r = a->d ? 0 : -ENOBUFS;
		if (a->d) {
			struct description *c = description_at(cx, a->d);
			c->v6 = p->v6;
			c->v6only = p->v6only;
			options_inherit(p, c);
			if (sock_names(cx, child, NULL, &a->peer) < 0)
				memset(&a->peer, 0, sizeof a->peer); /* reset while it waited */
		} else {
			sock_unaccept(cx, p->sock, child);
		}
	} else if (sock_get_option(cx, p->sock, SOCK_OPT_ACCEPTCONN, &listening) < 0 || !listening) {
		r = -EINVAL; /* shutdown() ended it */
	}
	netio_leave(the_stack);
	return r;
}

/* No number could be had: the connection is the oldest again. */
static void accept_undo(struct description *p, struct accepted *a)
{
	struct stack_cx *cx = netio_enter(the_stack);
	struct description *c = description_at(cx, a->d);

	if (p->sock)
		sock_unaccept(cx, p->sock, c->sock);
	else
		sock_close(cx, c->sock);
	description_discard(cx, a->d);
	netio_leave(the_stack);
}

static int accept_stack(struct description *p, struct sockaddr *sa, socklen_t *len, int flags)
{
	struct accepted a;
	int fd, r = accept_take(p, &a);

	if (r)
		return r;
	fd = NUMBER(placeholder_new(flags));
	if (fd >= 0) {
		fd_fresh(fd);
		description_of(a.d)->nonblock = (flags & SOCK_NONBLOCK) != 0;
		description_of(a.d)->cookie = cookie_of(fd);
		r = fd_install(fd, FD_STREAM, a.d);
		if (!r) {
			address_copy_out(&a.peer, p->v6, sa, len);
			fd_release(a.d);
			return fd;
		}
		sys.syscall(SYS_close, fd);
		fd = r;
	}
	accept_undo(p, &a);
	return fd;
}

/* Both halves once; who is asked first alternates under load. */
static int accept_once(ref d, struct sockaddr *sa, socklen_t *len, int flags)
{
	struct description *p = description_of(d);
	int r;

	if (local_of(d)->kernel_fd >= 0 && ++p->kernel_turn % 4 == 0) {
		r = accept_kernel(d, sa, len, flags);
		return r == -EAGAIN ? accept_stack(p, sa, len, flags) : r;
	}
	r = accept_stack(p, sa, len, flags);
	return r == -EAGAIN ? accept_kernel(d, sa, len, flags) : r;
}

/* The kernel wants a free number before it waits: EMFILE at once, not after the next connection. */
static int number_available(int fd)
{
	int probe, r = 0;

	netio_births_begin();
	probe = sys.fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (probe < 0)
		r = -errno;
	else
		sys.syscall(SYS_close, probe);
	netio_births_end();
	return r;
}

/* A program without hooks has made it the kernel's listener. */
static int accept_lost(int fd, ref d, struct sockaddr *sa, socklen_t *len, int flags)
{
	int r;

	pthread_cleanup_push(fd_release_held, (void *)(uintptr_t)d);
	r = NUMBER(sys.accept4(fd, sa, len, flags));
	r = r < 0 ? -errno : r;
	pthread_cleanup_pop(0);
	return r;
}

int socket_accept(int fd, ref d, struct sockaddr *sa, socklen_t *len, int flags)
{
	struct description *p = description_of(d);
	nsec timeout = atomic_load(&p->rcvtimeo), deadline = 0;
	int r, bad = 0; /* the place for the peer's name is found bad when there is a name to write */

	if (flags & ~(SOCK_CLOEXEC | SOCK_NONBLOCK) || p->kind != FD_LISTENER)
		return -EINVAL;
	if (sa)
		bad = !memory_readable(len, sizeof *len) ? -EFAULT : *len > INT32_MAX ? -EINVAL : 0;
	if (bad)
		sa = NULL;
	lib_enter();
	undecided_half(fd, d);
	r = accept_once(d, sa, len, flags);
	if (r == -EAGAIN && !atomic_load(&p->nonblock)) {
		r = number_available(fd);
		while (!r) {
			r = socket_block(d, SOCK_IN, local_of(d)->kernel_fd,
					 socket_deadline(&deadline, timeout), timeout);
			if (r < 0)
				break;
			r = accept_once(d, sa, len, flags);
			if (r != -EAGAIN)
				break;
			r = 0;
		}
	}
	if (r >= 0 && bad) {
		fd_closing(r);
		sys.syscall(SYS_close, r);
		r = bad;
	}
	lib_leave();
	return r == -EINVAL && undecided_lost(fd, d) ? accept_lost(fd, d, sa, len, flags) : r;
}
