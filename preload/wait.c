/*
 * wait.c - how one thread of the application sleeps until a socket is ready.
 *
 * Theory of operation. Each thread has a private wait set, made at its first
 * blocking call and destroyed when the thread ends. What it wants to wait for
 * are watches in the set's evset; they stay there after the sleep, because the
 * next call mostly waits for the same thing again (a blocking recv() costs no
 * watch then). thread_watch() makes them what the next sleep needs; it trusts
 * nothing that it finds: a socket may have been closed meanwhile, a handler may
 * have slept in the same set, or left by siglongjmp().
 *
 *   lock; watches; ready? else publish; unlock;  sleep;  lock; withdraw; unlock
 *
 * The order is what makes it safe (design D3): a socket that becomes ready after
 * the look rings the bell because the set is published, and one that became
 * ready before it was seen.
 *
 * Results in the kernel's order: what is ready comes first, then the signal,
 * then the time.
 *
 * Place in the flow: socket.c, poll.c and epoll.c -> here -> netio/wait.c.
 */
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include "preload/fdtable.h"
#include "preload/wait.h"

#define WATCHED_INLINE 8
#define HOLDS_MAX      48

/* A watch in this thread's evset. */
struct watched {
	ref watch, sock;
	uint32_t mask, key;
};

struct hold {
	void *frame; /* of the function that sleeps */
	void (*release)(void *arg);
	void *arg;
};

struct thread_wait {
	struct waitset *ws;
	uint32_t generation; /* wait_generation() when ws was made */
	uint32_t next_key;   /* the watches' keys are below 2^32: never those of an epoll set */
	int count, cap;
	struct watched *watched, first[WATCHED_INLINE];
	struct hold hold[HOLDS_MAX];
	int holds;
};

static __thread struct thread_wait this_thread __attribute__((tls_model("initial-exec")));
static _Atomic uint32_t generation;
static pthread_key_t exit_key;
static pthread_once_t exit_once = PTHREAD_ONCE_INIT;

uint32_t wait_generation(void)
{
	return atomic_load_explicit(&generation, memory_order_relaxed);
}

void wait_before_fork(void)
{
	epoll_before_fork();
}

void wait_parent_after_fork(void)
{
	epoll_parent_after_fork();
}

void wait_forked(bool shared)
{
	struct thread_wait *t = &this_thread;

	atomic_fetch_add(&generation, 1);
	epoll_forked(shared);
	signals_forked();
	/* fork() in a handler over a sleeping call: the call goes on in the child, too. */
	for (int i = 0; i < t->holds; i++) {
		if (t->hold[i].release == fd_release_held)
			fd_call_in_progress((ref)(uintptr_t)t->hold[i].arg);
		else if (t->hold[i].release == epoll_release_held)
			epoll_call_in_progress(t->hold[i].arg);
	}
}

void *pages_get(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

void pages_put(void *p, size_t bytes)
{
	munmap(p, bytes);
}

/* ------------------------------------------------------------------ the thread's own set */

static void watched_forget(struct thread_wait *t)
{
	if (t->watched && t->watched != t->first)
		pages_put(t->watched, (size_t)t->cap * sizeof *t->watched);
	t->watched = NULL;
	t->count = t->cap = 0;
}

static void thread_exits(void *arg)
{
	struct thread_wait *t = arg;

	if (t->ws && the_stack && t->generation == wait_generation()) {
		lib_enter();
		waitset_destroy(t->ws);
		lib_leave();
	}
	t->ws = NULL;
	watched_forget(t);
}

static void make_exit_key(void)
{
	pthread_key_create(&exit_key, thread_exits);
}

int thread_waitset(struct waitset **out)
{
	struct thread_wait *t = &this_thread;
	int r;

	if (__builtin_expect(!t->ws || t->generation != wait_generation(), 0)) {
		watched_forget(t);
		t->ws = NULL;
		r = waitset_create(the_stack, &t->ws);
		if (r < 0) {
			t->ws = NULL;
			return r;
		}
		t->generation = wait_generation();
		pthread_once(&exit_once, make_exit_key);
		pthread_setspecific(exit_key, t);
	}
	*out = t->ws;
	return 0;
}

/* Is the watch that we remember still there and ours? */
static bool watched_alive(struct stack_cx *cx, const struct thread_wait *t, const struct watched *w)
{
	return pool_valid(cx, POOL_WATCH, w->watch) && watch_set(cx, w->watch) == waitset_evset(t->ws) &&
	       watch_key(cx, w->watch) == w->key && watch_socket(cx, w->watch) == w->sock;
}

static void watched_clear(struct stack_cx *cx, struct thread_wait *t)
{
	for (int i = 0; i < t->count; i++)
		if (watched_alive(cx, t, &t->watched[i]))
			watch_remove(cx, t->watched[i].watch);
	t->count = 0;
}

static bool watched_room(struct thread_wait *t, int n)
{
	int cap = n > WATCHED_INLINE ? (n + 255) & ~255 : WATCHED_INLINE;

	if (t->watched && t->cap >= n)
		return true;
	watched_forget(t);
	t->watched = n > WATCHED_INLINE ? pages_get((size_t)cap * sizeof *t->watched) : t->first;
	t->cap = t->watched ? cap : 0;
	return t->watched != NULL;
}

static bool watched_same(struct stack_cx *cx, struct thread_wait *t, const struct want *want, int n)
{
	if (t->count != n)
		return false;
	for (int i = 0; i < n; i++)
		if (t->watched[i].sock != want[i].sock || !watched_alive(cx, t, &t->watched[i]))
			return false;
	return true;
}

int thread_watch(struct stack_cx *cx, const struct want *want, int n)
{
	struct thread_wait *t = &this_thread;

	if (watched_same(cx, t, want, n)) {
		for (int i = 0; i < n; i++) {
			struct watched *w = &t->watched[i];
			if (w->mask != want[i].mask)
				watch_modify(cx, w->watch, w->mask = want[i].mask, 0);
		}
	} else {
		watched_clear(cx, t);
		if (!watched_room(t, n))
			return -ENOMEM;
		for (int i = 0; i < n; i++) {
			struct watched *w = &t->watched[i];
			*w = (struct watched){
			    .sock = want[i].sock, .mask = want[i].mask, .key = ++t->next_key};
			w->watch = watch_add(cx, waitset_evset(t->ws), w->sock, w->mask, 0, w->key);
			if (!w->watch)
				return -ENOMEM;
			t->count = i + 1;
		}
	}
	return 0;
}

void wait_pass_on(void)
{
	struct thread_wait *t = &this_thread;
	struct stack_cx *cx;

	if (!t->count || !(t->watched[0].mask & EPOLLEXCLUSIVE))
		return;
	cx = netio_enter(the_stack);
	if (watched_alive(cx, t, &t->watched[0]))
		watch_offer(cx, t->watched[0].sock);
	netio_leave(the_stack);
}

/* ------------------------------------------------------------------ holds */

int wait_hold(void *frame, void (*release)(void *arg), void *arg)
{
	struct thread_wait *t = &this_thread;
	stack_t alt;

	/*
	 * The stack grows down: whoever sleeps in a frame at or below ours cannot be
	 * alive. On another stack the comparison means nothing.
	 */
	if (t->holds && sigaltstack(NULL, &alt) == 0 && !(alt.ss_flags & SS_ONSTACK))
		while (t->holds && (uintptr_t)t->hold[t->holds - 1].frame <= (uintptr_t)frame) {
			struct hold h = t->hold[--t->holds];
			h.release(h.arg);
		}
	if (t->holds < HOLDS_MAX)
		t->hold[t->holds] = (struct hold){frame, release, arg};
	return t->holds < HOLDS_MAX ? t->holds++ : HOLDS_MAX;
}

void wait_unhold(int index)
{
	if (index < HOLDS_MAX)
		this_thread.holds = index;
}

/* ------------------------------------------------------------------ sleeping */

int wait_sleep(struct waitset *ws, struct pollfd *fds, uint32_t n, nsec deadline, const sigset_t *mask,
	       struct wait_result *r)
{
	struct thread_marks *m = &thread_marks;
	int err = -EINTR;

	memset(r, 0, offsetof(struct wait_result, tag));
	m->armed = ws;
	atomic_signal_fence(memory_order_seq_cst);
	/* What was put off before `armed` is seen here; what comes after it rings the bell. */
	if (!m->deferred)
		err = fds ? waitset_block_poll(ws, fds, n, deadline, mask, r)
			  : waitset_block(ws, deadline, mask, r);
	atomic_signal_fence(memory_order_seq_cst);
	m->armed = NULL;
	return err;
}

bool wait_interrupted(uint32_t before)
{
	struct thread_marks *m = &thread_marks;
	int depth = m->depth;

	if (m->deferred) {
		m->depth = 0;
		signals_release();
		m->depth = depth;
	}
	return m->ran != before;
}

int wait_mask(const sigset_t *mask)
{
	const struct timespec zero = {0, 0};
	struct thread_marks *m = &thread_marks;
	int depth = m->depth, r;

	m->depth = 0;
	atomic_signal_fence(memory_order_seq_cst);
	r = sys.ppoll(NULL, 0, &zero, mask);
	atomic_signal_fence(memory_order_seq_cst);
	m->depth = depth;
	return r < 0 ? -errno : 0;
}

void wait_cancelled(void *ws)
{
	struct thread_marks *m = &thread_marks;

	/* Otherwise in a handler over the wait, which has been withdrawn for it. */
	if (m->armed == ws)
		waitset_cleanup(ws);
	m->armed = NULL;
	wait_pass_on();
	this_thread.holds = 0; /* the other clean-up handlers let go */
	m->depth = 0;
	if (m->deferred)
		signals_release();
}

/* ------------------------------------------------------------------ one socket */

struct socket_wait {
	struct waitset *ws;
	struct want want;
	nsec deadline;
	uint32_t before; /* thread_marks.ran */
};

/* Is the socket ready, or else is the set published? 1, 0, or -ENOMEM. */
static int look_or_publish(struct socket_wait *w)
{
	struct stack_cx *cx = netio_enter(the_stack);
	/* The kernel half of a listener is a member of the set: it speaks for itself. */
	int r = (sock_events(cx, w->want.sock) & w->want.mask) != 0;

	if (!r) {
		r = thread_watch(cx, &w->want, 1);
		if (!r)
			waitset_publish(w->ws, cx);
	}
	netio_leave(the_stack);
	return r;
}

static int accept_queue(struct stack_cx *cx, ref s)
{
	int n = 0;

	return sock_get_option(cx, s, SOCK_OPT_ACCEPTQ, &n) < 0 ? 0 : n;
}

static int sleep_on_socket(struct socket_wait *w)
{
	struct wait_result res;
	struct stack_cx *cx;
	bool ready = false;
	int slept, r = look_or_publish(w);

	if (r)
		return r < 0 ? r : 0;
	slept = wait_sleep(w->ws, NULL, 0, w->deadline, NULL, &res);
	cx = netio_enter(the_stack);
	waitset_withdraw(w->ws, cx);
	/* Every exit from a wait takes what the device has: it may have been told to nobody else. */
	waitset_attend(w->ws, cx, true);
	netio_drive(the_stack, cx);
	waitset_attend(w->ws, cx, false);
	ready = sock_events(cx, w->want.sock) & w->want.mask;
	/* A burst that brought several connections woke one thread: let it wake the next. */
	if ((w->want.mask & EPOLLEXCLUSIVE) && accept_queue(cx, w->want.sock) > 1)
		watch_offer(cx, w->want.sock);
	netio_leave(the_stack);
	if (ready || (res.tag_count && !slept))
		return 0;
	if (wait_interrupted(w->before))
		return signals_restartable() ? -ERESTART : -EINTR;
	if (slept < 0) /* SIGCONT after SIGSTOP interrupts without a handler */
		return slept == -EINTR ? -ERESTART : slept;
	return res.timed_out ? -EAGAIN : 0;
}

int socket_wait(ref s, uint32_t events, int kernel_fd, nsec deadline)
{
	struct socket_wait w = {.want = {s, events | SOCK_ERR | SOCK_HUP}, .deadline = deadline};
	int r = thread_waitset(&w.ws);

	if (r < 0)
		return r;
	/* accept(): one connection wakes one thread, as inet_csk_accept()'s exclusive wait. recv() asks for
	 * RDHUP too. */
	if (events == SOCK_IN)
		w.want.mask |= EPOLLEXCLUSIVE;
	w.before = thread_marks.ran;
	signals_restartable();
	if (kernel_fd >= 0) {
		r = waitset_add_fd(w.ws, kernel_fd, EPOLLIN, (uint32_t)kernel_fd);
		if (r < 0 && r != -EEXIST)
			return r;
	}
	pthread_cleanup_push(wait_cancelled, w.ws);
	r = sleep_on_socket(&w);
	pthread_cleanup_pop(0);
	if (kernel_fd >= 0)
		waitset_del_fd(w.ws, kernel_fd);
	return r;
}
