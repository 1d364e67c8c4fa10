/*
 * netio_tap.c - a stack on a TAP interface against the kernel's TCP: data both
 * ways, as client and as server, a capture of it, a busy and a deleted device,
 * and a packet socket on a veth pair.
 *
 * The program makes a network namespace of its own, so nothing outside sees it.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "netio/internal.h"
#include "tests/asleep.h"
#include "tests/unit/netio_kit.h"
#include "tests/unit/netio_pcap.h"

#define BULK (16u << 20)

static void own_namespace(void)
{
	static bool done;

	if (!done) {
		/* Without root: a user namespace gives the capabilities over the network namespace. */
		int r = unshare(CLONE_NEWNET);
		if (r != 0)
			r = unshare(CLONE_NEWUSER | CLONE_NEWNET);
		CHECK_FATAL(r == 0);
	}
	done = true;
}

/* ------------------------------------------------------------ the kernel's side */

struct peer {
	struct sockaddr_in at;
	bool server;
	int listen_fd;
	uint64_t sent, received;
	bool same;
	int err;
};

static void *peer_sender(void *arg)
{
	static uint8_t buf[60000];
	int fd = (int)(intptr_t)arg;
	uint64_t at = 0;

	while (at < BULK) {
		size_t len = MIN_OF(sizeof buf, BULK - at);
		ssize_t r;

		kit_fill(buf, at, len);
		r = send(fd, buf, len, MSG_NOSIGNAL);
		if (r <= 0)
			return (void *)1;
		at += (uint64_t)r;
	}
	shutdown(fd, SHUT_WR);
	return NULL;
}

/* Send BULK bytes and receive until the end at the same time. */
static void *peer_main(void *arg)
{
	struct peer *p = arg;
	static uint8_t buf[80000];
	struct timeval tv = {20, 0};
	pthread_t sender;
	void *status = NULL;
	ssize_t r;
	int fd;

	if (p->server) {
		fd = accept(p->listen_fd, NULL, NULL);
	} else {
		fd = socket(AF_INET, SOCK_STREAM, 0);
		if (connect(fd, (struct sockaddr *)&p->at, sizeof p->at) != 0) {
			p->err = errno;
			close(fd);
			return NULL;
		}
	}
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof tv);
	pthread_create(&sender, NULL, peer_sender, (void *)(intptr_t)fd);
	p->same = true;
	while ((r = recv(fd, buf, sizeof buf, 0)) > 0) {
		p->same = p->same && kit_matches(buf, p->received, (size_t)r);
		p->received += (uint64_t)r;
	}
	if (r < 0)
		p->err = errno;
	pthread_join(sender, &status);
	if (status)
		p->err = EIO;
	close(fd);
	return NULL;
}

static void *stack_sender(void *arg)
{
	struct kit_sock *k = arg;
	static uint8_t buf[50000];
	uint64_t at = 0;

	while (at < BULK) {
		size_t len = MIN_OF(sizeof buf, BULK - at);

		kit_fill(buf, at, len);
		if (kit_send(k, buf, len) != (int64_t)len)
			return (void *)1;
		at += len;
	}
	kit_shutdown(k, 1);
	return NULL;
}

/* The stack's side of the same exchange, on a connected socket. */
static void exchange(struct kit_sock *k)
{
	static uint8_t buf[80000];
	struct kit_sock reader = {.n = k->n, .s = k->s};
	struct stack_cx *cx;
	pthread_t sender;
	uint64_t got = 0;
	bool same = true;
	void *status;
	int64_t r;

	CHECK_FATAL(waitset_create(k->n, &reader.ws) == 0);
	cx = netio_enter(k->n);
	watch_add(cx, waitset_evset(reader.ws), k->s, EPOLLIN | EPOLLET, 0, 2);
	netio_leave(k->n);
	pthread_create(&sender, NULL, stack_sender, k);
	while ((r = kit_recv(&reader, buf, sizeof buf)) > 0) {
		same = same && kit_matches(buf, got, (size_t)r);
		got += (uint64_t)r;
	}
	pthread_join(sender, &status);
	CHECK_EQ(r, 0);
	CHECK_EQ(got, BULK);
	CHECK(same);
	CHECK_EQ((intptr_t)status, 0);
	waitset_destroy(reader.ws);
}

static void check_peer(const struct peer *p)
{
	CHECK_EQ(p->err, 0);
	CHECK_EQ(p->received, BULK);
	CHECK(p->same);
}

/* One transfer with the stack as server, one with it as client. */
static void both_roles(struct netio *n, const char *stack_addr, const char *kernel_addr)
{
	struct peer p = {.at = {.sin_family = AF_INET, .sin_port = htons(80)}};
	struct kit_sock listener, k;
	struct in_addr in;
	pthread_t t;

	inet_pton(AF_INET, stack_addr, &p.at.sin_addr);
	CHECK_FATAL(kit_watch(&listener, n, kit_listen(n, 80)));
	pthread_create(&t, NULL, peer_main, &p);
	CHECK_FATAL(kit_accept(&listener, &k));
	exchange(&k);
	pthread_join(t, NULL);
	check_peer(&p);
	kit_close(&k);
	kit_close(&listener);

	struct peer q = {.server = true, .at = {.sin_family = AF_INET, .sin_port = htons(81)}};
	inet_pton(AF_INET, kernel_addr, &q.at.sin_addr);
	q.listen_fd = socket(AF_INET, SOCK_STREAM, 0);
	setsockopt(q.listen_fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
	CHECK_FATAL(bind(q.listen_fd, (struct sockaddr *)&q.at, sizeof q.at) == 0);
	CHECK_FATAL(listen(q.listen_fd, 1) == 0);
	pthread_create(&t, NULL, peer_main, &q);
	in = q.at.sin_addr;
	CHECK_FATAL(kit_connect(&k, n, ipaddr_from_v4(&in), 81));
	exchange(&k);
	pthread_join(t, NULL);
	check_peer(&q);
	kit_close(&k);
	close(q.listen_fd);
}

/* ------------------------------------------------------------ the tests */

static void tap_transfers(void)
{
	struct netio_counters c;
	struct netio *n;

	own_namespace();
	n = kit_attach("tap:utcp0", NULL);
	CHECK_FATAL(n != NULL);
	CHECK_EQ(netio_start_driver(n), 0);
	both_roles(n, "10.77.0.2", "10.77.0.1");
	netio_counters(n, &c);
	/* Super-segments both ways: far fewer frames than segments (16 MB are 11600 segments a direction). */
	CHECK_LT(c.tx_frames, 2 * BULK / 1448);
	netio_detach(n);
	/* Gone with it, and to be had again at once. */
	n = kit_attach("tap:utcp0", NULL);
	CHECK_FATAL(n != NULL);
	netio_detach(n);
}

#define ROUNDS 3000

static void *echo_peer(void *arg)
{
	struct peer *p = arg;
	char buf[64];
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	ssize_t r;

	if (connect(fd, (struct sockaddr *)&p->at, sizeof p->at) != 0)
		return NULL;
	while ((r = recv(fd, buf, sizeof buf, 0)) > 0)
		p->received += (uint64_t)send(fd, buf, (size_t)r, MSG_NOSIGNAL);
	close(fd);
	return NULL;
}

/* Trap 19: while an application thread waits, the driver takes (nearly) no frame and hardly wakes. */
static void driver_steals_nothing(void)
{
	struct peer p = {.at = {.sin_family = AF_INET, .sin_port = htons(80)}};
	struct netio_counters c;
	struct kit_sock listener, k;
	struct netio *n;
	char buf[32] = "ping";
	pthread_t t;
	int done = 0;

	own_namespace();
	n = kit_attach("tap:utcp0", NULL);
	CHECK_FATAL(n != NULL);
	CHECK_EQ(netio_start_driver(n), 0);
	inet_pton(AF_INET, "10.77.0.2", &p.at.sin_addr);
	CHECK_FATAL(kit_watch(&listener, n, kit_listen(n, 80)));
	pthread_create(&t, NULL, echo_peer, &p);
	CHECK_FATAL(kit_accept(&listener, &k));
	for (; done < ROUNDS; done++) {
		if (kit_send(&k, buf, sizeof buf) != sizeof buf ||
		    kit_recv(&k, buf, sizeof buf) != sizeof buf)
			break;
	}
	CHECK_EQ(done, ROUNDS);
	netio_counters(n, &c);
	CHECK_LT(c.rx_helper * 50, c.rx_app);
	CHECK_LT(c.helper_wakeups * 4, ROUNDS);
	CHECK_LT(c.spurious * 4, ROUNDS);
	kit_close(&k);
	pthread_join(t, NULL);
	kit_close(&listener);
	netio_detach(n);
}

static void tap_is_busy(void)
{
	struct netio_config c;
	struct netio *n, *second = NULL;
	char why[256] = "";

	own_namespace();
	n = kit_attach("tap:utcp0", NULL);
	CHECK_FATAL(n != NULL);
	netio_config_defaults(&c);
	CHECK_EQ(netio_attach(&c, &second, why, sizeof why), -EBUSY);
	CHECK_MSG(strstr(why, "in use"), "%s", why);
	netio_detach(n);
}

static void bad_devices(void)
{
	static const struct {
		const char *device;
		int err;
	} cases[] = {
	    {"tap:", -EINVAL},	    {"tap:far-too-long-a-name", -EINVAL},
	    {"tap:a/b", -EINVAL},   {"nonsense", -EINVAL},
	    {"tun:x", -EINVAL},	    {"packet:none0", -ENODEV},
	    {"packet:lo", -EINVAL}, {"tap:lo", -EINVAL},
	};

	own_namespace();
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct netio_config c;
		struct netio *n = NULL;
		char why[256] = "";
		int err;

		netio_config_defaults(&c);
		snprintf(c.device, sizeof c.device, "%s", cases[i].device);
		err = netio_attach(&c, &n, why, sizeof why);
		CHECK_MSG(err == cases[i].err && !n, "%s: got %d (%s), want %d", cases[i].device, err, why,
			  cases[i].err);
		CHECK_MSG(strchr(why, ';') != NULL && !strchr(why, '\n'), "no cause and remedy: %s", why);
	}
}

static void tap_capture(void)
{
	struct netio_config c;
	struct pcap_summary sum;
	struct netio *n;

	own_namespace();
	netio_config_defaults(&c);
	snprintf(c.pcap_path, sizeof c.pcap_path, "/tmp/netio_tap.%d.pcap", getpid());
	n = kit_attach("tap:utcp0", &c);
	CHECK_FATAL(n != NULL);
	CHECK_EQ(netio_start_driver(n), 0); /* the rest of what was sent leaves when the threads have gone */
	both_roles(n, "10.77.0.2", "10.77.0.1");
	netio_capture_flush(n);
	netio_detach(n);
	CHECK_FATAL(pcap_summarise(c.pcap_path, &sum));
	CHECK_EQ(sum.bad_checksums, 0);
	CHECK_EQ(sum.truncated, 0);
	CHECK_GT(sum.tcp_out, 100);
	CHECK_GT(sum.tcp_in, 100);
	unlink(c.pcap_path);
}

static void *sleeps_a_second(void *arg)
{
	nsec deadline = netio_now() + NS_PER_S;
	struct wait_result r;
	struct kit_sock *k = arg;
	struct stack_cx *cx;

	while (netio_now() < deadline) {
		cx = netio_enter(k->n);
		netio_drive(k->n, cx);
		waitset_publish(k->ws, cx);
		netio_leave(k->n);
		waitset_block(k->ws, deadline, NULL, &r);
		cx = netio_enter(k->n);
		waitset_withdraw(k->ws, cx);
		netio_leave(k->n);
	}
	return NULL;
}

/*
 * A deleted interface is a cut cable: no error loop, no crash, time-outs. Another process has the device, too
 * (the keeper, as a rule): closing ours takes it out of no epoll set.
 */
static void tap_deleted(bool with_sleeper)
{
	struct netio_counters before, after;
	pthread_t t = 0;
	struct kit_sock k;
	struct netio *n;
	int held;

	own_namespace();
	n = kit_attach("tap:utcp0", NULL);
	CHECK_FATAL(n != NULL);
	held = dup(n->dev.fd);
	netio_set_report((void (*)(const char *))(void *)strlen);
	CHECK_EQ(netio_start_driver(n), 0);
	CHECK_FATAL(kit_watch(&k, n, kit_listen(n, 80)));
	if (with_sleeper)
		t = asleep_create(sleeps_a_second, &k);
	usleep(30000);
	CHECK_EQ(system("ip link del utcp0"), 0);
	for (int i = 0; i < 4000 && netio_status(n) != -ENODEV; i++)
		usleep(5000);
	CHECK_EQ(netio_status(n), -ENODEV);
	netio_counters(n, &before);
	usleep(200000);
	netio_counters(n, &after);
	CHECK_LE(after.helper_wakeups - before.helper_wakeups, 4);
	CHECK_LE(after.drives - before.drives, 4);
	if (with_sleeper)
		pthread_join(t, NULL);
	close(held);
	kit_close(&k);
	netio_detach(n);
	netio_set_report(NULL);
}

static void tap_deleted_beside_driver(void)
{
	tap_deleted(false);
}

static void tap_deleted_beside_sleeper(void)
{
	tap_deleted(true);
}

static void packet_transfers(void)
{
	struct netio_config c;
	struct netio *n;

	own_namespace();
	CHECK_EQ(system("ip link add hn0 type veth peer name hn1 && ip addr add 10.79.0.1/24 dev hn0 && "
			"ip link set hn0 up && ip link set hn1 up"),
		 0);
	netio_config_defaults(&c);
	c.stack.addr = ipaddr_v4(10, 79, 0, 2);
	c.stack.prefix_len = 24;
	n = kit_attach("packet:hn1", &c);
	CHECK_FATAL(n != NULL);
	CHECK_EQ(netio_start_driver(n), 0);
	both_roles(n, "10.79.0.2", "10.79.0.1");
	netio_detach(n);
	CHECK_EQ(system("ip link del hn0"), 0);
}

CHECK_MAIN("netio_tap", {"16 MB each way as server and as client over a TAP", tap_transfers},
	   {"trap 19: 3000 round trips without the driver", driver_steals_nothing},
	   {"a TAP in use is EBUSY, and says so", tap_is_busy},
	   {"bad devices: one line with cause and remedy", bad_devices},
	   {"a capture has both directions and right checksums", tap_capture},
	   {"a deleted interface stops the stack without a spin", tap_deleted_beside_driver},
	   {"and nobody who sleeps in a wait set spins", tap_deleted_beside_sleeper},
	   {"16 MB each way over a packet socket on a veth", packet_transfers})
