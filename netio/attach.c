/*
 * attach.c - a process gets its part in a stack, and gives it up.
 *
 * An attachment (struct netio) is the region, the device, the timer, a socket to
 * ring others by, and buffers. It is built anew, by whoever makes the stack; or
 * adopted from a message with descriptors (rendezvous.c: somebody else's stack;
 * lifeline.c: our own after exec(); keeper.c).
 *
 * Place in the flow: preload (the first socket of the stack) -> here -> region.c,
 * device, rendezvous.c; then drive.c.
 */
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "netio/internal.h"

/* For the processes of a stack to make the next keeper: they may have failed just now, and try again later.
 */
#define ORPHANED_NS (KEEPER_RETRY_NS + 600 * NS_PER_MS)

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
	int fd = (int)netio_fd_call(SYS_timerfd_create, CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC, 0, 0);
	int err = fd < 0 ? fd : fds_keep(fd, &n->timer_fd);

	if (err) {
		n->timer_fd = -1;
		why_set(why, why_len, "no timer (%s); raise `ulimit -n`", strerror(-err));
	}
	return err;
}

/* The socket that rings bells of other processes. */
static int post_open(struct netio *n, char *why, size_t why_len)
{
	int fd = (int)netio_fd_call(SYS_socket, AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, 0);
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

	h->maker = (uint32_t)geteuid();
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
	drive_bind(n);
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
	if (n->lost_fd >= 0)
		fds_drop(&n->lost_fd);
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
		n->sign = &n->serial;
	if (n)
		n->timer_fd = n->region.fd = n->dev.fd = n->dev.claim_fd = n->post_fd = n->keeper_fd =
		    n->lost_fd = n->keeper_set = n->forking.line = -1;
	return n;
}

void attach_describe(const struct netio *n, struct attach_message *m)
{
	memset(m, 0, sizeof *m);
	m->type = MESSAGE_ATTACH;
	m->proc = n->proc;
	m->serial = n->serial;
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
	drive_bind(n);
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

int attach_once(const struct netio_config *config, struct netio **out, char *why, size_t why_len)
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

int attach_patiently(attach_fn *once, const struct netio_config *config, struct netio **out, char *why,
		     size_t why_len)
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
		err = once(config, out, why, why_len);
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
	err = attach_patiently(attach_once, config, out, why, why_len);
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
	fds_after_fork(false);
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
	fds_drop(&n->lost_fd);
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
