/*
 * netio_mem.c - two stacks in one process, joined by a cable in memory: data
 * both ways, half-close, many connections, and what happens when nobody drives
 * but the fallback driver.
 */
#include "tests/asleep.h"
#include "tests/unit/netio_kit.h"

#define BULK (8u << 20)

struct pair {
	struct netio *a, *b; /* 10.77.0.1, 10.77.0.2 */
	ref listener;
	struct kit_sock at_listener;
};

static bool pair_up(struct pair *p, const char *name)
{
	p->a = kit_attach(name, NULL);
	p->b = kit_attach(name, NULL);
	if (!p->a || !p->b)
		return false;
	p->listener = kit_listen(p->b, 80);
	return kit_watch(&p->at_listener, p->b, p->listener);
}

static void pair_down(struct pair *p)
{
	kit_close(&p->at_listener);
	netio_detach(p->a);
	netio_detach(p->b);
}

/* Sends back what it gets, until the end of the stream. */
static void *echo_server(void *arg)
{
	struct pair *p = arg;
	struct kit_sock k;
	static uint8_t buf[65536];
	int64_t r;

	if (!kit_accept(&p->at_listener, &k))
		return (void *)1;
	while ((r = kit_recv(&k, buf, sizeof buf)) > 0) {
		if (kit_send(&k, buf, (size_t)r) != r)
			return (void *)2;
	}
	kit_close(&k);
	return r == 0 ? NULL : (void *)3;
}

struct sender {
	struct kit_sock *k;
	uint64_t bytes;
	int64_t result;
};

static void *send_all(void *arg)
{
	struct sender *s = arg;
	static uint8_t buf[50000];
	uint64_t at = 0;

	while (at < s->bytes) {
		size_t n = MIN_OF(sizeof buf, s->bytes - at);

		kit_fill(buf, at, n);
		s->result = kit_send(s->k, buf, n);
		if (s->result < 0)
			return NULL;
		at += n;
	}
	kit_shutdown(s->k, 1);
	return NULL;
}

static void bulk_both_ways(void)
{
	struct pair p;
	struct kit_sock k;
	struct sender s = {.k = &k, .bytes = BULK};
	static uint8_t buf[70000];
	pthread_t server, sender;
	uint64_t got = 0;
	void *status;
	bool same = true;
	int64_t r;

	CHECK_FATAL(pair_up(&p, "mem:bulk"));
	/* The server closes with megabytes still to send, and ends: the rest is its driver's work. */
	CHECK_EQ(netio_start_driver(p.a), 0);
	CHECK_EQ(netio_start_driver(p.b), 0);
	pthread_create(&server, NULL, echo_server, &p);
	CHECK_FATAL(kit_connect(&k, p.a, ipaddr_v4(10, 77, 0, 2), 80));
	pthread_create(&sender, NULL, send_all, &s);
	/* Two threads on one socket: each has its waitset. */
	struct kit_sock reader;
	CHECK_FATAL(waitset_create(p.a, &reader.ws) == 0);
	reader.n = p.a;
	reader.s = k.s;
	struct stack_cx *cx = netio_enter(p.a);
	watch_add(cx, waitset_evset(reader.ws), k.s, EPOLLIN | EPOLLET, 0, 1);
	netio_leave(p.a);
	while ((r = kit_recv(&reader, buf, sizeof buf)) > 0) {
		same = same && kit_matches(buf, got, (size_t)r);
		got += (uint64_t)r;
	}
	pthread_join(sender, NULL);
	pthread_join(server, &status);
	CHECK_EQ(r, 0);
	CHECK_EQ(got, BULK);
	CHECK(same);
	CHECK_EQ((intptr_t)status, 0);
	CHECK_GE(s.result, 0);
	kit_close(&k);
	waitset_destroy(reader.ws);
	pair_down(&p);
}

static void step(struct netio *n)
{
	struct stack_cx *cx = netio_enter(n);

	netio_drive(n, cx);
	netio_leave(n);
}

/* A connection made without a driver and without sleeping. */
static bool connect_by_hand(struct pair *p, ref *client, ref *server)
{
	struct endpoint local = {.addr = ipaddr_v4(0, 0, 0, 0)};
	struct endpoint remote = {.addr = ipaddr_v4(10, 77, 0, 2), .port = 80};
	struct stack_cx *cx = netio_enter(p->a);

	*client = sock_create(cx);
	*server = REF_NONE;
	sock_connect(cx, *client, &local, &remote);
	netio_leave(p->a);
	for (int i = 0; i < 20 && !*server; i++) {
		step(p->a);
		step(p->b);
		cx = netio_enter(p->b);
		*server = sock_accept(cx, p->listener);
		netio_leave(p->b);
	}
	return *server != REF_NONE;
}

/* Sleeps until the device elects it, and takes its burst only when it may. */
struct elected {
	struct kit_sock *k;
	_Atomic bool may_drive;
};

static void *elected_thread(void *arg)
{
	struct elected *e = arg;
	struct kit_sock *k = e->k;
	struct stack_cx *cx = netio_enter(k->n);
	struct wait_result r;

	waitset_publish(k->ws, cx);
	netio_leave(k->n);
	waitset_block(k->ws, netio_now() + 10 * NS_PER_S, NULL, &r);
	while (!e->may_drive)
		usleep(1000);
	cx = netio_enter(k->n);
	waitset_withdraw(k->ws, cx);
	netio_drive(k->n, cx);
	netio_leave(k->n);
	return NULL;
}

/*
 * Design D3: the one thread that was told of the queue took a burst of it and left; another takes the next
 * burst, finds nothing for itself and goes to sleep. What it waits for is still queued, and no frame follows.
 */
static void left_behind(void)
{
	enum { COUNT = 200 };
	ref client[COUNT], server[COUNT];
	struct kit_sock first, last;
	struct elected e = {.k = &first};
	struct pair p;
	pthread_t t;
	char c = 'x';

	CHECK_FATAL(pair_up(&p, "mem:left"));
	for (int i = 0; i < COUNT; i++)
		CHECK_FATAL(connect_by_hand(&p, &client[i], &server[i]));
	CHECK_FATAL(kit_watch(&first, p.a, client[0]) && kit_watch(&last, p.a, client[COUNT - 1]));
	/* Awake, both sets would be told, and there would be nothing to see. */
	t = asleep_create(elected_thread, &e);
	for (int i = 0; i < COUNT; i++) {
		struct iovec v = {&c, 1};
		struct stack_cx *cx = netio_enter(p.b);

		CHECK_EQ(sock_send(cx, server[i], &v, 1, 0), 1);
		netio_leave(p.b);
	}
	e.may_drive = true;
	pthread_join(t, NULL);
	c = 0;
	CHECK_EQ(kit_recv(&last, &c, 1), 1);
	CHECK_EQ(c, 'x');
	kit_close(&first);
	kit_close(&last);
	pair_down(&p);
}

static void verify_clean(struct netio *n)
{
	struct stack_cx *cx = netio_enter(n);
	const char *broken = stack_verify(cx);

	netio_leave(n);
	CHECK_STR_EQ(broken ? broken : "", "");
}

static void many_connections(void)
{
	enum { COUNT = 200 };
	static struct kit_sock client[COUNT], server[COUNT];
	struct pair p;
	char c;

	CHECK_FATAL(pair_up(&p, "mem:many"));
	CHECK_EQ(netio_start_driver(p.a), 0);
	CHECK_EQ(netio_start_driver(p.b), 0);
	for (int i = 0; i < COUNT; i++) {
		CHECK_FATAL(kit_connect(&client[i], p.a, ipaddr_v4(10, 77, 0, 2), 80));
		CHECK_FATAL(kit_accept(&p.at_listener, &server[i]));
	}
	for (int i = 0; i < COUNT; i++) {
		c = (char)i;
		CHECK_EQ(kit_send(&client[i], &c, 1), 1);
	}
	for (int i = 0; i < COUNT; i++) {
		c = 0;
		CHECK_EQ(kit_recv(&server[i], &c, 1), 1);
		CHECK_EQ(c, (char)i);
		kit_close(&client[i]);
		CHECK_EQ(kit_recv(&server[i], &c, 1), 0);
		kit_close(&server[i]);
	}
	verify_clean(p.a);
	verify_clean(p.b);
	pair_down(&p);
}

/* With every application thread away, the driver answers and keeps the clock. */
static void driver_answers(void)
{
	struct netio_counters before, after;
	struct kit_sock client, server;
	struct pair p;
	char buf[5] = "";

	CHECK_FATAL(pair_up(&p, "mem:driver"));
	CHECK_EQ(netio_start_driver(p.b), 0);
	CHECK_FATAL(kit_connect(&client, p.a, ipaddr_v4(10, 77, 0, 2), 80));
	CHECK_FATAL(kit_accept(&p.at_listener, &server));
	usleep(50000); /* the driver of b is armed now */
	netio_counters(p.b, &before);
	CHECK_EQ(kit_send(&client, "hello", 5), 5);
	for (int i = 0; i < 2000; i++) {
		netio_counters(p.b, &after);
		if (after.rx_helper > before.rx_helper)
			break;
		usleep(10000);
	}
	CHECK_GT(after.rx_helper, before.rx_helper);
	CHECK_EQ(kit_recv(&server, buf, 5), 5);
	CHECK_MEM_EQ(buf, "hello", 5);
	kit_close(&client);
	kit_close(&server);
	pair_down(&p);
}

/* Design D3: an idle process makes no wake-ups, whether somebody waits or nobody. */
static void idle_is_idle(void)
{
	struct netio_counters before, after;
	struct kit_sock client, server;
	struct pair p;

	CHECK_FATAL(pair_up(&p, "mem:idle"));
	CHECK_EQ(netio_start_driver(p.a), 0);
	CHECK_EQ(netio_start_driver(p.b), 0);
	CHECK_FATAL(kit_connect(&client, p.a, ipaddr_v4(10, 77, 0, 2), 80));
	CHECK_FATAL(kit_accept(&p.at_listener, &server));
	usleep(1200000); /* delayed ACKs and a lazily set timer run out */
	/* On a busy machine the thread that they woke may get its turn later: a few more looks. */
	for (int i = 0; i < 10; i++) {
		netio_counters(p.a, &before);
		usleep(500000);
		netio_counters(p.a, &after);
		if (after.helper_wakeups == before.helper_wakeups && after.drives == before.drives)
			break;
	}
	CHECK_EQ(after.helper_wakeups - before.helper_wakeups, 0);
	CHECK_EQ(after.drives - before.drives, 0);
	kit_close(&client);
	kit_close(&server);
	pair_down(&p);
}

CHECK_MAIN("netio_mem", {"8 MB echoed between two stacks arrives byte-exact", bulk_both_ways},
	   {"D3: nothing is left in the queue beside a thread that goes to sleep", left_behind},
	   {"200 connections of one process: data, then FIN", many_connections},
	   {"D3: the driver takes frames when no application thread is there", driver_answers},
	   {"D3: no wake-ups while nothing happens", idle_is_idle})
