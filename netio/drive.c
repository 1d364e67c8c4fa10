/*
 * drive.c - the cycle that every thread runs: enter, drive, verb, leave.
 *
 * Theory of operation. enter() takes the lock and reads the clock once.
 * drive() gives the core what the device has queued, at most a burst, and runs
 * due timers. leave() lets the core send - one flush answers the whole burst
 * and whatever the verb in between changed, so that an ACK already carries the
 * window that a read has just opened -, hands edges to the watchers, sets the
 * stack's timerfd when the next deadline moved before the one it is set to,
 * unlocks, and only then rings.
 *
 * The timerfd is set lazily: a deadline that moves later (each ACK moves the
 * retransmission time-out) costs nothing; the old one fires once, finds nothing
 * due, and is set anew.
 *
 * Place in the flow: preload, evloop.c and wait.c -> here -> device, core.
 */
#include <stdarg.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/timerfd.h>

#include "netio/internal.h"

#define BURST_MAX 64
/*
 * Bytes after which a burst ends: the acknowledgement leaves while the sender still has window, and what was
 * taken is read by the application before it falls out of the cache.
 */
#define BURST_BYTES (256u << 10)
#define QUEUE_MAX   1024 /* frames; more than a device's queue holds */
#define LOOK_EVERY  8	 /* one drive in so many looks for a queue while frames come singly */
#define BUSY_FOR    64	 /* drives that read the queue to its end after one that found several */

static void (*report_to)(const char *line);
static TLS_FAST bool woken_by_device; /* only to count spurious wake-ups */

/* ------------------------------------------------------------ small helpers */

nsec netio_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (nsec)ts.tv_sec * NS_PER_S + (nsec)ts.tv_nsec;
}

void why_set(char *why, size_t why_len, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, why_len, fmt, ap);
	va_end(ap);
}

void netio_set_report(void (*f)(const char *line))
{
	report_to = f;
}

void report(const char *fmt, ...)
{
	char line[256];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(line, sizeof line - 1, fmt, ap);
	va_end(ap);
	if (report_to) {
		report_to(line);
	} else if (n > 0) {
		n = MIN_OF(n, (int)sizeof line - 2);
		line[n] = '\n';
		raw_write(2, "utcp: ", 6);
		raw_write(2, line, (size_t)n + 1);
	}
}

void *pages_alloc(size_t bytes)
{
	void *p =
	    mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

void pages_free(void *p, size_t bytes)
{
	munmap(p, bytes);
}

void *pages_table_grow(void *table, uint32_t *room, size_t each)
{
	uint32_t larger = MAX_OF(*room * 2, 64u);
	void *more = pages_alloc(larger * each);

	if (!more)
		return NULL;
	if (table) {
		memcpy(more, table, *room * each);
		pages_free(table, *room * each);
	}
	*room = larger;
	return more;
}

/* Without the lock: whoever reads the log may be slow. One line for a process. */
static void refusal_tell(struct netio *n)
{
	if (__atomic_exchange_n(&n->refused_told, true, __ATOMIC_RELAXED))
		return;
	report("the memory of the stack cannot grow beyond %u MiB; what needs more fails or waits, raise "
	       "`ulimit -v` and "
	       "`ulimit -f` of the process that makes the stack",
	       (unsigned)(n->region.head->limit >> 20));
}

/* ------------------------------------------------------------ the core's callbacks */

static int cx_grow(struct stack_cx *cx, uint64_t bytes)
{
	struct netio *n = cx->arg;
	int err = region_grow(&n->region, bytes);

	cx->limit = n->region.head->limit;
	n->refused |= err != 0;
	return err;
}

static int cx_tx(struct stack_cx *cx, const struct frame_tx *f)
{
	struct netio *n = cx->arg;
	int err = n->dev.fd >= 0 ? n->dev.ops->send(&n->dev, f) : -ENETDOWN;

	if (err) {
		if (err == -ENODEV)
			device_failed(n, err);
		n->count.tx_errors++;
		n->too_long |= err == -EMSGSIZE;
		return err;
	}
	n->count.tx_frames++;
	n->count.tx_bytes += f->header_len + f->payload_len;
	if (n->capture)
		capture_tx(n->capture, f);
	return 0;
}

void drive_bind(struct netio *n)
{
	n->cx.base = (uint8_t *)n->region.head + REGION_HEAD_BYTES;
	n->cx.grow = cx_grow;
	n->cx.tx = cx_tx;
	n->cx.arg = n;
}

/* ------------------------------------------------------------ enter, drive, leave */

void read_clock(struct netio *n)
{
	struct region_head *h = n->region.head;
	nsec now = netio_now();

	if (now > h->last_now)
		h->last_now = now;
	n->cx.now = h->last_now;
	n->cx.limit = h->limit;
	if (__builtin_expect(h->broken && !n->failure, 0))
		device_failed(n, -ENOTRECOVERABLE);
}

struct stack_cx *netio_enter(struct netio *n)
{
	lock_acquire(n);
	if (__builtin_expect(*n->sign != n->serial, 0))
		severed_enter(n);
	read_clock(n);
	return &n->cx;
}

bool netio_try_enter(struct netio *n)
{
	if (!lock_try(n))
		return false;
	if (__builtin_expect(*n->sign != n->serial, 0))
		severed_enter(n);
	read_clock(n);
	return true;
}

/*
 * Close the device here, while other processes may have it: they keep it in every epoll set. It is taken out
 * of ours; libev finds that the number means another file, and makes its set anew. Were it closed, that would
 * end the process: the driver may be about to hand the number over.
 */
void device_leave(struct netio *n)
{
	waitsets_forget_device(n);
	fds_retire(&n->dev.fd, &n->lost_fd, n->timer_fd);
}

/*
 * The device is gone (the interface was deleted): leave it, so that nobody spins on its error. The
 * connections run into their time-outs, as when a cable is cut.
 */
void device_failed(struct netio *n, int err)
{
	if (n->failure)
		return;
	__atomic_store_n(&n->failure, err, __ATOMIC_RELAXED);
	device_leave(n);
	n->dev.ops->close(&n->dev);
	report(err == -ENOTRECOVERABLE ? "a process died inside the stack, which is beyond repair and "
					 "stopped; start its programs again"
				       : "device %s is gone; connections on it will time out",
	       n->device_name);
}

/*
 * How many frames a burst may take. Reading a queue to its end costs one more
 * system call, which finds nothing: 2 % of a round trip. While frames come
 * singly one is enough, but only in a process with a single waitset: there the
 * device is on that set's ready list for as long as frames are queued, and what
 * is left behind ends the next wait at once. With several, the kernel may have
 * told only the one elected, so the queue is always emptied (design D3).
 */
static int burst_limit(struct netio *n)
{
	if (n->busy || n->slots_used > 1 || n->region.head->proc_count > 1 || netio_in_driver())
		return BURST_MAX;
	if (++n->looks < LOOK_EVERY)
		return 1;
	n->looks = 0;
	return BURST_MAX;
}

/* Notes in n->left what it left behind because of a limit. */
static int receive_burst(struct netio *n, struct stack_cx *cx)
{
	struct device_rx rx;
	int limit = burst_limit(n), taken = 0, r = 0;
	uint64_t stop_at = n->count.rx_bytes + BURST_BYTES;

	while (taken < limit && n->count.rx_bytes < stop_at && n->dev.fd >= 0) {
		r = n->dev.ops->recv(&n->dev, n->rx_buf, &rx);
		if (r <= 0)
			break;
		taken++;
		n->count.rx_bytes += rx.frame.len;
		if (n->capture)
			capture_rx(n->capture, &rx);
		stack_input(cx, &rx.frame);
	}
	if (taken > 1)
		n->busy = BUSY_FOR;
	else if (n->busy)
		n->busy--;
	if (r < 0)
		device_failed(n, r);
	if (r <= 0)
		n->left = false;
	else if (limit == BURST_MAX)
		n->left = true;
	if (netio_in_driver()) {
		n->count.rx_helper += (uint64_t)taken;
		if (atomic_load_explicit(&n->region.head->waiters, memory_order_relaxed) > 0)
			n->count.rx_stolen += (uint64_t)taken;
	} else
		n->count.rx_app += (uint64_t)taken;
	return taken;
}

/* What a burst has left, if others sleep beside it: nobody else may have been told of it. */
static int receive_rest(struct netio *n, struct stack_cx *cx)
{
	int taken = 0;

	while (n->left && taken < QUEUE_MAX && atomic_load(&n->region.head->waiters) > 0) {
		stack_flush(cx);
		taken += receive_burst(n, cx);
	}
	return taken;
}

int netio_drive(struct netio *n, struct stack_cx *cx)
{
	int taken = receive_burst(n, cx);

	taken += receive_rest(n, cx);
	n->count.drives++;
	if (!netio_in_driver()) {
		_Atomic uint64_t *activity = &n->region.head->activity;

		atomic_store_explicit(activity, atomic_load_explicit(activity, memory_order_relaxed) + 1,
				      memory_order_relaxed);
	}
	if (woken_by_device) {
		woken_by_device = false;
		n->count.spurious += taken == 0;
	}
	if (stack_deadline(cx) <= cx->now)
		stack_advance(cx);
	ready_deliver(n, cx);
	return taken;
}

void drive_note_wake(bool device)
{
	woken_by_device = device;
}

static void timer_settle(struct netio *n, nsec deadline)
{
	struct itimerspec t = {{0, 0}, {0, 0}};
	struct region_head *h = n->region.head;
	bool fired = h->armed <= n->cx.now;

	if ((deadline >= h->armed && !fired) || n->severed) /* the timer is the others' */
		return;
	/* Setting it also takes back a readiness that nobody has read. */
	h->armed = deadline;
	if (deadline != NSEC_NEVER) {
		deadline = MAX_OF(deadline, 1); /* 0 would switch it off */
		t.it_value.tv_sec = (time_t)(deadline / NS_PER_S);
		t.it_value.tv_nsec = (long)(deadline % NS_PER_S);
	}
	RAW4(SYS_timerfd_settime, n->timer_fd, TFD_TIMER_ABSTIME, &t, NULL);
}

/* SHLD-6: the interface's MTU became smaller; the frames that it refused go again, in smaller ones. */
static void follow_mtu(struct netio *n, struct stack_cx *cx)
{
	const struct stack_config *c = stack_configuration(cx);
	uint16_t mtu = n->dev.fd >= 0 ? ifinfo_mtu(n->dev.fd, n->dev.ifname) : 0;

	n->too_long = false;
	if (!mtu || mtu >= c->mtu)
		return;
	stack_set_device(cx, mtu, c->device_caps);
	stack_flush(cx);
}

void drive_settle(struct netio *n, struct stack_cx *cx)
{
	stack_flush(cx);
	if (__builtin_expect(n->too_long, 0))
		follow_mtu(n, cx);
	ready_deliver(n, cx);
	if (n->recheck_count)
		evset_run_rechecks(n, cx);
	timer_settle(n, stack_deadline(cx));
}

void netio_leave(struct netio *n)
{
	struct stack_cx *cx = &n->cx;
	struct ring_list rings;
	bool wake_driver, kick_driver, look, refused;

	/* Who published after the drive sleeps beside what it left, and the kernel's word may have gone to
	 * another. */
	if (n->left)
		receive_rest(n, cx);
	drive_settle(n, cx);
	if (__builtin_expect(n->region.head->making, 0))
		n->region.head->making = REF_NONE;
	ring_collect(n, &rings);
	wake_driver = n->wake_driver;
	kick_driver = n->kick_driver;
	n->wake_driver = n->kick_driver = false;
	look = keeper_look_due(n);
	refused = n->refused;
	n->refused = false;
	lock_release(n);
	ring_all(n, &rings);
	if (__builtin_expect(refused, 0))
		refusal_tell(n);
	if (wake_driver)
		driver_unpark(n);
	if (kick_driver)
		driver_kick(n);
	if (__builtin_expect(look, 0))
		keeper_look(n);
	if (__builtin_expect(n->severed, 0))
		severed_tell(n);
}
