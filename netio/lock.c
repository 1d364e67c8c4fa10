/*
 * lock.c - the one lock of a stack.
 *
 * A process-shared, robust mutex with priority inheritance in the region's
 * head. It is held for microseconds and never across a blocking call. Robust:
 * when a holder dies the next one gets EOWNERDEAD, puts the region in order
 * (recover.c) and goes on.
 *
 * exec() and exit end the other threads of the process wherever they are. So that
 * none of them is inside then, and takes a connection with it, whoever calls them
 * closes the gate first: under the lock it says that only it may come in, and the
 * others wait, with nothing in their hands, for their end or the gate's opening.
 *
 * Place in the flow: netio_enter() / netio_leave() in drive.c.
 */
#include <linux/futex.h>
#include <signal.h>
#include <unistd.h>

#include "netio/internal.h"

/* So long at most is the gate closed: who closed it may have gone elsewhere, by siglongjmp(). */
#define GATE_NS NS_PER_S
#define SPINS	60 /* about the time that a short holder needs; a futex wake-up costs far more */

static void relax(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#else
	__asm__ volatile("yield" ::: "memory");
#endif
}

int lock_init(struct region_head *h)
{
	pthread_mutexattr_t a;
	int err;

	pthread_mutexattr_init(&a);
	pthread_mutexattr_setpshared(&a, PTHREAD_PROCESS_SHARED);
	pthread_mutexattr_setrobust(&a, PTHREAD_MUTEX_ROBUST);
	pthread_mutexattr_setprotocol(&a, PTHREAD_PRIO_INHERIT);
	err = pthread_mutex_init(&h->lock, &a);
	if (err == ENOTSUP) { /* a kernel without PI futexes */
		pthread_mutexattr_setprotocol(&a, PTHREAD_PRIO_NONE);
		err = pthread_mutex_init(&h->lock, &a);
	}
	pthread_mutexattr_destroy(&a);
	return -err;
}

static pthread_mutex_t *lock_of(struct netio *n)
{
	return &__atomic_load_n(&n->region.head, __ATOMIC_ACQUIRE)->lock;
}

/*
 * Whether what we got, perhaps after a wait, is still our lock: if this process has been severed meanwhile
 * it is the others', and goes back to them. Not so if its last holder died: we can no longer put the
 * region in order, and our own death hands that on.
 */
static bool still_ours(struct netio *n, pthread_mutex_t *m, int r)
{
	if (__builtin_expect(m == lock_of(n), 1))
		return true;
	if (r == EOWNERDEAD)
		RAW2(SYS_kill, getpid(), SIGKILL);
	if (!r)
		pthread_mutex_unlock(m);
	return false;
}

/* ------------------------------------------------------------ the gate */

static bool gate_bars(struct netio *n)
{
	uint32_t who = atomic_load_explicit(&n->gate, memory_order_relaxed);

	return __builtin_expect(who != 0, 0) && who != (uint32_t)RAW1(SYS_gettid, 0);
}

void netio_gate_open(struct netio *n)
{
	if (atomic_exchange(&n->gate, 0))
		RAW6(SYS_futex, &n->gate, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL, 0);
}

void netio_gate_wait(struct netio *n)
{
	struct timespec limit = {(time_t)(GATE_NS / NS_PER_S), (long)(GATE_NS % NS_PER_S)};
	uint32_t who = gate_bars(n) ? atomic_load(&n->gate) : 0;
	nsec begin = netio_now();

	while (who && atomic_load(&n->gate) == who && netio_now() - begin < GATE_NS)
		RAW6(SYS_futex, &n->gate, FUTEX_WAIT_PRIVATE, who, &limit, NULL, 0);
	if (who && atomic_load(&n->gate) == who)
		netio_gate_open(n);
}

/*
 * Whoever stands in line for the lock gets it from the kernel, and may be ended with it before it sees the
 * gate: the line is to be empty, which it is soon because nobody joins it.
 */
void netio_gate_close(struct netio *n)
{
	const struct timespec pause = {0, (long)(50 * NS_PER_US)};
	nsec begin = netio_now();

	lock_acquire(n);
	atomic_store(&n->gate, (uint32_t)RAW1(SYS_gettid, 0));
	lock_release(n);
	/* Who was on its way to the lock, past the gate, has it meanwhile: it looks once more and gives it
	 * back. */
	do {
		RAW2(SYS_nanosleep, &pause, NULL);
	} while (atomic_load(&n->in_line) && netio_now() - begin < GATE_NS);
	lock_acquire(n);
	lock_release(n);
}

/* ------------------------------------------------------------ the lock */

static int lock_wait(struct netio *n, pthread_mutex_t *m)
{
	int r;

	/* Our place in the line and the gate: the one looks at the other after it has set its own. */
	while (atomic_fetch_add(&n->in_line, 1), atomic_load(&n->gate) && gate_bars(n)) {
		atomic_fetch_sub(&n->in_line, 1);
		netio_gate_wait(n);
	}
	r = pthread_mutex_lock(m);
	atomic_fetch_sub(&n->in_line, 1);
	return r;
}

/* The region has grown beyond what this process has mapped of it (netio_address_space()). */
static void region_follow(struct netio *n, int r)
{
	static const uint32_t nobody = 0;

	if (!region_widen(&n->region, n->region.head->limit))
		return;
	report("the memory of the stack has grown beyond the limit of this process; raise its `ulimit -v`");
	if (r == EOWNERDEAD) /* we cannot put it in order; our own death hands that on */
		RAW2(SYS_kill, getpid(), SIGKILL);
	n->sign = &nobody; /* netio_enter() cuts it off */
}

static bool region_is_larger(const struct netio *n)
{
	return __builtin_expect(n->region.head->limit > n->region.mapped - REGION_HEAD_BYTES, 0);
}

void lock_acquire(struct netio *n)
{
	pthread_mutex_t *m;
	int r;

	if (gate_bars(n))
		netio_gate_wait(n);
	m = lock_of(n);
	r = pthread_mutex_trylock(m);
	for (int i = 0; r == EBUSY && i < SPINS; i++) {
		relax();
		r = pthread_mutex_trylock(m);
	}
	if (r == EBUSY)
		r = lock_wait(n, m);
	if (!still_ours(n, m, r)) {
		lock_acquire(n);
		return;
	}
	if (region_is_larger(n))
		region_follow(n, r);
	if (__builtin_expect(r == EOWNERDEAD, 0))
		region_recover(n);
	if (gate_bars(n)) {
		lock_release(n);
		netio_gate_wait(n);
		lock_acquire(n);
	}
}

bool lock_try(struct netio *n)
{
	pthread_mutex_t *m = lock_of(n);
	int r = pthread_mutex_trylock(m);

	if (!still_ours(n, m, r))
		return false;
	if ((!r || r == EOWNERDEAD) && region_is_larger(n))
		region_follow(n, r);
	if (__builtin_expect(r == EOWNERDEAD, 0))
		region_recover(n);
	if (r && r != EOWNERDEAD)
		return false;
	if (!gate_bars(n))
		return true;
	lock_release(n);
	return false;
}

void lock_release(struct netio *n)
{
	pthread_mutex_unlock(&n->region.head->lock);
}
