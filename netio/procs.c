/*
 * procs.c - the processes of a stack, and what each has a part in.
 *
 * Theory of operation. fork() gives a child copies of its parent's descriptors,
 * and so a part in every open file description and epoll set behind them. The
 * kernel counts references; a count alone cannot be put right when a process
 * dies without a word. So each part is a record, a hold, in two places: it
 * names its object, whose `holders` counts the processes, and it hangs on its
 * process's list. The calls in progress and the numbers of one process are
 * counted in that process's own memory (preload/fdtable.c), which dies with it.
 *
 *   proc -- hold -- hold -- hold            region, lock held
 *             |       |       |
 *            desc    desc   evset           object: holders
 *
 * proc_reap() is the one end of a process, whatever killed it: its sleepers are
 * uncounted, its holds dropped, and what nobody holds any more is closed by the
 * rules of close(2): unread data or a zero linger time resets, else the queued
 * bytes and a FIN go out. It also rings every set that has something ready: the
 * dead process may have been about to.
 *
 * fork(): the lock is held from before to after, so that the copy of this
 * process's private half (rings, waitsets, capture) is whole. The child's slot
 * and holds are made before, by the parent: no moment exists at which a
 * connection is without the child's part.
 *
 * Place in the flow: attach.c, preload's descriptions and wait.c hold;
 * keeper.c reaps. What a death inside the lock leaves: procs_recover.c.
 */
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "netio/procs.h"

uint64_t procs_layout(uint64_t hash)
{
#define FIELD LAYOUT_FIELD
	static const size_t facts[] = {
	    sizeof(struct hold),
	    FIELD(hold, proc),
	    FIELD(hold, next),
	    FIELD(hold, waiters),
	    sizeof(struct proc),
	    FIELD(proc, next),
	    FIELD(proc, holds),
	    FIELD(proc, waiters),
	    FIELD(proc, pid),
	    FIELD(proc, serial),
	    FIELD(proc, keeper),
	    FIELD(proc, driver),
	    FIELD(proc, forked),
	    FIELD(proc, doubted),
	    sizeof(struct shared_object),
	    offsetof(struct shared_object, pumps),
	};
#undef FIELD
	return layout_mix(hash, facts, ARRAY_LEN(facts));
}

/* ------------------------------------------------------------ slots */

ref proc_slot(struct netio *n, struct stack_cx *cx)
{
	struct region_head *h = n->region.head;
	ref r = pool_alloc(cx, POOL_PROC, REF_NONE);

	if (!r)
		return REF_NONE;
	proc_at(cx, r)->next = h->procs;
	if (h->procs)
		proc_at(cx, h->procs)->prev = r;
	h->procs = r;
	h->proc_count++;
	proc_at(cx, r)->serial = ++h->proc_serial;
	h->making = r;
	atomic_signal_fence(memory_order_seq_cst);
	proc_at(cx, r)->whole = true;
	return r;
}

/*
 * A record lock on one byte of the region's file: unlike a process id it means
 * the same in every PID namespace, and the kernel gives it back when the process
 * ends. Not over exec(), though, and never in a program that knows nothing of us:
 * hence both.
 */
static struct flock mark_of(ref r)
{
	return (struct flock){.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = (off_t)r, .l_len = 1};
}

static uint64_t pid_namespace(void)
{
	struct stat st;

	return RAW4(SYS_newfstatat, AT_FDCWD, "/proc/self/ns/pid", &st, 0) ? 1 : st.st_ino;
}

bool proc_adopts_orphans(struct netio *n)
{
	struct stack_cx *cx = &n->cx;
	uint64_t ours = n->region.head->has_init ? pid_namespace() : 0;
	bool found = false;

	if (!ours)
		return false;
	lock_acquire(n);
	for (ref r = n->region.head->procs; r && !found; r = proc_at(cx, r)->next)
		found = proc_at(cx, r)->reaps == ours;
	lock_release(n);
	return found;
}

void proc_mark(struct netio *n)
{
	struct flock mark = mark_of(n->proc);

	if (n->proc)
		RAW3(SYS_fcntl, n->region.fd, F_SETLK, &mark);
}

/* This process is the one in slot r. */
static void slot_sign(struct netio *n, struct stack_cx *cx, ref r)
{
	proc_at(cx, r)->pid = getpid();
	n->serial = proc_at(cx, r)->serial;
	n->sign = n->is_keeper ? &n->serial : &proc_at(cx, r)->serial;
	if (getpid() == 1) {
		proc_at(cx, r)->reaps = pid_namespace();
		n->region.head->has_init = 1;
	}
	n->proc = r;
	proc_mark(n);
}

bool proc_is_current(const struct stack_cx *cx, ref r, uint32_t serial)
{
	const struct proc *p = pool_at(cx, r);

	return r && pool_valid(cx, POOL_PROC, r) && p->serial == serial;
}

bool proc_lives(struct netio *n, ref r)
{
	struct flock mark = mark_of(r);

	return !RAW3(SYS_fcntl, n->region.fd, F_GETLK, &mark) && mark.l_type != F_UNLCK;
}

bool proc_is_gone(struct netio *n, struct stack_cx *cx, ref r)
{
	const struct proc *p = proc_at(cx, r);

	if (proc_lives(n, r))
		return false;
	return !p->pid || RAW2(SYS_kill, p->pid, 0) == -ESRCH;
}

/* Our own, at attach. */
ref proc_new(struct netio *n, struct stack_cx *cx)
{
	n->proc = proc_slot(n, cx);
	if (n->proc)
		slot_sign(n, cx, n->proc);
	n->region.head->making = REF_NONE;
	return n->proc;
}

uint32_t procs_pids(struct netio *n, struct stack_cx *cx, int32_t *pid, uint32_t max)
{
	uint32_t count = 0;

	for (ref r = n->region.head->procs; r && count < max; r = proc_at(cx, r)->next)
		pid[count++] = proc_at(cx, r)->pid;
	return count;
}

static void slot_free(struct netio *n, struct stack_cx *cx, ref r)
{
	struct region_head *h = n->region.head;
	struct proc *p = proc_at(cx, r);

	p->whole = false;
	p->serial = 0; /* whoever takes it for his sees that it is not (severed.c) */
	atomic_signal_fence(memory_order_seq_cst);
	if (p->prev)
		proc_at(cx, p->prev)->next = p->next;
	else
		h->procs = p->next;
	if (p->next)
		proc_at(cx, p->next)->prev = p->prev;
	h->proc_count--;
	pool_free(cx, POOL_PROC, r);
}

/* ------------------------------------------------------------ holds */

ref hold_new(struct stack_cx *cx, ref proc, ref object)
{
	ref r = proc ? pool_alloc(cx, POOL_HOLD, object) : REF_NONE;
	struct proc *p = proc_at(cx, proc);

	if (!r)
		return REF_NONE;
	hold_at(cx, r)->proc = proc; /* from here on it counts (holds_relink) */
	hold_at(cx, r)->next = p->holds;
	if (p->holds)
		hold_at(cx, p->holds)->prev = r;
	p->holds = r;
	(*holders_of(cx, object))++;
	return r;
}

bool hold_drop(struct stack_cx *cx, ref r)
{
	struct hold *h = hold_at(cx, r);
	struct proc *p = proc_at(cx, h->proc);
	uint32_t *holders = holders_of(cx, h->head.owner);

	if (h->prev)
		hold_at(cx, h->prev)->next = h->next;
	else
		p->holds = h->next;
	if (h->next)
		hold_at(cx, h->next)->prev = h->prev;
	pool_free(cx, POOL_HOLD, r);
	if (*holders)
		--*holders;
	return !*holders;
}

ref netio_hold(struct netio *n, struct stack_cx *cx, ref object)
{
	return hold_new(cx, n->proc, object);
}

bool netio_unhold(struct netio *n, struct stack_cx *cx, ref hold)
{
	uint32_t alone[2] = {MESSAGE_ALONE, 0};
	const struct shared_object *o;
	bool last;

	if (n->severed)
		return false;
	o = pool_at(cx, hold_at(cx, hold)->head.owner);
	last = hold_drop(cx, hold);
	if (!last && o->head.class == POOL_DESCRIPTION && o->pumps == o->holders && !n->is_keeper &&
	    n->keeper_fd >= 0)
		message_send(n->keeper_fd, alone, sizeof alone, NULL, 0);
	return last;
}

/* ------------------------------------------------------------ sleepers and drivers */

/* The other half of the pair is in evloop.c: park(). */
static void waiters_add(struct netio *n, int by)
{
	struct region_head *h = n->region.head;

	int before = by ? atomic_fetch_add(&h->waiters, by) : 0;

	if (by < 0 && before + by <= 0 && atomic_load(&h->parked))
		n->wake_driver = true;
	if (by > 0 && before <= 0 && atomic_load(&n->driver_armed))
		n->kick_driver = true;
}

void proc_waiters_add(struct netio *n, struct stack_cx *cx, ref hold, int by)
{
	if (n->severed)
		return;
	proc_at(cx, n->proc)->waiters += (uint32_t)by;
	hold_at(cx, hold)->waiters += (uint32_t)by;
	waiters_add(n, by);
}

void proc_driver_set(struct netio *n, struct stack_cx *cx, bool on)
{
	struct proc *p = proc_at(cx, n->proc);

	if (!p || p->driver == on)
		return;
	p->driver = on;
	n->region.head->drivers += on ? 1u : -1u;
}

/* ------------------------------------------------------------ the end of a process */

void object_close(struct stack_cx *cx, ref object)
{
	struct shared_object *o = pool_at(cx, object);

	if (o->head.class == POOL_EVSET) {
		evset_destroy(cx, object);
		return;
	}
	if (o->sock) {
		watch_remove_socket(cx, o->sock);
		sock_close(cx, o->sock);
		o->sock = REF_NONE;
	}
	pool_free(cx, POOL_DESCRIPTION, object);
}

/* Drop the holds of process r; all, or only its threads' wait sets. */
static void holds_drop(struct stack_cx *cx, ref r, bool all)
{
	ref next;

	for (ref at = proc_at(cx, r)->holds; at; at = next) {
		struct hold *hold = hold_at(cx, at);
		ref object = hold->head.owner;
		bool set = ((struct pool_head *)pool_at(cx, object))->class == POOL_EVSET;

		next = hold->next;
		if (!set && !all)
			continue;
		if (hold->waiters)
			evset_sleepers_gone(cx, object, hold->waiters);
		hold->waiters = 0;
		/* exec() may have passed the application's epoll set on: the new image knows (wait.c). */
		if (!all && evset_tag(cx, object))
			continue;
		if (hold_drop(cx, at))
			object_close(cx, object);
	}
}

void proc_give_up(struct stack_cx *cx, ref proc, ref object)
{
	ref next;

	for (ref at = pool_valid(cx, POOL_PROC, proc) ? proc_at(cx, proc)->holds : REF_NONE; at; at = next) {
		next = hold_at(cx, at)->next;
		if (hold_at(cx, at)->head.owner == object && hold_drop(cx, at)) {
			object_close(cx, object);
			return;
		}
	}
}

void proc_hold_end(struct stack_cx *cx, ref hold)
{
	ref object = hold_at(cx, hold)->head.owner;

	if (hold_drop(cx, hold))
		object_close(cx, object);
}

void proc_holds_end(struct stack_cx *cx, ref proc)
{
	holds_drop(cx, proc, true);
}

static ref hold_of(struct stack_cx *cx, ref proc, ref object)
{
	ref at = proc_at(cx, proc)->holds;

	while (at && hold_at(cx, at)->head.owner != object)
		at = hold_at(cx, at)->next;
	return at;
}

ref proc_hold_of(struct netio *n, struct stack_cx *cx, ref object)
{
	ref hold = n->proc ? hold_of(cx, n->proc, object) : REF_NONE;

	return hold ? hold : hold_new(cx, n->proc, object);
}

ref proc_set_hold(struct netio *n, struct stack_cx *cx, ref before)
{
	ref at = before ? hold_at(cx, before)->next : n->proc ? proc_at(cx, n->proc)->holds : REF_NONE;

	for (; at; at = hold_at(cx, at)->next) {
		ref object = hold_at(cx, at)->head.owner;

		if (((struct pool_head *)pool_at(cx, object))->class == POOL_EVSET && evset_tag(cx, object))
			break;
	}
	return at;
}

void procs_each_blind(struct netio *n, struct stack_cx *cx, void (*f)(ref object, void *arg), void *arg)
{
	for (ref r = n->region.head->procs; r; r = proc_at(cx, r)->next)
		for (ref at = proc_at(cx, r)->blind ? proc_at(cx, r)->holds : REF_NONE; at;
		     at = hold_at(cx, at)->next)
			if (((struct pool_head *)pool_at(cx, hold_at(cx, at)->head.owner))->class ==
			    POOL_DESCRIPTION)
				f(hold_at(cx, at)->head.owner, arg);
}

bool procs_any_blind(struct netio *n)
{
	struct stack_cx *cx = netio_enter(n);
	ref r = n->region.head->procs;

	while (r && !proc_at(cx, r)->blind)
		r = proc_at(cx, r)->next;
	netio_leave(n);
	return r != REF_NONE;
}

/* Is there a process, blind or not, with a part in it? */
static bool held_by(struct netio *n, struct stack_cx *cx, ref object, bool blind)
{
	for (ref r = n->region.head->procs; r; r = proc_at(cx, r)->next)
		if (proc_at(cx, r)->blind == blind && hold_of(cx, r, object))
			return true;
	return false;
}

bool procs_blind_holder(struct netio *n, struct stack_cx *cx, ref object)
{
	return pool_valid(cx, POOL_DESCRIPTION, object) && held_by(n, cx, object, true);
}

bool procs_all_blind(struct netio *n, struct stack_cx *cx, ref object)
{
	return !held_by(n, cx, object, false) && held_by(n, cx, object, true);
}

void procs_give_up(struct netio *n, struct stack_cx *cx, ref object)
{
	for (ref r = n->region.head->procs; r && pool_valid(cx, POOL_DESCRIPTION, object);
	     r = proc_at(cx, r)->next)
		if (proc_at(cx, r)->blind)
			proc_give_up(cx, r, object);
}

void netio_blind(struct netio *n, bool on)
{
	uint32_t m[2] = {MESSAGE_BLIND, on};
	struct stack_cx *cx = netio_enter(n);

	if (n->proc)
		proc_at(cx, n->proc)->blind = on;
	netio_leave(n);
	keeper_say(n, m, sizeof m, NULL, 0);
}

static bool spawn_has(const struct spawn_message *m, uint64_t cookie)
{
	for (uint32_t i = 0; i < MIN_OF(m->count, (uint32_t)VFORK_COOKIES_MAX); i++)
		if (m->cookie[i] == cookie)
			return cookie != 0;
	return false;
}

ref proc_spawned(struct netio *n, struct stack_cx *cx, const struct spawn_message *m)
{
	ref slot = proc_slot(n, cx);

	for (ref r = pool_next(cx, POOL_DESCRIPTION, REF_NONE); slot && r;
	     r = pool_next(cx, POOL_DESCRIPTION, r)) {
		const struct shared_object *o = pool_at(cx, r);

		if (o->holders && spawn_has(m, o->cookie))
			hold_new(cx, slot, r);
	}
	for (ref r = pool_next(cx, POOL_EVSET, REF_NONE); slot && r; r = pool_next(cx, POOL_EVSET, r))
		if (*evset_holders(cx, r) && spawn_has(m, evset_tag(cx, r)))
			hold_new(cx, slot, r);
	if (slot && m->count && !proc_at(cx, slot)->holds) {
		slot_free(n, cx, slot);
		slot = REF_NONE;
	}
	if (slot)
		proc_at(cx, slot)->blind = m->blind != 0;
	return slot;
}

bool proc_renew(struct netio *n, struct stack_cx *cx, ref r, uint32_t serial)
{
	struct proc *p = proc_at(cx, r);

	if (!proc_is_current(cx, r, serial))
		return false;
	n->proc = r;
	p->blind = false;
	waiters_add(n, -(int)p->waiters);
	p->waiters = 0;
	holds_drop(cx, r, false);
	proc_driver_set(n, cx, false);
	slot_sign(n, cx, r);
	evsets_reap(cx, r);
	return true;
}

void netio_each_hold(struct netio *n, struct stack_cx *cx, void (*f)(ref object, ref hold, void *arg),
		     void *arg)
{
	ref next;

	for (ref r = n->proc ? proc_at(cx, n->proc)->holds : REF_NONE; r; r = next) {
		ref object = hold_at(cx, r)->head.owner;

		next = hold_at(cx, r)->next;
		if (((struct pool_head *)pool_at(cx, object))->class == POOL_DESCRIPTION)
			f(object, r, arg);
	}
}

void proc_reap(struct netio *n, struct stack_cx *cx, ref r)
{
	struct region_head *h = n->region.head;
	struct proc *p = proc_at(cx, r);

	if (!pool_valid(cx, POOL_PROC, r))
		return;
	waiters_add(n, -(int)p->waiters);
	h->drivers -= p->driver;
	holds_drop(cx, r, true);
	slot_free(n, cx, r);
	evsets_reap(cx, r);
}

/* ------------------------------------------------------------ fork */

static void holds_copy(struct stack_cx *cx, ref from, ref to, ref *(*inherit)(ref object))
{
	for (ref r = proc_at(cx, from)->holds; r; r = hold_at(cx, r)->next) {
		ref object = hold_at(cx, r)->head.owner, *where;

		if (((struct pool_head *)pool_at(cx, object))->class != POOL_DESCRIPTION)
			continue;
		where = inherit(object);
		if (where)
			*where = hold_new(cx, to, object);
	}
}

void netio_before_fork(struct netio *n, ref *(*inherit)(ref object))
{
	struct stack_cx *cx;
	ref child;

	n->forking.proc = REF_NONE;
	n->forking.line = -1;
	if (n->forgotten || n->severed)
		return;
	netio_births_begin();
	keeper_start(n); /* without one the stack is shared all the same, but nobody sees a SIGKILL */
	keeper_line_before_fork(n);
	cx = netio_enter(n);
	n->forking.locked = true;
	child = n->severed ? REF_NONE : proc_slot(n, cx);
	if (child) {
		holds_copy(cx, n->proc, child, inherit);
		waitsets_before_fork(n, cx, child);
		n->forking.proc = child;
		n->forking.serial = proc_at(cx, child)->serial;
		proc_at(cx, child)->forked = true;
		keeper_add(n, child, &n->forking.line);
	}
	n->region.head->making = REF_NONE;
	netio_births_end();
	if (n->capture)
		capture_share(n->capture);
	fds_before_fork();
}

void netio_parent_after_fork(struct netio *n)
{
	if (!n->forking.locked)
		return;
	fds_parent_after_fork();
	n->forking.locked = false;
	/* If there is no child the keeper sees the line's other end hang up. */
	if (n->forking.line >= 0)
		fds_drop(&n->forking.line);
	keeper_line_parent_after_fork(n);
	netio_leave(n);
}

/* The lock is the parent's: it lets go of it, not we. */
int netio_child_after_fork(struct netio *n)
{
	if (n->forgotten || !n->forking.locked)
		return -ESRCH;
	fds_after_fork(true);
	atomic_store(&n->gate, 0);
	atomic_store(&n->in_line, 0);
	n->forking.locked = false;
	n->ring_count = n->recheck_count = 0;
	n->wake_driver = n->kick_driver = false;
	memset(&n->count, 0, sizeof n->count);
	driver_forget(n);
	if (n->keeper_fd >= 0)
		fds_drop(&n->keeper_fd);
	/* Another thread's child, not ours, has these. */
	for (struct spawn_line *l = n->spawning; l; l = l->next)
		fds_drop(&l->fd);
	n->spawning = NULL;
	n->proc = n->forking.proc;
	n->serial = n->forking.serial;
	n->sign = n->proc ? &proc_at(&n->cx, n->proc)->serial : &n->serial;
	if (!n->proc)
		return -ENOMEM;
	if (n->forking.line >= 0) {
		int line = n->forking.line;

		n->forking.line = -1;
		fds_rename(line, &n->keeper_fd);
	}
	/* Before we wait for the lock: parent and keeper may die meanwhile, and then nobody else knows of us.
	 */
	if (*n->sign == n->serial)
		slot_sign(n, &n->cx, n->proc);
	keeper_line_after_fork(n);
	waitsets_after_fork(n);
	netio_enter(n);
	netio_leave(n);
	return 0;
}

/* ------------------------------------------------------------ posix_spawn */

int netio_spawn_begin(struct netio *n, struct spawn_line *l, const ref *object, uint32_t count, bool blind)
{
	struct stack_cx *cx;
	int err;

	l->fd = -1;
	err = n->forgotten || n->severed ? -ESRCH : keeper_start(n);
	if (err)
		return err;
	cx = netio_enter(n);
	l->proc = n->severed ? REF_NONE : proc_slot(n, cx);
	err = l->proc ? 0 : -ENOMEM;
	for (uint32_t i = 0; !err && i < count; i++)
		if (object_valid(cx, object[i])) /* an epoll set may have been closed meanwhile */
			err = hold_new(cx, l->proc, object[i]) ? 0 : -ENOMEM;
	if (!err)
		err = keeper_add(n, l->proc, &l->fd);
	if (!err) {
		proc_at(cx, l->proc)->blind = blind;
		l->next = n->spawning;
		n->spawning = l;
	} else if (l->proc) {
		proc_reap(n, cx, l->proc);
	}
	n->region.head->making = REF_NONE;
	netio_leave(n);
	return err;
}

void netio_spawn_end(struct netio *n, struct spawn_line *l)
{
	struct stack_cx *cx = netio_enter(n);

	(void)cx;
	for (struct spawn_line **p = &n->spawning; *p; p = &(*p)->next) {
		if (*p == l) {
			*p = l->next;
			break;
		}
	}
	if (l->fd >= 0)
		fds_drop(&l->fd);
	netio_leave(n);
}
