/*
 * undecided.c - sockets that several processes have before it is decided what
 * they are.
 *
 * Theory of operation. An undecided socket (FD_TCP) is known to its process alone.
 * Before it becomes another's, too - by fork(), exec(), posix_spawn() or in a
 * message - it gets a description and a core socket in the region, like a
 * listener's that does not listen: FD_LISTENER with `undecided` set. Every process
 * that has the kernel socket has a part in it from then on, and what one of them
 * does the others see:
 *   - listen() makes it a listener, and its queue lives as long as anybody has it;
 *   - connect() makes it a connection (FD_STREAM), whose numbers keep the kernel
 *     socket as their placeholder, because other processes have it and nobody can
 *     exchange it there. It is never asked again;
 *   - policy may give it to the kernel after all: FD_KERNEL in the description. A
 *     number finds that out when it is used (fd_kind), an epoll set when it
 *     harvests (epoll_wait.c). It passes through until it is closed.
 *
 * The kernel half of a listener is duplicated in each process when that first
 * looks at it, or when the socket joins an epoll set.
 *
 * A socket that policy would not give to the stack stays FD_TCP, and so does one
 * whose process has no part in a stack and can get none.
 *
 * Place in the flow: fork() (calls_process.c, process.c), exec.c, spawn.c, passing.c
 * -> here; from here as any listener: establish.c, unlisten.c, accept.c.
 */
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sys/syscall.h>

#include "netio/rawsys.h"
#include "preload/address.h"
#include "preload/async.h"
#include "preload/establish.h"
#include "preload/exec.h"
#include "preload/fdtable.h"
#include "preload/process.h"
#include "preload/undecided.h"

static pthread_mutex_t decision = PTHREAD_MUTEX_INITIALIZER;

void undecided_lock(void)
{
	pthread_mutex_lock(&decision);
}

void undecided_unlock(void)
{
	pthread_mutex_unlock(&decision);
}

/* A thread of the parent may have had it. */
void undecided_after_fork(void)
{
	pthread_mutex_init(&decision, NULL);
}

/* Without `sys`: who listens on a local socket has perhaps nothing to do with us. */
static int option_of(int fd, int level, int name)
{
	int value = -1;
	socklen_t len = sizeof value;

	return RAW6(SYS_getsockopt, fd, level, name, &value, &len, 0) ? -1 : value;
}

/* Neither a listener nor a connection. */
static bool at_rest(int fd)
{
	struct tcp_info i = {.tcpi_state = TCP_ESTABLISHED};
	socklen_t len = sizeof i;

	return !RAW6(SYS_getsockopt, fd, IPPROTO_TCP, TCP_INFO, &i, &len, 0) && i.tcpi_state == TCP_CLOSE;
}

/* ------------------------------------------------------------ sharing */

/* Can the stack become of use to it? Unbound, that is anybody's guess: where it would listen. */
static bool worth_sharing(int fd)
{
	struct endpoint e;
	bool any;

	if (the_config.off || process_config_broken() || kernel_name(fd, &e) || !at_rest(fd))
		return false;
	any = ipaddr_is_any(&e.addr);
	if (any && !the_config.loopback && listens_v6only(fd))
		return false;
	if (any)
		e.addr = ipaddr_v4(0, 0, 0, 0);
	return (the_stack && any && !e.port) ||
	       ((any || address_is_local(&e.addr)) && policy_use_stack(&the_config, true, &e));
}

bool undecided_share_now(int fd, const struct option_values *v)
{
	struct number_list l = {0};
	ref d;

	if (fd_kind(fd) != FD_TCP || !at_rest(fd) || stream_make(fd, FD_LISTENER, v, &d))
		return false;
	description_of(d)->undecided = 1;
	description_of(d)->early = 1;
	description_of(d)->cookie = cookie_of(fd);
	description_shared(d);
	fd_each_tcp_alias(fd, number_collect, &l);
	for (int i = 0; i < l.count; i++) {
		epoll_note_fired(l.fd[i]);
		if (alias_listen(l.fd[i], d))
			break; /* no memory: this number stays what it was */
	}
	async_update(d);
	fd_release(d);
	return fd_kind(fd) != FD_TCP;
}

void undecided_share(int fd, bool attach)
{
	struct option_values v;

	if (!worth_sharing(fd) || !(attach ? stack_attach_quietly() : the_stack != NULL) ||
	    !netio_same_network(the_stack, fd) || options_gather(fd, &v))
		return;
	lib_enter();
	undecided_lock();
	if (listener_take(fd) > 0)
		undecided_share_now(fd, &v);
	undecided_unlock();
	lib_leave();
}

void undecided_share_all(bool attach, bool passed)
{
	int saved_errno = errno, last = fd_highest();

	if (last < 0 || (!attach && !the_stack) || thread_marks.depth || atomic_load(&process.forked) ||
	    atomic_load(&process.finished) || atomic_load(&process.sealed) || process_is_vfork_child())
		return;
	for (int fd = 0; fd <= last; fd++) {
		if (fd_kind(fd) != FD_TCP)
			continue;
		int flags = passed ? sys.fcntl(fd, F_GETFD) : 0;
		if (!(flags & FD_CLOEXEC))
			undecided_share(fd, attach);
	}
	errno = saved_errno;
}

/* ------------------------------------------------------------ to the kernel */

static void number_leaves(int fd, void *arg)
{
	ref d = (ref)(uintptr_t)arg;

	epoll_leave(fd, d);
	epoll_after_replace(fd, REF_NONE);
	fd_closing(fd);
	fd_decided(fd);
}

void undecided_leave(ref d)
{
	struct description *p = description_of(d);

	lib_enter();
	netio_enter(the_stack);
	p->kind = FD_KERNEL;
	p->undecided = 0;
	p->cookie = 0;
	netio_leave(the_stack);
	fd_each_of(d, number_leaves, (void *)(uintptr_t)d);
	lib_leave();
}

void undecided_tell(void *description)
{
	ref d = (ref)(uintptr_t)description;
	struct stack_cx *cx;

	lib_enter();
	cx = netio_enter(the_stack);
	if (description_of(d)->sock)
		watch_offer(cx, description_of(d)->sock);
	netio_leave(the_stack);
	lib_leave();
}

void undecided_gone(int fd)
{
	ref d = fd_left(fd);

	if (d)
		number_leaves(fd, (void *)(uintptr_t)d);
}

bool undecided_lost(int fd, ref d)
{
	if (!description_of(d)->undecided || option_of(fd, SOL_SOCKET, SO_ACCEPTCONN) != 1)
		return false;
	undecided_leave(d);
	undecided_tell((void *)(uintptr_t)d);
	return true;
}

int undecided_set_option(int fd, ref d, int level, int name, const void *value, socklen_t len)
{
	if (!description_of(d)->undecided || the_config.require)
		return -ENOPROTOOPT;
	if (sys.setsockopt(fd, level, name, value, len))
		return -errno;
	fallback_note("an option that only the kernel has");
	undecided_leave(d);
	undecided_tell((void *)(uintptr_t)d);
	return 0;
}

/* ------------------------------------------------------------ connect */

/* The same description goes on as a connection. False: it is one, or left, since another was faster. */
static bool becomes_stream(ref d)
{
	struct description *p = description_of(d);
	struct local *l = local_of(d);
	int half = l->kernel_fd;
	bool first;

	netio_enter(the_stack);
	first = p->kind == FD_LISTENER;
	if (first) {
		p->kind = FD_STREAM;
		p->undecided = 0;
		l->kernel_fd = -1;
	}
	netio_leave(the_stack);
	if (!first)
		return false;
	description_shared(d);
	epoll_description_gone(d);
	if (half >= 0)
		netio_unprotect_close(half);
	return true;
}

int undecided_connect(int fd, ref d, const struct sockaddr *sa, socklen_t len)
{
	struct endpoint local, remote, e;
	struct option_values v;
	int r = decide_connect(fd, sa, len, &local, &remote, &v);

	if (r == GO_KERNEL) {
		if (address_parse(sa, len, &e))
			return sys.connect(fd, sa, len) ? -errno : 0;
		undecided_leave(d);
		pthread_cleanup_push(fd_release_held,
				     (void *)(uintptr_t)d); /* the caller's, if it is cancelled */
		pthread_cleanup_push(undecided_tell, (void *)(uintptr_t)d);
		r = sys.connect(fd, sa, len) ? -errno : 0;
		pthread_cleanup_pop(1);
		pthread_cleanup_pop(0);
		return r;
	}
	if (r < 0)
		return r;
	lib_enter();
	if (becomes_stream(d)) {
		r = async_update(d);
		if (!r)
			r = stream_connect(d, &local, &remote);
		lib_leave();
		return r;
	}
	lib_leave();
	return socket_connect(fd, sa, len);
}

/* ------------------------------------------------------------ the kernel half */

void undecided_half_early(int fd, ref d)
{
	if (local_of(d)->kernel_fd < 0 && description_of(d)->early)
		listener_half_restore(fd);
}

void undecided_half_find(int fd, ref d)
{
	if (description_of(d)->undecided || description_of(d)->kind != FD_LISTENER)
		return;
	undecided_lock();
	if (!atomic_load(&local_of(d)->half_known)) {
		listener_half_restore(fd);
		atomic_store(&local_of(d)->half_known, true);
	}
	undecided_unlock();
	epoll_half_found(d);
}
