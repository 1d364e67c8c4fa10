/*
 * placeholder.c - what a connection's descriptor number holds in the kernel
 * (design D4).
 *
 * An AF_UNIX stream socket in listening state, bound to an autobound abstract
 * name: a socket to fstat(), it takes a real slot, follows dup, exec and
 * CLOEXEC, and is never ready, so that whoever polls it behind our back blocks
 * instead of spinning. Each connection has one of its own, because its
 * SO_COOKIE is the connection's identity.
 *
 * Making one costs three system calls; those of closed connections go to a small
 * pool instead, unless a fork() may have given them to another process. While
 * nothing happens it keeps two. connect() takes no number of the application's
 * (netio/room.c): with the kernel's TCP it needs none.
 *
 * Place in the flow: socket.c (connect: replace; accept: new), calls_fd.c
 * (close: recycle).
 */
#include <fcntl.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <sys/un.h>

#include "preload/async.h"
#include "preload/placeholder.h"

#define POOL_MAX  64
#define POOL_IDLE 2

static struct {
	pthread_mutex_t lock;
	int count;
	uint32_t forks; /* process.fork_count when the pool began to fill */
	int fd[POOL_MAX];
} pool = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* What `fd` is from now on, a socket. 0 or a negative errno. */
static int placeholder_of(int fd)
{
	struct sockaddr_un sun = {.sun_family = AF_UNIX};

	/* length of the family alone: autobind, unix(7) */
	return sys.bind(fd, (struct sockaddr *)&sun, sizeof sun.sun_family) || sys.listen(fd, 0) ? -errno : 0;
}

/* A fresh placeholder on the lowest free number; flags: SOCK_CLOEXEC, SOCK_NONBLOCK. */
static int placeholder_make(int flags)
{
	int fd = sys.socket(AF_UNIX, SOCK_STREAM | flags, 0), r = fd < 0 ? -errno : placeholder_of(fd);

	if (r && fd >= 0)
		sys.syscall(SYS_close, fd);
	return r ? r : fd;
}

/* One that is ours, and needs no number of the application's. */
static int placeholder_own(void)
{
	int fd = (int)netio_fd_call(SYS_socket, AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, 0);
	int r = fd < 0 ? fd : placeholder_of(fd);

	if (r && fd >= 0)
		netio_fd_done(fd);
	return r ? r : fd;
}

/* From the pool: a protected number, or -1. */
static int placeholder_pooled(void)
{
	int fd = -1;

	pthread_mutex_lock(&pool.lock);
	if (pool.count && pool.forks == atomic_load(&process.fork_count))
		fd = pool.fd[--pool.count];
	pthread_mutex_unlock(&pool.lock);
	return fd;
}

bool placeholder_recycle(int fd)
{
	uint32_t forks = atomic_load(&process.fork_count);
	bool room;

	pthread_mutex_lock(&pool.lock);
	if (pool.forks != forks) {
		/* what lies here may be another process's too */
		while (pool.count)
			netio_unprotect_close(pool.fd[--pool.count]);
		pool.forks = forks;
	}
	room = pool.count < POOL_MAX;
	if (room) {
		/* flags that the connection's owner set must not reach the next one */
		int flags = sys.fcntl(fd, F_GETFL);
		if (flags & (O_NONBLOCK | O_ASYNC))
			sys.fcntl(fd, F_SETFL, flags & ~(O_NONBLOCK | O_ASYNC));
		/* closes the number in any case */
		if (!netio_store_fd_at(fd, &pool.fd[pool.count]))
			pool.count++;
		pthread_mutex_unlock(&pool.lock);
		return true;
	}
	pthread_mutex_unlock(&pool.lock);
	return false;
}

/* A crowd has gone: its numbers are of no use to anybody. */
static void pool_shrink(void)
{
	pthread_mutex_lock(&pool.lock);
	while (pool.count > POOL_IDLE)
		netio_unprotect_close(pool.fd[--pool.count]);
	pthread_mutex_unlock(&pool.lock);
}

void placeholder_begin(void)
{
	netio_reserve_fds(the_stack);
	netio_set_tidy(pool_shrink);
}

void placeholder_flags(int from, int to)
{
	int flags = sys.fcntl(from, F_GETFL);
	struct f_owner_ex owner;

	if (async_owners_used() && !sys.fcntl(from, F_GETOWN_EX, &owner)) {
		if (owner.pid)
			sys.fcntl(to, F_SETOWN_EX, &owner);
		sys.fcntl(to, F_SETSIG, sys.fcntl(from, F_GETSIG));
	}
	if (flags >= 0 && flags & (O_NONBLOCK | O_ASYNC)) {
		sys.fcntl(to, F_SETFL, sys.fcntl(to, F_GETFL) | (flags & (O_NONBLOCK | O_ASYNC)));
	}
}

int placeholder_replace(int fd)
{
	int pooled = placeholder_pooled(), own = pooled, r;
	int cloexec = sys.fcntl(fd, F_GETFD);

	netio_births_begin();
	if (own < 0)
		own = placeholder_own();
	r = own < 0 ? own : 0;
	if (!r) {
		placeholder_flags(fd, own);
		r = netio_fd_onto(own, fd, cloexec & FD_CLOEXEC ? O_CLOEXEC : 0);
	}
	if (pooled >= 0)
		netio_unprotect_close(own);
	else if (own >= 0)
		netio_fd_done(own);
	netio_births_end();
	return r;
}

int placeholder_new(int flags)
{
	int own = placeholder_pooled(), fd;

	if (own < 0)
		return placeholder_make(flags);
	fd = sys.fcntl(own, flags & SOCK_CLOEXEC ? F_DUPFD_CLOEXEC : F_DUPFD, 0);
	if (fd < 0)
		fd = -errno;
	else if (flags & SOCK_NONBLOCK)
		sys.fcntl(fd, F_SETFL, sys.fcntl(fd, F_GETFL) | O_NONBLOCK);
	netio_unprotect_close(own);
	return fd;
}

void placeholder_before_fork(void)
{
	pthread_mutex_lock(&pool.lock);
}

void placeholder_parent_after_fork(void)
{
	pthread_mutex_unlock(&pool.lock);
}

/* What lies there is shared with the parent: the child leaves it alone, and so must the parent (recycle). */
void placeholder_after_fork(void)
{
	while (pool.count)
		netio_unprotect_close(pool.fd[--pool.count]);
	pthread_mutex_init(&pool.lock, NULL);
}
