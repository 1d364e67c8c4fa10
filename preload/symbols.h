/*
 * symbols.h - the one list of intercepted libc calls.
 *
 * X(group, return type, name, parameters). From it come the declarations of the
 * exported wrappers and the table of real pointers (calls.h, real.c), and the
 * test that the library exports exactly these names. A name that this machine's
 * libc lacks is no error: its pointer stays empty until somebody calls it.
 *
 * Not in the list on purpose: isfdtype, fstat and kin (true of the placeholder,
 * which is a socket).
 *
 * Place in the flow: calls_<group>.c holds the wrapper of each.
 */
#ifndef PRELOAD_SYMBOLS_H
#define PRELOAD_SYMBOLS_H

#include "preload/symbols_guard.h"

#define SYMBOLS_SOCKET(X)                                                                                    \
	X(socket, int, socket, (int, int, int))                                                              \
	X(socket, int, bind, (int, const struct sockaddr *, socklen_t))                                      \
	X(socket, int, listen, (int, int))                                                                   \
	X(socket, int, accept, (int, struct sockaddr *, socklen_t *))                                        \
	X(socket, int, accept4, (int, struct sockaddr *, socklen_t *, int))                                  \
	X(socket, int, connect, (int, const struct sockaddr *, socklen_t))                                   \
	X(socket, int, __connect, (int, const struct sockaddr *, socklen_t))                                 \
	X(socket, int, shutdown, (int, int))                                                                 \
	X(socket, int, getsockname, (int, struct sockaddr *, socklen_t *))                                   \
	X(socket, int, getpeername, (int, struct sockaddr *, socklen_t *))                                   \
	X(socket, int, getsockopt, (int, int, int, void *, socklen_t *))                                     \
	X(socket, int, setsockopt, (int, int, int, const void *, socklen_t))                                 \
	X(socket, int, sockatmark, (int))

#define SYMBOLS_IO(X)                                                                                        \
	X(io, ssize_t, read, (int, void *, size_t))                                                          \
	X(io, ssize_t, __read, (int, void *, size_t))                                                        \
	X(io, ssize_t, __read_chk, (int, void *, size_t, size_t))                                            \
	X(io, ssize_t, write, (int, const void *, size_t))                                                   \
	X(io, ssize_t, __write, (int, const void *, size_t))                                                 \
	X(io, ssize_t, readv, (int, const struct iovec *, int))                                              \
	X(io, ssize_t, writev, (int, const struct iovec *, int))                                             \
	X(io, ssize_t, preadv2, (int, const struct iovec *, int, off_t, int))                                \
	X(io, ssize_t, preadv64v2, (int, const struct iovec *, int, off64_t, int))                           \
	X(io, ssize_t, pwritev2, (int, const struct iovec *, int, off_t, int))                               \
	X(io, ssize_t, pwritev64v2, (int, const struct iovec *, int, off64_t, int))                          \
	X(io, ssize_t, recv, (int, void *, size_t, int))                                                     \
	X(io, ssize_t, __recv_chk, (int, void *, size_t, size_t, int))                                       \
	X(io, ssize_t, recvfrom, (int, void *, size_t, int, struct sockaddr *, socklen_t *))                 \
	X(io, ssize_t, __recvfrom_chk, (int, void *, size_t, size_t, int, struct sockaddr *, socklen_t *))   \
	X(io, ssize_t, recvmsg, (int, struct msghdr *, int))                                                 \
	X(io, int, recvmmsg, (int, struct mmsghdr *, unsigned int, int, struct timespec *))                  \
	X(io, ssize_t, send, (int, const void *, size_t, int))                                               \
	X(io, ssize_t, __send, (int, const void *, size_t, int))                                             \
	X(io, ssize_t, sendto, (int, const void *, size_t, int, const struct sockaddr *, socklen_t))         \
	X(io, ssize_t, sendmsg, (int, const struct msghdr *, int))                                           \
	X(io, int, sendmmsg, (int, struct mmsghdr *, unsigned int, int))                                     \
	X(io, int, __sendmmsg, (int, struct mmsghdr *, unsigned int, int))                                   \
	X(io, ssize_t, sendfile, (int, int, off_t *, size_t))                                                \
	X(io, ssize_t, sendfile64, (int, int, off64_t *, size_t))                                            \
	X(io, ssize_t, splice, (int, off64_t *, int, off64_t *, size_t, unsigned int))

#define SYMBOLS_FD(X)                                                                                        \
	X(fd, int, close, (int))                                                                             \
	X(fd, int, __close, (int))                                                                           \
	X(fd, int, close_range, (unsigned int, unsigned int, int))                                           \
	X(fd, void, closefrom, (int))                                                                        \
	X(fd, int, dup, (int))                                                                               \
	X(fd, int, dup2, (int, int))                                                                         \
	X(fd, int, __dup2, (int, int))                                                                       \
	X(fd, int, dup3, (int, int, int))                                                                    \
	X(fd, int, fcntl, (int, int, ...))                                                                   \
	X(fd, int, __fcntl, (int, int, ...))                                                                 \
	X(fd, int, fcntl64, (int, int, ...))                                                                 \
	X(fd, int, ioctl, (int, unsigned long, ...))                                                         \
	X(fd, long, syscall, (long, ...))

#define SYMBOLS_POLL(X)                                                                                      \
	X(poll, int, select, (int, fd_set *, fd_set *, fd_set *, struct timeval *))                          \
	X(poll, int, __select, (int, fd_set *, fd_set *, fd_set *, struct timeval *))                        \
	X(poll, int, pselect,                                                                                \
	  (int, fd_set *, fd_set *, fd_set *, const struct timespec *, const sigset_t *))                    \
	X(poll, int, poll, (struct pollfd *, nfds_t, int))                                                   \
	X(poll, int, __poll, (struct pollfd *, nfds_t, int))                                                 \
	X(poll, int, ppoll, (struct pollfd *, nfds_t, const struct timespec *, const sigset_t *))            \
	X(poll, int, __poll_chk, (struct pollfd *, nfds_t, int, size_t))                                     \
	X(poll, int, __ppoll_chk,                                                                            \
	  (struct pollfd *, nfds_t, const struct timespec *, const sigset_t *, size_t))

#define SYMBOLS_EPOLL(X)                                                                                     \
	X(epoll, int, epoll_create, (int))                                                                   \
	X(epoll, int, epoll_create1, (int))                                                                  \
	X(epoll, int, epoll_ctl, (int, int, int, struct epoll_event *))                                      \
	X(epoll, int, epoll_wait, (int, struct epoll_event *, int, int))                                     \
	X(epoll, int, epoll_pwait, (int, struct epoll_event *, int, int, const sigset_t *))                  \
	X(epoll, int, epoll_pwait2,                                                                          \
	  (int, struct epoll_event *, int, const struct timespec *, const sigset_t *))

#define SYMBOLS_PROCESS(X)                                                                                   \
	X(process, int, execve, (const char *, char *const[], char *const[]))                                \
	X(process, int, execv, (const char *, char *const[]))                                                \
	X(process, int, execvp, (const char *, char *const[]))                                               \
	X(process, int, execvpe, (const char *, char *const[], char *const[]))                               \
	X(process, int, execl, (const char *, const char *, ...))                                            \
	X(process, int, execlp, (const char *, const char *, ...))                                           \
	X(process, int, execle, (const char *, const char *, ...))                                           \
	X(process, int, fexecve, (int, char *const[], char *const[]))                                        \
	X(process, int, execveat, (int, const char *, char *const[], char *const[], int))                    \
	X(process, int, clone, (int (*)(void *), void *, int, void *, ...))                                  \
	X(process, pid_t, fork, (void))                                                                      \
	X(process, pid_t, vfork, (void))                                                                     \
	X(process, pid_t, _Fork, (void))                                                                     \
	X(process, void, pthread_exit, (void *))                                                             \
	X(process, int, pthread_setcanceltype, (int, int *))                                                 \
	X(process, void, _exit, (int))                                                                       \
	X(process, void, _Exit, (int))

#define SPAWN_PARAMS                                                                                         \
	(pid_t *, const char *, const posix_spawn_file_actions_t *, const posix_spawnattr_t *,               \
	 char *const[], char *const[])

#define SYMBOLS_SPAWN(X)                                                                                     \
	X(spawn, int, posix_spawn, SPAWN_PARAMS)                                                             \
	X(spawn, int, posix_spawnp, SPAWN_PARAMS)                                                            \
	X(spawn, int, pidfd_spawn, SPAWN_PARAMS)                                                             \
	X(spawn, int, pidfd_spawnp, SPAWN_PARAMS)                                                            \
	X(spawn, int, system, (const char *))                                                                \
	X(spawn, FILE *, popen, (const char *, const char *))                                                \
	X(spawn, int, pclose, (FILE *))                                                                      \
	X(spawn, int, fclose, (FILE *))

#define SYMBOLS_SIGNAL(X)                                                                                    \
	X(signal, int, sigaction, (int, const struct sigaction *, struct sigaction *))                       \
	X(signal, int, __sigaction, (int, const struct sigaction *, struct sigaction *))                     \
	X(signal, sighandler_t, signal, (int, sighandler_t))                                                 \
	X(signal, sighandler_t, bsd_signal, (int, sighandler_t))                                             \
	X(signal, sighandler_t, ssignal, (int, sighandler_t))                                                \
	X(signal, sighandler_t, sysv_signal, (int, sighandler_t))                                            \
	X(signal, sighandler_t, __sysv_signal, (int, sighandler_t))                                          \
	X(signal, sighandler_t, sigset, (int, sighandler_t))                                                 \
	X(signal, int, sigignore, (int))                                                                     \
	X(signal, int, siginterrupt, (int, int))                                                             \
	X(signal, int, sigwaitinfo, (const sigset_t *, siginfo_t *))                                         \
	X(signal, int, sigtimedwait, (const sigset_t *, siginfo_t *, const struct timespec *))

#define SYMBOLS_STDIO(X)                                                                                     \
	X(stdio, FILE *, fdopen, (int, const char *))                                                        \
	X(stdio, FILE *, _IO_fdopen, (int, const char *))                                                    \
	X(stdio, FILE *, freopen, (const char *, const char *, FILE *))                                      \
	X(stdio, FILE *, freopen64, (const char *, const char *, FILE *))                                    \
	X(stdio, int, dprintf, (int, const char *, ...))                                                     \
	X(stdio, int, vdprintf, (int, const char *, va_list))                                                \
	X(stdio, int, __dprintf_chk, (int, int, const char *, ...))                                          \
	X(stdio, int, __vdprintf_chk, (int, int, const char *, va_list))

#define SYMBOLS_NUMBER(X)                                                                                    \
	X(number, int, socketpair, (int, int, int, int[2]))                                                  \
	X(number, int, pipe, (int[2]))                                                                       \
	X(number, int, __pipe, (int[2]))                                                                     \
	X(number, int, pipe2, (int[2], int))                                                                 \
	X(number, int, eventfd, (unsigned int, int))                                                         \
	X(number, int, signalfd, (int, const sigset_t *, int))                                               \
	X(number, int, timerfd_create, (clockid_t, int))                                                     \
	X(number, int, inotify_init, (void))                                                                 \
	X(number, int, inotify_init1, (int))                                                                 \
	X(number, int, memfd_create, (const char *, unsigned int))                                           \
	X(number, int, pidfd_getfd, (int, int, unsigned int))                                                \
	X(number, int, daemon, (int, int))                                                                   \
	X(number, int, login_tty, (int))                                                                     \
	X(number, int, forkpty, (int *, char *, const struct termios *, const struct winsize *))

#define SYMBOLS_PRIVILEGE(X)                                                                                 \
	X(privilege, int, setuid, (uid_t))                                                                   \
	X(privilege, int, seteuid, (uid_t))                                                                  \
	X(privilege, int, setreuid, (uid_t, uid_t))                                                          \
	X(privilege, int, setresuid, (uid_t, uid_t, uid_t))                                                  \
	X(privilege, int, setgid, (gid_t))                                                                   \
	X(privilege, int, setegid, (gid_t))                                                                  \
	X(privilege, int, setregid, (gid_t, gid_t))                                                          \
	X(privilege, int, setresgid, (gid_t, gid_t, gid_t))                                                  \
	X(privilege, int, setgroups, (size_t, const gid_t *))                                                \
	X(privilege, int, initgroups, (const char *, gid_t))                                                 \
	X(privilege, int, unshare, (int))                                                                    \
	X(privilege, int, setns, (int, int))                                                                 \
	X(privilege, int, chroot, (const char *))                                                            \
	X(privilege, int, capset, (void *, const void *))                                                    \
	X(privilege, int, prctl, (int, ...))                                                                 \
	X(privilege, int, setrlimit, (__rlimit_resource_t, const struct rlimit *))                           \
	X(privilege, int, setrlimit64, (__rlimit_resource_t, const struct rlimit64 *))                       \
	X(privilege, int, prlimit, (pid_t, enum __rlimit_resource, const struct rlimit *, struct rlimit *))  \
	X(privilege, int, prlimit64,                                                                         \
	  (pid_t, enum __rlimit_resource, const struct rlimit64 *, struct rlimit64 *))

#define SYMBOLS_URING(X)                                                                                     \
	X(uring, int, io_uring_queue_init, (unsigned int, struct io_uring *, unsigned int))                  \
	X(uring, int, io_uring_queue_init_params,                                                            \
	  (unsigned int, struct io_uring *, struct io_uring_params *))                                       \
	X(uring, int, io_uring_queue_init_mem,                                                               \
	  (unsigned int, struct io_uring *, struct io_uring_params *, void *, size_t))                       \
	X(uring, int, io_uring_setup, (unsigned int, struct io_uring_params *))                              \
	X(uring, struct io_uring_probe *, io_uring_get_probe, (void))

#define SYMBOLS_AIO(X)                                                                                       \
	X(aio, int, aio_read, (struct aiocb *))                                                              \
	X(aio, int, aio_read64, (struct aiocb64 *))                                                          \
	X(aio, int, aio_write, (struct aiocb *))                                                             \
	X(aio, int, aio_write64, (struct aiocb64 *))                                                         \
	X(aio, int, lio_listio, (int, struct aiocb *const[], int, struct sigevent *))                        \
	X(aio, int, lio_listio64, (int, struct aiocb64 *const[], int, struct sigevent *))

#define SYMBOLS(X)                                                                                           \
	SYMBOLS_SOCKET(X)                                                                                    \
	SYMBOLS_IO(X)                                                                                        \
	SYMBOLS_FD(X)                                                                                        \
	SYMBOLS_POLL(X)                                                                                      \
	SYMBOLS_EPOLL(X)                                                                                     \
	SYMBOLS_PROCESS(X)                                                                                   \
	SYMBOLS_SPAWN(X)                                                                                     \
	SYMBOLS_SIGNAL(X)                                                                                    \
	SYMBOLS_STDIO(X)                                                                                     \
	SYMBOLS_NUMBER(X)                                                                                    \
	SYMBOLS_PRIVILEGE(X)                                                                                 \
	SYMBOLS_URING(X)                                                                                     \
	SYMBOLS_AIO(X)                                                                                       \
	SYMBOLS_GUARD(X)

#endif
