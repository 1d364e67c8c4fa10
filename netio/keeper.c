/*
 * keeper.c - the process that notices when others die, and finishes for them
 * (design D6).
 *
 * Theory of operation. A process that fork()s while it has a stack starts the
 * keeper, if there is none: this library, executed as a program. It is made by
 * two nested clone()s with no exit signal, the first of which ends at once: so
 * it is nobody's child that wait() could return, holds no descriptor of the
 * application's, and has a session of its own. It maps the region and gets the
 * device and the timer over a socket.
 *
 * Every attached process has a life line: a socket whose other end the keeper
 * holds. Whatever ends the process closes it; the keeper then drops what the
 * process had a part in (procs.c), takes what the device has queued (the dead
 * one may have been elected to), and sees to it that orphaned connections send
 * the rest. It drives the stack only while no process has a driver thread. It
 * leaves when no process is left and nothing is on its way, or nothing was
 * acknowledged for the time of UTCP_EXIT_DRAIN.
 *
 *   ATTACH  first message: the region, the device, the timer; the sender's slot
 *   ADD     a new process's slot, and the keeper's end of its life line
 *   JOIN    a new image of the process (exec): it gets an ATTACH back
 *
 * A line that hangs up without its process having begun (fork() failed) is the
 * same case as a death.
 *
 * Place in the flow: procs.c starts it and announces children; preload's entry
 * point calls netio_keeper_main() in the new process.
 */
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "netio/internal.h"

#define CLONE_STACK  16384u
#define KEEPER_FD    3
#define LINES_MAX    65536u
#define EVENTS	     16
#define SIGSET_BYTES 8 /* of the kernel's sigset_t */

static char library_path[4096];
static uint32_t drain_ms = 2000;

void netio_set_keeper(const char *library, uint32_t ms)
{
	size_t len = strlen(library);

	if (len < sizeof library_path)
		memcpy(library_path, library, len + 1);
	drain_ms = ms;
}

/* ------------------------------------------------------------ messages */

/* One message with descriptors. 0 or a negative errno. */
static int message_send(int to, const void *data, size_t len, const int *fds, uint32_t count)
{
	struct iovec iov = {(void *)(uintptr_t)data, len};
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(ATTACH_FDS * sizeof(int))];
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

/* Bytes; 0: hung up; a negative errno. Descriptors that did not come are -1. */
static int message_receive(int from, void *data, size_t len, int fds[ATTACH_FDS])
{
	struct iovec iov = {data, len};
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(ATTACH_FDS * sizeof(int))];
	} control;
	struct msghdr m = {
	    .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control};
	struct cmsghdr *c;
	long r;

	fds[0] = fds[1] = fds[2] = -1;
	do {
		r = RAW3(SYS_recvmsg, from, &m, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	} while (r == -EINTR);
	if (r < 0)
		return (int)r;
	c = CMSG_FIRSTHDR(&m);
	if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
		memcpy(fds, CMSG_DATA(c), MIN_OF(c->cmsg_len - CMSG_LEN(0), ATTACH_FDS * sizeof(int)));
	return (int)r;
}

/* ------------------------------------------------------------ starting it */

struct birth {
	const char *path;
	int line;
	void *stack; /* of the second clone */
	int err;
};

/* The keeper-to-be. Shares our memory until the exec: system calls only. */
static int grandchild(void *arg)
{
	struct birth *b = arg;
	char *argv[] = {(char *)(uintptr_t) "utcp-keeper", NULL};
	char *envp[] = {(char *)(uintptr_t)NETIO_KEEPER_VARIABLE "=3", NULL};
	uint64_t none = 0;

	RAW1(SYS_setsid, 0);
	RAW1(SYS_chdir, "/");
	RAW3(SYS_dup3, b->line, KEEPER_FD, 0);
	RAW3(SYS_close_range, KEEPER_FD + 1, UINT32_MAX, 0);
	for (int fd = 0; fd < KEEPER_FD; fd++)
		raw_close(fd);
	RAW4(SYS_openat, AT_FDCWD, "/dev/null", O_RDWR, 0);
	RAW3(SYS_dup3, 0, 1, 0);
	RAW3(SYS_dup3, 0, 2, 0);
	RAW4(SYS_rt_sigprocmask, SIG_SETMASK, &none, NULL, SIGSET_BYTES);
	b->err = (int)RAW3(SYS_execve, b->path, argv, envp);
	return 1;
}

static int child(void *arg)
{
	struct birth *b = arg;

	if (clone(grandchild, (char *)b->stack + CLONE_STACK, CLONE_VM | CLONE_VFORK, b) < 0)
		b->err = -EAGAIN;
	return 0;
}

/* As in spawn() of a shell's double fork, but without a copy of our memory and without SIGCHLD. */
static int spawn(int line)
{
	struct birth b = {library_path, line, NULL, 0};
	uint64_t all = UINT64_MAX, old;
	char *stacks = pages_alloc(2 * CLONE_STACK);
	int pid, status, saved_errno = errno;

	if (!stacks)
		return -ENOMEM;
	b.stack = stacks + CLONE_STACK;
	RAW4(SYS_rt_sigprocmask, SIG_SETMASK, &all, &old, SIGSET_BYTES);
	pid = clone(child, stacks + CLONE_STACK, CLONE_VM | CLONE_VFORK, &b);
	if (pid < 0)
		b.err = -EAGAIN;
	else
		RAW4(SYS_wait4, pid, &status, __WALL, NULL);
	RAW4(SYS_rt_sigprocmask, SIG_SETMASK, &old, NULL, SIGSET_BYTES);
	pages_free(stacks, 2 * CLONE_STACK);
	errno = saved_errno;
	return b.err;
}

/* Whoever inherits orphans would have to reap the keeper, or could not live without it. */
static bool adopts_orphans(void)
{
	int subreaper = 0;

	return getpid() == 1 || (RAW2(SYS_prctl, PR_GET_CHILD_SUBREAPER, &subreaper) == 0 && subreaper);
}

bool keeper_alive(struct netio *n)
{
	struct pollfd p = {.fd = n->keeper_fd, .events = POLLIN};
	struct timespec zero = {0, 0};

	if (n->keeper_fd < 0)
		return false;
	return RAW6(SYS_ppoll, &p, 1, &zero, NULL, 0, 0) == 0;
}

bool netio_is_kept(struct netio *n)
{
	return !n->forgotten && keeper_alive(n);
}

int keeper_start(struct netio *n)
{
	struct attach_message m;
	int pair[2], err;

	if (keeper_alive(n))
		return 0;
	if (n->keeper_fd >= 0)
		fds_drop(&n->keeper_fd);
	if (!library_path[0] || adopts_orphans() || n->dev.fd < 0 || n->dev.mem)
		return -ENOENT;
	err = (int)RAW4(SYS_socketpair, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair);
	if (err)
		return err;
	attach_describe(n, &m);
	m.drain_ms = drain_ms;
	err = message_send(pair[0], &m, sizeof m, (int[]){n->region.fd, n->dev.fd, n->timer_fd}, ATTACH_FDS);
	if (!err)
		err = spawn(pair[1]);
	raw_close(pair[1]);
	if (err) {
		raw_close(pair[0]);
		return err;
	}
	return fds_keep(pair[0], &n->keeper_fd);
}

int keeper_add(struct netio *n, ref proc)
{
	uint32_t m[2] = {MESSAGE_ADD, proc};
	int pair[2], err;

	if (n->keeper_fd < 0)
		return -ENOTCONN;
	err = (int)RAW4(SYS_socketpair, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair);
	if (err)
		return err;
	err = message_send(n->keeper_fd, m, sizeof m, &pair[1], 1);
	raw_close(pair[1]);
	if (err) {
		raw_close(pair[0]);
		return err;
	}
	return fds_keep(pair[0], &n->forking.line);
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

void netio_exec_failed(struct netio *n)
{
	if (n->keeper_fd >= 0)
		RAW3(SYS_fcntl, n->keeper_fd, F_SETFD, FD_CLOEXEC);
}

#define JOIN_MS 2000

int netio_rejoin(int line, struct netio **out)
{
	uint32_t ask[2] = {MESSAGE_JOIN, 0};
	struct pollfd p = {.fd = line, .events = POLLIN};
	struct timespec ts = {JOIN_MS / 1000, 0};
	int fds[ATTACH_FDS], type = 0, err = sys_init();
	struct attach_message m;
	socklen_t len = sizeof type;
	struct netio *n;
	bool mine;

	/* The number may be anything in a program that inherited the variable alone. */
	if (!err &&
	    (RAW6(SYS_getsockopt, line, SOL_SOCKET, SO_TYPE, &type, &len, 0) || type != SOCK_SEQPACKET))
		err = -ENOTSOCK;
	if (!err)
		err = message_send(line, ask, sizeof ask, NULL, 0);
	if (!err && RAW6(SYS_ppoll, &p, 1, &ts, NULL, 0, 0) != 1)
		err = -ETIMEDOUT;
	if (!err && message_receive(line, &m, sizeof m, fds) != sizeof m)
		err = -EPROTO;
	if (!err)
		err = netio_adopt(&m, fds, &n);
	if (err)
		return err;
	err = fds_keep(line, &n->keeper_fd);
	netio_enter(n);
	mine = proc_renew(n, &n->cx, m.proc);
	netio_leave(n);
	*out = n;
	return err ? err : mine ? 0 : -EPROTO;
}

/* ------------------------------------------------------------ the process */

struct line {
	int fd; /* -1: free */
	ref proc;
};

static struct keeper {
	struct netio *n;
	int epfd;
	struct line *lines;
	uint32_t line_count, open;
	bool armed; /* device and timer are in the set */
	uint32_t drain_ms;
	nsec limit; /* give up what is left then; 0: nothing is left or somebody lives */
	uint32_t left;
	uint64_t bytes;
} keeper;

enum { EVENT_DEVICE = LINES_MAX, EVENT_TIMER };

static int watch(struct keeper *k, int op, int fd, uint64_t tag)
{
	struct epoll_event e = {.events = EPOLLIN, .data.u64 = tag};

	return (int)RAW4(SYS_epoll_ctl, k->epfd, op, fd, &e);
}

static void line_open(struct keeper *k, int fd, ref proc)
{
	uint32_t i = 0;

	while (i < k->line_count && k->lines[i].fd >= 0)
		i++;
	if (i == LINES_MAX || watch(k, EPOLL_CTL_ADD, fd, i)) {
		raw_close(fd);
		return;
	}
	k->line_count = MAX_OF(k->line_count, i + 1);
	k->lines[i] = (struct line){fd, proc};
	k->open++;
}

static void line_ended(struct keeper *k, struct line *l)
{
	struct netio *n = k->n;
	struct stack_cx *cx = netio_enter(n);

	proc_reap(n, cx, l->proc);
	netio_drive(n, cx);
	netio_leave(n);
	raw_close(l->fd);
	l->fd = -1;
	k->open--;
}

static void line_answer(struct keeper *k, const struct line *l)
{
	struct netio *n = k->n;
	struct attach_message m;

	attach_describe(n, &m);
	m.proc = l->proc;
	m.drain_ms = k->drain_ms;
	message_send(l->fd, &m, sizeof m, (int[]){n->region.fd, n->dev.fd, n->timer_fd}, ATTACH_FDS);
}

static void line_read(struct keeper *k, struct line *l)
{
	int fds[ATTACH_FDS], r;
	uint32_t m[2];

	while ((r = message_receive(l->fd, m, sizeof m, fds)) > 0) {
		if (r == sizeof m && m[0] == MESSAGE_ADD && fds[0] >= 0)
			line_open(k, fds[0], m[1]);
		else if (r == sizeof m && m[0] == MESSAGE_JOIN)
			line_answer(k, l);
	}
	if (r != -EAGAIN)
		line_ended(k, l);
}

static void arm(struct keeper *k, bool on)
{
	if (on == k->armed)
		return;
	k->armed = on;
	if (k->n->dev.fd >= 0)
		watch(k, on ? EPOLL_CTL_ADD : EPOLL_CTL_DEL, k->n->dev.fd, EVENT_DEVICE);
	watch(k, on ? EPOLL_CTL_ADD : EPOLL_CTL_DEL, k->n->timer_fd, EVENT_TIMER);
}

/* Who drives, and is there still something to do? */
static bool settle(struct keeper *k)
{
	struct netio *n = k->n;
	struct stack_cx *cx = netio_enter(n);
	uint32_t left = stack_draining(cx);
	uint64_t bytes = stack_buffer_bytes(cx);
	bool alone = k->open == 0;

	arm(k, n->region.head->drivers == 0);
	if (!alone || !left) {
		k->limit = 0;
	} else if (!k->limit || left != k->left || bytes != k->bytes) {
		k->limit = cx->now + k->drain_ms * NS_PER_MS;
		k->left = left;
		k->bytes = bytes;
	}
	alone = alone && (!left || cx->now >= k->limit || n->failure);
	netio_leave(n);
	return !alone;
}

static void run(struct keeper *k)
{
	struct epoll_event ev[EVENTS];

	while (settle(k)) {
		nsec now = netio_now();
		int ms = k->limit ? (int)((k->limit - MIN_OF(now, k->limit)) / NS_PER_MS) + 1 : -1;
		long count = RAW6(SYS_epoll_pwait, k->epfd, ev, EVENTS, ms, NULL, SIGSET_BYTES);
		bool drive = false;

		for (long i = 0; i < count; i++) {
			if (ev[i].data.u64 >= LINES_MAX)
				drive = true;
			else if (k->lines[ev[i].data.u64].fd >= 0)
				line_read(k, &k->lines[ev[i].data.u64]);
		}
		if (drive && k->armed) {
			netio_enter(k->n);
			netio_drive(k->n, &k->n->cx);
			netio_leave(k->n);
		}
	}
}

static bool begin(struct keeper *k, int control)
{
	struct attach_message m;
	int fds[ATTACH_FDS];

	if (sys_init() || message_receive(control, &m, sizeof m, fds) != sizeof m || m.type != MESSAGE_ATTACH)
		return false;
	if (netio_adopt(&m, fds, &k->n))
		return false;
	k->drain_ms = m.drain_ms;
	k->lines = pages_alloc(LINES_MAX * sizeof *k->lines);
	k->epfd = (int)RAW1(SYS_epoll_create1, EPOLL_CLOEXEC);
	if (!k->lines || k->epfd < 0)
		return false;
	line_open(k, control, m.proc);
	return true;
}

void netio_keeper_main(const char *value)
{
	uint64_t quiet = 1ull << (SIGHUP - 1) | 1ull << (SIGINT - 1) | 1ull << (SIGPIPE - 1);
	int control = KEEPER_FD;

	(void)value;
	RAW4(SYS_rt_sigprocmask, SIG_BLOCK, &quiet, NULL, SIGSET_BYTES);
	RAW2(SYS_prctl, PR_SET_NAME, "utcp-keeper");
	if (begin(&keeper, control))
		run(&keeper);
	for (;;)
		RAW1(SYS_exit_group, 0);
}
