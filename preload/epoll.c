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
 * Files: epoll.c            sets, their numbers and lives, fork
 *        epoll_ctl.c        members
 *        epoll_move.c       a socket changes sides (D4)
 *        epoll_leave.c      the way back: a sandbox
 *        epoll_heir.c       sets that come from another image or process, or go there
 *        epoll_info.c       what the kernel says of a set's members
 *        epoll_nest.c       W(E), sets in sets, the bell for those who watch E
 *        epoll_wait.c       harvest and wait
 *
 * Place in the flow: calls_epoll.c -> here -> wait.c, netio.h.
 */
#include <pthread.h>

#include "preload/epoll.h"

#define CELL_BYTES 128u
#define SLAB_BYTES 65536u

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
struct set *epoll_sets;
struct number *epoll_numbers[EPOLL_BUCKETS];
struct tcp_member *epoll_tcp_members[EPOLL_BUCKETS];
_Atomic uint32_t epoll_joined;
atomic_bool epoll_any_exposed;
_Atomic uint32_t epoll_plain_waiters[EPOLL_BUCKETS];
_Atomic uint32_t epoll_plain_pollers;
UTCP_EARLY atomic_bool epoll_any;

/* ------------------------------------------------------------------ memory, lock, numbers */

void sets_lock(void)
{
	lib_enter();
	pthread_mutex_lock(&sets_mutex);
}

void sets_unlock(void)
{
	pthread_mutex_unlock(&sets_mutex);
	lib_leave();
}

void *cell_get(void)
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

void cell_put(void *p)
{
	union cell *c = p;

	c->next = free_cells;
	free_cells = c;
}

static struct number **number_link(int fd)
{
	struct number **l = &epoll_numbers[(unsigned int)fd % EPOLL_BUCKETS];

	while (*l && (*l)->fd != fd)
		l = &(*l)->next;
	return l;
}

struct set *set_of(int fd)
{
	struct number *n = *number_link(fd);

	return n ? n->set : NULL;
}

uint64_t set_tag(const struct set *s, ref listener)
{
	return s->tag ^ (uint64_t)listener * 0xd6e8feb86659fd93ull;
}

int epoll_kernel_ctl(int epfd, int op, int fd, uint32_t events, uint64_t data)
{
	struct epoll_event e = {.events = events, .data.u64 = data};

	return sys.epoll_ctl(epfd, op, fd, &e) < 0 ? -errno : 0;
}

/* ------------------------------------------------------------------ life of a set */

static void tcp_forget_set(struct set *s)
{
	for (uint32_t b = 0; b < EPOLL_BUCKETS; b++) {
		struct tcp_member **l = &epoll_tcp_members[b], *m;

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
	for (struct set *o = epoll_sets; o; o = o->next) {
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

void set_put(struct set *s)
{
	struct set **l = &epoll_sets;

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
		atomic_fetch_sub(&epoll_joined, 1);
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
	for (uint32_t b = 0; s->fd == fd && s->numbers && b < EPOLL_BUCKETS; b++)
		for (n = epoll_numbers[b]; n; n = n->next)
			if (n->set == s)
				s->fd = n->fd;
	if (!s->numbers)
		set_put(s);
}

bool number_add(int fd, struct set *s)
{
	struct number *n;

	number_drop(fd); /* closed behind our back */
	n = cell_get();
	if (!n)
		return false;
	n->fd = fd;
	n->set = s;
	n->next = epoll_numbers[(unsigned int)fd % EPOLL_BUCKETS];
	epoll_numbers[(unsigned int)fd % EPOLL_BUCKETS] = n;
	s->numbers++;
	return true;
}

struct set *set_new(int fd, int kernel_members)
{
	struct set *s = cell_get();

	if (!s)
		return NULL;
	s->refs = 1;
	s->fd = fd;
	s->kernel_members = kernel_members;
	s->next = epoll_sets;
	epoll_sets = s;
	if (!number_add(fd, s)) {
		set_put(s);
		return NULL;
	}
	return s;
}

/* A set that was not made before our eyes (inherited, or by a raw system call) may have members of the
 * kernel. */
struct set *set_get(int fd)
{
	struct set *s = set_of(fd);

	return s ? s : set_new(fd, 1);
}

void epoll_created(int epfd)
{
	atomic_store(&epoll_any, true);
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

	if (!atomic_load(&epoll_joined))
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
	for (uint32_t b = 0; b < EPOLL_BUCKETS; b++)
		atomic_store(&epoll_plain_waiters[b], 0);
	atomic_store(&epoll_plain_pollers, 0);
	for (struct set *s = epoll_sets; s; s = s->next) {
		s->refs = s->numbers != 0;
		if (!shared) {
			s->ws = NULL;
			continue;
		}
		if (!s->ws)
			continue;
		if (!s->polled)
			waitset_add_fd(s->ws, s->fd, EPOLLIN, TAG_KERNEL);
		for (struct member *m = s->listeners; m; m = m->next)
			waitset_add_fd(s->ws, m->kernel_fd, EPOLLIN | EPOLLET, TAG_LISTENER | m->d);
	}
	if (!shared)
		atomic_store(&epoll_joined, 0);
}

void epoll_call_in_progress(void *set)
{
	((struct set *)set)->refs++;
}
