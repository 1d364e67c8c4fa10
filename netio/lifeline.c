/*
 * lifeline.c - a process's side of its line to the keeper (keeper.c), and the
 * messages on it.
 *
 * The line is a SOCK_SEQPACKET pair: a message is one datagram, with descriptors at
 * will. A forked child gets a line of its own from its parent, before it is born. Over
 * exec() the line stays open and the new image finds the stack through it; a child of
 * vfork(), which has its parent's memory, asks for a line and a slot first.
 *
 * Place in the flow: procs.c (fork), preload's exec.c and spawn.c -> here -> keeper.c at
 * the other end. How a line is come by when the keeper was killed: respawn.c.
 */
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "netio/internal.h"

#define JOIN_MS	    2000
#define LINE_NUMBER 512 /* out of the way of a program that knows nothing of the line */

/* ------------------------------------------------------------ messages */

int message_send(int to, const void *data, size_t len, const int *fds, uint32_t count)
{
	struct iovec iov = {(void *)(uintptr_t)data, len};
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(MESSAGE_FDS * sizeof(int))];
	} control = {0};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
	struct cmsghdr *c;
	long r;

	if (count) {
		m.msg_control = control.bytes;
		m.msg_controllen = CMSG_SPACE(count * sizeof(int));
		c = CMSG_FIRSTHDR(&m);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(count * sizeof(int));
		memcpy(CMSG_DATA(c), fds, count * sizeof(int));
	}
	do {
		r = RAW3(SYS_sendmsg, to, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
	} while (r == -EINTR);
	return r < 0 ? (int)r : 0;
}

static int receive(int from, void *data, size_t len, int fds[MESSAGE_FDS], unsigned expected)
{
	struct iovec iov = {data, len};
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(MESSAGE_FDS * sizeof(int))];
	} control;
	struct msghdr m = {
	    .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control};
	struct cmsghdr *c;
	long r;

	for (int i = 0; i < MESSAGE_FDS; i++)
		fds[i] = -1;
	do {
		r = expected ? fds_receive(from, &m, MSG_CMSG_CLOEXEC | MSG_DONTWAIT, expected)
			     : RAW3(SYS_recvmsg, from, &m, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	} while (r == -EINTR);
	if (r < 0)
		return (int)r;
	c = CMSG_FIRSTHDR(&m);
	if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
		memcpy(fds, CMSG_DATA(c), MIN_OF(c->cmsg_len - CMSG_LEN(0), MESSAGE_FDS * sizeof(int)));
	return (int)r;
}

int message_receive(int from, void *data, size_t len, int fds[MESSAGE_FDS])
{
	return receive(from, data, len, fds, 0);
}

int message_receive_fds(int from, void *data, size_t len, int fds[MESSAGE_FDS])
{
	return receive(from, data, len, fds, ATTACH_FDS);
}

int message_wait(int from, int ms)
{
	struct pollfd p = {.fd = from, .events = POLLIN};
	struct timespec ts = {ms / 1000, ms % 1000 * 1000000L};
	long r;

	do {
		r = RAW6(SYS_ppoll, &p, 1, &ts, NULL, 0, 0);
	} while (r == -EINTR);
	return r == 1 ? 0 : -ETIMEDOUT;
}

/* ------------------------------------------------------------ to the keeper */

/*
 * A child of vfork() has its parent's memory, but a copy of its descriptors: when another thread of the
 * parent comes to have a new line meanwhile, the number is none here, or something of the application's.
 */
static int line_borrowed(const struct netio *n)
{
	int fd = __atomic_load_n(&n->keeper_fd, __ATOMIC_RELAXED), type = 0, domain = 0;
	socklen_t len = sizeof type;

	if (fd < 0 || RAW6(SYS_getsockopt, fd, SOL_SOCKET, SO_TYPE, &type, &len, 0) ||
	    RAW6(SYS_getsockopt, fd, SOL_SOCKET, SO_DOMAIN, &domain, &len, 0))
		return -ENOTCONN;
	return type == SOCK_SEQPACKET && domain == AF_UNIX ? fd : -ENOTCONN;
}

int keeper_say_vfork(struct netio *n, const void *m, size_t len, const int *fds, uint32_t count)
{
	int fd = line_borrowed(n);

	return fd < 0 ? fd : message_send(fd, m, len, fds, count);
}

int keeper_say(struct netio *n, const void *m, size_t len, const int *fds, uint32_t count)
{
	const struct proc *p = pool_at(&n->cx, n->proc);
	int err;

	if (p && p->pid != getpid()) /* the lock would be the parent's */
		return keeper_say_vfork(n, m, len, fds, count);
	lock_acquire(n); /* the line is not replaced by a new one meanwhile */
	err = n->keeper_fd < 0 ? -ENOTCONN : message_send(n->keeper_fd, m, len, fds, count);
	lock_release(n);
	return err;
}

/* ------------------------------------------------------------ children */

int keeper_add(struct netio *n, ref proc, int *line)
{
	const struct proc *p = pool_at(&n->cx, proc);
	struct add_message m = {.type = MESSAGE_ADD, .proc = proc, .serial = p->serial};
	int pair[2], err;

	if (n->keeper_fd < 0)
		return -ENOTCONN;
	err = (int)netio_fd_call(SYS_socketpair, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, (long)pair);
	if (err)
		return err;
	/* Once the keeper knows of the slot it is the keeper's to free. */
	err = fds_keep(pair[0], line);
	if (!err)
		err = message_send(n->keeper_fd, &m, sizeof m, &pair[1], 1);
	raw_close(pair[1]);
	if (err && *line >= 0)
		fds_drop(line);
	return err;
}

/* ------------------------------------------------------------ exec */

int netio_before_exec(struct netio *n, bool passes)
{
	int err = keeper_start(n);

	if (err)
		return err;
	if (passes)
		RAW3(SYS_fcntl, n->keeper_fd, F_SETFD, 0);
	return n->keeper_fd;
}

bool netio_is_strange(const struct netio *n)
{
	return n->region.head->maker != (uint32_t)geteuid();
}

void netio_exec_failed(struct netio *n)
{
	if (n->keeper_fd >= 0)
		RAW3(SYS_fcntl, n->keeper_fd, F_SETFD, FD_CLOEXEC);
}

static bool readable_soon(int fd)
{
	return message_wait(fd, JOIN_MS) == 0;
}

bool netio_is_life_line(const struct netio *n, int fd)
{
	return fd == n->keeper_fd;
}

int netio_vfork_line(struct netio *n, const uint64_t *cookie, uint32_t count, bool blind)
{
	struct spawn_message m = {.type = MESSAGE_SPAWN, .count = count, .blind = blind};
	int pair[2], fds[MESSAGE_FDS], err, high;
	uint32_t known[2] = {0, 0};

	memcpy(m.cookie, cookie, count * sizeof *cookie);
	err = (int)netio_fd_call(SYS_socketpair, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, (long)pair);
	if (err)
		return err;
	err = keeper_say_vfork(n, &m, sizeof m, &pair[1], 1);
	raw_close(pair[1]);
	/* The parent goes on with our exec, and may close its own: not before the keeper holds for us. */
	if (!err &&
	    (!readable_soon(pair[0]) || message_receive(pair[0], known, sizeof known, fds) <= 0 || !known[1]))
		err = -ENOENT;
	high = err ? err : (int)RAW3(SYS_fcntl, pair[0], F_DUPFD, LINE_NUMBER);
	if (!err && high < 0)
		high = (int)netio_fd_call(SYS_fcntl, pair[0], F_DUPFD, 3, 0);
	raw_close(pair[0]);
	return high;
}

int netio_rejoin(int line, struct netio **out)
{
	uint32_t ask[2] = {MESSAGE_JOIN, 0};
	int fds[MESSAGE_FDS], type = 0, err = sys_init();
	struct attach_message m;
	socklen_t len = sizeof type;
	struct netio *n;

	/* The number may be anything in a program that inherited the variable alone. */
	if (!err &&
	    (RAW6(SYS_getsockopt, line, SOL_SOCKET, SO_TYPE, &type, &len, 0) || type != SOCK_SEQPACKET))
		err = -ENOTSOCK;
	if (!err)
		err = message_send(line, ask, sizeof ask, NULL, 0);
	if (!err && !readable_soon(line))
		err = -ETIMEDOUT;
	if (!err && message_receive_fds(line, &m, sizeof m, fds) != sizeof m)
		err = -EPROTO;
	if (!err)
		err = netio_join(line, &m, fds, &n);
	*out = err ? NULL : n;
	return err;
}

int netio_join(int line, const struct attach_message *m, const int fd[ATTACH_FDS], struct netio **out)
{
	struct netio *n;
	int copy, err = netio_adopt(m, fd, &n);

	*out = NULL;
	if (err)
		return err;
	copy = (int)netio_fd_call(SYS_fcntl, line, F_DUPFD_CLOEXEC, 3, 0);
	err = copy < 0 ? copy : fds_keep(copy, &n->keeper_fd);
	/* Before netio_leave(): a keeper that was killed just now gets its successor from there, described by
	 * us. */
	n->joined = true;
	n->fingerprint = m->fingerprint;
	netio_enter(n);
	if (!err && !proc_renew(n, &n->cx, m->proc, m->serial))
		err = -EPROTO;
	netio_leave(n);
	if (err) {
		netio_detach(n);
		return err;
	}
	network_join(n);
	raw_close(line);
	*out = n;
	return 0;
}

bool netio_is_joined(struct netio *n)
{
	return n->joined;
}
