/*
 * internal.h - what netio's files share and nobody else sees.
 *
 * struct netio is one process's attachment; it is private memory. What several
 * processes may share lives in the region: first a page with struct
 * region_head (the lock), then the stack at cx.base.
 */
#ifndef NETIO_INTERNAL_H
#define NETIO_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "netio/device.h"
#include "netio/rawsys.h"
#include "utcp/netio.h"
#include "utcp/sys.h"

/* ------------------------------------------------------------------ region (region.c), lock (lock.c) */

#define REGION_HEAD_BYTES 4096u /* keeps the stack's base page-aligned */

struct region_head {
	char magic[8];
	uint64_t layout_hash;
	pthread_mutex_t lock;
	nsec last_now;	    /* the clock never goes backwards between holders of the lock */
	uint64_t limit;	    /* usable bytes of the stack */
	uint64_t recovered; /* how often an owner died inside */
};
_Static_assert(sizeof(struct region_head) <= REGION_HEAD_BYTES, "region head outgrew its page");

struct region {
	int fd;
	struct region_head *head; /* start of the mapping */
	uint64_t reserved;	  /* bytes of address space */
	bool commit;		  /* strict overcommit: pages are taken when the region grows, not on touch */
};

int region_create(struct region *r, char *why, size_t why_len);
void region_destroy(struct region *r);
/* Make [0, bytes) after the head usable. 0 or -ENOMEM. Lock held (or region private). */
int region_grow(struct region *r, uint64_t bytes);
struct netio;
/* Give spare memory back to the system. Takes the lock, repeatedly and for short. */
void region_trim(struct netio *n);

int lock_init(struct region_head *h);
void lock_acquire(struct netio *n);
void lock_release(struct netio *n);
bool lock_try(struct netio *n);

/* ------------------------------------------------------------------ descriptors (fds.c) */

#define FDS_MAX 16384

/*
 * As netio_protect_fd(), and the new number is written to *where, also later
 * when netio_vacate_fd() moves it. 0 or a negative errno (fd is closed then).
 */
int fds_keep(int fd, int *where);
/* Close *where, forget it, set it to -1. */
void fds_drop(int *where);
/* The list of this process's attachments. */
void fds_attach(struct netio *n);
void fds_detach(struct netio *n);
void fds_after_fork(void);

/* ------------------------------------------------------------------ waiting */

#define SLOT_NONE    0u
#define SLOTS_MAX    (FDS_MAX / 2)
#define RINGS_MAX    32
#define RECHECKS_MAX 8

struct waitset {
	struct netio *n;
	ref set;
	uint32_t slot; /* index of this waitset in n->slots; 0 is never used */
	int epfd, bell;
	uint32_t next_free;
	bool exposed; /* waitset_bell() was asked for: somebody sees the bell's level */
	bool bell_up; /* rung and not drained (lock held) */
	_Atomic bool saw_bell;
	_Atomic uint32_t ringers; /* threads on their way to ring, after the unlock */
};

struct driver;
struct capture;

struct netio {
	struct stack_cx cx;
	struct region region;
	struct device dev;
	int timer_fd;
	nsec armed;  /* what timer_fd is set to; NSEC_NEVER: off */
	int failure; /* 0, or the negative errno of a device or region that is gone for good */
	struct netio_counters count;
	struct capture *capture;
	char device_name[64];
	uint32_t spin_ns, test_pause_us;

	/* rings and rechecks collected under the lock (ready.c), done in netio_leave() */
	uint32_t ring[RINGS_MAX];
	uint32_t ring_count;
	ref recheck[RECHECKS_MAX];
	uint32_t recheck_count;
	bool wake_driver; /* the last waiter went and the driver is parked */

	/* waitsets of this process */
	struct waitset *slots;
	uint32_t slot_count, slot_free, slots_used;

	/* the driver's view (evloop.c): a Dekker pair, seq_cst on both sides */
	_Atomic int waiters;
	_Atomic uint32_t parked;
	_Atomic uint64_t activity; /* bursts driven by application threads */
	struct driver *driver;
	bool driver_wanted;
	bool forgotten; /* a forked child's copy */

	struct netio *next; /* all attachments of the process (fds.c) */
	uint8_t *rx_buf;
	uint32_t looks; /* drives since the queue was last read to its end (drive.c) */
	uint32_t busy;	/* drives left that read it to its end */
	bool left;	/* the last burst ended at its limit: frames may be queued that no sleeper knows of */
};

/* ready.c: hand the core's edges to the watchers; lock held. */
void ready_deliver(struct netio *n, struct stack_cx *cx);
/* ready.c: evset bookkeeping for wait.c; lock held. */
void evset_bind(struct stack_cx *cx, ref set, uint32_t slot);
void evset_publish(struct stack_cx *cx, ref set);
void evset_withdraw(struct stack_cx *cx, ref set, bool answered);
void evset_attend(struct stack_cx *cx, ref set, bool on);
bool evset_has_ready(struct stack_cx *cx, ref set);
void evset_ring_always(struct stack_cx *cx, ref set, bool on);
bool evset_rings_always(struct stack_cx *cx, ref set);
/* Ring for every set noted by evset_recheck() that still has something to offer to a sleeping thread. */
void evset_run_rechecks(struct netio *n, struct stack_cx *cx);

/* wait.c */
/* Note that the waitset in `slot` must be rung when the lock is released; at once if now is set. */
void bell_ring(struct netio *n, uint32_t slot, bool now);
bool bell_is_up(struct netio *n, uint32_t slot);
void bell_drain(struct netio *n, uint32_t slot);
/* Copies of what to ring, taken under the lock for use after it. */
struct ring_list {
	uint32_t count;
	struct waitset *ws[RINGS_MAX];
};
void ring_collect(struct netio *n, struct ring_list *l);
void ring_all(struct ring_list *l);
void waitsets_free(struct netio *n, bool close_fds);

/* ------------------------------------------------------------------ driver (evloop.c) */
bool netio_in_driver(void); /* the calling thread is a driver thread */
void driver_stop(struct netio *n);
void driver_unpark(struct netio *n);
void driver_forget(struct netio *n);

/* ------------------------------------------------------------------ drive.c */
void device_failed(struct netio *n, int err);
/* netio_enter() unless somebody is inside. */
bool netio_try_enter(struct netio *n);
/* The calling thread was woken by the device: for the count of spurious wake-ups. */
void drive_note_wake(bool device);

/* ------------------------------------------------------------------ capture.c */
int capture_open(const struct netio_config *c, struct capture **out, char *why, size_t why_len);
/* True while frames are recorded. */
bool capture_running(const struct capture *c);
void capture_rx(struct capture *c, struct device_rx *rx);
void capture_tx(struct capture *c, const struct frame_tx *f);
uint64_t capture_drops(const struct capture *c);
void capture_flush(struct capture *c);
/* Flush; what comes later is not recorded. */
void capture_end(struct capture *c);
void capture_close(struct capture *c);
/* In a forked child: what is still buffered belongs to the parent. */
void capture_forget(struct capture *c);

/* ------------------------------------------------------------------ small helpers */
void why_set(char *why, size_t why_len, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* Private zeroed pages, outside the application's heap; NULL. */
void *pages_alloc(size_t bytes);
void pages_free(void *p, size_t bytes);
/* One line for the user (netio_set_report). */
void report(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#define TLS_FAST __thread __attribute__((tls_model("initial-exec")))

#endif
