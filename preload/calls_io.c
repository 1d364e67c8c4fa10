/*
 * calls_io.c - wrappers: everything that moves bytes.
 *
 * All reads end in socket_recv(), all writes in socket_send(); what differs is
 * where the vector comes from and which results go where. sendfile() and
 * splice() are in calls_copy.c.
 */
#include <netinet/in.h>
#include <pthread.h>

#include "preload/calls.h"
#include "preload/fdtable.h"
#include "preload/passing.h"
#include "preload/socket.h"
#include "preload/wait.h"

/* The overflow checks of _FORTIFY_SOURCE end the process. */
_Noreturn void __chk_fail(void);

#define CALL_MAX 0x7ffff000u /* MAX_RW_COUNT */

/* ------------------------------------------------------------ read */

OUT_OF_LINE ssize_t read_known(int fd, void *buf, size_t n)
{
	if (!fd_is_stack(fd)) {
		ssize_t r = REAL(read)(fd, buf, n);
		/* EINVAL is what a placeholder says: dup2() has put a connection there since we looked */
		if (r >= 0 || errno != EINVAL || !fd_is_stack(fd))
			return r;
	}
	struct iovec iov = {buf, n};
	/* read(2) of nothing does not wait, recv(2) does */
	return STACK_CALL(fd, n ? socket_recv(fd, held, &iov, 1, 0) : 0, REAL(read)(fd, buf, n));
}

ssize_t read(int fd, void *buf, size_t n)
{
	return UNCONCERNED(read) ? KNOWN(read)(fd, buf, n) : read_known(fd, buf, n);
}

ssize_t __read(int fd, void *buf, size_t n)
{
	return read(fd, buf, n);
}

ssize_t __read_chk(int fd, void *buf, size_t n, size_t size)
{
	if (n > size)
		__chk_fail();
	return read(fd, buf, n);
}

static bool vector_empty(const struct iovec *iov, int iovcnt)
{
	if (iovcnt < 0 || iovcnt > 1024 ||
	    (iovcnt && (!iov || !memory_readable(iov, (size_t)iovcnt * sizeof *iov))))
		return false; /* socket_recv() says what is wrong */
	for (int i = 0; i < iovcnt; i++)
		if (iov[i].iov_len)
			return false;
	return true;
}

OUT_OF_LINE ssize_t readv_known(int fd, const struct iovec *iov, int iovcnt)
{
	if (!fd_is_stack(fd))
		return REAL(readv)(fd, iov, iovcnt);
	return STACK_CALL(fd, vector_empty(iov, iovcnt) ? 0 : socket_recv(fd, held, iov, iovcnt, 0),
			  REAL(readv)(fd, iov, iovcnt));
}

ssize_t readv(int fd, const struct iovec *iov, int iovcnt)
{
	return UNCONCERNED(readv) ? KNOWN(readv)(fd, iov, iovcnt) : readv_known(fd, iov, iovcnt);
}

#define RWF_NOSIGNAL_ 0x100 /* of Linux 6.18 */

/*
 * preadv2/pwritev2 flags as message flags; negative: refused. The younger ones are the kernel's to know: a
 * placeholder is never read from.
 */
static int rwf_flags(int fd, int flags)
{
	int saved_errno = errno, r = 0;
	char byte;

	if (flags & ~(RWF_HIPRI | RWF_DSYNC | RWF_SYNC | RWF_NOWAIT) &&
	    REAL(preadv64v2)(fd, &(struct iovec){&byte, 1}, 1, -1, flags) < 0 && errno == EOPNOTSUPP)
		r = -EOPNOTSUPP;
	errno = saved_errno;
	return r ? r : (flags & RWF_NOWAIT ? MSG_DONTWAIT : 0) | (flags & RWF_NOSIGNAL_ ? MSG_NOSIGNAL : 0);
}

ssize_t preadv64v2(int fd, const struct iovec *iov, int iovcnt, off64_t offset, int flags)
{
	/* a position on a socket: the placeholder answers ESPIPE */
	if (!fd_is_stack(fd) || offset != -1)
		return REAL(preadv64v2)(fd, iov, iovcnt, offset, flags);
	int f = rwf_flags(fd, flags);
	return STACK_CALL(fd,
			  f < 0			      ? f
			  : vector_empty(iov, iovcnt) ? 0
						      : socket_recv(fd, held, iov, iovcnt, f),
			  REAL(preadv64v2)(fd, iov, iovcnt, offset, flags));
}

ssize_t preadv2(int fd, const struct iovec *iov, int iovcnt, off_t offset, int flags)
{
	return preadv64v2(fd, iov, iovcnt, offset, flags);
}

/* ------------------------------------------------------------ write */

OUT_OF_LINE ssize_t write_known(int fd, const void *buf, size_t n)
{
	if (!fd_is_stack(fd))
		return REAL(write)(fd, buf, n);
	struct iovec iov = {(void *)(uintptr_t)buf, n};
	return STACK_CALL(fd, socket_send(fd, held, &iov, 1, 0), REAL(write)(fd, buf, n));
}

ssize_t write(int fd, const void *buf, size_t n)
{
	return UNCONCERNED(write) ? KNOWN(write)(fd, buf, n) : write_known(fd, buf, n);
}

ssize_t __write(int fd, const void *buf, size_t n)
{
	return write(fd, buf, n);
}

OUT_OF_LINE ssize_t writev_known(int fd, const struct iovec *iov, int iovcnt)
{
	if (!fd_is_stack(fd))
		return REAL(writev)(fd, iov, iovcnt);
	return STACK_CALL(fd, vector_is_nothing(iov, iovcnt) ? 0 : socket_send(fd, held, iov, iovcnt, 0),
			  REAL(writev)(fd, iov, iovcnt));
}

ssize_t writev(int fd, const struct iovec *iov, int iovcnt)
{
	return UNCONCERNED(writev) ? KNOWN(writev)(fd, iov, iovcnt) : writev_known(fd, iov, iovcnt);
}

ssize_t pwritev64v2(int fd, const struct iovec *iov, int iovcnt, off64_t offset, int flags)
{
	if (!fd_is_stack(fd) || offset != -1)
		return REAL(pwritev64v2)(fd, iov, iovcnt, offset, flags);
	int f = rwf_flags(fd, flags);
	return STACK_CALL(fd,
			  f < 0				   ? f
			  : vector_is_nothing(iov, iovcnt) ? 0
							   : socket_send(fd, held, iov, iovcnt, f),
			  REAL(pwritev64v2)(fd, iov, iovcnt, offset, flags));
}

ssize_t pwritev2(int fd, const struct iovec *iov, int iovcnt, off_t offset, int flags)
{
	return pwritev64v2(fd, iov, iovcnt, offset, flags);
}

/* ------------------------------------------------------------ recv */

OUT_OF_LINE ssize_t recv_known(int fd, void *buf, size_t n, int flags)
{
	if (!fd_is_stack(fd))
		return REAL(recv)(fd, buf, n, flags);
	struct iovec iov = {buf, MIN_OF(n, CALL_MAX)};
	return STACK_CALL(fd, socket_recv(fd, held, &iov, 1, flags), REAL(recv)(fd, buf, n, flags));
}

ssize_t recv(int fd, void *buf, size_t n, int flags)
{
	return UNCONCERNED(recv) ? KNOWN(recv)(fd, buf, n, flags) : recv_known(fd, buf, n, flags);
}

ssize_t __recv_chk(int fd, void *buf, size_t n, size_t size, int flags)
{
	if (n > size)
		__chk_fail();
	return recv(fd, buf, n, flags);
}

OUT_OF_LINE ssize_t recvfrom_known(int fd, void *buf, size_t n, int flags, struct sockaddr *sa,
				   socklen_t *len)
{
	if (!fd_is_stack(fd))
		return REAL(recvfrom)(fd, buf, n, flags, sa, len);
	ssize_t r = recv(fd, buf, n, flags);
	if (r < 0 || !sa)
		return r;
	if (!memory_readable(len, sizeof *len) || *len > INT32_MAX) {
		errno = memory_readable(len, sizeof *len) ? EINVAL : EFAULT;
		return -1; /* what was read is gone, as in the kernel */
	}
	*len = 0; /* tcp(7): the stream has no source addresses */
	return r;
}

ssize_t recvfrom(int fd, void *buf, size_t n, int flags, struct sockaddr *sa, socklen_t *len)
{
	return UNCONCERNED(recvfrom) ? KNOWN(recvfrom)(fd, buf, n, flags, sa, len)
				     : recvfrom_known(fd, buf, n, flags, sa, len);
}

ssize_t __recvfrom_chk(int fd, void *buf, size_t n, size_t size, int flags, struct sockaddr *sa,
		       socklen_t *len)
{
	if (n > size)
		__chk_fail();
	return recvfrom(fd, buf, n, flags, sa, len);
}

#define CMSG_COMPAT 0x80000000u /* MSG_CMSG_COMPAT: of the kernel's own */

static int64_t recv_message(int fd, ref d, struct msghdr *m, int flags)
{
	size_t used = 0;
	int64_t r;

	if ((unsigned int)flags & CMSG_COMPAT)
		return -EINVAL;
	if (!memory_readable(m, sizeof *m))
		return -EFAULT;
	if (m->msg_iovlen > INT32_MAX)
		return -EMSGSIZE;
	r = socket_recv(fd, d, m->msg_iov, (int)m->msg_iovlen, flags);
	if (r == -EINVAL && m->msg_iovlen > 1024)
		return -EMSGSIZE;
	if (r >= 0) {
		m->msg_namelen = 0;
		m->msg_flags = (flags & MSG_CMSG_CLOEXEC) | (flags & MSG_OOB ? MSG_OOB : 0);
		if (UNLIKELY(atomic_load_explicit(&description_of(d)->inq, memory_order_relaxed)))
			used = control_put_inq(m, socket_left(d));
		m->msg_controllen = used;
	}
	return r;
}

/* A message of the kernel's: with it descriptors may have come. */
static ssize_t received(ssize_t r, const struct msghdr *m, int flags)
{
	if (r >= 0 && UNLIKELY(m->msg_control && m->msg_controllen))
		passing_received(m, flags);
	return r;
}

OUT_OF_LINE ssize_t recvmsg_known(int fd, struct msghdr *m, int flags)
{
	if (!fd_is_stack(fd))
		return received(REAL(recvmsg)(fd, m, flags), m, flags);
	return STACK_CALL(fd, recv_message(fd, held, m, flags), REAL(recvmsg)(fd, m, flags));
}

ssize_t recvmsg(int fd, struct msghdr *m, int flags)
{
	return UNCONCERNED(recvmsg) ? received(KNOWN(recvmsg)(fd, m, flags), m, flags)
				    : recvmsg_known(fd, m, flags);
}

/* Of a vector that may be NULL: who uses the message finds out. */
static struct msghdr *message_of(struct mmsghdr *v, unsigned int i)
{
	return (struct msghdr *)((uintptr_t)v + i * sizeof *v + offsetof(struct mmsghdr, msg_hdr));
}

static int swap_error(ref d, int err)
{
	struct description *p = description_of(d);
	struct stack_cx *cx;

	lib_enter();
	cx = netio_enter(the_stack);
	if (!err)
		netio_drive(the_stack, cx);
	err = p->sock ? sock_swap_error(cx, p->sock, err) : 0;
	netio_leave(the_stack);
	lib_leave();
	return err;
}

/*
 * recvmmsg(2): the time-out is looked at between messages only, as there. An error that is there goes before
 * all data; one that comes behind a message is the next call's.
 */
static int64_t recv_messages(int fd, ref d, struct mmsghdr *v, unsigned int n, int flags, struct timespec *ts)
{
	nsec end = NSEC_NEVER, now;
	unsigned int i = 0;
	int64_t r = 0;

	if (ts) {
		if (ts->tv_sec < 0 || ts->tv_nsec < 0 || ts->tv_nsec >= (long)NS_PER_S)
			return -EINVAL;
		end = netio_now() + (nsec)ts->tv_sec * NS_PER_S + (nsec)ts->tv_nsec;
	}
	r = -swap_error(d, 0);
	if (r)
		return r;
	while (i < n) {
		r = recv_message(fd, d, message_of(v, i), flags & ~MSG_WAITFORONE);
		if (r < 0)
			break;
		v[i++].msg_len = (unsigned int)r;
		if (flags & MSG_WAITFORONE)
			flags |= MSG_DONTWAIT;
		if (!ts)
			continue;
		now = netio_now();
		ts->tv_sec = now < end ? (time_t)((end - now) / NS_PER_S) : 0;
		ts->tv_nsec = now < end ? (long)((end - now) % NS_PER_S) : 0;
		if (now >= end)
			break;
	}
	if (i && r < 0 && r != -EAGAIN && r != -EINTR)
		swap_error(d, (int)-r);
	return i ? i : r;
}

int recvmmsg(int fd, struct mmsghdr *v, unsigned int n, int flags, struct timespec *ts)
{
	if (!fd_is_stack(fd)) {
		int r = REAL(recvmmsg)(fd, v, n, flags, ts);
		for (int i = 0; i < r; i++)
			received(r, &v[i].msg_hdr, flags);
		return r;
	}
	return (int)STACK_CALL(fd, recv_messages(fd, held, v, n, flags, ts),
			       REAL(recvmmsg)(fd, v, n, flags, ts));
}

/* ------------------------------------------------------------ send */

OUT_OF_LINE ssize_t send_known(int fd, const void *buf, size_t n, int flags)
{
	if (!fd_is_stack(fd))
		return REAL(send)(fd, buf, n, flags);
	struct iovec iov = {(void *)(uintptr_t)buf, MIN_OF(n, CALL_MAX)};
	return STACK_CALL(fd, socket_send(fd, held, &iov, 1, flags), REAL(send)(fd, buf, n, flags));
}

ssize_t send(int fd, const void *buf, size_t n, int flags)
{
	return UNCONCERNED(send) ? KNOWN(send)(fd, buf, n, flags) : send_known(fd, buf, n, flags);
}

ssize_t __send(int fd, const void *buf, size_t n, int flags)
{
	return send(fd, buf, n, flags);
}

/*
 * MSG_FASTOPEN names the peer: this is a connect() with data. Without a cookie
 * Linux connects, too, and sends the data after the handshake. True: connected
 * (or the number was never a stack one): go on with the send.
 */
static bool fastopen_connect(int fd, const struct sockaddr *sa, socklen_t len)
{
	if (!fd_may_connect(fd))
		return true;
	return connect(fd, sa, len) == 0;
}

OUT_OF_LINE ssize_t sendto_known(int fd, const void *buf, size_t n, int flags, const struct sockaddr *sa,
				 socklen_t len)
{
	if (UNLIKELY(flags & MSG_FASTOPEN) && sa && fd_may_connect(fd)) {
		if (!fastopen_connect(fd, sa, len))
			return -1;
		return send(fd, buf, n, flags & ~MSG_FASTOPEN);
	}
	/* a connected stream ignores the address */
	return fd_is_stack(fd) ? send(fd, buf, n, flags) : REAL(sendto)(fd, buf, n, flags, sa, len);
}

ssize_t sendto(int fd, const void *buf, size_t n, int flags, const struct sockaddr *sa, socklen_t len)
{
	return UNCONCERNED(sendto) && !(flags & MSG_FASTOPEN) ? KNOWN(sendto)(fd, buf, n, flags, sa, len)
							      : sendto_known(fd, buf, n, flags, sa, len);
}

static int64_t send_message(int fd, ref d, const struct msghdr *m, int flags)
{
	int64_t r;

	if ((unsigned int)flags & CMSG_COMPAT)
		return -EINVAL;
	if (!memory_readable(m, sizeof *m))
		return -EFAULT;
	if (m->msg_iovlen > INT32_MAX)
		return -EMSGSIZE;
	if (UNLIKELY(m->msg_control && m->msg_controllen)) {
		int bad = control_check(m);

		/* who cannot send at all hears that */
		r = bad ? socket_send(fd, d, NULL, 0, flags) : 0;
		if (bad)
			return r < 0 ? r : bad;
	}
	r = socket_send(fd, d, m->msg_iov, (int)m->msg_iovlen, flags);
	return r == -EINVAL && m->msg_iovlen > 1024 ? -EMSGSIZE : r;
}

/* A message of the kernel's that passes something of ours. */
static ssize_t send_passing(int fd, const struct msghdr *m, int flags)
{
	struct passing_plan plan;
	int64_t r = passing_begin(&plan, m);

	pthread_cleanup_push(passing_end, &plan);
	if (!r)
		r = negative(REAL(sendmsg)(fd, &plan.m, flags));
	pthread_cleanup_pop(1);
	return result(r, plan.saved_errno);
}

OUT_OF_LINE ssize_t sendmsg_known(int fd, const struct msghdr *m, int flags)
{
	if (UNLIKELY(flags & MSG_FASTOPEN) && m && m->msg_name && fd_may_connect(fd)) {
		if (!fastopen_connect(fd, m->msg_name, m->msg_namelen))
			return -1;
		flags &= ~MSG_FASTOPEN;
	}
	if (!fd_is_stack(fd))
		return UNLIKELY(passing_concerns(m)) ? send_passing(fd, m, flags)
						     : REAL(sendmsg)(fd, m, flags);
	return STACK_CALL(fd, send_message(fd, held, m, flags), REAL(sendmsg)(fd, m, flags));
}

ssize_t sendmsg(int fd, const struct msghdr *m, int flags)
{
	/* fd_beyond(0): not even an undecided socket could be passed */
	return UNCONCERNED(sendmsg) && fd_beyond(0) && !(flags & MSG_FASTOPEN) ? KNOWN(sendmsg)(fd, m, flags)
									       : sendmsg_known(fd, m, flags);
}

static int64_t send_messages(int fd, ref d, struct mmsghdr *v, unsigned int n, int flags)
{
	unsigned int i = 0;
	int64_t r = 0;

	n = MIN_OF(n, 1024u); /* UIO_MAXIOV: sendmmsg(2) */
	while (i < n) {
		size_t want = 0;
		r = send_message(fd, d, message_of(v, i), flags);
		if (r < 0)
			break;
		for (size_t k = 0; k < v[i].msg_hdr.msg_iovlen; k++)
			want += v[i].msg_hdr.msg_iov[k].iov_len;
		v[i++].msg_len = (unsigned int)r;
		if ((size_t)r < want)
			break;
	}
	return i ? i : r;
}

/* Up to the first message that passes something of ours, which goes by itself, as do those after it. */
static int send_messages_passing(int fd, struct mmsghdr *v, unsigned int n, int flags)
{
	unsigned int i = 0;
	ssize_t r = 0;

	n = MIN_OF(n, 1024u);
	while (i < n && !passing_concerns(message_of(v, i)))
		i++;
	if (i == n)
		return REAL(sendmmsg)(fd, v, n, flags);
	for (i = 0; i < n; i++) {
		r = sendmsg(fd, message_of(v, i), flags);
		if (r < 0)
			break;
		v[i].msg_len = (unsigned int)r;
	}
	return i ? (int)i : (int)r;
}

int sendmmsg(int fd, struct mmsghdr *v, unsigned int n, int flags)
{
	if (!fd_is_stack(fd))
		return UNLIKELY(!fd_beyond(0)) && v ? send_messages_passing(fd, v, n, flags)
						    : REAL(sendmmsg)(fd, v, n, flags);
	return (int)STACK_CALL(fd, send_messages(fd, held, v, n, flags), REAL(sendmmsg)(fd, v, n, flags));
}

int __sendmmsg(int fd, struct mmsghdr *v, unsigned int n, int flags)
{
	return sendmmsg(fd, v, n, flags);
}
