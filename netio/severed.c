/*
 * severed.c - a process that was taken for dead.
 *
 * Theory of operation. What a process may touch in the region is what it has
 * holds of, and these hang on its slot. If the slot was reaped, the places that
 * it knows are free, or another's: a write would go into somebody else's
 * connection. It should never happen (keeper.c: who holds his record lock is
 * alive); if it does all the same, nothing of the region may be touched again.
 *
 * netio_enter() compares the serial in the slot with the one that this process
 * signed. When they differ it puts pages of its own under the addresses of the
 * stack, with an empty stack in them, and takes a lock of its own: every
 * reference that some thread has in hand, even in the middle of a call, is now
 * one to nothing, and what it changes nobody sees. The shared head, in which the
 * lock is, stays mapped for the threads that wait for it; they find that it is no
 * longer theirs and give it back (lock.c).
 *
 * The application's connections answer as lost, its kernel sockets live on. A
 * second stack in the same process is not made: its threads may be anywhere in
 * calls on the first.
 *
 * Place in the flow: netio_enter() (drive.c) -> here -> preload's table.
 */
#include <linux/futex.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <unistd.h>

#include "netio/internal.h"

static void (*on_severed)(void);

void netio_set_severed(void (*f)(void))
{
	on_severed = f;
}

bool netio_is_severed(const struct netio *n)
{
	return __atomic_load_n(&n->severed, __ATOMIC_RELAXED);
}

/* Nobody is elected here for what the others wait for; who sleeps is to see what has happened. */
static void sleepers_leave(struct netio *n)
{
	device_leave(n);
	for (uint32_t i = 1; i <= n->slot_count; i++) {
		struct waitset *ws = &n->slots[i];

		if (!ws->n || ws->dead)
			continue;
		RAW4(SYS_epoll_ctl, ws->epfd, EPOLL_CTL_DEL, n->timer_fd, NULL);
		waitset_ring(ws);
	}
	if (n->dev.claim_fd >= 0)
		fds_drop(&n->dev.claim_fd);
}

/* A head and a stack of our own. False: no memory. */
static bool void_make(struct netio *n, struct region_head *h)
{
	struct region_head *shared = n->region.head;
	struct stack_config config = *stack_configuration(&n->cx);
	uint64_t bytes = n->region.mapped - REGION_HEAD_BYTES;
	static const uint8_t seed[32];

	memcpy(h->magic, shared->magic, sizeof h->magic);
	h->layout_hash = shared->layout_hash;
	h->limit = MIN_OF(shared->limit, bytes);
	h->reserved = shared->reserved;
	h->last_now = shared->last_now;
	h->armed = NSEC_NEVER;
	if (lock_init(h) || RAW6(SYS_mmap, n->cx.base, bytes, PROT_READ | PROT_WRITE,
				 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1,
				 0) != (long)(uintptr_t)n->cx.base)
		return false;
	return !stack_init(&n->cx, &config, seed);
}

void severed_enter(struct netio *n)
{
	struct region_head *shared = n->region.head, *own = pages_alloc(REGION_HEAD_BYTES);

	if (!own || !void_make(n, own)) {
		report("this process was taken for dead, and has no memory to go on without its stack");
		RAW2(SYS_kill, getpid(), SIGKILL);
	}
	sleepers_leave(n);
	/* What we would ask of the keeper names places that it would look for in the others' stack. */
	if (n->keeper_fd >= 0)
		fds_drop(&n->keeper_fd);
	n->keepers = 0;
	n->look_at = NSEC_NEVER;
	n->proc = REF_NONE;
	n->sign = &n->serial;
	n->ring_count = n->recheck_count = 0;
	n->left = n->wake_driver = n->kick_driver = false;
	__atomic_store_n(&n->severed, true, __ATOMIC_RELEASE);
	pthread_mutex_lock(&own->lock);
	n->region.reserved = REGION_HEAD_BYTES; /* all that region_destroy() may unmap; and nothing grows */
	__atomic_store_n(&n->region.head, own, __ATOMIC_RELEASE);
	fds_drop(&n->region.fd); /* with it our record lock, which says that the slot's process lives */
	pthread_mutex_unlock(&shared->lock);
	drivers_unpark(shared);
	if (on_severed)
		on_severed();
}

void severed_tell(struct netio *n)
{
	if (__atomic_exchange_n(&n->severed_told, true, __ATOMIC_RELAXED))
		return;
	driver_kick(n);
	report("this process was taken for dead, and its connections were closed; start it again");
}
