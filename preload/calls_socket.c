/*
 * calls_socket.c - wrappers: making, naming and setting up sockets.
 */
#include <netinet/in.h>
#include <linux/sockios.h>
#include <sys/syscall.h>

#include "preload/calls.h"
#include "preload/fdtable.h"
#include "preload/number.h"
#include "preload/passing.h"
#include "preload/process.h"
#include "preload/socket.h"

int socket(int domain, int type, int protocol)
{
	int fd = NUMBER(REAL(socket)(domain, type, protocol));

	if (fd < 0)
		return fd;
	fd_fresh(fd);
	if ((domain == AF_INET || domain == AF_INET6) &&
	    (type & ~(SOCK_CLOEXEC | SOCK_NONBLOCK)) == SOCK_STREAM &&
	    (protocol == 0 || protocol == IPPROTO_TCP)) {
		if (UNLIKELY(atomic_load(&process.sealed))) {
			if (the_config.require) {
				sys.syscall(SYS_close, fd);
				errno = ENETDOWN;
				return -1;
			}
			fallback_note("the process is in a seccomp sandbox");
			return fd;
		}
		process_init();
		if (UNLIKELY(atomic_load(&process.finished)))
			process_ends_here();
		else if (!the_config.off)
			fd_install_tcp(fd, domain == AF_INET6);
	}
	return fd;
}

int bind(int fd, const struct sockaddr *sa, socklen_t len)
{
	int saved_errno = errno;

	switch (fd_kind(fd)) {
	case FD_TCP:
	case FD_LISTENER: /* only one that was shut down */
		return (int)result(UNCANCELLED(socket_bind(fd, sa, len)), saved_errno);
	case FD_STREAM:
		return (int)result(-EINVAL, saved_errno); /* it has its address */
	default:
		if (fd_hidden(fd))
			return (int)result(-EBADF, saved_errno);
		if (UNLIKELY(passing_found(fd)))
			return (int)result(UNCANCELLED(socket_bind(fd, sa, len)), saved_errno);
		return REAL(bind)(fd, sa, len);
	}
}

int listen(int fd, int backlog)
{
	int saved_errno = errno;

	switch (fd_kind(fd)) {
	case FD_TCP:
	case FD_LISTENER:
		return (int)result(UNCANCELLED(socket_listen(fd, backlog)), saved_errno);
	case FD_STREAM:
		return (int)result(-EINVAL, saved_errno); /* connected */
	default:
		if (fd_hidden(fd))
			return (int)result(-EBADF, saved_errno);
		if (UNLIKELY(passing_found(fd)))
			return (int)result(UNCANCELLED(socket_listen(fd, backlog)), saved_errno);
		return REAL(listen)(fd, backlog);
	}
}

int accept4(int fd, struct sockaddr *sa, socklen_t *len, int flags)
{
	if (fd_is_stack(fd))
		return (int)STACK_CALL(fd, socket_accept(fd, held, sa, len, flags),
				       REAL(accept4)(fd, sa, len, flags));
	int r = NUMBER(REAL(accept4)(fd, sa, len, flags));
	if (r >= 0)
		fd_fresh(r);
	return r;
}

int accept(int fd, struct sockaddr *sa, socklen_t *len)
{
	if (fd_is_stack(fd))
		return accept4(fd, sa, len, 0);
	int r = NUMBER(REAL(accept)(fd, sa, len));
	if (r >= 0)
		fd_fresh(r);
	return r;
}

int connect(int fd, const struct sockaddr *sa, socklen_t len)
{
	int saved_errno = errno;

	switch (fd_kind(fd)) {
	case FD_TCP:
	case FD_STREAM:
	case FD_LISTENER:
		return (int)result(UNCANCELLED(socket_connect(fd, sa, len)), saved_errno);
	default:
		return fd_hidden(fd) ? (int)result(-EBADF, saved_errno) : REAL(connect)(fd, sa, len);
	}
}

int __connect(int fd, const struct sockaddr *sa, socklen_t len)
{
	return connect(fd, sa, len);
}

/* Both halves of a listener; the kernel's checks the argument. */
static int listener_shutdown(int fd, ref d, int how)
{
	int r = REAL(shutdown)(fd, how) ? -errno : 0;

	if (!r || r == -ENOTCONN)
		socket_shutdown(d, how); /* which shuts the halves also if it fails */
	return r;
}

int shutdown(int fd, int how)
{
	if (fd_kind(fd) == FD_LISTENER)
		return (int)STACK_CALL(fd, listener_shutdown(fd, held, how), REAL(shutdown)(fd, how));
	if (fd_is_stack(fd))
		return (int)STACK_CALL(fd, socket_shutdown(held, how), REAL(shutdown)(fd, how));
	return REAL(shutdown)(fd, how);
}

/* A listener's names are the kernel's: it has the real socket. */
int getsockname(int fd, struct sockaddr *sa, socklen_t *len)
{
	if (fd_is_stack(fd) && fd_kind(fd) != FD_LISTENER)
		return (int)STACK_CALL(fd, socket_names(held, false, sa, len),
				       REAL(getsockname)(fd, sa, len));
	return REAL(getsockname)(fd, sa, len);
}

int getpeername(int fd, struct sockaddr *sa, socklen_t *len)
{
	if (fd_is_stack(fd) && fd_kind(fd) != FD_LISTENER)
		return (int)STACK_CALL(fd, socket_names(held, true, sa, len), REAL(getpeername)(fd, sa, len));
	return REAL(getpeername)(fd, sa, len);
}

int getsockopt(int fd, int level, int name, void *value, socklen_t *len)
{
	if (fd_is_stack(fd))
		return (int)STACK_CALL(fd, socket_get_option(fd, held, level, name, value, len),
				       REAL(getsockopt)(fd, level, name, value, len));
	return REAL(getsockopt)(fd, level, name, value, len);
}

int setsockopt(int fd, int level, int name, const void *value, socklen_t len)
{
	int r;

	if (fd_is_stack(fd))
		return (int)STACK_CALL(fd, socket_set_option(fd, held, level, name, value, len),
				       REAL(setsockopt)(fd, level, name, value, len));
	r = REAL(setsockopt)(fd, level, name, value, len);
	if (!r && fd_kind(fd) == FD_TCP) {
		int saved_errno = errno;
		option_touched(fd, level, name);
		errno = saved_errno;
	}
	return r;
}

int sockatmark(int fd)
{
	int mark = 0, r;

	if (!fd_is_stack(fd))
		return REAL(sockatmark)(fd);
	r = (int)STACK_CALL(fd, socket_ioctl(fd, held, SIOCATMARK, &mark),
			    REAL(ioctl)(fd, SIOCATMARK, &mark));
	return r < 0 ? r : mark;
}
