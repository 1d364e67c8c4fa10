/*
 * socket.c - reading from and writing to a connection with the semantics of
 * recv(2) and send(2): blocking, time-outs, signals, flags.
 *
 * Theory of operation. The verb comes first, the device after: a receive that
 * finds data, and a send that finds room, take the lock once and make no system
 * call for input. Only a receive that finds nothing drives the device (one
 * burst) and looks again; only then it blocks. A send drives when the buffer is
 * full and after every DRIVE_BYTES, so that the acknowledgements of a bulk
 * transfer are read while it goes on and not when it has stalled.
 *
 * The application's memory is touched before the lock is taken, one byte a page:
 * read for a send; for a receive an atomic OR with 0, which writes the byte that
 * is there and so races with nobody. A page fault or swap-in then happens with the
 * lock free. A bad pointer is EFAULT once there is something to copy, or ends the
 * call after the pieces that were good, as in the kernel. Large calls are done in pieces of
 * CHUNK_BYTES: no thread holds the lock for longer than one piece, and a large receive buffer is not made
 * resident for a few bytes.
 *
 * Place in the flow: calls_io.c -> here -> sock_send/sock_recv (core);
 * socket_wait() (wait.c) blocks.
 */
#include <fcntl.h>
#include <limits.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "preload/address.h"
#include "preload/async.h"
#include "preload/fdtable.h"
#include "preload/socket.h"
#include "preload/wait.h"

#define CHUNK_BYTES (256u << 10)
#define DRIVE_BYTES (64u << 10)
#define WINDOW_MAX  32		/* pieces of the application's iovec in one verb */
#define CALL_MAX    0x7ffff000u /* MAX_RW_COUNT: what Linux moves in one call at the most */
#define PAGE_BYTES  4096u

/* ------------------------------------------------------------ blocking */

/* What a sleeping call holds, for a cancellation and for a handler that leaves by siglongjmp(). */
struct sleeper {
	ref d;
	int hold;
};

static void sleeper_cancelled(void *arg)
{
	struct sleeper *sl = arg;

	wait_unhold(sl->hold);
	fd_release(sl->d);
}

int socket_block(ref d, uint32_t events, int kernel_fd, nsec deadline, bool limited)
{
	struct sleeper sl = {d, 0};
	int r;

	sl.hold = wait_hold(__builtin_frame_address(0), fd_release_held, (void *)(uintptr_t)d);
	pthread_cleanup_push(sleeper_cancelled, &sl);
	r = socket_wait(description_of(d)->sock, events, kernel_fd, deadline);
	pthread_cleanup_pop(0);
	wait_unhold(sl.hold);
	if (r == -ERESTART)
		return limited ? -EINTR : 0;
	return r;
}

nsec socket_deadline(nsec *deadline, nsec timeout)
{
	if (!*deadline)
		*deadline = timeout ? netio_now() + timeout : NSEC_NEVER;
	return *deadline;
}

/* ------------------------------------------------------------ the application's memory */

/* The part of an iovec that one verb works on. */
struct window {
	struct iovec iov[WINDOW_MAX];
	int count;
	uint64_t bytes;
};

/* Bytes [skip, skip + CHUNK_BYTES) of the application's vector. */
static void window_cut(struct window *w, const struct iovec *iov, int iovcnt, uint64_t skip, uint64_t total)
{
	uint64_t room = MIN_OF(total - skip, CHUNK_BYTES);

	w->count = 0;
	w->bytes = 0;
	for (int i = 0; i < iovcnt && room && w->count < WINDOW_MAX; i++) {
		uint64_t len = iov[i].iov_len;
		if (skip >= len) {
			skip -= len;
			continue;
		}
		len = MIN_OF(len - skip, room);
		w->iov[w->count++] = (struct iovec){(uint8_t *)iov[i].iov_base + skip, len};
		w->bytes += len;
		room -= len;
		skip = 0;
	}
}

/* Cuts the window in front of the first byte that cannot be used. True: there is none such. */
static bool touch(struct window *w, bool write)
{
	uint64_t good = 0;

	for (int i = 0; i < w->count; i++) {
		size_t n = memory_touch(w->iov[i].iov_base, w->iov[i].iov_len, write);
		good += n;
		if (n < w->iov[i].iov_len) {
			w->iov[i].iov_len = n;
			w->count = i + 1;
			w->bytes = good;
			return false;
		}
	}
	return true;
}

/* The length of a vector as readv(2) checks it, cut at CALL_MAX. */
static int64_t vector_length(const struct iovec *iov, int iovcnt)
{
	uint64_t total = 0;

	if (iovcnt < 0 || iovcnt > IOV_MAX)
		return -EINVAL;
	if (!memory_readable(iov, (size_t)iovcnt * sizeof *iov))
		return -EFAULT;
	for (int i = 0; i < iovcnt; i++) {
		if (iov[i].iov_len > INT64_MAX)
			return -EINVAL;
		/* the kernel's half of the addresses is refused whether there is something to copy or not */
		if ((uintptr_t)iov[i].iov_base > INTPTR_MAX)
			return -EFAULT;
		total += MIN_OF(iov[i].iov_len, CALL_MAX);
		total = MIN_OF(total, CALL_MAX);
	}
	return (int64_t)total;
}

bool vector_is_nothing(const struct iovec *iov, int iovcnt)
{
	if (iovcnt < 0 || iovcnt > IOV_MAX || !memory_readable(iov, (size_t)iovcnt * sizeof *iov))
		return false;
	for (int i = 0; i < iovcnt; i++)
		if (iov[i].iov_len)
			return false;
	return true;
}

/* ------------------------------------------------------------ with pumps */

/* The lock; for a connection that a process without hooks has, too, with the turn. */
static struct stack_cx *enter_in_turn(const struct description *p, enum turn_kind kind, struct netio_turn *t)
{
	struct stack_cx *cx = netio_enter(the_stack);

	t->fd = -1;
	t->answer = TURN_YOURS;
	if (!p->pumps)
		return cx;
	netio_leave(the_stack);
	netio_turn(the_stack, p->cookie, kind, t);
	return netio_enter(the_stack);
}

static void leave_in_turn(struct netio_turn *t)
{
	netio_leave(the_stack);
	netio_turn_end(t);
}

/* ------------------------------------------------------------ receive */

static uint32_t recv_flags(int flags)
{
	return (flags & MSG_PEEK ? SOCK_MSG_PEEK : 0) | (flags & MSG_OOB ? SOCK_MSG_OOB : 0) |
	       (flags & MSG_TRUNC ? SOCK_MSG_TRUNC : 0);
}

/* One verb; the device only if there is nothing yet. */
static int64_t recv_once(struct description *p, const struct window *w, uint32_t flags)
{
	struct netio_turn t;
	struct stack_cx *cx = enter_in_turn(p, TURN_READ, &t);
	int64_t r = -ENOTCONN;

	if (p->broken) {
		r = -ENETDOWN;
	} else if (p->sock) {
		r = sock_recv(cx, p->sock, w->iov, w->count, flags);
		if (r == -EAGAIN) {
			netio_drive(the_stack, cx);
			r = sock_recv(cx, p->sock, w->iov, w->count, flags);
		}
	}
	leave_in_turn(&t);
	return r;
}

/*
 * Zero bytes asked of recv(): Linux waits for data all the same, then takes
 * none of it; errors and the end are seen. A peek at one byte does that, but for
 * an urgent byte in front.
 */
static int64_t recv_nothing(struct description *p, bool urgent)
{
	uint8_t byte;
	struct window w = {.iov[0] = {&byte, 1}, .count = 1, .bytes = 1};
	int64_t r = recv_once(p, &w, SOCK_MSG_PEEK | (urgent ? SOCK_MSG_OOB : 0));
	int mark = 0;

	if (r == -EAGAIN && !urgent) {
		struct stack_cx *cx = netio_enter(the_stack);

		if (p->sock && !sock_get_option(cx, p->sock, SOCK_OPT_ATMARK, &mark) && mark)
			r = 0;
		netio_leave(the_stack);
	}
	return r > 0 ? 0 : r;
}

/* A receive whose memory ends at a bad address: an error if what is there does not fit in front of it. */
static int64_t recv_cut(struct description *p, const struct window *w, uint32_t flags)
{
	uint8_t byte;
	struct window one = {.iov[0] = {&byte, 1}, .count = 1, .bytes = 1};
	struct stack_cx *cx;
	int left = 0;
	int64_t r;

	if (!w->bytes) {
		r = recv_once(p, &one, flags | SOCK_MSG_PEEK);
		return r > 0 ? -EFAULT : r;
	}
	cx = netio_enter(the_stack);
	if (p->sock)
		sock_get_option(cx, p->sock, SOCK_OPT_INQ, &left);
	netio_leave(the_stack);
	return (uint64_t)left > w->bytes ? -EFAULT : recv_once(p, w, flags);
}

/* A peek that must see more than is there: readiness counts from `bytes` on while we wait. */
static void lowat_set(struct description *p, int bytes)
{
	struct stack_cx *cx = netio_enter(the_stack);

	if (p->sock)
		sock_set_option(cx, p->sock, SOCK_OPT_RCVLOWAT, bytes);
	netio_leave(the_stack);
}

static int recv_block(ref d, int flags, int64_t target, nsec *deadline, bool partial)
{
	struct description *p = description_of(d);
	nsec timeout = atomic_load(&p->rcvtimeo);
	bool lowat = flags & MSG_PEEK && target > p->rcvlowat;
	int r;

	if (lowat)
		lowat_set(p, (int)MIN_OF(target, INT32_MAX));
	r = socket_block(d, SOCK_IN | SOCK_RDHUP | (flags & MSG_OOB ? SOCK_PRI : 0), -1,
			 socket_deadline(deadline, timeout), timeout || partial);
	if (lowat)
		lowat_set(p, p->rcvlowat);
	return r;
}

/* Take what is there, up to `total`, in pieces. *ended: no more will come with this call (EOF, error). */
static int64_t recv_available(struct description *p, const struct iovec *iov, int iovcnt, uint64_t done,
			      uint64_t total, int flags, bool *ended)
{
	bool trunc = flags & MSG_TRUNC;
	struct window w;
	uint64_t taken = 0;

	*ended = false;
	while (done + taken < total) {
		window_cut(&w, iov, iovcnt, done + taken, total);
		uint32_t verb = recv_flags(flags) | (done + taken ? SOCK_MSG_REST : 0);
		int64_t r = trunc || touch(&w, true) ? recv_once(p, &w, verb) : recv_cut(p, &w, verb);
		if (r <= 0) {
			*ended = r != -EAGAIN;
			return taken ? (int64_t)taken : r;
		}
		taken += (uint64_t)r;
		/* a peek looks from the front each time; a short one means that the rest is not there */
		if ((uint64_t)r < w.bytes || flags & (MSG_PEEK | MSG_OOB))
			break;
	}
	return (int64_t)taken;
}

int64_t socket_recv(int fd, ref d, const struct iovec *iov, int iovcnt, int flags)
{
	struct description *p = description_of(d);
	int64_t total = vector_length(iov, iovcnt), done = 0, target, r;
	nsec deadline = 0;
	bool ended = false;

	(void)fd;
	if (total < 0)
		return total;
	if (flags & MSG_ERRQUEUE)
		return -EAGAIN; /* nothing is ever queued there */
	target = flags & MSG_WAITALL && !(flags & MSG_OOB) ? total : MIN_OF((int64_t)p->rcvlowat, total);
	if (flags & MSG_PEEK)
		target = MIN_OF(target, (int64_t)CHUNK_BYTES); /* one piece is what a peek can see */
	target = MAX_OF(target, 1);
	lib_enter();
	for (;;) {
		/* what a peek saw before does not add up */
		uint64_t from = flags & MSG_PEEK ? 0 : (uint64_t)done;
		r = total ? recv_available(p, iov, iovcnt, from, (uint64_t)total, flags, &ended)
			  : recv_nothing(p, flags & MSG_OOB);
		if (r > 0)
			done = flags & MSG_PEEK ? MAX_OF(done, r) : done + r;
		if (r < 0 && r != -EAGAIN)
			break;
		if ((r >= 0 && (!total || !r || ended)) || done >= target ||
		    flags & (MSG_DONTWAIT | MSG_OOB) ||
		    atomic_load_explicit(&p->nonblock, memory_order_relaxed))
			break;
		r = recv_block(d, flags, target, &deadline, done > 0);
		if (r < 0)
			break;
	}
	lib_leave();
	return done ? done : r;
}

/* ------------------------------------------------------------ send */

static int64_t send_once(struct description *p, const struct window *w, uint32_t flags)
{
	struct netio_turn t;
	struct stack_cx *cx = enter_in_turn(p, TURN_WRITE, &t);
	int64_t r = -EPIPE;

	if (p->broken) {
		r = -ENETDOWN;
	} else if (t.answer == TURN_FULL) {
		r = -EAGAIN;
	} else if (p->sock) {
		r = sock_send(cx, p->sock, w->iov, w->count, flags);
		if (r > 0)
			p->sent_undriven += (uint32_t)r;
		if (r == -EAGAIN || (uint64_t)r < w->bytes || p->sent_undriven >= DRIVE_BYTES) {
			p->sent_undriven = 0;
			netio_drive(the_stack, cx);
			if (r == -EAGAIN)
				r = sock_send(cx, p->sock, w->iov, w->count, flags);
		}
	}
	leave_in_turn(&t);
	return r;
}

/* A send of what cannot be read: an error if it could go, else as any other. */
static int64_t send_nowhere(struct description *p)
{
	struct window none = {.count = 0};
	int64_t r = send_once(p, &none, 0);
	struct stack_cx *cx;

	if (r)
		return r;
	cx = netio_enter(the_stack);
	r = p->sock && !(sock_events(cx, p->sock) & SOCK_OUT) ? -EAGAIN : -EFAULT;
	netio_leave(the_stack);
	return r;
}

/* send(2): SIGPIPE goes to the thread that wrote. */
void sigpipe_raise(void)
{
	sys.syscall(SYS_tgkill, getpid(), (int)sys.syscall(SYS_gettid), SIGPIPE);
}

/* MSG_FASTOPEN is a connect(), and this comes after one. */
static int fastopen_late(struct description *p)
{
	enum { LINUX_SYN_SENT = 2, LINUX_SYN_RECV = 3, LINUX_CLOSE = 7 };
	struct sock_info i = {.state = LINUX_CLOSE};
	struct stack_cx *cx;
	bool begun;

	lib_enter();
	cx = netio_enter(the_stack);
	begun = p->sock && !sock_info(cx, p->sock, &i) && sock_connect_begun(cx, p->sock);
	netio_leave(the_stack);
	lib_leave();
	if (i.state == LINUX_SYN_SENT || i.state == LINUX_SYN_RECV)
		return -EALREADY;
	return i.state == LINUX_CLOSE && !begun ? -EINVAL : -EISCONN; /* EINVAL: to where? */
}

int64_t socket_send(int fd, ref d, const struct iovec *iov, int iovcnt, int flags)
{
	struct description *p = description_of(d);
	int64_t total = vector_length(iov, iovcnt), done = 0, r = 0;
	uint32_t verb = (flags & MSG_OOB ? SOCK_MSG_OOB : 0), flags_now;
	nsec deadline = 0, timeout;
	struct window w;

	(void)fd;
	if (total < 0)
		return total;
	if (flags & MSG_FASTOPEN)
		return fastopen_late(p);
	if (p->kind == FD_LISTENER)
		r = -EPIPE;
	lib_enter();
	while (r >= 0 || r == -EAGAIN) {
		window_cut(&w, iov, iovcnt, (uint64_t)done, (uint64_t)total);
		/* more of this call follows: no small segment in between; the urgent byte is the last one */
		bool more = done + (int64_t)w.bytes < total;
		flags_now = more ? SOCK_MSG_MORE : verb | (flags & MSG_MORE ? SOCK_MSG_MORE : 0);
		flags_now |= done ? SOCK_MSG_REST : 0; /* an error is the next call's */
		r = touch(&w, false) ? send_once(p, &w, flags_now) : send_nowhere(p);
		if (r > 0)
			done += r;
		if (done == total || (r < 0 && r != -EAGAIN))
			break;
		if (r >= 0)
			continue; /* the buffer took a part: the next attempt says whether it is full */
		if (flags & MSG_DONTWAIT || atomic_load_explicit(&p->nonblock, memory_order_relaxed))
			break;
		timeout = atomic_load(&p->sndtimeo);
		/* what was taken already is the answer to a signal, also with SA_RESTART */
		r = socket_block(d, SOCK_OUT, -1, socket_deadline(&deadline, timeout), timeout || done);
		if (r < 0)
			break;
	}
	lib_leave();
	if (done)
		return done;
	if (r == -EPIPE && !(flags & MSG_NOSIGNAL))
		sigpipe_raise();
	return r;
}

/* ------------------------------------------------------------ the rest */

int socket_shutdown(ref d, int how)
{
	struct description *p = description_of(d);
	struct netio_turn t;
	struct stack_cx *cx;
	int r;

	if (how < SHUT_RD || how > SHUT_RDWR)
		return -EINVAL;
	lib_enter();
	cx = enter_in_turn(p, how == SHUT_RD ? TURN_READ : TURN_END, &t);
	if (!p->sock)
		r = -ENOTCONN;
	else if (t.answer == TURN_YOURS)
		r = sock_shutdown(cx, p->sock, how);
	else
		r = how == SHUT_RDWR ? sock_shutdown(cx, p->sock, SHUT_RD) : 0;
	leave_in_turn(&t);
	lib_leave();
	return r;
}

int socket_names(ref d, bool peer, struct sockaddr *sa, socklen_t *len)
{
	struct description *p = description_of(d);
	struct endpoint e = {.port = 0};
	struct stack_cx *cx;
	int r = -ENOTCONN;

	if (!sa || !len)
		return -EFAULT;
	lib_enter();
	cx = netio_enter(the_stack);
	if (p->sock)
		r = sock_names(cx, p->sock, peer ? NULL : &e, peer ? &e : NULL);
	netio_leave(the_stack);
	lib_leave();
	if (!peer && !e.port)
		e.port = p->local_port;
	return r ? r : address_copy_out(&e, p->v6, sa, len);
}

bool socket_peer(ref d, struct endpoint *peer)
{
	struct description *p = description_of(d);
	struct stack_cx *cx;

	peer->port = 0;
	lib_enter();
	cx = netio_enter(the_stack);
	if (p->sock)
		sock_names(cx, p->sock, NULL, peer);
	netio_leave(the_stack);
	lib_leave();
	return peer->port != 0;
}

static int get_int(ref d, enum sock_option o, void *arg)
{
	struct description *p = description_of(d);
	struct netio_turn t;
	struct stack_cx *cx;
	int r, value = 0;

	if ((uintptr_t)arg < PAGE_BYTES)
		return -EFAULT;
	lib_enter();
	cx = enter_in_turn(p, o == SOCK_OPT_INQ ? TURN_READ : TURN_WRITE, &t);
	netio_drive(the_stack, cx);
	r = p->sock ? sock_get_option(cx, p->sock, o, &value) : -EINVAL;
	leave_in_turn(&t);
	lib_leave();
	if (!r)
		*(int *)arg = value;
	return r;
}

/* The description's copy of a file flag, after the kernel took the call. */
static int set_flag(int fd, unsigned long request, void *arg, _Atomic uint8_t *flag)
{
	if (sys.ioctl(fd, request, arg))
		return -errno;
	atomic_store(flag, *(int *)arg != 0);
	return 0;
}

int socket_ioctl(int fd, ref d, unsigned long request, void *arg)
{
	struct description *p = description_of(d);
	int r;

	switch (request) {
	case FIONBIO:
		return set_flag(fd, request, arg, &p->nonblock);
	case FIOASYNC:
		r = set_flag(fd, request, arg, &p->async);
		return r ? r : async_update(d);
	}
	/* A listener is a TCP listener to the kernel, too: its answers are right (EINVAL for SIOCINQ ...). */
	if (p->kind == FD_STREAM) {
		switch (request) {
		case SIOCINQ: /* FIONREAD */
			return get_int(d, SOCK_OPT_INQ, arg);
		case SIOCOUTQ:
			return get_int(d, SOCK_OPT_OUTQ, arg);
		case SIOCOUTQNSD:
			return get_int(d, SOCK_OPT_OUTQNSD, arg);
		case SIOCATMARK:
			return get_int(d, SOCK_OPT_ATMARK, arg);
		case SIOCGSTAMP_OLD:
		case SIOCGSTAMPNS_OLD:
		case SIOCGSTAMP_NEW:
		case SIOCGSTAMPNS_NEW:
			return -ENOENT; /* TCP stamps no segment for them */
		}
	}
	/* Interfaces, addresses, routes: what a socket of the Internet's says, which the placeholder is not.
	 */
	if (p->kind == FD_STREAM && (uint32_t)request >> 8 == 0x89 && (uint32_t)request > SIOCGPGRP)
		return untouched_ioctl(p->v6, request, arg);
	/* FIOCLEX, owners, and ENOTTY for terminals: the placeholder is a socket and answers so */
	r = sys.ioctl(fd, request, arg);
	if (r < 0)
		return -errno;
	return (request == FIOSETOWN || request == SIOCSPGRP) && async_owner_set(fd) < 0 ? -ENOMEM : r;
}
