/*
 * fdtable.c - what every descriptor number means, and the life of open file
 * descriptions.
 *
 * Theory of operation. The table has two levels: 2^16 pointers to pages of 2^14
 * entries, so that any number up to 2^30 costs one array read and memory only
 * where sockets are. An entry is one atomic word (kind, description, facts) plus
 * the set of options that the application touched. A number that we never saw
 * reads as the kernel's.
 *
 * A description is in the region; struct local is what this process has of it,
 * in a second table of the same kind by the description's place: the count of
 * its numbers plus the calls in progress. fd_hold() reads the entry, raises the
 * count unless it is zero, and reads the entry again: if it changed, the number
 * was closed meanwhile and it starts over. That is safe without a lock because
 * locals are never unmapped and a free one has count zero. When the count drops
 * to zero this process gives up its part, and with the last process's the core
 * socket is closed: so close() in one thread lets a call that blocks in another
 * finish on the old description, as the kernel's file references do.
 *
 * Every change of the table is made by the thread that owns the number (it just
 * got it from the kernel) or by an exchange to zero in fd_closing(), so that two
 * racing close() calls do the bookkeeping once. A vfork() child shares our
 * memory but has its own numbers: it must leave the table alone.
 *
 * Place in the flow: the first thing that each wrapper asks.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <time.h>

#include "preload/fdtable.h"

#define WORD_KIND(w)  ((enum fd_kind)(((w) >> 32) & 15))
#define WORD_REF(w)   ((ref)(w))
#define WORD_SHARED   (1ull << 36)	      /* FD_TCP: was dup'ed, other numbers may name the same socket */
#define WORD_V6	      (1ull << 37)	      /* FD_TCP: AF_INET6 */
#define WORD_DECIDED  (1ull << 38)	      /* FD_KERNEL: a TCP socket of ours, for good the kernel's */
#define WORD_FORKS(w) ((uint16_t)((w) >> 48)) /* FD_TCP: process.fork_count when it was made */
#define WORD(kind, r) ((uint64_t)(kind) << 32 | (uint64_t)(r))

_Atomic(struct fd_entry *) fd_pages[FD_PAGE_COUNT];
UTCP_EARLY _Atomic bool fd_stack_seen;
UTCP_EARLY _Atomic uint32_t fd_limit;
static _Atomic int highest = -1; /* no entry above it was ever used */
static uint8_t *region_base;

/* Locals: a page for each extent of 64 KiB, that is 256 descriptions. */
#define EXTENT_REFS  1024u
#define EXTENT_DESCS 256u
#define EXTENTS_MAX  (1u << 18) /* 16 GiB of region */
static _Atomic(struct local *) *local_pages;

static struct fd_entry *entry_find(int fd)
{
	if ((unsigned int)fd >= FD_NUMBERS)
		return NULL;
	struct fd_entry *page =
	    atomic_load_explicit(&fd_pages[(unsigned int)fd >> FD_PAGE_BITS], memory_order_acquire);
	return page ? &page[(unsigned int)fd & (FD_PAGE_SIZE - 1)] : NULL;
}

static void limit_raise(uint32_t to)
{
	uint32_t seen = atomic_load_explicit(&fd_limit, memory_order_relaxed);

	while (seen < to && !atomic_compare_exchange_weak(&fd_limit, &seen, to))
		;
}

static struct fd_entry *entry_make(int fd)
{
	struct fd_entry *e = entry_find(fd), *expected = NULL, *page;

	if ((unsigned int)fd >= FD_NUMBERS)
		return NULL;
	if (!e) {
		page = mmap(NULL, FD_PAGE_SIZE * sizeof *page, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		if (page == MAP_FAILED)
			return NULL;
		if (!atomic_compare_exchange_strong(&fd_pages[(unsigned int)fd >> FD_PAGE_BITS], &expected,
						    page))
			munmap(page, FD_PAGE_SIZE * sizeof *page);
		e = entry_find(fd);
	}
	int seen = atomic_load_explicit(&highest, memory_order_relaxed);
	while (seen < fd && !atomic_compare_exchange_weak(&highest, &seen, fd))
		;
	limit_raise((uint32_t)fd + 1);
	return e;
}

/* ------------------------------------------------------------ descriptions */

void fdtable_set_base(uint8_t *base)
{
	region_base = base;
	limit_raise(FD_NUMBERS);
	atomic_store(&fd_stack_seen, true);
}

struct description *description_of(ref d)
{
	return (struct description *)(void *)(region_base + (uint64_t)d * REF_GRAIN);
}

static void *zeroed(size_t bytes)
{
	void *p =
	    mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

static struct local *local_find(ref d)
{
	struct local *page = local_pages && d / EXTENT_REFS < EXTENTS_MAX
				 ? atomic_load_explicit(&local_pages[d / EXTENT_REFS], memory_order_acquire)
				 : NULL;

	return page ? &page[d % EXTENT_REFS / (EXTENT_REFS / EXTENT_DESCS)] : NULL;
}

struct local *local_of(ref d)
{
	static struct local none = {.kernel_fd = -1};
	struct local *l = local_find(d);

	return l ? l : &none;
}

/* Under the stack's lock. */
static struct local *local_make(ref d)
{
	struct local *page;

	if (!local_pages)
		local_pages = zeroed(EXTENTS_MAX * sizeof *local_pages);
	if (!local_pages || d / EXTENT_REFS >= EXTENTS_MAX)
		return NULL;
	if (!atomic_load(&local_pages[d / EXTENT_REFS])) {
		page = zeroed(EXTENT_DESCS * sizeof *page);
		if (!page)
			return NULL;
		atomic_store_explicit(&local_pages[d / EXTENT_REFS], page, memory_order_release);
	}
	return local_find(d);
}

ref description_new(struct stack_cx *cx, enum fd_kind kind, ref sock)
{
	ref d = pool_alloc(cx, POOL_DESCRIPTION, sock);
	struct local *l = d ? local_make(d) : NULL;
	struct description *p;

	if (!d)
		return REF_NONE;
	p = description_at(cx, d);
	if (l)
		l->hold = netio_hold(the_stack, cx, d);
	if (!l || !l->hold) {
		pool_free(cx, POOL_DESCRIPTION, d);
		return REF_NONE;
	}
	p->sock = sock;
	p->kind = (uint8_t)kind;
	p->rcvlowat = 1;
	l->child_hold = REF_NONE;
	l->kernel_fd = -1;
	l->forks = atomic_load(&process.fork_count);
	atomic_store(&l->half_known, false);
	atomic_store(&l->numbers, 0);
	atomic_store(&l->refs, 1);
	return d;
}

void description_discard(struct stack_cx *cx, ref d)
{
	struct local *l = local_of(d);

	atomic_store(&l->refs, 0);
	netio_unhold(the_stack, cx, l->hold);
	l->hold = l->child_hold = REF_NONE;
	pool_free(cx, POOL_DESCRIPTION, d);
}

static void description_free(ref d)
{
	struct description *p = description_of(d);
	struct local *l = local_of(d);
	int kernel_fd = l->kernel_fd;

	if (!the_stack || !l->hold)
		return;
	epoll_description_gone(d);
	if (p->kind == FD_STREAM)
		linger_wait(p);
	lib_enter();
	struct stack_cx *cx = netio_enter(the_stack);
	ref hold = l->hold;
	if (!hold || atomic_load(&l->refs)) { /* it has come to this process again (description_take) */
		netio_leave(the_stack);
		lib_leave();
		return;
	}
	/* From here on another thread may get the same place for a new description. */
	l->hold = l->child_hold = REF_NONE;
	l->kernel_fd = -1;
	if (netio_unhold(the_stack, cx, hold)) {
		if (p->sock) {
			watch_remove_socket(cx, p->sock);
			sock_close(cx, p->sock);
			p->sock = REF_NONE;
		}
		pool_free(cx, POOL_DESCRIPTION, d);
	}
	netio_leave(the_stack);
	lib_leave();
	if (kernel_fd >= 0)
		netio_unprotect_close(kernel_fd);
}

void fd_release(ref d)
{
	if (atomic_fetch_sub_explicit(&local_of(d)->refs, 1, memory_order_acq_rel) == 1)
		description_free(d);
}

void fd_release_held(void *d)
{
	fd_release((ref)(uintptr_t)d);
}

/* Raise a count that is not zero, of a description that the end of the process has not closed. */
static bool description_hold(ref d)
{
	_Atomic uint32_t *refs = &local_of(d)->refs;
	uint32_t n = atomic_load_explicit(refs, memory_order_relaxed);

	while (n && !(n & REFS_AT_END))
		if (atomic_compare_exchange_weak_explicit(refs, &n, n + 1, memory_order_acq_rel,
							  memory_order_relaxed))
			return true;
	return false;
}

ref fd_hold(int fd)
{
	struct fd_entry *e = entry_find(fd);

	if (!e)
		return REF_NONE;
	if (atomic_load_explicit(&process.finished, memory_order_relaxed)) {
		if (WORD_REF(atomic_load(&e->word)))
			netio_gate_wait(the_stack); /* for the end, which is near, not for an error */
		return REF_NONE;
	}
	for (;;) {
		if (atomic_load_explicit(&process.finished, memory_order_relaxed)) {
			process_ends_here();
			return REF_NONE;
		}
		uint64_t w = atomic_load_explicit(&e->word, memory_order_acquire);
		ref d = WORD_REF(w);
		if (!d || (WORD_KIND(w) != FD_STREAM && WORD_KIND(w) != FD_LISTENER))
			return REF_NONE;
		if (!description_hold(d))
			continue; /* closed between the two reads: the entry has changed or will at once */
		if (atomic_load_explicit(&e->word, memory_order_acquire) != w) {
			fd_release(d);
			continue;
		}
		if (description_of(d)->kind != FD_KERNEL)
			return d;
		fd_release(d); /* the close() of its number drops it */
		return REF_NONE;
	}
}

enum fd_kind fd_kind_now(uint64_t word)
{
	return (enum fd_kind)description_of(WORD_REF(word))->kind;
}

ref fd_left(int fd)
{
	struct fd_entry *e = entry_find(fd);
	uint64_t w = e ? atomic_load(&e->word) : 0;

	return WORD_KIND(w) == FD_LISTENER && fd_kind_now(w) == FD_KERNEL ? WORD_REF(w) : REF_NONE;
}

/* ------------------------------------------------------------ changes */

int fd_decide(int fd, enum fd_kind kind, ref d)
{
	struct fd_entry *e = entry_make(fd);

	if (!e)
		return -ENOMEM;
	if (d) {
		atomic_fetch_add(&local_of(d)->refs, 1);
		atomic_fetch_add(&local_of(d)->numbers, 1);
	}
	atomic_store_explicit(&e->word, WORD(kind, d), memory_order_release);
	return 0;
}

int fd_install(int fd, enum fd_kind kind, ref d)
{
	struct fd_entry *e = entry_make(fd);

	if (e)
		atomic_store_explicit(&e->options, 0, memory_order_relaxed);
	return fd_decide(fd, kind, d);
}

void fd_install_tcp(int fd, bool v6)
{
	struct fd_entry *e = entry_make(fd);
	uint64_t forks = (uint16_t)atomic_load(&process.fork_count);

	if (!e)
		return; /* no memory for the table: the socket stays in the kernel */
	atomic_store_explicit(&e->options, 0, memory_order_relaxed);
	atomic_store_explicit(&e->word, WORD(FD_TCP, 0) | (v6 ? WORD_V6 : 0) | forks << 48,
			      memory_order_release);
}

void fd_forget(int fd)
{
	struct fd_entry *e = entry_find(fd);

	if (e && atomic_load_explicit(&e->word, memory_order_relaxed))
		atomic_store_explicit(&e->word, 0, memory_order_release);
}

void fd_decided(int fd)
{
	struct fd_entry *e = entry_find(fd);

	if (e)
		atomic_store_explicit(&e->word, WORD(FD_KERNEL, 0) | WORD_DECIDED, memory_order_release);
}

bool fd_is_decided(int fd)
{
	struct fd_entry *e = entry_find(fd);

	return e && (atomic_load_explicit(&e->word, memory_order_relaxed) & WORD_DECIDED || fd_left(fd));
}

void fd_copy(int from, int to)
{
	struct fd_entry *e = entry_find(from), *t;
	uint64_t w = e ? atomic_load_explicit(&e->word, memory_order_acquire) : 0;
	ref d;

	if (process_is_vfork_child())
		return;
	switch (WORD_KIND(w)) {
	case FD_STREAM:
	case FD_LISTENER:
		d = fd_hold(from);
		if (!d || fd_install(to, WORD_KIND(w), d))
			fd_forget(to);
		if (d)
			fd_release(d);
		return;
	case FD_TCP:
		t = entry_make(to);
		if (!t)
			return;
		atomic_fetch_or(&e->word, WORD_SHARED);
		atomic_store(&t->options, atomic_load(&e->options));
		atomic_store_explicit(&t->word, w | WORD_SHARED, memory_order_release);
		return;
	case FD_EPOLL:
		if (!fd_install(to, FD_EPOLL, REF_NONE))
			epoll_copied(from, to);
		return;
	case FD_LOST:
		fd_install(to, FD_LOST, REF_NONE);
		return;
	case FD_KERNEL:
		fd_forget(to);
	}
}

/* A word that is no longer in the table. */
static void word_dropped(uint64_t w)
{
	if (WORD_REF(w) && !atomic_load(&process.finished)) {
		atomic_fetch_sub(&local_of(WORD_REF(w))->numbers, 1);
		fd_release(WORD_REF(w));
	}
}

uint64_t fd_swap_in(int from, int to)
{
	struct fd_entry *e = entry_make(to);
	ref d = e ? fd_hold(from) : REF_NONE;
	uint64_t before;

	if (!d)
		return FD_SWAP_NONE;
	if (fd_kind(to) == FD_EPOLL)
		epoll_closing(to);
	atomic_fetch_add(&local_of(d)->numbers, 1); /* with the reference that fd_hold() took */
	before = atomic_exchange(&e->word, WORD(description_of(d)->kind, d));
	atomic_store_explicit(&e->options, 0, memory_order_relaxed);
	return before;
}

void fd_swap_end(int to, uint64_t before, bool done)
{
	struct fd_entry *e = entry_find(to);

	if (before == FD_SWAP_NONE || !e) {
		if (done)
			fd_closing(to);
		return;
	}
	word_dropped(done ? before : atomic_exchange(&e->word, before));
}

void fd_closing(int fd)
{
	struct fd_entry *e = entry_find(fd);

	if (!e || !atomic_load_explicit(&e->word, memory_order_relaxed) || process_is_vfork_child())
		return;
	if (fd_kind(fd) == FD_EPOLL)
		epoll_closing(fd);
	word_dropped(atomic_exchange(&e->word, 0));
}

int fd_highest(void)
{
	return atomic_load_explicit(&highest, memory_order_relaxed);
}

/* Call f for every number whose word matches (w & mask) == want. */
static void each_word(uint64_t mask, uint64_t want, void (*f)(int fd, void *arg), void *arg)
{
	int last = atomic_load(&highest);

	for (int fd = 0; fd <= last; fd++) {
		struct fd_entry *page = atomic_load(&fd_pages[(unsigned int)fd >> FD_PAGE_BITS]);
		if (!page) {
			fd |= FD_PAGE_SIZE - 1;
			continue;
		}
		uint64_t w = atomic_load_explicit(&page[(unsigned int)fd & (FD_PAGE_SIZE - 1)].word,
						  memory_order_relaxed);
		if ((w & mask) == want)
			f(fd, arg);
	}
}

void fd_each_of(ref d, void (*f)(int fd, void *arg), void *arg)
{
	each_word(UINT32_MAX, d, f, arg);
}

struct stream_search {
	uint64_t cookie;
	bool found;
};

static void stream_match(int fd, void *arg)
{
	struct stream_search *s = arg;
	struct fd_entry *e = entry_find(fd);
	ref d = e ? WORD_REF(atomic_load(&e->word)) : REF_NONE;

	if (d && fd_kind(fd) == FD_STREAM)
		s->found |= description_of(d)->cookie == s->cookie;
}

bool fd_stream_has(uint64_t cookie)
{
	struct stream_search s = {.cookie = cookie};

	if (cookie)
		each_word(0, 0, stream_match, &s);
	return s.found;
}

/* ------------------------------------------------------------ undecided sockets */

bool fd_tcp_is_v6(int fd)
{
	struct fd_entry *e = entry_find(fd);
	uint64_t w = e ? atomic_load(&e->word) : 0;

	return WORD_KIND(w) == FD_LISTENER ? description_of(WORD_REF(w))->v6 : (w & WORD_V6) != 0;
}

bool fd_maybe_shared(int fd)
{
	struct fd_entry *e = entry_find(fd);
	uint64_t w = e ? atomic_load(&e->word) : 0;

	return WORD_KIND(w) == FD_TCP && WORD_FORKS(w) != (uint16_t)atomic_load(&process.fork_count);
}

void fd_mark_shared(int fd)
{
	struct fd_entry *e = entry_find(fd);
	uint64_t w = e ? atomic_load(&e->word) : 0;

	if (WORD_KIND(w) == FD_TCP)
		atomic_compare_exchange_strong(
		    &e->word, &w,
		    w ^ (uint64_t)(WORD_FORKS(w) ^ (uint16_t)(atomic_load(&process.fork_count) - 1)) << 48);
}

uint64_t fd_options(int fd)
{
	struct fd_entry *e = entry_find(fd);
	return e ? atomic_load(&e->options) : 0;
}

uint64_t cookie_of(int fd)
{
	uint64_t cookie = 0;
	socklen_t len = sizeof cookie;
	return sys.getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &len) ? 0 : cookie;
}

struct alias {
	uint64_t cookie;
	void (*f)(int fd, void *arg);
	void *arg;
};

static void alias_visit(int fd, void *arg)
{
	struct alias *a = arg;
	if (cookie_of(fd) == a->cookie)
		a->f(fd, a->arg);
}

void fd_each_tcp_alias(int fd, void (*f)(int fd, void *arg), void *arg)
{
	struct fd_entry *e = entry_find(fd);

	if (!e)
		return;
	if (!(atomic_load(&e->word) & WORD_SHARED)) {
		f(fd, arg);
		return;
	}
	struct alias a = {cookie_of(fd), f, arg};
	each_word(WORD(15, 0) | WORD_SHARED, WORD(FD_TCP, 0) | WORD_SHARED, alias_visit, &a);
}

static void option_mark(int fd, void *arg)
{
	struct fd_entry *e = entry_find(fd);
	if (e)
		atomic_fetch_or(&e->options, 1ull << *(uint32_t *)arg);
}

void fd_mark_option(int fd, uint32_t bit)
{
	if (!(fd_options(fd) & 1ull << bit))
		fd_each_tcp_alias(fd, option_mark, &bit);
}

/* ------------------------------------------------------------ fork */

static void entry_after_fork(int fd, void *arg)
{
	struct fd_entry *e = entry_find(fd);
	enum fd_kind k = fd_kind(fd);

	(void)arg;
	/* A set stays marked: the parent's hidden members are in it, and must not be seen (epoll.c). */
	if (k != FD_KERNEL && k != FD_EPOLL)
		atomic_store(&e->word, k == FD_STREAM || k == FD_LOST ? WORD(FD_LOST, 0) : 0);
}

void fdtable_lost(void)
{
	each_word(0, 0, entry_after_fork, NULL);
}

static void entry_broken(int fd, void *arg)
{
	struct fd_entry *e = entry_find(fd);
	enum fd_kind k = fd_kind(fd);

	(void)arg;
	if (k == FD_STREAM || k == FD_LISTENER)
		description_of((ref)atomic_load(&e->word))->broken = 1;
}

void fdtable_severed(void)
{
	each_word(0, 0, entry_broken, NULL);
	fdtable_lost();
}

bool description_adopt(ref d, ref hold)
{
	struct local *l = local_make(d);

	if (!l)
		return false;
	if (!l->hold) {
		l->hold = hold;
		l->kernel_fd = -1;
		atomic_store(&l->half_known, false);
		l->forks =
		    atomic_load(&process.fork_count) - 1; /* the placeholder may be another process's too */
	}
	return true;
}

bool description_take(struct stack_cx *cx, ref d)
{
	struct local *l = local_make(d);

	if (!l)
		return false;
	if (!l->hold) {
		ref hold = netio_hold(the_stack, cx, d);
		if (!hold)
			return false;
		l->hold = hold;
		l->child_hold = REF_NONE;
		l->kernel_fd = -1;
		atomic_store(&l->half_known, false);
	}
	description_shared(d);
	atomic_fetch_add(&l->refs, 1);
	return true;
}

void description_shared(ref d)
{
	local_of(d)->forks = atomic_load(&process.fork_count) - 1;
}

ref *fdtable_inherit(ref d)
{
	struct local *l = local_of(d);

	l->child_hold = REF_NONE; /* an earlier child's */
	/* A number that was closed while a call goes on with it is not the child's. */
	return atomic_load(&l->numbers) ? &l->child_hold : NULL;
}

/* The numbers are the child's; the calls of the parent's other threads, and what only they held, are not. */
void fdtable_after_fork(void)
{
	for (uint32_t e = 0; local_pages && e < EXTENTS_MAX; e++) {
		struct local *page = atomic_load(&local_pages[e]);

		for (uint32_t i = 0; page && i < EXTENT_DESCS; i++) {
			struct local *l = &page[i];

			l->hold = l->child_hold;
			l->child_hold = REF_NONE;
			atomic_store(&l->refs, atomic_load(&l->numbers));
		}
	}
}

void fd_call_in_progress(ref d)
{
	atomic_fetch_add(&local_of(d)->refs, 1);
}
