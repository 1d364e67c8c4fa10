/*
 * calls_copy.c - wrappers: sendfile() and splice().
 *
 * They have no kernel object to work on, so they copy through a buffer; the
 * file's offset and the pipe's contents advance by exactly what the socket took.
 *
 * Place in the flow: here -> socket_send(), socket_recv(), as for the calls of
 * calls_io.c.
 */
#include <pthread.h>
#include <sys/stat.h>

#include "preload/calls.h"
#include "preload/fdtable.h"
#include "preload/socket.h"
#include "preload/wait.h"

#define COPY_BYTES (64u << 10)
#define CALL_MAX   0x7ffff000u /* MAX_RW_COUNT */

/* ------------------------------------------------------------ sendfile */

static _Atomic(void *) spare_buffer; /* one is kept: no mmap() for each call */

static void *buffer_get(void)
{
	void *p = atomic_exchange(&spare_buffer, NULL);
	return p ? p : pages_get(COPY_BYTES);
}

static void buffer_put(void *p)
{
	p = atomic_exchange(&spare_buffer, p);
	if (p)
		pages_put(p, COPY_BYTES);
}

struct copy {
	int in;
	off64_t at;
	size_t left;
	uint8_t *buffer;
};

/* From the file at c->at; advances by what the socket took. */
static int64_t copy_file(int fd, ref d, struct copy *c)
{
	struct stat st;
	int64_t done = 0, r = 0;
	off64_t end = fstat(c->in, &st) || !S_ISREG(st.st_mode) ? INT64_MAX : st.st_size;

	while (c->left) {
		ssize_t n = sys.pread(c->in, c->buffer, MIN_OF(c->left, COPY_BYTES), c->at);
		if (n <= 0) {
			r = n ? -errno : 0;
			break;
		}
		bool more = (size_t)n < c->left && c->at + n < end;
		r = socket_send(fd, d, &(struct iovec){c->buffer, (size_t)n}, 1, more ? MSG_MORE : 0);
		if (r <= 0)
			break;
		done += r;
		c->at += r;
		c->left -= (size_t)r;
		if (r < n)
			break;
	}
	return done ? done : r;
}

static int64_t stack_sendfile(int fd, ref d, int in, off64_t *offset, size_t count)
{
	struct copy c = {.in = in, .left = MIN_OF(count, CALL_MAX)};
	int64_t r;
	int cancel;

	c.at = offset ? *offset : lseek64(in, 0, SEEK_CUR);
	if (offset && lseek64(in, 0, SEEK_CUR) < 0)
		return -errno; /* ESPIPE, EBADF */
	if (c.at < 0)
		return offset || errno == ESPIPE ? -EINVAL : -errno;
	if (!c.left)
		return 0;
	c.buffer = buffer_get();
	if (!c.buffer)
		return -ENOMEM;
	/* unlike write(), sendfile() is no cancellation point */
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
	r = copy_file(fd, d, &c);
	pthread_setcancelstate(cancel, NULL);
	buffer_put(c.buffer);
	if (r > 0 && offset)
		*offset = c.at;
	else if (r > 0)
		lseek64(in, c.at, SEEK_SET);
	return r;
}

/* ------------------------------------------------------------ splice */

static bool is_pipe(int fd)
{
	struct stat st;
	return !fstat(fd, &st) && S_ISFIFO(st.st_mode);
}

/* One read or write of a pipe; without waiting if asked. A pipe too old for RWF_NOWAIT: a page is safe. */
static int64_t pipe_move(int pipe, bool out, void *buffer, size_t n, bool wait)
{
	struct iovec iov = {buffer, n};
	struct pollfd pfd = {.fd = pipe, .events = out ? POLLOUT : POLLIN};
	ssize_t r;

	for (;;) {
		r = out ? REAL(pwritev64v2)(pipe, &iov, 1, -1, RWF_NOWAIT)
			: REAL(preadv64v2)(pipe, &iov, 1, -1, RWF_NOWAIT);
		if (r < 0 && errno == EOPNOTSUPP && sys.poll(&pfd, 1, wait ? -1 : 0) == 1) {
			iov.iov_len = MIN_OF(n, 4096u);
			r = out ? sys.writev(pipe, &iov, 1) : sys.readv(pipe, &iov, 1);
		}
		if (r >= 0)
			return r;
		if (errno != EAGAIN || !wait)
			return -errno;
		if (sys.poll(&pfd, 1, -1) < 0)
			return -errno;
	}
}

/* Socket to pipe: look first, take from the socket what the pipe took. */
static int64_t splice_in(int fd, ref d, int pipe, void *buffer, size_t n, bool wait)
{
	struct pollfd pfd = {.fd = pipe, .events = POLLOUT};
	struct iovec iov = {buffer, n};
	int64_t r, took;

	if (sys.poll(&pfd, 1, 0) == 1 && pfd.revents & POLLERR) {
		sigpipe_raise(); /* nobody reads the pipe */
		return -EPIPE;
	}
	r = socket_recv(fd, d, &iov, 1, MSG_PEEK);
	if (r <= 0)
		return r;
	r = pipe_move(pipe, true, buffer, (size_t)r, wait);
	if (r <= 0)
		return r;
	iov.iov_len = (size_t)r;
	took = socket_recv(fd, d, &iov, 1, MSG_TRUNC | MSG_DONTWAIT);
	return took < 0 ? took : r;
}

/* The bytes at the head of a pipe, without taking them. */
static int64_t pipe_peek(int pipe, void *buffer, size_t n)
{
	int copy[2];
	int64_t r;

	if (pipe2(copy, O_CLOEXEC | O_NONBLOCK))
		return -errno;
	r = tee(pipe, copy[1], n, SPLICE_F_NONBLOCK);
	r = r > 0 ? sys.read(copy[0], buffer, n) : r;
	r = r < 0 ? -errno : r;
	sys.close(copy[0]);
	sys.close(copy[1]);
	return r;
}

/*
 * What leaves the pipe must reach the socket: is there something, and would the
 * socket take it? 1, 0 at the end of the pipe, or a negative errno.
 */
static int64_t splice_ready(int fd, ref d, int pipe, bool wait)
{
	struct pollfd pfd = {.fd = pipe, .events = POLLIN};
	int r = sys.poll(&pfd, 1, wait ? -1 : 0);
	int64_t sent;

	if (r <= 0)
		return r ? -errno : -EAGAIN;
	if (!(pfd.revents & POLLIN))
		return 0;
	sent = socket_send(fd, d, NULL, 0, 0);
	return sent < 0 ? sent : 1;
}

/* Pipe to socket. A socket that does not block may take less: then look first, as above. */
static int64_t splice_out(int fd, ref d, int pipe, void *buffer, size_t n, unsigned int flags)
{
	bool wait = !(flags & SPLICE_F_NONBLOCK) && !(sys.fcntl(pipe, F_GETFL) & O_NONBLOCK);
	bool peek = atomic_load(&description_of(d)->nonblock);
	struct pollfd pfd = {.fd = pipe, .events = POLLIN};
	int more = flags & SPLICE_F_MORE ? MSG_MORE : 0;
	int64_t r;

	if (peek) {
		if (wait && sys.poll(&pfd, 1, -1) < 0)
			return -errno;
		r = pipe_peek(pipe, buffer, n);
	} else {
		r = splice_ready(fd, d, pipe, wait);
		if (r > 0)
			r = pipe_move(pipe, false, buffer, n, wait);
	}
	if (r <= 0)
		return r;
	r = socket_send(fd, d, &(struct iovec){buffer, (size_t)r}, 1, more);
	if (r > 0 && peek)
		pipe_move(pipe, false, buffer, (size_t)r, false);
	return r;
}

static int64_t stack_splice(int in, int out, ref d, bool to_socket, size_t n, unsigned int flags)
{
	int pipe = to_socket ? in : out;
	int mode = sys.fcntl(pipe, F_GETFL);
	bool wait = !(flags & SPLICE_F_NONBLOCK) && !(mode & O_NONBLOCK);
	void *buffer;
	int64_t r;

	/* in the order of fs/splice.c */
	if (!n)
		return 0;
	if (flags & ~(SPLICE_F_MOVE | SPLICE_F_NONBLOCK | SPLICE_F_MORE | SPLICE_F_GIFT))
		return -EINVAL;
	if (mode < 0 || (mode & O_ACCMODE) == (to_socket ? O_WRONLY : O_RDONLY))
		return -EBADF;
	if (!is_pipe(pipe))
		return -EINVAL;
	buffer = buffer_get();
	if (!buffer)
		return -ENOMEM;
	pthread_cleanup_push(buffer_put, buffer);
	r = to_socket ? splice_out(out, d, pipe, buffer, MIN_OF(n, COPY_BYTES), flags)
		      : splice_in(in, d, pipe, buffer, MIN_OF(n, COPY_BYTES), wait);
	pthread_cleanup_pop(1);
	return r;
}

ssize_t splice(int in, off64_t *off_in, int out, off64_t *off_out, size_t n, unsigned int flags)
{
	/* an offset for a socket or a pipe: the kernel answers ESPIPE */
	if ((!fd_is_stack(in) && !fd_is_stack(out)) || off_in || off_out)
		return REAL(splice)(in, off_in, out, off_out, n, flags);
	if (fd_is_stack(in))
		return STACK_CALL(in, stack_splice(in, out, held, false, n, flags),
				  REAL(splice)(in, off_in, out, off_out, n, flags));
	return STACK_CALL(out, stack_splice(in, out, held, true, n, flags),
			  REAL(splice)(in, off_in, out, off_out, n, flags));
}

ssize_t sendfile64(int out, int in, off64_t *offset, size_t count)
{
	/* From a stack socket: only into a pipe. Else the placeholder is no file, either; the kernel says so.
	 */
	if (!fd_is_stack(out) && !offset && fd_is_stack(in) && is_pipe(out))
		return STACK_CALL(in, stack_splice(in, out, held, false, count, 0),
				  REAL(sendfile64)(out, in, offset, count));
	if (!fd_is_stack(out))
		return REAL(sendfile64)(out, in, offset, count);
	return STACK_CALL(out, stack_sendfile(out, held, in, offset, count),
			  REAL(sendfile64)(out, in, offset, count));
}

ssize_t sendfile(int out, int in, off_t *offset, size_t count)
{
	_Static_assert(sizeof(off_t) == sizeof(off64_t), "a 32-bit off_t needs its own wrapper");
	return sendfile64(out, in, offset, count);
}
