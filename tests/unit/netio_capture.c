/*
 * netio_capture.c - captures of a transfer between two stacks over a cable in
 * memory: complete, readable by libpcap, filtered, cut, and harmless when the
 * disk is full or the process forks.
 */
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "tests/unit/netio_kit.h"
#include "tests/unit/netio_pcap.h"

#define BYTES (3u << 20)

static char path[64];
static int reports;

static void count_reports(const char *line)
{
	reports++;
	CHECK_MSG(strstr(line, "capture") != NULL, "%s", line);
}

static void *sink(void *arg)
{
	static uint8_t buf[65536];
	struct kit_sock *listener = arg, k;
	uint64_t got = 0;
	int64_t r;

	if (!kit_accept(listener, &k))
		return NULL;
	while ((r = kit_recv(&k, buf, sizeof buf)) > 0)
		got += (uint64_t)r;
	CHECK_EQ(r, 0);
	kit_close(&k);
	return (void *)(uintptr_t)got;
}

/* BYTES from the captured stack (10.77.0.1) to the other (10.77.0.2). How many arrived. */
static uint64_t captured_transfer(const struct netio_config *c, bool flush_only)
{
	struct netio *a = kit_attach("mem:capture", c), *b = kit_attach("mem:capture", NULL);
	struct kit_sock listener, k;
	static uint8_t buf[65536];
	pthread_t t;
	void *got = NULL;

	if (!a || !b)
		return 0;
	CHECK_EQ(netio_start_driver(a),
		 0); /* what is still queued when the sender has gone leaves all the same */
	CHECK_FATAL(kit_watch(&listener, b, kit_listen(b, 80)));
	pthread_create(&t, NULL, sink, &listener);
	CHECK_FATAL(kit_connect(&k, a, ipaddr_v4(10, 77, 0, 2), 80));
	for (uint64_t at = 0; at < BYTES; at += sizeof buf) {
		kit_fill(buf, at, sizeof buf);
		CHECK_EQ(kit_send(&k, buf, sizeof buf), sizeof buf);
	}
	kit_shutdown(&k, 1);
	pthread_join(t, &got);
	kit_close(&k);
	kit_close(&listener);
	if (flush_only)
		netio_capture_flush(a);
	netio_detach(a);
	netio_detach(b);
	return (uint64_t)(uintptr_t)got;
}

/* The capture goes to a file in memory, which leaves nothing behind however the program ends. */
static struct netio_config config(void)
{
	static int fd = -1;
	struct netio_config c;

	if (fd >= 0)
		close(fd);
	fd = memfd_create("capture", MFD_CLOEXEC);
	CHECK_GE(fd, 0);
	netio_config_defaults(&c);
	snprintf(path, sizeof path, "/proc/%d/fd/%d", getpid(), fd);
	memcpy(c.pcap_path, path, sizeof path);
	return c;
}

static void complete(void)
{
	struct netio_config c = config();
	struct pcap_summary s;

	CHECK_EQ(captured_transfer(&c, true), BYTES);
	CHECK_FATAL(pcap_summarise(path, &s));
	CHECK_EQ(s.bad_checksums, 0);
	CHECK_EQ(s.truncated, 0);
	CHECK_GT(s.tcp_in, 40); /* from .1: at least one record for each 64 KB */
	CHECK_GT(s.tcp_out, 5);
	CHECK(s.nanoseconds);
	CHECK(s.ordered);
}

static void filtered(void)
{
	struct netio_config c = config();
	struct pcap_summary s;

	memcpy(c.pcap_filter, "arp or tcp[tcpflags] & tcp-syn != 0",
	       sizeof "arp or tcp[tcpflags] & tcp-syn != 0");
	CHECK_EQ(captured_transfer(&c, false), BYTES);
	CHECK_FATAL(pcap_summarise(path, &s));
	CHECK_EQ(s.tcp_in, 1);	/* SYN */
	CHECK_EQ(s.tcp_out, 1); /* SYN-ACK */
	CHECK_GE(s.frames, 2);
}

static void cut(void)
{
	struct netio_config c = config();
	struct pcap_summary s;
	struct stat st;

	c.pcap_snaplen = 100;
	CHECK_EQ(captured_transfer(&c, false), BYTES);
	CHECK_FATAL(pcap_summarise(path, &s));
	CHECK_GT(s.truncated, 20);
	CHECK_EQ(stat(path, &st), 0);
	CHECK_LE(st.st_size, 24 + s.frames * 116);
}

static void bad_configuration(void)
{
	struct netio_config c = config();
	struct netio *n = NULL;
	char why[256] = "";

	memcpy(c.device, "mem:bad", sizeof "mem:bad");
	memcpy(c.pcap_filter, "no such (", sizeof "no such (");
	CHECK_EQ(netio_attach(&c, &n, why, sizeof why), -EINVAL);
	CHECK_MSG(strstr(why, "filter") != NULL, "%s", why);
	c.pcap_filter[0] = 0;
	memcpy(c.pcap_path, "/nowhere/at/all", sizeof "/nowhere/at/all");
	CHECK_EQ(netio_attach(&c, &n, why, sizeof why), -ENOENT);
	CHECK_MSG(strstr(why, "/nowhere/at/all") != NULL, "%s", why);
}

/* A limit on the file's size (as a full disk): one line, no SIGXFSZ, the traffic goes on. */
static void disk_full(void)
{
	struct netio_config c = config();
	struct endpoint local = {.addr = ipaddr_v4(0, 0, 0, 0)}, remote = {.port = 80};
	struct rlimit old, small;
	struct stack_cx *cx;
	struct netio *n, *other;

	/* The region is a file too: let it have its size, and fail the second block of the capture. */
	CHECK_EQ(getrlimit(RLIMIT_FSIZE, &old), 0);
	memcpy(c.pcap_path, "/dev/full", sizeof "/dev/full");
	reports = 0;
	netio_set_report(count_reports);
	CHECK_EQ(captured_transfer(&c, false), BYTES);
	CHECK_EQ(reports, 1);
	memcpy(c.pcap_path, path, sizeof path);
	n = kit_attach("mem:full", &c);
	c.pcap_path[0] = 0;
	other = kit_attach("mem:full", &c); /* somebody must take the frame */
	CHECK_FATAL(n && other);
	small = old;
	small.rlim_cur = 10;
	CHECK_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
	/* Beyond the limit: the ARP request of a connection attempt. */
	cx = netio_enter(n);
	remote.addr = stack_configuration(cx)->addr;
	remote.addr.b[15] ^= 3;
	CHECK_EQ(sock_connect(cx, sock_create(cx), &local, &remote), -EINPROGRESS);
	netio_leave(n);
	netio_capture_flush(n);
	CHECK_EQ(reports, 2);
	netio_detach(n);
	netio_detach(other);
	CHECK_EQ(setrlimit(RLIMIT_FSIZE, &old), 0);
	netio_set_report(NULL);
}

/* What the parent has buffered is written once, by the parent; the child's exit() flushes nothing. */
static void child_writes_nothing(void)
{
	struct netio_config c = config();
	struct pcap_summary s;
	struct stat before, after;
	struct netio *n;
	struct kit_sock k;
	struct stack_cx *cx;
	int status = 0;
	pid_t p;

	n = kit_attach("mem:forked", &c);
	CHECK_FATAL(n != NULL);
	cx = netio_enter(n);
	struct endpoint local = {.addr = ipaddr_v4(0, 0, 0, 0)};
	struct endpoint remote = {.addr = ipaddr_v4(10, 77, 0, 2), .port = 80};
	k.s = sock_create(cx);
	sock_connect(cx, k.s, &local, &remote);
	netio_leave(n);
	CHECK_EQ(stat(path, &before), 0);
	fflush(stdout);
	p = fork();
	if (p == 0) {
		netio_forget_after_fork(n);
		fclose(stdout);
		exit(fcntl(3, F_GETFD) == 12345); /* 0, by way of exit()'s flush */
	}
	waitpid(p, &status, 0);
	CHECK_EQ(status, 0);
	CHECK_EQ(stat(path, &after), 0);
	CHECK_EQ(after.st_size, before.st_size);
	netio_detach(n);
	CHECK_FATAL(pcap_summarise(path, &s));
}

static off_t capture_size(void)
{
	struct stat st;

	return stat(path, &st) == 0 ? st.st_size : -1;
}

/* exit() flushes all streams without their locks: it must find none of our bytes, or they are there twice. */
static void not_the_c_librarys(void)
{
	struct netio_config c = config();
	struct pcap_summary s;
	struct netio *a = kit_attach("mem:capture", &c), *b = kit_attach("mem:capture", NULL);
	struct kit_sock listener, k;

	CHECK_FATAL(a && b && kit_watch(&listener, b, kit_listen(b, 80)));
	CHECK_EQ(netio_start_driver(b), 0); /* a's would write it out in the next pause */
	off_t header = capture_size();
	CHECK_EQ(header, 24);
	CHECK_FATAL(kit_connect(&k, a, ipaddr_v4(10, 77, 0, 2), 80));
	fflush(NULL);
	CHECK_EQ(capture_size(), header);
	netio_capture_flush(a);
	CHECK_GT(capture_size(), header);
	kit_close(&k);
	kit_close(&listener);
	netio_detach(a);
	netio_detach(b);
	CHECK_FATAL(pcap_summarise(path, &s));
	CHECK_EQ(s.truncated, 0);
}

CHECK_MAIN("netio_capture", {"both directions, right checksums, nanoseconds", complete},
	   {"UTCP_PCAP_FILTER", filtered}, {"UTCP_PCAP_SNAPLEN", cut},
	   {"a bad filter and a bad path are errors with a cause", bad_configuration},
	   {"a full disk ends the capture, not the traffic", disk_full},
	   {"a forked child writes nothing", child_writes_nothing},
	   {"the C library's flush at exit finds nothing", not_the_c_librarys})
