/*
 * drive.c - attach, and the cycle that every thread runs: enter, drive, verb, leave.
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
#include <linux/futex.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/mman.h>
#include <sys/timerfd.h>

#include "netio/internal.h"

#define BURST_MAX 64
/*
 * Bytes after which a burst ends: the acknowledgement leaves while the sender still has window, and what was
 * taken is read by the application before it falls out of the cache.
 */
#define BURST_BYTES (256u << 10)
#define QUEUE_MAX   1024	      /* frames; more than a device's queue holds */
#define LOOK_EVERY  8		      /* one drive in so many looks for a queue while frames come singly */
#define ORPHANED_NS (600 * NS_PER_MS) /* for the processes of a stack to make the next keeper */
#define BUSY_FOR    64		      /* drives that read the queue to its end after one that found several */

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
		n->count.tx_errors++;
		return err;
	}
	n->count.tx_frames++;
	n->count.tx_bytes += f->header_len + f->payload_len;
	if (n->capture)
		capture_tx(n->capture, f);
	return 0;
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
	read_clock(n);
	return &n->cx;
}

bool netio_try_enter(struct netio *n)
{
	if (!lock_try(n))
		return false;
	read_clock(n);
	return true;
}

/*
 * The device is gone (the interface was deleted): close it, so that it leaves
 * every epoll set and nobody spins on its error. The connections run into
 * their time-outs, as when a cable is cut.
 */
void device_failed(struct netio *n, int err)
{
	if (n->failure)
		return;
	__atomic_store_n(&n->failure, err, __ATOMIC_RELAXED);
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
 * told only the one elected, so the queue is always emptied (design D3.2).
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

	if (deadline >= h->armed && !fired)
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

void drive_settle(struct netio *n, struct stack_cx *cx)
{
	stack_flush(cx);
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
}

/* ------------------------------------------------------------ attach and detach */

void netio_config_defaults(struct netio_config *c)
{
	memset(c, 0, sizeof *c);
	memcpy(c->device, "tap:utcp0", sizeof "tap:utcp0");
	stack_config_defaults(&c->stack);
}

static const struct device_ops *const device_kinds[] = {&dev_tap, &dev_packet, &dev_mem, &dev_none};

static int device_open(struct netio *n, struct netio_config *c, char *why, size_t why_len)
{
	const char *colon = strchr(c->device, ':');
	size_t kind_len = colon ? (size_t)(colon - c->device) : 0;

	n->dev.fd = -1;
	if (strcmp(c->device, dev_none.kind) == 0) {
		n->dev.ops = &dev_none;
		return dev_none.open(&n->dev, "", c, why, why_len);
	}
	for (unsigned i = 0; colon && i < ARRAY_LEN(device_kinds); i++) {
		const struct device_ops *ops = device_kinds[i];

		if (strlen(ops->kind) != kind_len || memcmp(ops->kind, c->device, kind_len) != 0)
			continue;
		if (!colon[1])
			break;
		n->dev.ops = ops;
		return ops->open(&n->dev, colon + 1, c, why, why_len);
	}
	why_set(why, why_len, "unknown device '%s'; use tap:NAME, packet:INTERFACE or none", c->device);
	return -EINVAL;
}

static int timer_open(struct netio *n, char *why, size_t why_len)
{
	int fd = (int)RAW2(SYS_timerfd_create, CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	int err = fd < 0 ? fd : fds_keep(fd, &n->timer_fd);

	if (err) {
		n->timer_fd = -1;
		why_set(why, why_len, "no timer (%s); raise `ulimit -n`", strerror(-err));
	}
	return err;
}

static void stack_handle(struct netio *n)
{
	n->cx.base = (uint8_t *)n->region.head + REGION_HEAD_BYTES;
	n->cx.grow = cx_grow;
	n->cx.tx = cx_tx;
	n->cx.arg = n;
}

/* The socket that rings bells of other processes. */
static int post_open(struct netio *n, char *why, size_t why_len)
{
	int fd = (int)RAW3(SYS_socket, AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int err = fd < 0 ? fd : fds_keep(fd, &n->post_fd);

	if (err) {
		n->post_fd = -1;
		why_set(why, why_len, "no local socket (%s); raise `ulimit -n`", strerror(-err));
	}
	return err;
}

/* By what the processes of the stack will find its keeper, and it them. */
static int name_stack(struct netio *n, const struct netio_config *c)
{
	struct region_head *h = n->region.head;

	if (keeper_possible() && rendezvous_wanted(c))
		rendezvous_name(c, &h->name);
	else
		rendezvous_private_name(&h->name);
	return RAW3(SYS_getrandom, &h->secret, sizeof h->secret, 0) == sizeof h->secret ? 0 : -EIO;
}

static int stack_start(struct netio *n, struct netio_config *c, char *why, size_t why_len)
{
	uint8_t seed[32];
	int err;

	/* What the link cannot do is done on the way out (device send), so the core may always leave it. */
	c->stack.device_caps =
	    DEVICE_TX_CSUM | DEVICE_TX_TSO4 | (n->dev.caps & (DEVICE_NO_ARP | DEVICE_NONE));
	if (RAW3(SYS_getrandom, seed, sizeof seed, 0) != sizeof seed || name_stack(n, c)) {
		why_set(why, why_len, "the kernel gives no random numbers");
		return -EIO;
	}
	stack_handle(n);
	read_clock(n);
	err = lock_init(n->region.head);
	if (!err)
		err = stack_init(&n->cx, &c->stack, seed);
	if (!err && !proc_new(n, &n->cx))
		err = -ENOMEM;
	if (err)
		why_set(why, why_len,
			"the stack refuses its configuration (%s); check address, MTU and limits",
			strerror(-err));
	return err;
}

static void release(struct netio *n)
{
	if (n->capture)
		capture_close(n->capture);
	n->capture = NULL;
	if (n->slots) {
		waitsets_free(n, true);
		pages_free(n->slots, SLOTS_MAX * sizeof *n->slots);
	}
	if (n->dev.ops && n->dev.fd >= 0)
		n->dev.ops->close(&n->dev);
	if (n->dev.tx_scratch)
		pages_free(n->dev.tx_scratch, FRAME_LEN_MAX);
	if (n->rx_buf)
		pages_free(n->rx_buf, RX_BUF_SIZE);
	if (n->timer_fd >= 0)
		fds_drop(&n->timer_fd);
	if (n->post_fd >= 0)
		fds_drop(&n->post_fd);
	if (n->keeper_fd >= 0)
		fds_drop(&n->keeper_fd);
	region_destroy(&n->region);
	pages_free(n, sizeof *n);
}

static int buffers_alloc(struct netio *n)
{
	n->slots = pages_alloc(SLOTS_MAX * sizeof *n->slots);
	n->rx_buf = pages_alloc(RX_BUF_SIZE);
	n->dev.tx_scratch = pages_alloc(FRAME_LEN_MAX);
	return n->slots && n->rx_buf && n->dev.tx_scratch ? 0 : -ENOMEM;
}

static int build(struct netio *n, struct netio_config *c, char *why, size_t why_len)
{
	int err = buffers_alloc(n);

	if (err) {
		why_set(why, why_len, "no memory for the device's buffers; raise `ulimit -v`");
		return err;
	}
	err = region_create(&n->region, why, why_len);
	if (!err)
		err = timer_open(n, why, why_len);
	if (!err)
		err = post_open(n, why, why_len);
	if (!err)
		network_begin(n);
	if (!err && c->pcap_path[0])
		err = capture_open(c, &n->capture, why, why_len);
	if (!err)
		err = device_open(n, c, why, why_len);
	if (!err)
		err = stack_start(n, c, why, why_len);
	return err;
}

static struct netio *netio_new(void)
{
	struct netio *n = pages_alloc(sizeof *n);

	if (n)
		n->timer_fd = n->region.fd = n->dev.fd = n->dev.claim_fd = n->post_fd = n->keeper_fd =
		    n->forking.line = -1;
	return n;
}

void attach_describe(const struct netio *n, struct attach_message *m)
{
	memset(m, 0, sizeof *m);
	m->type = MESSAGE_ATTACH;
	m->proc = n->proc;
	m->device = n->dev;
	for (uint32_t i = 0; i < ARRAY_LEN(device_kinds); i++)
		if (device_kinds[i] == n->dev.ops)
			m->device_kind = i;
	m->fingerprint = n->fingerprint;
	memcpy(m->device_name, n->device_name, sizeof m->device_name);
}

/* The device of another process's description; its descriptors are ours. */
static int device_adopt(struct netio *n, const struct attach_message *m, int fd, int claim)
{
	uint8_t *scratch = n->dev.tx_scratch;
	int err;

	n->dev = m->device;
	n->dev.ops = device_kinds[m->device_kind];
	n->dev.tx_scratch = scratch;
	n->dev.mem = NULL;
	n->dev.claim_fd = -1;
	n->dev.fd = -1;
	memcpy(n->device_name, m->device_name, sizeof n->device_name);
	err = fds_keep(fd, &n->dev.fd);
	/* Whoever is left of a stack keeps a second one off its address. */
	if (m->device.claim_fd < 0 || err)
		raw_close(claim);
	else
		err = fds_keep(claim, &n->dev.claim_fd);
	return err;
}

int netio_adopt(const struct attach_message *m, const int fd[ATTACH_FDS], struct netio **out)
{
	struct netio *n = netio_new();
	char why[128];
	int taken = 0, err;

	*out = NULL;
	err = !n ? -ENOMEM : m->device_kind < ARRAY_LEN(device_kinds) ? buffers_alloc(n) : -EPROTO;
	if (!err) {
		taken = 1;
		err = region_adopt(&n->region, fd[0]);
	}
	if (!err) {
		taken = 2;
		err = fds_keep(fd[2], &n->timer_fd);
	}
	if (!err) {
		taken = ATTACH_FDS;
		err = device_adopt(n, m, fd[1], fd[3]);
	}
	if (!err)
		err = post_open(n, why, sizeof why);
	if (err) {
		static const int order[ATTACH_FDS] = {0, 2, 1, 3};

		for (int i = taken; i < ATTACH_FDS; i++)
			raw_close(fd[order[i]]);
		if (n)
			release(n);
		return err;
	}
	stack_handle(n);
	fds_attach(n);
	*out = n;
	return 0;
}

/* In a stack that others use as well: what this process sends and takes. */
static int joined_capture(struct netio *n, const struct netio_config *c, char *why, size_t why_len)
{
	int err = capture_open(c, &n->capture, why, why_len);

	if (err)
		netio_detach(n);
	else
		report("other processes use this stack; the capture has what this one sends and receives "
		       "itself");
	return err;
}

/* A stack of our own; the rendezvous' listener is for its keeper. */
static int make(const struct netio_config *config, int listener, struct netio **out, char *why,
		size_t why_len)
{
	struct netio_config c = *config;
	struct netio *n = netio_new();
	int err;

	if (!n) {
		why_set(why, why_len, "no memory for the stack; raise `ulimit -v`");
		return -ENOMEM;
	}
	memcpy(n->device_name, c.device, sizeof n->device_name);
	n->spin_ns = (uint32_t)MIN_OF((uint64_t)c.spin_us * NS_PER_US, UINT32_MAX);
	n->test_pause_us = c.test_pause_us;
	n->fingerprint = rendezvous_fingerprint(config);
	ifinfo_port_range(&c.stack.port_first, &c.stack.port_last);
	err = build(n, &c, why, why_len);
	if (err) {
		release(n);
		return err;
	}
	fds_attach(n);
	if (listener >= 0 && n->dev.fd >= 0)
		keeper_begin(n, listener); /* without one this stack is ours alone */
	*out = n;
	return 0;
}

static int attach_once(const struct netio_config *config, struct netio **out, char *why, size_t why_len)
{
	int listener = -1, err;

	if (keeper_known() && rendezvous_wanted(config)) {
		err = rendezvous(config, &listener, out, why, why_len);
		if (*out && config->pcap_path[0])
			err = joined_capture(*out, config, why, why_len);
		if (*out || err)
			return err == -EBUSY ? -EADDRINUSE : err;
	}
	if (listener >= 0 && !keeper_possible()) {
		raw_close(listener); /* nobody answers there */
		listener = -1;
	}
	err = make(config, listener, out, why, why_len);
	if (listener >= 0)
		raw_close(listener);
	return err;
}

static int attach(const struct netio_config *config, struct netio **out, char *why, size_t why_len)
{
	const struct timespec pause = {0, (long)(50 * NS_PER_MS)};
	int err = sys_init();

	*out = NULL;
	why[0] = 0;
	if (err) {
		why_set(why, why_len,
			"this C library lacks a call that the stack needs; glibc 2.36 or later");
		return err;
	}
	for (nsec patience = netio_now() + ORPHANED_NS;;) {
		err = attach_once(config, out, why, why_len);
		/* A stack whose keeper has just been killed has the device, and a name that was free. */
		if (err != -EBUSY || !rendezvous_wanted(config) || netio_now() >= patience)
			return err;
		RAW2(SYS_nanosleep, &pause, NULL);
	}
}

int netio_attach(const struct netio_config *config, struct netio **out, char *why, size_t why_len)
{
	int err;

	netio_births_begin();
	err = attach(config, out, why, why_len);
	netio_births_end();
	return err;
}

void netio_detach(struct netio *n)
{
	if (n->forgotten)
		return;
	n->driver_wanted = false;
	driver_stop(n);
	fds_detach(n);
	release(n);
}

void netio_forget_after_fork(struct netio *n)
{
	if (n->forgotten)
		return;
	n->forgotten = true;
	fds_after_fork();
	fds_detach(n);
	driver_forget(n);
	if (n->capture)
		capture_forget(n->capture);
	/*
	 * Closing the child's copies changes nothing for the parent - its epoll
	 * members hang on the open files - but lets a TAP of ours vanish when the
	 * parent ends. The region stays mapped: descriptors that the child
	 * inherited still point into it.
	 */
	waitsets_free(n, true);
	fds_drop(&n->dev.fd);
	fds_drop(&n->dev.claim_fd);
	fds_drop(&n->timer_fd);
	fds_drop(&n->post_fd);
	fds_drop(&n->keeper_fd);
	fds_drop(&n->region.fd);
}

void netio_capture_flush(struct netio *n)
{
	if (n->forgotten || !n->capture)
		return;
	lock_acquire(n);
	capture_flush(n->capture);
	lock_release(n);
}

void netio_capture_end(struct netio *n)
{
	if (n->forgotten || !n->capture)
		return;
	lock_acquire(n);
	capture_end(n->capture);
	lock_release(n);
}

const char *netio_device_name(struct netio *n)
{
	return n->device_name;
}

int netio_status(struct netio *n)
{
	return __atomic_load_n(&n->failure, __ATOMIC_RELAXED);
}

void netio_counters(struct netio *n, struct netio_counters *out)
{
	if (n->forgotten) {
		memset(out, 0, sizeof *out);
		return;
	}
	lock_acquire(n);
	/* These two are counted without the lock. */
	uint64_t wakeups = __atomic_load_n(&n->count.helper_wakeups, __ATOMIC_RELAXED);
	uint64_t blocks = __atomic_load_n(&n->count.blocks, __ATOMIC_RELAXED);
	struct netio_counters c = {
	    .rx_app = n->count.rx_app,
	    .rx_helper = n->count.rx_helper,
	    .rx_stolen = n->count.rx_stolen,
	    .drives = n->count.drives,
	    .helper_wakeups = wakeups,
	    .bells = n->count.bells,
	    .blocks = blocks,
	    .spurious = n->count.spurious,
	    .rx_bytes = n->count.rx_bytes,
	    .tx_bytes = n->count.tx_bytes,
	    .tx_frames = n->count.tx_frames,
	    .tx_errors = n->count.tx_errors,
	    .capture_drops = n->capture ? capture_drops(n->capture) : 0,
	    .owner_deaths = n->region.head->recovered,
	    .owner_resets = n->region.head->resets,
	};
	lock_release(n);
	*out = c;
}
