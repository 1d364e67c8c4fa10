/*
 * wait.c - how a thread sleeps on the stack (design D3).
 *
 * Theory of operation. A waitset is an epoll set of this process with three
 * fixed members: the device and the timer, both EXCLUSIVE (the kernel elects
 * one sleeper per frame), and an eventfd, the bell, that others ring (bell.c) when a
 * socket of the waitset's evset becomes ready. (A fourth, the life line to the
 * keeper, is heard only when that was killed.)
 *
 *   publish   (lock held)  waiters++: from now on readiness rings the bell
 *   block     (no lock)    epoll_pwait2; a ring that came since publish is in the set already,
 *                          so there is no window in which a wake-up can be lost
 *   withdraw  (lock held)  waiters--
 *
 * The bell is registered edge-triggered: each write wakes one sleeper once, and
 * a private bell need never be read. Once somebody else can see the bell
 * (waitset_bell(): it is a hidden member of an application's epoll set) its
 * level matters, and withdraw drains it; rings that were meant for other
 * sleepers of the same set are then repeated when the lock is released
 * (evset_run_rechecks).
 *
 * fork(): the wait sets of threads stay the parent's. Those of epoll sets go on
 * in both: same evset, bell and post, but an epoll object of its own for each
 * process, so that neither takes events out of the other's.
 *
 * Place in the flow: preload's blocking calls -> here -> drive.c.
 */
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "netio/internal.h"

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#define ABANDONED_BYTES 32768
#endif

/* epoll data of our own members; the tags of extra members are below these. */
enum { TAG_DEVICE = 0, TAG_TIMER, TAG_BELL, TAG_POST, TAG_LINE, TAG_OWN_COUNT };
#define OWN_TAG(x) (UINT64_MAX - (uint64_t)(x))

#define SIGSET_BYTES   8 /* of the kernel's sigset_t */
#define EVENTS_MAX     (TAG_OWN_COUNT + WAIT_TAGS_MAX)
#define POLL_STACK_FDS 64

static TLS_FAST struct waitset *sleeping;

struct waitset *waitset_sleeping(void)
{
	return sleeping;
}

/* ------------------------------------------------------------ slots */

static uint32_t slot_take(struct netio *n)
{
	uint32_t slot = n->slot_free;

	if (slot)
		n->slot_free = n->slots[slot].next_free;
	else if (n->slot_count + 1 < SLOTS_MAX)
		slot = ++n->slot_count;
	n->slots_used += slot != SLOT_NONE;
	return slot;
}

static void slot_give_back(struct netio *n, struct waitset *ws)
{
	uint32_t slot = ws->slot;

	memset(ws, 0, sizeof *ws);
	ws->epfd = ws->bell = ws->post = -1;
	ws->next_free = n->slot_free;
	n->slot_free = slot;
	n->slots_used--;
}

static int member_add(int epfd, int fd, uint32_t events, uint64_t tag)
{
	struct epoll_event e = {.events = events, .data.u64 = tag};

	return (int)RAW4(SYS_epoll_ctl, epfd, EPOLL_CTL_ADD, fd, &e);
}

/* An address for the datagram socket that the kernel chose (unix(7): autobind); in *b. */
static int post_open(struct waitset *ws, int fd, struct bell *b)
{
	struct sockaddr_un sun = {.sun_family = AF_UNIX};
	socklen_t len = sizeof sun;
	int err;

	if (fd < 0)
		return fd;
	err = (int)RAW3(SYS_bind, fd, &sun, sizeof sun.sun_family);
	if (!err)
		err = (int)RAW3(SYS_getsockname, fd, &sun, &len);
	if (!err && (len <= sizeof sun.sun_family || len - sizeof sun.sun_family > sizeof b->addr))
		err = -EADDRNOTAVAIL;
	if (err) {
		raw_close(fd);
		return err;
	}
	b->addr_len = (uint8_t)(len - sizeof sun.sun_family);
	memcpy(b->addr, sun.sun_path, b->addr_len);
	return fds_keep(fd, &ws->post);
}

/* Once for each sleeper: whoever hears of it acts (respawn.c). */
static int line_add(struct netio *n, int epfd)
{
	return n->keeper_fd < 0 ? 0 : member_add(epfd, n->keeper_fd, EPOLLRDHUP | EPOLLET, OWN_TAG(TAG_LINE));
}

void waitsets_watch_line(struct netio *n)
{
	for (uint32_t i = 1; i <= n->slot_count; i++)
		if (n->slots[i].n && !n->slots[i].dead && n->slots[i].epfd >= 0)
			line_add(n, n->slots[i].epfd);
}

/* Closing it would not do: a set tells of an open file as long as any process has it. */
void waitsets_forget_device(struct netio *n)
{
	if (n->dev.fd < 0)
		return;
	for (uint32_t i = 1; i <= n->slot_count; i++)
		if (n->slots[i].n && !n->slots[i].dead && n->slots[i].epfd >= 0)
			RAW4(SYS_epoll_ctl, n->slots[i].epfd, EPOLL_CTL_DEL, n->dev.fd, NULL);
	if (n->keeper_set >= 0)
		RAW4(SYS_epoll_ctl, n->keeper_set, EPOLL_CTL_DEL, n->dev.fd, NULL);
}

/* The epoll object of ws, with the bell and the post that it has. */
static int waitset_fill(struct netio *n, struct waitset *ws)
{
	int err, fd = (int)netio_fd_call(SYS_epoll_create1, EPOLL_CLOEXEC, 0, 0, 0);

	if (fd < 0)
		return fd;
	err = fds_keep(fd, &ws->epfd);
	if (!err)
		err = member_add(ws->epfd, ws->bell, EPOLLIN | EPOLLET, OWN_TAG(TAG_BELL));
	if (!err)
		err = member_add(ws->epfd, ws->post, EPOLLIN, OWN_TAG(TAG_POST));
	if (!err)
		err = line_add(n, ws->epfd);
	if (!err)
		err = member_add(ws->epfd, n->timer_fd, EPOLLIN | EPOLLEXCLUSIVE, OWN_TAG(TAG_TIMER));
	if (!err && n->dev.fd >= 0)
		err = member_add(ws->epfd, n->dev.fd, EPOLLIN | EPOLLEXCLUSIVE, OWN_TAG(TAG_DEVICE));
	return err;
}

/* Takes `post` over. */
static int waitset_open(struct netio *n, struct waitset *ws, int post, struct bell *b)
{
	int err, fd = (int)netio_fd_call(SYS_eventfd2, 0, EFD_NONBLOCK | EFD_CLOEXEC, 0, 0);

	ws->epfd = ws->bell = ws->post = -1;
	err = fd < 0 ? fd : fds_keep(fd, &ws->bell);
	if (!err)
		err = post_open(ws, post, b);
	else if (post >= 0)
		raw_close(post);
	return err ? err : waitset_fill(n, ws);
}

static void waitset_close(struct waitset *ws)
{
	fds_drop(&ws->epfd);
	fds_drop(&ws->bell);
	fds_drop(&ws->post);
}

/* Made before the lock is taken, so out of the application's way at once: a birth must be short. */
static int post_socket(struct netio *n)
{
	int post;

	netio_births_begin();
	post = fds_raise(network_socket(n));
	netio_births_end();
	return post;
}

int waitset_create(struct netio *n, struct waitset **out)
{
	struct stack_cx *cx;
	struct waitset *ws;
	struct bell b;
	uint32_t slot;
	int post, err;

	*out = NULL;
	post = post_socket(n);
	cx = netio_enter(n);
	slot = slot_take(n);
	ws = &n->slots[slot];
	b = (struct bell){.proc = n->proc, .slot = slot};
	err = slot ? 0 : -EMFILE;
	if (!err) {
		ws->n = n;
		ws->slot = slot;
		netio_births_begin();
		err = waitset_open(n, ws, post, &b);
		post = -1;
		netio_births_end();
		if (!err) {
			ws->set = evset_create(cx);
			ws->hold = ws->set ? hold_new(cx, n->proc, ws->set) : REF_NONE;
			err = ws->hold ? 0 : -ENOMEM;
		}
		if (!err) {
			evset_bind(cx, ws->set, &b);
			*out = ws;
		} else {
			if (ws->set)
				evset_destroy(cx, ws->set);
			waitset_close(ws);
			slot_give_back(n, ws);
		}
	}
	netio_leave(n);
	if (post >= 0)
		raw_close(post);
	return err;
}

void waitset_inherit(struct waitset *ws, uint64_t tag)
{
	ws->inherited = true;
	evset_name(netio_enter(ws->n), ws->set, tag);
	netio_leave(ws->n);
}

/* A wait set on `set`, with the bell and the post that its makers rang. Takes the descriptors over. */
static int adopt_open(struct netio *n, struct waitset *ws, int bell, int post)
{
	int err;

	ws->epfd = ws->bell = ws->post = -1;
	err = fds_keep(bell, &ws->bell);
	if (!err)
		err = fds_keep(post, &ws->post);
	else
		raw_close(post);
	return err ? err : waitset_fill(n, ws);
}

int waitset_adopt(struct netio *n, uint64_t tag, struct waitset **out)
{
	struct stack_cx *cx = netio_enter(n);
	ref set = evset_of_tag(cx, tag), hold = set ? proc_hold_of(n, cx, set) : REF_NONE;
	struct waitset *ws;
	int fds[2], err;
	uint32_t slot;

	*out = NULL;
	netio_leave(n);
	netio_births_begin();
	err = !set ? -ENOENT : !hold ? -ENOMEM : kept_fetch(n, tag, fds);
	cx = netio_enter(n);
	slot = err ? SLOT_NONE : slot_take(n);
	ws = &n->slots[slot];
	if (!err && !slot) {
		raw_close(fds[0]);
		raw_close(fds[1]);
		err = -EMFILE;
	}
	if (!err) {
		*ws = (struct waitset){.n = n, .slot = slot, .set = set, .hold = hold, .inherited = true};
		err = adopt_open(n, ws, fds[0], fds[1]);
		if (err) {
			waitset_close(ws);
			slot_give_back(n, ws);
		}
	}
	if (!err) {
		ws->exposed = evset_rings_always(cx, set);
		evset_rebind(cx, set, n->proc, slot);
		*out = ws;
	} else if (hold && hold_drop(cx, hold)) {
		evset_destroy(cx, set);
	}
	netio_leave(n);
	netio_births_end();
	return err;
}

bool waitset_is_shared(struct waitset *ws)
{
	bool shared = *evset_holders(netio_enter(ws->n), ws->set) > 1;

	netio_leave(ws->n);
	return shared;
}

bool waitset_is_shown(struct waitset *ws)
{
	bool shown = evset_rings_always(netio_enter(ws->n), ws->set);

	netio_leave(ws->n);
	return shown;
}

static bool hold_is_used(const struct netio *n, ref hold)
{
	for (uint32_t i = 1; i <= n->slot_count; i++)
		if (n->slots[i].n && n->slots[i].hold == hold)
			return true;
	return false;
}

void netio_sweep_sets(struct netio *n, struct stack_cx *cx)
{
	ref next;

	for (ref h = proc_set_hold(n, cx, REF_NONE); h; h = next) {
		next = proc_set_hold(n, cx, h);
		if (!hold_is_used(n, h))
			proc_hold_end(cx, h);
	}
}

bool netio_any_set(struct netio *n, struct stack_cx *cx)
{
	return proc_set_hold(n, cx, REF_NONE) != REF_NONE;
}

void waitset_destroy(struct waitset *ws)
{
	struct netio *n = ws->n;
	struct stack_cx *cx = netio_enter(n);

	if (n->severed)
		ws->set = REF_NONE;
	else if (hold_drop(cx, ws->hold))
		evset_destroy(cx, ws->set);
	else
		evset_forget_proc(cx, ws->set, n->proc);
	netio_leave(n);
	/* No evset names the slot any more; wait for rings that were collected before. */
	while (atomic_load(&ws->ringers))
		RAW1(SYS_sched_yield, 0);
	lock_acquire(n);
	waitset_close(ws);
	slot_give_back(n, ws);
	lock_release(n);
}

/* At detach, or in a forked child: close what is left. */
void waitsets_free(struct netio *n, bool close_fds)
{
	for (uint32_t i = 1; close_fds && i <= n->slot_count; i++) {
		if (n->slots[i].n)
			waitset_close(&n->slots[i]);
	}
	n->slot_count = n->slot_free = n->slots_used = 0;
}

void waitsets_before_fork(struct netio *n, struct stack_cx *cx, ref child)
{
	for (uint32_t i = 1; i <= n->slot_count; i++) {
		struct waitset *ws = &n->slots[i];

		if (ws->n && ws->inherited && !ws->dead)
			ws->child_hold = hold_new(cx, child, ws->set);
	}
}

/* A set that cannot go on (no memory, no descriptors) is dead: waits on it find nothing of the stack. */
void waitsets_after_fork(struct netio *n)
{
	n->slot_free = n->slots_used = 0;
	for (uint32_t i = 1; i <= n->slot_count; i++) {
		struct waitset *ws = &n->slots[i];

		if (!ws->n || ws->dead)
			continue;
		fds_drop(&ws->epfd);
		atomic_store(&ws->ringers, 0);
		ws->hold = ws->child_hold;
		ws->child_hold = REF_NONE;
		if (ws->inherited && ws->hold && !waitset_fill(n, ws)) {
			n->slots_used++;
			continue;
		}
		/* The slot is not used again: the thread that forked may be in a handler over its sleep in
		 * it. */
		ws->dead = true;
		waitset_close(ws);
	}
}

ref waitset_evset(struct waitset *ws)
{
	return ws->set;
}

int waitset_bell(struct waitset *ws)
{
	ws->exposed = true;
	return ws->bell;
}

int waitset_post(struct waitset *ws)
{
	return ws->post;
}

void waitset_ring_always(struct waitset *ws, struct stack_cx *cx, bool on)
{
	ws->exposed = true;
	evset_ring_always(cx, ws->set, on);
}

void waitset_kick(struct waitset *ws, struct stack_cx *cx)
{
	evset_kick(cx, ws->set);
}

int waitset_add_fd(struct waitset *ws, int fd, uint32_t events, uint64_t tag)
{
	return member_add(ws->epfd, fd, events, tag);
}

int waitset_del_fd(struct waitset *ws, int fd)
{
	struct epoll_event e = {0};

	return (int)RAW4(SYS_epoll_ctl, ws->epfd, EPOLL_CTL_DEL, fd, &e);
}

/* ------------------------------------------------------------ publish and withdraw */

void waitset_publish(struct waitset *ws, struct stack_cx *cx)
{
	if (ws->dead)
		return;
	evset_publish(cx, ws->set);
	proc_waiters_add(ws->n, cx, ws->hold, 1);
}

void waitset_withdraw(struct waitset *ws, struct stack_cx *cx)
{
	struct netio *n = ws->n;
	bool drain = false, saw = false;

	if (ws->dead)
		return;
	if (ws->exposed) {
		bool level = evset_rings_always(cx, ws->set) && evset_has_ready(cx, ws->set);

		saw = atomic_exchange(&ws->saw_bell, false);
		drain = (saw || evset_bell_up(cx, ws->set)) && !level;
		if (drain) {
			waitset_drain(ws);
			evset_bell_down(cx, ws->set);
		}
	}
	evset_withdraw(cx, ws->set, drain || saw);
	proc_waiters_add(n, cx, ws->hold, -1);
}

void waitset_attend(struct waitset *ws, struct stack_cx *cx, bool on)
{
	if (!ws->dead)
		evset_attend(cx, ws->set, on);
}

static void withdraw_and_drive(struct waitset *ws)
{
	struct netio *n = ws->n;
	struct stack_cx *cx = netio_enter(n);

	waitset_withdraw(ws, cx);
	netio_drive(n, cx);
	netio_leave(n);
}

void waitset_cleanup(void *arg)
{
#ifdef __SANITIZE_ADDRESS__
	/* The frames that a cancelled thread has abandoned stay marked as in use: where we run now. */
	char *here = __builtin_frame_address(0);

	__asan_unpoison_memory_region(here - ABANDONED_BYTES, ABANDONED_BYTES);
#endif
	sleeping = NULL;
	withdraw_and_drive(arg);
}

void waitset_suspend(struct waitset *ws)
{
	/* A siglongjmp() out of the handler never comes back: leave no trace. */
	sleeping = NULL;
	withdraw_and_drive(ws);
}

void waitset_resume(struct waitset *ws)
{
	struct stack_cx *cx = netio_enter(ws->n);

	waitset_publish(ws, cx);
	netio_leave(ws->n);
	sleeping = ws;
}

/* ------------------------------------------------------------ blocking */

static struct timespec *time_left(nsec deadline, struct timespec *ts)
{
	nsec now, left;

	if (deadline == NSEC_NEVER)
		return NULL;
	now = netio_now();
	left = deadline > now ? deadline - now : 0;
	ts->tv_sec = (time_t)(left / NS_PER_S);
	ts->tv_nsec = (long)(left % NS_PER_S);
	return ts;
}

static void sort_events(struct waitset *ws, const struct epoll_event *ev, long count, struct wait_result *r)
{
	for (long i = 0; i < count; i++) {
		if (ev[i].data.u64 == OWN_TAG(TAG_DEVICE)) {
			r->device = true;
		} else if (ev[i].data.u64 == OWN_TAG(TAG_TIMER)) {
			r->timer = true;
		} else if (ev[i].data.u64 == OWN_TAG(TAG_BELL)) {
			r->bell = true;
			if (ws->exposed)
				atomic_store(&ws->saw_bell, true);
		} else if (ev[i].data.u64 == OWN_TAG(TAG_POST)) {
			r->bell = true;
			if (ws->exposed)
				atomic_store(&ws->saw_bell, true); /* withdraw empties it, under the lock */
			else
				post_drain(ws);
		} else if (ev[i].data.u64 == OWN_TAG(TAG_LINE)) {
			atomic_store(&ws->n->line_lost, true);
		} else if (r->tag_count < WAIT_TAGS_MAX) {
			r->tag[r->tag_count] = ev[i].data.u64;
			r->tag_events[r->tag_count] = ev[i].events;
			r->tag_count++;
		}
	}
}

void test_pause(const struct netio *n)
{
	struct timespec ts = {n->test_pause_us / 1000000, (long)(n->test_pause_us % 1000000) * 1000};

	if (n->test_pause_us)
		RAW2(SYS_nanosleep, &ts, NULL);
}

/* UTCP_SPIN_US: look for a while before sleeping. Events found, 0 or a negative errno. */
static long spin(struct waitset *ws, struct epoll_event *ev, nsec deadline, const sigset_t *mask)
{
	nsec until = netio_now() + ws->n->spin_ns;
	struct timespec zero = {0, 0};
	long r;

	until = MIN_OF(until, deadline);
	do {
		r = RAW6(SYS_epoll_pwait2, ws->epfd, ev, EVENTS_MAX, &zero, mask, SIGSET_BYTES);
	} while (r == 0 && netio_now() < until);
	return r;
}

static long look(struct waitset *ws, struct epoll_event *ev)
{
	return RAW6(SYS_epoll_pwait, ws->epfd, ev, EVENTS_MAX, 0, NULL, SIGSET_BYTES);
}

/* Sleep in ppoll on the set and fds; what is ready in the set is then asked of it. */
static int poll_and_look(struct waitset *ws, struct pollfd *p, uint32_t n, nsec deadline,
			 const sigset_t *mask, struct wait_result *r)
{
	struct epoll_event ev[EVENTS_MAX];
	struct timespec ts;
	int saved = errno, count, err;

	p[n].fd = ws->epfd;
	p[n].events = POLLIN;
	p[n].revents = 0;
	count = sys.ppoll(p, n + 1, time_left(deadline, &ts), mask);
	err = count < 0 ? -errno : 0;
	errno = saved;
	if (err)
		return err;
	r->timed_out = count == 0;
	if (p[n].revents)
		sort_events(ws, ev, look(ws, ev), r);
	return 0;
}

static int epoll_sleep(struct waitset *ws, nsec deadline, const sigset_t *mask, struct wait_result *r)
{
	struct epoll_event ev[EVENTS_MAX];
	struct pollfd alone[1];
	struct timespec ts;
	int saved = errno;
	long count = 0;

	if (ws->n->spin_ns)
		count = spin(ws, ev, deadline, mask);
	if (count == 0) {
		count = sys.epoll_pwait2(ws->epfd, ev, EVENTS_MAX, time_left(deadline, &ts), mask);
		if (count < 0)
			count = -errno;
		errno = saved;
	}
	if (count == -ENOSYS) /* a sandbox that does not know the call */
		return poll_and_look(ws, alone, 0, deadline, mask, r);
	if (count < 0)
		return (int)count;
	r->timed_out = count == 0;
	sort_events(ws, ev, count, r);
	return 0;
}

static void fell_asleep(struct waitset *ws, struct wait_result *r)
{
	memset(r, 0, sizeof *r);
	test_pause(ws->n);
	__atomic_fetch_add(&ws->n->count.blocks, 1, __ATOMIC_RELAXED);
	sleeping = ws;
	atomic_signal_fence(memory_order_seq_cst);
}

static void woke_up(const struct wait_result *r)
{
	atomic_signal_fence(memory_order_seq_cst);
	sleeping = NULL;
	drive_note_wake(r->device);
}

int waitset_block(struct waitset *ws, nsec deadline, const sigset_t *mask, struct wait_result *r)
{
	int err;

	fell_asleep(ws, r);
	err = epoll_sleep(ws, deadline, mask, r);
	woke_up(r);
	return err;
}

struct poll_pages {
	void *p;
	size_t bytes;
};

static void poll_pages_free(void *arg)
{
	struct poll_pages *pages = arg;

	pages_free(pages->p, pages->bytes);
}

static int poll_sleep(struct waitset *ws, struct pollfd *copy, struct pollfd *fds, uint32_t nfds,
		      nsec deadline, const sigset_t *mask, struct wait_result *r)
{
	int err;

	if (nfds)
		memcpy(copy, fds, nfds * sizeof *fds);
	fell_asleep(ws, r);
	err = poll_and_look(ws, copy, nfds, deadline, mask, r);
	woke_up(r);
	if (!err && nfds)
		memcpy(fds, copy, nfds * sizeof *fds);
	return err;
}

int waitset_block_poll(struct waitset *ws, struct pollfd *fds, uint32_t nfds, nsec deadline,
		       const sigset_t *mask, struct wait_result *r)
{
	struct pollfd few[POLL_STACK_FDS + 1];
	struct poll_pages pages;
	volatile int err; /* pthread_cleanup_push() is a setjmp() */

	if (nfds <= POLL_STACK_FDS)
		return poll_sleep(ws, few, fds, nfds, deadline, mask, r);
	pages.bytes = ((size_t)nfds + 1) * sizeof *fds;
	pages.p = pages_alloc(pages.bytes);
	if (!pages.p)
		return -ENOMEM;
	pthread_cleanup_push(poll_pages_free, &pages);
	err = poll_sleep(ws, pages.p, fds, nfds, deadline, mask, r);
	pthread_cleanup_pop(1);
	return err;
}
