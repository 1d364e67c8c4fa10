/*
 * signal.c - the application's signal handlers around a stack that lives in
 * its own threads.
 *
 * Theory of operation. A handler may call write() on a socket while its thread
 * is inside the library, holding the lock of the stack. So from the first stack
 * socket on every handler of the application is run by signal_wrapper():
 *
 *   outside the library      run the handler
 *   inside (depth > 0)       put it off: block all signals in the interrupted
 *                            context, queue the signal to this thread again,
 *                            return; lib_leave() restores the mask and the
 *                            kernel delivers it with its siginfo intact
 *   asleep in a wait set     withdraw from the wait set, run the handler,
 *                            publish again, ring the bell: whatever instruction
 *                            was interrupted, the sleep ends (no lost EINTR)
 *
 * Signals that report a fault of the running instruction, and SIGABRT, are never
 * put off. No lock is held where the application's memory is touched, so their
 * handlers may do what they like.
 *
 * sigaction() shows the application its own actions: `slots` has what it set;
 * the kernel has the wrapper with the same mask and flags, except SA_SIGINFO
 * (always on) and SA_RESETHAND (always off: a signal that is put off would reset
 * the action before the handler ever ran; the wrapper resets it when it runs).
 *
 * The wrapper reads a slot without a lock: each has two copies, and `seq` says
 * which one is current. Writers hold slots_lock with all signals blocked.
 *
 * Place in the flow: calls_signal.c -> here -> libc; wait.c asks here what
 * happened during a sleep.
 */
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "preload/async.h"
#include "preload/calls.h"
#include "preload/wait.h"

#define SIGNAL_MAX	    64
#define KERNEL_SIGSET_BYTES 8 /* what the kernel calls a sigset_t; a ucontext holds no more */
#define HELD_MAX	    8

struct copy {
	struct sigaction shown; /* what sigaction() tells the application */
	struct sigaction last;	/* the last handler: one that the kernel has begun to deliver still runs */
	bool reset;		/* SA_RESETHAND took `shown` back to SIG_DFL */
};

struct slot {
	_Atomic uint32_t seq; /* copy[seq & 1] is current */
	struct copy copy[2];
};

static struct slot slots[SIGNAL_MAX + 1];
static atomic_flag slots_lock = ATOMIC_FLAG_INIT;
static atomic_bool installed;
static uint64_t interrupting; /* bit per signal: siginterrupt(sig, 1) */

__thread struct thread_marks thread_marks __attribute__((tls_model("initial-exec")));

/* Signals of this thread that could not be queued again (RLIMIT_SIGPENDING): run by signals_release(). */
static __thread struct held {
	int count;
	siginfo_t info[HELD_MAX];
} held __attribute__((tls_model("initial-exec")));

/* ------------------------------------------------------------------ small helpers */

static bool never_deferred(int sig)
{
	switch (sig) {
	case SIGSEGV:
	case SIGBUS:
	case SIGFPE:
	case SIGILL:
	case SIGTRAP:
	case SIGSYS:
	case SIGABRT:
		return true;
	default:
		return false;
	}
}

/* A signal whose action can be wrapped. 32 and 33 are libc's own (cancellation, setxid). */
static bool wrappable(int sig)
{
	return sig >= 1 && sig <= SIGNAL_MAX && sig != 32 && sig != 33 && sig != SIGKILL && sig != SIGSTOP;
}

static uint64_t deferrable_signals(void)
{
	uint64_t m = 0;

	for (int sig = 1; sig <= SIGNAL_MAX; sig++)
		if (wrappable(sig) && !never_deferred(sig))
			m |= 1ull << (sig - 1);
	return m;
}

static void kernel_mask(int how, const uint64_t *set, uint64_t *old)
{
	sys.syscall(SYS_rt_sigprocmask, how, set, old, KERNEL_SIGSET_BYTES);
}

static bool is_handler(const struct sigaction *a)
{
	return a->sa_handler != SIG_DFL && a->sa_handler != SIG_IGN;
}

static uint64_t lock_slots(void)
{
	const uint64_t all = ~0ull;
	uint64_t old;

	kernel_mask(SIG_BLOCK, &all, &old);
	while (atomic_flag_test_and_set_explicit(&slots_lock, memory_order_acquire))
		sched_yield();
	return old;
}

static void unlock_slots(uint64_t old)
{
	atomic_flag_clear_explicit(&slots_lock, memory_order_release);
	kernel_mask(SIG_SETMASK, &old, NULL);
}

static struct copy slot_read(int sig)
{
	struct slot *s = &slots[sig];
	struct copy c;
	uint32_t seq;

	do {
		seq = atomic_load_explicit(&s->seq, memory_order_acquire);
		c = s->copy[seq & 1];
		atomic_thread_fence(memory_order_acquire);
	} while (atomic_load_explicit(&s->seq, memory_order_relaxed) != seq);
	return c;
}

/* Under slots_lock. */
static void slot_write(int sig, const struct copy *c)
{
	struct slot *s = &slots[sig];
	uint32_t seq = atomic_load_explicit(&s->seq, memory_order_relaxed);

	s->copy[(seq + 1) & 1] = *c;
	atomic_store_explicit(&s->seq, seq + 1, memory_order_release);
}

/* ------------------------------------------------------------------ delivery */

static int requeue(int sig, siginfo_t *info)
{
	long r = sys.syscall(SYS_rt_tgsigqueueinfo, getpid(), sys.syscall(SYS_gettid), sig, info);

	return r < 0 ? -errno : 0;
}

#ifdef __SANITIZE_THREAD__
/*
 * The sanitizer's runtime calls handlers late and with a copy of the context, and
 * then restores the mask itself: what we queue comes back at once, for ever.
 */
#define COMES_AGAIN(sig, info) false
#else
#define COMES_AGAIN(sig, info) (requeue(sig, info) >= 0)
#endif

/* The thread is inside the library: let the signal come again when it leaves. */
static void put_off(int sig, siginfo_t *info, ucontext_t *context)
{
	struct thread_marks *m = &thread_marks;
	uint64_t block = deferrable_signals(), mask;

	memcpy(&mask, &context->uc_sigmask, KERNEL_SIGSET_BYTES);
	if (!m->deferred) {
		sigemptyset(&m->saved_mask);
		memcpy(&m->saved_mask, &mask, KERNEL_SIGSET_BYTES);
		m->deferred = 1;
	}
	mask |= block;
	memcpy(&context->uc_sigmask, &mask, KERNEL_SIGSET_BYTES);
	/* With SA_NODEFER the queued one would arrive in here, for ever. */
	kernel_mask(SIG_BLOCK, &block, NULL);
	if (!COMES_AGAIN(sig, info) && held.count < HELD_MAX) {
		held.info[held.count] = *info;
		held.info[held.count++].si_signo = sig;
	}
	/* About to sleep, but not yet known to: make sure that it does not. */
	if (m->armed)
		waitset_ring(m->armed);
}

/*
 * SA_RESETHAND: the first delivery takes the handler, later ones get the default action. False: this one was
 * too late.
 */
static bool take_once(int sig)
{
	uint64_t old = lock_slots();
	struct copy c = slot_read(sig);
	bool first = !c.reset && is_handler(&c.shown);

	if (first) {
		c.reset = true;
		c.shown.sa_handler = SIG_DFL;
		sys.sigaction(sig, &c.shown, NULL);
		slot_write(sig, &c);
	}
	unlock_slots(old);
	return first;
}

static void call_handler(const struct sigaction *a, int sig, siginfo_t *info, void *context)
{
	if (a->sa_flags & SA_SIGINFO)
		a->sa_sigaction(sig, info, context);
	else
		a->sa_handler(sig);
}

/*
 * Run the application's handler; ws: what the thread sleeps in, or NULL. errno belongs to the handler.
 *
 * libc blocks with asynchronous cancellation: a handler over a wait could be cut off at any instruction, here
 * and in all that it calls, with the stack's lock held. It is cancelled at its own points, or when it
 * returns; at any instruction of its own only if the application allows that to this thread.
 */
static void deliver(int sig, siginfo_t *info, void *context, struct waitset *ws)
{
	struct thread_marks *m = &thread_marks;
	struct thread_marks saved = *m;
	uint32_t generation = wait_generation();
	int saved_errno = errno, cancel_type;
	struct copy c = slot_read(sig);

	if ((c.last.sa_flags & SA_RESETHAND) && !take_once(sig)) {
		requeue(sig, info);
		errno = saved_errno;
		return;
	}
	/* The handler is outside: it may enter the library, or leave by siglongjmp() and never come back. */
	m->depth = 0;
	m->deferred = 0;
	m->armed = NULL;
	m->cancel_put_off = 0;
	m->ran++;
	if (!(c.last.sa_flags & SA_RESTART))
		m->no_restart = 1;
	if (ws) {
		REAL(pthread_setcanceltype)(PTHREAD_CANCEL_DEFERRED, &cancel_type);
		m->depth = 1;
		waitset_suspend(ws);
		wait_pass_on();
		m->depth = 0;
		if (m->deferred)
			signals_release();
	}
	errno = saved_errno;
	if (saved.cancel_put_off && m->anywhere)
		REAL(pthread_setcanceltype)(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
	call_handler(&c.last, sig, info, context);
	saved_errno = errno;
	if (saved.cancel_put_off)
		REAL(pthread_setcanceltype)(PTHREAD_CANCEL_DEFERRED, NULL);
	m->cancel_put_off = saved.cancel_put_off;
	m->depth = saved.depth;
	if (ws && generation == wait_generation()) {
		waitset_resume(ws);
		waitset_ring(ws);
	}
	m->armed = saved.armed;
	if (saved.deferred) {
		m->saved_mask = saved.saved_mask;
		m->deferred = saved.deferred;
	}
	if (ws)
		REAL(pthread_setcanceltype)(cancel_type, NULL);
	errno = saved_errno;
}

static void signal_wrapper(int sig, siginfo_t *info, void *context)
{
	struct thread_marks *m = &thread_marks;
	struct waitset *ws = m->armed && waitset_sleeping() == m->armed ? m->armed : NULL;
	int saved_errno = errno;

	if (info->si_code == SI_SIGIO)
		async_received(info);
	if (m->depth && !ws && !never_deferred(sig)) {
		put_off(sig, info, context);
		errno = saved_errno;
		return;
	}
	deliver(sig, info, context, ws);
}

void signals_release(void)
{
	struct thread_marks *m = &thread_marks;
	int saved_errno = errno;
	uint64_t mask;

	memcpy(&mask, &m->saved_mask, KERNEL_SIGSET_BYTES);
	m->deferred = 0;
	kernel_mask(SIG_SETMASK, &mask, NULL);
	while (held.count > 0) {
		siginfo_t info = held.info[--held.count];
		uint64_t now, block;
		struct sigaction a = slot_read(info.si_signo).last;
		ucontext_t context;

		memcpy(&block, &a.sa_mask, KERNEL_SIGSET_BYTES);
		if (!(a.sa_flags & SA_NODEFER))
			block |= 1ull << (info.si_signo - 1);
		kernel_mask(SIG_BLOCK, &block, &now);
		getcontext(&context);
		deliver(info.si_signo, &info, &context, NULL);
		kernel_mask(SIG_SETMASK, &now, NULL);
	}
	errno = saved_errno;
}

bool signals_restartable(void)
{
	bool yes = !thread_marks.no_restart;

	thread_marks.no_restart = 0;
	return yes;
}

/* ------------------------------------------------------------------ actions */

static int give_kernel(int sig, const struct sigaction *app)
{
	struct sigaction k = *app;

	if (is_handler(app)) {
		k.sa_sigaction = signal_wrapper;
		k.sa_flags = (app->sa_flags & ~SA_RESETHAND) | SA_SIGINFO;
	}
	return sys.sigaction(sig, &k, NULL) < 0 ? -errno : 0;
}

/* Under slots_lock: the application's new action. */
static int slot_set(int sig, const struct sigaction *act)
{
	struct copy old = slot_read(sig), c = old;
	struct sigaction k;
	int r;

	c.shown = *act;
	c.reset = false;
	if (is_handler(act)) {
		c.last = *act;
		slot_write(sig, &c); /* before the kernel can call the wrapper for it */
	}
	r = give_kernel(sig, act);
	if (r < 0) {
		slot_write(sig, &old);
		return r;
	}
	/* Show flags and mask as the kernel keeps them (unknown flags go, KILL and STOP leave the mask). */
	if (sys.sigaction(sig, NULL, &k) == 0 && is_handler(act)) {
		c.shown.sa_mask = k.sa_mask;
		c.shown.sa_restorer = k.sa_restorer;
		c.shown.sa_flags =
		    (k.sa_flags & ~SA_SIGINFO) | (act->sa_flags & (SA_SIGINFO | (int)SA_RESETHAND));
	} else if (!is_handler(act)) {
		c.shown = k;
	}
	slot_write(sig, &c);
	return 0;
}

int signal_action(int sig, const struct sigaction *act, struct sigaction *old)
{
	struct sigaction new = {0}, shown;
	uint64_t mask;
	int r = 0;

	if (!atomic_load_explicit(&installed, memory_order_acquire) || !wrappable(sig))
		return sys.sigaction(sig, act, old) < 0 ? -errno : 0;
	if (act)
		new = *act; /* touch the caller's memory before the lock */
	mask = lock_slots();
	shown = slot_read(sig).shown;
	if (act)
		r = slot_set(sig, &new);
	unlock_slots(mask);
	if (!r && old)
		*old = shown;
	return r;
}

void signals_install(void)
{
	uint64_t mask;

	if (atomic_load_explicit(&installed, memory_order_acquire))
		return;
	mask = lock_slots();
	if (!atomic_load_explicit(&installed, memory_order_relaxed)) {
		for (int sig = 1; sig <= SIGNAL_MAX; sig++) {
			struct copy c = {0};

			if (!wrappable(sig) || sys.sigaction(sig, NULL, &c.shown) < 0)
				continue;
			c.last = c.shown;
			slot_write(sig, &c);
			if (is_handler(&c.shown))
				give_kernel(sig, &c.shown);
		}
		atomic_store_explicit(&installed, true, memory_order_release);
	}
	unlock_slots(mask);
}

void signals_forked(void)
{
	atomic_flag_clear(&slots_lock);
	held.count = 0;
}

/* ------------------------------------------------------------------ the older calls */

static bool bad_signal(int sig)
{
	return sig < 1 || sig > SIGNAL_MAX || sig == 32 || sig == 33;
}

/* signal() and kin: one handler, a mask of itself or nothing, flags. */
static int set_simple(int sig, sighandler_t handler, int flags, bool mask_self, sighandler_t *old)
{
	struct sigaction act = {.sa_handler = handler, .sa_flags = flags}, was;
	int r;

	if (bad_signal(sig) || handler == SIG_ERR)
		return -EINVAL;
	sigemptyset(&act.sa_mask);
	if (mask_self)
		sigaddset(&act.sa_mask, sig);
	r = signal_action(sig, &act, &was);
	if (!r && old)
		*old = was.sa_handler;
	return r;
}

static bool is_interrupting(int sig)
{
	return __atomic_load_n(&interrupting, __ATOMIC_RELAXED) & (1ull << (sig - 1));
}

int signal_bsd(int sig, sighandler_t handler, sighandler_t *old)
{
	if (bad_signal(sig))
		return -EINVAL;
	return set_simple(sig, handler, is_interrupting(sig) ? 0 : SA_RESTART, true, old);
}

int signal_sysv(int sig, sighandler_t handler, sighandler_t *old)
{
	return set_simple(sig, handler, (int)SA_RESETHAND | SA_NODEFER, false, old);
}

int signal_ignore(int sig)
{
	return set_simple(sig, SIG_IGN, 0, false, NULL);
}

int signal_set(int sig, sighandler_t handler, sighandler_t *old)
{
	sigset_t one, before;
	sighandler_t was;
	int r;

	if (bad_signal(sig) || handler == SIG_ERR)
		return -EINVAL;
	sigemptyset(&one);
	sigaddset(&one, sig);
	if (handler == SIG_HOLD) {
		struct sigaction a;

		r = pthread_sigmask(SIG_BLOCK, &one, &before);
		if (r)
			return -r;
		r = signal_action(sig, NULL, &a);
		was = a.sa_handler;
	} else {
		r = set_simple(sig, handler, 0, false, &was);
		if (!r)
			r = -pthread_sigmask(SIG_UNBLOCK, &one, &before);
	}
	if (!r)
		*old = sigismember(&before, sig) ? SIG_HOLD : was;
	return r;
}

int signal_interrupt(int sig, int on)
{
	struct sigaction a;
	int r;

	if (bad_signal(sig))
		return -EINVAL;
	r = signal_action(sig, NULL, &a);
	if (r < 0)
		return r;
	if (on) {
		__atomic_or_fetch(&interrupting, 1ull << (sig - 1), __ATOMIC_RELAXED);
		a.sa_flags &= ~SA_RESTART;
	} else {
		__atomic_and_fetch(&interrupting, ~(1ull << (sig - 1)), __ATOMIC_RELAXED);
		a.sa_flags |= SA_RESTART;
	}
	return signal_action(sig, &a, NULL);
}
