/*
 * keeper.c - the process that notices when others die, and finishes for them
 * (design D6).
 *
 * Theory of operation. Whoever makes a stack starts its keeper: this library,
 * executed as a program (respawn.c). It maps the region and gets the device and
 * the timer over a socket. When it is killed, the processes start another.
 *
 * Every attached process has a life line: a socket whose other end the keeper
 * holds. Whatever ends the process closes it; the keeper then drops what the
 * process had a part in (procs.c), takes what the device has queued (the dead
 * one may have been elected to), and sees to it that orphaned connections send
 * the rest. It drives the stack only while no process has a driver thread. It
 * leaves when no process is left, nothing is on its way (or nothing was
 * acknowledged for the time of UTCP_EXIT_DRAIN), no peer has yet to close, and
 * the last TIME-WAIT is over.
 *
 *   ATTACH  first message: the region, the device, the timer; the sender's slot
 *   ADD     a new process's slot, and the keeper's end of its life line
 *   ENTER   from a process that found the stack by its name (rendezvous.c): an
 *           ATTACH back, or REFUSE, or we hang up and leave the name to it
 *   SPAWN   from a child of vfork(), with the cookies of its sockets: a slot for it,
 *           with holds for those that are ours
 *   BLIND   the process will run without hooks, or will not after all (forward.c)
 *   SOCKET  wanted: a socket of the stack's network namespace (network.c)
 *   PUMP    a connection for a program without hooks (pump.c)
 *   PASS, CLAIM, TAKEN  descriptors on their way to another process (passage.c)
 *   KEEP    bell and post of an epoll set that is passed on (kept.c)
 *   JOIN    a new image of the process (exec): it gets an ATTACH back
 *   RETURN  from a process whose keeper was killed, on a line of its own making
 *
 * A line that hangs up without its process having begun (fork() failed) is the
 * same case as a death.
 *
 * Place in the flow: procs.c starts it, lifeline.c speaks for the processes; preload's entry
 * point calls netio_keeper_main() in the new process.
 */
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "netio/instrument.h"
#include "netio/forward.h"
#include "netio/internal.h"
#include "netio/passage.h"
#include "netio/pump.h"

#define LINES_MAX	 65536u
#define STRANGERS_MAX	 256 /* lines that have not said yet whose they are */
#define EVENTS		 16
#define NUMBERS_MAX	 262144u
#define SIGSET_BYTES	 8 /* of the kernel's sigset_t */
#define MISSING_NS	 (500 * NS_PER_MS)
#define HASTY_NS	 NS_PER_S
#define UNKNOWN_PATIENCE (10 * NS_PER_S) /* for a slot whose process has never been seen */

/* ------------------------------------------------------------ the process */

struct line {
	int fd; /* -1: free */
	ref proc;
	uint32_t serial; /* of the process */
	bool trusted;	 /* of a user whom we would tell everything */
};

static struct keeper {
	struct netio *n;
	int epfd;
	struct line *lines;
	uint32_t line_count, open; /* open: lines of processes */
	int listener;		   /* -1: nobody can find us */
	bool armed;		   /* device and timer are in the set */
	bool leaving;		   /* somebody waits for us to make room for another configuration */
	bool missing;		   /* processes of an earlier keeper have not returned */
	uint32_t strangers;	   /* lines without a process */
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

/* The line is from now on that of the process in place `proc`, if it is still there. Lock held. */
static bool line_bind(struct keeper *k, struct line *l, ref proc, uint32_t serial)
{
	struct stack_cx *cx = &k->n->cx;
	struct proc *p = pool_at(cx, proc);

	if (!proc_is_current(cx, proc, serial))
		return false;
	l->proc = proc;
	l->serial = serial;
	p->keeper = k->n->region.head->keepers;
	k->open++;
	k->strangers--;
	return true;
}

/* A line, of nobody yet. NULL: no room; fd is closed. */
static struct line *line_open(struct keeper *k, int fd, bool trusted)
{
	uint32_t i = 0;

	while (i < k->line_count && k->lines[i].fd >= 0)
		i++;
	if (i == LINES_MAX || watch(k, EPOLL_CTL_ADD, fd, i)) {
		raw_close(fd);
		return NULL;
	}
	k->line_count = MAX_OF(k->line_count, i + 1);
	k->lines[i] = (struct line){.fd = fd, .trusted = trusted};
	k->strangers++;
	return &k->lines[i];
}

/* Does it stand for the process in that place still? */
static bool line_is_current(struct keeper *k, const struct line *l)
{
	return proc_is_current(&k->n->cx, l->proc, l->serial);
}

/*
 * A process that ends gives its record lock back before the line hangs up (the kernel closes all files, then
 * drops what they were). Who holds it still has lost the line alone, and will return.
 */
static void process_ended(struct keeper *k, ref proc)
{
	struct netio *n = k->n;
	struct stack_cx *cx = &n->cx;

	if (proc_lives(n, proc)) {
		((struct proc *)pool_at(cx, proc))->keeper = 0;
		k->missing = true;
		return;
	}
	proc_reap(n, cx, proc);
	pumps_forget_process(proc);
}

static void line_ended(struct keeper *k, struct line *l)
{
	struct netio *n = k->n;
	struct stack_cx *cx = netio_enter(n);

	if (line_is_current(k, l))
		process_ended(k, l->proc);
	netio_drive(n, cx);
	netio_leave(n);
	raw_close(l->fd);
	k->open -= l->proc != REF_NONE;
	k->strangers -= l->proc == REF_NONE;
	*l = (struct line){.fd = -1};
	kept_sweep(n);
	forwards_update(n, k->epfd);
}

/* A line that somebody else has made for a process. */
static void line_begin(struct keeper *k, int fd, ref proc, uint32_t serial)
{
	struct line *l = line_open(k, fd, true);
	bool bound;

	if (!l)
		return;
	netio_enter(k->n);
	bound = line_bind(k, l, proc, serial);
	netio_leave(k->n);
	if (!bound)
		line_ended(k, l); /* reaped before we read of the line */
}

static void line_answer(struct keeper *k, const struct line *l)
{
	struct netio *n = k->n;
	struct attach_message m;
	int fds[ATTACH_FDS];

	attach_describe(n, &m);
	m.proc = l->proc;
	m.serial = l->serial;
	m.drain_ms = k->drain_ms;
	attach_fds(n, fds);
	message_send(l->fd, &m, sizeof m, fds, ATTACH_FDS);
}

static void line_refuse(const struct line *l, uint32_t reason)
{
	uint32_t m[2] = {MESSAGE_REFUSE, reason};

	message_send(l->fd, m, sizeof m, NULL, 0);
}

/* A process that found us by the name. */
static void line_enter(struct keeper *k, struct line *l, const struct enter_message *m)
{
	struct netio *n = k->n;
	bool like = m->layout == netio_layout();
	bool same = like && m->fingerprint == n->fingerprint && !n->failure;
	ref slot;

	if (!k->open && !k->missing && !pumps_live() && !passages_live() && (!same || m->fresh)) {
		k->leaving = true; /* it hears of it when we hang up */
		return;
	}
	if (same) {
		slot = proc_slot(n, netio_enter(n));
		if (slot)
			line_bind(k, l, slot, ((struct proc *)pool_at(&n->cx, slot))->serial);
		netio_leave(n);
	}
	if (l->proc)
		line_answer(k, l);
	else
		line_refuse(l, !like ? REFUSE_LAYOUT : same ? REFUSE_MEMORY : REFUSE_SETTINGS);
}

/* A process of the stack, whose line to the keeper before us hung up. False: it is none. */
static bool line_return(struct keeper *k, struct line *l, const struct return_message *m)
{
	struct netio *n = k->n;
	struct line claim = {.proc = m->proc, .serial = m->serial};
	bool known;

	netio_enter(n);
	known = m->secret == n->region.head->secret && line_is_current(k, &claim);
	for (uint32_t i = 0; known && i < k->line_count; i++) {
		/* It has made another meanwhile. */
		if (k->lines[i].fd >= 0 && k->lines[i].proc == m->proc) {
			k->lines[i].proc = REF_NONE;
			k->open--;
			k->strangers++;
		}
	}
	if (known)
		line_bind(k, l, m->proc, m->serial);
	netio_leave(n);
	return known;
}

static void line_spawn(struct keeper *k, int fd, const struct spawn_message *m)
{
	struct netio *n = k->n;
	struct stack_cx *cx = netio_enter(n);
	ref slot = proc_spawned(n, cx, m);
	uint32_t known[2] = {MESSAGE_SPAWN, slot != REF_NONE};
	struct ucred u = {0};
	socklen_t len = sizeof u;
	struct proc *p = pool_at(cx, slot);
	uint32_t serial = slot ? p->serial : 0;

	/* The child of vfork() that made the line, and which keeps its number over the exec. */
	if (slot && !RAW6(SYS_getsockopt, fd, SOL_SOCKET, SO_PEERCRED, &u, &len, 0))
		p->pid = u.pid;
	netio_leave(n);
	message_send(fd, known, sizeof known, NULL, 0);
	if (slot)
		line_begin(k, fd, slot, serial);
	else
		raw_close(fd);
	forwards_update(n, k->epfd);
}

/* Whoever is of another user must know the secret (RETURN). */
static void line_accept(struct keeper *k)
{
	int fd = (int)RAW4(SYS_accept4, k->listener, NULL, NULL, SOCK_CLOEXEC);
	bool trusted = fd >= 0 && rendezvous_trusts(fd);

	if (fd < 0)
		return;
	if (trusted || k->strangers < STRANGERS_MAX)
		line_open(k, fd, trusted);
	else
		raw_close(fd);
}

union message {
	uint32_t word[2];
	struct enter_message enter;
	struct add_message add;
	struct spawn_message spawn;
	struct return_message back;
	struct pump_message pump;
	struct turn_message turn;
	struct pass_message pass;
	uint64_t room[64]; /* what we do not know must not look like what we do */
};

/* What a line without a process may say. False: hang up. */
static bool stranger_said(struct keeper *k, struct line *l, const union message *m, int len)
{
	if (len == sizeof m->back && m->back.type == MESSAGE_RETURN)
		return line_return(k, l, &m->back);
	if (!l->trusted)
		return false;
	if (len == sizeof m->enter && m->enter.type == MESSAGE_ENTER)
		line_enter(k, l, &m->enter);
	else
		line_refuse(l, REFUSE_LAYOUT);
	return true;
}

static int process_said_more(struct keeper *k, struct line *l, const union message *m, int len,
			     const int *fds)
{
	if (len == sizeof m->pump && m->pump.type == MESSAGE_PUMP) {
		pump_begin(k->n, k->epfd, &m->pump, fds, l->proc);
		return 3;
	}
	if (len == sizeof m->turn && m->turn.type == MESSAGE_TURN && fds[0] >= 0) {
		pump_turn(&m->turn, fds[0]);
		return 1;
	}
	if (len == sizeof m->pass && m->pass.type == MESSAGE_PASS) {
		passage_begin(k->n, k->epfd, &m->pass, fds);
		return 2;
	}
	if (len == sizeof m->pass && m->pass.type == MESSAGE_KEEP) {
		kept_begin(k->n, &m->pass, fds);
		return 2;
	}
	if (len == sizeof m->pass && m->pass.type == MESSAGE_TAKEN)
		passage_taken(k->n, m->pass.cookie);
	else if (len == sizeof m->word && m->word[0] == MESSAGE_BLIND)
		forwards_update(k->n, k->epfd);
	else if (len == sizeof m->word && m->word[0] == MESSAGE_JOIN)
		line_answer(k, l);
	return 0;
}

/* What a process may say. How many of the descriptors it was that were taken over. */
static int process_said(struct keeper *k, struct line *l, const union message *m, int len, const int *fds)
{
	if (len == sizeof m->add && m->add.type == MESSAGE_ADD && fds[0] >= 0)
		line_begin(k, fds[0], m->add.proc, m->add.serial);
	else if (len == sizeof m->spawn && m->spawn.type == MESSAGE_SPAWN && fds[0] >= 0)
		line_spawn(k, fds[0], &m->spawn);
	else if (len == sizeof m->pass && m->pass.type == MESSAGE_CLAIM && fds[0] >= 0)
		passage_claim(&m->pass, fds[0]);
	else if (len == sizeof m->word && m->word[0] == MESSAGE_SOCKET && fds[0] >= 0)
		network_answer(k->n, fds[0]);
	else
		return process_said_more(k, l, m, len, fds);
	return 1;
}

static void line_read(struct keeper *k, struct line *l)
{
	int fds[MESSAGE_FDS], r;
	union message m;
	int taken;

	while ((r = message_receive(l->fd, &m, sizeof m, fds)) > 0) {
		taken = 0;
		if (l->proc)
			taken = process_said(k, l, &m, r, fds);
		else if (!stranger_said(k, l, &m, r))
			r = -EPERM;
		for (int i = taken; i < MESSAGE_FDS; i++)
			if (fds[i] >= 0)
				raw_close(fds[i]);
		if (r < 0)
			break;
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

/*
 * Nobody has signed the slot. A forked child does so as soon as it runs: one that has not for so long never
 * came to be, or was killed with whoever knew of it. A program that was spawned may not be preloaded: nobody
 * can tell, until it is the last.
 */
static bool may_be_unborn(const struct keeper *k, struct proc *p, nsec now)
{
	if (p->pid)
		return false;
	if (!p->doubted)
		p->doubted = now;
	return now - p->doubted < UNKNOWN_PATIENCE || (k->open && !p->forked);
}

/* Processes of an earlier keeper that have no line to us: the dead ones are reaped. */
static void look_for_missing(struct keeper *k)
{
	struct netio *n = k->n;
	struct region_head *h = n->region.head;
	struct stack_cx *cx = netio_enter(n);
	bool reaped = false;
	ref next;

	k->missing = false;
	for (ref r = h->procs; r; r = next) {
		struct proc *p = pool_at(cx, r);

		next = p->next;
		if (p->keeper == h->keepers || r == h->keeper || r == h->passages)
			continue;
		if (may_be_unborn(k, p, cx->now) || !proc_is_gone(n, cx, r)) {
			k->missing = true;
		} else {
			proc_reap(n, cx, r);
			reaped = true;
		}
	}
	/* What the dead were told of, nothing else: the living may be capturing. */
	if (reaped)
		netio_drive(n, cx);
	netio_leave(n);
	forwards_update(n, k->epfd);
}

/* Who drives, and is there still something to do? */
static bool settle(struct keeper *k)
{
	struct netio *n = k->n;
	struct stack_cx *cx = netio_enter(n);
	uint32_t left = stack_draining(cx);
	uint64_t bytes = stack_buffer_bytes(cx);
	bool alone = k->open == 0 && !k->missing && !pumps_live() && !passages_live();
	/* Who cannot find us cannot ask us to make room: then TIME-WAITs are not worth the device. */
	bool found = k->listener >= 0 && !rendezvous_is_private(&n->region.head->name);
	/* A peer that has yet to close must find somebody who answers its FIN. */
	uint32_t waits = k->leaving ? 0 : stack_orphans(cx) + (found ? pool_live(cx, POOL_TIMEWAIT) : 0);

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
		int ms;
		bool drive = false;
		long count;

		until = MIN_OF(until, forwards_next());
		if (k->missing)
			until = MIN_OF(until, now + MISSING_NS);
		ms = until < NSEC_NEVER ? (int)((until - MIN_OF(now, until)) / NS_PER_MS) + 1 : -1;
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
		if (k->missing)
			look_for_missing(k);
		/* Not if a driver has started meanwhile: it has been told, too, and may be capturing. */
		if (drive && k->armed && !__atomic_load_n(&k->n->region.head->drivers, __ATOMIC_RELAXED)) {
			netio_enter(k->n);
			netio_drive(k->n, &k->n->cx);
			netio_leave(k->n);
		}
	}
}

/* Every process hears of us: who waits sees its old line hang up, a parked driver is woken. */
static void be_born(struct keeper *k)
{
	struct region_head *h = k->n->region.head;
	struct stack_cx *cx = netio_enter(k->n);

	h->hasty = cx->now - h->keeper_born < HASTY_NS ? h->hasty + 1 : 0;
	h->keeper_born = cx->now;
	h->keepers++;
	netio_leave(k->n);
	driver_unpark(k->n);
}

/* A line for each process, a pair for each pump: whoever started us may have had a low limit. */
static void numbers_raise(void)
{
	struct rlimit files;

	if (RAW4(SYS_prlimit64, 0, RLIMIT_NOFILE, NULL, &files))
		return;
	files.rlim_cur = MIN_OF(files.rlim_max, (rlim_t)NUMBERS_MAX);
	RAW4(SYS_prlimit64, 0, RLIMIT_NOFILE, &files, NULL);
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
	k->n->is_keeper = true;
	k->listener = fds[ATTACH_FDS];
	k->lines = pages_alloc(LINES_MAX * sizeof *k->lines);
	k->epfd = (int)RAW1(SYS_epoll_create1, EPOLL_CLOEXEC);
	if (!k->lines || k->epfd < 0)
		return false;
	k->n->keeper_set = k->epfd;
	numbers_raise();
	pumps_recover(k->n);
	be_born(k);
	line_begin(k, control, m.proc, m.serial);
	if (k->listener >= 0)
		watch(k, EPOLL_CTL_ADD, k->listener, EVENT_LISTENER);
	look_for_missing(k);
	return true;
}

void netio_keeper_main(const char *value)
{
	uint64_t quiet = 1ull << (SIGHUP - 1) | 1ull << (SIGINT - 1) | 1ull << (SIGPIPE - 1);
	int control = KEEPER_FD;

	(void)value;
	RAW4(SYS_rt_sigprocmask, SIG_SETMASK, &quiet, NULL, SIGSET_BYTES);
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
