/*
 * sys.h - the C library's own functions, reached past our interposed ones.
 *
 * Inside libutcp.so the name `read` is our wrapper. Everything below preload
 * calls sys.read() instead, so that an internal call never comes back through
 * the wrappers. Place in the flow: netio/sys.c fills the table once with
 * dlsym(RTLD_NEXT); in a test program, where nothing is interposed, that is
 * plain libc. Blocking happens only in sys.epoll_pwait2 and sys.ppoll: both are
 * cancellation points.
 */
#ifndef UTCP_SYS_H
#define UTCP_SYS_H

#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>

/* X(return type, name, parameters) */
#define SYS_CALLS(X)                                                                                         \
	X(int, socket, (int, int, int))                                                                      \
	X(int, socketpair, (int, int, int, int *))                                                           \
	X(int, bind, (int, const struct sockaddr *, socklen_t))                                              \
	X(int, listen, (int, int))                                                                           \
	X(int, accept4, (int, struct sockaddr *, socklen_t *, int))                                          \
	X(int, connect, (int, const struct sockaddr *, socklen_t))                                           \
	X(int, getsockname, (int, struct sockaddr *, socklen_t *))                                           \
	X(int, getpeername, (int, struct sockaddr *, socklen_t *))                                           \
	X(int, getsockopt, (int, int, int, void *, socklen_t *))                                             \
	X(int, setsockopt, (int, int, int, const void *, socklen_t))                                         \
	X(ssize_t, read, (int, void *, size_t))                                                              \
	X(ssize_t, write, (int, const void *, size_t))                                                       \
	X(ssize_t, readv, (int, const struct iovec *, int))                                                  \
	X(ssize_t, writev, (int, const struct iovec *, int))                                                 \
	X(ssize_t, pread, (int, void *, size_t, off_t))                                                      \
	X(ssize_t, recv, (int, void *, size_t, int))                                                         \
	X(ssize_t, send, (int, const void *, size_t, int))                                                   \
	X(ssize_t, sendto, (int, const void *, size_t, int, const struct sockaddr *, socklen_t))             \
	X(ssize_t, recvmsg, (int, struct msghdr *, int))                                                     \
	X(ssize_t, sendmsg, (int, const struct msghdr *, int))                                               \
	X(int, close, (int))                                                                                 \
	X(int, dup3, (int, int, int))                                                                        \
	X(int, fcntl, (int, int, ...))                                                                       \
	X(int, ioctl, (int, unsigned long, ...))                                                             \
	X(int, poll, (struct pollfd *, nfds_t, int))                                                         \
	X(int, ppoll, (struct pollfd *, nfds_t, const struct timespec *, const sigset_t *))                  \
	X(int, epoll_create1, (int))                                                                         \
	X(int, epoll_ctl, (int, int, int, struct epoll_event *))                                             \
	X(int, epoll_wait, (int, struct epoll_event *, int, int))                                            \
	X(int, epoll_pwait2, (int, struct epoll_event *, int, const struct timespec *, const sigset_t *))    \
	X(int, sigaction, (int, const struct sigaction *, struct sigaction *))                               \
	X(long, syscall, (long, ...))

struct sys_calls {
#define X(type, name, params) type(*name) params;
	SYS_CALLS(X)
#undef X
};
extern struct sys_calls sys;

/* Fill in the table; idempotent, async-signal-unsafe, safe before constructors. 0 or -ENOSYS (a name is
 * missing). */
int sys_init(void);

#endif
