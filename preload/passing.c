/*
 * passing.c - descriptors in messages (SCM_RIGHTS).
 *
 * sendmsg(): a connection's descriptor is replaced by a token (netio/passage.c), in
 * a copy of the control data; listeners, undecided sockets and everything else are
 * kernel objects and go as they are. recvmsg(): a token becomes the connection, a
 * listening socket that belongs to a listener of the stack becomes one here, too.
 * What is of another stack stays what it is for the kernel.
 *
 * A process that has had nothing to do with the stack so far enters it when the
 * token has its stack's name, or for a listening TCP socket if policy would give it
 * to a stack that runs.
 *
 * Without a keeper there are no tokens: the placeholder itself goes, and is known
 * by its cookie as long as somebody holds the connection.
 *
 * Place in the flow: calls_io.c (sendmsg, recvmsg and kin) -> here.
 */
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "netio/rawsys.h"
#include "preload/address.h"
#include "preload/exec.h"
#include "preload/fdtable.h"
#include "preload/passing.h"
#include "preload/process.h"
#include "preload/undecided.h"
#include "preload/wait.h"

static bool is_rights(const struct cmsghdr *c)
{
	return c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS;
}

static int *rights_of(const struct cmsghdr *c, size_t *count)
{
	*count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
	return (int *)(void *)CMSG_DATA((struct cmsghdr *)(uintptr_t)c);
}

/* The next header that lies inside the control data, as the kernel looks at them; NULL. */
static struct cmsghdr *control_next(const struct msghdr *m, const struct cmsghdr *before)
{
	uint8_t *base = m->msg_control;
	size_t at = before ? (size_t)((const uint8_t *)before - base) + CMSG_ALIGN(before->cmsg_len) : 0;
	struct cmsghdr *c = (struct cmsghdr *)(void *)(base + at);

	if (!base || m->msg_controllen < sizeof *c || at > m->msg_controllen - sizeof *c)
		return NULL;
	return c->cmsg_len < sizeof *c || c->cmsg_len > m->msg_controllen - at ? NULL : c;
}

/* ------------------------------------------------------------ sending */

bool passing_concerns(const struct msghdr *m)
{
	size_t count;

	if (fd_beyond(0) || atomic_load(&process.sealed) || !m || !memory_readable(m, sizeof *m) ||
	    !m->msg_control || m->msg_controllen < CMSG_LEN(sizeof(int)) || thread_marks.depth ||
	    process_is_vfork_child() || !memory_readable(m->msg_control, m->msg_controllen))
		return false;
	for (const struct cmsghdr *c = control_next(m, NULL); c; c = control_next(m, c)) {
		const int *fd = rights_of(c, &count);
		for (size_t i = 0; is_rights(c) && i < count; i++)
			if (fd_kind(fd[i]) != FD_KERNEL || netio_owns_fd(fd[i]))
				return true;
	}
	return false;
}

static int listener_pass(int fd, ref d)
{
	struct stat st;

	if (fstat(fd, &st))
		return -errno;
	/* the kernel's tables have no socket that does not listen */
	return netio_pass_listener(the_stack, d, description_of(d)->cookie,
				   description_of(d)->undecided ? NETIO_NOWHERE_SEEN : st.st_ino);
}

/* One number of the message. */
static int number_pass(struct passing_plan *p, int *fd)
{
	ref d;
	int r = 0;

	if (netio_owns_fd(*fd))
		return -EBADF;
	if (fd_kind(*fd) == FD_TCP)
		undecided_share(*fd, true);
	if (fd_kind(*fd) == FD_TCP)
		fd_mark_shared(*fd);
	if (fd_kind(*fd) == FD_EPOLL)
		epoll_send(*fd);
	d = fd_hold(*fd);
	if (!d)
		return 0;
	description_shared(d);
	if (description_of(d)->kind == FD_LISTENER)
		listener_pass(*fd, d);
	else if (p->count < PASSING_FDS)
		r = netio_pass(the_stack, &the_config.net, d, *fd);
	if (r > 0)
		*fd = p->token[p->count++] = r;
	fd_release(d);
	return 0;
}

int passing_begin(struct passing_plan *p, const struct msghdr *m)
{
	size_t count;
	int err = 0;

	p->saved_errno = errno;
	p->m = *m;
	p->pages = NULL;
	p->count = 0;
	if (m->msg_controllen > sizeof p->few)
		p->pages = pages_get(p->bytes = m->msg_controllen);
	if (m->msg_controllen > sizeof p->few && !p->pages)
		return -ENOBUFS;
	p->m.msg_control = p->pages ? p->pages : p->few;
	memcpy(p->m.msg_control, m->msg_control, m->msg_controllen);
	lib_enter();
	for (struct cmsghdr *c = control_next(&p->m, NULL); c && !err; c = control_next(&p->m, c)) {
		int *fd = rights_of(c, &count);
		for (size_t i = 0; is_rights(c) && i < count && !err; i++)
			err = number_pass(p, &fd[i]);
	}
	lib_leave();
	return err;
}

void passing_end(void *plan)
{
	struct passing_plan *p = plan;

	for (int i = 0; i < p->count; i++)
		sys.syscall(SYS_close, p->token[i]);
	if (p->pages)
		pages_put(p->pages, p->bytes);
}

/* ------------------------------------------------------------ receiving */

/* Without `sys`: most processes that are passed something have nothing to do with us. */
static int option_of(int fd, int name)
{
	int value = -1;
	socklen_t len = sizeof value;

	return RAW6(SYS_getsockopt, fd, SOL_SOCKET, name, &value, &len, 0) ? -1 : value;
}

/* fd holds a descriptor of object d, or of the object with this cookie. */
static bool number_take(int fd, ref d, uint64_t cookie)
{
	struct stack_cx *cx = netio_enter(the_stack);
	enum fd_kind kind = FD_KERNEL;

	if (!d)
		d = netio_object_of(the_stack, cx, cookie);
	if (d && description_take(cx, d))
		kind = (enum fd_kind)description_at(cx, d)->kind;
	netio_leave(the_stack);
	if (kind == FD_KERNEL)
		return false;
	fd_install(fd, kind, d);
	fd_release(d);
	if (kind == FD_LISTENER)
		listener_half_restore(fd);
	return true;
}

static bool token_exchange(int fd)
{
	ref d;
	int placeholder, flags;
	bool taken = false;

	flags = sys.fcntl(fd, F_GETFD);
	placeholder = netio_claim(the_stack, fd, &d);
	if (placeholder < 0)
		return false;
	/* The token goes only when we hold the object. */
	int token = (int)netio_fd_call(SYS_fcntl, fd, F_DUPFD_CLOEXEC, 3, 0);
	if (token >= 0 && !netio_fd_onto(placeholder, fd, flags & FD_CLOEXEC ? O_CLOEXEC : 0)) {
		taken = number_take(fd, d, 0);
		if (!taken)
			netio_fd_onto(token, fd, flags & FD_CLOEXEC ? O_CLOEXEC : 0);
	}
	if (token >= 0)
		netio_fd_done(token);
	sys.syscall(SYS_close, placeholder);
	return taken;
}

static bool token_arrived(int fd)
{
	bool taken;

	process_init();
	if (process_config_broken() || !netio_is_token(&the_config.net, fd) || stack_attach())
		return false;
	netio_births_begin();
	taken = token_exchange(fd);
	netio_births_end();
	return taken;
}

/* Undecided here as well; what it becomes, others may have it, too. */
static void undecided_arrived(int fd, int domain)
{
	process_init();
	fd_install_tcp(fd, domain == AF_INET6);
	fd_mark_shared(fd);
}

static bool unconnected(int fd)
{
	struct tcp_info i = {.tcpi_state = TCP_ESTABLISHED};
	socklen_t len = sizeof i;

	return !RAW6(SYS_getsockopt, fd, IPPROTO_TCP, TCP_INFO, &i, &len, 0) && i.tcpi_state == TCP_CLOSE;
}

/* A listening socket: a placeholder that came itself, or a listener. Or one that may become a listener. */
static void listening_arrived(int fd, int domain, bool peek)
{
	bool unix_domain = domain == AF_UNIX, undecided = !unix_domain && unconnected(fd);
	struct sockaddr_storage sa;
	socklen_t len = sizeof sa;
	struct endpoint e;
	uint64_t cookie;

	if (!the_stack) {
		if (unix_domain)
			return;
		process_init();
		if (sys.getsockname(fd, (struct sockaddr *)&sa, &len) ||
		    address_parse((struct sockaddr *)&sa, len, &e))
			return;
		if (process_config_broken() || the_config.off || !policy_use_stack(&the_config, true, &e) ||
		    !netio_stack_runs(&the_config.net) || stack_attach()) {
			if (undecided)
				undecided_arrived(fd, domain);
			return;
		}
	}
	cookie = cookie_of(fd);
	if (!number_take(fd, REF_NONE, cookie)) {
		if (!unix_domain)
			undecided_arrived(fd, domain); /* listen() makes it one of the stack again */
	} else if (!unix_domain && !peek) {
		netio_taken(the_stack, cookie);
	}
}

static void number_arrived(int fd, bool peek)
{
	int domain;

	if (fd < 0)
		return;
	fd_fresh(fd);
	if (atomic_load(&process.forked) || atomic_load(&process.finished))
		return;
	domain = option_of(fd, SO_DOMAIN);
	if (domain == AF_UNIX && netio_is_token(NULL, fd))
		token_arrived(fd);
	else if ((domain == AF_UNIX || domain == AF_INET || domain == AF_INET6) &&
		 option_of(fd, SO_ACCEPTCONN) == 1 && option_of(fd, SO_TYPE) == SOCK_STREAM)
		listening_arrived(fd, domain, peek);
	else if ((domain == AF_INET || domain == AF_INET6) && unconnected(fd))
		listening_arrived(fd, domain, peek);
}

/*
 * bind() or listen() on a number of which the table says nothing. It may have been there at exec(): one that
 * was not a listener of the stack then, so that nobody spoke of it, is undecided here as it was in the old
 * image, unless another process has made it a listener since.
 */
bool passing_found(int fd)
{
	bool listens;
	int domain;

	if (fd < 0 || fd_is_decided(fd) || thread_marks.depth || atomic_load(&process.sealed) ||
	    atomic_load(&process.forked) || atomic_load(&process.finished) || process_is_vfork_child() ||
	    netio_internal_thread())
		return false;
	domain = option_of(fd, SO_DOMAIN);
	if ((domain != AF_INET && domain != AF_INET6) || option_of(fd, SO_TYPE) != SOCK_STREAM)
		return false;
	process_init();
	if (the_config.off)
		return false;
	lib_enter();
	listens = option_of(fd, SO_ACCEPTCONN) == 1;
	if (listens)
		listening_arrived(fd, domain, true);
	if (fd_kind(fd) == FD_KERNEL && (listens || unconnected(fd)))
		undecided_arrived(fd, domain);
	lib_leave();
	return fd_kind(fd) != FD_KERNEL;
}

/* An epoll set: after the sockets that are its members. */
static bool set_arrived(int fd, bool peek)
{
	uint64_t tag;

	if (fd < 0 || fd_kind(fd) != FD_KERNEL || atomic_load(&process.forked) ||
	    atomic_load(&process.finished) || option_of(fd, SO_DOMAIN) >= 0 || !epoll_is_marked(fd))
		return false;
	if (!the_stack && (process_config_broken() || !netio_stack_runs(&the_config.net) || stack_attach()))
		return false;
	tag = epoll_arrived(fd);
	if (tag && !peek)
		netio_taken(the_stack, tag);
	return tag != 0;
}

void passing_fetched(int fd)
{
	int saved_errno = errno;

	if (thread_marks.depth || atomic_load(&process.sealed) || process_is_vfork_child() ||
	    netio_internal_thread())
		return;
	lib_enter();
	/* As a descriptor that was peeked at: nothing was on its way. */
	if (!the_stack && !atomic_load(&process.forked) && !atomic_load(&process.finished) &&
	    option_of(fd, SO_DOMAIN) == AF_UNIX && option_of(fd, SO_ACCEPTCONN) == 1) {
		process_init();
		if (!process_config_broken() && !the_config.off && netio_stack_runs(&the_config.net))
			stack_attach();
	}
	number_arrived(fd, true);
	if (set_arrived(fd, true))
		epoll_nest_arrived();
	lib_leave();
	errno = saved_errno;
}

void passing_received(const struct msghdr *m, int flags)
{
	int saved_errno = errno;
	bool sets = false;
	size_t count;

	if (thread_marks.depth || atomic_load(&process.sealed) || process_is_vfork_child() ||
	    netio_internal_thread())
		return;
	for (const struct cmsghdr *c = control_next(m, NULL); c; c = control_next(m, c)) {
		const int *fd = rights_of(c, &count);

		if (!is_rights(c))
			continue;
		lib_enter();
		for (size_t i = 0; i < count; i++)
			number_arrived(fd[i], flags & MSG_PEEK);
		lib_leave();
	}
	for (const struct cmsghdr *c = control_next(m, NULL); c; c = control_next(m, c)) {
		const int *fd = rights_of(c, &count);

		lib_enter();
		for (size_t i = 0; is_rights(c) && i < count; i++)
			sets |= set_arrived(fd[i], flags & MSG_PEEK);
		lib_leave();
	}
	if (sets)
		epoll_nest_arrived();
	errno = saved_errno;
}
