/*
 * epoll.c - the stack's half of the application's epoll sets (design D5).
 *
 * Theory of operation. E is an epoll descriptor of the application. What the
 * kernel has is in E, untouched. What the stack has are watches in the evset of
 * a wait set W(E), made when the first stack socket (or a set that has some)
 * joins:
 *
 *     W(E) = { device, timer, bell, kernel halves of E's listeners, E itself }
 *
 * epoll_wait(E) drives the device, takes from the evset's ready list, asks the
 * kernel's E when there is reason to, and else sleeps in W(E). The device never
 * enters E: it would make an outer set ready for every frame.
 *
 *   who goes first    the stack; after a call that was filled to the brim the two
 *                     take turns, so that a flood in one cannot starve the other
 *   when is E asked   after a sleep: if W(E) reported it. Without one: when there
 *                     is room left beside the stack's events, as the kernel
 *                     answers with all that is ready
 *   listeners         the kernel half is edge-triggered in W(E); a report becomes
 *                     a bit of the socket's level (watch_kernel_bits), so that
 *                     edge, oneshot and exclusive are decided in one list. The
 *                     bit is taken back when poll() says so, before a harvest.
 *   nested sets       once E is a member of another set or an object of poll(),
 *                     it is "exposed": its bell becomes a hidden member of E, up
 *                     exactly while the ready list is not empty, and so do the
 *                     listeners' kernel halves. Their tags are secrets, and never
 *                     reach the application.
 *
 * A member's identity is the kernel's: (number, open file description). It is
 * the watch's key; bit 31 of the number says EPOLLEXCLUSIVE, for MOD's EINVAL.
 *
 * Kernel TCP sockets that are added before connect() are recorded, so that they
 * can move over when they become stack sockets (epoll_before_replace). A record
 * that outlived its membership is found out by EPOLL_CTL_DEL's ENOENT.
 *
 * Locks: sets_mutex guards everything here; the stack's lock nests inside it.
 * Lists that a harvest reads (listeners) change under both.
 *
 * Place in the flow: calls_poll.c -> here -> wait.c, netio.h.
 */
#include <fcntl.h>
#include <pthread.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "preload/wait.h"

#define BUCKETS	    256u
#define CELL_BYTES  128u
#define SLAB_BYTES  65536u
#define TAKE_INLINE 32

#define TAG_KERNEL    (1ull << 32) /* W(E)'s member E */
#define TAG_LISTENER  (2ull << 32) /* plus the description */
#define EXCLUSIVE_KEY 0x80000000u
#define EXCLUSIVE_ALLOWED                                                                                    \
	((uint32_t)(EPOLLIN | EPOLLOUT | EPOLLERR | EPOLLHUP | EPOLLWAKEUP | EPOLLET | EPOLLEXCLUSIVE))
#define MODIFIERS ((uint32_t)(EPOLLET | EPOLLONESHOT | EPOLLWAKEUP | EPOLLEXCLUSIVE))

/* The kernel's struct epoll_event array must fit an int of bytes (fs/eventpoll.c: EP_MAX_EVENTS). */
#define EVENTS_MAX (INT32_MAX / (int)sizeof(struct epoll_event))

/* A listener of ours in a set, or a set in a set. */
struct member {
	struct member *next;
	int fd;
	ref d;		   /* listener: its description */
	int kernel_fd;	   /* listener: its kernel half */
	struct set *inner; /* set */
};

/* A kernel TCP socket in a kernel set, whose fate is undecided. */
struct tcp_member {
	struct tcp_member *next;
	struct set *set;
	int fd;
	bool moving; /* between epoll_before_replace() and epoll_after_replace() */
	struct epoll_event event;
};

struct number {
	struct number *next;
	int fd;
	struct set *set;
};

struct set {
	struct set *next;	    /* all_sets */
	uint32_t numbers;	    /* numbers of this process */
	uint32_t refs;		    /* 1 while there are numbers, plus threads in epoll_wait() */
	int fd;			    /* one of the numbers */
	_Atomic int kernel_members; /* at most: the kernel drops closed ones by itself */
	struct waitset *ws;	    /* W(E), or NULL: nothing of the stack in it */
	struct member *listeners, *sets;
	bool exposed;
	atomic_bool kernel_turn; /* the last call was filled by the other half */
};

union cell {
	union cell *next;
	struct member member;
	struct tcp_member tcp;
	struct number number;
	struct set set;
	char bytes[CELL_BYTES];
};
_Static_assert(sizeof(union cell) == CELL_BYTES, "a cell outgrew its slab");

static pthread_mutex_t sets_mutex = PTHREAD_MUTEX_INITIALIZER;
static union cell *free_cells;
static struct set *all_sets;
static struct number *numbers[BUCKETS];
static struct tcp_member *tcp_members[BUCKETS];
static _Atomic uint32_t joined; /* sets with a W(E) */
static atomic_bool any_exposed;
/* Threads inside libc's epoll_wait() per hash of the number: whom a set's first stack member must find. */
static _Atomic uint32_t plain_waiters[BUCKETS];
static uint64_t secret; /* the bell's tag; drawn when first needed */

/* Room for a harvest that does not fit the frame; used with signals put off. */
static __thread struct {
	struct watch_event *at;
	uint32_t cap;
} scratch __attribute__((tls_model("initial-exec")));

/* ------------------------------------------------------------------ memory, lock, numbers */

static void sets_lock(void)
{
	lib_enter();
	pthread_mutex_lock(&sets_mutex);
}

static void sets_unlock(void)
{
	pthread_mutex_unlock(&sets_mutex);
	lib_leave();
}

static void *cell_get(void)
{
	union cell *c = free_cells;

	if (!c) {
		c = pages_get(SLAB_BYTES);
		if (!c)
			return NULL;
		for (uint32_t i = 0; i < SLAB_BYTES / CELL_BYTES; i++) {
			c[i].next = free_cells;
			free_cells = &c[i];
		}
		c = free_cells;
	}
	free_cells = c->next;
	memset(c, 0, sizeof *c);
	return c;
}

static void cell_put(void *p)
{
	union cell *c = p;

	c->next = free_cells;
	free_cells = c;
}

static struct number **number_link(int fd)
{
	struct number **l = &numbers[(unsigned int)fd % BUCKETS];

	while (*l && (*l)->fd != fd)
		l = &(*l)->next;
	return l;
}

static struct set *set_of(int fd)
{
	struct number *n = *number_link(fd);

	return n ? n->set : NULL;
}

static uint64_t hidden_tag(ref listener)
{
	while (!secret) {
		if (getrandom(&secret, sizeof secret, 0) != sizeof secret)
			secret = netio_now() * 0x9e3779b97f4a7c15ull ^ (uint64_t)(uintptr_t)&secret;
	}
	return secret ^ (uint64_t)listener * 0xd6e8feb86659fd93ull;
}

static int kernel_ctl(int epfd, int op, int fd, uint32_t events, uint64_t data)
{
	struct epoll_event e = {.events = events, .data.u64 = data};

	return sys.epoll_ctl(epfd, op, fd, &e) < 0 ? -errno : 0;
}

/* ------------------------------------------------------------------ life of a set */

static struct tcp_member **tcp_bucket(int fd)
{
	return &tcp_members[(unsigned int)fd % BUCKETS];
}

static void tcp_forget_set(struct set *s)
{
	for (uint32_t b = 0; b < BUCKETS; b++) {
		struct tcp_member **l = &tcp_members[b], *m;

		while ((m = *l) != NULL) {
			if (m->set == s) {
				*l = m->next;
				cell_put(m);
			} else {
				l = &m->next;
			}
		}
	}
}

static void members_free(struct member *m)
{
	while (m) {
		struct member *next = m->next;

		cell_put(m);
		m = next;
	}
}

/* No set nests s any more: the kernel forgot it with its last number. */
static void outer_forget(const struct set *s)
{
	for (struct set *o = all_sets; o; o = o->next) {
		struct member **l = &o->sets, *m;

		while ((m = *l) != NULL) {
			if (m->inner == s) {
				*l = m->next;
				cell_put(m);
			} else {
				l = &m->next;
			}
		}
	}
}

static void set_put(struct set *s)
{
	struct set **l = &all_sets;

	if (--s->refs)
		return;
	while (*l != s)
		l = &(*l)->next;
	*l = s->next;
	outer_forget(s);
	tcp_forget_set(s);
	members_free(s->listeners);
	members_free(s->sets);
	if (s->ws) {
		waitset_destroy(s->ws);
		atomic_fetch_sub(&joined, 1);
	}
	cell_put(s);
}

void epoll_release_held(void *set)
{
	sets_lock();
	set_put(set);
	sets_unlock();
}

static void number_drop(int fd)
{
	struct number **l = number_link(fd), *n = *l;
	struct set *s;

	if (!n)
		return;
	s = n->set;
	*l = n->next;
	cell_put(n);
	s->numbers--;
	for (uint32_t b = 0; s->fd == fd && s->numbers && b < BUCKETS; b++)
		for (n = numbers[b]; n; n = n->next)
			if (n->set == s)
				s->fd = n->fd;
	if (!s->numbers)
		set_put(s);
}

static bool number_add(int fd, struct set *s)
{
	struct number *n;

	number_drop(fd); /* closed behind our back */
	n = cell_get();
	if (!n)
		return false;
	n->fd = fd;
	n->set = s;
	n->next = numbers[(unsigned int)fd % BUCKETS];
	numbers[(unsigned int)fd % BUCKETS] = n;
	s->numbers++;
	return true;
}

static struct set *set_new(int fd, int kernel_members)
{
	struct set *s = cell_get();

	if (!s)
		return NULL;
	s->refs = 1;
	s->fd = fd;
	s->kernel_members = kernel_members;
	s->next = all_sets;
	all_sets = s;
	if (!number_add(fd, s)) {
		set_put(s);
		return NULL;
	}
	return s;
}

/* A set that was not made before our eyes (inherited, or by a raw system call) may have members of the
 * kernel. */
static struct set *set_get(int fd)
{
	struct set *s = set_of(fd);

	return s ? s : set_new(fd, 1);
}

void epoll_created(int epfd)
{
	sets_lock();
	number_drop(epfd);
	set_new(epfd, 0);
	sets_unlock();
}

void epoll_closing(int epfd)
{
	sets_lock();
	number_drop(epfd);
	sets_unlock();
}

void epoll_copied(int from, int to)
{
	struct set *s;

	sets_lock();
	s = set_of(from);
	if (s && from != to)
		number_add(to, s);
	sets_unlock();
}

bool epoll_has_shadow(int epfd)
{
	struct set *s;
	bool yes;

	if (!atomic_load_explicit(&joined, memory_order_relaxed))
		return false;
	sets_lock();
	s = set_of(epfd);
	yes = s && s->ws;
	sets_unlock();
	return yes;
}

void epoll_before_fork(void)
{
	pthread_mutex_lock(&sets_mutex);
}

void epoll_parent_after_fork(void)
{
	pthread_mutex_unlock(&sets_mutex);
}

/*
 * In the child E is the same kernel object as the parent's, and W(E)'s evset is
 * shared as well; its epoll object is a new one, with E and the listeners to be
 * added. Without a part in the stack only the kernel's half goes on; `exposed`
 * and `listeners` then still name the parent's hidden members.
 */
void epoll_forked(bool shared)
{
	pthread_mutex_init(&sets_mutex, NULL);
	for (uint32_t b = 0; b < BUCKETS; b++)
		atomic_store(&plain_waiters[b], 0);
	for (struct set *s = all_sets; s; s = s->next) {
		s->refs = s->numbers != 0;
		if (!shared) {
			s->ws = NULL;
			continue;
		}
		if (!s->ws)
			continue;
		waitset_add_fd(s->ws, s->fd, EPOLLIN, TAG_KERNEL);
		for (struct member *m = s->listeners; m; m = m->next)
			waitset_add_fd(s->ws, m->kernel_fd, EPOLLIN | EPOLLET, TAG_LISTENER | m->d);
	}
	if (!shared)
		atomic_store(&joined, 0);
}

void epoll_call_in_progress(void *set)
{
	((struct set *)set)->refs++;
}

/* ------------------------------------------------------------------ joining and exposing */

static void expose(struct set *s);

/*
 * A thread that sleeps in the kernel's epoll_wait(E) since before the first
 * stack member came would never hear of it: with the bell in E it wakes, finds
 * a hidden member (epoll_plain_end), and goes on in epoll_shadow_wait().
 */
static void wake_plain(struct set *s)
{
	for (uint32_t b = 0; b < BUCKETS; b++)
		for (struct number *n = numbers[b]; n; n = n->next)
			if (n->set == s && atomic_load(&plain_waiters[b]))
				expose(s);
}

/* W(E) for s, and for every set that contains it. 0 or a negative errno. */
static int join(struct set *s)
{
	int r;

	if (s->ws)
		return 0;
	r = waitset_create(the_stack, &s->ws);
	if (r < 0) {
		s->ws = NULL;
		return r;
	}
	waitset_inherit(s->ws);
	r = waitset_add_fd(s->ws, s->fd, EPOLLIN, TAG_KERNEL);
	if (r < 0) {
		waitset_destroy(s->ws);
		s->ws = NULL;
		return r;
	}
	atomic_fetch_add(&joined, 1);
	wake_plain(s);
	for (struct set *o = all_sets; !r && o; o = o->next)
		for (struct member *m = o->sets; !r && m; m = m->next)
			if (m->inner == s) {
				expose(s);
				r = join(o);
			}
	return r;
}

/* Make the kernel's poll of E say what the stack's list says. */
static void expose(struct set *s)
{
	struct stack_cx *cx;

	if (s->exposed || !s->ws)
		return;
	s->exposed = true;
	atomic_store(&any_exposed, true);
	kernel_ctl(s->fd, EPOLL_CTL_ADD, waitset_bell(s->ws), EPOLLIN, hidden_tag(REF_NONE));
	kernel_ctl(s->fd, EPOLL_CTL_ADD, waitset_post(s->ws), EPOLLIN, hidden_tag(REF_NONE));
	for (struct member *m = s->listeners; m; m = m->next)
		kernel_ctl(s->fd, EPOLL_CTL_ADD, m->kernel_fd, EPOLLIN | EPOLLET, hidden_tag(m->d));
	cx = netio_enter(the_stack);
	waitset_ring_always(s->ws, cx, true);
	netio_leave(the_stack);
}

void epoll_expose(int fd)
{
	struct set *s;

	sets_lock();
	s = set_of(fd);
	if (s)
		expose(s);
	sets_unlock();
}

/* The bell of s, and of what it contains, is up only while something is ready. The kernel limits the depth.
 */
static void settle(struct set *s)
{
	for (struct member *m = s->sets; m; m = m->next)
		settle(m->inner);
	if (s->exposed && s->ws) {
		struct stack_cx *cx = netio_enter(the_stack);
		evset_ready(cx, waitset_evset(s->ws));
		netio_leave(the_stack);
	}
}

void epoll_settle(int fd)
{
	struct set *s;

	sets_lock();
	s = set_of(fd);
	if (s)
		settle(s);
	sets_unlock();
}

/* ------------------------------------------------------------------ members on the stack */

static uint64_t key_of(int fd, ref d, bool exclusive)
{
	return (uint64_t)d << 32 | (uint32_t)fd | (exclusive ? EXCLUSIVE_KEY : 0);
}

static struct member **listener_link(struct set *s, int fd, ref d)
{
	struct member **l = &s->listeners;

	while (*l && ((*l)->fd != fd || (*l)->d != d))
		l = &(*l)->next;
	return l;
}

static struct member *listener_of(const struct set *s, ref d)
{
	struct member *m = s->listeners;

	while (m && m->d != d)
		m = m->next;
	return m;
}

/* The kernel half of a listener: into W(E), and into E if others look at it. */
static int listener_add(struct set *s, int fd, ref d)
{
	struct description *desc = description_of(d);
	struct member *m;
	int r;

	if (desc->kind != FD_LISTENER || local_of(d)->kernel_fd < 0)
		return 0;
	m = cell_get();
	if (!m)
		return -ENOMEM;
	m->fd = fd;
	m->d = d;
	m->kernel_fd = local_of(d)->kernel_fd;
	r = waitset_add_fd(s->ws, m->kernel_fd, EPOLLIN | EPOLLET, TAG_LISTENER | d);
	if (r < 0 && r != -EEXIST) {
		cell_put(m);
		return r;
	}
	if (s->exposed)
		kernel_ctl(s->fd, EPOLL_CTL_ADD, m->kernel_fd, EPOLLIN | EPOLLET, hidden_tag(d));
	netio_enter(the_stack);
	m->next = s->listeners;
	s->listeners = m;
	netio_leave(the_stack);
	return 0;
}

static void listener_remove(struct set *s, int fd, ref d)
{
	struct member **l = listener_link(s, fd, d), *m = *l;

	if (!m)
		return;
	netio_enter(the_stack);
	*l = m->next;
	netio_leave(the_stack);
	if (!listener_of(s, d)) {
		waitset_del_fd(s->ws, m->kernel_fd);
		if (s->exposed)
			kernel_ctl(s->fd, EPOLL_CTL_DEL, m->kernel_fd, 0, 0);
	}
	cell_put(m);
}

static ref find(struct stack_cx *cx, struct set *s, int fd, ref d, bool *exclusive)
{
	ref set = waitset_evset(s->ws), w = watch_find(cx, set, key_of(fd, d, false));

	*exclusive = false;
	if (!w) {
		w = watch_find(cx, set, key_of(fd, d, true));
		*exclusive = w != REF_NONE;
	}
	return w;
}

static int stack_add(struct set *s, int fd, ref d, const struct epoll_event *e)
{
	struct description *desc = description_of(d);
	struct stack_cx *cx;
	bool exclusive;
	int r = join(s);

	if (r < 0)
		return r;
	cx = netio_enter(the_stack);
	if (!desc->sock)
		r = -EBADF;
	else if (find(cx, s, fd, d, &exclusive))
		r = -EEXIST;
	else if (!watch_add(cx, waitset_evset(s->ws), desc->sock, e->events, e->data.u64,
			    key_of(fd, d, e->events & EPOLLEXCLUSIVE)))
		r = -ENOMEM;
	netio_leave(the_stack);
	return r < 0 ? r : listener_add(s, fd, d);
}

static int stack_modify(struct set *s, int fd, ref d, const struct epoll_event *e)
{
	struct stack_cx *cx = netio_enter(the_stack);
	bool exclusive;
	ref w = find(cx, s, fd, d, &exclusive);
	int r = !w ? -ENOENT : exclusive ? -EINVAL : 0;

	if (!r)
		watch_modify(cx, w, e->events, e->data.u64);
	netio_leave(the_stack);
	return r;
}

static int stack_remove(struct set *s, int fd, ref d)
{
	struct stack_cx *cx = netio_enter(the_stack);
	bool exclusive;
	ref w = find(cx, s, fd, d, &exclusive);

	if (w)
		watch_remove(cx, w);
	netio_leave(the_stack);
	if (!w)
		return -ENOENT;
	listener_remove(s, fd, d);
	return 0;
}

/* Is epfd an epoll descriptor at all? The placeholder's number is open, so the kernel looks at epfd. */
static int check_set(int epfd, int fd)
{
	int r;

	if (fd_kind(epfd) == FD_EPOLL)
		return 0;
	r = kernel_ctl(epfd, EPOLL_CTL_MOD, fd, 0, 0);
	return r == -ENOENT ? 0 : r < 0 ? r : -EINVAL;
}

/* fs/eventpoll.c: do_epoll_ctl(), for a stack socket. e is NULL for DEL. */
static int stack_ctl(int epfd, int op, int fd, ref d, const struct epoll_event *e)
{
	struct set *s;
	int r = check_set(epfd, fd);

	if (r < 0)
		return r;
	if (e && (e->events & EPOLLEXCLUSIVE) &&
	    (op == EPOLL_CTL_MOD || (op == EPOLL_CTL_ADD && (e->events & ~EXCLUSIVE_ALLOWED))))
		return -EINVAL;
	sets_lock();
	s = op == EPOLL_CTL_ADD ? set_get(epfd) : set_of(epfd);
	if (!s)
		r = op == EPOLL_CTL_ADD ? -ENOMEM : -ENOENT;
	else if (op == EPOLL_CTL_ADD)
		r = stack_add(s, fd, d, e);
	else if (!s->ws)
		r = -ENOENT;
	else
		r = op == EPOLL_CTL_MOD ? stack_modify(s, fd, d, e) : stack_remove(s, fd, d);
	sets_unlock();
	return r;
}

/* ------------------------------------------------------------------ members in the kernel */

static void tcp_record(struct set *s, int op, int fd, const struct epoll_event *e)
{
	struct tcp_member **l = tcp_bucket(fd), *m;

	while (*l && ((*l)->fd != fd || (*l)->set != s))
		l = &(*l)->next;
	m = *l;
	if (op == EPOLL_CTL_DEL) {
		if (m) {
			*l = m->next;
			cell_put(m);
		}
		return;
	}
	if (!m) {
		m = cell_get();
		if (!m)
			return;
		m->next = *tcp_bucket(fd);
		*tcp_bucket(fd) = m;
	}
	m->set = s;
	m->fd = fd;
	m->moving = false;
	m->event = *e;
}

/* E2 got (or lost) E: E2's readers must drive the stack, and E must tell the kernel when it is ready. */
static void nest_record(struct set *outer, int op, int fd)
{
	struct member **l = &outer->sets, *m;

	while (*l && (*l)->fd != fd)
		l = &(*l)->next;
	m = *l;
	if (op == EPOLL_CTL_DEL && m) {
		*l = m->next;
		cell_put(m);
	} else if (op == EPOLL_CTL_ADD && !m && (m = cell_get()) != NULL) {
		m->fd = fd;
		m->inner = set_get(fd);
		m->next = outer->sets;
		outer->sets = m;
		if (m->inner && m->inner->ws) {
			expose(m->inner);
			join(outer);
		}
	}
}

static int kernel_member_ctl(int epfd, int op, int fd, enum fd_kind kind, struct epoll_event *e)
{
	struct set *s;
	int r = sys.epoll_ctl(epfd, op, fd, e) < 0 ? -errno : 0;

	if (r < 0)
		return r;
	sets_lock();
	s = kind == FD_KERNEL ? set_of(epfd) : set_get(epfd);
	if (s) {
		if (op == EPOLL_CTL_ADD)
			s->kernel_members++;
		else if (op == EPOLL_CTL_DEL && s->kernel_members > 0)
			s->kernel_members--;
		if (kind == FD_TCP)
			tcp_record(s, op, fd, e);
		else if (kind == FD_EPOLL)
			nest_record(s, op, fd);
	}
	sets_unlock();
	return r;
}

int epoll_shadow_ctl(int epfd, int op, int fd, struct epoll_event *ev)
{
	enum fd_kind kind = fd_kind(fd);
	struct epoll_event e = {0};
	int r;
	ref d;

	if (kind == FD_KERNEL && the_stack && (netio_owns_fd(fd) || netio_owns_fd(epfd)))
		return -EBADF;
	if (kind != FD_STREAM && kind != FD_LISTENER)
		return kernel_member_ctl(epfd, op, fd, kind, ev);
	if (op != EPOLL_CTL_DEL) {
		if (!memory_readable(ev, sizeof *ev))
			return -EFAULT;
		e = *ev;
		if (op != EPOLL_CTL_ADD && op != EPOLL_CTL_MOD)
			return -EINVAL;
	}
	d = fd_hold(fd);
	if (!d)
		return kernel_member_ctl(epfd, op, fd, fd_kind(fd), ev);
	r = stack_ctl(epfd, op, fd, d, op == EPOLL_CTL_DEL ? NULL : &e);
	fd_release(d);
	return r;
}

/* ------------------------------------------------------------------ a socket changes sides (D4) */

/* The next number in a line of /proc/self/fdinfo, after `name`. */
static const char *field(const char *line, const char *name, int base, uint64_t *value)
{
	const char *p = strstr(line, name);
	uint64_t v = 0;

	if (!p)
		return NULL;
	for (p += strlen(name); *p == ' '; p++)
		;
	for (;; p++) {
		int digit = *p >= '0' && *p <= '9' ? *p - '0' : *p >= 'a' && *p <= 'f' ? *p - 'a' + 10 : 99;
		if (digit >= base)
			break;
		v = v * (uint64_t)base + (uint64_t)digit;
	}
	*value = v;
	return p;
}

/*
 * Has a ONESHOT member fired, and not been armed again? Only the kernel knows;
 * it tells in fdinfo ("tfd: 5 events: 4000001d data: ..."). Without /proc: no.
 */
static bool oneshot_fired(const struct tcp_member *m)
{
	char path[48], text[4096];
	uint64_t tfd, events;
	long fd, n;

	log_format(path, sizeof path, "/proc/self/fdinfo/%d", m->set->fd);
	fd = sys.syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	n = sys.read((int)fd, text, sizeof text - 1);
	sys.close((int)fd);
	text[n > 0 ? n : 0] = 0;
	for (const char *p = text; p;) {
		p = field(p, "tfd:", 10, &tfd);
		p = p ? field(p, "events:", 16, &events) : NULL;
		if (p && tfd == (uint64_t)m->fd)
			return !((uint32_t)events & ~MODIFIERS);
	}
	return false;
}

int epoll_before_replace(int fd)
{
	struct tcp_member **l, *m;

	sets_lock();
	for (l = tcp_bucket(fd); (m = *l) != NULL;) {
		if (m->fd != fd) {
			l = &m->next;
			continue;
		}
		if ((m->event.events & EPOLLONESHOT) && oneshot_fired(m))
			m->event.events &= MODIFIERS;
		if (kernel_ctl(m->set->fd, EPOLL_CTL_DEL, fd, 0, 0) < 0) {
			*l = m->next; /* the number meant another file then */
			cell_put(m);
			continue;
		}
		m->moving = true;
		if (m->set->kernel_members > 0)
			m->set->kernel_members--;
		l = &m->next;
	}
	sets_unlock();
	return 0;
}

int epoll_after_replace(int fd, ref d)
{
	struct tcp_member **l, *m;
	int r = 0;

	sets_lock();
	for (l = tcp_bucket(fd); (m = *l) != NULL;) {
		if (m->fd != fd || !m->moving) {
			l = &m->next;
			continue;
		}
		if (!d) { /* it stays in the kernel after all */
			m->moving = false;
			if (!kernel_ctl(m->set->fd, EPOLL_CTL_ADD, fd, m->event.events, m->event.data.u64))
				m->set->kernel_members++;
			l = &m->next;
			continue;
		}
		r = stack_add(m->set, fd, d, &m->event);
		*l = m->next;
		cell_put(m);
		if (r < 0)
			break;
	}
	sets_unlock();
	return r;
}

/*
 * The watches stay while another process has the description: as in the kernel,
 * a membership lives as long as the open file. With the last one they go.
 */
void epoll_description_gone(ref d)
{
	struct member *m;

	if (!atomic_load(&joined))
		return;
	sets_lock();
	for (struct set *s = all_sets; s; s = s->next)
		while ((m = listener_of(s, d)) != NULL)
			listener_remove(s, m->fd, d);
	sets_unlock();
}

/* ------------------------------------------------------------------ epoll_wait */

struct call {
	struct set *set;
	int epfd;
	struct epoll_event *ev;
	int max;
	nsec deadline;
	const sigset_t *mask;
	uint32_t before; /* thread_marks.ran */
};

/*
 * The kernel half of listener d has one more connection: an edge, also when the
 * bit is up already. Under the stack's lock.
 */
static void listener_report(struct stack_cx *cx, ref d)
{
	struct description *desc = description_at(cx, d);

	if (!pool_valid(cx, POOL_DESCRIPTION, d) || desc->kind != FD_LISTENER || !desc->sock)
		return;
	watch_kernel_bits(cx, desc->sock, 0);
	watch_kernel_bits(cx, desc->sock, SOCK_IN);
}

/*
 * Under the stack's lock: take back the kernel half's bit from listeners whose
 * connection somebody else has accepted. Asks only where the bit alone decides.
 */
static void listeners_refresh(struct stack_cx *cx, struct set *s)
{
	for (struct member *m = s->listeners; m; m = m->next) {
		struct description *desc = description_at(cx, m->d);
		struct pollfd p = {.fd = m->kernel_fd, .events = POLLIN};

		if (!desc->sock || (sock_events(cx, desc->sock) & SOCK_IN) ||
		    !(watch_level(cx, desc->sock) & SOCK_IN))
			continue;
		if (sys.poll(&p, 1, 0) == 0)
			watch_kernel_bits(cx, desc->sock, 0);
	}
}

/* Is this tag one of our hidden members'? Then tell the list what it means. */
static bool hidden(struct set *s, uint64_t tag)
{
	struct stack_cx *cx;
	bool found = tag == hidden_tag(REF_NONE);

	for (struct member *m = s->listeners; m && !found; m = m->next) {
		found = tag == hidden_tag(m->d);
		if (found && s->ws) {
			cx = netio_enter(the_stack);
			listener_report(cx, m->d);
			netio_leave(the_stack);
		}
	}
	return found;
}

/* What the kernel has in E, from c->ev[at] on. How many, or a negative errno. */
static int kernel_events(struct call *c, int at)
{
	int n, kept = at;

	sets_lock();
	if (c->set->exposed || c->set->sets)
		settle(c->set);
	sets_unlock();
	if (!c->set->numbers)
		return 0; /* closed under us: the number may be another file's by now */
	n = sys.epoll_wait(c->epfd, c->ev + at, c->max - at, 0);
	if (n < 0)
		return errno == EINTR ? 0 : -errno;
	if (!c->set->exposed)
		return n;
	for (int i = at; i < at + n; i++)
		if (!hidden(c->set, c->ev[i].data.u64))
			c->ev[kept++] = c->ev[i];
	return kept - at;
}

bool epoll_plain_begin(int epfd)
{
	_Atomic uint32_t *plain = &plain_waiters[(unsigned int)epfd % BUCKETS];

	/* The other half of the pair is join(): it counts the set, then looks here. */
	atomic_fetch_add(plain, 1);
	if (!epoll_has_shadow(epfd))
		return true;
	atomic_fetch_sub(plain, 1);
	return false;
}

int epoll_plain_end(int epfd, struct epoll_event *ev, int n)
{
	struct set *s;
	int kept = 0;

	atomic_fetch_sub(&plain_waiters[(unsigned int)epfd % BUCKETS], 1);
	if (n <= 0 || !atomic_load_explicit(&any_exposed, memory_order_relaxed))
		return n;
	sets_lock();
	s = set_of(epfd);
	for (int i = 0; i < n; i++)
		if (!s || !s->exposed || !hidden(s, ev[i].data.u64))
			ev[kept++] = ev[i];
	sets_unlock();
	return kept ? kept : EPOLL_PLAIN_AGAIN;
}

static struct watch_event *take_room(struct watch_event *few, uint32_t *n)
{
	uint32_t want = *n;

	if (want <= TAKE_INLINE)
		return few;
	if (scratch.cap < want) {
		uint32_t cap = (want + 1023) & ~1023u;
		void *p = pages_get(cap * sizeof *scratch.at);

		if (p) {
			if (scratch.at)
				pages_put(scratch.at, scratch.cap * sizeof *scratch.at);
			scratch.at = p;
			scratch.cap = cap;
		}
	}
	if (scratch.cap) {
		*n = MIN_OF(want, scratch.cap);
		return scratch.at;
	}
	*n = TAKE_INLINE;
	return few;
}

/* One burst, then what the stack has, from c->ev[at] on; if there is nothing, publish (when allowed). */
static int stack_events(struct call *c, int at, bool may_publish)
{
	struct waitset *ws = c->set->ws;
	struct watch_event few[TAKE_INLINE], *taken;
	struct stack_cx *cx = netio_enter(the_stack);
	uint32_t room;
	int n;

	waitset_attend(ws, cx, at < c->max); /* else the others must hear of it */
	netio_drive(the_stack, cx);
	listeners_refresh(cx, c->set);
	room = MIN_OF((uint32_t)(c->max - at), evset_watch_count(cx, waitset_evset(ws)));
	taken = take_room(few, &room);
	n = room ? evset_harvest(cx, waitset_evset(ws), taken, (int)room) : 0;
	waitset_attend(ws, cx, false);
	if (!n && !at && may_publish)
		waitset_publish(ws, cx);
	netio_leave(the_stack);
	for (int i = 0; i < n; i++) {
		c->ev[at + i].events = taken[i].events;
		c->ev[at + i].data.u64 = taken[i].data;
	}
	return n;
}

/* Sleep in W(E). *kernel: E has something. 0 or a negative errno. */
static int set_sleep(struct call *c, struct wait_result *r, bool *kernel)
{
	struct stack_cx *cx;
	int slept = wait_sleep(c->set->ws, NULL, 0, c->deadline, c->mask, r);

	*kernel = false;
	cx = netio_enter(the_stack);
	waitset_withdraw(c->set->ws, cx);
	for (int i = 0; i < r->tag_count; i++) {
		if (r->tag[i] == TAG_KERNEL)
			*kernel = true;
		else
			listener_report(cx, (ref)r->tag[i]);
	}
	netio_leave(the_stack);
	return slept;
}

static int call_run(struct call *c)
{
	struct set *s = c->set;
	const bool kernel_turn = s->kernel_turn;
	bool ask = s->kernel_members > 0, kernel_first = kernel_turn, finished = false, interrupted = false;
	/* A zero time-out with nothing but E to look at needs no sleep to find out. */
	bool direct = c->deadline <= netio_now() && !s->listeners;
	struct wait_result r;

	for (;;) {
		int n = 0, more;

		if (ask && kernel_first) {
			n = kernel_events(c, 0);
			if (n < 0)
				return n;
		}
		n += stack_events(c, n, !finished && !direct);
		if ((n && n < c->max && ask && !kernel_first) || (!n && direct && s->kernel_members)) {
			more = kernel_events(c, n);
			n = more > 0 ? n + more : n ? n : more;
		}
		if (n || direct) {
			s->kernel_turn = n == c->max && !kernel_turn;
			return n;
		}
		if (finished)
			return interrupted ? -EINTR : 0;
		more = set_sleep(c, &r, &ask);
		if (more < 0 && more != -EINTR)
			return more;
		interrupted = wait_interrupted(c->before) || more == -EINTR;
		finished = interrupted || r.timed_out;
		ask = ask || (interrupted && s->kernel_members);
		kernel_first = true;
	}
}

static int call_execute(struct call *c)
{
	int r, hold = wait_hold(__builtin_frame_address(0), epoll_release_held, c->set);

	c->before = thread_marks.ran;
	pthread_cleanup_push(epoll_release_held, c->set);
	pthread_cleanup_push(wait_cancelled, c->set->ws);
	r = call_run(c);
	pthread_cleanup_pop(0);
	pthread_cleanup_pop(0);
	wait_unhold(hold);
	return r;
}

/*
 * The set has no stack half (any more). After a fork() the child may share one
 * that has the parent's hidden members: the parent's bell can be up for long,
 * so the child looks at intervals then.
 */
static int kernel_wait(const struct call *c)
{
	const struct timespec pause = {0, 5 * NS_PER_MS};
	struct timespec ts;

	for (;;) {
		nsec now = netio_now(), ns = c->deadline > now ? c->deadline - now : 0;
		int n;

		ts = (struct timespec){(time_t)(ns / NS_PER_S), (long)(ns % NS_PER_S)};
		atomic_fetch_add(&plain_waiters[(unsigned int)c->epfd % BUCKETS], 1);
		n = sys.epoll_pwait2(c->epfd, c->ev, c->max, c->deadline == NSEC_NEVER ? NULL : &ts, c->mask);
		n = epoll_plain_end(c->epfd, c->ev, n < 0 ? -errno : n);
		if (n != EPOLL_PLAIN_AGAIN)
			return n;
		if (!ns)
			return 0;
		sys.ppoll(NULL, 0, &pause, NULL);
	}
}

int epoll_shadow_wait(int epfd, struct epoll_event *ev, int max, nsec deadline, const sigset_t *mask)
{
	struct call c = {.epfd = epfd, .ev = ev, .max = max, .deadline = deadline, .mask = mask};
	int r;

	if (max <= 0 || max > EVENTS_MAX)
		return -EINVAL;
	if (!memory_readable(ev, sizeof *ev))
		return -EFAULT;
	lib_enter();
	sets_lock();
	c.set = set_of(epfd);
	if (c.set && !c.set->ws)
		c.set = NULL;
	if (c.set)
		c.set->refs++;
	sets_unlock();
	if (c.set) {
		r = call_execute(&c);
		epoll_release_held(c.set);
		lib_leave();
	} else {
		lib_leave();
		r = kernel_wait(&c);
	}
	return r;
}
