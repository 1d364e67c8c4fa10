/*
 * poll.c - poll and select over any mix of descriptors.
 *
 * Theory of operation. The caller's array is sorted into a plan: entries on the
 * stack (their level is read under the lock; they sleep as watches of the
 * thread's wait set) and entries of the kernel, copied into an array for ppoll.
 * A listener is both: its kernel half is one more kernel entry that reports into
 * the same place. An epoll set with stack members is a kernel entry too: once
 * "exposed", its bell is a hidden member of it, so the kernel's poll of it tells
 * the truth.
 *
 *   only stack entries   sleep in epoll_pwait2 on the wait set (exclusive: one
 *                        thread wakes for a frame)
 *   a mix                sleep in ppoll over {wait set, kernel entries}
 *
 * select() is poll() over the bits that are set, with the kernel's translation
 * of bits (fs/select.c: POLLIN_SET and kin) and its EBADF.
 *
 * Place in the flow: calls_poll.c -> here -> wait.c -> netio.
 */
#include <pthread.h>
#include <sys/resource.h>
#include <sys/select.h>

#include "preload/undecided.h"
#include "preload/wait.h"

#define PLAN_INLINE 32
#define PLAN_HEAD   64

struct stack_entry {
	ref description;
	uint32_t index; /* into the caller's array */
};

struct plan {
	struct pollfd *fds; /* the caller's */
	uint32_t nfds, n_stack, n_kernel, n_want, n_invalid;
	struct stack_entry *stack;
	struct want *want;
	struct pollfd *kernel;
	uint32_t *kernel_index; /* into the caller's array, per kernel entry */
	bool has_sets;		/* a kernel entry is an epoll set with stack members */
	struct poll_sets plain; /* those that have none yet */
	size_t *pages;		/* what does not fit into `space`; the first word is the size */
	struct waitset *ws;
	nsec deadline;
	const sigset_t *mask;
	uint32_t before; /* thread_marks.ran */
	int hold;
	struct {
		struct stack_entry stack[PLAN_INLINE];
		struct want want[PLAN_INLINE];
		struct pollfd kernel[PLAN_INLINE];
		uint32_t kernel_index[PLAN_INLINE];
	} space;
};

bool poll_concerns_stack(const struct pollfd *fds, nfds_t nfds)
{
	if (!the_stack)
		return false;
	if (!memory_readable(fds, nfds * sizeof *fds))
		return false; /* the kernel finds the right error */
	for (nfds_t i = 0; i < nfds; i++) {
		enum fd_kind k = fds[i].fd < 0 ? FD_KERNEL : fd_kind(fds[i].fd);
		if (k == FD_STREAM || k == FD_LISTENER || (k == FD_EPOLL && epoll_has_shadow(fds[i].fd)))
			return true;
		if (k == FD_KERNEL && fds[i].fd >= 0 && netio_owns_fd(fds[i].fd))
			return true;
	}
	return false;
}

/* ------------------------------------------------------------------ the plan */

static int plan_room(struct plan *p)
{
	size_t n = p->nfds,
	       each = sizeof *p->stack + sizeof *p->want + sizeof *p->kernel + sizeof *p->kernel_index;
	uint8_t *at;

	p->stack = p->space.stack;
	p->want = p->space.want;
	p->kernel = p->space.kernel;
	p->kernel_index = p->space.kernel_index;
	if (n <= PLAN_INLINE)
		return 0;
	p->pages = pages_get(n * each + PLAN_HEAD);
	if (!p->pages)
		return -ENOMEM;
	*p->pages = n * each + PLAN_HEAD;
	at = (uint8_t *)p->pages + PLAN_HEAD;
	p->stack = (void *)at;
	p->want = (void *)(at += n * sizeof *p->stack);
	p->kernel = (void *)(at += n * sizeof *p->want);
	p->kernel_index = (void *)(at += n * sizeof *p->kernel);
	return 0;
}

static void plan_release(void *arg)
{
	struct plan *p = arg;

	for (uint32_t i = 0; i < p->n_stack; i++)
		fd_release(p->stack[i].description);
	p->n_stack = 0;
	poll_sets_forget(&p->plain);
	if (p->pages)
		pages_put(p->pages, *p->pages);
	p->pages = NULL;
}

static void hold_pages(void *pages)
{
	pages_put(pages, *(size_t *)pages);
}

/* What a siglongjmp() out of the sleep would leave behind. */
static void plan_hold(struct plan *p, void *frame)
{
	/* each hold counts as one frame deeper than the one before: none of them takes another for a leftover
	 */
	uint8_t *deeper = frame;

	p->hold = -1;
	for (uint32_t i = 0; i < p->n_stack; i++) {
		int at = wait_hold(deeper--, fd_release_held, (void *)(uintptr_t)p->stack[i].description);
		p->hold = p->hold < 0 ? at : p->hold;
	}
	if (p->pages) {
		int at = wait_hold(deeper, hold_pages, p->pages);
		p->hold = p->hold < 0 ? at : p->hold;
	}
}

static void plan_kernel(struct plan *p, uint32_t index, int fd, short events)
{
	p->kernel[p->n_kernel] = (struct pollfd){.fd = fd, .events = events};
	p->kernel_index[p->n_kernel++] = index;
}

static void plan_entry(struct plan *p, uint32_t i)
{
	struct pollfd *f = &p->fds[i];
	enum fd_kind k = fd_kind(f->fd);
	ref d = k == FD_STREAM || k == FD_LISTENER ? fd_hold(f->fd) : REF_NONE;

	f->revents = 0;
	if (d && undecided_lost(f->fd, d)) {
		fd_release(d);
		d = REF_NONE;
	}
	if (d) {
		struct description *desc = description_of(d);
		undecided_half(f->fd, d);
		int half = local_of(d)->kernel_fd;
		p->stack[p->n_stack++] = (struct stack_entry){.description = d, .index = i};
		if (desc->kind == FD_LISTENER && half >= 0 && (f->events & (POLLIN | POLLRDNORM)))
			plan_kernel(p, i, half, f->events & (POLLIN | POLLRDNORM));
		return;
	}
	if (k == FD_KERNEL && netio_owns_fd(f->fd)) {
		f->revents = POLLNVAL; /* ours: there is no such number for the application */
		p->n_invalid++;
		return;
	}
	if (k == FD_EPOLL) {
		poll_sets_note(&p->plain, f->fd);
		if (epoll_has_shadow(f->fd)) {
			epoll_expose(f->fd);
			p->has_sets = true;
		}
	}
	plan_kernel(p, i, f->fd, f->events);
}

static int plan_make(struct plan *p)
{
	int r = plan_room(p);

	for (uint32_t i = 0; !r && i < p->nfds; i++) {
		if (p->fds[i].fd >= 0)
			plan_entry(p, i);
		else
			p->fds[i].revents = 0;
	}
	return r;
}

/* ------------------------------------------------------------------ looking */

static short poll_bits(uint32_t level, short events)
{
	int r = 0;

	if (level & SOCK_IN)
		r |= events & (POLLIN | POLLRDNORM);
	if (level & SOCK_OUT)
		r |= events & (POLLOUT | POLLWRNORM);
	if (level & SOCK_PRI)
		r |= events & POLLPRI;
	if (level & SOCK_RDHUP)
		r |= events & POLLRDHUP;
	return (short)(r | (int)(level & (SOCK_ERR | SOCK_HUP)));
}

static uint32_t wanted_bits(short events)
{
	uint32_t m = (uint32_t)events & (SOCK_IN | SOCK_OUT | SOCK_PRI | SOCK_RDHUP);

	if (events & POLLRDNORM)
		m |= SOCK_IN;
	if (events & POLLWRNORM)
		m |= SOCK_OUT;
	return m | SOCK_ERR | SOCK_HUP;
}

uint32_t description_level(struct stack_cx *cx, const struct description *d)
{
	if (d->broken || !d->sock)
		return SOCK_IN | SOCK_OUT | SOCK_ERR | SOCK_HUP;
	return sock_events(cx, d->sock);
}

/* Under the lock: levels of the stack entries into revents. How many are ready. */
static int look_stack(struct plan *p, struct stack_cx *cx)
{
	int count = 0;

	p->n_want = 0;
	for (uint32_t i = 0; i < p->n_stack; i++) {
		struct description *d = description_at(cx, p->stack[i].description);
		struct pollfd *f = &p->fds[p->stack[i].index];

		f->revents = poll_bits(description_level(cx, d), f->events);
		count += f->revents != 0;
		if (d->sock)
			p->want[p->n_want++] = (struct want){d->sock, wanted_bits(f->events)};
	}
	return count;
}

static void settle_sets(struct plan *p)
{
	for (uint32_t i = 0; p->has_sets && i < p->n_kernel; i++)
		if (fd_kind(p->kernel[i].fd) == FD_EPOLL)
			epoll_settle(p->kernel[i].fd);
}

/* Ask the kernel, without sleeping. */
static int look_kernel(struct plan *p)
{
	settle_sets(p);
	return sys.poll(p->kernel, p->n_kernel, 0) < 0 && errno != EINTR ? -errno : 0;
}

/* The kernel's answers join the stack's. How many entries are ready in all. */
static int merge(struct plan *p)
{
	int count = 0;

	for (uint32_t i = 0; i < p->n_kernel; i++)
		p->fds[p->kernel_index[i]].revents |= p->kernel[i].revents;
	for (uint32_t i = 0; i < p->nfds; i++)
		count += p->fds[i].revents != 0;
	return count;
}

/* ------------------------------------------------------------------ sleeping */

/* Under the lock, nothing is ready: watch and publish. */
static int plan_publish(struct plan *p, struct stack_cx *cx)
{
	int r = thread_watch(cx, p->want, (int)p->n_want);

	if (!r)
		waitset_publish(p->ws, cx);
	return r;
}

static int plan_sleep(struct plan *p, struct wait_result *res)
{
	struct stack_cx *cx;
	int r;

	settle_sets(p);
	for (uint32_t i = 0; i < p->n_kernel; i++)
		p->kernel[i].revents = 0;
	r = wait_sleep(p->ws, p->n_kernel ? p->kernel : NULL, p->n_kernel, p->deadline, p->mask, res);
	cx = netio_enter(the_stack);
	waitset_withdraw(p->ws, cx);
	netio_leave(the_stack);
	return r;
}

/* One look at everything; publishes if nothing on the stack is ready and may_sleep. Entries ready, or an
 * errno. */
static int plan_look(struct plan *p, bool may_sleep)
{
	struct stack_cx *cx = netio_enter(the_stack);
	int count, r = 0;

	waitset_attend(p->ws, cx, true);
	netio_drive(the_stack, cx);
	waitset_attend(p->ws, cx, false);
	count = look_stack(p, cx);
	if (!count && may_sleep)
		r = plan_publish(p, cx);
	netio_leave(the_stack);
	return r < 0 ? r : count;
}

static bool kernel_reports(const struct plan *p)
{
	for (uint32_t i = 0; i < p->n_kernel; i++)
		if (p->kernel[i].revents)
			return true;
	return false;
}

/* Nothing is ready and there is no more time: 0 or -EINTR. */
static int plan_empty(struct plan *p, bool interrupted)
{
	if (interrupted || wait_interrupted(p->before))
		return -EINTR;
	/* A signal that only the mask lets in interrupts even without a wait. */
	return p->mask ? wait_mask(p->mask) : 0;
}

static int plan_run(struct plan *p)
{
	struct wait_result res = {0};
	bool finished = p->deadline <= netio_now(), interrupted = false;
	bool look = finished || p->n_invalid; /* at the kernel's entries, before the next sleep */

	for (;;) {
		int r = plan_look(p, !look);

		if (r < 0)
			return r;
		if (r || look) {
			int k = p->n_kernel ? look_kernel(p) : 0;
			r = k < 0 ? k : merge(p);
			if (r)
				return r;
			if (finished)
				return plan_empty(p, interrupted);
			look = false;
			continue;
		}
		r = plan_sleep(p, &res);
		if (r < 0 && r != -EINTR)
			return r;
		/* A signal without a handler (SIGCONT) does not end a poll. */
		interrupted = wait_interrupted(p->before);
		finished = interrupted || res.timed_out;
		look = finished || kernel_reports(p);
	}
}

/* The caller ends here whatever happens to the sleep; signals are let in by plan_run(). */
static int plan_execute(struct plan *p)
{
	int r = thread_waitset(&p->ws);

	if (r < 0)
		return r;
	p->before = thread_marks.ran;
	plan_hold(p, __builtin_frame_address(0));
	pthread_cleanup_push(plan_release, p);
	pthread_cleanup_push(wait_cancelled, p->ws);
	r = plan_run(p);
	pthread_cleanup_pop(0);
	pthread_cleanup_pop(0);
	if (p->hold >= 0)
		wait_unhold(p->hold);
	return r;
}

int stack_poll(struct pollfd *fds, nfds_t nfds, nsec deadline, const sigset_t *mask)
{
	struct plan p = {.fds = fds, .nfds = (uint32_t)nfds, .deadline = deadline, .mask = mask};
	struct rlimit limit;
	int r;

	if (nfds > 1024 &&
	    (nfds > UINT32_MAX / 64 || (getrlimit(RLIMIT_NOFILE, &limit) == 0 && nfds > limit.rlim_cur)))
		return -EINVAL;
	if (!memory_readable(fds, nfds * sizeof *fds))
		return -EFAULT;
	lib_enter();
	r = plan_make(&p);
	if (!r)
		r = plan_execute(&p);
	plan_release(&p);
	lib_leave();
	return r;
}

/* ------------------------------------------------------------------ select */

/* What select() asks for and how it reads the answer: fs/select.c. */
#define SELECT_IN  (POLLIN | POLLRDNORM | POLLRDBAND)
#define SELECT_OUT (POLLOUT | POLLWRNORM | POLLWRBAND)
#define SELECT_EX  POLLPRI

typedef unsigned long word;
#define WORD_BITS (8 * (int)sizeof(word))

static bool bit_is_set(const fd_set *s, int fd)
{
	return s && ((const word *)(const void *)s)[fd / WORD_BITS] >> (fd % WORD_BITS) & 1;
}

static void bit_set(fd_set *s, int fd)
{
	((word *)(void *)s)[fd / WORD_BITS] |= (word)1 << (fd % WORD_BITS);
}

static word any_word(int w, const fd_set *r, const fd_set *wr, const fd_set *x)
{
	return (r ? ((const word *)(const void *)r)[w] : 0) | (wr ? ((const word *)(const void *)wr)[w] : 0) |
	       (x ? ((const word *)(const void *)x)[w] : 0);
}

static size_t set_bytes(int nfds)
{
	return (size_t)((nfds + WORD_BITS - 1) / WORD_BITS) * sizeof(word);
}

static bool sets_readable(int nfds, const fd_set *r, const fd_set *w, const fd_set *x)
{
	size_t n = set_bytes(nfds);

	return (!r || memory_readable(r, n)) && (!w || memory_readable(w, n)) &&
	       (!x || memory_readable(x, n));
}

int select_next(int fd, int nfds, const fd_set *r, const fd_set *w, const fd_set *x)
{
	fd++;
	while (fd < nfds) {
		word bits = any_word(fd / WORD_BITS, r, w, x) >> (fd % WORD_BITS);
		if (bits) {
			fd += __builtin_ctzl(bits);
			break;
		}
		fd = (fd / WORD_BITS + 1) * WORD_BITS;
	}
	return MIN_OF(fd, nfds);
}

bool select_concerns_stack(int nfds, const fd_set *r, const fd_set *w, const fd_set *x)
{
	if (!the_stack || nfds <= 0 || !sets_readable(nfds, r, w, x))
		return false;
	for (int fd = select_next(-1, nfds, r, w, x); fd < nfds; fd = select_next(fd, nfds, r, w, x)) {
		struct pollfd one = {.fd = fd};
		if (poll_concerns_stack(&one, 1))
			return true;
	}
	return false;
}

static void clear_sets(int nfds, fd_set *r, fd_set *w, fd_set *x)
{
	size_t n = set_bytes(nfds);

	if (r)
		memset(r, 0, n);
	if (w)
		memset(w, 0, n);
	if (x)
		memset(x, 0, n);
}

/* revents -> bits; every bit counts. */
static int write_sets(const struct pollfd *f, int n, int nfds, fd_set *r, fd_set *w, fd_set *x)
{
	int count = 0;

	clear_sets(nfds, r, w, x);
	for (int i = 0; i < n; i++) {
		if ((f[i].events & POLLIN) && (f[i].revents & (SELECT_IN | POLLHUP | POLLERR))) {
			bit_set(r, f[i].fd);
			count++;
		}
		if ((f[i].events & POLLOUT) && (f[i].revents & (SELECT_OUT | POLLERR))) {
			bit_set(w, f[i].fd);
			count++;
		}
		if ((f[i].events & POLLPRI) && (f[i].revents & SELECT_EX)) {
			bit_set(x, f[i].fd);
			count++;
		}
	}
	return count;
}

static int fill_from_sets(struct pollfd *f, int nfds, const fd_set *r, const fd_set *w, const fd_set *x)
{
	int n = 0;

	for (int fd = select_next(-1, nfds, r, w, x); fd < nfds; fd = select_next(fd, nfds, r, w, x)) {
		int events = (bit_is_set(r, fd) ? SELECT_IN : 0) | (bit_is_set(w, fd) ? SELECT_OUT : 0) |
			     (bit_is_set(x, fd) ? SELECT_EX : 0);
		f[n++] = (struct pollfd){.fd = fd, .events = (short)events};
	}
	return n;
}

static bool any_invalid(const struct pollfd *f, int n)
{
	for (int i = 0; i < n; i++)
		if (f[i].revents & POLLNVAL)
			return true;
	return false;
}

/*
 * ppoll answers for conditions that this select did not ask about (HUP without
 * a read set): those would end every sleep at once. The kernel's select sleeps
 * on; such numbers are left out of the next round (their negative is ignored).
 */
static bool mute_unasked(struct pollfd *f, int n)
{
	bool muted = false;

	for (int i = 0; i < n; i++)
		if (f[i].revents && f[i].fd >= 0) {
			f[i].fd = ~f[i].fd;
			muted = true;
		}
	return muted;
}

static int select_over(struct pollfd *f, int n, int nfds, fd_set *r, fd_set *w, fd_set *x, nsec deadline,
		       const sigset_t *mask)
{
	for (;;) {
		int count = stack_poll(f, (nfds_t)n, deadline, mask);

		if (count < 0)
			return count;
		if (any_invalid(f, n))
			return -EBADF;
		for (int i = 0; i < n; i++)
			if (f[i].fd < 0)
				f[i].revents = 0;
		if (!count) {
			clear_sets(nfds, r, w, x);
			return 0;
		}
		bool useful = false;
		for (int i = 0; i < n; i++)
			useful = useful || ((f[i].events & POLLIN) && f[i].revents) ||
				 ((f[i].events & POLLOUT) && (f[i].revents & (SELECT_OUT | POLLERR))) ||
				 ((f[i].events & POLLPRI) && (f[i].revents & SELECT_EX));
		if (useful || !mute_unasked(f, n))
			return write_sets(f, n, nfds, r, w, x);
	}
}

int stack_select(int nfds, fd_set *r, fd_set *w, fd_set *x, nsec deadline, const sigset_t *mask)
{
	struct pollfd inline_fds[PLAN_INLINE], *f = inline_fds;
	size_t bytes = 0;
	int n = 0, ret;

	if (nfds < 0)
		return -EINVAL;
	if (!sets_readable(nfds, r, w, x))
		return -EFAULT;
	for (int fd = select_next(-1, nfds, r, w, x); fd < nfds; fd = select_next(fd, nfds, r, w, x))
		n++;
	if (n > PLAN_INLINE) {
		bytes = (size_t)n * sizeof *f;
		f = pages_get(bytes);
		if (!f)
			return -ENOMEM;
	}
	n = fill_from_sets(f, nfds, r, w, x);
	ret = select_over(f, n, nfds, r, w, x, deadline, mask);
	if (bytes)
		pages_put(f, bytes);
	return ret;
}

void select_write_back(nsec deadline, struct timeval *left)
{
	nsec now, ns;

	if (!left || deadline == NSEC_NEVER)
		return;
	now = netio_now();
	ns = deadline > now ? deadline - now : 0;
	left->tv_sec = (time_t)(ns / NS_PER_S);
	left->tv_usec = (suseconds_t)(ns % NS_PER_S / NS_PER_US);
}
