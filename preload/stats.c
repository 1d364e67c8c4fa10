/*
 * stats.c - the stack's counters, told at exit.
 *
 * UTCP_STATS=FILE gets every counter as a `name value` line, for tests and
 * scripts; `utcp -v` gets a few lines for people. Both read the counters once,
 * under the lock, while the stack still lives.
 * Place in the flow: init.c calls stats_report() after the exit drain.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "preload/preload.h"

static atomic_flag told = ATOMIC_FLAG_INIT;

/* Everything that is told. */
struct account {
	struct stack_counters stack;
	struct netio_counters io;
	uint64_t region_bytes, buffer_bytes;
};

static struct stack_counters before; /* others used the stack already */

void stats_begin(struct netio *n)
{
	before = *stack_counters(netio_enter(n));
	netio_leave(n);
}

static void account_take(struct netio *n, struct account *a)
{
	struct stack_cx *cx = netio_enter(n);

	a->stack = *stack_counters(cx);
#define X(field, name, what) a->stack.field -= before.field;
	STACK_COUNTERS(X)
#undef X
	a->region_bytes = stack_region_bytes(cx);
	a->buffer_bytes = stack_buffer_bytes(cx);
	netio_leave(n);
	netio_counters(n, &a->io);
}

static void line_write(long fd, const char *name, uint64_t value)
{
	char line[128];
	int n = log_format(line, sizeof line, "%s %lu\n", name, (unsigned long)value);

	sys.syscall(SYS_write, fd, line, (size_t)n);
}

static void stats_write(const char *path, const struct account *a)
{
	long fd = sys.syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOCTTY,
			      0644);

	if (fd < 0) {
		log_line("%s: cannot write the counters (error %d); correct UTCP_STATS", path, errno);
		return;
	}
#define X(field, name, what) line_write(fd, name, a->stack.field);
	STACK_COUNTERS(X)
#undef X
	line_write(fd, "RxFramesApp", a->io.rx_app);
	line_write(fd, "RxFramesHelper", a->io.rx_helper);
	line_write(fd, "RxFramesStolen", a->io.rx_stolen);
	line_write(fd, "RxBytes", a->io.rx_bytes);
	line_write(fd, "TxFrames", a->io.tx_frames);
	line_write(fd, "TxBytes", a->io.tx_bytes);
	line_write(fd, "TxDeviceErrors", a->io.tx_errors);
	line_write(fd, "Drives", a->io.drives);
	line_write(fd, "HelperWakeups", a->io.helper_wakeups);
	line_write(fd, "Bells", a->io.bells);
	line_write(fd, "Blocks", a->io.blocks);
	line_write(fd, "SpuriousWakeups", a->io.spurious);
	line_write(fd, "CaptureDrops", a->io.capture_drops);
	line_write(fd, "OwnerDeaths", a->io.owner_deaths);
	line_write(fd, "OwnerResets", a->io.owner_resets);
	line_write(fd, "RegionBytes", a->region_bytes);
	line_write(fd, "BufferBytes", a->buffer_bytes);
	sys.syscall(SYS_close, fd);
}

static void summary_say(const char *device, const struct account *a)
{
	const struct stack_counters *s = &a->stack;

	log_line("%s: connections: %lu opened, %lu accepted, %lu failed, %lu reset", device,
		 (unsigned long)s->tcp_active_open, (unsigned long)s->tcp_passive_open,
		 (unsigned long)s->tcp_attempt_fail, (unsigned long)s->tcp_estab_reset);
	log_line("frames: %lu received (%lu by the helper thread) with %lu bytes, %lu sent with %lu bytes",
		 (unsigned long)(a->io.rx_app + a->io.rx_helper), (unsigned long)a->io.rx_helper,
		 (unsigned long)a->io.rx_bytes, (unsigned long)a->io.tx_frames,
		 (unsigned long)a->io.tx_bytes);
	log_line("segments: %lu retransmitted (%lu fast recoveries, %lu time-outs), %lu out of order",
		 (unsigned long)s->tcp_retrans, (unsigned long)s->tcp_fast_retrans, (unsigned long)s->tcp_rto,
		 (unsigned long)s->tcp_ooo);
	if (a->io.capture_drops)
		log_line("%lu frames are missing in the capture; write it to a faster disk or set "
			 "UTCP_PCAP_SNAPLEN",
			 (unsigned long)a->io.capture_drops);
}

void stats_report(struct netio *n)
{
	struct account a;

	if (!n || (!the_config.stats_path[0] && !the_config.verbose) || atomic_flag_test_and_set(&told))
		return;
	account_take(n, &a);
	if (the_config.stats_path[0])
		stats_write(the_config.stats_path, &a);
	if (the_config.verbose)
		summary_say(netio_device_name(n), &a);
}
