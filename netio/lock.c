/*
 * lock.c - the one lock of a stack.
 *
 * A process-shared, robust mutex with priority inheritance in the region's
 * head. It is held for microseconds and never across a blocking call. Robust:
 * when a holder dies the next one gets EOWNERDEAD, puts the region in order
 * (recover.c) and goes on.
 *
 * Place in the flow: netio_enter() / netio_leave() in drive.c.
 */
#include <signal.h>
#include <unistd.h>

#include "netio/internal.h"

#define SPINS 60 /* about the time that a short holder needs; a futex wake-up costs far more */

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

void lock_acquire(struct netio *n)
{
	pthread_mutex_t *m = lock_of(n);
	int r = pthread_mutex_trylock(m);

	for (int i = 0; r == EBUSY && i < SPINS; i++) {
		relax();
		r = pthread_mutex_trylock(m);
	}
	if (r == EBUSY)
		r = pthread_mutex_lock(m);
	if (!still_ours(n, m, r)) {
		lock_acquire(n);
		return;
	}
	if (__builtin_expect(r == EOWNERDEAD, 0))
		region_recover(n);
}

bool lock_try(struct netio *n)
{
	pthread_mutex_t *m = lock_of(n);
	int r = pthread_mutex_trylock(m);

	if (!still_ours(n, m, r))
		return false;
	if (__builtin_expect(r == EOWNERDEAD, 0))
		region_recover(n);
	return r == 0 || r == EOWNERDEAD;
}

void lock_release(struct netio *n)
{
	pthread_mutex_unlock(&n->region.head->lock);
}
