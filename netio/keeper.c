/*
 * keeper.c - the process that notices when others die, and finishes for them
 * (design D6).
 *
 * Theory of operation. Whoever makes a stack starts its keeper: this library,
 * executed as a program. It is made by
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
 * leaves when no process is left, nothing is on its way (or nothing was
 * acknowledged for the time of UTCP_EXIT_DRAIN) and the last TIME-WAIT is over.
 *
 *   ATTACH  first message: the region, the device, the timer; the sender's slot
 *   ADD     a new process's slot, and the keeper's end of its life line
 *   ENTER   from a process that found the stack by its name (rendezvous.c): an
 *           ATTACH back, or REFUSE, or we hang up and leave the name to it
 *   SPAWN   from a child of vfork(), with the cookies of its sockets: a slot for it,
 *           with holds for those that are ours
 *   SOCKET  wanted: a socket of the stack's network namespace (network.c)
 *   PUMP    a connection for a program without hooks (pump.c)
 *   PASS, CLAIM, TAKEN  descriptors on their way to another process (passage.c)
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

#include "netio/instrument.h"
#include "netio/internal.h"
#include "netio/passage.h"
#include "netio/pump.h"

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

int message_receive(int from, void *data, size_t len, int fds[MESSAGE_FDS])
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

	fds[0] = fds[1] = fds[2] = fds[3] = -1;
	do {
		r = RAW3(SYS_recvmsg, from, &m, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	} while (r == -EINTR);
	if (r < 0)
		return (int)r;
	c = CMSG_FIRSTHDR(&m);
	if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
		memcpy(fds, CMSG_DATA(c), MIN_OF(c->cmsg_len - CMSG_LEN(0), MESSAGE_FDS * sizeof(int)));
	return (int)r;
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

/* ------------------------------------------------------------ starting it */

struct birth {
	const char *path;
	int line;
	void *stack; /* of the second clone */
	char *env[2 + INSTRUMENT_VARIABLES];
	const char *log; /* NULL: no stderr */
	int err;
};

/*
 * The C library's clone() under the name that nobody interposes. The thread
 * sanitizer's runtime takes clone() for a fork() and, since both processes have
 * the same memory, leaves its "ignore what this thread calls" twice for the once
 * that it entered it: from then on it sees no lock of the calling thread.
 */
int __clone(int (*fn)(void *), void *stack, int flags, void *arg, ...);

/*
 * The keeper-to-be. Shares our memory until the exec: system calls only. It never
 * returns, so that an instrument's entry without the exit would stay behind in the
 * parent: a frame on the call stack of our thread, marks on the borrowed stack.
 */
NOT_INSTRUMENTED static int grandchild(void *arg)
{
	struct birth *b = arg;
	char *argv[] = {(char *)(uintptr_t) "utcp-keeper", NULL};
	uint64_t none = 0;

	RAW1(SYS_setsid, 0);
	RAW1(SYS_chdir, "/");
	RAW3(SYS_dup3, b->line, KEEPER_FD, 0);
	RAW3(SYS_close_range, KEEPER_FD + 1, UINT32_MAX, 0);
	for (int fd = 0; fd < KEEPER_FD; fd++)
		RAW1(SYS_close, fd);
	RAW4(SYS_openat, AT_FDCWD, "/dev/null", O_RDWR, 0);
	RAW3(SYS_dup3, 0, 1, 0);
	if (!b->log || RAW4(SYS_openat, AT_FDCWD, b->log, O_WRONLY | O_APPEND | O_CREAT, 0600) < 0)
		RAW3(SYS_dup3, 0, 2, 0);
	RAW4(SYS_rt_sigprocmask, SIG_SETMASK, &none, NULL, SIGSET_BYTES);
	b->err = (int)RAW3(SYS_execve, b->path, argv, b->env);
	return 1;
}

static int child(void *arg)
{
	struct birth *b = arg;

	if (__clone(grandchild, (char *)b->stack + CLONE_STACK, CLONE_VM | CLONE_VFORK, b) < 0)
		b->err = -EAGAIN;
	return 0;
}

/* As in spawn() of a shell's double fork, but without a copy of our memory and without SIGCHLD. */
static int spawn(int line)
{
	struct birth b = {
	    .path = library_path, .line = line, .env = {(char *)(uintptr_t)NETIO_KEEPER_VARIABLE "=3"}};
	uint64_t all = UINT64_MAX, old;
	char *stacks = pages_alloc(2 * CLONE_STACK);
	int pid, status, saved_errno = errno;

	if (!stacks)
		return -ENOMEM;
	b.stack = stacks + CLONE_STACK;
	b.log = instrument_log();
	instrument_variables(b.env + 1);
	RAW4(SYS_rt_sigprocmask, SIG_SETMASK, &all, &old, SIGSET_BYTES);
	pid = __clone(child, stacks + CLONE_STACK, CLONE_VM | CLONE_VFORK, &b);
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

bool keeper_possible(void)
{
	return library_path[0] && !adopts_orphans();
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
	if (!keeper_possible() || n->dev.fd < 0 || n->dev.mem)
		return -ENOENT;
	err = (int)RAW4(SYS_socketpair, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair);
	if (err)
		return err;
	passages_forget(n);
	attach_describe(n, &m);
	m.drain_ms = drain_ms;
	err = message_send(pair[0], &m, sizeof m,
			   (int[]){n->region.fd, n->dev.fd, n->timer_fd, n->rendezvous_fd},
			   n->rendezvous_fd >= 0 ? MESSAGE_FDS : ATTACH_FDS);
	if (!err)
		err = spawn(pair[1]);
	raw_close(pair[1]);
	if (err) {
		raw_close(pair[0]);
		return err;
	}
	return fds_keep(pair[0], &n->keeper_fd);
}

int keeper_add(struct netio *n, ref proc, int *line)
{
	uint32_t m[2] = {MESSAGE_ADD, proc};
	int pair[2], err;

	if (n->keeper_fd < 0)
		return -ENOTCONN;
	err = (int)RAW4(SYS_socketpair, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair);
	if (err)
		return err;
	/* Once the keeper knows of the slot it is the keeper's to free. */
	err = fds_keep(pair[0], line);
	if (!err)
		err = message_send(n->keeper_fd, m, sizeof m, &pair[1], 1);
	raw_close(pair[1]);
	if (err && *line >= 0)
		fds_drop(line);
	return err;
}

/* ------------------------------------------------------------ exec */

int netio_before_exec(struct netio *n, bool passes)
{
	int err;

	netio_births_begin();
	err = keeper_start(n);
	netio_births_end();
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

static bool readable_soon(int fd)
{
	return message_wait(fd, JOIN_MS) == 0;
}

bool netio_is_life_line(const struct netio *n, int fd)
{
	return fd == n->keeper_fd;
}

#define LINE_NUMBER 512 /* out of the way of a program that knows nothing of the line */

int netio_vfork_line(struct netio *n, const uint64_t *cookie, uint32_t count)
{
	struct spawn_message m = {.type = MESSAGE_SPAWN, .count = count};
	int pair[2], fds[MESSAGE_FDS], err, high;
	uint32_t known[2] = {0, 0};

	if (n->keeper_fd < 0)
		return -ENOTCONN;
	memcpy(m.cookie, cookie, count * sizeof *cookie);
	err = (int)RAW4(SYS_socketpair, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair);
	if (err)
		return err;
	err = message_send(n->keeper_fd, &m, sizeof m, &pair[1], 1);
	raw_close(pair[1]);
	/* The parent goes on with our exec, and may close its own: not before the keeper holds for us. */
	if (!err &&
	    (!readable_soon(pair[0]) || message_receive(pair[0], known, sizeof known, fds) <= 0 || !known[1]))
		err = -ENOENT;
	high = err ? err : (int)RAW3(SYS_fcntl, pair[0], F_DUPFD, LINE_NUMBER);
	if (!err && high < 0)
		high = (int)RAW3(SYS_fcntl, pair[0], F_DUPFD, 3);
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
	if (!err && message_receive(line, &m, sizeof m, fds) != sizeof m)
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
	copy = (int)RAW3(SYS_fcntl, line, F_DUPFD_CLOEXEC, 3);
	err = copy < 0 ? copy : fds_keep(copy, &n->keeper_fd);
	netio_enter(n);
	if (!err && !proc_renew(n, &n->cx, m->proc))
		err = -EPROTO;
	netio_leave(n);
	if (err) {
		netio_detach(n);
		return err;
	}
	network_join(n);
	raw_close(line);
	n->joined = true;
	n->fingerprint = m->fingerprint;
	*out = n;
	return 0;
}

bool netio_is_joined(struct netio *n)
{
	return n->joined;
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
	uint32_t line_count, open; /* open: lines of processes */
	int listener;		   /* -1: nobody can find us */
	bool armed;		   /* device and timer are in the set */
	bool leaving;		   /* somebody waits for us to make room for another configuration */
	uint32_t drain_ms;
	nsec limit; /* give up what is left then; 0: nothing is left or somebody lives */
	uint32_t left;
	uint64_t bytes;
} keeper;

enum { EVENT_DEVICE = LINES_MAX, EVENT_TIMER, EVENT_LISTENER };

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
	k->open += proc != REF_NONE;
}

static void line_ended(struct keeper *k, struct line *l)
{
	struct netio *n = k->n;
	struct stack_cx *cx = netio_enter(n);

	if (l->proc) {
		proc_reap(n, cx, l->proc);
		pumps_forget_process(l->proc);
	}
	netio_drive(n, cx);
	netio_leave(n);
	raw_close(l->fd);
	k->open -= l->proc != REF_NONE;
	*l = (struct line){-1, REF_NONE};
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

/* A process that found us by the name. */
static void line_enter(struct keeper *k, struct line *l, const struct enter_message *m)
{
	struct netio *n = k->n;
	uint32_t refuse[2] = {MESSAGE_REFUSE, 0};
	bool same = m->fingerprint == n->fingerprint && !n->failure;

	if (!k->open && !pumps_live() && !passages_live() && (!same || m->fresh)) {
		k->leaving = true; /* it hears of it when we hang up */
		return;
	}
	if (same) {
		l->proc = proc_slot(n, netio_enter(n));
		netio_leave(n);
	}
	k->open += l->proc != REF_NONE;
	if (l->proc)
		line_answer(k, l);
	else
		message_send(l->fd, refuse, sizeof refuse, NULL, 0);
}

static void line_spawn(struct keeper *k, int fd, const struct spawn_message *m)
{
	struct netio *n = k->n;
	ref slot = proc_spawned(n, netio_enter(n), m);
	uint32_t known[2] = {MESSAGE_SPAWN, slot != REF_NONE};

	netio_leave(n);
	message_send(fd, known, sizeof known, NULL, 0);
	if (slot)
		line_open(k, fd, slot);
	else
		raw_close(fd);
}

static void line_accept(struct keeper *k)
{
	int fd = (int)RAW4(SYS_accept4, k->listener, NULL, NULL, SOCK_CLOEXEC);

	if (fd < 0)
		return;
	if (rendezvous_trusts(fd))
		line_open(k, fd, REF_NONE);
	else
		raw_close(fd);
}

static void line_read(struct keeper *k, struct line *l)
{
	int fds[MESSAGE_FDS], r;
	union {
		uint32_t word[2];
		struct enter_message enter;
		struct spawn_message spawn;
		struct pump_message pump;
		struct pass_message pass;
	} m;

	while ((r = message_receive(l->fd, &m, sizeof m, fds)) > 0) {
		if (r == sizeof m.word && m.word[0] == MESSAGE_ADD && fds[0] >= 0 && l->proc)
			line_open(k, fds[0], m.word[1]);
		else if (r == sizeof m.word && m.word[0] == MESSAGE_SOCKET && fds[0] >= 0 && l->proc)
			network_answer(k->n, fds[0]);
		else if (r == sizeof m.word && m.word[0] == MESSAGE_JOIN && l->proc)
			line_answer(k, l);
		else if (r == sizeof m.enter && m.enter.type == MESSAGE_ENTER && !l->proc)
			line_enter(k, l, &m.enter);
		else if (r == sizeof m.spawn && m.spawn.type == MESSAGE_SPAWN && fds[0] >= 0 && l->proc)
			line_spawn(k, fds[0], &m.spawn);
		else if (r == sizeof m.pump && m.pump.type == MESSAGE_PUMP && l->proc)
			pump_begin(k->n, k->epfd, &m.pump, fds[0], fds[1], l->proc);
		else if (r == sizeof m.pass && m.pass.type == MESSAGE_PASS && l->proc)
			passage_begin(k->n, k->epfd, &m.pass, fds);
		else if (r == sizeof m.pass && m.pass.type == MESSAGE_CLAIM && fds[0] >= 0 && l->proc)
			passage_claim(&m.pass, fds[0]);
		else if (r == sizeof m.pass && m.pass.type == MESSAGE_TAKEN && l->proc)
			passage_taken(k->n, m.pass.cookie);
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
	bool alone = k->open == 0 && !pumps_live() && !passages_live();
	uint32_t waits = k->leaving || k->listener < 0 ? 0 : pool_live(cx, POOL_TIMEWAIT);

	/* With pumps we wait as a thread of the stack does. */
	arm(k, n->region.head->drivers == 0 && !pumps_live());
	if (!alone || !left) {
		k->limit = 0;
	} else if (!k->limit || left != k->left || bytes != k->bytes) {
		k->limit = cx->now + k->drain_ms * NS_PER_MS;
		k->left = left;
		k->bytes = bytes;
	}
	alone = alone && ((!left && !waits) || (k->limit && cx->now >= k->limit) || n->failure);
	netio_leave(n);
	return !alone;
}

static void run(struct keeper *k)
{
	struct epoll_event ev[EVENTS];

	while (settle(k)) {
		nsec now = netio_now(), until = MIN_OF(k->limit ? k->limit : NSEC_NEVER, passages_look(k->n));
		int ms = until < NSEC_NEVER ? (int)((until - MIN_OF(now, until)) / NS_PER_MS) + 1 : -1;
		long count;
		bool drive = false;

		if (pumps_live()) {
			pumps_sleep(until);
			ms = 0;
		}
		count = RAW6(SYS_epoll_pwait, k->epfd, ev, EVENTS, ms, NULL, SIGSET_BYTES);
		for (long i = 0; i < count; i++) {
			if (ev[i].data.u64 == EVENT_LISTENER)
				line_accept(k);
			else if (ev[i].data.u64 >= PASSAGE_EVENTS)
				passage_event(k->n, ev[i].data.u64, ev[i].events);
			else if (ev[i].data.u64 >= PUMP_TAGS)
				pumps_event(ev[i].data.u64, ev[i].events);
			else if (ev[i].data.u64 >= LINES_MAX)
				drive = true;
			else if (k->lines[ev[i].data.u64].fd >= 0)
				line_read(k, &k->lines[ev[i].data.u64]);
		}
		if (passage_claims_wait()) {
			for (uint32_t i = 0; i < k->line_count; i++)
				if (k->lines[i].fd >= 0)
					line_read(k, &k->lines[i]);
			passage_claims_end();
		}
		pumps_run();
		/* Not if a driver has started meanwhile: it has been told, too, and may be capturing. */
		if (drive && k->armed && !__atomic_load_n(&k->n->region.head->drivers, __ATOMIC_RELAXED)) {
			netio_enter(k->n);
			netio_drive(k->n, &k->n->cx);
			netio_leave(k->n);
		}
	}
}

static bool begin(struct keeper *k, int control)
{
	struct attach_message m;
	int fds[MESSAGE_FDS];

	if (sys_init() || message_receive(control, &m, sizeof m, fds) != sizeof m || m.type != MESSAGE_ATTACH)
		return false;
	if (netio_adopt(&m, fds, &k->n))
		return false;
	k->drain_ms = m.drain_ms;
	k->n->fingerprint = m.fingerprint;
	k->listener = fds[3];
	k->lines = pages_alloc(LINES_MAX * sizeof *k->lines);
	k->epfd = (int)RAW1(SYS_epoll_create1, EPOLL_CLOEXEC);
	if (!k->lines || k->epfd < 0)
		return false;
	pumps_recover(k->n);
	line_open(k, control, m.proc);
	if (k->listener >= 0)
		watch(k, EPOLL_CTL_ADD, k->listener, EVENT_LISTENER);
	return true;
}

void netio_keeper_main(const char *value)
{
	uint64_t quiet = 1ull << (SIGHUP - 1) | 1ull << (SIGINT - 1) | 1ull << (SIGPIPE - 1);
	int control = KEEPER_FD;

	(void)value;
	RAW4(SYS_rt_sigprocmask, SIG_BLOCK, &quiet, NULL, SIGSET_BYTES);
	RAW2(SYS_prctl, PR_SET_NAME, "utcp-keeper");
	if (begin(&keeper, control)) {
		run(&keeper);
		/* The device is free before anybody who waits for our end can see it. */
		if (keeper.n->dev.fd >= 0)
			keeper.n->dev.ops->close(&keeper.n->dev);
	}
	instrument_end();
	for (;;)
		RAW1(SYS_exit_group, 0);
}
